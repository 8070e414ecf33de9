package storefront_test

import (
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/internal/natsd"
	"github.com/weirflow/weir/internal/storefront/script"
)

// TestGeneratorSurvivesKills kills the generator at random moments. In the end
// the stream holds the play, every event once and in order, and so does the log.
func TestGeneratorSurvivesKills(t *testing.T) {
	dir := t.TempDir()
	o := natsd.Defaults(filepath.Join(dir, "nats"))
	o.Port = -1
	s, err := natsd.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "CLICKS", Subjects: []string{"clicks.*"}, AllowAtomicPublish: true})
	if err != nil {
		t.Fatal(err)
	}
	c := script.Config{Seed: 5, Rate: 2000, Speed: 1000}
	const events = 4000
	config, err := json.Marshal(map[string]any{"url": s.URL(), "dir": dir, "script": c, "events": events, "session": "one"})
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	kills := 0
	for ; ; kills++ {
		cmd := exec.Command(childCommand()[0], childCommand()[1], "generator")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(append(config, '\n')); err != nil {
			t.Fatal(err)
		}
		if kills < 8 {
			time.Sleep(time.Duration(50+dice.IntN(300)) * time.Millisecond)
			_ = cmd.Process.Kill()
		}
		if cmd.Wait() == nil {
			break
		}
		if kills > 8 {
			t.Fatal("the generator does not end well")
		}
	}
	checkStream(t, stream, c, events)
	checkLog(t, filepath.Join(dir, "generator"), c, events)
	t.Logf("killed %d times", kills)
}

// event is event i of a play that ends after n.
func event(p *script.Player, c script.Config, i, n int) script.Event {
	if i == n {
		return c.Closing(uint64(n))
	}
	e, _ := p.Next()
	return e
}

func checkStream(t *testing.T, stream jetstream.Stream, c script.Config, events int) {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.LastSeq != uint64(events+1) || info.State.Msgs != uint64(events+1) {
		t.Fatalf("the stream holds %d messages up to %d, and the play has %d", info.State.Msgs, info.State.LastSeq, events+1)
	}
	con, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	p := script.Play(c, 0)
	for i := 0; i <= events; {
		batch, err := con.Fetch(500, jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			var got script.Event
			if err := json.Unmarshal(m.Data(), &got); err != nil {
				t.Fatal(err)
			}
			if want := event(p, c, i, events); got != want {
				t.Fatalf("message %d is %+v, want %+v", i+1, got, want)
			}
			i++
		}
		if err := batch.Error(); err != nil {
			t.Fatal(err)
		}
	}
}

func checkLog(t *testing.T, dir string, c script.Config, events int) {
	t.Helper()
	tail := script.NewTail(dir)
	defer tail.Close()
	p := script.Play(c, 0)
	end := uint64(0)
	for {
		line, _, ok, err := tail.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if line.Sent != nil && line.Sent.Event != event(p, c, int(line.Sent.I), events) {
			t.Fatalf("event %d of the log is %+v", line.Sent.I, line.Sent.Event)
		}
		end = max(end, line.End)
	}
	if tail.Events() != uint64(events+1) || end != uint64(events+1) {
		t.Errorf("the log has %d events and the end %d", tail.Events(), end)
	}
}
