package pattern_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/pattern"
)

// The cases are in the form of testdata/SCHEMA.md. -cases names another file, by an
// absolute path:
//
//	go test ./operators/pattern -run Conformance -v -args -cases FILE
var casesFlag = flag.String("cases", "", "file of conformance cases (absolute path); default: those in testdata")

const ms = int64(time.Millisecond)

// event is the event of the cases.
type event struct {
	Seq    int
	ID     int
	Name   string
	Price  float64
	Volume float64
	HasVol bool
}

var words = pattern.Vocabulary[event]{
	Text: map[string]func(*event) string{"name": func(e *event) string { return e.Name }},
	Number: map[string]func(*event) (float64, bool){
		"price":  func(e *event) (float64, bool) { return e.Price, true },
		"volume": func(e *event) (float64, bool) { return e.Volume, e.HasVol },
		"id":     func(e *event) (float64, bool) { return float64(e.ID), true },
	},
	Type: func(e *event, name string) bool { return name == "Event" || name == "SubEvent" && e.HasVol },
}

type testCase struct {
	ID       string          `json:"id"`
	Kind     string          `json:"kind"`
	Pattern  json.RawMessage `json:"pattern"`
	Calls    [][]json.RawMessage
	Timeouts bool `json:"emit_timeouts"`
	Operator *struct {
		Time     string `json:"time"`
		KeyBy    string `json:"key_by"`
		TieBreak string `json:"tie_break"`
	} `json:"operator"`
	Input        []op `json:"input"`
	TieSensitive bool `json:"tie_sensitive"`
	Quirks       []string
	Expect       struct {
		Matches  []expected `json:"matches"`
		Timeouts []expected `json:"timeouts"`
		Late     []int      `json:"late"`
		Open     *int       `json:"open_runs_at_end"`
		Error    string     `json:"error"`
		Valid    bool       `json:"valid"`
		Empty    *bool      `json:"can_be_empty"`
		Window   *int64     `json:"window_ms"`
	} `json:"expect"`
}

type op struct {
	Seq      int      `json:"seq"`
	ID       int      `json:"id"`
	Name     string   `json:"name"`
	Price    float64  `json:"price"`
	Volume   *float64 `json:"volume"`
	TS       int64    `json:"ts"`
	ProcTime *int64   `json:"proc_time"`
	Advance  *int64   `json:"advance_to"`
	Water    *int64   `json:"watermark"`
	Restart  bool     `json:"restart"`
}

func (o *op) event() event {
	e := event{Seq: o.Seq, ID: o.ID, Name: o.Name, Price: o.Price}
	if o.Volume != nil {
		e.Volume, e.HasVol = *o.Volume, true
	}
	return e
}

type expected struct {
	At      int               `json:"at"`
	Via     string            `json:"via"`
	TS      int64             `json:"ts"`
	Timeout int64             `json:"timeout_ts"`
	Stages  []json.RawMessage `json:"stages"`
}

func (e *expected) stages() string {
	parts := make([]string, len(e.Stages))
	for i, s := range e.Stages {
		var b bytes.Buffer
		if err := json.Compact(&b, s); err != nil {
			panic(err)
		}
		parts[i] = b.String()
	}
	return strings.Join(parts, " ")
}

// stagesOf renders a match as the cases do.
func stagesOf(m *pattern.Match[event]) string {
	parts := make([]string, len(m.Stages))
	for i, s := range m.Stages {
		seqs := make([]int, len(s.Events))
		for j := range s.Events {
			seqs[j] = s.Events[j].Seq
		}
		b, _ := json.Marshal([]any{s.Name, seqs})
		parts[i] = string(b)
	}
	return strings.Join(parts, " ")
}

func loadCases(t *testing.T, files ...string) []testCase {
	t.Helper()
	if *casesFlag != "" {
		files = []string{*casesFlag}
	}
	var all []testCase
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Cases []testCase `json:"cases"`
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if len(doc.Cases) == 0 {
			t.Fatalf("%s: no cases", f)
		}
		all = append(all, doc.Cases...)
	}
	return all
}

// nanos converts the times of the cases; the ends of time stay.
func nanos(t int64) int64 {
	if t > math.MaxInt64/ms || t < math.MinInt64/ms {
		return t
	}
	return t * ms
}

func millis(t int64) int64 {
	if t == math.MaxInt64 || t == math.MinInt64 {
		return t
	}
	return t / ms
}

