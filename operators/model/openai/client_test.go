package openai_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/openai"
)

var loopback = model.Access{Allow: []string{"loopback"}}

func prompt(s *string) (openai.Request, error) {
	if *s == "unaskable" {
		return openai.Request{}, errors.New("unaskable")
	}
	return openai.Request{Messages: []openai.Message{openai.System("be brief"), openai.User(*s)}}, nil
}

func reply(_ *string, c *openai.Completion) (openai.Completion, error) {
	if c.Content == "nonsense" {
		return *c, errors.New("refused")
	}
	return *c, nil
}

func newChat(t *testing.T, url string, change func(*openai.Chat[string, openai.Completion])) *openai.ChatClient[string, openai.Completion] {
	t.Helper()
	chat := openai.Chat[string, openai.Completion]{Prompt: prompt, Reply: reply}
	if change != nil {
		change(&chat)
	}
	c, err := openai.NewChat(openai.Endpoint{URL: url + "/v1", Model: "gpt", Access: model.Access{Allow: loopback.Allow, MaxResponse: 6 << 20}}, chat)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func serve(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

func calls(in ...string) []model.Call[string] {
	out := make([]model.Call[string], len(in))
	for i := range in {
		out[i] = model.Call[string]{Key: fmt.Sprintf("job/op/%d", i), Attempt: 2, In: in[i]}
	}
	return out
}

func wantFailure(t *testing.T, err error, kind model.Kind, says string) {
	t.Helper()
	f, ok := err.(*model.Failure)
	if !ok || f.Kind != kind || !strings.Contains(f.Error(), says) {
		t.Errorf("error %T %v, want kind %d, %q", err, err, kind, says)
	}
}

func wantJSON(t *testing.T, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("JSON %s, want %s", got, want)
	}
}

const completion = `{"id":"x","object":"chat.completion","created":1,"model":"gpt-2026","choices":[{"index":0,"message":{"role":"assistant","content":"hi","refusal":null},
	"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`

func TestChat(t *testing.T) {
	var body []byte
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/chat/completions" || r.Header.Get("Idempotency-Key") != "job/op/0" || r.Header.Get("Accept") != "application/json" {
			t.Errorf("%s %v", r.URL, r.Header)
		}
		body, _ = io.ReadAll(r.Body)
		checkSchema(t, "CreateChatCompletionRequest", body)
		io.WriteString(w, completion)
	})
	results, err := newChat(t, url, nil).Invoke(t.Context(), calls("hello"))
	want := []model.Result[openai.Completion]{{
		Out:     openai.Completion{Content: "hi", FinishReason: "stop", Model: "gpt-2026", Usage: model.Usage{InputTokens: 9, OutputTokens: 2}},
		Version: "gpt-2026", Usage: model.Usage{InputTokens: 9, OutputTokens: 2},
	}}
	if err != nil || !reflect.DeepEqual(results, want) {
		t.Errorf("%+v, %v", results, err)
	}
	wantJSON(t, body, `{"model":"gpt","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hello"}]}`)
	zero, seed := 0.0, int64(7)
	c := newChat(t, url, func(c *openai.Chat[string, openai.Completion]) {
		c.Prompt = func(s *string) (openai.Request, error) {
			return openai.Request{
				Messages:    []openai.Message{openai.User(*s), openai.Assistant("yes?")},
				Temperature: &zero, TopP: &zero, MaxTokens: 5, MaxCompletionTokens: 6, Stop: []string{"\n"}, Seed: &seed, User: "u",
				ResponseFormat: json.RawMessage(`{"type":"json_object"}`),
				Tools:          json.RawMessage(`[{"type":"function","function":{"name":"f"}}]`),
				Extra:          map[string]any{"max_tokens": 4, "top_logprobs": 2, "logprobs": true},
			}, nil
		}
	})
	if _, err := c.Invoke(t.Context(), calls("hello")); err != nil {
		t.Fatal(err)
	}
	wantJSON(t, body, `{"model":"gpt","messages":[{"role":"user","content":"hello"},{"role":"assistant","content":"yes?"}],"temperature":0,"top_p":0,
		"max_tokens":4,"max_completion_tokens":6,"stop":["\n"],"seed":7,"user":"u","response_format":{"type":"json_object"},
		"tools":[{"type":"function","function":{"name":"f"}}],"top_logprobs":2,"logprobs":true}`)
}

