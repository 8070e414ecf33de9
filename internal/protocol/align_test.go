package protocol

import (
	"slices"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"pgregory.net/rapid"
)

func barrier(n base.Epoch, a Attempt) Barrier { return Barrier{Try: Try{n, a}} }

func kinds(acts []AlignAction) []AlignKind {
	var ks []AlignKind
	for _, a := range acts {
		ks = append(ks, a.Kind)
	}
	return ks
}

func TestAligner(t *testing.T) {
	done := []AlignKind{AlignSnapshot, AlignForward, AlignUnblockAll}
	for _, c := range []struct {
		name   string
		inputs int
		feed   func(a *Aligner) []AlignAction
		want   []AlignKind
	}{
		{"a source snapshots at once", 0, func(a *Aligner) []AlignAction { return a.Barrier(0, barrier(1, 1), nil) }, done},
		{"one input snapshots at once", 1, func(a *Aligner) []AlignAction { return a.Barrier(0, barrier(1, 1), nil) }, done},
		{"the first of two blocks", 2, func(a *Aligner) []AlignAction { return a.Barrier(0, barrier(1, 1), nil) }, []AlignKind{AlignBlock}},
		{"the second completes", 2, func(a *Aligner) []AlignAction {
			a.Barrier(0, barrier(1, 1), nil)
			return a.Barrier(1, barrier(1, 1), nil)
		}, done},
		{"a newer attempt aborts", 3, func(a *Aligner) []AlignAction {
			a.Barrier(0, barrier(1, 1), nil)
			return a.Barrier(1, barrier(1, 2), nil)
		}, []AlignKind{AlignAbort, AlignUnblockAll, AlignBlock}},
		{"an older attempt is ignored", 2, func(a *Aligner) []AlignAction {
			a.Barrier(0, barrier(1, 2), nil)
			return a.Barrier(1, barrier(1, 1), nil)
		}, nil},
		{"a repeated try is ignored", 1, func(a *Aligner) []AlignAction {
			a.Barrier(0, barrier(1, 1), nil)
			return a.Barrier(0, barrier(1, 1), nil)
		}, nil},
		{"cancel releases", 2, func(a *Aligner) []AlignAction {
			a.Barrier(0, barrier(1, 1), nil)
			return a.Cancel(Try{1, 1}, nil)
		}, []AlignKind{AlignAbort, AlignUnblockAll}},
		{"a cancelled try stays cancelled", 2, func(a *Aligner) []AlignAction {
			a.Cancel(Try{1, 1}, nil)
			return a.Barrier(0, barrier(1, 1), nil)
		}, nil},
		{"the end of the missing input completes", 2, func(a *Aligner) []AlignAction {
			a.Barrier(0, barrier(1, 1), nil)
			return a.End(1, nil)
		}, done},
		{"the end of an aligned input changes nothing", 2, func(a *Aligner) []AlignAction {
			a.Barrier(0, barrier(1, 1), nil)
			return a.End(0, nil)
		}, nil},
		{"an ended input counts as aligned", 2, func(a *Aligner) []AlignAction {
			a.End(1, nil)
			return a.Barrier(0, barrier(1, 1), nil)
		}, done},
		{"a finished source's barrier suffices when all have ended", 2, func(a *Aligner) []AlignAction {
			a.End(0, nil)
			a.End(1, nil)
			a.End(1, nil)
			return a.Barrier(1, barrier(1, 1), nil)
		}, done},
		{"a finished source's barrier does not stand for a live input", 2, func(a *Aligner) []AlignAction {
			a.End(0, nil)
			return a.Barrier(0, barrier(1, 1), nil)
		}, nil},
	} {
		if got := kinds(c.feed(NewAligner(c.inputs, Try{}))); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestAlignerCut feeds random interleavings of input channels that hold records
// and barriers of several tries, some given up, and checks on every snapshot
// that exactly the records before the barrier were read on every input.
func TestAlignerCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inputs := rapid.IntRange(1, 4).Draw(t, "inputs")
		tries := []Try{{1, 1}, {1, 2}, {2, 3}}
		type item struct {
			try Try // zero: a record
			end bool
		}
		var chans [][]item
		before := map[Try][]int{} // records before the barrier, per input
		for i := range inputs {
			var ch []item
			n := 0
			for _, try := range tries {
				for range rapid.IntRange(0, 2).Draw(t, "records") {
					ch = append(ch, item{})
					n++
				}
				ch = append(ch, item{try: try})
				if before[try] == nil {
					before[try] = make([]int, inputs)
				}
				before[try][i] = n
			}
			if rapid.Bool().Draw(t, "ends") {
				at := rapid.IntRange(0, len(ch)).Draw(t, "end")
				ch = slices.Insert(ch, at, item{end: true})
				for k := at + 1; k < len(ch); k++ { // only barriers follow an end
					if ch[k].try == (Try{}) {
						ch = slices.Delete(ch, k, k+1)
						k--
					}
				}
				n = 0
				for _, x := range ch {
					if x == (item{}) {
						n++
					}
					if x.try != (Try{}) {
						before[x.try][i] = n
					}
				}
			}
			chans = append(chans, ch)
		}
		a := NewAligner(inputs, Try{})
		read := make([]int, inputs)
		blocked := make([]bool, inputs)
		var snaps []Try
		handle := func(acts []AlignAction) {
			for _, act := range acts {
				switch act.Kind {
				case AlignBlock:
					blocked[act.Input] = true
				case AlignUnblockAll:
					clear(blocked)
				case AlignSnapshot:
					snaps = append(snaps, act.Barrier.Try)
					if !slices.Equal(read, before[act.Barrier.Try]) {
						t.Fatalf("snapshot %s after %v records, want %v", act.Barrier.Try, read, before[act.Barrier.Try])
					}
				}
			}
		}
		for {
			var ready []int
			for i := range chans {
				if blocked[i] != a.Blocked(i) {
					t.Fatalf("input %d blocked: %v, but Blocked says %v", i, blocked[i], a.Blocked(i))
				}
				if len(chans[i]) > 0 && !blocked[i] {
					ready = append(ready, i)
				}
			}
			if len(ready) == 0 {
				break
			}
			i := rapid.SampledFrom(ready).Draw(t, "input")
			x := chans[i][0]
			chans[i] = chans[i][1:]
			switch {
			case x.end:
				handle(a.End(i, nil))
			case x.try != Try{}:
				handle(a.Barrier(i, Barrier{Try: x.try}, nil))
			default:
				read[i]++
			}
			if rapid.IntRange(0, 20).Draw(t, "cancel") == 0 {
				handle(a.Cancel(Try{1, 1}, nil))
			}
		}
		if len(snaps) == 0 || snaps[len(snaps)-1] != tries[len(tries)-1] {
			t.Fatalf("snapshots %v: the last try was not completed", snaps)
		}
		for i := 1; i < len(snaps); i++ {
			if !snaps[i].Newer(snaps[i-1]) {
				t.Fatalf("snapshots %v are out of order", snaps)
			}
		}
	})
}

func TestAlignerAllocatesNothing(t *testing.T) {
	a := NewAligner(3, Try{})
	out := make([]AlignAction, 0, 8)
	n := Attempt(0)
	if got := testing.AllocsPerRun(100, func() {
		n++
		for i := range 3 {
			out = a.Barrier(i, barrier(1, n), out[:0])
		}
	}); got != 0 {
		t.Errorf("%v allocations per alignment", got)
	}
	if len(out) != 3 {
		t.Errorf("no alignment: %v", out)
	}
}
