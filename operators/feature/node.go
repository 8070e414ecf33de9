package feature

import (
	"encoding/binary"
	"fmt"
	"time"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
)

// StateName is the name of the keyed state of the operator.
const StateName = "features"

// StateSchema describes the keyed state of the operator, for plans and manifests:
// states are only readable by a program with the same one.
func (p *Program[T]) StateSchema() string {
	return fmt.Sprintf("features %d/%08x", layoutVersion, p.finger)
}

// Spec describes the operator: it takes In, which holds a record T, and emits an
// Out for each, made of it and of the vector of its key.
type Spec[K comparable, T, In, Out any] struct {
	UID string
	// Key returns the key of a record, Keys encodes it: what the exchange in front
	// of the operator goes by.
	Key  func(*In) K
	Keys *codec.KeyCodec[K]
	// Record returns the record in an In.
	Record  func(*In) *T
	Program *Program[T]
	// Make sets *out, which holds what it was last set to. The vector is valid
	// during the call.
	Make func(in *In, v *Vector, out *Out)
	// Grace is for how long after its expiry, in event time, a state is kept for
	// records that are late; the default is an eighth of the longest horizon. A
	// record later than that finds its key forgotten.
	Grace time.Duration
}

// node is the operator in one subtask.
type node[K comparable, T, In, Out any] struct {
	s      *operators.Subtask
	op     int32
	spec   Spec[K, T, In, Out]
	core   *Core[T]
	table  *state.Table
	timers *state.Timers
	ints   bool
	text   bool
	grace  int64
	w      base.Timestamp
	emit   func(*base.Meta, *Out)
	out    Out

	// The keys of a batch.
	hashes []uint64
	keys   [][]byte
	arena  []byte
	states []peeked
	onDue  func(*state.Timer) bool
}

// Reader reads the vectors of keys that a subtask owns, on the subtask's goroutine
// and between two batches.
type Reader[K comparable] interface {
	// Read returns the vector of a key as of time t, or of the key's clock when that
	// is later. It is valid until the operator's next record. A key without a state
	// has the vector of nothing.
	Read(k K, t base.Timestamp) (*Vector, error)
}

// Node returns the consumer of the operator, to be bound in a task with keyed
// state as a reader of the exchange by key, and what reads its state.
//
// Keyed state: one byte string for each key, and a timer for its expiry. The
// operator's own snapshot is a fingerprint of features and key.
func Node[K comparable, T, In, Out any](s *operators.Subtask, spec Spec[K, T, In, Out], out operators.Consumer[Out]) (operators.Consumer[In], Reader[K]) {
	n := &node[K, T, In, Out]{s: s, spec: spec, op: s.Register(spec.UID), core: spec.Program.NewCore(), emit: out.One, w: base.MinTime}
	n.ints, n.text = spec.Keys.Kind() == codec.KeyUint64, spec.Keys.Kind() == codec.KeyString
	n.grace = int64(spec.Grace)
	if n.grace == 0 && spec.Program.expiry != forever {
		n.grace = spec.Program.expiry / 8
	}
	n.onDue = n.due
	kind := state.KeyBytes
	if n.ints {
		kind = state.KeyUint64
	}
	s.Env.Backend.SetKeyKind(kind)
	group, err := s.Env.Backend.Group(state.Decl{Operator: spec.UID, Name: StateName, Key: state.KeyBytes, Schema: spec.Program.StateSchema()})
	if err == nil {
		n.table = group.Namespace(0)
		n.timers, err = s.Env.Backend.Timers(spec.UID, kind)
	}
	if err != nil {
		s.Fail(fmt.Errorf("operator %s: declare its state: %w", spec.UID, err))
		return operators.Consumer[In]{One: func(*base.Meta, *In) {}}, n
	}
	s.Add(n)
	return operators.Consumer[In]{One: n.one, Batch: n.batch}, n
}

// UID implements operators.Node.
func (n *node[K, T, In, Out]) UID() string { return n.spec.UID }

// Open implements operators.Opener.
func (n *node[K, T, In, Out]) Open() error {
	g, err := n.s.Env.Backend.Group(state.Decl{Operator: n.spec.UID, Name: StateName, Key: state.KeyBytes, Schema: n.spec.Program.StateSchema()})
	if err != nil {
		return err
	}
	n.table = g.Namespace(0)
	return nil
}

// key appends the encoding of a key to the arena, unless the key is its own.
func (n *node[K, T, In, Out]) key(k K) []byte {
	if n.text {
		s := n.spec.Keys.String(k)
		return unsafe.Slice(unsafe.StringData(s), len(s))
	}
	at := len(n.arena)
	n.arena = n.spec.Keys.Append(n.arena, k)
	return n.arena[at:len(n.arena):len(n.arena)]
}

func (n *node[K, T, In, Out]) one(m *base.Meta, v *In) {
	n.arena = n.arena[:0]
	n.s.InHand(n.op, m)
	n.step(m, v, n.key(n.spec.Key(v)))
}

