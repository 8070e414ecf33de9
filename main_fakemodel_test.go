package weir

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/weirflow/weir/internal/fakemodel"
)

func TestFakeModelCommand(t *testing.T) {
	dir := t.TempDir()
	script, log := filepath.Join(dir, "script.json"), filepath.Join(dir, "calls.jsonl")
	if err := os.WriteFile(script, []byte(`{"rules":[{"model":"down","status":503}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(c *child, model string) int {
		url, _, _ := strings.Cut(strings.TrimSpace(c.err.String()), "/control/stats")
		url = url[strings.Index(url, "http://"):]
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/json/"+model, strings.NewReader("1"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", "k")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		return res.StatusCode
	}
	for _, served := range []string{"2 calls for 2 models; 1 key seen again", "4 calls for 2 models; 1 key seen again"} {
		c := startChild(t, "fakemodel", "--script", script, "--log", log)
		c.err.await(t, "Ctrl-C stops")
		if up, down := ask(c, "m"), ask(c, "down"); up != http.StatusOK || down != http.StatusServiceUnavailable {
			t.Errorf("the statuses are %d and %d", up, down)
		}
		c.signal(t, syscall.SIGTERM)
		if code := c.exit(t); code != ExitOK || !strings.Contains(c.err.String(), "served   "+served) || !strings.HasPrefix(c.out.String(), "http://127.0.0.1:") {
			t.Errorf("exit code %d: %s%s", code, &c.out, c.err)
		}
	}
}

func TestFakeModelCommandErrors(t *testing.T) {
	wrong := filepath.Join(t.TempDir(), "wrong.json")
	if err := os.WriteFile(wrong, []byte(`{"rules":[{"status":200}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"--listen 0.0.0.0:0", "error WEIR-0206"},
		{"--listen x", "error WEIR-0202: the listen address"},
		{"--script " + filepath.Dir(wrong), "error WEIR-0202: the script cannot be read"},
		{"--script " + wrong + ".not", "no such file"},
		{"--script " + wrong, wrong + "; rules[0]"},
		{"x", "error WEIR-0201"},
	} {
		code, out, errs := command(append([]string{"fakemodel"}, strings.Fields(c.args)...)...)
		if code != ExitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d, no %q in %s%s", c.args, code, c.want, out, errs)
		}
	}
}

// TestFakeModelDocumentation reads the scripts in the reference, and looks for the
// names of all faults and outcomes there.
func TestFakeModelDocumentation(t *testing.T) {
	text, err := os.ReadFile("docs/reference/fakemodel.md")
	if err != nil {
		t.Fatal(err)
	}
	scripts := strings.Split(string(text), "```json\n")[1:]
	for _, s := range scripts {
		s, _, _ = strings.Cut(s, "```")
		if _, err := fakemodel.ParseScript([]byte(s)); err != nil {
			t.Errorf("%v in\n%s", err, s)
		}
	}
	if len(scripts) < 3 {
		t.Errorf("only %d scripts were found", len(scripts))
	}
	// Every field of a script, with a value so that none is left out.
	l := &fakemodel.Latency{Base: 1, PerItem: 1, PerToken: 1, Jitter: 1}
	rule := fakemodel.Rule{
		Name: "x", Model: "x", Version: "x", Path: "x", Key: "x", Contains: "x", Skip: 1, Count: 1, Share: 1, Latency: l,
		Status: 1, Message: "x", RetryAfter: 1, Fault: "x", HangSeconds: 1, Bytes: 1,
	}
	full, err := json.Marshal(fakemodel.Script{
		Seed: 1, Closed: true, Limits: []fakemodel.Limit{{Model: "x", Concurrency: 1, Queue: 1, Requests: 1, Tokens: 1, Burst: 1}},
		Rules: []fakemodel.Rule{rule}, Phases: []fakemodel.Phase{{Name: "x", Calls: 1, Seconds: 1, Rules: []fakemodel.Rule{rule}}},
		Models: map[string]fakemodel.Model{"x": {
			Versions: []string{"x"}, Inputs: []fakemodel.Tensor{{Name: "x", Datatype: "x", Shape: []int{1}}},
			Outputs: []fakemodel.Output{{Name: "x", Datatype: "x", Width: 1}}, Function: "x", Weights: []float64{1}, Bias: map[string]float64{"x": 1}, Dimensions: 1,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for part := range strings.SplitSeq(string(full), `":`) {
		if name := part[strings.LastIndexByte(part, '"')+1:]; name != "x" && name != "" && !strings.ContainsAny(name, "}]") {
			names = append(names, name)
		}
	}
	for _, o := range []fakemodel.Outcome{
		fakemodel.OK, fakemodel.Running, fakemodel.Invalid, fakemodel.Failed, fakemodel.Limited, fakemodel.QueueFull, fakemodel.Canceled,
		fakemodel.Undelivered, fakemodel.Lost,
	} {
		names = append(names, string(o))
	}
	for _, f := range fakemodel.Faults() {
		names = append(names, string(f))
	}
	for _, name := range names {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("the reference does not name `%s`", name)
		}
	}
}
