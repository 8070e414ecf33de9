package state

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state/blob"
)

type point struct {
	X, Y int64
	Tag  uint8
}

type note struct {
	Text string
	N    int
}

// app is what a user function keeps: views with and without raw values.
type app struct {
	b      *Backend
	count  *Value[point]
	last   *Value[note]
	ring   *List[point]
	notes  *List[note]
	byItem *Map[string, point]
	byNum  *Map[uint32, note]
	timers *Timers
}

func newApp(t testing.TB, b *Backend, kind KeyKind, opts ...Option) *app {
	t.Helper()
	b.SetKeyKind(kind)
	a := &app{b: b}
	errs := make([]error, 7)
	a.count, errs[0] = NewValue[point](b, "op", "count", opts...)
	a.last, errs[1] = NewValue[note](b, "op", "last", opts...)
	a.ring, errs[2] = NewList[point](b, "op", "ring", opts...)
	a.notes, errs[3] = NewList[note](b, "op", "notes", opts...)
	a.byItem, errs[4] = NewMap[string, point](b, "op", "items", opts...)
	a.byNum, errs[5] = NewMap[uint32, note](b, "op", "nums", opts...)
	a.timers, errs[6] = b.Timers("op", kind)
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// userKey makes key k current.
func (a *app) userKey(kind KeyKind, k uint64) uint64 {
	if kind == KeyUint64 {
		h := base.HashUint64(k)
		a.b.SetKeyU64(h, k)
		return h
	}
	key := []byte(fmt.Sprintf("user-%d-%s", k, "padding that makes some keys long"[:k%33]))
	h := base.HashKey(key)
	a.b.SetKey(h, key)
	return h
}

// appModel is the same for one key.
type appModel struct {
	count  *point
	last   *note
	ring   []point
	notes  []note
	byItem map[string]point
	byNum  map[uint32]note
}

func (a *app) mutate(rng *rand.Rand, m *appModel) {
	p := point{rng.Int64(), rng.Int64(), uint8(rng.Uint32())}
	n := note{fmt.Sprint(rng.Uint64N(1 << rng.IntN(60))), rng.IntN(100)}
	item, num := fmt.Sprint("item", rng.IntN(20)), rng.Uint32N(20)
	switch rng.IntN(16) {
	case 0:
		a.count.Set(p)
		m.count = &p
	case 1, 2:
		a.count.Update(func(v *point) { v.X++; v.Tag = p.Tag })
		if m.count == nil {
			m.count = &point{}
		}
		c := *m.count
		c.X++
		c.Tag = p.Tag
		m.count = &c
	case 3:
		a.last.Update(func(v *note) { v.Text += "x"; v.N = n.N })
		if m.last == nil {
			m.last = &note{}
		}
		m.last = &note{m.last.Text + "x", n.N}
	case 4:
		a.count.Clear()
		a.last.Clear()
		m.count, m.last = nil, nil
	case 5, 6:
		a.ring.Append(p)
		m.ring = append(slices.Clip(m.ring), p)
	case 7, 8:
		a.notes.Append(n)
		m.notes = append(slices.Clip(m.notes), n)
	case 9:
		if rng.IntN(5) == 0 {
			a.ring.Clear()
			a.notes.Clear()
			m.ring, m.notes = nil, nil
		}
	case 10, 11:
		a.byItem.Put(item, p)
		m.byItem = maps.Clone(m.byItem)
		if m.byItem == nil {
			m.byItem = map[string]point{}
		}
		m.byItem[item] = p
	case 12, 13:
		a.byNum.Put(num, n)
		m.byNum = maps.Clone(m.byNum)
		if m.byNum == nil {
			m.byNum = map[uint32]note{}
		}
		m.byNum[num] = n
	case 14:
		a.byItem.Delete(item)
		a.byNum.Delete(num)
		m.byItem, m.byNum = maps.Clone(m.byItem), maps.Clone(m.byNum)
		delete(m.byItem, item)
		delete(m.byNum, num)
	case 15:
		if rng.IntN(5) == 0 {
			a.byItem.Clear()
			m.byItem = nil
		}
	}
}

func (a *app) compare(t testing.TB, k uint64, m *appModel) {
	t.Helper()
	c, ok := a.count.Get()
	if ok != (m.count != nil) || ok && c != *m.count {
		t.Fatalf("key %d: count is %v %v, want %v", k, c, ok, m.count)
	}
	l, ok := a.last.Get()
	if ok != (m.last != nil) || ok && l != *m.last {
		t.Fatalf("key %d: last is %v %v, want %v", k, l, ok, m.last)
	}
	if got := slices.Collect(a.ring.All()); !slices.Equal(got, m.ring) {
		t.Fatalf("key %d: ring is %v, want %v", k, got, m.ring)
	}
	if got := slices.Collect(a.notes.All()); !slices.Equal(got, m.notes) || a.notes.Len() != len(m.notes) {
		t.Fatalf("key %d: notes are %v, want %v", k, got, m.notes)
	}
	if got := maps.Collect(a.byItem.All()); !maps.Equal(got, m.byItem) || a.byItem.Len() != len(m.byItem) {
		t.Fatalf("key %d: items are %v, want %v", k, got, m.byItem)
	}
	if got := maps.Collect(a.byNum.All()); !maps.Equal(got, m.byNum) {
		t.Fatalf("key %d: nums are %v, want %v", k, got, m.byNum)
	}
	for item, p := range m.byItem {
		if got, ok := a.byItem.Get(item); !ok || got != p || !a.byItem.Has(item) {
			t.Fatalf("key %d: item %s is %v %v, want %v", k, item, got, ok, p)
		}
	}
}

func TestViewsAgainstModel(t *testing.T) {
	_, rng := seeds(t)
	for _, kind := range []KeyKind{KeyBytes, KeyUint64} {
		bs := blob.Memory()
		h := newBareHarness(t, openTestStore(t, bs, 0), base.FullRange)
		a := newApp(t, h.b, kind)
		const keys = 300
		models := make([]appModel, keys)
		var saved []appModel
		for e := base.Epoch(1); e <= 20; e++ {
			for range 2000 {
				k := rng.Uint64N(keys)
				a.userKey(kind, k)
				a.mutate(rng, &models[k])
				if rng.IntN(10) == 0 {
					a.compare(t, k, &models[k])
				}
				if rng.IntN(50) == 0 {
					h.b.CopyTurn(20 * time.Microsecond)
				}
			}
			saved = slices.Clone(models)
			h.b.Freeze(e)
		}
		for k := range uint64(100) { // after the barrier
			a.userKey(kind, k)
			a.mutate(rng, &models[k])
		}
		h.b.CopyAll()
		snap, err := h.waitSnap(19)
		if err != nil {
			t.Fatal(err)
		}
		s := openTestStore(t, bs, 0)
		for i := range 3 {
			r := base.SplitRange(i, 3)
			h := newBareHarness(t, s, r)
			a := newApp(t, h.b, kind)
			if err := h.b.Restore(context.Background(), []Chain{{Range: base.FullRange, Objects: snap.Chain}}); err != nil {
				t.Fatal(err)
			}
			for k := range uint64(keys) {
				if r.Contains(a.userKey(kind, k)) {
					a.compare(t, k, &saved[k])
				}
			}
			if err := h.b.Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// newBareHarness is newHarness without the states of the table tests.
func newBareHarness(t testing.TB, s *Store, r base.HashRange) *harness {
	t.Helper()
	h := &harness{t: t, store: s}
	var err error
	h.b, err = s.NewBackend(BackendOptions{Task: "op#0", Range: r, OnSnapshot: func(s Snapshot, err error) {
		h.mu.Lock()
		h.snaps, h.errs = append(h.snaps, s), append(h.errs, err)
		h.mu.Unlock()
	}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

type firing struct {
	at  base.Timestamp
	key string
}

// TestTimersFireInOrder registers and deletes timers at all distances and fires
// them in short turns, through restores at other parallelism.
func TestTimersFireInOrder(t *testing.T) {
	_, rng := seeds(t)
	bs := blob.Memory()
	pendingTimers := map[firing]bool{}
	var chains []Chain
	now := base.Timestamp(1_700_000_000_000_000_000)
	started := false
	for round := range 6 {
		s := openTestStore(t, bs, 0)
		n := 1 + rng.IntN(3)
		var hs []*harness
		var apps []*app
		for i := range n {
			h := newBareHarness(t, s, base.SplitRange(i, n))
			apps = append(apps, newApp(t, h.b, KeyBytes))
			if err := h.b.Restore(context.Background(), chains); err != nil {
				t.Fatal(err)
			}
			hs = append(hs, h)
		}
		for range 2000 {
			key := fmt.Sprint("k", rng.IntN(50))
			hash := base.HashString(key)
			a := apps[base.OwnerOf(hash, n)]
			a.b.SetKey(hash, []byte(key))
			at := now + rng.Int64N(1<<(10+rng.IntN(50)))
			if rng.IntN(20) == 0 {
				at = now - rng.Int64N(1<<40)
			}
			a.timers.Register(EventTimer, at)
			pendingTimers[firing{at, key}] = true
			if rng.IntN(4) == 0 {
				at, known := at, rng.IntN(3) > 0
				if !known {
					at++
				}
				want := pendingTimers[firing{at, key}]
				if got := a.timers.Delete(EventTimer, at); got != want {
					t.Fatalf("delete of a timer says %v, want %v", got, want)
				}
				delete(pendingTimers, firing{at, key})
			}
		}
		if !started || rng.IntN(2) == 0 {
			now += rng.Int64N(1 << 45)
			started = true
		}
		if round == 5 {
			now = base.MaxTime
		}
		for i, a := range apps {
			fireAll(t, rng, a, i, n, now, pendingTimers)
		}
		chains = nil
		for i, h := range hs {
			h.b.Freeze(base.Epoch(round + 1))
			h.b.CopyAll()
			snap, err := h.waitSnap(0)
			if err != nil {
				t.Fatal(err)
			}
			chains = append(chains, Chain{Range: base.SplitRange(i, n), Objects: snap.Chain})
		}
	}
	if len(pendingTimers) != 0 {
		t.Fatalf("%d timers never fired", len(pendingTimers))
	}
}

func fireAll(t *testing.T, rng *rand.Rand, a *app, i, n int, now base.Timestamp, pendingTimers map[firing]bool) {
	t.Helper()
	last := base.MinTime
	for !a.timers.Due(EventTimer, now, 1+rng.IntN(30), func(tm *Timer) bool {
		f := firing{tm.At, string(tm.Key)}
		if !pendingTimers[f] {
			t.Fatalf("timer %v fires, but is not registered", f)
		}
		if tm.At < last || tm.At > now || base.OwnerOf(tm.Hash, n) != i {
			t.Fatalf("timer %v fires after %d, at %d, on task %d of %d", f, last, now, i, n)
		}
		last = tm.At
		delete(pendingTimers, f)
		if rng.IntN(50) == 0 && tm.At < base.MaxTime-1000 { // a timer may set another, also one that is due
			a.b.SetKey(tm.Hash, []byte(f.key))
			at := tm.At + rng.Int64N(1000)
			a.timers.Register(EventTimer, at)
			pendingTimers[firing{at, f.key}] = true
		}
		return rng.IntN(20) > 0
	}) {
	}
	for f := range pendingTimers {
		if base.OwnerOf(base.HashString(f.key), n) == i && f.at <= now {
			t.Fatalf("timer %v did not fire at %d", f, now)
		}
	}
	if at, ok := a.timers.Next(EventTimer); ok {
		for f := range pendingTimers {
			if base.OwnerOf(base.HashString(f.key), n) == i && f.at < at {
				t.Fatalf("the next timer is due at %d, Next says %d", f.at, at)
			}
		}
	}
}

func TestTTLHidesAndRemoves(t *testing.T) {
	bs := blob.Memory()
	h := newBareHarness(t, openTestStore(t, bs, 0), base.FullRange)
	a := newApp(t, h.b, KeyBytes, TTL(10*time.Second))
	sec := int64(time.Second)
	h.b.SetTime(100*sec, 0)
	const keys = 200
	for k := range uint64(keys) {
		a.userKey(KeyBytes, k)
		h.b.SetRecordTime(100*sec + int64(k%2)*5*sec)
		a.count.Set(point{X: 1})
		a.last.Set(note{"n", 1})
		a.ring.Append(point{})
		a.notes.Append(note{})
		a.byItem.Put("old", point{})
		a.byNum.Put(7, note{})
	}
	h.b.SetTime(109*sec, 0)
	a.userKey(KeyBytes, 0)
	a.byItem.Put("new", point{Y: 2})
	if _, ok := a.count.Get(); !ok {
		t.Fatal("hidden too early")
	}
	h.b.SetTime(112*sec, 0)
	if _, ok := a.byItem.Get("old"); ok {
		t.Fatal("an expired map entry is visible")
	}
	if got := maps.Collect(a.byItem.All()); len(got) != 1 {
		t.Fatalf("the map has %v", got)
	}
	for k := range uint64(keys) {
		a.userKey(KeyBytes, k)
		_, ok1 := a.count.Get()
		_, ok2 := a.last.Get()
		if want := k%2 == 1; ok1 != want || ok2 != want || (a.ring.Len() == 1) != want || (len(slices.Collect(a.notes.All())) == 1) != want {
			t.Fatalf("key %d: %v %v %d, want visible=%v", k, ok1, ok2, a.ring.Len(), want)
		}
	}
	// What nobody reads is removed by the sweeps of checkpoints.
	h.b.SetTime(200*sec, 0)
	for e := base.Epoch(1); e <= 400; e++ {
		a.userKey(KeyBytes, 9999)
		a.timers.Register(EventTimer, 1e18+int64(e))
		h.b.Freeze(e)
		h.b.CopyAll()
	}
	for _, g := range h.b.groups {
		for _, ns := range g.Namespaces() {
			if n := g.Existing(ns).Len(); n != 0 && g.decl.Name != "timers.event" {
				t.Errorf("%s still has %d entries", g, n)
			}
		}
	}
	if _, err := h.waitSnap(399); err != nil {
		t.Fatal(err)
	}
}

// TestTimersRegisteredBetweenTurns registers timers for the bucket that is being
// loaded, or spread out, in short turns.
func TestTimersRegisteredBetweenTurns(t *testing.T) {
	_, rng := seeds(t)
	for _, width := range []int64{1 << 30, 1 << 34, 1 << 40} {
		h := newBareHarness(t, openTestStore(t, nil, 0), base.FullRange)
		a := newApp(t, h.b, KeyBytes)
		from := base.Timestamp(1_700_000_000) << 30
		waiting := map[firing]bool{}
		add := func() {
			f := firing{from + rng.Int64N(width), fmt.Sprint("k", rng.IntN(300))}
			a.b.SetKey(base.HashString(f.key), []byte(f.key))
			a.timers.Register(EventTimer, f.at)
			waiting[f] = true
		}
		a.timers.Due(EventTimer, from-1, 10, func(*Timer) bool { return true })
		for range 2000 {
			add()
		}
		more := 500
		for turns := 0; !a.timers.Due(EventTimer, from+width, 10, func(tm *Timer) bool {
			f := firing{tm.At, string(tm.Key)}
			if !waiting[f] {
				t.Fatalf("timer %v fires, but is not registered", f)
			}
			delete(waiting, f)
			return true
		}); turns++ {
			if more > 0 {
				add()
				more--
			}
			if turns > 1_000_000 {
				t.Fatal("no end")
			}
		}
		if len(waiting) != 0 {
			t.Fatalf("width %d: %d timers did not fire", width, len(waiting))
		}
		if n := len(h.b.groups[len(h.b.groups)-2].Namespaces()); n != 0 {
			t.Fatalf("%d buckets are left", n)
		}
	}
}
