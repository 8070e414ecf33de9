package window

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
)

type goldenCase struct {
	ID           string
	Kind         string
	SizeMs       int64   `json:"size_ms"`
	SlideMs      int64   `json:"slide_ms"`
	AlignMs      int64   `json:"align_ms"`
	EventMs      int64   `json:"event_ms"`
	WindowStarts []int64 `json:"window_starts_ms"`
	GapMs        int64   `json:"gap_ms"`
	EventsMs     []int64 `json:"events_ms"`
	Sessions     [][2]int64
	DelayMs      int64 `json:"delay_ms"`
	Steps        []struct {
		Event       *int64
		WallAdvance int64 `json:"wall_advance_ms"`
		Watermark   int64
	}
}

const ms = int64(time.Millisecond)

// TestGoldenPureCases runs the given cases that need no operator.
func TestGoldenPureCases(t *testing.T) {
	f, err := os.Open("testdata/cases.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ran := map[string]int{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var c goldenCase
		if err := json.Unmarshal(sc.Bytes(), &c); err != nil {
			// Kinds that are not run here have fields of other types.
			continue
		}
		run := map[string]func(*testing.T, goldenCase){
			"assign": goldenAssign, "session-merge": goldenSessions, "watermark": goldenWatermark}[c.Kind]
		if run == nil {
			continue
		}
		ran[c.Kind]++
		t.Run(c.ID, func(t *testing.T) { run(t, c) })
	}
	if ran["assign"] != 13 || ran["session-merge"] != 5 || ran["watermark"] != 3 {
		t.Fatalf("ran %v; want 13 assign, 5 session-merge, 3 watermark", ran)
	}
}

func goldenAssign(t *testing.T, c goldenCase) {
	spec := Sliding(time.Duration(c.SizeMs*ms), time.Duration(c.SlideMs*ms), Offset(time.Duration(c.AlignMs*ms)))
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, w := range spec.AppendWindows(nil, c.EventMs*ms) {
		if w.End-w.Start != c.SizeMs*ms {
			t.Errorf("window %v has the wrong size", w)
		}
		got = append(got, w.Start/ms)
	}
	if !slices.Equal(got, c.WindowStarts) {
		t.Errorf("starts %v, want %v", got, c.WindowStarts)
	}
}

func goldenSessions(t *testing.T, c goldenCase) {
	r := Session(time.Duration(c.GapMs * ms)).SessionRules()
	var set SessionSet
	for _, e := range c.EventsMs {
		set = set.Apply(set.Place(r, e*ms, base.MinTime))
	}
	var got [][2]int64
	for _, iv := range set {
		got = append(got, [2]int64{iv.First / ms, iv.Last / ms})
	}
	if !slices.Equal(got, c.Sessions) {
		t.Errorf("sessions %v, want %v", got, c.Sessions)
	}
}

func goldenWatermark(t *testing.T, c goldenCase) {
	tr := WallClockBounded(time.Duration(c.DelayMs * ms)).NewTracker()
	wall := int64(1_000_000)
	for i, s := range c.Steps {
		wall += s.WallAdvance * ms
		if s.Event != nil {
			tr.Observe(*s.Event*ms, wall)
		}
		if got := tr.Advance(wall) / ms; got != s.Watermark {
			t.Errorf("step %d: watermark %d, want %d", i+1, got, s.Watermark)
		}
	}
	tr.End()
	if tr.Advance(wall+1) != base.MaxTime {
		t.Error("the end of input must give +inf")
	}
}
