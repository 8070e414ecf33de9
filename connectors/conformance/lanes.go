package conformance

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

func laneChecks() []check[SinkFixture] {
	return []check[SinkFixture]{
		{"fresh", checkFresh},
		{"chain", checkChain},
		{"stale expectation", checkStale},
		{"zombie", checkZombie},
		{"race", checkRace},
		{"atomic chunks", checkAtomic},
		{"full chunk", checkFull},
		{"lanes are independent", checkLanes},
		{"unknown outcomes", checkUnknown},
		{"cut off", checkCutOff},
		{"reopened", checkReopened},
		{"memory is given back", checkMemory},
	}
}

func checkFresh(t testing.TB, f SinkFixture) {
	target := f.Target.(connectors.LaneTarget)
	if target.Class() != connectors.ExactlyOnce || target.Kind() == "" || target.Lanes() < 1 {
		t.Fatalf("class %v, kind %q, %d lanes", target.Class(), target.Kind(), target.Lanes())
	}
	w := f.lanesOf(t, f.Target)
	if l := w.Limits(); l.MaxMessages < 1 || l.MaxMessage < 1 || l.MaxBytes < l.MaxMessage {
		t.Errorf("limits %+v", l)
	}
	for lane := range target.Lanes() {
		(&chain{f: f, lane: lane}).mustStand(t, w)
	}
	mustSee(t, f)
}

func checkChain(t testing.TB, f SinkFixture) {
	w := f.lanesOf(t, f.Target)
	c := &chain{f: f}
	for _, sizes := range [][]int{{3}, {5, 1}, {1}, {2, 2, 2}} {
		for _, k := range c.next(sizes...) {
			c.publish(t, w, k)
			c.mustStand(t, w)
		}
		mustSee(t, f, c)
		c.epoch += 3 // a lane has no block in some epochs
	}
}

func checkStale(t testing.TB, f SinkFixture) {
	w := f.lanesOf(t, f.Target)
	c := &chain{f: f}
	first := c.next(2)[0]
	c.mustConflict(t, w, first, 1)
	c.publish(t, w, first)
	older := c.seq
	c.publish(t, w, c.next(2)[0])
	want, total := c.want, c.total
	stale := c.next(3)[0]
	for _, expect := range []uint64{0, older, c.seq - 1, c.seq + 1, c.seq + 1000, 1 << 62} {
		if expect != c.seq {
			c.mustConflict(t, w, stale, expect)
			c.mustStand(t, w)
		}
	}
	c.want, c.total = want, total
	mustSee(t, f, c)
	c.publish(t, w, c.next(1)[0])
	mustSee(t, f, c)
}

// checkZombie: a writer that was overtaken writes what the other wrote already,
// and then something that nobody claimed.
func checkZombie(t testing.TB, f SinkFixture) {
	old, young := f.lanesOf(t, f.Target), f.lanesOf(t, f.other())
	c := &chain{f: f}
	c.publish(t, old, c.next(2)[0])
	held := c.seq
	ks := c.next(2, 2)
	c.publish(t, young, ks[0])
	c.mustConflict(t, old, ks[0], held)
	c.publish(t, young, ks[1])
	c.mustConflict(t, old, ks[0], held)
	c.mustConflict(t, old, ks[1], c.seq-1)
	rogue := *c
	rogue.total += 1000
	c.mustConflict(t, old, rogue.next(2)[0], held)
	c.mustStand(t, old)
	c.mustStand(t, young)
	mustSee(t, f, c)
}

// checkRace: of many writers with one expectation, one wins.
func checkRace(t testing.TB, f SinkFixture) {
	const writers = 4
	c := &chain{f: f}
	var ws [writers]connectors.LaneWriter
	for i := range ws {
		ws[i] = f.lanesOf(t, f.other())
	}
	for range 5 {
		k := c.next(3)[0]
		var seqs [writers]uint64
		var errs [writers]error
		var wg sync.WaitGroup
		for i, w := range ws {
			wg.Go(func() { seqs[i], errs[i] = w.PublishChunk(f.ctx(t), 0, k.msgs, k.marker, c.seq) })
		}
		wg.Wait()
		won := 0
		expect := c.seq
		for i, err := range errs {
			if err == nil {
				won++
				c.seq, c.last = seqs[i], k.marker
			} else if errors.Is(err, connectors.ErrRejected) {
				t.Fatalf("a write that lost a race was rejected: %v", err)
			}
		}
		if won != 1 || c.seq <= expect {
			t.Fatalf("%d of %d writers won: %v", won, writers, errs)
		}
		c.mustStand(t, ws[0])
		mustSee(t, f, c)
	}
}

