package weir_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
	"github.com/weirflow/weir/window"
)

// teller is tally over a state of any type, with a list and a map beside it.
type teller[V, L, M any] struct {
	weir.NoTimers[string, balance]
	step  func(v *V, e entry) balance
	one   func(e entry) (L, M)
	state *state.Value[V]
	list  *state.List[L]
	byN   *state.Map[uint64, M]
}

func (f *teller[V, L, M]) Declare(d *weir.Declarer) {
	f.state = weir.ValueState[V](d, "account")
	f.list = weir.ListState[L](d, "entries")
	f.byN = weir.MapState[uint64, M](d, "by-number")
}

func (f *teller[V, L, M]) OnRecord(c *weir.Context[string, balance], e entry) error {
	var b balance
	f.state.Update(func(v *V) { b = f.step(v, e) })
	b.Key = c.Key()
	l, m := f.one(e)
	f.list.Append(l)
	f.byN.Put(e.N%4, m)
	c.Emit(b)
	return nil
}

// told is the job with such a function. touched counts the records that get there.
func told[V, L, M any](src *memory.Source[entry], l *ledger, touched *atomic.Int64, one func(entry) (L, M), step func(v *V, e entry) balance) weir.JobSpec {
	return weir.NewJob("books", func(j *weir.Job) {
		in := weir.Map(weir.From(j, "in", src, weir.ProcessingTime[entry]()), "edit", func(e entry) entry {
			touched.Add(1)
			return e
		})
		by := weir.KeyBy(in, "by-key", func(e entry) string { return e.Key })
		weir.To(weir.Process(by, "tally", func() weir.KeyedProcess[string, entry, balance] {
			return &teller[V, L, M]{step: step, one: one}
		}), "out", l.sink())
	})
}

// The versions of the state: the first one, fields added and removed, and fields of
// another type.
type (
	bookV1 struct{ Count, Sum, Junk uint64 }
	bookV2 struct{ Sum, Extra, Count uint64 }
	bookV3 struct {
		Count uint64
		Sum   float64
		Junk  uint64
	}
	lineV1 struct {
		Text string
		N    uint64
	}
	lineV2 struct {
		N    uint64
		Note string
	}
	lineV3 struct{ Text, N []string }
)

func lineOf(e entry) (lineV1, uint32) { return lineV1{e.Key, e.N}, uint32(e.N) }

func stepV1(v *bookV1, e entry) balance {
	v.Count, v.Sum, v.Junk = v.Count+1, v.Sum+e.N, 7
	return balance{Count: v.Count, Sum: v.Sum}
}

// halfway runs the first version over the first half of the list.
func halfway(t *testing.T, list []entry, blobs blob.Store) (*memory.Source[entry], *ledger) {
	t.Helper()
	src, l := memory.NewSource[entry](), newLedger()
	half := len(list) / 2
	for _, e := range list[:half] {
		src.Append("0", 0, e)
	}
	job := launch(t, t.Context(), told(src, l, new(atomic.Int64), lineOf, stepV1), quickly(blobs), 2)
	until(t, job, "half of the records", func() bool { return l.count() == half })
	if err := job.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range list[half:] {
		src.Append("0", 0, e)
	}
	src.Finish()
	return src, l
}

