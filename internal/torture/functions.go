package torture

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/state"
)

// link is the state of a hash chain.
type link struct {
	N    uint64
	Hash sum
}

// chain numbers the results of a key and links each to the one before.
type chain struct{ last *state.Value[link] }

func (c *chain) declare(d *weir.Declarer) { c.last = weir.ValueState[link](d, "chain") }

// seal completes a result and makes it the last one.
func (c *chain) seal(o Output) Output {
	l, _ := c.last.Get()
	o.N, o.Prev = l.N+1, l.Hash.String()
	h := chainHash(&o)
	o.Hash = h.String()
	c.last.Set(link{o.N, h})
	return o
}

// Totals is the state of j2: what is read back from the last checkpoint and
// compared with the input.
type Totals struct {
	Count uint64
	Sum   int64
}

// latestEvery is how many ids j2 gathers in its list.
const latestEvery = 8

// counter is j2.
type counter struct {
	weir.NoTimers[string, Output]
	chain  chain
	totals *state.Value[Totals]
	latest *state.List[uint64]
	attic  *state.Value[kept]
}

// kept is the latest large record of a key. It makes the state large.
type kept struct {
	ID   uint64
	Fill string
}

// Names of the state of j2 that is read back.
const totalsState = "totals"

// Declare declares the state.
func (f *counter) Declare(d *weir.Declarer) {
	f.chain.declare(d)
	f.totals = weir.ValueState[Totals](d, totalsState)
	f.latest = weir.ListState[uint64](d, "latest")
	f.attic = weir.ValueState[kept](d, "attic")
}

// OnRecord counts a record.
func (f *counter) OnRecord(c *weir.Context[string, Output], r Record) error {
	t, _ := f.totals.Get()
	t.Count++
	t.Sum += r.Value
	f.totals.Set(t)
	o := Output{Job: JobCount, Key: c.Key(), ID: r.ID, Count: t.Count, Sum: t.Sum}
	f.latest.Append(r.ID)
	if f.latest.Len() == latestEvery {
		for id := range f.latest.All() {
			o.Latest = append(o.Latest, id)
		}
		f.latest.Clear()
	}
	if k, ok := f.attic.Get(); ok {
		if k.Fill != fill(k.ID, len(k.Fill)) || len(k.Fill) < bigPad {
			return fmt.Errorf("the state of key %s holds %d bytes for record %d that are not its own", c.Key(), len(k.Fill), k.ID)
		}
		o.Last = k.ID
	}
	if r.Pad >= bigPad {
		f.attic.Set(kept{r.ID, r.Fill})
	}
	c.Emit(f.chain.seal(o))
	return nil
}

// guesser is j7: it answers each record with a random number and the time, and
// some of them again a while later.
type guesser struct {
	chain chain
	ticks *state.Map[int64, uint64]
}

// tickAfter is the least time after which a timer of j7 fires; it takes up to
// twice as long.
const tickAfter = 100 * time.Millisecond

// Declare declares the state.
func (f *guesser) Declare(d *weir.Declarer) {
	f.chain.declare(d)
	f.ticks = weir.MapState[int64, uint64](d, "ticks")
}

// OnRecord answers a record and sets a timer for every fourth.
func (f *guesser) OnRecord(c *weir.Context[string, Output], r Record) error {
	now := c.ProcessingTime()
	o := Output{Job: JobNonce, Key: c.Key(), ID: r.ID, Nonce: rand.Uint64(), Now: now.UnixNano()}
	if r.ID%4 == 0 {
		at := now.Add(tickAfter + rand.N(tickAfter))
		o.Tick = at.UnixNano()
		f.ticks.Put(o.Tick, r.ID)
		c.RegisterProcessingTimer(at)
	}
	c.Emit(f.chain.seal(o))
	return nil
}

// OnTimer tells that a timer has fired. The entry of the map says for which
// record; a timer without one shows as an answer to record 0.
func (f *guesser) OnTimer(c *weir.Context[string, Output], t weir.Timer) error {
	at := t.Time.UnixNano()
	id, _ := f.ticks.Get(at)
	f.ticks.Delete(at)
	c.Emit(f.chain.seal(Output{Job: JobNonce, Key: c.Key(), Count: id, Nonce: rand.Uint64(), Now: c.ProcessingTime().UnixNano(), Tick: at}))
	return nil
}

// timekeeper is j8: it counts normal records by buckets of event time, which
// timers close, and remembers visits for a while.
type timekeeper struct {
	chain   chain
	buckets *state.Map[int64, Totals]
	visit   *state.Value[uint64]
}

// Declare declares the state.
func (f *timekeeper) Declare(d *weir.Declarer) {
	f.chain.declare(d)
	f.buckets = weir.MapState[int64, Totals](d, "buckets")
	f.visit = weir.ValueState[uint64](d, "visit", state.TTL(LifeTime))
}

// OnRecord takes a record into its bucket, or notes a visit.
func (f *timekeeper) OnRecord(c *weir.Context[string, Output], r Record) error {
	switch r.Class {
	case Visit:
		seen, _ := f.visit.Get()
		f.visit.Set(r.ID)
		c.Emit(f.chain.seal(Output{Job: JobTimers, Key: c.Key(), ID: r.ID, Seen: seen}))
	case Normal:
		end := bucketEnd(r.At)
		b, open := f.buckets.Get(end)
		b.Count++
		b.Sum += r.Value
		f.buckets.Put(end, b)
		if !open {
			c.RegisterEventTimer(time.UnixMilli(end))
		}
	}
	return nil
}

// OnTimer closes a bucket.
func (f *timekeeper) OnTimer(c *weir.Context[string, Output], t weir.Timer) error {
	end := t.Time.UnixMilli()
	b, _ := f.buckets.Get(end)
	f.buckets.Delete(end)
	c.Emit(f.chain.seal(Output{
		Job: JobTimers, Key: c.Key(), Count: b.Count, Sum: b.Sum, Start: end - BucketSize.Milliseconds(), End: end,
	}))
	return nil
}

func bucketEnd(at int64) int64 {
	size := BucketSize.Milliseconds()
	return at - at%size + size
}
