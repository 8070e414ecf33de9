package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
)

// press is one record of the backpressure measurement.
type press struct {
	Key uint64
	Pad [80]byte
}

// pressed is its result: the number of records of the key so far.
type pressed struct {
	Key, Count uint64
	Pad        [80]byte
}

// surge is an open-loop source: record i is due when the rate, integrated from the
// start, reaches i, whether or not the job keeps up. It is a log that can be read
// again from any position, without memory.
type surge struct {
	start int64
	keys  uint64
	steps []step
	// end is the number of records; set once the job has caught up.
	end atomic.Uint64
}

// step is a rate, in records per second, that holds for a time; the last one holds
// for ever.
type step struct {
	rate float64
	d    time.Duration
}

const surgeSplits = 2

// due returns how many records are due at a time.
func (s *surge) due(now int64) uint64 {
	var n float64
	left := max(now-s.start, 0)
	for i, st := range s.steps {
		d := left
		if i < len(s.steps)-1 {
			d = min(left, int64(st.d))
		}
		n += st.rate * float64(d) / 1e9
		left -= d
	}
	if end := s.end.Load(); end > 0 {
		return min(uint64(n), end)
	}
	return uint64(n)
}

// key spreads the records over the keys, the same way each time.
func (s *surge) key(i uint64) uint64 {
	hi, _ := bits.Mul64(base.HashUint64(i), s.keys)
	return hi
}

func (s *surge) Kind() string { return "surge" }
func (s *surge) Timeless()    {}

func (s *surge) Splits(context.Context) ([]connectors.Split, error) {
	var out []connectors.Split
	for i := range surgeSplits {
		out = append(out, connectors.Split{ID: fmt.Sprint(i)})
	}
	return out, nil
}

func (s *surge) Open(_ context.Context, sp connectors.Split, after connectors.Position, env connectors.ReaderEnv) (connectors.Reader[press], error) {
	r := &surgeReader{s: s, env: env, next: after.Offset}
	_, err := fmt.Sscan(sp.ID, &r.split)
	return r, err
}

// surgeReader reads every surgeSplits-th record.
type surgeReader struct {
	s           *surge
	env         connectors.ReaderEnv
	split, next uint64
}

func (r *surgeReader) mine(n uint64) uint64 { return (n + surgeSplits - 1 - r.split) / surgeSplits }

func (r *surgeReader) Poll(dst *connectors.Records[press], most int) (connectors.Poll, error) {
	now := r.env.Clock.Now()
	ready := r.mine(r.s.due(now))
	for range min(ready-min(r.next, ready), uint64(most)) {
		i := r.next*surgeSplits + r.split
		r.next++
		dst.Append(press{Key: r.s.key(i)}, 0, r.next, nil)
	}
	if end := r.s.end.Load(); end > 0 && r.next >= r.mine(end) {
		return connectors.Poll{End: true}, nil
	}
	return connectors.Poll{More: r.next < ready, Due: now + int64(time.Millisecond)}, nil
}

func (r *surgeReader) Position() connectors.Position {
	return connectors.Position{Started: true, Offset: r.next}
}

func (r *surgeReader) Lag() int64 {
	ready := r.mine(r.s.due(r.env.Clock.Now()))
	return int64(ready - min(r.next, ready))
}

func (r *surgeReader) Close() error { return nil }

// scale is a target with a given capacity. It keeps one number for each key and
// checks every result against it: a lost, repeated or reordered record, or state that
// went back, is seen at once, and memory stays the same.
type scale struct {
	lanes    int
	capacity float64 // messages per second of all lanes
	slower   atomic.Int64

	mu      sync.Mutex
	counts  []uint32
	wrong   int
	total   uint64
	markers []protocol.Marker
	seqs    []uint64
	seq     uint64
}

func newScale(lanes int, capacity float64, keys uint64) *scale {
	s := &scale{
		lanes: lanes, capacity: capacity, counts: make([]uint32, keys),
		markers: make([]protocol.Marker, lanes), seqs: make([]uint64, lanes),
	}
	s.slower.Store(1)
	return s
}

func (s *scale) sink() connectors.Sink[pressed] {
	return connectors.Sink[pressed]{Target: s, Encode: func(m *connectors.Message, _ *base.Meta, v *pressed) error {
		m.Data = binary.LittleEndian.AppendUint64(m.Data[:0], v.Key)
		m.Data = append(binary.LittleEndian.AppendUint64(m.Data, v.Count), v.Pad[:]...)
		return nil
	}}
}

func (s *scale) Kind() string            { return "scale" }
func (s *scale) Class() connectors.Class { return connectors.ExactlyOnce }
func (s *scale) Lanes() int              { return s.lanes }
func (s *scale) Close() error            { return nil }

func (s *scale) OpenLanes(_ context.Context, env connectors.SinkEnv) (connectors.LaneWriter, error) {
	return &scaleWriter{s, env}, nil
}

type scaleWriter struct {
	*scale
	env connectors.SinkEnv
}

func (w *scaleWriter) Limits() connectors.ChunkLimits {
	return connectors.ChunkLimits{MaxMessages: 999, MaxBytes: 8 << 20, MaxMessage: 1 << 20}
}

func (w *scaleWriter) ReadMarker(_ context.Context, lane int) (protocol.Marker, uint64, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.markers[lane], w.seqs[lane], w.seqs[lane] > 0, nil
}

// PublishChunk takes as long as the capacity says.
func (w *scaleWriter) PublishChunk(ctx context.Context, lane int, msgs []connectors.Message, m protocol.Marker, expect uint64) (uint64, error) {
	perLane := w.capacity / float64(w.lanes) / float64(w.slower.Load())
	if err := w.env.Clock.Sleep(ctx, time.Duration(float64(len(msgs))/perLane*1e9)); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seqs[lane] != expect {
		return 0, connectors.ErrConflict
	}
	for i := range msgs {
		key, count := binary.LittleEndian.Uint64(msgs[i].Data), binary.LittleEndian.Uint64(msgs[i].Data[8:])
		if w.counts[key]++; uint64(w.counts[key]) != count {
			w.wrong++
		}
	}
	w.total += uint64(len(msgs))
	w.seq++
	w.seqs[lane], w.markers[lane] = w.seq, m
	return w.seq, nil
}

// check compares the counts of all keys with those of the first n records.
func (s *scale) check(src *surge, n uint64) error {
	want := make([]uint32, len(s.counts))
	for i := range n {
		want[src.key(i)]++
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	differ := 0
	for k := range want {
		if want[k] != s.counts[k] {
			differ++
		}
	}
	if s.wrong > 0 || differ > 0 || s.total != n {
		return fmt.Errorf("of %d records %d are visible; %d keys have another count; %d results do not continue the one before", n, s.total, differ, s.wrong)
	}
	return nil
}
