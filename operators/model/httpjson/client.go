// Package httpjson asks models that are served by HTTP and JSON of any form: the body
// of a request comes from a template or a function, and the prediction is what a JSON
// pointer finds in the answer, or what a function makes of it.
//
//	client, err := httpjson.New(
//		httpjson.Endpoint{URL: "https://models.example.com/score"},
//		httpjson.Codec[Ticket, float64]{
//			Template: `{"text": {{.Text}}, "tags": [{{range $i, $t := .Tags}}{{if $i}},{{end}}{{$t}}{{end}}]}`,
//			Pointer:  "/result/0/score",
//		})
//
// Each call is one request, a bounded number of them at once. The address comes from
// the endpoint alone: no part of it from an input.
//
// # Templates
//
// A template is one of text/template, whose data is the input. What it prints becomes
// JSON by its place: outside of quotes a value, as encoding/json writes it, quotes and
// all; between quotes the inside of a string. An input cannot change the structure of
// the body therefore. A body that is no JSON makes the call fail without a request.
// Templates that call others ({{template}}, {{block}}) or leave loops early ({{break}},
// {{continue}}) are refused.
//
// # Not here
//
// Several inputs in a request, and bodies that are no JSON.
package httpjson

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/internal/rest"
)

// Endpoint is where a model is asked.
type Endpoint struct {
	// URL that requests go to.
	URL string
	// Method is POST, PUT or PATCH; "" is POST.
	Method string
	// Access says how the server may be reached.
	Access model.Access
}

// DefaultConcurrency is how many requests an Invoke makes at once by default.
const DefaultConcurrency = 8

// Codec turns inputs into bodies and answers into predictions.
type Codec[In, Out any] struct {
	// Template makes the body of a request; or Body does, whose errors make the call
	// fail for good.
	Template string
	Body     func(in *In) ([]byte, error)
	// Pointer leads to the prediction in the answer, as RFC 6901 has it; "" is all of
	// the answer. It is decoded as by encoding/json, except that null anywhere in it is
	// an error. Or Decode makes a prediction of the whole body of an answer, whose
	// errors make it invalid.
	Pointer string
	Decode  func(body []byte) (Out, error)
	// VersionPointer leads to the version of the model, a string or a number; "": there
	// is none. An answer without it is invalid.
	VersionPointer string
	// Concurrency is how many requests an Invoke makes at once; 0 is
	// DefaultConcurrency.
	Concurrency int
}

// Client asks a model. It implements model.Client.
type Client[In, Out any] struct {
	rest             *rest.Client
	method           string
	codec            Codec[In, Out]
	pointer, version pointer
}

// New returns a client. Errors have the code model.CodeAccess.
func New[In, Out any](e Endpoint, codec Codec[In, Out]) (*Client[In, Out], error) {
	switch {
	case (codec.Template == "") == (codec.Body == nil):
		return nil, rest.Error("the codec needs either Template or Body", e.URL, "give one of them")
	case codec.Pointer != "" && codec.Decode != nil:
		return nil, rest.Error("the codec has Pointer and Decode", e.URL, "give one of them")
	case codec.Concurrency < 0:
		return nil, rest.Error(fmt.Sprintf("the codec makes %d requests at once", codec.Concurrency), e.URL, "leave Concurrency out for the default")
	case e.Method != "" && e.Method != "POST" && e.Method != "PUT" && e.Method != "PATCH":
		return nil, rest.Error(fmt.Sprintf("the method is %q", e.Method), e.URL, "use POST, PUT or PATCH")
	case codec.Concurrency == 0:
		codec.Concurrency = DefaultConcurrency
	}
	c := &Client[In, Out]{method: e.Method, codec: codec}
	var err error
	if c.pointer, err = parsePointer(codec.Pointer); err == nil {
		c.version, err = parsePointer(codec.VersionPointer)
	}
	if err != nil {
		return nil, rest.Error(err.Error(), e.URL, "write a pointer such as /result/0/score")
	}
	if codec.Template != "" {
		t, err := parseTemplate(codec.Template)
		if err != nil {
			return nil, rest.Error("the template cannot be used: "+err.Error(), e.URL, "see the documentation of package httpjson")
		}
		c.codec.Body = func(in *In) ([]byte, error) {
			var b bytes.Buffer
			err := t.Execute(&b, in)
			return b.Bytes(), err
		}
	}
	if c.rest, err = rest.New(e.URL, e.Access); err != nil {
		return nil, err
	}
	return c, nil
}

// Close closes connections that are not in use.
func (c *Client[In, Out]) Close() { c.rest.Close() }

// Invoke implements model.Client by one request for each call. When the server takes
// no more of them, the calls that have not been sent yet fail in the same way without
// asking it.
func (c *Client[In, Out]) Invoke(ctx context.Context, calls []model.Call[In]) ([]model.Result[Out], error) {
	results := make([]model.Result[Out], len(calls))
	var limited atomic.Pointer[model.Failure]
	rest.Each(len(calls), c.codec.Concurrency, func(i int) {
		r := &results[i]
		if f := limited.Load(); f != nil {
			r.Err = f
			return
		}
		r.Out, r.Version, r.Err = c.one(ctx, &calls[i])
		if f, ok := errors.AsType[*model.Failure](r.Err); ok && f.Kind == model.Limited {
			limited.Store(f)
		}
	})
	return results, nil
}

func (c *Client[In, Out]) one(ctx context.Context, call *model.Call[In]) (out Out, version string, err error) {
	body, err := c.codec.Body(&call.In)
	if err != nil {
		return out, "", rest.Refused(err, "there is no body for the input")
	}
	if !json.Valid(body) {
		return out, "", rest.Permanent(nil, "the body for the input is no JSON")
	}
	answer, err := c.rest.Do(ctx, rest.Request{Method: c.method, Body: body, Keys: []string{call.Key}})
	if err != nil {
		return out, "", err
	}
	if c.codec.VersionPointer != "" {
		if version, err = c.versionOf(answer); err != nil {
			return out, "", rest.Invalid(err, "the answer of %s has no version", c.rest.Host())
		}
	}
	var value Out
	if c.codec.Decode != nil {
		value, err = c.codec.Decode(answer)
	} else {
		var raw []byte
		if raw, err = c.pointer.find(answer); err == nil {
			err = rest.DecodeValue(raw, &value)
		}
	}
	if err != nil {
		return out, version, rest.Nonsense(err, "the answer of %s makes no sense", c.rest.Host())
	}
	return value, version, nil
}

func (c *Client[In, Out]) versionOf(answer []byte) (string, error) {
	raw, err := c.version.find(answer)
	if err != nil {
		return "", err
	}
	var s string
	if json.Unmarshal(raw, &s) == nil && s != "" {
		return s, nil
	}
	var n json.Number
	if err := json.Unmarshal(raw, &n); err != nil || n == "" {
		return "", errors.New("it is neither a string nor a number")
	}
	return n.String(), nil
}
