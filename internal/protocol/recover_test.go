package protocol

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/base"
)

// history is a checkpoint store and a sink, for recovery. Lane out/0 has a block
// in every epoch, out/1 in every second one, each of two chunks.
type history struct {
	records   map[base.Epoch][]byte
	manifests map[base.Epoch][]byte
	ends      map[LaneID]map[base.Epoch]MarkerID // by the epoch of the block
	marker    map[LaneID]*Marker
	// onMarker runs when a marker is read.
	onMarker func(h *history)
	asked    []string
	prev     SHA
	lanes    map[LaneID]MarkerID
	total    map[LaneID]uint64
	known    base.Epoch // Committed in the manifests that follow
}

func newHistory(n base.Epoch) *history {
	h := &history{
		records: map[base.Epoch][]byte{}, manifests: map[base.Epoch][]byte{}, marker: map[LaneID]*Marker{},
		lanes: map[LaneID]MarkerID{}, total: map[LaneID]uint64{},
		ends: map[LaneID]map[base.Epoch]MarkerID{rigLanes[0]: {}, rigLanes[1]: {}},
	}
	for e := base.Epoch(1); e <= n; e++ {
		h.grow(e, 3)
	}
	return h
}

// grow makes epoch e durable.
func (h *history) grow(e base.Epoch, g base.Generation) {
	m := &Manifest{Job: "job", Epoch: e, Attempt: NewAttempt(2, uint32(e)), Term: 2, Gen: g, Prev: h.prev}
	for i, id := range rigLanes {
		l := LaneState{Block: LaneBlock{Lane: id}, Pred: h.lanes[id], Before: h.total[id], Committed: min(h.known, h.lanes[id].Epoch)}
		if i == 0 || e%2 == 0 {
			l.Block = LaneBlock{Lane: id, SHA: sum(fmt.Sprint(id, e)), Bytes: 5, Chunks: []uint32{3, 2}}
		}
		m.Lanes = append(m.Lanes, l)
	}
	body, err := m.Encode()
	if err != nil {
		panic(err)
	}
	rec := EpochRecord{"job", e, g, m.Attempt, SumSHA(body), h.prev}
	h.manifests[e] = body
	h.records[e], err = rec.Encode()
	if err != nil {
		panic(err)
	}
	h.prev = SumSHA(h.records[e])
	for i := range m.Lanes {
		id := m.Lanes[i].Block.Lane
		h.lanes[id], h.total[id] = m.Lanes[i].End(e, rec.Manifest)
		if !m.Lanes[i].Block.Empty() {
			h.ends[id][e] = h.lanes[id]
		}
	}
}

// commit sets the sink's marker of a lane.
func (h *history) commit(l LaneID, e base.Epoch, chunk uint32) {
	end := h.ends[l][e]
	h.marker[l] = &Marker{Job: "job", Lane: l, Epoch: e, Chunk: chunk, Chunks: 2, Manifest: end.Manifest}
}

