// Package tfserving asks models that are served by the REST interface of TensorFlow
// Serving, by its predict method in rows.
//
//	client, err := tfserving.New(
//		tfserving.Endpoint{URL: "https://models.example.com", Model: "churn", Label: "stable"},
//		tfserving.Codec[Features, float64]{Instance: func(f *Features) any { return f.Row() }})
//
// Each Invoke is one request, with an instance for each call. When the server refuses it
// with 400, 413 or 422, the bad instances are found by sending halves.
//
// # Idempotency keys
//
// The header Idempotency-Key has the key of the call, or a hash of all keys when there
// are several: another one when the calls are put together in another way, as after a
// failure of some. With Endpoint.KeyEach the header comes once for each call.
//
// # Not here
//
// The classify and regress methods, the columnar form ("inputs"), and gRPC.
package tfserving

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/internal/rest"
)

// Endpoint is a model on a server.
type Endpoint struct {
	// URL of the server, to which /v1/models/… is joined.
	URL string
	// Model, and either the Version or the Label of one, or neither: the server then
	// takes the newest.
	Model, Version, Label string
	// Signature is the signature of the model; "" is the server's default.
	Signature string
	// Access says how the server may be reached.
	Access model.Access
	// KeyEach sends the idempotency key of each call of a batch in a header of its own,
	// in their order. That is some 80 bytes for each, and servers and proxies take 8 to
	// 64 KiB of headers.
	KeyEach bool
}

// Codec turns inputs into instances and predictions into those of the job.
type Codec[In, Out any] struct {
	// Instance makes what stands for an input in the request: what encoding/json can
	// encode, such as a number, a slice, or a map of those by the name of the tensor.
	// What it cannot, NaN among it, makes the call fail without a request.
	Instance func(in *In) any
	// Decode makes a prediction of its JSON, in which null stands for NaN and
	// infinities. An error makes the answer invalid. nil: as encoding/json does, except
	// that null anywhere is an error.
	Decode func(prediction []byte) (Out, error)
}

// Bytes are binary data in an instance.
type Bytes []byte

// MarshalJSON implements json.Marshaler.
func (b Bytes) MarshalJSON() ([]byte, error) {
	return []byte(`{"b64":"` + base64.StdEncoding.EncodeToString(b) + `"}`), nil
}

// Client asks a model. It implements model.Client.
type Client[In, Out any] struct {
	rest     *rest.Client
	endpoint Endpoint
	codec    Codec[In, Out]
	path     string
}

// New returns a client. Errors have the code model.CodeAccess.
func New[In, Out any](e Endpoint, codec Codec[In, Out]) (*Client[In, Out], error) {
	if codec.Instance == nil {
		return nil, rest.Error("the codec has no Instance", e.Model, "give a function that makes an instance of an input")
	}
	if codec.Decode == nil {
		codec.Decode = func(b []byte) (out Out, err error) {
			err = rest.DecodeValue(b, &out)
			return out, err
		}
	}
	parts := []string{"v1", "models", e.Model}
	switch {
	case e.Version != "" && e.Label != "":
		return nil, rest.Error("the endpoint has a version and a label", e.Model, "give one of them")
	case e.Version != "":
		parts = append(parts, "versions", e.Version)
	case e.Label != "":
		parts = append(parts, "labels", e.Label)
	}
	path, err := rest.Path(parts...)
	if err != nil {
		return nil, err
	}
	r, err := rest.New(e.URL, e.Access)
	if err != nil {
		return nil, err
	}
	return &Client[In, Out]{rest: r, endpoint: e, codec: codec, path: path + ":predict"}, nil
}

// Close closes connections that are not in use.
func (c *Client[In, Out]) Close() { c.rest.Close() }

// Invoke implements model.Client by one request, unless the server refuses that. The
// server does not say which version has answered: that of results is the endpoint's.
func (c *Client[In, Out]) Invoke(ctx context.Context, calls []model.Call[In]) ([]model.Result[Out], error) {
	return rest.Split(ctx, calls, c.invoke)
}

func (c *Client[In, Out]) invoke(ctx context.Context, calls []model.Call[In]) ([]model.Result[Out], error) {
	results := make([]model.Result[Out], len(calls))
	var instances []json.RawMessage
	var keys []string
	var at []int
	for i := range calls {
		b, err := json.Marshal(c.codec.Instance(&calls[i].In))
		if err != nil {
			results[i].Err = rest.Permanent(err, "the input has no form in JSON")
			continue
		}
		instances, keys, at = append(instances, b), append(keys, calls[i].Key), append(at, i)
	}
	if len(at) == 0 {
		return results, nil
	}
	predictions, err := c.predict(ctx, instances, keys)
	if err != nil {
		return nil, err
	}
	for k, i := range at {
		results[i].Version = c.endpoint.Version
		out, err := c.codec.Decode(predictions[k])
		if err != nil {
			results[i].Err = rest.Nonsense(err, "a prediction makes no sense")
			continue
		}
		results[i].Out = out
	}
	return results, nil
}

func (c *Client[In, Out]) predict(ctx context.Context, instances []json.RawMessage, keys []string) ([]json.RawMessage, error) {
	body, err := json.Marshal(struct {
		Signature string            `json:"signature_name,omitempty"`
		Instances []json.RawMessage `json:"instances"`
	}{c.endpoint.Signature, instances})
	if err != nil {
		return nil, rest.Permanent(err, "the request has no form in JSON")
	}
	if body, err = c.rest.Do(ctx, rest.Request{Path: c.path, Body: body, Keys: keys, KeyEach: c.endpoint.KeyEach}); err != nil {
		return nil, err
	}
	var answer struct {
		Predictions json.RawMessage `json:"predictions"`
		Error       string          `json:"error"`
	}
	var predictions []json.RawMessage
	err = rest.Decode(body, &answer)
	switch {
	case err != nil:
	case answer.Error != "":
		err = errors.New(rest.Line(answer.Error, ""))
	case !bytes.HasPrefix(answer.Predictions, []byte("[")):
		err = errors.New("it has no predictions")
	default:
		err = json.Unmarshal(answer.Predictions, &predictions)
	}
	if err != nil {
		return nil, rest.Invalid(err, "the answer of %s is none", c.rest.Host())
	}
	if len(predictions) != len(instances) {
		return nil, rest.Invalid(nil, "the answer of %s has %d predictions for %d instances", c.rest.Host(), len(predictions), len(instances))
	}
	return predictions, nil
}
