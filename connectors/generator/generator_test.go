package generator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/conformance"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
)

func square(i uint64) uint64 { return i * i }

func TestConformance(t *testing.T) {
	fixture := func(bounded bool, opts ...generator.Option) func(testing.TB) conformance.SourceFixture[uint64] {
		return func(testing.TB) conformance.SourceFixture[uint64] {
			const n, shards = 50, 3
			opts := append(opts, generator.Shards(shards))
			if bounded {
				opts = append(opts, generator.Count(n))
			}
			f := conformance.SourceFixture[uint64]{
				Source:  generator.New(square, opts...),
				Want:    map[string][]conformance.Item[uint64]{},
				Clock:   clock.NewVirtual(1e18),
				Bounded: bounded,
			}
			for i := range uint64(n) {
				id := fmt.Sprintf("shard-%04d", i%shards)
				f.Want[id] = append(f.Want[id], conformance.Item[uint64]{Value: square(i)})
			}
			return f
		}
	}
	t.Run("flat out", func(t *testing.T) { conformance.Source(t, fixture(true)) })
	t.Run("endless", func(t *testing.T) { conformance.Source(t, fixture(false)) })
	t.Run("rate", func(t *testing.T) { conformance.Source(t, fixture(true, generator.Rate(7))) })
}

func open(t *testing.T, s *generator.Source[uint64], shard int, after connectors.Position, c clock.Clock) connectors.Reader[uint64] {
	t.Helper()
	splits, err := s.Splits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), splits[shard], after, connectors.ReaderEnv{Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func poll(t *testing.T, r connectors.Reader[uint64], max int) (connectors.Records[uint64], connectors.Poll) {
	t.Helper()
	var recs connectors.Records[uint64]
	p, err := r.Poll(&recs, max)
	if err != nil {
		t.Fatal(err)
	}
	return recs, p
}

// TestOpenLoop: what is due does not depend on when the reader is polled.
func TestOpenLoop(t *testing.T) {
	v := clock.NewVirtual(5_000)
	s := generator.New(square, generator.Rate(1000))
	r := open(t, s, 0, connectors.Position{}, v)
	recs, p := poll(t, r, 100)
	if len(recs.Values) != 1 || p.Due != 5_000+1e6 || p.More {
		t.Fatalf("at the start: %d records, %+v", len(recs.Values), p)
	}
	v.Advance(10 * time.Millisecond) // the reader was away
	if lag := r.Lag(); lag != 10 {
		t.Fatalf("lag %d", lag)
	}
	recs, p = poll(t, r, 4)
	if len(recs.Values) != 4 || !p.More {
		t.Fatalf("%d records, %+v", len(recs.Values), p)
	}
	recs, p = poll(t, r, 100)
	if want := []uint64{25, 36, 49, 64, 81, 100}; !slices.Equal(recs.Values, want) || p.Due != 5_000+11e6 {
		t.Fatalf("%v, %+v", recs.Values, p)
	}
	if recs.Times[0] != 5_000+5e6 {
		t.Fatalf("record 5 has time %d", recs.Times[0])
	}
	v.AdvanceTo(p.Due - 1)
	if recs, _ = poll(t, r, 100); len(recs.Values) != 0 {
		t.Fatal("a record came before it was due")
	}
	v.Advance(1)
	if recs, _ = poll(t, r, 100); len(recs.Values) != 1 {
		t.Fatal("a record did not come when it was due")
	}

	// A restored job owes what fell due while it was down.
	pos := r.Position()
	v.Advance(time.Second)
	r = open(t, generator.New(square, generator.Rate(1000)), 0, pos, v)
	if recs, _ = poll(t, r, 5000); len(recs.Values) != 1000 || recs.Pos[0] != pos.Offset+1 || recs.Times[0] != 5_000+12e6 {
		t.Fatalf("%d records after a second of down time, first %+v", len(recs.Values), recs.Pos[:1])
	}
}

// TestDueIsTrue: a reader that sleeps until Due always finds a record, whatever
// the rate does to the rounding.
func TestDueIsTrue(t *testing.T) {
	for _, rate := range []float64{1e-3, 0.7, 3, 997, 1e5/3 + 0.01, 7e6, 1e9} {
		v := clock.NewVirtual(1_700_000_000_123_456_789)
		s := generator.New(square, generator.Rate(rate), generator.Shards(3))
		r := open(t, s, 1, connectors.Position{}, v)
		for step := range 2000 {
			_, p := poll(t, r, 1000)
			if p.More {
				continue
			}
			if p.Due <= v.Now() {
				t.Fatalf("rate %v: due at %d, now %d, and nothing more", rate, p.Due, v.Now())
			}
			v.AdvanceTo(p.Due)
			if recs, _ := poll(t, r, 1); len(recs.Values) != 1 {
				t.Fatalf("rate %v, step %d: nothing at the time that Due named", rate, step)
			}
		}
	}
}

func TestAt(t *testing.T) {
	s := generator.New(square, generator.Count(3), generator.At(func(i uint64) time.Time { return time.Unix(int64(i), 0) }))
	recs, _ := poll(t, open(t, s, 0, connectors.Position{}, clock.NewVirtual(0)), 9)
	if !slices.Equal(recs.Times, []base.Timestamp{0, 1e9, 2e9}) {
		t.Fatalf("times %v", recs.Times)
	}
	start := time.Unix(100, 0)
	r := open(t, generator.New(square, generator.Rate(1), generator.StartAt(start)), 0, connectors.Position{}, clock.NewVirtual(0))
	if _, p := poll(t, r, 1); p.Due != start.UnixNano() {
		t.Fatalf("due at %d", p.Due)
	}
}

func TestPollAppends(t *testing.T) {
	s := generator.New(square, generator.Count(3))
	recs := connectors.Records[uint64]{}
	recs.Append(7, 8, 9, &base.Headers{{Name: "x"}})
	if _, err := open(t, s, 0, connectors.Position{}, clock.Real()).Poll(&recs, 9); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(recs.Values, []uint64{7, 0, 1, 4}) || len(recs.Headers) != 4 || recs.Headers[0] == nil || recs.Headers[1] != nil {
		t.Fatalf("%+v", recs)
	}
}

func TestWrongOptions(t *testing.T) {
	for name, s := range map[string]*generator.Source[uint64]{
		"no function": generator.New[uint64](nil),
		"shards":      generator.New(square, generator.Shards(0)),
		"rate":        generator.New(square, generator.Rate(-1)),
		"truth":       generator.New(square, generator.Truth("", nil)),
	} {
		_, err := s.Splits(context.Background())
		if base.CodeOf(s.BuildError()) != "WEIR-0430" || !errors.Is(err, s.BuildError()) {
			t.Errorf("%s: %v, %v", name, s.BuildError(), err)
		}
	}
}

func TestOtherShardsAreRefused(t *testing.T) {
	old := generator.New(square, generator.Shards(4))
	r := open(t, old, 1, connectors.Position{}, clock.Real())
	poll(t, r, 3)
	now := generator.New(square, generator.Shards(3))
	_, err := now.Open(t.Context(), connectors.Split{ID: "shard-0001"}, r.Position(), connectors.ReaderEnv{Clock: clock.Real()})
	if !errors.Is(err, connectors.ErrIdentity) || !errors.Is(err, base.ErrFatal) {
		t.Fatalf("got %v", err)
	}
	if _, err := now.Open(t.Context(), connectors.Split{ID: "shard-0003"}, connectors.Position{}, connectors.ReaderEnv{}); !errors.Is(err, connectors.ErrIdentity) {
		t.Fatalf("got %v", err)
	}
}

// TestTruth: however often a job dies, the file holds each planted line once, in
// order, and none is missing up to what was handed over.
func TestTruth(t *testing.T) {
	for _, shards := range []int{1, 3} {
		dir := t.TempDir()
		plant := func(i uint64) any {
			if i%5 != 2 {
				return nil
			}
			return fmt.Sprint("planted ", i)
		}
		source := func() *generator.Source[uint64] {
			return generator.New(square, generator.Count(200), generator.Shards(shards), generator.Truth(filepath.Join(dir, "truth.jsonl"), plant))
		}
		for shard := range shards {
			path := filepath.Join(dir, "truth.jsonl")
			if shards > 1 {
				path = filepath.Join(dir, fmt.Sprintf("truth-%d.jsonl", shard))
			}
			var pos connectors.Position
			for attempt := range 30 {
				r := open(t, source(), shard, pos, clock.Real())
				poll(t, r, 5)
				if attempt%3 == 0 { // otherwise the position is lost, and the file is ahead
					pos = r.Position()
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				damage(t, path, attempt)
			}
			r := open(t, source(), shard, pos, clock.Real())
			poll(t, r, 1000)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			var want []string
			for i := shard; i < 200; i += shards {
				if p := plant(uint64(i)); p != nil {
					want = append(want, fmt.Sprintf(`{"i":%d,"planted":"%s"}`, i, p))
				}
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Split(strings.TrimSpace(string(data)), "\n"); !slices.Equal(got, want) {
				t.Fatalf("%d shards: the file holds %q, want %q", shards, got, want)
			}
		}
	}
}

// damage does to the file what a lost machine may: a torn line, or lost lines.
func damage(t *testing.T, path string, attempt int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	switch attempt % 4 {
	case 1:
		data = append(data, `{"i":19`...)
	case 2:
		data = data[:bytes.LastIndexByte(data[:max(len(data)-1, 0)], '\n')+1]
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDice(t *testing.T) {
	a, b := generator.Roll(1, 2), generator.Roll(1, 2)
	other := generator.Roll(1, 3)
	same := 0
	var sum float64
	for range 1000 {
		x := a.Uint64()
		if x != b.Uint64() {
			t.Fatal("equal dice throw differently")
		}
		if x == other.Uint64() {
			same++
		}
		if n := a.IntN(6); n < 0 || n > 5 || n != b.IntN(6) {
			t.Fatal(n)
		}
		f := a.Float64()
		b.Float64()
		sum += f
	}
	if same > 0 || sum < 400 || sum > 600 {
		t.Fatalf("%d equal throws, mean %v", same, sum/1000)
	}
	if a.IntN(0) != 0 {
		t.Fatal("IntN(0)")
	}
}

func BenchmarkPoll(b *testing.B) {
	s := generator.New(square)
	r, err := s.Open(context.Background(), connectors.Split{ID: "shard-0000"}, connectors.Position{}, connectors.ReaderEnv{Clock: clock.Real()})
	if err != nil {
		b.Fatal(err)
	}
	var recs connectors.Records[uint64]
	b.ReportAllocs()
	for b.Loop() {
		recs.Reset()
		if _, err := r.Poll(&recs, 256); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/record")
}
