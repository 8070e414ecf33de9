package operators_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// probe is a KeyedProcess made of functions, with one state of each kind.
type probe struct {
	count  *state.Value[int]
	list   *state.List[string]
	byName *state.Map[string, int]

	record func(p *probe, c *probeContext, v string) error
	timer  func(p *probe, c *probeContext, t operators.Timer) error
}

type probeContext = operators.ProcessContext[string, string]

func (p *probe) Declare(d *operators.Declarer) {
	p.count = operators.ValueState[int](d, "count")
	p.list = operators.ListState[string](d, "list")
	p.byName = operators.MapState[string, int](d, "by-name")
}

func (p *probe) OnRecord(c *probeContext, v string) error { return p.record(p, c, v) }

func (p *probe) OnTimer(c *probeContext, t operators.Timer) error {
	if p.timer == nil {
		c.Emit(fmt.Sprintf("%s %s", c.Key(), stamp(t.Time)))
		return nil
	}
	return p.timer(p, c, t)
}

// stamp renders a time as nanoseconds since the epoch.
func stamp(t time.Time) string { return fmt.Sprint(t.UnixNano()) }

// bench is a subtask with a process operator, by hand.
type bench struct {
	t     *testing.T
	s     *operators.Subtask
	clk   *clock.Virtual
	keys  *codec.KeyCodec[string]
	mk    func() operators.Batch
	out   []string
	metas []base.Meta
	side  []string
	pos   uint64
}

