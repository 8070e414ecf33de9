package proof

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/internal/storefront/script"
)

// Config says what a reader reads.
type Config struct {
	// URL is the NATS server's.
	URL string `json:"url"`
	// Log is the directory of the generator's log.
	Log string `json:"log"`
	// Prune removes those parts of the log that are done with.
	Prune bool `json:"prune"`
	// Fault, if not "", falsifies one message before it is compared, to show
	// that the proof can fail: one of Faults.
	Fault string `json:"fault"`
}

// Faults lists what Config.Fault can be.
var Faults = []string{"twice", "lost", "altered"}

// faultAt is the number of the message that a fault falsifies.
const faultAt = 100

// Command tells a reader something while it runs. One field is set.
type Command struct {
	// Killed is when the job was killed, in nanoseconds since the epoch.
	Killed int64 `json:"killed,omitempty"`
	// Finish says that the job has ended, so that what is not in the streams now
	// never will be. The reader reads to their ends, reports a last time and ends.
	Finish bool `json:"finish,omitempty"`
}

// Report says what a reader has found so far. Durations are in nanoseconds, times
// in nanoseconds since the epoch.
type Report struct {
	// Events is the number of events in the log, Late how many of them came too
	// late for hesitations. Ended says that the log is complete.
	Events uint64 `json:"events"`
	Late   uint64 `json:"late"`
	Ended  bool   `json:"ended"`
	// Compared is the number of results that were seen and expected. Wrong among
	// them, or beside them, are those with another content, out of order, or
	// expected by nobody. Nudges is how many of the compared are nudges, Scores how
	// many are predictions, and Canary how many predictions, of all that were seen, the
	// canary made.
	Compared   uint64 `json:"compared"`
	Nudges     uint64 `json:"nudges"`
	Scores     uint64 `json:"scores"`
	Canary     uint64 `json:"canary"`
	Wrong      uint64 `json:"wrong"`
	Missing    uint64 `json:"missing"`
	Duplicated uint64 `json:"duplicated"`
	// Outstanding is the number of results that are due, were not seen, and do not
	// count as missing; Age is how long ago the oldest was due.
	Outstanding int   `json:"outstanding"`
	Age         int64 `json:"age"`
	// Plants is the number of planted sequences that were decided, Planted how
	// many nudges they had to cause. A difference from what the model made of
	// them counts as wrong.
	Plants  int `json:"plants"`
	Planted int `json:"planted"`
	// First is when the first result was seen; 0: not yet.
	First int64 `json:"first"`
	// P50 and P99 are how long after its deciding event was due a result was
	// visible, the times when the job was down included.
	P50 int64 `json:"p50"`
	P99 int64 `json:"p99"`
	// Recovered holds, for every Killed, how long after it the first result was
	// seen that an event after it had decided. A job that is killed again before
	// gives none.
	Recovered []int64 `json:"recovered"`
	// Differences describes the first differences.
	Differences []string `json:"differences"`
	// Final says that this is the last report.
	Final bool `json:"final"`
}

// Equal reports that everything seen is right and nothing is missing.
func (r *Report) Equal() bool { return r.Wrong == 0 && r.Missing == 0 && r.Duplicated == 0 }

const (
	reportEvery = 100 * time.Millisecond
	lookEvery   = 20 * time.Millisecond
	queueLen    = 8192
	apiTimeout  = 10 * time.Second
)

// streams are what the job publishes: stream and the subjects of its results.
var streams = []struct{ name, subjects string }{{"COUNTS", "counts.>"}, {"NUDGES", "nudges.>"}, {"PREDICTIONS", "predictions.>"}}

type message struct {
	stream int
	seq    uint64
	data   []byte
}

// reader is one run of Read.
type reader struct {
	cfg     Config
	js      jetstream.JetStream
	msgs    chan message
	failed  chan error
	out     func(*Report) error
	started int64

	tail    *script.Tail
	model   *Model
	ledger  *Ledger
	routes  routes
	latency *hdrhistogram.Histogram
	report  Report
	killed  int64
	read    []uint64 // by stream, the sequence of the last message handled
	handled int
	pruned  uint64

	plant   *script.Plant // whose last event is the next of the log
	pending map[string]decision
}

// decision is a plant that the watermark has not passed.
type decision struct {
	*script.Plant
	at int64
}