func TestChatAnswersThatMakeNoSense(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		kind   model.Kind
		says   string
	}{
		"no JSON":      {"<html>", model.Invalid, "no chat completion"},
		"nothing":      {"", model.Invalid, "no chat completion"},
		"no choices":   {`{"choices":[]}`, model.Invalid, "0 choices"},
		"two choices":  {`{"choices":[{"message":{"content":"a"}},{"message":{"content":"b"}}]}`, model.Invalid, "2 choices"},
		"no content":   {`{"choices":[{"message":{"role":"assistant","content":null}}]}`, model.Invalid, "neither"},
		"number":       {`{"choices":[{"message":{"content":7}}]}`, model.Invalid, "no chat completion"},
		"no name":      {`{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1","function":{"arguments":"{}"}}]}}]}`, model.Invalid, "without a name"},
		"Reply":        {strings.Replace(completion, `"hi"`, `"nonsense"`, 1), model.Invalid, "refused"},
		"error":        {`{"error":{"message":"down","type":"server_error"}}`, model.Unknown, "down"},
		"error, limit": {`{"error":{"message":"slow","code":429}}`, model.Limited, "slow"},
		"error, input": {`{"error":{"message":"bad","type":"invalid_request_error"}}`, model.Permanent, "bad"},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, test.answer) })
			results, err := newChat(t, url, nil).Invoke(t.Context(), calls("hello"))
			if err != nil {
				t.Fatal(err)
			}
			wantFailure(t, results[0].Err, test.kind, test.says)
			if results[0].Out.Content != "" {
				t.Error("there is an answer, too")
			}
			if name == "Reply" && results[0].Usage.InputTokens != 9 {
				t.Errorf("usage %+v", results[0].Usage)
			}
		})
	}
}

func TestChatsFailAlone(t *testing.T) {
	var requests, running, most atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		n := running.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		defer running.Add(-1)
		b, _ := io.ReadAll(r.Body)
		if strings.Contains(string(b), "long") {
			http.Error(w, `{"error":{"message":"too long"}}`, 400)
			return
		}
		time.Sleep(10 * time.Millisecond)
		io.WriteString(w, strings.Replace(completion, `"hi"`, `"to `+r.Header.Get("Idempotency-Key")+`"`, 1))
	})
	in := make([]string, 20)
	in[3], in[5] = "long", "unaskable"
	results, err := newChat(t, url, func(c *openai.Chat[string, openai.Completion]) { c.Concurrency = 3 }).Invoke(t.Context(), calls(in...))
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		switch i {
		case 3:
			wantFailure(t, r.Err, model.Permanent, "too long")
		case 5:
			wantFailure(t, r.Err, model.Permanent, "unaskable")
		default:
			if r.Err != nil || r.Out.Content != fmt.Sprintf("to job/op/%d", i) {
				t.Errorf("%d: %+v", i, r)
			}
		}
	}
	if requests.Load() != 19 || most.Load() != 3 {
		t.Errorf("%d requests, %d at once", requests.Load(), most.Load())
	}
}

func TestLimitStopsTheRest(t *testing.T) {
	var requests atomic.Int32
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 3 {
			w.Header().Set("X-Ratelimit-Reset-Tokens", "1m30s")
			w.Header().Set("X-Ratelimit-Remaining-Tokens", "0")
			http.Error(w, `{"error":{"message":"slow down"}}`, http.StatusTooManyRequests)
			return
		}
		io.WriteString(w, completion)
	})
	results, err := newChat(t, url, func(c *openai.Chat[string, openai.Completion]) { c.Concurrency = 1 }).Invoke(t.Context(), calls(make([]string, 9)...))
	if err != nil || requests.Load() != 3 {
		t.Fatalf("%v after %d requests", err, requests.Load())
	}
	for i, r := range results {
		if i < 2 {
			if r.Err != nil {
				t.Errorf("%d: %v", i, r.Err)
			}
			continue
		}
		wantFailure(t, r.Err, model.Limited, "slow down")
		if f, _ := errors.AsType[*model.Failure](r.Err); f.RetryAfter != 90*time.Second {
			t.Errorf("%d waits %v", i, f.RetryAfter)
		}
	}
}

// stream writes events, each as one write of its own.
func stream(w http.ResponseWriter, events ...string) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	for _, e := range events {
		io.WriteString(w, e)
		w.(http.Flusher).Flush()
	}
}

func piece(text string) string {
	b, _ := json.Marshal(text)
	return fmt.Sprintf("data: {\"model\":\"gpt-2026\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%s},\"finish_reason\":null}]}\n\n", b)
}

