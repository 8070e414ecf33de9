package fakemodel

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// datatypes of the Open Inference Protocol and what their elements are in JSON.
var datatypes = map[string]func(token string) (any, error){
	"BOOL": func(s string) (any, error) {
		if s != "true" && s != "false" {
			return nil, strconv.ErrSyntax
		}
		return s == "true", nil
	},
	"UINT8": unsigned(8), "UINT16": unsigned(16), "UINT32": unsigned(32), "UINT64": unsigned(64),
	"INT8": signed(8), "INT16": signed(16), "INT32": signed(32), "INT64": signed(64),
	"FP16": float(32, maxFP16), "FP32": float(32, math.MaxFloat32), "FP64": float(64, math.MaxFloat64),
	"BYTES": func(s string) (any, error) {
		var out string
		return out, json.Unmarshal([]byte(s), &out)
	},
}

const maxFP16 = 65504

func unsigned(bits int) func(string) (any, error) {
	return func(s string) (any, error) { return strconv.ParseUint(s, 10, bits) }
}

func signed(bits int) func(string) (any, error) {
	return func(s string) (any, error) { return strconv.ParseInt(s, 10, bits) }
}

func float(bits int, most float64) func(string) (any, error) {
	return func(s string) (any, error) {
		v, err := strconv.ParseFloat(s, bits)
		if err == nil && math.Abs(v) > most {
			err = strconv.ErrRange
		}
		if bits == 32 {
			return float32(v), err
		}
		return v, err
	}
}

// oip is the Open Inference Protocol.
type oip struct{}

type oipRequest struct {
	ID         string                     `json:"id"`
	Parameters map[string]json.RawMessage `json:"parameters"`
	Inputs     []oipTensor                `json:"inputs"`
	Outputs    []struct {
		Name string `json:"name"`
	} `json:"outputs"`
}

type oipTensor struct {
	Name     string          `json:"name"`
	Shape    []int           `json:"shape"`
	Datatype string          `json:"datatype"`
	Data     json.RawMessage `json:"data"`
}

// oipCall is a decoded request.
type oipCall struct {
	id     *string
	rows   []row
	wanted []int // indices of outputs
}

func (oip) refusal(_ int, what string) []byte { return plainRefusal(what) }

func (oip) decode(c *call, r *http.Request, prog *program, l *limits) (inference, error) {
	if err := c.resolve(prog, r.PathValue("model"), r.PathValue("version")); err != nil {
		return nil, err
	}
	if r.Header.Get("Inference-Header-Content-Length") != "" {
		return nil, refuse(http.StatusBadRequest, "this server has no extension for binary tensors")
	}
	var req oipRequest
	if err := json.Unmarshal(c.body, &req); err != nil {
		return nil, refuse(http.StatusBadRequest, "the request is not JSON of its form: %v", err)
	}
	out := &oipCall{}
	if req.ID != "" {
		out.id = &req.ID
	}
	n, err := batchOf(req.Inputs, c.described.Inputs)
	if err != nil {
		return nil, err
	}
	c.items, c.tokens = n, n
	own, err := keysParameter(req.Parameters["idempotency_keys"])
	if err != nil {
		return nil, err
	}
	if err := c.takeKeys(r, own, l); err != nil {
		return nil, err
	}
	if out.wanted, err = wantedOutputs(c.outputs(), req); err != nil {
		return nil, err
	}
	out.rows = make([]row, n)
	for i := range out.rows {
		out.rows[i] = newRow()
	}
	for i := range req.Inputs {
		if err := req.Inputs[i].spread(out.rows); err != nil {
			return nil, err
		}
	}
	for i := range out.rows {
		out.rows[i].end()
	}
	return out, nil
}

// keysParameter reads the parameter idempotency_keys: an array of strings or, as the
// protocol's text allows scalars only, a string with the array as JSON or with lines.
func keysParameter(raw json.RawMessage) ([]string, error) {
	if raw == nil {
		return nil, nil
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return list, nil
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return nil, refuse(http.StatusBadRequest, "the parameter idempotency_keys is neither an array of strings nor a string")
	}
	if strings.HasPrefix(text, "[") && json.Unmarshal([]byte(text), &list) == nil {
		return list, nil
	}
	return strings.Split(text, "\n"), nil
}

