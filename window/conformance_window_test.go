package window_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/weirflow/weir/window"
)

// spec returns the window of a case of kind window.
func (c *testCase) spec(t *testing.T) window.Spec {
	w, late := c.Window, window.AllowedLateness(dur(c.Window.LatenessMs))
	offset := window.Offset(dur(w.AlignMs))
	var s window.Spec
	switch w.Type {
	case "tumbling":
		s = window.Tumbling(dur(w.SizeMs), offset, late)
	case "hopping", "sliding":
		s = window.Sliding(dur(w.SizeMs), dur(w.SlideMs), offset, late)
	case "session":
		s = window.Session(dur(w.GapMs), late)
	default:
		t.Fatalf("the window type %q is not known", w.Type)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

func runWindow(t *testing.T, c testCase) {
	spec, delay := c.spec(t), never
	if c.WatermarkDelayMs != nil {
		delay = dur(*c.WatermarkDelayMs)
	}
	var events []event
	for _, raw := range c.Events {
		var e struct {
			TS    int64
			Key   any
			Value any
		}
		decode(t, raw, &e)
		events = append(events, event{Key: text(e.Key), Time: e.TS * ms, Value: text(e.Value)})
	}
	var figs []string
	fields := c.fields()
	for _, name := range figures {
		if fields[name] {
			figs = append(figs, name)
		}
	}
	runMatrix(t, spec, delay, figs, events, func(tb testing.TB, o output) {
		var got []map[string]any
		for _, w := range o.values {
			got = append(got, c.row(tb, spec, w, &o))
		}
		compareBags(tb, "windows", rows(got), rows(normal(c.Expected)))
		var gotLate, wantLate []string
		for _, e := range o.late {
			gotLate = append(gotLate, e.Value)
		}
		for _, v := range c.Late {
			wantLate = append(wantLate, text(v))
		}
		compareBags(tb, "late records", gotLate, wantLate)
	})
}

// fields returns the fields of the expected rows.
func (c *testCase) fields() map[string]bool {
	out := map[string]bool{}
	for _, want := range c.Expected {
		for field := range want {
			out[field] = true
		}
	}
	return out
}

// row renders a window in the form of an expected row. A case may give the end
// of a session as that of its window or as its last record.
func (c *testCase) row(tb testing.TB, spec window.Spec, w listed, o *output) map[string]any {
	row := map[string]any{}
	for field := range c.fields() {
		switch field {
		case "key":
			row[field] = w.Key
		case "start":
			row[field] = strconv.FormatInt(w.Start.UnixMilli(), 10)
		case "end":
			end := w.End.UnixMilli()
			if spec.Kind() == window.KindSession && c.endsAtLast() {
				end -= c.Window.GapMs
			}
			row[field] = strconv.FormatInt(end, 10)
		case "values":
			row[field] = slices.Sorted(slices.Values(w.Value))
		case "count":
			row[field] = number(float64(len(w.Value)))
		case "first":
			row[field] = w.Value[0]
		case "last":
			row[field] = w.Value[len(w.Value)-1]
		default:
			i := slices.IndexFunc(o.figures[field], func(f figured) bool { return f.Key == w.Key && f.Start.Equal(w.Start) && f.End.Equal(w.End) })
			if i < 0 {
				tb.Fatalf("the job has no %q for window %v", field, w)
			}
			row[field] = number(o.figures[field][i].Value)
		}
	}
	return row
}

// endsAtLast reports that the rows give sessions by their last records.
func (c *testCase) endsAtLast() bool {
	for _, want := range c.Expected {
		for _, raw := range c.Events {
			var e struct{ TS json.Number }
			if json.Unmarshal(raw, &e) == nil && want["end"] == e.TS {
				return true
			}
		}
	}
	return false
}

func number(f float64) string { return fmt.Sprint(math.Round(f*1e9) / 1e9) }

// normal brings expected rows to the form that row makes.
func normal(want []map[string]any) []map[string]any {
	var out []map[string]any
	for _, w := range want {
		row := map[string]any{}
		for field, v := range w {
			switch v := v.(type) {
			case []any:
				vs := []string{}
				for _, x := range v {
					vs = append(vs, text(x))
				}
				row[field] = slices.Sorted(slices.Values(vs))
			case json.Number:
				row[field] = v.String()
				if f, err := v.Float64(); err == nil && field != "start" && field != "end" && field != "key" {
					row[field] = number(f)
				}
			default:
				row[field] = text(v)
			}
		}
		out = append(out, row)
	}
	return out
}

func rows(in []map[string]any) []string {
	var out []string
	for _, row := range in {
		out = append(out, fmt.Sprint(row))
	}
	return out
}
