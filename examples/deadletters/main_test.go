package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
)

// TestMain is, in a child process, the program itself.
func TestMain(m *testing.M) {
	if os.Getenv("ORDERS_TEST_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// orders is how many the test publishes.
var orders = flag.Int("deadletters.orders", 1500, "orders of the test, a multiple of 1,500; a hundredth of them is refused")

// patience bounds every wait of the test.
func patience() time.Duration { return 3*time.Minute + time.Duration(*orders)*time.Millisecond }

// process is a run of the program.
type process struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	log bytes.Buffer
}

// Write takes the process's standard error.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func command(version string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "ORDERS_TEST_MAIN=1", "ORDERS_VERSION="+version)
	return cmd
}

// run starts the job and returns a connection to its server.
func run(t *testing.T, dir, version string) (*process, *nats.Conn) {
	t.Helper()
	p := &process{cmd: command(version, "run", "--data-dir", dir, "--nats-port", "-1", "--listen", "", "--checkpoint-interval", "30ms")}
	p.cmd.Stderr = p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	url := ""
	await(t, func() bool {
		_, after, ok := strings.Cut(p.text(), "  nats     ")
		url, _, _ = strings.Cut(after, "\n")
		return ok && strings.Contains(p.text(), "Ctrl-C")
	}, p.text)
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return p, nc
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// stop ends it with a final checkpoint.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("%v:\n%s", err, p.text())
	}
}

func await(t *testing.T, ok func() bool, what func() string) {
	t.Helper()
	for limit := time.Now().Add(patience()); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited too long:\n%s", what())
		}
	}
}