// batchOf checks the inputs against each other and against those that the model
// declares, and returns the size of the batch.
func batchOf(inputs []oipTensor, declared []Tensor) (int, error) {
	if len(inputs) == 0 {
		return 0, refuse(http.StatusBadRequest, "the request has no inputs")
	}
	for i := range inputs {
		in := &inputs[i]
		if len(in.Shape) == 0 || in.Shape[0] < 1 || slices.Min(in.Shape) < 0 {
			return 0, refuse(http.StatusBadRequest, "the input %q has the shape %v; the first dimension is the batch, of 1 or more", in.Name, in.Shape)
		}
		if in.Shape[0] != inputs[0].Shape[0] {
			return 0, refuse(http.StatusBadRequest, "the inputs %q and %q have batches of %d and %d", inputs[0].Name, in.Name, inputs[0].Shape[0], in.Shape[0])
		}
		if slices.ContainsFunc(inputs[:i], func(o oipTensor) bool { return o.Name == in.Name }) || in.Name == "" {
			return 0, refuse(http.StatusBadRequest, "the name %q of an input is empty or occurs twice", in.Name)
		}
	}
	if len(declared) == 0 {
		return inputs[0].Shape[0], nil
	}
	if len(declared) != len(inputs) {
		return 0, refuse(http.StatusBadRequest, "there are %d inputs; the model has %d", len(inputs), len(declared))
	}
	for _, d := range declared {
		i := slices.IndexFunc(inputs, func(o oipTensor) bool { return o.Name == d.Name })
		if i < 0 || inputs[i].Datatype != d.Datatype || !sameShape(d.Shape, inputs[i].Shape) {
			return 0, refuse(http.StatusBadRequest, "the model has the input %q, %s, of shape %v", d.Name, d.Datatype, d.Shape)
		}
	}
	return inputs[0].Shape[0], nil
}

func sameShape(declared, shape []int) bool {
	return slices.EqualFunc(declared, shape, func(d, n int) bool { return d == -1 || d == n })
}

func wantedOutputs(have []Output, req oipRequest) ([]int, error) {
	var out []int
	for _, o := range req.Outputs {
		i := slices.IndexFunc(have, func(h Output) bool { return h.Name == o.Name })
		if i < 0 {
			return nil, refuse(http.StatusBadRequest, "the model has no output %q", o.Name)
		}
		out = append(out, i)
	}
	if len(out) == 0 {
		for i := range have {
			out = append(out, i)
		}
	}
	return out, nil
}

// spread adds the elements of a tensor to the rows they belong to.
func (t *oipTensor) spread(rows []row) error {
	parse, ok := datatypes[t.Datatype]
	if !ok {
		return refuse(http.StatusBadRequest, "the input %q has the unknown datatype %q", t.Name, t.Datatype)
	}
	tokens, err := scalars(t.Data, t.Shape)
	if err != nil {
		return refuse(http.StatusBadRequest, "the input %q: %v", t.Name, err)
	}
	per := len(tokens) / len(rows)
	for i, token := range tokens {
		v, err := parse(token)
		if err != nil {
			return refuse(http.StatusBadRequest, "the input %q: %.40s is no %s", t.Name, token, t.Datatype)
		}
		if err := rows[i/per].add(v); err != nil {
			return err
		}
	}
	return nil
}

// scalars returns the elements of an array of valid JSON that is flat, or nested as the
// shape says.
func scalars(raw []byte, shape []int) ([]string, error) {
	w := walk{shape: shape, depth: -1}
	data := string(raw) // whose parts take no memory of their own
	for i := 0; i < len(data); {
		n, err := w.step(data[i:])
		if err != nil {
			return nil, err
		}
		i += n
	}
	want := 1
	for _, d := range shape {
		if want *= d; want > len(data) {
			break // there cannot be so many, and the product must not overflow
		}
	}
	if len(w.out) != want {
		return nil, fmt.Errorf("there are %d elements in the data, and the shape is %v", len(w.out), shape)
	}
	return w.out, nil
}

