package protocol

import (
	"slices"
	"testing"

	"github.com/weirflow/weir/internal/base"
)

func after(n base.Epoch, a, prev Attempt) Barrier { return Barrier{Try{n, a}, Trigger{Prev: prev}} }

func participantKinds(acts []ParticipantAction) []ParticipantKind {
	var ks []ParticipantKind
	for _, a := range acts {
		ks = append(ks, a.Kind)
	}
	return ks
}

func TestParticipant(t *testing.T) {
	for _, c := range []struct {
		name string
		from Try
		feed func(p *Participant) []ParticipantAction
		want []ParticipantKind
	}{
		{"first epoch", Try{}, func(p *Participant) []ParticipantAction { return p.Barrier(after(1, 1, 0)) }, []ParticipantKind{TakeSnapshot}},
		{"a newer attempt folds the older back", Try{}, func(p *Participant) []ParticipantAction {
			p.Barrier(after(1, 1, 0))
			return p.Barrier(after(1, 2, 0))
		}, []ParticipantKind{FoldBack, TakeSnapshot}},
		{"abort", Try{}, func(p *Participant) []ParticipantAction {
			p.Barrier(after(1, 1, 0))
			return p.Abort(Try{1, 1})
		}, []ParticipantKind{FoldBack}},
		{"abort of something else", Try{}, func(p *Participant) []ParticipantAction {
			p.Barrier(after(1, 1, 0))
			return p.Abort(Try{1, 2})
		}, nil},
		{"complete", Try{}, func(p *Participant) []ParticipantAction {
			p.Barrier(after(1, 1, 0))
			return p.Complete(Try{1, 1})
		}, []ParticipantKind{Confirm}},
		{"complete again", Try{}, func(p *Participant) []ParticipantAction {
			p.Barrier(after(1, 1, 0))
			p.Complete(Try{1, 1})
			return p.Complete(Try{1, 1})
		}, []ParticipantKind{Repeat}},
		{"complete of the restored epoch and older ones", Try{5, 1}, func(p *Participant) []ParticipantAction {
			return append(p.Complete(Try{4, 9}), p.Complete(Try{5, 1})...)
		}, []ParticipantKind{Repeat, Repeat}},
		{"another attempt became durable", Try{}, func(p *Participant) []ParticipantAction {
			p.Barrier(after(1, 1, 0))
			return p.Complete(Try{1, 2})
		}, []ParticipantKind{StopTask}},
		{"another attempt of the restored epoch", Try{5, 1}, func(p *Participant) []ParticipantAction { return p.Complete(Try{5, 2}) }, []ParticipantKind{StopTask}},
		{"the next epoch before the news of the last", Try{}, func(p *Participant) []ParticipantAction {
			p.Barrier(after(1, 1, 0))
			return p.Barrier(after(2, 2, 1))
		}, []ParticipantKind{TakeSnapshot}},
		{"the next epoch continues from an attempt that was given up", Try{}, func(p *Participant) []ParticipantAction {
			p.Barrier(after(1, 1, 0))
			p.Barrier(after(1, 2, 0))
			return p.Barrier(after(2, 3, 1))
		}, []ParticipantKind{StopTask}},
		{"a barrier of a durable epoch", Try{5, 1}, func(p *Participant) []ParticipantAction { return p.Barrier(after(5, 7, 0)) }, []ParticipantKind{StopTask}},
		{"an abort of a durable epoch changes nothing", Try{5, 1}, func(p *Participant) []ParticipantAction { return p.Abort(Try{5, 1}) }, nil},
		{"a restored epoch is held", Try{5, 1}, func(p *Participant) []ParticipantAction { return p.Barrier(after(6, 2, 1)) }, []ParticipantKind{TakeSnapshot}},
	} {
		p := NewParticipant(c.from)
		if got := participantKinds(c.feed(p)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	p := NewParticipant(Try{5, 1})
	p.Barrier(after(6, 2, 1))
	p.Barrier(after(7, 3, 2))
	p.Complete(Try{6, 2})
	held, confirmed := p.Status()
	if !slices.Equal(held, []Try{{6, 2}, {7, 3}}) || confirmed != 6 {
		t.Errorf("holds %v, confirmed %d", held, confirmed)
	}
}

func TestFence(t *testing.T) {
	f := Fence{"job", 3, 5}
	for _, c := range []struct {
		m    Message
		want Verdict
	}{
		{Message{Job: "job", Term: 3, Gen: 5}, Admit},
		{Message{Job: "job", Term: 4, Gen: 5}, NewTerm},
		{Message{Job: "job", Term: 2, Gen: 5}, Stale},
		{Message{Job: "job", Term: 9, Gen: 4}, Stale},
		{Message{Job: "job", Term: 1, Gen: 6}, NewGeneration},
		{Message{Job: "other", Term: 3, Gen: 5}, Foreign},
	} {
		if got := f.Admit(&c.m); got != c.want {
			t.Errorf("%+v: %d, want %d", c.m, got, c.want)
		}
	}
}
