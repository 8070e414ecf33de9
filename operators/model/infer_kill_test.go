package model_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/file"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators/model"
)

var (
	kills    = flag.Int("infer.kills", 5, "how often TestInferSurvivesKills kills the process")
	killSeed = flag.Uint64("infer.seed", 1, "seed of TestInferSurvivesKills")
)

const (
	// killRecords is the least number of records, killEach how many there are for each
	// kill: more than the job can ask about between two of them.
	killRecords  = 2500
	killEach     = 800
	killCapacity = 16
)

// TestMain runs the job of TestInferSurvivesKills in a process of its own.
func TestMain(m *testing.M) {
	if url := os.Getenv("WEIR_INFER_CHILD"); url != "" {
		p, err := strconv.Atoi(os.Getenv("WEIR_INFER_PARALLELISM"))
		records, rerr := strconv.Atoi(os.Getenv("WEIR_INFER_RECORDS"))
		if err = errors.Join(err, rerr); err == nil {
			dir := os.Getenv("WEIR_INFER_DIR")
			err = weir.Run(context.Background(), killJob(url, dir, records), weir.Options{
				DataDir: filepath.Join(dir, "data"), Interval: 400 * time.Millisecond, Parallelism: p,
			})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func killJob(url, dir string, records int) weir.JobSpec {
	return weir.NewJob("killed", func(j *weir.Job) {
		src := generator.New(func(i uint64) item { return item{ID: fmt.Sprintf("%c%d", 'a'+i%7, i), N: int(i)} }, generator.Count(uint64(records)), generator.Shards(2))
		items := weir.From(j, "items", src, weir.ProcessingTime[item]())
		by := weir.KeyBy(items, "by-key", func(i item) string { return i.ID[:1] })
		failed := weir.NewTag[model.Failed[item]]("failed")
		arm := func(e model.Env) (model.Client[string, answer], error) {
			return &httpModel{url: url + "/" + e.Arm}, nil
		}
		asked := weir.InferRouted(by, "ask", weir.Arms[string, answer]{"canary": arm, "stable": arm}, canary(1, 5000),
			func(i item) string { return i.ID },
			func(i item, r model.Result[answer]) outcome {
				return outcome{ID: i.ID, Text: r.Out.Text, N: i.N, Asked: r.Asked}
			},
			weir.FailuresTo(failed), weir.CallsInFlight(killCapacity))
		weir.To(asked, "out", file.WriteJSONL[outcome](filepath.Join(dir, "out")))
		weir.To(weir.SideOutput(asked, failed), "failures", file.WriteJSONL[model.Failed[item]](filepath.Join(dir, "failures")))
	})
}

// httpModel asks by one request for each call.
type httpModel struct{ url string }

func (h *httpModel) Invoke(ctx context.Context, calls []model.Call[string]) ([]model.Result[answer], error) {
	out := make([]model.Result[answer], len(calls))
	for i, c := range calls {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, strings.NewReader(c.In))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Idempotency-Key", c.Key)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, &model.Failure{Kind: model.Unknown, What: "no answer", Cause: err}
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		switch {
		case err != nil:
			return nil, &model.Failure{Kind: model.Unknown, What: "half an answer", Cause: err}
		case res.StatusCode != http.StatusOK:
			out[i].Err = &model.Failure{Kind: model.Permanent, Status: res.StatusCode, What: "refused"}
		default:
			out[i].Out.Text = string(body)
		}
	}
	return out, nil
}

// server counts the calls by idempotency key. It refuses every 11th record.
type server struct {
	mu    sync.Mutex
	calls map[string][]*seen
	total int
	came  chan struct{} // a call has come
}

type seen struct {
	in    string
	arm   string
	run   int
	began time.Time
	ended time.Time // zero: the answer was not written
}

func (s *server) serve(run *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		key := r.Header.Get("Idempotency-Key")
		s.mu.Lock()
		c := &seen{in: string(in), arm: strings.TrimPrefix(r.URL.Path, "/"), run: int(run.Load()), began: time.Now()}
		s.calls[key] = append(s.calls[key], c)
		s.total++
		n := len(s.calls[key])
		s.mu.Unlock()
		select {
		case s.came <- struct{}{}:
		default:
		}
		time.Sleep(20*time.Millisecond + time.Duration(rand.IntN(40))*time.Millisecond)
		number, _ := strconv.Atoi(c.in[1:])
		if number%11 == 0 {
			http.Error(w, "no", http.StatusBadRequest)
		} else {
			_, err = fmt.Fprintf(w, "%s, call %d", in, n)
		}
		if err != nil || r.Context().Err() != nil {
			return
		}
		s.mu.Lock()
		c.ended = time.Now()
		s.mu.Unlock()
	})
}

