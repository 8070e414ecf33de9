package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/natsd"
	"github.com/weirflow/weir/state/blob"
)

// payload is the size of a message in bytes.
const payload = 200

// jetstreamThroughput copies a stream to another: by a bare loop that consumes and
// publishes in atomic batches of 1,000, and by a job. Server, sync setting and
// input are the same.
func jetstreamThroughput(ctx context.Context, o options) error {
	srv, err := natsd.Start(natsd.Defaults(filepath.Join(o.dir, "nats")))
	if err != nil {
		return err
	}
	defer srv.Shutdown()
	nc, err := srv.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := fill(ctx, nc, o.records); err != nil {
		return err
	}
	var bare, job, commits []float64
	for i := range o.reps {
		b, err := bareCopy(ctx, nc, o.records, "BARE"+strconv.Itoa(i))
		if err != nil {
			return fmt.Errorf("bare loop: %w", err)
		}
		w, p99, err := weirCopy(ctx, nc, o, i)
		if err != nil {
			return fmt.Errorf("job: %w", err)
		}
		bare, job, commits = append(bare, b), append(job, w), append(commits, p99)
	}
	fmt.Printf("  bare loop %.0f msg/s   job %.0f msg/s   p99 of one epoch's commit %.0f ms (medians of %d)\n",
		median(bare), median(job), median(commits), o.reps)
	judge("job / bare loop ≥ 0.6", median(job)/median(bare), median(job) >= 0.6*median(bare))
	judge("p99 of one epoch's commit, ms, < the interval of 1 s", median(commits), median(commits) < 1000)
	return nil
}

// fill makes the input stream.
func fill(ctx context.Context, nc *nats.Conn, n int) error {
	if _, err := jetstream.Ensure(ctx, nc, jetstream.StreamSpec{Name: "IN", Subjects: []string{"in.>"}}); err != nil {
		return err
	}
	p := jetstream.NewBatchPublisher(nc, "IN")
	data := make([]byte, payload)
	for i := range n {
		data = append([]byte(nil), data...)
		copy(data, strconv.Itoa(i))
		if err := p.Add(ctx, "in.x", data, nil); err != nil {
			return err
		}
	}
	return p.Flush(ctx)
}

func bareCopy(ctx context.Context, nc *nats.Conn, n int, out string) (float64, error) {
	if _, err := jetstream.Ensure(ctx, nc, jetstream.StreamSpec{Name: out, Subjects: []string{out + ".>"}, MarkerPrefix: out + ".commit"}); err != nil {
		return 0, err
	}
	js, err := natsjs.New(nc)
	if err != nil {
		return 0, err
	}
	st, err := js.Stream(ctx, "IN")
	if err != nil {
		return 0, err
	}
	c, err := st.OrderedConsumer(ctx, natsjs.OrderedConsumerConfig{FilterSubjects: []string{"in.>"}})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	it, err := c.Messages(natsjs.PullMaxMessages(2000))
	if err != nil {
		return 0, err
	}
	defer it.Stop()
	p := jetstream.NewBatchPublisher(nc, out)
	for range n {
		m, err := it.Next()
		if err != nil {
			return 0, err
		}
		if err := p.Add(ctx, out+".x", m.Data(), nil); err != nil {
			return 0, err
		}
	}
	if err := p.Flush(ctx); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(start).Seconds(), js.DeleteStream(ctx, out)
}

// weirCopy runs the job; it returns messages per second until everything is
// committed, and the p99 of the epochs' commit times in ms.
func weirCopy(ctx context.Context, nc *nats.Conn, o options, rep int) (rate, p99 float64, err error) {
	out := "OUT" + strconv.Itoa(rep)
	if _, err := jetstream.Ensure(ctx, nc, jetstream.StreamSpec{Name: out, Subjects: []string{out + ".>"}, MarkerPrefix: "commit" + strconv.Itoa(rep)}); err != nil {
		return 0, 0, err
	}
	spec := weir.NewJob("copy-"+strconv.Itoa(rep), func(j *weir.Job) {
		in := weir.From(j, "in", jetstream.Stream[[]byte]("IN", jetstream.Raw(), jetstream.Subject("in.>"), jetstream.UntilNow()), weir.ProcessingTime[[]byte]())
		weir.To(in, "out", jetstream.Publish(out, func([]byte) string { return out + ".x" }, jetstream.Raw(), jetstream.MarkerPrefix("commit"+strconv.Itoa(rep))))
	})
	plan, err := weir.Compile(spec)
	if err != nil {
		return 0, 0, err
	}
	dir := filepath.Join(o.dir, out)
	store, err := blob.NewDir(vfs.Default, filepath.Join(dir, "checkpoints"), "bench")
	if err != nil {
		return 0, 0, err
	}
	ctx = jetstream.WithProvider(ctx, jetstream.FromConn(nc))
	start := time.Now()
	job, err := engine.Start(ctx, plan, engine.Options{Blob: store, StateDir: filepath.Join(dir, "state"), Logger: o.logger})
	if err != nil {
		return 0, 0, err
	}
	if err := job.Wait(); err != nil {
		return 0, 0, err
	}
	d := time.Since(start)
	return float64(o.records) / d.Seconds(), float64(job.CommitQuantile(0.99)) / 1e6, nil
}
