package operators

import (
	"context"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// testState holds the keyed state of one test: a store in memory and the
// checkpoints taken of it.
type testState struct {
	t     testing.TB
	store *state.Store
	snaps chan state.Snapshot
	epoch base.Epoch
}

func newTestState(t testing.TB) *testState {
	t.Helper()
	st, err := state.OpenStore(state.Options{
		FS: vfs.NewMem(), Dir: "state", Memory: 256 << 20, Blob: blob.Memory(), Job: "0123456789abcdef0123456789abcdef",
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return &testState{t: t, store: st, snaps: make(chan state.Snapshot, 1)}
}

func (s *testState) backend(r base.HashRange) *state.Backend {
	b, err := s.store.NewBackend(state.BackendOptions{Task: "w", Range: r, OnSnapshot: func(ss state.Snapshot, err error) {
		if err != nil {
			s.t.Error(err)
		}
		s.snaps <- ss
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// freeze takes a checkpoint of a backend.
func (s *testState) freeze(b *state.Backend, r base.HashRange) state.Chain {
	s.epoch++
	b.Freeze(s.epoch)
	b.CopyAll()
	return state.Chain{Task: "w", Range: r, Objects: (<-s.snaps).Chain}
}

func (s *testState) restore(b *state.Backend, from []state.Chain) {
	if err := b.Restore(context.Background(), from); err != nil {
		s.t.Fatal(err)
	}
}
