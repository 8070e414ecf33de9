package pattern_test

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/weirflow/weir/operators/pattern"
)

// A second definition of what a pattern matches, which shares nothing with the
// matcher: a match is a word of slots that the pattern allows and a subset of the
// events, of the same size, such that every event fits its slot and every event left
// out between two of them may be left out there. There are no runs and no automaton.

// refElem is an element of a pattern: a stage, a NOT, or a group.
type refElem struct {
	name     string
	group    []*refElem
	how      byte // 'n'ext, 'f'ollowedBy, 'a'ny, '!' notNext, '-' notFollowedBy
	fits     letters
	from, to int // 1, 1 if it has no quantifier; to 0: no upper bound
	quant    bool
	inner    byte // contiguity between events of the element
	optional bool
	greedy   bool
	until    letters
}

// letters is a set of the letters a to d.
type letters uint8

func (l letters) has(v byte) bool { return l>>(v-'a')&1 != 0 }

// takesAll says that greedy has an effect: on loops and ranges.
func (e *refElem) takesAll() bool { return e.greedy && e.from != e.to }

func (e *refElem) not() bool { return e.how == '!' || e.how == '-' }

// refPattern is a pattern of the model.
type refPattern struct {
	elems  []*refElem
	window int64 // ms; 0: none
	skip   pattern.Skip
}

// slot is one event's place in a word.
type slot struct {
	e          *refElem
	chain      []*refElem // the sequence that e is in
	at         int        // its index there
	group      *refElem
	round, occ int
	how        byte
}

// refuses is what the slot does not take although it fits.
func (s slot) refuses() letters {
	l := s.e.until
	if s.occ == 1 && s.at > 0 && s.chain[s.at-1].takesAll() {
		l |= s.chain[s.at-1].fits
	}
	return l
}

func (s slot) id() string {
	return fmt.Sprintf("%s/%d/%d ", s.e.name, s.round, s.occ)
}

// words lists the ways to fill up to most slots. A word is complete or a beginning.
func (p *refPattern) words(most int) [][]slot {
	var out [][]slot
	p.chain(p.elems, nil, 0, nil, most, func(w []slot, _ bool) { out = append(out, append([]slot(nil), w...)) })
	return out
}

// chain extends a word by a sequence from its start; done gets what it comes to.
func (p *refPattern) chain(chain []*refElem, group *refElem, round int, w []slot, most int, done func([]slot, bool)) {
	var from func(i int, w []slot)
	from = func(i int, w []slot) {
		if i == len(chain) || len(w) >= most {
			done(w, i == len(chain))
			return
		}
		e := chain[i]
		if e.not() {
			from(i+1, w)
			return
		}
		if e.optional {
			from(i+1, w)
		}
		p.rounds(chain, i, group, round, 1, w, most, func(w []slot) { from(i+1, w) })
	}
	from(0, w)
}

// rounds extends a word by one occurrence of chain[i] or more.
func (p *refPattern) rounds(chain []*refElem, i int, group *refElem, round, n int, w []slot, most int, done func([]slot)) {
	e := chain[i]
	if len(w) >= most {
		done(w)
		return
	}
	how := e.how
	if i == 0 && group != nil {
		if how = group.how; round > 1 {
			how = group.inner
		}
	}
	if n > 1 {
		how = e.inner
	}
	after := func(w []slot) {
		if n >= e.from {
			done(w)
		}
		if e.to == 0 || n < e.to {
			p.rounds(chain, i, group, round, n+1, w, most, done)
		}
	}
	if e.group == nil {
		after(append(w, slot{e: e, chain: chain, at: i, group: group, round: round, occ: n, how: how}))
		return
	}
	p.chain(e.group, e, n, w, most, func(v []slot, _ bool) {
		if len(v) > len(w) {
			after(v)
		}
	})
}

