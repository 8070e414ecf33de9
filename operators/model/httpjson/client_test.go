package httpjson_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/httpjson"
)

var loopback = model.Access{Allow: []string{"loopback"}}

type ticket struct {
	Text  string
	Tags  []string
	Score float64
	Props map[string]any
	Next  *ticket
}

func calls[In any](in ...In) []model.Call[In] {
	out := make([]model.Call[In], len(in))
	for i := range in {
		out[i] = model.Call[In]{Key: fmt.Sprintf("job/op/%d", i), Attempt: 1, In: in[i]}
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

func serve(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

// body is the body that a template makes of an input.
func body(t *testing.T, template string, in ticket) (string, error) {
	t.Helper()
	got := ""
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = string(b)
		io.WriteString(w, "1")
	})
	c, err := httpjson.New(httpjson.Endpoint{URL: url, Access: loopback}, httpjson.Codec[ticket, int]{Template: template})
	if err != nil {
		return "", err
	}
	defer c.Close()
	results, err := c.Invoke(t.Context(), calls(in))
	if err != nil {
		t.Fatal(err)
	}
	return got, results[0].Err
}

func TestTemplates(t *testing.T) {
	evil := `", "admin": true, "x": "\`
	for template, test := range map[string]struct {
		in   ticket
		want string
	}{
		`{"t": {{.Text}}}`:           {ticket{Text: "a\"b\n<é>"}, `{"t": "a\"b\n\u003cé\u003e"}`},
		`{"t": "x {{.Text}} y"}`:     {ticket{Text: "a\"b\n"}, `{"t": "x a\"b\n y"}`},
		`{"t": "{{.Text}}"}`:         {ticket{Text: evil}, `{"t": "\", \"admin\": true, \"x\": \"\\"}`},
		`{"t": {{.Text}} }`:          {ticket{Text: evil}, `{"t": "\", \"admin\": true, \"x\": \"\\" }`},
		`{"s": {{.Score}}}`:          {ticket{Score: 1e21}, `{"s": 1e+21}`},
		`{"s": "{{.Score}}"}`:        {ticket{Score: 0.5}, `{"s": "0.5"}`},
		`{"t": {{.Tags}}}`:           {ticket{Tags: []string{"a", "b"}}, `{"t": ["a","b"]}`},
		`{"p": {{.Props.x}}}`:        {ticket{Props: map[string]any{"x": nil}}, `{"p": null}`},
		`{"q\"{{.Text}}\\": 1}`:      {ticket{Text: "a"}, `{"q\"a\\": 1}`},
		`{"n": {{len .Text}}}`:       {ticket{Text: "abc"}, `{"n": 3}`},
		`{"n": {{printf "%q" "x"}}}`: {ticket{}, `{"n": "\"x\""}`},
		`{{/* note */}}[{{range $i, $t := .Tags}}{{if $i}},{{end}}{{$t}}{{end}}]`:         {ticket{Tags: []string{`"`, "b"}}, `["\"","b"]`},
		`{{$x := .Text}}{{if eq .Score 1.0}}{{$x}}{{else if .Tags}}2{{else}}3{{end}}`:     {ticket{Text: "a", Score: 1}, `"a"`},
		`{"t": "{{range .Tags}}{{.}} {{end}}{{with .Next}}{{.Text}}{{else}}none{{end}}"}`: {ticket{Tags: []string{`"`, "b"}, Next: &ticket{Text: `\`}}, `{"t": "\" b \\"}`},
	} {
		got, err := body(t, template, test.in)
		if err != nil || got != test.want {
			t.Errorf("%s: %s, %v; want %s", template, got, err, test.want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("%s: %s is no JSON", template, got)
		}
	}
}

func TestTemplatesRefused(t *testing.T) {
	for _, template := range []string{
		`{"t": "{{.Text}}`, `{"t": "\{{.Text}}"}`, `{{if .Text}}"{{end}}a"`, `{{if .Text}}a{{else}}"{{end}}`, `{{range .Tags}}"{{end}}`,
		`{{template "x"}}`, `{{define "x"}}1{{end}}{{template "x"}}`, `{{block "x" .}}1{{end}}`, `{{range .Tags}}{{break}}{{end}}`, `{{range .Tags}}{{continue}}{{end}}`,
		`{{.Text`, `{{nosuch .Text}}`, `{{define "x"}}1{{end}}`,
	} {
		if _, err := body(t, template, ticket{}); base.CodeOf(err) != model.CodeAccess {
			t.Errorf("%s: %v", template, err)
		}
	}
	// These cannot be told before an input comes.
	for template, in := range map[string]ticket{
		`{"t": {{.NoField}}}`: {}, `{"s": {{.Score}}}`: {Score: math.NaN()}, `{"t": "{{.Tags}}"}`: {Tags: []string{"a"}}, `{"p": {{.Props.missing}}}`: {},
		`{"t": {{.Text}},}`: {Text: "a"}, `{{if .Text}}{{.Text}}{{end}}`: {}, `{"t": {{index .Tags 3}}}`: {}, `{"n": "{{.Next}}"}`: {},
	} {
		got, err := body(t, template, in)
		if got != "" {
			t.Errorf("%s was sent", got)
		}
		wantFailure(t, err, model.Permanent, "body for the input")
	}
}

