package anomaly

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// KNN declares KNN-CAD, the conformal detector of Burnaev and Ishimtsev
// ("Conformalized density- and distance-based anomaly detection in time-series
// data", 2016): a run of the last values is far from those seen before.
//
// The last Dim values are a point. Its distance is the sum of the squared
// distances to its Neighbours nearest points in a training set, in the metric that
// the training set's second moments give. An alert is a distance that is larger
// than nearly all distances of the Window points before. The training set is the
// Window points before those, so that a lasting anomaly does not soon become
// normal. The metric is computed anew every half Window.
//
// It says nothing before it has Window values, and the first alerts are not
// reliable.
//
// State: 24 bytes for each value of Window and 4·Dim² bytes; 11 kB at the default.
// Observe costs about Window·Dim multiplications, LoadState Dim/2 times that.
type KNN struct {
	// Window is the number of points in the training set; 0 is 400, at most 10,000.
	Window int
	// Dim is the number of values in a point; 0 is 19, at most 64.
	Dim int
	// Neighbours is how many of the nearest points count; 0 is 27.
	Neighbours int
	// Rank is the part of the distances that one must exceed to be an alert; 0 is
	// 0.9965.
	Rank float64
}

func (s KNN) build() (Detector, string, error) {
	s.Window, s.Dim, s.Neighbours, s.Rank = or(s.Window, 400), or(s.Dim, 19), or(s.Neighbours, 27), or(s.Rank, 0.9965)
	c := checks{spec: "KNN"}
	c.that(s.Window > 0 && s.Window <= 10_000, "Window %d is not from 1 to 10,000", s.Window)
	c.that(s.Dim > 0 && s.Dim <= 64, "Dim %d is not from 1 to 64", s.Dim)
	c.that(s.Neighbours > 0, "Neighbours %d is not positive", s.Neighbours)
	c.that(s.Window >= s.Dim+s.Neighbours, "Window %d holds no %d neighbours of %d values", s.Window, s.Neighbours, s.Dim)
	c.that(s.Rank > 0 && s.Rank < 1, "Rank %g is not between 0 and 1", s.Rank)
	if c.err != nil {
		return nil, "", c.err
	}
	k := &knn{spec: s, nearest: make([]float64, 0, s.Neighbours+1)}
	return k, fmt.Sprintf("knn(%d,%d,%d)", s.Window, s.Dim, s.Neighbours), nil
}

// knn keeps the values of its points only once, as they overlap: values[i] begins
// point i, oldest first, and the training set are the first points.
type knn struct {
	spec   KNN
	n      int // values seen, counted up to twice the window and round from there
	values []float64
	dists  ring // distances of the last points
	// lower is the lower triangle, row by row, of the Cholesky factor of the
	// training set's second moments.
	lower []float64

	// What follows is computed from the above.
	white   []float64 // the points of the training set, made white
	nearest []float64
	point   []float64
}

// train is the number of points in the training set once it is full.
func (k *knn) train() int { return k.spec.Window - k.spec.Dim }

// Observe implements Detector.
func (k *knn) Observe(_ time.Time, v float64) Result {
	p := k.spec.Window
	k.values = append(k.values, v)
	if k.n++; k.n == 3*p {
		k.n = 2 * p
	}
	if k.n < p {
		return Result{By: "knn-cad"}
	}
	switch {
	case k.n == p:
		k.begin()
	case k.n%p == 0 || k.n%p == p/2:
		k.factor()
		k.whiten()
	}
	d := k.distance(len(k.values)-k.spec.Dim, false)
	below := 0
	for _, s := range k.dists.v {
		if s < d {
			below++
		}
	}
	rank := float64(below) / float64(len(k.dists.v))
	k.dists.push(d)
	if k.n >= 2*p {
		k.slide()
	}
	score := alertScore * rank / k.spec.Rank
	if rank >= k.spec.Rank {
		score = alertScore + alertScore*(rank-k.spec.Rank)/(1-k.spec.Rank)
	}
	return result(score, "knn-cad")
}

// begin sets up the training set and the distances within it.
func (k *knn) begin() {
	k.factor()
	k.whiten()
	k.dists = ring{cap: k.train(), v: k.dists.v[:0]}
	for i := range k.train() {
		k.dists.push(k.distance(i, true))
	}
}

// slide moves the training set on by one point.
func (k *knn) slide() {
	k.values = slices.Delete(k.values, 0, 1)
	dim, last := k.spec.Dim, len(k.white)-k.spec.Dim
	copy(k.white, k.white[dim:])
	k.whitePoint(k.white[last:], k.train()-1)
}