// walk goes through nested arrays.
type walk struct {
	shape []int
	open  []int // elements seen so far in each array that is open
	depth int   // of the scalars; -1: none yet
	out   []string
}

// step takes one token and returns its length.
func (w *walk) step(data string) (int, error) {
	switch data[0] {
	case ' ', '\t', '\r', '\n', ',':
		return 1, nil
	case '[':
		if len(w.open) > 0 {
			w.open[len(w.open)-1]++
		}
		w.open = append(w.open, 0)
		return 1, nil
	case ']':
		level := len(w.open) - 1
		n := w.open[level]
		w.open = w.open[:level]
		if w.depth > 1 && (level >= len(w.shape) || n != w.shape[level]) {
			return 0, fmt.Errorf("an array of the data has %d elements, and the shape is %v", n, w.shape)
		}
		return 1, nil
	}
	if len(w.open) == 0 || data[0] == '{' {
		return 0, fmt.Errorf("the data is not an array of numbers, strings or booleans")
	}
	if w.depth == -1 {
		w.depth = len(w.open)
	}
	if w.depth != len(w.open) || w.depth != 1 && w.depth != len(w.shape) {
		return 0, fmt.Errorf("the data is neither flat nor nested as the shape %v", w.shape)
	}
	w.open[len(w.open)-1]++
	n := tokenLen(data)
	w.out = append(w.out, data[:n])
	return n, nil
}

// tokenLen is the length of the scalar at the beginning of valid JSON.
func tokenLen(data string) int {
	if data[0] != '"' {
		for n := range len(data) {
			switch data[n] {
			case ' ', '\t', '\r', '\n', ',', ']':
				return n
			}
		}
		return len(data)
	}
	for n := 1; n < len(data); n++ {
		switch data[n] {
		case '\\':
			n++
		case '"':
			return n + 1
		}
	}
	return len(data)
}

func (q *oipCall) answer(c *call, spoil Fault) reply {
	var b strings.Builder
	b.WriteString(`{"model_name":` + quoted(c.model) + `,"model_version":` + quoted(c.version))
	if q.id != nil {
		b.WriteString(`,"id":` + quoted(*q.id))
	}
	b.WriteString(`,"outputs":[`)
	scores := make([]float64, len(q.rows))
	for i := range q.rows {
		scores[i] = c.score(&q.rows[i])
	}
	have := c.outputs()
	for at, i := range q.wanted {
		if at > 0 {
			b.WriteByte(',')
		}
		res := result(have[i], i, scores, spoil)
		shape, _ := json.Marshal(res.shape()) // integers do not fail
		fmt.Fprintf(&b, `{"name":%s,"datatype":%q,"shape":%s,"data":%s}`, quoted(have[i].Name), have[i].Datatype, shape, res.flat())
	}
	b.WriteString("]}")
	return reply{contentType: jsonType, body: []byte(b.String())}
}

const jsonType = "application/json"

// metadata describes a model as the protocol does.
func metadata(name string, m Model, version string) any {
	type tensor struct {
		Name     string `json:"name"`
		Datatype string `json:"datatype"`
		Shape    []int  `json:"shape"`
	}
	out := struct {
		Name     string   `json:"name"`
		Versions []string `json:"versions"`
		Platform string   `json:"platform"`
		Inputs   []tensor `json:"inputs"`
		Outputs  []tensor `json:"outputs"`
	}{Name: name, Versions: m.Versions, Platform: "weir_fakemodel", Inputs: []tensor{{"input", "FP64", []int{-1, -1}}}}
	if len(out.Versions) == 0 {
		out.Versions = []string{version}
	}
	if len(m.Inputs) > 0 {
		out.Inputs = nil
		for _, in := range m.Inputs {
			out.Inputs = append(out.Inputs, tensor(in))
		}
	}
	c := call{described: m}
	for _, o := range c.outputs() {
		t := tensor{o.Name, o.Datatype, []int{-1}}
		if o.Width > 0 {
			t.Shape = append(t.Shape, o.Width)
		}
		out.Outputs = append(out.Outputs, t)
	}
	return out
}
