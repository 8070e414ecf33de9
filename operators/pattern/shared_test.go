package pattern_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weirflow/weir/operators/pattern"
)

// family makes patterns that begin alike, of letters as Equal conditions.
type family struct {
	*rand.Rand
	window time.Duration
}

func letter(l string) pattern.Cond[event] {
	return pattern.Equal("name", func(e event) string { return e.Name }, l)
}

func (f *family) stage(p *pattern.Pattern[event], name, l string, how int) *pattern.Pattern[event] {
	switch how {
	case 0:
		p = p.Next(name)
	case 1:
		p = p.FollowedByAny(name)
	default:
		p = p.FollowedBy(name)
	}
	return p.WhereCond(letter(l))
}

// pattern makes one: a, perhaps b, then something of its own.
func (f *family) pattern() *pattern.Pattern[event] {
	p := pattern.Begin[event]("s1").WhereCond(letter("ab"[f.IntN(4)/3:][:1]))
	n := 2
	if f.IntN(3) > 0 {
		p = f.stage(p, "s2", "b", 2*min(f.IntN(3), 1)) // Next sometimes
		n++
	}
	for range 1 + f.IntN(3) {
		if f.IntN(4) == 0 {
			p = p.NotFollowedBy(fmt.Sprint("n", n)).WhereCond(letter("abcd"[f.IntN(4):][:1]))
		}
		p = f.stage(p, fmt.Sprint("s", n), "abcd"[f.IntN(4):][:1], f.IntN(5))
		n++
		switch f.IntN(6) {
		case 0:
			p = p.OneOrMore()
		case 1:
			p = p.TimesRange(1, 2)
		}
	}
	if f.window > 0 {
		p = p.Within(f.window)
	}
	return p
}

// alone runs a pattern by itself from when it was put in.
type alone struct {
	m   *pattern.Matcher[event]
	key *pattern.Key[event]
	out pattern.Output[event]
	id  string
}

// TestSharedStages holds a set, in which patterns share their first stages, against a
// matcher for each of them, while patterns come and go, and with restores.
func TestSharedStages(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	matches, timeouts, shared := 0, 0, 0
	for round := range uint64(120) {
		f := &family{Rand: rand.New(rand.NewPCG(seed, round))}
		if f.IntN(3) > 0 {
			f.window = time.Duration(3+f.IntN(12)) * time.Millisecond
		}
		events := 40
		if round%20 == 0 { // keys with many runs
			events = 160
			f.window *= 8
		}
		set, key := pattern.NewSet[event](true), &pattern.SetKey[event]{}
		var solo []*alone
		for i := range 2 + f.IntN(6) {
			solo = f.put(t, set, solo, fmt.Sprint("p", i))
		}
		now := int64(1)
		for i := range events {
			var got, want []string
			sink := func(id string, out *pattern.Output[event]) { got = append(got, lines(id, out)...) }
			now += int64(f.IntN(3)) * ms
			v := event{Seq: i + 1, Name: "abcd"[f.IntN(4):][:1]}
			if err := set.Process(key, now, 0, &v, sink); err != nil {
				t.Fatal(err)
			}
			want = step(t, solo, now, &v)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("round %d, event %d: got %q\nwant %q", round, i, got, want)
			}
			for _, l := range got {
				if l[0] == 'm' {
					matches++
				} else {
					timeouts++
				}
			}
			f.compareRuns(t, set, key, solo)
			shared += set.SharedRuns(key)
			switch f.IntN(12) {
			case 0:
				solo = f.put(t, set, solo, fmt.Sprint("p", f.IntN(8)))
			case 1:
				id := fmt.Sprint("p", f.IntN(8))
				set.Remove(id)
				solo = slices.DeleteFunc(solo, func(a *alone) bool { return a.id == id })
			case 2, 3:
				blob := set.Append(nil, key, jsonValues{})
				key = &pattern.SetKey[event]{}
				if err := set.Load(blob, key, jsonValues{}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Logf("%d matches, %d timeouts, %d shared runs", matches, timeouts, shared)
	if matches == 0 || timeouts == 0 || shared == 0 {
		t.Error("too little happened")
	}
}

func (f *family) put(t *testing.T, set *pattern.Set[event], solo []*alone, id string) []*alone {
	t.Helper()
	p := f.pattern()
	prog, err := pattern.Compile(p)
	if err != nil {
		return solo // such as a NOT behind an optional stage
	}
	if old := set.Program(id); old != nil && old.Shape() == prog.Shape() {
		return solo
	}
	if err := set.Put(id, p); err != nil {
		t.Fatal(err)
	}
	solo = slices.DeleteFunc(solo, func(a *alone) bool { return a.id == id })
	a := &alone{m: pattern.NewMatcher(prog), key: &pattern.Key[event]{}, id: id}
	a.out.Want = true
	return append(solo, a)
}

func lines(id string, out *pattern.Output[event]) (got []string) {
	for i := range out.Matches {
		got = append(got, fmt.Sprint("match ", id, out.Matches[i].At, stagesOf(&out.Matches[i])))
	}
	for i := range out.Timeouts {
		got = append(got, fmt.Sprint("timeout ", id, out.Timeouts[i].Ended, out.Timeouts[i].At, stagesOf(&out.Timeouts[i].Match)))
	}
	return got
}

// step gives an event to all patterns, time advanced from window to window.
func step(t *testing.T, solo []*alone, now int64, v *event) (want []string) {
	t.Helper()
	for _, a := range solo {
		for {
			due, ok := a.m.Due(a.key)
			if !ok || due > now {
				break
			}
			if err := a.m.Advance(a.key, due, &a.out); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.m.Process(a.key, now, 0, v, &a.out); err != nil {
			t.Fatal(err)
		}
		want = append(want, lines(a.id, &a.out)...)
		a.out.Reset()
	}
	return want
}

// compareRuns compares the open runs, and their number in the set's figures.
func (f *family) compareRuns(t *testing.T, set *pattern.Set[event], key *pattern.SetKey[event], solo []*alone) {
	t.Helper()
	text := func(p *pattern.Partial[event]) string {
		return fmt.Sprint(stagesOf(&p.Found), p.Waits, p.Ends, p.Ok)
	}
	got := map[string][]string{}
	for _, p := range set.Runs(key) {
		got[p.Pattern] = append(got[p.Pattern], text(&p))
	}
	for _, a := range solo {
		var want []string
		for _, p := range a.m.Runs(a.key) {
			want = append(want, text(&p))
		}
		slices.Sort(want)
		slices.Sort(got[a.id])
		if !slices.Equal(got[a.id], want) {
			t.Fatalf("runs of %s: %q\nwant %q", a.id, got[a.id], want)
		}
		if n := set.Active(a.id); n != len(want) {
			t.Fatalf("%s: %d active runs, want %d", a.id, n, len(want))
		}
	}
}
