package file_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/conformance"
	"github.com/weirflow/weir/connectors/file"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/protocol"
)

// visible returns the lines that a reader of the directory finds, by name of part.
func visible(t testing.TB, fs vfs.FS, dir string) [][]byte {
	t.Helper()
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Errorf("List: %v", err)
	}
	slices.Sort(names)
	var lines [][]byte
	for _, name := range names {
		if !strings.HasPrefix(name, "part-") {
			continue
		}
		text := get(t, fs, fs.PathJoin(dir, name))
		for line := range strings.Lines(text) {
			lines = append(lines, []byte(strings.TrimSuffix(line, "\n")))
		}
	}
	return lines
}

func TestSinkConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		conformance.Sink(t, func(t testing.TB) conformance.SinkFixture {
			fs := &breaker{FS: vfs.NewMem()}
			target := func() connectors.Target { return file.WriteJSONL[row]("/out", file.FS(fs)).Target }
			return conformance.SinkFixture{
				Target: target(), Reopen: target, Break: fs.arm,
				Read: func(t testing.TB) [][]byte { return visible(t, fs.FS, "/out") },
			}
		})
	})
	t.Run("disk", func(t *testing.T) {
		conformance.Sink(t, func(t testing.TB) conformance.SinkFixture {
			dir := filepath.Join(t.TempDir(), "a", "out")
			target := func() connectors.Target { return file.WriteJSONL[row](dir).Target }
			return conformance.SinkFixture{
				Target: target(), Reopen: target,
				Read: func(t testing.TB) [][]byte { return visible(t, vfs.Default, dir) },
			}
		})
	})
}

// breaker is a file system in which the next link fails, before or after it was
// made.
type breaker struct {
	vfs.FS
	mu             sync.Mutex
	armed, applied bool
}

func (b *breaker) arm(applied bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed, b.applied = true, applied
}

func (b *breaker) Link(from, to string) error {
	b.mu.Lock()
	armed, applied := b.armed, b.applied
	b.armed = false
	b.mu.Unlock()
	if armed && !applied {
		return errors.New("broken")
	}
	if err := b.FS.Link(from, to); err != nil || !armed {
		return err
	}
	return errors.New("broken")
}

// step is one chunk of a run; a run is the same in every attempt.
type step struct {
	lane   int
	marker protocol.Marker
	msgs   []connectors.Message
}

func steps() []step {
	var out []step
	total := map[int]uint64{}
	for epoch := range 2 {
		for lane := range 2 {
			for c := range 2 {
				s := step{lane: lane, marker: protocol.Marker{
					Job: "j", Lane: protocol.LaneID{Sink: "s", Lane: lane}, Epoch: base.Epoch(epoch + 1),
					Chunk: uint32(c + 1), Chunks: 2, Manifest: protocol.SumSHA([]byte{byte(epoch)}), Count: 3,
				}}
				for n := range 3 {
					s.msgs = append(s.msgs, connectors.Message{Data: fmt.Appendf(nil, "%d-%d-%d-%d", epoch, lane, c, n)})
				}
				total[lane] += 3
				s.marker.Total = total[lane]
				out = append(out, s)
			}
		}
	}
	return out
}

// commitAll writes what is missing of the run, by the rules of the protocol. It
// returns the first error that is not resolved by reading the marker.
func commitAll(ctx context.Context, fs vfs.FS) error {
	w, err := file.WriteLines("/out", file.FS(fs), file.Lanes(2)).Target.(connectors.LaneTarget).
		OpenLanes(ctx, connectors.SinkEnv{Job: "j", Sink: "s", Clock: clock.Real()})
	if err != nil {
		return err
	}
	defer w.Close()
	var seqs [2]uint64
	var at [2]protocol.Marker
	for lane := range 2 {
		var err error
		if at[lane], seqs[lane], _, err = w.ReadMarker(ctx, lane); err != nil {
			return err
		}
	}
	for _, s := range steps() {
		if s.marker.Total <= at[s.lane].Total {
			continue
		}
		if seqs[s.lane], err = w.PublishChunk(ctx, s.lane, s.msgs, s.marker, seqs[s.lane]); err != nil {
			return err
		}
		at[s.lane] = s.marker
	}
	return nil
}

func wantLines() (want []string) {
	for _, s := range steps() {
		for _, m := range s.msgs {
			want = append(want, string(m.Data))
		}
	}
	return want
}

