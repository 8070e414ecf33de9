package state

import (
	"encoding/binary"
	"unsafe"
)

// maxBuffer is the size of a copy buffer, and so of the blocks of an object; a
// store with a small budget has smaller ones.
const (
	maxBuffer = 256 << 10
	minBuffer = 16 << 10
)

// buffer is one block under construction.
type buffer struct {
	mem block
	n   int // bytes in use
}

func (b *buffer) bytes() []byte { return unsafe.Slice((*byte)(b.mem.p), b.n) }

// sectionKind says what the entries of a section are.
type sectionKind uint8

const (
	sectionPut    sectionKind = 1 // keys with values
	sectionDelete sectionKind = 2 // keys that no longer exist
	sectionDrop   sectionKind = 3 // the whole namespace no longer exists; no entries
)

// sectionHeader is the length of a section's header; see docs/format/delta.md.
const sectionHeader = 24

// stream writes the entries of one epoch of one backend into buffers and hands
// full ones to the writer. It belongs to the backend's goroutine.
type stream struct {
	b     *Backend
	stamp uint32

	cur *buffer
	// The open section of cur, if at is not negative.
	t    *Table
	kind sectionKind
	at   int

	bytes, entries         int64
	baseBytes, baseEntries int64
	again                  int64 // bytes of entries that the chain has already
}

func (b *Backend) newStream() *stream { return &stream{b: b, stamp: b.epoch, at: -1} }

// room returns memory for n bytes in a section of the table and kind.
func (w *stream) room(t *Table, kind sectionKind, n int) []byte {
	if w.cur == nil || w.cur.n+n+sectionHeader > w.cur.mem.size {
		w.flush()
		w.cur = w.b.store.writer.take(n + sectionHeader)
	}
	if w.at < 0 || w.t != t || w.kind != kind {
		w.section(t, kind)
	}
	p := unsafe.Slice((*byte)(unsafe.Add(w.cur.mem.p, w.cur.n)), n)
	w.cur.n += n
	w.bytes += int64(n)
	return p
}

// base counts the entry written since the stream had so many bytes as unchanged.
func (w *stream) base(before int64) {
	w.baseBytes += w.bytes - before
	w.baseEntries++
}

// scarce says that the next entry may need another buffer.
func (w *stream) scarce() bool { return w.cur == nil || w.cur.mem.size-w.cur.n < 4096 }

// section starts a section.
func (w *stream) section(t *Table, kind sectionKind) {
	w.seal()
	w.t, w.kind, w.at = t, kind, w.cur.n
	h := unsafe.Slice((*byte)(unsafe.Add(w.cur.mem.p, w.cur.n)), sectionHeader)
	clear(h)
	binary.LittleEndian.PutUint64(h, uint64(t.ns))
	binary.LittleEndian.PutUint32(h[8:], t.g.id)
	h[20] = byte(kind)
	w.cur.n += sectionHeader
	w.bytes += sectionHeader
}

// count adds an entry to the open section.
func (w *stream) count() {
	c := (*uint32)(unsafe.Add(w.cur.mem.p, w.at+12))
	*c++
	w.entries++
}

// seal ends the open section.
func (w *stream) seal() {
	if w.at >= 0 {
		*(*uint32)(unsafe.Add(w.cur.mem.p, w.at+16)) = uint32(w.cur.n - w.at - sectionHeader)
		w.at = -1
	}
}

// flush hands the current buffer to the writer.
func (w *stream) flush() {
	if w.cur != nil {
		w.seal()
		w.b.store.writer.add(w.b, w.stamp, w.cur)
		w.cur = nil
	}
}

// discard gives the current buffer back.
func (w *stream) discard() {
	if w.cur != nil {
		w.b.store.writer.put(w.cur)
		w.cur = nil
	}
	w.at = -1
}

// drop records that a namespace no longer exists.
func (w *stream) drop(t *Table) {
	w.room(t, sectionDrop, 0)
	w.entries++
	w.seal()
}

// entry records an entry with its value, or that it was deleted.
func (w *stream) entry(t *Table, slot unsafe.Pointer) {
	l := &t.g.layout
	if metaOf(slot).flags&tombstone != 0 {
		w.key(t, slot, sectionDelete, 0)
		w.count()
		return
	}
	if l.key == KeyUint64 && l.form == inlineForm {
		p := w.room(t, sectionPut, 8+l.size)
		*(*uint64)(unsafe.Pointer(&p[0])) = *(*uint64)(slot)
		copy(p[8:], unsafe.Slice((*byte)(unsafe.Add(slot, l.valOff)), l.size))
		w.count()
		return
	}
	v := l.value(slot)
	extra := len(v)
	if l.form == varForm {
		extra += 4
	}
	p := w.key(t, slot, sectionPut, extra)
	if l.form == varForm {
		binary.LittleEndian.PutUint32(p, uint32(len(v)))
		p = p[4:]
	}
	copy(p, v)
	w.count()
}

// key writes the key of a slot and returns extra bytes behind it.
func (w *stream) key(t *Table, slot unsafe.Pointer, kind sectionKind, extra int) []byte {
	if t.g.layout.key == KeyUint64 {
		p := w.room(t, kind, 8+extra)
		binary.LittleEndian.PutUint64(p, *(*uint64)(slot))
		return p[8:]
	}
	k := keyBytes(slot)
	if t.scattered {
		p := w.room(t, kind, 2+len(k)+extra)
		binary.LittleEndian.PutUint16(p, uint16(len(k)))
		copy(p[2:], k)
		return p[2+len(k):]
	}
	p := w.room(t, kind, 10+len(k)+extra)
	binary.LittleEndian.PutUint64(p, *(*uint64)(slot))
	binary.LittleEndian.PutUint16(p[8:], uint16(len(k)))
	copy(p[10:], k)
	return p[10+len(k):]
}
