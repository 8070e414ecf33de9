package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/internal/base"
)

// apiTimeout bounds one request to the server's management interface when the
// caller's context does not.
const apiTimeout = 5 * time.Second

// Error codes of the server that decide something here.
const (
	errCodeNoMessage       = 10037
	errCodeMaxConsumers    = 10026
	errCodeWrongLast       = 10071
	errCodeWrongLastConst  = 10164
	errCodeIncompleteBatch = 10176
	errCodeDuplicate       = 10201
	errCodeTooManyInflight = 10210
)

// storedMsg is one message of a stream with its place in it.
type storedMsg struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Header  []byte    `json:"hdrs"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

// lastMsg returns the last message on a subject, read from the leader of the
// stream; a direct get could be answered by a follower with an older one. It
// returns nil when there is none.
func lastMsg(ctx context.Context, nc *nats.Conn, stream, subject string) (*storedMsg, error) {
	return getMsg(ctx, nc, stream, map[string]any{"last_by_subj": subject})
}

// msgAt returns the message with a sequence, or nil when it is not there.
func msgAt(ctx context.Context, nc *nats.Conn, stream string, seq uint64) (*storedMsg, error) {
	return getMsg(ctx, nc, stream, map[string]any{"seq": seq})
}

func getMsg(ctx context.Context, nc *nats.Conn, stream string, req map[string]any) (*storedMsg, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	reply, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream, err)
	}
	var resp struct {
		Error   *natsjs.APIError `json:"error"`
		Message *storedMsg       `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &resp); err != nil {
		return nil, fmt.Errorf("read stream %s: unreadable answer: %w", stream, err)
	}
	switch {
	case resp.Error != nil && resp.Error.ErrorCode == errCodeNoMessage:
		return nil, nil
	case resp.Error != nil:
		return nil, fmt.Errorf("read stream %s: %w", stream, resp.Error)
	case resp.Message == nil:
		return nil, fmt.Errorf("read stream %s: empty answer", stream)
	}
	return resp.Message, nil
}

// streamInfo asks the leader for configuration and state.
func streamInfo(ctx context.Context, nc *nats.Conn, stream string) (*natsjs.StreamInfo, error) {
	js, err := natsjs.New(nc)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

// streamError turns a failure to look at a stream into words. code is used for a
// stream that is missing or misnamed; other failures may pass.
func streamError(code, stream string, err error) error {
	switch {
	case errors.Is(err, natsjs.ErrStreamNotFound):
		return &base.Error{Code: code, What: "there is no stream " + quote(stream), Next: "create it, or correct the name", Cause: err}
	case errors.Is(err, natsjs.ErrInvalidStreamName), errors.Is(err, natsjs.ErrStreamNameRequired):
		return base.Fatal(&base.Error{Code: code, What: "a stream cannot be named " + quote(stream), Next: "use letters, digits, - and _"})
	case errors.Is(err, natsjs.ErrJetStreamNotEnabled), errors.Is(err, natsjs.ErrJetStreamNotEnabledForAccount):
		return &base.Error{Code: code, What: "JetStream is not enabled on the NATS server", Where: "stream " + stream,
			Next: "enable it, or name another server", Cause: err}
	}
	if base.CodeOf(err) != "" {
		return err
	}
	return fmt.Errorf("stream %s: %w", stream, err)
}

// identity is the creation time of a stream: it tells a stream from another that
// has its name later.
func identity(info *natsjs.StreamInfo) string { return info.Created.UTC().Format(time.RFC3339Nano) }

// apiCode returns the server's code for an error, or 0.
func apiCode(err error) int {
	if e, ok := errors.AsType[*natsjs.APIError](err); ok {
		return int(e.ErrorCode)
	}
	return 0
}

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }
