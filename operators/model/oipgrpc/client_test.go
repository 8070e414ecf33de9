package oipgrpc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/oip"
	"github.com/weirflow/weir/operators/model/oipgrpc"
	"github.com/weirflow/weir/operators/model/oipgrpc/inference"
)

type features struct {
	Age  float32
	Hist [2]int64
	Text string
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
			oip.Vector("hist", 2, func(f *features, row []int64) { copy(row, f.Hist[:]) }),
			oip.Scalar("text", func(f *features) string { return f.Text }),
		},
		Outputs: []string{"p", "class", "name"},
		Decode:  func(r *oip.Row) (score, error) { return score{r.Float("p"), r.Int("class"), r.Text("name")}, nil },
	}
}

// server is a model whose answers a test makes.
type server struct {
	inference.UnimplementedGRPCInferenceServiceServer
	infer func(context.Context, *inference.ModelInferRequest) (*inference.ModelInferResponse, error)
	meta  *inference.ModelMetadataResponse
}

func (s *server) ModelInfer(ctx context.Context, r *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
	return s.infer(ctx, r)
}

func (s *server) ModelMetadata(context.Context, *inference.ModelMetadataRequest) (*inference.ModelMetadataResponse, error) {
	return s.meta, nil
}

func start(t *testing.T, s *server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	inference.RegisterGRPCInferenceServiceServer(g, s)
	go g.Serve(l)
	t.Cleanup(g.Stop)
	return l.Addr().String()
}

func newClient(t *testing.T, address string, e oip.Endpoint) *oipgrpc.Client[features, score] {
	t.Helper()
	e.URL = "grpc://" + address
	if e.Model == "" {
		e.Model = "m"
	}
	if e.Access.Allow == nil {
		e.Access.Allow = []string{"loopback"}
	}
	c, err := oipgrpc.New(e, codec())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func calls(in ...features) []model.Call[features] {
	out := make([]model.Call[features], len(in))
	for i := range in {
		out[i] = model.Call[features]{Key: fmt.Sprintf("job/op/%d", i), Attempt: 1, In: in[i]}
	}
	return out
}

func wantFailure(t *testing.T, err error, kind model.Kind, says string) *model.Failure {
	t.Helper()
	f, ok := err.(*model.Failure)
	if !ok || f.Kind != kind || !strings.Contains(f.Error(), says) {
		t.Errorf("error %T %v, want kind %d, %q", err, err, kind, says)
		return &model.Failure{}
	}
	return f
}

func answer(p []float32) *inference.ModelInferResponse {
	n := int64(len(p))
	classes, names := make([]int32, n), make([][]byte, n)
	for i := range names {
		classes[i], names[i] = int32(i)-1, fmt.Appendf(nil, "n%d", i)
	}
	return &inference.ModelInferResponse{ModelName: "m", ModelVersion: "7", Outputs: []*inference.ModelInferResponse_InferOutputTensor{
		{Name: "p", Datatype: oip.Float32, Shape: []int64{n, 1}, Contents: &inference.InferTensorContents{Fp32Contents: p}},
		{Name: "extra", Datatype: "X"},
		{Name: "class", Datatype: oip.Int32, Shape: []int64{n}, Contents: &inference.InferTensorContents{IntContents: classes}},
		{Name: "name", Datatype: oip.Bytes, Shape: []int64{n}, Contents: &inference.InferTensorContents{BytesContents: names}},
	}}
}

func TestRequestAndAnswer(t *testing.T) {
	t.Setenv("WEIR_TEST_KEY", "canary")
	var got *inference.ModelInferRequest
	var md metadata.MD
	address := start(t, &server{infer: func(ctx context.Context, r *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
		got = r
		md, _ = metadata.FromIncomingContext(ctx)
		a := answer([]float32{0.25, 2})
		a.Id = r.Id
		return a, nil
	}})
	c := newClient(t, address, oip.Endpoint{Version: "7", Parameters: map[string]any{"priority": 3},
		Access: model.Access{Allow: []string{"127.0.0.1"}, Secret: model.SecretFromEnv("WEIR_TEST_KEY"), Header: map[string]string{"X-Team": "a"}}})
	results, err := c.Invoke(t.Context(), calls(features{1.5, [2]int64{1, 2}, "a"}, features{float32(math.Inf(1)), [2]int64{3, math.MinInt64}, "\xff"}))
	if err != nil {
		t.Fatal(err)
	}
	want := []model.Result[score]{{Out: score{0.25, -1, "n0"}, Version: "7"}, {Out: score{2, 0, "n1"}, Version: "7"}}
	if !reflect.DeepEqual(results, want) {
		t.Errorf("results %+v", results)
	}
	var request inference.ModelInferRequest
	if err := protojson.Unmarshal([]byte(`{"modelName":"m","modelVersion":"7","id":"`+got.Id+`",
		"parameters":{"priority":{"int64Param":3},"idempotency_keys":{"stringParam":"[\"job/op/0\",\"job/op/1\"]"}},
		"inputs":[{"name":"age","datatype":"FP32","shape":[2,1],"contents":{"fp32Contents":[1.5,"Infinity"]}},
			{"name":"hist","datatype":"INT64","shape":[2,2],"contents":{"int64Contents":[1,2,3,"-9223372036854775808"]}},
			{"name":"text","datatype":"BYTES","shape":[2,1],"contents":{"bytesContents":["YQ==","/w=="]}}],
		"outputs":[{"name":"p"},{"name":"class"},{"name":"name"}]}`), &request); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, &request) {
		t.Errorf("request %v", got)
	}
	for name, value := range map[string]string{"idempotency-key": got.Id, "authorization": "Bearer canary", "x-team": "a"} {
		if v := md.Get(name); len(v) != 1 || v[0] != value {
			t.Errorf("%s is %v", name, v)
		}
	}
	// One call has its own key, and no parameter.
	if _, err := c.Invoke(t.Context(), calls(features{})); err == nil {
		t.Error("2 rows were taken for 1")
	}
	if md.Get("idempotency-key")[0] != "job/op/0" || got.Parameters["idempotency_keys"] != nil {
		t.Errorf("%v %v", md, got)
	}
}