const (
	stop  = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
	usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n"
	done  = "data: [DONE]\n\n"
)

func TestStream(t *testing.T) {
	var events []string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		checkSchema(t, "CreateChatCompletionRequest", b)
		wantJSON(t, b, `{"model":"gpt","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hello"}],"stream":true,"stream_options":{"include_usage":true}}`)
		if r.Header.Get("Accept") != "text/event-stream" {
			t.Errorf("%v", r.Header)
		}
		stream(w, events...)
	})
	for name, test := range map[string]struct {
		events []string
		deltas []string
		want   openai.Completion
	}{
		"plain":         {[]string{piece(""), piece("he"), piece("y"), stop, usage, done}, []string{"he", "y"}, openai.Completion{Content: "hey", FinishReason: "stop", Model: "gpt-2026", Usage: model.Usage{InputTokens: 9, OutputTokens: 2}}},
		"cut anywhere":  {strings.SplitAfter(piece("h\né")+stop+done, ""), []string{"h\né"}, openai.Completion{Content: "h\né", FinishReason: "stop", Model: "gpt-2026"}},
		"CR LF":         {[]string{strings.ReplaceAll(piece("a")+stop+done, "\n", "\r\n")}, []string{"a"}, openai.Completion{Content: "a", FinishReason: "stop", Model: "gpt-2026"}},
		"comments":      {[]string{": wait\n\n", "event: x\nid: 1\nretry: 5\n" + piece("a"), ":\n", stop, done}, []string{"a"}, openai.Completion{Content: "a", FinishReason: "stop", Model: "gpt-2026"}},
		"several lines": {[]string{"data:{\"choices\":[\ndata:{\"delta\":{\"content\":\"a\"}}]}\n\n", done}, []string{"a"}, openai.Completion{Content: "a"}},
		"no done":       {[]string{piece("a"), stop}, []string{"a"}, openai.Completion{Content: "a", FinishReason: "stop", Model: "gpt-2026"}},
		"long line":     {[]string{piece(strings.Repeat("x", 100_000)), done}, []string{strings.Repeat("x", 100_000)}, openai.Completion{Content: strings.Repeat("x", 100_000), Model: "gpt-2026"}},
		"tools": {
			[]string{
				`data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]}}]}` + "\n\n",
				`data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}},{"index":1,"id":"c2","function":{"name":"g","arguments":"{}"}}]}}]}` + "\n\n",
				`data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]},"finish_reason":"tool_calls"}]}` + "\n\n", done,
			}, nil,
			openai.Completion{FinishReason: "tool_calls", ToolCalls: []openai.ToolCall{
				{ID: "c1", Type: "function", Function: openai.ToolFunction{Name: "f", Arguments: `{"a":1}`}},
				{ID: "c2", Type: "function", Function: openai.ToolFunction{Name: "g", Arguments: `{}`}},
			}},
		},
		"refusal": {[]string{`data: {"choices":[{"delta":{"refusal":"I"}}]}` + "\n\n", `data: {"choices":[{"delta":{"refusal":" won't"}}]}` + "\n\n", done}, nil, openai.Completion{Refusal: "I won't"}},
	} {
		t.Run(name, func(t *testing.T) {
			events = test.events
			var mu sync.Mutex
			var deltas []string
			c := newChat(t, url, func(c *openai.Chat[string, openai.Completion]) {
				c.Stream = true
				c.Delta = func(in *string, d openai.Delta) {
					mu.Lock()
					defer mu.Unlock()
					if *in != "hello" || d.Key != "job/op/0" || d.Attempt != 2 || d.Index != len(deltas) {
						t.Errorf("delta %+v of %q", d, *in)
					}
					deltas = append(deltas, d.Content)
				}
			})
			results, err := c.Invoke(t.Context(), calls("hello"))
			if err != nil || results[0].Err != nil || !reflect.DeepEqual(results[0].Out, test.want) {
				t.Errorf("%+v, %v", results, err)
			}
			if !reflect.DeepEqual(deltas, test.deltas) {
				t.Errorf("deltas %q", deltas)
			}
		})
	}
}

