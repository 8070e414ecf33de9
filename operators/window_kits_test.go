package operators

import (
	"slices"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/window"
)

// aggKit is an aggregate under test: of type A, with digest computing what its
// result must be from the records of a window.
type aggKit[A any] struct {
	name   string
	add    func(*A, rec)
	ops    window.Ops[A]
	result func(*A) uint64
	digest func(w window.Spec, rs []rec) uint64
}

type sums struct{ N, Sum, Mix uint64 }

// sumKit is raw and can be subtracted.
var sumKit = aggKit[sums]{
	name: "sums",
	add:  func(a *sums, r rec) { a.N++; a.Sum += uint64(r.N); a.Mix += base.HashUint64(uint64(r.N)) },
	ops: window.Ops[sums]{
		Merge:    func(d, s *sums) { d.N += s.N; d.Sum += s.Sum; d.Mix += s.Mix },
		Subtract: func(d, s *sums) { d.N -= s.N; d.Sum -= s.Sum; d.Mix -= s.Mix },
	},
	result: func(a *sums) uint64 { return a.N*31 ^ a.Sum ^ a.Mix },
	digest: func(_ window.Spec, rs []rec) uint64 {
		var n, sum, mix uint64
		for _, r := range rs {
			n, sum, mix = n+1, sum+uint64(r.N), mix+base.HashUint64(uint64(r.N))
		}
		return n*31 ^ sum ^ mix
	},
}

type poly struct{ H, P uint64 }

const polyBase = 1_000_003

// polyKit is raw, cannot be subtracted, and sees the order of records.
var polyKit = aggKit[poly]{
	name: "poly",
	add: func(a *poly, r rec) {
		if a.P == 0 {
			a.P = 1
		}
		a.H, a.P = a.H*polyBase+uint64(r.N)+1, a.P*polyBase
	},
	ops: window.Ops[poly]{Merge: func(d, s *poly) {
		if d.P == 0 {
			d.P = 1
		}
		d.H, d.P = d.H*s.P+s.H, d.P*s.P
	}},
	result: func(a *poly) uint64 { return a.H },
	digest: func(w window.Spec, rs []rec) uint64 { return hashInOrder(inSliceOrder(w, rs)) },
}

// listKit is encoded.
var listKit = aggKit[[]int64]{
	name: "list",
	add:  func(a *[]int64, r rec) { *a = append(*a, r.N) },
	ops:  window.Ops[[]int64]{Merge: func(d, s *[]int64) { *d = append(*d, *s...) }},
	result: func(a *[]int64) uint64 {
		return hashInOrder(slices.Sorted(slices.Values(*a)))
	},
	digest: func(_ window.Spec, rs []rec) uint64 {
		ns := make([]int64, 0, len(rs))
		for _, r := range rs {
			ns = append(ns, r.N)
		}
		slices.Sort(ns)
		return hashInOrder(ns)
	},
}

func hashInOrder(ns []int64) (h uint64) {
	for _, n := range ns {
		h = h*polyBase + uint64(n) + 1
	}
	return h
}

func inSliceOrder(w window.Spec, rs []rec) []int64 {
	s := w.Slicer()
	rs = slices.Clone(rs)
	slices.SortStableFunc(rs, func(a, b rec) int { return int(s.SliceEnd(a.T) - s.SliceEnd(b.T)) })
	ns := make([]int64, 0, len(rs))
	for _, r := range rs {
		ns = append(ns, r.N)
	}
	return ns
}
