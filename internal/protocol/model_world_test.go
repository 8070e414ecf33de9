package protocol

import (
	"encoding/binary"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// The model is a world of actors that do anything the protocol allows them, at
// any time, in any order: coordinators (one per term, all alive for ever),
// deployments ("pipes": a source task S, a bounded channel and a keyed task K
// that owns the sink lanes; one per generation, all alive for ever), the
// checkpoint store and the sink. Never scheduling an actor again is a crash;
// scheduling it late is a pause, a partition or a late message. Every decision is
// taken by the cores under test; the model supplies facts and carries actions
// out. Actors are immutable once interned, so a world is a few numbers.

const (
	modelTerms = 4
	modelGens  = 4
	modelLanes = 2
	modelJob   = "00000000000000000000000000000001"
)

var (
	taskS = TaskID{"s", 0}
	taskK = TaskID{"k", 0}
)

func modelLane(l int) LaneID { return LaneID{"sink", l} }

// world is one state: indices into the model's tables, 0 for "absent".
type world struct {
	coords [modelTerms]uint32
	pipes  [modelGens]uint32
	sink   [modelLanes]uint32
	floats [modelLanes]uint32
	store  uint32
}

// table interns immutable values by key.
type table[T any] struct {
	ids  map[string]uint32
	vals []*T
}

func (t *table[T]) put(key []byte, v *T) uint32 {
	if t.ids == nil {
		t.ids, t.vals = map[string]uint32{}, []*T{nil}
	}
	if id, ok := t.ids[string(key)]; ok {
		return id
	}
	id := uint32(len(t.vals))
	t.ids[string(key)] = id
	t.vals = append(t.vals, v)
	return id
}

// keyBuf builds keys.
type keyBuf struct {
	b    []byte
	sums map[SHA]uint64 // small numbers for sums, shared by all keys of a model
	acks map[*Ack]SHA   // digests of acks, likewise
}

func (k *keyBuf) n(vs ...uint64) {
	for _, v := range vs {
		k.b = binary.AppendUvarint(k.b, v)
	}
}

func (k *keyBuf) flag(v bool) {
	if v {
		k.n(1)
	} else {
		k.n(0)
	}
}

func (k *keyBuf) sum(s SHA) {
	id, ok := k.sums[s]
	if !ok {
		id = uint64(len(k.sums))
		k.sums[s] = id
	}
	k.n(id)
}

func (k *keyBuf) try(t Try) { k.n(uint64(t.Epoch), uint64(t.Attempt)) }

func (k *keyBuf) mark(m MarkerID) {
	k.n(uint64(m.Epoch), uint64(m.Chunk))
	k.sum(m.Manifest)
}

// storeM is the checkpoint store: the records, and how many generations were
// deployed. Objects and manifests are immutable and named by content; they live
// in the model, outside the state.
type storeM struct {
	epochs [][]byte // epochs[n-1] is the body of record n
	gens   int
	staged SHA // newest manifest written, for the mutant that restores it
}

// sinkM is one lane of the sink.
type sinkM struct {
	log    []uint16
	found  bool
	marker Marker
	seq    uint64 // of the marker
	writes uint64
	lost   bool // the marker was lost once
}

func (s *sinkM) current() uint64 {
	if s.found {
		return s.seq
	}
	return 0
}

// record names an output: record number and the generation that computed it.
// State is the sequence of generations, so output and state of different runs
// cannot be confused.
func record(r int, g byte) uint16 { return uint16(r)<<4 | uint16(g) }

// The put functions intern a changed actor.

func (m *model) key() *keyBuf {
	m.kb.b = m.kb.b[:0]
	return &m.kb
}

func (m *model) putStore(s *storeM) uint32 {
	k := m.key()
	k.n(uint64(s.gens))
	for _, b := range s.epochs {
		k.sum(SumSHA(b))
	}
	k.sum(s.staged)
	return m.stores.put(k.b, s)
}

func (m *model) putSink(s *sinkM) uint32 {
	k := m.key()
	k.flag(s.found)
	k.flag(s.lost)
	k.mark(s.marker.ID())
	k.n(s.seq, s.writes)
	for _, r := range s.log {
		k.n(uint64(r))
	}
	return m.sinks.put(k.b, s)
}

func (m *model) putFloat(p *Publish) uint32 {
	if p == nil {
		return 0
	}
	k := m.key()
	k.mark(p.Marker.ID())
	k.sum(p.Block.SHA)
	k.n(p.Expect)
	return m.batches.put(k.b, p)
}

// dump writes a coordinator core's state. Failure counts are left out: they only
// raise alarms.
func (c *Coordinator) dump(k *keyBuf) {
	k.n(uint64(c.phase), uint64(c.counter), uint64(c.cfg.Gen))
	k.flag(c.stopped)
	k.sum(c.tipSHA)
	if c.phase != phaseIdle {
		k.try(c.try)
		k.sum(c.manifestSHA)
	}
	for _, a := range c.acks {
		k.sum(k.acks[a])
	}
	for i := range c.lanes {
		l := &c.lanes[i]
		k.n(uint64(l.committed), uint64(len(l.pending)))
		for _, e := range l.pending {
			k.n(uint64(e))
		}
	}
}

func (c *Coordinator) clone() *Coordinator {
	d := *c
	d.acks = slices.Clone(c.acks)
	d.lanes = slices.Clone(c.lanes)
	for i := range d.lanes {
		d.lanes[i].pending = slices.Clone(d.lanes[i].pending)
	}
	return &d
}

// dump writes a lane core's state; tries only pace retries.
func (l *Lane) dump(k *keyBuf) {
	k.n(uint64(l.state), uint64(l.chunk), uint64(l.committed), uint64(len(l.queue)))
	for i := range l.queue {
		k.n(uint64(l.queue[i].Epoch))
		k.sum(l.queue[i].Manifest)
	}
	k.flag(l.taken)
	k.mark(l.last)
	k.flag(l.known)
	if l.known {
		k.mark(l.tip)
		k.n(l.seq)
	}
}

func (l *Lane) clone() *Lane {
	d := *l
	d.queue = slices.Clone(l.queue)
	return &d
}

func (p *Participant) dump(k *keyBuf) {
	k.n(uint64(p.confirmed), uint64(len(p.held)))
	for _, t := range p.held {
		k.try(t)
	}
}

func (p *Participant) clone() *Participant {
	return &Participant{held: slices.Clone(p.held), confirmed: p.confirmed}
}

// epochRecord decodes record n of the store; n must exist.
func (m *model) epochRecord(s *storeM, n base.Epoch) EpochRecord {
	rec, err := DecodeEpochRecord(s.epochs[n-1])
	if err != nil {
		m.failf("record %d does not decode: %v", n, err)
	}
	return rec
}
