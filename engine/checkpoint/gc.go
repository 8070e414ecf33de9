package checkpoint

import (
	"context"
	"errors"
	"strings"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

// collector deletes what no kept epoch refers to. It runs beside the protocol,
// one deletion round at a time, and never decides from a listing alone: an
// object is deleted when an epoch that named it is dropped and no kept one does,
// or, at the start of a generation, when no kept manifest names it.
type collector struct {
	cfg  Config
	kept []keptEpoch // ascending, by epoch
	busy chan struct{}
}

type keptEpoch struct {
	epoch   base.Epoch
	keys    []string // records and manifest
	objects map[string]bool
}

func newCollector(cfg Config) *collector {
	g := &collector{cfg: cfg, busy: make(chan struct{}, 1)}
	if m := cfg.Start.Manifest; m != nil {
		g.note(m)
	}
	return g
}

// Objects lists the keys of all objects that a manifest names.
func Objects(m *protocol.Manifest) []string {
	var out []string
	for i := range m.Tasks {
		for _, o := range m.Tasks[i].Objects {
			if len(o.Inline) == 0 {
				out = append(out, protocol.ObjectKey(m.Job, o.SHA))
			}
		}
	}
	for i := range m.Lanes {
		if b := m.Lanes[i].Block; !b.Empty() {
			out = append(out, protocol.ObjectKey(m.Job, b.SHA))
		}
	}
	return out
}

// note remembers a manifest that was written. A later attempt at the same epoch
// replaces an earlier one, whose objects then belong to nobody but the sweep.
func (g *collector) note(m *protocol.Manifest) {
	k := keptEpoch{epoch: m.Epoch, objects: map[string]bool{}}
	for _, key := range Objects(m) {
		k.objects[key] = true
	}
	try := protocol.Try{Epoch: m.Epoch, Attempt: m.Attempt}
	k.keys = []string{protocol.EpochKey(m.Job, m.Epoch), protocol.ManifestKey(m.Job, try, m.Gen)}
	if n := len(g.kept); n > 0 && g.kept[n-1].epoch == m.Epoch {
		for key := range g.kept[n-1].objects {
			k.objects[key] = true
		}
		k.keys = append(k.keys, g.kept[n-1].keys[1:]...)
		g.kept[n-1] = k
		return
	}
	g.kept = append(g.kept, k)
}

// done drops the epochs that retention does not ask for, now that all lanes have
// committed up to n.
func (g *collector) done(ctx context.Context, n base.Epoch) {
	keep := base.Epoch(max(g.cfg.Retain, 1))
	if n < keep || len(g.kept) == 0 {
		return
	}
	floor := n - keep + 1
	if g.kept[0].epoch >= floor {
		return
	}
	select {
	case g.busy <- struct{}{}:
	default:
		return // the round under way is not over; the next epoch tries again
	}
	keys := g.drop(floor)
	go func() {
		defer func() { <-g.busy }()
		g.delete(ctx, floor, keys)
	}()
}

// drop forgets the epochs below the floor and returns the keys to delete.
func (g *collector) drop(floor base.Epoch) []string {
	var dropped []keptEpoch
	for len(g.kept) > 0 && g.kept[0].epoch < floor {
		dropped = append(dropped, g.kept[0])
		g.kept = g.kept[1:]
	}
	var keys []string
	seen := map[string]bool{}
	for _, d := range dropped {
		keys = append(keys, d.keys...)
		for o := range d.objects {
			if !seen[o] && !g.named(o) {
				keys = append(keys, o)
			}
			seen[o] = true
		}
	}
	return keys
}

func (g *collector) named(object string) bool {
	for i := range g.kept {
		if g.kept[i].objects[object] {
			return true
		}
	}
	return false
}

// delete publishes the floor, then deletes.
func (g *collector) delete(ctx context.Context, floor base.Epoch, keys []string) {
	b := g.cfg.Records.Blob
	crash.At(crash.GCBeforeDelete)
	body, err := protocol.FloorRecord{Job: g.cfg.Records.Job, Floor: floor}.Encode()
	if err == nil {
		err = b.Put(ctx, protocol.FloorKey(g.cfg.Records.Job), body)
	}
	for i, k := range keys {
		if err != nil {
			break
		}
		if err = b.Delete(ctx, k); errors.Is(err, blob.ErrNotFound) {
			err = nil
		}
		if i == 0 {
			crash.At(crash.GCMid)
		}
	}
	if err != nil && ctx.Err() == nil {
		g.cfg.Logger.Warn("old checkpoints could not be deleted", "error", err)
	}
}

// Sweep deletes, before a generation starts, the objects and manifests that no
// epoch from the floor to the tip names: what crashes and aborted attempts left
// behind. Nothing else may write to the job's folder meanwhile; the lock on the
// data directory sees to that.
func Sweep(ctx context.Context, r *Records, tip base.Epoch) error {
	floor, err := r.Floor(ctx)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for n := max(floor, 1); n <= tip; n++ {
		body, err := r.Blob.Get(ctx, protocol.EpochKey(r.Job, n))
		if err != nil {
			return err
		}
		rec, err := protocol.DecodeEpochRecord(body)
		if err != nil {
			return err
		}
		m, err := r.Manifest(ctx, rec)
		if err != nil {
			return err
		}
		keep[protocol.ManifestKey(r.Job, rec.Try(), rec.Gen)] = true
		for _, o := range Objects(m) {
			keep[o] = true
		}
	}
	for _, folder := range []string{"obj/", "man/"} {
		names, err := r.Blob.List(ctx, "jobs/"+r.Job+"/"+folder)
		if err != nil {
			return err
		}
		for _, n := range names {
			if !keep[n] && !strings.HasSuffix(n, "/") {
				if err := r.Blob.Delete(ctx, n); err != nil && !errors.Is(err, blob.ErrNotFound) {
					return err
				}
			}
		}
	}
	return nil
}
