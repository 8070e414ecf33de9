// Package metrics exposes a running job to Prometheus. The engine counts in plain
// atomics and knows nothing of this package; a collector reads them when it is
// scraped, so a metric costs the data path nothing.
//
// Labels are bounded: the job's name, the operators of its plan (a task goes by
// the name of its first operator), the numbers of its subtasks, the patterns of an
// operator (as many as it allows), and fixed words.
// Counters of subtasks start anew with each deployment of a job, as rate() and
// increase() expect of a restarted process.
package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/engine/checkpoint"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/state"
)

// Job is what the collector reads; *engine.Job implements it.
type Job interface {
	Plan() *engine.Plan
	Tasks() []engine.TaskInfo
	Checkpoints() checkpoint.Figures
	Phase() engine.Phase
	Restarts() (int, error)
	Limits() engine.Limits
	Staged() int64
	State() state.Figures
}

// Collector collects the metrics of one job.
type Collector struct {
	job     Job
	clk     clock.Clock
	sources map[string]bool
}

// New returns a collector of a job. clk is the job's clock, for lags.
func New(job Job, clk clock.Clock) *Collector {
	c := &Collector{job: job, clk: clk, sources: map[string]bool{}}
	for _, t := range job.Plan().Tasks {
		c.sources[t.UID] = t.Source
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range taskMetrics {
		ch <- m.desc
	}
	for _, m := range figureMetrics {
		ch <- m.desc
	}
	for _, d := range jobMetrics {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	name := c.job.Plan().Job
	now := c.clk.Now()
	for _, t := range c.job.Tasks() {
		s := sample{info: t, source: c.sources[t.Task], now: now}
		for _, m := range taskMetrics {
			if v, ok := m.read(&s); ok {
				ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v, name, t.Task, strconv.Itoa(t.Index))
			}
		}
		collectFigures(ch, name, &t)
	}
	c.collectJob(ch, name)
	c.collectCheckpoints(ch, name)
	collectState(ch, name, c.job.State())
}

// collectFigures exposes what the operators of a subtask's chain count themselves.
func collectFigures(ch chan<- prometheus.Metric, job string, t *engine.TaskInfo) {
	for _, f := range t.Stats.Figures.List() {
		m, ok := figureMetrics[f.Name]
		if !ok {
			continue
		}
		labels := []string{job, f.Operator, strconv.Itoa(t.Index)}
		if m.labelled {
			labels = append(labels, f.Label)
		}
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(f.Value()), labels...)
	}
}

func (c *Collector) collectJob(ch chan<- prometheus.Metric, name string) {
	phase := c.job.Phase()
	for _, p := range engine.Phases {
		v := 0.0
		if p == phase {
			v = 1
		}
		ch <- prometheus.MustNewConstMetric(jobState, prometheus.GaugeValue, v, name, p.String())
	}
	n, _ := c.job.Restarts()
	ch <- prometheus.MustNewConstMetric(jobRestarts, prometheus.CounterValue, float64(n), name)
	l := c.job.Limits()
	ch <- prometheus.MustNewConstMetric(memoryLimit, prometheus.GaugeValue, float64(l.Memory), name)
	ch <- prometheus.MustNewConstMetric(uncommittedLimit, prometheus.GaugeValue, float64(l.Uncommitted), name)
	ch <- prometheus.MustNewConstMetric(stagedLimit, prometheus.GaugeValue, float64(l.Staged), name)
	ch <- prometheus.MustNewConstMetric(stagedBytes, prometheus.GaugeValue, float64(c.job.Staged()), name)
}

func (c *Collector) collectCheckpoints(ch chan<- prometheus.Metric, name string) {
	f := c.job.Checkpoints()
	histogram(ch, checkpointDuration, f.Durations[:], f.SumNanos, name)
	histogram(ch, sinkCommit, f.Commits[:], f.CommitNanos, name)
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, name)
	}
	gauge(checkpointBytes, float64(f.NewBytes))
	gauge(checkpointFullBytes, float64(f.FullBytes))
	gauge(checkpointsUncommitted, float64(f.Uncommitted))
	open := 0.0
	if f.InProgress {
		open = 1
	}
	gauge(checkpointsInProgress, open)
	if f.LastAt > 0 {
		gauge(checkpointLast, seconds(f.LastAt))
	}
	ch <- prometheus.MustNewConstMetric(checkpoints, prometheus.CounterValue, float64(f.Durable), name, "completed")
	ch <- prometheus.MustNewConstMetric(checkpoints, prometheus.CounterValue, float64(f.Aborted), name, "failed")
}

// histogram exposes counts by the bounds of checkpoints' durations.
func histogram(ch chan<- prometheus.Metric, d *prometheus.Desc, counts []int64, sum int64, job string) {
	buckets := map[float64]uint64{}
	var n uint64
	for i, bound := range checkpoint.DurationBounds() {
		n += uint64(counts[i])
		buckets[bound] = n
	}
	n += uint64(counts[len(counts)-1])
	ch <- prometheus.MustNewConstHistogram(d, n, seconds(sum), buckets, job)
}

func collectState(ch chan<- prometheus.Metric, job string, f state.Figures) {
	for _, m := range []struct {
		desc  *prometheus.Desc
		kind  prometheus.ValueType
		value float64
	}{
		{stateMemory, prometheus.GaugeValue, float64(f.Memory)},
		{stateDisk, prometheus.GaugeValue, float64(f.Disk)},
		{spillL0, prometheus.GaugeValue, float64(f.L0Files)},
		{spillDebt, prometheus.GaugeValue, float64(f.Debt)},
		{spillHits, prometheus.CounterValue, float64(f.CacheHits)},
		{spillMisses, prometheus.CounterValue, float64(f.CacheMisses)},
		{spillStalls, prometheus.CounterValue, seconds(f.StallNanos)},
	} {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value, job)
	}
}

// seconds converts nanoseconds.
func seconds(nanos int64) float64 { return float64(nanos) / 1e9 }

// sample is one subtask at one scrape.
type sample struct {
	info   engine.TaskInfo
	source bool
	now    base.Timestamp
}

// watermark returns the subtask's watermark unless it is a sentinel: before the
// first record there is none, and after the end of input it says nothing.
func (s *sample) watermark() (base.Timestamp, bool) {
	w := s.info.Stats.Watermark.Load()
	return w, w != base.MinTime && w != base.MaxTime
}