// Read reads and compares until a Command says Finish or in is closed; then, or
// when ctx is done, it returns. It hands every report to out.
func Read(ctx context.Context, cfg Config, in <-chan Command, out func(*Report) error) error {
	nc, err := nats.Connect(cfg.URL, nats.Name("proof"), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		return fmt.Errorf("the reader cannot connect: %w", err)
	}
	defer nc.Close()
	r := &reader{
		cfg: cfg, msgs: make(chan message, queueLen), failed: make(chan error, len(streams)), out: out, started: time.Now().UnixNano(),
		tail: script.NewTail(cfg.Log), model: NewModel(), ledger: NewLedger(), read: make([]uint64, len(streams)),
		routes: routes{canary: map[pair]bool{}},
		// Latencies from 10 µs to an hour, in µs.
		latency: hdrhistogram.New(10, 3_600_000_000, 3), pending: map[string]decision{},
	}
	defer r.tail.Close()
	if r.js, err = jetstream.New(nc); err != nil {
		return err
	}
	for i := range streams {
		stop, err := r.consume(ctx, i)
		if err != nil {
			return fmt.Errorf("the reader cannot read stream %s: %w", streams[i].name, err)
		}
		defer stop()
	}
	return r.loop(ctx, in)
}

func (r *reader) consume(ctx context.Context, i int) (stop func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	c, err := r.js.OrderedConsumer(ctx, streams[i].name, jetstream.OrderedConsumerConfig{FilterSubjects: []string{streams[i].subjects}})
	if err != nil {
		return nil, err
	}
	cc, err := c.Consume(func(m jetstream.Msg) {
		meta, err := m.Metadata()
		if err != nil {
			r.failed <- err
			return
		}
		r.msgs <- message{stream: i, seq: meta.Sequence.Stream, data: m.Data()}
	})
	if err != nil {
		return nil, err
	}
	return func() {
		cc.Stop()
		for { // the callback may wait for room
			select {
			case <-r.msgs:
			case <-cc.Closed():
				return
			}
		}
	}, nil
}

