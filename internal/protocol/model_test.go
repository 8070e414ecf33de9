package protocol

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// mutant is a planted bug.
type mutant uint8

const (
	correct mutant = iota
	mutNoCAS
	mutPlainPut
	mutCommitFirst
	mutNoReplay
	mutFreshExpect
	mutLoserContinues
	mutReplayNewest
	mutRestoreStaged
	mutAdoptAny
	mutAdoptUnheld
	mutMissingIsPred
	mutDropDelta
	mutNoFoldBack
	mutBlindRetry
	mutBlindSkip
	mutAnyAck
	mutOvertake
)

// scope bounds a world, so that it can be searched completely.
type scope struct {
	name    string
	records int // input
	epochs  int // highest epoch number
	terms   int // coordinators
	gens    int // deployments
	giveUps int // attempts that a coordinator may give up
	lanes   int
	chunk   int // records per chunk
	// maxUncommitted is the coordinator's bound.
	maxUncommitted int

	adopt          bool // a new coordinator tries to adopt
	floating       bool // one delayed batch per lane at a time
	bases          bool // K may cut a base at any snapshot
	lose           bool // the sink may lose a marker
	reportCommits  bool // coordinators hear of commits
	atomicRecovery bool // probe and marker reads happen at once
	abortsToS      bool // explicit aborts reach S as well
	emptyEpochs    bool // S may take a barrier without having moved
	large          bool // left out by -short
}

// model searches the worlds of one scope, breadth first.
type model struct {
	scope
	mut mutant

	coords  table[coordM]
	pipes   table[pipeM]
	sinks   table[sinkM]
	batches table[Publish]
	stores  table[storeM]
	kb      keyBuf

	bodies     map[SHA][]byte
	manifests  map[SHA]*Manifest
	objects    map[SHA][]byte
	blocks     map[SHA][]uint16
	wantedLogs map[[2]uint32][]uint16
	healed     map[healKey]bool

	seen    map[world]int32
	order   []world
	parents []int32
	cur     int32
	moves   int
	bad     error
	noticed bool // a lost marker was noticed
	found   *violation
	// hits counts the moves by what they are.
	hits map[string]int
	// labels, when set, is told every move instead of the search.
	labels func(w world, label string)
}

type violation struct {
	err   error
	trace []string
}

func newModel(s scope, mut mutant) *model {
	return &model{
		scope: s, mut: mut, kb: keyBuf{sums: map[SHA]uint64{}, acks: map[*Ack]SHA{}},
		bodies: map[SHA][]byte{}, manifests: map[SHA]*Manifest{}, objects: map[SHA][]byte{}, blocks: map[SHA][]uint16{},
		wantedLogs: map[[2]uint32][]uint16{}, healed: map[healKey]bool{}, seen: map[world]int32{}, hits: map[string]int{},
	}
}

// move takes a successor of the current world, or, when an invariant is broken
// on the way there, ends the search.
func (m *model) move(w world, format string, args ...any) {
	if m.labels != nil {
		m.labels(w, fmt.Sprintf(format, args...))
		m.bad = nil
		return
	}
	m.moves++
	m.hits[format]++
	if m.bad == nil {
		m.checkHeal(w)
	}
	if m.bad != nil {
		if m.found == nil {
			m.found = &violation{err: m.bad, trace: append(m.trace(m.cur), fmt.Sprintf(format, args...))}
		}
		return
	}
	if _, ok := m.seen[w]; ok {
		return
	}
	m.seen[w] = int32(len(m.order))
	m.order = append(m.order, w)
	m.parents = append(m.parents, m.cur)
}

// trace names the moves that lead to world i.
func (m *model) trace(i int32) []string {
	var path []int32
	for ; i > 0; i = m.parents[i] {
		path = append(path, i)
	}
	bad := m.bad
	var out []string
	for k := len(path) - 1; k >= 0; k-- {
		child, label := m.order[path[k]], "?"
		m.labels = func(w world, l string) {
			if w == child {
				label = l
			}
		}
		m.bad = nil
		m.expand(m.order[m.parents[path[k]]])
		out = append(out, label)
	}
	m.labels, m.bad = nil, bad
	return out
}

func (m *model) expand(w world) {
	m.startMoves(w)
	for i := range m.terms {
		if w.coords[i] != 0 {
			m.coordMoves(w, i)
		}
	}
	for i := range m.gens {
		if w.pipes[i] != 0 {
			m.pipeMoves(w, i)
		}
	}
	m.floatMoves(w)
	m.loseMoves(w)
}

// search explores every reachable world, or stops at the first violation or at
// limit worlds. It reports whether the scope was exhausted.
func (m *model) search(limit int) bool {
	w := world{store: m.putStore(&storeM{})}
	for l := range m.lanes {
		w.sink[l] = m.putSink(&sinkM{})
	}
	m.move(w, "start")
	for m.cur = 0; int(m.cur) < len(m.order); m.cur++ {
		if m.expand(m.order[m.cur]); m.found != nil || len(m.order) > limit {
			return false
		}
	}
	return true
}

