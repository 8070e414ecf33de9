package fakemodel

import (
	"bytes"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
)

// program is a script under way.
type program struct {
	script Script
	clk    clock.Clock
	limits []*limiter
	chance bool // some rule depends on chance

	mu       sync.Mutex
	phase    int
	since    int64 // monotonic time at which the phase began
	inPhase  int64 // calls in the phase
	matched  map[*Rule]int64
	attempts map[uint64]uint32
	most     int // bound of attempts
}

func newProgram(s Script, clk clock.Clock, maxKeys int) *program {
	p := &program{script: s, clk: clk, since: clk.Mono(), matched: map[*Rule]int64{}, attempts: map[uint64]uint32{}, most: maxKeys}
	for i := range s.Limits {
		p.limits = append(p.limits, newLimiter(&s.Limits[i], clk))
	}
	p.chance = hasChance(s.Rules)
	for i := range s.Phases {
		p.chance = p.chance || hasChance(s.Phases[i].Rules)
	}
	return p
}

func hasChance(rules []Rule) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool {
		return r.Share > 0 && r.Share < 1 || r.Latency != nil && r.Latency.Jitter > 0
	})
}

// model returns the description of a model and the version that answers. It returns
// an empty version for a model or version that does not exist.
func (p *program) model(name, version string) (Model, string) {
	m, known := p.script.Models[name]
	if !known && p.script.Closed {
		return Model{}, ""
	}
	switch {
	case version == "" && len(m.Versions) == 0:
		version = DefaultVersion
	case version == "":
		version = m.Versions[len(m.Versions)-1]
	case len(m.Versions) > 0 && !slices.Contains(m.Versions, version):
		version = ""
	}
	return m, version
}

// fate is what the script has decided about a call.
type fate struct {
	latency Latency
	jitter  float64 // in [0,1)
	// failure is the rule with the status or fault, or nil.
	failure *Rule
}

// duration is the time to work on n inputs.
func (f *fate) duration(n, tokens int) time.Duration {
	ms := f.latency.Base + f.latency.PerItem*float64(n) + f.latency.PerToken*float64(tokens) + f.latency.Jitter*f.jitter
	return milliseconds(ms)
}

func milliseconds(ms float64) time.Duration {
	return time.Duration(math.Min(ms*float64(time.Millisecond), math.MaxInt64/4))
}

// decide takes one call through the rules.
func (p *program) decide(c *call) fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance()
	p.inPhase++
	chance := uint64(0)
	if p.chance {
		chance = base.Mix(p.script.Seed, p.fatesSeen(c))
	}
	var f fate
	slow := false
	visit := func(rules []Rule, salt uint64) {
		for i := range rules {
			r := &rules[i]
			useLatency := r.Latency != nil && !slow
			useFailure := (r.Status != 0 || r.Fault != "") && f.failure == nil
			if !useLatency && !useFailure || !r.selects(c) {
				continue
			}
			dice := base.Mix(chance, salt+uint64(i))
			if !p.applies(r, unit(dice)) {
				continue
			}
			if useLatency {
				slow, f.latency, f.jitter = true, *r.Latency, unit(base.Mix(dice, 1))
			}
			if useFailure {
				f.failure = r
			}
		}
	}
	if p.phase < len(p.script.Phases) {
		visit(p.script.Phases[p.phase].Rules, uint64(p.phase+1)<<32)
	}
	visit(p.script.Rules, 0)
	if p.phase < len(p.script.Phases) {
		if ph := &p.script.Phases[p.phase]; ph.Calls > 0 && p.inPhase >= ph.Calls {
			p.next(p.clk.Mono())
		}
	}
	return f
}

// fatesSeen identifies the attempt of a call: by keys or body, and how often they
// were seen under this script.
func (p *program) fatesSeen(c *call) uint64 {
	d := xxhash.New()
	for _, k := range c.keys {
		_, _ = d.WriteString(k + "\x00") // a hash takes everything
	}
	if len(c.keys) == 0 {
		_, _ = d.Write(c.body)
	}
	id := d.Sum64()
	n, seen := p.attempts[id]
	if seen || len(p.attempts) < p.most {
		p.attempts[id] = n + 1
	}
	return base.Mix(id, uint64(n))
}

// selects reports whether the rule is about the call.
func (r *Rule) selects(c *call) bool {
	return fits(r.Model, c.model) && fits(r.Version, c.version) && fits(r.Path, c.path) &&
		(r.Key == "" || slices.ContainsFunc(c.keys, func(k string) bool { return fits(r.Key, k) })) &&
		(r.Contains == "" || bytes.Contains(c.body, []byte(r.Contains)))
}

// applies counts a call that the rule selects and reports whether it is affected.
func (p *program) applies(r *Rule, dice float64) bool {
	if r.Share > 0 && dice >= r.Share {
		return false
	}
	if r.Skip == 0 && r.Count == 0 {
		return true
	}
	n := p.matched[r]
	p.matched[r] = n + 1
	return n >= r.Skip && (r.Count == 0 || n < r.Skip+r.Count)
}

// advance ends the phases whose time is over.
func (p *program) advance() {
	for now := p.clk.Mono(); p.phase < len(p.script.Phases); {
		ph := &p.script.Phases[p.phase]
		end := base.AddTime(p.since, int64(ph.Seconds*float64(time.Second)))
		if ph.Seconds == 0 || now < end {
			return
		}
		p.next(end)
	}
}

func (p *program) next(at int64) { p.phase, p.since, p.inPhase = p.phase+1, at, 0 }

// current returns the index of the phase; behind the last it is their number.
func (p *program) current() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance()
	return p.phase
}

// probe returns the status that a rule gives to a health or metadata request, or nil.
func (p *program) probe(path string) *Rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance()
	var rules []Rule
	if p.phase < len(p.script.Phases) {
		rules = p.script.Phases[p.phase].Rules
	}
	for _, list := range [][]Rule{rules, p.script.Rules} {
		for i := range list {
			if r := &list[i]; r.Path != "" && r.Status != 0 && fits(r.Path, path) && r.Key == "" && r.Contains == "" && r.Share == 0 && r.Skip == 0 && r.Count == 0 {
				return r
			}
		}
	}
	return nil
}

// limiter returns the limit for a model, or nil.
func (p *program) limiter(model string) *limiter {
	for _, l := range p.limits {
		if fits(l.limit.Model, model) {
			return l
		}
	}
	return nil
}
