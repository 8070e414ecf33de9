package pattern_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators/pattern"
)

// spec is the data form of a sequence of letters, each followed by the next.
func spec(letters string, more ...string) json.RawMessage {
	var stages []string
	for i, l := range letters {
		how := "followedBy"
		if i == 0 {
			how = "begin"
		}
		stages = append(stages, fmt.Sprintf(`{"name":"%c","contiguity":%q,"where":{"name":"%c"}%s}`, l, how, l, strings.Join(more, "")))
	}
	return json.RawMessage(`{"stages":[` + strings.Join(stages, ",") + `]}`)
}

func put(id, letters string, more ...string) pattern.Change {
	return pattern.Change{Put: id, Pattern: spec(letters, more...)}
}

func livingSpec() rigSpec {
	return rigSpec{words: &recWords, set: func() (*pattern.Set[rec], error) {
		s := pattern.NewSet[rec](true)
		p, err := pattern.Parse(spec("ab"), recWords)
		if err != nil {
			return nil, err
		}
		return s, s.Put("first", p)
	}}
}

// living is a rig whose events are letters, a millisecond apart, of one key.
type living struct {
	*rig
	spec rigSpec
	now  int64
	seq  int
}

func (l *living) feedLetters(id int64, letters string) {
	l.tb.Helper()
	for i := range letters {
		l.now++
		l.seq++
		if err := l.feed(rec{E: event{Seq: l.seq, Name: letters[i : i+1]}, ID: id, At: l.now * ms}); err != nil {
			l.tb.Fatal(err)
		}
	}
	if err := l.s.Watermark(l.now*ms + 1); err != nil {
		l.tb.Fatal(err)
	}
}

func (l *living) change(c pattern.Change) {
	l.tb.Helper()
	if err := l.d.Change(c); err != nil {
		l.tb.Fatal(err)
	}
}

func (l *living) found(want ...string) {
	l.tb.Helper()
	var got []string
	for _, m := range l.matches {
		f := strings.SplitN(m, " ", 4)
		got = append(got, f[1]+" "+f[3])
	}
	if !slices.Equal(got, want) {
		l.tb.Errorf("found %q, want %q", got, want)
	}
	l.matches = nil
}

func TestChange(t *testing.T) {
	store := newStore(t)
	spec := livingSpec()
	l := &living{rig: newRig(t, spec, store, nil, nil), spec: spec}
	l.feedLetters(1, "a")
	l.change(put("second", "ac"))
	l.feedLetters(1, "c") // the a came before the pattern
	l.found()
	l.feedLetters(1, "ac")
	l.found(`second ["a",[3]] ["c",[4]]`)
	// The same pattern again: its runs go on. Another one of that name: they do not.
	l.feedLetters(1, "a")
	l.change(put("second", "ac"))
	l.rig = l.restored(spec, store)
	l.feedLetters(1, "c")
	l.found(`second ["a",[5]] ["c",[6]]`)
	l.feedLetters(1, "a")
	l.change(put("second", "ad"))
	l.feedLetters(1, "d")
	l.found()
	// Removed and put in again: the runs from before do not come back, though no
	// checkpoint has taken them out of the state.
	l.feedLetters(2, "a")
	l.rig = l.restored(spec, store)
	l.change(pattern.Change{Remove: "second"})
	l.change(put("second", "ad"))
	l.feedLetters(2, "d")
	l.found()
	l.change(pattern.Change{Remove: "first"})
	l.rig = l.restored(spec, store)
	l.feedLetters(2, "b")
	l.found()
	if got := l.d.Set().Names(); !slices.Equal(got, []string{"second"}) {
		t.Errorf("patterns after the restore: %q", got)
	}
	l.change(put("first", "xy"))
	l.rig = l.restored(spec, store)
	l.feedLetters(1, "abxyad")
	l.found(`first ["x",[14]] ["y",[15]]`, `second ["a",[12]] ["d",[17]]`, `second ["a",[16]] ["d",[17]]`)
}

func TestChangesAreRefused(t *testing.T) {
	spec := livingSpec()
	spec.changes = pattern.ChangeLimits{Patterns: 3, Size: 400, Total: 300}
	r := newRig(t, spec, newStore(t), nil, nil)
	if err := errors.Join(r.d.Change(put("second", "ab")), r.d.Change(put("third", "ab"))); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]pattern.Change{
		"nothing":          {},
		"both":             {Put: "x", Remove: "second", Pattern: json.RawMessage(`{}`)},
		"no such pattern":  {Remove: "fourth"},
		"bad name":         put("No Name", "ab"),
		"too many":         put("fourth", "ab"),
		"too large":        put("second", "abcdefghi"),
		"too large in all": put("second", "abcd"),
		"no JSON":          {Put: "second"},
		"no stages":        {Put: "second", Pattern: json.RawMessage(`{"stages":[]}`)},
		"unknown field":    put("second", "a", `,"wher":1`),
		"unknown word":     put("second", "a", `,"until":{"colour":"red"}`),
		"a mistake":        put("second", "aa"),
		"too many nodes":   put("second", "a", `,"times":{"from":1000000000}`),
	} {
		err := r.d.Change(c)
		var e *base.Error
		if !errors.As(err, &e) || e.Code != "WEIR-0717" || e.Next == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := r.d.Set().Names(); !slices.Equal(got, []string{"first", "second", "third"}) {
		t.Errorf("patterns: %q", got)
	}
	spec.words = nil
	if err := newRig(t, spec, newStore(t), nil, nil).d.Change(put("second", "ab")); err == nil {
		t.Error("an operator without a vocabulary takes a change")
	}
}