func TestPointers(t *testing.T) {
	answer := ` 
{"a": [{"s": 0.5}, NaN, 1e999, null, "x"], "": {"": 1}, "~1": {"/": 2}, "v": "7", "n": 8, "null": null}`
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "PUT" {
			t.Errorf("method %s", r.Method)
		}
		io.WriteString(w, answer)
	})
	for _, test := range []struct {
		pointer, version string
		want             float64
		wantVersion      string
		says             string
	}{
		{pointer: "/a/0/s", version: "/v", want: 0.5, wantVersion: "7"},
		{pointer: "/a/0/s", version: "/n", want: 0.5, wantVersion: "8"},
		{pointer: "//", want: 1},
		{pointer: "/~01/~1", want: 2},
		{pointer: "/a/1", says: "null"},
		{pointer: "/a/2", says: "1e999"},
		{pointer: "/a/3", says: "null"},
		{pointer: "/a/4", says: "string"},
		{pointer: "/a/0", says: "object"},
		{pointer: "/a/5", says: "no element"},
		{pointer: "/a/-", says: "no element"},
		{pointer: "/a/00", says: "no element"},
		{pointer: "/a/4294967296", says: "no element"},
		{pointer: "/b", says: `no "b"`},
		{pointer: "/n/x", says: "neither an object"},
		{pointer: "/null", says: "null"},
		{pointer: "/n", version: "/a", says: "no version"},
		{pointer: "/n", version: "/null", says: "no version"},
		{pointer: "/n", version: "/w", says: "no version"},
	} {
		c, err := httpjson.New(httpjson.Endpoint{URL: url, Method: "PUT", Access: loopback},
			httpjson.Codec[ticket, float64]{Template: "1", Pointer: test.pointer, VersionPointer: test.version})
		if err != nil {
			t.Fatal(err)
		}
		results, err := c.Invoke(t.Context(), calls(ticket{}))
		if err != nil {
			t.Fatal(err)
		}
		r := results[0]
		if test.says != "" {
			wantFailure(t, r.Err, model.Invalid, test.says)
			if r.Out != 0 {
				t.Errorf("%s: there is an answer, too", test.pointer)
			}
		} else if r.Err != nil || r.Out != test.want || r.Version != test.wantVersion {
			t.Errorf("%s: %+v", test.pointer, r)
		}
		c.Close()
	}
	answer = "no JSON"
	c, err := httpjson.New(httpjson.Endpoint{URL: url, Method: "PUT", Access: loopback}, httpjson.Codec[ticket, any]{Template: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	results, _ := c.Invoke(t.Context(), calls(ticket{}))
	wantFailure(t, results[0].Err, model.Invalid, "makes no sense")
}

func TestFunctions(t *testing.T) {
	var requests atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		b, _ := io.ReadAll(r.Body)
		switch string(b) {
		case `"limit"`:
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(429)
		default:
			fmt.Fprintf(w, "answer to %s by %s", b, r.Header.Get("Idempotency-Key"))
		}
	})
	c, err := httpjson.New(httpjson.Endpoint{URL: url, Access: loopback}, httpjson.Codec[string, string]{
		Body: func(in *string) ([]byte, error) {
			if *in == "none" {
				return nil, errors.New("no body")
			}
			return []byte(*in), nil
		},
		Decode: func(b []byte) (string, error) {
			if strings.Contains(string(b), "2") {
				return "half", errors.New("refused")
			}
			return string(b), nil
		},
		Concurrency: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	results, err := c.Invoke(t.Context(), calls("1", "none", "2", "{", `"limit"`, "3"))
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Out != "answer to 1 by job/op/0" {
		t.Errorf("%+v", results[0])
	}
	wantFailure(t, results[1].Err, model.Permanent, "no body")
	wantFailure(t, results[2].Err, model.Invalid, "refused")
	wantFailure(t, results[3].Err, model.Permanent, "no JSON")
	wantFailure(t, results[4].Err, model.Limited, "429")
	wantFailure(t, results[5].Err, model.Limited, "429")
	if requests.Load() != 3 || results[2].Out != "" {
		t.Errorf("%d requests, %+v", requests.Load(), results[2])
	}
}

func TestConfigurationRefused(t *testing.T) {
	fn := func(*string) ([]byte, error) { return nil, nil }
	for name, test := range map[string]struct {
		method string
		codec  httpjson.Codec[string, int]
	}{
		"neither":        {"", httpjson.Codec[string, int]{}},
		"both":           {"", httpjson.Codec[string, int]{Template: "1", Body: fn}},
		"pointer":        {"", httpjson.Codec[string, int]{Body: fn, Pointer: "a"}},
		"tilde":          {"", httpjson.Codec[string, int]{Body: fn, Pointer: "/a~"}},
		"tilde 2":        {"", httpjson.Codec[string, int]{Body: fn, VersionPointer: "/a~2"}},
		"pointer decode": {"", httpjson.Codec[string, int]{Body: fn, Pointer: "/a", Decode: func([]byte) (int, error) { return 0, nil }}},
		"method":         {"GET", httpjson.Codec[string, int]{Body: fn}},
		"concurrency":    {"", httpjson.Codec[string, int]{Body: fn, Concurrency: -1}},
	} {
		if _, err := httpjson.New(httpjson.Endpoint{URL: "http://x", Method: test.method}, test.codec); base.CodeOf(err) != model.CodeAccess {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := httpjson.New(httpjson.Endpoint{URL: "file:///etc/passwd"}, httpjson.Codec[string, int]{Body: fn}); base.CodeOf(err) != model.CodeAccess {
		t.Error(err)
	}
}
