package feature_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators/feature"
)

func TestAllMistakesAreReportedTogether(t *testing.T) {
	var none func(txn) float64
	_, err := feature.Set(
		feature.Count[txn]("no-horizon"),
		feature.Sum("negative", txnAmount).Over(-time.Minute),
		feature.Mean("nothing", none).Over(time.Minute),
		feature.LastK("k", txnShop, 0).Over(time.Minute),
		feature.Percentile("q", txnAmount, 1.5).Over(time.Minute),
		feature.DecayCount[txn]("half", 0),
		feature.DecaySum("decays", txnAmount, time.Minute).Over(time.Minute),
		feature.Rate[txn]("rate").Lifetime(),
		feature.Distinct("by", txnShop).By(txnShop).Over(time.Minute),
		feature.Ratio("ratio", feature.Last("l", txnAmount), feature.Count[txn]("c")).Over(time.Minute),
		feature.TopK("exact", txnAmount, 2).Over(time.Minute).Exact(),
		feature.Count[txn]("bad name").Over(time.Minute),
		feature.Max("unique", txnAmount).Unique().Over(time.Minute),
		feature.Min("default", txnAmount).Default(math.NaN()).Over(time.Minute),
		nil,
	).Tiles(0).Including().SnapshotEvery(time.Hour, 0).Compile()
	if err == nil {
		t.Fatal("nothing was refused")
	}
	for _, want := range []string{
		"no-horizon", "-1m0s", `"nothing" has no function`, "k = 0", "quantile 1.5", "half-life", "decays and has horizons", "rate over a lifetime",
		`"by" has By`, "not a scalar", `"exact" has Exact`, `"bad name"`, `"unique" has Unique`, "not finite", "is nil", "Tiles(0)", "cannot be Including",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no report of %q", want)
		}
	}
	if !strings.Contains(err.Error(), "declare_test.go:") || base.CodeOf(err) != "WEIR-0170" {
		t.Errorf("neither place nor code: %v", err)
	}
	t.Log(err)
	for name, g := range map[string]*feature.Group[txn]{
		"the group has already": feature.Set(feature.Count[txn]("n").Over(time.Minute), feature.Sum("n", txnAmount).Over(time.Minute)),
		"names a horizon twice": feature.Set(feature.Count[txn]("n").Over(time.Minute, time.Minute)),
		"not a number":          feature.Set(feature.LastK("n", txnShop, 2).Default(1).Over(time.Minute)),
		"not a multiple":        feature.Set(feature.Count[txn]("n").Over(time.Minute, time.Hour)).Hops(func(w time.Duration) time.Duration { return w/7 + 1 }),
	} {
		if _, err := g.Compile(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestLastFive is the checklist's: the last five transactions of a session.
func TestLastFive(t *testing.T) {
	p, err := feature.Set(feature.LastK("shops", txnShop, 5).Over(30 * time.Minute)).Compile()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 5))
	core := p.NewCore()
	var state []byte
	var all []txn
	at := int64(0)
	for i := range 2000 {
		at += rng.Int64N(int64(10 * time.Minute))
		e := txn{At: at, Shop: fmt.Sprint(rng.IntN(50))}
		next, moved, err := core.Step(state, at, &e)
		if err != nil {
			t.Fatal(err)
		}
		if moved {
			state = slices.Clone(next)
		}
		hop := int64(30*time.Minute) / 24
		var want []string
		for j := len(all) - 1; j >= 0 && len(want) < 5 && all[j].At >= (at/hop-24)*hop; j-- {
			want = append(want, all[j].Shop)
		}
		if got := core.Vector().View().Texts("shops_30m"); !slices.Equal(got, want) {
			t.Fatalf("event %d: %v, want %v", i, got, want)
		}
		all = append(all, e)
	}
}

// play steps through events and returns the last vector as a view, with the size of
// the state.
func play[T any](t *testing.T, p *feature.Program[T], n int, event func(i int) (int64, T)) (feature.View, int) {
	t.Helper()
	core := p.NewCore()
	var state []byte
	for i := range n {
		at, e := event(i)
		next, moved, err := core.Step(state, at, &e)
		if err != nil {
			t.Fatal(err)
		}
		if moved {
			state = slices.Clone(next)
		}
	}
	return core.Vector().View(), len(state)
}

