package protocol

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"pgregory.net/rapid"
)

var lane0 = LaneID{"out", 0}

// chainOf returns consecutive blocks of lane0, one per epoch listed, with the
// given numbers of chunks of 10 messages.
func chainOf(epochs []base.Epoch, chunks ...int) []Claimed {
	var out []Claimed
	var pred MarkerID
	var total uint64
	for i, n := range epochs {
		b := LaneBlock{Lane: lane0, SHA: sum(fmt.Sprint("block ", n))}
		for range chunks[i] {
			b.Chunks = append(b.Chunks, 10)
		}
		c := Claimed{n, sum(fmt.Sprint("manifest ", n)), LaneState{Block: b, Pred: pred, Before: total}}
		pred, total = c.State.End(n, c.Manifest)
		out = append(out, c)
	}
	return out
}

func markerOf(c Claimed, chunk uint32) Marker {
	return Marker{Job: "job", Lane: lane0, Epoch: c.Epoch, Chunk: chunk, Chunks: uint32(len(c.State.Block.Chunks)), Manifest: c.Manifest}
}

func laneLog(acts []LaneAction) []string {
	var out []string
	for _, a := range acts {
		switch a := a.(type) {
		case Publish:
			out = append(out, fmt.Sprintf("publish %d/%d [%d+%d) expect %d total %d", a.Marker.Epoch, a.Marker.Chunk, a.First, a.Count, a.Expect, a.Marker.Total))
		case ReadMarker:
			out = append(out, "read")
		case ReadRecord:
			out = append(out, fmt.Sprintf("record %d", a.Epoch))
		case LaneDone:
			out = append(out, fmt.Sprintf("done %d", a.Epoch))
		case LaneSuperseded:
			out = append(out, "superseded")
		case LaneBroken:
			out = append(out, "broken: "+a.Err.Error())
		}
	}
	return out
}

func TestLaneCommits(t *testing.T) {
	cs := chainOf([]base.Epoch{2, 5}, 2, 1)
	l := NewLane("job", lane0, 7, LaneStart{Known: true})
	for _, s := range []struct {
		ev   LaneEvent
		want []string
	}{
		{BlockClaimed{cs[0]}, []string{"publish 2/1 [0+10) expect 0 total 10"}},
		{BlockClaimed{cs[1]}, nil},
		{PublishOK{101}, []string{"publish 2/2 [10+10) expect 101 total 20"}},
		{BlockClaimed{cs[0]}, nil}, // repeated while under way
		{PublishOK{112}, []string{"done 2", "publish 5/1 [0+10) expect 112 total 30"}},
		{BlockClaimed{cs[0]}, []string{"done 2"}}, // repeated when done
		{PublishOK{123}, []string{"done 5"}},
		{PublishOK{123}, nil},
		{MarkerRead{}, nil},
		{BlockClaimed{cs[1]}, []string{"done 5"}},
	} {
		if got := laneLog(l.Step(s.ev)); !slices.Equal(got, s.want) {
			t.Fatalf("%#v: %q, want %q", s.ev, got, s.want)
		}
	}
	if m, known := l.Committed(); !known || m != (MarkerID{5, 1, cs[1].Manifest}) || l.Pending() != 0 {
		t.Errorf("stands at %v", m)
	}
	if p := l.queue; len(p) != 0 {
		t.Errorf("%d blocks are left", len(p))
	}
}

