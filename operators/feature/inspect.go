package feature

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
)

// AskVector asks for the vector of a key; see operators.Inspector. The argument is a
// VectorRequest or nothing, the answer a VectorView.
const AskVector = "vector"

// VectorRequest says as of when.
type VectorRequest struct {
	// At is an event time in milliseconds since the epoch. The vector is that of the
	// key's clock if that is later, or if At is 0.
	At int64 `json:"at_ms,omitempty"`
}

// VectorView is the vector of a key.
type VectorView struct {
	// Known is false for a key without a state: all windows are empty.
	Known bool `json:"known"`
	// Features are in the order of the schema; a value is null, a number, a text, a
	// list or a map.
	Features []FeatureView `json:"features"`
}

// FeatureView is one field of a vector.
type FeatureView struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
}

// Inspect implements operators.Inspector.
func (n *node[K, T, In, Out]) Inspect(question, key string, arg []byte) (answer any, owned bool, err error) {
	k, err := operators.ParseKey[K](key)
	if err != nil || question != AskVector {
		if err == nil {
			err = fmt.Errorf("there is no question %q", question)
		}
		return nil, true, err
	}
	hash := n.spec.Keys.Hash(k)
	if !n.s.Env.Range.Contains(hash) {
		return nil, false, nil
	}
	var req VectorRequest
	if len(arg) > 0 {
		if err := json.Unmarshal(arg, &req); err != nil {
			return nil, true, err
		}
	}
	at := base.MinTime
	if req.At != 0 {
		at = req.At * int64(time.Millisecond)
	}
	n.arena = n.arena[:0]
	_, known := n.table.GetVar(hash, n.key(k))
	vec, err := n.Read(k, at)
	if err != nil {
		return nil, true, err
	}
	view, v := VectorView{Known: known}, vec.View()
	for i, f := range v.Schema.Fields {
		view.Features = append(view.Features, FeatureView{f.Name, v.Value(i)})
	}
	return view, true, nil
}
