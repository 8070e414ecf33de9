package torture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// perfect is a job without an engine: it answers records one by one, fires its
// timers and windows at the end, and never fails.
type perfect struct {
	m      *Model
	out    []Output
	chains map[branchKey]link
	latest map[string][]uint64
	visits map[string]*Record
}

func results(records []Record) []Output {
	p := &perfect{m: NewModel(records), chains: map[branchKey]link{}, latest: map[string][]uint64{}, visits: map[string]*Record{}}
	for i := range records {
		p.answer(&records[i])
	}
	for k, t := range p.m.buckets {
		p.seal(Output{Job: JobTimers, Key: k.key, Count: t.Count, Sum: t.Sum, Start: k.start, End: k.end})
	}
	for k, t := range p.m.windows {
		p.fire(k, t)
	}
	return p.out
}

func (p *perfect) answer(r *Record) {
	p.out = append(p.out, Output{Job: JobEcho, Key: r.Key, ID: r.ID, Sum: r.Value})
	count := Output{Job: JobCount, Key: r.Key, ID: r.ID, Count: r.Seq, Sum: p.m.sums[r.ID-1], Last: p.m.lasts[r.ID-1]}
	p.latest[r.Key] = append(p.latest[r.Key], r.ID)
	if len(p.latest[r.Key]) == latestEvery {
		count.Latest, p.latest[r.Key] = p.latest[r.Key], nil
	}
	p.seal(count)
	guess := Output{Job: JobNonce, Key: r.Key, ID: r.ID, Nonce: r.ID * 77, Now: 1}
	if r.ID%4 == 0 {
		guess.Tick = int64(r.ID)
	}
	p.seal(guess)
	if guess.Tick != 0 {
		p.seal(Output{Job: JobNonce, Key: r.Key, Count: r.ID, Nonce: 5, Now: 2, Tick: guess.Tick})
	}
	switch r.Class {
	case Visit:
		o := Output{Job: JobTimers, Key: r.Key, ID: r.ID}
		if v := p.visits[r.Key]; v != nil && r.At-v.At < LifeTime.Milliseconds() {
			o.Seen = v.ID
		}
		p.visits[r.Key] = r
		p.seal(o)
	case Late:
		if r.ID%2 == 0 {
			p.out = append(p.out, Output{Job: JobLate, Key: r.Key, ID: r.ID})
			return
		}
		for _, w := range recordWindows(r) {
			p.fire(w, tally{Count: 1, IDs: r.ID, Sum: r.Value})
		}
	}
}

func (p *perfect) seal(o Output) {
	k := branchKey{o.Job, o.Key}
	l := p.chains[k]
	o.N, o.Prev = l.N+1, l.Hash.String()
	h := chainHash(&o)
	o.Hash = h.String()
	p.chains[k] = link{o.N, h}
	p.out = append(p.out, o)
}

func (p *perfect) fire(k windowKey, t tally) {
	p.out = append(p.out, Output{Job: k.job, Key: k.key, Start: k.start, End: k.end, Count: t.Count, Sum: t.Sum, IDs: fmt.Sprint(t.IDs)})
}

func judge(records []Record, out []Output) *Report {
	c := NewCheck(NewModel(records))
	for i := range out {
		c.Take(&out[i])
	}
	return c.Finish()
}

func someRecords(n int) []Record {
	s := NewScript(7, 20, 20*time.Second, 100)
	var out []Record
	for range n {
		out = append(out, s.Next())
	}
	return append(out, s.End()...)
}

// TestPerfectOutputPasses is what all planted faults are measured against.
func TestPerfectOutputPasses(t *testing.T) {
	records := someRecords(3000)
	classes := map[Class]int{}
	for _, r := range records {
		classes[r.Class]++
	}
	for _, c := range []Class{Normal, Mild, Late, Visit, Flush} {
		if classes[c] < 8 {
			t.Fatalf("the script has %d records of class %s", classes[c], c)
		}
	}
	if rep := judge(records, results(records)); !rep.OK() {
		t.Fatalf("%s\n%s", rep, rep.Details())
	}
}