func (h *history) recover(t *testing.T, cfg RecoveryConfig) RecoveryAction {
	t.Helper()
	cfg.Job = "job"
	if cfg.Gen == 0 {
		cfg.Gen = 9
	}
	r, asks := NewRecovery(cfg)
	for n := 0; len(asks) > 0; n++ {
		if n > 1000 {
			t.Fatal("recovery does not end")
		}
		q := asks[0]
		asks = asks[1:]
		var ev RecoveryEvent
		switch q := q.(type) {
		case ReadEpoch:
			h.asked = append(h.asked, fmt.Sprintf("e%d", q.Epoch))
			if q.Tries == 0 && n%3 == 0 {
				asks = append(asks, r.Step(EpochRead{Epoch: q.Epoch, Err: errors.New("timeout")})...)
				continue
			}
			ev = EpochRead{Epoch: q.Epoch, Found: h.records[q.Epoch] != nil, Body: h.records[q.Epoch]}
		case ReadManifest:
			h.asked = append(h.asked, fmt.Sprintf("m%d", q.Epoch))
			ev = ManifestRead{Epoch: q.Epoch, Found: h.manifests[q.Epoch] != nil, Body: h.manifests[q.Epoch]}
		case ReadLaneMarker:
			if q.Tries == 0 {
				asks = append(asks, r.Step(LaneMarkerRead{q.Lane, MarkerRead{Err: errors.New("timeout")}})...)
				continue
			}
			ev = LaneMarkerRead{Lane: q.Lane}
			if m := h.marker[q.Lane]; m != nil {
				ev = LaneMarkerRead{q.Lane, MarkerRead{Found: true, Marker: *m, Seq: uint64(m.Epoch)*10 + uint64(m.Chunk)}}
			}
			if h.onMarker != nil {
				h.onMarker(h)
			}
		default:
			if len(asks) > 0 || r.Step(EpochRead{}) != nil {
				t.Fatalf("%v follow the result", asks)
			}
			return q
		}
		asks = append(asks, r.Step(ev)...)
	}
	t.Fatal("recovery asks nothing and has no result")
	return nil
}

// replays renders what is left to commit as "epoch:lanes".
func replays(p RecoveryPlan) []string {
	var out []string
	for _, u := range p.Start.Uncommitted {
		s := fmt.Sprintf("%d:", u.Try.Epoch)
		for i := range u.Complete.Lanes {
			s += fmt.Sprint(u.Complete.Lanes[i].Block.Lane.Lane)
		}
		out = append(out, s)
	}
	return out
}

func TestRecoveryPlans(t *testing.T) {
	l0, l1 := rigLanes[0], rigLanes[1]
	for _, c := range []struct {
		name string
		n    base.Epoch
		cfg  RecoveryConfig
		prep func(h *history)
		want []string
	}{
		{"a new job", 0, RecoveryConfig{Lanes: rigLanes}, nil, nil},
		{"a new job with a wrong hint", 0, RecoveryConfig{Lanes: rigLanes, Hint: 12}, nil, nil},
		{"nothing committed", 3, RecoveryConfig{}, nil, []string{"1:0", "2:01", "3:0"}},
		{"all committed", 3, RecoveryConfig{}, func(h *history) { h.commit(l0, 3, 2); h.commit(l1, 2, 2) }, nil},
		{"between chunks", 3, RecoveryConfig{}, func(h *history) { h.commit(l0, 2, 1); h.commit(l1, 2, 2) }, []string{"2:0", "3:0"}},
		{"lanes at different places", 5, RecoveryConfig{Hint: 4}, func(h *history) { h.commit(l0, 4, 2); h.commit(l1, 2, 1) }, []string{"2:1", "4:1", "5:0"}},
		{"with a hint that is too high", 3, RecoveryConfig{Hint: 4}, func(h *history) { h.commit(l0, 2, 2); h.commit(l1, 2, 2) }, []string{"3:0"}},
		{"above a floor", 5, RecoveryConfig{Floor: 3}, func(h *history) {
			delete(h.records, 1)
			delete(h.records, 2)
			h.commit(l0, 4, 2)
			h.commit(l1, 4, 2)
		}, []string{"5:0"}},
		{"a removed sink is still recovered", 2, RecoveryConfig{Lanes: []LaneID{{"new", 0}}}, nil, []string{"1:0", "2:01"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(c.n)
			if c.prep != nil {
				c.prep(h)
			}
			got := h.recover(t, c.cfg)
			done, ok := got.(RecoveryDone)
			if !ok {
				t.Fatalf("%#v", got)
			}
			p := done.Plan
			if !slices.Equal(replays(p), c.want) {
				t.Errorf("left to commit %q, want %q", replays(p), c.want)
			}
			if p.Start.Record.Epoch != c.n || (p.Start.Manifest != nil) != (c.n > 0) || c.n > 0 && p.Start.RecordSHA != h.prev {
				t.Errorf("starts from %+v", p.Start.Record)
			}
			for _, l := range p.Lanes {
				if m := h.marker[l.Lane]; !l.Start.Known || l.Start.Restored != c.n || m != nil && l.Start.Marker != m.ID() {
					t.Errorf("lane %+v", l)
				}
			}
			t.Logf("asked %v", h.asked)
		})
	}
}

