package fakemodel

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	childMain()
	goleak.VerifyTestMain(m)
}

// start runs a server until the test ends.
func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // of the connection or the body
}

// ask makes a request; a body makes it a POST. Headers are name, value, ….
func ask(t *testing.T, s *Server, path, body string, headers ...string) answer {
	t.Helper()
	return askContext(t.Context(), s, path, body, headers...)
}

func askContext(ctx context.Context, s *Server, path, body string, headers ...string) answer {
	method, in := http.MethodGet, io.Reader(nil)
	if body != "" {
		method, in = http.MethodPost, strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL()+path, in)
	if err != nil {
		return answer{err: err}
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, out, err}
}

// decode reads the body of a good answer, strictly.
func (a answer) decode(t *testing.T, v any) {
	t.Helper()
	if a.err != nil || a.status != http.StatusOK {
		t.Fatalf("status %d, %v: %s", a.status, a.err, a.body)
	}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

type oipAnswer struct {
	Model   string  `json:"model_name"`
	Version string  `json:"model_version"`
	ID      *string `json:"id"`
	Outputs []struct {
		Name     string `json:"name"`
		Datatype string `json:"datatype"`
		Shape    []int  `json:"shape"`
		Data     []any  `json:"data"`
	} `json:"outputs"`
}

func TestOIPInference(t *testing.T) {
	s := start(t, Options{})
	schema := loadSchemas(t, "oip.json")
	const flat = `{"id":"42","inputs":[
		{"name":"x","shape":[2,2],"datatype":"FP32","data":[0.1,2,3,4e9]},
		{"name":"s","shape":[2],"datatype":"BYTES","data":["a\"]","b"]}]}`
	nested := strings.Replace(flat, "[0.1,2,3,4e9]", "[[0.1,2],\n [3 , 4e9]]", 1)
	want := []any{
		Score("m", "1", Row(float32(0.1), float32(2), `a"]`)), Score("m", "1", Row(float32(3), float32(4e9), "b")),
	}
	for _, body := range []string{flat, nested} {
		schema.check(t, "request", []byte(body))
		a := ask(t, s, "/v2/models/m/infer", body)
		schema.check(t, "response", a.body)
		var got oipAnswer
		a.decode(t, &got)
		if got.Model != "m" || got.Version != "1" || got.ID == nil || *got.ID != "42" || len(got.Outputs) != 1 {
			t.Fatalf("the answer is %+v", got)
		}
		if o := got.Outputs[0]; o.Name != "score" || o.Datatype != "FP64" || !slices.Equal(o.Shape, []int{2}) || !slices.Equal(o.Data, want) {
			t.Errorf("the output is %+v, want %v", o, want)
		}
	}
	var got oipAnswer
	ask(t, s, "/v2/models/m/versions/7/infer", flat).decode(t, &got)
	if got.Version != "7" || got.Outputs[0].Data[1] != Score("m", "7", Row(float32(3), float32(4e9), "b")) {
		t.Errorf("version 7 answers %+v", got)
	}
}

func TestOIPDatatypes(t *testing.T) {
	s := start(t, Options{})
	for _, c := range []struct {
		datatype, data string
		value          any // nil: refused
	}{
		{"BOOL", `true`, true},
		{"BOOL", `1`, nil},
		{"UINT8", `255`, uint8(255)},
		{"UINT8", `256`, nil},
		{"UINT16", `65535`, uint16(65535)},
		{"UINT32", `4294967295`, uint32(4294967295)},
		{"UINT64", `18446744073709551615`, uint64(math.MaxUint64)},
		{"UINT64", `-1`, nil},
		{"INT8", `-128`, int8(-128)},
		{"INT8", `-129`, nil},
		{"INT16", `-32768`, int16(-32768)},
		{"INT32", `-2147483648`, int32(-2147483648)},
		{"INT64", `-9223372036854775808`, int64(math.MinInt64)},
		{"INT64", `1.5`, nil},
		{"INT64", `"1"`, nil},
		{"FP16", `65504`, float32(65504)},
		{"FP16", `65505`, nil},
		{"FP32", `0.10000000149011612`, float32(0.1)},
		{"FP32", `1e39`, nil},
		{"FP64", `-1e300`, -1e300},
		{"FP64", `true`, nil},
		{"BYTES", `"\u00e9\\\"x"`, "é\\\"x"},
		{"BYTES", `7`, nil},
		{"FP8", `7`, nil},
	} {
		a := ask(t, s, "/v2/models/m/infer", `{"inputs":[{"name":"x","shape":[1],"datatype":"`+c.datatype+`","data":[`+c.data+`]}]}`)
		if c.value == nil {
			if a.status != http.StatusBadRequest {
				t.Errorf("%s %s: status %d", c.datatype, c.data, a.status)
			}
			continue
		}
		var got oipAnswer
		a.decode(t, &got)
		if want := Score("m", "1", Row(c.value)); got.Outputs[0].Data[0] != want {
			t.Errorf("%s %s: %v, want %v", c.datatype, c.data, got.Outputs[0].Data[0], want)
		}
	}
}

func TestOIPRefusals(t *testing.T) {
	s := start(t, Options{MaxItems: 3, MaxBody: 4096, Script: Script{Closed: true, Models: map[string]Model{
		"m": {Versions: []string{"1", "2"}, Inputs: []Tensor{{"x", "FP64", []int{-1, 2}}}}, "any": {},
	}}})
	schema := loadSchemas(t, "oip.json")
	input := func(shape, data string) string {
		return `{"inputs":[{"name":"x","shape":` + shape + `,"datatype":"FP64","data":` + data + `}]}`
	}
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"m/infer", input("[1,2]", "[1,2]"), 200},
		{"m/versions/2/infer", input("[1,2]", "[[1,2]]"), 200},
		{"m/versions/3/infer", input("[1,2]", "[1,2]"), 404},
		{"other/infer", input("[1,2]", "[1,2]"), 404},
		{"m/infer", input("[1,3]", "[1,2,3]"), 400},
		{"any/infer", input("[1,3]", "[1,2]"), 400},
		{"any/infer", input("[2,2]", "[[1,2,3],[4]]"), 400},
		{"any/infer", input("[2,2]", "[[1,2],3,4]"), 400},
		{"any/infer", input("[1,2,1]", "[[1,2]]"), 400},
		{"any/infer", input("[1,2]", "[[1,2]"), 400},
		{"any/infer", input("[]", "[]"), 400},
		{"any/infer", input("[0]", "[]"), 400},
		{"any/infer", input("[1,-2]", "[]"), 400},
		{"any/infer", input("[3,3037000500,3037000500]", "[]"), 400},
		{"any/infer", input("[1]", "null"), 400},
		{"any/infer", input("[1]", `{"a":1}`), 400},
		{"any/infer", input("[1]", `[{"a":1}]`), 400},
		{"any/infer", input("[1]", "[null]"), 400},
		{"any/infer", input("[1]", "7"), 400},
		{"any/infer", input("[4]", "[1,2,3,4]"), 413},
		{"any/infer", input("[1000000000]", "[1]"), 413},
		{"any/infer", input("[1]", "[1"+strings.Repeat(" ", 5000)+"]"), 413},
		{"any/infer", `{"inputs":[]}`, 400},
		{"any/infer", `{}`, 400},
		{"any/infer", `[1]`, 400},
		{"any/infer", `{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[1]},{"name":"y","shape":[2],"datatype":"FP64","data":[1,2]}]}`, 400},
		{"any/infer", `{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[1]},{"name":"x","shape":[1],"datatype":"FP64","data":[1]}]}`, 400},
		{"any/infer", strings.Replace(input("[1]", "[1]"), `{"inputs"`, `{"outputs":[{"name":"nope"}],"inputs"`, 1), 400},
		{"any/infer", strings.Replace(input("[1]", "[1]"), `{"inputs"`, `{"parameters":{"idempotency_keys":7},"inputs"`, 1), 400},
		{"any/infer", strings.Replace(input("[2]", "[1,2]"), `{"inputs"`, `{"parameters":{"idempotency_keys":["a","b","c"]},"inputs"`, 1), 400},
		{"any/nope", "{}", 404},
		{strings.Repeat("m", 257) + "/infer", input("[1]", "[1]"), 400},
	} {
		a := ask(t, s, "/v2/models/"+c.path, c.body)
		if a.status != c.status {
			t.Errorf("%s %.80s: status %d, want %d: %s %v", c.path, c.body, a.status, c.status, a.body, a.err)
		}
		if c.status != 200 {
			schema.check(t, "error", a.body)
		}
	}
	if a := ask(t, s, "/v2/models/any/infer", input("[1]", "[1]"), "Inference-Header-Content-Length", "10"); a.status != 400 {
		t.Errorf("a binary request has status %d", a.status)
	}
	if a := ask(t, s, "/v2/models/any/infer", input("[1]", "[1]"), "Idempotency-Key", strings.Repeat("k", 513)); a.status != 400 {
		t.Errorf("a long key has status %d", a.status)
	}
	if got := s.Stats(); got.Outcomes[OK] != 2 || got.Outcomes[Invalid] != got.Calls-2 || got.InFlight != 0 {
		t.Errorf("the books say %+v", got)
	}
}