func newBench(t *testing.T, p *probe, policy operators.ErrorPolicy) *bench {
	t.Helper()
	b := &bench{t: t, clk: clock.NewVirtual(1_000_000)}
	var err error
	if b.keys, err = codec.KeyFor[string](); err != nil {
		t.Fatal(err)
	}
	if b.mk, err = operators.NewBatch[string](); err != nil {
		t.Fatal(err)
	}
	store, err := state.OpenStore(state.Options{FS: vfs.NewMem(), Dir: "state", Memory: 16 << 20, Blob: blob.Memory(), Clock: b.clk, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	backend, err := store.NewBackend(state.BackendOptions{Task: "by-key/0", Range: base.FullRange})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(backend.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	b.s = operators.NewSubtask(operators.Env{
		Ctx: t.Context(), JobName: "test", Task: "by-key", Parallelism: 1, Range: base.FullRange, Clock: b.clk,
		Backend: backend, Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{}, Wake: func() {},
	})
	out := operators.Consumer[string]{One: func(m *base.Meta, v *string) {
		b.out, b.metas = append(b.out, *v), append(b.metas, *m)
	}}
	side := operators.NewSide("side", operators.Consumer[string]{One: func(_ *base.Meta, v *string) { b.side = append(b.side, *v) }})
	spec := operators.ProcessSpec[string, string, string]{
		UID: "probe", Key: func(v string) string { return v[:1] }, Keys: b.keys, OnError: policy,
		New: func() operators.KeyedProcess[string, string, string] { return p },
	}
	operators.Head(b.s, operators.Process(b.s, spec, out, side))
	if err := b.s.Err(); err != nil {
		t.Fatal(err)
	}
	if err := backend.Restore(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.s.Open(operators.Restore{}); err != nil {
		t.Fatal(err)
	}
	return b
}

// feed processes a batch of records of the form "key…" at time at.
func (b *bench) feed(at int64, vals ...string) error {
	batch := b.mk().(*operators.TypedBatch[string])
	for _, v := range vals {
		b.pos++
		batch.Vals = append(batch.Vals, v)
		batch.Metas = append(batch.Metas, base.Meta{Time: at, Hash: b.keys.Hash(v[:1]), Origin: base.Origin{Split: 1, Pos: b.pos}})
	}
	return b.s.Process(0, batch)
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) wants(vals ...string) {
	b.t.Helper()
	if !slices.Equal(b.out, vals) {
		b.t.Fatalf("emitted %q, want %q", b.out, vals)
	}
	b.out, b.metas = nil, nil
}

func at(n int64) time.Time { return time.Unix(0, n).UTC() }

func TestProcessKeepsStateByKey(t *testing.T) {
	b := newBench(t, &probe{record: func(p *probe, c *probeContext, v string) error {
		n, _ := p.count.Get()
		p.count.Set(n + 1)
		p.list.Append(v)
		seen, _ := p.byName.Get(v)
		p.byName.Put(v, seen+1)
		c.Emit(fmt.Sprint(c.Key(), n+1, p.list.Len(), seen+1))
		return nil
	}}, connectors.FailOnBad)
	b.must(b.feed(5, "a1", "b1", "a1", "a2"))
	b.wants("a1 1 1", "b1 1 1", "a2 2 2", "a3 3 1")
	got := 0
	b.must(operators.ReadState(b.s, "probe", "count", b.keys, "a", func(v *state.Value[int]) { got, _ = v.Get() }))
	if got != 3 {
		t.Errorf("read from outside: %d, want 3", got)
	}
	if err := operators.ReadState(b.s, "probe", "nothing", b.keys, "a", func(*state.Value[int]) {}); err == nil {
		t.Error("a state that is not there was read")
	}
	if err := operators.ReadState(b.s, "probe", "count", b.keys, "a", func(*state.List[int]) {}); err == nil {
		t.Error("a value was read as a list")
	}
}

func TestEventTimersFireInOrderOnTheirWatermark(t *testing.T) {
	b := newBench(t, &probe{record: func(_ *probe, c *probeContext, v string) error {
		for _, d := range v[1:] {
			c.RegisterEventTimer(at(int64(d-'0') * 10))
		}
		return nil
	}}, connectors.FailOnBad)
	b.must(b.feed(5, "a931", "b52", "c8", "a3"))
	b.must(b.s.Watermark(9))
	b.wants()
	b.must(b.s.Watermark(10))
	b.wants("a 10")
	b.must(b.s.Watermark(55))
	b.wants("b 20", "a 30", "b 50")
	b.must(b.s.End())
	if b.metas[0].Time != 80 || b.metas[1].Time != 90 {
		t.Errorf("event times %d and %d, want those of the timers", b.metas[0].Time, b.metas[1].Time)
	}
	b.wants("c 80", "a 90")
}

func TestDeletedTimersDoNotFire(t *testing.T) {
	b := newBench(t, &probe{record: func(_ *probe, c *probeContext, v string) error {
		if v[1:] == "+" {
			c.RegisterEventTimer(at(50))
			c.RegisterProcessingTimer(at(2_000_000))
		} else {
			c.DeleteEventTimer(at(50))
			c.DeleteEventTimer(at(51)) // was never there
			c.DeleteProcessingTimer(at(2_000_000))
		}
		return nil
	}}, connectors.FailOnBad)
	b.must(b.feed(5, "a+", "b+", "a-"))
	b.must(b.s.Watermark(100))
	b.wants("b 50")
	_, err := b.s.ProcessingTime(3_000_000)
	b.must(err)
	b.wants("b 2000000")
}

func TestTimerForAPassedTimeFiresAtOnce(t *testing.T) {
	b := newBench(t, &probe{record: func(_ *probe, c *probeContext, v string) error {
		c.Emit("record " + v + " at " + stamp(c.Watermark()))
		c.RegisterEventTimer(at(40))
		return nil
	}}, connectors.FailOnBad)
	b.must(b.s.Watermark(100))
	b.must(b.feed(100, "a1", "b1"))
	if m := b.metas[1]; m.Time != 100 {
		t.Errorf("the timer's record has time %d, and the watermark 100 is out", m.Time)
	}
	b.wants("record a1 at 100", "a 40", "record b1 at 100", "b 40")
}

func TestTimersMayRegisterTimers(t *testing.T) {
	b := newBench(t, &probe{
		record: func(_ *probe, c *probeContext, _ string) error {
			c.RegisterEventTimer(at(10))
			return nil
		},
		timer: func(_ *probe, c *probeContext, tm operators.Timer) error {
			c.Emit(fmt.Sprintf("%s %s", c.Key(), stamp(tm.Time)))
			if next := tm.Time.Add(10); next.Before(at(60)) {
				c.RegisterEventTimer(next)
			}
			return nil
		},
	}, connectors.FailOnBad)
	b.must(b.feed(5, "a", "b"))
	b.must(b.s.Watermark(30))
	b.out = slices.Sorted(slices.Values(b.out))
	b.wants("a 10", "a 20", "a 30", "b 10", "b 20", "b 30")
	b.must(b.s.End())
	b.out = slices.Sorted(slices.Values(b.out))
	b.wants("a 40", "a 50", "b 40", "b 50")
}

func TestEndlessTimersAreRefused(t *testing.T) {
	for name, next := range map[string]func(time.Time) time.Time{
		"same time":       func(t time.Time) time.Time { return t },
		"after the input": func(t time.Time) time.Time { return t.Add(1) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, &probe{
				record: func(_ *probe, c *probeContext, _ string) error {
					c.RegisterEventTimer(at(10))
					return nil
				},
				timer: func(_ *probe, c *probeContext, tm operators.Timer) error {
					c.RegisterEventTimer(next(tm.Time))
					return nil
				},
			}, connectors.FailOnBad)
			b.must(b.feed(5, "a"))
			err := b.s.End()
			if base.CodeOf(err) != "WEIR-0707" || !errors.Is(err, base.ErrFatal) {
				t.Fatalf("error: %v", err)
			}
		})
	}
}

func TestProcessingTimersFireInOrder(t *testing.T) {
	b := newBench(t, &probe{record: func(_ *probe, c *probeContext, v string) error {
		c.RegisterProcessingTimer(c.ProcessingTime().Add(time.Duration(v[1]-'0') * time.Second))
		return nil
	}}, connectors.FailOnBad)
	b.must(b.feed(5, "a3", "b1", "c2", "d9"))
	b.must(b.s.Watermark(77))
	next, err := b.s.ProcessingTime(b.clk.Now())
	b.must(err)
	b.wants()
	if due := b.clk.Now() + int64(time.Second); next > due {
		t.Fatalf("next timer at %d, and one is due at %d", next, due)
	}
	b.clk.Advance(3 * time.Second)
	next, err = b.s.ProcessingTime(b.clk.Now())
	b.must(err)
	if len(b.metas) != 3 || b.metas[0].Time != 77 {
		t.Fatalf("%d records; the first at event time %v, want the watermark", len(b.metas), b.metas)
	}
	b.wants("b 1001000000", "c 2001000000", "a 3001000000")
	if due := int64(9_001_000_000); next > due || next <= b.clk.Now() {
		t.Fatalf("next timer at %d, and one is due at %d", next, due)
	}
	b.must(b.s.End())
	if b.metas[0].Time != 77 {
		t.Errorf("at the end of input the record is at event time %d, after the last watermark", b.metas[0].Time)
	}
	b.wants("d 9001000000")
}

func TestPeriodicProcessingTimerEndsWithTheInput(t *testing.T) {
	b := newBench(t, &probe{
		record: func(_ *probe, c *probeContext, _ string) error {
			c.RegisterProcessingTimer(c.ProcessingTime().Add(time.Second))
			return nil
		},
		timer: func(_ *probe, c *probeContext, tm operators.Timer) error {
			c.Emit("tick")
			c.RegisterProcessingTimer(tm.Time.Add(time.Second))
			return nil
		},
	}, connectors.FailOnBad)
	b.must(b.feed(5, "a"))
	b.must(b.s.End())
	b.wants("tick")
}

// TestRecordFindsTimersFired: a watermark fires in short turns, and a record that
// came after it must not overtake the timers of its key.
func TestRecordFindsTimersFired(t *testing.T) {
	p := &probe{
		record: func(_ *probe, c *probeContext, v string) error {
			if strings.HasSuffix(v, "!") {
				c.Emit("record " + v)
				return nil
			}
			c.RegisterEventTimer(at(50))
			return nil
		},
	}
	b := newBench(t, p, connectors.FailOnBad)
	p.timer = func(_ *probe, c *probeContext, _ operators.Timer) error {
		b.clk.Advance(time.Millisecond) // every timer costs more than a turn
		c.Emit("timer " + c.Key())
		return nil
	}
	var first []string
	for i := range 26 * 2 {
		first = append(first, string(rune('A'+i+i/26*6)))
	}
	b.must(b.feed(5, first...))
	b.must(b.s.Watermark(100))
	if len(b.out) == 0 || len(b.out) == len(first) {
		t.Fatalf("%d of %d timers fired in the first turn; the test wants some", len(b.out), len(first))
	}
	b.must(b.feed(120, "z!"))
	if len(b.out) != len(first)+1 || b.out[len(first)] != "record z!" {
		t.Fatalf("%d records, the last of them %q", len(b.out), b.out[len(b.out)-1])
	}
}

func TestErrorsAreAttributed(t *testing.T) {
	refuse := func(_ *probe, c *probeContext, v string) error {
		if strings.HasSuffix(v, "x") {
			return errors.New("no x please")
		}
		if strings.HasSuffix(v, "p") {
			panic("oh no")
		}
		c.Emit(v)
		return nil
	}
	b := newBench(t, &probe{record: refuse}, connectors.FailOnBad)
	err := b.feed(5, "a1", "ax", "a2")
	if err == nil || !strings.Contains(err.Error(), "no x please") || !strings.Contains(err.Error(), "operator probe") || !strings.Contains(err.Error(), "-2-") {
		t.Errorf("error: %v", err)
	}
	b.wants("a1")

	b = newBench(t, &probe{record: refuse}, connectors.SkipBad)
	b.must(b.feed(5, "a1", "ax", "a2"))
	b.wants("a1", "a2")
	if n := b.s.Env.Stats.BadRecords.Load(); n != 1 {
		t.Errorf("%d bad records counted", n)
	}
	b.must(b.feed(6, "a3", "ap", "a4"))
	b.wants("a3", "a4")
	if n := b.s.Env.Stats.BadRecords.Load(); n != 2 {
		t.Errorf("%d bad records counted", n)
	}

	// A panic within the state is not the record's fault alone: the subtask stops.
	within := func(_ *probe, _ *probeContext, _ string) error {
		new(state.Value[int]).Clear()
		return nil
	}
	b = newBench(t, &probe{record: within}, connectors.SkipBad)
	if err := b.feed(7, "a5"); base.CodeOf(err) != "WEIR-0701" {
		t.Errorf("a panic within the state: %v", err)
	}

	b = newBench(t, &probe{record: refuse}, connectors.FailOnBad)
	err = b.feed(6, "a3", "ap")
	if base.CodeOf(err) != "WEIR-0701" || !strings.Contains(err.Error(), "oh no") || !strings.Contains(err.Error(), "operator probe") {
		t.Errorf("panic: %v", err)
	}
}

func TestSideOutputsAndHeaders(t *testing.T) {
	b := newBench(t, &probe{record: func(_ *probe, c *probeContext, v string) error {
		switch v[1] {
		case 's':
			operators.EmitSide(c, "side", v)
		case 'h':
			c.Emit(c.Header("who"))
			c.SetHeader("who", "me")
			c.Emit(c.Header("who"))
		default:
			operators.EmitSide(c, "elsewhere", v)
		}
		return nil
	}}, connectors.FailOnBad)
	b.must(b.feed(5, "as", "ah"))
	if b.metas[0].Headers != nil || b.metas[1].Headers.Get("who") != "me" {
		t.Errorf("headers: %v and %v", b.metas[0].Headers, b.metas[1].Headers)
	}
	if b.metas[0].Origin == b.metas[1].Origin {
		t.Error("two records of one have the same origin")
	}
	b.wants("", "me")
	if !slices.Equal(b.side, []string{"as"}) {
		t.Errorf("side output: %q", b.side)
	}
	if err := b.feed(6, "ae"); base.CodeOf(err) != "WEIR-0704" {
		t.Errorf("error of an unknown side output: %v", err)
	}
}

func TestKeysOfAnotherTypeAreRefused(t *testing.T) {
	b := newBench(t, &probe{record: func(*probe, *probeContext, string) error { return nil }}, connectors.FailOnBad)
	b.must(b.s.Watermark(70))
	snap, err := b.s.Snapshot(protocol.Barrier{Try: protocol.Try{Epoch: 1, Attempt: 1}})
	b.must(err)
	part := snap.Ops["probe"]
	fresh := newBench(t, &probe{record: func(_ *probe, c *probeContext, _ string) error {
		c.Emit(stamp(c.Watermark()))
		return nil
	}}, connectors.FailOnBad)
	fresh.must(fresh.s.Open(operators.Restore{Ops: map[string][][]byte{"probe": {part}}}))
	fresh.must(fresh.feed(80, "a"))
	fresh.wants("70") // event time does not go back over a restore
	part[0]++
	if err := fresh.s.Open(operators.Restore{Ops: map[string][][]byte{"probe": {part}}}); base.CodeOf(err) != "WEIR-0708" {
		t.Errorf("error: %v", err)
	}
}

func TestDeclaringTheSameStateTwiceFails(t *testing.T) {
	declare := func(names ...string) error {
		_, err := operators.DescribeStates("op", func(d *operators.Declarer) {
			for _, n := range names {
				operators.ValueState[int](d, n)
			}
		})
		return err
	}
	if err := declare("a", "b"); err != nil {
		t.Error(err)
	}
	if declare("a", "a") == nil || declare("Not a name") == nil {
		t.Error("impossible declarations are accepted")
	}
	_, err := operators.DescribeStates("op", func(d *operators.Declarer) { operators.ValueState[chan int](d, "c") })
	if err == nil {
		t.Error("a state of channels is accepted")
	}
}
