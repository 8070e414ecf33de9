package state

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state/blob"
)

// kind is one shape of table under test.
type kind struct {
	name string
	decl Decl
}

var kinds = []kind{
	{"u64 fixed", Decl{Operator: "op", Name: "a", Key: KeyUint64, ValueSize: 16}},
	{"u64 far", Decl{Operator: "op", Name: "b", Key: KeyUint64, ValueSize: 100}},
	{"bytes fixed", Decl{Operator: "op", Name: "c", Key: KeyBytes, ValueSize: 8}},
	{"bytes far", Decl{Operator: "op", Name: "d", Key: KeyBytes, ValueSize: 72}},
	{"bytes var", Decl{Operator: "op", Name: "e", Key: KeyBytes}},
	{"u64 var", Decl{Operator: "op", Name: "f", Key: KeyUint64}},
}

// model is what a backend should hold: group, namespace, key, value.
type model map[string]map[int64]map[uint64]string

func (m model) clone() model {
	out := model{}
	for g, nss := range m {
		out[g] = map[int64]map[uint64]string{}
		for ns, es := range nss {
			c := make(map[uint64]string, len(es))
			for k, v := range es {
				c[k] = v
			}
			out[g][ns] = c
		}
	}
	return out
}

// within keeps the keys that a range owns.
func (m model) within(r base.HashRange) model {
	out := m.clone()
	for name, nss := range out {
		for ns, es := range nss {
			for k := range es {
				if !r.Contains(hashOf(declOf(name), k)) {
					delete(es, k)
				}
			}
			if len(es) == 0 {
				delete(nss, ns)
			}
		}
	}
	return out
}

func declOf(name string) *Decl {
	for i := range kinds {
		if kinds[i].decl.Name == name {
			return &kinds[i].decl
		}
	}
	return nil
}

// byteKey renders a model key as a byte key of 8 to 47 bytes, some of them longer
// than fits a slot.
func byteKey(k uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, k)
	for range k % 40 {
		b = append(b, byte(k))
	}
	return b
}

func hashOf(d *Decl, k uint64) uint64 {
	if d.Key == KeyUint64 {
		return base.HashUint64(k)
	}
	return base.HashKey(byteKey(k))
}

// harness drives a backend and its model.
type harness struct {
	t     testing.TB
	rng   *rand.Rand
	store *Store
	b     *Backend
	m     model
	mu    sync.Mutex
	snaps []Snapshot
	errs  []error
}