func TestOIPDescriptions(t *testing.T) {
	s := start(t, Options{Script: Script{Closed: true, Models: map[string]Model{
		"m": {Versions: []string{"1", "2"}, Inputs: []Tensor{{"x", "INT32", []int{-1, 3}}}, Outputs: []Output{{"a", "FP32", 0}, {"b", "BYTES", 4}}},
		"n": {},
	}}})
	schema := loadSchemas(t, "oip.json")
	for path, def := range map[string]string{
		"/v2": "server_metadata", "/v2/": "server_metadata", "/v2/health/live": "server_live", "/v2/health/ready": "server_ready",
		"/v2/models/m": "model_metadata", "/v2/models/n": "model_metadata", "/v2/models/m/versions/1": "model_metadata",
		"/v2/models/m/ready": "model_ready", "/v2/models/m/versions/2/ready": "model_ready",
	} {
		a := ask(t, s, path, "")
		if a.status != 200 {
			t.Errorf("%s: status %d", path, a.status)
		}
		schema.check(t, def, a.body)
	}
	for _, path := range []string{"/v2/models/x", "/v2/models/x/ready", "/v2/models/m/versions/3", "/v2/models/m/versions/3/ready", "/v2/nope"} {
		if a := ask(t, s, path, ""); a.status != 404 {
			t.Errorf("%s: status %d", path, a.status)
		}
	}
	var m struct {
		Name, Platform  string
		Versions        []string
		Inputs, Outputs []Tensor
	}
	ask(t, s, "/v2/models/m", "").decode(t, &m)
	if fmt.Sprint(m) != "{m weir_fakemodel [1 2] [{x INT32 [-1 3]}] [{a FP32 [-1]} {b BYTES [-1 4]}]}" {
		t.Errorf("the metadata is %v", m)
	}
}

