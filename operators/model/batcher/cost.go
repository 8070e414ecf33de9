package batcher

import (
	"math"
	"time"
)

// Constants of the learned cost.
const (
	// forget weighs the past at each batch: some twenty of them count.
	forget = 0.95
	// ridge holds the slope at its last value while batches hardly differ in size, as
	// a share of the squared mean size.
	ridge = 0.01
	// wild is how many times its prediction a batch's time counts at most, so that a
	// single stall does not pass for the cost of the model. A lasting change is
	// followed within a few batches all the same.
	wild = 3
	// trusted is the number of batches after which predictions are good enough to call
	// a time wild.
	trusted = 8
	// lateness scales the mean excess over the prediction to what nearly all batches
	// keep.
	lateness = 4
)

// cost is the time of a batch of n calls as a + b*n nanoseconds: a regression over
// batches weighted by forget. a and b are never negative.
type cost struct {
	seen            int
	w, n, t, nn, nt float64 // weighted sums of 1, n, t, n*n and n*t
	a, b            float64
	excess          float64 // mean of what batches took beyond their prediction
	excessW         float64
}

func (c *cost) known() bool { return c.seen > 0 }

// mean returns the expected time of n calls.
func (c *cost) mean(n int) float64 { return c.a + c.b*float64(n) }

// upper returns a time that a batch of n calls rarely exceeds.
func (c *cost) upper(n int) time.Duration { return time.Duration(c.mean(n) + c.margin()) }

func (c *cost) margin() float64 { return lateness * c.excess }

// most returns how many calls nearly always fit into t. A margin may take up at most
// half of it: noise that large is not for batch sizes to avoid.
func (c *cost) most(t float64) float64 {
	t -= min(c.margin(), t/2)
	if c.a >= t {
		return 1
	}
	if c.b <= 0 {
		return math.MaxInt32
	}
	return min((t-c.a)/c.b, math.MaxInt32)
}

// learn takes in that a batch of n calls took t.
func (c *cost) learn(n int, t float64) {
	if n <= 0 {
		return
	}
	x := float64(n)
	if c.seen >= trusted {
		t = min(t, wild*c.mean(n)+1)
	}
	if c.known() {
		c.excessW = forget*c.excessW + 1
		c.excess += (max(0, t-c.mean(n)) - c.excess) / c.excessW
	}
	c.seen = min(c.seen+1, trusted)
	c.w = forget*c.w + 1
	c.n = forget*c.n + x
	c.t = forget*c.t + t
	c.nn = forget*c.nn + x*x
	c.nt = forget*c.nt + x*t
	mn, mt := c.n/c.w, c.t/c.w
	if c.w == 1 {
		// One size says nothing of a: all in proportion is the careful reading.
		c.a, c.b = 0, mt/mn
		return
	}
	variance, cov := c.nn/c.w-mn*mn, c.nt/c.w-mn*mt
	k := ridge * mn * mn
	c.b = (cov + k*c.b) / (max(variance, 0) + k)
	c.b = min(max(c.b, 0), mt/mn)
	c.a = max(mt-c.b*mn, 0)
}