// batch is one for many records: states that are not in memory are read at once,
// and the cache misses of those that are overlap.
func (n *node[K, T, In, Out]) batch(metas []base.Meta, vals []In) {
	n.hashes, n.keys, n.arena = n.hashes[:0], n.keys[:0], n.arena[:0]
	for i := range vals {
		n.s.InHand(n.op, &metas[i])
		n.hashes = append(n.hashes, metas[i].Hash)
		n.keys = append(n.keys, n.key(n.spec.Key(&vals[i])))
	}
	n.table.PrefetchBytes(n.hashes, n.keys)
	n.states = append(n.states[:0], make([]peeked, len(vals))...)
	for i := -aheadSlot; i < len(vals) && n.s.Err() == nil; i++ {
		n.warm(metas, i)
		if i >= 0 {
			n.step(&metas[i], &vals[i], n.keys[i])
		}
	}
}

// How many records before its turn a record's slot is asked for, what every step
// reads of its state, and what a turn of tiles does. Each is found with the help of
// the one before.
const (
	aheadSlot  = 24
	aheadState = 16
	aheadTurn  = 8
)

// peeked is a state that was seen ahead of its record.
type peeked struct {
	b     []byte
	moves uint64
}

// warm asks for what the records behind record i will read, so that it is in the
// cache in their turn.
func (n *node[K, T, In, Out]) warm(metas []base.Meta, i int) {
	p := n.spec.Program
	if j := i + aheadSlot; j < len(metas) {
		n.table.Warm(n.hashes[j])
	}
	if j := i + aheadState; j >= 0 && j < len(metas) {
		b, _ := n.table.PeekVar(n.hashes[j], n.keys[j])
		p.touch(b)
		n.states[j] = peeked{b, n.table.Moves()}
	}
	if j := i + aheadTurn; j >= 0 && j < len(metas) && n.states[j].moves == n.table.Moves() {
		p.touchTurn(n.states[j].b, metas[j].Time)
	}
}

// step takes one record.
func (n *node[K, T, In, Out]) step(m *base.Meta, v *In, key []byte) {
	b, known := n.table.ChangeVar(m.Hash, key)
	next, moved, err := n.core.Step(b, m.Time, n.spec.Record(v))
	if err != nil {
		n.s.Fail(fmt.Errorf("operator %s: %w", n.spec.UID, err))
		return
	}
	switch {
	case moved && len(next) == 0:
		n.table.DeleteBytes(m.Hash, key)
	case moved:
		n.table.PutVar(m.Hash, key, next)
	}
	if len(next) > 0 && !known {
		n.register(m.Hash, key, n.core.Expires(next))
	}
	n.spec.Make(v, n.core.Vector(), &n.out)
	n.emit(m, &n.out)
}

// register sets the timer of a key for when its state expires.
func (n *node[K, T, In, Out]) register(hash uint64, key []byte, expires base.Timestamp) {
	if expires == base.MaxTime {
		return
	}
	if n.ints {
		n.s.Env.Backend.SetKeyU64(hash, binary.BigEndian.Uint64(key))
	} else {
		n.s.Env.Backend.SetKey(hash, key)
	}
	n.timers.Register(state.EventTimer, base.AddTime(expires, n.grace))
}

// Advance implements operators.Watermarker: it drops what has expired. The end of
// the input is no reason to: a job that goes on from here finds its states.
func (n *node[K, T, In, Out]) Advance(w base.Timestamp, deadline int64) (done bool) {
	if w == base.MaxTime {
		return true
	}
	n.w = max(n.w, w)
	for !n.timers.Due(state.EventTimer, n.w, 32, n.onDue) && n.s.Err() == nil {
		if n.s.Env.Clock.Mono() >= deadline {
			return false
		}
	}
	return true
}

// due drops the state of a timer's key, unless the key has been active since: then
// the timer is set anew.
func (n *node[K, T, In, Out]) due(t *state.Timer) bool {
	n.s.Env.Stats.TimersFired.Add(1)
	hash, key := t.Hash, append(n.arena[:0], t.Key...)
	n.arena = key
	b, ok := n.table.GetVar(hash, key)
	if !ok {
		return true
	}
	if at := n.core.Expires(b); base.AddTime(at, n.grace) > t.At {
		n.register(hash, key, at)
		return true
	}
	n.table.DeleteBytes(hash, key)
	return true
}

// Snapshot implements operators.Snapshotter.
func (n *node[K, T, In, Out]) Snapshot() []byte {
	b := binary.LittleEndian.AppendUint32(nil, n.spec.Program.finger)
	return binary.LittleEndian.AppendUint64(b, base.HashString(n.spec.Keys.Schema().String()))
}

// Restore implements operators.Snapshotter: it refuses the states of other features
// and of keys of another type.
func (n *node[K, T, In, Out]) Restore(parts [][]byte) error {
	for _, p := range parts {
		if string(p) != string(n.Snapshot()) {
			return base.Fatal(&base.Error{
				Code: "WEIR-0709", What: "the checkpoint holds the state of other features, or of keys of another type", Where: "operator " + n.spec.UID,
				Next: "give the operator its old features and key back, or a new name to start afresh",
			})
		}
	}
	return nil
}

// Read implements Reader.
func (n *node[K, T, In, Out]) Read(k K, t base.Timestamp) (*Vector, error) {
	hash := n.spec.Keys.Hash(k)
	if !n.s.Env.Range.Contains(hash) {
		return nil, fmt.Errorf("subtask %d of operator %s does not own the key", n.s.Env.Index, n.spec.UID)
	}
	n.arena = n.arena[:0]
	b, _ := n.table.GetVar(hash, n.key(k))
	if err := n.core.Read(b, t); err != nil {
		return nil, err
	}
	return n.core.Vector(), n.s.Err()
}
