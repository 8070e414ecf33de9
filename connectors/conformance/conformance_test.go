package conformance

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/internal/protocol"
)

// memorySource has two full splits, an empty one, and some bad records.
func memorySource(bounded bool) func(testing.TB) SourceFixture[string] {
	return func(testing.TB) SourceFixture[string] {
		s := memory.NewSource[string]("a", "b", "empty")
		f := SourceFixture[string]{Source: s, Bounded: bounded, Want: map[string][]Item[string]{}}
		for i := range 30 {
			for _, id := range []string{"a", "b"} {
				item := Item[string]{Value: fmt.Sprint(id, i), Bad: i%7 == 3}
				rec := memory.Record[string]{Value: item.Value}
				if item.Bad {
					rec.Bad = errors.New("bad")
				}
				s.AppendRecords(id, rec)
				f.Want[id] = append(f.Want[id], item)
			}
		}
		if bounded {
			s.Finish()
			return f
		}
		n := 0
		f.Append = func(split string) Item[string] {
			n++
			s.Append(split, 0, fmt.Sprint("late", n))
			return Item[string]{Value: fmt.Sprint("late", n)}
		}
		f.Recreate = s.Recreate
		f.LoseHead = func(split string, n int) { s.Trim(split, uint64(n)) }
		f.LoseTail = func(split string, n int) { s.Truncate(split, uint64(n)) }
		return f
	}
}

func TestMemorySource(t *testing.T) {
	t.Run("bounded", func(t *testing.T) { Source(t, memorySource(true)) })
	t.Run("unbounded", func(t *testing.T) { Source(t, memorySource(false)) })
}

func memoryLanes(testing.TB) SinkFixture {
	l := memory.NewLanes()
	f := SinkFixture{Target: l}
	f.Read = func(testing.TB) [][]byte {
		var out [][]byte
		for _, m := range l.Messages() {
			out = append(out, m.Data)
		}
		return out
	}
	var mu sync.Mutex
	var next memory.Fault
	f.Break = func(applied bool) {
		mu.Lock()
		defer mu.Unlock()
		next.Outcome = memory.LostWrite
		if applied {
			next.Outcome = memory.LostAck
		}
	}
	l.OnPublish(func(memory.Attempt) memory.Fault {
		mu.Lock()
		defer mu.Unlock()
		defer func() { next = memory.Fault{} }()
		return next
	})
	return f
}

func memoryDirect(testing.TB) SinkFixture {
	d := memory.NewDirectTarget()
	return SinkFixture{Target: d, Crash: d.Crash, Read: func(testing.TB) [][]byte {
		var out [][]byte
		for _, m := range d.Messages() {
			out = append(out, m.Data)
		}
		return out
	}}
}

func TestMemorySinks(t *testing.T) {
	t.Run("lanes", func(t *testing.T) { Sink(t, memoryLanes) })
	t.Run("direct", func(t *testing.T) { Sink(t, memoryDirect) })
}

// probe stands in for a test, so that a check may fail without failing the real
// one.
type probe struct {
	testing.TB
	mu     sync.Mutex
	failed string
}

func (p *probe) fail(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == "" {
		p.failed = fmt.Sprintf(format, args...)
	}
}

func (p *probe) Errorf(format string, args ...any) { p.fail(format, args...) }
func (p *probe) Error(args ...any)                 { p.fail("%s", fmt.Sprint(args...)) }
func (p *probe) Fatalf(format string, args ...any) { p.fail(format, args...); runtime.Goexit() }
func (p *probe) Fatal(args ...any)                 { p.fail("%s", fmt.Sprint(args...)); runtime.Goexit() }
func (p *probe) Skip(...any)                       { runtime.Goexit() }
func (p *probe) Logf(string, ...any)               {}
func (p *probe) Cleanup(func())                    {}

// caught runs checks against a broken connector and returns the first complaint.
func caught[F any](t *testing.T, factory func(testing.TB) F, checks []check[F]) string {
	for _, c := range checks {
		p := &probe{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.run(p, factory(p))
		}()
		<-done
		if p.failed != "" {
			return c.name + ": " + p.failed
		}
	}
	return ""
}

// brokenSource plants a bug into a source: each hook changes one answer.
type brokenSource struct {
	connectors.Source[string]
	after    func(connectors.Position) connectors.Position
	poll     func(*connectors.Records[string], *connectors.Poll)
	position func(connectors.Position) connectors.Position
	extra    int // records beyond max
	env      func(connectors.ReaderEnv) connectors.ReaderEnv
	err      func(error) error
}

type brokenReader struct {
	connectors.Reader[string]
	b *brokenSource
}

func (b *brokenSource) Open(ctx context.Context, s connectors.Split, after connectors.Position, env connectors.ReaderEnv) (connectors.Reader[string], error) {
	if b.after != nil {
		after = b.after(after)
	}
	if b.env != nil {
		env = b.env(env)
	}
	r, err := b.Source.Open(ctx, s, after, env)
	if err != nil && b.err != nil {
		err = b.err(err)
	}
	return &brokenReader{r, b}, err
}

