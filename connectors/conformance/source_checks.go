package conformance

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

// maxEvery bounds the records of a split that a check of every position reads,
// because it reads the square of their number.
const maxEvery = 60

func checkSplits[T any](t testing.TB, f SourceFixture[T]) {
	if f.Source.Kind() == "" {
		t.Error("Kind is empty")
	}
	splits := f.splits(t)
	if !slices.IsSortedFunc(splits, func(a, b connectors.Split) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("the splits are not sorted: %v", splits)
	}
	for i, s := range splits {
		if s.ID == "" || i > 0 && s.ID == splits[i-1].ID {
			t.Errorf("the split ID %q is empty or comes twice", s.ID)
		}
	}
	if again := f.splits(t); !slices.Equal(splits, again) {
		t.Errorf("a second call lists other splits: %v, then %v", splits, again)
	}
	for id := range f.Want {
		if !slices.ContainsFunc(splits, func(s connectors.Split) bool { return s.ID == id }) {
			t.Errorf("split %q is missing in %v", id, splits)
		}
	}
}

func checkOrder[T any](t testing.TB, f SourceFixture[T]) {
	f.each(t, func(s connectors.Split, want []Item[T]) {
		var first []got[T]
		for _, max := range []int{1, 2, 7, 1000} {
			p := f.open(t, s, connectors.Position{})
			recs := p.take(len(want), max)
			p.match(recs, want, 0)
			if len(recs) != len(want) {
				t.Fatalf("split %s ended after %d of %d records", s.ID, len(recs), len(want))
			}
			for i := range first {
				if first[i].pos != recs[i].pos {
					t.Fatalf("record %d has position %d when at most %d are read at once, and %d otherwise", i, recs[i].pos, max, first[i].pos)
				}
			}
			first = recs
			p.close()
		}
	})
}

func checkResumeEverywhere[T any](t testing.TB, f SourceFixture[T]) {
	f.each(t, func(s connectors.Split, want []Item[T]) {
		want = want[:min(len(want), maxEvery)]
		p := f.open(t, s, connectors.Position{})
		start := p.reader.Position()
		whole := p.take(len(want), 1000)
		identity := p.reader.Position().Identity
		p.close()
		if identity != start.Identity {
			t.Fatalf("the identity changed from %q to %q while reading", start.Identity, identity)
		}
		for k := 0; k <= len(whole); k++ {
			after := start
			if k > 0 {
				after = connectors.Position{Started: true, Offset: whole[k-1].pos, Identity: identity}
			}
			p := f.open(t, s, after)
			recs := p.take(len(want)-k, 1000)
			p.match(recs, want, k)
			if len(recs) != len(want)-k {
				t.Fatalf("%d of %d records follow position %d", len(recs), len(want)-k, after.Offset)
			}
			for i := range recs {
				if recs[i].pos != whole[k+i].pos {
					t.Fatalf("record %d has position %d, and %d when read from position %d", k+i, whole[k+i].pos, recs[i].pos, after.Offset)
				}
			}
			p.close()
		}
	})
}

func checkResumeRandom[T any](t testing.TB, f SourceFixture[T]) {
	rng := seeded(t)
	f.each(t, func(s connectors.Split, want []Item[T]) {
		for range 5 {
			var pos connectors.Position
			for at := 0; at < len(want); {
				p := f.open(t, s, pos)
				recs := p.take(min(rng.IntN(2*len(want)/3+2), len(want)-at), 1+rng.IntN(9))
				p.match(recs, want, at)
				at += len(recs)
				if p.end && at < len(want) {
					t.Fatalf("split %s ended after %d of %d records", s.ID, at, len(want))
				}
				pos = p.reader.Position()
				p.close()
			}
		}
	})
}

func checkTwoReaders[T any](t testing.TB, f SourceFixture[T]) {
	f.each(t, func(s connectors.Split, want []Item[T]) {
		a, b := f.open(t, s, connectors.Position{}), f.open(t, s, connectors.Position{})
		half := len(want) / 2
		a.match(a.take(half, 3), want, 0)
		b.match(b.take(len(want), 5), want, 0)
		a.match(a.take(len(want)-half, 3), want, half)
		a.close()
		b.close()
	})
}

