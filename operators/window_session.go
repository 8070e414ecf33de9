package operators

import (
	"encoding/binary"
	"errors"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/window"
)

// sessions is the operator of session windows. It keeps, for every key, the live
// sessions with their accumulators, and the watermark at which the next of them
// closes or is gone.
type sessions[K comparable, T, A, R any] struct {
	windowBase[K, T, A, R]
	rules window.SessionRules
	form  keyForm[K]
	codec sessionCodec[A]
	group *state.Group
	table *state.Table
	due   *dueTable

	busy bool // Advance has not returned true yet

	// The key in hand: its sessions, its accumulators in parallel, and the time
	// it is registered at.
	key   stateKey
	arena []byte
	set   window.SessionSet
	accs  []A
	at    base.Timestamp
	buf   []byte
}

func newSessions[K comparable, T, A, R any](s *Subtask, spec WindowSpec[K, T, A, R], out Consumer[Windowed[K, R]], late Consumer[T]) (Consumer[T], error) {
	o := &sessions[K, T, A, R]{
		windowBase: newWindowBase(s, &spec, out, late), rules: spec.Window.SessionRules(),
		form: newKeyForm(spec.Keys), codec: sessionCodec[A]{spec.Acc},
	}
	o.form.ints = false // values of any length are addressed by the bytes of the key
	o.keys = &o.form
	c, err := codec.For[[]session[A]]()
	if err != nil {
		return Consumer[T]{}, err
	}
	if o.group, err = s.Env.Backend.Group(state.Decl{
		Operator: spec.UID, Name: "sessions", Key: state.KeyBytes, Schema: c.Schema().String(),
	}); err != nil {
		return Consumer[T]{}, err
	}
	gap, late64 := int64(spec.Window.Gap()), int64(spec.Window.AllowedLateness())
	if o.due, err = newDueTable(s, spec.UID, max(gap/16, late64/64)); err != nil {
		return Consumer[T]{}, err
	}
	s.Add(o)
	return Consumer[T]{One: o.one}, nil
}

// Open prepares the restored state.
func (o *sessions[K, T, A, R]) Open() error {
	o.table = o.group.Namespace(0)
	o.due.open()
	return nil
}

func (o *sessions[K, T, A, R]) one(m *base.Meta, v *T) {
	o.s.at = o.op
	o.busy = o.notice() || o.busy
	o.arena = o.arena[:0]
	o.form.set(&o.key, m.Hash, o.spec.Key(*v), &o.arena)
	found := o.load()
	w := o.prog.of(m.Hash)
	changed := false
	if found && o.at <= w {
		// A firing is under way and has not come to this key.
		o.fire(w)
		changed = true
		o.s.at, o.s.cur = o.op, m
	}
	p := o.set.Place(o.rules, m.Time, w)
	if p.Verdict == window.Late {
		if changed {
			o.save(w)
		}
		o.drop(window.Late, m, v)
		return
	}
	o.merge(p)
	o.spec.Add(&o.acc, *v)
	o.set = o.set.Apply(p)
	o.accs = window.Splice(o.accs, p, o.acc)
	if p.Verdict == window.Update {
		o.emitSession(p.Lo, emissionBy(m.Hash, m.Origin), m.Ingest)
	}
	o.save(w)
}

// merge makes acc the accumulator of the sessions that a placement joins.
func (o *sessions[K, T, A, R]) merge(p window.Placement) {
	var none A
	o.acc = none
	if p.Lo == p.Hi {
		return
	}
	o.acc = o.accs[p.Lo]
	for i := p.Lo + 1; i < p.Hi; i++ {
		o.spec.Ops.Merge(&o.acc, &o.accs[i])
	}
}

// emitSession emits session i of the key in hand. The event time of the result
// is the end of its window, not one below: the session stayed open while the
// watermark was there, for a record at its very end would have joined.
func (o *sessions[K, T, A, R]) emitSession(i int, emission uint64, ingest base.Timestamp) {
	w := o.rules.Window(o.set[i])
	o.begin(w, w.End)
	o.meta.Ingest = ingest
	o.emit(&o.key, &o.accs[i], emission)
}

// load reads the key in hand.
func (o *sessions[K, T, A, R]) load() (found bool) {
	o.set, o.accs, o.at = o.set[:0], o.accs[:0], base.MinTime
	b, ok := o.table.GetVar(o.key.hash, o.key.b)
	if !ok {
		return false
	}
	var err error
	if o.at, o.set, o.accs, err = o.codec.decode(b, o.set, o.accs); err != nil {
		o.s.Fail(stateError(o.spec.UID, err))
		o.set, o.accs = o.set[:0], o.accs[:0]
	}
	return true
}

