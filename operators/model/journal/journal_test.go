package journal

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirflow/weir/internal/base"
)

// book is a journal under test and the directory that outlives it.
type book struct {
	t   *testing.T
	dir string
	*Journal
}

func open(t *testing.T, dir string, epoch base.Epoch, keep func(uint64) bool) *book {
	t.Helper()
	if keep == nil {
		keep = func(uint64) bool { return true }
	}
	j, err := Open(Options{Dir: dir, Epoch: epoch, Keep: keep, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b := &book{t, dir, j}
	t.Cleanup(func() { _ = j.Close() })
	return b
}

func id(name string) (id ID) {
	copy(id[:], name)
	return id
}

// append writes records and waits until they are durable.
func (b *book) append(epoch base.Epoch, names ...string) {
	b.t.Helper()
	var wg sync.WaitGroup
	for _, n := range names {
		wg.Add(1)
		b.Append([]Record{{ID: id(n), Hash: uint64(n[0]), Epoch: epoch, Data: []byte("data of " + n)}}, wg.Done)
	}
	wg.Wait()
}

// finish closes the journal, and with it waits for what was ordered.
func (b *book) finish() {
	b.t.Helper()
	if err := b.Close(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *book) has(names ...string) {
	b.t.Helper()
	var got []string
	for k, v := range b.loaded {
		n := strings.TrimRight(string(k[:]), "\x00")
		if string(v) != "data of "+n {
			b.t.Errorf("the data of %s is %q", n, v)
		}
		got = append(got, n)
	}
	slices.Sort(got)
	if !slices.Equal(got, names) {
		b.t.Fatalf("loaded %q, want %q", got, names)
	}
}

func (b *book) take(names ...string) {
	b.t.Helper()
	for _, n := range names {
		if data, ok := b.Take(id(n)); !ok || string(data) != "data of "+n {
			b.t.Errorf("%s: %q, %v", n, data, ok)
		}
		if _, ok := b.Take(id(n)); ok {
			b.t.Errorf("%s was taken twice", n)
		}
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, e := range entries {
		s = append(s, e.Name())
	}
	return s
}

func TestResultsOfLaterEpochsAreFound(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, 0, nil)
	b.has()
	b.append(1, "a", "b")
	b.append(2, "c")
	b.append(3, "d", "e")
	b.append(2, "f") // arrived before the barrier, and is written after
	if b.Bytes() == 0 {
		t.Error("no size")
	}
	b.finish()

	// No epoch is durable, or the first, or the second is.
	open(t, copyOf(t, dir), 0, nil).has("a", "b", "c", "d", "e", "f")
	open(t, copyOf(t, dir), 1, nil).has("c", "d", "e", "f")
	two := copyOf(t, dir)
	open(t, two, 2, nil).has("d", "e")
	if left := files(t, two); len(left) != 2 {
		t.Errorf("files %q, want that of epoch 3 and the copy", left)
	}
}

func TestDurableEpochsLetFilesGo(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, 0, nil)
	b.append(1, "a")
	b.append(2, "b")
	b.Barrier(1)
	b.Confirm(1)
	b.append(2, "c")
	b.append(1, "late") // the checkpoint has it
	b.append(3, "d")
	b.finish()
	if got, want := files(t, dir), []string{"e0000000000000002-s0-0.calls", "e0000000000000003-s0-0.calls"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	open(t, dir, 1, nil).has("b", "c", "d")
}

func TestWhatWasLoadedIsKeptUntilItIsCovered(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, 0, nil)
	b.append(2, "a", "b", "c") // epoch 1 is durable, 2 not
	b.finish()

	b = open(t, dir, 1, nil)
	b.take("a")
	b.append(2, "x")
	b.Barrier(2)
	b.Confirm(2) // b and c have not come again yet
	b.finish()

	b = open(t, dir, 2, nil)
	b.has("a", "b", "c") // a is not needed, and does no harm
	b.take("a", "b", "c")
	b.Barrier(3) // not durable
	b.append(4, "y")
	b.finish()

	b = open(t, dir, 2, nil)
	b.has("a", "b", "c", "y")
	b.take("a", "b", "c", "y")
	b.Barrier(3)
	b.Confirm(3)
	b.finish()
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("files %q are left", left)
	}
}

func TestSubtasksShareADirectory(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, 0, nil)
	b.append(1, "a", "b", "c", "d")
	b.finish()
	low, high := func(h uint64) bool { return h <= 'b' }, func(h uint64) bool { return h > 'b' }
	// Two subtasks open what one has left; both before one confirms.
	b, c := open(t, dir, 0, low), open(t, dir, 0, high)
	b.has("a", "b")
	c.has("c", "d")
	b.take("a", "b")
	b.Barrier(1)
	b.Confirm(1)
	c.Confirm(1)
	b.finish()
	c.finish()
	open(t, dir, 1, nil).has("c", "d")
}

func TestTornAndDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, 0, nil)
	b.append(1, "a")
	b.append(1, "b")
	b.append(1, "c")
	b.finish()
	path := filepath.Join(dir, files(t, dir)[0])
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	one := (len(whole) - len(magic)) / 3
	for n := 0; n < len(whole); n += 3 {
		// Torn after n bytes.
		want := max(0, n-len(magic)) / one
		loads(t, whole[:n], want)
		// A bit has changed.
		bad := slices.Clone(whole)
		bad[n] ^= 4
		loads(t, bad, max(0, n-len(magic))/one)
	}
	loads(t, append(slices.Clone(whole), make([]byte, 4096)...), 3) // what some file systems leave
	loads(t, append(slices.Clone(whole), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1), 3)
}

// loads opens a directory with one file and wants the first n of a, b and c.
func loads(t *testing.T, content []byte, n int) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name(1, false, 0, 0)), content, 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, dir, 0, nil)
	b.has([]string{"a", "b", "c"}[:min(n, 3)]...)
	b.finish()
}

func TestStrangeFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"notes.txt", "x.calls", "e12-s0.calls"} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "inner"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := open(t, dir, 5, nil)
	b.Confirm(6)
	b.finish()
	if len(files(t, dir)) != 4 {
		t.Errorf("files %q", files(t, dir))
	}
}

func TestADiskThatRefusesStopsNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "op")
	b := open(t, dir, 0, nil)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	b.append(1, "a", "b") // returns
	if b.Failed() != 2 {
		t.Errorf("%d results failed, want 2", b.Failed())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.append(1, "c")
	b.Append([]Record{{ID: id("huge"), Epoch: 1, Data: make([]byte, MaxRecord+1)}}, func() {})
	b.finish()
	if b.Failed() != 3 {
		t.Errorf("%d results failed, want 3", b.Failed())
	}
	open(t, dir, 0, nil).has("c")
	b.Append([]Record{{ID: id("after"), Epoch: 1}}, func() { t.Error("written after the end") })
}

func TestResultsThatNobodyAsksForAreDropped(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, 0, nil)
	b.append(1, "a")
	b.finish()
	b = open(t, dir, 0, nil)
	for e := range base.Epoch(maxConfirms + 1) {
		b.Barrier(e + 1)
		b.Confirm(e + 1)
	}
	b.Barrier(maxConfirms + 2)
	b.Confirm(maxConfirms + 2)
	b.finish()
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("files %q are left", left)
	}
	b = open(t, dir, 0, nil)
	b.append(7, "b")
	b.finish()
	open(t, dir, 6, nil).has("b") // carries it
	open(t, dir, 7+maxAge, nil).has()
}

func TestManyAppendersShareSyncs(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, 0, nil)
	var wg sync.WaitGroup
	want := map[string]bool{}
	for i := range 200 {
		n := fmt.Sprintf("n%d", i)
		want[n] = true
		wg.Add(1)
		go b.Append([]Record{{ID: id(n), Epoch: base.Epoch(1 + i%3), Data: []byte("data of " + n)}}, wg.Done)
	}
	wg.Wait()
	b.finish()
	open(t, dir, 0, nil).has(slices.Sorted(maps.Keys(want))...)
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestSubtasksKeepEachOthersFiles: what a subtask has carried over in this run is not
// old to one that opens after it.
func TestSubtasksKeepEachOthersFiles(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, 1, nil)
	b.append(5, "a", "z")
	b.finish()
	of := func(subtask int, keep func(uint64) bool) *Journal {
		j, err := Open(Options{Dir: dir, Subtask: subtask, Parallelism: 2, Epoch: 1, Keep: keep, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	second := of(1, func(h uint64) bool { return h == 'z' })
	first := of(0, func(h uint64) bool { return h == 'a' })
	for _, j := range []*Journal{first, second} {
		j.Barrier(2)
		j.Confirm(2) // neither has taken its result yet
	}
	for _, j := range []*Journal{first, second} {
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, 2, nil).has("a", "z")
}
