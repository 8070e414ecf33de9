package weirtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

// feed is a source of the kit without its record type.
type feed interface {
	bind(b *weir.Bindings, name string)
	// add appends one entry to a split: records and watermarks that are handed
	// over at once, as the step of that number in the run.
	add(split string, seq int, steps []Step) error
	// end appends the end of a split.
	end(split string, seq int) error
	// release lets the readers hand over the entries up to that number, and
	// reports whether a reader has one to hand over.
	release(seq int) (ready bool)
	// behind reports that a reader has not handed over a released entry yet.
	behind() bool
	splitNames() []string
}

// sourceLog is the log of one source: entries in splits. It outlives the
// deployments of a run. An entry is handed over as a whole, and only once it is
// released, so that the run takes one step after another also in a replay.
type sourceLog[T any] struct {
	mu       sync.Mutex
	splits   map[string]*splitLog[T]
	released int
	decode   func([]byte) (T, error) // nil: as records are given
}

type splitLog[T any] struct {
	entries []entry[T]
	end     uint64 // position of the last record or watermark
	// readers is what reads it: one, or, of a retry stream, some.
	readers []*logReader[T]
}

// entry is what one poll hands over. Every record and watermark of it takes one
// position; first and last are those of the entry.
type entry[T any] struct {
	seq   int
	last  uint64
	items []item[T]
	end   bool
}

type item[T any] struct {
	value   T
	mark    bool
	time    base.Timestamp // of the record, or the watermark
	headers *base.Headers
	raw     []byte
	bad     error
}

func newSourceLog[T any](splits []string) *sourceLog[T] {
	l := &sourceLog[T]{splits: map[string]*splitLog[T]{}}
	for _, s := range splits {
		l.splits[s] = &splitLog[T]{}
	}
	return l
}

func (l *sourceLog[T]) bind(b *weir.Bindings, name string) {
	weir.BindSource[T](b, name, l)
}

func (l *sourceLog[T]) splitNames() []string {
	names := make([]string, 0, len(l.splits))
	for s := range l.splits {
		names = append(names, s)
	}
	slices.Sort(names)
	return names
}

// add implements feed. Everything is checked before anything is appended.
func (l *sourceLog[T]) add(split string, seq int, steps []Step) error {
	items := make([]item[T], 0, len(steps))
	for _, s := range steps {
		it, err := itemOf[T](s)
		if err != nil {
			return err
		}
		items = append(items, it)
	}
	return l.append(split, entry[T]{seq: seq, items: items})
}

func itemOf[T any](s Step) (item[T], error) {
	switch s := s.(type) {
	case watermarkStep:
		return item[T]{mark: true, time: s.time}, nil
	case recordStep:
		it := item[T]{time: s.time, raw: s.raw, bad: s.bad}
		if len(s.headers) > 0 {
			it.headers = &s.headers
		}
		if s.bad != nil {
			return it, nil
		}
		v, ok := s.value.(T)
		if !ok {
			return it, fmt.Errorf("the source reads %T, and a record is a %T", *new(T), s.value)
		}
		it.value = v
		return it, nil
	}
	return item[T]{}, fmt.Errorf("%T is not a record or a watermark", s)
}

func (l *sourceLog[T]) end(split string, seq int) error {
	return l.append(split, entry[T]{seq: seq, end: true})
}

func (l *sourceLog[T]) append(split string, e entry[T]) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	sp := l.splits[split]
	if sp == nil {
		return fmt.Errorf("the source has no split %q; give it to Splits", split)
	}
	if n := len(sp.entries); n > 0 && sp.entries[n-1].end {
		return fmt.Errorf("split %q is at its end", split)
	}
	sp.end += uint64(len(e.items))
	e.last = sp.end
	sp.entries = append(sp.entries, e)
	return nil
}

