package jetstream

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

// reader implements connectors.Reader on a session. Decoding happens here, on the
// owner's goroutine.
type reader[T any] struct {
	session *session // nil when the split was done already
	format  codec.Format[T]
	limit   int // bytes of one record
	until   endAt
	cur     cursor
	release func()

	local []item // taken from the session
	next  int    // index into local
	block []BlockRecord
}

// Poll implements connectors.Reader.
func (r *reader[T]) Poll(dst *connectors.Records[T], most int) (connectors.Poll, error) {
	for used := 0; ; {
		if r.cur.done {
			return connectors.Poll{End: true}, nil
		}
		if r.next == len(r.local) {
			if err := r.fetch(); err != nil {
				return connectors.Poll{}, err
			}
			if len(r.local) == 0 {
				return connectors.Poll{End: r.cur.done}, nil
			}
			continue
		}
		if used >= most {
			return connectors.Poll{More: true}, nil
		}
		used += r.step(dst, most-used)
	}
}

// fetch takes what the session has and learns where the split ends.
func (r *reader[T]) fetch() error {
	clear(r.local)
	local, err := r.session.take(r.local)
	r.local, r.next = local, 0
	if err != nil {
		return err
	}
	if !r.cur.hasEnd {
		r.cur.end, r.cur.hasEnd = r.session.bound()
		r.finish()
	}
	return nil
}

// finish marks the split done when its end is reached.
func (r *reader[T]) finish() { r.cur.done = r.cur.done || r.cur.hasEnd && r.cur.offset >= r.cur.end }

// step handles the next message, or a part of it when it is a block, and returns
// the number of records handed over.
func (r *reader[T]) step(dst *connectors.Records[T], most int) int {
	it := &r.local[r.next]
	if r.past(it) {
		r.cur.done = true
		return 0
	}
	switch {
	case it.msg == nil:
		at := r.cur.at // of a block that is still to come
		r.advance(it)
		r.cur.at = at
		return 0
	case it.msg.Header != nil && it.msg.Header[hdrBlock] != nil:
		return r.stepBlock(dst, it, most)
	}
	r.decode(dst, it, it.seq, it.msg.Data, userHeaders(it.msg.Header))
	r.advance(it)
	return 1
}

// past reports whether the message lies behind the end of the split.
func (r *reader[T]) past(it *item) bool {
	if r.cur.hasEnd && it.seq > r.cur.end {
		return true
	}
	return r.until.kind == untilTime && it.msg != nil && it.time >= r.until.time.UnixNano()
}

// advance moves the cursor behind the message.
func (r *reader[T]) advance(it *item) {
	r.cur.offset, r.cur.at = it.seq, 0
	*it = item{}
	r.next++
	r.finish()
}

// stepBlock hands over at most a number of records of a block message and keeps
// count of them in the cursor.
func (r *reader[T]) stepBlock(dst *connectors.Records[T], it *item, most int) int {
	if r.block == nil {
		block, err := Unblock(it.msg.Data)
		if err == nil && len(block) > maxBlockIndex {
			err = errors.New("the block has more than " + strconv.Itoa(maxBlockIndex) + " records")
		}
		if err != nil {
			err = &base.Error{Code: codec.CodeMalformed, What: "a block message cannot be read", Cause: err}
			dst.Bad = append(dst.Bad, connectors.BadRecord{Pos: it.seq << blockBits, Raw: r.cut(it.msg.Data), Size: len(it.msg.Data), Time: it.time, Err: err})
			r.advance(it)
			return 1
		}
		r.block = block
	}
	n := 0
	for r.cur.at < len(r.block) && n < most {
		rec := &r.block[r.cur.at]
		var h *base.Headers
		if len(rec.Headers) > 0 {
			h = &rec.Headers
		}
		r.decode(dst, it, it.seq<<blockBits|uint64(r.cur.at), rec.Data, h)
		r.cur.at++
		n++
	}
	if r.cur.at >= len(r.block) {
		r.block = nil
		r.advance(it)
	}
	return n
}

// decode appends one record, or one bad record.
func (r *reader[T]) decode(dst *connectors.Records[T], it *item, pos uint64, data []byte, h *base.Headers) {
	if r.limit > 0 && len(data) > r.limit {
		err := &base.Error{Code: codec.CodeLimit, What: "a record of " + strconv.Itoa(len(data)) + " bytes is larger than the limit of " + strconv.Itoa(r.limit)}
		dst.Bad = append(dst.Bad, connectors.BadRecord{Pos: pos, Raw: r.cut(data), Size: len(data), Time: it.time, Headers: h, Err: err})
		return
	}
	// The value is decoded in place: T may be large.
	var zero T
	dst.Append(zero, it.time, pos, h)
	if err := r.format.Decode(data, &dst.Values[len(dst.Values)-1]); err != nil {
		drop(dst)
		dst.Bad = append(dst.Bad, connectors.BadRecord{Pos: pos, Raw: r.cut(data), Time: it.time, Headers: h, Err: err})
	}
}

// drop takes the last record off again.
func drop[T any](dst *connectors.Records[T]) {
	n := len(dst.Values) - 1
	clear(dst.Values[n:])
	dst.Values, dst.Times, dst.Pos = dst.Values[:n], dst.Times[:n], dst.Pos[:n]
	if len(dst.Headers) > n {
		clear(dst.Headers[n:])
		dst.Headers = dst.Headers[:n]
	}
}

// cut copies what a bad record keeps of its data.
func (r *reader[T]) cut(data []byte) []byte {
	if r.limit > 0 && len(data) > r.limit {
		data = data[:r.limit]
	}
	return slices.Clone(data)
}

// Position implements connectors.Reader.
func (r *reader[T]) Position() connectors.Position {
	return r.cur.position(r.until.kind == untilNow)
}

// Lag implements connectors.Reader.
func (r *reader[T]) Lag() int64 {
	if r.session == nil {
		return 0
	}
	n := r.session.lag()
	if n < 0 {
		return n
	}
	return n + int64(len(r.local)-r.next)
}

// Skipped returns how many sequences were missing and passed over by OnGap(Skip).
func (r *reader[T]) Skipped() uint64 {
	if r.session == nil {
		return 0
	}
	return r.session.skipped.Load()
}

// Close implements connectors.Reader.
func (r *reader[T]) Close() error {
	if r.session != nil {
		r.session.close()
	}
	r.release()
	return nil
}

// userHeaders returns the headers that are not the server's or this package's, in
// the order of their names, or nil.
func userHeaders(h nats.Header) *base.Headers {
	n := 0
	for name, values := range h {
		if passes(name) {
			n += len(values)
		}
	}
	if n == 0 {
		return nil
	}
	out := make(base.Headers, 0, n)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if passes(name) {
			for _, v := range h[name] {
				out = append(out, base.Header{Name: name, Value: v})
			}
		}
	}
	return &out
}

func passes(name string) bool {
	return !strings.HasPrefix(name, reservedPrefix) && name != hdrBlock && name != hdrMarker
}
