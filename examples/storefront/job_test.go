package storefront_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/weirflow/weir/examples/storefront"
	"github.com/weirflow/weir/internal/storefront/proof"
	"github.com/weirflow/weir/internal/storefront/script"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/weirtest"
)

// kit replaces everything that the job reads and writes.
var kit = []weirtest.Option{
	weirtest.Source[storefront.Click]("clicks"),
	weirtest.Sink[storefront.Count]("minute-counts"), weirtest.Sink[storefront.Count]("five-minutes-counts"),
	weirtest.Sink[storefront.Nudge]("nudges"),
	weirtest.Source[model.Routing]("routes"), weirtest.Sink[storefront.Prediction]("predictions"),
}

func click(e script.Event) storefront.Click {
	return storefront.Click{User: e.User, Item: e.Item, Kind: e.Kind, Price: e.Price, At: e.At}
}

// collect returns the values of everything that a run published, sorted, in the
// form of proof.Result, and how many predictions each arm made. One arm answers for a
// visitor and item as long as the routing is the same.
func collect(tb testing.TB, r *weirtest.Run) ([]string, map[string]int) {
	tb.Helper()
	var got []string
	for _, sink := range []string{"minute-counts", "five-minutes-counts"} {
		for _, c := range weirtest.Collect[storefront.Count](r, sink) {
			got = append(got, fmt.Sprintf("%+v", proof.Count{
				Window: c.Window, User: c.User, From: c.From, To: c.To,
				Views: c.Views, Adds: c.Adds, Removes: c.Removes, Buys: c.Buys, Spend: c.Spend,
			}))
		}
	}
	for _, n := range weirtest.Collect[storefront.Nudge](r, "nudges") {
		got = append(got, fmt.Sprintf("%+v", proof.Nudge{
			User: n.User, Item: n.Item, Viewed: n.Viewed, Added: n.Added, Removed: n.Removed,
			Views: n.Views, Removes: n.Removes, Spent: n.Spent,
		}))
	}
	arms, count := map[storefront.UserItem]string{}, map[string]int{}
	for _, p := range weirtest.Collect[storefront.Prediction](r, "predictions") {
		b, err := json.Marshal(p)
		if err != nil {
			tb.Fatal(err)
		}
		var s proof.Score
		if err := json.Unmarshal(b, &s); err != nil {
			tb.Fatal(err)
		}
		key := storefront.UserItem{User: s.Features.User, Item: s.Features.Item}
		if arm, ok := arms[key]; ok && arm != s.Arm {
			tb.Fatalf("%s and %s answer for %v", arm, s.Arm, key)
		}
		arms[key] = s.Arm
		count[s.Arm]++
		got = append(got, s.Value())
	}
	slices.Sort(got)
	return got, count
}

// play returns a chapter of the demo's play as steps, the results that the model
// finds, and how often each kind of plant is in it.
func play(c script.Config) (steps []weirtest.Step, want []proof.Result, kinds map[string]int) {
	kinds = map[string]int{}
	m := proof.NewModel()
	p := script.Play(c, 0)
	n := c.ChapterLen()
	take := func(e script.Event) {
		steps = append(steps, weirtest.Into("clicks", weirtest.Value(click(e))))
		m.Take(e, 0, func(r proof.Result) { want = append(want, r) })
	}
	for range n {
		e, plant := p.Next()
		take(e)
		if plant != nil {
			kinds[plant.Kind]++
		}
	}
	take(c.Closing(n))
	// At the end of input the windows of the closing event end too.
	for _, w := range []struct {
		label       string
		size, slide int64
	}{{"1m", 60_000, 10_000}, {"5m", 300_000, 300_000}} {
		at := c.Closing(n).At
		for end := at - at%w.slide + w.slide; end-w.size <= at; end += w.slide {
			want = append(want, proof.Result{Value: fmt.Sprintf("%+v", proof.Count{Window: w.label, User: "closing", From: end - w.size, To: end, Views: 1})})
		}
	}
	return steps, want, kinds
}

