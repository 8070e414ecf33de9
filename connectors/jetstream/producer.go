package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
)

// BatchPublisher publishes messages to one stream in atomic batches: on a server
// that syncs every acknowledgement to disk this is the way to reach more than a few
// thousand messages a second. Each batch is stored whole or not at all, and once: a
// batch whose outcome is unknown is sent again under the same Nats-Msg-Id, which
// the server recognises within the stream's duplicate window. It may be used from
// several goroutines.
type BatchPublisher struct {
	nc     *nats.Conn
	stream string

	mu   sync.Mutex
	msgs []outMsg
	// id is set from the first attempt to send msgs on; nothing may be added then.
	id     string
	bytes  int
	stored uint64
	last   uint64
}

type outMsg struct {
	subject string
	data    []byte
	headers base.Headers
}

const (
	// producerBytes is the size in bytes at which a batch is sent.
	producerBytes = 4 << 20
	// producerRetry is the wait before a batch is sent again.
	producerRetry = 100 * time.Millisecond
)

// NewBatchPublisher returns a publisher to a stream that allows atomic batches; see
// Ensure.
func NewBatchPublisher(nc *nats.Conn, stream string) *BatchPublisher {
	return &BatchPublisher{nc: nc, stream: stream}
}

// Add appends a message, which it keeps without copying data, and sends the batch
// when it is full: 1000 messages or 4 MiB. Headers may be nil. ctx bounds the
// sending, see Flush.
func (p *BatchPublisher) Add(ctx context.Context, subject string, data []byte, headers base.Headers) error {
	if err := checkSubject(subject); err != nil {
		return subjectError(p.stream, subject, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.id != "" || p.bytes+len(data) > producerBytes && len(p.msgs) > 0 {
		if err := p.flush(ctx); err != nil {
			return err
		}
	}
	p.msgs = append(p.msgs, outMsg{subject, data, headers})
	p.bytes += len(data)
	if len(p.msgs) < maxBatch {
		return nil
	}
	return p.flush(ctx)
}

// Flush sends what was added and returns when it is stored. It tries again, through
// lost connections and restarts of the server, until ctx is done; what was added
// stays and a later Flush goes on with the same batch. An error with WEIR-0512 says
// that the server refused the batch for good; it is then dropped.
func (p *BatchPublisher) Flush(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flush(ctx)
}

// Stored returns how many messages were stored so far, and the sequence of the last.
func (p *BatchPublisher) Stored() (n, lastSeq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stored, p.last
}

func (p *BatchPublisher) flush(ctx context.Context) error {
	if len(p.msgs) == 0 {
		return nil
	}
	if p.id == "" {
		p.id = rand.Text()
	}
	for {
		seq, err := p.send(ctx)
		switch {
		case err == nil:
			p.last = max(p.last, seq)
			p.stored += uint64(len(p.msgs))
			p.reset()
			return nil
		case errors.Is(err, errDefinite) && !errors.Is(err, errTransient):
			p.reset()
			return &base.Error{Code: CodePublish, What: "the server refuses a batch", Where: "stream " + p.stream, Cause: err,
				Next: "correct the messages or the stream's configuration; nothing of the batch was stored"}
		case p.nc.IsClosed():
			return err
		}
		if serr := clock.Real().Sleep(ctx, producerRetry); serr != nil {
			return fmt.Errorf("stream %s: %w, after: %w", p.stream, serr, err)
		}
	}
}

func (p *BatchPublisher) reset() {
	clear(p.msgs)
	p.msgs, p.bytes, p.id = p.msgs[:0], 0, ""
}

// send makes one attempt. The first message carries the identity of the batch.
func (p *BatchPublisher) send(ctx context.Context) (seq uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	b := newBatch(p.nc, p.stream)
	b.msg.Header[hdrMsgID] = []string{p.id}
	for i := range p.msgs[:len(p.msgs)-1] {
		m := &p.msgs[i]
		if err := b.add(m.subject, m.data, m.headers); err != nil {
			return 0, err
		}
		delete(b.msg.Header, hdrMsgID)
	}
	m := &p.msgs[len(p.msgs)-1]
	seq, err = b.commit(ctx, m.subject, m.data, m.headers, nil)
	if apiCode(err) == errCodeDuplicate {
		return 0, nil // an earlier attempt was stored after all
	}
	return seq, err
}
