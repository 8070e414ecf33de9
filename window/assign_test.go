package window

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// seeded returns a generator and logs its seed; a fixed seed keeps runs equal.
func seeded(t *testing.T) *rand.Rand {
	const seed = 20240611
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// randomAligned returns a random spec of a few windows per record; one in four has
// a slide above the size.
func randomAligned(r *rand.Rand) Spec {
	size := 1 + r.Int64N(40)
	slide := 1 + r.Int64N(size)
	switch r.IntN(4) {
	case 0:
		slide = size + r.Int64N(20)
	case 1:
		slide = 1 + r.Int64N(8)
		size = slide * (1 + r.Int64N(12))
	}
	opts := []Option{Offset(time.Duration(r.Int64N(200) - 100)), AllowedLateness(time.Duration(r.Int64N(3) * r.Int64N(30)))}
	if r.IntN(6) == 0 {
		return Tumbling(time.Duration(size), opts...)
	}
	return Sliding(time.Duration(size), time.Duration(slide), opts...)
}

// naiveWindows enumerates in big integers every window that contains t and ends on
// the time axis.
func naiveWindows(s Spec, t base.Timestamp) []Window {
	b := big.NewInt
	size, slide := b(int64(s.Size())), b(int64(s.Slide()))
	lo := new(big.Int).Sub(b(t), b(int64(s.Offset())))
	lo.Sub(lo, size)
	lo.Div(lo, slide) // Euclidean, rounds down
	var out []Window
	for i := int64(-1); ; i++ {
		start := new(big.Int).Add(lo, b(i))
		start.Mul(start, slide).Add(start, b(int64(s.Offset())))
		if start.Cmp(b(t)) > 0 {
			return out
		}
		end := new(big.Int).Add(start, size)
		if end.Cmp(b(t)) <= 0 || !end.IsInt64() {
			continue
		}
		from := base.MinTime
		if start.IsInt64() {
			from = start.Int64()
		}
		out = append(out, Window{Start: from, End: end.Int64()})
	}
}

func TestAppendWindowsAgainstEnumeration(t *testing.T) {
	r := seeded(t)
	var got []Window
	for i := range 100_000 {
		spec := randomAligned(r)
		ts := r.Int64N(1000) - 500
		switch i % 10 {
		case 0:
			ts = math.MaxInt64 - r.Int64N(100)
		case 1:
			ts = math.MinInt64 + r.Int64N(100)
		}
		want := naiveWindows(spec, ts)
		if got = spec.AppendWindows(got[:0], ts); !slices.Equal(got, want) {
			t.Fatalf("%v, t=%d: %v, want %v", spec, ts, got, want)
		}
	}
}

func FuzzAssign(f *testing.F) {
	f.Add(int64(10), int64(5), int64(0), int64(7))
	f.Add(int64(10), int64(3), int64(-7), int64(-1))
	f.Add(int64(3), int64(10), int64(4), int64(math.MaxInt64))
	f.Add(int64(1)<<61, int64(1)<<61, int64(math.MinInt64), int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, size, slide, offset, ts int64) {
		spec := Sliding(time.Duration(size), time.Duration(slide), Offset(time.Duration(offset)))
		if spec.Validate() != nil || size/slide > 1000 {
			return
		}
		want := naiveWindows(spec, ts)
		if got := spec.AppendWindows(nil, ts); !slices.Equal(got, want) {
			t.Fatalf("%v, t=%d: %v, want %v", spec, ts, got, want)
		}
		s := spec.Slicer()
		end, verdict := s.Classify(ts, base.MinTime)
		if (verdict == NoWindow) != (len(want) == 0) {
			t.Fatalf("%v, t=%d: verdict %d with windows %v", spec, ts, verdict, want)
		}
		if len(want) == 0 {
			return
		}
		first, last, _ := s.WindowEndsOf(end)
		if first != want[0].End || last != want[len(want)-1].End {
			t.Fatalf("%v, t=%d: window ends %d..%d, want %v", spec, ts, first, last, want)
		}
		if start := s.SliceStart(end); start > ts || end <= ts || s.SliceEnd(start) != end && start != base.MinTime {
			t.Fatalf("%v, t=%d: slice [%d, %d)", spec, ts, start, end)
		}
	})
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want string // part of the message, "" for valid
	}{
		{Tumbling(time.Minute), ""},
		{Sliding(time.Minute, 7*time.Second, Offset(-time.Hour), AllowedLateness(time.Hour)), ""},
		{Sliding(time.Second, time.Minute), ""},
		{Session(time.Minute, AllowedLateness(math.MaxInt64)), ""},
		{Sliding(100_000, 1), ""},
		{Sliding(100_001, 1), "into 100001 windows"},
		{Tumbling(0), "size is 0s"},
		{Tumbling(-1), "size is -1ns"},
		{Sliding(time.Minute, 0), "slide is 0s"},
		{Sliding(time.Minute, -time.Second), "slide is -1s"},
		{Session(0), "gap is 0s"},
		{Session(math.MaxInt64), "gap is"},
		{Tumbling(math.MaxInt64), "size is"},
		{Session(1, AllowedLateness(-1)), "lateness -1ns is negative"},
		{Tumbling(1, AllowedLateness(-1)), "lateness -1ns is negative"},
		{Spec{}, "not set"},
	} {
		err := c.spec.Validate()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%v: %v", c.spec, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || base.CodeOf(err) != "WEIR-0140"):
			t.Errorf("%v: error %v, want %q", c.spec, err, c.want)
		}
	}
}

func TestSpecIsAComparableValue(t *testing.T) {
	a := Sliding(time.Minute, 10*time.Second, Offset(2*time.Second), AllowedLateness(5*time.Second))
	b := Sliding(time.Minute, 10*time.Second, Offset(-8*time.Second), AllowedLateness(5*time.Second))
	if a != b {
		t.Errorf("%v and %v differ although their offsets are the same modulo the slide", a, b)
	}
	if got, want := a.String(), "sliding 1m0s every 10s offset 2s lateness 5s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if a.Kind() != KindSliding || a.Size() != time.Minute || a.Slide() != 10*time.Second || a.Gap() != 0 ||
		Tumbling(time.Minute).Slide() != time.Minute || Session(time.Minute).Gap() != time.Minute {
		t.Error("an accessor is wrong")
	}
}
