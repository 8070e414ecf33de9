package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
)

func isStateError(err error) bool {
	_, ok := errors.AsType[*base.Error](err)
	return ok
}

// Restore fills the declared states from the chains of old subtasks, keeping only
// entries whose hash the backend owns. Every object is verified before anything
// is taken from it. It has to be called before the first use, also without
// chains. What does not fit in memory is spilled.
//
// The errors are WEIR-0304 to WEIR-0307 and WEIR-0310; after an error the backend
// must be closed. The stored objects are never changed.
func (b *Backend) Restore(ctx context.Context, chains []Chain) error {
	b.restored = true
	r := restorer{b: b, states: map[string]*restoredState{}}
	for i := range chains {
		c := &chains[i]
		for j := range c.Objects {
			ref := c.Objects[j]
			if !narrow(&ref, c.Range) || !narrow(&ref, b.opts.Range) {
				continue
			}
			if err := r.object(ctx, &ref); err != nil {
				return err
			}
			r.refs = append(r.refs, ref)
			crash.At(crash.RecMidRestore)
		}
	}
	if len(r.refs) > 0 {
		b.plan.imported = len(r.refs)
		b.store.writer.restored(b, r.refs)
	}
	if r.rewrite { // so that the old form need not be understood for ever
		b.failed.Store(true)
	}
	return b.err
}

type restorer struct {
	b       *Backend
	states  map[string]*restoredState
	refs    []protocol.ObjectRef
	rewrite bool
	val     []byte
}

// restoredState says what to do with a state of an object.
type restoredState struct {
	info groupInfo
	g    *Group // nil: dropped
	// convert makes a value of the current layout; nil when it is the same.
	convert func(old, dst []byte)
}

