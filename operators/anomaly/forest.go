package anomaly

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Forest declares half-space trees (Tan, Ting and Liu, "Fast Anomaly Detection for
// Streaming Data", 2011): values, or runs of them, in regions where few were in
// the window before.
//
// The last Dim values are a point. A tree halves the space Depth times, in a
// dimension chosen at random, and counts the points in each half; the counts of
// one window judge the points of the next. The mean over the trees of the
// logarithm of count · 2^depth is the density, and an alert is a density that is
// Limit standard deviations below its exponentially weighted mean.
//
// The space is the range of the first window, stretched by half of it on either
// side; values beyond count as being at its edge. It says nothing in the first
// Window and the 30 values after it.
//
// State: 1 to 4 bytes for each of the Trees·2^(Depth+2) counts; 4 kB at the
// default.
type Forest struct {
	// Trees is the number of trees; 0 is 15; at most 100.
	Trees int
	// Depth is how often the space is halved; 0 is 6; at most 12.
	Depth int
	// Window is the number of values in a window; 0 is 250.
	Window int
	// Dim is the number of values in a point; 0 is 3; at most 64.
	Dim int
	// Limit is the number of standard deviations that is an alert; 0 is 5.
	Limit float64
	// Alpha is the weight of a new density in their mean and variance; 0 is 0.002.
	Alpha float64
	// Seed makes the trees. The same declaration always makes the same trees.
	Seed uint64
}

func (s Forest) build() (Detector, string, error) {
	s.Trees, s.Depth, s.Window, s.Dim = or(s.Trees, 15), or(s.Depth, 6), or(s.Window, 250), or(s.Dim, 3)
	s.Limit, s.Alpha = or(s.Limit, 5), or(s.Alpha, 0.002)
	c := checks{spec: "Forest"}
	c.that(s.Trees > 0 && s.Trees <= 100, "Trees %d is not from 1 to 100", s.Trees)
	c.that(s.Depth > 0 && s.Depth <= 12, "Depth %d is not from 1 to 12", s.Depth)
	c.that(s.Window > 1 && s.Window <= 1_000_000, "Window %d is not from 2 to 1,000,000", s.Window)
	c.that(s.Dim > 0 && s.Dim <= 64, "Dim %d is not from 1 to 64", s.Dim)
	c.that(finite(s.Limit) && s.Limit > 0, "Limit %g is not positive", s.Limit)
	c.that(finite(s.Alpha) && s.Alpha <= 1, "Alpha %g is above 1", s.Alpha)
	if c.err != nil {
		return nil, "", c.err
	}
	f := &forest{spec: s, last: ring{cap: s.Dim}}
	for t := range s.Trees {
		f.trees = append(f.trees, growTree(rand.New(rand.NewPCG(s.Seed, uint64(t))), s.Dim, s.Depth))
	}
	return f, fmt.Sprintf("forest(%d,%d,%d,%d,%d)", s.Trees, s.Depth, s.Window, s.Dim, s.Seed), nil
}

// halfTree is a complete binary tree: the children of node i are 2i+1 and 2i+2.
type halfTree struct {
	dim   []int // of the inner nodes
	split []float64
	// before and now count the points of the last window and of this one.
	before, now []int
}

// growTree makes a tree over the unit cube. Each dimension is halved from a random
// range around it, so that trees have different borders.
func growTree(r *rand.Rand, dims, depth int) halfTree {
	inner, all := 1<<depth-1, 1<<(depth+1)-1
	t := halfTree{make([]int, inner), make([]float64, inner), make([]int, all), make([]int, all)}
	low, high := make([]float64, dims), make([]float64, dims)
	for d := range dims {
		s := r.Float64()
		width := 2 * max(s, 1-s)
		low[d], high[d] = s-width, s+width
	}
	var grow func(i int)
	grow = func(i int) {
		if i >= inner {
			return
		}
		d := r.IntN(dims)
		l, h := low[d], high[d]
		mid := (l + h) / 2
		t.dim[i], t.split[i] = d, mid
		high[d] = mid
		grow(2*i + 1)
		low[d], high[d] = mid, h
		grow(2*i + 2)
		low[d] = l
	}
	grow(0)
	return t
}

type forest struct {
	spec  Forest
	n     int // values in the window under way
	ready bool
	// low and high are the range of the first window, after it with its margins.
	low, high float64
	last      ring
	density   moments
	trees     []halfTree
	point     []float64
	first     []float64 // the values of the first window
}

// Observe implements Detector.
func (f *forest) Observe(_ time.Time, v float64) Result {
	if !f.ready {
		f.first = append(f.first, v)
		if len(f.first) == f.spec.Window {
			f.begin()
		}
		return Result{By: "forest"}
	}
	f.last.push(f.scale(v))
	if len(f.last.v) < f.spec.Dim {
		return Result{By: "forest"}
	}
	d := f.visit()
	score := 0.0
	if d < f.density.mean {
		score = ratio(f.density.z(d, 0.05, defaultLearn), f.spec.Limit)
	}
	f.density.add(d, f.spec.Alpha)
	f.turn()
	return result(score, "forest")
}

// scale puts a value into the unit interval.
func (f *forest) scale(v float64) float64 {
	return (min(max(v, f.low), f.high) - f.low) / (f.high - f.low)
}

// begin takes the range of the first window, and counts its points.
func (f *forest) begin() {
	f.low, f.high = slices.Min(f.first), slices.Max(f.first)
	margin := max((f.high-f.low)/2, 1e-9*math.Abs(f.high), 1e-12)
	f.low, f.high = f.low-margin, f.high+margin
	for _, v := range f.first {
		if f.last.push(f.scale(v)); len(f.last.v) == f.spec.Dim {
			f.visit()
			f.n++
		}
	}
	f.ready, f.first, f.n = true, nil, f.spec.Window-1
	f.turn()
}

// visit counts the point in hand in all trees, and returns the mean logarithm of
// its density.
func (f *forest) visit() float64 {
	f.point = resize(f.point, f.spec.Dim)
	for i := range f.point {
		f.point[i] = f.last.get(i)
	}
	sum := 0.0
	for i := range f.trees {
		t := &f.trees[i]
		node, depth, open := 0, 0, true
		for {
			t.now[node]++
			// A region with next to no points is not looked into.
			if open && (t.before[node] <= f.spec.Window/50 || node >= len(t.dim)) {
				sum += math.Log(float64(t.before[node])+0.5) + float64(depth)*math.Ln2
				open = false
			}
			if node >= len(t.dim) {
				break
			}
			if f.point[t.dim[node]] < t.split[node] {
				node = 2*node + 1
			} else {
				node = 2*node + 2
			}
			depth++
		}
	}
	return sum / float64(len(f.trees))
}

// turn ends the window when it is full.
func (f *forest) turn() {
	if f.n++; f.n < f.spec.Window {
		return
	}
	f.n = 0
	for i := range f.trees {
		t := &f.trees[i]
		t.before, t.now = t.now, t.before
		clear(t.now)
	}
}

// AppendState implements Detector. A zero count that follows another is not
// written: a zero is followed by the number of zeros after it.
func (f *forest) AppendState(b []byte) []byte {
	if !f.ready {
		return appendList(append(b, 0), f.first)
	}
	b = appendFloats(appendCount(append(b, 1), f.n), f.low, f.high)
	b = f.density.append(f.last.append(b))
	for i := range f.trees {
		b = appendCounts(appendCounts(b, f.trees[i].before), f.trees[i].now)
	}
	return b
}

func appendCounts(b []byte, counts []int) []byte {
	for i := 0; i < len(counts); i++ {
		b = appendCount(b, counts[i])
		if counts[i] == 0 {
			run := 0
			for i+1 < len(counts) && counts[i+1] == 0 {
				i, run = i+1, run+1
			}
			b = appendCount(b, run)
		}
	}
	return b
}

func loadCounts(d *decoder, counts []int, most int) {
	clear(counts)
	for i := 0; i < len(counts) && d.err == nil; i++ {
		if counts[i] = d.count(most); counts[i] == 0 {
			i += d.count(len(counts) - i - 1)
		}
	}
}

// LoadState implements Detector.
func (f *forest) LoadState(b []byte) error {
	d := decoder{b: b}
	f.ready, f.first, f.n, f.density = d.byte() != 0, f.first[:0], 0, moments{}
	f.low, f.high, f.last.at, f.last.v = 0, 0, 0, f.last.v[:0]
	if !f.ready {
		f.first = d.list(f.first, f.spec.Window-1)
		for i := range f.trees {
			clear(f.trees[i].before)
			clear(f.trees[i].now)
		}
		return d.end()
	}
	f.n = d.count(f.spec.Window)
	d.floats(&f.low, &f.high)
	f.last.load(&d)
	f.density.load(&d)
	for i := range f.trees {
		loadCounts(&d, f.trees[i].before, f.spec.Window)
		loadCounts(&d, f.trees[i].now, f.spec.Window)
	}
	if d.err == nil && f.low >= f.high {
		return fmt.Errorf("it holds the range %g to %g", f.low, f.high)
	}
	return d.end()
}
