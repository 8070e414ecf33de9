package guard

import "time"

// windowBuckets is the number of buckets of a window.
const windowBuckets = 64

// window is the sum of what was added in the last period, by buckets that expire as a
// whole: it covers at least the period and at most a 63rd more. Times are nanoseconds
// of the monotonic clock and do not go back.
type window struct {
	origin  int64 // where time begins
	width   int64
	head    int64 // number of the newest bucket
	sum     float64
	buckets [windowBuckets]float64
}

func newWindow(period time.Duration, now int64) window {
	return window{origin: now, width: (int64(period) + windowBuckets - 2) / (windowBuckets - 1)}
}

// total returns the sum at now.
func (w *window) total(now int64) float64 {
	if b := (now - w.origin) / w.width; b > w.head {
		for i := max(w.head+1, b-windowBuckets+1); i <= b; i++ {
			w.buckets[i%windowBuckets] = 0
		}
		w.head, w.sum = b, 0
		// Anew, so that rounding errors do not add up.
		for _, v := range w.buckets {
			w.sum += v
		}
	}
	return w.sum
}

// add adds v at now and returns the bucket, for adjust.
func (w *window) add(now int64, v float64) int64 {
	w.total(now)
	w.buckets[w.head%windowBuckets] += v
	w.sum += v
	return w.head
}

// adjust adds v to an earlier bucket, if it has not expired.
func (w *window) adjust(bucket int64, v float64) {
	if w.head-bucket < windowBuckets {
		w.buckets[bucket%windowBuckets] += v
		w.sum += v
	}
}

// until returns the time from now on until the sum is at most room, if nothing is
// added. Room is not negative.
func (w *window) until(now int64, room float64) time.Duration {
	left := w.total(now)
	for b := w.head - windowBuckets + 1; b <= w.head; b++ {
		if left <= room {
			break
		}
		if b < 0 {
			continue
		}
		left -= w.buckets[b%windowBuckets]
		if left <= room || b == w.head {
			return time.Duration(w.origin + (b+windowBuckets)*w.width - now)
		}
	}
	return 0
}
