package pattern

import "fmt"

// GrowthClass says how the open runs of a key grow with its events.
type GrowthClass uint8

const (
	// Constant: runs live for a bounded number of events.
	Constant GrowthClass = iota
	// Linear in the number of events that fit.
	Linear
	// Quadratic in it.
	Quadratic
	// Polynomial of a higher degree.
	Polynomial
	// Exponential in it.
	Exponential
)

var growthNames = [...]string{"constant", "linear", "quadratic", "polynomial", "exponential"}

// String returns the name of the class.
func (g GrowthClass) String() string { return growthNames[g] }

// Growth is how the number of open runs of a key grows with n events that fit.
type Growth struct {
	// PerStart counts the runs that one first event gives, Total those of all first
	// events.
	PerStart, Total GrowthClass
	// Bounded says that a window ends every run; N is then the events of a window.
	Bounded bool
}

// String renders the growth.
func (g Growth) String() string {
	s := fmt.Sprintf("%v per first event, %v in all", g.PerStart, g.Total)
	if g.Bounded {
		return s + ", within the window"
	}
	return s + ", without a bound in time"
}

func classOf(degree int) GrowthClass {
	if degree > 2 {
		return Polynomial
	}
	return GrowthClass(max(degree, 0))
}

// grow derives the growth class from the stages. A stage that may drop events that
// fit it, and a loop that can be left at any event into a stage that waits, give
// each one more power of n; a loop that may drop events that fit it doubles the
// runs at each.
func (p *Program[T]) grow() Growth {
	g := Growth{Bounded: p.window > 0}
	degree, waits, exp := 0, false, false
	var walk func(chain []*stage[T], head contiguity, again bool)
	walk = func(chain []*stage[T], head contiguity, again bool) {
		for i, s := range chain {
			how := s.how
			if i == 0 && head != strict {
				how = head
			}
			if s.negated() {
				waits = waits || s.how == notFollow
				continue
			}
			waits = waits || how != strict || s.quantified && s.inner != strict
			// In a loop a choice comes again with every round.
			if how == relaxedAny {
				degree++
				exp = exp || again
			}
			if s.quantified && s.inner == relaxedAny {
				degree += s.to - 1
				exp = exp || s.loop
			}
			if s.loop && !s.greedy && s.group == nil && i+1 < len(chain) {
				degree++
				exp = exp || again
			}
			if s.group != nil {
				if s.loop && i+1 < len(chain) {
					degree++
				}
				walk(s.group, how, again || s.loop)
			}
		}
	}
	walk(p.source.stages, strict, false)
	g.PerStart, g.Total = classOf(degree), classOf(degree)
	if waits {
		g.Total = classOf(degree + 1)
	}
	if exp {
		g.PerStart, g.Total = Exponential, Exponential
	}
	return g
}

// warn notes what is allowed and likely not what was meant.
func (p *Program[T]) warn() {
	if p.skip.Kind != NoSkip && p.window == 0 {
		p.warns = append(p.warns, "a skip strategy without a window: a match can be held for ever by an open run that began earlier; add Within")
	}
	if p.growth.Total > Constant && !p.growth.Bounded {
		p.warns = append(p.warns, "no window bounds the runs: a key's state only stops growing at its limit; add Within")
	}
	if p.growth.Total == Exponential {
		p.warns = append(p.warns, fmt.Sprintf("the runs grow exponentially: a key reaches its limit of %d runs soon", p.opts.limits.Runs))
	}
	if last := p.source.stages[len(p.source.stages)-1]; last.greedy {
		p.warns = append(p.warns, "greedy has no effect on the last stage")
	}
}
