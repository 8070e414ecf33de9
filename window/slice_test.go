package window

import (
	"math"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
)

func TestSlicesMatchWindows(t *testing.T) {
	r := seeded(t)
	for range 20_000 {
		spec := randomAligned(r)
		s := spec.Slicer()
		ts := r.Int64N(1000) - 500
		end := s.SliceEnd(ts)
		start := s.SliceStart(end)
		if start > ts || ts >= end || s.SliceEnd(start) != end || s.SliceStart(s.SliceEnd(end)) != end {
			t.Fatalf("%v: t=%d lies in slice [%d, %d)", spec, ts, start, end)
		}
		if s.Index(s.SliceEnd(end)) != s.Index(end)+1 {
			t.Fatalf("%v: slice %d has index %d, the next %d", spec, end, s.Index(end), s.Index(s.SliceEnd(end)))
		}
		// Every time of the slice has the same windows: those of WindowEndsOf.
		want := naiveWindows(spec, start)
		for x := start; x < end; x++ {
			got := naiveWindows(spec, x)
			if len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
				t.Fatalf("%v: slice [%d, %d) has two sets of windows", spec, start, end)
			}
		}
		first, last, ok := s.WindowEndsOf(end)
		if ok != (len(want) > 0) || ok && (first != want[0].End || last != want[len(want)-1].End) {
			t.Fatalf("%v: slice [%d, %d) has window ends %d..%d %v, want %v", spec, start, end, first, last, ok, want)
		}
		if ok && s.DropAt(end) != last+int64(spec.AllowedLateness()) {
			t.Fatalf("%v: slice %d can be dropped at %d", spec, end, s.DropAt(end))
		}
		for _, w := range want {
			checkWindowSlices(t, s, w)
		}
	}
}

func checkWindowSlices(t *testing.T, s Slicer, w Window) {
	t.Helper()
	first, last := s.Slices(w.End)
	if s.SliceStart(first) != w.Start || last != w.End || s.WindowAt(w.End) != w {
		t.Fatalf("%v: window %v has slices %d..%d", s.Spec(), w, first, last)
	}
	n := 1
	for end := first; end < last; end = s.SliceEnd(end) {
		n++
	}
	if n != s.SlicesPerWindow() {
		t.Fatalf("%v: window %v has %d slices, SlicesPerWindow says %d", s.Spec(), w, n, s.SlicesPerWindow())
	}
}

func TestUniformSlicesWhereTheSlideDividesTheSize(t *testing.T) {
	s := Sliding(time.Minute, 500*time.Millisecond).Slicer()
	if s.SlicesPerWindow() != 120 || s.SliceEnd(1) != 500*ms || s.SliceEnd(-1) != 0 {
		t.Fatalf("%d slices, first ends at %d", s.SlicesPerWindow(), s.SliceEnd(1))
	}
	if n := Sliding(10*time.Second, 3*time.Second).Slicer().SlicesPerWindow(); n != 7 {
		t.Fatalf("10 s every 3 s: %d slices, want 7", n)
	}
	if n := Sliding(time.Hour, 7*time.Second+1).Slicer().SlicesPerWindow(); n != 1029 {
		t.Fatalf("a slide that shares no divisor with the size: %d slices, want 1029", n)
	}
}

func TestVerdictsAgainstEnumeration(t *testing.T) {
	r := seeded(t)
	seen := map[Verdict]int{}
	for range 50_000 {
		spec := randomAligned(r)
		s := spec.Slicer()
		ts, w := r.Int64N(200)-100, r.Int64N(260)-130
		end, got := s.Classify(ts, w)
		var again []base.Timestamp
		all := naiveWindows(spec, ts)
		gone := 0
		for _, win := range all {
			if win.End+int64(spec.AllowedLateness()) <= w {
				gone++
			} else if win.End <= w {
				again = append(again, win.End)
			}
		}
		want := OnTime
		switch {
		case len(all) == 0:
			want = NoWindow
		case gone == len(all):
			want = Late
		case len(again) > 0:
			want = Update
		}
		if got != want || end != s.SliceEnd(ts) {
			t.Fatalf("%v, t=%d, W=%d: verdict %d, want %d", spec, ts, w, got, want)
		}
		seen[got]++
		first, last, ok := s.Refires(end, w)
		if ok != (len(again) > 0) || ok && (first != again[0] || last != again[len(again)-1]) {
			t.Fatalf("%v, t=%d, W=%d: refires %d..%d %v, want %v", spec, ts, w, first, last, ok, again)
		}
	}
	if len(seen) != 4 {
		t.Fatalf("verdicts seen: %v", seen)
	}
}

func TestNextWindowEnd(t *testing.T) {
	r := seeded(t)
	for range 20_000 {
		spec := randomAligned(r)
		w := r.Int64N(400) - 200
		got, ok := spec.Slicer().NextWindowEnd(w)
		want := w + 1
		for floorMod(want-int64(spec.Offset())-int64(spec.Size()), int64(spec.Slide())) != 0 {
			want++
		}
		if !ok || got != want {
			t.Fatalf("%v after %d: %d %v, want %d", spec, w, got, ok, want)
		}
	}
	if _, ok := Tumbling(10).Slicer().NextWindowEnd(base.MaxTime - 2); ok {
		t.Error("a window end beyond the time axis")
	}
	if e, ok := Tumbling(10).Slicer().NextWindowEnd(base.MinTime); !ok || e != base.MinTime+8 {
		t.Errorf("first window end %d %v", e, ok) // MinTime is 2 above a multiple of 10
	}
}

func TestEndsOfTheTimeAxis(t *testing.T) {
	s := Sliding(10, 5, AllowedLateness(math.MaxInt64)).Slicer()
	if _, v := s.Classify(base.MaxTime, 0); v != NoWindow {
		t.Errorf("a record at the very end: verdict %d", v)
	}
	if end, v := s.Classify(base.MinTime, base.MinTime); v != OnTime || s.SliceStart(end) != base.MinTime {
		t.Errorf("a record at the very start: slice %d, verdict %d", end, v)
	}
	if _, v := s.Classify(0, base.MaxTime-1); v != Update {
		t.Errorf("unlimited lateness: verdict %d", v)
	}
	if _, v := s.Classify(0, base.MaxTime); v != Late {
		t.Errorf("after the end of input: verdict %d", v)
	}
}
