package clienttest

import (
	"errors"
	"net/http"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/weirflow/weir/weirtest/fakemodel"
)

func official(s *fakemodel.Server) openai.Client {
	return openai.NewClient(option.WithBaseURL(s.URL()+"/v1"), option.WithAPIKey("any key"))
}

func officialRequest() openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: "gpt", Messages: []openai.ChatCompletionMessageParamUnion{
		openai.SystemMessage(contextLines), openai.UserMessage(question),
	}}
}

func TestOpenAI(t *testing.T) {
	s := fakemodel.Start(t, fakemodel.Script{Models: map[string]fakemodel.Model{"gpt": {}}})
	c := official(s)
	res, err := c.Chat.Completions.New(t.Context(), officialRequest(), option.WithHeader("Idempotency-Key", "k1"))
	if err != nil {
		t.Fatal(err)
	}
	if res.Choices[0].Message.Content != want || res.Choices[0].FinishReason != "stop" {
		t.Errorf("%+v, want %q", res, want)
	}
	if got := s.Count("k1"); got.Calls != 1 || got.Processed != 1 {
		t.Errorf("the key counts %+v", got)
	}
	req := officialRequest()
	req.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := c.Chat.Completions.NewStreaming(t.Context(), req)
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		if !acc.AddChunk(stream.Current()) {
			t.Errorf("a chunk does not fit: %s", stream.Current().RawJSON())
		}
	}
	if err := stream.Err(); err != nil || acc.Choices[0].Message.Content != want || acc.Usage.TotalTokens != res.Usage.TotalTokens {
		t.Errorf("the stream holds %+v, %v", acc, err)
	}
	vectors, err := c.Embeddings.New(t.Context(), openai.EmbeddingNewParams{
		Model: "e", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a weir", "a river"}}, Dimensions: openai.Int(16),
	})
	if err != nil {
		t.Fatal(err)
	}
	for j, x := range fakemodel.Embedding("e", "1", "a river", 16) {
		if float32(vectors.Data[1].Embedding[j]) != x {
			t.Fatalf("the embedding is %v", vectors.Data[1].Embedding)
		}
	}
	models, err := c.Models.List(t.Context())
	if err != nil || len(models.Data) != 1 || models.Data[0].ID != "gpt" {
		t.Errorf("%+v, %v", models, err)
	}
	if m, err := c.Models.Get(t.Context(), "gpt"); err != nil || m.ID != "gpt" {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestOpenAIRetries: the client takes the server at its word and tries again.
func TestOpenAIRetries(t *testing.T) {
	s := fakemodel.Start(t, fakemodel.Script{Phases: []fakemodel.Phase{
		{Calls: 1, Rules: []fakemodel.Rule{{Status: 429, RetryAfter: 0.01}}},
		{Calls: 1, Rules: []fakemodel.Rule{{Status: 503, RetryAfter: 0.01}}},
		{Calls: 1},
		{Rules: []fakemodel.Rule{{Status: 400, Message: "no"}}},
	}})
	c := official(s)
	if _, err := c.Chat.Completions.New(t.Context(), officialRequest(), option.WithHeader("Idempotency-Key", "k")); err != nil {
		t.Fatal(err)
	}
	if got := s.Count("k"); got.Calls != 3 || got.Processed != 1 {
		t.Errorf("the key counts %+v", got)
	}
	_, err := c.Chat.Completions.New(t.Context(), officialRequest())
	if e := (*openai.Error)(nil); !errors.As(err, &e) || e.StatusCode != http.StatusBadRequest || e.Message != "no" {
		t.Errorf("400: %v", err)
	}
}
