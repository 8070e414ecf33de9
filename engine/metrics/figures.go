package metrics

import "github.com/prometheus/client_golang/prometheus"

// figureMetric is a metric whose values operators register themselves, as
// base.Figures.
type figureMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	// labelled says that the figure's own label is one of the metric's.
	labelled bool
}

// figureMetrics are the metrics by the names that operators register them under.
var figureMetrics = map[string]figureMetric{
	"pattern_matches_total":         ofPattern("pattern_matches_total", prometheus.CounterValue, "Matches found."),
	"pattern_timeouts_total":        ofPattern("pattern_timeouts_total", prometheus.CounterValue, "Partial matches that the end of a window ended."),
	"pattern_pruned_total":          ofPattern("pattern_pruned_total", prometheus.CounterValue, "Partial and held matches that the skip strategy dropped after another match."),
	"pattern_started_total":         ofPattern("pattern_started_total", prometheus.CounterValue, "Partial matches that a first record began."),
	"pattern_dropped_total":         ofPattern("pattern_dropped_total", prometheus.CounterValue, "Partial and held matches that were dropped because a key had more than its limit."),
	"pattern_active_runs":           ofPattern("pattern_active_runs", prometheus.GaugeValue, "Open partial matches of all keys; estimated after a change of parallelism, until they have ended."),
	"pattern_held_matches":          ofPattern("pattern_held_matches", prometheus.GaugeValue, "Complete matches that wait for a partial match that began earlier, of all keys."),
	"model_calls_total":             ofArm("model_calls_total", prometheus.CounterValue, "Calls given to the client of a model, one for each record; those that the client repeats or avoids itself count once."),
	"model_calls_avoided_total":     ofArm("model_calls_avoided_total", prometheus.CounterValue, "Calls that were not repeated after a restart because the journal had their result."),
	"model_failed_total":            ofArm("model_failed_total", prometheus.CounterValue, "Records whose call has failed for good."),
	"model_degraded_total":          ofArm("model_degraded_total", prometheus.CounterValue, "Records answered by another than the model asked for."),
	"model_calls_in_flight":         ofArm("model_calls_in_flight", prometheus.GaugeValue, "Calls under way."),
	"model_records_pending":         ofOperator("model_records_pending", prometheus.GaugeValue, "Records that have come to the operator and not left it."),
	"model_journal_failed_total":    ofOperator("model_journal_failed_total", prometheus.CounterValue, "Results that could not be journaled; their calls would be repeated after a crash."),
	"model_routing_version":         ofOperator("model_routing_version", prometheus.GaugeValue, "Version of the routing in effect, in operators with arms."),
	"model_routings_refused_total":  ofOperator("model_routings_refused_total", prometheus.CounterValue, "Routings that had mistakes or were not newer, and changed nothing."),
	"model_shadow_calls_total":      ofArm("model_shadow_calls_total", prometheus.CounterValue, "Calls given to the client of an arm as a shadow, one for each record."),
	"model_shadow_failed_total":     ofArm("model_shadow_failed_total", prometheus.CounterValue, "Shadow calls that have failed for good."),
	"model_shadow_dropped_total":    ofArm("model_shadow_dropped_total", prometheus.CounterValue, "Records that a shadow was not asked about, because of load."),
	"model_shadow_calls_in_flight":  ofArm("model_shadow_calls_in_flight", prometheus.GaugeValue, "Shadow calls under way."),
	"dead_letters_total":            {figureDesc("dead_letters_total", "Records that the operator sent to the job's dead letters, by the code of the error.", "code"), prometheus.CounterValue, true},
	"pattern_changes_refused_total": {figureDesc("pattern_changes_refused_total", "Changes of patterns that had mistakes and changed nothing."), prometheus.CounterValue, false},
	"pattern_late_records_total":    {figureDesc("pattern_late_records_total", "Records that came behind the watermark of a pattern operator."), prometheus.CounterValue, false},
}

func ofOperator(name string, kind prometheus.ValueType, help string) figureMetric {
	return figureMetric{figureDesc(name, help), kind, false}
}

// ofArm is of an arm of an operator that asks models; the label is empty, which is as if
// it were not there, in an operator that has one model.
func ofArm(name string, kind prometheus.ValueType, help string) figureMetric {
	return figureMetric{figureDesc(name, help, "arm"), kind, true}
}

func ofPattern(name string, kind prometheus.ValueType, help string) figureMetric {
	return figureMetric{figureDesc(name, help, "pattern"), kind, true}
}

func figureDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("weir_"+name, help, append([]string{"job", "operator", "subtask"}, labels...), nil)
}