// crasher counts the operations of a file system, keeps what a crash at the n-th
// would leave, and lets the run go on, which no longer matters.
type crasher struct {
	mem   *vfs.MemFS
	cfg   vfs.CrashCloneCfg
	at, n int
	left  *vfs.MemFS
}

func (c *crasher) String() string { return "crasher" }

func (c *crasher) MaybeError(errorfs.Op) error {
	if c.n++; c.n == c.at {
		c.left = c.mem.CrashClone(c.cfg)
	}
	return nil
}

// TestPowerCut cuts the power before every operation on the disk, with none, some
// or all of what was not synced surviving, twice in a row, and then finishes the
// run: each record is there once, in order, and a part never differs from what a
// reader saw before.
func TestPowerCut(t *testing.T) {
	ops := 0
	for _, percent := range []int{0, 50, 100} {
		for at := 1; ; at++ {
			rng := rand.New(rand.NewPCG(uint64(at), 0))
			fs := vfs.NewCrashableMem()
			cut := func(n int) bool {
				c := &crasher{mem: fs, at: n, cfg: vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}}
				if err := commitAll(t.Context(), errorfs.Wrap(fs, c)); err != nil {
					t.Fatalf("percent %d, operation %d: %v", percent, at, err)
				}
				if c.left != nil {
					fs = c.left
				}
				return c.left != nil
			}
			if !cut(at) {
				ops += at
				break
			}
			seen := visible(t, fs, "/out")
			cut(1 + rng.IntN(30))
			if err := commitAll(t.Context(), fs); err != nil {
				t.Fatalf("percent %d, operation %d: %v", percent, at, err)
			}
			got := visible(t, fs, "/out")
			if !slices.EqualFunc(got, wantLines(), func(g []byte, w string) bool { return string(g) == w }) {
				t.Fatalf("percent %d, operation %d: %q", percent, at, got)
			}
			for _, line := range seen {
				if !slices.ContainsFunc(got, func(g []byte) bool { return bytes.Equal(g, line) }) {
					t.Fatalf("percent %d, operation %d: %s was seen and never committed", percent, at, line)
				}
			}
		}
	}
	t.Logf("%d power cuts", ops)
}

// failer makes the n-th write operation fail.
type failer struct {
	at, n int
	fired bool
}

func (f *failer) String() string { return "failer" }

func (f *failer) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	if f.n++; f.n == f.at {
		f.fired = true
		return errorfs.ErrInjected
	}
	return nil
}

// TestEveryWriteFails lets each write operation fail in turn, as on a full disk.
func TestEveryWriteFails(t *testing.T) {
	for at := 1; ; at++ {
		fs := vfs.NewMem()
		f := &failer{at: at}
		err := commitAll(t.Context(), errorfs.Wrap(fs, f))
		if !f.fired {
			t.Logf("%d failures", at-1)
			return
		}
		if !errors.Is(err, errorfs.ErrInjected) {
			t.Fatalf("operation %d: the failure was lost: %v", at, err)
		}
		if err := commitAll(t.Context(), fs); err != nil {
			t.Fatalf("operation %d: %v", at, err)
		}
		if got := visible(t, fs, "/out"); len(got) != len(wantLines()) {
			t.Fatalf("operation %d: %q", at, got)
		}
	}
}

