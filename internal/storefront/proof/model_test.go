package proof

import (
	"fmt"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/storefront/script"
)

// TestModelAgreesWithThePlants plays whole runs: the plants say how many nudges
// they cause, and the model finds that many.
func TestModelAgreesWithThePlants(t *testing.T) {
	for _, c := range []script.Config{{Seed: 1, Rate: 1000, Speed: 120}, {Seed: 2, Rate: 50, Speed: 120}, {Seed: 3, Rate: 200, Speed: 60}, {Seed: 4, Rate: 5000, Speed: 600}} {
		m := NewModel()
		got, want := map[string]int{}, map[string]*script.Plant{}
		results, others := 0, 0
		emit := func(r Result) {
			results++
			if r.Plant != "" {
				got[r.Plant]++
			} else if strings.HasPrefix(r.Key, "nudge") {
				others++
			}
		}
		p := script.Play(c, 0)
		n := 2 * c.ChapterLen()
		for i := range n {
			e, plant := p.Next()
			if plant != nil {
				want[plant.Name] = plant
			}
			m.Take(e, int64(i), emit)
		}
		m.Take(c.Closing(n), int64(n), emit)
		kinds := map[string]int{}
		for name, plant := range want {
			kinds[plant.Kind]++
			if got[name] != plant.Want {
				t.Errorf("%+v: plant %s (%s) makes %d nudges, not %d", c, name, plant.Kind, got[name], plant.Want)
			}
			delete(got, name)
		}
		if len(got) > 0 {
			t.Errorf("%+v: nudges of unfinished plants: %v", c, got)
		}
		if m.Late() == 0 || results == 0 || others == 0 && c.Rate >= 200 {
			t.Errorf("%+v: %d late events, %d results, %d nudges of visitors", c, m.Late(), results, others)
		}
		if len(m.waiting) > 1 {
			t.Errorf("%+v: %d events wait after the closing one", c, len(m.waiting))
		}
		t.Logf("%+v: %d events, %d late, %d results, %d plants, %d nudges of visitors", c, n, m.Late(), results, len(want), others)
	}
}

func TestWindowsOfTheModel(t *testing.T) {
	m := NewModel()
	var got []string
	emit := func(r Result) {
		if strings.HasPrefix(r.Key, "count 1m of a") {
			got = append(got, fmt.Sprintf("%s due %d", r.Value, r.Due))
		}
	}
	at := func(ms int64) int64 { return script.Base + ms }
	for i, e := range []script.Event{
		{User: "a", Kind: script.Buy, Price: 7, At: at(9_999)},
		{User: "b", Kind: script.View, At: at(14_999)}, // watermark 9.999 s
		{User: "a", Kind: script.View, At: at(9_999)},  // on time
		{User: "b", Kind: script.View, At: at(15_000)}, // closes the window to 10 s
		{User: "a", Kind: script.Buy, Price: 9, At: at(9_999)},
		{User: "b", Kind: script.View, At: at(24_999)},
		{User: "b", Kind: script.View, At: at(25_000)},
	} {
		m.Take(e, int64(i), emit)
	}
	line := func(from, to, views, buys, spend, due int64) string {
		return fmt.Sprintf("%+v due %d", Count{Window: "1m", User: "a", From: at(from), To: at(to), Views: views, Buys: buys, Spend: spend}, due)
	}
	if want := []string{line(-50_000, 10_000, 1, 1, 7, 3), line(-40_000, 20_000, 1, 2, 16, 6)}; !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLedger(t *testing.T) {
	r := func(key string, n int) Result {
		return Result{Key: key, ID: fmt.Sprint(key, n), Value: fmt.Sprint("value ", key, n), At: int64(n)}
	}
	other := r("a", 2)
	other.Value = "another"
	for _, tc := range []struct {
		name                       string
		see                        []Result
		wrong, missing, duplicated uint64
	}{
		{"all", []Result{r("a", 1), r("b", 1), r("a", 2), r("a", 3)}, 0, 0, 0},
		{"lost in the middle", []Result{r("a", 1), r("b", 1), r("a", 3)}, 0, 1, 0},
		{"lost at the end", []Result{r("a", 1), r("a", 2), r("a", 3)}, 0, 1, 0},
		{"twice", []Result{r("a", 1), r("b", 1), r("a", 1), r("a", 2), r("a", 3)}, 0, 0, 1},
		{"altered", []Result{r("a", 1), r("b", 1), other, r("a", 3)}, 1, 0, 0},
		{"altered copy", []Result{r("a", 1), r("b", 1), r("a", 2), other, r("a", 3)}, 0, 0, 1},
		{"out of order", []Result{r("a", 2), r("a", 1), r("b", 1), r("a", 3)}, 1, 0, 0},
		{"unknown", []Result{r("a", 1), r("b", 1), r("a", 2), r("a", 3), r("a", 4)}, 1, 0, 0},
	} {
		l := NewLedger()
		for _, e := range []Result{r("a", 1), r("b", 1), r("a", 2), r("a", 3)} {
			l.Expect(e)
		}
		for _, s := range tc.see {
			l.See(s)
		}
		l.Finish()
		if l.wrong != tc.wrong || l.missing != tc.missing || l.duplicated != tc.duplicated {
			t.Errorf("%s: %d wrong, %d missing, %d duplicated; %v", tc.name, l.wrong, l.missing, l.duplicated, l.differences)
		}
	}
}

func TestForgottenResultsCountAsDuplicated(t *testing.T) {
	l := NewLedger()
	r := func(at int64) Result { return Result{Key: "a", ID: fmt.Sprint(at), Value: "v", At: at} }
	l.Expect(r(1))
	l.Expect(r(2))
	l.See(r(1))
	l.Expect(r(3 * forget))
	l.See(r(2)) // late, but still expected
	l.See(r(1))
	if len(l.seen) != 1 || l.duplicated != 1 || l.compared != 2 || l.wrong+l.missing != 0 {
		t.Errorf("seen %v, %d duplicated, %d compared, %d wrong, %d missing", l.seen, l.duplicated, l.compared, l.wrong, l.missing)
	}
}

// TestIndependence: what judges the engine shares no code with it.
func TestIndependence(t *testing.T) {
	for _, dir := range []string{".", "../script"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			ast, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, im := range ast.Imports {
				if p := strings.Trim(im.Path.Value, `"`); strings.Contains(p, "weirflow") && !strings.HasSuffix(p, "/storefront/script") {
					t.Errorf("%s imports %s", f, p)
				}
			}
		}
	}
}
