package weir

import (
	"errors"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/anomaly"
)

// Anomalies judges the records of every key of a stream by a detector of its own,
// which learns while it runs what is normal for that key.
//
//	readings := weir.KeyBy(metrics, "by-sensor", func(r Reading) string { return r.Sensor })
//	alerts := weir.Anomalies(readings, "unusual", anomaly.ProcessSpec[Reading]{
//		Detector:   anomaly.Default(),
//		Input:      func(r Reading) anomaly.Input { return anomaly.Input{Value: r.Value} },
//		OnlyAlerts: true,
//	})
//
// What can be declared is in package operators/anomaly. A record has the score that
// it would have with no record after it, and the same one after a crash and at
// another parallelism. A key has its detector in the state "detector": limits can
// be changed between two runs, windows cannot.
//
// Records of a key are judged as they come. The watermark plays no part: a record
// that is late is judged all the same.
//
// The option OnError says what happens to a value that is not a number.
func Anomalies[K comparable, T any](in KeyedStream[K, T], name string, spec anomaly.ProcessSpec[T], opts ...ProcessOption) Stream[anomaly.Scored[K, T]] {
	const kind = "anomalies"
	j, where := in.j, caller(1)
	newFn, err := anomaly.Process[K](spec)
	if err == nil {
		return addProcess(where, kind, in, name, newFn, opts)
	}
	uid := j.declare(in.chain, name, kind, "", where, in.uid)
	e := base.Error{Code: anomaly.CodeSpec, What: kind + " " + uid + ": the detector is declared wrongly", Where: where, Cause: err}
	if from, ok := errors.AsType[*base.Error](err); ok {
		e.Cause, e.Next = from.Cause, from.Next
	}
	j.errs = append(j.errs, &e)
	return newStream[anomaly.Scored[K, T]](j, in.chain, uid, true)
}
