package feature_test

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/operators/feature"
)

var (
	goldenFile = flag.String("golden", "testdata/chronon_quickstart/golden.jsonl", "golden rows of TestGolden")
	goldenData = flag.String("data", "testdata/chronon_quickstart", "directory of the events of TestGolden")
)

// shopEvent is a row of any of the files.
type shopEvent struct {
	kind   string
	user   string
	at     int64 // nanoseconds
	amount float64
	since  string
	mail   float64
}

func is(kind string) func(shopEvent) bool {
	return func(e shopEvent) bool { return e.kind == kind }
}

func amount(e shopEvent) float64 { return e.amount }

const day = 24 * time.Hour

// shopFeatures are those that a file of events has in the golden rows.
func shopFeatures(name, kind string, lastK int, exact bool) []*feature.Feature[shopEvent] {
	only := is(kind)
	fs := []*feature.Feature[shopEvent]{
		feature.Sum(name+"_sum", amount).Where(only).Over(3*day, 14*day, 30*day),
		feature.Count[shopEvent](name+"_count").Where(only).Over(3*day, 14*day, 30*day),
		feature.Mean(name+"_average", amount).Where(only).Over(3*day, 14*day, 30*day),
	}
	if exact {
		for _, f := range fs {
			f.Exact()
		}
	}
	return append(fs, feature.LastK(fmt.Sprintf("%s_last%d", name, lastK), amount, lastK).Where(only).Lifetime())
}

// chrononHop is the hop of that system's windows.
func chrononHop(w time.Duration) time.Duration {
	switch {
	case w >= 12*day:
		return day
	case w >= 12*time.Hour:
		return time.Hour
	}
	return 5 * time.Minute
}

func goldenGroups() map[string][]*feature.Group[shopEvent] {
	users := feature.Set(
		feature.Last("account_created_ds", func(e shopEvent) string { return e.since }).Where(is("user")).Lifetime(),
		feature.Last("email_verified", func(e shopEvent) float64 { return e.mail }).Where(is("user")).Lifetime(),
	)
	return map[string][]*feature.Group[shopEvent]{
		"chronon": {
			feature.Set(shopFeatures("purchase_price", "purchase", 10, false)...).SnapshotEvery(day, 0).EmptyIsNull().Prefix("quickstart_purchases_v1_"),
			feature.Set(shopFeatures("refund_amt", "return", 2, false)...).Hops(chrononHop).EmptyIsNull().Prefix("quickstart_returns_v1_"),
			users.SnapshotEvery(day, 0).Prefix("quickstart_users_v1_"),
		},
		"sliding": {
			feature.Set(shopFeatures("purchase_price", "purchase", 10, true)...).EmptyIsNull(),
			feature.Set(shopFeatures("refund_amt", "return", 2, true)...).EmptyIsNull(),
		},
	}
}

func TestGolden(t *testing.T) {
	events := goldenEvents(t, *goldenData)
	golden := goldenRows(t, *goldenFile)
	for name, groups := range goldenGroups() {
		t.Run(name, func(t *testing.T) {
			values, differ := 0, 0
			got := goldenVectors(t, groups, events)
			for _, g := range golden {
				want := g.rows[name]
				have := got[g.user+" "+strconv.FormatInt(g.at, 10)]
				if len(want) == 0 || len(want) != len(have) {
					t.Fatalf("user %s at %d: %d fields, want %d", g.user, g.at, len(have), len(want))
				}
				for f, w := range want {
					values++
					if !reflect.DeepEqual(have[f], w) {
						if differ++; differ < 10 {
							t.Errorf("user %s at %d: %s is %v, want %v", g.user, g.at, f, have[f], w)
						}
					}
				}
			}
			t.Logf("%d rows, %d values, %d differ", len(golden), values, differ)
			if differ > 0 {
				t.Errorf("%d of %d values differ", differ, values)
			}
		})
	}
}

// goldenVectors runs the groups over the events, and returns the fields of the
// checkouts by user and time in milliseconds.
func goldenVectors(t *testing.T, groups []*feature.Group[shopEvent], events []shopEvent) map[string]map[string]any {
	t.Helper()
	rows := map[string]map[string]any{}
	for _, g := range groups {
		p, err := g.Compile()
		if err != nil {
			t.Fatal(err)
		}
		core, states := p.NewCore(), map[string][]byte{}
		for _, e := range events {
			next, moved, err := core.Step(states[e.user], e.at, &e)
			if err != nil {
				t.Fatal(err)
			}
			if moved {
				states[e.user] = slices.Clone(next)
			}
			if e.kind != "checkout" {
				continue
			}
			id := e.user + " " + strconv.FormatInt(e.at/1e6, 10)
			if rows[id] == nil {
				rows[id] = map[string]any{}
			}
			for i, f := range p.Schema().Fields {
				v := core.Vector().View().Value(i)
				if l, ok := v.([]float64); ok {
					var list []any
					for _, x := range l {
						list = append(list, x)
					}
					v = list
				}
				rows[id][f.Name] = v
			}
		}
	}
	return rows
}

// goldenEvents returns the events of all files in the order of time.
func goldenEvents(t *testing.T, dir string) []shopEvent {
	t.Helper()
	var all []shopEvent
	for file, kind := range map[string]string{"checkouts": "checkout", "purchases": "purchase", "returns": "return", "users": "user"} {
		n := len(all)
		for _, r := range csvRows(t, filepath.Join(dir, file+".csv")) {
			e := shopEvent{kind: kind, user: r["user_id"]}
			num := func(s string) float64 {
				v, err := strconv.ParseFloat(s, 64)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			switch kind {
			case "user":
				ds, err := time.Parse(time.DateOnly, r["ds"])
				if err != nil {
					t.Fatal(err)
				}
				e.at, e.since, e.mail = ds.UnixNano(), r["account_created_ds"], num(r["email_verified"])
			case "purchase":
				e.amount = num(r["purchase_price"])
			case "return":
				e.amount = num(r["refund_amt"])
			}
			if kind != "user" {
				ms, err := strconv.ParseInt(r["ts"], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				e.at = ms * 1e6
			}
			all = append(all, e)
		}
		if len(all) == n {
			t.Fatalf("%s.csv has no rows", file)
		}
	}
	slices.SortStableFunc(all, func(a, b shopEvent) int {
		return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.kind, b.kind), strings.Compare(a.user, b.user))
	})
	return all
}

func csvRows(t *testing.T, file string) []map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var out []map[string]string
	for i := 1; i < len(rows); i++ {
		r := map[string]string{}
		for j, name := range rows[0] {
			r[name] = rows[i][j]
		}
		out = append(out, r)
	}
	return out
}

type goldenRow struct {
	user string
	at   int64 // milliseconds
	rows map[string]map[string]any
}

func goldenRows(t *testing.T, file string) []goldenRow {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []goldenRow
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var r struct {
			UserID           string `json:"user_id"`
			TS               int64
			Chronon, Sliding map[string]any
		}
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		out = append(out, goldenRow{r.UserID, r.TS, map[string]map[string]any{"chronon": r.Chronon, "sliding": r.Sliding}})
	}
	if err := sc.Err(); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if len(out) == 0 {
		t.Fatalf("%s has no rows", file)
	}
	return out
}
