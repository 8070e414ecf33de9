package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"time"
)

// handTile is what a person keeps of a stretch of time.
type handTile struct {
	n, online          uint32
	sum, sq, low, high float64
}

func (t *handTile) merge(o *handTile) {
	if o.n == 0 {
		return
	}
	if t.n == 0 {
		*t = *o
		return
	}
	t.n, t.online, t.sum, t.sq = t.n+o.n, t.online+o.online, t.sum+o.sum, t.sq+o.sq
	t.low, t.high = min(t.low, o.low), max(t.high, o.high)
}

const handTiles = 25

// handCard is a ring of tiles for each horizon.
type handCard struct {
	now   [5]int64
	tiles [5][handTiles]handTile
	at    int64
	last  float64
}

// step writes the same 40 values as the operator from tiles summed anew.
func (c *handCard) step(p *payment, at int64, outs *[8][5]float64) {
	one := handTile{n: 1, sum: p.Amount, sq: p.Amount * p.Amount, low: p.Amount, high: p.Amount}
	if p.Online {
		one.online = 1
	}
	for h := range c.now {
		hop := int64(fiveHorizons[h]) / (handTiles - 1)
		for now := at / hop; c.now[h] < now; {
			c.now[h] = max(c.now[h]+1, now-handTiles)
			c.tiles[h][c.now[h]%handTiles] = handTile{}
		}
		var all handTile
		for i := range c.tiles[h] {
			all.merge(&c.tiles[h][i])
		}
		n := float64(all.n)
		outs[0][h], outs[1][h], outs[2][h], outs[4][h], outs[5][h] = n, float64(all.online), all.sum, all.low, all.high
		outs[3][h], outs[6][h], outs[7][h] = 0, 0, 0
		if all.n > 0 {
			outs[3][h] = all.sum / n
			outs[6][h] = math.Sqrt(max(0, all.sq/n-outs[3][h]*outs[3][h]))
		}
		if at-c.at < int64(fiveHorizons[h]) {
			outs[7][h] = c.last
		}
		c.tiles[h][c.now[h]%handTiles].merge(&one)
	}
	c.at, c.last = at, p.Amount
}

// featuresHand is the loop that a person would write: a Go map of rings of tiles.
func featuresHand(cards int, gap time.Duration, warm, n int) (float64, error) {
	m := make(map[uint64]*handCard, cards)
	rng := rand.New(rand.NewPCG(1, 2))
	now, step := 1_700_000_000e9, float64(gap)/float64(cards)
	var out [8][5]float64
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var start int64
	for i := range warm + n {
		if i == warm {
			start = threadNanos()
		}
		p := payment{Card: rng.Uint64N(uint64(cards)) * 0x9e3779b97f4a7c15}
		r := rng.Uint64()
		p.Amount, p.Online = float64(r>>40&0xffff)/100, r&3 == 0
		c := m[p.Card]
		if c == nil {
			c = &handCard{}
			m[p.Card] = c
		}
		c.step(&p, int64(now), &out)
		now += step
	}
	sinkSum += uint64(out[0][4])
	return float64(threadNanos()-start) / float64(n), nil
}

func featureBenches() []bench {
	var out []bench
	for _, load := range []struct {
		gap    time.Duration
		before int
	}{{time.Second, 130}, {time.Minute, 130}, {10 * time.Minute, 45}, {8 * time.Hour, 45}} {
		out = append(out, memoryBench(load.gap, load.before))
	}
	return append(out, spillBench(500_000, 100<<20), spillBench(5_000_000, 1<<30), sizeBench(), numberBench(), lengthBench())
}

// memoryBench takes payments of 100,000 cards, each of which has had some before;
// all 40 outputs go into a struct.
func memoryBench(gap time.Duration, before int) bench {
	const cards, n = 100_000, 1 << 20
	f := &featureLoad{cards: cards, gap: gap, memory: 4 << 30}
	return bench{
		name: fmt.Sprintf("features: 5 horizons × 8 aggregates, 100,000 keys, each every %v", gap), unit: "ns of CPU/record",
		arms: []arm{
			{"weir", func() (float64, error) {
				if f.store == nil {
					if err := openFeatures(f, eightAggregates(fiveHorizons...), boundTo[spending]); err != nil {
						return 0, err
					}
					if err := f.feed(before*cards, false); err != nil {
						return 0, err
					}
				}
				return f.perCore(n)
			}},
			{"loop over a Go map of tiles", func() (float64, error) { return featuresHand(cards, gap, 10*cards, n) }},
		},
		bars: []bar{
			{text: "records/s of a core ≥ 500,000", value: func(v []float64) float64 { return 1e9 / v[0] }, min: 500_000},
			{text: "throughput / the loop's", value: func(v []float64) float64 { return v[1] / v[0] }},
		},
	}
}

