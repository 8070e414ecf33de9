package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/internal/fakemodel"
)

// check runs the chain in processes of their own, kills the main one, adds a step while
// prompts flow, and counts.
type check struct {
	dir    string
	script script
	kills  int
	seed   uint64
	// exe and env start this program.
	exe string
	env []string
	out io.Writer

	began time.Time
	url   string // of NATS
	model *fakemodel.Server
	nc    *nats.Conn
	js    natsjs.JetStream
}

func checkCommand() *cobra.Command {
	c := &check{}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Kill the chain, add a step to it while it runs, and prove that nothing is lost or done twice",
		Long: `Run the whole chain against a fake model server that fails in 30 of 100 requests, kill
its process with -9, add the step moderate while prompts flow, and compare every event
with what was asked. Exit code 1 says that something was lost, done twice or in disorder.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.exe, err = os.Executable(); err != nil {
				return err
			}
			c.out = cmd.OutOrStdout()
			if c.dir == "" {
				if c.dir, err = os.MkdirTemp("", "rag-check-"); err != nil {
					return err
				}
				defer os.RemoveAll(c.dir)
			}
			return c.run(cmd.Context())
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.IntVar(&c.script.prompts, "prompts", 10_000, "prompts that get an answer")
	fl.IntVar(&c.script.poison, "refused", 20, "further prompts that the model refuses")
	fl.IntVar(&c.script.undeliverable, "undeliverable", 20, "further prompts whose answers cannot be delivered")
	fl.IntVar(&c.script.documents, "documents", facts, "documents")
	fl.Float64Var(&c.script.rate, "rate", 0, "prompts per second; 0 is as fast as they are taken")
	fl.IntVar(&c.kills, "kills", 2, "how often the process of the chain is killed")
	fl.Uint64Var(&c.seed, "seed", 1, "seed of the failures and of the times of the kills")
	fl.StringVar(&c.dir, "dir", "", "directory for everything that is kept (default a temporary one, removed at the end)")
	return cmd
}

func (c *check) printf(format string, args ...any) {
	fmt.Fprintf(c.out, "%7.1f s  %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

func (c *check) run(ctx context.Context) error {
	c.began = time.Now()
	err := os.MkdirAll(c.dir, 0o755)
	if err != nil {
		return err
	}
	if c.model, err = fakemodel.Start(fakemodel.Options{Script: failures(c.seed)}); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.model.Close(ctx) // the process ends anyway
	}()
	port, err := freePort()
	if err != nil {
		return err
	}
	c.url = "nats://127.0.0.1:" + strconv.Itoa(port)
	if c.nc, err = nats.Connect(c.url, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond)); err != nil {
		return err
	}
	defer c.nc.Close()
	if c.js, err = natsjs.New(c.nc); err != nil {
		return err
	}
	return c.live(ctx, port)
}

// live runs the processes.
func (c *check) live(ctx context.Context, port int) error {
	rnd := rand.New(rand.NewPCG(c.seed, 7))
	chain, err := c.startChain(port)
	if err != nil {
		return err
	}
	defer func() { chain.kill() }()
	var extra *process
	defer func() {
		if extra != nil {
			extra.kill()
		}
	}()
	total := c.script.total()
	// Kills are spread over the middle of the work; the new step comes after the first,
	// and loses its server with the others.
	for i := range c.kills + 1 {
		if err := c.await(ctx, total*(i+1)/(c.kills+3)); err != nil {
			return err
		}
		if i == min(1, c.kills) {
			if extra, err = c.addStep(ctx, chain); err != nil {
				return err
			}
		}
		if i == c.kills {
			break
		}
		time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond)
		n, err := c.ended(ctx)
		if err != nil {
			return err
		}
		chain.kill()
		c.printf("kill -9 with %d of %d prompts ended", n, total)
		if chain, err = c.startChain(port); err != nil {
			return err
		}
	}
	if err := c.await(ctx, total); err != nil {
		return err
	}
	c.printf("all %d prompts ended", total)
	if err := c.settle(ctx); err != nil {
		return err
	}
	took := time.Since(c.began)
	if err := c.verify(ctx); err != nil {
		return err
	}
	if err := c.traces(ctx); err != nil {
		return err
	}
	stats := c.model.Stats()
	failed := stats.Calls - stats.Outcomes[fakemodel.OK]
	c.printf("model: %d requests, %d of them failed (%.1f %%); %d idempotency keys, %d of them worked on twice",
		stats.Calls, failed, 100*float64(failed)/float64(max(stats.Calls, 1)), stats.Keys, stats.ProcessedAgain)
	if err := c.sendBack(ctx); err != nil {
		return err
	}
	if err := errors.Join(extra.stop(), chain.stop()); err != nil {
		return err
	}
	c.printf("PASS: %d prompts in %.1f s, %.0f a second", total, took.Seconds(), float64(total)/took.Seconds())
	return nil
}

// startChain starts the process with the whole chain.
func (c *check) startChain(port int) (*process, error) {
	s := c.script
	return c.start("", "chain", "--port", strconv.Itoa(port), "--stay", "--documents", strconv.Itoa(s.documents), "--prompts", strconv.Itoa(s.prompts),
		"--refused", strconv.Itoa(s.poison), "--undeliverable", strconv.Itoa(s.undeliverable), "--rate", strconv.FormatFloat(s.rate, 'f', -1, 64))
}

// start starts this program with a log in the directory, and waits for nothing.
func (c *check) start(command, name string, args ...string) (*process, error) {
	if command != "" {
		args = append(strings.Fields(command), args...)
	}
	args = append(args, "--dir", filepath.Join(c.dir, name), "--endpoint", c.model.URL()+"/v1", "--timeout", "500ms", "--verbose")
	log, err := os.OpenFile(filepath.Join(c.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(c.exe, args...), log: log, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), c.env...)
	p.cmd.Stderr, p.cmd.Stdout = log, &p.steps
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	go func() {
		p.err = p.cmd.Wait()
		_ = log.Close() // the child has written it
		close(p.done)
	}()
	return p, nil
}

// ended counts the prompts that are at their end.
func (c *check) ended(ctx context.Context) (n int, err error) {
	for _, typ := range []string{notified, abandoned} {
		m, err := chains(ctx, c.js, typ)
		if err != nil {
			return 0, err
		}
		n += m
	}
	return n, nil
}

// patience is how long nothing may happen.
const patience = 2 * time.Minute

// await waits until so many prompts are at their end. While the server is down nobody
// answers.
func (c *check) await(ctx context.Context, n int) error {
	return c.until(ctx, fmt.Sprintf("%d prompts to end", n), func(ctx context.Context) (int, bool, error) {
		m, err := c.ended(ctx)
		return m, m >= n, err
	})
}

// until waits for something whose progress is a number.
func (c *check) until(ctx context.Context, what string, ask func(context.Context) (int, bool, error)) error {
	last, moved := -1, time.Now()
	return poll(ctx, func() (bool, error) {
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		n, ok, err := ask(one)
		if err == nil && n != last {
			last, moved = n, time.Now()
		}
		if time.Since(moved) > patience {
			return false, fmt.Errorf("waited %v for %s, and are at %d: %w", patience, what, last, cmpErr(err))
		}
		return ok && err == nil, nil
	})
}

func cmpErr(err error) error {
	if err == nil {
		return errors.New("nothing happens any more")
	}
	return err
}

// settle waits for what goes on beside the prompts: undone memories, the new step.
func (c *check) settle(ctx context.Context) error {
	return c.until(ctx, "the side branches to end", func(ctx context.Context) (int, bool, error) {
		undone, err := chains(ctx, c.js, memoryUndone)
		if err != nil {
			return 0, false, err
		}
		seen, err := chains(ctx, c.js, moderated)
		return undone + seen, undone == c.script.undeliverable && seen == c.script.prompts+c.script.undeliverable, err
	})
}

// flow is how many prompts must come to their end while a step is added, if so many are
// left.
const flow = 20

// addStep starts the step moderate in a process of its own, while prompts flow, and
// compares what the others say of themselves before and after.
func (c *check) addStep(ctx context.Context, chain *process) (*process, error) {
	var before string
	if err := c.until(ctx, "the steps to run", func(ctx context.Context) (n int, ok bool, err error) {
		before, err = chain.figures(ctx)
		return 0, err == nil, err
	}); err != nil {
		return nil, err
	}
	first, err := c.ended(ctx)
	if err != nil {
		return nil, err
	}
	extra, err := c.start("step moderate", "moderate", "--nats", c.url)
	if err != nil {
		return nil, err
	}
	if err := c.until(ctx, "the new step to work", func(ctx context.Context) (int, bool, error) {
		n, err := chains(ctx, c.js, moderated)
		return n, n > 0, err
	}); err != nil {
		extra.kill()
		return nil, err
	}
	if err := c.await(ctx, min(first+flow, c.script.total())); err != nil {
		extra.kill()
		return nil, err
	}
	after, err := chain.figures(ctx)
	if err == nil && before != after {
		err = fmt.Errorf("the steps were disturbed by the new one:\nbefore %s\nafter  %s", before, after)
	}
	if err != nil {
		extra.kill()
		return nil, err
	}
	last, err := c.ended(ctx)
	if err == nil && last == first {
		extra.kill()
		return nil, fmt.Errorf("all %d prompts had ended before the step was added: ask more, or more slowly (--prompts, --rate)", last)
	}
	c.printf("step moderate added while %d more prompts ended; the others went on: %s", last-first, after)
	return extra, err
}

// sendBack lets the model answer everything, sends back the dead letters of generate, and
// waits until the prompts that were given up have their answers.
func (c *check) sendBack(ctx context.Context) error {
	if c.script.poison == 0 {
		return nil
	}
	if err := c.model.SetScript(fakemodel.Script{}); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.exe, "dlq", "retry", "--job", "generate", "--all", "--nats", c.url)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), c.env...), c.out, c.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("dlq retry: %w", err)
	}
	want := c.script.prompts + c.script.poison
	if err := c.until(ctx, "the prompts that were sent back to end", func(ctx context.Context) (int, bool, error) {
		n, err := chains(ctx, c.js, notified)
		return n, n >= want, err
	}); err != nil {
		return err
	}
	events, err := readAll(ctx, c.js, notified)
	if err != nil {
		return err
	}
	got := map[string]bool{}
	for _, e := range events {
		got[e.Correlation] = true
	}
	for i := range c.script.total() {
		if c.script.kind(i) != undeliverable && !got[correlation(i)] {
			return fmt.Errorf("%s was sent back and has no answer", correlation(i))
		}
	}
	if len(events) != want || len(got) != want {
		return fmt.Errorf("%d notifications of %d chains, not %d", len(events), len(got), want)
	}
	c.printf("%d dead letters sent back, each answered once", c.script.poison)
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// traces has `weir trace` show chains, and checks the order.
func (c *check) traces(ctx context.Context) error {
	var ids []string
	for _, k := range []kind{normal, poisoned, undeliverable} {
		for i := range c.script.total() {
			if c.script.kind(i) == k {
				ids = append(ids, correlation(i))
				break
			}
		}
	}
	if id, err := busiest(ctx, c.js); err != nil {
		return err
	} else if id != "" {
		ids = append(ids, id)
	}
	for i, id := range ids {
		cmd := exec.CommandContext(ctx, c.exe, "trace", id, "--nats", c.url, "--json")
		cmd.Env, cmd.Stderr = append(os.Environ(), c.env...), c.out
		began := time.Now()
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("trace %s: %w", id, err)
		}
		took := time.Since(began)
		var t weir.Trace
		if err := json.Unmarshal(out, &t); err != nil {
			return err
		}
		if err := inOrder(t); err != nil {
			return fmt.Errorf("trace %s: %w", id, err)
		}
		c.printf("trace %s: %d events in order, %d retries, found in %.2f s", id, len(t.Events), t.Retries, took.Seconds())
		if i > 0 {
			text := exec.CommandContext(ctx, c.exe, "trace", id, "--nats", c.url)
			text.Env, text.Stdout, text.Stderr = cmd.Env, c.out, c.out
			if err := text.Run(); err != nil {
				return err
			}
		}
	}
	return nil
}
