package fakemodel

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/weirflow/weir/internal/clock"
)

// openAIRefusal is the error object of OpenAI's API.
func openAIRefusal(status int, what string) []byte {
	kind, code := "server_error", "null"
	switch {
	case status == http.StatusTooManyRequests:
		kind, code = "requests", `"rate_limit_exceeded"`
	case status == http.StatusUnauthorized:
		kind, code = "authentication_error", `"invalid_api_key"`
	case status == http.StatusNotFound:
		kind, code = "invalid_request_error", `"model_not_found"`
	case status < 500:
		kind = "invalid_request_error"
	}
	return []byte(`{"error":{"message":` + quoted(what) + `,"type":"` + kind + `","param":null,"code":` + code + "}}")
}

// chat is OpenAI's protocol for chats.
type chat struct{ clk clock.Clock }

type chatRequest struct {
	Model               string        `json:"model"`
	Messages            []chatMessage `json:"messages"`
	Stream              bool          `json:"stream"`
	StreamOptions       streamOptions `json:"stream_options"`
	N                   *int          `json:"n"`
	MaxTokens           *int          `json:"max_tokens"`
	MaxCompletionTokens *int          `json:"max_completion_tokens"`
	ResponseFormat      struct {
		Type string `json:"type"`
	} `json:"response_format"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type chatMessage struct {
	Role    string      `json:"role"`
	Content chatContent `json:"content"`
}

// chatContent is a text, or its parts put together.
type chatContent string

// UnmarshalJSON implements json.Unmarshaler.
func (t *chatContent) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil { // also null
		*t = chatContent(text)
		return nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	for _, p := range parts {
		if p.Type != "text" {
			return refuse(http.StatusBadRequest, "content of type %q is not supported", p.Type)
		}
		text += p.Text
	}
	*t = chatContent(text)
	return nil
}

// chatCall is a decoded request. The texts are those of the answer.
type chatCall struct {
	id, finish string
	created    int64
	prompt     int // tokens
	tokens     []string
	stream     bool
	usage      bool
}

func (chat) refusal(status int, what string) []byte { return openAIRefusal(status, what) }

func (p chat) decode(c *call, r *http.Request, prog *program, l *limits) (inference, error) {
	var req chatRequest
	if err := json.Unmarshal(c.body, &req); err != nil {
		return nil, refuse(http.StatusBadRequest, "the request is not JSON of its form: %v", err)
	}
	if err := c.resolve(prog, req.Model, ""); err != nil {
		return nil, err
	}
	if err := c.takeKeys(r, nil, l); err != nil {
		return nil, err
	}
	messages, err := req.check(l)
	if err != nil {
		return nil, err
	}
	text := Prompt(messages)
	h := fingerprint(c.model, c.version, text)
	answer := ChatAnswer(c.model, c.version, messages)
	if req.ResponseFormat.Type == "json_object" {
		answer = `{"answer": ` + quoted(answer) + `, "score": ` + numberText(unit(h)) + `}`
	}
	out := &chatCall{
		id: "chatcmpl-" + strconv.FormatUint(h, 16), finish: "stop", created: p.clk.Now() / 1e9, prompt: Tokens(text),
		tokens: strings.Fields(answer), stream: req.Stream, usage: req.StreamOptions.IncludeUsage,
	}
	for _, most := range []*int{req.MaxTokens, req.MaxCompletionTokens} {
		if most != nil && len(out.tokens) > *most {
			out.tokens, out.finish = out.tokens[:*most], "length"
		}
	}
	c.tokens, c.generated = out.prompt, len(out.tokens)
	return out, nil
}

// check refuses what the server does not do, and returns the messages.
func (q *chatRequest) check(l *limits) ([]Message, error) {
	if len(q.Messages) == 0 || len(q.Messages) > l.items {
		return nil, refuse(http.StatusBadRequest, "the number of messages is %d", len(q.Messages))
	}
	if q.N != nil && *q.N != 1 {
		return nil, refuse(http.StatusBadRequest, "n is %d; this server gives one choice", *q.N)
	}
	for _, most := range []*int{q.MaxTokens, q.MaxCompletionTokens} {
		if most != nil && *most < 1 {
			return nil, refuse(http.StatusBadRequest, "the greatest number of tokens is %d", *most)
		}
	}
	if f := q.ResponseFormat.Type; f != "" && f != "text" && f != "json_object" {
		return nil, refuse(http.StatusBadRequest, "the response format %q is not supported", f)
	}
	out := make([]Message, len(q.Messages))
	for i, m := range q.Messages {
		if !slices.Contains([]string{"system", "developer", "user", "assistant", "tool", "function"}, m.Role) {
			return nil, refuse(http.StatusBadRequest, "messages[%d] has the role %q", i, m.Role)
		}
		out[i] = Message{m.Role, string(m.Content)}
	}
	return out, nil
}

type chatUsage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

// chatReply is a whole answer or, with another object and deltas, a chunk of one.
type chatReply struct {
	ID          string       `json:"id"`
	Object      string       `json:"object"`
	Created     int64        `json:"created"`
	Model       string       `json:"model"`
	Fingerprint string       `json:"system_fingerprint"`
	Choices     []chatChoice `json:"choices"`
	// Usage is a *chatUsage; a nil one is null, which chunks before that with the usage
	// have.
	Usage any `json:"usage,omitempty"`
}

type chatChoice struct {
	Index    int              `json:"index"`
	Message  *answerMessage   `json:"message,omitempty"`
	Delta    *answerDelta     `json:"delta,omitempty"`
	LogProbs *json.RawMessage `json:"logprobs"`
	Finish   *string          `json:"finish_reason"`
}

type answerMessage struct {
	Role    string  `json:"role"`
	Content *string `json:"content"`
	Refusal *string `json:"refusal"`
}

type answerDelta struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

func (q *chatCall) answer(c *call, spoil Fault) reply {
	tokens := q.tokens
	if spoil == NaN {
		tokens = []string{"NaN"}
	}
	text := strings.Join(tokens, " ")
	usage := &chatUsage{q.prompt, len(tokens), q.prompt + len(tokens)}
	out := chatReply{ID: q.id, Created: q.created, Model: c.model, Fingerprint: "fp_" + c.version}
	if q.stream {
		return reply{contentType: "text/event-stream", events: q.events(out, tokens, usage, spoil)}
	}
	out.Object, out.Usage = "chat.completion", usage
	message := &answerMessage{Role: "assistant", Content: &text}
	if spoil == Null {
		message.Content = nil
	}
	out.Choices = []chatChoice{{Message: message, Finish: &q.finish}}
	if spoil == WrongShape || spoil == WrongCount {
		out.Choices = []chatChoice{}
	}
	body, _ := json.Marshal(out) // it holds nothing that fails
	return reply{contentType: jsonType, body: body}
}

// events are the parts of a streamed answer: the role, each token, the end, the usage
// if asked for, and the end of the stream.
func (q *chatCall) events(chunk chatReply, tokens []string, usage *chatUsage, spoil Fault) [][]byte {
	chunk.Object = "chat.completion.chunk"
	if q.usage {
		chunk.Usage = (*chatUsage)(nil)
	}
	var out [][]byte
	add := func(choices ...chatChoice) {
		chunk.Choices = choices
		if choices == nil || spoil == WrongShape || spoil == WrongCount {
			chunk.Choices = []chatChoice{}
		}
		text, _ := json.Marshal(chunk) // it holds nothing that fails
		out = append(out, []byte("data: "+string(text)+"\n\n"))
	}
	empty := ""
	add(chatChoice{Delta: &answerDelta{Role: "assistant", Content: &empty}})
	for i, t := range tokens {
		if i > 0 {
			t = " " + t
		}
		content := &t
		if spoil == Null {
			content = nil
		}
		add(chatChoice{Delta: &answerDelta{Content: content}})
	}
	add(chatChoice{Delta: &answerDelta{}, Finish: &q.finish})
	if q.usage {
		chunk.Usage = usage
		add()
	}
	return append(out, []byte("data: [DONE]\n\n"))
}

// embeddings is OpenAI's protocol for them.
type embeddings struct{}

type embeddingsRequest struct {
	Model      string          `json:"model"`
	Input      json.RawMessage `json:"input"`
	Encoding   string          `json:"encoding_format"`
	Dimensions *int            `json:"dimensions"`
}

// embeddingsCall is a decoded request.
type embeddingsCall struct {
	texts      []string
	dimensions int
	base64     bool
}

func (embeddings) refusal(status int, what string) []byte { return openAIRefusal(status, what) }

func (embeddings) decode(c *call, r *http.Request, prog *program, l *limits) (inference, error) {
	var req embeddingsRequest
	if err := json.Unmarshal(c.body, &req); err != nil {
		return nil, refuse(http.StatusBadRequest, "the request is not JSON of its form: %v", err)
	}
	if err := c.resolve(prog, req.Model, ""); err != nil {
		return nil, err
	}
	q := &embeddingsCall{dimensions: c.described.Dimensions, base64: req.Encoding == "base64"}
	if req.Encoding != "" && req.Encoding != "float" && req.Encoding != "base64" {
		return nil, refuse(http.StatusBadRequest, "the encoding format %q is not supported", req.Encoding)
	}
	if q.dimensions == 0 {
		q.dimensions = DefaultDimensions
	}
	if req.Dimensions != nil {
		q.dimensions = *req.Dimensions
	}
	if q.dimensions < 1 || q.dimensions > maxDimensions {
		return nil, refuse(http.StatusBadRequest, "%d dimensions are not between 1 and %d", q.dimensions, maxDimensions)
	}
	var ok bool
	if q.texts, ok = textsOf(req.Input); !ok {
		return nil, refuse(http.StatusBadRequest, "the input is neither a text, nor texts, nor tokens, or it is empty")
	}
	c.items = len(q.texts)
	for _, t := range q.texts {
		c.tokens += Tokens(t)
	}
	return q, c.takeKeys(r, nil, l)
}

// textsOf reads the input of embeddings: a text, texts, the tokens of a text, or those
// of several. Tokens stand for their numbers as words.
func textsOf(raw json.RawMessage) ([]string, bool) {
	var (
		one   string
		many  []string
		ids   []int
		lists [][]int
	)
	switch {
	case json.Unmarshal(raw, &one) == nil:
		return []string{one}, one != ""
	case json.Unmarshal(raw, &many) == nil:
		return many, len(many) > 0
	case json.Unmarshal(raw, &ids) == nil:
		return []string{numbers(ids)}, true
	case json.Unmarshal(raw, &lists) == nil:
		texts := make([]string, len(lists)) // many is half filled by the attempt above
		for i, l := range lists {
			texts[i] = numbers(l)
		}
		return texts, len(texts) > 0
	}
	return nil, false
}

func numbers(ids []int) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = strconv.Itoa(id)
	}
	return strings.Join(words, " ")
}

func (q *embeddingsCall) answer(c *call, spoil Fault) reply {
	texts := q.texts
	if spoil == WrongCount {
		texts = append(texts[:len(texts):len(texts)], texts[len(texts)-1])
	}
	var b strings.Builder
	b.WriteString(`{"object":"list","data":[`)
	for i, t := range texts {
		v := Embedding(c.model, c.version, t, q.dimensions)
		if spoil == WrongShape && i == len(texts)-1 {
			v = v[:len(v)-1]
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"object":"embedding","index":` + strconv.Itoa(i) + `,"embedding":`)
		q.vector(&b, v, i == 0, spoil)
		b.WriteByte('}')
	}
	n := strconv.Itoa(c.tokens)
	b.WriteString(`],"model":` + quoted(c.model) + `,"usage":{"prompt_tokens":` + n + `,"total_tokens":` + n + "}}")
	return reply{contentType: jsonType, body: []byte(b.String())}
}

// vector writes one embedding; the first has NaN or null in it, if asked for.
func (q *embeddingsCall) vector(b *strings.Builder, v []float32, first bool, spoil Fault) {
	if q.base64 && (spoil != Null || !first) {
		if spoil == NaN && first {
			v[0] = float32(math.NaN())
		}
		raw := make([]byte, 0, 4*len(v))
		for _, x := range v {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
		}
		b.WriteString(`"` + base64.StdEncoding.EncodeToString(raw) + `"`)
		return
	}
	if q.base64 {
		b.WriteString("null")
		return
	}
	b.WriteByte('[')
	for j, x := range v {
		if j > 0 {
			b.WriteByte(',')
		}
		switch {
		case j == 0 && first && spoil == NaN:
			b.WriteString("NaN")
		case j == 0 && first && spoil == Null:
			b.WriteString("null")
		default:
			b.WriteString(numberText(x))
		}
	}
	b.WriteByte(']')
}