func TestOutputsAndFunctions(t *testing.T) {
	s := start(t, Options{Script: Script{Models: map[string]Model{
		"m": {Outputs: []Output{{"p", "FP64", 0}, {"f", "FP32", 2}, {"l", "INT64", 0}, {"b", "BOOL", 0}, {"s", "BYTES", 0}}},
		"l": {Function: "logistic", Weights: []float64{2}, Bias: map[string]float64{"2": -1}},
	}}})
	const body = `{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP64","data":[1,2,3,-4]}]}`
	var got oipAnswer
	ask(t, s, "/v2/models/m/infer", body).decode(t, &got)
	for n, row := range []string{Row(1.0, 2.0), Row(3.0, -4.0)} {
		p := Score("m", "1", row)
		label := map[bool]float64{true: 1}
		for i, want := range [][]any{
			{p}, {float64(float32(OutputValue(p, 1, 0))), float64(float32(OutputValue(p, 1, 1)))},
			{label[OutputValue(p, 2, 0) >= 0.5]}, {OutputValue(p, 3, 0) >= 0.5}, {strconv.FormatFloat(OutputValue(p, 4, 0), 'f', -1, 64)},
		} {
			o := got.Outputs[i]
			have := o.Data[n*len(want) : (n+1)*len(want)]
			if i == 1 { // FP32 is written short
				for j := range have {
					have[j] = float64(float32(have[j].(float64)))
				}
			}
			if !slices.Equal(have, want) {
				t.Errorf("output %s of row %d is %v, want %v", o.Name, n, have, want)
			}
		}
	}
	if !slices.Equal(got.Outputs[1].Shape, []int{2, 2}) {
		t.Errorf("the shape is %v", got.Outputs[1].Shape)
	}
	ask(t, s, "/v2/models/m/infer", strings.Replace(body, "{", `{"outputs":[{"name":"b"},{"name":"p"}],`, 1)).decode(t, &got)
	if len(got.Outputs) != 2 || got.Outputs[0].Name != "b" || got.Outputs[1].Data[0] != Score("m", "1", Row(1.0, 2.0)) {
		t.Errorf("the chosen outputs are %+v", got.Outputs)
	}
	for version, bias := range map[string]float64{"1": 0, "2": -1} {
		ask(t, s, "/v2/models/l/versions/"+version+"/infer", body).decode(t, &got)
		want := []any{1 / (1 + math.Exp(-(bias + 2*1 + 2))), 1 / (1 + math.Exp(-(bias + 2*3 - 4)))}
		if !slices.Equal(got.Outputs[0].Data, want) || want[0] != Logistic(bias, []float64{2}, []float64{1, 2}) {
			t.Errorf("version %s: %v, want %v", version, got.Outputs[0].Data, want)
		}
	}
}

