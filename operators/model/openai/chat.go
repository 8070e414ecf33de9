package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/internal/rest"
)

// Message is one message of a conversation.
type Message struct {
	// Role is "system", "developer", "user", "assistant" or "tool".
	Role    string `json:"role"`
	Content string `json:"content"`
	Name    string `json:"name,omitempty"`
	// ToolCalls are those of an assistant, ToolCallID the one that a tool answers.
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"`
}

// System is a message with instructions.
func System(content string) Message { return Message{Role: "system", Content: content} }

// User is a message of the user.
func User(content string) Message { return Message{Role: "user", Content: content} }

// Assistant is an earlier answer.
func Assistant(content string) Message { return Message{Role: "assistant", Content: content} }

// ToolCall is a call of a function that a model asks for.
type ToolCall struct {
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function ToolFunction `json:"function"`
}

// ToolFunction is a function with its arguments, which the model writes as JSON; they
// are not checked.
type ToolFunction struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// Request is what a chat is asked. What is zero or nil is left to the server.
type Request struct {
	Messages    []Message `json:"messages"`
	Temperature *float64  `json:"temperature,omitempty"`
	TopP        *float64  `json:"top_p,omitempty"`
	// MaxTokens is understood by servers of others; OpenAI's newer models want
	// MaxCompletionTokens.
	MaxTokens           int      `json:"max_tokens,omitempty"`
	MaxCompletionTokens int      `json:"max_completion_tokens,omitempty"`
	Stop                []string `json:"stop,omitempty"`
	Seed                *int64   `json:"seed,omitempty"`
	User                string   `json:"user,omitempty"`
	// ResponseFormat and Tools are as the interface has them, such as
	// {"type": "json_object"}.
	ResponseFormat json.RawMessage `json:"response_format,omitempty"`
	Tools          json.RawMessage `json:"tools,omitempty"`
	// Extra are further fields, which come after and win over the others.
	Extra map[string]any `json:"-"`
}

// Completion is what a chat answers.
type Completion struct {
	Content string
	// Refusal is why the model does not answer, where it says so.
	Refusal   string
	ToolCalls []ToolCall
	// FinishReason is "stop", "length" when MaxTokens cut the answer off,
	// "tool_calls" or "content_filter".
	FinishReason string
	// Model is the model that has answered, as the server says it.
	Model string
	Usage model.Usage
}

// Delta is a piece of an answer that is streamed.
type Delta struct {
	// Key and Attempt are those of the call.
	Key     string
	Attempt int
	// Index counts the pieces from 0.
	Index   int
	Content string
}

// DefaultConcurrency is how many requests an Invoke makes at once by default.
const DefaultConcurrency = 8

// Chat turns inputs into prompts and completions into predictions.
type Chat[In, Out any] struct {
	// Prompt makes the request for an input. An error makes the call fail for good.
	Prompt func(in *In) (Request, error)
	// Reply makes a prediction of a completion. An error makes the answer invalid.
	Reply func(in *In, c *Completion) (Out, error)
	// Stream asks for answers in pieces, so that Delta sees them as they come, and a
	// long answer is not taken for a dead connection on its way.
	Stream bool
	// Delta is called with each piece, in order for each call, and at the same time
	// for several calls. It must not block. nil: pieces are only put together.
	Delta func(in *In, d Delta)
	// Concurrency is how many requests an Invoke makes at once; 0 is
	// DefaultConcurrency.
	Concurrency int
}

// ChatClient asks for chat completions. It implements model.Client.
type ChatClient[In, Out any] struct {
	rest  *rest.Client
	model string
	chat  Chat[In, Out]
}