func TestDeletedPartsDoNotComeBack(t *testing.T) {
	fs := vfs.NewMem()
	for range 3 {
		if err := commitAll(t.Context(), fs); err != nil {
			t.Fatal(err)
		}
		names, err := fs.List("/out")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasPrefix(name, "part-") {
				if err := fs.Remove(fs.PathJoin("/out", name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if got := visible(t, fs, "/out"); len(got) > 0 {
		t.Fatalf("%q", got)
	}
	if names, err := fs.List("/out/_weir/staged"); err != nil || len(names) > 0 {
		t.Fatalf("left over: %v, %v", names, err)
	}
}

func TestOwner(t *testing.T) {
	fs := vfs.NewMem()
	open := func(dir, job string, lanes int, req connectors.Durability) error {
		_, err := file.WriteLines(dir, file.FS(fs), file.Lanes(lanes)).Target.(connectors.LaneTarget).
			OpenLanes(t.Context(), connectors.SinkEnv{Job: job, Sink: "s", Require: req})
		return err
	}
	if err := open("/out", "j", 2, connectors.Durability{}); err != nil {
		t.Fatal(err)
	}
	if err := open("/out", "j", 2, connectors.Durability{}); err != nil {
		t.Fatal(err)
	}
	put(t, fs, "/old/part-1.txt", "x\n")
	for name, err := range map[string]error{
		"other job":   open("/out", "k", 2, connectors.Durability{}),
		"other lanes": open("/out", "j", 3, connectors.Durability{}),
		"foreign":     open("/old", "j", 2, connectors.Durability{}),
	} {
		if base.CodeOf(err) != file.CodeOwner || !errors.Is(err, base.ErrFatal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := open("/out", "j", 2, connectors.Durability{Replicas: 3}); base.CodeOf(err) != file.CodeGrade {
		t.Errorf("replicas: %v", err)
	}
}

func TestDamagedMarker(t *testing.T) {
	fs := vfs.NewMem()
	if err := commitAll(t.Context(), fs); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("/out/_weir/lane-0001/%020d", 4)
	good := get(t, fs, name)
	for i := range len(good) {
		bad := []byte(good)
		bad[i] ^= 4
		put(t, fs, name, string(bad))
		if err := commitAll(t.Context(), fs); base.CodeOf(err) != file.CodeMarker || !errors.Is(err, base.ErrFatal) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	put(t, fs, name, good)
	if err := fs.Remove(name); err != nil { // its part stays: the directory was tampered with
		t.Fatal(err)
	}
	if err := commitAll(t.Context(), fs); base.CodeOf(err) != file.CodeMarker {
		t.Fatalf("a marker that is gone: %v", err)
	}
}

func TestFormats(t *testing.T) {
	fs := vfs.NewMem()
	write := func(dir string, s connectors.Sink[row], rows ...row) string {
		t.Helper()
		w, err := s.Target.(connectors.LaneTarget).OpenLanes(t.Context(), connectors.SinkEnv{Job: "j", Sink: "s"})
		if err != nil {
			t.Fatal(err)
		}
		msgs := make([]connectors.Message, len(rows))
		for i := range rows {
			if err := s.Encode(&msgs[i], &base.Meta{}, &rows[i]); err != nil {
				t.Fatal(err)
			}
		}
		m := protocol.Marker{Job: "j", Lane: protocol.LaneID{Sink: "s"}, Epoch: 7, Chunk: 1, Chunks: 1, Count: uint32(len(msgs))}
		if _, err := w.PublishChunk(t.Context(), 0, msgs, m, 0); err != nil {
			t.Fatal(err)
		}
		names, err := fs.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, "part-") })
		return names[i] + ": " + get(t, fs, fs.PathJoin(dir, names[i]))
	}
	rows := []row{{"a", 1}, {"b,\n", 2}}
	const part = "part-00000000000000000007-0000-000001."
	if got, want := write("/j", file.WriteJSONL[row]("/j", file.FS(fs)), rows...), part+`jsonl: {"Name":"a","N":1}`+"\n"+`{"Name":"b,\n","N":2}`+"\n"; got != want {
		t.Errorf("JSON: %q", got)
	}
	csv := file.WriteCSV[row]("/c", file.FS(fs), file.Columns("N", "Name"))
	if got, want := write("/c", csv, rows...), part+"csv: N,Name\n1,a\n2,\"b,\n\"\n"; got != want {
		t.Errorf("CSV: %q", got)
	}
	recs, _, err := read(t, file.CSV[row]("/c", file.FS(fs)), connectors.Position{}, 9)
	if err != nil || !slices.Equal(recs.Values, rows) {
		t.Errorf("read back: %v, %v", recs.Values, err)
	}
	lines := file.WriteLines("/l", file.FS(fs))
	broken := "two\nlines"
	if err := lines.Encode(&connectors.Message{}, &base.Meta{}, &broken); base.CodeOf(err) != file.CodeLine {
		t.Errorf("a line break: %v", err)
	}
	for name, s := range map[string]connectors.Target{
		"no directory": file.WriteLines("").Target,
		"lanes":        file.WriteLines("/x", file.Lanes(0)).Target,
		"type":         file.WriteCSV[int]("/x").Target,
		"json":         file.WriteJSONL[chan int]("/x").Target,
	} {
		if s.(connectors.BuildChecker).BuildError() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
