package generator

import (
	"slices"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
)

// reader makes the records of one shard.
type reader[T any] struct {
	s        *Source[T]
	clock    clock.Clock
	t0       base.Timestamp // with a rate
	stride   uint64
	next     uint64 // index of the next record
	last     uint64 // position of the last record handed over
	identity string
	truth    *truthFile // nil without Truth
}

// Poll implements connectors.Reader.
func (r *reader[T]) Poll(dst *connectors.Records[T], max int) (connectors.Poll, error) {
	ready := r.ready()
	n := int(min(ready, uint64(max)))
	if n > 0 {
		if r.truth != nil {
			if err := r.truth.cover(r.next + uint64(n-1)*r.stride); err != nil {
				return connectors.Poll{}, err
			}
		}
		r.fill(dst, n)
	}
	switch {
	case r.next >= r.s.count:
		return connectors.Poll{End: true}, nil
	case ready > uint64(n):
		return connectors.Poll{More: true}, nil
	}
	return connectors.Poll{Due: base.AddTime(r.t0, r.s.offset(r.next))}, nil
}

// fill appends the next n records. It writes the columns directly: flat out, the
// cost of a record should be that of the function.
func (r *reader[T]) fill(dst *connectors.Records[T], n int) {
	from := len(dst.Values)
	dst.Values = slices.Grow(dst.Values, n)[:from+n]
	dst.Times = slices.Grow(dst.Times, n)[:from+n]
	dst.Pos = slices.Grow(dst.Pos, n)[:from+n]
	if len(dst.Headers) > 0 {
		dst.Headers = append(dst.Headers, make([]*base.Headers, from+n-len(dst.Headers))...)
	}
	values, times, pos := dst.Values[from:], dst.Times[from:], dst.Pos[from:][:n]
	fn, stride, i := r.s.fn, r.stride, r.next
	for k := range values {
		values[k], pos[k] = fn(i), i+1
		i += stride
	}
	i = r.next
	switch {
	case r.s.at != nil:
		for k := range times {
			times[k] = r.s.at(i).UnixNano()
			i += stride
		}
	case r.s.rate > 0:
		for k := range times {
			times[k] = base.AddTime(r.t0, r.s.offset(i))
			i += stride
		}
	default:
		clear(times)
	}
	r.next += uint64(n) * r.stride
	r.last = pos[n-1]
}

// ready returns how many records of the shard are due and not handed over.
func (r *reader[T]) ready() uint64 {
	limit := r.s.count // first index that is not ready
	if r.s.rate > 0 {
		limit = min(limit, r.due(r.clock.Now()-r.t0))
	}
	if limit <= r.next {
		return 0
	}
	return (limit-r.next-1)/r.stride + 1
}

// due returns how many records, of all shards, are due after the given time
// since t0. The estimate is put right by offset, which alone decides: otherwise
// rounding could make Due promise what ready denies.
func (r *reader[T]) due(since int64) uint64 {
	if since < 0 {
		return 0
	}
	n := uint64(float64(since) * (r.s.rate / 1e9))
	for n > 0 && r.s.offset(n-1) > since {
		n--
	}
	for n < r.s.count && r.s.offset(n) <= since {
		n++
	}
	return n
}

// Position implements connectors.Reader.
func (r *reader[T]) Position() connectors.Position {
	return connectors.Position{Started: true, Offset: r.last, Identity: r.identity, Done: r.next >= r.s.count}
}

// Lag implements connectors.Reader: the records that are due, or without a rate
// those up to the end.
func (r *reader[T]) Lag() int64 {
	if r.s.rate == 0 && r.s.count == endless {
		return -1
	}
	return int64(min(r.ready(), 1<<62))
}

// Close implements connectors.Reader.
func (r *reader[T]) Close() error {
	if r.truth == nil {
		return nil
	}
	return r.truth.close()
}