// scopes are searched completely in every test run. Each is small in a different
// direction.
var scopes = []scope{
	{large: true, name: "restart", records: 2, epochs: 2, terms: 2, gens: 2, giveUps: 1, lanes: 1, chunk: 1, maxUncommitted: 2, floating: true},
	{name: "restart-e3", records: 3, epochs: 3, terms: 2, gens: 2, giveUps: 0, lanes: 1, chunk: 2, maxUncommitted: 3, atomicRecovery: true},
	{large: true, name: "restart-3", records: 2, epochs: 2, terms: 3, gens: 3, giveUps: 0, lanes: 1, chunk: 2, maxUncommitted: 2, atomicRecovery: true},
	{name: "lanes", records: 4, epochs: 2, terms: 2, gens: 2, giveUps: 0, lanes: 2, chunk: 1, maxUncommitted: 2, atomicRecovery: true},
	{name: "take-over", records: 2, epochs: 2, terms: 3, gens: 1, giveUps: 0, lanes: 1, chunk: 2, maxUncommitted: 2, adopt: true, abortsToS: true},
	{large: true, name: "take-over-restart", records: 2, epochs: 2, terms: 2, gens: 2, giveUps: 1, lanes: 1, chunk: 2, maxUncommitted: 2, adopt: true, abortsToS: true, atomicRecovery: true},
	{large: true, name: "chains", records: 3, epochs: 3, terms: 1, gens: 2, giveUps: 1, lanes: 1, chunk: 4, maxUncommitted: 3, bases: true, emptyEpochs: true, atomicRecovery: true},
	{name: "lost-marker", records: 2, epochs: 2, terms: 2, gens: 2, giveUps: 0, lanes: 1, chunk: 1, maxUncommitted: 2, lose: true, reportCommits: true},
}

// takeOver3 is too large to be exhausted in every run; one mutant needs it.
var takeOver3 = scope{
	name: "take-over-3", records: 2, epochs: 2, terms: 3, gens: 2, lanes: 1, chunk: 2, maxUncommitted: 2,
	adopt: true, atomicRecovery: true,
}

func TestModel(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	total := 0
	hits := map[string]int{}
	for _, s := range scopes {
		if testing.Short() && s.large {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			m := newModel(s, correct)
			done := m.search(300_000)
			total += len(m.order)
			for what, n := range m.hits {
				hits[what] += n
			}
			t.Logf("%d states, %d moves", len(m.order), m.moves)
			m.report(t)
			if !done {
				t.Fatal("the scope was not exhausted")
			}
			if s.lose && !m.noticed {
				t.Error("no lost marker was noticed")
			}
		})
	}
	t.Logf("%d states in %d scopes, every one exhausted", total, len(scopes))
	for _, what := range mustHappen {
		if hits[what] == 0 && !testing.Short() {
			t.Errorf("no move %q in any scope", what)
		}
	}
}

// mustHappen are the rare moves without which a scope proves little.
var mustHappen = []string{
	"coordinator %d adopts generation %d at epoch %d",
	"coordinator %d does not adopt: %v",
	"coordinator %d gets no answer",
	"coordinator %d is superseded",
	"coordinator %d sees a newer generation before its claim",
	"coordinator %d finds the record there",
	"coordinator %d creates the record, outcome unknown",
	"coordinator %d hears of a commit",
	"coordinator %d gives up a try",
	"delayed batch %s arrives",
	"gen %d: batch %s is refused",
	"gen %d: batch %s is stored, outcome unknown",
	"gen %d: batch %s is delayed, outcome unknown",
	"gen %d: K gives up %s",
	"the sink loses the marker of lane %d",
}

func (m *model) report(t *testing.T) {
	t.Helper()
	if m.found != nil {
		t.Fatalf("%v\nafter\n\t%s", m.found.err, strings.Join(m.found.trace, "\n\t"))
	}
}

// TestModelMutants plants one bug at a time and demands that the search finds it.
func TestModelMutants(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	for _, c := range []struct {
		mut   mutant
		name  string
		scope string
		want  string // the invariant that must break
	}{
		{mutNoCAS, "no compare-and-set", "restart", "I1-I3"},
		{mutPlainPut, "plain put of the epoch record", "restart", "I4"},
		{mutCommitFirst, "commit before claim", "restart", "I1-I3"},
		{mutNoReplay, "no commit replay", "restart", "stuck"},
		{mutFreshExpect, "expect whatever marker is there", "restart", "I1-I3"},
		{mutLoserContinues, "the loser of a claim continues", "restart", "I1-I3"},
		{mutReplayNewest, "replay only the newest epoch", "restart-e3", ""},
		{mutRestoreStaged, "restore the newest staged manifest", "restart-e3", "I4"},
		{mutAdoptAny, "adopt without checking the generation", "take-over-3", ""},
		{mutAdoptUnheld, "adopt tasks that gave the durable attempt up", "take-over", ""},
		{mutMissingIsPred, "a missing marker counts as the predecessor", "lost-marker", "I1-I3"},
		{mutDropDelta, "a delta is left out of the chain", "chains", "I6"},
		{mutNoFoldBack, "an aborted snapshot is not folded back", "chains", ""},
		{mutBlindRetry, "blind retry on unknown", "restart", "I1-I3"},
		{mutBlindSkip, "blind skip on unknown", "restart", ""},
		{mutAnyAck, "acks of another attempt are accepted", "restart", "I6"},
		{mutOvertake, "a barrier overtakes a record", "restart", "I6"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			all := append(scopes, takeOver3)
			i := slices.IndexFunc(all, func(s scope) bool { return s.name == c.scope })
			m := newModel(all[i], c.mut)
			m.search(300_000)
			if m.found == nil {
				t.Fatalf("not found in %d states of scope %s", len(m.order), c.scope)
			}
			t.Logf("found after %d states, %d moves deep: %v", len(m.order), len(m.found.trace), m.found.err)
			if !strings.HasPrefix(m.found.err.Error(), c.want) {
				t.Errorf("broke %q, want %q", m.found.err, c.want)
			}
			if testing.Verbose() {
				t.Logf("trace:\n\t%s", strings.Join(m.found.trace, "\n\t"))
			}
		})
	}
}