func TestStatus(t *testing.T) {
	t.Setenv("WEIR_TEST_KEY", "canary")
	var reply error
	address := start(t, &server{infer: func(context.Context, *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
		return nil, reply
	}})
	c := newClient(t, address, oip.Endpoint{Access: model.Access{Allow: []string{"loopback"}, Secret: model.SecretFromEnv("WEIR_TEST_KEY")}})
	for code, kind := range map[codes.Code]model.Kind{
		codes.ResourceExhausted: model.Limited, codes.Unavailable: model.Unavailable,
		codes.InvalidArgument: model.Permanent, codes.NotFound: model.Permanent, codes.PermissionDenied: model.Permanent,
		codes.Unauthenticated: model.Permanent, codes.Unimplemented: model.Permanent, codes.FailedPrecondition: model.Permanent,
		codes.Internal: model.Unknown, codes.Unknown: model.Unknown, codes.Aborted: model.Unknown, codes.DeadlineExceeded: model.Unknown,
		codes.Canceled: model.Unknown, codes.DataLoss: model.Unknown,
	} {
		s, err := status.New(code, "no\nway, canary").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		reply = s.Err()
		_, err = c.Invoke(t.Context(), calls(features{}))
		f := wantFailure(t, err, kind, "no way, ***")
		if f.Status != int(code) {
			t.Errorf("%s has status %d", code, f.Status)
		}
		if wait := f.RetryAfter == 7*time.Second; wait != (kind == model.Limited || kind == model.Unavailable) {
			t.Errorf("%s waits %v", code, f.RetryAfter)
		}
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*inference.ModelInferResponse)
		says   string
	}{
		"missing":     {func(a *inference.ModelInferResponse) { a.Outputs = a.Outputs[1:] }, `no output "p"`},
		"rows":        {func(a *inference.ModelInferResponse) { a.Outputs[0].Shape = []int64{3} }, "for 2 inputs"},
		"too few":     {func(a *inference.ModelInferResponse) { a.Outputs[0].Contents.Fp32Contents = []float32{1} }, "1 elements"},
		"no contents": {func(a *inference.ModelInferResponse) { a.Outputs[0].Contents = nil }, "0 elements"},
		"other type":  {func(a *inference.ModelInferResponse) { a.Outputs[0].Datatype = oip.Int32 }, "0 elements"},
		"datatype":    {func(a *inference.ModelInferResponse) { a.Outputs[0].Datatype = "FP7" }, "FP7"},
		"huge":        {func(a *inference.ModelInferResponse) { a.Outputs[0].Shape = []int64{2, math.MaxInt64} }, "shape"},
		"version":     {func(a *inference.ModelInferResponse) { a.ModelVersion = "8" }, `"8"`},
		"id":          {func(a *inference.ModelInferResponse) { a.Id = "other" }, "another request"},
		"raw number":  {func(a *inference.ModelInferResponse) { a.RawOutputContents = make([][]byte, 1) }, "1 raw contents"},
		"raw cut":     {func(a *inference.ModelInferResponse) { a.RawOutputContents = [][]byte{make([]byte, 9), {}, {}, {}} }, "whole elements"},
		"raw text": {func(a *inference.ModelInferResponse) {
			a.RawOutputContents = [][]byte{make([]byte, 8), {}, make([]byte, 8), {255, 255, 255, 255, 1}}
		}, "cut off"},
		"large": {func(a *inference.ModelInferResponse) { a.ModelName = strings.Repeat("x", 2000) }, "larger than max"},
	} {
		t.Run(name, func(t *testing.T) {
			address := start(t, &server{infer: func(context.Context, *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
				a := answer([]float32{0.25, 2})
				test.change(a)
				return a, nil
			}})
			c := newClient(t, address, oip.Endpoint{Version: "7", Access: model.Access{MaxResponse: 1000, MaxRequest: 1000}})
			_, err := c.Invoke(t.Context(), calls(features{}, features{}))
			wantFailure(t, err, model.Invalid, test.says)
			_, err = c.Invoke(t.Context(), calls(features{Text: strings.Repeat("x", 1000)}))
			wantFailure(t, err, model.Permanent, "more than 1000")
		})
	}
}

