// Package rest is what the clients of models over HTTP share: one client with guards
// against requests to places that were not meant, limits, and the failures that
// answers and broken connections are.
//
// Requests go by HTTP/1.1, without proxies from the environment, which would connect
// in place of the guard, and without compression, so that limits hold for what is
// kept in memory. Nothing is repeated once any of it may have reached the server.
package rest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators/model"
)

// Client sends requests to one server. It is safe for concurrent use.
type Client struct {
	base   *url.URL
	access model.Access
	guard  *Guard
	http   *http.Client
	clock  clock.Clock
}

// Error returns an error in the configuration of a model.
func Error(what, where, next string) error {
	return &base.Error{Code: model.CodeAccess, What: what, Where: where, Next: next}
}

// New returns a client for the server at an address, such as
// "https://models.example.com/path". Errors have the code model.CodeAccess.
func New(address string, a model.Access) (*Client, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		// The error of Parse would show a password.
		return nil, Error("the address of the model's server cannot be read", "", "give a URL such as https://models.example.com")
	case u.User != nil:
		return nil, Error("the address of the model's server has a user or password", u.Host, "put it in a file or environment variable, and name that as Access.Secret")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, Error(fmt.Sprintf("the scheme of the model's server is %q", u.Scheme), u.Host, "use http or https")
	case u.Host == "" || u.Fragment != "":
		return nil, Error("the address of the model's server has no host, or a fragment", u.Host, "give a URL such as https://models.example.com")
	}
	a, guard, err := Settle(a, u.Host, u.Scheme == "https" || thisHost(u.Hostname()))
	if err != nil {
		return nil, err
	}
	c := &Client{base: u, access: a, guard: guard, clock: clock.Real()}
	t := &http.Transport{
		DialContext: guard.Dialer(a.ConnectTimeout).DialContext, TLSHandshakeTimeout: a.ConnectTimeout,
		MaxConnsPerHost: a.MaxConns, MaxIdleConnsPerHost: a.MaxConns,
		// Common servers close after 5 s without a request, and a request that meets
		// the close is one whose fate is unknown.
		IdleConnTimeout:    4 * time.Second,
		DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
	}
	if t.TLSClientConfig, err = TLS(a, u.Host); err != nil {
		return nil, err
	}
	c.http = &http.Client{Transport: t, CheckRedirect: c.redirect}
	return c, nil
}

