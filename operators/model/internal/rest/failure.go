package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/weirflow/weir/operators/model"
)

// Invalid returns the failure for an answer that makes no sense. cause may be nil.
func Invalid(cause error, format string, args ...any) error {
	return &model.Failure{Kind: model.Invalid, What: fmt.Sprintf(format, args...), Cause: cause}
}

// Permanent returns the failure for an input that cannot be sent. cause may be nil.
func Permanent(cause error, format string, args ...any) error {
	return &model.Failure{Kind: model.Permanent, What: fmt.Sprintf(format, args...), Cause: cause}
}

// Refused makes a *model.Failure of an error: itself if it is one, else a permanent
// one.
func Refused(err error, format string, args ...any) error {
	if f, ok := errors.AsType[*model.Failure](err); ok {
		return f
	}
	return Permanent(err, format, args...)
}

// Nonsense is Refused for what makes an answer invalid.
func Nonsense(err error, format string, args ...any) error {
	if f, ok := errors.AsType[*model.Failure](err); ok {
		return f
	}
	return Invalid(err, format, args...)
}

func (c *Client) tooLarge() error {
	return Invalid(nil, "the answer of %s has more than %d bytes", c.Host(), c.access.MaxResponse)
}

// broken returns the failure for a connection that broke or a time that ran out.
func (c *Client) broken(ctx context.Context, err error, sent bool, when string) error {
	err = bare(err)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = cause
	}
	f := &model.Failure{Kind: model.Unavailable, What: c.Host() + " was not reached", Cause: err}
	if sent {
		f.Kind, f.What = model.Unknown, "the connection to "+c.Host()+" ended "+when
	}
	if _, ok := errors.AsType[*BlockedError](err); ok {
		f.Kind = model.Permanent
	}
	return f
}

// bare is an error without the address that the client of net/http adds, whose query
// is nobody's business.
func bare(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// status returns the failure for an answer that is no success.
func (c *Client) status(resp *http.Response, secret string) error {
	f := &model.Failure{Kind: Kind(resp.StatusCode), Status: resp.StatusCode}
	f.What = fmt.Sprintf("%s answered %d", c.Host(), resp.StatusCode)
	if text := http.StatusText(resp.StatusCode); text != "" {
		f.What += " " + text
	}
	// What the server says is for people, and as good with its end missing.
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 8<<10))
	if said := Excerpt(b, secret); said != "" {
		f.What += ": " + said
	}
	switch f.Kind {
	case model.Limited:
		f.RetryAfter = c.RetryAfter(resp.Header)
	case model.Unavailable:
		f.RetryAfter = c.after(resp.Header)
	}
	return f
}

// Kind is the kind of failure that a status of HTTP means.
func Kind(status int) model.Kind {
	switch status {
	case http.StatusTooManyRequests:
		return model.Limited
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusRequestTimeout, http.StatusTooEarly, 529:
		return model.Unavailable
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return model.Permanent
	}
	if status >= 500 {
		// The server took the call and may have done what it does with it.
		return model.Unknown
	}
	return model.Permanent
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = 24 * time.Hour

// RetryAfter is the least time before another attempt, by the header of an answer;
// 0 if that says none. Retry-After counts before the x-ratelimit headers.
func (c *Client) RetryAfter(h http.Header) time.Duration {
	if d := c.after(h); d > 0 {
		return d
	}
	// Of the budgets that are used up, or else of all, the last to be full again.
	var used, all time.Duration
	for name := range h {
		lower := strings.ToLower(name)
		what, ok := strings.CutPrefix(lower, "x-ratelimit-reset")
		if !ok {
			continue
		}
		d := c.reset(h.Get(name))
		all = max(all, d)
		if left := strings.TrimSpace(h.Get("x-ratelimit-remaining" + what)); left == "0" {
			used = max(used, d)
		}
	}
	if used > 0 {
		return used
	}
	return all
}

// after reads Retry-After, and the header in milliseconds that some servers add.
func (c *Client) after(h http.Header) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil {
		return seconds(ms / 1000)
	}
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		return seconds(s)
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now := c.now()
	// The server's own clock, where it shows it.
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return seconds(at.Sub(now).Seconds())
}

// reset reads the value of a header x-ratelimit-reset: a duration ("6m0s"), seconds,
// seconds since 1970, or a time.
func (c *Client) reset(v string) time.Duration {
	v = strings.TrimSpace(v)
	if d, err := time.ParseDuration(v); err == nil {
		return seconds(d.Seconds())
	}
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		if s > 1e9 {
			s -= float64(c.clock.Now()) / 1e9
		}
		return seconds(s)
	}
	if at, err := time.Parse(time.RFC3339, v); err == nil {
		return seconds(at.Sub(c.now()).Seconds())
	}
	return 0
}

func (c *Client) now() time.Time { return time.Unix(0, c.clock.Now()) }

func seconds(s float64) time.Duration {
	if !(s > 0) {
		return 0
	}
	return time.Duration(min(s, maxRetryAfter.Seconds()) * float64(time.Second))
}

// maxExcerpt is the length of what is shown of an answer, in bytes.
const maxExcerpt = 200

// Excerpt is what an answer says of an error, on one line, short, without the secret.
func Excerpt(b []byte, secret string) string {
	s := string(b)
	var doc struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	if json.Unmarshal(b, &doc) == nil {
		var inner struct {
			Message string `json:"message"`
		}
		var text string
		switch {
		case json.Unmarshal(doc.Error, &inner) == nil && inner.Message != "":
			s = inner.Message
		case json.Unmarshal(doc.Error, &text) == nil && text != "":
			s = text
		case doc.Message != "":
			s = doc.Message
		case json.Unmarshal(doc.Detail, &text) == nil && text != "":
			s = text
		}
	}
	return Line(s, secret)
}

// Line is a text that a server has sent, on one line, short, without the secret.
func Line(s, secret string) string {
	// Once more behind clean, which may put together what was apart.
	s = hide(clean(hide(s, secret)), clean(secret))
	if len(s) > maxExcerpt {
		s = strings.ToValidUTF8(s[:maxExcerpt], "") + "…"
	}
	return s
}

func hide(s, secret string) string {
	if secret == "" {
		return s
	}
	return strings.ReplaceAll(s, secret, "***")
}

// clean is a text on one line, of characters that can be seen.
func clean(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))), " ")
}