// nth returns the index of the n-th result that f accepts.
func nth(t *testing.T, out []Output, n int, f func(*Output) bool) int {
	t.Helper()
	for i := range out {
		if f(&out[i]) {
			if n--; n == 0 {
				return i
			}
		}
	}
	t.Fatal("there is no such result")
	return 0
}

func of(job string) func(*Output) bool { return func(o *Output) bool { return o.Job == job } }

// hot accepts the answers to a frequent key.
func hot(job string) func(*Output) bool {
	return func(o *Output) bool { return o.Job == job && o.Key == "hot" && o.ID != 0 }
}

// TestPlantedFaultsAreFound changes a perfect output in one place.
func TestPlantedFaultsAreFound(t *testing.T) {
	records := someRecords(3000)
	good := results(records)
	reseal := func(o *Output) { o.Hash = ChainHash(o) }
	for name, plant := range map[string]struct {
		want Fault
		f    func(out []Output) []Output
	}{
		"an echo is missing": {Lost, func(o []Output) []Output { i := nth(t, o, 40, hot(JobEcho)); return slices.Delete(o, i, i+1) }},
		"the last echo": {Lost, func(o []Output) []Output {
			return cut(o, func(x *Output) bool { return x.Job == JobEcho && x.ID == 3000 })
		}},
		"a key has no result": {Lost, func(o []Output) []Output {
			return cut(o, func(x *Output) bool { return x.Job == JobCount && x.Key == "k0" })
		}},
		"an echo twice":          {Duplicated, func(o []Output) []Output { i := nth(t, o, 40, hot(JobEcho)); return slices.Insert(o, i, o[i]) }},
		"an echo again later":    {Duplicated, func(o []Output) []Output { return append(o, o[nth(t, o, 40, hot(JobEcho))]) }},
		"two echoes exchanged":   {Reordered, func(o []Output) []Output { return swap(o, nth(t, o, 40, hot(JobEcho)), nth(t, o, 41, hot(JobEcho))) }},
		"an answer twice":        {Torn, func(o []Output) []Output { i := nth(t, o, 40, hot(JobNonce)); return slices.Insert(o, i, o[i]) }},
		"state of another try":   {Torn, func(o []Output) []Output { x := &o[nth(t, o, 40, hot(JobNonce))]; x.Nonce++; reseal(x); return o }},
		"a hash that is not it":  {Wrong, func(o []Output) []Output { o[nth(t, o, 40, hot(JobNonce))].Nonce++; return o }},
		"a count from elsewhere": {Wrong, func(o []Output) []Output { o[nth(t, o, 40, hot(JobCount))].Count++; return o }},
		"a list that lost one":   {Wrong, func(o []Output) []Output { x := &o[nth(t, o, 40, hot(JobCount))]; x.Latest = x.Latest[1:]; return o }},
		"a large record forgot": {Wrong, func(o []Output) []Output {
			x := &o[nth(t, o, 1, func(x *Output) bool { return x.Last != 0 })]
			x.Last = 0
			return o
		}},
		"a timer that is lost":     {Lost, func(o []Output) []Output { return cutOne(o, nth(t, o, 5, tick)) }},
		"a timer that fires again": {Duplicated, func(o []Output) []Output { return append(o, o[nth(t, o, 5, tick)]) }},
		"a bucket never closed":    {Lost, func(o []Output) []Output { return cutOne(o, nth(t, o, 5, bucket)) }},
		"a bucket closed twice":    {Duplicated, func(o []Output) []Output { return append(o, o[nth(t, o, 5, bucket)]) }},
		"a bucket lacks one":       {Lost, func(o []Output) []Output { o[nth(t, o, 5, bucket)].Count--; return o }},
		"a visit is forgotten": {Lost, func(o []Output) []Output {
			o[nth(t, o, 2, func(x *Output) bool { return x.Seen != 0 })].Seen = 0
			return o
		}},
		"a window never fired": {Lost, func(o []Output) []Output {
			return cutOne(o, nth(t, o, 9, func(x *Output) bool { return x.Job == JobSliding && x.Key == "hot" }))
		}},
		"a window lacks one":     {Lost, func(o []Output) []Output { o[nth(t, o, 9, of(JobTumbling))].Count--; return o }},
		"a window has one twice": {Duplicated, func(o []Output) []Output { o[nth(t, o, 9, of(JobTumbling))].Count++; return o }},
		"a window fires twice":   {Duplicated, func(o []Output) []Output { return append(o, o[nth(t, o, 9, of(JobTumbling))]) }},
		"a window with another":  {Wrong, func(o []Output) []Output { o[nth(t, o, 9, of(JobTumbling))].IDs = "17"; return o }},
		"a window out of nothing": {Wrong, func(o []Output) []Output {
			x := o[nth(t, o, 9, of(JobTumbling))]
			x.Start -= 1 << 40
			return append(o, x)
		}},
		"a late record is lost": {Lost, func(o []Output) []Output { return cutOne(o, nth(t, o, 2, of(JobLate))) }},
		"a late record twice":   {Duplicated, func(o []Output) []Output { return append(o, o[nth(t, o, 2, of(JobLate))]) }},
		"a late one that is not": {Lost, func(o []Output) []Output {
			return append(o, Output{Job: JobLate, Key: records[0].Key, ID: records[0].ID})
		}},
		"in time and late": {Duplicated, func(o []Output) []Output {
			x := o[nth(t, o, 2, inTime)]
			id := lateID(x.Key)
			return append(o, Output{Job: JobLate, Key: x.Key, ID: id})
		}},
		"a record nobody sent": {Wrong, func(o []Output) []Output { return append(o, Output{Job: JobEcho, Key: "hot", ID: 99999}) }},
	} {
		rep := judge(records, plant.f(slices.Clone(good)))
		if rep.Counts[plant.want] == 0 {
			t.Errorf("%s: not found to be %s: %s\n%s", name, plant.want, rep, rep.Details())
		}
	}
}

