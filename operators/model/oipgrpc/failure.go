package oipgrpc

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/internal/rest"
)

// failure is what an error of gRPC means, by what was seen of the call.
func (c *Client[In, Out]) failure(err error, seen *sight, secret string) *model.Failure {
	s, _ := status.FromError(err)
	f := &model.Failure{What: fmt.Sprintf("%s: %s: %s", c.host, s.Code(), rest.Line(s.Message(), secret))}
	switch {
	case s.Code() == codes.ResourceExhausted && strings.Contains(strings.ToLower(s.Message()), "received message larger than max"):
		// gRPC says so in these words for either side, and only the limit tells which.
		if f.Kind = model.Permanent; strings.HasSuffix(s.Message(), fmt.Sprintf("vs. %d)", c.endpoint.Access.MaxResponse)) {
			f.Kind = model.Invalid
		}
	case seen.answered.Load():
		f.Status = int(s.Code())
		if f.Kind = Kind(s.Code()); f.Kind == model.Limited || f.Kind == model.Unavailable {
			f.RetryAfter = retryAfter(s)
		}
		return f
	case !seen.sent.Load():
		f.Kind = model.Unavailable
	default:
		f.Kind = model.Unknown
	}
	switch s.Code() {
	case codes.DeadlineExceeded:
		f.Cause = context.DeadlineExceeded
	case codes.Canceled:
		f.Cause = context.Canceled
	}
	return f
}

// Kind is the kind of failure that a status from a server means.
func Kind(c codes.Code) model.Kind {
	switch c {
	case codes.ResourceExhausted:
		return model.Limited
	case codes.Unavailable:
		return model.Unavailable
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.Unauthenticated,
		codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented:
		return model.Permanent
	}
	// The server took the call and may have done what it does with it.
	return model.Unknown
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = 24 * time.Hour

func retryAfter(s *status.Status) time.Duration {
	for _, d := range s.Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return max(0, min(r.GetRetryDelay().AsDuration(), maxRetryAfter))
		}
	}
	return 0
}

// sight is what was seen of a call.
type sight struct {
	// sent: a stream was opened for the call; answered: the server has ended it.
	sent, answered atomic.Bool
}

type sightKey struct{}

// watch notes in the sight of a call how far it has come.
type watch struct{}

// TagRPC implements stats.Handler.
func (watch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (watch) HandleRPC(ctx context.Context, s stats.RPCStats) {
	seen, ok := ctx.Value(sightKey{}).(*sight)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.Begin:
		// gRPC tries again by itself only what no server has begun.
		if s.IsTransparentRetryAttempt {
			seen.sent.Store(false)
		}
	case *stats.OutHeader:
		seen.sent.Store(true)
	case *stats.InTrailer:
		seen.answered.Store(true)
	}
}

// TagConn implements stats.Handler.
func (watch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (watch) HandleConn(context.Context, stats.ConnStats) {}

// raw is a codec of gRPC that leaves messages as bytes: an answer that is no message
// is then not taken for a failure of the connection.
type raw struct{}

// Marshal implements encoding.Codec.
func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

// Unmarshal implements encoding.Codec.
func (raw) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = b
	return nil
}

// Name implements encoding.Codec.
func (raw) Name() string { return "proto" }
