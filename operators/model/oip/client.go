// Package oip asks models that are served by the Open Inference Protocol, version 2
// of KServe's: KServe, Triton, MLServer, OpenVINO Model Server, TorchServe and others.
// It uses REST; gRPC is in package oipgrpc, a module of its own.
//
//	client, err := oip.New(
//		oip.Endpoint{URL: "https://models.example.com", Model: "churn", Version: "3"},
//		oip.Codec[Features, Score]{
//			Inputs: []oip.Column[Features]{
//				oip.Scalar("age", func(f *Features) float32 { return f.Age }),
//				oip.Vector("embedding", 16, func(f *Features, row []float32) { copy(row, f.Embedding[:]) }),
//			},
//			Decode: func(row *oip.Row) (Score, error) { return Score{row.Float("score")}, nil },
//		})
//
// Each Invoke is one request, whose tensors have a row for each call. Inputs that
// JSON cannot carry fail alone: NaN, infinities, strings that are not UTF-8.
//
// # Idempotency keys
//
// The header Idempotency-Key has the key of the call, or a hash of all keys when there
// are several. Then the parameter idempotency_keys of the request has them as well, in
// the order of the rows, in the form that Endpoint.Keys says.
//
// # Not here
//
// The binary tensor data of Triton, tensors whose rows differ in length, and state
// across requests (sequences).
package oip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/internal/rest"
)

// Endpoint is a model on a server.
type Endpoint struct {
	// URL of the server, to which /v2/models/… is joined.
	URL string
	// Model and Version of it; without a version the server chooses.
	Model, Version string
	// Access says how the server may be reached.
	Access model.Access
	// Keys is the form of the parameter idempotency_keys.
	Keys KeyForm
	// Parameters are added to those of each request, such as content_type.
	Parameters map[string]any
}

// KeyForm is how the keys of a batch travel besides the header.
type KeyForm uint8

// Forms of keys.
const (
	// KeyArray: as an array of strings.
	KeyArray KeyForm = iota
	// KeyText: as a string that holds the array as JSON, for servers that take only
	// strings, numbers and truth values as parameters, as Triton does.
	KeyText
	// KeyNone: not at all.
	KeyNone
)

// Client asks a model by REST. It implements model.Client.
type Client[In, Out any] struct {
	rest       *rest.Client
	endpoint   Endpoint
	codec      Codec[In, Out]
	path       string
	parameters map[string]json.RawMessage
	outputs    []byte
}

// New returns a client. Errors have the code model.CodeAccess.
func New[In, Out any](e Endpoint, codec Codec[In, Out]) (*Client[In, Out], error) {
	r, err := rest.New(e.URL, e.Access)
	if err != nil {
		return nil, err
	}
	c := &Client[In, Out]{rest: r, endpoint: e, codec: codec, parameters: map[string]json.RawMessage{}}
	if err := codec.Validate(); err != nil {
		return nil, err
	}
	if c.path, err = rest.Path("v2", "models", e.Model); err != nil {
		return nil, err
	}
	if e.Version != "" {
		version, err := rest.Path("versions", e.Version)
		if err != nil {
			return nil, err
		}
		c.path += "/" + version
	}
	for name, v := range e.Parameters {
		if c.parameters[name], err = json.Marshal(v); err != nil {
			return nil, rest.Error(fmt.Sprintf("the parameter %s has no form in JSON: %v", name, err), e.Model, "use strings, numbers and truth values")
		}
	}
	if len(codec.Outputs) > 0 {
		type output struct {
			Name string `json:"name"`
		}
		list := make([]output, len(codec.Outputs))
		for i, name := range codec.Outputs {
			list[i].Name = name
		}
		c.outputs, _ = json.Marshal(list) // strings have a form in JSON
	}
	return c, nil
}

// Close closes connections that are not in use.
func (c *Client[In, Out]) Close() { c.rest.Close() }

// Invoke implements model.Client by one request; when the server refuses it with 400,
// 413 or 422, the bad rows are found by sending halves.
func (c *Client[In, Out]) Invoke(ctx context.Context, calls []model.Call[In]) ([]model.Result[Out], error) {
	return rest.Split(ctx, calls, c.invoke)
}

func (c *Client[In, Out]) invoke(ctx context.Context, calls []model.Call[In]) ([]model.Result[Out], error) {
	results := make([]model.Result[Out], len(calls))
	rows := make([]*In, len(calls))
	for i := range calls {
		rows[i] = &calls[i].In
	}
	tensors := c.codec.Pack(rows)
	sent := make([]int, 0, len(calls)) // indexes of the calls that are sent
	bad := unsendable(tensors, len(rows))
	for i := range calls {
		if err := bad[i]; err != nil {
			results[i].Err = rest.Permanent(err, "the input cannot be sent")
			continue
		}
		rows[len(sent)] = rows[i]
		sent = append(sent, i)
	}
	if len(sent) == 0 {
		return results, nil
	}
	if bad != nil {
		tensors = c.codec.Pack(rows[:len(sent)])
	}
	keys := make([]string, len(sent))
	for k, i := range sent {
		keys[k] = calls[i].Key
	}
	got, err := c.infer(ctx, tensors, keys)
	if err != nil {
		return nil, err
	}
	for k, i := range sent {
		results[i] = got[k]
	}
	return results, nil
}

