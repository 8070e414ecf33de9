package window

import "github.com/weirflow/weir/internal/base"

// Blocks computes the windows of one key that slides, for accumulators that have
// only Merge. Slices are grouped into blocks of as many as a window has. A window
// reaches over at most two blocks, so it is a suffix of the older and a prefix of
// the newer: one merge, when the suffixes were computed once, as the newer block
// began, and the prefix grows with each slice. That is at most three merges per
// slice.
//
// Block boundaries depend on the slice and on the key's hash only. The hash
// spreads the work of beginning a block: of n slides, each key does it in another
// one. And a window is always the same sequence of merges, so that a result
// computed after a restart is equal to the last bit.
//
// It holds nothing that cannot be rebuilt from the slices, so it is never part of
// a checkpoint; the zero Blocks is ready and builds itself on first use. When a
// record is added to a slice that it covers, call Reset.
type Blocks[A any] struct {
	suffixes []suffix[A] // of the older block, only slices with records, newest first
	prefix   A           // of the newer block, up to entered
	found    bool        // the prefix holds records
	ready    bool
	block    int64          // number of the newer block
	entered  base.Timestamp // end of the newest slice in the prefix
}

// suffix is the merge of the slices from the one that ends at end to the block's
// last.
type suffix[A any] struct {
	end base.Timestamp
	acc A
}

// Fire computes the window that ends at windowEnd into *out and returns whether it
// holds records. Window ends should come in ascending order; an older one makes it
// rebuild. hash is the key's hash.
func (b *Blocks[A]) Fire(s Slicer, ops *Ops[A], hash uint64, windowEnd base.Timestamp, slices Lookup[A], out *A) bool {
	first, last := s.Slices(windowEnd)
	n := int64(s.SlicesPerWindow())
	stagger := int64(hash % uint64(n))
	at := s.Index(last) - stagger
	block := floorDiv(at, n)
	if !b.ready || block != b.block || last < b.entered {
		b.begin(s, ops, first, last, floorMod(at, n), slices)
		b.block = block
	}
	for b.entered < last {
		b.entered = s.SliceEnd(b.entered)
		if slice := slices(b.entered); slice != nil {
			ops.Merge(&b.prefix, slice)
			b.found = true
		}
	}
	for len(b.suffixes) > 0 && b.suffixes[len(b.suffixes)-1].end < first {
		b.suffixes[len(b.suffixes)-1] = suffix[A]{}
		b.suffixes = b.suffixes[:len(b.suffixes)-1]
	}
	var none A
	*out = none
	if len(b.suffixes) > 0 {
		ops.Merge(out, &b.suffixes[len(b.suffixes)-1].acc)
	}
	if b.found {
		ops.Merge(out, &b.prefix)
	}
	return b.found || len(b.suffixes) > 0
}

// begin starts a block of which slice number pos, counted from 0, ends at last. It
// computes the suffixes of the block before, as far back as slice first, and
// leaves the prefix empty.
func (b *Blocks[A]) begin(s Slicer, ops *Ops[A], first, last base.Timestamp, pos int64, slices Lookup[A]) {
	b.Reset()
	boundary := last // end of the older block's newest slice
	for range pos + 1 {
		boundary = s.SliceStart(boundary)
	}
	for end := boundary; end >= first; end = s.SliceStart(end) {
		slice := slices(end)
		if slice == nil {
			continue
		}
		b.suffixes = append(b.suffixes, suffix[A]{end: end})
		n := len(b.suffixes)
		ops.Merge(&b.suffixes[n-1].acc, slice)
		if n > 1 {
			ops.Merge(&b.suffixes[n-1].acc, &b.suffixes[n-2].acc)
		}
	}
	b.entered, b.ready = boundary, true
}

// Covers reports whether the slice is part of what has been computed, so that a
// record added to it makes a Reset necessary.
func (b *Blocks[A]) Covers(sliceEnd base.Timestamp) bool { return b.ready && sliceEnd <= b.entered }

// Reset forgets everything but its memory; the next Fire rebuilds from the slices.
func (b *Blocks[A]) Reset() {
	clear(b.suffixes)
	*b = Blocks[A]{suffixes: b.suffixes[:0]}
}
