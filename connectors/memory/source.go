// Package memory holds sources and sinks that live in the memory of the process:
// the backbone of tests. Their objects outlive the runs of a job, so a test can
// crash a job and start it again on the same source and sink. They keep the whole
// contract: replay from any position, lost and re-created splits, lanes with a
// real compare-and-set on the marker, unknown outcomes.
//
// Nothing here is durable, and a source never forgets a record by itself.
package memory

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

// Record is one entry of a split.
type Record[T any] struct {
	Value T
	// Time is the source's timestamp in nanoseconds, 0 for none.
	Time base.Timestamp
	// Headers travel with the record; may be nil.
	Headers *base.Headers
	// Bad, when set, makes the entry a record that could not be decoded, for
	// this reason; Raw is what was read.
	Bad error
	Raw []byte
}

// Source is a log of records in one or more splits. The position of a record is
// its index in the split, counted from 1. All methods are safe for concurrent
// use.
type Source[T any] struct {
	mu       sync.Mutex
	splits   map[string]*splitLog[T]
	finished bool
}

// splitLog is guarded by the mutex of its source.
type splitLog[T any] struct {
	records []Record[T] // records[i] has position base+i+1
	base    uint64      // positions up to base are trimmed away
	marks   []mark
	// incarnation tells a split from its namesake before Recreate.
	incarnation int
	readers     map[*reader[T]]struct{}
}

// mark is a watermark that stands behind the record at a position.
type mark struct {
	after     uint64
	watermark base.Timestamp
}

func (l *splitLog[T]) end() uint64 { return l.base + uint64(len(l.records)) }

func (l *splitLog[T]) identity() string { return strconv.Itoa(l.incarnation) }

// NewSource returns an empty source with the given splits, or with one split,
// "0", when none is given. It has no end until Finish is called.
func NewSource[T any](splits ...string) *Source[T] {
	s := &Source[T]{splits: map[string]*splitLog[T]{}}
	if len(splits) == 0 {
		splits = []string{"0"}
	}
	for _, id := range splits {
		s.split(id)
	}
	return s
}

// split returns the log of that name and adds it first where it is missing. The
// caller holds mu, or is the only one who knows s.
func (s *Source[T]) split(id string) *splitLog[T] {
	l := s.splits[id]
	if l == nil {
		l = &splitLog[T]{readers: map[*reader[T]]struct{}{}}
		s.splits[id] = l
	}
	return l
}

// Append adds a record to a split. A split that does not exist yet is added; a
// running job sees it when it lists the splits again.
func (s *Source[T]) Append(split string, at base.Timestamp, v T) {
	s.AppendRecords(split, Record[T]{Value: v, Time: at})
}

// AppendRecords adds records to a split as one step: a reader sees all or none.
func (s *Source[T]) AppendRecords(split string, records ...Record[T]) {
	s.change(split, func(l *splitLog[T]) { l.records = append(l.records, records...) })
}

// Mark adds a watermark behind the present records of a split: no record with an
// event time before w follows. Only a job that lets the source say the watermark
// takes notice.
func (s *Source[T]) Mark(split string, w base.Timestamp) {
	s.change(split, func(l *splitLog[T]) { l.marks = append(l.marks, mark{l.end(), w}) })
}

// Finish ends every split after its present records. Records appended later
// belong to nobody.
func (s *Source[T]) Finish() {
	s.mu.Lock()
	s.finished = true
	var wake []func()
	for _, l := range s.splits {
		wake = l.wakes(wake)
	}
	s.mu.Unlock()
	for _, f := range wake {
		f()
	}
}

// Trim forgets the records of a split up to position upTo, as a retention limit
// does.
func (s *Source[T]) Trim(split string, upTo uint64) {
	s.change(split, func(l *splitLog[T]) {
		n := min(upTo, l.end())
		if n > l.base {
			l.records = slices.Clone(l.records[n-l.base:])
			l.base = n
		}
	})
}

// Truncate forgets the records of a split after position from, as a broker does
// that lost the end of its log.
func (s *Source[T]) Truncate(split string, from uint64) {
	s.change(split, func(l *splitLog[T]) {
		if from < l.end() {
			l.records = slices.Clone(l.records[:max(from, l.base)-l.base])
			l.marks = slices.DeleteFunc(l.marks, func(m mark) bool { return m.after > l.end() })
		}
	})
}

// Recreate deletes a split and creates an empty one of the same name.
func (s *Source[T]) Recreate(split string) {
	s.change(split, func(l *splitLog[T]) {
		l.records, l.marks, l.base = nil, nil, 0
		l.incarnation++
	})
}

// Len returns the position of the last record of a split; 0 when it is empty.
func (s *Source[T]) Len(split string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.splits[split]; l != nil {
		return l.end()
	}
	return 0
}

