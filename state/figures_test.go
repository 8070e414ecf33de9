package state

import (
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
)

func TestFigures(t *testing.T) {
	s, err := OpenStore(Options{FS: vfs.NewMem(), Dir: "state", Memory: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.NewBackend(BackendOptions{Task: "t/0", Range: base.FullRange})
	if err != nil {
		t.Fatal(err)
	}
	g, err := b.Group(Decl{Operator: "op", Name: "v", Key: KeyUint64, ValueSize: 100})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	tab := g.Namespace(0)
	if f := s.Figures(); f.Memory != s.MemoryUsed() || f.Memory == 0 || f != (Figures{Memory: f.Memory}) {
		t.Errorf("before anything is spilled: %+v", f)
	}
	for k := range uint64(30_000) {
		tab.UpsertU64(base.HashUint64(k), k)
	}
	for k := range uint64(2000) {
		tab.GetU64(base.HashUint64(k), k)
	}
	if f := s.Figures(); f.Disk == 0 || f.CacheHits+f.CacheMisses == 0 || b.Err() != nil {
		t.Errorf("%+v, %v", f, b.Err())
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				s.Figures()
			}
		})
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if f := s.Figures(); f != (Figures{}) {
		t.Errorf("of a closed store: %+v", f)
	}
}
