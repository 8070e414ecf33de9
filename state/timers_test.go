package state

import (
	"encoding/binary"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
)

// TestSpilledTimersMoveDown: timers that do not fit in memory move to narrower
// buckets in short turns, while others are deleted and registered, some for buckets
// that come between, and each fires once.
func TestSpilledTimersMoveDown(t *testing.T) {
	if testing.Short() {
		t.Skip("one goroutine and many timers: minutes under the race detector, and no race to find")
	}
	_, rng := seeds(t)
	s, err := OpenStore(Options{FS: vfs.NewMem(), Dir: "state", Memory: 4 << 20, Job: "job"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := s.NewBackend(BackendOptions{Task: "t/0", Range: base.FullRange})
	if err != nil {
		t.Fatal(err)
	}
	timers, err := b.Timers("op", KeyUint64)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	const width = 1 << 43
	from := base.Timestamp(1) << 60
	waiting := map[firing]bool{}
	register := func(at base.Timestamp) {
		k := rng.Uint64()
		b.SetKeyU64(base.HashUint64(k), k)
		timers.Register(EventTimer, at)
		waiting[firing{at, string(binary.BigEndian.AppendUint64(nil, k))}] = true
	}
	timers.Due(EventTimer, from-width, 10, func(*Timer) bool { return true })
	for range 60_000 {
		register(from + rng.Int64N(width))
	}
	w := &timers.wheels[EventTimer]
	spilled := 0
	for _, bk := range w.buckets {
		spilled += w.g.Existing(bk.ns()).stored
	}
	if spilled == 0 {
		t.Fatal("nothing is spilled")
	}
	for turns := 0; !timers.Due(EventTimer, from+width, 1+rng.IntN(200), func(tm *Timer) bool {
		f := firing{tm.At, string(tm.Key)}
		if !waiting[f] {
			t.Fatalf("timer %v fires, but is not registered", f)
		}
		delete(waiting, f)
		return true
	}); turns++ {
		switch {
		case turns%50 == 7:
			for f := range waiting {
				k := binary.BigEndian.Uint64([]byte(f.key))
				b.SetKeyU64(base.HashUint64(k), k)
				if !timers.Delete(EventTimer, f.at) {
					t.Fatalf("timer %v cannot be deleted", f)
				}
				delete(waiting, f)
				break
			}
		case turns%50 == 9:
			register(from - rng.Int64N(width)) // a bucket before the one that moves down
		}
	}
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if len(waiting) != 0 {
		t.Fatalf("%d timers did not fire", len(waiting))
	}
	if n := len(w.g.Namespaces()); n != 0 {
		t.Fatalf("%d buckets are left", n)
	}
}
