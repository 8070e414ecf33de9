package pattern

import (
	"encoding/binary"
	"errors"
	"slices"
)

// Values encodes events; codec.Codec does.
type Values[T any] interface {
	Append(dst []byte, v *T) []byte
	Decode(src []byte, v *T) error
}

// ErrState says that the bytes are not the state of a key of this program.
var ErrState = errors.New("the bytes are not the state of a key of this pattern")

// blobVersion is the first byte of every blob.
const blobVersion = 1

// Append appends the state of a key to dst; it appends nothing if the key is empty.
// All that a key does later is the same after Load. Numbers are varints, signed ones
// in zigzag form:
//
//	version (a byte, 1)
//	time and number of the last event
//	events:  count, then of each: time less that of the one before, number within
//	         its time, length, bytes
//	links:   count, then of each: stage, index of its event, and how many links
//	         before this one its predecessor is, 0 for none
//	runs:    count, then of each: node · 2 + whether it has matched, index of its
//	         last link + 1, 0 for the entry run
//	held:    the same for matches that are held
//	waiting: count, then of each event that waits for the watermark: time less that
//	         of the one before, length, bytes
//
// Events and links are written once, however many runs share them. Runs are in the
// order that they have among each other.
func (m *Matcher[T]) Append(dst []byte, k *Key[T], values Values[T]) []byte {
	if k.Empty() {
		return dst
	}
	e := encoder[T]{values: values, dst: append(dst, blobVersion)}
	e.int(k.lastTS)
	e.uint(uint64(k.lastNum))
	runs := k.heap
	if !m.p.exact() {
		runs = k.sorted()
	}
	for i := range runs {
		e.collect(runs[i].path)
	}
	for i := range k.done {
		e.collect(k.done[i].path)
	}
	e.paths()
	e.runs(runs)
	e.runs(k.done)
	e.waiting(k.buf)
	e.unmark()
	return e.dst
}

func (e *encoder[T]) waiting(buf []waiting[T]) {
	e.uint(uint64(len(buf)))
	last := int64(0)
	for i := range buf {
		e.int(buf[i].ts - last)
		last = buf[i].ts
		e.val(&buf[i].val)
	}
}

func (d *decoder[T]) waiting(buf []waiting[T]) []waiting[T] {
	last := int64(0)
	for range d.count() {
		last += d.int()
		w := waiting[T]{ts: last}
		d.val(&w.val)
		buf = append(buf, w)
	}
	return buf
}

// sorted lists all open runs in order.
func (k *Key[T]) sorted() []run[T] {
	all := make([]run[T], 0, k.live)
	for _, n := range k.active {
		all = append(all, k.buckets[n].runs...)
	}
	if len(k.active) > 1 {
		slices.SortFunc(all, func(a, b run[T]) int {
			if a.before(&b) {
				return -1
			}
			return 1
		})
	}
	return all
}

type encoder[T any] struct {
	values  Values[T]
	dst     []byte
	scratch []byte
	records []*record[T]
	links   []*link[T]
}

func (e *encoder[T]) uint(v uint64) { e.dst = binary.AppendUvarint(e.dst, v) }
func (e *encoder[T]) int(v int64)   { e.dst = binary.AppendVarint(e.dst, v) }

// val appends the length of a value and the value.
func (e *encoder[T]) val(v *T) {
	e.scratch = e.values.Append(e.scratch[:0], v)
	e.uint(uint64(len(e.scratch)))
	e.dst = append(e.dst, e.scratch...)
}

// collect numbers the links of a path that have no number yet, the first one first.
func (e *encoder[T]) collect(l *link[T]) {
	from := len(e.links)
	for ; l != nil && l.mark == 0; l = l.prev {
		l.mark = 1
		e.links = append(e.links, l)
	}
	slices.Reverse(e.links[from:])
	for i := from; i < len(e.links); i++ {
		l := e.links[i]
		l.mark = uint32(i + 1)
		if l.ev.mark == 0 {
			e.records = append(e.records, l.ev)
			l.ev.mark = uint32(len(e.records))
		}
	}
}

func (e *encoder[T]) paths() {
	e.uint(uint64(len(e.records)))
	last := int64(0)
	for _, r := range e.records {
		e.int(r.ts - last)
		last = r.ts
		e.uint(uint64(r.num))
		e.val(&r.val)
	}
	e.uint(uint64(len(e.links)))
	for _, l := range e.links {
		e.uint(uint64(l.stage))
		e.uint(uint64(l.ev.mark - 1))
		back := uint32(0)
		if l.prev != nil {
			back = l.mark - l.prev.mark
		}
		e.uint(uint64(back))
	}
}

