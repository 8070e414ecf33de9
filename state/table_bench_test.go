//go:build linux

package state

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state/blob"
)

type counts struct{ count, sum uint64 }

const benchBatch = 256

// benchBackend returns a backend with one table and memory enough.
func benchBackend(b *testing.B, bs blob.Store, d Decl) (*Backend, *Table) {
	s, err := OpenStore(Options{Blob: bs, Memory: 8 << 30, Job: "job"})
	if err != nil {
		b.Fatal(err)
	}
	be, err := s.NewBackend(BackendOptions{Range: base.FullRange})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	g, err := be.Group(d)
	if err != nil {
		b.Fatal(err)
	}
	return be, g.Namespace(0)
}

var benchSizes = []int{1_000_000, 10_000_000}

func BenchmarkCountU64(b *testing.B) {
	for _, n := range append([]int{700_000}, benchSizes...) {
		if n > 1_000_000 && testing.Short() {
			continue
		}
		b.Run(fmt.Sprintf("gomap/%d", n), func(b *testing.B) {
			m := make(map[uint64]*counts, n)
			for i := range uint64(n) {
				m[i] = &counts{}
			}
			rng := rand.New(rand.NewPCG(1, 2))
			onThread(b, func() {
				for b.Loop() {
					k := rng.Uint64N(uint64(n))
					c := m[k]
					c.count++
					c.sum += k
				}
			})
		})
		_, t := benchBackend(b, nil, Decl{Operator: "o", Name: "n", Key: KeyUint64, ValueSize: 16})
		for i := range uint64(n) {
			t.UpsertU64(base.HashUint64(i), i)
		}
		b.Run(fmt.Sprintf("cold/%d", n), func(b *testing.B) { batches(b, t, n, false) })
		b.Run(fmt.Sprintf("warm/%d", n), func(b *testing.B) { batches(b, t, n, true) })
		b.Run(fmt.Sprintf("one/%d", n), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			onThread(b, func() {
				for b.Loop() {
					k := rng.Uint64N(uint64(n))
					p, _ := t.UpsertU64(base.HashUint64(k), k)
					c := (*counts)(p)
					c.count++
					c.sum += k
				}
			})
		})
		b.Run(fmt.Sprintf("batch/%d", n), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			var hashes, keys [benchBatch]uint64
			var out [benchBatch]unsafe.Pointer
			i := 0
			onThread(b, func() {
				for b.Loop() {
					k := rng.Uint64N(uint64(n))
					hashes[i], keys[i] = base.HashUint64(k), k
					if i++; i == benchBatch {
						t.UpsertBatchU64(hashes[:], keys[:], out[:])
						for j, p := range out {
							c := (*counts)(p)
							c.count++
							c.sum += keys[j]
						}
						i = 0
					}
				}
			})
		})
	}
}

func BenchmarkCountString(b *testing.B) {
	const n = 1_000_000
	names := make([][]byte, n)
	for i := range names {
		names[i] = fmt.Appendf(nil, "user-%017d", i)
	}
	b.Run("gomap", func(b *testing.B) {
		m := make(map[string]*counts, n)
		for _, k := range names {
			m[string(k)] = &counts{}
		}
		rng := rand.New(rand.NewPCG(1, 2))
		onThread(b, func() {
			for b.Loop() {
				c := m[string(names[rng.IntN(n)])]
				c.count++
			}
		})
	})
	_, t := benchBackend(b, nil, Decl{Operator: "o", Name: "n", Key: KeyBytes, ValueSize: 16})
	for _, k := range names {
		t.UpsertBytes(base.HashKey(k), k)
	}
	b.Run("batch", func(b *testing.B) {
		rng := rand.New(rand.NewPCG(1, 2))
		var hashes [benchBatch]uint64
		var keys [benchBatch][]byte
		var out [benchBatch]unsafe.Pointer
		i := 0
		onThread(b, func() {
			for b.Loop() {
				k := names[rng.IntN(n)]
				hashes[i], keys[i] = base.HashKey(k), k
				if i++; i == benchBatch {
					t.UpsertBatchBytes(hashes[:], keys[:], out[:])
					for _, p := range out {
						(*counts)(p).count++
					}
					i = 0
				}
			}
		})
	})
}

// BenchmarkCheckpoint reports what a checkpoint of 10 million entries costs the
// owner: the freeze, and the copying of each dirty entry.
func BenchmarkCheckpoint(b *testing.B) {
	const n = 10_000_000
	dir, err := blob.NewDir(benchFS(), b.TempDir(), "bench")
	if err != nil {
		b.Fatal(err)
	}
	be, t := benchBackend(b, dir, Decl{Operator: "o", Name: "n", Key: KeyUint64, ValueSize: 16})
	for i := range uint64(n) {
		t.UpsertU64(base.HashUint64(i), i)
	}
	be.Freeze(1)
	be.CopyAll()
	rng := rand.New(rand.NewPCG(1, 2))
	epoch := base.Epoch(1)
	for _, dirty := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(dirty), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var freeze, copied, longest int64
			entries := 0
			for b.Loop() {
				for range dirty {
					k := rng.Uint64N(n)
					p, _ := t.UpsertU64(base.HashUint64(k), k)
					(*counts)(p).count++
				}
				epoch++
				t0 := threadCPU()
				be.Freeze(epoch)
				freeze = max(freeze, threadCPU()-t0)
				for done := false; !done; {
					t0 := threadCPU()
					done = be.CopyTurn(100 * time.Microsecond)
					d := threadCPU() - t0
					copied += d
					if !done && d < 20_000 { // the writer is behind
						time.Sleep(200 * time.Microsecond)
					}
					longest = max(longest, d)
				}
				entries += dirty
			}
			b.ReportMetric(float64(freeze), "freeze-ns")
			b.ReportMetric(float64(copied)/float64(entries), "copy-ns/entry")
			b.ReportMetric(float64(longest), "longest-turn-ns")
		})
	}
}

func benchFS() vfs.FS { return vfs.Default }

// onThread measures the CPU time of f per step on its thread, which a busy
// machine disturbs less than wall time.
func onThread(b *testing.B, f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	t0 := threadCPU()
	f()
	b.ReportMetric(float64(threadCPU()-t0)/float64(b.N), "cpu-ns/op")
}

func threadCPU() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return ts.Nano()
}

func batches(b *testing.B, t *Table, n int, warm bool) {
	rng := rand.New(rand.NewPCG(1, 2))
	var hashes, keys [benchBatch]uint64
	onThread(b, func() {
		i := 0
		for b.Loop() {
			k := rng.Uint64N(uint64(n))
			hashes[i], keys[i] = base.HashUint64(k), k
			if i++; i == benchBatch {
				if warm {
					t.warm(hashes[:])
				}
				for j, k := range keys {
					p, _ := t.UpsertU64(hashes[j], k)
					c := (*counts)(p)
					c.count++
					c.sum += k
				}
				i = 0
			}
		}
	})
}