// spillBench takes payments of more cards than memory has room for, each of which
// has had four.
func spillBench(cards int, memory int64) bench {
	f := &featureLoad{cards: cards, gap: 24 * time.Hour, memory: memory, disk: true}
	run := func(hot bool, n int) func() (float64, error) {
		return func() (float64, error) {
			if f.store == nil {
				if err := openFeatures(f, eightAggregates(fiveHorizons...), boundTo[spending]); err != nil {
					return 0, err
				}
				if err := f.history(); err != nil {
					return 0, err
				}
			}
			f.hot = hot
			return f.time(n)
		}
	}
	return bench{
		name: fmt.Sprintf("features: 5 horizons × 8 aggregates, %d keys, %d MiB", cards, memory>>20), unit: "ns/record",
		arms: []arm{
			{"weir, four of five records to a fifth of the keys", run(true, 1<<19)},
			{"weir, any key alike", run(false, 1<<17)},
			{"bytes in memory", func() (float64, error) { return float64(f.store.MemoryUsed()), nil }},
		},
		bars: []bar{
			{text: "records/s ≥ 100,000", value: func(v []float64) float64 { return 1e9 / v[0] }, min: 100_000},
			{text: "records/s, any key alike", value: func(v []float64) float64 { return 1e9 / v[1] }},
		},
	}
}

// sizeOf is the size of a state after n payments of each card.
func sizeOf(gap time.Duration, n int) func() (float64, error) {
	return func() (float64, error) {
		f := &featureLoad{cards: 1000, gap: gap, memory: 1 << 30}
		if err := openFeatures(f, eightAggregates(fiveHorizons...), unbound); err != nil {
			return 0, err
		}
		if err := f.feed(n*f.cards, true); err != nil {
			return 0, err
		}
		size, err := f.bytesPerKey()
		if err != nil {
			return 0, err
		}
		return size, f.close()
	}
}

func sizeBench() bench {
	return bench{
		name: "features: 5 horizons × 8 aggregates, size of a key", unit: "bytes",
		arms: []arm{
			{"dense: 5,000 payments, one a minute", sizeOf(time.Minute, 5000)},
			{"sparse: 20 payments, eight hours apart", sizeOf(8*time.Hour, 20)},
			{"one payment", sizeOf(time.Hour, 1)},
		},
		bars: []bar{
			{text: "dense ≤ 7 kB", value: func(v []float64) float64 { return v[0] }, max: 7000},
			{text: "sparse ≤ 3 kB", value: func(v []float64) float64 { return v[1] }, max: 3000},
		},
	}
}

// overHorizons takes payments of 1,000 cards over some horizons: 1,500 of each over
// the longest, and then one a second, which are measured.
func overHorizons(hs ...time.Duration) func() (float64, error) {
	f := &featureLoad{cards: 1000, memory: 1 << 30}
	return func() (float64, error) {
		if f.store == nil {
			if err := openFeatures(f, eightAggregates(hs...), unbound); err != nil {
				return 0, err
			}
			f.gap = hs[len(hs)-1] / 1500
			if err := f.feed(1500*f.cards, false); err != nil {
				return 0, err
			}
			f.gap = time.Second
		}
		return f.perCore(1 << 19)
	}
}

func numberBench() bench {
	b := bench{name: "features: cost by the number of horizons, 8 aggregates, 1,000 keys", unit: "ns of CPU/record"}
	for _, n := range []int{1, 2, 5, 10} {
		var hs []time.Duration
		for i := range n {
			hs = append(hs, time.Duration(i+1)*24*time.Hour/time.Duration(n))
		}
		b.arms = append(b.arms, arm{fmt.Sprintf("%d up to 24h", n), overHorizons(hs...)})
	}
	b.bars = []bar{{text: "10 horizons / 1", value: func(v []float64) float64 { return v[3] / v[0] }, max: 10}}
	return b
}

func lengthBench() bench {
	b := bench{name: "features: cost by the length of 5 horizons, 8 aggregates, 1,000 keys", unit: "ns of CPU/record"}
	for _, longest := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 90 * 24 * time.Hour} {
		var hs []time.Duration
		for i := range 5 {
			hs = append(hs, longest>>(4-i))
		}
		b.arms = append(b.arms, arm{fmt.Sprintf("%v to %v", hs[0], longest), overHorizons(hs...)})
	}
	b.bars = []bar{
		{text: "90 days / 1 hour", value: func(v []float64) float64 { return v[4] / v[1] }, max: 1.2},
		{text: "90 days / 1 minute", value: func(v []float64) float64 { return v[4] / v[0] }, max: 1.2},
	}
	return b
}
