package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state/blob"
)

// world is everything that outlives the deaths of a job inside this process: its
// input, its output, its checkpoint store.
type world struct {
	mu     sync.Mutex
	rng    *rand.Rand
	calm   bool // no more faults
	src    *memory.Source[Record]
	sinks  map[string]*memory.Lanes
	blobs  *blob.Mem
	logger *slog.Logger
	faults map[string]int
}

// rolls says, now and then, yes.
func (w *world) rolls(what string, oneIn int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calm || w.rng.IntN(oneIn) != 0 {
		return false
	}
	w.faults[what]++
	return true
}

// newWorld makes a world in which one in so many writes to the store fails, by
// verb.
func newWorld(seed uint64, logger *slog.Logger, often map[string]int) *world {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 1)), sinks: map[string]*memory.Lanes{}, blobs: blob.Memory(), logger: logger,
		src: memory.NewSource[Record]("a", "b", "c"), faults: map[string]int{},
	}
	for branch, n := range lanes {
		l := memory.NewLanes(memory.WithLanes(n), memory.WithLimits(connectors.ChunkLimits{MaxMessages: 40, MaxBytes: 1 << 20, MaxMessage: 1 << 20}))
		l.OnPublish(func(memory.Attempt) memory.Fault {
			switch {
			case w.rolls("answer to a commit lost", 40):
				return memory.Fault{Outcome: memory.LostAck}
			case w.rolls("commit lost", 40):
				return memory.Fault{Outcome: memory.LostWrite}
			}
			return memory.Fault{}
		})
		w.sinks[branch] = l
	}
	injected := errors.New("injected")
	// The job backs off longer and longer when it cannot claim a generation, so
	// that is left to chance less often.
	rate := func(verb, name string) int {
		if verb == "put-if-absent" && !strings.Contains(name, "/epochs/") {
			return 20
		}
		return often[verb]
	}
	w.blobs.Before = func(verb, name string) error {
		if w.rolls("store: "+verb+" failed", rate(verb, name)) {
			return injected
		}
		return nil
	}
	w.blobs.After = func(verb, name string) error {
		if w.rolls("store: answer to "+verb+" lost", rate(verb, name)) {
			return injected
		}
		return nil
	}
	return w
}

// visible returns how many results of j2 can be seen.
func (w *world) visible() int { return len(w.sinks[JobCount].Messages()) }

// start starts the job.
func (w *world) start(ctx context.Context, parallelism int) (*engine.Job, error) {
	b := &weir.Bindings{}
	weir.BindSource[Record](b, "in", w.src)
	for branch, l := range w.sinks {
		weir.BindSink(b, branch+"-out", connectors.Sink[Output]{Target: l, Encode: func(m *connectors.Message, _ *base.Meta, o *Output) error {
			var err error
			m.Data, err = json.Marshal(o)
			return err
		}})
	}
	plan, err := weir.Compile(Job(Streams{In: "IN", Out: "OUT"}, 0), weir.WithParallelism(parallelism), weir.WithBindings(b))
	if err != nil {
		return nil, err
	}
	return engine.Start(ctx, plan, engine.Options{
		Blob: w.blobs, FS: vfs.NewMem(), StateDir: "state", Memory: 8 << 20, Interval: 4 * time.Millisecond, Retain: 2,
		MaxRestarts: 1000, Logger: w.logger, Encode: parallelism == 3,
	})
}

// split places a record: a key stays in one split.
func split(r *Record) string { return string("abc"[base.HashString(r.Key)%3]) }

// TestKillsInThisProcess runs the job in this process, on sources, sinks and a
// store that live on, kills it at arbitrary times and lets writes fail. It is the
// quick form of a storm: no process dies, and every other way to lose or double a
// record is open.
func TestKillsInThisProcess(t *testing.T) {
	// Claims are few among the writes.
	t.Run("faults now and then", func(t *testing.T) {
		killInThisProcess(t, 12, map[string]int{"put": 150, "put-if-absent": 20, "delete": 150})
	})
	t.Run("a store that fails often", func(t *testing.T) {
		killInThisProcess(t, 6, map[string]int{"put": 25, "put-if-absent": 4, "delete": 4})
	})
}

func killInThisProcess(t *testing.T, kills int, often map[string]int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	level := slog.LevelError + 1
	if os.Getenv("TORTURE_LOG") != "" {
		level = slog.LevelDebug
	}
	w := newWorld(seed, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})), often)
	rng := rand.New(rand.NewPCG(seed, 2))
	script := NewScript(seed, 300, 200*time.Millisecond, 20)
	var records []Record
	feed := func(rs ...Record) {
		for i := range rs {
			records = append(records, rs[i])
			w.src.AppendRecords(split(&rs[i]), memory.Record[Record]{Value: rs[i]})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for kill := range kills {
		job, err := w.start(ctx, 1+kill%3)
		for err != nil && ctx.Err() == nil { // a fault of the store
			job, err = w.start(ctx, 1+kill%3)
		}
		if err != nil {
			t.Fatal(err)
		}
		// Most deaths come some time after the first result; some before it.
		before := w.visible()
		began := time.Now()
		until := began.Add(time.Duration(rng.IntN(150)) * time.Millisecond)
		for seen := kill%4 == 3; !seen || time.Now().Before(until); {
			for range rng.IntN(25) {
				feed(script.Next())
			}
			time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
			if !seen && time.Since(began) > stuckAfter/2 {
				n, last := job.Restarts()
				t.Fatalf("no result for %v; %s, %d restarts, the last because of %v, %+v\n%s", stuckAfter/2, job.Phase(), n, last, job.Checkpoints(), stacks())
			}
			if !seen && w.visible() > before {
				seen, until = true, time.Now().Add(time.Duration(rng.IntN(150))*time.Millisecond)
			}
		}
		select {
		case <-job.Done():
			t.Fatalf("the job stopped for good: %v", job.Wait())
		default:
		}
		job.Kill()
	}
	w.finish(ctx, t, feed, script)
	check := NewCheck(NewModel(records))
	for branch := range w.sinks {
		for _, m := range w.sinks[branch].Messages() {
			if err := check.TakeLine(&Line{Data: m.Data}); err != nil {
				t.Fatal(err)
			}
		}
	}
	rep := check.Finish()
	t.Logf("%s; faults: %s", rep, strings.TrimPrefix(fmt.Sprint(w.faults), "map"))
	if !rep.OK() {
		t.Fatal(rep.Details())
	}
}

// stacks returns the stacks of all goroutines, for a job that is stuck.
func stacks() []byte {
	buf := make([]byte, 1<<20)
	return buf[:runtime.Stack(buf, true)]
}

// finish lets the job come to the end of its input.
func (w *world) finish(ctx context.Context, t *testing.T, feed func(...Record), script *Script) {
	t.Helper()
	feed(script.End()...)
	w.src.Finish()
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	job, err := w.start(ctx, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer job.Kill()
	select {
	case <-job.Done():
		if err := job.Wait(); err != nil {
			t.Fatal(err)
		}
	case <-ctx.Done():
		n, last := job.Restarts()
		t.Fatalf("the job did not end; %d restarts, the last because of: %v", n, last)
	}
}