type chatAnswer struct {
	ID, Object, Model string
	Created           int64
	Fingerprint       string `json:"system_fingerprint"`
	Choices           []struct {
		Index   int
		Message struct {
			Role    string
			Content string
			Refusal *string
		}
		Delta struct {
			Role    string
			Content string
		}
		LogProbs *string
		Finish   *string `json:"finish_reason"`
	}
	Usage *chatUsage
}

const ragBody = `{"model":"gpt","messages":[
	{"role":"system","content":"Answer from these lines.\nWeirs hold back water.\nA weir raises the water level of a river.\nCats sleep."},
	{"role":"user","content":[{"type":"text","text":"Does a weir raise"},{"type":"text","text":" the level of water?\n"}]}]`

var ragMessages = []Message{
	{"system", "Answer from these lines.\nWeirs hold back water.\nA weir raises the water level of a river.\nCats sleep."},
	{"user", "Does a weir raise the level of water?\n"},
}

func TestChat(t *testing.T) {
	s := start(t, Options{})
	schema := loadSchemas(t, "openai.json")
	want := ChatAnswer("gpt", "1", ragMessages)
	if !strings.HasSuffix(want, " | A weir raises the water level of a river. | Weirs hold back water.") {
		t.Fatalf("the answer is %q", want)
	}
	schema.check(t, "chat_request", []byte(ragBody+"}"))
	a := ask(t, s, "/v1/chat/completions", ragBody+"}")
	schema.check(t, "chat_response", a.body)
	var got chatAnswer
	a.decode(t, &got)
	c := got.Choices[0]
	if c.Message.Content != want || *c.Finish != "stop" || got.Fingerprint != "fp_1" || got.Created == 0 {
		t.Errorf("the answer is %+v, want %q", got, want)
	}
	prompt := len(strings.Fields(Prompt(ragMessages)))
	if n := len(strings.Fields(want)); *got.Usage != (chatUsage{prompt, n, prompt + n}) {
		t.Errorf("the usage is %+v", got.Usage)
	}
	ask(t, s, "/v1/chat/completions", ragBody+`,"max_tokens":3}`).decode(t, &got)
	if *got.Choices[0].Finish != "length" || got.Choices[0].Message.Content != strings.Join(strings.Fields(want)[:3], " ") {
		t.Errorf("with 3 tokens: %+v", got.Choices)
	}
	ask(t, s, "/v1/chat/completions", ragBody+`,"response_format":{"type":"json_object"}}`).decode(t, &got)
	var inner struct {
		Answer string
		Score  float64
	}
	err := json.Unmarshal([]byte(got.Choices[0].Message.Content), &inner)
	if err != nil || inner.Answer != want || inner.Score != Score("gpt", "1", Prompt(ragMessages)) {
		t.Errorf("as JSON: %q, %v", got.Choices[0].Message.Content, err)
	}
}

