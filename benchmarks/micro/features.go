package main

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/feature"
	"github.com/weirflow/weir/state"
)

// payment is the record of the feature benchmarks.
type payment struct {
	Card   uint64
	Amount float64
	Online bool
}

func amountOf(p payment) float64 { return p.Amount }
func isOnline(p payment) bool    { return p.Online }

var fiveHorizons = []time.Duration{time.Minute, 5 * time.Minute, time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}

// eightAggregates are eight scalar features over each of the horizons.
func eightAggregates(hs ...time.Duration) *feature.Group[payment] {
	return feature.Set(
		feature.Count[payment]("n").Over(hs...),
		feature.Count[payment]("online").Where(isOnline).Over(hs...),
		feature.Sum("sum", amountOf).Over(hs...),
		feature.Mean("mean", amountOf).Over(hs...),
		feature.Min("min", amountOf).Over(hs...),
		feature.Max("max", amountOf).Over(hs...),
		feature.Stddev("dev", amountOf).Over(hs...),
		feature.Last("last", amountOf).Over(hs...),
	)
}

// spending are all outputs of eight aggregates over five horizons.
type spending struct {
	N1m    float64 `feature:"n_1m"`
	N5m    float64 `feature:"n_5m"`
	N1h    float64 `feature:"n_1h"`
	N24h   float64 `feature:"n_24h"`
	N7d    float64 `feature:"n_7d"`
	On1m   float64 `feature:"online_1m"`
	On5m   float64 `feature:"online_5m"`
	On1h   float64 `feature:"online_1h"`
	On24h  float64 `feature:"online_24h"`
	On7d   float64 `feature:"online_7d"`
	Sum1m  float64 `feature:"sum_1m"`
	Sum5m  float64 `feature:"sum_5m"`
	Sum1h  float64 `feature:"sum_1h"`
	Sum24h float64 `feature:"sum_24h"`
	Sum7d  float64 `feature:"sum_7d"`
	Mn1m   float64 `feature:"mean_1m"`
	Mn5m   float64 `feature:"mean_5m"`
	Mn1h   float64 `feature:"mean_1h"`
	Mn24h  float64 `feature:"mean_24h"`
	Mn7d   float64 `feature:"mean_7d"`
	Min1m  float64 `feature:"min_1m"`
	Min5m  float64 `feature:"min_5m"`
	Min1h  float64 `feature:"min_1h"`
	Min24h float64 `feature:"min_24h"`
	Min7d  float64 `feature:"min_7d"`
	Max1m  float64 `feature:"max_1m"`
	Max5m  float64 `feature:"max_5m"`
	Max1h  float64 `feature:"max_1h"`
	Max24h float64 `feature:"max_24h"`
	Max7d  float64 `feature:"max_7d"`
	Dev1m  float64 `feature:"dev_1m"`
	Dev5m  float64 `feature:"dev_5m"`
	Dev1h  float64 `feature:"dev_1h"`
	Dev24h float64 `feature:"dev_24h"`
	Dev7d  float64 `feature:"dev_7d"`
	La1m   float64 `feature:"last_1m"`
	La5m   float64 `feature:"last_5m"`
	La1h   float64 `feature:"last_1h"`
	La24h  float64 `feature:"last_24h"`
	La7d   float64 `feature:"last_7d"`
}

// featureLoad is an operator of rolling features in a subtask with a state backend,
// and where its stream of payments stands: the cards come at random, the next one
// when the clock has moved by gap/cards on average.
type featureLoad struct {
	cards  int
	gap    time.Duration
	memory int64
	disk   bool
	hot    bool // see draw

	store   *state.Store
	backend *state.Backend
	s       *operators.Subtask
	prog    *feature.Program[payment]
	batch   *operators.TypedBatch[payment]
	rng     *rand.Rand
	now     float64
	marked  float64
}

const featureUID = "card-features"

// open makes the operator, with what writes its outputs for each record.
func openFeatures[V any](f *featureLoad, g *feature.Group[payment], bind func(*feature.Schema) (func(*feature.Vector, *V), error)) error {
	var err error
	if f.prog, err = g.Compile(); err != nil {
		return err
	}
	fill, err := bind(f.prog.Schema())
	if err != nil {
		return err
	}
	if err := f.openState(); err != nil {
		return err
	}
	keys, err := codec.KeyFor[uint64]()
	if err != nil {
		return err
	}
	f.s = operators.NewSubtask(operators.Env{
		Ctx: context.Background(), JobName: "bench", Task: "features", Parallelism: 1, Range: base.FullRange,
		Clock: clock.Real(), Backend: f.backend, Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{},
	})
	c, _ := feature.Node(f.s, feature.Spec[uint64, payment, payment, V]{
		UID: featureUID, Key: func(p *payment) uint64 { return p.Card }, Keys: keys, Program: f.prog,
		Record: func(p *payment) *payment { return p },
		Make:   func(_ *payment, v *feature.Vector, out *V) { fill(v, out) },
	}, operators.Consumer[V]{One: func(*base.Meta, *V) { sinkSum++ }})
	operators.Head(f.s, c)
	if err := f.backend.Restore(context.Background(), nil); err != nil {
		return err
	}
	mk, err := operators.NewBatch[payment]()
	if err != nil {
		return err
	}
	f.batch, f.rng, f.now = mk().(*operators.TypedBatch[payment]), rand.New(rand.NewPCG(1, 2)), 1_700_000_000e9
	return f.s.Open(operators.Restore{})
}