// checkAtomic: while a chunk is written, a reader sees all of it or none.
func checkAtomic(t testing.TB, f SinkFixture) {
	w := f.lanesOf(t, f.Target)
	c := &chain{f: f}
	n := min(w.Limits().MaxMessages, 200)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		torn := 0
		for {
			if seen := len(f.Read(t)); seen%n != 0 {
				torn = seen
			}
			select {
			case <-stop:
				done <- torn
				return
			default:
			}
		}
	}()
	for range 8 {
		c.publish(t, w, c.next(n)[0])
	}
	close(stop)
	if torn := <-done; torn != 0 {
		t.Fatalf("a reader saw %d messages; chunks have %d", torn, n)
	}
	mustSee(t, f, c)
}

// checkFull: a chunk may be as large as the limits say.
func checkFull(t testing.TB, f SinkFixture) {
	w := f.lanesOf(t, f.Target)
	c := &chain{f: f}
	c.publish(t, w, c.next(min(w.Limits().MaxMessages, 10_000))[0])
	c.publish(t, w, c.next(1)[0])
	mustSee(t, f, c)
}

func checkLanes(t testing.TB, f SinkFixture) {
	n := min(f.Target.(connectors.LaneTarget).Lanes(), 4)
	w := f.lanesOf(t, f.Target)
	chains := make([]*chain, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for lane := range n {
		c := &chain{f: f, lane: lane}
		chains[lane] = c
		wg.Go(func() {
			for range 5 {
				for _, k := range c.next(2, 3) {
					seq, err := w.PublishChunk(f.ctx(t), lane, k.msgs, k.marker, c.seq)
					if err != nil {
						errs[lane] = err
						return
					}
					c.seq, c.last = seq, k.marker
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, c := range chains {
		c.mustStand(t, w)
	}
	mustSee(t, f, chains...)
	if n > 1 {
		lost := *chains[1]
		chains[1].mustConflict(t, w, lost.next(1)[0], 0)
		chains[0].publish(t, w, chains[0].next(1)[0])
		mustSee(t, f, chains...)
	}
}

func checkUnknown(t testing.TB, f SinkFixture) {
	if f.Break == nil {
		t.Skip("the fixture cannot break a write")
	}
	rng := seeded(t)
	w := f.lanesOf(t, f.Target)
	c := &chain{f: f}
	for range 30 {
		for _, k := range c.next(1+rng.IntN(4), 1+rng.IntN(4)) {
			breaks := rng.IntN(3)
			err := c.resolve(f.ctx(t), w, k, func(n int) (context.Context, context.CancelFunc) {
				if n < breaks {
					f.Break(rng.IntN(2) == 0)
				}
				return f.ctx(t), func() {}
			})
			if err != nil {
				t.Fatalf("epoch %d chunk %d: %v", k.marker.Epoch, k.marker.Chunk, err)
			}
		}
	}
	c.mustStand(t, w)
	mustSee(t, f, c)
}

// checkCutOff: contexts that end at any moment leave an outcome that the marker
// tells.
func checkCutOff(t testing.TB, f SinkFixture) {
	rng := seeded(t)
	w := f.lanesOf(t, f.Target)
	c := &chain{f: f}
	for range 20 {
		k := c.next(1 + rng.IntN(4))[0]
		err := c.resolve(f.ctx(t), w, k, func(n int) (context.Context, context.CancelFunc) {
			if n > 2 {
				return f.ctx(t), func() {}
			}
			return context.WithTimeout(f.ctx(t), time.Duration(rng.IntN(2000))*time.Microsecond)
		})
		if err != nil {
			t.Fatalf("epoch %d: %v", k.marker.Epoch, err)
		}
	}
	c.mustStand(t, w)
	mustSee(t, f, c)
}

func checkReopened(t testing.TB, f SinkFixture) {
	c := &chain{f: f}
	target := f.Target
	for i := range 4 {
		w, err := target.(connectors.LaneTarget).OpenLanes(f.ctx(t), f.env())
		if err != nil {
			t.Fatalf("OpenLanes: %v", err)
		}
		c.gen = base.Generation(i)
		c.mustStand(t, w)
		for _, k := range c.next(2, 1) {
			c.publish(t, w, k)
		}
		if err := w.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		if f.Crash != nil {
			f.Crash()
		}
		target = f.other()
	}
	mustSee(t, f, c)
}

// checkMemory: the caller uses the memory of messages again after the call.
func checkMemory(t testing.TB, f SinkFixture) {
	w := f.lanesOf(t, f.Target)
	c := &chain{f: f}
	for range 3 {
		k := c.next(3)[0]
		c.publish(t, w, k)
		for i := range k.msgs {
			clear(k.msgs[i].Data)
		}
		clear(k.msgs)
	}
	mustSee(t, f, c)
}
