package state

import (
	"time"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
)

// TTL says how long an entry lives after it was written. The zero value is for
// ever.
type TTL struct {
	// For is the life of an entry.
	For time.Duration
	// Processing measures it in processing time; the default is event time.
	Processing bool
}

// SetTime tells the state the current event time (the watermark) and processing
// time, by which entries with a TTL expire.
func (b *Backend) SetTime(event, processing base.Timestamp) { b.event, b.proc = event, processing }

// now returns the time by which entries of a TTL expire.
func (b *Backend) now(t TTL) base.Timestamp {
	if t.Processing {
		return b.proc
	}
	return b.event
}

// expired says that the time in front of a value has come.
func (b *Backend) expired(d *Decl, slot unsafe.Pointer, t *Table) bool {
	v := t.g.layout.value(slot)
	return len(v) >= 8 && *(*int64)(unsafe.Pointer(unsafe.SliceData(v))) <= b.now(d.TTL)
}