func (c *Client[In, Out]) infer(ctx context.Context, tensors []Tensor, keys []string) ([]model.Result[Out], error) {
	id := rest.HeaderKey(keys)
	body, err := c.rest.Do(ctx, rest.Request{Path: c.path + "/infer", Body: c.request(tensors, keys, id), Keys: keys})
	if err != nil {
		return nil, err
	}
	var answer struct {
		ModelVersion string         `json:"model_version"`
		ID           string         `json:"id"`
		Outputs      []answerTensor `json:"outputs"`
	}
	if err := rest.Decode(body, &answer); err != nil {
		return nil, rest.Invalid(err, "the answer of %s is no inference response", c.rest.Host())
	}
	if err := c.endpoint.Same(answer.ModelVersion, answer.ID, id); err != nil {
		return nil, err
	}
	outputs := make([]Tensor, 0, len(answer.Outputs))
	for i := range answer.Outputs {
		if !c.codec.Wants(answer.Outputs[i].Name) {
			continue
		}
		t, err := answer.Outputs[i].tensor()
		if err != nil {
			return nil, rest.Invalid(err, "output %.40q of the answer cannot be read", answer.Outputs[i].Name)
		}
		outputs = append(outputs, t)
	}
	results, err := c.codec.Unpack(outputs, len(keys))
	for i := range results {
		results[i].Version = answer.ModelVersion
	}
	return results, err
}

// Same returns a *model.Failure if an answer is of another version than the endpoint
// has, or to another request. What the answer does not say is not held against it.
func (e *Endpoint) Same(version, id, wantID string) error {
	switch {
	case e.Version != "" && version != "" && version != e.Version:
		return rest.Invalid(nil, "version %.40q of the model has answered, where %q was asked", version, e.Version)
	case id != "" && id != wantID:
		return rest.Invalid(nil, "the answer is to another request")
	}
	return nil
}

// request is the body of a request.
func (c *Client[In, Out]) request(tensors []Tensor, keys []string, id string) []byte {
	b := append([]byte(nil), `{"id":`...)
	b = appendString(b, id)
	b = append(b, `,"inputs":[`...)
	for i := range tensors {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTensor(b, &tensors[i])
	}
	b = append(b, ']')
	if c.outputs != nil {
		b = append(append(b, `,"outputs":`...), c.outputs...)
	}
	parameters := c.parameters
	if len(keys) > 1 && c.endpoint.Keys != KeyNone {
		parameters = make(map[string]json.RawMessage, len(c.parameters)+1)
		for name, v := range c.parameters {
			parameters[name] = v
		}
		list, _ := json.Marshal(keys) // strings have a form in JSON
		if c.endpoint.Keys == KeyText {
			list = appendString(nil, string(list))
		}
		parameters["idempotency_keys"] = list
	}
	if len(parameters) > 0 {
		p, _ := json.Marshal(parameters) // its values are JSON
		b = append(append(b, `,"parameters":`...), p...)
	}
	return append(b, '}')
}

// Check asks the server for the model's metadata and holds the codec against it. An
// error is a *model.Failure if the server does not say, and has the code
// model.CodeAccess if the model is another.
func (c *Client[In, Out]) Check(ctx context.Context) error {
	body, err := c.rest.Do(ctx, rest.Request{Method: "GET", Path: c.path})
	if err != nil {
		return err
	}
	var m struct {
		Inputs  []Meta `json:"inputs"`
		Outputs []Meta `json:"outputs"`
	}
	if err := rest.Decode(body, &m); err != nil {
		return rest.Invalid(err, "the answer of %s is no metadata of a model", c.rest.Host())
	}
	return c.codec.Check(c.endpoint.Model, m.Inputs, m.Outputs)
}

// Meta is what a server says of a tensor. A dimension of -1 may vary.
type Meta struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"`
	Shape    []int64 `json:"shape"`
}

// Check holds the codec against what a server says of a model's tensors. Its error
// has the code model.CodeAccess and names all differences. A model with no metadata
// passes.
func (c *Codec[In, Out]) Check(where string, inputs, outputs []Meta) error {
	var errs []error
	byName := map[string]*Meta{}
	for i := range inputs {
		byName[inputs[i].Name] = &inputs[i]
	}
	for _, col := range c.Inputs {
		m := byName[col.name]
		delete(byName, col.name)
		switch {
		case m == nil && len(inputs) > 0:
			errs = append(errs, fmt.Errorf("it has no input %s", col.name))
		case m != nil && m.Datatype != col.datatype:
			errs = append(errs, fmt.Errorf("its input %s is %s, not %s", col.name, m.Datatype, col.datatype))
		case m != nil && !fits(m.Shape, col.dims):
			errs = append(errs, fmt.Errorf("its input %s has the shape %v, which rows of %v do not fit", col.name, m.Shape, col.dims))
		}
	}
	for _, m := range inputs {
		if byName[m.Name] != nil {
			errs = append(errs, fmt.Errorf("it also has the input %s", m.Name))
		}
	}
	for _, name := range c.Outputs {
		found := len(outputs) == 0
		for _, m := range outputs {
			found = found || m.Name == name
		}
		if !found {
			errs = append(errs, fmt.Errorf("it has no output %s", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return rest.Error("the model on the server is not the one that is expected: "+err.Error(), where, "correct the columns, or the model's name and version")
	}
	return nil
}

// fits reports whether rows of the given dimensions fit a shape, with the dimension of
// the batch in it.
func fits(shape, dims []int64) bool {
	if len(shape) == 0 {
		return true
	}
	if len(shape) != len(dims)+1 {
		return false
	}
	for i, d := range shape[1:] {
		if d >= 0 && d != dims[i] {
			return false
		}
	}
	return true
}
