package fakemodel

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
)

func TestKeys(t *testing.T) {
	s := start(t, Options{})
	batch := func(extra string) string { return strings.Replace(oneInput, "{", "{"+extra, 1) }
	ask(t, s, "/v2/models/m/infer", oneInput, "Idempotency-Key", "a")
	ask(t, s, "/v2/models/m/infer", oneInput, "Idempotency-Key", "a", "Idempotency-Key", "b")
	ask(t, s, "/v2/models/m/infer", batch(`"parameters":{"idempotency_keys":["b","c"]},`), "Idempotency-Key", "ignored")
	ask(t, s, "/v2/models/m/infer", batch(`"parameters":{"idempotency_keys":"c\nd"},`))
	ask(t, s, "/v2/models/m2/infer", batch(`"parameters":{"idempotency_keys":"[\"f\",\"g\"]"},`))
	ask(t, s, "/v1/embeddings", `{"model":"e","input":["x","y"]}`, "Idempotency-Key", "d", "Idempotency-Key", "e")
	ask(t, s, "/json/m", `nope`, "Idempotency-Key", "invalid")
	ask(t, s, "/json/m", `1`)
	got := ""
	for _, c := range s.Calls() {
		got += fmt.Sprintf("%d%s%s%d ", c.Seq, c.Model, c.Key, c.Items)
	}
	if want := "1ma2 2ma2 2mb2 3mb2 3mc2 4mc2 4md2 5m2f2 5m2g2 6ed2 6ee2 7m1 8m1 "; got != want {
		t.Errorf("the calls are %s, want %s", got, want)
	}
	if got := fmt.Sprint(s.Counts(2), s.Count("e"), s.Count("z")); got != "[{a 2 2} {b 2 2} {c 2 2} {d 2 2}] {e 1 1} {z 0 0}" {
		t.Errorf("the counts are %s", got)
	}
	st := s.Stats()
	if st.Calls != 8 || st.Items != 14 || st.Processed != 7 || st.Keys != 7 || st.Repeated != 4 || st.ProcessedAgain != 4 || st.MaxItems != 2 || st.Models["e"].Calls != 1 || st.Outcomes[Invalid] != 1 {
		t.Errorf("the totals are %+v", st)
	}
}

