package state

import (
	"encoding/binary"
	"flag"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state/blob"
)

var (
	largeKeys   = flag.Uint64("state.keys", 40_000, "keys of TestLargerThanMemory")
	largeMemory = flag.Int64("state.memory", 6<<20, "its budget in bytes")
	largeCkpt   = flag.Bool("state.checkpoints", true, "with a checkpoint twice a second")
)

// TestLargerThanMemory updates every key of 100 bytes three times in random order
// under a budget that holds a fraction of them, with checkpoints going on, and
// verifies every entry. Large runs: -args -state.keys 20000000 -state.memory
// 536870912, which prints the peak memory of the process.
func TestLargerThanMemory(t *testing.T) {
	n, memory := *largeKeys, *largeMemory
	if testing.Short() {
		n = n / 4 * 3
	}
	dir := t.TempDir()
	bs, err := blob.NewDir(vfs.Default, dir+"/blobs", "test")
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore(Options{Dir: dir, Blob: bs, Memory: memory, Job: "job"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h := newBareHarness(t, s, base.FullRange)
	g, err := h.b.Group(Decl{Operator: "o", Name: "n", Key: KeyUint64, ValueSize: 100})
	if err != nil {
		t.Fatal(err)
	}
	tab := g.Namespace(0)
	step := n/2 + n/8 + 1 // a walk over all keys that jumps about
	for gcd(step, n) != 1 {
		step++
	}
	epoch := base.Epoch(0)
	start := time.Now()
	last, longest := start, time.Duration(0)
	var hashes, keys [256]uint64
	var out [256]unsafe.Pointer
	for round := range uint64(3) {
		for i := uint64(0); i < n; {
			k := 0
			for ; k < len(keys) && i < n; k, i = k+1, i+1 {
				// Another order in each round.
				key := (i*step + round*12345) % n
				keys[k], hashes[k] = key, base.HashUint64(key)
			}
			t0 := time.Now()
			tab.UpsertBatchU64(hashes[:k], keys[:k], out[:k])
			for j, p := range out[:k] {
				v := unsafe.Slice((*byte)(p), 100)
				binary.LittleEndian.PutUint64(v, binary.LittleEndian.Uint64(v)+keys[j]+round)
				v[99]++
			}
			h.b.CopyTurn(100 * time.Microsecond)
			longest = max(longest, time.Since(t0))
			if *largeCkpt && time.Since(last) > 500*time.Millisecond && h.b.frozen == nil {
				epoch++
				h.b.Freeze(epoch)
				last = time.Now()
			}
			if err := h.b.Err(); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("round %d: %v, longest turn %v, tables %d MiB, spilled %d, peak %s", round, time.Since(start), longest, s.MemoryUsed()>>20, tab.stored, peak())
	}
	if tab.Len() != int(n) || tab.stored == 0 {
		t.Fatalf("%d entries of %d, %d of them spilled", tab.Len(), n, tab.stored)
	}
	var c Cursor
	count := uint64(0)
	for !tab.Walk(&c, 10_000, func(_ uint64, key, val []byte) bool {
		k := binary.BigEndian.Uint64(key)
		if got := binary.LittleEndian.Uint64(val); got != 3*k+3 || val[99] != 3 {
			t.Fatalf("key %d holds %d after %d updates", k, got, val[99])
		}
		count++
		return true
	}) {
	}
	if count != n {
		t.Fatalf("walked %d entries of %d", count, n)
	}
	h.b.CopyAll()
	if epoch > 0 {
		snap, err := h.waitSnap(int(epoch) - 1)
		if err != nil {
			t.Fatal(err)
		}
		checkChain(t, snap, base.FullRange)
	}
	t.Logf("all verified after %v and %d checkpoints, peak %s for a budget of %d MiB", time.Since(start), epoch, peak(), memory>>20)
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// peak returns the peak resident memory of the process, "" where it is not known.
func peak() string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if f, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.TrimSpace(f)
		}
	}
	return ""
}
