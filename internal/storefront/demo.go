package storefront

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/examples/storefront"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/datadir"
	"github.com/weirflow/weir/internal/storefront/proof"
	"github.com/weirflow/weir/internal/storefront/script"
)

// Error codes of this package.
const (
	// CodeOptions: the demo cannot run with these options.
	CodeOptions = "WEIR-0202"
	// CodeDiffers: what the job published is not what it should be.
	CodeDiffers = "WEIR-0220"
	// CodeChild: a process of the demo failed.
	CodeChild = "WEIR-0221"
)

// Options say how the demo runs.
type Options struct {
	Script script.Config
	// KillEvery is the mean time between two kills of the job; 0: it is not
	// killed.
	KillEvery time.Duration
	// Once ends the demo by itself after about that time; 0: it goes on until ctx
	// is done.
	Once time.Duration
	// Dir keeps everything and goes on with what it holds; "" is a new temporary
	// directory that is removed at the end.
	Dir string
	// AtLeastOnce runs the job with sinks that do not keep the promise.
	AtLeastOnce bool
	// Fault is a fault of the reader, see proof.Faults.
	Fault       string
	Interval    time.Duration
	Parallelism int
	// Command starts a child of this program; the role is appended.
	Command []string
	// Out takes progress lines.
	Out io.Writer
	// Began is when the program was started.
	Began time.Time
}

// Defaults.
const (
	DefaultRate        = 1000
	DefaultSpeed       = 120
	DefaultKillEvery   = 7 * time.Second
	DefaultOnce        = 20 * time.Second
	DefaultInterval    = 100 * time.Millisecond
	DefaultParallelism = 2
)

// drainTime is the part of Options.Once that is left for the end.
const drainTime = 2 * time.Second

// Check reports the first option that cannot be used.
func (o *Options) Check() error {
	bad := func(what, next string) error { return &base.Error{Code: CodeOptions, What: what, Next: next} }
	if err := errors.Join(o.Script.Check(), proof.CheckFault(o.Fault)); err != nil {
		return bad(err.Error(), "correct the flag")
	}
	switch {
	case o.KillEvery < 0 || o.KillEvery > 0 && o.KillEvery < time.Second:
		return bad(fmt.Sprintf("the job is to be killed every %v", o.KillEvery), "use one second or more, or 0 for never")
	case o.Once != 0 && o.Once < 2*drainTime:
		return bad(fmt.Sprintf("the demo is to run %v", o.Once), fmt.Sprintf("use %v or more", 2*drainTime))
	case o.Interval < 10*time.Millisecond:
		return bad(fmt.Sprintf("the checkpoint interval is %v", o.Interval), "use 10ms or more")
	case o.Parallelism < 1 || o.Parallelism > 16:
		return bad(fmt.Sprintf("the parallelism is %d", o.Parallelism), "use 1 to 16")
	}
	return nil
}

// demo is one run of the supervisor.
type demo struct {
	o       Options
	dir     string
	temp    bool
	session string
	out     *printer
	dice    *mrand.Rand

	events chan event
	done   chan struct{}
	all    []*process

	nats, job, generator, reader *process

	url     string
	report  proof.Report
	reports int
	resumed bool
	up      bool // the job said that it runs
	kills   int
	killAt  time.Time // of the next kill; zero: none
	grown   bool      // the canary has its later share
}

// Run runs the demo. It returns nil when everything that was compared is right;
// an error with WEIR-0220 when not. When ctx is done, the demo ends in order.
func Run(ctx context.Context, o Options) error {
	if err := o.Check(); err != nil {
		return err
	}
	d := &demo{
		o: o, dir: o.Dir, session: rand.Text(), out: newPrinter(o.Out, o.Began),
		dice:   mrand.New(mrand.NewPCG(o.Script.Seed, 0xdead)),
		events: make(chan event, 64), done: make(chan struct{}),
	}
	if o.Dir == "" {
		var err error
		if d.dir, err = os.MkdirTemp("", "weir-demo-"); err != nil {
			return err
		}
		d.temp = true
	}
	lock, err := datadir.Open(d.dir)
	if err != nil {
		return err
	}
	d.dir = lock.Path()
	if err = d.checkLog(); err == nil {
		err = d.run(ctx)
	}
	reap(d.all, d.events)
	close(d.done)
	err = errors.Join(err, lock.Close())
	switch {
	case d.temp && err == nil:
		return os.RemoveAll(d.dir)
	case d.temp:
		d.out.line("everything is left in %s", d.dir)
	}
	return err
}

