package state

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state/blob"
)

// FuzzObject reads arbitrary bytes as an object: it must answer with an error of
// the right kind or with entries, never panic, and never allocate beyond reason.
func FuzzObject(f *testing.F) {
	h := newHarness(f, openTestStore(f, blob.Memory(), 0), base.FullRange, rand.New(rand.NewPCG(1, 1)))
	for e := base.Epoch(1); e <= 3; e++ {
		for range 60 {
			h.step(50, 2)
		}
		h.b.Freeze(e)
		h.b.CopyAll()
		s, err := h.waitSnap(int(e) - 1)
		if err != nil {
			f.Fatal(err)
		}
		for _, o := range s.Chain {
			f.Add(o.Inline)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := readEverything(b); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, errVersion) {
			t.Fatal(err)
		}
		// Blocks and footers behind a sum: skip it.
		if foot, err := parseFooter(b, int64(len(b))); err == nil && len(foot.groups)+len(foot.blocks) > len(b) {
			t.Fatal("a footer grew")
		}
		_ = eachEntry(b, &groupInfo{key: KeyUint64, valueSize: 8})
		_ = eachEntry(b, &groupInfo{key: KeyBytes, scattered: true})
		_ = eachEntry(b, &groupInfo{key: KeyBytes})
	})
}

func readEverything(b []byte) error {
	r, foot, err := openObject(b)
	if err != nil {
		return err
	}
	for i := range foot.blocks {
		block, err := r.block(i)
		if err != nil {
			return err
		}
		if err := eachSection(block, func(*section) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

func eachEntry(b []byte, g *groupInfo) error {
	return eachSection(b, func(s *section) error {
		var e entry
		for range s.count {
			if err := s.next(g, &e); err != nil {
				return err
			}
		}
		return nil
	})
}
