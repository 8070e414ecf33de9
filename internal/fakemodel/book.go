package fakemodel

import (
	"cmp"
	"slices"
	"sync"

	"github.com/weirflow/weir/internal/clock"
)

// Outcome is how a call ended. Calls that fail by the script have the name of their
// fault.
type Outcome string

// Outcomes other than faults.
const (
	// OK: answered.
	OK Outcome = "ok"
	// Running: not ended yet.
	Running Outcome = "running"
	// Invalid: the request was wrong, status 4xx.
	Invalid Outcome = "invalid"
	// Failed: a status of the script's.
	Failed Outcome = "status"
	// Limited: beyond a rate, status 429.
	Limited Outcome = "limited"
	// QueueFull: too many calls waited, status 503.
	QueueFull Outcome = "queue-full"
	// Canceled: the client was gone before the answer was ready.
	Canceled Outcome = "canceled"
	// Undelivered: the answer was ready, and could not be written.
	Undelivered Outcome = "undelivered"
	// Lost: a log says that it began, and the server ended before it did.
	Lost Outcome = "lost"
)

// Call is what the books say about one idempotency key of one HTTP request, or about
// a request without keys.
type Call struct {
	// Seq numbers the requests in order of arrival, from 1. The keys of one share it.
	Seq     uint64 `json:"seq"`
	Key     string `json:"key"`
	Model   string `json:"model"`
	Version string `json:"version"`
	Path    string `json:"path"`
	// Items is the number of inputs of the request.
	Items int `json:"items"`
	// Started and Finished are in nanoseconds since 1970-01-01T00:00:00Z. Finished is 0
	// while the call runs and if it was lost.
	Started  int64   `json:"started"`
	Finished int64   `json:"finished"`
	Outcome  Outcome `json:"outcome"`
	Status   int     `json:"status"`
	// Processed says that the model computed an answer, whether or not it arrived.
	Processed bool `json:"processed"`
}

// KeyCount says how often an idempotency key was seen.
type KeyCount struct {
	Key string `json:"key"`
	// Calls is the number of requests, Processed that of those which were worked on.
	Calls     int `json:"calls"`
	Processed int `json:"processed"`
}

// ModelStats counts the calls of one model.
type ModelStats struct {
	Calls       int64 `json:"calls"`
	Items       int64 `json:"items"`
	Processed   int64 `json:"processed"`
	MaxItems    int   `json:"max_items"`
	InFlight    int   `json:"in_flight"`
	MaxInFlight int   `json:"max_in_flight"`
}

// Stats are the totals, of this process and of what its log held when it started.
type Stats struct {
	ModelStats
	Outcomes map[Outcome]int64     `json:"outcomes"`
	Models   map[string]ModelStats `json:"models"`
	// Keys is the number of idempotency keys seen, Repeated that of those seen twice or
	// more, ProcessedAgain that of those worked on twice or more.
	Keys           int `json:"keys"`
	Repeated       int `json:"repeated"`
	ProcessedAgain int `json:"processed_again"`
	// ForgottenKeys and ForgottenCalls are how many the limits left no room for; while
	// they are 0, the books are complete.
	ForgottenKeys  int64 `json:"forgotten_keys"`
	ForgottenCalls int64 `json:"forgotten_calls"`
	// Phase is the index of the script's phase; behind the last it is their number.
	Phase int `json:"phase"`
}

// record is one request in the books.
type record struct {
	call Call // without key
	keys []string
}

// maxModels bounds the models that are told apart.
const maxModels = 10_000

// book keeps the records.
type book struct {
	clk               clock.Clock
	maxKeys, maxCalls int

	mu      sync.Mutex
	log     *logFile // may be nil
	seq     uint64
	records []*record // oldest first
	lines   int       // number of Calls that records hold
	keys    map[string]*KeyCount
	stats   Stats
	models  map[string]*ModelStats
}

func newBook(clk clock.Clock, maxKeys, maxCalls int) *book {
	b := &book{clk: clk, maxKeys: maxKeys, maxCalls: maxCalls, keys: map[string]*KeyCount{}, models: map[string]*ModelStats{}}
	b.stats.Outcomes = map[Outcome]int64{}
	return b
}

