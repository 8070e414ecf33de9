package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirflow/weir/internal/base"
)

// The names below must not change between minor releases: dashboards and alerts
// use them. docs/reference/metrics.md lists them, and a test compares.

// taskMetric is a metric of each subtask; read returns false when the subtask has
// no such value.
type taskMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*sample) (float64, bool)
}

var taskMetrics = []taskMetric{
	counter("weir_operator_records_in_total", "Records that the operator's task took in.",
		func(s *base.TaskStats) *atomic.Int64 { return &s.RecordsIn }),
	counter("weir_operator_records_out_total", "Records that the sinks of the operator's task took.",
		func(s *base.TaskStats) *atomic.Int64 { return &s.RecordsOut }),
	counter("weir_operator_bad_records_total", "Records that could not be decoded or were refused by a function of the job.",
		func(s *base.TaskStats) *atomic.Int64 { return &s.BadRecords }),
	counter("weir_operator_late_records_total", "Records that came after every window they belong to had closed.",
		func(s *base.TaskStats) *atomic.Int64 { return &s.LateRecords }),
	counter("weir_operator_no_window_records_total", "Records that belong to no window.",
		func(s *base.TaskStats) *atomic.Int64 { return &s.NoWindowRecords }),
	counter("weir_operator_future_records_total", "Records further ahead of the clock than the source allows.",
		func(s *base.TaskStats) *atomic.Int64 { return &s.FutureRecords }),
	counter("weir_timers_fired_total", "Timers of process functions that fired.",
		func(s *base.TaskStats) *atomic.Int64 { return &s.TimersFired }),
	timeCounter("weir_subtask_busy_seconds_total", "Time that the subtask spent working.",
		func(s *base.TaskStats) *atomic.Int64 { return &s.BusyNanos }),
	timeCounter("weir_subtask_idle_seconds_total", "Time that the subtask waited for something to do.",
		func(s *base.TaskStats) *atomic.Int64 { return &s.IdleNanos }),
	timeCounter("weir_subtask_backpressured_seconds_total", "Time that the subtask waited for a receiver to catch up.",
		func(s *base.TaskStats) *atomic.Int64 { return &s.BackpressuredNanos }),
	timeCounter("weir_subtask_sink_wait_seconds_total", "Part of the backpressured time: the subtask waited for the target of a sink to commit.",
		func(s *base.TaskStats) *atomic.Int64 { return &s.SinkNanos }),
	gauge("weir_operator_watermark_seconds", "Event-time watermark, in seconds since 1970; absent before the first record and after the end of input.",
		func(s *sample) (float64, bool) {
			w, ok := s.watermark()
			return seconds(w), ok
		}),
	gauge("weir_operator_watermark_lag_seconds", "How far the watermark is behind the clock.",
		func(s *sample) (float64, bool) {
			w, ok := s.watermark()
			return seconds(s.now - w), ok
		}),
	gauge("weir_source_lag_records", "Records known to wait in the splits of a source; absent when the source cannot tell.",
		func(s *sample) (float64, bool) {
			n := s.info.Stats.Lag.Load()
			return float64(n), s.source && n >= 0
		}),
	gauge("weir_channel_queue_messages", "Batches and control messages that wait for the subtask.",
		func(s *sample) (float64, bool) { return float64(s.info.Queued), true }),
}

var (
	jobState    = jobDesc("weir_job_state", "1 for what the job is doing, 0 for the other states.", "state")
	jobRestarts = jobDesc("weir_job_restarts_total", "Restarts of the job since the process started.")

	checkpointDuration     = jobDesc("weir_checkpoint_duration_seconds", "Time from a checkpoint's trigger to the commit in the last sink.")
	checkpointBytes        = jobDesc("weir_checkpoint_bytes", "What the newest checkpoint added to the store.")
	checkpointFullBytes    = jobDesc("weir_checkpoint_full_bytes", "What the newest checkpoint refers to in all.")
	checkpoints            = jobDesc("weir_checkpoints_total", "Checkpoint attempts that ended.", "result")
	checkpointLast         = jobDesc("weir_checkpoint_last_success_timestamp_seconds", "When the last checkpoint was committed in every sink; absent before the first.")
	checkpointsInProgress  = jobDesc("weir_checkpoint_in_progress", "1 while a checkpoint is being made.")
	checkpointsUncommitted = jobDesc("weir_checkpoints_uncommitted", "Durable checkpoints whose output some sink has not published yet.")

	sinkCommit = jobDesc("weir_sink_commit_seconds", "Time from a durable checkpoint to its commit in the last sink.")

	stateMemory = jobDesc("weir_state_memory_bytes", "Keyed state and copies for checkpoints in memory: where state may be spilled, up to two thirds of weir_limit_state_memory_bytes; the rest is for caches.")
	stateDisk   = jobDesc("weir_state_disk_bytes", "Files of keyed state that does not fit in memory.")
	spillL0     = jobDesc("weir_pebble_l0_files", "Files that the store of spilled state has not sorted yet.")
	spillDebt   = jobDesc("weir_pebble_compaction_debt_bytes", "How far the store of spilled state is behind with its compactions.")
	spillHits   = jobDesc("weir_pebble_block_cache_hits_total", "Blocks of spilled state that were read from memory.")
	spillMisses = jobDesc("weir_pebble_block_cache_misses_total", "Blocks of spilled state that were read from files.")
	spillStalls = jobDesc("weir_pebble_write_stall_seconds_total", "Time that writes of spilled state waited for flushes and compactions; a wait counts when it is over.")

	memoryLimit      = jobDesc("weir_limit_state_memory_bytes", "Bound of keyed state in memory.")
	uncommittedLimit = jobDesc("weir_limit_checkpoints_uncommitted", "Bound of weir_checkpoints_uncommitted; while it is reached no checkpoint starts.")

	stagedBytes = jobDesc("weir_sink_staged_bytes", "Output in memory that waits for a durable checkpoint.")
	stagedLimit = jobDesc("weir_limit_sink_staged_bytes", "Bound of weir_sink_staged_bytes; beyond it sources pause.")

	jobMetrics = []*prometheus.Desc{
		jobState, jobRestarts, checkpointDuration, checkpointBytes, checkpointFullBytes, checkpoints, checkpointLast,
		checkpointsInProgress, checkpointsUncommitted, memoryLimit, uncommittedLimit, stagedBytes, stagedLimit,
		sinkCommit, stateMemory, stateDisk, spillL0, spillDebt, spillHits, spillMisses, spillStalls,
	}
)

func taskDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, []string{"job", "operator", "subtask"}, nil)
}

func jobDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"job"}, labels...), nil)
}

func counter(name, help string, of func(*base.TaskStats) *atomic.Int64) taskMetric {
	return taskMetric{taskDesc(name, help), prometheus.CounterValue, func(s *sample) (float64, bool) {
		return float64(of(s.info.Stats).Load()), true
	}}
}

func timeCounter(name, help string, of func(*base.TaskStats) *atomic.Int64) taskMetric {
	return taskMetric{taskDesc(name, help), prometheus.CounterValue, func(s *sample) (float64, bool) {
		return seconds(of(s.info.Stats).Load()), true
	}}
}

func gauge(name, help string, read func(*sample) (float64, bool)) taskMetric {
	return taskMetric{taskDesc(name, help), prometheus.GaugeValue, read}
}
