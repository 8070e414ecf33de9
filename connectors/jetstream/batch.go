package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/internal/base"
)

// Headers of the server that this package sets.
const (
	hdrBatchID     = "Nats-Batch-Id"
	hdrBatchSeq    = "Nats-Batch-Sequence"
	hdrBatchCommit = "Nats-Batch-Commit"
	hdrExpectLast  = "Nats-Expected-Last-Subject-Sequence"
	hdrExpectName  = "Nats-Expected-Stream"
	hdrTTL         = "Nats-TTL"
	hdrRollup      = "Nats-Rollup"
	hdrMsgID       = "Nats-Msg-Id"
	// reservedPrefix begins the headers that have a meaning to the server. They
	// never pass through a job.
	reservedPrefix = "Nats-"
)

// maxBatch is the number of messages that every server takes in one batch, commit
// message included.
const maxBatch = 1000

// headerReserve is the room that the headers of a batch need beside the record's
// own: the batch id (26), sequence, expected stream (up to 255), and their names.
const headerReserve = 512

// errDefinite marks an error after which the server has stored nothing of a batch.
var errDefinite = errors.New("nothing was stored")

// errTransient marks a definite error that may be gone on the next try.
var errTransient = errors.New("the server is busy")

// batch is an atomic batch on its way to one stream. All messages are sent at
// once; only the last is answered. It is owned by one goroutine.
type batch struct {
	nc     *nats.Conn
	stream string
	n      int
	msg    nats.Msg
	// One header map and its value slices serve all messages: the client writes
	// them out before Publish returns.
	id, seq []string
}

func newBatch(nc *nats.Conn, stream string) *batch {
	b := &batch{nc: nc, stream: stream, id: []string{rand.Text()}, seq: []string{""}}
	b.msg.Header = nats.Header{hdrBatchID: b.id, hdrBatchSeq: b.seq}
	return b
}

// fill makes msg the next message of the batch and returns a function that takes
// the headers out again.
func (b *batch) fill(subject string, data []byte, headers base.Headers) (undo func()) {
	b.n++
	b.seq[0] = strconv.Itoa(b.n)
	b.msg.Subject, b.msg.Data = subject, data
	if len(headers) == 0 {
		return func() {}
	}
	addHeaders(b.msg.Header, headers)
	return func() {
		for i := range headers {
			if !strings.HasPrefix(headers[i].Name, reservedPrefix) {
				delete(b.msg.Header, headers[i].Name)
			}
		}
	}
}

// add sends a message of the batch.
func (b *batch) add(subject string, data []byte, headers base.Headers) error {
	undo := b.fill(subject, data, headers)
	err := b.nc.PublishMsg(&b.msg)
	undo()
	return definiteUnlessSent(err)
}

// batchAck is the server's answer to a commit.
type batchAck struct {
	Error  *natsjs.APIError `json:"error"`
	Stream string           `json:"stream"`
	Seq    uint64           `json:"seq"`
	Batch  string           `json:"batch"`
	Count  int              `json:"count"`
}

// commit sends the last message with the given extra headers of the server, waits
// for the answer and returns the sequence of that message. An error that wraps
// errDefinite says that nothing was stored; any other leaves that open.
func (b *batch) commit(ctx context.Context, subject string, data []byte, headers base.Headers, server nats.Header) (uint64, error) {
	b.fill(subject, data, headers)
	b.msg.Header[hdrBatchCommit] = []string{"1"}
	b.msg.Header[hdrExpectName] = []string{b.stream}
	for k, v := range server {
		b.msg.Header[k] = v
	}
	reply, err := request(ctx, b.nc, &b.msg)
	if err != nil {
		return 0, definiteUnlessSent(err)
	}
	var ack batchAck
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return 0, fmt.Errorf("unreadable answer to a batch: %w", err)
	}
	if ack.Error != nil {
		return 0, classify(ack.Error)
	}
	if ack.Batch != b.id[0] || ack.Count != b.n || ack.Seq == 0 {
		return 0, fmt.Errorf("the answer to batch %s of %d messages is for batch %q of %d", b.id[0], b.n, ack.Batch, ack.Count)
	}
	return ack.Seq, nil
}

// request is nc.RequestMsg that also gives up as soon as the connection is lost:
// the answer, if there ever was one, went with it.
func request(ctx context.Context, nc *nats.Conn, msg *nats.Msg) (*nats.Msg, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lost := nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer nc.RemoveStatusListener(lost)
	if nc.Status() != nats.CONNECTED {
		return nil, errors.Join(nats.ErrDisconnected, errDefinite, errTransient)
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-lost:
			cancel(nats.ErrDisconnected)
		case <-done:
		}
	}()
	reply, err := nc.RequestMsgWithContext(ctx, msg)
	if errors.Is(err, context.Canceled) && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	return reply, err
}

// definiteUnlessSent classifies an error of the client. A message that was never
// sent leaves its batch incomplete.
func definiteUnlessSent(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrBadHeaderMsg),
		errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrInvalidConnection):
		return errors.Join(err, errDefinite)
	case errors.Is(err, nats.ErrReconnectBufExceeded),
		errors.Is(err, nats.ErrNoResponders): // no stream took it, as while a server starts
		return errors.Join(err, errDefinite, errTransient)
	}
	return err
}

// classify says of an answer whether it is definite. Codes not listed here count
// as unknown outcomes: some come from a store that failed half way.
func classify(e *natsjs.APIError) error {
	switch e.ErrorCode {
	case errCodeWrongLast:
		return errors.Join(e, errDefinite)
	case errCodeWrongLastConst, errCodeIncompleteBatch, errCodeTooManyInflight:
		return errors.Join(e, errDefinite, errTransient)
	case errCodeDuplicate:
		return errors.Join(e, errDefinite)
	case 10047, // account limits exceeded
		10054, // message too large
		10060, // expected stream does not match
		10097, // header too large
		10109, // stream sealed
		10111, // rollup not permitted
		10165, // invalid TTL
		10166, // TTL disabled
		10169, // a counter stream
		10174, // atomic batches disabled
		10175, // batch sequence missing
		10177, // header not supported in batches
		10179, // invalid batch id
		10193, // expected sequence invalid
		10199, // batch too large
		10200: // invalid commit
		return errors.Join(e, errDefinite)
	case 10077:
		// Also the code of limits with "discard new", which are checked first.
		if strings.Contains(e.Description, "maximum ") {
			return errors.Join(e, errDefinite)
		}
	}
	return e
}

// addHeaders puts a record's headers into a message's, without those that mean
// something to the server.
func addHeaders(h nats.Header, headers base.Headers) {
	for i := range headers {
		if !strings.HasPrefix(headers[i].Name, reservedPrefix) {
			h[headers[i].Name] = append(h[headers[i].Name], headers[i].Value)
		}
	}
}
