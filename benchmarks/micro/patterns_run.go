package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/pattern"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/state/blob"
)

// patternRun feeds records to a pattern operator on a subtask, in batches of 256, with
// a watermark every four.
type patternRun struct {
	set     func() (*pattern.Set[act], error)
	ring    []act // a power of two of records, taken round and round
	records int
	every   time.Duration // between checkpoints; 0: none
	// found is the number of matches in a run without checkpoints, which all arms must
	// find; -1 before the first.
	found int
	// figures are those of the patterns after the last run, added up.
	figures map[string]float64

	s       *operators.Subtask
	backend *state.Backend
	epoch   base.Epoch
	frozen  bool
	matches int
	saved   int
}

// cpuTime measures the CPU time of a thread, which a busy machine does not stretch.
type cpuTime int64

func onThread() cpuTime {
	runtime.LockOSThread()
	return cpuTime(threadNanos())
}

func (t cpuTime) since() time.Duration {
	d := threadNanos() - int64(t)
	runtime.UnlockOSThread()
	return time.Duration(d)
}

// run returns nanoseconds per record of the operator.
func (p *patternRun) run() (float64, error) {
	dir := tempDir("patterns")
	defer os.RemoveAll(dir)
	store, err := state.OpenStore(state.Options{FS: vfs.Default, Dir: dir, Memory: 1 << 30, Clock: clock.Real(), Blob: blob.Memory(), Job: "bench", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	defer store.Close()
	snaps := make(chan error, 64)
	p.backend, err = store.NewBackend(state.BackendOptions{Task: "patterns/0", Range: base.FullRange, OnSnapshot: func(_ state.Snapshot, err error) { snaps <- err }})
	if err != nil {
		return 0, err
	}
	defer p.backend.Close()
	if err := p.open(); err != nil {
		return 0, err
	}
	p.matches, p.epoch, p.saved, p.frozen = 0, 0, 0, false
	began := onThread()
	if err := p.feed(time.Now()); err != nil {
		return 0, err
	}
	d := began.since()
	p.backend.CopyAll()
	for range p.epoch {
		if err := <-snaps; err != nil {
			return 0, err
		}
		p.saved++
	}
	if p.every > 0 && p.saved == 0 {
		return 0, fmt.Errorf("no checkpoint was taken in %v", d)
	}
	p.figures = map[string]float64{}
	for _, f := range p.s.Env.Stats.Figures.List() {
		p.figures[f.Name] += float64(f.Value())
	}
	if p.every == 0 {
		if err := p.same(p.matches); err != nil {
			return 0, err
		}
	}
	return float64(d.Nanoseconds()) / float64(p.records), nil
}

// same holds a number of matches against that of other runs.
func (p *patternRun) same(found int) error {
	if p.found >= 0 && p.found != found {
		return fmt.Errorf("%d matches; another arm found %d", found, p.found)
	}
	p.found = found
	return nil
}

func (p *patternRun) open() error {
	keys, err := codec.KeyFor[uint64]()
	if err != nil {
		return err
	}
	values, err := codec.For[act]()
	if err != nil {
		return err
	}
	p.s = operators.NewSubtask(operators.Env{
		Ctx: context.Background(), JobName: "bench", Task: "patterns", Parallelism: 1, Range: base.FullRange,
		Clock: clock.Real(), Backend: p.backend, Wake: func() {}, Logger: slog.New(slog.DiscardHandler), Stats: &base.TaskStats{},
	})
	in, _ := pattern.Detect(p.s, pattern.DetectSpec[uint64, act, int, int]{
		UID: "detect", Set: p.set, Key: func(a act) uint64 { return a.Key }, Keys: keys, Values: values,
		Select: func(_ uint64, _ string, m *pattern.Match[act], emit func(int)) { emit(m.Len()) },
	}, operators.Consumer[int]{One: func(*base.Meta, *int) { p.matches++ }}, operators.Consumer[int]{One: func(*base.Meta, *int) {}}, operators.Fan[act](p.s, nil))
	operators.Head(p.s, in)
	if err := p.backend.Restore(context.Background(), nil); err != nil {
		return err
	}
	return p.s.Open(operators.Restore{})
}

func (p *patternRun) feed(last time.Time) error {
	mk, err := operators.NewBatch[act]()
	if err != nil {
		return err
	}
	batch := mk().(*operators.TypedBatch[act])
	for n := 0; n < p.records; {
		batch.Reset()
		for range min(operators.MaxBatch, p.records-n) {
			r := p.ring[n&(len(p.ring)-1)]
			batch.Metas = append(batch.Metas, base.Meta{Time: int64(n) * patternStep, Hash: base.HashUint64(r.Key)})
			batch.Vals = append(batch.Vals, r)
			n++
		}
		if err := p.s.Process(0, batch); err != nil {
			return err
		}
		if n%(4*operators.MaxBatch) == 0 || n == p.records {
			if err := p.watermark(int64(n) * patternStep); err != nil {
				return err
			}
		}
		if p.frozen {
			p.frozen = !p.backend.CopyTurn(100 * time.Microsecond)
		}
		if p.every > 0 && n%(16*operators.MaxBatch) == 0 && time.Since(last) >= p.every {
			last = time.Now()
			if err := p.checkpoint(); err != nil {
				return err
			}
		}
	}
	return p.backend.Err()
}

func (p *patternRun) watermark(w int64) error {
	err := p.s.Watermark(w)
	for more := true; more && err == nil; {
		more, err = p.s.Turn()
	}
	return err
}

// checkpoint takes one as a task does.
func (p *patternRun) checkpoint() error {
	if p.frozen {
		p.backend.CopyAll()
	}
	p.epoch++
	if _, err := p.s.Snapshot(protocol.Barrier{Try: protocol.Try{Epoch: p.epoch}}); err != nil {
		return err
	}
	p.backend.Freeze(p.epoch)
	p.frozen = true
	return nil
}

// matcher returns nanoseconds per record of a matcher over a Go map of keys.
func (p *patternRun) matcher(pat *pattern.Pattern[act]) (float64, error) {
	prog, err := pattern.Compile(pat)
	if err != nil {
		return 0, err
	}
	m, keys := pattern.NewMatcher(prog), map[uint64]*pattern.Key[act]{}
	var out pattern.Output[act]
	found := 0
	began := onThread()
	for n := range p.records {
		r := &p.ring[n&(len(p.ring)-1)]
		k := keys[r.Key]
		if k == nil {
			k = &pattern.Key[act]{}
			keys[r.Key] = k
		}
		if err := m.Process(k, int64(n)*patternStep, 0, r, &out); err != nil {
			return 0, err
		}
		found += len(out.Matches)
		out.Reset()
	}
	d := began.since()
	return float64(d.Nanoseconds()) / float64(p.records), p.same(found)
}

// byHand returns nanoseconds per record of a program for the pattern.
func (p *patternRun) byHand(hand func([]act, int) int) (float64, error) {
	began := onThread()
	found := hand(p.ring, p.records)
	d := began.since()
	return float64(d.Nanoseconds()) / float64(p.records), p.same(found)
}
