package main

import (
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/file"
	"github.com/weirflow/weir/operators/anomaly"
)

// Reading is a row of a series.
type Reading struct {
	Series string
	At     time.Time
	Value  float64
}

// Judged is a reading with what the detector of its series made of it.
type Judged struct {
	Series string    `json:"series"`
	At     time.Time `json:"at"`
	Value  float64   `json:"value"`
	// Score is from 0 to 1, where 0.5 is the limit of the detector named By.
	Score float64 `json:"score"`
	By    string  `json:"by"`
	Alert bool    `json:"alert"`
}

// job reads series and writes two directories of JSON lines below out: every score,
// and the alerts among them.
func job(readings connectors.Source[Reading], out string) weir.JobSpec {
	return weir.NewJob("nab", func(j *weir.Job) {
		in := weir.From(j, "readings", readings, weir.Ascending(func(r Reading) time.Time { return r.At }))
		bySeries := weir.KeyBy(in, "by-series", func(r Reading) string { return r.Series })

		unusual := weir.Anomalies(bySeries, "unusual", anomaly.ProcessSpec[Reading]{
			Detector: anomaly.Best(),
			Input:    func(r Reading) anomaly.Input { return anomaly.Input{Value: r.Value} },
		})
		judged := weir.Map(unusual, "judge", func(s anomaly.Scored[string, Reading]) Judged {
			return Judged{Series: s.Key, At: s.Record.At, Value: s.Value, Score: s.Score, By: s.By, Alert: s.Alert}
		})
		weir.To(judged, "scores", file.WriteJSONL[Judged](out+"/scores"))

		alerts := weir.Filter(judged, "alert", func(v Judged) bool { return v.Alert })
		weir.To(alerts, "alerts", file.WriteJSONL[Judged](out+"/alerts"))
	})
}