// change changes a split and wakes its readers. They are woken outside the lock,
// because Wake may lead back here.
func (s *Source[T]) change(split string, f func(*splitLog[T])) {
	s.mu.Lock()
	l := s.split(split)
	f(l)
	wake := l.wakes(nil)
	s.mu.Unlock()
	for _, w := range wake {
		w()
	}
}

func (l *splitLog[T]) wakes(dst []func()) []func() {
	for r := range l.readers {
		if r.wake != nil {
			dst = append(dst, r.wake)
		}
	}
	return dst
}

// Kind implements connectors.Source.
func (s *Source[T]) Kind() string { return "memory" }

// Timeless implements connectors.Timeless.
func (s *Source[T]) Timeless() {}

// Splits implements connectors.Source.
func (s *Source[T]) Splits(context.Context) ([]connectors.Split, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	splits := make([]connectors.Split, 0, len(s.splits))
	for id, l := range s.splits {
		splits = append(splits, connectors.Split{ID: id, Identity: l.identity()})
	}
	slices.SortFunc(splits, func(a, b connectors.Split) int { return strings.Compare(a.ID, b.ID) })
	return splits, nil
}

// Open implements connectors.Source.
func (s *Source[T]) Open(_ context.Context, split connectors.Split, after connectors.Position, env connectors.ReaderEnv) (connectors.Reader[T], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.splits[split.ID]
	if l == nil {
		return nil, base.Fatal(&base.Error{Code: "WEIR-0402", Where: "memory split " + split.ID, What: "the split does not exist", Next: "append to it first", Cause: connectors.ErrIdentity})
	}
	if after.Started && after.Identity != l.identity() {
		return nil, recreated(split.ID)
	}
	r := &reader[T]{s: s, log: l, id: split.ID, identity: l.identity(), next: after.Offset, wake: env.Wake}
	if !after.Started {
		r.next = l.base
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	l.readers[r] = struct{}{}
	return r, nil
}

func recreated(id string) error {
	return base.Fatal(&base.Error{
		Code: "WEIR-0402", Where: "memory split " + id, Cause: connectors.ErrIdentity,
		What: "the split was deleted and created again", Next: "start the job without its state",
	})
}

// reader reads one split. Its fields belong to its owner; log is shared.
type reader[T any] struct {
	s        *Source[T]
	log      *splitLog[T]
	id       string
	identity string
	next     uint64 // position of the last record handed over
	marks    int    // marks of the log that were handed over or passed by
	done     bool
	wake     func()
}

// check reports that the record after next is gone. The caller holds s.mu.
func (r *reader[T]) check() error {
	switch {
	case r.identity != r.log.identity():
		return recreated(r.id)
	case r.next < r.log.base || r.next > r.log.end():
		return base.Fatal(&base.Error{
			Code: "WEIR-0401", Where: "memory split " + r.id, Cause: connectors.ErrPositionLost,
			What: fmt.Sprintf("record %d is wanted; the split holds %d to %d", r.next+1, r.log.base+1, r.log.end()),
			Next: "start the job without its state",
		})
	}
	return nil
}

// Poll implements connectors.Reader.
func (r *reader[T]) Poll(dst *connectors.Records[T], max int) (connectors.Poll, error) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if err := r.check(); err != nil {
		return connectors.Poll{}, err
	}
	ready := r.log.records[r.next-r.log.base:]
	n := min(len(ready), max)
	r.handMarks(dst)
	for i := range ready[:n] {
		rec := &ready[i]
		r.next++
		if rec.Bad != nil {
			dst.Bad = append(dst.Bad, connectors.BadRecord{Pos: r.next, Raw: rec.Raw, Err: rec.Bad})
		} else {
			dst.Append(rec.Value, rec.Time, r.next, rec.Headers)
		}
		r.handMarks(dst)
	}
	r.done = r.s.finished && n == len(ready)
	return connectors.Poll{More: n < len(ready), End: r.done}, nil
}

// handMarks hands over the marks that stand at the reader's position. A reader
// that starts there hands the one before it over again, which does no harm. The
// caller holds s.mu.
func (r *reader[T]) handMarks(dst *connectors.Records[T]) {
	for ; r.marks < len(r.log.marks) && r.log.marks[r.marks].after <= r.next; r.marks++ {
		if m := r.log.marks[r.marks]; m.after == r.next {
			dst.Marks = append(dst.Marks, connectors.Mark{After: len(dst.Values), Watermark: m.watermark})
		}
	}
}

// Position implements connectors.Reader.
func (r *reader[T]) Position() connectors.Position {
	return connectors.Position{Started: true, Offset: r.next, Identity: r.identity, Done: r.done}
}

// Lag implements connectors.Reader.
func (r *reader[T]) Lag() int64 {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return int64(r.log.end() - min(r.next, r.log.end()))
}

// Close implements connectors.Reader.
func (r *reader[T]) Close() error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	delete(r.log.readers, r)
	return nil
}
