package oip_test

import (
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
	"testing"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/oip"
)

type features struct {
	Age  float32
	Hist [3]int64
	Text string
	VIP  bool
}

type score struct {
	P     float64
	Class int64
	Name  string
}

func codec() oip.Codec[features, score] {
	return oip.Codec[features, score]{
		Inputs: []oip.Column[features]{
			oip.Scalar("age", func(f *features) float32 { return f.Age }),
			oip.Vector("hist", 3, func(f *features, row []int64) { copy(row, f.Hist[:]) }),
			oip.Scalar("text", func(f *features) string { return f.Text }).Dims(),
			oip.Scalar("vip", func(f *features) bool { return f.VIP }),
		},
		Outputs: []string{"p", "class", "name"},
		Decode: func(r *oip.Row) (score, error) {
			return score{r.Float("p"), r.Int("class"), r.Text("name")}, nil
		},
	}
}

var loopback = model.Access{Allow: []string{"loopback"}}

// serve answers each request by a function of its body.
func serve(t *testing.T, answer func(path string, h http.Header, body []byte) (int, string)) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		status, text := answer(r.URL.EscapedPath(), r.Header, b)
		w.WriteHeader(status)
		io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func calls(in ...features) []model.Call[features] {
	out := make([]model.Call[features], len(in))
	for i := range in {
		out[i] = model.Call[features]{Key: fmt.Sprintf("job/op/%d", i), Attempt: 1, In: in[i]}
	}
	return out
}