// factor computes the Cholesky factor of the second moments of the training set.
func (k *knn) factor() {
	dim := k.spec.Dim
	k.lower = resize(k.lower, dim*(dim+1)/2)
	row := 0
	trace := 0.0
	for i := range dim {
		for j := range i + 1 {
			sum := 0.0
			for p := range k.train() {
				sum += k.values[p+i] * k.values[p+j]
			}
			k.lower[row+j] = sum
		}
		trace += k.lower[row+i]
		row += i + 1
	}
	// Values that hardly vary leave directions without extent; a trace of a part in
	// 10⁹ keeps the factor real and distances in them large but finite.
	ridge := 1e-9*trace/float64(dim) + 1e-12
	ri := 0
	for i := range dim {
		rj := 0
		for j := range i + 1 {
			sum := k.lower[ri+j]
			if i == j {
				sum += ridge
			}
			for l := range j {
				sum -= k.lower[ri+l] * k.lower[rj+l]
			}
			if i == j {
				k.lower[ri+i] = math.Sqrt(max(sum, ridge))
			} else {
				k.lower[ri+j] = sum / k.lower[rj+j]
			}
			rj += j + 1
		}
		ri += i + 1
	}
}

// whiten computes the white form of all points of the training set.
func (k *knn) whiten() {
	k.white = resize(k.white, k.train()*k.spec.Dim)
	for i := range k.train() {
		k.whitePoint(k.white[i*k.spec.Dim:], i)
	}
}

// whitePoint solves L·y = x for point i: the squared length of y is that of x in
// the metric.
func (k *knn) whitePoint(y []float64, i int) {
	x := k.values[i : i+k.spec.Dim]
	row := 0
	for r := range x {
		sum := x[r]
		for c := range r {
			sum -= k.lower[row+c] * y[c]
		}
		y[r] = sum / k.lower[row+r]
		row += r + 1
	}
}

// distance sums the squared distances of point i to its nearest in the training
// set; itself, when it is among them, does not count.
func (k *knn) distance(i int, among bool) float64 {
	dim, most := k.spec.Dim, k.spec.Neighbours
	if among {
		most++
	}
	k.point = resize(k.point, dim)
	k.whitePoint(k.point, i)
	k.nearest = k.nearest[:0]
	worst := math.Inf(1)
	for at := 0; at < len(k.white); at += dim {
		sum := 0.0
		for j, w := range k.white[at : at+dim] {
			d := k.point[j] - w
			sum += d * d
		}
		if sum >= worst {
			continue
		}
		p, _ := slices.BinarySearch(k.nearest, sum)
		if len(k.nearest) == most {
			k.nearest = k.nearest[:most-1]
		}
		k.nearest = slices.Insert(k.nearest, p, sum)
		if len(k.nearest) == most {
			worst = k.nearest[most-1]
		}
	}
	total := 0.0
	for _, d := range k.nearest {
		total += d
	}
	return total
}

// resize returns a slice of n numbers, v's when it is long enough.
func resize(v []float64, n int) []float64 { return slices.Grow(v[:0], n)[:n] }

// AppendState implements Detector.
func (k *knn) AppendState(b []byte) []byte {
	b = appendList(appendCount(b, k.n), k.values)
	return appendList(k.dists.append(b), k.lower)
}

// LoadState implements Detector.
func (k *knn) LoadState(b []byte) error {
	p, dim := k.spec.Window, k.spec.Dim
	d := decoder{b: b}
	k.n = d.count(3*p - 1)
	k.values = d.list(k.values, 2*p)
	k.dists.cap = k.train()
	k.dists.load(&d)
	k.lower = d.list(k.lower, dim*(dim+1)/2)
	if err := d.end(); err != nil {
		return err
	}
	values, dists, lower := k.n, 0, 0
	if k.n >= p {
		dists, lower = k.train(), dim*(dim+1)/2
	}
	if k.n >= 2*p {
		values = 2*p - 1
	}
	if len(k.values) != values || len(k.dists.v) != dists || len(k.lower) != lower {
		return fmt.Errorf("it holds %d values and %d distances after %d values", len(k.values), len(k.dists.v), k.n)
	}
	for i, row := 0, 0; lower > 0 && i < dim; i++ {
		if row += i; k.lower[row+i] <= 0 {
			return fmt.Errorf("it holds a metric that is none")
		}
	}
	if k.n >= p {
		k.whiten()
	}
	return nil
}
