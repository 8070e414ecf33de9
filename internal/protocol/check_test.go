package protocol

import (
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"pgregory.net/rapid"
)

func TestManifestCheck(t *testing.T) {
	if err := sampleManifest().Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		spoil      func(m *Manifest)
	}{
		{"no job", "needs a job", func(m *Manifest) { m.Job = "" }},
		{"no previous record", "previous record", func(m *Manifest) { m.Prev = SHA{} }},
		{"tasks out of order", "out of order", func(m *Manifest) { m.Tasks[0], m.Tasks[2] = m.Tasks[2], m.Tasks[0] }},
		{"a task twice", "out of order", func(m *Manifest) { m.Tasks[2] = m.Tasks[1] }},
		{"a range is missing", "no task of operator by-user owns", func(m *Manifest) { m.Tasks = append(m.Tasks[:1], m.Tasks[2]) }},
		{"ranges overlap", "was next", func(m *Manifest) { m.Tasks[1].Range.Lo-- }},
		{"ranges leave a gap", "was next", func(m *Manifest) { m.Tasks[1].Range.Lo++ }},
		{"a range beyond the last", "has tasks after", func(m *Manifest) { m.Tasks[1].Range.Lo, m.Tasks[0].Range = 5, base.FullRange }},
		{"range without key", "not keyed", func(m *Manifest) { m.Tasks[2].Range.Hi = 1 }},
		{"missing base", "base is missing", func(m *Manifest) { m.Tasks[0].Objects = m.Tasks[0].Objects[1:] }},
		{"missing delta", "a delta is missing between barriers 5 and 6", func(m *Manifest) {
			o := m.Tasks[0].Objects
			m.Tasks[0].Objects = append(o[:1:1], o[2])
		}},
		{"base of half the range", "base is missing", func(m *Manifest) { m.Tasks[0].Objects[0].Range.Lo = 10 }},
		{"base in the middle", "follows other objects", func(m *Manifest) {
			m.Tasks[0].Objects[1] = ObjectRef{Kind: KindBase, SHA: sum("x"), Range: base.FullRange, Epoch: 6}
		}},
		{"object of a later epoch", "barrier 8 in epoch 7", func(m *Manifest) { m.Tasks[0].Objects[2].Epoch = 8 }},
		{"inline of another size", "bytes inline", func(m *Manifest) { m.Tasks[0].Objects[2].Size = 2 }},
		{"object without sum", "no sum", func(m *Manifest) { m.Tasks[0].Objects[1].SHA = SHA{} }},
		{"snapshot twice", "out of order", func(m *Manifest) { n := &m.Tasks[0].Named; *n = append(*n, (*n)[0]) }},
		{"split twice", "out of order", func(m *Manifest) { m.Splits = append(m.Splits, m.Splits[0]) }},
		{"lanes out of order", "out of order", func(m *Manifest) { m.Lanes[0], m.Lanes[1] = m.Lanes[1], m.Lanes[0] }},
		{"empty chunk", "no messages", func(m *Manifest) { m.Lanes[0].Block.Chunks[1] = 0 }},
		{"predecessor of this epoch", "predecessor of epoch 7", func(m *Manifest) { m.Lanes[0].Pred.Epoch = 7 }},
		{"messages before nothing", "predecessor 0/0", func(m *Manifest) { m.Lanes[1].Before = 3 }},
	} {
		m := sampleManifest()
		c.spoil(m)
		if err := m.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestManifestCheckNext(t *testing.T) {
	prev := sampleManifest()
	sha := sum("manifest 7")
	next := func() *Manifest {
		m := sampleManifest()
		m.Epoch, m.Final = 8, NotFinal
		for i := range m.Lanes {
			m.Lanes[i].Pred, m.Lanes[i].Before = prev.Lanes[i].End(7, sha)
			m.Lanes[i].Block = LaneBlock{Lane: m.Lanes[i].Block.Lane}
		}
		return m
	}
	if err := next().CheckNext(prev, sha); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		spoil      func(m *Manifest)
	}{
		{"an epoch is skipped", "follows epoch 7", func(m *Manifest) { m.Epoch = 9 }},
		{"an older generation", "follows epoch 7", func(m *Manifest) { m.Gen = 3 }},
		{"the source goes back", "went back from 70000 to 69999", func(m *Manifest) { m.Splits[0].Offset-- }},
		{"the lane's predecessor", "stands at", func(m *Manifest) { m.Lanes[0].Pred.Chunk = 1 }},
		{"the lane's count", "stands at", func(m *Manifest) { m.Lanes[0].Before++ }},
	} {
		m := next()
		c.spoil(m)
		if err := m.CheckNext(prev, sha); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	lost := next()
	lost.Splits = nil
	if err := lost.CheckNext(prev, sha); err != nil {
		t.Errorf("a finished split may go: %v", err)
	}
	prev.Splits[0].Finished = false
	if err := lost.CheckNext(prev, sha); err == nil {
		t.Error("an unfinished split was lost unnoticed")
	}
}

// TestCheckChainAgainstPoints compares CheckChain with a check of single hashes:
// it must accept a chain exactly when every hash has a complete one.
func TestCheckChainAgainstPoints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const space = 8
		task := TaskState{Keyed: true, Range: base.HashRange{Lo: 1, Hi: space - 2}}
		for range rapid.IntRange(0, 5).Draw(t, "objects") {
			lo := rapid.Uint64Range(0, space-1).Draw(t, "lo")
			o := ObjectRef{
				Kind: KindDelta, SHA: sum("o"), Range: base.HashRange{Lo: lo, Hi: rapid.Uint64Range(lo, space-1).Draw(t, "hi")},
				Since: base.Epoch(rapid.IntRange(0, 3).Draw(t, "since")),
			}
			o.Epoch = max(o.Since+base.Epoch(rapid.IntRange(0, 2).Draw(t, "length")), 1)
			if rapid.Bool().Draw(t, "base") {
				o.Kind, o.Since = KindBase, 0
			}
			task.Objects = append(task.Objects, o)
		}
		complete := true
		for h := task.Range.Lo; h <= task.Range.Hi; h++ {
			var at base.Epoch
			var onlyBase base.Epoch
			for _, o := range task.Objects {
				if !o.Range.Contains(h) {
					continue
				}
				switch {
				case o.Kind == KindBase:
					complete = complete && (at == 0 || onlyBase == o.Epoch)
					onlyBase = o.Epoch
				default:
					complete = complete && o.Since == at
					onlyBase = 0
				}
				at = o.Epoch
			}
		}
		if err := task.CheckChain(10); (err == nil) != complete {
			t.Fatalf("complete: %v, CheckChain: %v, objects %+v", complete, err, task.Objects)
		}
	})
}
