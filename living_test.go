package weir_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/operators/pattern"
	"github.com/weirflow/weir/weirtest"
)

// step is a record of the job under test.
type step struct {
	Who  string
	Kind string
	At   int64
}

// livingJob finds patterns that come and go while it runs.
func livingJob() weir.JobSpec {
	return weir.NewJob("living", func(j *weir.Job) {
		in := weir.From(j, "steps", memory.NewSource[step](), weir.Ascending(func(s step) time.Time { return time.UnixMilli(s.At) }))
		changes := weir.From(j, "changes", memory.NewSource[pattern.Change](), weir.ProcessingTime[pattern.Change]())
		by := weir.KeyBy(in, "by-who", func(s step) string { return s.Who })
		kind := func(s *step) string { return s.Kind }
		words := pattern.Vocabulary[step]{Text: map[string]func(*step) string{"kind": kind}}
		first := pattern.Begin("a", func(s step) bool { return s.Kind == "a" }).Next("b", func(s step) bool { return s.Kind == "b" })
		found := weir.DetectAll(by, "watch", []weir.NamedPattern[step]{{Name: "ab", Pattern: first}},
			func(who, name string, m *pattern.Match[step]) string {
				return fmt.Sprintf("%s %s %d", name, who, m.At/1e6)
			},
			weir.LivingPatterns(changes, words))
		weir.To(found, "found", memory.NewSink[string]().Sink())
	})
}

func put(name, kind string) pattern.Change {
	return pattern.Change{Put: name, Pattern: json.RawMessage(fmt.Sprintf(`{"stages": [{"name": "x", "contiguity": "begin", "where": {"kind": %q}}]}`, kind))}
}

func TestLivingPatterns(t *testing.T) {
	steps := func(at int64, who, kinds string) (s []weirtest.Step) {
		for i, k := range kinds {
			s = append(s, weirtest.Into("steps", weirtest.Value(step{Who: who, Kind: string(k), At: at + int64(i)})))
		}
		return s
	}
	change := func(cs ...pattern.Change) (s []weirtest.Step) {
		for _, c := range cs {
			s = append(s, weirtest.Into("changes", weirtest.Value(c)))
		}
		return s
	}
	all := slices.Concat(
		steps(0, "u", "abc"), steps(10, "v", "abc"),
		change(put("c", "c")),
		steps(19, "u", "c"), steps(20, "u", "c"), // no barrier has come: only the last, which still waits for the watermark
		[]weirtest.Step{weirtest.Checkpoint()},
		steps(30, "u", "cab"), steps(40, "v", "c"),
		change(put("ab", "b"), pattern.Change{Put: "wrong", Pattern: json.RawMessage(`{"stages": []}`)}),
		[]weirtest.Step{weirtest.Checkpoint()},
		steps(50, "u", "bab"), // ab is one b now
		[]weirtest.Step{weirtest.Checkpoint(), weirtest.Crash(), weirtest.Restore(3)},
		steps(60, "v", "cb"), steps(70, "w", "c"),
		change(pattern.Change{Remove: "c"}), // before the turn of the last record has come
		[]weirtest.Step{weirtest.Checkpoint()},
		steps(80, "v", "cb"),
		[]weirtest.Step{weirtest.EndOfInput()},
	)
	want := []string{
		"ab u 1", "ab v 11", "c u 20", "c u 30", "ab u 32", "c v 40", "ab u 50", "ab u 52", "c v 60", "ab v 61", "ab v 81",
	}
	slices.Sort(want)
	for _, p := range []int{1, 2, 4} {
		run := weirtest.New(t, livingJob(), weirtest.Source[step]("steps"), weirtest.Source[pattern.Change]("changes"), weirtest.Sink[string]("found"), weirtest.Parallelism(p))
		run.Do(all...)
		got := weirtest.Collect[string](run, "found")
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("at parallelism %d:\n%s\nwant\n%s", p, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
