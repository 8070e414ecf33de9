package operators

import (
	"unsafe"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/window"
)

// members lists the keys of the window that slides, with the number of its
// slices that each has records in. As the window slides, the slices that enter
// and those that leave are walked, and no others.
//
// Where accumulators can be subtracted, a member holds the running total of its
// window. Otherwise its windows are computed from the slices, by blocks (see
// window.Blocks) where a window has more than a few and memory allows.
//
// All of this is derived from the slices: after a restore it is thrown away and
// built anew by the first window that fires.
type members[K comparable, A any] struct {
	ops    *window.Ops[A]
	store  *accStore[K, A]
	group  *state.Group
	table  *state.Table
	totals bool

	// ready: every slice with records in [first, entered] is counted, and those
	// of the window that ends at next will be once the ones above are.
	ready                bool
	first, entered, next base.Timestamp

	blocks    []window.Blocks[A]
	free      []int32 // numbers of blocks not in use, from 1
	maxBlocks int

	keys  keyBatch // a few keys of a walk
	slots []int32  // their blocks
	accs  []A      // their accumulators in the slice walked
	gone  []int
	key   stateKey
}

// memberHead begins the value of a member.
type memberHead struct {
	Slices int32
	Slot   int32 // number of its block, from 1
}

// memberTotal is the value of a member with a running total.
type memberTotal[A any] struct {
	memberHead
	Total A
}

// blocksBudget bounds the memory of one operator's blocks in one subtask; keys
// beyond it are computed from all slices of the window.
const blocksBudget = 64 << 20

func newMembers[K comparable, A any](s *Subtask, uid string, ops *window.Ops[A], store *accStore[K, A], slices int) (*members[K, A], error) {
	m := &members[K, A]{ops: ops, store: store, totals: store.raw && ops.Subtract != nil, keys: newKeyBatch()}
	var acc A
	d, err := memberDecl[memberHead]()
	if m.totals {
		d, err = memberDecl[memberTotal[A]]()
	}
	if err != nil {
		return nil, err
	}
	d.Operator, d.Name, d.Key = uid, "window", store.keys.kind()
	// Blocks copy and keep accumulators, which only pays for small ones.
	if !m.totals && store.raw && slices > window.RecombineMax {
		m.maxBlocks = blocksBudget / (slices * (16 + int(unsafe.Sizeof(acc))))
	}
	m.group, err = s.Env.Backend.Group(d)
	return m, err
}

func memberDecl[V any]() (d state.Decl, err error) {
	c, err := codec.For[V]()
	if err != nil {
		return d, err
	}
	d.ValueSize, _ = c.Fixed()
	d.Schema = c.Schema().String()
	return d, nil
}

// clear forgets all members.
func (m *members[K, A]) clear() {
	m.table, m.ready = newTable(m.group, 0), false
	m.blocks, m.free = nil, m.free[:0]
}

// enter begins the window with the slices first to last and returns where those
// begin that have to be added.
func (m *members[K, A]) enter(first, last base.Timestamp) (from base.Timestamp) {
	from = m.entered + 1
	if !m.ready || m.next != last {
		m.clear()
		from = first
	}
	m.ready, m.first, m.entered, m.next = true, first, last, last
	return from
}

// leave says that the next window begins with slice keep and ends at next.
func (m *members[K, A]) leave(keep, next base.Timestamp) { m.first, m.next = keep, next }

// move walks some entries of a slice and counts their keys in, or out.
func (m *members[K, A]) move(slice *state.Table, at *state.Cursor, in bool) (through bool) {
	m.keys.reset()
	m.accs = m.accs[:0]
	ints := m.store.keys.ints
	through = slice.Walk(at, walkStep, func(hash uint64, key, val []byte) bool {
		m.store.keys.walked(&m.key, hash, key)
		m.keys.copied(ints, &m.key)
		if m.totals {
			m.accs = append(m.accs, *m.store.value(val))
		}
		return true
	})
	m.gone = m.gone[:0]
	for i, p := range m.keys.upsert(ints, m.table) {
		h := (*memberHead)(p)
		if in {
			m.count(h)
			if m.totals {
				m.ops.Merge(totalOf[A](p), &m.accs[i])
			}
			continue
		}
		if m.totals {
			m.ops.Subtract(totalOf[A](p), &m.accs[i])
		}
		if h.Slices--; h.Slices == 0 {
			m.release(h.Slot)
			m.gone = append(m.gone, i)
		}
	}
	for _, i := range m.gone {
		m.keys.at(ints, i, &m.key)
		m.store.keys.remove(m.table, &m.key)
	}
	return through
}

// count counts a slice of a member; a new one gets a block if there is one.
func (m *members[K, A]) count(h *memberHead) {
	h.Slices++
	if h.Slices > 1 {
		return
	}
	switch n := len(m.free); {
	case n > 0:
		h.Slot, m.free = m.free[n-1], m.free[:n-1]
	case len(m.blocks) < m.maxBlocks:
		m.blocks = append(m.blocks, window.Blocks[A]{})
		h.Slot = int32(len(m.blocks))
	}
}

func (m *members[K, A]) release(slot int32) {
	if slot > 0 {
		m.blocks[slot-1].Reset()
		m.free = append(m.free, slot)
	}
}

// added notes a record for a slice that was counted, if it was. It returns the
// running total that the record must be added to, or nil.
func (m *members[K, A]) added(sliceEnd base.Timestamp, k *stateKey, fresh bool) *A {
	if !m.ready || sliceEnd < m.first || sliceEnd > m.entered {
		return nil
	}
	p, _ := m.store.keys.upsert(m.table, k)
	h := (*memberHead)(p)
	if fresh {
		m.count(h)
	}
	if h.Slot > 0 && m.blocks[h.Slot-1].Covers(sliceEnd) {
		m.blocks[h.Slot-1].Reset()
	}
	if m.totals {
		return totalOf[A](p)
	}
	return nil
}

// list takes the keys of some members down.
func (m *members[K, A]) list(at *state.Cursor) (through bool) {
	m.keys.reset()
	m.slots = m.slots[:0]
	return m.table.Walk(at, walkStep, func(hash uint64, key, val []byte) bool {
		m.store.keys.walked(&m.key, hash, key)
		m.keys.copied(m.store.keys.ints, &m.key)
		m.slots = append(m.slots, (*memberHead)(unsafe.Pointer(unsafe.SliceData(val))).Slot)
		return true
	})
}

// compute computes the window of listed key i into *out; false: it is empty.
func (m *members[K, A]) compute(s window.Slicer, i int, end base.Timestamp, slices window.Lookup[A], out *A) bool {
	if slot := m.slots[i]; slot > 0 {
		return m.blocks[slot-1].Fire(s, m.ops, m.keys.hashes[i], end, slices, out)
	}
	return window.Recombine(s, m.ops, end, slices, out)
}

// total returns the running total in a member's value.
func (m *members[K, A]) total(val []byte) *A {
	return totalOf[A](unsafe.Pointer(unsafe.SliceData(val)))
}

func totalOf[A any](p unsafe.Pointer) *A { return &(*memberTotal[A])(p).Total }
