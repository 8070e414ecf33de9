package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/crash"
)

// Cell is one run of the job in which one process dies at one point.
type Cell struct {
	Point string
	// NATS says that the server is killed when the job reaches the point; the job
	// stands still there meanwhile and goes on. Otherwise the job is killed.
	NATS bool
	// Hit is which time the job comes to the point, from 1.
	Hit uint64
	// Prior is a point, with its hit, at which the job has died once before: for
	// points of the recovery. "" for none.
	Prior string
	// Bulky gives the job more state than memory, and long epochs.
	Bulky bool
}

// String names the cell, such as "coord.after_claim:3" or "nats at gen.after_put:1".
func (c Cell) String() string {
	s := fmt.Sprintf("%s:%d", c.Point, c.Hit)
	if c.NATS {
		s = "nats at " + s
	}
	if c.Prior != "" {
		s += " after " + c.Prior
	}
	return s
}

// Limits of one run of the job in a cell, and of what the server may take.
const (
	cellLimit  = 30 * time.Second
	standStill = 250 * time.Millisecond
	cellPause  = 25 * time.Millisecond

	shortInterval, longInterval = 20 * time.Millisecond, 700 * time.Millisecond
	cellChunk                   = 25
)

// errNotReached says that the job came to its end without coming to the point.
var errNotReached = errors.New("the job did not come to the point")

// bench runs cells one after another on a server of its own.
type bench struct {
	dir  string
	port int
	url  string
	nats *proc
	nc   *nats.Conn
	js   natsjs.JetStream
	n    int
}

// newBench starts a server.
func newBench(ctx context.Context, dir string) (*bench, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b := &bench{dir: dir}
	var err error
	if b.port, err = freePort(); err != nil {
		return nil, err
	}
	b.url = fmt.Sprintf("nats://127.0.0.1:%d", b.port)
	if err := b.startNATS(); err != nil {
		return nil, err
	}
	if b.nc, err = connect(ctx, b.url, "crashmatrix"); err != nil {
		return nil, err
	}
	b.js, err = natsjs.New(b.nc)
	return b, err
}

func (b *bench) startNATS() error {
	var err error
	if b.nats, err = spawn(b.dir, "nats", natsArgs{Dir: filepath.Join(b.dir, "nats"), Port: b.port}); err != nil {
		return err
	}
	if _, err = b.nats.line(30 * time.Second); err != nil {
		return fmt.Errorf("%w: %s", err, tail(b.dir, "nats"))
	}
	return nil
}

