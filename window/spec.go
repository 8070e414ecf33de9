package window

import (
	"fmt"
	"strings"
	"time"

	"github.com/weirflow/weir/internal/base"
)

const (
	// MaxWindowsPerRecord bounds size/slide of a sliding window: the windows that
	// one record can belong to.
	MaxWindowsPerRecord = 100_000
	// MaxSpan is the longest size, slide, gap or out-of-orderness bound, in
	// nanoseconds: 73 years, so that sums of two of them cannot overflow.
	MaxSpan = int64(1) << 61
)

// Kind tells the window kinds apart. The numbers must not change: they may be
// part of what a checkpoint records about an operator.
type Kind uint8

const (
	// KindNone is the kind of the zero Spec, which is not valid.
	KindNone Kind = 0
	// KindTumbling is the kind of windows that follow each other without overlap.
	KindTumbling Kind = 1
	// KindSliding is the kind of windows of one size that start every slide.
	KindSliding Kind = 2
	// KindSession is the kind of windows that end after a gap without records.
	KindSession Kind = 3
)

// String returns the lower-case name of the kind.
func (k Kind) String() string {
	switch k {
	case KindTumbling:
		return "tumbling"
	case KindSliding:
		return "sliding"
	case KindSession:
		return "session"
	}
	return "none"
}

// Spec describes a window: its kind, spans, alignment and allowed lateness. It
// is an immutable value; equal specs compare equal with ==. Make one with
// Tumbling, Sliding or Session. A Spec with a mistake can be made, and is
// reported by Validate; other methods may only be called on a valid Spec.
type Spec struct {
	kind     Kind
	size     int64
	slide    int64
	offset   int64 // in [0, slide) once slide > 0
	gap      int64
	lateness int64
}

// Option is an option of Tumbling and Sliding.
type Option interface{ applyAligned(*Spec) }

// SessionOption is an option of Session.
type SessionOption interface{ applySession(*Spec) }

// Tumbling describes windows [offset + k*size, offset + (k+1)*size) for every
// integer k. Without Offset they are aligned to the Unix epoch, UTC.
func Tumbling(size time.Duration, opts ...Option) Spec {
	return aligned(Spec{kind: KindTumbling, size: int64(size), slide: int64(size)}, opts)
}

// Sliding describes windows [offset + k*slide, offset + k*slide + size) for every
// integer k. The slide need not divide the size, and may exceed it: then records
// between two windows belong to none.
func Sliding(size, slide time.Duration, opts ...Option) Spec {
	return aligned(Spec{kind: KindSliding, size: int64(size), slide: int64(slide)}, opts)
}

func aligned(s Spec, opts []Option) Spec {
	for _, o := range opts {
		o.applyAligned(&s)
	}
	if s.slide > 0 {
		s.offset = floorMod(s.offset, s.slide)
	}
	return s
}

// Session describes windows that hold the records of a key as long as each comes
// at most gap after the one before; exactly gap still joins. The window is
// [first record, last record + gap).
func Session(gap time.Duration, opts ...SessionOption) Spec {
	s := Spec{kind: KindSession, gap: int64(gap)}
	for _, o := range opts {
		o.applySession(&s)
	}
	return s
}

type offsetOption time.Duration

func (o offsetOption) applyAligned(s *Spec) { s.offset = int64(o) }

// Offset moves the origin from which windows are counted: a daily window with
// Offset(6 * time.Hour) starts at 06:00 UTC. Any value is allowed, negative ones
// too; offsets that differ by a multiple of the slide are the same.
func Offset(d time.Duration) Option { return offsetOption(d) }

// LatenessOption is what AllowedLateness returns: an option of every window kind.
type LatenessOption time.Duration

func (o LatenessOption) applyAligned(s *Spec) { s.lateness = int64(o) }
func (o LatenessOption) applySession(s *Spec) { s.lateness = int64(o) }

// AllowedLateness keeps a window for d of event time after it fired: a record
// that comes within it makes the window fire again. The default is 0.
func AllowedLateness(d time.Duration) LatenessOption { return LatenessOption(d) }

// Validate reports the first mistake in the spec as a *base.Error with code
// WEIR-0140, or nil.
func (s Spec) Validate() error {
	switch s.kind {
	case KindTumbling, KindSliding:
		if err := checkSpan("size", s.size); err != nil {
			return err
		}
		if err := checkSpan("slide", s.slide); err != nil {
			return err
		}
		if n := (s.size-1)/s.slide + 1; n > MaxWindowsPerRecord {
			return invalid(fmt.Sprintf("a window of %v every %v puts each record into %d windows; at most %d are allowed",
				s.Size(), s.Slide(), n, MaxWindowsPerRecord), "choose a longer slide or a shorter size")
		}
	case KindSession:
		if err := checkSpan("gap", s.gap); err != nil {
			return err
		}
	default:
		return invalid("the window is not set", "use window.Tumbling, window.Sliding or window.Session")
	}
	if s.lateness < 0 {
		return invalid(fmt.Sprintf("the allowed lateness %v is negative", s.AllowedLateness()), "give 0 or more")
	}
	return nil
}

func checkSpan(what string, d int64) error {
	switch {
	case d <= 0:
		return invalid(fmt.Sprintf("the window's %s is %v", what, time.Duration(d)), "give a "+what+" above 0")
	case d > MaxSpan:
		return invalid(fmt.Sprintf("the window's %s is %v", what, time.Duration(d)),
			fmt.Sprintf("give at most %v", time.Duration(MaxSpan)))
	}
	return nil
}

func invalid(what, next string) error {
	return &base.Error{Code: "WEIR-0140", What: what, Next: next}
}

// Kind returns the window's kind.
func (s Spec) Kind() Kind { return s.kind }

// Size returns the length of a tumbling or sliding window, and 0 for sessions.
func (s Spec) Size() time.Duration { return time.Duration(s.size) }

// Slide returns the distance between the starts of two windows; it equals the
// size of a tumbling window and is 0 for sessions.
func (s Spec) Slide() time.Duration { return time.Duration(s.slide) }

// Gap returns the gap that ends a session, and 0 for other kinds.
func (s Spec) Gap() time.Duration { return time.Duration(s.gap) }

// Offset returns the alignment as a value in [0, slide).
func (s Spec) Offset() time.Duration { return time.Duration(s.offset) }

// AllowedLateness returns how long after its end a window accepts records.
func (s Spec) AllowedLateness() time.Duration { return time.Duration(s.lateness) }

// String renders the spec for plans and messages, such as
// "sliding 1m0s every 10s offset 2s lateness 5s".
func (s Spec) String() string {
	var b strings.Builder
	b.WriteString(s.kind.String())
	switch s.kind {
	case KindTumbling:
		fmt.Fprintf(&b, " %v", s.Size())
	case KindSliding:
		fmt.Fprintf(&b, " %v every %v", s.Size(), s.Slide())
	case KindSession:
		fmt.Fprintf(&b, " gap %v", s.Gap())
	}
	if s.offset != 0 {
		fmt.Fprintf(&b, " offset %v", s.Offset())
	}
	if s.lateness != 0 {
		fmt.Fprintf(&b, " lateness %v", s.AllowedLateness())
	}
	return b.String()
}
