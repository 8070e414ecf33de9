package storefront

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/examples/storefront"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/storefront/proof"
)

// progressEvery is the time between two progress lines.
const progressEvery = 2 * time.Second

// hear takes a report of the reader.
func (d *demo) hear(line []byte) error {
	var r proof.Report
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("the reader says %.100q: %w", line, err)
	}
	was := d.report
	d.report = r
	d.reports++
	if was.First == 0 && r.First > 0 {
		d.out.line("first result visible to the reader, %s after the start", millis(r.First-d.o.Began.UnixNano()))
	}
	for _, n := range r.Recovered[len(was.Recovered):] {
		d.out.line("the job is back: results of events sent since are visible %s after the kill", millis(n))
	}
	for _, text := range r.Differences[len(was.Differences):] {
		d.out.line("%s", text)
	}
	return nil
}

// tick kills the job when it is time, and says how things stand.
func (d *demo) tick() error {
	now := time.Now()
	// A job that is not back yet from the last kill is left alone, so that every
	// kill has a recovery to measure.
	if !d.killAt.IsZero() && now.After(d.killAt) && d.up && len(d.report.Recovered) == d.kills && d.report.First > 0 {
		d.kills++
		d.up = false
		d.reader.send(command{Command: proof.Command{Killed: now.UnixNano()}})
		d.job.kill()
		d.out.line("job killed (kill -9 of process %d)", d.job.cmd.Process.Pid)
		d.killAt = now.Add(d.nextKill())
	}
	if !d.grown && d.report.First > 0 && d.report.Events > growAfter {
		d.grown = true
		if err := d.grow(); err != nil {
			return err
		}
	}
	if d.out.due(now) && d.report.Events > 0 {
		d.out.progress(&d.report)
	}
	return nil
}

// After growAfter events the canary of the predictions gets a larger share, in percent.
const (
	growAfter = 2000
	grownTo   = 30
)

// grow publishes a routing, as whoever runs a canary would. In a demo that goes on it
// is not newer than the one in effect and changes nothing.
func (d *demo) grow() error {
	nc, err := jetstream.Dial(jetstream.Config{URL: d.url, Name: "weir demo"})
	if err != nil {
		return err
	}
	defer nc.Close()
	b, err := json.Marshal(storefront.Routing(1, grownTo))
	if err != nil {
		return err
	}
	if _, err := nc.Request("routes", b, 10*time.Second); err != nil {
		return fmt.Errorf("the routing was not taken: %w", err)
	}
	d.out.line("the canary gets %d %% of the visitors and items, by a message on ROUTES", grownTo)
	return nil
}

// nextKill is a time around KillEvery.
func (d *demo) nextKill() time.Duration {
	return time.Duration(float64(d.o.KillEvery) * (0.7 + 0.6*d.dice.Float64()))
}

// restart starts the job again after a kill.
func (d *demo) restart() error {
	p, err := d.spawn(roleJob)
	if err != nil {
		return err
	}
	d.job = p
	p.send(d.jobConfig())
	return nil
}

// Bounds of the steps at the end.
const (
	drainLimit = 2 * time.Minute
	// stalled is how long nothing new is compared before what is due counts as
	// missing.
	stalled   = 8 * time.Second
	stopLimit = 15 * time.Second
	readLimit = time.Minute
)

// finish lets the job publish what is due, ends it with a final checkpoint, has
// the reader compare everything, and says what came of it.
func (d *demo) finish(ctx context.Context) error {
	mark, seen, moved := d.reports, uint64(0), time.Now()
	drained := func() bool {
		if now := time.Now(); seen != d.report.Compared {
			seen, moved = d.report.Compared, now
		} else if now.Sub(moved) > stalled {
			return true
		}
		// The second report from now has seen the whole log.
		return d.reports >= mark+2 && d.report.Outstanding == 0 && (d.o.Once == 0 || d.report.Ended)
	}
	if err := d.pump(ctx, drainLimit, drained); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	d.job.mayEnd = true
	d.job.send(command{Stop: true})
	if err := d.pump(ctx, stopLimit, func() bool { return !d.job.running }); err != nil {
		return err
	}
	if d.job.running {
		return &base.Error{Code: CodeChild, What: fmt.Sprintf("the job did not stop within %v", stopLimit), Next: "its log is " + d.job.log}
	}
	d.reader.mayEnd = true
	d.reader.send(command{Command: proof.Command{Finish: true}})
	if err := d.pump(ctx, readLimit, func() bool { return !d.reader.running }); err != nil {
		return err
	}
	if !d.report.Final {
		return &base.Error{Code: CodeChild, What: "the reader did not finish", Next: "its log is " + d.reader.log}
	}
	d.nats.mayEnd = true
	_ = d.nats.in.Close() // its sign to end
	if err := d.pump(ctx, stopLimit, func() bool { return !d.nats.running }); err != nil {
		return err
	}
	return d.verdict()
}

// verdict prints the proof and makes an error of it when it failed.
func (d *demo) verdict() error {
	r := &d.report
	d.out.summary(r)
	d.out.proof(r, d.kills)
	switch {
	case !r.Equal():
		return &base.Error{
			Code: CodeDiffers, What: "the job's results differ from the model", Next: "the first differences are above",
			Cause: errors.New(strings.Join(first(r.Differences, 3), "; ")),
		}
	case r.Compared == 0:
		return &base.Error{Code: CodeDiffers, What: "no result was compared", Next: "let the demo run longer"}
	}
	return nil
}

func first(list []string, n int) []string { return list[:min(n, len(list))] }

// median of durations in nanoseconds; 0 of none.
func median(list []int64) int64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