// checkLog refuses a directory whose play is another one or has ended.
func (d *demo) checkLog() error {
	err := script.CheckLog(logDir(d.dir), d.o.Script)
	if err == nil {
		return nil
	}
	return &base.Error{Code: CodeOptions, What: "the demo cannot go on in this directory", Where: d.dir, Cause: err,
		Next: "choose another directory, or the flags of that run if it has not ended"}
}

func (d *demo) run(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	d.out.title(d)
	if d.o.KillEvery > 0 {
		d.killAt = time.Now().Add(d.nextKill())
	}
	// Until the play ends or somebody ends it.
	err := d.pump(ctx, 0, func() bool { return !d.generator.running })
	d.killAt = time.Time{}
	if ctx.Err() != nil {
		d.out.line("stopping")
		d.generator.send(command{Stop: true})
		ctx = context.WithoutCancel(ctx)
		err = d.pump(ctx, 15*time.Second, func() bool { return !d.generator.running })
	}
	if err != nil {
		return err
	}
	return d.finish(ctx)
}

// start starts everything. The processes start side by side; all but the server
// wait for its address.
func (d *demo) start(ctx context.Context) error {
	for _, c := range []struct {
		role string
		p    **process
	}{{roleNATS, &d.nats}, {roleJob, &d.job}, {roleGenerator, &d.generator}, {roleReader, &d.reader}} {
		p, err := d.spawn(c.role)
		if err != nil {
			return err
		}
		*c.p = p
		if c.role == roleNATS {
			p.send(childConfig{Dir: filepath.Join(d.dir, "nats")})
		}
	}
	if err := d.pump(ctx, time.Minute, func() bool { return d.url != "" }); err != nil {
		return err
	}
	if d.url == "" {
		return fmt.Errorf("the NATS server did not start: %w", cmp.Or(ctx.Err(), context.DeadlineExceeded))
	}
	if err := d.makeStreams(ctx); err != nil {
		return err
	}
	cfg := childConfig{
		URL: d.url, Dir: d.dir, Script: d.o.Script, Session: d.session,
		Reader: proof.Config{URL: d.url, Log: logDir(d.dir), Prune: d.temp && d.o.Once == 0, Fault: d.o.Fault},
	}
	if d.o.Once > 0 {
		cfg.Events = uint64((d.o.Once - drainTime).Seconds() * float64(d.o.Script.Rate))
	}
	d.reader.send(cfg)
	d.job.send(d.jobConfig())
	d.generator.mayEnd = true
	d.generator.send(cfg)
	return nil
}

func (d *demo) spawn(role string) (*process, error) {
	p, err := spawn(d.o.Command, role, d.dir, d.events, d.done)
	if err == nil {
		d.all = append(d.all, p)
	}
	return p, err
}

func (d *demo) jobConfig() childConfig {
	return childConfig{URL: d.url, Dir: d.dir, Interval: d.o.Interval, Parallelism: d.o.Parallelism, AtLeastOnce: d.o.AtLeastOnce}
}

// keep is how long the streams of an endless demo keep messages.
const keep = 10 * time.Minute

func (d *demo) makeStreams(ctx context.Context) error {
	nc, err := jetstream.Dial(jetstream.Config{URL: d.url, Name: "weir demo"})
	if err != nil {
		return err
	}
	defer nc.Close()
	for _, s := range storefront.Streams() {
		if d.temp && d.o.Once == 0 {
			s.MaxAge = keep
		}
		if _, err := jetstream.Ensure(ctx, nc, s); err != nil {
			return err
		}
	}
	return nil
}

// pump takes events until a condition holds, ctx is done or the time is over; 0
// is no limit. It fails when a child ends that should not.
func (d *demo) pump(ctx context.Context, limit time.Duration, until func() bool) error {
	var over <-chan time.Time
	if limit > 0 {
		over = time.After(limit)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !until() {
		select {
		case e := <-d.events:
			if err := d.handle(e); err != nil {
				return err
			}
		case <-tick.C:
			if err := d.tick(); err != nil {
				return err
			}
		case <-over:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (d *demo) handle(e event) error {
	p := e.from
	if e.exited {
		p.running, p.err = false, e.err
		switch {
		case p == d.job && p.killed:
			return d.restart()
		case p.err == nil && p.mayEnd:
			return nil
		}
		return &base.Error{Code: CodeChild, What: p.failure().Error(), Next: "its whole log is " + p.log}
	}
	switch p {
	case d.nats:
		d.url = string(e.line)
	case d.job:
		var s jobStarted
		if err := json.Unmarshal(e.line, &s); err != nil {
			return fmt.Errorf("the job says %.100q: %w", e.line, err)
		}
		d.up = true
		d.resumed = d.resumed || d.kills == 0 && s.Resumed
	case d.reader:
		return d.hear(e.line)
	}
	return nil
}