// object applies one object.
func (r *restorer) object(ctx context.Context, ref *protocol.ObjectRef) error {
	return withObject(ctx, r.b.store.opts.Blob, r.b.store.opts.Job, ref, func(o *objectReader) error {
		states := make(map[uint32]*restoredState, len(o.foot.groups))
		for i := range o.foot.groups {
			st, err := r.state(&o.foot.groups[i])
			if err != nil {
				return err
			}
			states[o.foot.groups[i].id] = st
		}
		for i := range o.foot.blocks {
			if err := ctx.Err(); err != nil {
				return err
			}
			block, err := o.block(i)
			if err != nil {
				return err
			}
			if err := eachSection(block, func(s *section) error {
				st := states[s.group]
				if st == nil {
					return fmt.Errorf("%w: a section of an unknown state %d", ErrCorrupt, s.group)
				}
				return r.section(st, s, ref.Range)
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// state matches a stored state with a declared one.
func (r *restorer) state(info *groupInfo) (*restoredState, error) {
	id := fmt.Sprintf("%s/%s %d %d %v %v %s", info.operator, info.name, info.key, info.valueSize, info.scattered, info.expires, info.schema)
	if st := r.states[id]; st != nil {
		return st, nil
	}
	st := &restoredState{info: *info}
	name := info.operator + "/" + info.name
	for _, g := range r.b.groups {
		if g.decl.Operator == info.operator && g.decl.Name == info.name {
			st.g = g
		}
	}
	switch {
	case st.g != nil:
		if err := r.match(st, name); err != nil {
			return nil, err
		}
	case slices.Contains(r.b.store.opts.DropState, name):
		r.rewrite = true
	default:
		return nil, base.Fatal(stateError(CodeUnmatched, "the checkpoint has a state that the job does not declare", name,
			fmt.Sprintf("give the operator its old name back, or drop the state by naming %q", name), nil))
	}
	r.states[id] = st
	return st, nil
}

// match decides how stored values become current ones.
func (r *restorer) match(st *restoredState, name string) error {
	d, info := &st.g.decl, &st.info
	if d.Key != info.key || d.scattered != info.scattered {
		return schemaError(name, "its keys have another form", nil)
	}
	if d.Schema == info.schema && d.ValueSize == info.valueSize && d.expires == info.expires {
		return nil
	}
	if (d.ValueSize == 0) != (info.valueSize == 0) {
		return schemaError(name, "its values were of fixed size and now are not, or the other way round", nil)
	}
	r.rewrite = true
	old, err := codec.ParseSchema(info.schema)
	now, err2 := codec.ParseSchema(d.Schema)
	if err = errors.Join(err, err2); err != nil {
		return schemaError(name, "its values have another form", err)
	}
	if d.ValueSize == 0 {
		if d.expires != info.expires {
			return schemaError(name, "a TTL was added or removed", nil)
		}
		if err := codec.Compatible(old, now); err != nil {
			return schemaError(name, "its type has changed", err)
		}
		return nil
	}
	conv, err := codec.ConvertFixed(old, now)
	if err != nil {
		return schemaError(name, "its type has changed", err)
	}
	st.convert = withExpiry(conv, info.expires, d.expires)
	return nil
}

// withExpiry extends a conversion to values with a time in front. A value that
// had none lives until it is written again.
func withExpiry(conv func(old, dst []byte), had, has bool) func(old, dst []byte) {
	return func(old, dst []byte) {
		at := base.MaxTime
		if had {
			at = *(*int64)(unsafe.Pointer(unsafe.SliceData(old)))
			old = old[8:]
		}
		if has {
			*(*int64)(unsafe.Pointer(unsafe.SliceData(dst))) = at
			dst = dst[8:]
		}
		conv(old, dst)
	}
}

func schemaError(name, what string, cause error) error {
	return base.Fatal(stateError(CodeSchema, "the stored state does not fit the job: "+what, name,
		"restore the old type, give the state a new name, or drop the old one by naming it", cause))
}

// section applies the entries of a section that lie in a range.
func (r *restorer) section(st *restoredState, s *section, rng base.HashRange) error {
	if st.g == nil {
		return nil
	}
	if s.kind == sectionDrop {
		r.drop(st.g, s.ns, rng)
		return nil
	}
	var t *Table
	var e entry
	for range s.count {
		if err := s.next(&st.info, &e); err != nil {
			return err
		}
		owner := e.hash
		switch {
		case st.info.key == KeyUint64:
			owner = base.HashUint64(e.u64)
			e.hash = owner
		case st.info.scattered:
			owner = ownerOf(e.key)
			e.hash = r.b.place.scatter(e.key)
		}
		if !rng.Contains(owner) {
			continue
		}
		if t == nil {
			t = st.g.Namespace(s.ns)
			t.wasRecorded = true
		}
		if r.b.over {
			r.b.relieve()
		}
		if s.kind == sectionDelete {
			t.restoreDelete(&e)
			continue
		}
		val := e.val
		if st.convert != nil {
			val = r.converted(st, e.val)
		}
		t.restorePut(&e, val)
	}
	if len(s.body) != 0 {
		return fmt.Errorf("%w: a section has %d bytes too many", ErrCorrupt, len(s.body))
	}
	return nil
}

func (r *restorer) converted(st *restoredState, old []byte) []byte {
	if n := st.g.decl.ValueSize; cap(r.val) < n {
		r.val = make([]byte, n)
	}
	dst := r.val[:st.g.decl.ValueSize]
	clear(dst)
	st.convert(old, dst)
	return dst
}

// drop removes the entries of a namespace that lie in a range.
func (r *restorer) drop(g *Group, ns int64, rng base.HashRange) {
	t := g.Existing(ns)
	if t == nil {
		return
	}
	if rng.Lo <= r.b.opts.Range.Lo && rng.Hi >= r.b.opts.Range.Hi {
		t.wasRecorded = false // the chain has the record
		g.Drop(ns)
		return
	}
	const batch = 1024
	var c Cursor
	for !c.done {
		var list []entry
		t.Walk(&c, batch, func(hash uint64, key, _ []byte) bool {
			owner := hash
			if t.scattered {
				owner = ownerOf(key)
			}
			if rng.Contains(owner) {
				e := entry{hash: hash, key: slices.Clone(key)}
				if g.decl.Key == KeyUint64 {
					e.u64 = ownerOf(key) // eight bytes, big-endian
				}
				list = append(list, e)
			}
			return true
		})
		for i := range list {
			t.restoreDelete(&list[i])
		}
		c.skip = 0
	}
	if t.Len() == 0 {
		t.wasRecorded = false
		g.Drop(ns)
	}
}

// find returns the slot of an entry.
func (t *Table) find(e *entry) (s *segment, i int, slot unsafe.Pointer, ok bool) {
	if t.g.layout.key == KeyUint64 {
		return t.findU64(e.hash, e.u64)
	}
	return t.findBytes(e.hash, e.key)
}

// restorePut sets an entry without marking it as changed.
func (t *Table) restorePut(e *entry, val []byte) {
	s, i, slot, ok := t.find(e)
	if !ok && s.onDisk && t.loadEntry(s, e) {
		s, i, slot, ok = t.find(e)
	}
	if !ok {
		for !t.room(s, i, e.hash) {
			s, i, slot, _ = t.find(e)
		}
		if t.g.layout.key == KeyUint64 {
			*(*uint64)(slot) = e.u64
		} else {
			t.setKey(s, slot, e.hash, e.key)
		}
		t.fill(s, slot)
		t.grew(t.entrySize(slot))
		t.b.pressure()
	} else if metaOf(slot).flags&tombstone != 0 {
		t.revive(s, slot)
	}
	m := metaOf(slot)
	m.stamp = 0
	m.flags |= recorded | changed
	if t.g.layout.form == varForm {
		t.setVar(s, slot, val)
		return
	}
	copy(unsafe.Slice((*byte)(t.g.layout.fixedValue(slot)), t.g.layout.size), val)
}

// restoreDelete deletes an entry without recording that.
func (t *Table) restoreDelete(e *entry) {
	s, i, slot, ok := t.find(e)
	if !ok && s.onDisk && t.loadEntry(s, e) {
		s, i, slot, ok = t.find(e)
	}
	if !ok || metaOf(slot).flags&tombstone != 0 {
		return
	}
	t.len--
	t.grew(-t.entrySize(slot))
	t.b.structure++
	m := metaOf(slot)
	m.stamp = 0
	if m.flags&onDisk != 0 {
		s.freeValue(slot)
		m.flags |= tombstone | changed
		return
	}
	s.remove(i)
	t.slotsUsed--
}
