package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func stores(t *testing.T) map[string]Store {
	t.Helper()
	mem, err := NewDir(vfs.NewMem(), "root/store", "a")
	if err != nil {
		t.Fatal(err)
	}
	real, err := NewDir(vfs.Default, t.TempDir()+"/store", "a")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Store{"memory": Memory(), "directory in memory": mem, "directory": real}
}

func TestStores(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) { contract(t, s) })
	}
}

// contract checks what every store promises.
func contract(t *testing.T, s Store) {
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []bool{true, false} {
		created, err := s.PutIfAbsent(ctx, "jobs/a/epochs/0/1", []byte{byte(i)})
		check(err)
		if created != want {
			t.Fatalf("put %d: created=%v", i, created)
		}
	}
	got, err := s.Get(ctx, "jobs/a/epochs/0/1")
	check(err)
	if !bytes.Equal(got, []byte{0}) {
		t.Fatalf("the second put-if-absent changed the object to %v", got)
	}
	check(s.Put(ctx, "jobs/a/man/1-1-1", []byte("old")))
	check(s.PutFrom(ctx, "jobs/a/man/1-1-1", strings.NewReader("newer")))
	o, err := s.Open(ctx, "jobs/a/man/1-1-1")
	check(err)
	part := make([]byte, 3)
	_, err = o.ReadAt(part, 2)
	check(err)
	if o.Size() != 5 || string(part) != "wer" {
		t.Fatalf("%d bytes, from 2 on %q", o.Size(), part)
	}
	check(o.Close())

	for i := range 2 { // an upload does not replace what has its name
		u, err := Create(ctx, s)
		check(err)
		for range 3 {
			_, err = u.Write([]byte("abc"))
			check(err)
		}
		check(u.Commit(ctx, "jobs/a/obj/77"))
		got, err := s.Get(ctx, "jobs/a/obj/77")
		check(err)
		if string(got) != "abcabcabc" {
			t.Fatalf("upload %d reads as %q", i, got)
		}
	}
	u, err := Create(ctx, s)
	check(err)
	_, err = u.Write([]byte("nothing"))
	check(err)
	u.Abort()

	names, err := s.List(ctx, "jobs/a/")
	check(err)
	if want := []string{"jobs/a/epochs/0/1", "jobs/a/man/1-1-1", "jobs/a/obj/77"}; !slices.Equal(names, want) {
		t.Fatalf("listed %v, want %v", names, want)
	}
	if names, err = s.List(ctx, "jobs/a/m"); err != nil || len(names) != 1 {
		t.Fatalf("listed %v, %v", names, err)
	}
	check(s.Delete(ctx, "jobs/a/obj/77"))
	if err := s.Delete(ctx, "jobs/a/obj/77"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("second delete: %v", err)
	}
	if _, err := s.Get(ctx, "jobs/a/obj/77"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("get of a deleted object: %v", err)
	}
	if _, err := s.Open(ctx, "jobs/b"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("open of no object: %v", err)
	}
	for _, bad := range []string{"", "/", "a//b", "../x", "a/../b", "a/", "/a", "A", "a b", "a\x00", strings.Repeat("a", MaxName+1)} {
		if err := s.Put(ctx, bad, nil); err == nil {
			t.Errorf("the name %q is accepted", bad)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.PutIfAbsent(gone, "x", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("put with a context that is done: %v", err)
	}
}

// TestOneCreates lets many callers want one name.
func TestOneCreates(t *testing.T) {
	for name, s := range stores(t) {
		for round := range 20 {
			var wg sync.WaitGroup
			var won atomic.Int32
			var winner atomic.Int32
			for i := range 8 {
				wg.Go(func() {
					created, err := s.PutIfAbsent(t.Context(), fmt.Sprintf("claims/%d", round), []byte{byte(i)})
					if err != nil {
						t.Error(err)
					}
					if created {
						won.Add(1)
						winner.Store(int32(i))
					}
				})
			}
			wg.Wait()
			got, err := s.Get(t.Context(), fmt.Sprintf("claims/%d", round))
			if err != nil || won.Load() != 1 || int32(got[0]) != winner.Load() {
				t.Fatalf("%s: %d callers created it, the last is %d, it holds %v, %v", name, won.Load(), winner.Load(), got, err)
			}
		}
	}
}

// TestPowerCut stops the file system after every operation and loses some of what
// was not synced. What was acknowledged is there, what is there is whole.
func TestPowerCut(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	ctx := t.Context()
	for _, percent := range []int{0, 50, 100} {
		for round := range 15 {
			fs := vfs.NewCrashableMem()
			d, err := NewDir(fs, "root/store", "a")
			if err != nil {
				t.Fatal(err)
			}
			acked := map[string]string{}
			for i := range rng.IntN(20) {
				name, data := fmt.Sprintf("jobs/j%d/obj/%d", i%3, i), strings.Repeat(fmt.Sprint(i), rng.IntN(5000))
				switch i % 3 {
				case 0:
					_, err = d.PutIfAbsent(ctx, name, []byte(data))
				case 1:
					err = d.Put(ctx, name, []byte(data))
				default:
					var u Upload
					if u, err = d.Create(ctx); err == nil {
						_, _ = u.Write([]byte(data))
						err = u.Commit(ctx, name)
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				acked[name] = data
			}
			u, err := d.Create(ctx) // under way when the power is cut
			if err != nil {
				t.Fatal(err)
			}
			_, _ = u.Write([]byte("half"))
			clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
			after, err := NewDir(clone, "root/store", "a")
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range acked {
				got, err := after.Get(ctx, name)
				if err != nil || string(got) != want {
					t.Fatalf("round %d, %d %% of unsynced data kept: %s: %d bytes of %d, %v", round, percent, name, len(got), len(want), err)
				}
			}
			u.Abort()
		}
	}
}

// TestEveryOperationFails lets the n-th operation of the file system fail, for
// all n. An acknowledged object survives a power cut; one that is there after an
// error is whole.
func TestEveryOperationFails(t *testing.T) {
	ctx := t.Context()
	for n := 0; ; n++ {
		mem := vfs.NewCrashableMem()
		var count atomic.Int64
		var hit, armed atomic.Bool
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if armed.Load() && count.Add(1) == int64(n)+1 {
				hit.Store(true)
				return errorfs.ErrInjected
			}
			return nil
		}))
		d, err := NewDir(fs, "store", "a")
		if err != nil {
			t.Fatal(err)
		}
		armed.Store(true)
		created, err1 := d.PutIfAbsent(ctx, "epochs/0/1", []byte("claim"))
		err2 := d.Put(ctx, "man/1", []byte("manifest"))
		u, err3 := d.Create(ctx)
		if err3 == nil {
			if _, err3 = u.Write([]byte("object")); err3 == nil {
				err3 = u.Commit(ctx, "obj/1")
			} else {
				u.Abort()
			}
		}
		armed.Store(false)
		after, err := NewDir(mem.CrashClone(vfs.CrashCloneCfg{}), "store", "a")
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range []struct {
			name, want string
			acked      bool
		}{{"epochs/0/1", "claim", err1 == nil && created}, {"man/1", "manifest", err2 == nil}, {"obj/1", "object", err3 == nil}} {
			got, err := after.Get(ctx, o.name)
			if o.acked && err != nil {
				t.Fatalf("operation %d fails: %s was acknowledged and is gone: %v", n, o.name, err)
			}
			if err == nil && string(got) != o.want {
				t.Fatalf("operation %d fails: %s holds %q", n, o.name, got)
			}
		}
		// The same process goes on: the name is taken exactly if the object exists.
		again, err := d.PutIfAbsent(ctx, "epochs/0/1", []byte("other"))
		if err != nil {
			t.Fatalf("operation %d fails: put again: %v", n, err)
		}
		got, err := d.Get(ctx, "epochs/0/1")
		if want := map[bool]string{true: "other", false: "claim"}[again]; err != nil || string(got) != want || again && err1 == nil {
			t.Fatalf("operation %d fails: put again created=%v, it holds %q, %v", n, again, got, err)
		}
		if !hit.Load() {
			t.Logf("%d operations", n)
			return
		}
	}
}

func TestLeftoversAreRemoved(t *testing.T) {
	fs := vfs.NewMem()
	d, err := NewDir(fs, "store", "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := NewDir(fs, "store", "b"); err != nil {
		t.Fatal(err)
	}
	if list, _ := fs.List("store/tmp"); len(list) != 1 {
		t.Fatalf("another process removed %v", list)
	}
	if _, err := NewDir(fs, "store", "a"); err != nil {
		t.Fatal(err)
	}
	if list, _ := fs.List("store/tmp"); len(list) != 0 {
		t.Fatalf("%v is left", list)
	}
}

func TestMemoryHooks(t *testing.T) {
	s := Memory()
	lost := errors.New("lost reply")
	s.After = func(verb, _ string) error {
		if verb == "put-if-absent" {
			return lost
		}
		return nil
	}
	if _, err := s.PutIfAbsent(t.Context(), "a", []byte("x")); !errors.Is(err, lost) {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), "a"); err != nil || string(got) != "x" {
		t.Fatalf("applied but failed: %q, %v", got, err)
	}
}
