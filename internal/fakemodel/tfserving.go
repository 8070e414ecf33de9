package fakemodel

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"sort"
	"strings"
)

// tfServing is the REST protocol of TensorFlow Serving.
type tfServing struct{}

type tfRequest struct {
	Instances []any           `json:"instances"`
	Inputs    json.RawMessage `json:"inputs"`
}

// tfCall is a decoded request.
type tfCall struct {
	rows    []row
	columns bool
}

func (tfServing) refusal(_ int, what string) []byte { return plainRefusal(what) }

// target splits what follows /v1/models/ into model and version.
func (tfServing) target(path string) (model, version string, err error) {
	path, verb, _ := cutLast(path, ":")
	if verb != "predict" {
		return "", "", refuse(http.StatusNotFound, "this server does %q only", ":predict")
	}
	if m, v, ok := cutLast(path, "/versions/"); ok {
		return m, v, nil
	}
	if m, l, ok := cutLast(path, "/labels/"); ok {
		return m, "", refuse(http.StatusNotFound, "the model has no version with the label %q", l)
	}
	return path, "", nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func (p tfServing) decode(c *call, r *http.Request, prog *program, l *limits) (inference, error) {
	model, version, err := p.target(r.PathValue("target"))
	if err != nil {
		c.model = model
		return nil, err
	}
	if err := c.resolve(prog, model, version); err != nil {
		return nil, err
	}
	var req tfRequest
	if err := json.Unmarshal(c.body, &req); err != nil {
		return nil, refuse(http.StatusBadRequest, "the request is not JSON of its form: %v", err)
	}
	q := &tfCall{columns: req.Inputs != nil}
	if q.columns == (req.Instances != nil) {
		return nil, refuse(http.StatusBadRequest, "the request must have instances or inputs, not both")
	}
	instances := req.Instances
	if q.columns {
		if instances, err = columns(req.Inputs); err != nil {
			return nil, err
		}
	}
	if len(instances) == 0 {
		return nil, refuse(http.StatusBadRequest, "the request has no instances")
	}
	c.items, c.tokens = len(instances), len(instances)
	if err := c.takeKeys(r, nil, l); err != nil {
		return nil, err
	}
	for _, v := range instances {
		row := newRow()
		v, err := binaries(v)
		if err == nil {
			err = row.flatten(v)
		}
		if err != nil {
			return nil, err
		}
		row.end()
		q.rows = append(q.rows, row)
	}
	return q, nil
}

// columns turns inputs by name, or the only one, into instances.
func columns(raw json.RawMessage) ([]any, error) {
	var only []any
	if json.Unmarshal(raw, &only) == nil {
		return only, nil
	}
	var named map[string][]any
	if json.Unmarshal(raw, &named) != nil || len(named) == 0 {
		return nil, refuse(http.StatusBadRequest, "inputs is neither a list nor lists by name")
	}
	names := make([]string, 0, len(named))
	for name := range named {
		names = append(names, name)
	}
	sort.Strings(names)
	out := make([]any, len(named[names[0]]))
	for i := range out {
		instance := map[string]any{}
		for _, name := range names {
			if len(named[name]) != len(out) {
				return nil, refuse(http.StatusBadRequest, "the inputs %q and %q have batches of %d and %d", names[0], name, len(out), len(named[name]))
			}
			instance[name] = named[name][i]
		}
		out[i] = instance
	}
	return out, nil
}

// binaries replaces the objects {"b64": "..."} in decoded JSON by the bytes they hold.
func binaries(v any) (any, error) {
	switch x := v.(type) {
	case []any:
		for i := range x {
			var err error
			if x[i], err = binaries(x[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		if text, ok := x["b64"].(string); ok && len(x) == 1 {
			raw, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return nil, refuse(http.StatusBadRequest, "the value of a b64 object is not base64")
			}
			return string(raw), nil
		}
		for name := range x {
			var err error
			if x[name], err = binaries(x[name]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

func (q *tfCall) answer(c *call, spoil Fault) reply {
	scores := make([]float64, len(q.rows))
	for i := range q.rows {
		scores[i] = c.score(&q.rows[i])
	}
	outputs := c.outputs()
	var all []results
	for i, o := range outputs {
		all = append(all, result(o, i, scores, spoil))
	}
	field, body := "predictions", ""
	switch {
	case q.columns:
		field = "outputs"
		body = byColumns(all)
	case len(all) == 1:
		body = "[" + strings.Join(all[0].each(), ",") + "]"
	default:
		body = byRows(all)
	}
	return reply{contentType: jsonType, body: []byte(`{"` + field + `":` + body + "}")}
}

func byColumns(all []results) string {
	list := func(r results) string { return "[" + strings.Join(r.each(), ",") + "]" }
	if len(all) == 1 {
		return list(all[0])
	}
	var parts []string
	for _, r := range all {
		parts = append(parts, quoted(r.output.Name)+":"+list(r))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func byRows(all []results) string {
	columns := make([][]string, len(all))
	for i := range all {
		columns[i] = all[i].each()
	}
	most := slices.MaxFunc(columns, func(a, b []string) int { return len(a) - len(b) })
	rows := make([]string, len(most))
	for n := range rows {
		var parts []string
		for i, r := range all {
			if n < len(columns[i]) {
				parts = append(parts, quoted(r.output.Name)+":"+columns[i][n])
			}
		}
		rows[n] = "{" + strings.Join(parts, ",") + "}"
	}
	return "[" + strings.Join(rows, ",") + "]"
}
