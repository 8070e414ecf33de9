package main

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/weirtest"
)

// The whole of what the README claims is
//
//	go test ./examples/rag -run Chain -rag.prompts 10000 -rag.rate 0 -timeout 20m -v
var (
	prompts = flag.Int("rag.prompts", 150, "prompts of TestChain")
	rate    = flag.Float64("rag.rate", 25, "prompts per second of TestChain; 0 is as fast as they are taken")
	kills   = flag.Int("rag.kills", 2, "how often TestChain kills the chain")
	seed    = flag.Uint64("rag.seed", 1, "seed of TestChain and TestSearch")
)

const childVariable = "WEIR_RAG_CHILD"

// TestMain is the program itself in the processes that TestChain starts.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// TestChain is `rag check`: kills, failures, a step that is added, and every event
// compared with what was asked.
func TestChain(t *testing.T) {
	if testing.Short() && *prompts == 150 {
		t.Skip("it starts several processes")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := &check{
		dir: t.TempDir(), kills: *kills, seed: *seed, exe: exe, env: []string{childVariable + "=1"}, out: &out,
		script: script{documents: 40, prompts: *prompts, rate: *rate, poison: max(2, *prompts/500), undeliverable: max(2, *prompts/500)},
	}
	err = c.run(t.Context())
	t.Logf("seed %d\n%s", *seed, &out)
	if err != nil {
		t.Fatal(err)
	}
}

// lookUpJob is the search of retrieve between a source and a sink.
func lookUpJob() weir.JobSpec {
	return weir.NewJob("search", func(j *weir.Job) {
		visits := weir.From(j, "visits", memory.NewSource[visit](), weir.ProcessingTime[visit]())
		weir.To(lookUp(visits), "found", memory.NewSink[weir.Event]().Sink())
	})
}

// bruteForce is what a search must find, by brute force.
type bruteForce struct {
	documents map[string]map[string]Embedded // by collection and ID
	turns     map[string]map[int]Turn
	want      map[string]Context // by correlation
}

func (m *bruteForce) answer(q query) {
	c := Context{Prompt: q.Prompt, Passages: []Passage{}}
	for _, d := range m.documents[q.Prompt.Collection] {
		dot, a, b := 0.0, 0.0, 0.0
		for i, x := range q.Vector {
			y := float64(d.Vector[i])
			dot, a, b = dot+float64(x)*y, a+float64(x)*float64(x), b+y*y
		}
		c.Passages = append(c.Passages, Passage{ID: d.ID, Text: d.Text, Score: dot / (math.Sqrt(a) * math.Sqrt(b))})
	}
	slices.SortFunc(c.Passages, func(a, b Passage) int { return compare(a, b) })
	c.Passages = c.Passages[:min(found, len(c.Passages))]
	for _, t := range m.turns[q.Attempt.Event.Key] {
		c.Memory = append(c.Memory, t)
	}
	slices.SortFunc(c.Memory, func(a, b Turn) int { return a.Turn - b.Turn })
	c.Memory = c.Memory[max(0, len(c.Memory)-remembered):]
	m.want[q.Attempt.Event.Correlation] = c
}

// searchScript makes visits by chance: documents added, replaced and removed, turns
// remembered and undone, and queries.
func searchScript(t *testing.T) ([]weirtest.Step, *bruteForce) {
	rnd := rand.New(rand.NewPCG(*seed, 1))
	m := &bruteForce{documents: map[string]map[string]Embedded{"a": {}, "b": {}}, turns: map[string]map[int]Turn{}, want: map[string]Context{}}
	vector := func() []float32 {
		v := make([]float32, 6)
		for i := range v {
			v[i] = float32(rnd.IntN(5)) + 0.5 // equal scores are likely
		}
		return v
	}
	var steps []weirtest.Step
	add := func(v visit) { steps = append(steps, weirtest.At(time.UnixMilli(0), v)) }
	said := map[string]int{}
	for i := range 400 {
		collection, conversation := []string{"a", "b"}[rnd.IntN(2)], fmt.Sprint("c", rnd.IntN(5))
		id := fmt.Sprint("d", rnd.IntN(60))
		at := place{Collection: collection, Shard: shardOf(id)}
		switch n := rnd.IntN(10); {
		case n < 5:
			d := Embedded{Document: Document{ID: id, Text: fmt.Sprint("text ", i)}, Vector: vector(), Version: int64(i)}
			m.documents[collection][id] = d
			old := d // an older version that comes late is ignored
			old.Version, old.Vector = int64(i-1), vector()
			add(visit{Place: at, Document: &d})
			add(visit{Place: at, Document: &old})
		case n < 6:
			delete(m.documents[collection], id)
			add(visit{Place: at, Removed: &Embedded{Document: Document{ID: id}, Version: int64(i)}})
		case n < 8:
			said[conversation]++
			turn := Turn{Turn: said[conversation], Question: "q", Answer: fmt.Sprint(i)}
			remember, unsay := visit{Place: place{Conversation: conversation}, Turn: &turn}, visit{Place: place{Conversation: conversation}, Undone: turn.Turn}
			switch rnd.IntN(6) {
			case 0:
				add(remember)
				add(unsay)
			case 1:
				add(unsay)
				add(remember)
			default:
				if m.turns[conversation] == nil {
					m.turns[conversation] = map[int]Turn{}
				}
				m.turns[conversation][turn.Turn] = turn
				add(remember)
			}
		default:
			p := Prompt{Collection: collection, Question: fmt.Sprint("question ", i)}
			e, err := weir.NewEvent(prompted, correlation(i), conversation, time.UnixMilli(0), p)
			if err != nil {
				t.Fatal(err)
			}
			q := query{Attempt: weir.Attempt{Event: e, N: 1, Cause: e.ID}, Prompt: p, Vector: vector()}
			m.answer(q)
			scatter(q, add)
		}
	}
	return steps, m
}

// TestSearch: the passages found are those of a search over all documents of the
// collection, in the same order, at any parallelism and through crashes.
func TestSearch(t *testing.T) {
	t.Logf("seed %d", *seed)
	steps, m := searchScript(t)
	weirtest.Matrix(t, lookUpJob(), steps, func(tb testing.TB, r *weirtest.Run) {
		got := weirtest.Collect[weir.Event](r, "found")
		if len(got) != len(m.want) || len(got) < 20 {
			tb.Fatalf("%d answers for %d queries", len(got), len(m.want))
		}
		full := 0
		for _, e := range got {
			c, err := weir.EventPayload[Context](e)
			if err != nil {
				tb.Fatal(err)
			}
			want := m.want[e.Correlation]
			if len(c.Passages) != len(want.Passages) || fmt.Sprint(c.Memory) != fmt.Sprint(want.Memory) {
				tb.Fatalf("%s: %d passages, memory %v; want %d, %v", e.Correlation, len(c.Passages), c.Memory, len(want.Passages), want.Memory)
			}
			for i, p := range c.Passages {
				w := want.Passages[i]
				if p.ID != w.ID && math.Abs(p.Score-w.Score) > 1e-12 || math.Abs(p.Score-w.Score) > 1e-12 {
					tb.Fatalf("%s, passage %d: %+v, want %+v", e.Correlation, i, p, w)
				}
			}
			if len(c.Passages) == found {
				full++
			}
		}
		if full == 0 {
			tb.Error("no search had more documents than it returns")
		}
	}, weirtest.Source[visit]("visits"), weirtest.Sink[weir.Event]("found"))
}

// runStep runs the body of a step whose sources and sinks the test replaces.
func runStep(t *testing.T, name string, feed []weirtest.Step, sources, sinks []string, golden func(testing.TB, *weirtest.Run)) {
	t.Helper()
	st, err := stepNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	var opts []weirtest.Option
	for _, s := range sources {
		opts = append(opts, weirtest.Source[weir.Event](s))
	}
	for _, s := range sinks {
		opts = append(opts, weirtest.Sink[weir.Event]("publish-"+s))
	}
	opts = append(opts, weirtest.Sink[weir.DeadLetterRecord]("dead-letters"))
	weirtest.Matrix(t, st.job(config{}), feed, golden, opts...)
}

func event(t *testing.T, typ, id, key string, payload any) weir.Event {
	t.Helper()
	e, err := weir.NewEvent(typ, id, key, time.UnixMilli(1000), payload)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func into(source string, e weir.Event) weirtest.Step {
	return weirtest.Into(source, weirtest.At(time.UnixMilli(0), e))
}

// TestStore: turns are numbered without gaps in each conversation; what cannot be read is
// a dead letter.
func TestStore(t *testing.T) {
	var feed []weirtest.Step
	for i := range 40 {
		feed = append(feed, into(evaluated, event(t, evaluated, correlation(i), fmt.Sprint("c", i%3), Evaluation{Generation: Generation{Answer: fmt.Sprint("a", i)}})))
	}
	bad := event(t, evaluated, "bad", "c0", 1)
	undo := event(t, undoRequested, correlation(0), "c0", Turn{Turn: 1, Answer: "a0"})
	feed = append(feed, into(evaluated, bad), into(undoRequested, undo))
	runStep(t, "store", feed, []string{evaluated, undoRequested}, []string{answered, memoryUpdated, memoryUndone}, func(tb testing.TB, r *weirtest.Run) {
		turns := map[string]bool{}
		for _, e := range weirtest.Collect[weir.Event](r, "publish-"+memoryUpdated) {
			v, err := weir.EventPayload[Turn](e)
			if err != nil {
				tb.Fatal(err)
			}
			turns[fmt.Sprintf("%s/%d", e.Key, v.Turn)] = true
		}
		for i := range 40 {
			if !turns[fmt.Sprintf("c%d/%d", i%3, i/3+1)] {
				tb.Errorf("conversation c%d has no turn %d", i%3, i/3+1)
			}
		}
		n := len(weirtest.Collect[weir.Event](r, "publish-"+answered))
		undone := weirtest.Collect[weir.Event](r, "publish-"+memoryUndone)
		letters := weirtest.Collect[weir.DeadLetterRecord](r, "dead-letters")
		if len(turns) != 40 || n != 40 || len(undone) != 1 || undone[0].Causation != undo.ID || len(letters) != 1 {
			tb.Errorf("%d turns, %d answers, %d undone, %d dead letters", len(turns), n, len(undone), len(letters))
		}
	})
}

// TestSaga: what was stored is undone once when a later step gives up, in whichever order
// the saga hears of it, and nothing is undone for a step before.
func TestSaga(t *testing.T) {
	fail := func(of weir.Event, step string) weir.Event {
		e, err := giveUp(of, step, fmt.Errorf("no"))
		if err != nil {
			t.Fatal(err)
		}
		e.At = 1000
		return e
	}
	answer := func(id string) weir.Event {
		return event(t, answered, id, "c", Answer{Turn: Turn{Turn: 3, Answer: id}})
	}
	feed := []weirtest.Step{
		into(answered, answer("before")), into(stepFailed, fail(answer("before"), "notify")),
		into(stepFailed, fail(answer("after"), "notify")), into(answered, answer("after")),
		into(answered, answer("fine")),
		into(stepFailed, fail(event(t, reranked, "early", "c", Context{}), "generate")),
		into(stepFailed, fail(event(t, documentAdded, "document", "c", Document{}), "index")),
	}
	runStep(t, "saga", feed, []string{answered, stepFailed}, []string{undoRequested, abandoned}, func(tb testing.TB, r *weirtest.Run) {
		var undone, gone []string
		for _, e := range weirtest.Collect[weir.Event](r, "publish-"+undoRequested) {
			v, err := weir.EventPayload[Turn](e)
			if err != nil || v.Turn != 3 || v.Answer != e.Correlation {
				tb.Errorf("%s: %+v, %v", e.Correlation, v, err)
			}
			undone = append(undone, e.Correlation)
		}
		for _, e := range weirtest.Collect[weir.Event](r, "publish-"+abandoned) {
			gone = append(gone, e.Correlation)
		}
		slices.Sort(undone)
		slices.Sort(gone)
		if fmt.Sprint(undone) != "[after before]" || fmt.Sprint(gone) != "[after before early]" {
			tb.Errorf("undone %v, abandoned %v", undone, gone)
		}
	})
}

func TestScript(t *testing.T) {
	for _, s := range []script{{prompts: 200, poison: 2, undeliverable: 2}, {prompts: 7919, poison: 0, undeliverable: 3}, {prompts: 1}} {
		counts := map[kind]int{}
		for i := range s.total() {
			counts[s.kind(i)]++
		}
		if counts[normal] != s.prompts || counts[poisoned] != s.poison || counts[undeliverable] != s.undeliverable {
			t.Errorf("%+v: %v", s, counts)
		}
	}
}