func thisHost(name string) bool {
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// Settle checks an access, gives its fields their defaults, and returns its guard.
// where is the host, for errors; safe: a secret is not seen on its way there.
func Settle(a model.Access, where string, safe bool) (model.Access, *Guard, error) {
	guard, err := NewGuard(a.Allow)
	if err != nil {
		return a, nil, Error("the access of the model has a wrong entry in Allow: "+err.Error(), where, "give networks, addresses, \"loopback\" or \"private\"")
	}
	if !a.Secret.IsZero() {
		if !safe && !a.Insecure {
			return a, nil, Error("the model's secret would travel over http", where, "use https, or set Insecure if the network is trusted")
		}
		if _, err := a.Secret.Value(); err != nil {
			return a, nil, Error(err.Error(), where, "set the variable or write the file before the job starts")
		}
	}
	for _, n := range []int64{a.MaxRequest, a.MaxResponse, int64(a.MaxConns), int64(a.Timeout), int64(a.ConnectTimeout), int64(a.Redirects)} {
		if n < 0 {
			return a, nil, Error("the access of the model has a limit below 0", where, "leave it out for the default")
		}
	}
	def(&a.MaxRequest, 16<<20)
	def(&a.MaxResponse, 16<<20)
	def(&a.MaxConns, 64)
	def(&a.Timeout, time.Minute)
	def(&a.ConnectTimeout, 5*time.Second)
	return a, guard, nil
}

func def[T ~int | ~int64](p *T, value T) {
	if *p == 0 {
		*p = value
	}
}

// TLS returns the settings of TLS for an access.
func TLS(a model.Access, where string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CAFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(a.CAFile)
	if err != nil {
		return nil, &base.Error{Code: model.CodeAccess, What: "the certificates for the model's server cannot be read", Where: where, Cause: err, Next: "correct Access.CAFile"}
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, Error("the file of certificates for the model's server has none", where, "give a file with certificates in PEM as Access.CAFile")
	}
	return c, nil
}

func (c *Client) redirect(r *http.Request, via []*http.Request) error {
	if len(via) > c.access.Redirects || r.URL.Scheme != c.base.Scheme || r.URL.Host != c.base.Host || r.Method != via[0].Method {
		return http.ErrUseLastResponse
	}
	return nil
}

// Host is the server, for errors and Where.
func (c *Client) Host() string { return c.base.Host }

// Close closes connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Request is one request.
type Request struct {
	// Method; "" is POST. Path is joined to the client's address; names in it must be
	// escaped.
	Method, Path string
	Body         []byte
	// Keys are the idempotency keys of the calls in the request. They go into one header,
	// or with KeyEach into one for each.
	Keys    []string
	KeyEach bool
	// Accept is the type of the answer; "" is JSON.
	Accept string
}

// Do sends a request and returns the body of a successful answer. Errors are
// *model.Failure.
func (c *Client) Do(ctx context.Context, r Request) ([]byte, error) {
	var out []byte
	err := c.Stream(ctx, r, func(_ http.Header, body io.Reader) error {
		b, err := io.ReadAll(body)
		out = b
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Stream sends a request and calls read with the header and the body of a successful
// answer, which end with read and with ctx. What read returns is what Stream does,
// where it is a *model.Failure; errors of the body, passed on, are understood too;
// others are Invalid.
func (c *Client) Stream(ctx context.Context, r Request, read func(http.Header, io.Reader) error) error {
	if int64(len(r.Body)) > c.access.MaxRequest {
		return &model.Failure{Kind: model.Permanent, What: fmt.Sprintf("the request for %s has %d bytes, more than %d", c.Host(), len(r.Body), c.access.MaxRequest)}
	}
	ctx, cancel := context.WithTimeout(ctx, c.access.Timeout)
	defer cancel()
	// sent: a connection was got for the request, which may be on its way from then
	// on. Another attempt of the transport, which it makes only when it has written
	// nothing, asks for a connection anew.
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { sent.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
	})
	req, secret, err := c.request(ctx, &r)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.broken(ctx, err, sent.Load(), "before its answer")
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return c.status(resp, secret)
	}
	body := &limited{r: resp.Body, left: c.access.MaxResponse}
	if resp.ContentLength > body.left {
		return c.tooLarge()
	}
	err = read(resp.Header, body)
	var f *model.Failure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return f
	case errors.Is(err, errTooLarge):
		return c.tooLarge()
	case body.err != nil && errors.Is(err, body.err):
		return c.broken(ctx, body.err, true, "within its answer")
	}
	return Invalid(err, "the answer of %s cannot be used", c.Host())
}

// request builds a request; secret is what must not be shown of it.
func (c *Client) request(ctx context.Context, r *Request) (req *http.Request, secret string, err error) {
	u := *c.base
	u = *u.JoinPath(r.Path)
	method := r.Method
	if method == "" {
		method = http.MethodPost
	}
	if req, err = http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(r.Body)); err != nil {
		return nil, "", &model.Failure{Kind: model.Permanent, What: "the request for " + c.Host() + " cannot be built", Cause: bare(err)}
	}
	for name, value := range c.access.Header {
		req.Header.Set(name, value)
	}
	req.Header.Set("User-Agent", "weir")
	if req.Header.Set("Accept", r.Accept); r.Accept == "" {
		req.Header.Set("Accept", "application/json")
	}
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if len(r.Keys) > 0 {
		// In this spelling, which means the same, the transport does not take it as
		// leave to repeat what it has sent.
		req.Header["idempotency-key"] = []string{HeaderKey(r.Keys)}
		if r.KeyEach {
			req.Header["idempotency-key"] = headerKeys(r.Keys)
		}
	}
	if c.access.Secret.IsZero() {
		return req, "", nil
	}
	if secret, err = c.access.Secret.Value(); err != nil {
		return nil, "", &model.Failure{Kind: model.Unavailable, What: "there is no secret for " + c.Host(), Cause: err}
	}
	if c.access.SecretHeader != "" {
		req.Header.Set(c.access.SecretHeader, secret)
	} else {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	return req, secret, nil
}

// HeaderKey is the idempotency key of a request for calls with the given keys: the
// key itself where there is one that fits into a header, and a hash of all else.
func HeaderKey(keys []string) string {
	if len(keys) == 1 && plain(keys[0]) {
		return keys[0]
	}
	h := sha256.New()
	for _, k := range keys {
		var size [8]byte
		binary.LittleEndian.PutUint64(size[:], uint64(len(k)))
		h.Write(size[:])
		h.Write([]byte(k))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// headerKeys is HeaderKey for each key by itself.
func headerKeys(keys []string) []string {
	out := make([]string, len(keys))
	for i := range keys {
		out[i] = HeaderKey(keys[i : i+1])
	}
	return out
}

func plain(s string) bool {
	return s != "" && len(s) <= 255 && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

var errTooLarge = errors.New("the body is too large")

// limited reads a body up to a limit and remembers how it ended.
type limited struct {
	r    io.Reader
	left int64
	err  error
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		n, err = n-1, errTooLarge
	}
	if err != nil {
		l.err = err
	}
	return n, err
}

// Path joins parts to a path, each escaped. A part that is empty or would lead
// elsewhere is an error with the code model.CodeAccess.
func Path(parts ...string) (string, error) {
	out := make([]string, len(parts))
	for i, p := range parts {
		if p == "" || p == "." || p == ".." {
			return "", Error(fmt.Sprintf("%q is no name or version of a model", p), strings.Join(parts, "/"), "give the name that the server has")
		}
		out[i] = url.PathEscape(p)
	}
	return strings.Join(out, "/"), nil
}
