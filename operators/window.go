package operators

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/window"
)

// Windowed is the result of one window, or session, of one key.
type Windowed[K comparable, R any] struct {
	Key K
	// Start and End bound the window, End exclusive, in UTC. The end of a session
	// is its last record plus the gap.
	Start, End time.Time
	Value      R
}

// WindowSpec describes a window operator over records T with accumulators A.
type WindowSpec[K comparable, T, A, R any] struct {
	UID    string
	Window window.Spec // must be valid
	// Key returns a record's key, Keys encodes it.
	Key  func(T) K
	Keys *codec.KeyCodec[K]
	// Add takes a record into an accumulator. The zero A holds no records.
	Add func(acc *A, v T)
	// Ops merges accumulators; see window.Ops.
	Ops window.Ops[A]
	// Result turns an accumulator, which it must not change, into a result.
	Result func(acc *A) R
	Acc    *codec.Codec[A]
}

// Window aggregates records per key and window. Results go to out, before the
// watermark that closes their window; records whose windows are all gone go to
// late. It must be bound in a task with keyed state.
//
// Keyed state: accumulators per slice and key (tumbling, sliding) or the live
// sessions per key. The operator's own snapshot is its watermark by hash range.
func Window[K comparable, T, A, R any](s *Subtask, spec WindowSpec[K, T, A, R], out Consumer[Windowed[K, R]], late Consumer[T]) Consumer[T] {
	var c Consumer[T]
	var err error
	if spec.Window.Kind() == window.KindSession {
		c, err = newSessions(s, spec, out, late)
	} else {
		c, err = newPanes(s, spec, out, late)
	}
	if err != nil {
		s.Fail(declareError(spec.UID, err))
		return Consumer[T]{One: func(*base.Meta, *T) {}}
	}
	return c
}

// windowBase is what all window operators share: identity, progress, emission.
type windowBase[K comparable, T, A, R any] struct {
	s *Subtask
	// stage is the one whose event time the operator has.
	stage *advance
	op    int32
	spec  *WindowSpec[K, T, A, R]
	keys  *keyForm[K]
	hash  uint64 // of the UID
	prog  progress
	out   func(*base.Meta, *Windowed[K, R])
	late  func(*base.Meta, *T)

	// The result in hand. One slot per subtask: a variable whose address is
	// handed on would be allocated.
	meta base.Meta
	res  Windowed[K, R]
	acc  A
}

func newWindowBase[K comparable, T, A, R any](s *Subtask, spec *WindowSpec[K, T, A, R], out Consumer[Windowed[K, R]], late Consumer[T]) windowBase[K, T, A, R] {
	return windowBase[K, T, A, R]{
		s: s, stage: s.stage, op: s.operator(spec.UID), spec: spec, hash: base.HashString(spec.UID),
		prog: progress{w: base.MinTime}, out: out.One, late: late.One,
	}
}

// UID returns the operator's name.
func (b *windowBase[K, T, A, R]) UID() string { return b.spec.UID }

// Snapshot returns a fingerprint of what the keyed state depends on and its
// schemas do not show, then the progress of the subtask's hash range.
func (b *windowBase[K, T, A, R]) Snapshot() []byte {
	return b.prog.snapshot(binary.LittleEndian.AppendUint64(nil, b.spec.fingerprint()), b.s.Env.Range)
}

// Restore takes the progress of all subtasks of the previous deployment. It
// refuses the state of another window.
func (b *windowBase[K, T, A, R]) Restore(parts [][]byte) error {
	progs := make([][]byte, len(parts))
	for i, p := range parts {
		if len(p) < 8 || binary.LittleEndian.Uint64(p) != b.spec.fingerprint() {
			return base.Fatal(&base.Error{
				Code: "WEIR-0706", What: "the checkpoint holds the state of another window, or of keys of another type", Where: "operator " + b.spec.UID,
				Next: "give the operator its old window and key back, or a new name to start afresh",
			})
		}
		progs[i] = p[8:]
	}
	return b.prog.restore(b.s.Env.Range, progs)
}

// fingerprint tells apart windows that cut time, and keys that encode,
// differently. The allowed lateness may change.
func (s *WindowSpec[K, T, A, R]) fingerprint() uint64 {
	w := s.Window
	return base.HashString(fmt.Sprintf("%d %d %d %d %s", w.Size(), w.Slide(), w.Offset(), w.Gap(), s.Keys.Schema()))
}

// WindowState is the name and the schema of one state of a window operator.
type WindowState struct{ Name, Schema string }

// States lists the keyed states whose content is not derived from others.
func (s *WindowSpec[K, T, A, R]) States() []WindowState {
	if s.Window.Kind() == window.KindSession {
		return []WindowState{{"sessions", s.Acc.Schema().String()}}
	}
	return []WindowState{{"slices", s.Acc.Schema().String()}}
}

// notice takes note of a watermark that the subtask has been told of and this
// operator has not fired for yet, because it, or an operator beside it, still
// fires for one before. A record that comes now came after that watermark and is
// judged by it. It returns true when there is firing to do.
func (b *windowBase[K, T, A, R]) notice() bool {
	if !b.stage.running {
		return false
	}
	w := max(b.stage.target, b.stage.waiting)
	if w <= b.prog.w {
		return false
	}
	b.prog.w = w
	return true
}

// begin sets the window of the results that follow. at is their event time.
func (b *windowBase[K, T, A, R]) begin(w window.Window, at base.Timestamp) {
	b.s.at = b.op
	b.res.Start, b.res.End = time.Unix(0, w.Start).UTC(), time.Unix(0, w.End).UTC()
	b.meta = base.Meta{Time: at, Origin: base.Origin{Split: b.hash, Pos: uint64(w.End)}}
}

// emit hands on the result of one key, for the window set by begin. emission
// tells apart the firings of one key and window.
func (b *windowBase[K, T, A, R]) emit(k *stateKey, acc *A, emission uint64) {
	key, err := b.keys.key(k)
	if err != nil {
		b.s.Fail(stateError(b.spec.UID, err))
		return
	}
	b.meta.Hash, b.meta.Origin.Emit = k.hash, emission
	b.s.at, b.s.cur = b.op, &b.meta
	b.res.Key, b.res.Value = key, b.spec.Result(acc)
	b.out(&b.meta, &b.res)
}

// emissionBy returns the emission of a firing that a record caused: a replay
// meets the same record, and so gives the result the same origin.
func emissionBy(hash uint64, o base.Origin) uint64 {
	return base.Mix(base.Mix(base.Mix(hash, o.Split), o.Pos), o.Emit)
}

// drop disposes of a record that counts in no window.
func (b *windowBase[K, T, A, R]) drop(v window.Verdict, m *base.Meta, val *T) {
	if v == window.NoWindow {
		b.s.Env.Stats.NoWindowRecords.Add(1)
		return
	}
	b.s.Env.Stats.LateRecords.Add(1)
	b.late(m, val)
}

// held is a record that waits until the firing for w, the watermark before it,
// is over.
type held[T any] struct {
	meta base.Meta
	val  T
	w    base.Timestamp
}

// maxHeld bounds the records that wait for a firing: with more, the firing is
// completed at once.
const maxHeld = 16_384

// walkStep is how many entries are taken between two looks at the clock: so few
// that a step takes well below a turn, also where each entry is dear.
const walkStep = 64

// newTable returns an empty table in place of what the namespace held: for
// state that is rebuilt from other state.
func newTable(g *state.Group, ns int64) *state.Table {
	for _, old := range g.Namespaces() {
		g.Drop(old)
	}
	return g.Namespace(ns)
}
