package operators

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state"
)

// dueRig is a due table over keyed state, restored from a chain if there is one.
func dueRig(t *testing.T, st *testState, rng base.HashRange, from []state.Chain) (*dueTable, *state.Backend) {
	t.Helper()
	b := st.backend(rng)
	d, err := newDueTable(&Subtask{Env: Env{Ctx: context.Background(), Backend: b}}, "op", 0)
	if err != nil {
		t.Fatal(err)
	}
	st.restore(b, from)
	d.open()
	return d, b
}

func dueKey(i int) *stateKey {
	b := binary.BigEndian.AppendUint64(nil, uint64(i))
	return &stateKey{hash: base.HashKey(b), b: b}
}

// takeAll takes out what is due at w and checks its order.
func takeAll(t *testing.T, d *dueTable, w base.Timestamp) map[uint64]base.Timestamp {
	t.Helper()
	got := map[uint64]base.Timestamp{}
	last := base.MinTime
	for {
		none, through := d.load(w)
		for through {
			e, ok := d.take(w)
			if !ok {
				break
			}
			if e.at < last || e.at > w {
				t.Errorf("%+v is taken after one for %d, at %d", e, last, w)
			}
			last = e.at
			got[binary.BigEndian.Uint64(e.key)] = e.at
		}
		if none {
			d.forget(w)
			return got
		}
	}
}

func TestDueKeysComeInOrder(t *testing.T) {
	st := newTestState(t)
	d, b := dueRig(t, st, base.FullRange, nil)
	const n = 1000
	for i := range n {
		d.set(int64(i)*10_000-2_500_000, dueKey(i)) // from 2.5 ms before 1970 on
	}
	d.load(-2_499_000)
	d.set(-2_450_500, dueKey(n)) // in the stretch that is loaded
	got := takeAll(t, d, -2_450_000)
	if len(got) != 7 || got[n] != -2_450_500 {
		t.Errorf("taken %v, want keys 0 to 5 and %d", got, n)
	}
	if got := takeAll(t, d, 499_999); len(got) != 294 || len(d.group.Namespaces()) != 8 {
		t.Errorf("%d keys taken and stretches %v left, want 294 and 0 to 7", len(got), d.group.Namespaces())
	}
	if got := takeAll(t, d, base.MaxTime); len(got) != 700 || len(d.group.Namespaces()) != 0 {
		t.Errorf("%d keys taken and stretches %v left, want 700 and none", len(got), d.group.Namespaces())
	}
	if err := b.Err(); err != nil {
		t.Error(err)
	}
}

// TestDueKeysSetWhileLoading sets keys for a stretch between two turns of loading
// it.
func TestDueKeysSetWhileLoading(t *testing.T) {
	st := newTestState(t)
	d, _ := dueRig(t, st, base.FullRange, nil)
	const n = 4 * walkStep
	for i := range n {
		d.set(500_000+int64(i), dueKey(i))
	}
	if _, through := d.load(0); through {
		t.Fatal("the stretch was loaded at once; take more keys")
	}
	for i := n; i < 2*n; i++ {
		d.set(500_000+int64(i), dueKey(i))
	}
	if got := takeAll(t, d, 999_000); len(got) != 2*n {
		t.Errorf("%d keys are due, want %d", len(got), 2*n)
	}
}

// TestDueKeysAreRestored restores at another range what was loaded and what not.
func TestDueKeysAreRestored(t *testing.T) {
	st := newTestState(t)
	d, b := dueRig(t, st, base.FullRange, nil)
	for i := range 400 {
		d.set(int64(i)*10_000, dueKey(i))
	}
	taken := takeAll(t, d, 500_000)
	chain := st.freeze(b, base.FullRange)
	for i := range 2 {
		half, _ := dueRig(t, st, base.SplitRange(i, 2), []state.Chain{chain})
		for k, at := range takeAll(t, half, base.MaxTime) {
			if !base.SplitRange(i, 2).Contains(dueKey(int(k)).hash) {
				t.Errorf("key %d is in half %d", k, i)
			}
			taken[k] = at
		}
	}
	if len(taken) != 400 {
		t.Errorf("%d keys were due in all, want 400", len(taken))
	}
}

func TestProgressOfSeveralSubtasks(t *testing.T) {
	var parts [][]byte
	for i, w := range []int64{30, 10, 20} {
		p := progress{w: w}
		parts = append(parts, p.snapshot(nil, base.SplitRange(i, 3)))
	}
	var p progress
	if err := p.restore(base.SplitRange(0, 2), parts); err != nil {
		t.Fatal(err)
	}
	low, mid := base.SplitRange(0, 3).Hi, base.SplitRange(1, 3).Lo
	if p.w != 10 || p.of(low) != 30 || p.of(mid) != 10 || p.later(20, mid) != 20 || p.later(20, low) != 30 {
		t.Errorf("%+v", p)
	}
	if !p.firedBefore(low, 30) || p.firedBefore(low, 31) || p.firedBefore(mid, 10) {
		t.Error("what has fired before the restore is wrong")
	}
	// Another restore, before the lowest has caught up.
	var q progress
	if err := q.restore(base.FullRange, [][]byte{p.snapshot(nil, base.SplitRange(0, 2)), (&progress{w: 12}).snapshot(nil, base.SplitRange(1, 2))}); err != nil {
		t.Fatal(err)
	}
	if q.w != 10 || q.of(low) != 30 || q.of(mid) != 10 || q.of(^uint64(0)) != 12 {
		t.Errorf("%+v", q)
	}
	q.reach(12)
	if len(q.ahead) != 1 || q.of(mid) != 12 {
		t.Errorf("%+v", q)
	}
	if err := p.restore(base.FullRange, [][]byte{make([]byte, 23)}); err == nil {
		t.Error("a snapshot of 23 bytes was taken")
	}
}