func (r *brokenReader) Poll(dst *connectors.Records[string], max int) (connectors.Poll, error) {
	p, err := r.Reader.Poll(dst, max+r.b.extra)
	if r.b.poll != nil {
		r.b.poll(dst, &p)
	}
	return p, err
}

func (r *brokenReader) Position() connectors.Position {
	if r.b.position != nil {
		return r.b.position(r.Reader.Position())
	}
	return r.Reader.Position()
}

func TestSourceBugsAreCaught(t *testing.T) {
	type pos = connectors.Position
	bugs := map[string]*brokenSource{
		"resumes one late": {after: func(p pos) pos {
			if p.Offset > 0 {
				p.Offset++
			}
			return p
		}},
		"resumes one early": {after: func(p pos) pos { p.Offset -= min(p.Offset, 1); return p }},
		"says one less":     {position: func(p pos) pos { p.Offset -= min(p.Offset, 1); return p }},
		"starts again": {after: func(p pos) pos {
			if p.Offset > 20 {
				p.Offset = 0
			}
			return p
		}},
		"not started":     {position: func(p pos) pos { p.Started = false; return p }},
		"forgets Done":    {position: func(p pos) pos { p.Done = false; return p }},
		"more than max":   {extra: 1},
		"never ends":      {poll: func(_ *connectors.Records[string], p *connectors.Poll) { p.End, p.More = false, p.End || p.More }, position: func(p pos) pos { p.Done = false; return p }},
		"drops bad":       {poll: func(d *connectors.Records[string], _ *connectors.Poll) { d.Bad = nil }},
		"swaps two":       {poll: func(d *connectors.Records[string], _ *connectors.Poll) { swapFirst(d.Values) }},
		"shifts pos":      {poll: func(d *connectors.Records[string], _ *connectors.Poll) { swapFirst(d.Pos) }},
		"short times":     {poll: func(d *connectors.Records[string], _ *connectors.Poll) { d.Times = d.Times[:len(d.Times)/2] }},
		"mixes identity":  {after: func(p pos) pos { p.Identity = "1"; return p }},
		"plain error":     {err: func(error) error { return errors.New("something is wrong") }},
		"not fatal":       {err: func(error) error { return connectors.ErrPositionLost }},
		"swallows errors": {after: func(p pos) pos { return pos{} }},
	}
	for name, b := range bugs {
		if name == "forgets Done" || name == "never ends" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			factory := func(t testing.TB) SourceFixture[string] {
				f := memorySource(false)(t)
				c := *b
				c.Source, f.Patience = f.Source, 100*time.Millisecond
				f.Source = &c
				return f
			}
			complain(t, caught(t, factory, sourceChecks[string]()))
		})
	}
	for _, name := range []string{"forgets Done", "never ends"} {
		t.Run(name, func(t *testing.T) {
			factory := func(t testing.TB) SourceFixture[string] {
				f := memorySource(true)(t)
				c := *bugs[name]
				c.Source, f.Patience = f.Source, 100*time.Millisecond
				f.Source = &c
				return f
			}
			complain(t, caught(t, factory, sourceChecks[string]()))
		})
	}
}

func complain(t *testing.T, what string) {
	t.Helper()
	if what == "" {
		t.Fatal("the suite passes with the planted bug")
	}
	t.Log(what)
}

func swapFirst[E any](s []E) {
	if len(s) > 1 {
		s[0], s[1] = s[1], s[0]
	}
}

// brokenLanes plants a bug into a lane target.
type brokenLanes struct {
	connectors.LaneTarget
	publish func(ctx context.Context, w connectors.LaneWriter, lane int, msgs []connectors.Message, m protocol.Marker, expect uint64) (uint64, error)
	read    func(w connectors.LaneWriter, lane int) (protocol.Marker, uint64, bool, error)
}

type brokenWriter struct {
	connectors.LaneWriter
	b *brokenLanes
}

func (b *brokenLanes) OpenLanes(ctx context.Context, env connectors.SinkEnv) (connectors.LaneWriter, error) {
	w, err := b.LaneTarget.OpenLanes(ctx, env)
	return brokenWriter{w, b}, err
}

func (w brokenWriter) PublishChunk(ctx context.Context, lane int, msgs []connectors.Message, m protocol.Marker, expect uint64) (uint64, error) {
	if w.b.publish == nil {
		return w.LaneWriter.PublishChunk(ctx, lane, msgs, m, expect)
	}
	return w.b.publish(ctx, w.LaneWriter, lane, msgs, m, expect)
}

func (w brokenWriter) ReadMarker(ctx context.Context, lane int) (protocol.Marker, uint64, bool, error) {
	if w.b.read == nil {
		return w.LaneWriter.ReadMarker(ctx, lane)
	}
	return w.b.read(w.LaneWriter, lane)
}