// begin books a request. The record is in the log when it returns.
func (b *book) begin(c *call) (*record, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	r := &record{keys: c.keys, call: Call{
		Seq: b.seq, Model: c.model, Version: c.version, Path: c.path, Items: c.items, Started: b.clk.Now(), Outcome: Running,
	}}
	err := b.log.begin(r)
	b.add(r)
	return r, err
}

// end books how a request ended.
func (b *book) end(r *record, o Outcome, status int, processed bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finish(r, b.clk.Now(), o, status, processed)
	return b.log.end(r)
}

func (b *book) add(r *record) {
	b.records = append(b.records, r)
	b.lines += r.lines()
	for b.lines > b.maxCalls && len(b.records) > 1 {
		b.lines -= b.records[0].lines()
		b.stats.ForgottenCalls += int64(b.records[0].lines())
		b.records[0] = nil
		b.records = b.records[1:]
	}
	for _, k := range r.keys {
		switch n := b.keys[k]; {
		case n == nil && len(b.keys) >= b.maxKeys:
			b.stats.ForgottenKeys++
		case n == nil:
			b.keys[k] = &KeyCount{Key: k, Calls: 1}
		default:
			n.Calls++
			if n.Calls == 2 {
				b.stats.Repeated++
			}
		}
	}
	for _, m := range []*ModelStats{&b.stats.ModelStats, b.model(r.call.Model)} {
		m.Calls++
		m.Items += int64(r.call.Items)
		m.MaxItems = max(m.MaxItems, r.call.Items)
		m.InFlight++
		m.MaxInFlight = max(m.MaxInFlight, m.InFlight)
	}
}

func (b *book) finish(r *record, at int64, o Outcome, status int, processed bool) {
	r.call.Finished, r.call.Outcome, r.call.Status, r.call.Processed = at, o, status, processed
	b.stats.Outcomes[o]++
	for _, m := range []*ModelStats{&b.stats.ModelStats, b.model(r.call.Model)} {
		m.InFlight--
		if processed {
			m.Processed++
		}
	}
	if !processed {
		return
	}
	for _, k := range r.keys {
		if n := b.keys[k]; n != nil {
			n.Processed++
			if n.Processed == 2 {
				b.stats.ProcessedAgain++
			}
		}
	}
}

// model returns the counters of a model. Beyond maxModels, they share those of "".
func (b *book) model(name string) *ModelStats {
	m := b.models[name]
	if m == nil && len(b.models) >= maxModels {
		name = ""
		m = b.models[name]
	}
	if m == nil {
		m = &ModelStats{}
		b.models[name] = m
	}
	return m
}

func (r *record) lines() int { return max(1, len(r.keys)) }

func (r *record) each(visit func(Call)) {
	c := r.call
	for _, k := range r.keys {
		c.Key = k
		visit(c)
	}
	if len(r.keys) == 0 {
		visit(c)
	}
}

// calls returns those that are remembered, in order of arrival.
func (b *book) calls(want func(*Call) bool) []Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Call
	for _, r := range b.records {
		r.each(func(c Call) {
			if want(&c) {
				out = append(out, c)
			}
		})
	}
	return out
}

// counts returns the keys seen at least so often, sorted.
func (b *book) counts(least int) []KeyCount {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []KeyCount
	for _, n := range b.keys {
		if n.Calls >= least {
			out = append(out, *n)
		}
	}
	slices.SortFunc(out, func(x, y KeyCount) int { return cmp.Compare(x.Key, y.Key) })
	return out
}

func (b *book) count(key string) KeyCount {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.keys[key]; n != nil {
		return *n
	}
	return KeyCount{Key: key}
}

func (b *book) totals() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.stats
	out.Keys = len(b.keys)
	out.Outcomes = map[Outcome]int64{}
	for o, n := range b.stats.Outcomes {
		out.Outcomes[o] = n
	}
	out.Models = map[string]ModelStats{}
	for name, m := range b.models {
		out.Models[name] = *m
	}
	return out
}

func (b *book) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.close()
}