func TestConformance(t *testing.T) {
	for _, c := range loadCases(t, "testdata/open.json", "testdata/fuzz-open.json") {
		t.Run(c.ID, func(t *testing.T) {
			switch c.Kind {
			case "nfa":
				for _, v := range variants(&c) {
					runNFA(t, &c, v)
					if v.cut && c.Expect.Error == "" {
						v.name += ", in the operator"
						runNode(t, &c, v)
					}
				}
			case "operator":
				for _, v := range variants(&c) {
					runOperator(t, &c, v)
				}
			case "build":
				runBuild(t, &c)
			default:
				t.Fatalf("a case of kind %q", c.Kind)
			}
		})
	}
}

// variant is a way to run a case.
type variant struct {
	name  string
	opts  []pattern.Option
	exact bool // the order of matches must be that of the list
	// cut stores and restores the key between every two events.
	cut bool
}

func variants(c *testCase) []variant {
	vs := []variant{
		{name: "flink", opts: []pattern.Option{pattern.FlinkCompat()}, exact: true},
		{name: "flink, restored", opts: []pattern.Option{pattern.FlinkCompat()}, exact: true, cut: true},
	}
	if !c.TieSensitive {
		vs = append(vs, variant{name: "flink in buckets", opts: []pattern.Option{pattern.FlinkCompat(), pattern.InBuckets()}})
		vs = append(vs, variant{name: "flink in buckets, restored", opts: []pattern.Option{pattern.FlinkCompat(), pattern.InBuckets()}, cut: true})
		if len(c.Quirks) == 0 {
			vs = append(vs, variant{name: "default"}, variant{name: "default, restored", cut: true})
		}
	}
	return vs
}

// result is what a case gives: lines, in order.
type result struct{ matches, timeouts []string }