func TestLimitsHoldAndAreStated(t *testing.T) {
	p, err := feature.Set(
		feature.Distinct("cats", evCat).Over(time.Minute, time.Hour).Limit(50),
		feature.Distinct("fine", evCat).Over(time.Hour).Limit(50).Precision(12),
		feature.Count[ev]("by").By(evCat).Over(time.Hour).Limit(10),
		feature.Percentile("p", evValue, 0.5, 0.99).Over(time.Hour).Limit(400),
		feature.Count[ev]("exact").Over(time.Hour).Exact().Limit(100),
		feature.Count[ev]("n").Over(time.Hour),
	).Including().Compile()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	var vs []float64
	const events = 20_000
	v, size := play(t, p, events, func(i int) (int64, ev) {
		x := math.Exp(rng.NormFloat64() * 3)
		vs = append(vs, x)
		return int64(i) * int64(50*time.Millisecond), ev{cat: fmt.Sprint("c", i%5000), v: x}
	})
	slices.Sort(vs)
	minute := 1250.0 // a minute and a tile of it
	// 400 cells in 25 tiles: five times 1 % has been doubled.
	for name, want := range map[string][2]float64{
		"cats_1m": {minute, 4 * 0.065}, "cats_1h": {5000, 4 * 0.065}, "fine_1h": {5000, 4 * 0.01625},
		"p_p50_1h": {vs[(events-1)/2], 0.32}, "p_p99_1h": {vs[(events-1)*99/100], 0.32},
		"exact_1h": {events, 0}, "n_1h": {events, 0},
	} {
		got, ok := v.Float(name)
		if !ok || math.Abs(got-want[0]) > want[0]*want[1] {
			t.Errorf("%s is %v, want %v with an error of %v", name, got, want[0], want[1])
		}
	}
	by := v.Map("by_1h")
	sum := 0.0
	for _, n := range by {
		sum += n
	}
	if len(by) != 11 || sum != events || by["c3"] != 4 || by[feature.Other] == 0 {
		t.Errorf("by: %d buckets, %v events, %v", len(by), sum, by)
	}
	if size > 200_000 {
		t.Errorf("the state has %d bytes", size)
	}
	t.Logf("%d bytes", size)
}

func TestStateSizes(t *testing.T) {
	p, err := eightScalars(fiveHorizons...).Compile()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	at := int64(0)
	for _, c := range []struct {
		name   string
		events int
		gap    time.Duration
		most   int
	}{{"one event", 1, 1, 250}, {"sparse", 2000, 8 * time.Hour, 3000}, {"dense", 20_000, time.Minute, 7000}} {
		_, size := play(t, p, c.events, func(int) (int64, txn) {
			at += rng.Int64N(int64(2 * c.gap))
			return at, txn{At: at, Amount: rng.Float64(), Online: rng.IntN(2) == 0}
		})
		t.Logf("%s: %d bytes", c.name, size)
		if size > c.most {
			t.Errorf("a %s key takes %d bytes, more than %d", c.name, size, c.most)
		}
	}
	for _, h := range p.Horizons() {
		if h.Error > 0.05 || h.Tail != h.Hop {
			t.Errorf("horizon %v: %+v", h.Length, h)
		}
	}
}

// features is a typed vector.
type features struct {
	Views  int64              `feature:"n_1m"`
	Spend  float64            `feature:"spend_1m"`
	Last   *float64           `feature:"last_1m"`
	Shops  []string           `feature:"shops"`
	Latest string             `feature:"shop_1m"`
	By     map[string]float64 `feature:"by_1m"`
	Other  int
}

