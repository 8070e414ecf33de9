// Package oipgrpc asks models that are served by the Open Inference Protocol, by gRPC.
// It is a module of its own, so that jobs without it do without gRPC. Endpoints and
// codecs are those of package oip:
//
//	client, err := oipgrpc.New(oip.Endpoint{URL: "grpcs://models.example.com:8001", Model: "churn"}, codec)
//
// The scheme of the URL is grpcs, with TLS, or grpc. There is one connection, whatever
// MaxConns says, and no proxy, no retries by gRPC of what may have reached the server,
// and no configuration from DNS. Redirects do not exist.
//
// # Idempotency keys
//
// The metadata idempotency-key has the key of the call, or a hash of all keys when
// there are several. Then the parameter idempotency_keys of the request has them, as a
// string that holds an array as JSON: the protocol has no lists. Endpoint.Keys can
// leave it out.
//
// # Not here
//
// Shared memory, streams, and a program that also links other code generated from the
// same protocol: protobuf takes each name once.
package oipgrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/internal/rest"
	"github.com/weirflow/weir/operators/model/oip"
	"github.com/weirflow/weir/operators/model/oipgrpc/inference"
)

// Client asks a model by gRPC. It implements model.Client.
type Client[In, Out any] struct {
	conn       *grpc.ClientConn
	host       string
	endpoint   oip.Endpoint
	codec      oip.Codec[In, Out]
	parameters map[string]*inference.InferParameter
	outputs    []*inference.ModelInferRequest_InferRequestedOutputTensor
	// refused is why the last connection was not made, if its address is not allowed.
	refused atomic.Pointer[rest.BlockedError]
}

// New returns a client, which connects with its first call. Errors have the code
// model.CodeAccess.
func New[In, Out any](e oip.Endpoint, codec oip.Codec[In, Out]) (*Client[In, Out], error) {
	u, err := url.Parse(e.URL)
	switch {
	case err != nil || u.User != nil:
		return nil, rest.Error("the address of the model's server cannot be read, or has a user", "", "give a URL such as grpcs://models.example.com:8001")
	case u.Scheme != "grpc" && u.Scheme != "grpcs":
		return nil, rest.Error(fmt.Sprintf("the scheme of the model's server is %q", u.Scheme), u.Host, "use grpc or grpcs")
	case u.Hostname() == "" || u.Port() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, rest.Error("the address of the model's server is no host and port", u.Host, "give a URL such as grpcs://models.example.com:8001")
	case e.Model == "":
		return nil, rest.Error("the endpoint names no model", u.Host, "give the name of the model")
	}
	if err := codec.Validate(); err != nil {
		return nil, err
	}
	c := &Client[In, Out]{host: u.Host, codec: codec}
	ip := net.ParseIP(u.Hostname())
	var guard *rest.Guard
	if e.Access, guard, err = rest.Settle(e.Access, u.Host, u.Scheme == "grpcs" || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()); err != nil {
		return nil, err
	}
	c.endpoint = e
	if c.parameters, err = parameters(e.Parameters, u.Host); err != nil {
		return nil, err
	}
	for _, name := range codec.Outputs {
		c.outputs = append(c.outputs, &inference.ModelInferRequest_InferRequestedOutputTensor{Name: name})
	}
	creds := insecure.NewCredentials()
	if u.Scheme == "grpcs" {
		t, err := rest.TLS(e.Access, u.Host)
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(t)
	}
	c.conn, err = grpc.NewClient("passthrough:///"+u.Host,
		grpc.WithTransportCredentials(creds), grpc.WithContextDialer(c.dial(guard.Dialer(e.Access.ConnectTimeout))),
		grpc.WithNoProxy(), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithStatsHandler(watch{}), grpc.WithUserAgent("weir"),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: e.Access.ConnectTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(int(e.Access.MaxResponse)), grpc.MaxCallSendMsgSize(int(e.Access.MaxRequest))))
	if err != nil {
		return nil, rest.Error("there is no client for the model's server: "+err.Error(), u.Host, "give a URL such as grpcs://models.example.com:8001")
	}
	return c, nil
}

// dial connects, and remembers whether an address was refused.
func (c *Client[In, Out]) dial(d *net.Dialer) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, "tcp", address)
		refused, _ := errors.AsType[*rest.BlockedError](err)
		c.refused.Store(refused)
		return conn, err
	}
}

// Close ends the connection, and calls that go on.
func (c *Client[In, Out]) Close() error { return c.conn.Close() }

// Invoke implements model.Client by one request.
func (c *Client[In, Out]) Invoke(ctx context.Context, calls []model.Call[In]) ([]model.Result[Out], error) {
	if len(calls) == 0 {
		return nil, nil
	}
	rows, keys := make([]*In, len(calls)), make([]string, len(calls))
	for i := range calls {
		rows[i], keys[i] = &calls[i].In, calls[i].Key
	}
	id := rest.HeaderKey(keys)
	request := &inference.ModelInferRequest{
		ModelName: c.endpoint.Model, ModelVersion: c.endpoint.Version, Id: id,
		Parameters: c.withKeys(keys), Outputs: c.outputs,
	}
	for _, t := range c.codec.Pack(rows) {
		request.Inputs = append(request.Inputs, &inference.ModelInferRequest_InferInputTensor{
			Name: t.Name, Datatype: t.Datatype, Shape: t.Shape, Contents: contents(t.Data),
		})
	}
	var answer inference.ModelInferResponse
	if err := c.call(ctx, inference.GRPCInferenceService_ModelInfer_FullMethodName, request, &answer, id); err != nil {
		return nil, err
	}
	if err := c.endpoint.Same(answer.ModelVersion, answer.Id, id); err != nil {
		return nil, err
	}
	outputs, err := tensors(&answer, c.codec.Wants)
	if err != nil {
		return nil, rest.Invalid(err, "the answer of %s cannot be read", c.host)
	}
	results, err := c.codec.Unpack(outputs, len(calls))
	for i := range results {
		results[i].Version = answer.ModelVersion
	}
	return results, err
}

