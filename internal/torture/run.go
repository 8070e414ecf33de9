package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/connectors/jetstream"
)

// Config says what Run does.
type Config struct {
	// Dir holds the files of the run. It must be empty or absent.
	Dir  string
	Seed uint64
	// Kills is how many processes are killed: job, server, and crash points.
	Kills int
	// Rate is in records per second, Keys about the number of keys.
	Rate, Keys int
	// Interval is the job's checkpoint interval.
	Interval time.Duration
	// Limit bounds the whole run.
	Limit time.Duration
	// Log takes a line for each act.
	Log io.Writer
}

// Defaults fills in what is not set.
func (c *Config) Defaults() {
	if c.Rate == 0 {
		c.Rate = 400
	}
	if c.Keys == 0 {
		c.Keys = 2000
	}
	if c.Interval == 0 {
		c.Interval = 150 * time.Millisecond
	}
	if c.Limit == 0 {
		c.Limit = time.Minute + time.Duration(c.Kills)*6*time.Second
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
}

// eventPerSecond is how much event time passes in a second of a run.
const eventPerSecond = 2 * time.Minute

// storm is a run under way. Everything belongs to the goroutine of Run except
// what watch writes.
type storm struct {
	cfg     Config
	rng     *rand.Rand
	url     string
	streams Streams
	journal *journal

	nats, job, gen, reader *proc
	natsUp                 bool // the line of a started server was read
	armed                  string
	res                    Result

	mu      sync.Mutex
	seen    readerState
	grewAt  time.Time
	longest time.Duration
}

// Run runs a storm and judges it. Its error says that it could not be brought to
// its end, or that the job stopped for good; what the checks found is in the
// Result.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	cfg.Defaults()
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Limit, fmt.Errorf("the run took longer than %v", cfg.Limit))
	defer cancel()
	s := &storm{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x6e656d65736973)), streams: Streams{In: "TIN", Out: "TOUT"}}
	s.res.Seed, s.res.Dir = cfg.Seed, cfg.Dir
	began := time.Now()
	err := s.run(ctx)
	s.end()
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	s.res.Took = time.Since(began)
	return &s.res, err
}

func (s *storm) run(ctx context.Context) error {
	if err := s.setUp(ctx); err != nil {
		return err
	}
	if err := s.rage(ctx); err != nil {
		return err
	}
	if err := s.journal.note(FaultLine{Kind: "storm-over"}); err != nil {
		return err
	}
	if err := s.drain(ctx); err != nil {
		return err
	}
	return s.judge(ctx)
}

// end ends what still runs.
func (s *storm) end() {
	for _, p := range []*proc{s.job, s.gen, s.reader, s.nats} {
		if p != nil && p.running() {
			p.kill()
		}
	}
}

func (s *storm) say(format string, args ...any) {
	fmt.Fprintf(s.cfg.Log, format+"\n", args...)
}

// setUp starts everything and waits for the first result.
func (s *storm) setUp(ctx context.Context) error {
	dir := s.cfg.Dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, FaultsFile)); err == nil {
		return fmt.Errorf("%s holds another run", dir)
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	s.url = fmt.Sprintf("nats://127.0.0.1:%d", port)
	if s.journal, err = openJournal(dir); err != nil {
		return err
	}
	s.say("seed %d, %d kills, %s, %s", s.cfg.Seed, s.cfg.Kills, s.url, dir)
	if err := s.startNATS(port); err != nil {
		return err
	}
	if err := s.awaitNATS(); err != nil {
		return err
	}
	if err := makeStreams(ctx, s.url, s.streams); err != nil {
		return err
	}
	if s.reader, err = spawn(dir, "reader", readerArgs{URL: s.url, Streams: s.streams, Log: filepath.Join(dir, OutputFile)}); err != nil {
		return err
	}
	go s.watch(s.reader)
	step := eventPerSecond / time.Duration(s.cfg.Rate)
	if s.gen, err = spawn(dir, "generator", generatorArgs{
		URL: s.url, Streams: s.streams, Seed: s.cfg.Seed, Keys: s.cfg.Keys, Rate: s.cfg.Rate, Step: step, Log: filepath.Join(dir, InputFile),
	}); err != nil {
		return err
	}
	if err := s.startJob(""); err != nil {
		return err
	}
	return s.progress(ctx)
}