func TestChatStream(t *testing.T) {
	s := start(t, Options{Script: Script{Rules: []Rule{{Latency: &Latency{PerToken: 0.01}}}}})
	schema := loadSchemas(t, "openai.json")
	a := ask(t, s, "/v1/chat/completions", ragBody+`,"stream":true,"stream_options":{"include_usage":true}}`)
	if a.err != nil || a.header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%v, headers %v", a.err, a.header)
	}
	var text, finish string
	var usage *chatUsage
	lines := bufio.NewScanner(bytes.NewReader(a.body))
	done, chunks := false, 0
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			if lines.Text() != "" {
				t.Errorf("there is a line %q", lines.Text())
			}
			continue
		}
		if done = data == "[DONE]"; done {
			continue
		}
		chunks++
		schema.check(t, "chat_chunk", []byte(data))
		var c chatAnswer
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			t.Fatal(err)
		}
		for _, ch := range c.Choices {
			text += ch.Delta.Content
			if ch.Finish != nil {
				finish = *ch.Finish
			}
		}
		usage = c.Usage
	}
	want := ChatAnswer("gpt", "1", ragMessages)
	if !done || text != want || finish != "stop" || usage == nil || usage.Completion != Tokens(want) || chunks != Tokens(want)+3 {
		t.Errorf("the stream holds %q, finish %q, usage %+v, %d chunks, done %v", text, finish, usage, chunks, done)
	}
	if got := s.Calls()[0]; got.Outcome != OK || !got.Processed {
		t.Errorf("the books say %+v", got)
	}
}