// connected waits until the connection is up again after the server was killed.
func (b *bench) connected(ctx context.Context) error {
	for deadline := time.Now().Add(15 * time.Second); b.nc.Status() != nats.CONNECTED; {
		if time.Now().After(deadline) {
			return errors.New("the server is up and cannot be reached")
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) close() {
	if b.nc != nil {
		b.nc.Close()
	}
	if b.nats != nil && b.nats.running() {
		b.nats.kill()
	}
}

// cellRun is a cell under way.
type cellRun struct {
	*bench
	*input
	dir      string
	streams  Streams
	interval time.Duration
}

// run runs a cell: with its point armed until a process has died there, and then
// to the end of the input. It returns what is wrong with the results, and the
// hits of all points in the last process when count is set.
func (b *bench) run(ctx context.Context, c Cell, in *input, count bool) (rep *Report, hits map[string]uint64, err error) {
	b.n++
	if err := b.connected(ctx); err != nil {
		return nil, nil, err
	}
	r := &cellRun{bench: b, input: in, dir: filepath.Join(b.dir, fmt.Sprint("cell", b.n)), streams: Streams{In: fmt.Sprint("IN", b.n), Out: fmt.Sprint("OUT", b.n)}}
	r.interval = shortInterval
	if c.Bulky {
		r.interval = longInterval
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, nil, err
	}
	for _, spec := range r.streams.specs() {
		if _, err := jetstream.Ensure(ctx, b.nc, spec); err != nil {
			return nil, nil, err
		}
	}
	fctx, stop := context.WithCancel(ctx)
	fed := make(chan error, 1)
	go func() { fed <- r.feed(fctx) }()
	defer func() {
		stop()
		err = errors.Join(err, <-fed)
		if err == nil && rep.OK() {
			err = r.clear(context.WithoutCancel(ctx))
		}
	}()
	hits, err = r.drive(ctx, c, count)
	if err != nil {
		return nil, nil, err
	}
	rep, err = r.judge(ctx)
	return rep, hits, err
}

// feed publishes the input: most of it at once, so that an epoch has several
// chunks, and the rest little by little, so that there are many epochs.
func (r *cellRun) feed(ctx context.Context) error {
	life := context.WithoutCancel(ctx)
	pub := jetstream.NewBatchPublisher(r.nc, r.streams.In)
	for i := range r.records {
		b, err := json.Marshal(&r.records[i])
		if err != nil {
			return err
		}
		if err := pub.Add(life, r.streams.subject(&r.records[i]), b, nil); err != nil {
			return err
		}
		if i > len(r.records)*3/4 && i%cellChunk == 0 {
			if err := pub.Flush(life); err != nil {
				return err
			}
			if sleep(ctx, cellPause) != nil {
				return nil // the cell is over
			}
		}
	}
	return pub.Flush(life)
}

// drive takes the job through the cell.
func (r *cellRun) drive(ctx context.Context, c Cell, count bool) (map[string]uint64, error) {
	if c.Prior != "" {
		if err := r.crash(ctx, c.Prior); err != nil {
			return nil, fmt.Errorf("before: %w", err)
		}
	}
	switch {
	case c.Point == "":
	case c.NATS:
		return nil, r.killNATS(ctx, c)
	default:
		if err := r.crash(ctx, fmt.Sprintf("%s:%d", c.Point, c.Hit)); err != nil {
			return nil, err
		}
	}
	file := ""
	if count {
		file = filepath.Join(r.dir, "hits.json")
	}
	if err := r.finish(ctx, file); err != nil || !count {
		return nil, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var hits map[string]uint64
	return hits, json.Unmarshal(b, &hits)
}

// start starts the job with an armed point.
func (r *cellRun) start(armed, hitsFile string) (*proc, error) {
	return spawn(r.dir, "job", jobArgs{
		URL: r.url, Streams: r.streams, DataDir: filepath.Join(r.dir, "data"), Last: uint64(len(r.records)),
		Parallelism: 2, Interval: r.interval, Retain: 2, HitsFile: hitsFile,
	}, crash.EnvLog+"="+r.crashLog(), crash.Env+"="+armed)
}

func (r *cellRun) crashLog() string { return filepath.Join(r.dir, crashFile) }

// wait waits for the end of a job process.
func (r *cellRun) wait(ctx context.Context, p *proc) error {
	timer := time.NewTimer(cellLimit)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		p.dump()
		return fmt.Errorf("the job did not end within %v; its stacks are in %s/job.log", cellLimit, r.dir)
	case <-ctx.Done():
		p.kill()
		return ctx.Err()
	}
}

// crash runs the job until it dies at a point, as the crash log must confirm.
func (r *cellRun) crash(ctx context.Context, armed string) error {
	p, err := r.start(armed, "")
	if err != nil {
		return err
	}
	if err := r.wait(ctx, p); err != nil {
		return err
	}
	switch {
	case p.killed():
		return r.confirm(armed, "kill")
	case p.exitCode() == 0:
		return fmt.Errorf("%w %s", errNotReached, armed)
	}
	return fmt.Errorf("the job failed with exit code %d; the end of its log:\n%s", p.exitCode(), tail(r.dir, "job"))
}

// confirm looks for the line that a point writes before it acts.
func (r *cellRun) confirm(armed, action string) error {
	point, hit, _ := strings.Cut(armed, ":")
	want := point + " " + hit + " " + action
	b, err := os.ReadFile(r.crashLog())
	if err == nil && !strings.Contains("\n"+string(b), "\n"+want+"\n") {
		err = fmt.Errorf("the crash log has no line %q", want)
	}
	return err
}

// killNATS lets the job stand still at the point, kills the server there, and
// waits for the end of the job.
func (r *cellRun) killNATS(ctx context.Context, c Cell) error {
	p, err := r.start(fmt.Sprintf("%s:%d:pause:%s", c.Point, c.Hit, standStill), "")
	if err != nil {
		return err
	}
	for r.confirm(fmt.Sprintf("%s:%d", c.Point, c.Hit), "pause") != nil {
		if !p.running() {
			if p.exitCode() == 0 {
				return fmt.Errorf("%w %s:%d", errNotReached, c.Point, c.Hit)
			}
			break
		}
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			p.kill()
			return err
		}
	}
	r.nats.kill()
	if err := r.startNATS(); err != nil {
		p.kill()
		return err
	}
	return r.follow(ctx, p, "")
}

// finish runs the job to the end of its input.
func (r *cellRun) finish(ctx context.Context, hitsFile string) error {
	p, err := r.start("", hitsFile)
	if err != nil {
		return err
	}
	return r.follow(ctx, p, hitsFile)
}

// follow waits for the end of the job, and starts it again when it gave up only
// because the server was away.
func (r *cellRun) follow(ctx context.Context, p *proc, hitsFile string) error {
	for range 5 {
		if err := r.wait(ctx, p); err != nil {
			return err
		}
		switch p.exitCode() {
		case 0:
			return nil
		case exitUnreachable, exitRestarts:
		default:
			return fmt.Errorf("the job failed with exit code %d; the end of its log:\n%s", p.exitCode(), tail(r.dir, "job"))
		}
		var err error
		if p, err = r.start("", hitsFile); err != nil {
			return err
		}
	}
	return fmt.Errorf("the job gave up again and again; the end of its log:\n%s", tail(r.dir, "job"))
}

// judge compares what is in the output stream, and the state, with the model.
func (r *cellRun) judge(ctx context.Context) (*Report, error) {
	if err := r.connected(ctx); err != nil {
		return nil, err
	}
	check := NewCheck(r.model)
	if err := r.readAll(ctx, func(l *Line) error { return check.TakeLine(l) }); err != nil {
		return nil, err
	}
	final, err := ReadFinal(ctx, filepath.Join(r.dir, "data"))
	if err != nil {
		return nil, fmt.Errorf("the last checkpoint cannot be read: %w", err)
	}
	rep := check.Finish()
	if diff := final.Compare(r.model); diff != "" {
		rep.add(Wrong, 1, "state: %s", diff)
	}
	if !final.Ended {
		rep.add(Wrong, 1, "epoch %d is not a final one", final.Epoch)
	}
	return rep, nil
}

// readAll reads the output stream from its beginning to its end.
func (r *cellRun) readAll(ctx context.Context, f func(*Line) error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	last, err := lastSeq(ctx, r.url, r.streams)
	if err != nil {
		return err
	}
	cons, err := r.js.OrderedConsumer(ctx, r.streams.Out, natsjs.OrderedConsumerConfig{FilterSubjects: []string{r.streams.Out + ".*"}})
	if err != nil {
		return err
	}
	msgs, err := cons.Messages()
	if err != nil {
		return err
	}
	defer msgs.Stop()
	for seq := uint64(0); seq < last; {
		m, err := msgs.Next(natsjs.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read the output after message %d of %d: %w", seq, last, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		seq = meta.Sequence.Stream
		if err := f(&Line{Seq: seq, Subject: m.Subject(), Data: m.Data()}); err != nil {
			return err
		}
	}
	return nil
}

// clear removes everything of a cell.
func (r *cellRun) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return errors.Join(r.js.DeleteStream(ctx, r.streams.In), r.js.DeleteStream(ctx, r.streams.Out), os.RemoveAll(r.dir))
}
