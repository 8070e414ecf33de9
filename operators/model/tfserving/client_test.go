package tfserving_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/tfserving"
)

var loopback = model.Access{Allow: []string{"loopback"}}

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

func TestPredict(t *testing.T) {
	var path, body, key string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		path, body, key = r.URL.EscapedPath(), string(b), r.Header.Get("Idempotency-Key")
		io.WriteString(w, `{"predictions": [0.5, -2e3]}`)
	})
	for _, test := range []struct {
		endpoint      tfserving.Endpoint
		path, version string
	}{
		{tfserving.Endpoint{Model: "m"}, "/v1/models/m:predict", ""},
		{tfserving.Endpoint{Model: "a b/c", Version: "7"}, "/v1/models/a%20b%2Fc/versions/7:predict", "7"},
		{tfserving.Endpoint{Model: "m", Label: "stable", Signature: "s"}, "/v1/models/m/labels/stable:predict", ""},
	} {
		test.endpoint.URL, test.endpoint.Access = url, loopback
		c, err := tfserving.New(test.endpoint, tfserving.Codec[[]float64, float64]{Instance: func(in *[]float64) any { return *in }})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		results, err := c.Invoke(t.Context(), calls([]float64{1, 2}, []float64{math.NaN()}, []float64{3}))
		if err != nil {
			t.Fatal(err)
		}
		wantFailure(t, results[1].Err, model.Permanent, "NaN")
		results[1].Err = nil
		if !reflect.DeepEqual(results, []model.Result[float64]{{Out: 0.5, Version: test.version}, {}, {Out: -2000, Version: test.version}}) {
			t.Errorf("%+v", results)
		}
		want := `{"instances":[[1,2],[3]]}`
		if test.endpoint.Signature != "" {
			want = `{"signature_name":"s","instances":[[1,2],[3]]}`
		}
		if path != test.path || body != want || len(key) != 32 {
			t.Errorf("%s %s, key %s", path, body, key)
		}
		path = ""
		if results, err = c.Invoke(t.Context(), calls([]float64{math.Inf(1)})); err != nil || results[0].Err == nil || path != "" {
			t.Errorf("%v %v %s", results, err, path)
		}
	}
}

func TestStructuresAndBytes(t *testing.T) {
	type in struct {
		Image tfserving.Bytes `json:"image"`
		Size  int             `json:"size"`
	}
	type out struct {
		Scores []float32 `json:"scores"`
		Class  string    `json:"class"`
	}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if string(b) != `{"instances":[{"image":{"b64":"/wA="},"size":2}]}` || r.Header.Get("Idempotency-Key") != "job/op/0" {
			t.Errorf("request %s", b)
		}
		io.WriteString(w, `{"predictions":[{"scores":[0.25,1],"class":"null"}]}`)
	})
	c, err := tfserving.New(tfserving.Endpoint{URL: url, Model: "m", Access: loopback}, tfserving.Codec[in, out]{Instance: func(v *in) any { return v }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	results, err := c.Invoke(t.Context(), calls(in{tfserving.Bytes{255, 0}, 2}))
	if err != nil || !reflect.DeepEqual(results[0].Out, out{[]float32{0.25, 1}, "null"}) {
		t.Errorf("%+v %v", results, err)
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	for name, test := range map[string]struct {
		status       int
		answer, says string
		kind         model.Kind
	}{
		"no JSON":  {200, "<html>", "is none", model.Invalid},
		"nothing":  {200, "", "is none", model.Invalid},
		"other":    {200, `{"outputs":[1,2]}`, "no predictions", model.Invalid},
		"null":     {200, `{"predictions":null}`, "no predictions", model.Invalid},
		"object":   {200, `{"predictions":{"a":1}}`, "no predictions", model.Invalid},
		"too few":  {200, `{"predictions":[1]}`, "1 predictions for 2", model.Invalid},
		"too many": {200, `{"predictions":[1,2,3]}`, "3 predictions for 2", model.Invalid},
		"error":    {200, `{"error":"broken"}`, "broken", model.Invalid},
		"400":      {400, `{"error":"bad input"}`, "bad input", model.Permanent},
		"503":      {503, ``, "503", model.Unavailable},
	} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			io.WriteString(w, test.answer)
		})
		c, err := tfserving.New(tfserving.Endpoint{URL: url, Model: "m", Access: loopback}, tfserving.Codec[int, float64]{Instance: func(in *int) any { return *in }})
		if err != nil {
			t.Fatal(err)
		}
		results, err := c.Invoke(t.Context(), calls(1, 2))
		if test.status == 400 && err == nil { // each was refused by itself
			err = results[1].Err
		}
		t.Run(name, func(t *testing.T) { wantFailure(t, err, test.kind, test.says) })
		c.Close()
	}
}

// TestOneBadInstance: the others have their results, and each its key.
func TestOneBadInstance(t *testing.T) {
	keys := map[string]int{}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Instances []int }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		if got := r.Header.Values("Idempotency-Key"); len(got) != len(body.Instances) {
			t.Errorf("%d keys for %d instances", len(got), len(body.Instances))
		}
		for _, k := range r.Header.Values("Idempotency-Key") {
			keys[k]++
		}
		if slices.Contains(body.Instances, 13) {
			http.Error(w, `{"error":"no thirteens"}`, http.StatusBadRequest)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"predictions": body.Instances})
	})
	c, err := tfserving.New(tfserving.Endpoint{URL: url, Model: "m", Access: loopback, KeyEach: true}, tfserving.Codec[int, int]{Instance: func(in *int) any { return *in }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := calls(10, 11, 12, 13, 14, 15, 16)
	results, err := c.Invoke(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if in[i].In == 13 {
			wantFailure(t, r.Err, model.Permanent, "no thirteens")
		} else if r.Err != nil || r.Out != in[i].In {
			t.Errorf("%+v for %d", r, in[i].In)
		}
	}
	if len(keys) != len(in) {
		t.Errorf("%d keys", len(keys))
	}
}

// TestOnePredictionMakesNoSense: the other has its result.
func TestOnePredictionMakesNoSense(t *testing.T) {
	for _, bad := range []string{"NaN", "-Infinity", "null", `"a"`, "[1]", "1e999"} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"predictions":[%s,2]}`, bad) })
		c, err := tfserving.New(tfserving.Endpoint{URL: url, Model: "m", Access: loopback}, tfserving.Codec[int, float64]{Instance: func(in *int) any { return *in }})
		if err != nil {
			t.Fatal(err)
		}
		results, err := c.Invoke(t.Context(), calls(1, 2))
		if err != nil {
			t.Fatal(err)
		}
		wantFailure(t, results[0].Err, model.Invalid, "")
		if results[0].Out != 0 || results[1].Err != nil || results[1].Out != 2 {
			t.Errorf("%s: %+v", bad, results)
		}
		c.Close()
	}
}

func TestConfigurationRefused(t *testing.T) {
	for _, e := range []tfserving.Endpoint{{URL: "http://x"}, {URL: "http://x", Model: ".."}, {URL: "http://x", Model: "m", Version: "1", Label: "l"}, {URL: "x", Model: "m"}} {
		if _, err := tfserving.New(e, tfserving.Codec[int, int]{Instance: func(in *int) any { return in }}); base.CodeOf(err) != model.CodeAccess {
			t.Errorf("%+v: %v", e, err)
		}
	}
	if _, err := tfserving.New(tfserving.Endpoint{URL: "http://x", Model: "m"}, tfserving.Codec[int, int]{}); base.CodeOf(err) != model.CodeAccess {
		t.Error(err)
	}
}