// TestRecoveryReplay: the blocks of a plan, fed to a fresh lane, bring it from
// its marker to the end.
func TestRecoveryReplay(t *testing.T) {
	h := newHistory(5)
	h.commit(rigLanes[1], 2, 1)
	h.commit(rigLanes[0], 4, 2)
	p := h.recover(t, RecoveryConfig{Lanes: rigLanes}).(RecoveryDone).Plan
	l := NewLane("job", rigLanes[1], 9, p.Lanes[1].Start)
	var got []string
	seq := uint64(100)
	feed := func(ev LaneEvent) {
		acts := l.Step(ev)
		for len(acts) > 0 {
			got = append(got, laneLog(acts)...)
			switch acts[len(acts)-1].(type) {
			case Publish:
				seq++
				acts = l.Step(PublishOK{seq})
			case ReadMarker:
				acts = l.Step(MarkerRead{Found: true, Marker: *h.marker[rigLanes[1]], Seq: p.Lanes[1].Start.Seq})
			default:
				return
			}
		}
	}
	for _, u := range p.Start.Uncommitted {
		for _, s := range u.Complete.Lanes {
			if s.Block.Lane == rigLanes[1] {
				feed(BlockClaimed{Claimed{u.Try.Epoch, u.Complete.Manifest, s}})
			}
		}
	}
	want := []string{
		"read", "publish 2/2 [3+2) expect 21 total 5", "done 2",
		"publish 4/1 [0+3) expect 101 total 8", "publish 4/2 [3+2) expect 102 total 10", "done 4",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}

	// The coordinator that starts from the plan repeats the same epochs.
	cfg := CoordinatorConfig{Job: "job", Term: 3, Gen: 9, Lanes: rigLanes, Tasks: []TaskSlot{{taskS, 9, true}}}
	c, acts := NewCoordinator(cfg, p.Start, 0)
	if len(acts) != 3 || c.Uncommitted() != 4 || c.lanes[1].committed != 0 || c.lanes[0].committed != 4 {
		t.Errorf("%d actions, %d uncommitted, %+v", len(acts), c.Uncommitted(), c.lanes)
	}
}

