package openai

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/internal/rest"
)

// streamed makes a request whose answer comes in pieces.
func (c *ChatClient[In, Out]) streamed(ctx context.Context, r rest.Request, call *model.Call[In]) (*Completion, error) {
	host := c.rest.Host()
	r.Accept = "text/event-stream"
	var p pieces
	err := c.rest.Stream(ctx, r, func(h http.Header, body io.Reader) error {
		if !strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") {
			return rest.Invalid(nil, "the answer of %s is no stream of events", host)
		}
		index, ended, done := 0, false, false
		err := events(body, func(data []byte) (bool, error) {
			if string(data) == "[DONE]" {
				done = true
				return false, nil
			}
			var a answer
			if err := rest.Decode(data, &a); err != nil {
				return false, rest.Invalid(err, "a piece of the answer of %s is no chat completion", host)
			}
			if a.Error != nil {
				return false, a.Error.failure(host)
			}
			if a.Model != "" {
				p.Model = a.Model
			}
			if a.Usage != nil {
				p.Usage = a.Usage.tokens()
			}
			for i := range a.Choices {
				ch := &a.Choices[i]
				if ch.Index != 0 {
					return false, rest.Invalid(nil, "the answer of %s has several choices, where one is due", host)
				}
				text := p.add(&ch.Delta)
				if ch.FinishReason != "" {
					p.FinishReason, ended = ch.FinishReason, true
				}
				if text != "" && c.chat.Delta != nil {
					c.chat.Delta(&call.In, Delta{Key: call.Key, Attempt: call.Attempt, Index: index, Content: text})
					index++
				}
			}
			return true, nil
		})
		if err == nil && !done && !ended {
			return &model.Failure{Kind: model.Unknown, What: "the stream of " + host + " ended before the answer did"}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return p.completion(host)
}

// maxLine is the longest line of a stream of events, in bytes.
const maxLine = 4 << 20

// events reads server-sent events and calls each with their data, until it returns
// false or an error, or the stream ends. An event that the end cuts off is none.
func events(r io.Reader, each func(data []byte) (bool, error)) error {
	lines := bufio.NewReaderSize(r, 4<<10)
	var data []byte
	has := false
	for {
		line, err := readLine(lines)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(line) == 0 {
			if !has {
				continue
			}
			more, err := each(data)
			if err != nil || !more {
				return err
			}
			data, has = data[:0], false
			continue
		}
		// Comments begin with a colon; other fields than data say nothing here.
		value, ok := bytes.CutPrefix(line, []byte("data"))
		if !ok || len(value) > 0 && value[0] != ':' {
			continue
		}
		value = bytes.TrimPrefix(bytes.TrimPrefix(value, []byte(":")), []byte(" "))
		if has {
			data = append(data, '\n')
		}
		data, has = append(data, value...), true
		if len(data) > maxLine {
			return rest.Invalid(nil, "an event of the stream has more than %d bytes", maxLine)
		}
	}
}

// readLine reads a line without its end. A line that the end of the stream cuts off is
// io.EOF.
func readLine(r *bufio.Reader) ([]byte, error) {
	var long []byte
	for {
		part, err := r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			if long = append(long, part...); len(long) > maxLine {
				return nil, rest.Invalid(nil, "a line of the stream has more than %d bytes", maxLine)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if long != nil {
			part = append(long, part...)
		}
		return bytes.TrimSuffix(part[:len(part)-1], []byte("\r")), nil
	}
}