func TestLaneBugsAreCaught(t *testing.T) {
	type writer = connectors.LaneWriter
	type msgs = []connectors.Message
	bugs := map[string]*brokenLanes{
		"no compare-and-set": {publish: func(ctx context.Context, w writer, lane int, ms msgs, m protocol.Marker, expect uint64) (uint64, error) {
			_, seq, _, _ := w.ReadMarker(ctx, lane)
			return w.PublishChunk(ctx, lane, ms, m, seq)
		}},
		"blind retry": {publish: func(ctx context.Context, w writer, lane int, ms msgs, m protocol.Marker, expect uint64) (uint64, error) {
			seq, err := w.PublishChunk(ctx, lane, ms, m, expect)
			if err != nil && !errors.Is(err, connectors.ErrConflict) && ctx.Err() == nil {
				_, now, _, _ := w.ReadMarker(ctx, lane)
				return w.PublishChunk(ctx, lane, ms, m, now)
			}
			return seq, err
		}},
		"claims success": {publish: func(ctx context.Context, w writer, lane int, ms msgs, m protocol.Marker, expect uint64) (uint64, error) {
			seq, err := w.PublishChunk(ctx, lane, ms, m, expect)
			if err != nil && !errors.Is(err, connectors.ErrConflict) {
				return expect + 1, nil
			}
			return seq, err
		}},
		"data before marker": {publish: func(ctx context.Context, w writer, lane int, ms msgs, m protocol.Marker, expect uint64) (uint64, error) {
			half := m
			half.Count = uint32(len(ms) / 2)
			if half.Count == 0 {
				return w.PublishChunk(ctx, lane, ms, m, expect)
			}
			seq, err := w.PublishChunk(ctx, lane, ms[:half.Count], half, expect)
			if err != nil {
				return seq, err
			}
			m.Count -= half.Count
			runtime.Gosched()
			return w.PublishChunk(ctx, lane, ms[half.Count:], m, seq)
		}},
		"one marker for all lanes": {read: func(w writer, lane int) (protocol.Marker, uint64, bool, error) {
			return w.ReadMarker(context.Background(), 0)
		}},
		"stale marker": {read: func(w writer, lane int) (protocol.Marker, uint64, bool, error) {
			m, seq, found, err := w.ReadMarker(context.Background(), lane)
			return m, seq - min(seq, 1), found, err
		}},
		"reversed": {publish: func(ctx context.Context, w writer, lane int, ms msgs, m protocol.Marker, expect uint64) (uint64, error) {
			swapFirst(ms)
			return w.PublishChunk(ctx, lane, ms, m, expect)
		}},
		"conflict as unknown": {publish: func(ctx context.Context, w writer, lane int, ms msgs, m protocol.Marker, expect uint64) (uint64, error) {
			seq, err := w.PublishChunk(ctx, lane, ms, m, expect)
			if err != nil {
				err = errors.New("it did not work")
			}
			return seq, err
		}},
	}
	for name, b := range bugs {
		t.Run(name, func(t *testing.T) {
			complain(t, caught(t, func(t testing.TB) SinkFixture {
				f := memoryLanes(t)
				c := *b
				c.LaneTarget = f.Target.(connectors.LaneTarget)
				f.Target = &c
				return f
			}, laneChecks()))
		})
	}
}

// lazyDirect is an at-least-once target whose writer breaks one rule.
type lazyDirect struct {
	*memory.Direct
	keep    bool // keeps the messages' memory until the flush
	noFlush bool
	held    []connectors.Message
}

type lazyWriter struct {
	connectors.Writer
	d *lazyDirect
}

func (d *lazyDirect) OpenWriter(ctx context.Context, env connectors.SinkEnv, i int) (connectors.Writer, error) {
	w, err := d.Direct.OpenWriter(ctx, env, i)
	return lazyWriter{w, d}, err
}

func (w lazyWriter) Write(ctx context.Context, msgs []connectors.Message) error {
	if w.d.keep {
		w.d.held = append(w.d.held, msgs...)
		return nil
	}
	return w.Writer.Write(ctx, msgs)
}

func (w lazyWriter) Flush(ctx context.Context) error {
	if w.d.noFlush {
		return nil
	}
	if err := w.Writer.Write(ctx, w.d.held); err != nil {
		return err
	}
	w.d.held = nil
	return w.Writer.Flush(ctx)
}

func TestDirectBugsAreCaught(t *testing.T) {
	for name, d := range map[string]lazyDirect{"does not flush": {noFlush: true}, "keeps memory": {keep: true}} {
		t.Run(name, func(t *testing.T) {
			complain(t, caught(t, func(t testing.TB) SinkFixture {
				f := memoryDirect(t)
				c := d
				c.Direct = f.Target.(*memory.Direct)
				f.Target = &c
				return f
			}, directChecks()))
		})
	}
}