// TestHostileSpecs: patterns that would take for ever to compile, or to match, are
// refused.
func TestHostileSpecs(t *testing.T) {
	deep := `{"name":"a","contiguity":"begin"}`
	for range 12 {
		deep = `{"group":[` + deep + `],"contiguity":"begin","times":{"from":100,"to":100}}`
	}
	var wide []string
	for i := range 40 {
		how := "followedBy"
		if i == 0 {
			how = "begin"
		}
		wide = append(wide, fmt.Sprintf(`{"group":[{"name":"a%d","contiguity":"begin","optional":true},{"name":"b%d","contiguity":"next","optional":true}],"contiguity":%q,"optional":true}`, i, i, how))
	}
	for _, s := range []string{deep, strings.Join(wide, ",")} {
		p, err := pattern.Parse([]byte(`{"stages":[`+s+`]}`), recWords)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pattern.Compile(p); err == nil {
			t.Errorf("compiled: %.80s", s)
		}
	}
}

func TestConditionsOfGonePatternsGo(t *testing.T) {
	r := newRig(t, livingSpec(), newStore(t), nil, nil)
	if err := r.d.Change(put("stays", "xyz")); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		c := put("comes-and-goes", "ab", fmt.Sprintf(`,"until":{"price_gt":%d},"times":{"from":1}`, i))
		if err := errors.Join(r.d.Change(c), r.d.Change(pattern.Change{Remove: "comes-and-goes"})); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.d.Set().Conditions(); n > 4096 {
		t.Errorf("the table of conditions has %d entries", n)
	}
}

// TestChangesAreReplayed plays one script of records and changes twice: in one go, and
// with a tiny cache and restores at random places. All must be the same, order
// included.
func TestChangesAreReplayed(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range uint64(20) {
		var runs [2][]string
		for i := range runs {
			script, breaks := rand.New(rand.NewPCG(seed, round)), rand.New(rand.NewPCG(seed, round+1000))
			spec := livingSpec()
			if i == 1 {
				spec.cache = 2
			}
			store := newStore(t)
			l := &living{rig: newRig(t, spec, store, nil, nil), spec: spec}
			for range 150 {
				l.random(script)
				if i == 1 && breaks.IntN(6) == 0 {
					l.rig = l.restored(spec, store)
				}
			}
			runs[i] = append(l.matches, l.timeouts...)
		}
		if !slices.Equal(runs[0], runs[1]) {
			t.Fatalf("round %d: in one go %q\nwith restores %q", round, runs[0], runs[1])
		}
	}
}

func (l *living) random(r *rand.Rand) {
	id := fmt.Sprint("p", r.IntN(4))
	switch r.IntN(8) {
	case 0:
		_ = l.d.Change(pattern.Change{Remove: id}) // refused if there is none
	case 1, 2:
		letters := []string{"ab", "ac", "abc", "bc", "acd"}[r.IntN(5)]
		l.change(put(id, letters, []string{"", `,"within_ms":20`}[r.IntN(2)]))
	default:
		l.feedLetters(int64(r.IntN(5)), string([]byte{"abcd"[r.IntN(4)], "abcd"[r.IntN(4)]}))
	}
}

func TestFigures(t *testing.T) {
	store, spec := newStore(t), livingSpec()
	l := &living{rig: newRig(t, spec, store, nil, nil), spec: spec}
	l.change(put("second", "ac", `,"within_ms":10`))
	l.feedLetters(1, "aacb")
	l.feedLetters(2, "a")
	check := func(want ...string) {
		t.Helper()
		var got []string
		for _, f := range l.s.Env.Stats.Figures.List() {
			if f.Operator != "detect" {
				t.Errorf("a figure of %q", f.Operator)
			}
			if f.Value() != 0 {
				got = append(got, fmt.Sprintf("%s %s %d", f.Label, f.Name, f.Value()))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("figures %q\nwant %q", got, want)
		}
	}
	check("first pattern_matches_total 2", "first pattern_started_total 3", "first pattern_active_runs 1",
		"second pattern_matches_total 2", "second pattern_started_total 3", "second pattern_active_runs 1")
	l.rig = l.restored(spec, store)
	check("first pattern_active_runs 1", "second pattern_active_runs 1")
	if err := l.s.Watermark(l.now*ms + 20*ms); err != nil {
		t.Fatal(err)
	}
	if err := l.feed(rec{E: event{Name: "a"}, ID: 1, At: 1}); err != nil {
		t.Fatal(err)
	}
	check(" pattern_late_records_total 1", "first pattern_active_runs 1", "second pattern_timeouts_total 1")
	l.change(pattern.Change{Remove: "second"})
	check(" pattern_late_records_total 1", "first pattern_active_runs 1")
}

// TestChangeIsARecord: changes can be the records of a stream.
func TestChangeIsARecord(t *testing.T) {
	c, err := codec.For[pattern.Change]()
	if err != nil {
		t.Fatal(err)
	}
	in := put("second", "ac")
	var out pattern.Change
	if err := c.Decode(c.Append(nil, &in), &out); err != nil || out.Put != in.Put || string(out.Pattern) != string(in.Pattern) {
		t.Errorf("%v: %+v", err, out)
	}
}