func newClient(t *testing.T, e oip.Endpoint, c oip.Codec[features, score]) *oip.Client[features, score] {
	t.Helper()
	e.Access = loopback
	client, err := oip.New(e, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func wantFailure(t *testing.T, err error, kind model.Kind, says string) {
	t.Helper()
	f, ok := err.(*model.Failure)
	if !ok || f.Kind != kind || !strings.Contains(f.Error(), says) {
		t.Errorf("error %T %v, want kind %d, %q", err, err, kind, says)
	}
}

const answer2 = `{"model_name":"m","model_version":"7","outputs":[
	{"name":"p","datatype":"FP64","shape":[2,1],"data":[[0.25],[1e-3]]},
	{"name":"class","datatype":"INT32","shape":[2],"data":[-1,2]},
	{"name":"extra","datatype":"X","shape":[9],"data":[]},
	{"name":"name","datatype":"BYTES","shape":[2],"data":["a \"], [\\","é\u00e9"]}]}`

func TestRequestAndAnswer(t *testing.T) {
	var request map[string]any
	var header http.Header
	var path string
	url := serve(t, func(p string, h http.Header, body []byte) (int, string) {
		path, header, request = p, h, nil
		if err := json.Unmarshal(body, &request); err != nil {
			t.Error(err)
		}
		checkSchema(t, "inference_request", body)
		return 200, answer2
	})
	c := newClient(t, oip.Endpoint{URL: url + "/base", Model: "a/b c", Version: "7", Parameters: map[string]any{"content_type": "pd"}}, codec())
	got, err := c.Invoke(t.Context(), calls(
		features{1.5, [3]int64{1, 2, math.MaxInt64}, `quo"te`, true},
		features{-1e-7, [3]int64{-4, 5, 6}, "<é>", false}))
	if err != nil {
		t.Fatal(err)
	}
	want := []model.Result[score]{
		{Out: score{0.25, -1, `a "], [\`}, Version: "7"},
		{Out: score{1e-3, 2, "éé"}, Version: "7"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("results %+v", got)
	}
	if path != "/base/v2/models/a%2Fb%20c/versions/7/infer" {
		t.Errorf("path %s", path)
	}
	id := request["id"].(string)
	if h := header.Get("Idempotency-Key"); h != id || len(h) != 32 {
		t.Errorf("header %q, id %q", h, id)
	}
	delete(request, "id")
	wantRequest := map[string]any{}
	if err := json.Unmarshal([]byte(`{
		"inputs": [
			{"name":"age","shape":[2,1],"datatype":"FP32","data":[1.5,-1e-7]},
			{"name":"hist","shape":[2,3],"datatype":"INT64","data":[1,2,9223372036854775807,-4,5,6]},
			{"name":"text","shape":[2],"datatype":"BYTES","data":["quo\"te","<é>"]},
			{"name":"vip","shape":[2,1],"datatype":"BOOL","data":[true,false]}],
		"outputs": [{"name":"p"},{"name":"class"},{"name":"name"}],
		"parameters": {"content_type":"pd","idempotency_keys":["job/op/0","job/op/1"]}}`), &wantRequest); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(request, wantRequest) {
		t.Errorf("request %v, want %v", request, wantRequest)
	}
}

func TestKeys(t *testing.T) {
	var body []byte
	var key string
	url := serve(t, func(_ string, h http.Header, b []byte) (int, string) {
		body, key = b, h.Get("Idempotency-Key")
		return 503, ""
	})
	for _, test := range []struct {
		form oip.KeyForm
		n    int
		want any
	}{
		{oip.KeyArray, 1, nil},
		{oip.KeyArray, 2, []any{"job/op/0", "job/op/1"}},
		{oip.KeyText, 2, `["job/op/0","job/op/1"]`},
		{oip.KeyNone, 2, nil},
	} {
		c := newClient(t, oip.Endpoint{URL: url, Model: "m", Keys: test.form}, codec())
		_, err := c.Invoke(t.Context(), calls(make([]features, test.n)...))
		wantFailure(t, err, model.Unavailable, "503")
		var r struct {
			Parameters map[string]any `json:"parameters"`
		}
		if err := json.Unmarshal(body, &r); err != nil || !reflect.DeepEqual(r.Parameters["idempotency_keys"], test.want) {
			t.Errorf("form %d: parameters %v, %v", test.form, r.Parameters, err)
		}
		if (key == "job/op/0") != (test.n == 1) {
			t.Errorf("header %q for %d calls", key, test.n)
		}
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	two := `{"name":"class","datatype":"INT32","shape":[2],"data":[1,2]},{"name":"name","datatype":"BYTES","shape":[2],"data":["a","b"]}`
	for name, test := range map[string]struct{ answer, says string }{
		"no JSON":        {"<html>", "no inference response"},
		"nothing":        {"", "no inference response"},
		"other JSON":     {"[]", "no inference response"},
		"no outputs":     {`{"model_name":"m"}`, "no output"},
		"missing":        {`{"outputs":[` + two + `]}`, `no output "p"`},
		"too few rows":   {`{"outputs":[{"name":"p","datatype":"FP32","shape":[1,1],"data":[1]},` + two + `]}`, "shape is [1 1], for 2"},
		"too many rows":  {`{"outputs":[{"name":"p","datatype":"FP32","shape":[3],"data":[1,2,3]},` + two + `]}`, "shape is [3], for 2"},
		"no shape":       {`{"outputs":[{"name":"p","datatype":"FP32","shape":[],"data":[1,2]},` + two + `]}`, "shape"},
		"too little":     {`{"outputs":[{"name":"p","datatype":"FP32","shape":[2,1],"data":[1]},` + two + `]}`, "1 elements"},
		"too much":       {`{"outputs":[{"name":"p","datatype":"FP32","shape":[2,1],"data":[1,2,3]},` + two + `]}`, "more elements"},
		"ragged":         {`{"outputs":[{"name":"p","datatype":"FP32","shape":[2,2],"data":[[1],[2,3,4]]},` + two + `]}`, "dimension 1"},
		"nested less":    {`{"outputs":[{"name":"p","datatype":"FP32","shape":[2,2,1],"data":[[1,2],[3,4]]},` + two + `]}`, "shape"},
		"nested more":    {`{"outputs":[{"name":"p","datatype":"FP32","shape":[2],"data":[[1],[2]]},` + two + `]}`, "deeper"},
		"object":         {`{"outputs":[{"name":"p","datatype":"FP32","shape":[2],"data":[{"a":1},2]},` + two + `]}`, "no array"},
		"no array":       {`{"outputs":[{"name":"p","datatype":"FP32","shape":[2],"data":12},` + two + `]}`, "no array"},
		"no data":        {`{"outputs":[{"name":"p","datatype":"FP32","shape":[2]},` + two + `]}`, "0 elements"},
		"datatype":       {`{"outputs":[{"name":"p","datatype":"FP7","shape":[2],"data":[1,2]},` + two + `]}`, "FP7"},
		"negative":       {`{"outputs":[{"name":"p","datatype":"FP32","shape":[-2,-1],"data":[1,2]},` + two + `]}`, "shape"},
		"huge":           {`{"outputs":[{"name":"p","datatype":"FP32","shape":[4294967296,4294967296],"data":[1,2]},` + two + `]}`, "shape"},
		"huge product":   {`{"outputs":[{"name":"p","datatype":"FP32","shape":[2,2147483647],"data":[1,2]},` + two + `]}`, "shape"},
		"twice":          {`{"outputs":[` + two + `,` + two + `]}`, "two outputs"},
		"version":        {`{"model_version":"8","outputs":[` + two + `]}`, `version "8"`},
		"other request":  {`{"id":"other","outputs":[` + two + `]}`, "another request"},
		"number as text": {`{"outputs":[{"name":"p","datatype":"FP32","shape":["2"],"data":[1,2]},` + two + `]}`, "no inference response"},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, func(string, http.Header, []byte) (int, string) { return 200, test.answer })
			c := newClient(t, oip.Endpoint{URL: url, Model: "m", Version: "7"}, codec())
			results, err := c.Invoke(t.Context(), calls(features{}, features{}))
			wantFailure(t, err, model.Invalid, test.says)
			if results != nil {
				t.Error("there are results, too")
			}
		})
	}
}

// TestOneRowMakesNoSense: the other rows have their predictions.
func TestOneRowMakesNoSense(t *testing.T) {
	refuse := errors.New("refused")
	for name, test := range map[string]struct{ p, class, name, says string }{
		"NaN":            {`[1, NaN]`, `[1, 1]`, `["b", "a"]`, "NaN"},
		"infinity":       {`[1, -Infinity]`, `[1, 1]`, `["b", "a"]`, "no FP32"},
		"null":           {`[1, null]`, `[1, 1]`, `["b", "a"]`, "no FP32"},
		"too large":      {`[1, 1e999]`, `[1, 1]`, `["b", "a"]`, "no FP32"},
		"text":           {`[1, "0.5"]`, `[1, 1]`, `["b", "a"]`, "no FP32"},
		"fraction":       {`[1, 1]`, `[1, 1.5]`, `["b", "a"]`, "no INT8"},
		"beyond INT8":    {`[1, 1]`, `[1, 128]`, `["b", "a"]`, "no INT8"},
		"no text":        {`[1, 1]`, `[1, 1]`, `["b", 7]`, "no BYTES"},
		"null as text":   {`[1, 1]`, `[1, 1]`, `["b", null]`, "no BYTES"},
		"Decode refuses": {`[1, 2]`, `[1, 1]`, `["b", "a"]`, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, func(string, http.Header, []byte) (int, string) {
				return 200, fmt.Sprintf(`{"model_name":"m","outputs":[{"name":"p","datatype":"FP32","shape":[2],"data":%s},
					{"name":"class","datatype":"INT8","shape":[2],"data":%s},{"name":"name","datatype":"BYTES","shape":[2],"data":%s}]}`, test.p, test.class, test.name)
			})
			cd := codec()
			decode := cd.Decode
			cd.Decode = func(r *oip.Row) (score, error) {
				s, _ := decode(r)
				if s.P == 2 {
					return s, refuse
				}
				return s, nil
			}
			results, err := newClient(t, oip.Endpoint{URL: url, Model: "m"}, cd).Invoke(t.Context(), calls(features{}, features{}))
			if err != nil {
				t.Fatal(err)
			}
			says := test.says
			if name == "NaN" {
				says = "no FP32"
			}
			wantFailure(t, results[1].Err, model.Invalid, says)
			if results[0].Err != nil || results[0].Out != (score{1, 1, "b"}) {
				t.Errorf("the other row: %+v", results[0])
			}
		})
	}
}

// TestInputsThatJSONCannotCarry fail alone.
func TestInputsThatJSONCannotCarry(t *testing.T) {
	requests := 0
	url := serve(t, func(_ string, _ http.Header, b []byte) (int, string) {
		requests++
		if !strings.Contains(string(b), `"data":[1,2]`) || !strings.Contains(string(b), `"idempotency_keys":["job/op/0","job/op/3"]`) {
			t.Errorf("request %s", b)
		}
		return 200, answer2
	})
	c := newClient(t, oip.Endpoint{URL: url, Model: "m"}, codec())
	nan := float32(math.NaN())
	results, err := c.Invoke(t.Context(), calls(features{Age: 1}, features{Age: nan}, features{Text: "\xff"}, features{Age: 2}))
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, results[1].Err, model.Permanent, "age")
	wantFailure(t, results[2].Err, model.Permanent, "text")
	if results[0].Out.P != 0.25 || results[3].Out.P != 1e-3 {
		t.Errorf("results %+v", results)
	}
	if results, err = c.Invoke(t.Context(), calls(features{Age: nan})); err != nil || results[0].Err == nil || requests != 1 {
		t.Errorf("%v %v after %d requests", results, err, requests)
	}
	if results, err = c.Invoke(t.Context(), nil); err != nil || len(results) != 0 || requests != 1 {
		t.Errorf("%v %v after %d requests", results, err, requests)
	}
}

func TestRowOfOtherTypes(t *testing.T) {
	url := serve(t, func(string, http.Header, []byte) (int, string) {
		return 200, `{"model_name":"m","outputs":[{"name":"p","datatype":"UINT64","shape":[1,2],"data":[18446744073709551615,1]},{"name":"b","datatype":"BOOL","shape":[1,1,2],"data":[[[true,false]]]}]}`
	})
	for name, test := range map[string]struct {
		decode func(r *oip.Row) any
		want   any
		says   string
	}{
		"numbers":      {func(r *oip.Row) any { return r.Floats("p") }, []float64{1 << 64, 1}, ""},
		"bools":        {func(r *oip.Row) any { return r.Bools("b") }, []bool{true, false}, ""},
		"shape":        {func(r *oip.Row) any { return append(r.Shape("b"), r.Shape("p")...) }, []int64{1, 2, 2}, ""},
		"has":          {func(r *oip.Row) any { return r.Has("b") && !r.Has("c") }, true, ""},
		"too large":    {func(r *oip.Row) any { return r.Ints("p") }, nil, "larger than an int64"},
		"two":          {func(r *oip.Row) any { return r.Float("p") }, nil, "2 elements"},
		"missing":      {func(r *oip.Row) any { return r.Float("q") }, nil, "missing"},
		"no numbers":   {func(r *oip.Row) any { return r.Floats("b") }, nil, "BOOL"},
		"no integers":  {func(r *oip.Row) any { return r.Int("b") }, nil, "BOOL"},
		"no texts":     {func(r *oip.Row) any { return r.Texts("b") }, nil, "BOOL"},
		"no bools":     {func(r *oip.Row) any { return r.Bool("p") }, nil, "UINT64"},
		"missing then": {func(r *oip.Row) any { r.Shape("q"); return r.Bools("b") }, nil, `"q"`},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := oip.New(oip.Endpoint{URL: url, Model: "m", Access: loopback}, oip.Codec[features, any]{
				Inputs: codec().Inputs,
				Decode: func(r *oip.Row) (any, error) { return test.decode(r), nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			results, err := c.Invoke(t.Context(), calls(features{}))
			if err != nil {
				t.Fatal(err)
			}
			if test.says != "" {
				wantFailure(t, results[0].Err, model.Invalid, test.says)
			} else if results[0].Err != nil || !reflect.DeepEqual(results[0].Out, test.want) {
				t.Errorf("%#v, %v", results[0].Out, results[0].Err)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	var text string
	status := 200
	url := serve(t, func(path string, _ http.Header, _ []byte) (int, string) {
		if path != "/v2/models/m" {
			t.Errorf("path %s", path)
		}
		return status, text
	})
	c := newClient(t, oip.Endpoint{URL: url, Model: "m"}, codec())
	good := `{"name":"m","platform":"x","inputs":[{"name":"age","datatype":"FP32","shape":[-1,1]},{"name":"hist","datatype":"INT64","shape":[-1,-1]},
		{"name":"text","datatype":"BYTES","shape":[-1]},{"name":"vip","datatype":"BOOL","shape":[-1,1]}],
		"outputs":[{"name":"p","datatype":"FP32","shape":[-1]},{"name":"class","datatype":"INT32","shape":[-1]},{"name":"name","datatype":"BYTES","shape":[-1]}]}`
	for _, ok := range []string{good, `{"name":"m","platform":"x"}`} {
		text = ok
		checkSchema(t, "metadata_model_response", []byte(text))
		if err := c.Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
	text = strings.NewReplacer(`"age","datatype":"FP32"`, `"age","datatype":"FP64"`, `[-1,-1]`, `[-1,4]`, `"vip"`, `"vop"`, `{"name":"p"`, `{"name":"q"`).Replace(good)
	err := c.Check(t.Context())
	if base.CodeOf(err) != model.CodeAccess {
		t.Errorf("%v", err)
	}
	for _, says := range []string{"age is FP64", "hist has the shape [-1 4]", "no input vip", "also has the input vop", "no output p"} {
		if err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
	}
	status = 404
	wantFailure(t, c.Check(t.Context()), model.Permanent, "404")
	status, text = 200, "x"
	wantFailure(t, c.Check(t.Context()), model.Invalid, "no metadata")
}

func TestConfigurationRefused(t *testing.T) {
	scalar := oip.Scalar("a", func(f *features) float32 { return f.Age })
	for name, change := range map[string]func(*oip.Endpoint, *oip.Codec[features, score]){
		"no inputs": func(_ *oip.Endpoint, c *oip.Codec[features, score]) { c.Inputs = nil },
		"no Decode": func(_ *oip.Endpoint, c *oip.Codec[features, score]) { c.Decode = nil },
		"no name":   func(_ *oip.Endpoint, c *oip.Codec[features, score]) { c.Inputs[0] = oip.Column[features]{} },
		"nil": func(_ *oip.Endpoint, c *oip.Codec[features, score]) {
			c.Inputs[0] = oip.Scalar[features, bool]("a", nil)
		},
		"twice":      func(_ *oip.Endpoint, c *oip.Codec[features, score]) { c.Inputs = append(c.Inputs, c.Inputs[0]) },
		"dimensions": func(_ *oip.Endpoint, c *oip.Codec[features, score]) { c.Inputs[0] = scalar.Dims(1, 2) },
		"width": func(_ *oip.Endpoint, c *oip.Codec[features, score]) {
			c.Inputs[0] = oip.Vector("v", 0, func(*features, []bool) {})
		},
		"no model":   func(e *oip.Endpoint, _ *oip.Codec[features, score]) { e.Model = "" },
		"up":         func(e *oip.Endpoint, _ *oip.Codec[features, score]) { e.Model = ".." },
		"version":    func(e *oip.Endpoint, _ *oip.Codec[features, score]) { e.Version = "." },
		"scheme":     func(e *oip.Endpoint, _ *oip.Codec[features, score]) { e.URL = "ftp://x" },
		"parameters": func(e *oip.Endpoint, _ *oip.Codec[features, score]) { e.Parameters = map[string]any{"f": func() {}} },
	} {
		e, c := oip.Endpoint{URL: "http://x", Model: "m"}, codec()
		change(&e, &c)
		if _, err := oip.New(e, c); base.CodeOf(err) != model.CodeAccess {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := newClient(t, oip.Endpoint{URL: "http://127.0.0.1:1", Model: "m"}, codec()).Invoke(ctx, calls(features{}))
	wantFailure(t, err, model.Unavailable, "canceled")
}