// complete says whether a word can end after its last slot, and the letters that
// its last event must not have for that.
func (p *refPattern) complete(w []slot) (ok bool, unless letters) {
	s := w[len(w)-1]
	if s.occ < s.e.from {
		return false, 0
	}
	rest := func(chain []*refElem, i int) {
		for _, e := range chain[i:] {
			switch {
			case e.how == '!':
				unless |= e.fits
			case e.how != '-' && !e.optional:
				ok = false
			}
		}
	}
	ok = true
	rest(s.chain, s.at+1)
	if s.group != nil {
		if s.round < s.group.from {
			return false, 0
		}
		for i, e := range p.elems {
			if e == s.group {
				rest(p.elems, i+1)
			}
		}
	}
	if last := p.elems[len(p.elems)-1]; last.not() {
		return false, 0
	}
	return ok, unless
}

// ends says whether a trailing NOT stands directly behind a slot.
func (p *refPattern) ends(s slot) (*refElem, bool) {
	last := p.elems[len(p.elems)-1]
	if !last.not() || s.group != nil || s.occ < s.e.from || s.at != len(p.elems)-2 {
		return nil, false
	}
	return last, true
}

// gap is what may happen between two slots.
type gap struct {
	how      byte
	fits     letters // of the slot awaited
	never    letters // ends the run, though the contiguity would drop it
	first    letters // ends the run if it comes first
	leaving  letters // the same, but the event that is taken only ends what would go on
	kill     letters // ends the run at any event, the one that is taken included
	take     letters // letters that the slot does not take
	same     bool    // both slots are of one stage
	free     bool    // the run waits for another round of a group first, and may leave it at any event
	headHow  byte
	headFits letters
}

func (p *refPattern) gap(a, b slot) gap {
	g := gap{how: b.how, fits: b.e.fits, take: b.refuses()}
	same := a.e == b.e && a.round == b.round
	if same {
		g.never = b.e.until
	}
	g.first, g.same = firstKill(a), same
	switch {
	case same:
		switch {
		case a.at+1 == len(a.chain) || a.chain[a.at+1].how != '-':
		case a.at == 0 && a.group != nil && a.group.optional && a.round == 1 && b.occ <= a.e.from:
			// The head of an optional group waits, once it has dropped an event, where the
			// NOT behind it is not looked for.
			g.leaving |= a.chain[a.at+1].fits
		default:
			g.kill |= a.chain[a.at+1].fits
		}
	case a.group == b.group && a.round == b.round:
		for _, e := range a.chain[a.at+1 : b.at] {
			if e.how == '-' {
				g.kill |= e.fits
			}
		}
	}
	if b.occ == 1 && b.at > 0 && b.chain[b.at-1].takesAll() {
		g.never |= b.chain[b.at-1].fits
	}
	if a.group != nil && (a.group != b.group || a.round != b.round) {
		g.leaving = a.nots()
	}
	if g.free = a.group != nil && (b.group != a.group) && a.freeHead(); g.free {
		g.headHow, g.headFits = a.group.inner, a.group.group[0].fits
	}
	return g
}

// nots are the letters of the NOTs behind a slot that it is left past on the way out of
// its group: with what stands behind them left out, they see one event.
func (s slot) nots() (l letters) {
	for _, e := range s.chain[s.at+1:] {
		if e.how == '-' {
			l |= e.fits
		}
	}
	return l
}

// firstKill is what must not come right after a slot that can be left into a NotNext.
func firstKill(a slot) letters {
	if a.at+1 < len(a.chain) && a.chain[a.at+1].how == '!' && a.occ >= a.e.from {
		return a.chain[a.at+1].fits
	}
	return 0
}

// freeHead says that behind the slot the run waits at the head of another round that
// need not come.
func (s slot) freeHead() bool {
	g := s.group
	return s.round >= g.from && (g.to == 0 || s.round < g.to) && !g.group[0].optional
}

// drops says whether the wait for a slot drops an event.
func drops(how byte, fits, never letters, v byte) bool {
	if never.has(v) {
		return false
	}
	return how == 'a' || how == 'f' && !fits.has(v)
}

