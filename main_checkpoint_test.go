package weir

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/window"
)

// counted is a job with keyed state that fills a store with checkpoints.
func counted(sink *memory.Sink[Windowed[uint64, int64]], n uint64, opts ...generator.Option) JobSpec {
	return NewJob("counted", func(j *Job) {
		src := generator.New(func(i uint64) uint64 { return i }, append([]generator.Option{
			generator.Count(n), generator.At(func(i uint64) time.Time { return time.Unix(int64(i/100), 0) }),
		}, opts...)...)
		in := From(j, "numbers", src, Ascending(func(i uint64) time.Time { return time.Unix(int64(i/100), 0) }))
		keyed := KeyBy(in, "by-number", func(i uint64) uint64 { return i % 5000 })
		To(Aggregate(keyed, "per-hour", window.Tumbling(time.Hour), Count[uint64]()), "out", sink.Sink())
	})
}

// storeOf runs the job for some checkpoints and returns the data directory.
func storeOf(t *testing.T) string {
	t.Helper()
	o := quick(t)
	o.Parallelism = 1
	if err := Run(t.Context(), counted(memory.NewSink[Windowed[uint64, int64]](), 60_000, generator.Rate(400_000)), o); err != nil {
		t.Fatal(err)
	}
	return o.DataDir
}

// command runs a command of a binary without jobs and returns what it prints.
func command(args ...string) (code int, out, errs string) {
	root := NewCommand()
	var o, e bytes.Buffer
	root.SetOut(&o)
	root.SetErr(&e)
	root.SetArgs(args)
	code = Execute(root)
	return code, o.String(), e.String()
}

func TestCheckpointCommands(t *testing.T) {
	dir := storeOf(t)
	code, out, errs := command("checkpoint", "ls", "--data-dir", dir, "-o", "json")
	var list []checkpointView
	if err := json.Unmarshal([]byte(out), &list); code != ExitOK || err != nil || len(list) == 0 {
		t.Fatalf("exit code %d, %v: %s%s", code, err, out, errs)
	}
	last := list[len(list)-1]
	if last.Final != "end" || last.Tasks != 2 && last.Tasks != 3 || last.FullBytes == 0 || len(list) > 4 {
		t.Errorf("the checkpoints are %+v", list)
	}
	epoch := strconv.FormatUint(uint64(last.Epoch), 10)
	code, out, errs = command("checkpoint", "ls", "counted", "--data-dir", dir)
	if code != ExitOK || !strings.HasPrefix(out, "EPOCH") || strings.Count(out, "\n") != len(list)+1 || !strings.Contains(out, "\n"+epoch+" ") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	for _, args := range [][]string{{epoch}, {"counted", "latest"}, {}} {
		code, out, errs = command(append([]string{"checkpoint", "describe", "--data-dir", dir}, args...)...)
		for _, want := range []string{"epoch       " + epoch, "numbers/", "per-hour/", "int64", "by-number#0", "out/3", "true"} {
			if code != ExitOK || !strings.Contains(out, want) {
				t.Errorf("describe %v: exit code %d, no %q in:\n%s%s", args, code, want, out, errs)
			}
		}
	}
	code, out, errs = command("checkpoint", "describe", "--data-dir", dir, "-o", "json", epoch)
	var d detailView
	if err := json.Unmarshal([]byte(out), &d); code != ExitOK || err != nil || d.Epoch != last.Epoch || len(d.Splits) != 1 || d.Splits[0].Offset == 0 || !d.Splits[0].Finished {
		t.Errorf("exit code %d, %v: %s%s", code, err, out, errs)
	}
	code, out, errs = command("checkpoint", "verify", "--data-dir", dir)
	if code != ExitOK || !strings.Contains(out, "all whole") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	code, out, errs = command("checkpoint", "verify", "--data-dir", dir, "-o", "json", epoch)
	var v verifyView
	if err := json.Unmarshal([]byte(out), &v); code != ExitOK || err != nil || !slices.Equal(v.Epochs, []base.Epoch{last.Epoch}) || v.Objects < 3 {
		t.Errorf("exit code %d, %v: %s%s", code, err, out, errs)
	}
	for _, args := range [][]string{{"describe", "999"}, {"verify", "999"}} {
		if code, _, errs := command("checkpoint", args[0], "--data-dir", dir, args[1]); code != ExitFailed || !strings.Contains(errs, "error WEIR-0209: job counted has no checkpoint 999") {
			t.Errorf("%v: exit code %d: %s", args, code, errs)
		}
	}
	if code, _, errs := command("checkpoint", "ls", "other", "--data-dir", dir); code != ExitFailed || !strings.Contains(errs, "error WEIR-0208: the store has no checkpoints of job other") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// files lists the files of a store below a folder of the job, by path.
func files(t *testing.T, dir, folder string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(filepath.Join(dir, checkpointDir), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, string(filepath.Separator)+folder+string(filepath.Separator)) {
			out = append(out, path)
		}
		return err
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("no files in %s: %v", folder, err)
	}
	return out
}

