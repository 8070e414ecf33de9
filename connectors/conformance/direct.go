package conformance

import (
	"fmt"
	"testing"

	"github.com/weirflow/weir/connectors"
)

func directChecks() []check[SinkFixture] {
	return []check[SinkFixture]{
		{"flushed is visible and safe", checkFlush},
		{"writers keep their order", checkWriters},
		{"nothing to flush", checkEmptyFlush},
	}
}

// writerOf opens the writer of a subtask.
func (f SinkFixture) writerOf(t testing.TB, target connectors.Target, subtask int) connectors.Writer {
	t.Helper()
	w, err := target.(connectors.DirectTarget).OpenWriter(f.ctx(t), f.env(), subtask)
	if err != nil {
		t.Fatalf("OpenWriter: %v", err)
	}
	return w
}

// feed is what one subtask wrote.
type feed struct {
	f     SinkFixture
	w     connectors.Writer
	lane  int
	wrote []string
}

// write writes n messages and then ruins their memory, which is the caller's.
func (d *feed) write(t testing.TB, n int) {
	t.Helper()
	msgs := make([]connectors.Message, n)
	for i := range msgs {
		data := fmt.Sprintf(`{"lane":%d,"n":%d}`, d.lane, len(d.wrote))
		msgs[i] = d.f.message(data, len(d.wrote))
		d.wrote = append(d.wrote, data)
	}
	if err := d.w.Write(d.f.ctx(t), msgs); err != nil {
		t.Fatalf("Write: %v", err)
	}
	for i := range msgs {
		clear(msgs[i].Data)
	}
	clear(msgs)
}

func (d *feed) flush(t testing.TB) {
	t.Helper()
	if err := d.w.Flush(d.f.ctx(t)); err != nil {
		t.Fatalf("Flush: %v", err)
	}
}

// see demands that a reader sees the messages, each feed in its order.
func (f SinkFixture) see(t testing.TB, feeds ...*feed) {
	t.Helper()
	chains := make([]*chain, len(feeds))
	for i, d := range feeds {
		chains[i] = &chain{f: f, lane: d.lane, want: d.wrote}
	}
	mustSee(t, f, chains...)
}

func checkFlush(t testing.TB, f SinkFixture) {
	if f.Target.Class() != connectors.AtLeastOnce || f.Target.Kind() == "" {
		t.Fatalf("class %v, kind %q", f.Target.Class(), f.Target.Kind())
	}
	d := &feed{f: f, w: f.writerOf(t, f.Target, 0)}
	for _, n := range []int{1, 10, 1000} {
		d.write(t, n)
		d.write(t, n)
		d.flush(t)
		if f.Crash != nil {
			f.Crash()
		}
		f.see(t, d)
	}
	if err := d.w.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	d.w = f.writerOf(t, f.other(), 0)
	d.write(t, 3)
	d.flush(t)
	f.see(t, d)
	if err := d.w.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func checkWriters(t testing.TB, f SinkFixture) {
	a := &feed{f: f, w: f.writerOf(t, f.Target, 0)}
	b := &feed{f: f, w: f.writerOf(t, f.Target, 1), lane: 1}
	for range 5 {
		a.write(t, 3)
		b.write(t, 2)
	}
	a.flush(t)
	b.flush(t)
	f.see(t, a, b)
	for _, d := range []*feed{a, b} {
		if err := d.w.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
}

func checkEmptyFlush(t testing.TB, f SinkFixture) {
	d := &feed{f: f, w: f.writerOf(t, f.Target, 0)}
	d.flush(t)
	if err := d.w.Write(d.f.ctx(t), nil); err != nil {
		t.Fatalf("Write of nothing: %v", err)
	}
	d.flush(t)
	f.see(t, d)
	if err := d.w.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}
