package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/weirflow/weir/connectors/jetstream"
)

type generatorArgs struct {
	URL     string
	Streams Streams
	Seed    uint64
	Keys    int
	// Rate is in records per second, Step the event time between two records.
	Rate int
	Step time.Duration
	// Log is the path of input.jsonl.
	Log string
}

// largeInStorm of 1000 records are large: enough for the state to outgrow the
// memory of the job in the course of a storm.
const largeInStorm = 20

// generatorTick is how often records are published, and stopLimit how long the
// last ones may take.
const (
	generatorTick = 10 * time.Millisecond
	stopLimit     = time.Minute
)

// generate publishes records at a rate that does not depend on the server or the
// job, until ctx ends; then it publishes the last ones, writes their number to
// standard output and returns. Each record is in its log, and once in the stream:
// a batch whose outcome is unknown is sent again under the same id.
func generate(ctx context.Context, a generatorArgs) error {
	f, err := os.Create(a.Log)
	if err != nil {
		return err
	}
	defer f.Close()
	life := context.WithoutCancel(ctx)
	nc, err := connect(ctx, a.URL, "generator")
	if err != nil {
		return err
	}
	defer nc.Close()
	g := &generator{args: &a, script: NewScript(a.Seed, a.Keys, a.Step, largeInStorm), log: bufio.NewWriter(f), pub: jetstream.NewBatchPublisher(nc, a.Streams.In)}
	began := time.Now()
	for sent := 0; ctx.Err() == nil; {
		due := int(time.Since(began).Seconds() * float64(a.Rate))
		// What fell due while the server was away follows in batches.
		for ; sent < due && ctx.Err() == nil; sent++ {
			if err := g.put(life, g.script.Next()); err != nil {
				return err
			}
		}
		if err := g.flush(life); err != nil {
			return err
		}
		_ = sleep(ctx, generatorTick)
	}
	stop, cancel := context.WithTimeout(life, stopLimit)
	defer cancel()
	for _, r := range g.script.End() {
		if err := g.put(stop, r); err != nil {
			return err
		}
	}
	if err := g.flush(stop); err != nil {
		return err
	}
	fmt.Println(g.script.id)
	return f.Sync()
}

type generator struct {
	args   *generatorArgs
	script *Script
	log    *bufio.Writer
	pub    *jetstream.BatchPublisher
}

// put writes a record to the log and hands it to the publisher.
func (g *generator) put(ctx context.Context, r Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := g.pub.Add(ctx, g.args.Streams.subject(&r), b, nil); err != nil {
		return err
	}
	r.Fill = ""
	if b, err = json.Marshal(r); err != nil {
		return err
	}
	_, err = g.log.Write(append(b, '\n'))
	return err
}

func (g *generator) flush(ctx context.Context) error {
	if err := g.log.Flush(); err != nil {
		return err
	}
	return g.pub.Flush(ctx)
}