func (e *encoder[T]) runs(runs []run[T]) {
	e.uint(uint64(len(runs)))
	for i := range runs {
		r := &runs[i]
		flags := uint64(r.node) << 1
		if r.matched {
			flags |= 1
		}
		e.uint(flags)
		at := uint64(0)
		if r.path != nil {
			at = uint64(r.path.mark)
		}
		e.uint(at)
	}
}

// unmark takes the numbers off again.
func (e *encoder[T]) unmark() {
	for _, l := range e.links {
		l.mark, l.ev.mark = 0, 0
	}
}

// Load replaces the state of k by that of a blob, which may be empty. It fails with
// ErrState, or the error of a value that cannot be decoded, and leaves k empty then.
func (m *Matcher[T]) Load(src []byte, k *Key[T], values Values[T]) error {
	k.reset()
	if len(src) == 0 {
		return nil
	}
	d := decoder[T]{values: values, src: src[1:], ok: src[0] == blobVersion}
	k.lastTS, k.lastNum = d.int(), uint32(d.uint())
	links, starts := d.paths(m.p)
	runs := d.runs(m.p, links, starts, nil)
	k.done = d.runs(m.p, links, starts, k.done[:0])
	k.buf = d.waiting(k.buf)
	if d.err == nil && (!d.ok || len(d.src) > 0) {
		d.err = ErrState
	}
	if d.err != nil {
		k.reset()
		return d.err
	}
	m.adopt(k, runs)
	return nil
}

// adopt makes runs in their order the open runs of a key.
func (m *Matcher[T]) adopt(k *Key[T], runs []run[T]) {
	k.due = never
	for i := range runs {
		if runs[i].path != nil {
			k.due = min(k.due, m.p.expiry(&runs[i]))
		}
	}
	if m.p.exact() {
		k.heap = append(k.heap, runs...)
		return
	}
	due := k.due
	for i := 0; i < len(runs); {
		j := i
		for j < len(runs) && runs[j].start == runs[i].start {
			j++
		}
		width := uint64(1<<64-1) / uint64(j-i)
		for n := range runs[i:j] {
			runs[i+n].ord, runs[i+n].width = uint64(n)*width, width
		}
		i = j
	}
	m.insert(k, runs)
	k.due = due
}

// decoder reads a blob; after a mistake it yields zeros.
type decoder[T any] struct {
	values Values[T]
	src    []byte
	ok     bool
	err    error
}

func (d *decoder[T]) uint() uint64 {
	v, n := binary.Uvarint(d.src)
	if n <= 0 {
		d.ok, d.src = false, nil
		return 0
	}
	d.src = d.src[n:]
	return v
}

func (d *decoder[T]) int() int64 {
	v, n := binary.Varint(d.src)
	if n <= 0 {
		d.ok, d.src = false, nil
		return 0
	}
	d.src = d.src[n:]
	return v
}

// count reads a number of elements, of which each takes a byte at least.
func (d *decoder[T]) count() int {
	n := d.uint()
	if n > uint64(len(d.src)) {
		d.ok = false
		return 0
	}
	return int(n)
}

func (d *decoder[T]) val(v *T) {
	n := d.count()
	if d.ok && d.err == nil {
		d.err = d.values.Decode(d.src[:n], v)
	}
	d.src = d.src[n:]
}

// paths reads the events and links, and of each link the first event of its path.
func (d *decoder[T]) paths(p *Program[T]) ([]link[T], []eventID) {
	records := make([]record[T], d.count())
	last := int64(0)
	for i := range records {
		last += d.int()
		records[i].ts, records[i].num = last, uint32(d.uint())
		d.val(&records[i].val)
	}
	links := make([]link[T], d.count())
	starts := make([]eventID, len(links))
	for i := range links {
		stage, ev, back := d.uint(), d.uint(), d.uint()
		if stage >= uint64(len(p.stages)) || ev >= uint64(len(records)) || back > uint64(i) {
			d.ok = false
			return nil, nil
		}
		l := &links[i]
		l.stage, l.ev, l.depth = uint16(stage), &records[ev], 1
		starts[i] = l.ev.id()
		if back > 0 {
			l.prev = &links[i-int(back)]
			l.depth = l.prev.depth + 1
			starts[i] = starts[i-int(back)]
		}
		if d.err == nil {
			p.fold(l)
		}
	}
	return links, starts
}

func (d *decoder[T]) runs(p *Program[T], links []link[T], starts []eventID, runs []run[T]) []run[T] {
	for range d.count() {
		flags, at := d.uint(), d.uint()
		if flags>>1 >= uint64(len(p.nodes)) || at > uint64(len(links)) || at == 0 && !p.exact() {
			d.ok = false
			return nil
		}
		r := run[T]{node: uint16(flags >> 1), matched: flags&1 != 0}
		if at > 0 {
			r.path = &links[at-1]
			r.start = starts[at-1]
		}
		runs = append(runs, r)
	}
	return runs
}
