package jetstream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/jetstream"
)

func TestReadInOrderAndResume(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}})
	publish(t, ctx, nc, "S", 0, 5000, subject("s"))
	src := jetstream.Stream[string]("S", jetstream.Raw())

	d := open(t, ctx, src, 0, connectors.Position{})
	if p := d.r.Position(); !p.Started || p.Offset != 0 {
		t.Fatalf("position before the first record: %+v", p)
	}
	d.until(100, func() bool { return len(d.values) >= 2300 })
	d.want(0, len(d.values))
	at := d.r.Position()
	if want := uint64(len(d.values)); at.Offset != want {
		t.Fatalf("offset %d after %d records", at.Offset, want)
	}
	n := len(d.values)
	_ = d.r.Close()

	d = open(t, ctx, src, 0, at).read(5000 - n)
	d.want(n, 5000)
	publish(t, ctx, nc, "S", 5000, 10, subject("s")) // while it waits
	d.read(5010-n).want(n, 5010)
	if lag := d.r.Lag(); lag != 0 {
		t.Fatalf("lag %d at the end", lag)
	}
}

func TestStartsAndEnds(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s", "other"}})
	publish(t, ctx, nc, "S", 0, 50, subject("s"))
	time.Sleep(20 * time.Millisecond)
	middle := time.Now()
	time.Sleep(20 * time.Millisecond)
	publish(t, ctx, nc, "S", 50, 50, subject("s"))
	publish(t, ctx, nc, "S", 100, 1, subject("other")) // sequence 101
	for name, c := range map[string]struct {
		opts     []jetstream.SourceOption
		from, to int
	}{
		"earliest until now":     {[]jetstream.SourceOption{jetstream.UntilNow()}, 0, 101},
		"filter until now":       {[]jetstream.SourceOption{jetstream.Subject("s"), jetstream.UntilNow()}, 0, 100},
		"nothing matches":        {[]jetstream.SourceOption{jetstream.Subject("none"), jetstream.UntilNow()}, 0, 0},
		"latest until now":       {[]jetstream.SourceOption{jetstream.FromLatest(), jetstream.UntilNow()}, 0, 0},
		"sequence":               {[]jetstream.SourceOption{jetstream.FromSequence(11), jetstream.UntilSequence(20)}, 10, 20},
		"one message":            {[]jetstream.SourceOption{jetstream.FromSequence(11), jetstream.UntilSequence(11)}, 10, 11},
		"next sequence":          {[]jetstream.SourceOption{jetstream.FromSequence(102), jetstream.UntilNow()}, 0, 0},
		"filter, end left out":   {[]jetstream.SourceOption{jetstream.Subject("s"), jetstream.UntilSequence(101)}, 0, 100},
		"end before first match": {[]jetstream.SourceOption{jetstream.Subject("other"), jetstream.UntilSequence(50)}, 0, 0},
		"from time":              {[]jetstream.SourceOption{jetstream.FromTime(middle), jetstream.UntilNow()}, 50, 101},
		"until time":             {[]jetstream.SourceOption{jetstream.UntilTime(middle)}, 0, 50},
		"until time now":         {[]jetstream.SourceOption{jetstream.UntilTime(time.Now())}, 0, 101},
		"until time, filter":     {[]jetstream.SourceOption{jetstream.Subject("s"), jetstream.UntilTime(time.Now())}, 0, 100},
		"from a time to come":    {[]jetstream.SourceOption{jetstream.FromTime(time.Now().Add(time.Hour)), jetstream.UntilNow()}, 0, 0},
		"before the first":       {[]jetstream.SourceOption{jetstream.FromTime(middle.Add(-time.Hour)), jetstream.UntilSequence(3)}, 0, 3},
		"until a time to come":   {[]jetstream.SourceOption{jetstream.UntilTime(time.Now().Add(1500 * time.Millisecond))}, 0, 101},
		"until time, none match": {[]jetstream.SourceOption{jetstream.Subject("none"), jetstream.UntilTime(middle)}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := jetstream.Stream[string]("S", append(c.opts, jetstream.Raw())...)
			d := open(t, ctx, src, 0, connectors.Position{}).toEnd()
			if d.err != nil || !d.end {
				t.Fatalf("end %v, error %v", d.end, d.err)
			}
			d.want(c.from, c.to)
			if p := d.r.Position(); !p.Done {
				t.Fatalf("position %+v is not done", p)
			}
			// A split that is done stays done.
			again := open(t, ctx, src, 0, d.r.Position()).toEnd()
			if !again.end || len(again.values) != 0 {
				t.Fatalf("read %d records after the end", len(again.values))
			}
		})
	}
}

func TestUntilNowIsPinned(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "S", Subjects: []string{"s"}})
	publish(t, ctx, nc, "S", 0, 100, subject("s"))
	src := jetstream.Stream[string]("S", jetstream.Raw(), jetstream.UntilNow())
	d := open(t, ctx, src, 0, connectors.Position{})
	d.until(10, func() bool { return len(d.values) >= 10 })
	publish(t, ctx, nc, "S", 100, 100, subject("s"))
	at, n := d.r.Position(), len(d.values)
	_ = d.r.Close()
	open(t, ctx, src, 0, at).toEnd().want(n, 100)
	// Without a bound the same position goes on.
	open(t, ctx, jetstream.Stream[string]("S", jetstream.Raw()), 0, at).read(200-n).want(n, 200)
}

func TestPartitions(t *testing.T) {
	_, nc := serve(t)
	ctx := testContext(t, nc)
	ensure(t, ctx, nc, jetstream.StreamSpec{Name: "EV", Subjects: []string{"ev.*"}, Partitions: 4})
	publish(t, ctx, nc, "EV", 0, 4000, func(i int) string { return fmt.Sprintf("ev.k%d", i%100) })
	for _, opts := range [][]jetstream.SourceOption{
		{jetstream.Partitions(4)},
		{jetstream.Partitions(4), jetstream.Subject("ev.{partition}.>")},
	} {
		src := jetstream.Stream[string]("EV", append(opts, jetstream.Raw(), jetstream.UntilNow())...)
		splits, err := src.Splits(ctx)
		if err != nil || len(splits) != 4 {
			t.Fatalf("splits %v, error %v", splits, err)
		}
		seen := map[string]int{}
		owner := map[int]int{}
		for i := range splits {
			d := open(t, ctx, src, i, connectors.Position{}).toEnd()
			if d.err != nil {
				t.Fatal(d.err)
			}
			if len(d.values) == 0 || len(d.values) == 4000 {
				t.Fatalf("split %d has %d records", i, len(d.values))
			}
			last := -1
			for _, v := range d.values {
				var n int
				fmt.Sscan(v, &n)
				if n <= last {
					t.Fatalf("split %d: %d after %d", i, n, last)
				}
				last = n
				seen[v]++
				if o, ok := owner[n%100]; ok && o != i {
					t.Fatalf("key %d is in splits %d and %d", n%100, o, i)
				}
				owner[n%100] = i
			}
		}
		if len(seen) != 4000 {
			t.Fatalf("%d distinct records", len(seen))
		}
	}
	if _, err := jetstream.Stream[string]("EV", jetstream.Partitions(8), jetstream.Raw()).Splits(ctx); err == nil {
		t.Fatal("a wrong number of partitions was accepted")
	}
}
