package weir

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

// verifyView is what verify found.
type verifyView struct {
	Job string `json:"job"`
	// Epochs are those that were looked at, in order.
	Epochs  []base.Epoch `json:"epochs"`
	Objects int          `json:"objects"`
	Bytes   uint64       `json:"bytes"`
	Damage  []damageView `json:"damage"`
}

type damageView struct {
	Object string `json:"object"`
	What   string `json:"what"`
}

// verifier goes through the epochs of a job.
type verifier struct {
	q    *storeQuery
	view verifyView
	// seen holds the objects that were read: epochs share them.
	seen map[string]bool
	// The epoch before, where it was whole.
	prev       *protocol.Manifest
	prevRecord protocol.SHA
	prevSum    protocol.SHA
	prevEpoch  base.Epoch
}

// verifyCheckpoints checks every record, manifest and object of the epochs that
// the store should hold, or of the one asked for: that it exists, its size, its
// sum, and that records and manifests follow from one another.
func verifyCheckpoints(ctx context.Context, q *storeQuery) error {
	first, last, err := q.rangeOf(ctx)
	if err != nil {
		return err
	}
	if last == 0 || q.epoch != 0 && (q.epoch < first || q.epoch > last) {
		want := "at all"
		if q.epoch != 0 {
			want = fmt.Sprint(q.epoch)
		}
		return noEpoch(q, want)
	}
	if q.epoch != 0 {
		first, last = q.epoch, q.epoch
	}
	v := &verifier{q: q, seen: map[string]bool{}, view: verifyView{Job: q.job, Epochs: []base.Epoch{}, Damage: []damageView{}}}
	for n := first; n <= last; n++ {
		if err := v.epoch(ctx, n); err != nil {
			return err
		}
	}
	if err := q.write(v.view, v.view.table); err != nil {
		return err
	}
	if n := len(v.view.Damage); n > 0 {
		return &base.Error{
			Code: codeBroken, What: fmt.Sprintf("the checkpoint store is damaged in %s", plural(n, "place")), Where: v.view.Damage[0].Object,
			Next: "restore the objects from a copy of the store",
		}
	}
	return nil
}

func (v *verifyView) table(w io.Writer) {
	for _, d := range v.Damage {
		fmt.Fprintf(w, "damaged\t%s\t%s\n", d.Object, d.What)
	}
	if len(v.Epochs) > 0 {
		fmt.Fprintf(w, "job %s: epochs %d to %d, %s, %s read: ", v.Job, v.Epochs[0], v.Epochs[len(v.Epochs)-1],
			plural(v.Objects, "object"), formatBytes(int64(v.Bytes)))
	}
	if len(v.Damage) == 0 {
		fmt.Fprintln(w, "all whole")
		return
	}
	fmt.Fprintf(w, "%s\n", plural(len(v.Damage), "damage"))
}

func (v *verifier) damage(object, format string, args ...any) {
	v.view.Damage = append(v.view.Damage, damageView{object, fmt.Sprintf(format, args...)})
}

// epoch checks one epoch. It returns an error only when ctx has ended. What goes
// missing because retention gave the epoch up in the meantime is no damage.
func (v *verifier) epoch(ctx context.Context, n base.Epoch) error {
	before := len(v.view.Damage)
	v.check(ctx, n)
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(v.view.Damage) > before && v.q.deleted(ctx, n) {
		v.view.Damage = v.view.Damage[:before]
		return nil
	}
	v.view.Epochs = append(v.view.Epochs, n)
	return nil
}

func (v *verifier) check(ctx context.Context, n base.Epoch) {
	prev, prevRecord, prevSum, follows := v.prev, v.prevRecord, v.prevSum, v.prevEpoch+1 == n
	v.prev = nil
	key := protocol.EpochKey(v.q.rec.Job, n)
	rec, recordSum, found, err := v.q.record(ctx, n)
	if err != nil {
		v.damage(key, "%s", reason(err))
		return
	}
	if !found {
		v.damage(key, "it is missing")
		return
	}
	v.view.Objects++
	if follows && rec.Prev != prevRecord {
		v.damage(key, "it follows a record with the sum %s, and that of epoch %d is %s", rec.Prev.Short(), n-1, prevRecord.Short())
	}
	v.prevEpoch, v.prevRecord, v.prevSum = n, recordSum, rec.Manifest
	m, err := v.q.manifest(ctx, rec)
	if err != nil {
		v.damage(protocol.ManifestKey(v.q.rec.Job, rec.Try(), rec.Gen), "%s", reason(err))
		return
	}
	v.view.Objects++
	if follows && prev != nil {
		if err := m.CheckNext(prev, prevSum); err != nil {
			v.damage(protocol.ManifestKey(v.q.rec.Job, rec.Try(), rec.Gen), "it does not follow from epoch %d: %v", n-1, err)
		}
	}
	v.prev = m
	v.objects(ctx, m, protocol.ManifestKey(v.q.rec.Job, rec.Try(), rec.Gen))
}

// reason is the cause of an error without its frame.
func reason(err error) string {
	if e, ok := errors.AsType[*base.Error](err); ok && e.Cause != nil {
		err = e.Cause
	}
	if errors.Is(err, blob.ErrNotFound) {
		return "it is missing"
	}
	return err.Error()
}

// objects checks everything that a manifest names or holds.
func (v *verifier) objects(ctx context.Context, m *protocol.Manifest, manifest string) {
	inline := func(what string, data []byte, sum protocol.SHA, size uint64) {
		if uint64(len(data)) != size || protocol.SumSHA(data) != sum {
			v.damage(manifest, "the %s that it holds is not what it says", what)
		}
	}
	for i := range m.Tasks {
		t := &m.Tasks[i]
		for _, o := range t.Objects {
			if len(o.Inline) > 0 {
				inline("state of task "+t.Task.String(), o.Inline, o.SHA, o.Size)
				continue
			}
			v.object(ctx, m.Job, o.SHA, o.Size)
		}
		for _, n := range t.Named {
			if len(n.Inline) == 0 && !n.SHA.IsZero() {
				v.object(ctx, m.Job, n.SHA, n.Size)
			}
		}
	}
	for i := range m.Lanes {
		if b := m.Lanes[i].Block; !b.Empty() {
			v.object(ctx, m.Job, b.SHA, b.Bytes)
		}
	}
}

// object reads one object once.
func (v *verifier) object(ctx context.Context, job string, sum protocol.SHA, size uint64) {
	key := protocol.ObjectKey(job, sum)
	if v.seen[key] || ctx.Err() != nil {
		return
	}
	v.seen[key] = true
	o, err := v.q.rec.Blob.Open(ctx, key)
	if err != nil {
		v.damage(key, "%s", reason(err))
		return
	}
	defer o.Close()
	if uint64(o.Size()) != size {
		v.damage(key, "it has %d bytes instead of %d", o.Size(), size)
		return
	}
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(o, 0, o.Size()))
	if err != nil {
		v.damage(key, "it cannot be read: %v", err)
		return
	}
	v.view.Objects++
	v.view.Bytes += uint64(n)
	if got := protocol.SHA(h.Sum(nil)); got != sum {
		v.damage(key, "its content has the sum %s", got.Short())
	}
}
