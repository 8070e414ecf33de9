package feature_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/feature"
)

// TestDerivedFeatures: they see aggregates and what was derived before them, under
// the names of the schema, and for keys without a state too.
func TestDerivedFeatures(t *testing.T) {
	p, err := feature.Set(
		feature.Derive[txn]("share", func(v feature.View) float64 { return v.Num("c:spend_1m") / v.Num("c:spend_1h") }).Default(-1),
		feature.Sum("spend", txnAmount).Over(time.Minute, time.Hour),
		feature.Last("shop", txnShop).Over(time.Hour).DefaultText("none"),
		feature.Derive[txn]("percent", func(v feature.View) float64 { return 100 * v.Num("c:share") }),
		feature.Derive[txn]("known", func(v feature.View) float64 {
			if s, ok := v.Text("c:shop_1h"); !ok || s == "none" {
				return math.NaN()
			}
			return 1
		}),
	).Prefix("c:").Compile()
	if err != nil {
		t.Fatal(err)
	}
	core := p.NewCore()
	var state []byte
	type row struct{ share, percent, known any }
	read := func() row {
		v := core.Vector().View()
		at := func(name string) any { return v.Value(p.Schema().Index(name)) }
		return row{at("c:share"), at("c:percent"), at("c:known")}
	}
	for i, step := range []struct {
		at   time.Duration
		want row
	}{
		{0, row{-1.0, -100.0, nil}},
		{time.Second, row{1.0, 100.0, 1.0}},
		{2 * time.Minute, row{0.0, 0.0, 1.0}},
		{2*time.Minute + 1, row{0.2, 20.0, 1.0}},
		{3 * time.Hour, row{-1.0, -100.0, nil}},
	} {
		amount := 2.0
		if i == 2 {
			amount = 1
		}
		next, moved, err := core.Step(state, int64(step.at), &txn{Amount: amount, Shop: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if moved {
			state = append([]byte(nil), next...)
		}
		if got := read(); got != step.want {
			t.Errorf("record %d: %v, want %v", i, got, step.want)
		}
	}
	if err := core.Read(nil, 0); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != (row{-1.0, -100.0, nil}) {
		t.Errorf("a key without a state has %v", got)
	}
	if p.Schema().Fields[0].Name != "c:share" {
		t.Errorf("the schema is %s", p.Schema())
	}
	same, err := feature.Set(feature.Sum("spend", txnAmount).Over(time.Minute, time.Hour), feature.Last("shop", txnShop).Over(time.Hour)).Compile()
	if err != nil || same.Fingerprint() != p.Fingerprint() {
		t.Errorf("derived features are no part of a state: %x and %x, %v", same.Fingerprint(), p.Fingerprint(), err)
	}
}

func TestMistakesOfDerivedFeatures(t *testing.T) {
	num := func(names ...string) func(feature.View) float64 {
		return func(v feature.View) float64 {
			for _, n := range names {
				v.Num(n)
			}
			return 0
		}
	}
	n := func() *feature.Feature[txn] { return feature.Count[txn]("n").Over(time.Minute) }
	for want, g := range map[string]*feature.Group[txn]{
		`asks for the feature "m_1m"`:                  feature.Set(n(), feature.Derive[txn]("a", num("n_1m", "m_1m"))),
		`the derived feature "b", which is not before`: feature.Set(n(), feature.Derive[txn]("a", num("b")), feature.Derive[txn]("b", num("a"))),
		`the derived feature "a", which is not before`: feature.Set(n(), feature.Derive[txn]("a", num("a"))),
		"panics when all is null":                      feature.Set(n(), feature.Derive[txn]("a", func(v feature.View) float64 { return v.Floats("n_1m")[3] })),
		"is derived and has options":                   feature.Set(n(), feature.Derive[txn]("a", num()).Over(time.Minute)),
		"has no function":                              feature.Set(n(), feature.Derive[txn]("a", nil)),
		"has a default that is not finite":             feature.Set(n(), feature.Derive[txn]("a", num()).Default(math.Inf(1))),
		"has a default text and is not a text":         feature.Set(n().DefaultText("x")),
		"which the group has already":                  feature.Set(n(), feature.Derive[txn]("n_1m", num())),
		"more than 65536":                              feature.Set(n()).Hops(func(time.Duration) time.Duration { return 1 }),
	} {
		_, err := g.Compile()
		if err == nil || !strings.Contains(err.Error(), want) || base.CodeOf(err) != "WEIR-0170" {
			t.Errorf("%s: error %v", want, err)
		}
	}
}
