package metrics_test

import (
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/engine/checkpoint"
	"github.com/weirflow/weir/engine/metrics"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/state"
)

var update = flag.Bool("update", false, "rewrite docs/reference/metrics.md")

// job is a job whose figures all differ, so that a test sees which went where.
type job struct {
	tasks []engine.TaskInfo
	ckpt  checkpoint.Figures
	phase engine.Phase
}

func (j *job) Plan() *engine.Plan {
	return &engine.Plan{Job: "shop", Tasks: []engine.Task{{UID: "events", Source: true}, {UID: "by-user"}}}
}
func (j *job) Tasks() []engine.TaskInfo        { return j.tasks }
func (j *job) Checkpoints() checkpoint.Figures { return j.ckpt }
func (j *job) Phase() engine.Phase             { return j.phase }
func (j *job) Restarts() (int, error)          { return 3, errors.New("the last one") }
func (j *job) Limits() engine.Limits {
	return engine.Limits{Memory: 1 << 20, Uncommitted: 8, Restarts: 10, Staged: 9 << 20}
}
func (j *job) Staged() int64 { return 77 }
func (j *job) State() state.Figures {
	return state.Figures{Memory: 501, Disk: 502, L0Files: 503, Debt: 504, CacheHits: 505, CacheMisses: 506, StallNanos: 2.5e9}
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var patternFigures = []string{
	"pattern_matches_total", "pattern_timeouts_total", "pattern_pruned_total", "pattern_started_total", "pattern_dropped_total",
	"pattern_active_runs", "pattern_held_matches",
}

var modelFigures = []string{
	"model_calls_total", "model_calls_avoided_total", "model_failed_total", "model_degraded_total", "model_calls_in_flight",
	"model_records_pending", "model_journal_failed_total", "model_routing_version", "model_routings_refused_total",
}

// shadowFigures, and the first five of modelFigures, have arms.
var shadowFigures = []string{
	"model_shadow_calls_total", "model_shadow_failed_total", "model_shadow_dropped_total", "model_shadow_calls_in_flight",
}

func full() *job {
	src, op := &base.TaskStats{}, &base.TaskStats{}
	for i, n := range []interface{ Store(int64) }{
		&src.RecordsIn, &src.RecordsOut, &src.BadRecords, &src.LateRecords, &src.NoWindowRecords, &src.FutureRecords,
		&src.TimersFired, &src.Lag,
	} {
		n.Store(int64(100 + i))
	}
	src.BusyNanos.Store(1_500_000_000)
	src.IdleNanos.Store(2_500_000_000)
	src.BackpressuredNanos.Store(250_000_000)
	src.SinkNanos.Store(125_000_000)
	src.Watermark.Store(start.Add(-1500 * time.Millisecond).UnixNano())
	op.Watermark.Store(base.MinTime)
	op.Lag.Store(-1)
	for i, n := range patternFigures {
		op.Figures.New(n, "frauds", "velocity").Set(int64(200 + i))
	}
	op.Figures.New("pattern_late_records_total", "frauds", "").Add(7)
	op.Figures.New("pattern_changes_refused_total", "frauds", "").Add(3)
	op.Figures.New("dead_letters_total", "frauds", "WEIR-0702").Add(5)
	for i, n := range modelFigures {
		arm := ""
		if i < 5 {
			arm = "canary"
		}
		op.Figures.New(n, "scores", arm).Set(int64(300 + i))
	}
	for i, n := range shadowFigures {
		op.Figures.New(n, "scores", "canary").Set(int64(400 + i))
	}
	op.Figures.New("of_no_known_name", "frauds", "").Set(1)
	j := &job{phase: engine.Running, tasks: []engine.TaskInfo{
		{Task: "events", Index: 0, Stats: src, Queued: 5}, {Task: "by-user", Index: 1, Stats: op},
	}}
	j.ckpt = checkpoint.Figures{
		Started: 9, Durable: 7, Aborted: 2, Committed: 6, LastEpoch: 7, LastNanos: 5e6, LastAt: start.UnixNano(),
		InProgress: true, Uncommitted: 1, NewBytes: 1000, FullBytes: 9000, SumNanos: 3e9,
	}
	j.ckpt.Commits[1], j.ckpt.CommitNanos = 6, 1.5e9
	j.ckpt.Durations[0], j.ckpt.Durations[len(j.ckpt.Durations)-1] = 4, 2
	return j
}

func registry(t *testing.T, j *job) *metrics.Registry {
	t.Helper()
	r := metrics.NewRegistry("v1.2.3", "go1.26")
	if err := r.Add(metrics.New(j, clock.NewVirtual(start.UnixNano()))); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNamesFollowTheConventions(t *testing.T) {
	problems, err := testutil.GatherAndLint(registry(t, full()).Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestValues(t *testing.T) {
	want := map[string]string{
		`weir_operator_records_in_total{job="shop",operator="events",subtask="0"}`:           "100",
		`weir_operator_records_out_total{job="shop",operator="events",subtask="0"}`:          "101",
		`weir_operator_bad_records_total{job="shop",operator="events",subtask="0"}`:          "102",
		`weir_operator_late_records_total{job="shop",operator="events",subtask="0"}`:         "103",
		`weir_operator_no_window_records_total{job="shop",operator="events",subtask="0"}`:    "104",
		`weir_operator_future_records_total{job="shop",operator="events",subtask="0"}`:       "105",
		`weir_timers_fired_total{job="shop",operator="events",subtask="0"}`:                  "106",
		`weir_source_lag_records{job="shop",operator="events",subtask="0"}`:                  "107",
		`weir_subtask_busy_seconds_total{job="shop",operator="events",subtask="0"}`:          "1.5",
		`weir_subtask_idle_seconds_total{job="shop",operator="events",subtask="0"}`:          "2.5",
		`weir_subtask_backpressured_seconds_total{job="shop",operator="events",subtask="0"}`: "0.25",
		`weir_subtask_sink_wait_seconds_total{job="shop",operator="events",subtask="0"}`:     "0.125",
		`weir_sink_staged_bytes{job="shop"}`:                                                 "77",
		`weir_limit_sink_staged_bytes{job="shop"}`:                                           "9.437184e+06",
		`weir_operator_watermark_lag_seconds{job="shop",operator="events",subtask="0"}`:      "1.5",
		`weir_channel_queue_messages{job="shop",operator="events",subtask="0"}`:              "5",
		`weir_channel_queue_messages{job="shop",operator="by-user",subtask="1"}`:             "0",
		`weir_job_state{job="shop",state="running"}`:                                         "1",
		`weir_job_state{job="shop",state="restarting"}`:                                      "0",
		`weir_job_restarts_total{job="shop"}`:                                                "3",
		`weir_checkpoint_duration_seconds_count{job="shop"}`:                                 "6",
		`weir_checkpoint_duration_seconds_sum{job="shop"}`:                                   "3",
		`weir_checkpoint_duration_seconds_bucket{job="shop",le="0.005"}`:                     "4",
		`weir_checkpoint_duration_seconds_bucket{job="shop",le="30"}`:                        "4",
		`weir_sink_commit_seconds_count{job="shop"}`:                                         "6",
		`weir_sink_commit_seconds_sum{job="shop"}`:                                           "1.5",
		`weir_sink_commit_seconds_bucket{job="shop",le="0.005"}`:                             "0",
		`weir_sink_commit_seconds_bucket{job="shop",le="0.01"}`:                              "6",
		`weir_state_memory_bytes{job="shop"}`:                                                "501",
		`weir_state_disk_bytes{job="shop"}`:                                                  "502",
		`weir_pebble_l0_files{job="shop"}`:                                                   "503",
		`weir_pebble_compaction_debt_bytes{job="shop"}`:                                      "504",
		`weir_pebble_block_cache_hits_total{job="shop"}`:                                     "505",
		`weir_pebble_block_cache_misses_total{job="shop"}`:                                   "506",
		`weir_pebble_write_stall_seconds_total{job="shop"}`:                                  "2.5",
		`weir_checkpoint_bytes{job="shop"}`:                                                  "1000",
		`weir_checkpoint_full_bytes{job="shop"}`:                                             "9000",
		`weir_checkpoints_total{job="shop",result="completed"}`:                              "7",
		`weir_checkpoints_total{job="shop",result="failed"}`:                                 "2",
		`weir_checkpoint_in_progress{job="shop"}`:                                            "1",
		`weir_checkpoints_uncommitted{job="shop"}`:                                           "1",
		`weir_checkpoint_last_success_timestamp_seconds{job="shop"}`:                         "1.767323045e+09",
		`weir_limit_state_memory_bytes{job="shop"}`:                                          "1.048576e+06",
		`weir_build_info{goversion="go1.26",version="v1.2.3"}`:                               "1",
	}
	for i, n := range patternFigures {
		want[fmt.Sprintf(`weir_%s{job="shop",operator="frauds",pattern="velocity",subtask="1"}`, n)] = fmt.Sprint(200 + i)
	}
	want[`weir_pattern_late_records_total{job="shop",operator="frauds",subtask="1"}`] = "7"
	want[`weir_pattern_changes_refused_total{job="shop",operator="frauds",subtask="1"}`] = "3"
	for i, n := range modelFigures {
		arm := ""
		if i < 5 {
			arm = `arm="canary",`
		}
		want[fmt.Sprintf(`weir_%s{%sjob="shop",operator="scores",subtask="1"}`, n, arm)] = fmt.Sprint(300 + i)
	}
	for i, n := range shadowFigures {
		want[fmt.Sprintf(`weir_%s{arm="canary",job="shop",operator="scores",subtask="1"}`, n)] = fmt.Sprint(400 + i)
	}
	got := scrape(t, registry(t, full()))
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %q, want %s", k, got[k], v)
		}
	}
	for k := range got {
		if strings.Contains(k, "of_no_known_name") {
			t.Errorf("%s is exposed", k)
		}
	}
	// What a subtask has not is absent instead of zero.
	for _, k := range []string{"weir_operator_watermark_seconds", "weir_source_lag_records"} {
		if v, ok := got[k+`{job="shop",operator="by-user",subtask="1"}`]; ok {
			t.Errorf("%s of by-user = %s, want none", k, v)
		}
	}
}

// scrape reads the metrics as Prometheus does.
func scrape(t *testing.T, r *metrics.Registry) map[string]string {
	t.Helper()
	rec := httptest.NewRecorder()
	r.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if rec.Code != 200 {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	out := map[string]string{}
	for line := range strings.Lines(rec.Body.String()) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			out[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return out
}

func TestBetweenTwoDeployments(t *testing.T) {
	j := &job{phase: engine.Restarting}
	got := scrape(t, registry(t, j))
	if got[`weir_job_state{job="shop",state="restarting"}`] != "1" {
		t.Errorf("state of a restarting job: %v", got)
	}
	if _, ok := got[`weir_checkpoint_last_success_timestamp_seconds{job="shop"}`]; ok {
		t.Error("a job without checkpoints tells when the last one was")
	}
	if err := registry(t, j).Add(metrics.New(j, clock.NewVirtual(start.UnixNano()))); err == nil {
		t.Error("one job was added twice")
	}
}

const docs = "../../docs/reference/metrics.md"

// TestDocumentation compares the table of the reference with what a scrape gives.
func TestDocumentation(t *testing.T) {
	families, err := registry(t, full()).Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "weir_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |", f.GetName(), strings.ToLower(f.GetType().String()),
			strings.Join(labels, ", "), f.GetHelp()))
	}
	sort.Strings(rows)
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- begin table -->\n", "<!-- end table -->\n"
	head, rest, ok1 := strings.Cut(string(text), begin)
	table, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no table between the two comments", docs)
	}
	want := "| name | type | labels | meaning |\n|---|---|---|---|\n" + strings.Join(rows, "\n") + "\n"
	if table == want {
		return
	}
	if *update {
		if err := os.WriteFile(docs, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("the table in %s is not what the code exposes; run the test with -update\n%s", docs, want)
}
