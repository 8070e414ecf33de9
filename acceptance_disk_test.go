package weir_test

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/state/blob"
)

// disk is a file system in memory that can be full.
type disk struct {
	vfs.FS
	full atomic.Bool
	hits atomic.Int64
}

func newDisk() *disk {
	d := &disk{}
	d.FS = errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFilePreallocate, errorfs.OpLink, errorfs.OpCreate, errorfs.OpRename:
		default:
			return nil
		}
		return d.write(op.Path)
	}))
	return d
}

// write is the fate of a write.
func (d *disk) write(path string) error {
	if !d.full.Load() {
		return nil
	}
	d.hits.Add(1)
	return &os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
}

// store returns a checkpoint store on the disk, or, when part is not empty, one that
// has no room for objects whose names contain it.
func (d *disk) store(t *testing.T, part string) blob.Store {
	t.Helper()
	if part != "" {
		m := blob.Memory()
		m.Before = func(verb, name string) error {
			if verb == "delete" || !strings.Contains(name, part) {
				return nil
			}
			return d.write(name)
		}
		return m
	}
	s, err := blob.NewDir(d, storeDir, "test")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// generated is the list as a source of its own, with the given options.
func generated(list []entry, opts ...generator.Option) *generator.Source[entry] {
	return generator.New(func(i uint64) entry { return list[i] }, append(opts, generator.Count(uint64(len(list))))...)
}

func TestFullCheckpointStore(t *testing.T) {
	for name, part := range map[string]string{
		"everything": "", "objects": "/obj/", "manifests": "/man/", "claims": "/epochs/",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDisk()
			blobs := d.store(t, part)
			src, l, list, fed := memory.NewSource[entry](), newLedger(), entries(1_000_000, 3000), 0
			feed := func(n int) {
				for _, e := range list[fed : fed+n] {
					src.Append("0", 0, e)
				}
				fed += n
			}
			job := launch(t, t.Context(), bookkeeping(src, l, nil), quickly(blobs), 2)
			feed(2000)
			until(t, job, "output", func() bool { return l.count() == 2000 })

			d.full.Store(true)
			was := job.Checkpoints()
			until(t, job, "checkpoints that fail", func() bool {
				feed(10)
				f := job.Checkpoints()
				return d.hits.Load() >= 5 && (f.Aborted >= was.Aborted+3 || part == "/epochs/")
			})
			feed(2000)
			until(t, job, "records in spite of it", func() bool { return recordsIn(job) == int64(fed) })
			if f := job.Checkpoints(); f.Durable > was.Durable+1 || l.count() > 4000 {
				t.Errorf("%d epochs became durable on a full disk", f.Durable-was.Durable)
			}

			d.full.Store(false)
			feed(2000)
			until(t, job, "all output", func() bool { return l.count() == fed })
			src.Finish()
			if err := finish(t, job); err != nil {
				t.Fatal(err)
			}
			if n, cause := job.Restarts(); n > 0 {
				t.Errorf("the job restarted because of: %v", cause)
			}
			l.exact(t, list[:fed])
		})
	}
}

// recordsIn counts what the sources have read.
func recordsIn(job *engine.Job) (n int64) {
	for _, t := range job.Tasks() {
		if t.Task == "in" {
			n += t.Stats.RecordsIn.Load()
		}
	}
	return n
}

// TestFullCheckpointStoreBoundsMemory: output cannot be published without
// checkpoints, so the sources have to pause before it fills the memory.
func TestFullCheckpointStoreBoundsMemory(t *testing.T) {
	d := newDisk()
	blobs := d.store(t, "")
	list, l := entries(600_000, 3000), newLedger()
	job := launch(t, t.Context(), bookkeeping(generated(list), l, nil), quickly(blobs), 2)
	until(t, job, "the start", func() bool { return job.Ready() })
	d.full.Store(true)
	limit := job.Limits().Staged
	var most, in int64
	still := 0
	until(t, job, "the sources to pause", func() bool {
		most = max(most, job.Staged())
		now := recordsIn(job)
		if still++; now != in {
			in, still = now, 0
		}
		time.Sleep(20 * time.Millisecond)
		return most > limit && still >= 10
	})
	if in == int64(len(list)) {
		t.Fatalf("all of the input is in memory: %d bytes with a limit of %d", most, limit)
	}
	if most > limit*3/2 {
		t.Errorf("%d bytes wait in memory, the limit is %d", most, limit)
	}
	d.full.Store(false)
	if err := finish(t, job); err != nil {
		t.Fatal(err)
	}
	l.exact(t, list)
}

func TestFullStateDirectory(t *testing.T) {
	d := newDisk()
	blobs, list, l := blob.Memory(), entries(90_000, 60_000), newLedger()
	for i := range list {
		list[i].Key = fmt.Sprintf("%0200s", list[i].Key)
	}
	o := quickly(blobs)
	o.FS = d
	d.full.Store(true)

	// The state outgrows the memory, and cannot.
	err := finish(t, launch(t, t.Context(), bookkeeping(inMemory(list), l, nil), o, 1))
	wantError(t, err, "WEIR-0703", "WEIR-0302", "spill", "no space left on device", "make room on the disk")

	// A job that meets it once and finds space later goes on by itself.
	o.MaxRestarts = 1 << 20
	job := launch(t, t.Context(), bookkeeping(inMemory(list), l, nil), o, 1)
	until(t, job, "restarts", func() bool { n, _ := job.Restarts(); return n >= 2 })
	d.full.Store(false)
	if err := finish(t, job); err != nil {
		t.Fatal(err)
	}
	l.exact(t, list)
}
