package conformance

import (
	"cmp"
	"context"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/clock"
)

// SourceFixture is a source over a fresh store that already holds the records in
// Want.
type SourceFixture[T any] struct {
	Source connectors.Source[T]
	// Want lists for each split what it holds, in order; at least 10 records in
	// one split make the checks worth something.
	Want map[string][]Item[T]
	// Equal compares two values; nil means reflect.DeepEqual.
	Equal func(a, b T) bool
	// Clock is the job's clock; nil means the real one. A *clock.Virtual is
	// advanced by the suite to whatever time a reader waits for.
	Clock clock.Clock
	// Context is what the source is called with; nil means the test's own.
	Context context.Context
	// Limits bounds records; the zero value means connectors.DefaultLimits.
	Limits connectors.Limits
	// Patience is how long a record that must come may take; 0 means 20 s.
	Patience time.Duration
	// Bounded: the source ends after the records in Want.
	Bounded bool

	// Append adds one record to a split and returns what a reader must see; nil
	// when the source cannot grow.
	Append func(split string) Item[T]
	// Recreate replaces a split by an empty or different one of the same name;
	// nil when the system has no such thing.
	Recreate func(split string)
	// LoseHead removes the first n records of a split, as retention does.
	LoseHead func(split string, n int)
	// LoseTail removes all but the first n records of a split.
	LoseTail func(split string, n int)
}

// Item is one record of a split: a value, or one that must come as a BadRecord.
type Item[T any] struct {
	Value T
	Bad   bool
}

// Source runs the suite for sources.
func Source[T any](t *testing.T, factory func(t testing.TB) SourceFixture[T]) {
	t.Helper()
	run(t, factory, sourceChecks[T]())
}

func sourceChecks[T any]() []check[SourceFixture[T]] {
	return []check[SourceFixture[T]]{
		{"splits", checkSplits[T]},
		{"order", checkOrder[T]},
		{"resume from every position", checkResumeEverywhere[T]},
		{"resume after closing anywhere", checkResumeRandom[T]},
		{"two readers", checkTwoReaders[T]},
		{"end", checkEnd[T]},
		{"wake", checkWake[T]},
		{"re-created", checkRecreated[T]},
		{"head lost", checkHeadLost[T]},
		{"tail lost", checkTailLost[T]},
	}
}

// got is a record as it came, with its position.
type got[T any] struct {
	Item[T]
	pos uint64
}

// tap drives one reader.
type tap[T any] struct {
	t      testing.TB
	f      SourceFixture[T]
	reader connectors.Reader[T]
	wake   chan struct{}
	dst    connectors.Records[T]
	last   uint64 // highest position so far
	end    bool
}

func (f SourceFixture[T]) clock() clock.Clock {
	if f.Clock == nil {
		return clock.Real()
	}
	return f.Clock
}

func (f SourceFixture[T]) patience() time.Duration {
	if f.Patience == 0 {
		return defaultPatience
	}
	return f.Patience
}

func (f SourceFixture[T]) ctx(t testing.TB) context.Context {
	if f.Context == nil {
		return t.Context()
	}
	return f.Context
}

func (f SourceFixture[T]) same(a, b Item[T]) bool {
	if a.Bad || b.Bad {
		return a.Bad == b.Bad
	}
	if f.Equal != nil {
		return f.Equal(a.Value, b.Value)
	}
	return reflect.DeepEqual(a.Value, b.Value)
}

func (f SourceFixture[T]) splits(t testing.TB) []connectors.Split {
	t.Helper()
	splits, err := f.Source.Splits(f.ctx(t))
	if err != nil {
		t.Fatalf("Splits: %v", err)
	}
	return splits
}

// each calls fn with every split that holds records.
func (f SourceFixture[T]) each(t testing.TB, fn func(s connectors.Split, want []Item[T])) {
	t.Helper()
	seen := false
	for _, s := range f.splits(t) {
		if want := f.Want[s.ID]; len(want) > 0 {
			seen = true
			fn(s, want)
		}
	}
	if !seen {
		t.Fatal("the fixture holds no records: nothing was checked")
	}
}

func (f SourceFixture[T]) tryOpen(t testing.TB, s connectors.Split, after connectors.Position) (*tap[T], error) {
	p := &tap[T]{t: t, f: f, wake: make(chan struct{}, 1), last: after.Offset}
	limits := f.Limits
	if limits == (connectors.Limits{}) {
		limits = connectors.DefaultLimits
	}
	r, err := f.Source.Open(f.ctx(t), s, after, connectors.ReaderEnv{
		Wake: func() {
			select {
			case p.wake <- struct{}{}:
			default:
			}
		},
		Clock:  f.clock(),
		Limits: limits,
	})
	p.reader = r
	return p, err
}

func (f SourceFixture[T]) open(t testing.TB, s connectors.Split, after connectors.Position) *tap[T] {
	t.Helper()
	p, err := f.tryOpen(t, s, after)
	if err != nil {
		t.Fatalf("Open(%s, %+v): %v", s.ID, after, err)
	}
	if pos := p.reader.Position(); !pos.Started || pos.Offset != after.Offset && after.Started {
		t.Fatalf("Position after Open(%s, %+v) is %+v", s.ID, after, pos)
	}
	return p
}