func TestStreamBreaks(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		kind    model.Kind
		says    string
	}{
		"ends early":     {func(w http.ResponseWriter, _ *http.Request) { stream(w, piece("a")) }, model.Unknown, "before the answer did"},
		"ends in a line": {func(w http.ResponseWriter, _ *http.Request) { stream(w, piece("a"), strings.TrimSuffix(stop, "\n\n")) }, model.Unknown, "before the answer did"},
		"ends in event":  {func(w http.ResponseWriter, _ *http.Request) { stream(w, piece("a"), strings.TrimSuffix(stop, "\n")) }, model.Unknown, "before the answer did"},
		"nothing":        {func(w http.ResponseWriter, _ *http.Request) { stream(w) }, model.Unknown, "before the answer did"},
		"connection cut": {func(w http.ResponseWriter, _ *http.Request) { stream(w, piece("a")); panic(http.ErrAbortHandler) }, model.Unknown, "within its answer"},
		"no events":      {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, completion) }, model.Invalid, "no stream"},
		"only done":      {func(w http.ResponseWriter, _ *http.Request) { stream(w, done) }, model.Invalid, "neither"},
		"garbage":        {func(w http.ResponseWriter, _ *http.Request) { stream(w, piece("a"), "data: {\n\n") }, model.Invalid, "no chat completion"},
		"other choice": {func(w http.ResponseWriter, _ *http.Request) {
			stream(w, `data: {"choices":[{"index":1,"delta":{"content":"a"}}]}`+"\n\n")
		}, model.Invalid, "several choices"},
		"tools unordered": {func(w http.ResponseWriter, _ *http.Request) {
			stream(w, `data: {"choices":[{"delta":{"content":"a","tool_calls":[{"index":5}]}}]}`+"\n\n", stop, done)
		}, model.Invalid, "out of order"},
		"error": {func(w http.ResponseWriter, _ *http.Request) {
			stream(w, piece("a"), `data: {"error":{"message":"died","code":500}}`+"\n\n")
		}, model.Unknown, "died"},
		"503": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "busy", http.StatusServiceUnavailable) }, model.Unavailable, "busy"},
		"endless line": {func(w http.ResponseWriter, _ *http.Request) {
			stream(w, "data: ")
			for range 5000 {
				if _, err := io.WriteString(w, strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}, model.Invalid, "a line"},
		"endless event": {func(w http.ResponseWriter, _ *http.Request) {
			for range 5000 {
				stream(w, "data: "+strings.Repeat("x", 1000)+"\n")
			}
		}, model.Invalid, "an event"},
		"too much": {func(w http.ResponseWriter, _ *http.Request) {
			for range 70 {
				stream(w, piece(strings.Repeat("x", 100_000)))
			}
		}, model.Invalid, "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, test.handler)
			results, err := newChat(t, url, func(c *openai.Chat[string, openai.Completion]) { c.Stream = true }).Invoke(t.Context(), calls("hello"))
			if err != nil {
				t.Fatal(err)
			}
			wantFailure(t, results[0].Err, test.kind, test.says)
		})
	}
}

func TestContextEndsStream(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, bufio.NewReader(r.Body))
		stream(w, piece("a"))
		<-r.Context().Done()
	})
	c := newChat(t, url, func(c *openai.Chat[string, openai.Completion]) {
		c.Stream, c.Concurrency = true, 1
		c.Delta = func(*string, openai.Delta) { cancel() }
	})
	results, err := c.Invoke(ctx, calls("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, results[0].Err, model.Unknown, "canceled")
	wantFailure(t, results[1].Err, model.Unavailable, "canceled") // was not sent
}

func newEmbeddings(t *testing.T, url string, change func(*openai.Embeddings[string, []float32])) *openai.EmbeddingsClient[string, []float32] {
	t.Helper()
	what := openai.Embeddings[string, []float32]{
		Text:   func(s *string) string { return *s },
		Vector: func(_ *string, v []float32) ([]float32, error) { return v, nil },
	}
	if change != nil {
		change(&what)
	}
	c, err := openai.NewEmbeddings(openai.Endpoint{URL: url + "/v1/", Model: "emb", Access: loopback}, what)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestEmbeddings(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		checkSchema(t, "CreateEmbeddingRequest", b)
		if r.URL.Path != "/v1/embeddings" || len(r.Header.Get("Idempotency-Key")) != 32 {
			t.Errorf("%s %v", r.URL, r.Header)
		}
		wantJSON(t, b, `{"model":"emb","input":["a","bbb","<é>"],"encoding_format":"float","dimensions":2}`)
		io.WriteString(w, `{"object":"list","model":"emb-2","data":[{"object":"embedding","index":2,"embedding":[5,6]},{"index":0,"embedding":[1,0.5]},{"index":1,"embedding":[NaN,4]}],"usage":{"prompt_tokens":10,"total_tokens":10}}`)
	})
	results, err := newEmbeddings(t, url, func(e *openai.Embeddings[string, []float32]) { e.Dimensions, e.Shorten = 2, true }).Invoke(t.Context(), calls("a", "", "bbb", "<é>"))
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, results[1].Err, model.Permanent, "no text")
	wantFailure(t, results[2].Err, model.Invalid, "NaN")
	results[1].Err, results[2].Err = nil, nil
	want := []model.Result[[]float32]{
		{Out: []float32{1, 0.5}, Version: "emb-2", Usage: model.Usage{InputTokens: 1}},
		{},
		{Version: "emb-2", Usage: model.Usage{InputTokens: 4}},
		{Out: []float32{5, 6}, Version: "emb-2", Usage: model.Usage{InputTokens: 5}},
	}
	if !reflect.DeepEqual(results, want) {
		t.Errorf("%+v", results)
	}
}