func TestVerifyFindsDamage(t *testing.T) {
	dir := storeOf(t)
	flip := func(b []byte) []byte {
		b[len(b)/2] ^= 1
		return b
	}
	cut := func(b []byte) []byte { return b[:len(b)-1] }
	// In ls and describe, damage to what they read is an error that names it.
	for _, c := range []struct {
		name, folder string
		change       func([]byte) []byte
		what         string
		ls           bool
	}{
		{"object flipped", "obj", flip, "its content has the sum", false},
		{"object cut", "obj", cut, "bytes instead of", false},
		{"object gone", "obj", nil, "it is missing", false},
		{"manifest flipped", "man", flip, "its sum is", true},
		{"manifest cut", "man", cut, "its sum is", true},
		{"manifest gone", "man", nil, "it is missing", true},
		{"record flipped", "epochs", flip, "", false},
		{"record cut", "epochs", cut, "record 'E'", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := files(t, dir, c.folder)
			path := all[len(all)-1]
			was, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := os.WriteFile(path, was, 0o600); err != nil {
					t.Fatal(err)
				}
			}()
			if c.change == nil {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, c.change(slices.Clone(was)), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			object := filepath.Base(path)
			code, out, errs := command("checkpoint", "verify", "--data-dir", dir)
			if code != ExitFailed || !strings.Contains(errs, "error WEIR-0390") || !strings.Contains(out, "damaged") ||
				c.what != "" && (!strings.Contains(out, c.what) || !strings.Contains(out, object)) {
				t.Errorf("exit code %d, want damage of %s (%s):\n%s%s", code, object, c.what, out, errs)
			}
			if code, out, errs := command("checkpoint", "ls", "--data-dir", dir); c.ls && (code != ExitFailed || !strings.Contains(errs, "error WEIR-0390") || !strings.Contains(errs, object)) {
				t.Errorf("ls: exit code %d:\n%s%s", code, out, errs)
			}
		})
	}
	if code, out, _ := command("checkpoint", "verify", "--data-dir", dir); code != ExitOK {
		t.Errorf("the repaired store is damaged:\n%s", out)
	}
}

// A job that starts on a damaged store says which object is damaged, and does not
// start over again and again.
func TestRunOnADamagedStore(t *testing.T) {
	dir := storeOf(t)
	all := files(t, dir, "man")
	slices.SortFunc(all, func(a, b string) int { return manifestEpoch(a) - manifestEpoch(b) })
	if err := os.WriteFile(all[len(all)-1], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), counted(memory.NewSink[Windowed[uint64, int64]](), 10), Options{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "WEIR-03") {
		t.Fatalf("a run on a damaged store: %v", err)
	}
}

func manifestEpoch(path string) int {
	n, _, _ := strings.Cut(filepath.Base(path), "-")
	i, _ := strconv.Atoi(n)
	return i
}

func TestVerifyDamagedNameAndFloor(t *testing.T) {
	dir := storeOf(t)
	name := files(t, dir, "names")[0]
	was, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("../../../etc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command("checkpoint", "verify", "--data-dir", dir); code != ExitFailed || !strings.Contains(errs, "names/counted") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if err := os.WriteFile(name, was, 0o600); err != nil {
		t.Fatal(err)
	}
	floor := filepath.Join(filepath.Dir(filepath.Dir(files(t, dir, "gen")[0])), "floor")
	if err := os.WriteFile(floor, []byte("F"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command("checkpoint", "verify", "--data-dir", dir); code != ExitFailed || !strings.Contains(errs, "/floor") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