func (p *tap[T]) close() {
	p.t.Helper()
	if err := p.reader.Close(); err != nil {
		p.t.Fatalf("Close: %v", err)
	}
}

// take reads n records, or fewer when the split ends, at most max in one Poll.
func (p *tap[T]) take(n, max int) []got[T] {
	p.t.Helper()
	var all []got[T]
	wall := clock.Real()
	for last := wall.Mono(); len(all) < n && !p.end; {
		recs, poll, err := p.poll(min(max, n-len(all)))
		if err != nil {
			p.t.Fatalf("Poll: %v", err)
		}
		all = append(all, recs...)
		if len(recs) > 0 {
			last = wall.Mono()
		} else if wall.Mono()-last > int64(p.f.patience()) {
			p.t.Fatalf("Poll gave nothing for %v after %d records; %d are wanted", p.f.patience(), len(all), n)
		}
		if len(recs) == 0 && !poll.More && !p.end && !p.wait(poll) {
			p.t.Fatalf("Poll announced nothing for %v after %d records; %d are wanted", p.f.patience(), len(all), n)
		}
	}
	return all
}

// poll calls Poll once and checks what it hands over.
func (p *tap[T]) poll(max int) ([]got[T], connectors.Poll, error) {
	p.t.Helper()
	p.dst.Reset()
	poll, err := p.reader.Poll(&p.dst, max)
	if err != nil {
		return nil, poll, err
	}
	d := &p.dst
	n := len(d.Values)
	if len(d.Times) != n || len(d.Pos) != n || len(d.Headers) != 0 && len(d.Headers) != n {
		p.t.Fatalf("the slices are not parallel: %d values, %d times, %d positions, %d headers", n, len(d.Times), len(d.Pos), len(d.Headers))
	}
	if n+len(d.Bad) > max {
		p.t.Fatalf("Poll handed over %d records; at most %d were asked for", n+len(d.Bad), max)
	}
	recs := make([]got[T], 0, n+len(d.Bad))
	for i := range d.Values {
		recs = append(recs, got[T]{Item[T]{Value: d.Values[i]}, d.Pos[i]})
	}
	for i := range d.Bad {
		if d.Bad[i].Err == nil {
			p.t.Fatalf("bad record at %d has no error", d.Bad[i].Pos)
		}
		recs = append(recs, got[T]{Item[T]{Bad: true}, d.Bad[i].Pos})
	}
	if !slices.IsSorted(d.Pos) || !slices.IsSortedFunc(d.Bad, func(a, b connectors.BadRecord) int { return cmp.Compare(a.Pos, b.Pos) }) {
		p.t.Fatalf("positions do not increase: %v", d.Pos)
	}
	slices.SortFunc(recs, func(a, b got[T]) int { return cmp.Compare(a.pos, b.pos) })
	for _, r := range recs {
		if r.pos <= p.last {
			p.t.Fatalf("a record has position %d after one of position %d", r.pos, p.last)
		}
		p.last = r.pos
	}
	pos := p.reader.Position()
	if pos.Offset < p.last || len(recs) > 0 && pos.Offset != p.last {
		p.t.Fatalf("Position says %d after the record of position %d", pos.Offset, p.last)
	}
	if p.end && !poll.End || pos.Done != poll.End {
		p.t.Fatalf("End is %v, Done is %v, End was %v before", poll.End, pos.Done, p.end)
	}
	if lag := p.reader.Lag(); lag < -1 {
		p.t.Fatalf("Lag is %d", lag)
	}
	p.end = poll.End
	return recs, poll, nil
}

// wait waits until the reader wakes its owner or the time it named has come. It
// reports false when neither happens.
func (p *tap[T]) wait(poll connectors.Poll) bool {
	c := p.f.clock()
	late := clock.Real().NewTimer(p.f.patience())
	defer late.Stop()
	if poll.Due == 0 {
		select {
		case <-p.wake:
			return true
		case <-late.C():
			return false
		}
	}
	if v, ok := c.(*clock.Virtual); ok {
		select {
		case <-p.wake:
		default:
			v.AdvanceTo(poll.Due)
		}
		return true
	}
	due := c.NewTimer(time.Duration(poll.Due - c.Now()))
	defer due.Stop()
	select {
	case <-p.wake:
	case <-due.C():
	case <-late.C():
		return false
	}
	return true
}

// match compares records with what the split holds from record at on.
func (p *tap[T]) match(recs []got[T], want []Item[T], at int) {
	p.t.Helper()
	for i, r := range recs {
		if at+i >= len(want) {
			p.t.Fatalf("record %d at position %d is one too many: %+v", at+i, r.pos, r.Item)
		}
		if !p.f.same(r.Item, want[at+i]) {
			p.t.Fatalf("record %d, at position %d, is %+v, want %+v", at+i, r.pos, r.Item, want[at+i])
		}
	}
}

// seeded returns the random numbers of a check and says their seed.
func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