func (l *sourceLog[T]) release(seq int) (ready bool) {
	l.mu.Lock()
	l.released = seq
	var wake []func()
	for _, sp := range l.splits {
		for _, r := range sp.readers {
			if r.next(seq) != nil {
				ready = true
				wake = append(wake, r.wake)
			}
		}
	}
	l.mu.Unlock()
	for _, f := range wake {
		f()
	}
	return ready
}

func (l *sourceLog[T]) behind() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sp := range l.splits {
		for _, r := range sp.readers {
			if r.next(l.released) != nil {
				return true
			}
		}
	}
	return false
}

// next returns the entry that the reader may hand over, or nil.
func (r *logReader[T]) next(released int) *entry[T] {
	if r.at == len(r.split.entries) || r.split.entries[r.at].seq > released {
		return nil
	}
	return &r.split.entries[r.at]
}

// Kind implements connectors.Source.
func (l *sourceLog[T]) Kind() string { return "weirtest" }

// Splits implements connectors.Source.
func (l *sourceLog[T]) Splits(context.Context) ([]connectors.Split, error) {
	var out []connectors.Split
	for _, s := range l.splitNames() {
		out = append(out, connectors.Split{ID: s})
	}
	return out, nil
}

// Redecode implements connectors.Redecoder: it decodes what a dead letter has of a
// Malformed record.
func (l *sourceLog[T]) Redecode(raw []byte, _ connectors.Limits, v *T) (err error) {
	if l.decode == nil {
		return errors.New("the test gives the source no decoder; use the option SourceDecoder")
	}
	*v, err = l.decode(raw)
	return err
}

// Open implements connectors.Source.
func (l *sourceLog[T]) Open(_ context.Context, s connectors.Split, after connectors.Position, env connectors.ReaderEnv) (connectors.Reader[T], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sp := l.splits[s.ID]
	r := &logReader[T]{log: l, split: sp, pos: after.Offset, wake: env.Wake}
	for r.at < len(sp.entries) && !sp.entries[r.at].end && sp.entries[r.at].last <= after.Offset {
		r.at++
	}
	sp.readers = append(sp.readers, r)
	return r, nil
}

// logReader reads one split; guarded by the mutex of its log.
type logReader[T any] struct {
	log   *sourceLog[T]
	split *splitLog[T]
	at    int // index of the next entry
	pos   uint64
	done  bool
	wake  func()
}

// Poll implements connectors.Reader: it hands over one entry and, so that
// watermarks come out after each, says that there is no more.
func (r *logReader[T]) Poll(dst *connectors.Records[T], _ int) (connectors.Poll, error) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	e := r.next(r.log.released)
	if e == nil {
		return connectors.Poll{}, nil
	}
	r.at++
	if e.end {
		r.done = true
		r.wake() // the owner sees at its next poll that no split is left
		return connectors.Poll{End: true}, nil
	}
	for i := range e.items {
		it := &e.items[i]
		r.pos++
		switch {
		case it.mark:
			dst.Marks = append(dst.Marks, connectors.Mark{After: len(dst.Values), Watermark: it.time})
		case it.bad != nil:
			dst.Bad = append(dst.Bad, connectors.BadRecord{Pos: r.pos, Raw: it.raw, Err: it.bad})
		default:
			dst.Append(it.value, it.time, r.pos, it.headers)
		}
	}
	if r.next(r.log.released) != nil {
		r.wake()
	}
	return connectors.Poll{}, nil
}

// Position implements connectors.Reader.
func (r *logReader[T]) Position() connectors.Position {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return connectors.Position{Started: true, Offset: r.pos, Done: r.done}
}

// Lag implements connectors.Reader.
func (r *logReader[T]) Lag() int64 {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return int64(r.split.end - r.pos)
}

// Close implements connectors.Reader.
func (r *logReader[T]) Close() error {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.split.readers = slices.DeleteFunc(r.split.readers, func(o *logReader[T]) bool { return o == r })
	return nil
}

func sortHeaders(h base.Headers) {
	slices.SortFunc(h, func(a, b base.Header) int { return strings.Compare(a.Name, b.Name) })
}
