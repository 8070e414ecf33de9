package pattern

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/weirflow/weir/operators"
)

// Questions that the operator answers; see operators.Inspector.
const (
	// AskRuns asks for the partial matches of a key: a []RunView.
	AskRuns = "runs"
	// AskTrace asks what a record would do to them. The argument is a TraceRequest;
	// the answer a []TraceView.
	AskTrace = "trace"
)

// TraceRequest is a record as it would come, in JSON.
type TraceRequest struct {
	Record json.RawMessage `json:"record"`
	// At is its event time in milliseconds since the epoch; the time that the
	// watermark has reached if it is 0.
	At int64 `json:"at_ms,omitempty"`
}

// StageView is a stage of a partial match and its records, in JSON.
type StageView struct {
	Stage   string            `json:"stage"`
	Records []json.RawMessage `json:"records"`
}

// RunView is a partial match of a key.
type RunView struct {
	Pattern string      `json:"pattern"`
	Found   []StageView `json:"found"`
	// Since and Last are the event times of its first and last record.
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`
	// Waits says what it waits for, Ends when its window ends it.
	Waits string     `json:"waits"`
	Ends  *time.Time `json:"ends,omitempty"`
}

// TraceView is what a record would do to a partial match; to none, Found is empty:
// whether it would begin one.
type TraceView struct {
	Pattern string      `json:"pattern"`
	Found   []StageView `json:"found"`
	Waits   string      `json:"waits"`
	Steps   []string    `json:"steps"`
}

func stagesOf[T any](m *Match[T]) []StageView {
	out := []StageView{}
	for _, s := range m.Stages {
		v := StageView{Stage: s.Name}
		for _, e := range s.Events {
			b, err := json.Marshal(e)
			if err != nil { // such as NaN
				b, _ = json.Marshal(fmt.Sprintf("%+v", e))
			}
			v.Records = append(v.Records, b)
		}
		out = append(out, v)
	}
	return out
}

func timeOf(ns int64) time.Time { return time.Unix(0, ns).UTC() }

// Inspect implements operators.Inspector. Records that wait for the watermark are not
// part of any run yet.
func (n *Detector[K, T, R, TO]) Inspect(question, key string, arg []byte) (answer any, owned bool, err error) {
	k, err := operators.ParseKey[K](key)
	if err != nil {
		return nil, true, err
	}
	hash := n.spec.Keys.Hash(k)
	if !n.s.Env.Range.Contains(hash) {
		return nil, false, nil
	}
	var st *SetKey[T]
	if st, err = n.peek(hash, k); err != nil {
		return nil, true, err
	}
	switch question {
	case AskRuns:
		views := []RunView{}
		for _, p := range n.set.Runs(st) {
			v := RunView{Pattern: p.Pattern, Found: stagesOf(&p.Found), Since: timeOf(p.Found.Start), Last: timeOf(p.Found.End), Waits: p.Waits}
			if p.Ok {
				ends := timeOf(p.Ends)
				v.Ends = &ends
			}
			views = append(views, v)
		}
		return views, true, nil
	case AskTrace:
		views, err := n.trace(st, arg)
		return views, true, err
	}
	return nil, true, fmt.Errorf("there is no question %q", question)
}

// peek reads the state of a key and leaves everything as it is.
func (n *Detector[K, T, R, TO]) peek(hash uint64, k K) (*SetKey[T], error) {
	for e := n.cache[hash]; e != nil; e = e.next {
		if e.key == k {
			return &e.state, nil
		}
	}
	st := &SetKey[T]{}
	blob, ok := n.table.GetVar(hash, n.encodeKey(k))
	if !ok {
		return st, nil
	}
	return st, n.set.Load(blob, st, n.spec.Values)
}

func (n *Detector[K, T, R, TO]) trace(st *SetKey[T], arg []byte) ([]TraceView, error) {
	var req TraceRequest
	if err := json.Unmarshal(arg, &req); err != nil {
		return nil, err
	}
	var v T
	if err := json.Unmarshal(req.Record, &v); err != nil {
		return nil, fmt.Errorf("the record is no %T: %w", v, err)
	}
	at := max(n.prog.w, 0)
	if req.At != 0 {
		at = req.At * int64(time.Millisecond)
	}
	views := []TraceView{}
	for _, m := range n.set.members {
		key := n.set.view(st, m)
		if key == nil {
			key = &Key[T]{}
		}
		for _, t := range m.m.Trace(key, at, n.s.Env.Clock.Now(), &v) {
			views = append(views, TraceView{Pattern: m.id, Found: stagesOf(&t.Found), Waits: t.Waits, Steps: t.Steps})
		}
	}
	return views, nil
}
