package clienttest

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	openai "github.com/sashabaranov/go-openai"

	"github.com/weirflow/weir/weirtest/fakemodel"
)

const question = "Does a weir raise the level of water?"

const contextLines = "Answer from these lines.\nWeirs hold back water.\nA weir raises the water level of a river.\nCats sleep."

var want = fakemodel.ChatAnswer("gpt", "1", []fakemodel.Message{{Role: "system", Content: contextLines}, {Role: "user", Content: question}})

func goOpenAI(s *fakemodel.Server) *openai.Client {
	c := openai.DefaultConfig("any key")
	c.BaseURL = s.URL() + "/v1"
	return openai.NewClientWithConfig(c)
}

func goOpenAIRequest() openai.ChatCompletionRequest {
	return openai.ChatCompletionRequest{Model: "gpt", Messages: []openai.ChatCompletionMessage{
		{Role: openai.ChatMessageRoleSystem, Content: contextLines},
		{Role: openai.ChatMessageRoleUser, MultiContent: []openai.ChatMessagePart{{Type: openai.ChatMessagePartTypeText, Text: question}}},
	}}
}

func TestGoOpenAI(t *testing.T) {
	s := fakemodel.Start(t, fakemodel.Script{})
	c := goOpenAI(s)
	res, err := c.CreateChatCompletion(t.Context(), goOpenAIRequest())
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Choices[0]; got.Message.Content != want || got.FinishReason != openai.FinishReasonStop || res.Usage.TotalTokens != res.Usage.PromptTokens+len(strings.Fields(want)) {
		t.Errorf("%+v, want %q", res, want)
	}
	req := goOpenAIRequest()
	req.StreamOptions = &openai.StreamOptions{IncludeUsage: true}
	stream, err := c.CreateChatCompletionStream(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	text, usage := "", 0
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, ch := range chunk.Choices {
			text += ch.Delta.Content
		}
		if chunk.Usage != nil {
			usage = chunk.Usage.CompletionTokens
		}
	}
	if text != want || usage != len(strings.Fields(want)) {
		t.Errorf("the stream holds %q, %d tokens", text, usage)
	}
	for _, format := range []openai.EmbeddingEncodingFormat{openai.EmbeddingEncodingFormatFloat, openai.EmbeddingEncodingFormatBase64} {
		vectors, err := c.CreateEmbeddings(t.Context(), openai.EmbeddingRequestStrings{
			Model: "e", Input: []string{"a weir", "a river"}, EncodingFormat: format, Dimensions: 16,
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(vectors.Data) != 2 || !slices.Equal(vectors.Data[1].Embedding, fakemodel.Embedding("e", "1", "a river", 16)) {
			t.Errorf("%s: %+v", format, vectors)
		}
	}
	if models, err := c.ListModels(t.Context()); err != nil || len(models.Models) != 0 {
		t.Errorf("%+v, %v", models, err)
	}
}

func TestGoOpenAIErrors(t *testing.T) {
	s := fakemodel.Start(t, fakemodel.Script{Phases: []fakemodel.Phase{
		{Calls: 1, Rules: []fakemodel.Rule{{Status: 429, Message: "slow down", RetryAfter: 2}}},
		{Calls: 1, Rules: []fakemodel.Rule{{Fault: fakemodel.Truncate}}},
		{Calls: 1, Rules: []fakemodel.Rule{{Fault: fakemodel.BadJSON}}},
	}})
	c := goOpenAI(s)
	_, err := c.CreateChatCompletion(t.Context(), goOpenAIRequest())
	if e := (*openai.APIError)(nil); !errors.As(err, &e) || e.HTTPStatusCode != http.StatusTooManyRequests || e.Message != "slow down" || e.Code != "rate_limit_exceeded" {
		t.Errorf("429: %v", err)
	}
	stream, err := c.CreateChatCompletionStream(t.Context(), goOpenAIRequest())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a stream that is cut off ends with %v", err)
	}
	if _, err := c.CreateEmbeddings(t.Context(), openai.EmbeddingRequestStrings{Model: "e", Input: []string{"x"}}); err == nil {
		t.Error("bad JSON is no error")
	}
}