// ways counts the ways in which the events between two of them are dropped, and says
// whether the second ends what would go on from there.
func (g gap) ways(ev []byte, i, j int) (ways int, ends bool) {
	if !g.fits.has(ev[j]) || g.take.has(ev[j]) {
		return 0, false
	}
	for x := i + 1; x <= j; x++ {
		if g.kill.has(ev[x]) || x == i+1 && (g.first|g.leaving).has(ev[x]) {
			// A NotNext is in the way of the stage behind it; a NotFollowedBy only ends
			// what would go on.
			if x < j || x == i+1 && g.first.has(ev[x]) && !g.same {
				return 0, false
			}
			ends = true
		}
	}
	for leave := i + 1; leave <= j; leave++ {
		if leave > i+1 && (!g.free || !drops(g.headHow, g.headFits, 0, ev[leave-1])) {
			break
		}
		ok := true
		for x := leave; x < j; x++ {
			ok = ok && drops(g.how, g.fits, g.never, ev[x])
		}
		if ok {
			ways++
		}
	}
	return ways, ends
}

// lasts returns the index of the last event after which a run that has taken event i
// still waits for the slot.
func (g gap) lasts(ev []byte, i int) int {
	best := i
	for leave := i + 1; leave < len(ev); leave++ {
		if leave > i+1 && (!g.free || !drops(g.headHow, g.headFits, 0, ev[leave-1])) {
			break
		}
		x := i + 1
		for ; x < len(ev); x++ {
			if g.kill.has(ev[x]) || x == i+1 && (g.first|g.leaving).has(ev[x]) {
				break
			}
			if x >= leave && !drops(g.how, g.fits, g.never, ev[x]) || x < leave && !drops(g.headHow, g.headFits, 0, ev[x]) {
				break
			}
		}
		best = max(best, x-1)
	}
	return best
}

// found is a match of the model.
type found struct {
	mask  uint32
	text  string
	count int
	at    int // index of the event that completes it; len(events): the window
	start int
	slots []slot
}

// matches enumerates all subsets of the events and, for every start, how long a run
// that began there is open.
func (p *refPattern) matches(ev []byte, ts []int64) (all []found, open []int) {
	n := len(ev)
	open = make([]int, n)
	for i := range open {
		open[i] = -1
	}
	words := p.words(n + 1)
	done := map[string]bool{}
	for mask := uint32(1); mask < 1<<n; mask++ {
		idx := indices(mask)
		if p.window > 0 && ts[idx[len(idx)-1]] >= ts[idx[0]]+p.window {
			continue
		}
		for _, w := range words {
			if len(w) < len(idx) || !w[0].e.fits.has(ev[idx[0]]) || w[0].refuses().has(ev[idx[0]]) {
				continue
			}
			ways, ends := 1, false
			for k := 1; k < len(idx) && ways > 0; k++ {
				if ends {
					ways = 0
					break
				}
				var m int
				m, ends = p.gap(w[k-1], w[k]).ways(ev, idx[k-1], idx[k])
				ways *= m
			}
			if ways > 0 {
				all = p.account(all, open, done, w, idx, mask, ways, ends, ev, ts)
			}
		}
	}
	return all, open
}

// account notes what a word and a subset that fit come to.
func (p *refPattern) account(all []found, open []int, done map[string]bool, w []slot, idx []int, mask uint32, ways int, ends bool, ev []byte, ts []int64) []found {
	k := len(idx)
	start, last := idx[0], idx[k-1]
	var id strings.Builder
	for _, s := range w[:k] {
		id.WriteString(s.id())
	}
	key := fmt.Sprint(mask, id.String())
	f := found{mask: mask, text: text(w[:k], idx), count: ways, start: start, slots: w[:k]}
	if !done[key] {
		done[key] = true
		if ok, unless := p.complete(w[:k]); ok && !unless.has(ev[last]) {
			f.at = last
			all = append(all, f)
		}
		if not, ok := p.ends(w[k-1]); ok && !ends {
			all = p.trailing(all, open, not, f, last, ev, ts)
		}
	}
	if ends || len(w) == k {
		return all
	}
	open[start] = max(open[start], p.gap(w[k-1], w[k]).lasts(ev, last))
	return all
}