// TestRequestTooLargeForServer: the same call fails again.
func TestRequestTooLargeForServer(t *testing.T) {
	address := start(t, &server{})
	_, err := newClient(t, address, oip.Endpoint{}).Invoke(t.Context(), calls(features{Text: strings.Repeat("x", 5<<20)}))
	wantFailure(t, err, model.Permanent, "larger than max")
}

// TestOneRowMakesNoSense: the other rows have their predictions.
func TestOneRowMakesNoSense(t *testing.T) {
	address := start(t, &server{infer: func(context.Context, *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
		return answer([]float32{float32(math.NaN()), 2}), nil
	}})
	results, err := newClient(t, address, oip.Endpoint{}).Invoke(t.Context(), calls(features{}, features{}))
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, results[0].Err, model.Invalid, "NaN")
	if results[1].Err != nil || results[1].Out.P != 2 {
		t.Errorf("%+v", results[1])
	}
}

func TestRawContents(t *testing.T) {
	raw := func(v any) []byte {
		var b bytes.Buffer
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for datatype, test := range map[string]struct {
		raw  []byte
		want any
	}{
		oip.Bool:    {[]byte{1, 0}, []bool{true, false}},
		oip.Int8:    {raw([]int8{-1, 2}), []float64{-1, 2}},
		oip.Int16:   {raw([]int16{-300, 2}), []float64{-300, 2}},
		oip.Int32:   {raw([]int32{-70000, 2}), []float64{-70000, 2}},
		oip.Int64:   {raw([]int64{-1 << 40, 2}), []float64{-1 << 40, 2}},
		oip.Uint8:   {raw([]uint8{255, 2}), []float64{255, 2}},
		oip.Uint16:  {raw([]uint16{65535, 2}), []float64{65535, 2}},
		oip.Uint32:  {raw([]uint32{1 << 31, 2}), []float64{1 << 31, 2}},
		oip.Uint64:  {raw([]uint64{1 << 63, 2}), []float64{1 << 63, 2}},
		oip.Float32: {raw([]float32{0.5, -2}), []float64{0.5, -2}},
		oip.Float64: {raw([]float64{0.1, -2}), []float64{0.1, -2}},
		oip.Float16: {raw([]uint16{0x3555, 0xc000}), []float64{0.333251953125, -2}},
		"FP16 sub":  {raw([]uint16{0x0001, 0x03ff}), []float64{0x1p-24, 1023 * 0x1p-24}},
		oip.BFloat:  {raw([]uint16{0x3f80, 0xc000}), []float64{1, -2}},
		oip.Bytes:   {[]byte("\x03\x00\x00\x00abc\x00\x00\x00\x00"), []string{"abc", ""}},
	} {
		address := start(t, &server{infer: func(context.Context, *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
			return &inference.ModelInferResponse{ModelName: "m", RawOutputContents: [][]byte{test.raw}, Outputs: []*inference.ModelInferResponse_InferOutputTensor{
				{Name: "x", Datatype: strings.Fields(datatype)[0], Shape: []int64{1, 2}},
			}}, nil
		}})
		c, err := oipgrpc.New(oip.Endpoint{URL: "grpc://" + address, Model: "m", Access: model.Access{Allow: []string{"loopback"}}}, oip.Codec[features, any]{
			Inputs: codec().Inputs,
			Decode: func(r *oip.Row) (any, error) {
				switch test.want.(type) {
				case []bool:
					return r.Bools("x"), nil
				case []string:
					return r.Texts("x"), nil
				}
				return r.Floats("x"), nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		results, err := c.Invoke(t.Context(), calls(features{}))
		if err != nil || results[0].Err != nil || !reflect.DeepEqual(results[0].Out, test.want) {
			t.Errorf("%s: %+v, %v", datatype, results, err)
		}
		c.Close()
	}
}

// TestBrokenConnections: what was sent may have been done.
func TestBrokenConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, err = newClient(t, l.Addr().String(), oip.Endpoint{}).Invoke(t.Context(), calls(features{}))
	wantFailure(t, err, model.Unavailable, "refused")

	release := make(chan struct{})
	defer close(release)
	arrived := make(chan struct{}, 4)
	var seen atomic.Int32
	s := &server{infer: func(ctx context.Context, _ *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
		seen.Add(1)
		arrived <- struct{}{}
		<-release
		return answer([]float32{1}), nil
	}}
	address := start(t, s)
	cut, proxy := cutter(t, address)
	c := newClient(t, proxy, oip.Endpoint{Access: model.Access{Timeout: 5 * time.Second}})
	go func() { <-arrived; cut() }()
	_, err = c.Invoke(t.Context(), calls(features{}))
	wantFailure(t, err, model.Unknown, "")
	if seen.Load() != 1 {
		t.Errorf("the server was called %d times", seen.Load())
	}

	c = newClient(t, address, oip.Endpoint{Access: model.Access{Timeout: 200 * time.Millisecond}})
	_, err = c.Invoke(t.Context(), calls(features{}))
	if f := wantFailure(t, err, model.Unknown, "deadline"); f.Cause != context.DeadlineExceeded {
		t.Errorf("cause %v", f.Cause)
	}
	ctx, cancel := context.WithCancel(t.Context())
	for len(arrived) > 0 {
		<-arrived
	}
	c = newClient(t, address, oip.Endpoint{})
	go func() { <-arrived; cancel() }()
	_, err = c.Invoke(ctx, calls(features{}))
	wantFailure(t, err, model.Unknown, "cancel")
	_, err = c.Invoke(ctx, calls(features{}))
	wantFailure(t, err, model.Unavailable, "cancel")
}

// cutter forwards connections to a server until cut closes them all.
func cutter(t *testing.T, to string) (cut func(), address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	open := []io.Closer{l}
	cut = func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			c.Close()
		}
	}
	t.Cleanup(cut)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			go io.Copy(out, in)
			go io.Copy(in, out)
		}
	}()
	return cut, l.Addr().String()
}

