package weir_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/engine/checkpoint"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

const storeDir = "checkpoints"

// readTree returns all files below dir by their path relative to it.
func readTree(t *testing.T, fs vfs.FS, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	var walk func(rel string)
	walk = func(rel string) {
		names, err := fs.List(fs.PathJoin(dir, rel))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			name := strings.TrimPrefix(rel+"/"+n, "/")
			info, err := fs.Stat(fs.PathJoin(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() {
				walk(name)
				continue
			}
			f, err := fs.Open(fs.PathJoin(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(f)
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			out[name] = b
		}
	}
	walk("")
	return out
}

// writeFile writes a file below dir; nil removes it.
func writeFile(t *testing.T, fs vfs.FS, dir, name string, b []byte) {
	t.Helper()
	path := fs.PathJoin(append([]string{dir}, strings.Split(name, "/")...)...)
	if b == nil {
		if err := fs.Remove(path); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := fs.MkdirAll(fs.PathDir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func writeTree(t *testing.T, files map[string][]byte) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	for name, b := range files {
		writeFile(t, fs, storeDir, name, b)
	}
	return fs
}

// crashed is a job that was killed with durable epochs whose output is not
// published.
type crashed struct {
	list   []entry // its whole input, part of which no checkpoint covers
	src    *memory.Source[entry]
	ledger *ledger
	files  map[string][]byte // its checkpoint store
	// needed are the files that a restart cannot do without, by kind.
	needed map[string]string
}

var errDown = errors.New("the target is down")

func crash(t *testing.T) *crashed {
	t.Helper()
	const keys, rounds = 3000, 9
	c := &crashed{list: entries(keys*rounds, keys), src: memory.NewSource[entry](), ledger: newLedger()}
	fs := vfs.NewMem()
	blobs, err := blob.NewDir(fs, storeDir, "test")
	if err != nil {
		t.Fatal(err)
	}
	o := quickly(blobs)
	o.Manual = true
	job := launch(t, t.Context(), bookkeeping(c.src, c.ledger, nil), o, 2)
	for r := range rounds {
		for _, e := range c.list[r*keys : (r+1)*keys] {
			c.src.Append("0", 0, e)
		}
		until(t, job, "the records of the round", func() bool { return staged(job) == int64((r+1)*keys) })
		switch {
		case r == rounds-1: // what no checkpoint covers
		case r >= rounds-3: // durable, but not published
			c.ledger.hook(func(context.Context) error { return errDown })
			before := job.Checkpoints().Durable
			go func() { _ = job.Checkpoint(t.Context()) }()
			until(t, job, "a durable epoch", func() bool { return job.Checkpoints().Durable > before })
		default:
			if err := job.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	job.Kill()
	c.src.Finish()
	c.files = readTree(t, fs, storeDir)
	c.findNeeded(t, blobs, job.UID())
	return c
}

// staged counts what the sinks have taken.
func staged(job *engine.Job) (n int64) {
	for _, task := range job.Tasks() {
		n += task.Stats.RecordsOut.Load()
	}
	return n
}

// findNeeded classifies the files that the newest epoch names.
func (c *crashed) findNeeded(t *testing.T, blobs blob.Store, uid string) {
	t.Helper()
	ctx := t.Context()
	rec := &checkpoint.Records{Blob: blobs, Job: uid}
	epochs, err := rec.Epochs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c.needed = map[string]string{"names/books": "name"}
	for i, e := range epochs {
		m, err := rec.Manifest(ctx, e)
		if err != nil {
			t.Fatal(err)
		}
		newest := i == len(epochs)-1
		for _, l := range m.Lanes {
			// The last two epochs are not published.
			if i >= len(epochs)-2 && !l.Block.Empty() {
				c.needed[protocol.ObjectKey(uid, l.Block.SHA)] = "block"
			}
		}
		if i >= len(epochs)-2 {
			c.needed[protocol.EpochKey(uid, e.Epoch)] = "epoch record"
			c.needed[protocol.ManifestKey(uid, e.Try(), e.Gen)] = "manifest"
		}
		if !newest {
			continue
		}
		kinds := map[protocol.ObjectKind]bool{}
		for _, task := range m.Tasks {
			for _, o := range task.Objects {
				// A file may be a base of one part of the state and a delta of the rest.
				if len(o.Inline) == 0 {
					kinds[o.Kind] = true
					c.needed[protocol.ObjectKey(uid, o.SHA)] = "object"
				}
			}
		}
		if len(kinds) != 2 {
			t.Fatalf("the newest epoch has objects of the kinds %v only", kinds)
		}
	}
	have := slices.Sorted(maps.Values(c.needed))
	for _, kind := range []string{"name", "epoch record", "manifest", "object", "block"} {
		if !slices.Contains(have, kind) {
			t.Fatalf("the crashed job has no %s; it has %v", kind, have)
		}
	}
}

// damages are what can happen to a file.
var damages = []struct {
	name string
	do   func([]byte) []byte
	// all: it is done to every file, not only to one of each kind.
	all bool
}{
	{"a byte in the middle is flipped", func(b []byte) []byte { return flip(b, len(b)/2) }, true},
	{"the first byte is flipped", func(b []byte) []byte { return flip(b, 0) }, false},
	{"the last byte is flipped", func(b []byte) []byte { return flip(b, len(b)-1) }, false},
	{"it is cut in half", func(b []byte) []byte { return b[:len(b)/2] }, false},
	{"it is empty", func([]byte) []byte { return []byte{} }, false},
	{"it is missing", func([]byte) []byte { return nil }, true},
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	if len(b) > 0 {
		b[at] ^= 1
	}
	return b
}

// TestDamagedCheckpoint damages every file of a checkpoint store, one at a time. If
// the newest epoch needs it, the job must refuse to go on, name it, and publish
// nothing; with the file put back it goes on, exactly. Any other file must not matter
// or be refused as well.
func TestDamagedCheckpoint(t *testing.T) {
	c := crash(t)
	done := map[string]bool{}
	runs, refused := 0, 0
	for _, file := range slices.Sorted(maps.Keys(c.files)) {
		kind, needed := c.needed[file]
		if !needed {
			parts := strings.Split(file, "/")
			kind = parts[min(2, len(parts)-1)] // jobs/UID/KIND/…
		}
		for _, d := range damages {
			if !d.all && done[kind+d.name] || bytes.Equal(d.do(c.files[file]), c.files[file]) && d.do(c.files[file]) != nil {
				continue
			}
			done[kind+d.name] = true
			runs++
			if c.damage(t, file, kind, needed, d.name, d.do) {
				refused++
			}
			if t.Failed() {
				return
			}
		}
	}
	t.Logf("%d kinds of damage to %d files, %d needed; %d refused", runs, len(c.files), len(c.needed), refused)
}

// damage runs the job with one damaged file and reports whether it was refused.
func (c *crashed) damage(t *testing.T, file, kind string, needed bool, name string, do func([]byte) []byte) bool {
	t.Helper()
	what := fmt.Sprintf("%s (%s): %s", file, kind, name)
	fs, l := writeTree(t, c.files), c.ledger.clone()
	writeFile(t, fs, storeDir, file, do(c.files[file]))
	blobs, err := blob.NewDir(fs, storeDir, "test")
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	err = c.resume(t, l, blobs)
	if err == nil {
		// An epoch record that is missing was never there: its output was not
		// published, and the job makes the epoch again.
		if needed && (kind != "epoch record" || do(c.files[file]) != nil) {
			t.Errorf("%s: the job went on", what)
		}
		l.exact(t, c.list)
		return false
	}
	code := map[string]string{"name": "WEIR-0383", "block": "WEIR-0382", "object": "WEIR-0305"}[kind]
	switch {
	case kind == "object" && do(c.files[file]) == nil:
		code = "WEIR-0304"
	case code == "":
		code = "WEIR-0381"
	}
	wantError(t, err, code, file)
	if t.Failed() {
		t.Fatalf("that was %s", what)
	}
	// Lanes that have their blocks may publish them; what they publish stays exact.
	writeFile(t, fs, storeDir, file, c.files[file])
	if err := c.resume(t, l, blobs); err != nil {
		t.Fatalf("%s: with the file put back: %v", what, err)
	}
	l.exact(t, c.list)
	return true
}

// resume starts the job again; an error must come without any restart.
func (c *crashed) resume(t *testing.T, l *ledger, blobs blob.Store) error {
	t.Helper()
	plan, err := weir.Compile(bookkeeping(c.src, l, nil), weir.WithParallelism(2))
	if err != nil {
		t.Fatal(err)
	}
	job, err := engine.Start(t.Context(), plan, quickly(blobs))
	if err != nil {
		return err
	}
	defer job.Kill()
	err = finish(t, job)
	if n, cause := job.Restarts(); n > 0 {
		t.Errorf("%d restarts because of: %v", n, cause)
	}
	return err
}
