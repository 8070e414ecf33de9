package torture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/engine/checkpoint"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// Final is what the last checkpoint of a job holds.
type Final struct {
	Epoch base.Epoch
	// Ended says that the job had come to an end of its own or on request.
	Ended bool
	// Totals is the state of j2 by key.
	Totals map[string]Totals
	// Read is the highest sequence of the input that a split was read to.
	Read uint64
	// Objects and Bytes count what the checkpoint consists of.
	Objects int
	Bytes   uint64
}

// ReadFinal reads the last checkpoint of a job from its data directory, without
// the engine's coordinator or tasks. Nothing may run on the directory.
func ReadFinal(ctx context.Context, dataDir string) (*Final, error) {
	store, err := blob.NewDir(vfs.Default, filepath.Join(dataDir, "checkpoints"), "torture")
	if err != nil {
		return nil, err
	}
	uid, err := checkpoint.LookupUID(ctx, store, jobName)
	if err != nil {
		return nil, err
	}
	rec := &checkpoint.Records{Blob: store, Job: uid}
	epochs, err := rec.Epochs(ctx)
	if err != nil {
		return nil, err
	}
	if len(epochs) == 0 {
		return nil, errors.New("there is no checkpoint")
	}
	last := epochs[len(epochs)-1]
	m, err := rec.Manifest(ctx, last)
	if err != nil {
		return nil, err
	}
	f := &Final{Epoch: last.Epoch, Ended: m.Final != protocol.NotFinal}
	for i := range m.Splits {
		f.Read = max(f.Read, m.Splits[i].Offset)
	}
	return f, f.readTotals(ctx, store, m)
}

// readTotals restores one of the states of each keyed task into a backend of its
// own and takes its entries. What else the objects hold is left out; the manifest
// does not list all parts of it, so the restore itself says what they are.
func (f *Final) readTotals(ctx context.Context, store blob.Store, m *protocol.Manifest) error {
	var others []string
	for {
		err := f.readTasks(ctx, store, m, others)
		e, ok := errors.AsType[*base.Error](err)
		if !ok || e.Code != state.CodeUnmatched || slices.Contains(others, e.Where) {
			return err
		}
		others = append(others, e.Where)
	}
}

func (f *Final) readTasks(ctx context.Context, store blob.Store, m *protocol.Manifest, others []string) error {
	st, err := state.OpenStore(state.Options{FS: vfs.NewMem(), Blob: store, Job: m.Job, DropState: others, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	f.Totals, f.Objects, f.Bytes = map[string]Totals{}, 0, 0
	for i := range m.Tasks {
		t := &m.Tasks[i]
		if !t.Keyed {
			continue
		}
		for _, o := range t.Objects {
			f.Objects++
			f.Bytes += o.Size
		}
		if err := f.readTask(ctx, st, t); err != nil {
			return fmt.Errorf("task %s: %w", t.Task, err)
		}
	}
	return nil
}

func (f *Final) readTask(ctx context.Context, st *state.Store, t *protocol.TaskState) error {
	b, err := st.NewBackend(state.BackendOptions{Task: t.Task.String(), Range: t.Range})
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	totals, err := state.NewValue[Totals](b, JobCount, totalsState)
	if err != nil {
		return err
	}
	if err := b.Restore(ctx, []state.Chain{{Task: t.Task.String(), Range: t.Range, Objects: t.Objects}}); err != nil {
		return err
	}
	keys, err := f.keysOf(b)
	if err != nil {
		return err
	}
	kc, err := codec.KeyFor[string]()
	if err != nil {
		return err
	}
	for _, key := range keys {
		b.SetKey(kc.Hash(key), []byte(key))
		v, ok := totals.Get()
		if _, twice := f.Totals[key]; !ok || twice {
			return fmt.Errorf("key %s: it is there: %v; it was there before: %v", key, ok, twice)
		}
		f.Totals[key] = v
	}
	return b.Err()
}

// keysOf lists the keys of the totals in a backend.
func (f *Final) keysOf(b *state.Backend) ([]string, error) {
	c, err := codec.For[Totals]()
	if err != nil {
		return nil, err
	}
	size, _ := c.Fixed()
	g, err := b.Group(state.Decl{Operator: JobCount, Name: totalsState, Key: state.KeyBytes, ValueSize: size, Schema: c.Schema().String()})
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, ns := range g.Namespaces() {
		var cur state.Cursor
		for !cur.Done() {
			g.Existing(ns).Walk(&cur, 1<<20, func(_ uint64, key, _ []byte) bool {
				keys = append(keys, string(key))
				return true
			})
		}
	}
	return keys, nil
}

// Compare returns how the state differs from the model, "" if it does not.
func (f *Final) Compare(m *Model) string {
	want := m.Totals()
	if len(f.Totals) != len(want) {
		return fmt.Sprintf("the state has %d keys, the input %d", len(f.Totals), len(want))
	}
	for key, w := range want {
		if got := f.Totals[key]; got != w {
			return fmt.Sprintf("key %s: the state is %+v, want %+v", key, got, w)
		}
	}
	return ""
}
