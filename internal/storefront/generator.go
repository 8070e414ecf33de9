package storefront

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/internal/storefront/script"
)

const (
	clickStream = "CLICKS"
	// maxBatch bounds the events of one batch; the server takes 1000.
	maxBatch = 500
	// batchEvery is the least time from one batch to the next.
	batchEvery = 10 * time.Millisecond
	ackTimeout = 5 * time.Second
	retryWait  = 50 * time.Millisecond
)

// generator publishes the play. Message n of the stream is event n-1, always: each
// batch is conditional on the length of the stream, so that neither a repeated
// batch nor one of a killed predecessor that still arrives can duplicate an event.
type generator struct {
	cfg    childConfig
	nc     *nats.Conn
	js     jetstream.JetStream
	log    *script.Log
	player *script.Player
	stored uint64 // events in the stream
}

// generate publishes until the play ends or ctx is done.
func generate(ctx context.Context, cfg childConfig) error {
	nc, err := nats.Connect(cfg.URL, nats.Name("generator"), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		return err
	}
	defer nc.Close()
	g := &generator{cfg: cfg, nc: nc}
	if g.js, err = jetstream.New(nc); err != nil {
		return err
	}
	if g.log, err = script.OpenLog(logDir(cfg.Dir), cfg.Script, cfg.Session, time.Now().UnixNano()); err != nil {
		return err
	}
	defer g.log.Close()
	if err := g.look(ctx); err != nil {
		return err
	}
	// A log that lost its end with the machine is behind the stream.
	g.player = script.Play(cfg.Script, min(g.stored, g.log.Next()))
	for g.player.Index() < g.stored && !g.log.Ended() {
		if _, err := g.next(g.player.Index()); err != nil {
			return err
		}
	}
	return g.run(ctx)
}

// logDir is where the generator keeps its log.
func logDir(dir string) string { return filepath.Join(dir, "generator") }

// run publishes what is due, again and again.
func (g *generator) run(ctx context.Context) error {
	for ctx.Err() == nil {
		end := g.end()
		if g.stored == end {
			return nil
		}
		began := time.Now()
		n := g.stored
		var batch []script.Event
		for n < end && len(batch) < maxBatch && g.log.Due(n) <= began.UnixNano() {
			e, err := g.next(n)
			if err != nil {
				return err
			}
			batch = append(batch, e)
			n++
		}
		if len(batch) > 0 {
			if err := g.log.Flush(); err != nil {
				return err
			}
			if err := g.send(ctx, batch); err != nil {
				return err
			}
		}
		wait := time.Until(began.Add(batchEvery))
		if g.stored < end {
			wait = max(wait, time.Until(time.Unix(0, g.log.Due(g.stored))))
		}
		sleep(ctx, wait)
	}
	return nil
}

// end is how many events there will be, the closing one included.
func (g *generator) end() uint64 {
	switch {
	case g.log.Ended():
		return g.log.Next()
	case g.cfg.Events > 0:
		return g.log.From() + g.cfg.Events + 1
	}
	return 1 << 62
}

// next returns event i and sees to it that it is in the log.
func (g *generator) next(i uint64) (e script.Event, err error) {
	var plant *script.Plant
	closing := i == g.end()-1
	if closing {
		e = g.cfg.Script.Closing(i)
	} else {
		e, plant = g.player.Next()
	}
	if i < g.log.Next() {
		return e, nil
	}
	err = g.log.Append(e, plant)
	if err == nil && closing {
		err = g.log.End()
	}
	return e, err
}

// look asks how long the stream is.
func (g *generator) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	s, err := g.js.Stream(ctx, clickStream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", clickStream, err)
	}
	g.stored = s.CachedInfo().State.LastSeq
	return nil
}

// send publishes a batch, until it is known to be stored or ctx is done.
func (g *generator) send(ctx context.Context, batch []script.Event) error {
	first := g.stored
	for {
		err := g.publish(batch)
		if err == nil {
			g.stored = first + uint64(len(batch))
			return nil
		}
		// Whether it was stored shows in the length of the stream.
		sleep(ctx, retryWait)
		if lerr := g.look(ctx); lerr != nil {
			if ctx.Err() != nil {
				return nil
			}
			g.stored = first
			continue
		}
		switch g.stored {
		case first + uint64(len(batch)):
			return nil
		case first:
			if ctx.Err() != nil {
				return nil
			}
		default:
			return errors.Join(fmt.Errorf("stream %s has %d messages; %d or %d were expected: somebody else publishes there",
				clickStream, g.stored, first, first+uint64(len(batch))), err)
		}
	}
}

// publish makes one attempt: an atomic batch that is stored whole, provided that
// the stream is as long as it should be.
func (g *generator) publish(batch []script.Event) error {
	id := rand.Text()
	for k := range batch {
		body, err := json.Marshal(&batch[k])
		if err != nil {
			return err
		}
		m := &nats.Msg{Subject: "clicks." + batch[k].User, Data: body, Header: nats.Header{
			"Nats-Batch-Id": {id}, "Nats-Batch-Sequence": {strconv.Itoa(k + 1)},
		}}
		if k == 0 {
			m.Header["Nats-Expected-Last-Sequence"] = []string{strconv.FormatUint(g.stored, 10)}
		}
		if k < len(batch)-1 {
			if err := g.nc.PublishMsg(m); err != nil {
				return err
			}
			continue
		}
		m.Header["Nats-Batch-Commit"] = []string{"1"}
		reply, err := g.nc.RequestMsg(m, ackTimeout)
		if err != nil {
			return err
		}
		return checkAck(reply.Data, len(batch))
	}
	return nil
}

func checkAck(data []byte, n int) error {
	var ack struct {
		Error *jetstream.APIError `json:"error"`
		Count int                 `json:"count"`
	}
	if err := json.Unmarshal(data, &ack); err != nil {
		return fmt.Errorf("unreadable answer to a batch: %w", err)
	}
	if ack.Error != nil {
		return ack.Error
	}
	if ack.Count != n {
		return fmt.Errorf("the server stored %d events of a batch of %d", ack.Count, n)
	}
	return nil
}

// sleep waits for d or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
