package jetstream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

// streamer is one split about to be read.
type streamer struct {
	nc     *nats.Conn
	stream string
	filter string
	o      *sourceOptions
	env    connectors.ReaderEnv

	// Filled by locate.
	info    *natsjs.StreamInfo
	skipped uint64
}

// locate checks the stream against the stored position, or decides where to begin
// when there is none. free says that the first message read may follow any gap:
// nothing before it was ever promised.
func (s *streamer) locate(ctx context.Context, after connectors.Position) (c cursor, free bool, err error) {
	if s.info, err = streamInfo(ctx, s.nc, s.stream); err != nil {
		return c, false, streamError(CodeSource, s.stream, err)
	}
	if p := s.info.Config.Retention; p != natsjs.LimitsPolicy {
		return c, false, base.Fatal(&base.Error{Code: CodeSource, What: "the stream has " + p.String() + " retention, which removes messages once others read them",
			Where: "stream " + s.stream, Next: "use a stream with limits retention"})
	}
	if after.Started {
		c = parseCursor(after)
		if err := checkIdentity(s.stream, c.created, s.info); err != nil {
			return c, false, err
		}
		c.hasEnd = c.hasEnd && s.o.end.kind == untilNow
		c.done = c.done && s.o.end.kind != never
	} else {
		c = cursor{created: identity(s.info)}
		if free, err = s.begin(ctx, &c); err != nil {
			return c, false, err
		}
	}
	s.bound(&c)
	if c.done {
		return c, free, nil
	}
	if err := checkEnd(s.stream, c.offset, s.info); err != nil {
		return c, false, err
	}
	if first := s.info.State.FirstSeq; first > c.offset+1 && !free {
		if s.o.onGap == Fail {
			return c, false, gapError(s.stream, s.filter, c.offset+1, first)
		}
		s.skipped = first - 1 - c.offset
		c.offset, c.at = first-1, 0
	}
	return c, free, nil
}

// begin sets the offset of a split that was never opened.
func (s *streamer) begin(ctx context.Context, c *cursor) (free bool, err error) {
	st := s.info.State
	switch s.o.start.kind {
	case fromLatest:
		c.offset = st.LastSeq
	case fromSequence:
		if c.offset = s.o.start.seq - 1; c.offset > st.LastSeq {
			return false, base.Fatal(&base.Error{Code: CodeSource, Where: "stream " + s.stream,
				What: fmt.Sprintf("the source starts at sequence %d and the stream ends at %d", s.o.start.seq, st.LastSeq), Next: "correct FromSequence"})
		}
	case fromTime:
		c.offset, err = s.offsetAt(ctx)
		return true, err
	default:
		c.offset = max(st.FirstSeq, 1) - 1
		return true, nil
	}
	return false, nil
}

// offsetAt returns the sequence before the first message stored at the start time.
// The server finds it for a consumer, which then tells where it would begin.
func (s *streamer) offsetAt(ctx context.Context) (uint64, error) {
	js, err := natsjs.New(s.nc)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	cfg := consumerConfig("")
	cfg.DeliverPolicy, cfg.OptStartTime = natsjs.DeliverByStartTimePolicy, &s.o.start.time
	con, err := js.CreateConsumer(ctx, s.stream, cfg)
	if err != nil {
		return 0, fmt.Errorf("find the start time in stream %s: %w", s.stream, err)
	}
	info := con.CachedInfo()
	_ = js.DeleteConsumer(ctx, s.stream, info.Name)
	return info.Delivered.Stream, nil
}

// bound sets the end that is known now.
func (s *streamer) bound(c *cursor) {
	switch s.o.end.kind {
	case untilNow:
		if !c.hasEnd {
			c.end, c.hasEnd = s.info.State.LastSeq, true
		}
	case untilSequence:
		c.end, c.hasEnd = s.o.end.seq, true
	}
	c.done = c.done || c.hasEnd && c.offset >= c.end
}

// checkIdentity compares the stream with the one that was read before.
func checkIdentity(stream, created string, info *natsjs.StreamInfo) error {
	if now := identity(info); now != created {
		return base.Fatal(&base.Error{Code: CodeIdentity, Where: "stream " + stream, Cause: connectors.ErrIdentity,
			What: "the stream was created at " + now + "; the stored position belongs to the one created at " + created,
			Next: "restore the old stream, or start the job afresh under another name"})
	}
	return nil
}

// checkEnd fails when the stream ends before what was read of it.
func checkEnd(stream string, offset uint64, info *natsjs.StreamInfo) error {
	if last := info.State.LastSeq; last < offset {
		return base.Fatal(&base.Error{Code: CodeLostEnd, Where: "stream " + stream, Cause: connectors.ErrPositionLost,
			What: fmt.Sprintf("the stream ends at sequence %d and was read up to %d: the server lost messages that it had acknowledged", last, offset),
			Next: "restore the stream from a copy, or start the job afresh under another name"})
	}
	return nil
}

// gapError says that messages from want on are gone.
func gapError(stream, filter string, want, first uint64) error {
	e := &base.Error{Code: CodeGap, Where: "stream " + stream, Cause: connectors.ErrPositionLost,
		What: fmt.Sprintf("the job needs sequence %d and the first message is %d", want, first),
		Next: "raise the stream's limits and start the job afresh, or accept the loss by OnGap(Skip)"}
	if filter != "" {
		e.Where += ", filter " + filter
		e.Next += "; whether the removed messages match the filter cannot be known"
	}
	return base.Fatal(e)
}
