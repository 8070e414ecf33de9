package jetstream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/weirflow/weir/internal/base"
)

// Config names a NATS server and how to connect to it. Secrets are read from
// files only and never printed.
type Config struct {
	// URL is one or more addresses separated by commas, such as
	// nats://10.0.0.1:4222 or tls://nats.example:4222. A password in it works but
	// is visible in process lists; use a file.
	URL string
	// Credentials is the path of a .creds file (JWT and seed).
	Credentials string
	// NKey is the path of a file with an nkey seed.
	NKey string
	// CA is the path of a PEM file with the certificates to trust instead of the
	// system's.
	CA string
	// Cert and Key are the paths of the client's certificate and key, PEM.
	Cert, Key string
	// Name is shown by the server's monitoring; "weir" when empty.
	Name string
	// Conn is a connection that exists already, such as one inside the process.
	// All other fields are then ignored, and the connection is never closed here.
	Conn *nats.Conn
}

// connectTimeout bounds one attempt to connect.
const connectTimeout = 5 * time.Second

// Dial connects. It fails with WEIR-0811, -0812 or -0813 when the first attempt
// fails; a connection once made is kept up for ever: it tries again every 20
// to 600 ms, with jitter, at any of the addresses.
func Dial(c Config) (*nats.Conn, error) {
	if c.Conn != nil {
		return c.Conn, nil
	}
	opts, err := c.options()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(c.URL, opts...)
	if err != nil {
		return nil, c.dialError(err)
	}
	return nc, nil
}

// String renders the configuration without secrets.
func (c Config) String() string {
	if c.Conn != nil {
		return "in-process connection"
	}
	return c.redactedURL()
}

// redactedURL is URL with passwords and tokens replaced.
func (c Config) redactedURL() string {
	parts := strings.Split(c.URL, ",")
	for i, p := range parts {
		p = strings.TrimSpace(p)
		at := strings.LastIndex(p, "@")
		if at < 0 {
			parts[i] = p
			continue
		}
		scheme := ""
		if s := strings.Index(p, "://"); s >= 0 {
			scheme = p[:s+3]
		}
		parts[i] = scheme + "***@" + p[at+1:]
	}
	return strings.Join(parts, ",")
}

func (c Config) options() ([]nats.Option, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	name := c.Name
	if name == "" {
		name = "weir"
	}
	opts := []nats.Option{
		nats.Name(name),
		nats.Timeout(connectTimeout),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(3),
		// Publishing while disconnected must fail rather than fill a buffer: the
		// writers resend by their own rules.
		nats.ReconnectBufSize(-1),
		// An error on one subscription is handled where it matters.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
		nats.IgnoreAuthErrorAbort(),
	}
	if c.Credentials != "" {
		opts = append(opts, nats.UserCredentials(c.Credentials))
	}
	if c.NKey != "" {
		o, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return nil, &base.Error{Code: CodeAuth, What: "the nkey seed cannot be read", Where: c.NKey,
				Next: "give a file with one line that begins with SU", Cause: scrub(err)}
		}
		opts = append(opts, o)
	}
	if c.CA != "" {
		opts = append(opts, nats.RootCAs(c.CA))
	}
	if c.Cert != "" {
		opts = append(opts, nats.ClientCert(c.Cert, c.Key))
	}
	return opts, nil
}

// check reports mistakes that the client would only report in the middle of a
// handshake, or not at all.
func (c Config) check() error {
	bad := func(what, where, next string, cause error) error {
		return &base.Error{Code: CodeConfig, What: what, Where: where, Next: next, Cause: cause}
	}
	if c.URL == "" {
		return bad("no NATS address is given", "", "give a URL such as nats://127.0.0.1:4222", nil)
	}
	for p := range strings.SplitSeq(c.URL, ",") {
		p = strings.TrimSpace(p)
		if !strings.Contains(p, "://") {
			p = "nats://" + p
		}
		u, err := url.Parse(p)
		if err != nil || u.Host == "" {
			// The parser's error repeats the address, password included.
			return bad("the NATS address is not a URL", Config{URL: p}.redactedURL(), "write nats://host:port", nil)
		}
	}
	if c.Credentials != "" && c.NKey != "" {
		return bad("both a credentials file and an nkey are given", "", "give one of them", nil)
	}
	if (c.Cert == "") != (c.Key == "") {
		return bad("a TLS certificate needs its key, and a key its certificate", c.Cert+c.Key, "give both files", nil)
	}
	for _, f := range []string{c.Credentials, c.NKey, c.CA, c.Cert, c.Key} {
		if f == "" {
			continue
		}
		if _, err := os.Stat(f); err != nil {
			return bad("a file of the NATS connection cannot be read", f, "check the path and permissions", err)
		}
	}
	return nil
}

// reconnectDelay grows from 20 ms to half a second. The low bits of a hash of the attempt
// spread it, and the client's own random order of addresses does the rest.
func reconnectDelay(attempts int) time.Duration {
	d := 20 * time.Millisecond << min(max(attempts-1, 0), 5)
	d = min(d, 500*time.Millisecond)
	jitter := base.HashUint64(uint64(os.Getpid())<<20+uint64(attempts)) % uint64(d/4)
	return d + time.Duration(jitter)
}

func (c Config) dialError(err error) error {
	e := &base.Error{Code: CodeDial, What: "no connection to NATS", Where: c.redactedURL(), Cause: scrub(err),
		Next: "check that the server runs and that the address is right"}
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		strings.Contains(err.Error(), "Authorization Violation"):
		e.Code, e.What, e.Next = CodeAuth, "NATS refused the credentials", "check the credentials or nkey file"
	case errors.Is(err, nats.ErrSecureConnRequired), strings.Contains(err.Error(), "tls:"), strings.Contains(err.Error(), "x509:"):
		e.What, e.Next = "no TLS connection to NATS", "check the CA, certificate and key files, and the host name"
	case strings.Contains(err.Error(), ".creds") || c.Credentials != "" && strings.Contains(err.Error(), "nkeys"):
		e.Code, e.What, e.Next = CodeAuth, "the credentials file cannot be read", "give a .creds file as nsc writes it"
	}
	return e
}

// scrub keeps the text of a client's error but no value that could hold a secret:
// an *url.Error repeats the address.
func scrub(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// Provider hands out the connection that a job uses.
type Provider interface {
	// Conn returns a connection that stays open until the job ends. It may wait
	// for the first connect, no longer than ctx.
	Conn(ctx context.Context) (*nats.Conn, error)
}

// ProviderFunc is a function as a Provider.
type ProviderFunc func(ctx context.Context) (*nats.Conn, error)

// Conn implements Provider.
func (f ProviderFunc) Conn(ctx context.Context) (*nats.Conn, error) { return f(ctx) }

// FromConn is a Provider of one connection, which it never closes.
func FromConn(nc *nats.Conn) Provider {
	return ProviderFunc(func(context.Context) (*nats.Conn, error) { return nc, nil })
}

type providerKey struct{}

// WithProvider returns a context from which sources and sinks without a
// connection of their own (see On) take p's.
func WithProvider(ctx context.Context, p Provider) context.Context {
	return context.WithValue(ctx, providerKey{}, p)
}

// fromContext returns the connection of the job.
func fromContext(ctx context.Context) (*nats.Conn, error) {
	p, ok := ctx.Value(providerKey{}).(Provider)
	if !ok {
		return nil, base.Fatal(&base.Error{Code: CodeNoConn, What: "no NATS server is configured",
			Next: "run the job with --nats or with the embedded server, or give the connector one by On"})
	}
	nc, err := p.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connection of the job: %w", err)
	}
	return nc, nil
}
