package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirflow/weir/engine/exchange"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators"
)

const exchangeRecords = 4 << 20

// item is what the hand-written exchange carries: the value and what the engine
// keeps beside it that a loop would need too.
type item struct {
	time int64
	hash uint64
	val  rec
}

// exchangeHand is exchangePlain made as fast as it gets: slices go back by another
// channel and are used again, and what the engine keeps beside a value that a loop
// would need too travels with it.
func exchangeHand() (float64, error) {
	const targets, batch, depth = 2, 256, 6
	var wg sync.WaitGroup
	full := make([]chan []item, targets)
	free := make([]chan []item, targets)
	for t := range targets {
		full[t], free[t] = make(chan []item, depth), make(chan []item, depth)
		for range depth {
			free[t] <- make([]item, 0, batch)
		}
		wg.Go(func() {
			var sum uint64
			for b := range full[t] {
				for i := range b {
					sum += b[i].val.B
				}
				free[t] <- b[:0]
			}
			atomic.AddUint64(&sinkSum, sum)
		})
	}
	in := newBatch()
	fill := make([][]item, targets)
	for t := range targets {
		fill[t] = <-free[t]
	}
	start := time.Now()
	for n := 0; n < exchangeRecords; n += len(in.Vals) {
		for i := range in.Vals {
			h := base.HashUint64(in.Vals[i].A)
			t := base.OwnerOf(h, targets)
			fill[t] = append(fill[t], item{in.Metas[i].Time, h, in.Vals[i]})
			if len(fill[t]) == batch {
				full[t] <- fill[t]
				fill[t] = <-free[t]
			}
		}
	}
	for t := range targets {
		full[t] <- fill[t]
		close(full[t])
	}
	wg.Wait()
	return float64(time.Since(start).Nanoseconds()) / exchangeRecords, nil
}

// exchangePlain is what one writes at first: it hashes, appends each record to the
// slice of its target and hands full slices over by channel. Nothing goes back, so
// every slice is a new one.
func exchangePlain() (float64, error) {
	const targets, batch, depth = 2, 256, 6
	var wg sync.WaitGroup
	full := make([]chan []rec, targets)
	fill := make([][]rec, targets)
	for t := range targets {
		full[t], fill[t] = make(chan []rec, depth), make([]rec, 0, batch)
		wg.Go(func() {
			var sum uint64
			for b := range full[t] {
				for i := range b {
					sum += b[i].B
				}
			}
			atomic.AddUint64(&sinkSum, sum)
		})
	}
	in := newBatch()
	start := time.Now()
	for n := 0; n < exchangeRecords; n += len(in.Vals) {
		for i := range in.Vals {
			t := base.OwnerOf(base.HashUint64(in.Vals[i].A), targets)
			fill[t] = append(fill[t], in.Vals[i])
			if len(fill[t]) == batch {
				full[t] <- fill[t]
				fill[t] = make([]rec, 0, batch)
			}
		}
	}
	for t := range targets {
		full[t] <- fill[t]
		close(full[t])
	}
	wg.Wait()
	return float64(time.Since(start).Nanoseconds()) / exchangeRecords, nil
}

// exchangeWeir is KeyBy over the engine's ports and mailboxes to two consumers.
func exchangeWeir() (float64, error) {
	mk, err := operators.NewBatch[rec]()
	if err != nil {
		return 0, err
	}
	var wg sync.WaitGroup
	var ports []operators.Port
	var blocked atomic.Int64
	for range 2 {
		box := exchange.NewMailbox()
		p := exchange.NewPort(exchange.PortOptions{To: box, Make: mk, Clock: clock.Real(), Blocked: &blocked})
		p.SetCredit(6)
		ports = append(ports, p)
		wg.Go(func() { consume(box) })
	}
	s := subtask(ports)
	operators.Head(s, operators.KeyBy(s, "by", 0, func(r rec) uint64 { return r.A }, base.HashUint64))
	in := newBatch()
	start := time.Now()
	for n := 0; n < exchangeRecords; n += len(in.Vals) {
		if err := s.Process(0, in); err != nil {
			return 0, err
		}
	}
	s.Flush(true)
	for _, p := range ports {
		p.End()
	}
	wg.Wait()
	return float64(time.Since(start).Nanoseconds()) / exchangeRecords, nil
}

// consume sums what arrives in a mailbox, until the end.
func consume(box *exchange.Mailbox) {
	var sum uint64
	c := subtask()
	// Keyed operators take whole batches, as the hand-written consumer does.
	operators.Head(c, operators.Consumer[rec]{
		One: func(_ *base.Meta, r *rec) { sum += r.B },
		Batch: func(_ []base.Meta, rs []rec) {
			for i := range rs {
				sum += rs[i].B
			}
		},
	})
	for {
		m, ok := box.Take()
		if !ok {
			box.SetWaiting(true)
			<-box.C()
			box.SetWaiting(false)
			continue
		}
		if m.Kind == exchange.End {
			atomic.AddUint64(&sinkSum, sum)
			return
		}
		_ = c.Process(0, m.Batch)
		m.Release()
	}
}

func exchangeBench() bench {
	return bench{
		name: "exchange: keyed, to two targets, 64-byte record", unit: "ns/record",
		arms: []arm{
			{"weir", exchangeWeir},
			{"hand-written loop over channels", exchangePlain},
			{"the same, slices used again, time and hash", exchangeHand},
		},
		bars: []bar{
			{text: "times the loop ≤ 1.5", value: func(m []float64) float64 { return m[0] / m[1] }, max: 1.5},
			{text: "times the loop that uses slices again", value: func(m []float64) float64 { return m[0] / m[2] }},
		},
	}
}
