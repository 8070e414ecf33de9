package feature_test

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/weirflow/weir/operators/feature"
)

// ev is a record of the random streams.
type ev struct {
	at   int64
	v    float64
	cat  string
	flag bool
	code int32
}

func evValue(e ev) float64  { return e.v }
func evCat(e ev) string     { return e.cat }
func evFlag(e ev) bool      { return e.flag }
func evSmall(e ev) bool     { return e.v < 100 }
func evCode(e ev) int32     { return e.code }
func evCodeF(e ev) float64  { return float64(e.code) }
func evNot(e ev) bool       { return !e.flag }
func isNull(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

// modelFeature is a feature, and what it is by definition: a function of the raw
// records of the window, in the order of time and then of arrival.
type modelFeature struct {
	f *feature.Feature[ev]
	// fields returns the value of each field: float64, string, list, map, or nil.
	want func(w []ev, clock int64, horizon time.Duration) any
	// cond is the Where; null says that records without a value do not count.
	cond func(ev) bool
	null bool
	zero bool // 0 when empty, unless empty is null
	// tol is the error allowed, in relation to what scale returns.
	tol   float64
	scale func(w []ev) float64
}

// model keeps the records of a key.
type model struct {
	all       []ev
	clock     int64
	started   bool
	including bool
	period    int64
	offset    int64
	// A key is forgotten when it has been silent for expiry, and comes to be with a
	// record that counts for some feature.
	expiry int64
	counts func(ev) bool
}

func (m *model) boundary(t int64) int64 {
	if m.period == 0 {
		return t
	}
	d := (t - m.offset) % m.period
	if d < 0 {
		d += m.period
	}
	return t - d
}

// see takes a record and returns what counts for its vector.
func (m *model) see(e ev) []ev {
	c := m.boundary(e.at)
	if m.started && c > m.clock && c-m.clock >= m.expiry {
		m.started = false
	}
	switch {
	case !m.started && !m.counts(e):
		m.clock = c
		return nil
	case !m.started:
		m.clock, m.started, m.all = c, true, nil
	case c > m.clock:
		m.clock = c
	}
	if m.including {
		m.all = append(m.all, e)
	}
	var vis []ev
	for _, x := range m.all {
		if x.at < m.clock || m.including && x.at == m.clock {
			vis = append(vis, x)
		}
	}
	if !m.including {
		m.all = append(m.all, e)
	}
	slices.SortStableFunc(vis, func(a, b ev) int { return cmp.Compare(a.at, b.at) })
	return vis
}

// from returns where the window of a field begins, as documented.
func (m *model) from(f *feature.Field) int64 {
	if f.Horizon == 0 {
		return math.MinInt64
	}
	w, hop := int64(f.Horizon), int64(f.Hop)
	c := m.clock - m.offset
	if hop == 0 {
		return c - w + m.offset
	}
	q := c / hop
	if c%hop < 0 {
		q--
	}
	n := w / hop
	if w%hop != 0 {
		n++
	}
	return (q-n)*hop + m.offset
}

func values(w []ev) []float64 {
	var vs []float64
	for _, e := range w {
		vs = append(vs, e.v)
	}
	return vs
}

func sumOf(vs []float64) float64 {
	s := 0.0
	for _, v := range vs {
		s += v
	}
	return s
}

func sumAbs(w []ev) float64 {
	s := 0.0
	for _, e := range w {
		s += math.Abs(e.v)
	}
	return s
}

// varianceOf takes two passes.
func varianceOf(vs []float64) float64 {
	mean := sumOf(vs) / float64(len(vs))
	s := 0.0
	for _, v := range vs {
		s += (v - mean) * (v - mean)
	}
	return s / float64(len(vs))
}

func maxSquare(w []ev) float64 {
	m := 1e-300
	for _, e := range w {
		m = max(m, e.v*e.v)
	}
	return m
}

func groupBy(w []ev, f func([]ev) any) any {
	parts := map[string][]ev{}
	for _, e := range w {
		parts[e.cat] = append(parts[e.cat], e)
	}
	out := map[string]float64{}
	for c, p := range parts {
		if v, ok := f(p).(float64); ok {
			out[c] = v
		}
	}
	return out
}

func newestFirst[V any](w []ev, k int, f func(ev) V) []V {
	var out []V
	for i := len(w) - 1; i >= 0 && len(out) < k; i-- {
		out = append(out, f(w[i]))
	}
	return out
}

func uniqueNewest(w []ev, k int) any {
	var out []string
	for i := len(w) - 1; i >= 0 && len(out) < k; i-- {
		if !slices.Contains(out, w[i].cat) {
			out = append(out, w[i].cat)
		}
	}
	return out
}

func uniqueOldest[V comparable](w []ev, k int, f func(ev) V) any {
	var out []V
	for i := 0; i < len(w) && len(out) < k; i++ {
		if v := f(w[i]); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func sortedK(w []ev, k int, sign float64) any {
	vs := values(w)
	slices.SortFunc(vs, func(a, b float64) int { return cmp.Compare(sign*a, sign*b) })
	return vs[:min(k, len(vs))]
}

func countDistinct(w []ev) float64 {
	seen := map[string]bool{}
	for _, e := range w {
		seen[e.cat] = true
	}
	return float64(len(seen))
}

func topCats(w []ev, k int) any {
	n := map[string]float64{}
	for _, e := range w {
		n[e.cat]++
	}
	var cats []string
	for c := range n {
		cats = append(cats, c)
	}
	slices.SortFunc(cats, func(a, b string) int { return cmp.Or(cmp.Compare(n[b], n[a]), cmp.Compare(a, b)) })
	out := map[string]float64{}
	for _, c := range cats[:min(k, len(cats))] {
		out[c] = n[c]
	}
	return out
}

// slopeOf fits a line by the textbook, about the means.
func slopeOf(w []ev) any {
	n := float64(len(w))
	var mt, mv float64
	for _, e := range w {
		mt += float64(e.at-w[0].at) / 1e9 / n
		mv += e.v / n
	}
	var stt, stv float64
	for _, e := range w {
		dt := float64(e.at-w[0].at)/1e9 - mt
		stt += dt * dt
		stv += dt * (e.v - mv)
	}
	if len(w) < 2 || w[0].at == w[len(w)-1].at {
		return nil
	}
	if w[len(w)-1].at-w[0].at < 1e6 {
		return math.NaN() // a millisecond, years from the origin: not compared
	}
	return stv / stt
}

func quantileOf(q float64) func([]ev, int64, time.Duration) any {
	return func(w []ev, _ int64, _ time.Duration) any {
		vs := values(w)
		slices.Sort(vs)
		return vs[int(q*float64(len(vs)-1))]
	}
}

// plain ignores what most features do not need.
func plain(f func([]ev) any) func([]ev, int64, time.Duration) any {
	return func(w []ev, _ int64, _ time.Duration) any { return f(w) }
}

// modelFeatures is one of each kind; a field is found by the feature's name, which
// is the key.
func modelFeatures() map[string]*modelFeature {
	n := func(w []ev) any { return float64(len(w)) }
	sum := func(w []ev) any { return sumOf(values(w)) }
	mean := func(w []ev) any { return sumOf(values(w)) / float64(len(w)) }
	least := func(w []ev) any { return slices.Min(values(w)) }
	ms := map[string]*modelFeature{
		"count":    {f: feature.Count[ev]("count"), want: plain(n), zero: true},
		"flagged":  {f: feature.Count[ev]("flagged").Where(evFlag), want: plain(n), cond: evFlag, zero: true},
		"sum":      {f: feature.Sum("sum", evValue), want: plain(sum), null: true, zero: true, tol: 1e-12, scale: sumAbs},
		"mean":     {f: feature.Mean("mean", evValue), want: plain(mean), null: true, tol: 1e-12, scale: sumAbs},
		"min":      {f: feature.Min("min", evValue).Where(evFlag).Where(evSmall), want: plain(least), null: true, cond: func(e ev) bool { return evFlag(e) && evSmall(e) }},
		"max":      {f: feature.Max("max", evValue), want: plain(func(w []ev) any { return slices.Max(values(w)) }), null: true},
		"variance": {f: feature.Variance("variance", evValue), want: plain(func(w []ev) any { return varianceOf(values(w)) }), null: true, tol: 1e-9, scale: maxSquare},
		"stddev":   {f: feature.Stddev("stddev", evValue).Where(evFlag), want: plain(func(w []ev) any { return math.Sqrt(varianceOf(values(w))) }), cond: evFlag, null: true, tol: 1e-6, scale: func(w []ev) float64 { return math.Sqrt(maxSquare(w)) }},
		"rate":     {f: feature.Rate[ev]("rate"), want: func(w []ev, _ int64, h time.Duration) any { return float64(len(w)) / h.Seconds() }, zero: true},
		"trend":    {f: feature.Trend("trend", evCodeF), want: plain(func(w []ev) any { return slopeOf(coded(w)) }), tol: 1e-5, scale: func(w []ev) float64 { return 1e3 / (float64(w[len(w)-1].at-w[0].at) / 1e9) }},
		"ratio": {f: feature.Ratio("ratio", feature.Sum("", evCodeF).Where(evFlag), feature.Count[ev]("")), want: plain(func(w []ev) any {
			s, k := 0.0, 0
			for _, e := range w {
				if e.flag {
					s += float64(e.code)
					k++
				}
			}
			if k == 0 {
				return nil
			}
			return s / float64(len(w))
		}), tol: 1e-12, scale: func([]ev) float64 { return 1e3 }},
		"delta":   {f: feature.Delta("delta", evValue), want: plain(func(w []ev) any { return w[len(w)-1].v - w[0].v }), null: true},
		"first":   {f: feature.First("first", evValue), want: plain(func(w []ev) any { return w[0].v }), null: true},
		"first1":  {f: feature.First("first1", evCat), want: plain(func(w []ev) any { return w[0].cat })},
		"last":    {f: feature.Last("last", evValue), want: plain(func(w []ev) any { return w[len(w)-1].v }), null: true},
		"last1":   {f: feature.Last("last1", evCat).Where(evNot), want: plain(func(w []ev) any { return w[len(w)-1].cat }), cond: evNot},
		"since":   {f: feature.SinceLast[ev]("since").Where(evFlag), want: func(w []ev, c int64, _ time.Duration) any { return float64(c-w[len(w)-1].at) / 1e9 }, cond: evFlag},
		"firstk":  {f: feature.FirstK("firstk", evCode, 3), want: plain(func(w []ev) any { return codes(w[:min(3, len(w))]) })},
		"firstkc": {f: feature.FirstK("firstkc", evCat, 4).Where(evFlag), want: plain(func(w []ev) any { return cats(w[:min(4, len(w))]) }), cond: evFlag},
		"firstku": {f: feature.FirstK("firstku", evCat, 3).Unique(), want: plain(func(w []ev) any { return uniqueOldest(w, 3, evCat) })},
		"firstkv": {f: feature.FirstK("firstkv", evCode, 5).Unique().Where(evFlag), want: plain(func(w []ev) any { return uniqueOldest(w, 5, evCodeF) }), cond: evFlag},
		"exlast":  {f: feature.Last("exlast", evValue).Exact(), want: plain(func(w []ev) any { return w[len(w)-1].v }), null: true},
		"exlastk": {f: feature.LastK("exlastk", evCat, 4).Exact(), want: plain(func(w []ev) any { return newestFirst(w, 4, evCat) })},
		"exsince": {f: feature.SinceLast[ev]("exsince").Exact().Where(evFlag), want: func(w []ev, c int64, _ time.Duration) any { return float64(c-w[len(w)-1].at) / 1e9 }, cond: evFlag},
		"excats":  {f: feature.Distinct("excats", evCat).Exact(), want: plain(func(w []ev) any { return countDistinct(w) }), zero: true},
		"lastk":   {f: feature.LastK("lastk", evValue, 5), want: plain(func(w []ev) any { return newestFirst(w, 5, evValue) }), null: true},
		"lastkc":  {f: feature.LastK("lastkc", evCat, 3), want: plain(func(w []ev) any { return newestFirst(w, 3, evCat) })},
		"uniquek": {f: feature.LastK("uniquek", evCat, 4).Unique(), want: plain(func(w []ev) any { return uniqueNewest(w, 4) })},
		"topk":    {f: feature.TopK("topk", evValue, 3), want: plain(func(w []ev) any { return sortedK(w, 3, -1) }), null: true},
		"bottomk": {f: feature.BottomK("bottomk", evValue, 2).Where(evFlag), want: plain(func(w []ev) any { return sortedK(w, 2, 1) }), cond: evFlag, null: true},
		"cats":    {f: feature.Distinct("cats", evCat), want: plain(func(w []ev) any { return countDistinct(w) }), zero: true},
		"hist":    {f: feature.Histogram("hist", evCat, 3), want: plain(func(w []ev) any { return topCats(w, 3) })},
		"histall": {f: feature.Histogram("histall", evCat, 0).Where(evFlag), want: plain(func(w []ev) any { return topCats(w, 1000) }), cond: evFlag},
		"bycount": {f: feature.Count[ev]("bycount").By(evCat), want: plain(func(w []ev) any { return groupBy(w, n) })},
		"bysum":   {f: feature.Sum("bysum", evCodeF).By(evCat).Where(evFlag), want: plain(func(w []ev) any { return groupBy(coded(w), sum) }), cond: evFlag, tol: 1e-12, scale: func([]ev) float64 { return 1e3 }},
		"bymin":   {f: feature.Min("bymin", evValue).By(evCat), want: plain(func(w []ev) any { return groupBy(w, least) }), null: true},
		"excount": {f: feature.Count[ev]("excount").Exact(), want: plain(n), zero: true},
		"exmean":  {f: feature.Mean("exmean", evValue).Exact().Where(evFlag), want: plain(mean), cond: evFlag, null: true, tol: 1e-12, scale: sumAbs},
		"exdelta": {f: feature.Delta("exdelta", evValue).Exact(), want: plain(func(w []ev) any { return w[len(w)-1].v - w[0].v }), null: true},
		"dcount":  {f: feature.DecayCount[ev]("dcount", halfLife).Where(evFlag), want: func(w []ev, c int64, _ time.Duration) any { return decayed(w, c, func(ev) float64 { return 1 }) }, cond: evFlag, zero: true, tol: 1e-9, scale: func(w []ev) float64 { return float64(len(w)) }},
		"dsum":    {f: feature.DecaySum("dsum", evValue, halfLife), want: func(w []ev, c int64, _ time.Duration) any { return decayed(w, c, evValue) }, null: true, zero: true, tol: 1e-9, scale: sumAbs},
		"p":       {f: feature.Percentile("p", evValue, 0.5), want: quantileOf(0.5), null: true, tol: 0.0100001},
	}
	return ms
}

func coded(w []ev) []ev {
	w = slices.Clone(w)
	for i := range w {
		w[i].v = float64(w[i].code)
	}
	return w
}

func codes(w []ev) []float64 {
	var out []float64
	for _, e := range w {
		out = append(out, float64(e.code))
	}
	return out
}

func cats(w []ev) []string {
	var out []string
	for _, e := range w {
		out = append(out, e.cat)
	}
	return out
}

const halfLife = 20 * time.Second

// decayed sums values by their age; what is 64 half-lives old does not count.
func decayed(w []ev, clock int64, f func(ev) float64) any {
	s := 0.0
	for _, e := range w {
		s += f(e) * math.Pow(0.5, float64(clock-e.at)/float64(halfLife))
	}
	if clock-w[len(w)-1].at >= 64*int64(halfLife) {
		return nil
	}
	return s
}
