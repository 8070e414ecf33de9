package feature_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/weirflow/weir/operators/feature"
)

// txn is the record of the benchmarks.
type txn struct {
	Card   uint64
	At     int64
	Amount float64
	Online bool
	Shop   string
}

func txnAmount(t txn) float64 { return t.Amount }
func txnOnline(t txn) bool    { return t.Online }
func txnShop(t txn) string    { return t.Shop }

var fiveHorizons = []time.Duration{time.Minute, 5 * time.Minute, time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}

// eightScalars are eight aggregates over the horizons.
func eightScalars(hs ...time.Duration) *feature.Group[txn] {
	return feature.Set(
		feature.Count[txn]("n").Over(hs...),
		feature.Count[txn]("online").Where(txnOnline).Over(hs...),
		feature.Sum("spend", txnAmount).Over(hs...),
		feature.Mean("mean", txnAmount).Over(hs...),
		feature.Min("least", txnAmount).Over(hs...),
		feature.Max("most", txnAmount).Over(hs...),
		feature.Stddev("spread", txnAmount).Over(hs...),
		feature.Last("last", txnAmount).Over(hs...),
	)
}

// load makes n events of the given keys, whose mean distance in a key is gap.
func load(n, keys int, gap time.Duration) []txn {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]txn, n)
	step := float64(gap) / float64(keys)
	for i := range out {
		out[i] = txn{
			Card: uint64(rng.IntN(keys)), At: 1_700_000_000e9 + int64(float64(i)*step),
			Amount: float64(rng.IntN(100_000)) / 100, Online: rng.IntN(3) == 0, Shop: fmt.Sprint("shop", rng.IntN(1000)),
		}
	}
	return out
}

// cpuTime is the processor time of the process so far: what other processes take
// does not count.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchCore runs a program over keys whose states lie in Go memory.
func benchCore(b *testing.B, g *feature.Group[txn], keys, warm int, gap time.Duration) {
	p, err := g.Compile()
	if err != nil {
		b.Fatal(err)
	}
	core, states := p.NewCore(), make([][]byte, keys)
	events := load(warm+1<<20, keys, gap)
	sum := 0.0
	step := func(e *txn) {
		next, moved, err := core.Step(states[e.Card], e.At, e)
		if err != nil {
			b.Fatal(err)
		}
		if moved {
			states[e.Card] = slices.Clone(next)
		}
		v, _ := core.Vector().View().Float("n_1m")
		sum += v
	}
	for i := range warm {
		step(&events[i])
	}
	events = events[warm:]
	shift := events[len(events)-1].At - events[0].At + 1
	b.ReportAllocs()
	cpu := cpuTime()
	b.ResetTimer()
	for i := range b.N {
		e := &events[i&(1<<20-1)]
		step(e)
		e.At += shift
	}
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
	b.StopTimer()
	total := 0
	for _, s := range states {
		total += len(s)
	}
	b.ReportMetric(float64(total)/float64(keys), "B/key")
}

func BenchmarkCore(b *testing.B) {
	for _, gap := range []time.Duration{100 * time.Millisecond, 10 * time.Second, 10 * time.Minute, 12 * time.Hour} {
		for _, keys := range []int{100, 100_000} {
			b.Run(fmt.Sprintf("gap=%v/keys=%d", gap, keys), func(b *testing.B) {
				benchCore(b, eightScalars(fiveHorizons...), keys, min(keys*60, 6_000_000), gap)
			})
		}
	}
}