func TestRecoveryFailures(t *testing.T) {
	l0 := rigLanes[0]
	for _, c := range []struct {
		name, code, want string
		cfg              RecoveryConfig
		prep             func(h *history)
	}{
		{"sink ahead", "WEIR-0580", "the sink is ahead of the checkpoint store", RecoveryConfig{}, func(h *history) {
			h.commit(l0, 3, 2)
			delete(h.records, 3)
		}},
		{"sink ahead of an empty store", "WEIR-0580", "the sink is ahead", RecoveryConfig{Lanes: rigLanes}, func(h *history) {
			h.commit(l0, 1, 1)
			clear(h.records)
		}},
		{"marker missing after a commit", "WEIR-0580", "epoch 2 was committed: the sink lost it", RecoveryConfig{}, func(h *history) {
			h.known = 2
			h.grow(4, 3)
		}},
		{"marker rolled back", "WEIR-0580", "epoch 2 was committed", RecoveryConfig{}, func(h *history) {
			h.known = 2
			h.grow(4, 3)
			h.commit(l0, 1, 2)
		}},
		{"marker of a foreign manifest", "WEIR-0580", "is foreign", RecoveryConfig{}, func(h *history) {
			h.commit(l0, 2, 2)
			h.marker[l0].Manifest = sum("x")
		}},
		{"marker in an epoch without records", "WEIR-0580", "no records in that epoch", RecoveryConfig{}, func(h *history) {
			h.commit(rigLanes[1], 2, 2)
			h.marker[rigLanes[1]].Epoch = 3
		}},
		{"marker with too many chunks", "WEIR-0580", "is foreign", RecoveryConfig{}, func(h *history) {
			h.commit(l0, 2, 2)
			h.marker[l0].Chunk, h.marker[l0].Chunks = 3, 3
		}},
		{"marker of another job", "WEIR-0580", "belongs to", RecoveryConfig{}, func(h *history) {
			h.commit(l0, 2, 2)
			h.marker[l0].Job = "other"
		}},
		{"marker of a lane the job never had", "WEIR-0580", "is foreign", RecoveryConfig{Lanes: []LaneID{{"new", 0}}}, func(h *history) {
			h.marker[LaneID{"new", 0}] = &Marker{Job: "job", Lane: LaneID{"new", 0}, Epoch: 1, Chunk: 1, Manifest: sum("x")}
		}},
		{"marker below the floor", "WEIR-0580", "below the floor 3", RecoveryConfig{Floor: 3}, func(h *history) { h.commit(l0, 1, 2) }},
		{"floor without record", "WEIR-0381", "the floor says that it is kept", RecoveryConfig{Floor: 7}, nil},
		{"broken chain", "WEIR-0381", "does not continue", RecoveryConfig{}, func(h *history) {
			other := newHistory(1)
			other.prev = sum("x")
			other.grow(2, 3)
			h.records[2] = other.records[2]
		}},
		{"damaged record", "WEIR-0381", "the record is damaged", RecoveryConfig{}, func(h *history) { h.records[2] = h.records[2][:20] }},
		{"record of another epoch", "WEIR-0381", "the record is damaged", RecoveryConfig{}, func(h *history) { h.records[2] = h.records[1] }},
		{"damaged manifest", "WEIR-0381", "the manifest is damaged", RecoveryConfig{}, func(h *history) { h.manifests[3][30] ^= 1 }},
		{"missing manifest", "WEIR-0381", "the manifest is missing", RecoveryConfig{}, func(h *history) { delete(h.manifests, 3) }},
		{"missing older manifest", "WEIR-0381", "the manifest is missing", RecoveryConfig{}, func(h *history) { delete(h.manifests, 2) }},
		{"missing older record", "WEIR-0381", "the record is missing", RecoveryConfig{Hint: 3}, func(h *history) { delete(h.records, 2) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(3)
			if c.prep != nil {
				c.prep(h)
			}
			f, ok := h.recover(t, c.cfg).(RecoveryFailed)
			if !ok || base.CodeOf(f.Err) != c.code || !errors.Is(f.Err, base.ErrFatal) || !strings.Contains(f.Err.Error(), c.want) {
				t.Errorf("%v", f.Err)
			}
		})
	}
}

// TestRecoveryRaces: the old deployment is still alive.
func TestRecoveryRaces(t *testing.T) {
	h := newHistory(2)
	h.onMarker = func(h *history) { // it makes epoch 3 durable and commits it
		if h.records[3] == nil {
			h.grow(3, 3)
		}
		h.commit(rigLanes[0], 3, 2)
	}
	done, ok := h.recover(t, RecoveryConfig{}).(RecoveryDone)
	if !ok || done.Plan.Start.Record.Epoch != 3 || !slices.Equal(replays(done.Plan), []string{"2:1"}) {
		t.Errorf("%+v", done.Plan)
	}
	h = newHistory(2)
	h.grow(3, 5) // a newer deployment than the one that recovers
	if s, ok := h.recover(t, RecoveryConfig{Gen: 4}).(RecoverySuperseded); !ok || s.Gen != 5 {
		t.Errorf("%+v", s)
	}
}