// boundTo writes all outputs into a struct.
func boundTo[V any](s *feature.Schema) (func(*feature.Vector, *V), error) {
	b, err := feature.Bind[V](s)
	if err != nil {
		return nil, err
	}
	return b.FillVector, nil
}

// unbound leaves the outputs where they are, in the operator's vector.
func unbound(*feature.Schema) (func(*feature.Vector, *float64), error) {
	return func(v *feature.Vector, sum *float64) { *sum += v.View().Row.Floats[0] }, nil
}

func (f *featureLoad) openState() error {
	opts := state.Options{FS: vfs.Default, Memory: f.memory, Clock: clock.Real(), Logger: slog.New(slog.DiscardHandler)}
	if f.disk {
		opts.Dir = tempDir("features")
	}
	var err error
	if f.store, err = state.OpenStore(opts); err != nil {
		return err
	}
	f.backend, err = f.store.NewBackend(state.BackendOptions{Task: "features/0", Range: base.FullRange})
	return err
}

func (f *featureLoad) close() error {
	if f.store == nil {
		return nil
	}
	if err := f.backend.Close(); err != nil {
		return err
	}
	err := f.store.Close()
	*f = featureLoad{cards: f.cards, gap: f.gap, memory: f.memory, disk: f.disk}
	return err
}

// feed takes n payments of random cards, or of each card in turn, through the
// operator, and watermarks ten seconds behind them.
func (f *featureLoad) feed(n int, inTurn bool) error {
	step := float64(f.gap) / float64(f.cards)
	for at := 0; at < n; at += operators.MaxBatch {
		f.batch.Reset()
		for i := range operators.MaxBatch {
			card := uint64(at+i) % uint64(f.cards)
			if !inTurn {
				card = f.draw()
			}
			f.pay(card, int64(f.now))
			f.now += step
		}
		if err := f.s.Process(0, f.batch); err != nil {
			return err
		}
		if f.now-f.marked >= 10e9 {
			if err := f.mark(); err != nil {
				return err
			}
		}
	}
	return f.backend.Err()
}

// draw picks the card of a payment: with hot, four of five are from the last fifth.
func (f *featureLoad) draw() uint64 {
	n := uint64(f.cards)
	if f.hot && f.rng.Uint64N(5) != 0 {
		return n - 1 - f.rng.Uint64N(n/5)
	}
	return f.rng.Uint64N(n)
}

// pay adds a payment to the batch.
func (f *featureLoad) pay(card uint64, at int64) {
	card *= 0x9e3779b97f4a7c15
	r := f.rng.Uint64()
	f.batch.Metas = append(f.batch.Metas, base.Meta{Time: at, Hash: base.HashUint64(card)})
	f.batch.Vals = append(f.batch.Vals, payment{card, float64(r>>40&0xffff) / 100, r&3 == 0})
}

// mark sends a watermark ten seconds behind.
func (f *featureLoad) mark() error {
	f.marked = f.now
	if err := f.s.Watermark(int64(f.now) - 10e9); err != nil {
		return err
	}
	for more := true; more; {
		var err error
		if more, err = f.s.Turn(); err != nil {
			return err
		}
	}
	return nil
}

// history gives each card four payments, a day apart; one card after the other, so
// that it does not take long.
func (f *featureLoad) history() error {
	if err := f.mark(); err != nil { // timers go where they do in a job that runs
		return err
	}
	for card := 0; card < f.cards; {
		f.batch.Reset()
		for range operators.MaxBatch / 4 {
			for i := range int64(4) {
				f.pay(uint64(card%f.cards), int64(f.now)+i*24*3600e9)
			}
			card++
		}
		if err := f.s.Process(0, f.batch); err != nil {
			return err
		}
	}
	f.now += 4 * 24 * 3600e9
	return f.backend.Err()
}

// perCore returns nanoseconds of CPU time per payment.
func (f *featureLoad) perCore(n int) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := threadNanos()
	err := f.feed(n, false)
	return float64(threadNanos()-start) / float64(n), err
}

// time returns nanoseconds per payment.
func (f *featureLoad) time(n int) (float64, error) {
	start := time.Now()
	err := f.feed(n, false)
	return float64(time.Since(start).Nanoseconds()) / float64(n), err
}

// bytesPerKey is the mean size of a state.
func (f *featureLoad) bytesPerKey() (float64, error) {
	g, err := f.backend.Group(state.Decl{Operator: featureUID, Name: feature.StateName, Key: state.KeyBytes, Schema: f.prog.StateSchema()})
	if err != nil {
		return 0, err
	}
	keys, total := 0, 0
	var c state.Cursor
	g.Namespace(0).Walk(&c, math.MaxInt, func(_ uint64, _, val []byte) bool {
		keys, total = keys+1, total+len(val)
		return true
	})
	return float64(total) / float64(max(1, keys)), f.backend.Err()
}