func compile(t *testing.T, c *testCase, opts []pattern.Option) *pattern.Program[event] {
	t.Helper()
	pat, err := pattern.Parse(c.Pattern, words)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pattern.Compile(pat, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func runNFA(t *testing.T, c *testCase, v variant) {
	t.Helper()
	m := pattern.NewMatcher(compile(t, c, v.opts))
	k := &pattern.Key[event]{}
	out := &pattern.Output[event]{Want: c.Timeouts}
	var got result
	proc := int64(0)
	var err error
	for at := range c.Input {
		o := &c.Input[at]
		if o.ProcTime != nil {
			proc = nanos(*o.ProcTime)
		}
		out.Reset()
		if o.Advance != nil {
			err = m.Advance(k, nanos(*o.Advance), out)
		} else {
			e := o.event()
			err = m.Process(k, nanos(o.TS), proc, &e, out)
		}
		for i := range out.Matches {
			via := "event"
			if out.Matches[i].ByTime {
				via = "advance"
			}
			got.matches = append(got.matches, fmt.Sprintf("%d %s %s", at, via, stagesOf(&out.Matches[i])))
		}
		for i := range out.Timeouts {
			got.timeouts = append(got.timeouts, fmt.Sprintf("%d %d %s", at, millis(out.Timeouts[i].Ended), stagesOf(&out.Timeouts[i].Match)))
		}
		if err != nil {
			break
		}
		if v.cut {
			k = restored(t, m, k)
		}
	}
	wantErr := map[string]error{"": nil, "skip_target_missing": pattern.ErrSkipTargetMissing, "skip_to_match_start": pattern.ErrSkipToMatchStart}[c.Expect.Error]
	if !errors.Is(err, wantErr) {
		t.Errorf("%s: error %v, want %v", v.name, err, wantErr)
	}
	var want result
	for _, e := range c.Expect.Matches {
		want.matches = append(want.matches, fmt.Sprintf("%d %s %s", e.At, e.Via, e.stages()))
	}
	for _, e := range c.Expect.Timeouts {
		want.timeouts = append(want.timeouts, fmt.Sprintf("%d %d %s", e.At, e.Timeout, e.stages()))
	}
	compare(t, v, got, want)
	if c.Expect.Open != nil {
		if open, held := k.Runs(); open+held != *c.Expect.Open {
			t.Errorf("%s: %d runs open, %d held at the end, want %d", v.name, open, held, *c.Expect.Open)
		}
	}
}

func compare(t *testing.T, v variant, got, want result) {
	t.Helper()
	for _, x := range []struct {
		what      string
		got, want []string
	}{{"matches", got.matches, want.matches}, {"timeouts", got.timeouts, want.timeouts}} {
		if !v.exact {
			slices.Sort(x.got)
			slices.Sort(x.want)
		}
		if !slices.Equal(x.got, x.want) {
			t.Errorf("%s: %s\n got %s\nwant %s", v.name, x.what, strings.Join(x.got, "\n     "), strings.Join(x.want, "\n     "))
		}
	}
}

// jsonValues encodes the events of the cases.
type jsonValues struct{}

func (jsonValues) Append(dst []byte, v *event) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return append(dst, b...)
}

func (jsonValues) Decode(src []byte, v *event) error { return json.Unmarshal(src, v) }

// restored stores a key and reads it again.
func restored(t *testing.T, m *pattern.Matcher[event], k *pattern.Key[event]) *pattern.Key[event] {
	t.Helper()
	blob := m.Append(nil, k, jsonValues{})
	next := &pattern.Key[event]{}
	if err := m.Load(blob, next, jsonValues{}); err != nil {
		t.Fatal(err)
	}
	if again := m.Append(nil, next, jsonValues{}); !bytes.Equal(again, blob) {
		t.Fatalf("a restored key is stored as\n%x, not\n%x", again, blob)
	}
	return next
}

// keyed is the rules of the reference's operator around a matcher: what it does with
// watermarks, clocks and keys.
type keyed struct {
	t     *testing.T
	c     *testCase
	m     *pattern.Matcher[event]
	keys  map[int]*pattern.Key[event]
	order []int
	out   *pattern.Output[event]
	less  func(a, b *event) bool
	now   int64
	flush int64 // when records that wait for the clock are taken; 0: never
	got   result
	late  []int
}

// runOperator runs a case of the reference's operator.
func runOperator(t *testing.T, c *testCase, v variant) {
	t.Helper()
	k := &keyed{t: t, c: c, m: pattern.NewMatcher(compile(t, c, v.opts)), keys: map[int]*pattern.Key[event]{}, out: &pattern.Output[event]{Want: c.Timeouts}}
	if c.Operator.TieBreak == "price" {
		k.less = func(a, b *event) bool { return a.Price < b.Price }
	}
	water := int64(math.MinInt64)
	for at := range c.Input {
		o := &c.Input[at]
		switch {
		case o.Restart:
			k.restore()
		case o.Water != nil:
			if water = max(water, nanos(*o.Water)); c.Operator.Time == "event" {
				k.each(at, func(key *pattern.Key[event]) (int64, error) {
					if err := k.m.Drain(key, water, k.now, k.less, k.out); err != nil {
						return 0, err
					}
					return water, k.m.Advance(key, water, k.out)
				})
			}
		case o.ProcTime != nil && o.Seq == 0:
			k.clock(at, nanos(*o.ProcTime))
		default:
			k.record(at, o, water)
		}
		if v.cut {
			k.restore()
		}
	}
	var want result
	for _, e := range c.Expect.Matches {
		want.matches = append(want.matches, fmt.Sprintf("%d %d %s", e.At, e.TS, e.stages()))
	}
	for _, e := range c.Expect.Timeouts {
		want.timeouts = append(want.timeouts, fmt.Sprintf("%d %d %s", e.At, e.Timeout, e.stages()))
	}
	compare(t, v, k.got, want)
	if !slices.Equal(k.late, c.Expect.Late) {
		t.Errorf("%s: late %v, want %v", v.name, k.late, c.Expect.Late)
	}
}

// record takes an event: at once, or when its time has come.
func (k *keyed) record(at int, o *op, water int64) {
	id := 0
	if k.c.Operator.KeyBy == "id" {
		id = o.ID
	}
	if k.keys[id] == nil {
		k.keys[id] = &pattern.Key[event]{}
		k.order = append(k.order, id)
	}
	key, e := k.keys[id], o.event()
	var err error
	switch {
	case k.c.Operator.Time == "event" && nanos(o.TS) <= water:
		k.late = append(k.late, o.Seq)
	case k.c.Operator.Time == "event":
		err = k.m.Buffer(key, nanos(o.TS), &e)
	case k.less != nil:
		err = k.m.Buffer(key, k.now, &e)
		k.flush = k.now + ms
	default:
		err = k.m.Process(key, k.now, k.now, &e, k.out)
		k.take(at)
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

// clock moves processing time; windows end a millisecond late there.
func (k *keyed) clock(at int, now int64) {
	k.now = now
	k.each(at, func(key *pattern.Key[event]) (int64, error) {
		if k.flush > 0 && now >= k.flush {
			if err := k.m.Drain(key, now, now, k.less, k.out); err != nil {
				return now, err
			}
		}
		if due, ok := k.m.Due(key); ok && due+ms <= now {
			return now, k.m.Advance(key, now, k.out)
		}
		return now, nil
	})
}

func (k *keyed) each(at int, f func(*pattern.Key[event]) (int64, error)) {
	for _, id := range k.order {
		if _, err := f(k.keys[id]); err != nil {
			k.t.Fatal(err)
		}
		k.take(at)
	}
}

func (k *keyed) take(at int) {
	for i := range k.out.Matches {
		m := &k.out.Matches[i]
		k.got.matches = append(k.got.matches, fmt.Sprintf("%d %d %s", at, millis(m.At), stagesOf(m)))
	}
	for i := range k.out.Timeouts {
		m := &k.out.Timeouts[i]
		k.got.timeouts = append(k.got.timeouts, fmt.Sprintf("%d %d %s", at, millis(m.Ended), stagesOf(&m.Match)))
	}
	k.out.Reset()
}

func (k *keyed) restore() {
	for id, key := range k.keys {
		k.keys[id] = restored(k.t, k.m, key)
	}
}

// runBuild plays the calls of a build case.
func runBuild(t *testing.T, c *testCase) {
	t.Helper()
	p := build(t, c.Calls)
	for _, opts := range [][]pattern.Option{{pattern.FlinkCompat()}, nil} {
		if len(c.Quirks) > 0 && opts == nil {
			continue
		}
		prog, err := pattern.Compile(p, opts...)
		if (err == nil) != c.Expect.Valid {
			t.Fatalf("error %v; the pattern is valid: %v", err, c.Expect.Valid)
		}
		if err != nil {
			if base.CodeOf(err) != pattern.CodePattern {
				t.Errorf("not a mistake in a pattern: %v", err)
			}
			continue
		}
		if want := c.Expect.Empty; want != nil && prog.CanBeEmpty() != *want {
			t.Errorf("can be empty: %v, want %v", prog.CanBeEmpty(), *want)
		}
		if want := c.Expect.Window; want != nil && prog.Window() != *want*ms {
			t.Errorf("window %d ns, want %d ms", prog.Window(), *want)
		}
	}
}

func build(t *testing.T, calls [][]json.RawMessage) *pattern.Pattern[event] {
	t.Helper()
	var p *pattern.Pattern[event]
	var skip pattern.Skip
	for _, call := range calls {
		var name string
		arg := decode(t, call[0], &name, call)
		num := func(i int) int { var n int; decode(t, call[i], &n, call); return n }
		cond := func() pattern.Cond[event] {
			c, err := words.Cond(arg)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		switch name {
		case "skip":
			var s pattern.SkipSpec
			decode(t, arg, &s, call)
			kinds := map[string]pattern.SkipKind{"no_skip": pattern.NoSkip, "skip_to_next": pattern.SkipToNext, "skip_past_last": pattern.SkipPastLast, "skip_to_first": pattern.SkipToFirst, "skip_to_last": pattern.SkipToLast}
			skip = pattern.Skip{Kind: kinds[s.Kind], Stage: s.Stage, ThrowOnMiss: s.ThrowOnMiss}
		case "begin", "next", "followedBy", "followedByAny", "notNext", "notFollowedBy":
			p = buildStage(t, p, name, arg)
		case "where":
			p.WhereCond(cond())
		case "or":
			p.OrCond(cond())
		case "until":
			p.UntilCond(cond())
		case "oneOrMore":
			p.OneOrMore()
		case "timesOrMore":
			p.TimesOrMore(num(1))
		case "times":
			if len(call) == 3 {
				p.TimesRange(num(1), num(2))
			} else {
				p.Times(num(1))
			}
		case "optional":
			p.Optional()
		case "greedy":
			p.Greedy()
		case "consecutive":
			p.Consecutive()
		case "allowCombinations":
			p.AllowCombinations()
		case "within":
			p.Within(time.Duration(num(1)) * time.Millisecond)
		case "withinPrev":
			p.WithinPrevious(time.Duration(num(1)) * time.Millisecond)
		default:
			t.Fatalf("call %q", name)
		}
	}
	return p.SkipStrategy(skip)
}

// decode reads a value, and returns the first argument of the call, if any.
func decode(t *testing.T, data json.RawMessage, v any, call []json.RawMessage) json.RawMessage {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
	if len(call) > 1 {
		return call[1]
	}
	return nil
}

func buildStage(t *testing.T, p *pattern.Pattern[event], how string, arg json.RawMessage) *pattern.Pattern[event] {
	t.Helper()
	var calls [][]json.RawMessage
	if json.Unmarshal(arg, &calls) == nil {
		g := build(t, calls)
		switch how {
		case "begin":
			return pattern.BeginGroup(g)
		case "next":
			return p.NextGroup(g)
		case "followedBy":
			return p.FollowedByGroup(g)
		}
		return p.FollowedByAnyGroup(g)
	}
	var name string
	decode(t, arg, &name, nil)
	switch how {
	case "begin":
		return pattern.Begin[event](name)
	case "next":
		return p.Next(name)
	case "followedBy":
		return p.FollowedBy(name)
	case "followedByAny":
		return p.FollowedByAny(name)
	case "notNext":
		return p.NotNext(name)
	}
	return p.NotFollowedBy(name)
}
