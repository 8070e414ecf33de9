package weir

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/operators/feature"
	"github.com/weirflow/weir/operators/pattern"
)

// pair is a record of the job under test.
type pair struct {
	Key  string
	N    uint64
	Kind string
}

// waiting is a job with a partial match for each of the keys k0 to k9, that lasts.
func waiting() JobSpec {
	return NewJob("waiting", func(j *Job) {
		src := generator.New(func(i uint64) pair {
			kind := "other"
			if i < 10 {
				kind = "first"
			}
			return pair{Key: fmt.Sprintf("k%d", i%10), N: i, Kind: kind}
		}, generator.Count(1<<40), generator.Rate(1000))
		in := From(j, "pairs", src, Ascending(func(p pair) time.Time { return time.UnixMilli(int64(p.N)) }))
		by := KeyBy(in, "by-key", func(p pair) string { return p.Key })
		is := func(kind string) pattern.Cond[pair] {
			return pattern.Equal("kind", func(p pair) string { return p.Kind }, kind)
		}
		p := pattern.Begin[pair]("a").WhereCond(is("first")).FollowedBy("b").WhereCond(is("second")).Within(1000 * time.Hour)
		found := Detect(by, "watch", p, func(k string, m *pattern.Match[pair]) uint64 { return 0 })
		counted := Rolling(by, "counted", feature.Set(feature.Count[pair]("first").Where(func(p pair) bool { return p.Kind == "first" }).Lifetime()),
			func(p pair, f struct {
				N int64 `feature:"first"`
			}) uint64 {
				return uint64(f.N)
			})
		To(counted, "counts", memory.NewSink[uint64]().Sink())
		To(found, "found", memory.NewSink[uint64]().Sink())
		To(Map(by.Stream, "number", func(p pair) uint64 { return p.N }), "out", memory.NewSink[uint64]().Sink())
	})
}

func TestKeysOfARunningJob(t *testing.T) {
	o := quick(t)
	o.Listen = "127.0.0.1:0"
	s, stop := start(t, waiting(), o)
	ask := func(args ...string) string {
		t.Helper()
		code, out, errs := command(append([]string{"patterns"}, append(args, "--url", s.HTTP, "--operator", "watch")...)...)
		if code != ExitOK {
			t.Fatalf("exit code %d: %s", code, errs)
		}
		return out
	}
	// Every key has its partial match once the watermark has passed the first ten.
	deadline := time.Now().Add(patience)
	for {
		_, out, errs := command("patterns", "runs", "--url", s.HTTP, "--operator", "watch", "--key", "k9")
		if strings.Contains(out, "watch since") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no partial match: %s%s", out, errs)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for k := range 10 { // they are on both subtasks
		out := ask("runs", "--key", fmt.Sprintf("k%d", k))
		for _, want := range []string{
			fmt.Sprintf("watch since 1970-01-01T00:00:00.00%dZ, ends 1970-02-11T16:00:00.00%dZ", k, k),
			fmt.Sprintf(`a            {"Key":"k%d","N":%d,"Kind":"first"}`, k, k), `waits for b (kind == "second")`,
		} {
			if want = strings.ReplaceAll(want, ":00.000Z", ":00Z"); !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
	}
	if out := ask("runs", "--key", "nobody"); out != "no partial matches\n" {
		t.Errorf("a key without any: %s", out)
	}
	if out := ask("runs", "--key", "k1", "--json"); !strings.Contains(out, `"pattern": "watch"`) {
		t.Errorf("JSON: %s", out)
	}
	if out := ask("trace", "--key", "k1", "--record", `{"Kind":"second"}`); !strings.Contains(out, "→ taken into b: a match") {
		t.Errorf("what would end it: %s", out)
	}
	if out := ask("trace", "--key", "nobody", "--record", `{"Kind":"second"}`); !strings.Contains(out, "→ begins no run") {
		t.Errorf("what would not begin one: %s", out)
	}
	for key, want := range map[string]string{"k3": "first  1\n", "nobody": "nothing is known of the key\nfirst  0\n"} {
		if _, out, errs := command("features", "get", "--url", s.HTTP, "--operator", "counted", "--key", key); out != want {
			t.Errorf("features of %s: %s%s", key, out, errs)
		}
	}
	for _, tc := range [][]string{
		{"runs", "--url", s.HTTP, "--operator", "pairs", "--key", "k1"},
		{"runs", "--url", s.HTTP, "--operator", "absent", "--key", "k1"},
		{"runs", "--url", "http://127.0.0.1:1", "--operator", "watch", "--key", "k1"},
		{"trace", "--url", s.HTTP, "--operator", "watch", "--key", "k1", "--record", `{"Kind":7}`},
	} {
		if code, out, errs := command(append([]string{"patterns"}, tc...)...); code == ExitOK || !strings.Contains(errs, codeInspect) {
			t.Errorf("%v: exit code %d: %s%s", tc, code, out, errs)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