func TestControl(t *testing.T) {
	s := start(t, Options{Script: Script{Phases: []Phase{{Calls: 2}}}})
	for i := range 3 {
		ask(t, s, fmt.Sprintf("/json/m%d", i), `1`, "Idempotency-Key", fmt.Sprintf("k%d", i%2))
	}
	lines := func(path string) (n int) {
		for sc := bufio.NewScanner(bytes.NewReader(ask(t, s, path, "").body)); sc.Scan(); n++ {
			var c map[string]any
			if err := json.Unmarshal(sc.Bytes(), &c); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return n
	}
	for path, want := range map[string]int{
		"/control/calls": 3, "/control/calls?key=k0": 2, "/control/calls?model=m1": 1, "/control/calls?outcome=running": 0,
		"/control/calls?key=": 0, "/control/keys": 2, "/control/keys?min=2": 1,
	} {
		if got := lines(path); got != want {
			t.Errorf("%s has %d lines, want %d", path, got, want)
		}
	}
	if a := ask(t, s, "/control/keys?min=x", ""); a.status != 400 {
		t.Errorf("min=x: status %d", a.status)
	}
	var st Stats
	ask(t, s, "/control/stats", "").decode(t, &st)
	if st.Phase != 1 || st.Calls != 3 || st.Outcomes[OK] != 3 {
		t.Errorf("the totals are %+v", st)
	}
	put := func(text string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL()+"/control/script", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	if got := put(`{"rules":[{}]}`); got != 400 || len(s.Script().Phases) != 1 {
		t.Errorf("a wrong script has status %d", got)
	}
	if got := put(fullScript); got != 204 || s.Stats().Phase != 0 {
		t.Errorf("a script has status %d", got)
	}
	var script Script
	ask(t, s, "/control/script", "").decode(t, &script)
	if script.Seed != 7 || ask(t, s, "/json/other", "1").status != 404 {
		t.Errorf("the script is %+v", script)
	}
}

func TestInFlight(t *testing.T) {
	s := start(t, Options{Script: Script{Limits: []Limit{{Model: "slow", Concurrency: 2}}, Rules: []Rule{{Model: "hang", Fault: Hang}}}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() { askContext(ctx, s, "/json/hang", "1", "Idempotency-Key", fmt.Sprint(i)) })
	}
	eventually(t, func() bool { return s.Stats().Models["hang"].InFlight == 5 })
	ask(t, s, "/json/slow", "1")
	cancel()
	wg.Wait()
	eventually(t, func() bool { return s.Stats().InFlight == 0 })
	st := s.Stats()
	if st.MaxInFlight != 6 || st.Models["hang"].MaxInFlight != 5 || st.Models["slow"].MaxInFlight != 1 {
		t.Errorf("the totals are %+v", st)
	}
}

func TestTheBooksAreBounded(t *testing.T) {
	s := start(t, Options{MaxKeys: 2, MaxCalls: 3})
	for i := range 5 {
		ask(t, s, "/json/m", "1", "Idempotency-Key", fmt.Sprint(i))
	}
	st, calls := s.Stats(), s.Calls()
	if st.Keys != 2 || st.ForgottenKeys != 3 || st.ForgottenCalls != 2 || len(calls) != 3 || calls[0].Key != "2" || st.Calls != 5 {
		t.Errorf("%+v, %+v", st, calls)
	}
	b := newBook(clock.Real(), 1, 1)
	for i := range maxModels + 10 {
		r, err := b.begin(&call{model: fmt.Sprint("m", i)})
		if err != nil || b.end(r, OK, 200, true) != nil {
			t.Fatal(err)
		}
	}
	if got := b.totals(); len(got.Models) != maxModels+1 || got.Models[""].Calls != 10 || got.Models[""].InFlight != 0 {
		t.Errorf("%d models, %+v", len(got.Models), got.Models[""])
	}
}

// childMain serves in a process of its own, for the test to kill.
func childMain() {
	log := os.Getenv("FAKEMODEL_TEST_LOG")
	if log == "" {
		return
	}
	s, err := Start(Options{LogFile: log, Script: Script{Rules: []Rule{{Model: "hang", Fault: Hang}}}})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(s.URL())
	select {}
}

func TestTheLogSurvivesAKill(t *testing.T) {
	log := filepath.Join(t.TempDir(), "calls.jsonl")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "FAKEMODEL_TEST_LOG="+log)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "http://") {
			t.Fatalf("%q, %v", line, err)
		}
		url := strings.TrimSpace(line)
		post := func(path, key string) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, strings.NewReader("1"))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Idempotency-Key", key)
			if res, err := http.DefaultClient.Do(req); err == nil {
				_ = res.Body.Close()
			}
		}
		for i := range 10 {
			post("/json/m", fmt.Sprint("done-", round, "-", i))
		}
		var wg sync.WaitGroup
		wg.Go(func() { post("/json/hang", "hangs") })
		running := func() bool {
			res, err := http.Get(url + "/control/calls?outcome=running")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			return bufio.NewScanner(res.Body).Scan()
		}
		eventually(t, running)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		wg.Wait()
	}
	// As if the last line had been cut off.
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"at":"begin","seq":34,"mod`); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		s := start(t, Options{LogFile: log})
		st := s.Stats()
		if st.Calls != int64(33+round) || st.Outcomes[Lost] != 3 || st.InFlight != 0 || s.Count("hangs") != (KeyCount{"hangs", 3, 0}) || s.Count("done-1-7") != (KeyCount{"done-1-7", 1, 1}) {
			t.Errorf("%+v, %+v", st, s.Count("hangs"))
		}
		ask(t, s, "/json/m", "1", "Idempotency-Key", "new")
		calls := s.Calls()
		if last := calls[len(calls)-1]; int(last.Seq) != len(calls) || last.Outcome != OK {
			t.Errorf("a new call is %+v, of %d", last, len(calls))
		}
	}
}

func TestLogErrors(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"other": "hello\n", "lines": "{\"at\":\"begin\",\"seq\":1}\n{\"x\":1}\n", "kind": "{\"at\":\"x\"}\n"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(Options{LogFile: path}); base.CodeOf(err) != codeValue {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Start(Options{LogFile: dir}); base.CodeOf(err) != codeValue {
		t.Errorf("a directory: %v", err)
	}
	// A call that cannot be booked is not answered.
	s := start(t, Options{LogFile: filepath.Join(dir, "log")})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full")
	}
	s.book.mu.Lock()
	_ = s.book.log.close()
	s.book.log.f = full
	s.book.mu.Unlock()
	if a := ask(t, s, "/json/m", "1"); a.status != 500 {
		t.Errorf("status %d", a.status)
	}
}

func TestStartErrors(t *testing.T) {
	first := start(t, Options{Listen: "localhost:0"})
	for _, c := range []struct {
		o    Options
		code string
	}{
		{Options{Listen: "nope"}, codeValue},
		{Options{Listen: "0.0.0.0:0"}, codeListen},
		{Options{Listen: first.Addr()}, codeInUse},
		{Options{Listen: "127.0.0.1:99999"}, codeInUse},
		{Options{MaxKeys: -1}, codeValue},
		{Options{MaxBody: -1}, codeValue},
		{Options{Script: Script{Rules: []Rule{{}}}}, codeValue},
	} {
		if _, err := Start(c.o); base.CodeOf(err) != c.code {
			t.Errorf("%+v: %v, want %s", c.o, err, c.code)
		}
	}
	open := start(t, Options{Listen: "0.0.0.0:0", Insecure: true})
	if !strings.HasPrefix(open.URL(), "http://127.0.0.1:") || ask(t, open, "/v2", "").status != 200 {
		t.Errorf("the URL is %s", open.URL())
	}
	if err := first.SetScript(Script{Rules: []Rule{{}}}); base.CodeOf(err) != codeValue {
		t.Errorf("SetScript: %v", err)
	}
}