// NewChat returns a client. Errors have the code model.CodeAccess.
func NewChat[In, Out any](e Endpoint, chat Chat[In, Out]) (*ChatClient[In, Out], error) {
	switch {
	case chat.Prompt == nil || chat.Reply == nil:
		return nil, rest.Error("the chat has no Prompt or no Reply", e.Model, "give both")
	case chat.Delta != nil && !chat.Stream:
		return nil, rest.Error("the chat has Delta and is not streamed", e.Model, "set Stream, or leave Delta out")
	case chat.Concurrency < 0:
		return nil, rest.Error(fmt.Sprintf("the chat makes %d requests at once", chat.Concurrency), e.Model, "leave Concurrency out for the default")
	case chat.Concurrency == 0:
		chat.Concurrency = DefaultConcurrency
	}
	r, err := e.client()
	if err != nil {
		return nil, err
	}
	return &ChatClient[In, Out]{rest: r, model: e.Model, chat: chat}, nil
}

// Close closes connections that are not in use.
func (c *ChatClient[In, Out]) Close() { c.rest.Close() }

// Invoke implements model.Client by one request for each call. When the server takes
// no more of them, the calls that have not been sent yet fail in the same way without
// asking it.
func (c *ChatClient[In, Out]) Invoke(ctx context.Context, calls []model.Call[In]) ([]model.Result[Out], error) {
	results := make([]model.Result[Out], len(calls))
	var limited atomic.Pointer[model.Failure]
	rest.Each(len(calls), c.chat.Concurrency, func(i int) {
		if f := limited.Load(); f != nil {
			results[i].Err = f
			return
		}
		results[i] = c.one(ctx, &calls[i])
		if f, ok := errors.AsType[*model.Failure](results[i].Err); ok && f.Kind == model.Limited {
			limited.Store(f)
		}
	})
	return results, nil
}

// one makes one request.
func (c *ChatClient[In, Out]) one(ctx context.Context, call *model.Call[In]) (r model.Result[Out]) {
	prompt, err := c.chat.Prompt(&call.In)
	if err != nil {
		r.Err = rest.Refused(err, "there is no prompt for the input")
		return r
	}
	body, err := c.body(&prompt)
	if err != nil {
		r.Err = rest.Permanent(err, "the prompt has no form in JSON")
		return r
	}
	request := rest.Request{Path: "chat/completions", Body: body, Keys: []string{call.Key}}
	var completion *Completion
	if c.chat.Stream {
		completion, err = c.streamed(ctx, request, call)
	} else {
		completion, err = c.whole(ctx, request)
	}
	if err != nil {
		r.Err = err
		return r
	}
	r.Version, r.Usage = completion.Model, completion.Usage
	if r.Out, err = c.chat.Reply(&call.In, completion); err != nil {
		var none Out
		r.Out, r.Err = none, rest.Nonsense(err, "the completion makes no sense")
	}
	return r
}

// body is the body of a request.
func (c *ChatClient[In, Out]) body(r *Request) ([]byte, error) {
	type streamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	}
	full := struct {
		Model string `json:"model"`
		*Request
		Stream        bool           `json:"stream,omitempty"`
		StreamOptions *streamOptions `json:"stream_options,omitempty"`
	}{Model: c.model, Request: r, Stream: c.chat.Stream}
	if c.chat.Stream {
		full.StreamOptions = &streamOptions{true}
	}
	b, err := json.Marshal(full)
	if err != nil || len(r.Extra) == 0 {
		return b, err
	}
	fields := map[string]any{}
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, err
	}
	for name, v := range r.Extra {
		if name == "stream" || name == "n" || name == "model" {
			return nil, fmt.Errorf("%s is no field for Extra", name)
		}
		fields[name] = v
	}
	return json.Marshal(fields)
}

// answer is the body of an answer, or a piece of a streamed one.
type answer struct {
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage"`
	Error   *problem `json:"error"`
}

type choice struct {
	Index        int     `json:"index"`
	Message      content `json:"message"`
	Delta        content `json:"delta"`
	FinishReason string  `json:"finish_reason"`
}

