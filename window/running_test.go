package window

import (
	"math/rand/v2"
	"testing"

	"github.com/weirflow/weir/internal/base"
)

// text is a non-commutative accumulator that is not invertible: concatenation.
type text string

var textOps = Ops[text]{Merge: func(dst, src *text) { *dst += *src }}

var sumOps = Ops[int]{
	Merge:    func(dst, src *int) { *dst += *src },
	Subtract: func(dst, src *int) { *dst -= *src },
}

type sliceStore[A any] map[base.Timestamp]*A

func (m sliceStore[A]) lookup(end base.Timestamp) *A { return m[end] }

// randomSlices fills some of the slices between times 0 and 300.
func randomSlices(r *rand.Rand, s Slicer) (sliceStore[text], sliceStore[int]) {
	texts, sums := sliceStore[text]{}, sliceStore[int]{}
	density := 1 + r.IntN(4)
	for end := s.SliceEnd(0); end < 300; end = s.SliceEnd(end) {
		if r.IntN(density) == 0 {
			c := text(rune('a' + r.IntN(26)))
			v := 1 + r.IntN(100)
			texts[end], sums[end] = &c, &v
		}
	}
	return texts, sums
}

// Fires every window of random slices three ways; some keys are restored (reset),
// some slices get late records, and expired slices are dropped as an operator does.
func TestRunningAndBlocksAgainstRecombine(t *testing.T) {
	r := seeded(t)
	for range 3000 {
		spec := randomAligned(r)
		s := spec.Slicer()
		texts, sums := randomSlices(r, s)
		var running Running[int]
		var blocks Blocks[text]
		hash := r.Uint64()
		end, _ := s.NextWindowEnd(r.Int64N(100))
		for ; end < 320; end += int64(spec.Slide()) {
			if r.IntN(10) == 0 {
				running.Reset()
				blocks.Reset()
			}
			if r.IntN(10) == 0 {
				lateRecord(r, s, end, texts, sums, &running, &blocks)
			}
			var wantText, gotText text
			var wantSum int
			wantFound := Recombine(s, &textOps, end, texts.lookup, &wantText)
			Recombine(s, &sumOps, end, sums.lookup, &wantSum)
			found := blocks.Fire(s, &textOps, hash, end, texts.lookup, &gotText)
			if found != wantFound || gotText != wantText {
				t.Fatalf("%v, window end %d: blocks give %q %v, want %q %v", spec, end, gotText, found, wantText, wantFound)
			}
			got, found := running.Fire(s, &sumOps, end, sums.lookup)
			if found != wantFound || *got != wantSum {
				t.Fatalf("%v, window end %d: running gives %d %v, want %d %v", spec, end, *got, found, wantSum, wantFound)
			}
			more := running.Expire(s, &sumOps, sums.lookup)
			if left := dropBefore(s, end, texts, sums); more != left {
				t.Fatalf("%v, window end %d: Expire says %v, slices left: %v", spec, end, more, left)
			}
		}
	}
}

// lateRecord adds a record to a slice that the window ending at end still has.
func lateRecord(r *rand.Rand, s Slicer, end base.Timestamp, texts sliceStore[text], sums sliceStore[int],
	running *Running[int], blocks *Blocks[text],
) {
	first, _ := s.Slices(end)
	slice := first
	for range r.IntN(s.SlicesPerWindow()) {
		slice = s.SliceEnd(slice)
	}
	c, v := text('#'), 7
	if texts[slice] != nil {
		c += *texts[slice]
		v += *sums[slice]
	}
	texts[slice], sums[slice] = &c, &v
	if running.Covers(slice) {
		running.Reset()
	}
	if blocks.Covers(slice) {
		blocks.Reset()
	}
}

// dropBefore removes the slices whose last window ends at end or before, and
// reports whether the next window has slices with records that have been fired.
func dropBefore(s Slicer, end base.Timestamp, texts sliceStore[text], sums sliceStore[int]) bool {
	left := false
	for e := range texts {
		_, last, ok := s.WindowEndsOf(e)
		if !ok || last <= end {
			delete(texts, e)
			delete(sums, e)
		} else if e <= end {
			left = true
		}
	}
	return left
}

