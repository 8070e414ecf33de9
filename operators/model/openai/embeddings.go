package openai

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/internal/rest"
)

// Embeddings turns inputs into texts and their vectors into predictions.
type Embeddings[In, Out any] struct {
	// Text is the text of an input. An empty one, which servers refuse, makes the call
	// fail without a request.
	Text func(in *In) string
	// Vector makes a prediction of a vector, which it may keep. An error makes the
	// answer invalid.
	Vector func(in *In, v []float32) (Out, error)
	// Dimensions is how many numbers a vector must have, and with Shorten also what
	// the server is asked for, which not all models can do. 0: as many as the first.
	Dimensions int
	Shorten    bool
	// KeyEach sends the idempotency key of each text in a header of its own, in their
	// order, instead of one key for all of them, which is another one when the texts are
	// put together in another way. That is some 80 bytes for each, and servers and
	// proxies take 8 to 64 KiB of headers.
	KeyEach bool
}

// EmbeddingsClient asks for embeddings. It implements model.Client.
type EmbeddingsClient[In, Out any] struct {
	rest  *rest.Client
	model string
	what  Embeddings[In, Out]
}

// NewEmbeddings returns a client. Errors have the code model.CodeAccess.
func NewEmbeddings[In, Out any](e Endpoint, what Embeddings[In, Out]) (*EmbeddingsClient[In, Out], error) {
	switch {
	case what.Text == nil || what.Vector == nil:
		return nil, rest.Error("the embeddings have no Text or no Vector", e.Model, "give both")
	case what.Dimensions < 0 || what.Shorten && what.Dimensions == 0:
		return nil, rest.Error(fmt.Sprintf("the embeddings have %d dimensions", what.Dimensions), e.Model, "give as many as the vectors are to have")
	}
	r, err := e.client()
	if err != nil {
		return nil, err
	}
	return &EmbeddingsClient[In, Out]{rest: r, model: e.Model, what: what}, nil
}

// Close closes connections that are not in use.
func (c *EmbeddingsClient[In, Out]) Close() { c.rest.Close() }

// Invoke implements model.Client by one request for all calls; when the server refuses
// it with 400, 413 or 422, the bad texts are found by sending halves. The tokens that the
// server counts are divided among the results by the length of their texts.
func (c *EmbeddingsClient[In, Out]) Invoke(ctx context.Context, calls []model.Call[In]) ([]model.Result[Out], error) {
	return rest.Split(ctx, calls, c.invoke)
}

func (c *EmbeddingsClient[In, Out]) invoke(ctx context.Context, calls []model.Call[In]) ([]model.Result[Out], error) {
	results := make([]model.Result[Out], len(calls))
	texts := make([]string, 0, len(calls))
	keys := make([]string, 0, len(calls))
	at := make([]int, 0, len(calls))
	for i := range calls {
		text := c.what.Text(&calls[i].In)
		if text == "" {
			results[i].Err = rest.Permanent(nil, "the input has no text to embed")
			continue
		}
		texts, keys, at = append(texts, text), append(keys, calls[i].Key), append(at, i)
	}
	if len(texts) == 0 {
		return results, nil
	}
	a, vectors, err := c.embed(ctx, texts, keys)
	if err != nil {
		return nil, err
	}
	tokens := split(max(0, a.Usage.PromptTokens), texts)
	for k, i := range at {
		r := &results[i]
		r.Version, r.Usage.InputTokens = a.Model, tokens[k]
		if err := rest.Finite(vectors[k]); err != nil {
			r.Err = rest.Invalid(err, "a vector is none")
			continue
		}
		out, err := c.what.Vector(&calls[i].In, vectors[k])
		if err != nil {
			r.Err = rest.Nonsense(err, "a vector makes no sense")
			continue
		}
		r.Out = out
	}
	return results, nil
}

type embeddings struct {
	Model string `json:"model"`
	Data  []struct {
		Index     int           `json:"index"`
		Embedding []jsonFloat32 `json:"embedding"`
	} `json:"data"`
	Usage usage    `json:"usage"`
	Error *problem `json:"error"`
}

// embed asks for the vectors of texts and returns them in their order. Numbers that
// are none are NaN.
func (c *EmbeddingsClient[In, Out]) embed(ctx context.Context, texts, keys []string) (*embeddings, [][]float32, error) {
	request := struct {
		Model          string   `json:"model"`
		Input          []string `json:"input"`
		EncodingFormat string   `json:"encoding_format"`
		Dimensions     int      `json:"dimensions,omitempty"`
	}{Model: c.model, Input: texts, EncodingFormat: "float"}
	if c.what.Shorten {
		request.Dimensions = c.what.Dimensions
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, nil, rest.Permanent(err, "the texts have no form in JSON")
	}
	if body, err = c.rest.Do(ctx, rest.Request{Path: "embeddings", Body: body, Keys: keys, KeyEach: c.what.KeyEach}); err != nil {
		return nil, nil, err
	}
	var a embeddings
	if err := rest.Decode(body, &a); err != nil {
		return nil, nil, rest.Invalid(err, "the answer of %s is no list of embeddings", c.rest.Host())
	}
	if a.Error != nil {
		return nil, nil, a.Error.failure(c.rest.Host())
	}
	if len(a.Data) != len(texts) {
		return nil, nil, rest.Invalid(nil, "the answer of %s has %d embeddings for %d texts", c.rest.Host(), len(a.Data), len(texts))
	}
	vectors := make([][]float32, len(texts))
	width := c.what.Dimensions
	for i := range a.Data {
		d := &a.Data[i]
		if width == 0 {
			width = len(d.Embedding)
		}
		switch {
		case d.Index < 0 || d.Index >= len(texts) || vectors[d.Index] != nil:
			return nil, nil, rest.Invalid(nil, "the answer of %s has index %d twice or too many", c.rest.Host(), d.Index)
		case len(d.Embedding) != width || width == 0:
			return nil, nil, rest.Invalid(nil, "the answer of %s has a vector of %d numbers, where %d are due", c.rest.Host(), len(d.Embedding), width)
		}
		v := make([]float32, width)
		for k, f := range d.Embedding {
			v[k] = float32(f)
		}
		vectors[d.Index] = v
	}
	return &a, vectors, nil
}

// split divides a number of tokens by the lengths of texts, to the last token.
func split(tokens int64, texts []string) []int64 {
	out := make([]int64, len(texts))
	total := 0.0
	for _, t := range texts {
		total += float64(len(t))
	}
	seen, given := 0.0, int64(0)
	for i, t := range texts {
		seen += float64(len(t))
		upTo := int64(float64(tokens) * (seen / total))
		out[i] = upTo - given
		given = upTo
	}
	return out
}