// dlq runs a command on the dead letters.
func dlq(t *testing.T, args ...string) string {
	t.Helper()
	cmd := command("", append([]string{"dlq"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("dlq %v: %v:\n%s", args, err, &errs)
	}
	return out.String()
}

// messages reads a stream, its commit markers left out.
func messages(t *testing.T, nc *nats.Conn, stream string) [][]byte {
	t.Helper()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience())
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil
	}
	info, err := s.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.OrderedConsumer(ctx, stream, natsjs.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	it, err := c.Messages(natsjs.PullMaxMessages(2000))
	if err != nil {
		t.Fatal(err)
	}
	defer it.Stop()
	defer context.AfterFunc(ctx, it.Stop)()
	var out [][]byte
	for seq := uint64(0); seq < info.State.LastSeq; {
		m, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		seq = meta.Sequence.Stream
		if !strings.Contains(m.Subject(), ".commit.") {
			out = append(out, m.Data())
		}
	}
	return out
}

// orderData makes an order; every hundredth is one of five kinds that are refused.
func orderData(i int) (data string, operator string) {
	good := func(user string, n int) string { return fmt.Sprintf(`{"id":%d,"user":%q,"quantity":%d}`, i, user, n) }
	if i%100 != 7 {
		return good(fmt.Sprintf("user-%d", i%17), 1+i%5), ""
	}
	switch i / 100 % 5 {
	case 0:
		return fmt.Sprintf("no order %d", i), "orders"
	case 1:
		return good(strings.Repeat("x", 2000)+fmt.Sprint(i), 1), "orders"
	case 2:
		return good("ann", -1), "check"
	case 3:
		return good("", 2), "name"
	}
	return good("bob", 0), "book"
}

func publish(t *testing.T, nc *nats.Conn, from, to int) {
	t.Helper()
	p := jetstream.NewBatchPublisher(nc, "ORDERS")
	for i := from; i < to; i++ {
		data, _ := orderData(i)
		if err := p.Add(t.Context(), "orders.new", []byte(data), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// booked returns how often each order was booked.
func booked(t *testing.T, nc *nats.Conn) map[int]int {
	t.Helper()
	times := map[int]int{}
	for _, data := range messages(t, nc, "BOOKED") {
		var b Booked
		if err := json.Unmarshal(data, &b); err != nil {
			t.Fatal(err)
		}
		times[b.ID]++
	}
	return times
}

// letters returns how many dead letters each operator sent, and fails if one is there
// twice.
func letters(t *testing.T, nc *nats.Conn) (by map[string]int, all []weir.DeadLetterRecord) {
	t.Helper()
	by = map[string]int{}
	seen := map[string]bool{}
	for _, data := range messages(t, nc, "ORDERS-DEAD") {
		l, err := weir.DecodeDeadLetter(data)
		if err != nil {
			t.Fatal(err)
		}
		if seen[l.ID] {
			t.Errorf("dead letter %s of %s is there twice", l.ID, l.Operator)
		}
		seen[l.ID] = true
		by[l.Operator]++
		all = append(all, l)
	}
	return by, all
}

func TestPoisonIsListedOnceAndRetriedThroughKills(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	want := map[string]int{}
	bad := 0
	for i := range *orders {
		if _, op := orderData(i); op != "" {
			want[op]++
			bad++
		}
	}
	// Every third of the orders comes before a kill.
	for i := range 3 {
		p, nc := run(t, dir, "1")
		publish(t, nc, i**orders/3, (i+1)**orders/3)
		if i < 2 {
			p.kill()
			continue
		}
		await(t, func() bool { return len(booked(t, nc)) == *orders-bad }, p.text)
		await(t, func() bool { _, all := letters(t, nc); return len(all) == bad }, p.text)
		checkFirst(t, nc, want)
		p.stop(t)
	}
	var open []struct{ ID, Operator, Code string }
	if err := json.Unmarshal([]byte(dlq(t, "ls", "--json", "--limit", fmt.Sprint(bad+1), "--data-dir", dir)), &open); err != nil || len(open) != bad {
		t.Fatalf("%d letters are open, want %d: %v", len(open), bad, err)
	}
	show := dlq(t, "show", open[len(open)-1].ID, "--data-dir", dir)
	for _, part := range []string{"job         orders", "attempt     1", "state       open", "source orders, split ORDERS", "error       "} {
		if !strings.Contains(show, part) {
			t.Errorf("show lacks %q:\n%s", part, show)
		}
	}
	for _, op := range []string{"check", "name"} {
		if out := dlq(t, "retry", "--operator", op, "--data-dir", dir); out != fmt.Sprintf("%d dead letters sent back\n", want[op]) {
			t.Errorf("retry of %s: %s", op, out)
		}
	}
	if out := dlq(t, "ls", "--operator", "check", "--data-dir", dir); out != "no dead letters\n" {
		t.Errorf("what was sent back is listed:\n%s", out)
	}
	p, _ := run(t, dir, "2")
	p.kill()
	p, nc := run(t, dir, "2")
	drained := *orders - want["orders"] - want["book"]
	await(t, func() bool { return len(booked(t, nc)) == drained }, p.text)
	for id, n := range booked(t, nc) {
		if _, op := orderData(id); n != 1 || op == "orders" || op == "book" {
			t.Errorf("order %d was booked %d times", id, n)
		}
	}
	finish(t, dir, p, want)
}

// checkFirst checks the letters before anything was sent back.
func checkFirst(t *testing.T, nc *nats.Conn, want map[string]int) {
	t.Helper()
	by, all := letters(t, nc)
	if fmt.Sprint(by) != fmt.Sprint(want) {
		t.Errorf("dead letters by operator: %v, want %v", by, want)
	}
	for _, l := range all {
		if l.Operator == "name" != strings.Contains(l.Stack, "examples/deadletters") || l.Truncated() != (len(l.Raw) == 1000) {
			t.Errorf("letter of %s: stack %q, %d of %d bytes", l.Operator, l.Stack, len(l.Raw), l.Size)
		}
	}
}

// finish sends back what cannot be processed still, and drops it.
func finish(t *testing.T, dir string, p *process, want map[string]int) {
	t.Helper()
	p.stop(t)
	if out := dlq(t, "retry", "--operator", "book", "--data-dir", dir); out != fmt.Sprintf("%d dead letters sent back\n", want["book"]) {
		t.Errorf("retry of book: %s", out)
	}
	p, nc := run(t, dir, "2")
	await(t, func() bool { by, _ := letters(t, nc); return by["book"] == 2*want["book"] }, p.text)
	by, all := letters(t, nc)
	for _, l := range all {
		if l.Attempt == 2 && l.Operator != "book" {
			t.Errorf("letter of %s, attempt 2: %s", l.Operator, l.Error)
		}
	}
	if by["orders"] != want["orders"] || by["check"] != want["check"] || by["name"] != want["name"] {
		t.Errorf("letters in the end: %v", by)
	}
	p.stop(t)
	n := want["book"] + want["orders"]
	if out := dlq(t, "drop", "--all", "--data-dir", dir); out != fmt.Sprintf("%d dead letters dropped\n", n) {
		t.Errorf("drop: %s", out)
	}
	if out := dlq(t, "ls", "--data-dir", dir); out != "no dead letters\n" {
		t.Errorf("what was dropped is listed:\n%s", out)
	}
}
