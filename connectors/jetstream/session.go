package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

const (
	// defaultBuffer is the number of messages that a reader fetches ahead.
	defaultBuffer = 4096
	// minPullBytes is the least that one pull request may bring, in bytes.
	minPullBytes = 2 << 20
	// pullExpires is how long a pull request stands at the server.
	pullExpires = 30 * time.Second
	// heartbeat is how often the server says that an idle consumer lives, and how
	// far it has looked; boundedHeartbeat for sources that wait for their end.
	heartbeat        = 2 * time.Second
	boundedHeartbeat = 100 * time.Millisecond
	// tick is how often a session looks after itself.
	tick = time.Second
	// stallTicks without a sign of life make a session start over.
	stallTicks = 5
	// consumerIdle is how long the server keeps a consumer that nobody pulls.
	consumerIdle = time.Minute
	// minBackoff and maxBackoff bound the wait before a session starts over.
	minBackoff = 20 * time.Millisecond
	maxBackoff = 2 * time.Second
	// failedTries is how many attempts in a row may fail on a server that is
	// connected, and may still be recovering, before the reader gives up.
	failedTries = 20
)

// errReset makes a session start over at its own position.
var errReset = errors.New("the consumer must be made anew")

// session reads one split into its queue. A goroutine keeps a consumer alive that
// starts behind the last message of the queue; whenever anything is in doubt it
// makes a new one.
type session struct {
	queue
	nc      *nats.Conn
	stream  string
	filter  string
	created string
	markers string // begins the default subjects of commit markers
	onGap   GapPolicy
	until   endAt
	env     connectors.ReaderEnv

	bufMsgs, pullBytes int
	hb                 time.Duration
	skipped            atomic.Uint64
	watch              edge
	// checked is the time of the last check of held records, by clock.Mono; only
	// the goroutine uses it.
	checked int64

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	// kick asks the goroutine to look whether it should pull or check.
	kick chan struct{}
	// att is the consumer in use; guarded by queue.mu.
	att *attachment
}

// start begins to read behind the cursor.
func (s *streamer) start(c cursor, free bool) *session {
	ctx, cancel := context.WithCancel(context.Background())
	ses := &session{
		nc: s.nc, stream: s.stream, filter: s.filter, created: c.created, markers: strings.TrimSuffix(markerSpace(s.stream, ""), ">"), onGap: s.o.onGap, until: s.o.end, env: s.env,
		bufMsgs: s.o.bufMsgs, pullBytes: max(minPullBytes, int(s.nc.MaxPayload())+(64<<10)), hb: heartbeat,
		ctx: ctx, cancel: cancel, done: make(chan struct{}), kick: make(chan struct{}, 1),
	}
	if s.o.end.kind != never {
		ses.hb = boundedHeartbeat
	}
	ses.skipped.Store(s.skipped)
	ses.wake = s.env.Wake
	ses.last, ses.lastTime, ses.anyFirst = c.offset, s.env.Clock.Now(), free
	if c.offset > 0 {
		// The age of the stored position is not known; a jump behind it counts as
		// risky where age matters at all.
		ses.lastTime = 0
	}
	ses.end, ses.hasEnd = c.end, c.hasEnd
	ses.waiting = -1
	ses.watch.learn(s.info)
	ses.risky = func(pred uint64, stored int64) bool { return ses.watch.risky(pred, stored, ses.env.Clock.Now) }
	go ses.run()
	return ses
}

// close ends the goroutine and returns when it has ended.
func (s *session) close() {
	s.cancel()
	<-s.done
}

func (s *session) poke() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// take is queue.take and asks for more.
func (s *session) take(dst []item) ([]item, error) {
	out, err := s.queue.take(dst)
	if len(out) > 0 {
		s.poke()
	}
	return out, err
}

// run keeps a consumer until the session is closed or must fail.
func (s *session) run() {
	defer close(s.done)
	failed := 0
	for try := 0; s.ctx.Err() == nil; try++ {
		progress := s.lastSeq()
		err := s.attempt()
		if s.ctx.Err() != nil {
			return
		}
		switch {
		case s.lastSeq() != progress:
			try, failed = 0, 0
		case errors.Is(err, errReset), s.nc.Status() != nats.CONNECTED:
			failed = 0
		default:
			failed++
		}
		if errors.Is(err, base.ErrFatal) || s.nc.IsClosed() || failed > failedTries {
			s.fail(streamError(CodeSource, s.stream, err))
			return
		}
		s.pause(min(minBackoff<<min(try, 10), maxBackoff))
	}
}

// pause waits before the next attempt: for a time, or without a connection until
// there is one.
func (s *session) pause(d time.Duration) {
	up := s.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer s.nc.RemoveStatusListener(up)
	if s.nc.Status() != nats.CONNECTED {
		d = maxBackoff
	}
	timer := s.env.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-up:
	case <-timer.C():
	case <-s.ctx.Done():
	}
}

