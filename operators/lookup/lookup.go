// Package lookup fetches, for each record, what a table keeps for other keys than the
// record's: the record goes on to where it is joined, and a question for each key to
// the subtask that has it, whose answer follows the record.
//
// # What is not here
//
// The table is asked when the question arrives: there is no join by event time with an
// earlier version of a value, and records that are under way when a value changes may
// get the one or the other. There are no deletions but by the age of a value.
package lookup

import (
	"fmt"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
)

// CodeUnanswered is the code of the error that a record has had no answer, or an answer no
// record, when a barrier came.
const CodeUnanswered = "WEIR-0734"

// Carried is a record on its way to where it is joined.
type Carried[T, Q any] struct {
	// ID tells apart the records that are under way at one time, Home is the hash of
	// the key by which they are joined.
	ID   uint64 `msgpack:"i"`
	Home uint64 `msgpack:"h"`
	Keys []Q    `msgpack:"k"`
	Rec  T      `msgpack:"r"`
}

// Message is what the table gets: a value for a key, or a question of a record.
type Message[Q, V any] struct {
	Key   Q  `msgpack:"k"`
	Value *V `msgpack:"v,omitempty"`
	// Is says that it is a value, which Value does not: one whose encoding is nil comes
	// back as no value.
	Is bool `msgpack:"a,omitempty"`
	// Of a question: the record, where it is joined, and which of its keys this is.
	ID    uint64 `msgpack:"i,omitempty"`
	Home  uint64 `msgpack:"h,omitempty"`
	Index int    `msgpack:"n,omitempty"`
}

// Answer is what the table has for a key of a record.
type Answer[V any] struct {
	ID    uint64 `msgpack:"i"`
	Home  uint64 `msgpack:"h"`
	Index int    `msgpack:"n"`
	Value *V     `msgpack:"v,omitempty"`
	// Is says that the table has a value, also where that is encoded as nil.
	Is bool `msgpack:"a,omitempty"`
}

// Content returns the value of a Message or an Answer that is one; nil is the zero one.
func Content[V any](v *V) (content V) {
	if v != nil {
		content = *v
	}
	return content
}

// Found is what the table has for one key.
type Found[Q, V any] struct {
	Key   Q
	Value V
	// OK is false if the table has nothing for the key; Value is the zero one then.
	OK bool
}

// Start returns the consumer that puts records on their way.
func Start[T, Q any](s *operators.Subtask, uid string, home func(T) uint64, keys func(T) []Q, out operators.Consumer[Carried[T, Q]]) operators.Consumer[T] {
	// Barriers part what is under way from what comes after a restore: IDs need not
	// outlive the deployment.
	id := uint64(s.Env.Index) << 40
	return operators.Map(s, uid, func(rec T) Carried[T, Q] {
		id++
		return Carried[T, Q]{ID: id, Home: home(rec), Keys: keys(rec), Rec: rec}
	}, out)
}

// Ask hands on the questions of a record, in the order of its keys.
func Ask[T, Q, V any](c Carried[T, Q], emit func(Message[Q, V])) {
	for i, k := range c.Keys {
		emit(Message[Q, V]{Key: k, ID: c.ID, Home: c.Home, Index: i})
	}
}

// Gather joins records with their answers, in a subtask. It hands records on in the
// order in which they came. A record waits until all answers are there. At a barrier
// none waits, for the barriers of both inputs are there; so nothing has to be kept.
type Gather[T, Q, V any] struct {
	uid string
	out func(*base.Meta, *Joined[T, Q, V])
	// line holds the records that have come, in order, from the first one that waits
	// on; byID those, and the ones of which answers came first.
	line   []*gathering[T, Q, V]
	byID   map[uint64]*gathering[T, Q, V]
	joined Joined[T, Q, V]
}

// Joined is a record with what was found for its keys, in their order.
type Joined[T, Q, V any] struct {
	Rec   T
	Found []Found[Q, V]
}

// gathering is a record of which some parts are there.
type gathering[T, Q, V any] struct {
	meta    base.Meta
	time    base.Timestamp
	id      uint64
	rec     T
	here    bool
	found   []Found[Q, V]
	answers int
}

// NewGather returns the node of a subtask.
func NewGather[T, Q, V any](s *operators.Subtask, uid string, out operators.Consumer[Joined[T, Q, V]]) *Gather[T, Q, V] {
	g := &Gather[T, Q, V]{uid: uid, out: out.One, byID: map[uint64]*gathering[T, Q, V]{}}
	s.Add(g)
	return g
}

// UID implements operators.Node.
func (g *Gather[T, Q, V]) UID() string { return g.uid }

// Records returns the consumer of records.
func (g *Gather[T, Q, V]) Records() operators.Consumer[Carried[T, Q]] {
	return operators.Consumer[Carried[T, Q]]{One: func(m *base.Meta, c *Carried[T, Q]) {
		r := g.of(c.ID, m.Time)
		r.here, r.meta, r.rec = true, *m, c.Rec
		r.grow(len(c.Keys))
		for i, k := range c.Keys {
			r.found[i].Key = k
		}
		g.line = append(g.line, r)
		g.send()
	}}
}

// Answers returns the consumer of answers.
func (g *Gather[T, Q, V]) Answers() operators.Consumer[Answer[V]] {
	return operators.Consumer[Answer[V]]{One: func(m *base.Meta, a *Answer[V]) {
		r := g.of(a.ID, m.Time)
		r.grow(a.Index + 1)
		if a.Is {
			r.found[a.Index].Value, r.found[a.Index].OK = Content(a.Value), true
		}
		r.answers++
		g.send()
	}}
}

func (g *Gather[T, Q, V]) of(id uint64, at base.Timestamp) *gathering[T, Q, V] {
	r := g.byID[id]
	if r == nil {
		r = &gathering[T, Q, V]{id: id, time: at}
		g.byID[id] = r
	}
	return r
}

func (r *gathering[T, Q, V]) grow(n int) {
	for len(r.found) < n {
		r.found = append(r.found, Found[Q, V]{})
	}
}

// send hands on what is complete, up to the first record that is not.
func (g *Gather[T, Q, V]) send() {
	for len(g.line) > 0 && g.line[0].answers == len(g.line[0].found) {
		r := g.line[0]
		g.line[0] = nil
		g.line = g.line[1:]
		delete(g.byID, r.id)
		g.joined = Joined[T, Q, V]{Rec: r.rec, Found: r.found}
		g.out(&r.meta, &g.joined)
	}
	if len(g.line) == 0 {
		g.line = nil
	}
}

// Advance implements operators.Watermarker: no watermark overtakes a record that
// waits. One could when all inputs were idle and one of them is active again; until the
// answer is there, the task then asks again in every turn and does not sleep.
func (g *Gather[T, Q, V]) Advance(w base.Timestamp, _ int64) (done bool) {
	for _, r := range g.byID {
		if r.time < w {
			return false
		}
	}
	return true
}

// Barrier implements operators.Barrierer: all parts of what came before it are there.
func (g *Gather[T, Q, V]) Barrier(base.Epoch) error {
	if len(g.byID) > 0 {
		return &base.Error{
			Code: CodeUnanswered, What: fmt.Sprintf("%d records of a lookup wait for answers at a barrier, and all answers before it are there", len(g.byID)),
			Where: "operator " + g.uid,
			Next:  "the job goes on from its last checkpoint; if this comes again, have keys say the same of the same record, and report it",
		}
	}
	return nil
}
