package pattern

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Buffer keeps an event until Drain takes it, so that events that come in any order
// are taken in that of their times. Events of one time keep the order in which they
// came. dropped is an event that the limit makes give way, if any.
func (m *Matcher[T]) Buffer(k *Key[T], ts int64, v *T) error {
	if len(k.buf) >= m.p.opts.limits.Buffered {
		switch m.p.opts.limits.Overflow {
		case FailOnOverflow:
			return fmt.Errorf("%w: %d events wait; there may be %d", ErrOverflow, len(k.buf)+1, m.p.opts.limits.Buffered)
		case DropKey:
			m.stats.DroppedEvents += int64(len(k.buf))
			k.reset()
		case DropOldest:
			m.stats.DroppedEvents++
			k.buf = slices.Delete(k.buf, 0, 1)
		default:
			m.stats.DroppedEvents++
			return nil
		}
	}
	k.buf = enqueue(k.buf, ts, v)
	return nil
}

// enqueue inserts an event behind those of its time.
func enqueue[T any](buf []waiting[T], ts int64, v *T) []waiting[T] {
	i := len(buf)
	for i > 0 && buf[i-1].ts > ts {
		i--
	}
	return slices.Insert(buf, i, waiting[T]{ts, *v})
}

// dueOf returns how many events have times up to and including upTo, and puts those of
// one time into the order of less, if that is not nil.
func dueOf[T any](buf []waiting[T], upTo int64, less func(a, b *T) bool) int {
	n := 0
	for n < len(buf) && buf[n].ts <= upTo {
		n++
	}
	if less != nil {
		slices.SortStableFunc(buf[:n], func(a, b waiting[T]) int {
			switch {
			case a.ts != b.ts:
				return cmp.Compare(a.ts, b.ts)
			case less(&a.val, &b.val):
				return -1
			case less(&b.val, &a.val):
				return 1
			}
			return 0
		})
	}
	return n
}

// Drain takes the buffered events with times up to and including upTo, those of one
// time in the order of less, if that is not nil. Time is advanced to each; use
// Advance for what comes after.
func (m *Matcher[T]) Drain(k *Key[T], upTo, processing int64, less func(a, b *T) bool, out *Output[T]) error {
	n := dueOf(k.buf, upTo, less)
	if n == 0 {
		return nil
	}
	batch := k.buf[:n]
	for i := range batch {
		if err := m.Process(k, batch[i].ts, processing, &batch[i].val, out); err != nil {
			return err
		}
		if len(k.buf) == 0 {
			return nil // the key was dropped
		}
	}
	left := copy(k.buf, k.buf[n:])
	clear(k.buf[left:])
	k.buf = k.buf[:left]
	return nil
}

// never is a time that does not come.
const never = int64(math.MaxInt64)
