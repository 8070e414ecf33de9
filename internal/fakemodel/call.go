package fakemodel

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"sort"
	"strconv"
	"strings"

	"github.com/weirflow/weir/internal/base"
)

// call is one request for inference.
type call struct {
	model, version, path string
	described            Model
	keys                 []string
	items                int
	// tokens are those of the request, generated those of a chat's answer.
	tokens, generated int
	body              []byte
	// arrived is the monotonic time at which the body was there.
	arrived int64
}

// protocol is how a kind of clients speaks. Values of it are stateless.
type protocol interface {
	// decode reads a request whose path and body are in c, and fills in the rest of c. It
	// fills in what it can also with an error.
	decode(c *call, r *http.Request, prog *program, l *limits) (inference, error)
	// refusal is the body of an answer with an error.
	refusal(status int, what string) []byte
}

// inference is a decoded request.
type inference interface {
	// answer computes the answer to c, spoilt by a fault that concerns values.
	answer(c *call, spoil Fault) reply
}

// reply is a whole answer, or one in parts that are streamed.
type reply struct {
	contentType string
	body        []byte
	events      [][]byte
}

// refusal is an error with an HTTP status for the client.
type refusal struct {
	status int
	what   string
}

// Error implements error.
func (r *refusal) Error() string { return r.what }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// limits are those of one request.
type limits struct {
	items, keyLen int
}

const maxNameLen = 256

// resolve finds the model of a call.
func (c *call) resolve(prog *program, model, version string) error {
	if len(model) > maxNameLen || len(version) > maxNameLen || model == "" {
		return refuse(http.StatusBadRequest, "the name of a model or version is empty or longer than %d bytes", maxNameLen)
	}
	c.model, c.version = model, version
	m, v := prog.model(model, version)
	if v == "" {
		return refuse(http.StatusNotFound, "there is no model %q with version %q", model, version)
	}
	c.described, c.version = m, v
	return nil
}

// takeKeys reads the idempotency keys of a call with so many inputs; own are those that
// its body carries.
func (c *call) takeKeys(r *http.Request, own []string, l *limits) error {
	if c.items > l.items {
		return refuse(http.StatusRequestEntityTooLarge, "%d inputs are more than %d", c.items, l.items)
	}
	keys := own
	if len(keys) == 0 {
		keys = r.Header.Values("Idempotency-Key")
	}
	if len(keys) > 1 && len(keys) != c.items {
		return refuse(http.StatusBadRequest, "there are %d idempotency keys for %d inputs", len(keys), c.items)
	}
	for _, k := range keys {
		if len(k) > l.keyLen {
			return refuse(http.StatusBadRequest, "an idempotency key is longer than %d bytes", l.keyLen)
		}
	}
	c.keys = keys
	return nil
}

// row is one input of a model with numbers.
type row struct {
	text    []byte // as Row returns it
	numbers []float64
}

func newRow() row { return row{text: []byte{'['}} }

// add appends a scalar: string, bool or number.
func (r *row) add(v any) error {
	var ok bool
	if r.text, ok = appendValue(r.text, v); !ok {
		return refuse(http.StatusBadRequest, "a value of an input is neither a number, a string nor a boolean")
	}
	switch v := v.(type) {
	case float64:
		r.numbers = append(r.numbers, v)
	case float32:
		r.numbers = append(r.numbers, float64(v))
	case int64:
		r.numbers = append(r.numbers, float64(v))
	case uint64:
		r.numbers = append(r.numbers, float64(v))
	case bool:
		x := 0.0
		if v {
			x = 1
		}
		r.numbers = append(r.numbers, x)
	}
	return nil
}

func (r *row) end() { r.text = append(r.text, ']') }

// flatten adds the scalars of decoded JSON in order; those of an object by its sorted
// names.
func (r *row) flatten(v any) error {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			if err := r.flatten(x); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			if err := r.flatten(v[name]); err != nil {
				return err
			}
		}
		return nil
	}
	return r.add(v)
}

// score is what the model says about a row.
func (c *call) score(r *row) float64 {
	if c.described.Function == "logistic" {
		return Logistic(c.described.Bias[c.version], c.described.Weights, r.numbers)
	}
	return unit(fingerprint(c.model, c.version, string(r.text)))
}

// defaultOutputs are those of a model that declares none.
var defaultOutputs = []Output{{Name: "score", Datatype: "FP64"}}

func (c *call) outputs() []Output {
	if len(c.described.Outputs) > 0 {
		return c.described.Outputs
	}
	return defaultOutputs
}

// OutputValue is value j of output i for an input with this score, as a number in
// [0,1); see [Output].
func OutputValue(score float64, i, j int) float64 {
	if i == 0 && j == 0 {
		return score
	}
	return unit(base.Mix(math.Float64bits(score), uint64(i)<<32+uint64(j)))
}

// results are the values of one output for some rows, as JSON.
type results struct {
	output Output
	rows   int
	values []string // rows times the width
}

// result computes output i for rows with these scores. Faults that concern values are
// in it.
func result(o Output, i int, scores []float64, spoil Fault) results {
	if spoil == WrongCount {
		scores = append(scores[:len(scores):len(scores)], scores[len(scores)-1])
	}
	res := results{output: o, rows: len(scores)}
	width := max(1, o.Width)
	res.values = make([]string, 0, len(scores)*width)
	for _, s := range scores {
		for j := range width {
			res.values = append(res.values, o.text(OutputValue(s, i, j)))
		}
	}
	switch spoil {
	case NaN:
		res.values[0] = "NaN"
	case Null:
		res.values[0] = "null"
	case WrongShape:
		res.values = res.values[:len(res.values)-1]
	}
	return res
}

// text renders a value as the output's datatype.
func (o *Output) text(v float64) string {
	switch o.Datatype {
	case "BOOL":
		return strconv.FormatBool(v >= 0.5)
	case "INT64":
		if v >= 0.5 {
			return "1"
		}
		return "0"
	case "FP32":
		return numberText(float32(v))
	case "BYTES":
		return `"` + numberText(v) + `"`
	}
	return numberText(v)
}

// numberText is a number as JSON; NaN and infinities are null.
func numberText[F float32 | float64](v F) string {
	bits := 64
	if _, short := any(v).(float32); short {
		bits = 32
	}
	b, ok := appendFloat(nil, float64(v), bits)
	if !ok {
		return "null"
	}
	return string(b)
}

// flat is the JSON array of all values.
func (r *results) flat() string { return "[" + strings.Join(r.values, ",") + "]" }

// each returns the JSON of each row: one value, or an array of them.
func (r *results) each() []string {
	if r.output.Width == 0 {
		return r.values
	}
	var out []string
	for at := 0; at < len(r.values); at += r.output.Width {
		out = append(out, "["+strings.Join(r.values[at:min(at+r.output.Width, len(r.values))], ",")+"]")
	}
	return out
}

func (r *results) shape() []int {
	if r.output.Width == 0 {
		return []int{r.rows}
	}
	return []int{r.rows, r.output.Width}
}

// quoted is a string as JSON.
func quoted(s string) string {
	b, _ := json.Marshal(s) // strings do not fail
	return string(b)
}

// plainRefusal is the error object of all protocols but OpenAI's.
func plainRefusal(what string) []byte { return []byte(`{"error":` + quoted(what) + "}") }