func TestGuard(t *testing.T) {
	address := start(t, &server{infer: func(context.Context, *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
		t.Error("the server was called")
		return nil, nil
	}})
	_, err := newClient(t, address, oip.Endpoint{Access: model.Access{Allow: []string{"private"}}}).Invoke(t.Context(), calls(features{}))
	wantFailure(t, err, model.Permanent, "loopback address")
}

func TestCheck(t *testing.T) {
	meta := &inference.ModelMetadataResponse{Name: "m"}
	c := newClient(t, start(t, &server{meta: meta}), oip.Endpoint{})
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	meta.Inputs = []*inference.ModelMetadataResponse_TensorMetadata{{Name: "age", Datatype: oip.Float64, Shape: []int64{-1, 1}}}
	if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "age is FP64") {
		t.Error(err)
	}
}

func TestConfigurationRefused(t *testing.T) {
	for _, e := range []oip.Endpoint{
		{URL: "http://x:1", Model: "m"}, {URL: "grpc://x", Model: "m"}, {URL: "grpc://:1", Model: "m"}, {URL: "grpc://x:1/p", Model: "m"},
		{URL: "grpc://u:canary@x:1", Model: "m"}, {URL: "grpc://x:1"}, {URL: "grpc://x:1", Model: "m", Parameters: map[string]any{"a": []int{1}}},
		{URL: "grpc://x:1", Model: "m", Access: model.Access{Allow: []string{"x"}}},
		{URL: "grpcs://x:1", Model: "m", Access: model.Access{CAFile: "/no/such/file"}},
		{URL: "grpc://x:1", Model: "m", Access: model.Access{Secret: model.SecretFromEnv("PATH")}},
	} {
		if _, err := oipgrpc.New(e, codec()); err == nil || !strings.Contains(err.Error(), model.CodeAccess) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", e.URL, err)
		}
	}
	if _, err := oipgrpc.New(oip.Endpoint{URL: "grpc://x:1", Model: "m"}, oip.Codec[features, score]{}); err == nil {
		t.Error("an empty codec was taken")
	}
}