func (s *session) lastSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// attempt makes a consumer and serves it until something is in doubt.
func (s *session) attempt() error {
	lost := s.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer s.nc.RemoveStatusListener(lost)
	if s.nc.Status() != nats.CONNECTED {
		return nats.ErrDisconnected
	}
	info, err := s.check()
	if err != nil {
		return err
	}
	a, err := s.attach(info)
	if err != nil {
		return err
	}
	defer s.detach(a)
	return s.serve(a, lost)
}

// check asks whether the stream is still the one that was read so far.
func (s *session) check() (*natsjs.StreamInfo, error) {
	info, err := streamInfo(s.ctx, s.nc, s.stream)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	last, seq, stored, anyFirst := s.last, s.anchorSeq, s.anchorTime, s.anyFirst
	s.mu.Unlock()
	s.watch.learn(info)
	if err := checkIdentity(s.stream, s.created, info); err != nil {
		return nil, err
	}
	if err := checkEnd(s.stream, last, info); err != nil {
		return nil, err
	}
	if seq > 0 {
		if err := s.checkAnchor(seq, stored); err != nil {
			return nil, err
		}
	}
	if first := info.State.FirstSeq; first > last+1 && !anyFirst {
		if err := s.gap(last, first); err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.anyFirst = true // counted already
		wake := s.sawLocked(first - 1)
		s.mu.Unlock()
		if wake {
			s.wake()
		}
	}
	return info, nil
}

// checkAnchor compares the last message read with what the stream holds there: a
// server that lost its end and took new messages since shows it only so.
func (s *session) checkAnchor(seq uint64, stored int64) error {
	m, err := msgAt(s.ctx, s.nc, s.stream, seq)
	if err != nil || m == nil { // removed since: nothing to compare
		return err
	}
	if m.Time.UnixNano() != stored {
		return base.Fatal(&base.Error{Code: CodeLostEnd, Where: "stream " + s.stream, Cause: connectors.ErrPositionLost,
			What: fmt.Sprintf("the message with sequence %d is not the one that was read: the server lost messages that it had acknowledged", seq),
			Next: "restore the stream from a copy, or start the job afresh under another name"})
	}
	return nil
}

// gap handles that messages after pred are gone, up to the one before first.
func (s *session) gap(pred, first uint64) error {
	if s.onGap == Fail {
		return gapError(s.stream, s.filter, pred+1, first)
	}
	s.skipped.Add(first - 1 - pred)
	return nil
}

// consumerConfig is what all consumers here have in common: no acknowledgements,
// nothing on disk, gone by themselves.
func consumerConfig(filter string) natsjs.ConsumerConfig {
	return natsjs.ConsumerConfig{
		Name: "weir-" + rand.Text(), AckPolicy: natsjs.AckNonePolicy, FilterSubject: filter,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerIdle,
	}
}

// attach makes a consumer that starts behind the last message.
func (s *session) attach(info *natsjs.StreamInfo) (*attachment, error) {
	js, err := natsjs.New(s.nc)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, apiTimeout)
	defer cancel()
	cfg := consumerConfig(s.filter)
	cfg.DeliverPolicy, cfg.OptStartSeq = natsjs.DeliverByStartSequencePolicy, s.lastSeq()+1
	con, err := js.CreateConsumer(ctx, s.stream, cfg)
	if err != nil {
		return nil, s.consumerError(err)
	}
	a := &attachment{s: s, name: con.CachedInfo().Name, inbox: nats.NewInbox(), pullBytes: s.pullBytes}
	if a.sub, err = s.nc.Subscribe(a.inbox, a.receive); err != nil {
		return nil, err
	}
	_ = a.sub.SetPendingLimits(-1, -1) // the pull requests bound it
	s.mu.Lock()
	s.att = a
	s.waiting = int64(con.CachedInfo().NumPending)
	wake := s.waiting == 0 && s.sawLocked(info.State.LastSeq)
	s.mu.Unlock()
	if wake {
		s.wake()
	}
	return a, nil
}

// consumerError tells mistakes of the configuration from passing troubles.
func (s *session) consumerError(err error) error {
	e, ok := errors.AsType[*natsjs.APIError](err)
	if !ok || e.Code != 400 || e.ErrorCode == errCodeMaxConsumers {
		return err
	}
	return base.Fatal(&base.Error{Code: CodeFilter, What: "the server refuses to read the stream", Where: "stream " + s.stream + ", filter " + quote(s.filter), Cause: err,
		Next: "correct the filter"})
}

// detach stops a consumer without waiting for the server.
func (s *session) detach(a *attachment) {
	s.mu.Lock()
	s.att = nil
	s.mu.Unlock()
	_ = a.sub.Unsubscribe()
	if s.nc.Status() == nats.CONNECTED {
		_ = s.nc.Publish("$JS.API.CONSUMER.DELETE."+s.stream+"."+a.name, nil)
	}
}

// sawLocked notes that nothing up to seq is left to deliver; the caller holds mu.
func (s *session) sawLocked(seq uint64) (wake bool) {
	if seq <= s.last {
		return false
	}
	return s.putLocked(item{seq: seq, time: s.env.Clock.Now()})
}