func TestEmbeddingsThatMakeNoSense(t *testing.T) {
	for name, test := range map[string]struct {
		data string
		says string
	}{
		"no JSON":     {`{`, "no list"},
		"too few":     {`[{"index":0,"embedding":[1]}]`, "1 embeddings for 2"},
		"too many":    {`[{"index":0,"embedding":[1]},{"index":1,"embedding":[1]},{"index":2,"embedding":[1]}]`, "3 embeddings for 2"},
		"twice":       {`[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]`, "index 0"},
		"beyond":      {`[{"index":0,"embedding":[1]},{"index":2,"embedding":[1]}]`, "index 2"},
		"negative":    {`[{"index":0,"embedding":[1]},{"index":-1,"embedding":[1]}]`, "index -1"},
		"ragged":      {`[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}]`, "2 numbers, where 1"},
		"empty":       {`[{"index":0,"embedding":[]},{"index":1,"embedding":[]}]`, "0 numbers"},
		"not numbers": {`[{"index":0,"embedding":["a"]},{"index":1,"embedding":[1]}]`, "no list"},
		"base64":      {`[{"index":0,"embedding":"AACAPw=="},{"index":1,"embedding":"AACAPw=="}]`, "no list"},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"data":`+test.data+`}`) })
			_, err := newEmbeddings(t, url, nil).Invoke(t.Context(), calls("a", "b"))
			wantFailure(t, err, model.Invalid, test.says)
		})
	}
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"data":[{"index":0,"embedding":[1e39]}]}`)
	})
	results, err := newEmbeddings(t, url, nil).Invoke(t.Context(), calls("a"))
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, results[0].Err, model.Invalid, fmt.Sprint(math.NaN()))
}

func TestConfigurationRefused(t *testing.T) {
	good := openai.Chat[string, openai.Completion]{Prompt: prompt, Reply: reply}
	for name, f := range map[string]func() error{
		"no Prompt": func() error {
			_, err := openai.NewChat(openai.Endpoint{URL: "http://x", Model: "m"}, openai.Chat[string, openai.Completion]{Reply: reply})
			return err
		},
		"Delta": func() error {
			chat := good
			chat.Delta = func(*string, openai.Delta) {}
			_, err := openai.NewChat(openai.Endpoint{URL: "http://x", Model: "m"}, chat)
			return err
		},
		"Concurrency": func() error {
			chat := good
			chat.Concurrency = -1
			_, err := openai.NewChat(openai.Endpoint{URL: "http://x", Model: "m"}, chat)
			return err
		},
		"no model":   func() error { _, err := openai.NewChat(openai.Endpoint{URL: "http://x"}, good); return err },
		"no address": func() error { _, err := openai.NewChat(openai.Endpoint{Model: "m"}, good); return err },
		"no Text": func() error {
			_, err := openai.NewEmbeddings(openai.Endpoint{URL: "http://x", Model: "m"}, openai.Embeddings[string, int]{})
			return err
		},
		"Shorten": func() error {
			_, err := openai.NewEmbeddings(openai.Endpoint{URL: "http://x", Model: "m"}, openai.Embeddings[string, int]{
				Text: func(s *string) string { return *s }, Vector: func(*string, []float32) (int, error) { return 0, nil }, Shorten: true,
			})
			return err
		},
	} {
		if err := f(); base.CodeOf(err) != model.CodeAccess {
			t.Errorf("%s: %v", name, err)
		}
	}
}