func checkEnd[T any](t testing.TB, f SourceFixture[T]) {
	if !f.Bounded {
		t.Skip("the source has no end")
	}
	f.each(t, func(s connectors.Split, want []Item[T]) {
		p := f.open(t, s, connectors.Position{})
		p.match(p.take(len(want)+1, 4), want, 0)
		if !p.end {
			t.Fatal("the split has no end")
		}
		if recs, poll, err := p.poll(10); err != nil || len(recs) > 0 || !poll.End {
			t.Fatalf("Poll after the end: %d records, %+v, %v", len(recs), poll, err)
		}
		pos := p.reader.Position()
		p.close()
		p = f.open(t, s, pos)
		if recs := p.take(1, 10); len(recs) > 0 || !p.end {
			t.Fatalf("a split that was done gives %d more records", len(recs))
		}
		p.close()
	})
}

func checkWake[T any](t testing.TB, f SourceFixture[T]) {
	if f.Append == nil {
		t.Skip("the source cannot grow")
	}
	f.each(t, func(s connectors.Split, want []Item[T]) {
		p := f.open(t, s, connectors.Position{})
		p.take(len(want), 100)
		for polls := 0; ; {
			recs, poll, err := p.poll(100)
			if err != nil || len(recs) > 0 || poll.End {
				t.Fatalf("Poll of a drained split: %d records, %+v, %v", len(recs), poll, err)
			}
			if !poll.More {
				break
			}
			if polls++; polls > 1000 {
				t.Fatal("Poll of a drained split says More again and again")
			}
		}
		for range 3 {
			next := f.Append(s.ID)
			recs := p.take(1, 10)
			p.match(recs, []Item[T]{next}, 0)
		}
		pos := p.reader.Position()
		p.close()
		next := f.Append(s.ID)
		p = f.open(t, s, pos)
		p.match(p.take(1, 10), []Item[T]{next}, 0)
		p.close()
	})
}

// mustRefuse demands that reading on from a position fails with one of the
// errors, at Open or at the first polls, and that the job stops for it.
func (f SourceFixture[T]) mustRefuse(t testing.TB, s connectors.Split, pos connectors.Position, want ...error) {
	t.Helper()
	for _, now := range f.splits(t) {
		if now.ID == s.ID {
			s = now
		}
	}
	p, err := f.tryOpen(t, s, pos)
	if err == nil {
		defer p.close()
		for range 50 {
			var recs []got[T]
			var poll connectors.Poll
			if recs, poll, err = p.poll(10); err != nil {
				break
			}
			if len(recs) > 0 || poll.End {
				t.Fatalf("reading from the stored position gave %d records, end %v, and no error", len(recs), poll.End)
			}
			if !poll.More && !p.wait(poll) {
				t.Fatal("reading from the stored position waits for ever")
			}
		}
	}
	if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }) || !errors.Is(err, base.ErrFatal) || base.CodeOf(err) == "" {
		t.Fatalf("got %v; want one of %v, fatal, with a code", err, want)
	}
}

// readSome returns the position after the first k records of a split.
func (f SourceFixture[T]) readSome(t testing.TB, s connectors.Split, k int) connectors.Position {
	t.Helper()
	p := f.open(t, s, connectors.Position{})
	p.take(k, 1000)
	pos := p.reader.Position()
	p.close()
	return pos
}

func checkRecreated[T any](t testing.TB, f SourceFixture[T]) {
	if f.Recreate == nil {
		t.Skip("a split cannot be created again")
	}
	f.each(t, func(s connectors.Split, want []Item[T]) {
		pos := f.readSome(t, s, len(want)/2)
		f.Recreate(s.ID)
		f.mustRefuse(t, s, pos, connectors.ErrIdentity, connectors.ErrPositionLost)
	})
}

func checkHeadLost[T any](t testing.TB, f SourceFixture[T]) {
	if f.LoseHead == nil {
		t.Skip("the source keeps its records")
	}
	f.each(t, func(s connectors.Split, want []Item[T]) {
		if len(want) < 4 {
			return
		}
		gone, kept := f.readSome(t, s, 1), f.readSome(t, s, 2)
		f.LoseHead(s.ID, 2)
		p := f.open(t, s, kept)
		p.match(p.take(len(want)-2, 100), want, 2)
		p.close()
		f.mustRefuse(t, s, gone, connectors.ErrPositionLost)
	})
}

func checkTailLost[T any](t testing.TB, f SourceFixture[T]) {
	if f.LoseTail == nil {
		t.Skip("the source keeps its records")
	}
	f.each(t, func(s connectors.Split, want []Item[T]) {
		pos := f.readSome(t, s, len(want))
		f.LoseTail(s.ID, len(want)/2)
		f.mustRefuse(t, s, pos, connectors.ErrPositionLost, connectors.ErrIdentity)
	})
}