// TestLaneOutcomes: every marker that can be found after an unknown or refused
// publish of chunk 2 of epoch 5, whose lane has epochs 2 (2 chunks), 5 (3) and 6.
func TestLaneOutcomes(t *testing.T) {
	cs := chainOf([]base.Epoch{2, 5, 6, 9}, 2, 3, 1, 1)
	foreign := cs[1]
	foreign.Manifest = sum("foreign")
	setup := func() *Lane {
		l := NewLane("job", lane0, 7, LaneStart{Known: true, Marker: MarkerID{2, 2, cs[0].Manifest}, Seq: 50})
		l.Step(BlockClaimed{cs[1]})
		l.Step(BlockClaimed{cs[2]})
		l.Step(PublishOK{60})
		return l
	}
	for _, c := range []struct {
		name string
		read MarkerRead
		want []string
	}{
		{"predecessor: resend", MarkerRead{Found: true, Marker: markerOf(cs[1], 1), Seq: 60}, []string{"publish 5/2 [10+10) expect 60 total 40"}},
		{"ours: go on", MarkerRead{Found: true, Marker: markerOf(cs[1], 2), Seq: 70}, []string{"publish 5/3 [20+10) expect 70 total 50"}},
		{"later chunk: go on", MarkerRead{Found: true, Marker: markerOf(cs[1], 3), Seq: 80}, []string{"done 5", "publish 6/1 [0+10) expect 80 total 60"}},
		{"a queued later epoch: all done", MarkerRead{Found: true, Marker: markerOf(cs[2], 1), Seq: 90}, []string{"done 5", "done 6"}},
		{"newer than all: ask", MarkerRead{Found: true, Marker: markerOf(cs[3], 1), Seq: 99}, []string{"record 9"}},
		{"error: again", MarkerRead{Err: errors.New("timeout")}, []string{"read"}},
		{"missing", MarkerRead{}, []string{"broken: the marker was 5/1"}},
		{"rolled back", MarkerRead{Found: true, Marker: markerOf(cs[0], 2), Seq: 50}, []string{"broken: the marker was 5/1"}},
		{"predecessor moved", MarkerRead{Found: true, Marker: markerOf(cs[1], 1), Seq: 61}, []string{"broken: marker 5/1"}},
		{"other manifest", MarkerRead{Found: true, Marker: markerOf(foreign, 2), Seq: 70}, []string{"broken: marker 5/2"}},
		{"too many chunks", MarkerRead{Found: true, Marker: markerOf(cs[1], 4), Seq: 70}, []string{"broken: marker 5/4"}},
		{"other lane", MarkerRead{Found: true, Marker: Marker{Job: "job", Lane: LaneID{"out", 1}, Epoch: 5, Chunk: 2}}, []string{"broken: the marker belongs"}},
	} {
		for _, ev := range []LaneEvent{PublishUnknown{}, PublishConflict{}} {
			l := setup()
			if got := laneLog(l.Step(ev)); !slices.Equal(got, []string{"read"}) {
				t.Fatalf("%s: %q", c.name, got)
			}
			acts := l.Step(c.read)
			got := laneLog(acts)
			for i := range got {
				if i < len(c.want) && strings.HasPrefix(c.want[i], "broken") && strings.Contains(got[i], strings.TrimPrefix(c.want[i], "broken: ")) {
					if err := acts[i].(LaneBroken).Err; !errors.Is(err, base.ErrFatal) || base.CodeOf(err) != "WEIR-0580" {
						t.Errorf("%s: %v", c.name, err)
					}
					got[i] = c.want[i]
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		}
	}
}

// TestLaneNewerMarker: a marker that is newer than every block handed in.
func TestLaneNewerMarker(t *testing.T) {
	cs := chainOf([]base.Epoch{2, 5}, 1, 1)
	for _, c := range []struct {
		name     string
		restored base.Epoch
		read     RecordRead
		want     string
	}{
		{"a newer deployment", 2, RecordRead{Found: true, Manifest: cs[1].Manifest}, "superseded"},
		{"another process replays", 5, RecordRead{Found: true, Manifest: cs[1].Manifest}, "done 2"},
		{"unknown epoch", 2, RecordRead{}, "ahead of the checkpoint store"},
		{"foreign", 2, RecordRead{Found: true, Manifest: sum("x")}, "foreign"},
		{"error", 2, RecordRead{Err: errors.New("timeout")}, "record 5"},
	} {
		l := NewLane("job", lane0, 7, LaneStart{Restored: c.restored})
		l.Step(BlockClaimed{cs[0]})
		l.Step(MarkerRead{Found: true, Marker: markerOf(cs[1], 1), Seq: 9})
		got := laneLog(l.Step(c.read))
		if len(got) != 1 || !strings.Contains(got[0], c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
		if c.want == "done 2" {
			l.Step(BlockClaimed{cs[1]})
			if got := laneLog(l.Step(MarkerRead{Found: true, Marker: markerOf(cs[1], 1), Seq: 9})); !slices.Equal(got, []string{"done 5"}) {
				t.Errorf("%s: %q", c.name, got)
			}
		}
	}
}

func TestLaneRefuses(t *testing.T) {
	cs := chainOf([]base.Epoch{2, 5}, 1, 1)
	other := cs[0]
	other.Manifest = sum("x")
	empty := cs[0]
	empty.State.Block.Chunks = nil
	gap := cs[1]
	gap.State.Pred.Chunk = 2
	for name, evs := range map[string][]LaneEvent{
		"a gap":            {BlockClaimed{cs[0]}, BlockClaimed{gap}},
		"another manifest": {BlockClaimed{cs[0]}, BlockClaimed{other}},
		"no messages":      {BlockClaimed{empty}},
	} {
		l := NewLane("job", lane0, 7, LaneStart{Known: true})
		var last []LaneAction
		for _, ev := range evs {
			last = l.Step(ev)
		}
		if len(last) != 1 {
			t.Fatalf("%s: %v", name, last)
		}
		if _, ok := last[0].(LaneBroken); !ok {
			t.Errorf("%s: %v", name, last)
		}
		if l.Step(PublishOK{5}) != nil {
			t.Errorf("%s: it goes on", name)
		}
	}
}

// TestLaneRandom runs several committers of one lane, each knowing the same
// durable blocks but told of them at different times, against a sink with random
// outcomes and late batches. What is visible must always be a beginning of the
// blocks, and in the end all of them.
func TestLaneRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "epochs")
		var epochs []base.Epoch
		var chunks []int
		for i := range n {
			epochs = append(epochs, base.Epoch(2*i+1))
			chunks = append(chunks, rapid.IntRange(1, 3).Draw(t, "chunks"))
		}
		cs := chainOf(epochs, chunks...)
		var want []MarkerID
		for _, c := range cs {
			for k := range c.State.Block.Chunks {
				want = append(want, MarkerID{c.Epoch, uint32(k + 1), c.Manifest})
			}
		}
		s := sinkSim{t: t, want: want, cs: cs}
		for range rapid.IntRange(1, 3).Draw(t, "processes") {
			s.procs = append(s.procs, &laneProc{l: NewLane("job", lane0, 7, LaneStart{Restored: epochs[n-1]})})
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			s.step(s.procs[rapid.IntRange(0, len(s.procs)-1).Draw(t, "process")], true)
		}
		for range 200 { // without faults
			for _, p := range s.procs {
				s.step(p, false)
			}
		}
		if len(s.got) != len(want) {
			t.Fatalf("%d of %d chunks are visible", len(s.got), len(want))
		}
		for i, p := range s.procs {
			if p.done != epochs[n-1] {
				t.Fatalf("process %d stopped at epoch %d", i, p.done)
			}
		}
	})
}