func TestAdopt(t *testing.T) {
	tip := EpochRecord{Job: "job", Epoch: 4, Gen: 3, Attempt: NewAttempt(2, 4)}
	facts := func() AdoptionFacts {
		st := func(more ...Try) Status {
			return Status{PlanHash: sum("plan"), Held: append([]Try{tip.Try()}, more...), Confirmed: 4}
		}
		return AdoptionFacts{
			Gen:      GenRecord{Job: "job", Gen: 3, PlanHash: sum("plan"), Tasks: []Placement{{taskS, "w1", 3}, {taskK, "w2", 2}}},
			PlanHash: sum("plan"), Tip: tip,
			Reports: []TaskReport{{taskK, 2, st(Try{5, 7})}, {taskS, 3, st(Try{5, 7})}},
		}
	}
	f := facts()
	f.Reports[1].Status.Finished = true
	a, err := Adopt(f)
	if err != nil || !slices.Equal(a.Abort, []Try{{5, 7}}) || !slices.Equal(a.Finished, []TaskID{taskS}) {
		t.Fatalf("%+v, %v", a, err)
	}
	for _, c := range []struct {
		name, want string
		fatal      bool
		spoil      func(f *AdoptionFacts)
	}{
		{"another binary", "this binary has", false, func(f *AdoptionFacts) { f.PlanHash = sum("x") }},
		{"a task with another plan", "runs plan", false, func(f *AdoptionFacts) { f.Reports[0].Status.PlanHash = sum("x") }},
		{"a silent task", "did not answer", false, func(f *AdoptionFacts) { f.Reports = f.Reports[:1] }},
		{"a task of another generation", "runs as generation 1, want 2", false, func(f *AdoptionFacts) { f.Reports[0].Gen = 1 }},
		{"a tip of a newer generation", "made by generation 8", false, func(f *AdoptionFacts) { f.Tip.Gen = 8 }},
		{"a task that gave the tip up", "does not continue from", false, func(f *AdoptionFacts) { f.Reports[0].Status.Held = []Try{{4, 99}} }},
		{"a store that lost the tip", "newest one in the checkpoint store is 4", true, func(f *AdoptionFacts) { f.Reports[0].Status.Confirmed = 5 }},
	} {
		f := facts()
		c.spoil(&f)
		_, err := Adopt(f)
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, base.ErrFatal) != c.fatal {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestMatchSchemas(t *testing.T) {
	have := []Schema{{"a", "x", "1", ""}, {"a", "y", "1", ""}, {"b", "z", "1", ""}}
	changes, err := MatchSchemas(have, []Schema{{"a", "x", "1", ""}, {"a", "y", "2", ""}, {"c", "new", "1", ""}}, []string{"b"})
	if err != nil || len(changes) != 1 || changes[0].Want.Fingerprint != "2" {
		t.Errorf("%+v, %v", changes, err)
	}
	if _, err = MatchSchemas(have, have[:2], []string{"b/z"}); err != nil {
		t.Error(err)
	}
	if _, err = MatchSchemas(have, have[:2], nil); base.CodeOf(err) != "WEIR-0391" || !strings.Contains(err.Error(), "b/z") {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		TermKey("j", 3):                        "jobs/j/term/3",
		GenKey("j", 4):                         "jobs/j/gen/4",
		EpochKey("j", 9_999):                   "jobs/j/epochs/0/9999",
		EpochKey("j", 10_000):                  "jobs/j/epochs/1/10000",
		ManifestKey("j", Try{7, 1<<24 + 2}, 4): "jobs/j/man/7-4-16777218",
		DoneKey("j", 7):                        "jobs/j/done/7",
		FloorKey("j"):                          "jobs/j/floor",
		MarkerSubject("j", LaneID{"s", 2}):     "commit.j.s.2",
		NewAttempt(3, 7).String():              "3.7",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if NewAttempt(2, 1<<24-1) >= NewAttempt(3, 1) || NewAttempt(3, 7).Term() != 3 {
		t.Error("attempts of a later term must be newer")
	}
}