// TestInferSurvivesKills kills a job again and again, and starts it at another
// parallelism each time. A call is repeated only if it was in flight at a kill: it had
// not returned, or its answer had come so shortly before that it was not in the
// journal. Of those there can be no more than the operator has in flight. And a key
// stays on its arm.
func TestInferSurvivesKills(t *testing.T) {
	t.Logf("seed %d", *killSeed)
	rnd := rand.New(rand.NewPCG(*killSeed, 2))
	s := &server{calls: map[string][]*seen{}, came: make(chan struct{}, 1)}
	var current atomic.Int64
	dir := t.TempDir()
	web := httptest.NewServer(s.serve(&current))
	defer web.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	records := max(killRecords, killEach**kills)
	var killed []time.Time
	var inFlight []int
	for run := 0; ; run++ {
		current.Store(int64(run))
		p := 1 + run%3
		cmd, errs := exec.Command(exe), &bytes.Buffer{}
		cmd.Stderr = errs
		cmd.Env = append(os.Environ(), "WEIR_INFER_CHILD="+web.URL, "WEIR_INFER_DIR="+dir, fmt.Sprint("WEIR_INFER_PARALLELISM=", p), fmt.Sprint("WEIR_INFER_RECORDS=", records))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if run < *kills {
			select {
			case <-s.came:
			default:
			}
			select {
			case <-s.came:
			case <-time.After(20 * time.Second):
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				t.Fatalf("run %d asked nothing: the records were not enough, or it hangs; %s", run, errs)
			}
			time.Sleep(time.Duration(100+rnd.IntN(900)) * time.Millisecond)
			_ = cmd.Process.Kill()
		}
		err := cmd.Wait()
		if run < *kills {
			killed = append(killed, time.Now())
			inFlight = append(inFlight, p*killCapacity)
			web.CloseClientConnections()
			continue
		}
		if err != nil {
			t.Fatalf("the last run: %v\n%s", err, errs)
		}
		break
	}
	s.check(t, killed, inFlight, records)
	checkOutput(t, dir, records)
}

// slack is how long before a kill an answer can have been written that the process had
// not made durable.
const slack = 500 * time.Millisecond

func (s *server) check(t *testing.T, killed []time.Time, inFlight []int, records int) {
	t.Helper()
	if len(s.calls) != records {
		t.Errorf("%d idempotency keys for %d records", len(s.calls), records)
	}
	repeated := make([]int, len(killed))
	keys, _ := codec.KeyFor[string]()
	arms := map[string]bool{}
	for key, calls := range s.calls {
		if share, _ := canary(1, 5000).Pick(model.Bucket("ask", keys.Hash(calls[0].in[:1]))); calls[0].arm != share.Arm || !strings.HasSuffix(key, "/"+share.Arm) {
			t.Errorf("%s went to the arm %s, with the key %s", calls[0].in, calls[0].arm, key)
		}
		arms[calls[0].arm] = true
		for i := 1; i < len(calls); i++ {
			before, c := calls[i-1], calls[i]
			switch {
			case c.in != before.in || c.arm != before.arm:
				t.Errorf("%s is the key of %s to %s and of %s to %s", key, before.in, before.arm, c.in, c.arm)
			case c.run == before.run:
				t.Errorf("%s: called twice in run %d", c.in, c.run)
			case !before.ended.IsZero() && before.ended.Before(killed[before.run].Add(-slack)):
				t.Errorf("%s: answered in run %d, %v before the kill, and called again in run %d", c.in, before.run, killed[before.run].Sub(before.ended), c.run)
			}
			repeated[before.run]++
		}
	}
	if len(arms) != 2 {
		t.Errorf("all keys are on the arm %v; the test says little", arms)
	}
	t.Logf("%d calls for %d records; repeated after each kill: %v", s.total, records, repeated)
	for i, n := range repeated {
		if n > inFlight[i] {
			t.Errorf("kill %d: %d calls were repeated and at most %d were in flight", i, n, inFlight[i])
		}
	}
}

func checkOutput(t *testing.T, dir string, records int) {
	t.Helper()
	got := map[string]int{}
	readLines(t, filepath.Join(dir, "out"), func(line []byte) {
		var o outcome
		if err := json.Unmarshal(line, &o); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(o.Text, o.ID+", call ") || o.N%11 == 0 {
			t.Errorf("result %+v", o)
		}
		got[o.ID]++
	})
	readLines(t, filepath.Join(dir, "failures"), func(line []byte) {
		var f model.Failed[item]
		if err := json.Unmarshal(line, &f); err != nil {
			t.Fatal(err)
		}
		if f.Status != http.StatusBadRequest || f.Record.N%11 != 0 {
			t.Errorf("failure %+v", f)
		}
		got[f.Record.ID]++
	})
	for id, n := range got {
		if n != 1 {
			t.Errorf("%s came out %d times", id, n)
		}
	}
	if len(got) != records {
		t.Errorf("%d of %d records came out", len(got), records)
	}
}

func readLines(t *testing.T, dir string, f func([]byte)) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "part-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			f(line)
		}
	}
}