type laneProc struct {
	l    *Lane
	told int
	done base.Epoch
	open LaneAction
}

type sinkSim struct {
	t     *rapid.T
	cs    []Claimed
	want  []MarkerID
	got   []MarkerID
	late  []Publish
	procs []*laneProc
}

func (s *sinkSim) apply(p Publish) bool {
	if p.Expect != uint64(len(s.got)) {
		return false
	}
	s.got = append(s.got, p.Marker.ID())
	if i := len(s.got); i > len(s.want) || s.got[i-1] != s.want[i-1] || p.Marker.Total != uint64(10*i) {
		s.t.Fatalf("visible %v, want a beginning of %v", s.got, s.want)
	}
	return true
}

// step tells the process of a block, or answers its open access.
func (s *sinkSim) step(p *laneProc, faults bool) {
	pick := func(n int, what string) int {
		if !faults {
			return 0
		}
		return rapid.IntRange(0, n).Draw(s.t, what)
	}
	if p.told < len(s.cs) && (p.open == nil || pick(2, "tell") == 2) {
		p.told++
		s.carry(p, p.l.Step(BlockClaimed{s.cs[p.told-1]}))
		return
	}
	switch a := p.open.(type) {
	case Publish:
		switch pick(4, "outcome") {
		case 1: // late
			s.late = append(s.late, a)
			s.feed(p, PublishUnknown{})
		case 2: // lost
			s.feed(p, PublishUnknown{})
		case 3:
			s.apply(a)
			s.feed(p, PublishUnknown{})
		default:
			if s.apply(a) {
				s.feed(p, PublishOK{uint64(len(s.got))})
			} else {
				s.feed(p, PublishConflict{})
			}
		}
	case ReadMarker:
		if pick(4, "read error") == 4 {
			s.feed(p, MarkerRead{Err: errors.New("timeout")})
			return
		}
		r := MarkerRead{}
		if i := len(s.got); i > 0 {
			m := s.got[i-1]
			r = MarkerRead{Found: true, Seq: uint64(i), Marker: Marker{Job: "job", Lane: lane0, Epoch: m.Epoch, Chunk: m.Chunk, Manifest: m.Manifest}}
		}
		s.feed(p, r)
	case ReadRecord:
		for _, c := range s.cs {
			if c.Epoch == a.Epoch {
				s.feed(p, RecordRead{Found: true, Manifest: c.Manifest})
			}
		}
	}
	if len(s.late) > 0 && pick(2, "arrive") == 2 {
		s.apply(s.late[0])
		s.late = s.late[1:]
	}
}

func (s *sinkSim) feed(p *laneProc, ev LaneEvent) {
	p.open = nil
	s.carry(p, p.l.Step(ev))
}

func (s *sinkSim) carry(p *laneProc, acts []LaneAction) {
	for _, a := range acts {
		switch a := a.(type) {
		case LaneDone:
			p.done = a.Epoch
		case LaneBroken:
			s.t.Fatal(a.Err)
		case LaneSuperseded:
			s.t.Fatalf("superseded by %v", a.By.ID())
		default:
			p.open = a
		}
	}
}