func TestTypedVectors(t *testing.T) {
	p, err := feature.Set(
		feature.Count[txn]("n").Over(time.Minute), feature.Sum("spend", txnAmount).Over(time.Minute), feature.Last("last", txnAmount).Over(time.Minute),
		feature.LastK("shops", txnShop, 2).Lifetime(), feature.Last("shop", txnShop).Over(time.Minute), feature.Count[txn]("by").By(txnShop).Over(time.Minute),
	).Compile()
	if err != nil {
		t.Fatal(err)
	}
	b, err := feature.Bind[features](p.Schema())
	if err != nil {
		t.Fatal(err)
	}
	core := p.NewCore()
	var got features
	step := func(state []byte, at int64) []byte {
		next, _, err := core.Step(state, at, &txn{Amount: 2.5, Shop: "a"})
		if err != nil {
			t.Fatal(err)
		}
		b.FillVector(core.Vector(), &got)
		return slices.Clone(next)
	}
	got.Other = 7
	state := step(nil, 1e9)
	if got.Last != nil || got.Views != 0 || got.Shops != nil || got.Other != 7 {
		t.Errorf("of nothing: %+v", got)
	}
	state = step(state, 2e9)
	step(state, 3e9)
	if got.Views != 2 || got.Spend != 5 || got.Last == nil || *got.Last != 2.5 || !slices.Equal(got.Shops, []string{"a", "a"}) || got.Latest != "a" || got.By["a"] != 2 {
		t.Errorf("%+v", got)
	}
	type wrong struct {
		A string  `feature:"n_1m"`
		B float64 `feature:"absent"`
		c float64 `feature:"n_1m"` //lint:ignore U1000 it is what is tested
	}
	_, err = feature.Bind[wrong](p.Schema())
	for _, want := range []string{"wrong.A is a string", `wrong.B asks for the feature "absent"`, "wrong.c is not exported", "WEIR-0171"} {
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), ": ", " "), want) {
			t.Errorf("no report of %q in %v", want, err)
		}
	}
	if _, err := feature.Bind[struct{ A int }](p.Schema()); err == nil {
		t.Error("a struct without tags was taken")
	}
}

// TestGroupsCombine gives records to two groups of different keys, and takes what one
// of them says over the wire.
func TestGroupsCombine(t *testing.T) {
	users, err := feature.Set(feature.Count[txn]("n").Over(time.Minute), feature.LastK("shops", txnShop, 2).Lifetime()).Prefix("user:").Compile()
	if err != nil {
		t.Fatal(err)
	}
	shops, err := feature.Set(feature.Sum("spend", txnAmount).Over(time.Hour), feature.Min("least", txnAmount).Over(time.Hour)).Prefix("shop:").Compile()
	if err != nil {
		t.Fatal(err)
	}
	c, err := feature.Combine(users, shops)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := feature.Combine(users, users); err == nil {
		t.Error("two groups with the same fields were combined")
	}
	wire, err := codec.For[feature.Carried[txn]]()
	if err != nil {
		t.Fatal(err)
	}
	userCore, shopCore := users.NewCore(), shops.NewCore()
	states := map[string][]byte{}
	var out feature.Row
	for i, e := range []txn{{Card: 1, Shop: "a", Amount: 3}, {Card: 2, Shop: "a", Amount: 4}, {Card: 1, Shop: "b", Amount: 5}, {Card: 1, Shop: "a", Amount: 6}} {
		e.At = int64(i) * 1e9
		in := feature.Carried[txn]{ID: uint64(i), Rec: e}
		u, _, err := userCore.Step(states[fmt.Sprint(e.Card)], e.At, c.Record(&in))
		if err != nil {
			t.Fatal(err)
		}
		states[fmt.Sprint(e.Card)] = slices.Clone(u)
		s, _, err := shopCore.Step(states[e.Shop], e.At, c.Record(&in))
		if err != nil {
			t.Fatal(err)
		}
		states[e.Shop] = slices.Clone(s)
		var user, shop, back feature.Carried[txn]
		c.Part(&in, userCore.Vector(), &user)
		c.Part(&in, shopCore.Vector(), &shop)
		if err := wire.Decode(wire.Append(nil, &user), &back); err != nil {
			t.Fatal(err)
		}
		if back.ID != in.ID || back.Rec != e {
			t.Fatalf("%+v came back as %+v", in, back)
		}
		out = c.Join([]feature.Row{back.Row, shop.Row})
	}
	v := feature.View{Schema: c.Schema(), Row: &out}
	var got []any
	for i := range c.Schema().Fields {
		got = append(got, v.Value(i))
	}
	if want := "[2 [b a] 7 3]"; fmt.Sprint(got) != want {
		t.Errorf("%s is %v, want %s", c.Schema(), got, want)
	}
}