// The work per slide of a long window stays small: that is what Running and Blocks
// are for.
func TestMergesPerSlide(t *testing.T) {
	s := Sliding(120, 1).Slicer()
	merges := 0
	ops := Ops[int]{
		Merge:    func(dst, src *int) { merges++; *dst += *src },
		Subtract: func(dst, src *int) { merges++; *dst -= *src },
	}
	one := 1
	always := func(base.Timestamp) *int { return &one }
	var running Running[int]
	var blocks Blocks[int]
	var out int
	running.Fire(s, &ops, 120, always)
	blocks.Fire(s, &ops, 77, 120, always, &out)
	merges = 0
	for end := base.Timestamp(121); end <= 1320; end++ {
		running.Expire(s, &ops, always)
		running.Fire(s, &ops, end, always)
	}
	if merges != 2*1200 {
		t.Errorf("running: %d merges in 1200 slides, want 2 each", merges)
	}
	merges = 0
	for end := base.Timestamp(121); end <= 1320; end++ {
		if blocks.Fire(s, &ops, 77, end, always, &out); out != 120 {
			t.Fatalf("window end %d: %d", end, out)
		}
	}
	if merges > 5*1200 {
		t.Errorf("blocks: %d merges in 1200 slides, want at most 5 each", merges)
	}
	if n := testing.AllocsPerRun(200, func() { blocks.Fire(s, &ops, 77, 1320, always, &out) }); n != 0 {
		t.Errorf("%v allocations per window", n)
	}
}

// Keys begin their blocks at different slides, so that no slide does the work of
// all keys; and a key that is rebuilt gives the same floating-point bits.
func TestBlocksAreStaggeredAndReproducible(t *testing.T) {
	const keys, n = 240, 60
	s := Sliding(n, 1).Slicer()
	merges := 0
	ops := Ops[float64]{Merge: func(dst, src *float64) { merges++; *dst += *src }}
	r := seeded(t)
	values := map[base.Timestamp]*float64{}
	for end := base.Timestamp(1); end <= 5*n; end++ {
		v := r.Float64() * float64(int(1)<<r.IntN(60))
		values[end] = &v
	}
	slices := func(end base.Timestamp) *float64 { return values[end] }
	kept := make([]Blocks[float64], keys)
	for end := base.Timestamp(n); end <= 5*n; end++ {
		merges = 0
		sums := make([]float64, keys)
		for k := range kept {
			kept[k].Fire(s, &ops, base.HashUint64(uint64(k)), end, slices, &sums[k])
		}
		if end > n && merges > 12*keys {
			t.Fatalf("window end %d: %d merges for %d keys in one slide", end, merges, keys)
		}
		for k := range kept {
			var fresh Blocks[float64]
			var sum float64
			if fresh.Fire(s, &ops, base.HashUint64(uint64(k)), end, slices, &sum); sum != sums[k] {
				t.Fatalf("window end %d, key %d: %v after a rebuild, %v before", end, k, sum, sums[k])
			}
		}
	}
}

// Windows that are left out make Running rebuild itself.
func TestRunningSkipsWindows(t *testing.T) {
	s := Sliding(10, 2).Slicer()
	one := 1
	always := func(base.Timestamp) *int { return &one }
	var running Running[int]
	for _, end := range []base.Timestamp{10, 12, 16, 18, 100, 4} {
		if got, _ := running.Fire(s, &sumOps, end, always); *got != 5 {
			t.Fatalf("window end %d: %d slices, want 5", end, *got)
		}
		running.Expire(s, &sumOps, always)
	}
}

func BenchmarkClassify(b *testing.B) {
	s := Sliding(60_000, 500).Slicer()
	var sink base.Timestamp
	i := int64(0)
	for b.Loop() {
		end, _ := s.Classify(i, i-1000)
		sink += end
		i += 7
	}
	_ = sink
}

func BenchmarkSliceEnd(b *testing.B) {
	s := Sliding(60_000, 500).Slicer()
	var sink base.Timestamp
	i := int64(0)
	for b.Loop() {
		sink += s.SliceEnd(i)
		i += 7
	}
	_ = sink
}
