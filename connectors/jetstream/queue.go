package jetstream

import (
	"sync"

	"github.com/nats-io/nats.go"
)

// wakeBatch messages wake the reader also in the middle of a burst.
const wakeBatch = 256

// item is one message of the split in the order of the stream. msg is nil when
// only the position moves on: over a commit marker, or over messages that the
// filter leaves out.
type item struct {
	seq  uint64
	time int64
	msg  *nats.Msg
}

// size is what the item counts against the buffer, in bytes.
func (it item) size() int {
	if it.msg == nil {
		return 0
	}
	return len(it.msg.Data) + len(it.msg.Subject)
}

// queue holds messages between the connection's goroutine, which fills it, and the
// reader, which empties it. Its bounds are kept by whoever asks the server for
// more. Items behind a jump that may be a gap are held back until verified.
type queue struct {
	wake func()

	mu    sync.Mutex
	items []item
	bytes int
	// taken and put count the items that left and entered, held the items that may
	// leave; each in absolute numbers.
	taken, put, free uint64
	holding          bool
	// last is the highest sequence put, lastTime when it was stored or, for a
	// position without message, seen.
	last     uint64
	lastTime int64
	// anchorSeq and anchorTime are those of the last real message.
	anchorSeq  uint64
	anchorTime int64
	// waiting counts the messages that the server still has, as of the last one.
	waiting int64
	// hungry is set when the reader found nothing and waits for wake.
	hungry bool
	// coming says that the message put now is not the last of a burst.
	coming bool
	err    error
	// end is the last sequence to read, once it is known.
	end    uint64
	hasEnd bool
	// jumps are sequences left out since the last check: the first of them follows
	// pred.
	jumped bool
	pred   uint64
	// anyFirst lets the first item follow any sequence.
	anyFirst bool
	// risky says whether a jump from a sequence stored at a time may be a gap.
	risky func(pred uint64, stored int64) bool
}

// putLocked appends an item; the caller holds mu. It reports whether the reader
// must be woken.
func (q *queue) putLocked(it item) (wake bool) {
	if it.seq > q.last+1 && !q.anyFirst {
		if !q.jumped {
			q.jumped, q.pred = true, q.last
		}
		if !q.holding && q.risky(q.last, q.lastTime) {
			q.holding = true
		}
	}
	q.anyFirst = false
	q.last, q.lastTime = it.seq, it.time
	q.items = append(q.items, it)
	q.bytes += it.size()
	q.put++
	return q.releaseLocked()
}

// releaseLocked lets go of what is not held back.
func (q *queue) releaseLocked() (wake bool) {
	if q.holding {
		return false
	}
	q.free = q.put
	return q.wakeLocked()
}

// wakeLocked decides whether the reader is woken: not yet when the next message is
// here already and will decide again, because waking for each of a burst costs more
// than the messages do.
func (q *queue) wakeLocked() (wake bool) {
	n := q.free - q.taken
	wake = q.hungry && n > 0 && (!q.coming || n >= wakeBatch)
	q.hungry = q.hungry && !wake
	return wake
}

// take appends the items that may leave to dst, whose memory the queue takes in
// exchange when it can.
func (q *queue) take(dst []item) (out []item, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return dst[:0], q.err
	}
	n := int(q.free - q.taken)
	switch {
	case n == 0:
		q.hungry = true
		return dst[:0], nil
	case n == len(q.items):
		out, q.items, q.bytes = q.items, dst[:0], 0
	default:
		out = append(dst[:0], q.items[:n]...)
		rest := copy(q.items, q.items[n:])
		clear(q.items[rest:])
		q.items = q.items[:rest]
		for _, it := range out {
			q.bytes -= it.size()
		}
	}
	q.taken = q.free
	return out, nil
}

// fail makes every later take return err.
func (q *queue) fail(err error) {
	q.mu.Lock()
	if q.err == nil {
		q.err = err
	}
	q.mu.Unlock()
	q.wake()
}

// lag is the number of messages that wait here or at the server.
func (q *queue) lag() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting < 0 {
		return -1
	}
	return q.waiting + int64(len(q.items))
}

// bound returns the last sequence to read, once it is known.
func (q *queue) bound() (end uint64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.end, q.hasEnd
}
