package proof

import (
	"fmt"
	"slices"
	"strings"
)

// maxDifferences bounds how many differences are described.
const maxDifferences = 20

// forget is how far event time may be beyond a result before the ledger forgets
// its details, in milliseconds. Whatever comes for an older one counts as
// duplicated: it was seen, or is counted as missing.
const forget = 2 * 3600 * 1000

// Ledger compares what must be seen with what is. It is used by one goroutine.
type Ledger struct {
	// open holds, by key and in order, the results that were not seen.
	open map[string][]*entry
	// seen holds the event time of the results that were seen, by ID.
	seen map[string]int64
	// plants counts the nudges of every plant that were due.
	plants map[string]int

	compared, wrong, missing, duplicated uint64
	nudges, scores                       uint64
	outstanding                          int
	latest                               int64 // event time of the latest result due
	pruned                               int64
	differences                          []string
}

type entry struct {
	Result
	overtaken bool
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{open: map[string][]*entry{}, seen: map[string]int64{}, plants: map[string]int{}}
}

// Expect notes that a result must be seen from now on.
func (l *Ledger) Expect(r Result) {
	l.open[r.Key] = append(l.open[r.Key], &entry{Result: r})
	l.outstanding++
	if r.Plant != "" {
		l.plants[r.Plant]++
	}
	l.latest = max(l.latest, r.At)
	if l.latest > l.pruned+forget {
		l.prune()
	}
}

func (l *Ledger) prune() {
	l.pruned = l.latest
	for id, at := range l.seen {
		if at < l.latest-forget {
			delete(l.seen, id)
		}
	}
}

// Known reports whether a result is expected or was seen.
func (l *Ledger) Known(r Result) bool {
	if _, ok := l.seen[r.ID]; ok {
		return true
	}
	return slices.ContainsFunc(l.open[r.Key], func(e *entry) bool { return e.ID == r.ID })
}

// See compares a message with what is expected, and returns that.
func (l *Ledger) See(r Result) (expected Result, ok bool) {
	open := l.open[r.Key]
	i := slices.IndexFunc(open, func(e *entry) bool { return e.ID == r.ID })
	if _, dup := l.seen[r.ID]; dup || i < 0 && r.At < l.latest-forget {
		l.duplicated++
		l.differ("duplicated: %s", r.Value)
		return r, false
	}
	l.seen[r.ID] = r.At
	if i < 0 {
		l.wrong++
		l.differ("wrong: nothing of the kind is due: %s", r.Value)
		return r, false
	}
	// Results of a key come in order: those before this one are lost, unless
	// they still turn up out of order, which is as wrong.
	for _, e := range open[:i] {
		l.miss(e)
	}
	e := open[i]
	if open = slices.Delete(open, i, i+1); len(open) == 0 {
		delete(l.open, r.Key)
	} else {
		l.open[r.Key] = open
	}
	if !e.overtaken {
		l.outstanding--
	}
	l.compared++
	switch {
	case strings.HasPrefix(r.Key, nudgeKey):
		l.nudges++
	case strings.HasPrefix(r.Key, scoreKey):
		l.scores++
	}
	switch {
	case e.Value != r.Value && !slices.Contains(e.Values, r.Value):
		l.wrong++
		l.differ("wrong: %s, and right is %s", r.Value, e.Value)
	case e.overtaken:
		l.missing--
		l.wrong++
		l.differ("wrong: out of order: %s", r.Value)
	}
	return e.Result, true
}

func (l *Ledger) miss(e *entry) {
	if e.overtaken {
		return
	}
	e.overtaken = true
	l.missing++
	l.outstanding--
	l.differ("missing: %s", e.Value)
}

// Finish counts everything that was not seen as missing.
func (l *Ledger) Finish() {
	for _, open := range l.open {
		for _, e := range open {
			l.miss(e)
		}
	}
}

// Oldest returns when the oldest result that was not seen was due, or 0. Those
// that count as missing are left out.
func (l *Ledger) Oldest() int64 {
	var oldest int64
	for _, open := range l.open {
		i := slices.IndexFunc(open, func(e *entry) bool { return !e.overtaken })
		if i >= 0 && (oldest == 0 || open[i].Due < oldest) {
			oldest = open[i].Due
		}
	}
	return oldest
}

func (l *Ledger) differ(format string, args ...any) {
	if len(l.differences) < maxDifferences {
		l.differences = append(l.differences, fmt.Sprintf(format, args...))
	}
}