// freePort returns a port that nobody listens on at the moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func makeStreams(ctx context.Context, url string, st Streams) error {
	nc, err := connect(ctx, url, "torture")
	if err != nil {
		return err
	}
	defer nc.Close()
	for _, spec := range st.specs() {
		if _, err := jetstream.Ensure(ctx, nc, spec); err != nil {
			return err
		}
	}
	return nil
}

// watch follows what the reader says about itself.
func (s *storm) watch(p *proc) {
	for line := range p.lines {
		var st readerState
		if json.Unmarshal([]byte(line), &st) != nil {
			continue
		}
		s.mu.Lock()
		if now := time.Now(); st.Lines > s.seen.Lines {
			if !s.grewAt.IsZero() {
				s.longest = max(s.longest, now.Sub(s.grewAt))
			}
			s.grewAt = now
		}
		s.seen = st
		s.mu.Unlock()
	}
}

func (s *storm) read() readerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// drain ends the input and waits until everything that follows from it is
// visible, then stops the job with a final checkpoint.
func (s *storm) drain(ctx context.Context) error {
	if err := s.awaitNATS(); err != nil {
		return err
	}
	s.mu.Lock()
	s.res.LongestGap = s.longest
	s.mu.Unlock()
	// The generator answers with the number of its last record.
	if err := s.gen.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	last, err := s.gen.line(stopLimit)
	if err != nil {
		return fmt.Errorf("%w: %s", err, tail(s.cfg.Dir, "generator"))
	}
	var records uint64
	if _, err := fmt.Sscan(last, &records); err != nil {
		return fmt.Errorf("the generator says %q", last)
	}
	const patience = 60 * time.Second
	switch err := s.await(ctx, patience, func() bool { return s.read().Echo >= records }); {
	case errors.Is(err, errPatience):
		s.say("only %d of %d records are answered after %v", s.read().Echo, records, patience)
	case err != nil:
		return err
	}
	// Timers of processing time take a moment longer; the last of event time, and
	// the windows, come with the records.
	for quiet, n := time.Now(), s.read().Lines; time.Since(quiet) < quietTime; {
		if err := s.pause(ctx, readerTick); err != nil {
			return err
		}
		if now := s.read().Lines; now != n {
			quiet, n = time.Now(), now
		}
	}
	if err := s.job.terminate(20 * time.Second); err != nil {
		return fmt.Errorf("%w: %s", err, tail(s.cfg.Dir, "job"))
	}
	return s.stopReader(ctx)
}

// quietTime without results says that nothing more comes.
const quietTime = 1500 * time.Millisecond

// stopReader waits until the reader has everything and stops it.
func (s *storm) stopReader(ctx context.Context) error {
	last, err := lastSeq(ctx, s.url, s.streams)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(20 * time.Second)
	for s.read().Seq < last {
		if time.Now().After(deadline) {
			return fmt.Errorf("the reader is at message %d of %d", s.read().Seq, last)
		}
		if err := sleep(ctx, readerTick); err != nil {
			return err
		}
	}
	return s.reader.terminate(10 * time.Second)
}

// lastSeq returns the sequence of the last result in the output stream.
func lastSeq(ctx context.Context, url string, st Streams) (uint64, error) {
	nc, err := connect(ctx, url, "torture")
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		return 0, err
	}
	stream, err := js.Stream(ctx, st.Out)
	if err != nil {
		return 0, err
	}
	msg, err := stream.GetLastMsgForSubject(ctx, st.Out+".*")
	if err != nil {
		return 0, err
	}
	return msg.Sequence, nil
}

// judge compares input, output and state.
func (s *storm) judge(ctx context.Context) error {
	rep, model, err := CheckDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	s.res.Report = rep
	final, err := ReadFinal(ctx, s.jobDir())
	if err != nil {
		return fmt.Errorf("the last checkpoint cannot be read: %w", err)
	}
	s.res.Epochs = uint64(final.Epoch)
	s.res.State = final.Compare(model)
	if s.res.State == "" && !final.Ended {
		s.res.State = fmt.Sprintf("epoch %d is not a final one", final.Epoch)
	}
	s.res.Points, err = pointsIn(filepath.Join(s.cfg.Dir, crashFile))
	s.res.Judged = err == nil
	return err
}

func (s *storm) jobDir() string { return filepath.Join(s.cfg.Dir, "data") }