func cut(o []Output, f func(*Output) bool) []Output {
	return slices.DeleteFunc(o, func(x Output) bool { return f(&x) })
}

func cutOne(o []Output, i int) []Output { return slices.Delete(o, i, i+1) }

func swap(o []Output, i, j int) []Output {
	o[i], o[j] = o[j], o[i]
	return o
}

func tick(o *Output) bool   { return o.Job == JobNonce && o.ID == 0 }
func bucket(o *Output) bool { return o.Job == JobTimers && o.ID == 0 }
func inTime(o *Output) bool { return o.Job == JobTumbling && strings.HasPrefix(o.Key, "late-") }

func lateID(key string) (id uint64) {
	_, _ = fmt.Sscanf(key, "late-%d", &id)
	return id
}

// TestScriptKeepsItsPromises: what the checks take for granted of the records.
func TestScriptKeepsItsPromises(t *testing.T) {
	records := someRecords(20000)
	for i := 1; i < len(records); i++ {
		if records[i].ID != records[i-1].ID+1 {
			t.Fatalf("record %d follows record %d", records[i].ID, records[i-1].ID)
		}
	}
	now := int64(0)
	for _, r := range records {
		lag := now - r.At
		switch r.Class {
		case Normal, Visit:
			if lag >= Disorder.Milliseconds() {
				t.Fatalf("record %d is %d ms late", r.ID, lag)
			}
		case Mild:
			if lag >= (Disorder + Lateness).Milliseconds() {
				t.Fatalf("mild record %d is %d ms late", r.ID, lag)
			}
		}
		now = max(now, r.At)
	}
	again := someRecords(20000)
	if slices.CompareFunc(records, again, func(a, b Record) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) }) != 0 {
		t.Error("one seed makes different records")
	}
}