// openTestStore opens a store whose tables may use so much memory; 0 for no bound.
func openTestStore(t testing.TB, bs blob.Store, memory int64) *Store {
	t.Helper()
	s, err := OpenStore(Options{FS: vfs.NewMem(), Dir: "state", Blob: bs, Memory: 16 << 20, Job: "job"})
	if err != nil {
		t.Fatal(err)
	}
	if s.limit = memory; memory == 0 {
		s.limit = 1 << 40
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newHarness(t testing.TB, s *Store, r base.HashRange, rng *rand.Rand) *harness {
	h := &harness{t: t, rng: rng, store: s, m: model{}}
	var err error
	h.b, err = s.NewBackend(BackendOptions{Task: "op#0", Range: r, OnSnapshot: func(s Snapshot, err error) {
		h.mu.Lock()
		h.snaps, h.errs = append(h.snaps, s), append(h.errs, err)
		h.mu.Unlock()
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		if _, err := h.b.Group(k.decl); err != nil {
			t.Fatal(err)
		}
		h.m[k.decl.Name] = map[int64]map[uint64]string{}
	}
	return h
}

func (h *harness) group(name string) *Group {
	g, err := h.b.Group(*declOf(name))
	if err != nil {
		h.t.Fatal(err)
	}
	return g
}

func (h *harness) value(d *Decl) string {
	n := d.ValueSize
	if n == 0 {
		n = h.rng.IntN(60)
		if h.rng.IntN(50) == 0 {
			n = h.rng.IntN(5000)
		}
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(h.rng.Uint32())
	}
	return string(b)
}

// step does one random operation on state and model.
func (h *harness) step(keys uint64, spaces int) {
	d := &kinds[h.rng.IntN(len(kinds))].decl
	ns := int64(h.rng.IntN(spaces)) - 1
	k := h.rng.Uint64N(keys)
	hash := hashOf(d, k)
	if !h.b.opts.Range.Contains(hash) {
		return
	}
	es := h.m[d.Name][ns]
	switch op := h.rng.IntN(100); {
	case op < 60:
		if es == nil {
			es = map[uint64]string{}
			h.m[d.Name][ns] = es
		}
		v := h.value(d)
		old, had := es[k]
		h.put(d, ns, k, hash, v, old, had)
		es[k] = v
	case op < 80:
		h.check(d, ns, k, es)
	case op < 99 || h.rng.IntN(int(keys)) > 20:
		if t := h.group(d.Name).Existing(ns); t != nil {
			_, had := es[k]
			if got := del(t, d, k, hash); got != had {
				h.t.Fatalf("%s/%d: delete of %d says %v, want %v", d.Name, ns, k, got, had)
			}
			delete(es, k)
		}
	default:
		h.group(d.Name).Drop(ns)
		delete(h.m[d.Name], ns)
	}
}

func (h *harness) put(d *Decl, ns int64, k, hash uint64, v, old string, had bool) {
	t := h.group(d.Name).Namespace(ns)
	if d.ValueSize == 0 {
		if d.Key == KeyUint64 {
			t.PutVarU64(hash, k, []byte(v))
		} else {
			t.PutVar(hash, byteKey(k), []byte(v))
		}
		return
	}
	var p unsafe.Pointer
	var fresh bool
	if d.Key == KeyUint64 {
		p, fresh = t.UpsertU64(hash, k)
	} else {
		p, fresh = t.UpsertBytes(hash, byteKey(k))
	}
	mem := unsafe.Slice((*byte)(p), d.ValueSize)
	if fresh == had {
		h.t.Fatalf("%s/%d: upsert of %d says fresh=%v", d.Name, ns, k, fresh)
	}
	if !had {
		old = string(make([]byte, d.ValueSize))
	}
	if string(mem) != old {
		h.t.Fatalf("%s/%d: key %d holds %x, want %x", d.Name, ns, k, mem, old)
	}
	copy(mem, v)
}

func get(t *Table, d *Decl, k, hash uint64) (string, bool) {
	if d.ValueSize == 0 {
		var v []byte
		var ok bool
		if d.Key == KeyUint64 {
			v, ok = t.GetVarU64(hash, k)
		} else {
			v, ok = t.GetVar(hash, byteKey(k))
		}
		return string(v), ok
	}
	var p unsafe.Pointer
	if d.Key == KeyUint64 {
		p = t.GetU64(hash, k)
	} else {
		p = t.GetBytes(hash, byteKey(k))
	}
	if p == nil {
		return "", false
	}
	return string(unsafe.Slice((*byte)(p), d.ValueSize)), true
}

func del(t *Table, d *Decl, k, hash uint64) bool {
	if d.Key == KeyUint64 {
		return t.DeleteU64(hash, k)
	}
	return t.DeleteBytes(hash, byteKey(k))
}

func (h *harness) check(d *Decl, ns int64, k uint64, es map[uint64]string) {
	t := h.group(d.Name).Existing(ns)
	if t == nil {
		if len(es) != 0 {
			h.t.Fatalf("%s: namespace %d is gone", d.Name, ns)
		}
		return
	}
	want, had := es[k]
	if got, ok := get(t, d, k, hashOf(d, k)); ok != had || got != want {
		h.t.Fatalf("%s/%d: key %d: %v %x, want %v %x", d.Name, ns, k, ok, got, had, want)
	}
}

// dump reads the whole state by walking, and checks the order.
func (h *harness) dump() model {
	out := model{}
	for _, k := range kinds {
		g := h.group(k.decl.Name)
		out[k.decl.Name] = map[int64]map[uint64]string{}
		for _, ns := range g.Namespaces() {
			t := g.Existing(ns)
			es := map[uint64]string{}
			var c Cursor
			last, n := uint64(0), 0
			for !t.Walk(&c, 1+h.rng.IntN(50), func(hash uint64, key, val []byte) bool {
				if hash < last {
					h.t.Fatalf("%s/%d: the walk goes back from %x to %x", k.decl.Name, ns, last, hash)
				}
				last = hash
				n++
				es[binary.BigEndian.Uint64(key)] = string(val)
				return h.rng.IntN(10) > 0
			}) {
			}
			if n != len(es) || n != t.Len() {
				h.t.Fatalf("%s/%d: walked %d entries, %d different ones, Len says %d", k.decl.Name, ns, n, len(es), t.Len())
			}
			if n > 0 {
				out[k.decl.Name][ns] = es
			}
		}
	}
	return out
}

// diff describes the first difference, or returns "".
func diff(got, want model) string {
	for _, k := range kinds {
		name := k.decl.Name
		for _, pair := range []struct {
			a, b model
			what string
		}{{want, got, "missing or different"}, {got, want, "extra"}} {
			for ns, es := range pair.a[name] {
				for key, v := range es {
					if w, ok := pair.b[name][ns][key]; !ok || w != v {
						return fmt.Sprintf("%s/%d key %d %s: %x against %x", name, ns, key, pair.what, v, w)
					}
				}
			}
		}
	}
	return ""
}

// waitSnap waits for the n-th snapshot, from 0.
func (h *harness) waitSnap(n int) (Snapshot, error) {
	for range 10_000 {
		h.mu.Lock()
		if len(h.snaps) > n {
			defer h.mu.Unlock()
			return h.snaps[n], h.errs[n]
		}
		h.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	h.t.Fatalf("snapshot %d did not come", n)
	return Snapshot{}, nil
}

func seeds(t *testing.T) (uint64, *rand.Rand) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return seed, rand.New(rand.NewPCG(seed, 1))
}