func TestPlay(t *testing.T) {
	c := script.Config{Seed: 3, Rate: 100, Speed: 150}
	steps, want, kinds := play(c)
	for _, k := range script.Kinds() {
		if kinds[k] == 0 {
			t.Errorf("the play has no %q", k)
		}
	}
	t.Logf("seed %d: %d clicks, %d results, plants %v", c.Seed, len(steps), len(want), kinds)
	weirtest.Matrix(t, storefront.Job(), steps, func(tb testing.TB, r *weirtest.Run) {
		tb.Helper()
		got, arms := collect(tb, r)
		if all := len(steps); arms[storefront.Canary] < all/20 || arms[storefront.Canary] > all/6 || arms[storefront.Steady] < all/2 {
			tb.Errorf("predictions by arm: %v", arms)
		}
		diff(tb, got, want)
	}, kit...)
}

// diff reports what is in one list and not in the other.
func diff(tb testing.TB, got []string, want []proof.Result) {
	tb.Helper()
	n, same := map[string]int{}, map[string]string{}
	for _, r := range want {
		n[r.Value]--
		for _, v := range r.Values {
			same[v] = r.Value
		}
	}
	for _, s := range got {
		if v, ok := same[s]; ok {
			s = v
		}
		n[s]++
	}
	shown := 0
	for _, s := range slices.Sorted(maps.Keys(n)) {
		if n[s] == 0 || shown > 10 {
			continue
		}
		shown++
		tb.Errorf("%+d of %s", n[s], s)
	}
}

// TestHesitation goes over the edges by hand.
func TestHesitation(t *testing.T) {
	const minute = 60_000
	at := func(kind string, ms int64) storefront.Click {
		return storefront.Click{User: "u", Item: "i", Kind: kind, At: script.Base + ms}
	}
	v, a, r := storefront.View, storefront.Add, storefront.Remove
	for _, tc := range []struct {
		name   string
		clicks []storefront.Click
		want   int
	}{
		{"plain", []storefront.Click{at(v, 0), at(v, 1), at(v, 2), at(a, 3), at(r, 4)}, 1},
		{"ten minutes", []storefront.Click{at(v, 0), at(v, 1), at(v, 2), at(a, 3), at(r, 10*minute)}, 1},
		{"one more", []storefront.Click{at(v, 0), at(v, 1), at(v, 2), at(a, 3), at(r, 10*minute+1)}, 0},
		{"a later view counts", []storefront.Click{at(v, 0), at(v, 1), at(v, 2), at(v, 3), at(a, 4), at(r, 10*minute+1)}, 1},
		{"a view after the addition does not", []storefront.Click{at(v, 0), at(v, 1), at(v, 2), at(a, 3), at(v, 4), at(r, 10*minute+1)}, 0},
		{"added again", []storefront.Click{at(v, 0), at(v, 1), at(v, 2), at(a, 3), at(v, 4), at(a, 5), at(r, 10*minute+1)}, 1},
		{"used up", []storefront.Click{at(v, 0), at(v, 1), at(v, 2), at(a, 3), at(r, 4), at(a, 5), at(r, 6)}, 1},
		{"not used up by a removal without an addition", []storefront.Click{at(v, 0), at(r, 1), at(v, 2), at(v, 3), at(a, 4), at(r, 5)}, 1},
		{"out of order", []storefront.Click{at(v, 0), at(r, 4000), at(a, 3000), at(v, 2000), at(v, 1000)}, 1},
		{"late", []storefront.Click{at(v, 0), at(v, 1), at(v, 6001), at(v, 1000), at(a, 6002), at(r, 6003)}, 1},
		{"too late", []storefront.Click{at(v, 0), at(v, 6001), at(v, 1000), at(a, 6002), at(r, 6003)}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run := weirtest.New(t, storefront.Job(), kit...)
			for _, c := range tc.clicks {
				run.Do(weirtest.Into("clicks", weirtest.Value(c)))
			}
			run.Do(weirtest.EndOfInput())
			if got := weirtest.Collect[storefront.Nudge](run, "nudges"); len(got) != tc.want {
				t.Errorf("%d nudges, want %d: %+v", len(got), tc.want, got)
			}
		})
	}
}