func (r *reader) loop(ctx context.Context, in <-chan Command) error {
	look, tell := time.NewTicker(lookEvery), time.NewTicker(reportEvery)
	defer look.Stop()
	defer tell.Stop()
	for {
		select {
		case m := <-r.msgs:
			if err := r.handle(m); err != nil {
				return err
			}
		case <-look.C:
			if err := r.follow(); err != nil {
				return err
			}
		case <-tell.C:
			if err := r.tell(); err != nil {
				return err
			}
		case c, ok := <-in:
			switch {
			case !ok:
				return nil
			case c.Killed > 0:
				r.killed = c.Killed
			case c.Finish:
				return r.finish(ctx)
			}
		case err := <-r.failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// follow takes in what was added to the log.
func (r *reader) follow() error {
	for {
		line, due, ok, err := r.tail.Next()
		if err != nil {
			return fmt.Errorf("the generator's log: %w", err)
		}
		if !ok {
			return r.prune()
		}
		switch {
		case line.Plant != nil:
			r.plant = line.Plant
		case line.Sent != nil:
			r.model.Take(line.Sent.Event, due, r.ledger.Expect)
			if r.plant != nil {
				r.pending[r.plant.Name] = decision{r.plant, line.Sent.At}
				r.plant = nil
			}
			if line.Sent.I%512 == 0 {
				r.decide()
			}
		case line.End > 0:
			r.report.Ended = true
		}
	}
}

// pruneEvery is the number of events after which the log is looked at for parts
// to remove.
const pruneEvery = 50_000

func (r *reader) prune() error {
	if !r.cfg.Prune || r.tail.Events() < r.pruned+pruneEvery {
		return nil
	}
	r.pruned = r.tail.Events()
	return r.tail.Prune()
}

// decide compares the plants that the watermark has passed with what the model
// made of them: the generator and the model must agree on what is right.
func (r *reader) decide() {
	for name, p := range r.pending {
		if p.at >= r.model.watermark {
			continue
		}
		r.report.Plants++
		r.report.Planted += p.Want
		if got := r.ledger.plants[name]; got != p.Want {
			r.ledger.wrong++
			r.ledger.differ("wrong: the generator planted %q for %s and %s, which makes %d nudges, and the model finds %d", p.Kind, p.User, p.Item, p.Want, got)
		}
		delete(r.ledger.plants, name)
		delete(r.pending, name)
	}
}

// handle compares one message.
func (r *reader) handle(m message) error {
	now := time.Now().UnixNano()
	r.read[m.stream] = m.seq
	r.handled++
	if r.handled == faultAt {
		switch r.cfg.Fault {
		case "twice":
			r.handled++
			if err := r.handle(m); err != nil {
				return err
			}
		case "lost":
			return nil
		case "altered":
			for _, number := range []string{`"views":`, `"views_10m":`} {
				m.data = bytes.Replace(m.data, []byte(number), []byte(number+"1"), 1)
			}
		}
	}
	res, err := r.parse(m)
	if err != nil {
		r.ledger.wrong++
		r.ledger.differ("wrong: message %d of stream %s: %v", m.seq, streams[m.stream].name, err)
		return nil
	}
	// The log is written ahead of the events, so a message that it does not
	// explain when it was read to its end is wrong.
	if !r.ledger.Known(res) {
		if err := r.follow(); err != nil {
			return err
		}
	}
	want, ok := r.ledger.See(res)
	if !ok || want.Due < r.started {
		return nil
	}
	_ = r.latency.RecordValue(max(now-want.Due, 0) / 1000) // out of range: more than an hour
	if r.report.First == 0 {
		r.report.First = now
	}
	if r.killed > 0 && want.Due > r.killed {
		r.report.Recovered = append(r.report.Recovered, now-r.killed)
		r.killed = 0
	}
	return nil
}

// parse reads a message, strictly.
func (r *reader) parse(m message) (Result, error) {
	d := json.NewDecoder(bytes.NewReader(m.data))
	d.DisallowUnknownFields()
	var res Result
	switch streams[m.stream].name {
	case "COUNTS":
		var c Count
		if err := d.Decode(&c); err != nil {
			return res, err
		}
		res = c.result()
	case "NUDGES":
		var n Nudge
		if err := d.Decode(&n); err != nil {
			return res, err
		}
		res = n.result()
	default:
		var s Score
		err := d.Decode(&s)
		if err == nil {
			res, err = s.result()
		}
		if err == nil {
			err = r.routes.see(&s)
		}
		if err != nil {
			return res, err
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return res, errors.New("something follows the JSON value")
	}
	return res, nil
}

func (r *reader) tell() error {
	l, p := r.ledger, &r.report
	p.Events, p.Late = r.tail.Events(), r.model.Late()
	p.Compared, p.Nudges, p.Wrong, p.Missing, p.Duplicated = l.compared, l.nudges, l.wrong, l.missing, l.duplicated
	p.Scores, p.Canary = l.scores, r.routes.count[1]
	p.Outstanding, p.Age = l.outstanding, 0
	if o := l.Oldest(); o > 0 {
		p.Age = time.Now().UnixNano() - o
	}
	p.P50, p.P99 = r.latency.ValueAtQuantile(50)*1000, r.latency.ValueAtQuantile(99)*1000
	p.Differences = l.differences
	return r.out(p)
}

// finish reads to the ends of the streams and makes the last report.
func (r *reader) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 6*apiTimeout)
	defer cancel()
	for i := range streams {
		end, err := r.end(ctx, i)
		if err != nil {
			return fmt.Errorf("the end of stream %s: %w", streams[i].name, err)
		}
		for r.read[i] < end {
			select {
			case m := <-r.msgs:
				if err := r.handle(m); err != nil {
					return err
				}
			case err := <-r.failed:
				return err
			case <-ctx.Done():
				return fmt.Errorf("stream %s was read to message %d, and not to its end at %d", streams[i].name, r.read[i], end)
			}
		}
	}
	if err := r.follow(); err != nil {
		return err
	}
	r.decide()
	r.ledger.Finish()
	r.report.Final = true
	return r.tell()
}

// end returns the sequence of the last result in a stream, 0 when there is none.
func (r *reader) end(ctx context.Context, i int) (uint64, error) {
	s, err := r.js.Stream(ctx, streams[i].name)
	if err != nil {
		return 0, err
	}
	m, err := s.GetLastMsgForSubject(ctx, streams[i].subjects)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return m.Sequence, nil
}

// CheckFault reports a fault that there is not.
func CheckFault(fault string) error {
	if fault == "" || slices.Contains(Faults, fault) {
		return nil
	}
	return fmt.Errorf("there is no fault %q; there are %s", fault, strings.Join(Faults, ", "))
}