type content struct {
	Content   *string     `json:"content"`
	Refusal   *string     `json:"refusal"`
	ToolCalls []toolDelta `json:"tool_calls"`
}

type toolDelta struct {
	Index *int `json:"index"`
	ToolCall
}

// problem is an error that comes with a status of success.
type problem struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    any    `json:"code"`
}

// whole makes a request whose answer comes at once.
func (c *ChatClient[In, Out]) whole(ctx context.Context, r rest.Request) (*Completion, error) {
	body, err := c.rest.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	var a answer
	if err := rest.Decode(body, &a); err != nil {
		return nil, rest.Invalid(err, "the answer of %s is no chat completion", c.rest.Host())
	}
	if a.Error != nil {
		return nil, a.Error.failure(c.rest.Host())
	}
	if len(a.Choices) != 1 {
		return nil, rest.Invalid(nil, "the answer of %s has %d choices, where one is due", c.rest.Host(), len(a.Choices))
	}
	p := pieces{}
	p.add(&a.Choices[0].Message)
	p.FinishReason, p.Model = a.Choices[0].FinishReason, a.Model
	if a.Usage != nil {
		p.Usage = a.Usage.tokens()
	}
	return p.completion(c.rest.Host())
}

// failure is what an error within an answer means. The server had taken the call.
func (p *problem) failure(host string) error {
	f := &model.Failure{Kind: model.Unknown, What: host + " broke off: " + rest.Line(p.Message, "")}
	code, _ := p.Code.(string)
	number, _ := p.Code.(float64)
	switch {
	case p.Type == "rate_limit_exceeded" || code == "rate_limit_exceeded" || number == 429:
		f.Kind = model.Limited
	case p.Type == "invalid_request_error" || number == 400:
		f.Kind = model.Permanent
	}
	return f
}

// pieces puts an answer together.
type pieces struct {
	Completion
	content, refusal []byte
	arguments        [][]byte
	// some: there is content, a refusal or a tool call; wrong: a tool call has an
	// index out of order.
	some, wrong bool
}

// maxToolCalls bounds what an answer may ask for.
const maxToolCalls = 1024

// add adds a piece and returns its text.
func (p *pieces) add(c *content) string {
	text := ""
	if c.Content != nil {
		p.some, text = true, *c.Content
		p.content = append(p.content, text...)
	}
	if c.Refusal != nil && *c.Refusal != "" {
		p.some = true
		p.refusal = append(p.refusal, *c.Refusal...)
	}
	for i := range c.ToolCalls {
		at, t := len(p.ToolCalls), &c.ToolCalls[i]
		if t.Index != nil {
			at = *t.Index
		}
		if at < 0 || at > len(p.ToolCalls) || at >= maxToolCalls {
			p.wrong = true
			return text
		}
		p.some = true
		if at == len(p.ToolCalls) {
			p.ToolCalls = append(p.ToolCalls, ToolCall{Type: "function"})
			p.arguments = append(p.arguments, nil)
		}
		to := &p.ToolCalls[at]
		if t.ID != "" {
			to.ID = t.ID
		}
		to.Function.Name += t.Function.Name
		p.arguments[at] = append(p.arguments[at], t.Function.Arguments...)
	}
	return text
}

// completion is the whole, if it is one.
func (p *pieces) completion(host string) (*Completion, error) {
	switch {
	case p.wrong:
		return nil, rest.Invalid(nil, "the answer of %s has tool calls out of order", host)
	case !p.some:
		return nil, rest.Invalid(nil, "the answer of %s has neither content nor tool calls", host)
	}
	p.Content, p.Refusal = string(p.content), string(p.refusal)
	for i := range p.arguments {
		p.ToolCalls[i].Function.Arguments = string(p.arguments[i])
		if p.ToolCalls[i].Function.Name == "" {
			return nil, rest.Invalid(nil, "the answer of %s calls a tool without a name", host)
		}
	}
	return &p.Completion, nil
}