// Check asks the server for the model's metadata and holds the codec against it. An
// error is a *model.Failure if the server does not say, and has the code
// model.CodeAccess if the model is another.
func (c *Client[In, Out]) Check(ctx context.Context) error {
	var m inference.ModelMetadataResponse
	err := c.call(ctx, inference.GRPCInferenceService_ModelMetadata_FullMethodName,
		&inference.ModelMetadataRequest{Name: c.endpoint.Model, Version: c.endpoint.Version}, &m, "")
	if err != nil {
		return err
	}
	meta := func(list []*inference.ModelMetadataResponse_TensorMetadata) []oip.Meta {
		out := make([]oip.Meta, len(list))
		for i, t := range list {
			out[i] = oip.Meta{Name: t.Name, Datatype: t.Datatype, Shape: t.Shape}
		}
		return out
	}
	return c.codec.Check(c.endpoint.Model, meta(m.Inputs), meta(m.Outputs))
}

// call makes one call. Its errors are *model.Failure.
func (c *Client[In, Out]) call(ctx context.Context, method string, request, answer proto.Message, key string) error {
	body, err := proto.Marshal(request)
	if err != nil {
		return rest.Permanent(err, "the request has no form in protobuf")
	}
	if int64(len(body)) > c.endpoint.Access.MaxRequest {
		return rest.Permanent(nil, "the request for %s has %d bytes, more than %d", c.host, len(body), c.endpoint.Access.MaxRequest)
	}
	pairs, secret, err := c.metadata(key)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.endpoint.Access.Timeout)
	defer cancel()
	seen := new(sight)
	ctx = context.WithValue(metadata.NewOutgoingContext(ctx, metadata.Pairs(pairs...)), sightKey{}, seen)
	var got []byte
	if err := c.conn.Invoke(ctx, method, &body, &got); err != nil {
		f := c.failure(err, seen, secret)
		if refused := c.refused.Load(); refused != nil && !seen.sent.Load() {
			f.Kind, f.Cause = model.Permanent, refused
		}
		return f
	}
	if err := proto.Unmarshal(got, answer); err != nil {
		return rest.Invalid(err, "the answer of %s is no message of the protocol", c.host)
	}
	return nil
}

func (c *Client[In, Out]) metadata(key string) (pairs []string, secret string, err error) {
	for name, value := range c.endpoint.Access.Header {
		pairs = append(pairs, name, value)
	}
	if key != "" {
		pairs = append(pairs, "idempotency-key", key)
	}
	a := &c.endpoint.Access
	if a.Secret.IsZero() {
		return pairs, "", nil
	}
	if secret, err = a.Secret.Value(); err != nil {
		return nil, "", &model.Failure{Kind: model.Unavailable, What: "there is no secret for " + c.host, Cause: err}
	}
	if a.SecretHeader != "" {
		return append(pairs, a.SecretHeader, secret), secret, nil
	}
	return append(pairs, "authorization", "Bearer "+secret), secret, nil
}

// parameters are those of the endpoint.
func parameters(from map[string]any, where string) (map[string]*inference.InferParameter, error) {
	out := make(map[string]*inference.InferParameter, len(from)+1)
	for name, v := range from {
		p := &inference.InferParameter{}
		switch v := v.(type) {
		case bool:
			p.ParameterChoice = &inference.InferParameter_BoolParam{BoolParam: v}
		case string:
			p.ParameterChoice = &inference.InferParameter_StringParam{StringParam: v}
		case int:
			p.ParameterChoice = &inference.InferParameter_Int64Param{Int64Param: int64(v)}
		case int64:
			p.ParameterChoice = &inference.InferParameter_Int64Param{Int64Param: v}
		case uint64:
			p.ParameterChoice = &inference.InferParameter_Uint64Param{Uint64Param: v}
		case float64:
			p.ParameterChoice = &inference.InferParameter_DoubleParam{DoubleParam: v}
		default:
			return nil, rest.Error(fmt.Sprintf("the parameter %s is a %T", name, v), where, "use bool, string, int, int64, uint64 or float64")
		}
		out[name] = p
	}
	return out, nil
}

// withKeys are the parameters of a request for calls with the given keys.
func (c *Client[In, Out]) withKeys(keys []string) map[string]*inference.InferParameter {
	if len(keys) < 2 || c.endpoint.Keys == oip.KeyNone {
		return c.parameters
	}
	out := make(map[string]*inference.InferParameter, len(c.parameters)+1)
	for name, p := range c.parameters {
		out[name] = p
	}
	list, _ := json.Marshal(keys) // strings have a form in JSON
	out["idempotency_keys"] = &inference.InferParameter{ParameterChoice: &inference.InferParameter_StringParam{StringParam: string(list)}}
	return out
}