func TestOpenAIRefusals(t *testing.T) {
	s := start(t, Options{MaxItems: 3, Script: Script{Closed: true, Models: map[string]Model{"gpt": {}}}})
	schema := loadSchemas(t, "openai.json")
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"chat/completions", ragBody + "}", 200},
		{"chat/completions", strings.Replace(ragBody, "gpt", "other", 1) + "}", 404},
		{"chat/completions", `{"model":"gpt","messages":[]}`, 400},
		{"chat/completions", `{"messages":[{"role":"user","content":"x"}]}`, 400},
		{"chat/completions", `{"model":"gpt","messages":[{"role":"wizard","content":"x"}]}`, 400},
		{"chat/completions", `{"model":"gpt","messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400},
		{"chat/completions", `{"model":"gpt","messages":[{"role":"user","content":7}]}`, 400},
		{"chat/completions", ragBody + `,"n":2}`, 400},
		{"chat/completions", ragBody + `,"max_tokens":0}`, 400},
		{"chat/completions", ragBody + `,"response_format":{"type":"json_schema"}}`, 400},
		{"chat/completions", `nope`, 400},
		{"embeddings", `{"model":"gpt","input":"x"}`, 200},
		{"embeddings", `{"model":"gpt","input":""}`, 400},
		{"embeddings", `{"model":"gpt","input":[]}`, 400},
		{"embeddings", `{"model":"gpt"}`, 400},
		{"embeddings", `{"model":"gpt","input":["a","b","c","d"]}`, 413},
		{"embeddings", `{"model":"gpt","input":"x","dimensions":0}`, 400},
		{"embeddings", `{"model":"gpt","input":"x","dimensions":5000}`, 400},
		{"embeddings", `{"model":"gpt","input":"x","encoding_format":"hex"}`, 400},
		{"embeddings", `{"model":"x","input":"x"}`, 404},
		{"images", `{}`, 404},
	} {
		a := ask(t, s, "/v1/"+c.path, c.body)
		if a.status != c.status {
			t.Errorf("%s %.60s: status %d, want %d: %s", c.path, c.body, a.status, c.status, a.body)
		}
		if c.status != 200 {
			schema.check(t, "error", a.body)
		}
	}
	a := ask(t, s, "/v1/models", "")
	schema.check(t, "models", a.body)
	if !bytes.Contains(a.body, []byte(`"gpt"`)) {
		t.Errorf("the models are %s", a.body)
	}
	schema.check(t, "model", ask(t, s, "/v1/models/gpt", "").body)
	if a := ask(t, s, "/v1/models/other", ""); a.status != 404 {
		t.Errorf("another model has status %d", a.status)
	}
}

func TestEmbeddings(t *testing.T) {
	s := start(t, Options{Script: Script{Models: map[string]Model{"small": {Dimensions: 8}}}})
	schema := loadSchemas(t, "openai.json")
	type vectors struct {
		Object, Model string
		Data          []struct {
			Object    string
			Index     int
			Embedding any
		}
		Usage struct {
			Prompt int `json:"prompt_tokens"`
			Total  int `json:"total_tokens"`
		}
	}
	get := func(body string) (out [][]float32, v vectors) {
		schema.check(t, "embedding_request", []byte(body))
		a := ask(t, s, "/v1/embeddings", body)
		schema.check(t, "embedding_response", a.body)
		a.decode(t, &v)
		for i, d := range v.Data {
			if d.Index != i {
				t.Errorf("embedding %d has the index %d", i, d.Index)
			}
			out = append(out, vectorOf(t, d.Embedding))
		}
		return out, v
	}
	got, v := get(`{"model":"e","input":["the quick fox","!"]}`)
	want := [][]float32{Embedding("e", "1", "the quick fox", DefaultDimensions), Embedding("e", "1", "!", DefaultDimensions)}
	if !slices.EqualFunc(got, want, slices.Equal) || v.Usage.Prompt != 4 || v.Usage.Total != 4 {
		t.Errorf("%+v", v)
	}
	if got, _ := get(`{"model":"e","input":"the quick fox","encoding_format":"base64"}`); !slices.Equal(got[0], want[0]) {
		t.Errorf("base64 holds %v", got)
	}
	if got, _ := get(`{"model":"small","input":[5,6]}`); !slices.Equal(got[0], Embedding("small", "1", "5 6", 8)) {
		t.Errorf("tokens give %v", got)
	}
	if got, _ := get(`{"model":"small","input":[[5],[6]],"dimensions":3}`); !slices.Equal(got[1], Embedding("small", "1", "6", 3)) {
		t.Errorf("lists of tokens give %v", got)
	}
}

func vectorOf(t *testing.T, v any) (out []float32) {
	t.Helper()
	if text, ok := v.(string); ok {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(raw); at += 4 {
			out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(raw[at:])))
		}
		return out
	}
	for _, x := range v.([]any) {
		out = append(out, float32(x.(float64)))
	}
	return out
}

func TestTensorFlowServing(t *testing.T) {
	s := start(t, Options{Script: Script{Models: map[string]Model{"two": {Outputs: []Output{{"p", "FP64", 0}, {"v", "FP64", 2}}}}}})
	score := func(row ...any) string { return numberText(Score("m", "1", Row(row...))) }
	p := Score("two", "1", Row(1.0))
	vec := "[" + numberText(OutputValue(p, 1, 0)) + "," + numberText(OutputValue(p, 1, 1)) + "]"
	for _, c := range []struct{ path, body, want string }{
		{"m:predict", `{"instances":[1,[2,"a"],{"b":[3,true],"a":4}]}`, `{"predictions":[` + score(1.0) + "," + score(2.0, "a") + "," + score(4.0, 3.0, true) + `]}`},
		{"m:predict", `{"signature_name":"serving_default","instances":[{"b64":"aGk="}]}`, `{"predictions":[` + score("hi") + `]}`},
		{"m/versions/1:predict", `{"inputs":[[1,2],[3,4]]}`, `{"outputs":[` + score(1.0, 2.0) + "," + score(3.0, 4.0) + `]}`},
		{"m:predict", `{"inputs":{"y":[[2],[4]],"x":[1,3]}}`, `{"outputs":[` + score(1.0, 2.0) + "," + score(3.0, 4.0) + `]}`},
		{"m/versions/9:predict", `{"instances":[1]}`, `{"predictions":[` + numberText(Score("m", "9", Row(1.0))) + `]}`},
		{"two:predict", `{"instances":[1]}`, `{"predictions":[{"p":` + numberText(p) + `,"v":` + vec + `}]}`},
		{"two:predict", `{"inputs":[1]}`, `{"outputs":{"p":[` + numberText(p) + `],"v":[` + vec + `]}}`},
	} {
		a := ask(t, s, "/v1/models/"+c.path, c.body)
		if a.status != 200 || string(a.body) != c.want {
			t.Errorf("%s %s: status %d %s, want %s", c.path, c.body, a.status, a.body, c.want)
		}
	}
	for path, body := range map[string]string{
		"m": `{"instances":[1]}`, "m:classify": `{"instances":[1]}`, "m/labels/x:predict": `{"instances":[1]}`, "m:predict": `{}`,
		"a:predict": `{"instances":[]}`, "b:predict": `{"instances":[null]}`, "c:predict": `{"instances":[1],"inputs":[1]}`,
		"d:predict": `{"inputs":{"a":[1],"b":[1,2]}}`, "e:predict": `{"instances":[{"b64":"?"}]}`, "f:predict": `{"inputs":7}`, "g:predict": `[`,
	} {
		a := ask(t, s, "/v1/models/"+path, body)
		if a.status != 400 && a.status != 404 || !bytes.HasPrefix(a.body, []byte(`{"error":"`)) {
			t.Errorf("%s %s: status %d %s", path, body, a.status, a.body)
		}
	}
}

func TestGenericJSON(t *testing.T) {
	s := start(t, Options{})
	one := numberText(Score("m", "1", Row("x", 2.0, 1.0)))
	for _, c := range []struct{ path, body, want string }{
		{"m", `{"b":[2,1],"a":"x"}`, `{"model":"m","version":"1","score":` + one + `}`},
		{"m", `[{"b":[2,1],"a":"x"},7]`, `{"model":"m","version":"1","results":[{"score":` + one + `},{"score":` + numberText(Score("m", "1", Row(7.0))) + `}]}`},
		{"m?version=4", `7`, `{"model":"m","version":"4","score":` + numberText(Score("m", "4", Row(7.0))) + `}`},
	} {
		if a := ask(t, s, "/json/"+c.path, c.body); a.status != 200 || string(a.body) != c.want {
			t.Errorf("%s %s: status %d %s, want %s", c.path, c.body, a.status, a.body, c.want)
		}
	}
	for _, body := range []string{"[]", "nope", "{} {}", `{"a":null}`} {
		if a := ask(t, s, "/json/m", body); a.status != 400 {
			t.Errorf("%s: status %d", body, a.status)
		}
	}
}
