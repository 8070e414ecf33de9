package jetstream

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/weirflow/weir/internal/base"
)

// attachment is one consumer in use. Its fields are guarded by the session's
// queue.mu, except those that never change.
type attachment struct {
	s     *session
	name  string
	inbox string
	sub   *nats.Subscription

	// cseq is the consumer's own count of deliveries: a gap in it means that the
	// connection dropped something.
	cseq uint64
	// open counts the pull requests that stand at the server.
	open int
	// pullBytes limits a request; it grows when a message does not fit.
	pullBytes int
	// misfits counts the requests in a row that a message was too large for.
	misfits int
	alive   bool
	err     error
}

// serve pulls until the session is closed, the connection is lost or something is
// in doubt.
func (s *session) serve(a *attachment, lost <-chan nats.Status) error {
	timer := s.env.Clock.NewTimer(tick)
	defer timer.Stop()
	quiet := 0
	for {
		if err := s.pull(a); err != nil {
			return err
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-lost:
			return nats.ErrDisconnected
		case <-s.kick:
		case <-timer.C():
			timer.Reset(tick)
			if quiet++; a.lives() {
				quiet = 0
			}
			if quiet >= stallTicks {
				return fmt.Errorf("%w: the server is silent", errReset)
			}
			if err := s.tick(); err != nil {
				return err
			}
		}
		if err := s.verifyHeld(); err != nil {
			return err
		}
	}
}

// lives reports whether the server gave a sign of life since the last call, or
// owed none.
func (a *attachment) lives() bool {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	alive := a.alive || a.open == 0
	a.alive = false
	return alive
}

// pull keeps at most two requests at the server as long as the queue is at most
// half full.
func (s *session) pull(a *attachment) error {
	for {
		s.mu.Lock()
		err := a.err
		want := err == nil && a.open < 2 && len(s.items) <= s.bufMsgs/2 && s.bytes <= 2*a.pullBytes
		bytes := a.pullBytes
		if want {
			a.open++
		}
		s.mu.Unlock()
		if !want {
			return err
		}
		req := make([]byte, 0, 128)
		req = append(req, `{"batch":`...)
		req = strconv.AppendInt(req, int64(s.bufMsgs/2), 10)
		req = append(req, `,"max_bytes":`...)
		req = strconv.AppendInt(req, int64(bytes), 10)
		req = append(req, `,"expires":`...)
		req = strconv.AppendInt(req, int64(pullExpires), 10)
		req = append(req, `,"idle_heartbeat":`...)
		req = strconv.AppendInt(req, int64(s.hb), 10)
		req = append(req, '}')
		if err := s.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+s.stream+"."+a.name, a.inbox, req); err != nil {
			return err
		}
	}
}

// receive runs on the subscription's goroutine, for each message in order.
func (a *attachment) receive(m *nats.Msg) {
	s := a.s
	s.mu.Lock()
	var wake, poke bool
	if s.att == a && a.err == nil {
		a.alive = true
		if at, ok := parseReply(m.Reply); ok {
			wake, poke = a.deliverLocked(m, at)
		} else {
			wake = a.statusLocked(m)
			poke = true
		}
	}
	// A message that put nothing may still be the last of a burst.
	wake = wake || s.wakeLocked()
	s.mu.Unlock()
	if wake {
		s.wake()
	}
	if poke {
		s.poke()
	}
}

// deliverLocked puts a message of the stream into the queue.
func (a *attachment) deliverLocked(m *nats.Msg, at delivery) (wake, poke bool) {
	s := a.s
	if at.cseq != a.cseq+1 {
		a.err = fmt.Errorf("%w: delivery %d follows %d", errReset, at.cseq, a.cseq)
		return false, true
	}
	a.cseq = at.cseq
	a.misfits = 0
	s.waiting = int64(at.pending)
	if at.sseq <= s.last {
		return false, false
	}
	it := item{seq: at.sseq, time: at.time, msg: m}
	if s.isMarker(m) {
		it.msg = nil
	}
	held := s.holding
	s.coming = s.hungry && a.burst()
	wake = s.putLocked(it)
	s.coming = false
	s.anchorSeq, s.anchorTime = at.sseq, at.time
	return wake, s.holding && !held
}

// burst reports whether the client holds further messages for this subscription.
// Its count includes the one being delivered.
func (a *attachment) burst() bool {
	n, _, err := a.sub.Pending()
	return err == nil && n > 1
}

// isMarker reports whether a message is a sink's commit marker, which no source
// hands over.
func (s *session) isMarker(m *nats.Msg) bool {
	return m.Header != nil && m.Header[hdrMarker] != nil || strings.HasPrefix(m.Subject, s.markers)
}

// statusLocked handles what the server says about the requests.
func (a *attachment) statusLocked(m *nats.Msg) (wake bool) {
	what := m.Header.Get("Description")
	switch code := m.Header.Get("Status"); {
	case code == "100":
		// Everything up to the last delivery arrived, so the server has looked as
		// far as it says.
		if m.Header.Get("Nats-Last-Consumer") == utoa(a.cseq) {
			if seq, err := strconv.ParseUint(m.Header.Get("Nats-Last-Stream"), 10, 64); err == nil {
				return a.s.sawLocked(seq)
			}
		}
	case code == "404", code == "408", code == "409" && what == "Batch Completed":
		a.open = max(a.open-1, 0)
	case code == "409" && strings.Contains(what, "MaxBytes"):
		a.open = max(a.open-1, 0)
		if a.misfits++; a.misfits == 4 { // not even one message fits
			a.pullBytes, a.misfits = 2*a.pullBytes, 0
		}
	case code == "400":
		a.err = base.Fatal(&base.Error{Code: CodeSource, What: "the server refuses to deliver: " + what, Where: "stream " + a.s.stream,
			Next: "report this with the server's version"})
	default:
		a.err = fmt.Errorf("%w: %s %s", errReset, code, what)
	}
	return false
}

// delivery is what the reply subject of a message says about it.
type delivery struct {
	sseq, cseq, pending uint64
	time                int64
}

// parseReply reads a reply subject in place:
//
//	$JS.ACK.<stream>.<consumer>.<deliveries>.<sseq>.<cseq>.<time>.<pending>
//	$JS.ACK.<domain>.<account>.<stream>.<consumer>.<deliveries>.<sseq>.<cseq>.<time>.<pending>[.<token>…]
func parseReply(s string) (d delivery, ok bool) {
	rest, ok := strings.CutPrefix(s, "$JS.ACK.")
	if !ok {
		return d, false
	}
	skip := 3
	if strings.Count(rest, ".") >= 8 {
		skip = 5
	}
	for range skip {
		_, rest, _ = strings.Cut(rest, ".")
	}
	var n [4]uint64
	for i := range n {
		var field string
		field, rest, _ = strings.Cut(rest, ".")
		v, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return d, false
		}
		n[i] = v
	}
	return delivery{sseq: n[0], cseq: n[1], time: int64(n[2]), pending: n[3]}, true
}
