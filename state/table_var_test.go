package state

import (
	"encoding/binary"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state/blob"
)

// TestValuesChangedInPlace changes variable values in place while most of them are
// spilled and epochs are frozen; what is read back, and what the checkpoint holds,
// must be what was written.
func TestValuesChangedInPlace(t *testing.T) {
	const keys, size = 2_600, 2_000
	store := blob.Memory()
	s, err := OpenStore(Options{FS: vfs.NewMem(), Dir: "state", Blob: store, Memory: 4 << 20, Job: "job"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	snaps := make(chan Snapshot, 1)
	open := func() (*Backend, *Table) {
		b, err := s.NewBackend(BackendOptions{Task: "t/0", Range: base.FullRange, OnSnapshot: func(s Snapshot, err error) {
			if err != nil {
				t.Error(err)
			}
			snaps <- s
		}})
		if err != nil {
			t.Fatal(err)
		}
		g, err := b.Group(Decl{Operator: "op", Name: "v", Key: KeyBytes})
		if err != nil {
			t.Fatal(err)
		}
		return b, g.Namespace(0)
	}
	key := func(k uint64) (uint64, []byte) { return base.HashUint64(k), binary.BigEndian.AppendUint64(nil, k) }
	count := func(tab *Table, k uint64) uint64 {
		h, kb := key(k)
		v, ok := tab.GetVar(h, kb)
		if !ok || len(v) != size {
			t.Fatalf("key %d has %d bytes", k, len(v))
		}
		if binary.LittleEndian.Uint64(v) != binary.LittleEndian.Uint64(v[size-8:]) {
			t.Fatalf("key %d is torn", k)
		}
		return binary.LittleEndian.Uint64(v)
	}
	b, tab := open()
	if err := b.Restore(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	h, kb := key(keys)
	if _, ok := tab.ChangeVar(h, kb); ok {
		t.Error("a value of nothing")
	}
	for k := range uint64(keys) {
		h, kb := key(k)
		tab.PutVar(h, kb, make([]byte, size))
	}
	changes := func(n int, from uint64) {
		for i := range uint64(n) {
			h, kb := key((from + i) * 7919 % keys)
			tab.Warm(h)
			tab.PeekVar(h, kb)
			v, ok := tab.ChangeVar(h, kb)
			if !ok {
				t.Fatal("a value is gone")
			}
			for _, at := range []int{0, size - 8} {
				binary.LittleEndian.PutUint64(v[at:], binary.LittleEndian.Uint64(v[at:])+1)
			}
		}
	}
	changes(keys+keys/2, 0)
	b.Freeze(1)
	changes(keys/2, 100) // some of them frozen
	b.CopyAll()
	chain := []Chain{{Task: "t/0", Range: base.FullRange, Objects: (<-snaps).Chain}}
	if tab.stored == 0 {
		t.Error("the test did not test: nothing was spilled")
	}
	sum := uint64(0)
	for k := range uint64(keys) {
		sum += count(tab, k)
	}
	if want := uint64(2 * keys); sum != want {
		t.Errorf("%d changes are there, want %d", sum, want)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	c, restored := open()
	defer c.Close()
	if err := c.Restore(t.Context(), chain); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(keys) {
		want := uint64(1)
		if i < keys/2 {
			want = 2
		}
		if n := count(restored, i*7919%keys); n != want {
			t.Fatalf("the checkpoint has %d changes of key %d, want %d", n, i*7919%keys, want)
		}
	}
}