// trailing looks at what comes after a path that only a trailing NOT waits behind.
func (p *refPattern) trailing(all []found, open []int, not *refElem, f found, last int, ev []byte, ts []int64) []found {
	inside := func(x int) bool { return p.window == 0 || ts[x] < ts[f.start]+p.window }
	if not.how == '!' {
		open[f.start] = max(open[f.start], last)
		if x := last + 1; x < len(ev) && inside(x) && !not.fits.has(ev[x]) {
			f.at = x
			all = append(all, f)
		}
		return all
	}
	x := last + 1
	for x < len(ev) && inside(x) && !not.fits.has(ev[x]) {
		x++
	}
	open[f.start] = max(open[f.start], x-1)
	if x == len(ev) || !inside(x) {
		f.at = len(ev)
		all = append(all, f)
	}
	return all
}

func indices(mask uint32) []int {
	var out []int
	for ; mask != 0; mask &= mask - 1 {
		out = append(out, bits.TrailingZeros32(mask))
	}
	return out
}

// text renders a match as stagesOf does.
func text(w []slot, idx []int) string {
	var names []string
	seqs := map[string][]string{}
	for i, s := range w {
		if seqs[s.e.name] == nil {
			names = append(names, s.e.name)
		}
		seqs[s.e.name] = append(seqs[s.e.name], fmt.Sprint(idx[i]+1))
	}
	for i, n := range names {
		names[i] = fmt.Sprintf("[%q,[%s]]", n, strings.Join(seqs[n], ","))
	}
	return strings.Join(names, " ")
}

// build makes the pattern for the matcher, buildRec the same for the operator.
func (p *refPattern) build() *pattern.Pattern[event] {
	return buildFor(p, func(e event) byte { return e.Name[0] })
}

func (p *refPattern) buildRec() *pattern.Pattern[rec] {
	return buildFor(p, func(r rec) byte { return r.E.Name[0] })
}

func buildFor[T any](p *refPattern, letter func(T) byte) *pattern.Pattern[T] {
	out := buildChain(p.elems, letter)
	if p.window > 0 {
		out.Within(time.Duration(p.window) * time.Millisecond)
	}
	return out.SkipStrategy(p.skip)
}

func buildChain[T any](chain []*refElem, letter func(T) byte) *pattern.Pattern[T] {
	var p *pattern.Pattern[T]
	for i, e := range chain {
		fits := e.fits
		where := func(v T) bool { return fits.has(letter(v)) }
		switch {
		case e.group != nil && i == 0:
			p = pattern.BeginGroup(buildChain(e.group, letter))
		case e.group != nil:
			g := buildChain(e.group, letter)
			p = map[byte]func(*pattern.Pattern[T]) *pattern.Pattern[T]{'n': p.NextGroup, 'f': p.FollowedByGroup, 'a': p.FollowedByAnyGroup}[e.how](g)
		case i == 0:
			p = pattern.Begin(e.name, where)
		default:
			p = map[byte]func(string, ...func(T) bool) *pattern.Pattern[T]{
				'n': p.Next, 'f': p.FollowedBy, 'a': p.FollowedByAny, '!': p.NotNext, '-': p.NotFollowedBy}[e.how](e.name, where)
		}
		quantify(e, p, letter)
	}
	return p
}

func quantify[T any](e *refElem, p *pattern.Pattern[T], letter func(T) byte) {
	if e.quant {
		switch {
		case e.to == 0:
			p.TimesOrMore(e.from)
		case e.from == e.to:
			p.Times(e.from)
		default:
			p.TimesRange(e.from, e.to)
		}
		switch e.inner {
		case 'n':
			p.Consecutive()
		case 'a':
			p.AllowCombinations()
		}
	}
	if e.optional {
		p.Optional()
	}
	if e.greedy {
		p.Greedy()
	}
	if u := e.until; u != 0 {
		p.Until(func(v T) bool { return u.has(letter(v)) })
	}
}

// refGen makes random patterns of the model.
type refGen struct {
	*rand.Rand
	names int
}

func (r *refGen) one(in float64) bool { return r.Float64() < in }

func (r *refGen) letters() letters {
	l := letters(1) << r.IntN(4)
	if r.one(0.3) {
		l |= 1 << r.IntN(4)
	}
	return l
}