func TestStateThatDoesNotFit(t *testing.T) {
	list, blobs := entries(400, 20), blob.Memory()
	src, l := halfway(t, list, blobs)
	var touched atomic.Int64
	refused := func(spec weir.JobSpec, code string, parts ...string) {
		t.Helper()
		wantError(t, finish(t, launch(t, t.Context(), spec, quickly(blobs), 2)), code, parts...)
		if touched.Load() != 0 {
			t.Errorf("%d records were processed before the state was refused", touched.Load())
		}
	}
	stepV3 := func(v *bookV3, e entry) balance {
		v.Count, v.Sum = v.Count+1, v.Sum+float64(e.N)
		return balance{Count: v.Count, Sum: uint64(v.Sum)}
	}
	// All that does not fit is listed at once: operator, state, field.
	refused(told(src, l, &touched, func(e entry) (lineV3, string) { return lineV3{}, "" }, stepV3), "WEIR-0306",
		"tally/account", "Sum: the stored data is uint64, the program wants float64",
		"tally/entries", "N: the stored data is uint64, the program wants []string",
		"tally/by-number", "the stored data is uint32, the program wants string")

	// A state that the job no longer declares.
	refused(bookkeeping(src, l, func(e entry) entry { touched.Add(1); return e }), "WEIR-0391", "tally/entries", "tally/by-number", "name the state to drop")

	// A key of another type.
	refused(weir.NewJob("books", func(j *weir.Job) {
		in := weir.Map(weir.From(j, "in", src, weir.ProcessingTime[entry]()), "edit", func(e entry) entry { touched.Add(1); return e })
		by := weir.KeyBy(in, "by-key", func(e entry) uint64 { return e.N })
		out := weir.Process(by, "tally", func() weir.KeyedProcess[uint64, entry, balance] { return new(numbered) })
		weir.To(out, "out", l.sink())
	}), "WEIR-0306", "tally/account", "keys")

	// The job as it was goes on.
	if err := finish(t, launch(t, t.Context(), told(src, l, &touched, lineOf, stepV1), quickly(blobs), 3)); err != nil {
		t.Fatal(err)
	}
	l.exact(t, list)
}

// numbered has the states of teller under keys of another type.
type numbered struct {
	weir.NoTimers[uint64, balance]
}

func (f *numbered) Declare(d *weir.Declarer) {
	weir.ValueState[bookV1](d, "account")
	weir.ListState[lineV1](d, "entries")
	weir.MapState[uint64, uint32](d, "by-number")
}

func (f *numbered) OnRecord(*weir.Context[uint64, balance], entry) error { return nil }

func TestStateWithFieldsAddedAndRemoved(t *testing.T) {
	list, blobs := entries(400, 20), blob.Memory()
	src, l := halfway(t, list, blobs)
	var touched, strange atomic.Int64
	half := uint64(len(list) / 2 / 20)
	stepV2 := func(v *bookV2, e entry) balance {
		// The field that was added is zero in what was stored, and then kept.
		if want := v.Count - min(v.Count, half); v.Extra != want {
			strange.Add(1)
		}
		v.Count, v.Sum, v.Extra = v.Count+1, v.Sum+e.N, v.Extra+1
		return balance{Count: v.Count, Sum: v.Sum}
	}
	spec := told(src, l, &touched, func(e entry) (lineV2, uint32) { return lineV2{e.N, "new"}, uint32(e.N) }, stepV2)
	if err := finish(t, launch(t, t.Context(), spec, quickly(blobs), 3)); err != nil {
		t.Fatal(err)
	}
	l.exact(t, list)
	if n := strange.Load(); n > 0 {
		t.Errorf("a field that was added held something %d times", n)
	}
}

// twoFold is tally with a second state, or without.
type twoFold struct {
	tally
	second bool
	other  *state.Value[uint64]
}

func (f *twoFold) Declare(d *weir.Declarer) {
	f.tally.Declare(d)
	if f.second {
		f.other = weir.ValueState[uint64](d, "other")
	}
}

func (f *twoFold) OnRecord(c *weir.Context[string, balance], e entry) error {
	if f.second {
		f.other.Set(e.N)
	}
	return f.tally.OnRecord(c, e)
}

func TestDroppedState(t *testing.T) {
	list, blobs, src, l := entries(400, 20), blob.Memory(), memory.NewSource[entry](), newLedger()
	spec := func(second bool) weir.JobSpec {
		return weir.NewJob("books", func(j *weir.Job) {
			by := weir.KeyBy(weir.From(j, "in", src, weir.ProcessingTime[entry]()), "by-key", func(e entry) string { return e.Key })
			weir.To(weir.Process(by, "tally", func() weir.KeyedProcess[string, entry, balance] { return &twoFold{second: second} }), "out", l.sink())
		})
	}
	for _, e := range list[:200] {
		src.Append("0", 0, e)
	}
	job := launch(t, t.Context(), spec(true), quickly(blobs), 2)
	until(t, job, "half of the records", func() bool { return l.count() == 200 })
	if err := job.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range list[200:] {
		src.Append("0", 0, e)
	}
	src.Finish()
	wantError(t, finish(t, launch(t, t.Context(), spec(false), quickly(blobs), 1)), "WEIR-0391", "tally/other", "name the state to drop")
	o := quickly(blobs)
	o.DropState = []string{"tally/other"}
	if err := finish(t, launch(t, t.Context(), spec(false), o, 1)); err != nil {
		t.Fatal(err)
	}
	l.exact(t, list)
}

