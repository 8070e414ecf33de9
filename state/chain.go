package state

import (
	"math"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
)

// chain is the ordered list of objects from which a backend can be restored. It
// belongs to the writer's goroutine.
type chain struct {
	rangeOf  func(first, count int) (base.HashRange, bool)
	imported []protocol.ObjectRef // what the backend was restored from
	objects  []chainObject        // in the order of their barriers
	// start[k] is the sequence number from which objects count for slice k; 0
	// means that all do, the imported ones included.
	start [numSlices]uint64
	seq   uint64
	// broken says that an object was lost; no snapshot is complete until there
	// is a base of everything.
	broken bool
}

// chainObject is one object that this backend wrote.
type chainObject struct {
	seq    uint64
	epoch  base.Epoch
	sha    protocol.SHA
	size   uint64
	inline []byte
}

// rebase says that the next object is a base of slices.
func (c *chain) rebase(first, count int) {
	for k := first; k < first+count; k++ {
		c.start[k] = c.seq + 1
	}
	if count == numSlices {
		c.broken = false
	}
	c.prune()
}

// add appends an object.
func (c *chain) add(o chainObject) {
	c.seq++
	o.seq = c.seq
	c.objects = append(c.objects, o)
}

// skip stands for an object without entries, which is not stored.
func (c *chain) skip() { c.seq++ }

// prune forgets objects that count for no slice.
func (c *chain) prune() {
	low := uint64(math.MaxUint64)
	for _, s := range c.start {
		low = min(low, s)
	}
	if low == 0 {
		return
	}
	c.imported = nil
	n := 0
	for n < len(c.objects) && c.objects[n].seq < low {
		n++
	}
	c.objects = append(c.objects[:0:0], c.objects[n:]...)
}

// refs lists the chain. An object that is a base for some slices and a delta for
// others is listed once for each run of slices.
func (c *chain) refs() []protocol.ObjectRef {
	out := make([]protocol.ObjectRef, 0, len(c.imported)+len(c.objects)+8)
	for k := 0; k < numSlices; {
		n := c.run(k, func(k int) bool { return c.start[k] == 0 })
		if n == 0 {
			k++
			continue
		}
		if r, ok := c.rangeOf(k, n); ok {
			for _, ref := range c.imported {
				if narrow(&ref, r) {
					out = append(out, ref)
				}
			}
		}
		k += n
	}
	for i := range c.objects {
		out = c.appendRefs(out, i)
	}
	return out
}

// run returns how many slices from k on satisfy is.
func (c *chain) run(k int, is func(k int) bool) int {
	n := 0
	for k+n < numSlices && is(k+n) {
		n++
	}
	return n
}

// appendRefs lists one object.
func (c *chain) appendRefs(out []protocol.ObjectRef, i int) []protocol.ObjectRef {
	o := &c.objects[i]
	for k := 0; k < numSlices; {
		if c.start[k] > o.seq {
			k++
			continue
		}
		kind, since := c.label(i, k)
		fresh := c.start[k] == 0 && i == 0 // follows the imported objects
		n := c.run(k, func(k int) bool {
			kk, s := c.label(i, k)
			return c.start[k] <= o.seq && kk == kind && s == since && (c.start[k] == 0 && i == 0) == fresh
		})
		r, ok := c.rangeOf(k, n)
		k += n
		if !ok {
			continue
		}
		ref := protocol.ObjectRef{Kind: kind, SHA: o.sha, Size: o.size, Range: r, Since: since, Epoch: o.epoch, Inline: o.inline}
		if !fresh || len(c.imported) == 0 {
			out = append(out, ref)
			continue
		}
		out = c.splitByImports(out, ref)
	}
	return out
}

// label says what object i is for slice k, and at which barrier it begins.
func (c *chain) label(i, k int) (protocol.ObjectKind, base.Epoch) {
	switch {
	case c.start[k] == c.objects[i].seq:
		return protocol.KindBase, 0
	case i > 0 && c.objects[i-1].seq >= c.start[k]:
		return protocol.KindDelta, c.objects[i-1].epoch
	}
	return protocol.KindDelta, 0
}

// splitByImports lists the first object once for each part of its range whose
// imported objects end at the same barrier.
func (c *chain) splitByImports(out []protocol.ObjectRef, ref protocol.ObjectRef) []protocol.ObjectRef {
	for lo := ref.Range.Lo; ; {
		part, hi := ref, ref.Range.Hi
		part.Since = 0
		for i := range c.imported {
			r := c.imported[i].Range
			switch {
			case r.Contains(lo):
				part.Since = c.imported[i].Epoch
				hi = min(hi, r.Hi)
			case r.Lo > lo:
				hi = min(hi, r.Lo-1)
			}
		}
		part.Range = base.HashRange{Lo: lo, Hi: hi}
		out = append(out, part)
		if hi >= ref.Range.Hi {
			return out
		}
		lo = hi + 1
	}
}

// narrow cuts the range of a reference; false when nothing is left.
func narrow(ref *protocol.ObjectRef, r base.HashRange) bool {
	ref.Range.Lo, ref.Range.Hi = max(ref.Range.Lo, r.Lo), min(ref.Range.Hi, r.Hi)
	return ref.Range.Lo <= ref.Range.Hi
}

const (
	// maxInline bounds the bytes of all inline objects of a chain.
	maxInline = 64 << 10
	// maxInlineObjects bounds their number.
	maxInlineObjects = 32
)

// inlineTail returns the index of the first object of the inline ones at the end
// of the chain, when they have become too many to travel inline.
func (c *chain) inlineTail() (first int, tooMany bool) {
	bytes := 0
	first = len(c.objects)
	for first > 0 && c.objects[first-1].inline != nil {
		first--
		bytes += len(c.objects[first].inline)
	}
	n := len(c.objects) - first
	return first, n > 1 && (bytes > maxInline || n > maxInlineObjects)
}

// replaceTail puts one object that holds all of their blocks in the place of the
// objects from first on. Slices that one of them is a base for have it as base
// now: it begins earlier, but whatever was deleted since then it deletes too.
func (c *chain) replaceTail(first int, o chainObject) {
	from := c.objects[first].seq
	for k := range c.start {
		if c.start[k] > from {
			c.start[k] = from
		}
	}
	o.seq, o.epoch = from, c.objects[len(c.objects)-1].epoch
	c.objects = append(c.objects[:first], o)
}
