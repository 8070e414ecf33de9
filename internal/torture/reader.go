package torture

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

type readerArgs struct {
	URL     string
	Streams Streams
	// Log is the path of output.jsonl.
	Log string
}

// readerState is what the reader says about itself, a line every readerTick.
type readerState struct {
	Lines uint64 // messages read
	Echo  uint64 // those of j1
	Seq   uint64 // sequence of the last
}

const readerTick = 100 * time.Millisecond

// reader follows the output stream by plain consumers of its own.
type reader struct {
	args *readerArgs
	nc   *nats.Conn
	js   natsjs.JetStream
	log  *bufio.Writer
	st   readerState
	last []byte // the data of the last message
	told time.Time
	echo string
	// again is set until the first message of a new consumer was compared with
	// the last one of the consumer before.
	again bool
}

// read writes every message of the output stream to the log, in order, until ctx
// ends. Whenever anything goes wrong it starts over with a new consumer at the
// last message that it has, and looks whether that is still the same.
func read(ctx context.Context, a readerArgs) error {
	f, err := os.Create(a.Log)
	if err != nil {
		return err
	}
	defer f.Close()
	r := &reader{args: &a, log: bufio.NewWriter(f), echo: a.Streams.Out + "." + JobEcho}
	if r.nc, err = connect(ctx, a.URL, "reader"); err != nil {
		return err
	}
	defer r.nc.Close()
	if r.js, err = natsjs.New(r.nc); err != nil {
		return err
	}
	for ctx.Err() == nil {
		// A consumer that fails is replaced; the cause is of no interest.
		if err := r.follow(ctx); err != nil {
			_ = sleep(ctx, 20*time.Millisecond)
		}
		if err := r.tell(); err != nil {
			return err
		}
	}
	return r.log.Flush()
}

// follow reads through one consumer for as long as it is in order.
func (r *reader) follow(ctx context.Context) error {
	bound, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conf := natsjs.ConsumerConfig{
		FilterSubject: r.args.Streams.Out + ".*", AckPolicy: natsjs.AckNonePolicy, MemoryStorage: true,
		InactiveThreshold: 10 * time.Second, DeliverPolicy: natsjs.DeliverAllPolicy,
	}
	if r.st.Seq > 0 {
		conf.DeliverPolicy, conf.OptStartSeq = natsjs.DeliverByStartSequencePolicy, r.st.Seq
	}
	cons, err := r.js.CreateConsumer(bound, r.args.Streams.Out, conf)
	if err != nil {
		return err
	}
	lost := r.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer r.nc.RemoveStatusListener(lost)
	r.again = r.st.Seq > 0
	for next := uint64(1); ctx.Err() == nil; {
		batch, err := cons.Fetch(1000, natsjs.FetchMaxWait(readerTick))
		if err != nil {
			return err
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			if meta.Sequence.Consumer != next {
				return fmt.Errorf("the consumer skipped from %d to %d", next, meta.Sequence.Consumer)
			}
			next++
			if err := r.take(meta.Sequence.Stream, m); err != nil {
				return err
			}
		}
		if err := batch.Error(); err != nil {
			return err
		}
		if err := r.tell(); err != nil {
			return err
		}
		select {
		case <-lost:
			return nats.ErrDisconnected
		default:
		}
	}
	return nil
}

// take writes a message to the log.
func (r *reader) take(seq uint64, m natsjs.Msg) error {
	if r.again {
		r.again = false
		switch {
		case seq > r.st.Seq:
			if err := r.write(Line{Seq: r.st.Seq, Event: "vanished"}); err != nil {
				return err
			}
		case !bytes.Equal(m.Data(), r.last):
			return r.write(Line{Seq: seq, Event: "changed"})
		default:
			return nil
		}
	}
	if m.Subject() == r.echo {
		r.st.Echo++
	}
	r.st.Lines++
	r.st.Seq, r.last = seq, m.Data()
	return r.write(Line{Seq: seq, Subject: m.Subject(), Data: m.Data()})
}

func (r *reader) write(l Line) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = r.log.Write(append(b, '\n'))
	return err
}

// tell flushes the log and says how far the reader is, now and then.
func (r *reader) tell() error {
	if time.Since(r.told) < readerTick {
		return nil
	}
	r.told = time.Now()
	if err := r.log.Flush(); err != nil {
		return err
	}
	b, err := json.Marshal(r.st)
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(b))
	return err
}