// sumOf adds up a field of an accumulator of any type.
type sumOf[A any] struct {
	add    func(*A, entry)
	merge  func(dst, src *A)
	result func(*A) uint64
}

func (s sumOf[A]) Add(acc *A, e entry)      { s.add(acc, e) }
func (s sumOf[A]) Merge(dst, src *A)        { s.merge(dst, src) }
func (s sumOf[A]) Result(acc *A) (n uint64) { return s.result(acc) }

func TestAccumulatorThatDoesNotFit(t *testing.T) {
	type accV1 struct{ Count, Sum uint64 }
	type accV3 struct {
		Count uint64
		Sum   float64
	}
	list, blobs := entries(400, 4), blob.Memory()
	src, sink := memory.NewSource[entry](), memory.NewSink[weir.Windowed[string, uint64]]()
	var touched atomic.Int64
	v1 := sumOf[accV1]{
		func(a *accV1, e entry) { a.Count, a.Sum = a.Count+1, a.Sum+e.N },
		func(dst, src *accV1) { dst.Count, dst.Sum = dst.Count+src.Count, dst.Sum+src.Sum },
		func(a *accV1) uint64 { return a.Sum },
	}
	v3 := sumOf[accV3]{func(*accV3, entry) {}, func(_, _ *accV3) {}, func(*accV3) uint64 { return 0 }}
	source := func(j *weir.Job) weir.KeyedStream[string, entry] {
		at := weir.Ascending(func(e entry) time.Time { return time.Unix(int64(e.N), 0) })
		in := weir.Map(weir.From(j, "in", src, at), "edit", func(e entry) entry { touched.Add(1); return e })
		return weir.KeyBy(in, "by-key", func(e entry) string { return e.Key })
	}
	first := weir.NewJob("books", func(j *weir.Job) {
		weir.To(weir.Aggregate(source(j), "sums", window.Tumbling(300*time.Second), v1), "out", sink.Sink())
	})
	for _, e := range list[:200] {
		src.Append("0", 0, e)
	}
	job := launch(t, t.Context(), first, quickly(blobs), 2)
	until(t, job, "half of the records", func() bool { return touched.Load() == 200 })
	if err := job.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range list[200:] {
		src.Append("0", 0, e)
	}
	src.Finish()
	touched.Store(0)
	err := finish(t, launch(t, t.Context(), weir.NewJob("books", func(j *weir.Job) {
		weir.To(weir.Aggregate(source(j), "sums", window.Tumbling(300*time.Second), v3), "out", sink.Sink())
	}), quickly(blobs), 2))
	wantError(t, err, "WEIR-0306", "sums/slices", "Sum: the stored data is uint64, the program wants float64")
	if touched.Load() != 0 {
		t.Errorf("%d records were processed before the state was refused", touched.Load())
	}
	if err := finish(t, launch(t, t.Context(), first, quickly(blobs), 1)); err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{}
	for _, e := range list {
		want[fmt.Sprint(e.Key, e.N/300)] += e.N
	}
	var got []string
	for _, w := range sink.Visible() {
		id := fmt.Sprint(w.Key, w.Start.Unix()/300)
		if want[id] != w.Value {
			t.Errorf("%s sums up to %d, want %d", id, w.Value, want[id])
		}
		got = append(got, id)
	}
	if slices.Sort(got); len(slices.Compact(got)) != len(want) || len(sink.Visible()) != len(want) {
		t.Errorf("there are results for %v, want %d", got, len(want))
	}
}