func (r *refGen) pattern() *refPattern {
	r.names = 0
	p := &refPattern{elems: r.chain(1+r.IntN(3), true)}
	if r.one(0.45) {
		p.window = int64(2 + r.IntN(9))
	}
	if last := p.elems[len(p.elems)-1]; last.how == '-' && p.window == 0 {
		p.window = int64(3 + r.IntN(8))
	}
	if r.one(0.45) {
		p.skip.Kind = pattern.SkipKind(1 + r.IntN(4))
		p.skip.Stage = r.topStage(p)
		if p.skip.Stage == "" {
			p.skip.Kind = pattern.SkipPastLast
		}
	}
	return p
}

func (r *refGen) topStage(p *refPattern) string {
	for range 5 {
		if e := p.elems[r.IntN(len(p.elems))]; e.group == nil && !e.not() {
			return e.name
		}
	}
	return ""
}

func (r *refGen) name() string {
	r.names++
	return fmt.Sprintf("s%d", r.names)
}

// chain makes a sequence. It leaves out what the model does not describe: NOT beside
// groups and ranges, greedy before anything but a plain stage, groups that can be
// empty or are nested.
func (r *refGen) chain(n int, top bool) []*refElem {
	var out []*refElem
	for len(out) < n {
		e := &refElem{name: r.name(), fits: r.letters(), how: "nfa"[r.IntN(3)], from: 1, to: 1, inner: 'f'}
		if len(out) == 0 {
			e.how = 'n'
		}
		if top && r.one(0.22) {
			e.name, e.fits = "", 0
			e.group = r.chain(1+r.IntN(2), false)
		}
		r.quantifier(e)
		e.greedy = e.greedy && top
		if len(out) > 0 && out[len(out)-1].greedy {
			e.optional = false
			if e.group != nil {
				continue
			}
		}
		if e.group != nil && nullable(e.group) {
			continue
		}
		out = append(out, e)
		if e.greedy && len(out) == n && r.one(0.7) {
			n++
		}
		if r.one(0.38) && !e.optional && e.group == nil && !e.greedy && (top || len(out) < n) {
			out = append(out, r.not(e)...)
			if len(out) >= n && !top {
				n++
			}
			r.behindNot(&out, &n)
		}
	}
	return out
}

// not makes a NOT to stand behind e.
func (r *refGen) not(e *refElem) []*refElem {
	n := &refElem{name: r.name(), fits: r.letters(), how: '!', from: 1, to: 1}
	if ranged := e.quant && e.from != e.to && e.to != 0; !ranged && r.one(0.6) {
		n.how = '-'
	}
	return []*refElem{n}
}

// behindNot adds the stage behind a NOT, unless the NOT is to be the last.
func (r *refGen) behindNot(out *[]*refElem, n *int) {
	if len(*out) >= *n && r.one(0.6) {
		return
	}
	e := &refElem{name: r.name(), fits: r.letters(), how: "nfa"[r.IntN(3)], from: 1, to: 1, inner: 'f'}
	for range 3 {
		if r.quantifier(e); e.from == e.to || e.to == 0 {
			break
		}
		e.quant, e.from, e.to, e.inner, e.greedy, e.optional, e.until = false, 1, 1, 'f', false, false, 0
	}
	if e.from != e.to && e.to != 0 || e.greedy {
		e.quant, e.from, e.to, e.inner, e.greedy, e.until = false, 1, 1, 'f', false, 0
	}
	*out = append(*out, e)
	*n = max(*n, len(*out))
}

func (r *refGen) quantifier(e *refElem) {
	e.optional = r.one(0.2)
	if !r.one(0.5) {
		return
	}
	e.quant = true
	switch e.from = 1 + r.IntN(2); r.IntN(3) {
	case 0:
		e.to = 0
	case 1:
		e.to = e.from
	default:
		e.to = e.from + 1
	}
	e.inner = "fffna"[r.IntN(5)]
	if e.group == nil && e.to == 0 && r.one(0.25) {
		e.until = r.letters()
	}
	e.greedy = e.group == nil && e.inner != 'a' && e.until == 0 && r.one(0.2)
}

func nullable(chain []*refElem) bool {
	for _, e := range chain {
		if !e.optional && !e.not() {
			return false
		}
	}
	return true
}
