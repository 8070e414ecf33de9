package feature

import (
	"math"
	"slices"
)

// A percentile counts values in buckets of logarithmic width, as a DDSketch does
// (Masson, Rim, Lee 2019): the value v > 0 is in the bucket ⌈log v / log γ⌉, where
// γ = (1+α)/(1−α), and stands for a value at most α away in relation. When a key
// has too many cells, each two neighbouring buckets become one, as in UDDSketch
// (Epicoco et al. 2020): γ is squared, and α becomes 2α/(1+α²).

// bucket is a bucket and the number of values in it.
type bucket struct {
	item uint64
	n    int64
}

// Items are in the order of the values: negative ones below zeroItem.
const (
	zeroItem = 1 << 32
	biasItem = 1 << 24
	leastAbs = 1e-9
)

// bucketOf returns the item of a value.
func (m *machine) bucketOf(s *cellStore, v float64) uint64 {
	a := math.Abs(v)
	if a <= leastAbs {
		return zeroItem
	}
	i := int64(math.Ceil(math.Log(a) / math.Log(s.gamma)))
	for range m.get(s.sec, secAux) {
		i = (i + 1) >> 1
	}
	return itemOf(i, v < 0)
}

func itemOf(i int64, negative bool) uint64 {
	if negative {
		return uint64(zeroItem - biasItem - i)
	}
	return uint64(zeroItem + biasItem + i)
}

// indexOf is the inverse of itemOf.
func indexOf(item uint64) (i int64, negative bool) {
	if item < zeroItem {
		return zeroItem - biasItem - int64(item), true
	}
	return int64(item) - zeroItem - biasItem, false
}

// valueOfItem returns what stands for the values of a bucket.
func (m *machine) valueOfItem(s *cellStore, item uint64) float64 {
	if item == zeroItem {
		return 0
	}
	i, negative := indexOf(item)
	scale := float64(int64(1) << m.get(s.sec, secAux))
	g := math.Exp(math.Log(s.gamma) * scale)
	v := 2 / (g + 1) * math.Exp(math.Log(s.gamma)*scale*float64(i))
	if negative {
		return -v
	}
	return v
}

// collapse makes the buckets twice as wide.
func (m *machine) collapse(s *cellStore) {
	if m.get(s.sec, secAux) >= 12 {
		return // 512 buckets and less for all there is: their number is bounded
	}
	m.set(s.sec, secAux, m.get(s.sec, secAux)+1)
	for i := range m.entries(s.sec, s.size) {
		c := m.cell(s, i)
		if item := getu(c, 8); item != zeroItem {
			j, negative := indexOf(item)
			putu(c, 8, itemOf((j+1)>>1, negative))
		}
	}
	open := m.get(s.sec, secOpen)
	m.joinCells(s)
	if open > 1 { // the open ones are few: they are merged in the same way
		m.joinOpen(s)
	}
}

// joinOpen merges open cells that have become one.
func (m *machine) joinOpen(s *cellStore) {
	n := m.entries(s.sec, s.size)
	first := n - m.get(s.sec, secOpen)
	w := first
	for i := first + 1; i < n; i++ {
		a, b := m.cell(s, w), m.cell(s, i)
		if string(a[:s.pay]) == string(b[:s.pay]) {
			s.mergeCell(a, b)
			continue
		}
		w++
		copy(m.cell(s, w), b)
	}
	m.set(s.sec, secOpen, w+1-first)
	m.remove(s.sec, (w+1)*s.size, (n-w-1)*s.size)
}

// gatherBucket adds to a bucket of what is read.
func (m *machine) gatherBucket(item uint64, n int64) {
	i, found := slices.BinarySearchFunc(m.sketch, item, func(b bucket, item uint64) int {
		switch {
		case b.item < item:
			return -1
		case b.item > item:
			return 1
		}
		return 0
	})
	if found {
		m.sketch[i].n += n
		return
	}
	m.sketch = slices.Insert(m.sketch, i, bucket{item, n})
}

// outQuantile sets one quantile from the buckets gathered.
func (m *machine) outQuantile(s *cellStore, o *out) {
	var n int64
	for _, b := range m.sketch {
		n += b.n
	}
	if n == 0 {
		m.vec.setNone(o.field)
		return
	}
	rank := int64(o.q * float64(n-1))
	var below int64
	i := len(m.sketch) - 1
	for j, b := range m.sketch {
		if below += b.n; below > rank {
			i = j
			break
		}
	}
	m.vec.setFloat(o.field, m.valueOfItem(s, m.sketch[i].item))
}
