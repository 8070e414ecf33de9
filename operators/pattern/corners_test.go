package pattern_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/weirflow/weir/operators/pattern"
)

// matchesOf runs a pattern over events, one letter each, a millisecond apart.
func matchesOf(t *testing.T, p *pattern.Pattern[event], letters string, opts ...pattern.Option) []string {
	t.Helper()
	prog, err := pattern.Compile(p, opts...)
	if err != nil {
		t.Fatal(err)
	}
	m, k := pattern.NewMatcher(prog), &pattern.Key[event]{}
	var out pattern.Output[event]
	var got []string
	for i := range letters {
		v := event{Seq: i + 1, Name: letters[i : i+1]}
		if err := m.Process(k, int64(i)*ms, 0, &v, &out); err != nil {
			t.Fatal(err)
		}
		for j := range out.Matches {
			got = append(got, stagesOf(&out.Matches[j]))
		}
		out.Reset()
	}
	return got
}

// of is a condition on the letter of an event.
func of(letters string) func(event) bool {
	return func(e event) bool { return strings.Contains(letters, e.Name) }
}

// TestNotInFrontOfTheEndOfAGroup holds two corners of the reference that both modes
// keep: a NOT behind which its group can be left is looked for in the one event that
// the run leaves with; and it is not looked for once the head of an optional group
// waits for its second event and has dropped one.
func TestNotInFrontOfTheEndOfAGroup(t *testing.T) {
	leaving := func() *pattern.Pattern[event] {
		g := pattern.Begin("a", of("a")).NotFollowedBy("n", of("nm")).Next("c", of("c")).Optional()
		return pattern.BeginGroup(g).FollowedBy("d", of("dm")).TimesRange(1, 2)
	}
	head := func() *pattern.Pattern[event] {
		g := pattern.Begin("a", of("a")).Times(2).NotFollowedBy("n", of("n")).Next("c", of("c")).Optional()
		return pattern.BeginGroup(g).Optional()
	}
	for _, c := range []struct {
		name, events string
		p            func() *pattern.Pattern[event]
		want         []string
	}{
		{"leaving", "and", leaving, nil},
		{"leaving", "axnd", leaving, []string{`["a",[1]] ["d",[4]]`}},
		{"leaving", "amd", leaving, []string{`["a",[1]] ["d",[2]]`}},
		{"leaving", "acnd", leaving, []string{`["a",[1]] ["c",[2]] ["d",[4]]`, `["a",[1]] ["d",[4]]`}},
		{"head", "ana", head, nil},
		{"head", "axna", head, []string{`["a",[1,4]]`}},
	} {
		for mode, opts := range map[string][]pattern.Option{"default": nil, "flink": {pattern.FlinkCompat()}} {
			if got := matchesOf(t, c.p(), c.events, opts...); !slices.Equal(got, c.want) {
				t.Errorf("%s, %s mode, events %q: %q, want %q", c.name, mode, c.events, got, c.want)
			}
		}
	}
}