// fire fires the sessions of the key in hand that have closed by w and removes
// those that are gone. A key is registered at or before the time at which the
// first session closes that has not fired yet, and after those that have.
func (o *sessions[K, T, A, R]) fire(w base.Timestamp) {
	o.s.Env.Stats.TimersFired.Add(1)
	now := o.s.Env.Clock.Now()
	for i := range o.set {
		if c := o.rules.ClosesAt(o.set[i]); o.at <= c && c <= w {
			o.emitSession(i, o.key.hash, now)
		}
	}
	if n := o.set.Gone(o.rules, w); n > 0 {
		o.set = o.set[:copy(o.set, o.set[n:])]
		k := copy(o.accs, o.accs[n:])
		clear(o.accs[k:])
		o.accs = o.accs[:k]
	}
}

// save writes the key in hand back. It is registered at the time of its next
// event; a registration for an earlier time is left as it is, because most
// sessions are extended many times.
func (o *sessions[K, T, A, R]) save(w base.Timestamp) {
	if len(o.set) == 0 {
		o.table.DeleteBytes(o.key.hash, o.key.b)
		return
	}
	next := base.MaxTime
	for _, iv := range o.set {
		t := o.rules.ClosesAt(iv)
		if t <= w {
			t = o.rules.DropAt(iv)
		}
		next = min(next, t)
	}
	if next < o.at || o.at <= w {
		o.at = next
		o.due.set(next, &o.key)
	}
	o.buf = o.codec.append(o.buf[:0], o.at, o.set, o.accs)
	o.table.PutVar(o.key.hash, o.key.b, o.buf)
}

// takeStep is how many due keys are taken between two looks at the clock.
const takeStep = 32

// Advance fires the sessions that close up to w. It stops at the deadline.
func (o *sessions[K, T, A, R]) Advance(w base.Timestamp, deadline int64) (done bool) {
	if w <= o.prog.w && !o.busy {
		return true
	}
	o.busy = true
	o.prog.w = max(o.prog.w, w)
	w = o.prog.w
	clk := o.s.Env.Clock
	for {
		none, through := o.due.load(w)
		for n := 1; through; n++ {
			e, ok := o.due.take(w)
			if !ok {
				break
			}
			o.fireDue(&e, w)
			if o.s.err != nil || n%takeStep == 0 && clk.Mono() > deadline {
				return false
			}
		}
		if none {
			break
		}
		if clk.Mono() > deadline {
			return false
		}
	}
	o.due.forget(w)
	o.prog.reach(w)
	o.busy = false
	o.s.cur = nil
	return true
}

// fireDue looks at a key that is due.
func (o *sessions[K, T, A, R]) fireDue(e *due, w base.Timestamp) {
	o.s.at = o.op
	o.key = stateKey{hash: e.hash, b: e.key}
	if !o.load() || o.at != e.at {
		return // registered for another time since
	}
	o.fire(w)
	o.save(w)
}

// session describes what is kept of a session; see sessionCodec for how.
type session[A any] struct {
	First, Last base.Timestamp
	Acc         A
}

// sessionCodec encodes the sessions of a key: the time it is registered at, then
// for each session its first and last time and its accumulator behind its length.
type sessionCodec[A any] struct{ acc *codec.Codec[A] }

var errShortSession = errors.New("the state of a key ends inside a session")

func (c sessionCodec[A]) append(dst []byte, at base.Timestamp, set window.SessionSet, accs []A) []byte {
	dst = appendTime(dst, at)
	for i := range set {
		dst = appendTime(appendTime(dst, set[i].First), set[i].Last)
		n := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		dst = c.acc.Append(dst, &accs[i])
		binary.LittleEndian.PutUint32(dst[n:], uint32(len(dst)-n-4))
	}
	return dst
}

func (c sessionCodec[A]) decode(b []byte, set window.SessionSet, accs []A) (base.Timestamp, window.SessionSet, []A, error) {
	if len(b) < 8 {
		return 0, set, accs, errShortSession
	}
	at := int64(binary.LittleEndian.Uint64(b))
	for b = b[8:]; len(b) > 0; {
		if len(b) < 20 {
			return 0, set, accs, errShortSession
		}
		u := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[i:])) }
		set = append(set, window.Interval{First: u(0), Last: u(8)})
		n := int(binary.LittleEndian.Uint32(b[16:]))
		if n > len(b)-20 {
			return 0, set, accs, errShortSession
		}
		var none A
		accs = append(accs, none)
		if err := c.acc.Decode(b[20:20+n], &accs[len(accs)-1]); err != nil {
			return 0, set, accs, err
		}
		b = b[20+n:]
	}
	return at, set, accs, nil
}
