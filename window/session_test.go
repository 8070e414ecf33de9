package window

import (
	"slices"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
)

func TestSessionPlacement(t *testing.T) {
	r := Session(10, AllowedLateness(5)).SessionRules()
	set := SessionSet{{0, 4}, {20, 30}, {50, 50}}
	for _, c := range []struct {
		t, w base.Timestamp
		want Placement
	}{
		{-11, base.MinTime, Placement{0, 0, Interval{-11, -11}, OnTime}},
		{-10, base.MinTime, Placement{0, 1, Interval{-10, 4}, OnTime}},
		{10, base.MinTime, Placement{0, 2, Interval{0, 30}, OnTime}},
		{14, base.MinTime, Placement{0, 2, Interval{0, 30}, OnTime}},
		{15, base.MinTime, Placement{1, 2, Interval{15, 30}, OnTime}},
		{25, base.MinTime, Placement{1, 2, Interval{20, 30}, OnTime}},
		{40, base.MinTime, Placement{1, 3, Interval{20, 50}, OnTime}},
		{61, base.MinTime, Placement{3, 3, Interval{61, 61}, OnTime}},
		{2, 14, Placement{0, 1, Interval{0, 4}, OnTime}}, // a record at 14 may still come and join
		{2, 15, Placement{0, 1, Interval{0, 4}, Update}},
		{12, 19, Placement{0, 2, Interval{0, 30}, OnTime}}, // reopens a session that has fired
		{-11, 4, Placement{0, 0, Interval{-11, -11}, Update}},
		{-11, 5, Placement{0, 0, Interval{-11, -11}, Late}},
	} {
		if got := set.Place(r, c.t, c.w); got != c.want {
			t.Errorf("t=%d W=%d: %+v, want %+v", c.t, c.w, got, c.want)
		}
	}
	if set.Closed(r, 14) != 0 || set.Closed(r, 15) != 1 || set.Closed(r, 41) != 2 || set.Gone(r, 19) != 0 || set.Gone(r, 20) != 1 {
		t.Error("Closed or Gone is off by one")
	}
}

func TestSplice(t *testing.T) {
	p := []string{"a", "b", "c"}
	if got := Splice(slices.Clone(p), Placement{Lo: 1, Hi: 1}, "x"); !slices.Equal(got, []string{"a", "x", "b", "c"}) {
		t.Error(got)
	}
	if got := Splice(slices.Clone(p), Placement{Lo: 0, Hi: 2}, "ab"); !slices.Equal(got, []string{"ab", "c"}) {
		t.Error(got)
	}
	if got := Splice(slices.Clone(p), Placement{Lo: 2, Hi: 3}, "C"); !slices.Equal(got, []string{"a", "b", "C"}) {
		t.Error(got)
	}
}

// Records that are not late form the same sessions in any order, and with any
// watermark that the order allows.
func TestSessionsDoNotDependOnOrder(t *testing.T) {
	rnd := seeded(t)
	for range 3000 {
		gap := 1 + rnd.Int64N(6)
		rules := Session(time.Duration(gap)).SessionRules()
		n := 1 + rnd.IntN(12)
		times := make([]base.Timestamp, n)
		for i := range times {
			times[i] = rnd.Int64N(60)
		}
		sorted := slices.Clone(times)
		slices.Sort(sorted)
		var want []Interval
		for _, ts := range sorted {
			if k := len(want) - 1; k >= 0 && ts-want[k].Last <= gap {
				want[k].Last = ts
			} else {
				want = append(want, Interval{ts, ts})
			}
		}
		var got []Interval
		var set SessionSet
		for i, ts := range times {
			p := set.Place(rules, ts, base.MinTime)
			if p.Verdict != OnTime {
				t.Fatalf("verdict %d", p.Verdict)
			}
			set = set.Apply(p)
			// The highest watermark that makes none of the following records late.
			w := base.MaxTime
			if i+1 < n {
				w = slices.Min(times[i+1:])
			}
			got = append(got, set[:set.Closed(rules, w)]...)
			set = set[set.Gone(rules, w):]
		}
		slices.SortFunc(got, func(a, b Interval) int { return int(a.First - b.First) })
		if !slices.Equal(got, want) {
			t.Fatalf("gap %d, times %v: %v, want %v", gap, times, got, want)
		}
	}
}
