package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// counting counts the bytes of the objects that are stored.
type counting struct {
	blob.Store
	bytes atomic.Int64
}

// Put implements blob.Store.
func (c *counting) Put(ctx context.Context, name string, data []byte) error {
	c.count(name, len(data))
	return c.Store.Put(ctx, name, data)
}

// PutFrom implements blob.Store.
func (c *counting) PutFrom(ctx context.Context, name string, r io.Reader) error {
	return c.Store.PutFrom(ctx, name, &countingReader{r, c, name})
}

func (c *counting) count(name string, n int) {
	if strings.Contains(name, "/obj/") {
		c.bytes.Add(int64(n))
	}
}

type countingReader struct {
	io.Reader
	c    *counting
	name string
}

// Read implements io.Reader.
func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.c.count(r.name, n)
	return n, err
}

// storedBytes changes 1 % of the keys, at random, in each epoch and compares what
// is stored over 50 epochs, bases included, with what changed. The state is full
// before, and some epochs have passed so that bases are cut at their usual pace.
func storedBytes(ctx context.Context, o options) error {
	const keys, warm, epochs, size = 200_000, 130, 50, 100
	dir, err := blob.NewDir(vfs.Default, filepath.Join(o.dir, "checkpoints"), "bench")
	if err != nil {
		return err
	}
	store := &counting{Store: dir}
	st, err := state.OpenStore(state.Options{
		FS: vfs.Default, Dir: filepath.Join(o.dir, "state"), Memory: 1 << 30, Blob: store, Job: strings.Repeat("0", 32), Clock: clock.Real(), Logger: o.logger,
	})
	if err != nil {
		return err
	}
	defer st.Close()
	type written struct {
		s   state.Snapshot
		err error
	}
	done := make(chan written, 1)
	b, err := st.NewBackend(state.BackendOptions{Task: "bench#0", Range: base.FullRange, OnSnapshot: func(s state.Snapshot, err error) { done <- written{s, err} }})
	if err != nil {
		return err
	}
	defer b.Close()
	g, err := b.Group(state.Decl{Operator: "bench", Name: "value", Key: state.KeyUint64, ValueSize: size, Schema: "[100]uint8"})
	if err != nil {
		return err
	}
	if err := b.Restore(ctx, nil); err != nil {
		return err
	}
	t := g.Namespace(0)
	touch := func(k uint64) {
		p, _ := t.UpsertU64(base.HashUint64(k), k)
		*(*uint64)(p)++
	}
	for k := range uint64(keys) {
		touch(k)
	}
	var before, bases int64
	var last state.Snapshot
	rnd := uint64(1)
	for n := 1; n <= warm+epochs; n++ {
		if n == warm+1 {
			before = store.bytes.Load()
			bases = 0
		}
		for range keys / 100 {
			rnd = base.HashUint64(rnd)
			touch(rnd % keys)
		}
		b.Freeze(base.Epoch(n))
		for !b.CopyTurn(time.Millisecond) {
		}
		w := <-done
		if w.err != nil {
			return w.err
		}
		last = w.s
		bases += last.BaseBytes
	}
	stored := store.bytes.Load() - before
	changed := int64(epochs * keys / 100 * (size + 8))
	fmt.Printf("  %d epochs of %d changed entries of %d bytes: changed %.1f MB, stored %.1f MB, of that bases %.1f MB; chain of %d objects\n",
		epochs, keys/100, size, float64(changed)/1e6, float64(stored)/1e6, float64(bases)/1e6, len(last.Chain))
	judge("stored / changed ≤ 2", float64(stored)/float64(changed), stored <= 2*changed)
	return nil
}
