package fakemodel

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
)

// generic answers any JSON. The input of the model is the value, flattened as Row does,
// an object by its sorted names. An array is a batch.
type generic struct{}

// genericCall is a decoded request.
type genericCall struct {
	rows  []row
	batch bool
}

func (generic) refusal(_ int, what string) []byte { return plainRefusal(what) }

func (generic) decode(c *call, r *http.Request, prog *program, l *limits) (inference, error) {
	if err := c.resolve(prog, r.PathValue("model"), r.URL.Query().Get("version")); err != nil {
		return nil, err
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(c.body))
	if err := d.Decode(&v); err != nil {
		return nil, refuse(http.StatusBadRequest, "the request is not JSON: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, refuse(http.StatusBadRequest, "the request is more than one JSON value")
	}
	q := &genericCall{}
	var list []any
	if list, q.batch = v.([]any); !q.batch {
		list = []any{v}
	}
	if len(list) == 0 {
		return nil, refuse(http.StatusBadRequest, "the batch is empty")
	}
	c.items, c.tokens = len(list), len(list)
	if err := c.takeKeys(r, nil, l); err != nil {
		return nil, err
	}
	for _, v := range list {
		row := newRow()
		if err := row.flatten(v); err != nil {
			return nil, err
		}
		row.end()
		q.rows = append(q.rows, row)
	}
	return q, nil
}

func (q *genericCall) answer(c *call, spoil Fault) reply {
	scores := make([]float64, len(q.rows))
	for i := range q.rows {
		scores[i] = c.score(&q.rows[i])
	}
	var all []results
	for i, o := range c.outputs() {
		all = append(all, result(o, i, scores, spoil))
	}
	rows := byRows(all)
	head := `{"model":` + quoted(c.model) + `,"version":` + quoted(c.version)
	if q.batch || spoil == WrongCount {
		return reply{contentType: jsonType, body: []byte(head + `,"results":` + rows + "}")}
	}
	// The only row is an object, or missing by a fault; its fields are those of the answer.
	fields := strings.TrimSuffix(strings.TrimPrefix(rows, "["), "]")
	if fields = strings.TrimPrefix(fields, "{"); fields == "" {
		return reply{contentType: jsonType, body: []byte(head + "}")}
	}
	return reply{contentType: jsonType, body: []byte(head + "," + fields)}
}
