package rest

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/operators/model"
)

var loopback = []string{"loopback"}

func newClient(t *testing.T, url string, a model.Access) *Client {
	t.Helper()
	c, err := New(url, a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func failure(t *testing.T, err error) *model.Failure {
	t.Helper()
	f, ok := err.(*model.Failure)
	if !ok {
		t.Fatalf("the error is %T %v, no failure", err, err)
	}
	return f
}

func TestStatusIsAKind(t *testing.T) {
	kinds := map[int]model.Kind{
		400: model.Permanent, 401: model.Permanent, 403: model.Permanent, 404: model.Permanent, 413: model.Permanent, 422: model.Permanent,
		301: model.Permanent, 302: model.Permanent, 307: model.Permanent, 501: model.Permanent,
		429: model.Limited, 408: model.Unavailable, 502: model.Unavailable, 503: model.Unavailable, 504: model.Unavailable, 500: model.Unknown,
	}
	for status, want := range kinds {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/base/x" || r.Header.Get("Idempotency-Key") != "k" || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("request %s %v", r.URL, r.Header)
			}
			w.Header().Set("Location", "/elsewhere")
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"error": {"message": "no\nway, canary %s"}}`, strings.Repeat("x", 1000))
		}))
		t.Setenv("WEIR_TEST_KEY", "canary")
		c := newClient(t, s.URL+"/base/?q=1", model.Access{Allow: loopback, Secret: model.SecretFromEnv("WEIR_TEST_KEY")})
		_, err := c.Do(t.Context(), Request{Path: "x", Body: []byte("{}"), Keys: []string{"k"}})
		f := failure(t, err)
		if f.Kind != want || f.Status != status {
			t.Errorf("%d is kind %d, status %d", status, f.Kind, f.Status)
		}
		if !strings.Contains(f.What, "no way, ***") || strings.Contains(f.Error(), "canary") || len(f.What) > 300 {
			t.Errorf("%d says %q", status, f.What)
		}
		if wait := f.RetryAfter == 7*time.Second; wait != (want == model.Limited || want == model.Unavailable) {
			t.Errorf("%d waits %v", status, f.RetryAfter)
		}
		s.Close()
	}
}

func TestRetryAfter(t *testing.T) {
	c := newClient(t, "http://x", model.Access{})
	c.clock = clock.NewVirtual(1_000_000_000_000_000_000) // 2001-09-09T01:46:40Z
	for _, test := range []struct {
		header map[string]string
		want   time.Duration
	}{
		{map[string]string{}, 0},
		{map[string]string{"Retry-After": "2"}, 2 * time.Second},
		{map[string]string{"Retry-After": "0.5"}, 500 * time.Millisecond},
		{map[string]string{"Retry-After": "-1"}, 0},
		{map[string]string{"Retry-After": "soon"}, 0},
		{map[string]string{"Retry-After": "1e300"}, 24 * time.Hour},
		{map[string]string{"Retry-After-Ms": "20", "Retry-After": "2"}, 20 * time.Millisecond},
		{map[string]string{"Retry-After": "Sun, 09 Sep 2001 01:46:50 GMT"}, 10 * time.Second}, // the client's clock
		{map[string]string{"Retry-After": "Sun, 09 Sep 2001 01:46:50 GMT", "Date": "Sun, 09 Sep 2001 01:46:20 GMT"}, 30 * time.Second},
		{map[string]string{"Retry-After": "Sun, 09 Sep 2001 01:46:30 GMT"}, 0},
		{map[string]string{"X-Ratelimit-Reset-Requests": "1m30s"}, 90 * time.Second},
		{map[string]string{"X-Ratelimit-Reset-Tokens": "20ms", "X-Ratelimit-Reset-Requests": "1h0m0s", "X-Ratelimit-Remaining-Tokens": "0", "X-Ratelimit-Remaining-Requests": "9"}, 20 * time.Millisecond},
		{map[string]string{"X-Ratelimit-Reset-Tokens": "20ms", "X-Ratelimit-Reset-Requests": "3"}, 3 * time.Second},
		{map[string]string{"X-Ratelimit-Reset": "1000000012"}, 12 * time.Second},
		{map[string]string{"X-Ratelimit-Reset-Tokens": "2001-09-09T01:46:44Z"}, 4 * time.Second},
		{map[string]string{"Retry-After": "2", "X-Ratelimit-Reset-Requests": "1m30s"}, 2 * time.Second},
	} {
		h := http.Header{}
		for k, v := range test.header {
			h.Set(k, v)
		}
		if got := c.RetryAfter(h); got != test.want {
			t.Errorf("%v: %v, want %v", test.header, got, test.want)
		}
	}
}

// TestBrokenConnections: what was sent may have been done.
func TestBrokenConnections(t *testing.T) {
	refused := listen(t)
	refused.Close()
	for _, test := range []struct {
		name string
		// serve talks to one connection.
		serve func(net.Conn)
		want  model.Kind
	}{
		{"refused", nil, model.Unavailable},
		{"closed at once", func(c net.Conn) { c.Close() }, model.Unknown},
		{"closed after the request", func(c net.Conn) { request(c); c.Close() }, model.Unknown},
		{"closed within the header", func(c net.Conn) { request(c); fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConte"); c.Close() }, model.Unknown},
		{"closed within the body", func(c net.Conn) {
			request(c)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}")
			c.Close()
		}, model.Unknown},
		{"no HTTP", func(c net.Conn) { request(c); fmt.Fprintf(c, "SSH-2.0\r\n\r\n"); c.Close() }, model.Unknown},
		{"hangs", func(c net.Conn) { request(c); io.Copy(io.Discard, c) }, model.Unknown},
		{"hangs within the body", func(c net.Conn) {
			request(c)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}")
			io.Copy(io.Discard, c)
		}, model.Unknown},
		{"endless header", func(c net.Conn) {
			request(c)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n")
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(c, "X-%d: %s\r\n", i, strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}, model.Unknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			address := refused.Addr().String()
			if test.serve != nil {
				address = serve(t, test.serve)
			}
			c := newClient(t, "http://"+address, model.Access{Allow: loopback, Timeout: 200 * time.Millisecond})
			_, err := c.Do(t.Context(), Request{Body: []byte("{}"), Keys: []string{"k"}})
			f := failure(t, err)
			if f.Kind != test.want || f.Cause == nil {
				t.Errorf("kind %d: %v", f.Kind, err)
			}
			if strings.HasPrefix(test.name, "hangs") && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v is not a time-out", err)
			}
		})
	}
}

func TestContextEndsCall(t *testing.T) {
	arrived := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // the server sees the end of a connection only then
		close(arrived)
		<-r.Context().Done()
	}))
	defer s.Close()
	c := newClient(t, s.URL, model.Access{Allow: loopback})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, err := c.Do(ctx, Request{Body: []byte("{}")})
	if f := failure(t, err); f.Kind != model.Unknown || !errors.Is(err, context.Canceled) {
		t.Errorf("%d %v", f.Kind, err)
	}
	_, err = c.Do(ctx, Request{Body: []byte("{}")}) // done before it begins
	if f := failure(t, err); f.Kind != model.Unavailable {
		t.Errorf("%d %v", f.Kind, err)
	}
}

// TestNothingIsSentTwice: the transport would repeat a request with an idempotency key
// on a connection that was used before.
func TestNothingIsSentTwice(t *testing.T) {
	var seen atomic.Int32
	address := serve(t, func(c net.Conn) {
		for {
			if !request(c) {
				return
			}
			if n := seen.Add(1); n > 1 {
				c.Close() // without an answer
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
		}
	})
	c := newClient(t, "http://"+address, model.Access{Allow: loopback})
	if _, err := c.Do(t.Context(), Request{Body: []byte("{}"), Keys: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Do(t.Context(), Request{Body: []byte("{}"), Keys: []string{"b"}})
	if f := failure(t, err); f.Kind != model.Unknown || seen.Load() != 2 {
		t.Errorf("kind %d, %d requests: %v", f.Kind, seen.Load(), err)
	}
}

func TestLimits(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			w.Header().Set("Content-Length", "101")
		}
		for range 101 {
			w.Write([]byte("x"))
			if r.URL.Path != "/long" {
				w.(http.Flusher).Flush() // no length
			}
		}
	}))
	defer s.Close()
	c := newClient(t, s.URL, model.Access{Allow: loopback, MaxResponse: 100, MaxRequest: 10})
	for _, path := range []string{"long", "chunked"} {
		_, err := c.Do(t.Context(), Request{Path: path})
		if f := failure(t, err); f.Kind != model.Invalid {
			t.Errorf("%s: kind %d: %v", path, f.Kind, err)
		}
	}
	_, err := c.Do(t.Context(), Request{Body: make([]byte, 11)})
	if f := failure(t, err); f.Kind != model.Permanent {
		t.Errorf("kind %d: %v", f.Kind, err)
	}
	c = newClient(t, s.URL, model.Access{Allow: loopback, MaxResponse: 101})
	if b, err := c.Do(t.Context(), Request{Path: "chunked"}); err != nil || len(b) != 101 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestRedirects(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/here":
			http.Redirect(w, r, "/end", http.StatusTemporaryRedirect)
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/get":
			http.Redirect(w, r, "/end", http.StatusFound)
		case "/end":
			if r.Method == http.MethodGet {
				b = []byte("{}")
			}
			w.Write(b)
		}
	}))
	defer s.Close()
	for _, test := range []struct {
		path      string
		redirects int
		ok        bool
	}{{"here", 0, false}, {"here", 1, true}, {"away", 1, false}, {"get", 1, false}} {
		c := newClient(t, s.URL, model.Access{Allow: loopback, Redirects: test.redirects})
		b, err := c.Do(t.Context(), Request{Path: test.path, Body: []byte("{}")})
		if ok := err == nil && string(b) == "{}"; ok != test.ok {
			t.Errorf("%s with %d: %q, %v", test.path, test.redirects, b, err)
		}
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect led to another server")
	}
}

func TestSecrets(t *testing.T) {
	t.Setenv("WEIR_TEST_KEY", "canary")
	key := model.SecretFromEnv("WEIR_TEST_KEY")
	var got atomic.Pointer[http.Header]
	s := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got.Store(&r.Header) }))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		access       model.Access
		header, want string
	}{
		{model.Access{Secret: key}, "Authorization", "Bearer canary"},
		{model.Access{Secret: key, SecretHeader: "api-key"}, "Api-Key", "canary"},
		{model.Access{Header: map[string]string{"X-Team": "a"}}, "X-Team", "a"},
	} {
		test.access.Allow, test.access.CAFile = loopback, ca
		if _, err := newClient(t, s.URL, test.access).Do(t.Context(), Request{}); err != nil {
			t.Fatal(err)
		}
		if h := *got.Load(); h.Get(test.header) != test.want {
			t.Errorf("header %v", h)
		}
	}
	// A certificate that is not known ends the call before it is sent.
	got.Store(nil)
	_, err := newClient(t, s.URL, model.Access{Allow: loopback, Secret: key}).Do(t.Context(), Request{})
	if f := failure(t, err); f.Kind != model.Unavailable || got.Load() != nil {
		t.Errorf("%d %v", f.Kind, err)
	}
	for url, a := range map[string]model.Access{
		"http://models.example.com":        {Secret: key},
		"https://models.example.com/a":     {Secret: model.SecretFromEnv("WEIR_TEST_NO_SUCH")},
		"https://u:canary@h.example.com":   {},
		"https://canary@h.example.com":     {},
		"ftp://models.example.com":         {},
		"file:///etc/passwd":               {},
		"https://":                         {},
		"https://h.example.com/#f":         {},
		"https://models.example.com/b":     {Allow: []string{"privat"}},
		"https://models.example.com/c":     {Allow: []string{"10.0.0.0/33"}},
		"https://models.example.com/d":     {Timeout: -1},
		"https://models.example.com/e":     {CAFile: "/no/such/file"},
		"https://canary:x%zz@example.com/": {},
	} {
		_, err := New(url, a)
		if base.CodeOf(err) != model.CodeAccess || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := New("http://models.example.com", model.Access{Secret: key, Insecure: true}); err != nil {
		t.Error(err)
	}
}

func TestHeaderKey(t *testing.T) {
	if HeaderKey([]string{"job/op/1"}) != "job/op/1" {
		t.Error("a key alone is changed")
	}
	seen := map[string]bool{}
	for _, keys := range [][]string{{"a", "b"}, {"ab", ""}, {"b", "a"}, {"a", "b", ""}, {"a\nb"}, {""}, {strings.Repeat("x", 256)}, {"é"}} {
		k := HeaderKey(keys)
		if seen[k] || !plain(k) || k != HeaderKey(keys) {
			t.Errorf("%q has the key %q", keys, k)
		}
		seen[k] = true
	}
}

func TestEach(t *testing.T) {
	for n := range 20 {
		var mu sync.Mutex
		count, running, most := make([]int, n), 0, 0
		Each(n, 4, func(i int) {
			mu.Lock()
			count[i]++
			running++
			most = max(most, running)
			mu.Unlock()
			mu.Lock()
			running--
			mu.Unlock()
		})
		for i, c := range count {
			if c != 1 {
				t.Errorf("n %d: %d was called %d times", n, i, c)
			}
		}
		if most > 4 {
			t.Errorf("n %d: %d at once", n, most)
		}
	}
}

func TestDecode(t *testing.T) {
	var v struct {
		A []*float64 `json:"a"`
		S string     `json:"s"`
	}
	if err := Decode([]byte(`{"a":[1,NaN,-Infinity,Infinity],"s":"NaN \" -Infinity"}`), &v); err != nil {
		t.Fatal(err)
	}
	if len(v.A) != 4 || v.A[0] == nil || v.A[1] != nil || v.A[2] != nil || v.A[3] != nil || v.S != `NaN " -Infinity` {
		t.Errorf("%+v", v)
	}
	for _, bad := range []string{`{"a":[NaN}`, `NaN x`, `{"a":[1]} {}`, "", `{"s":"NaN`, `{"s":"NaN\`} {
		if err := Decode([]byte(bad), &v); err == nil {
			t.Errorf("%s was decoded", bad)
		}
	}
	var f float64
	if err := DecodeValue([]byte("null"), &f); err == nil {
		t.Error("null was decoded as a number")
	}
	var s []string
	if err := DecodeValue([]byte(`["null", "n\"null"]`), &s); err != nil {
		t.Error(err)
	}
}

func TestGuard(t *testing.T) {
	for _, test := range []struct {
		allow   []string
		address string
		ok      bool
	}{
		{nil, "8.8.8.8", true},
		{nil, "2606:4700::1111", true},
		{nil, "127.0.0.1", false},
		{nil, "::1", false},
		{nil, "::ffff:127.0.0.1", false},
		{nil, "::127.0.0.1", false},
		{nil, "64:ff9b::7f00:1", false},
		{nil, "64:ff9b::808:808", true},
		{nil, "2002:7f00:1::1", false},
		{nil, "0.0.0.0", false},
		{nil, "::", false},
		{nil, "10.1.2.3", false},
		{nil, "172.31.0.1", false},
		{nil, "192.168.1.1", false},
		{nil, "100.64.0.1", false},
		{nil, "169.254.169.254", false},
		{nil, "168.63.129.16", false},
		{nil, "fe80::1%eth0", false},
		{nil, "fd00::1", false},
		{nil, "224.0.0.1", false},
		{nil, "255.255.255.255", false},
		{[]string{"loopback"}, "127.0.0.1", true},
		{[]string{"loopback"}, "::1", true},
		{[]string{"loopback"}, "::ffff:127.0.0.1", true},
		{[]string{"loopback"}, "10.1.2.3", false},
		{[]string{"private"}, "10.1.2.3", true},
		{[]string{"private"}, "127.0.0.1", false},
		{[]string{"private"}, "169.254.169.254", false},
		{[]string{"private"}, "fd00:ec2::254", false},
		{[]string{"fd00:ec2::254"}, "fd00:ec2::254", true},
		{[]string{"0.0.0.0/0"}, "169.254.169.254", false},
		{[]string{"0.0.0.0/0"}, "::ffff:169.254.169.254", false},
		{[]string{"0.0.0.0/0"}, "64:ff9b::a9fe:a9fe", false},
		{[]string{"0.0.0.0/0"}, "169.254.1.1", true},
		{[]string{"169.254.169.254"}, "169.254.169.254", true},
		{[]string{"192.168.1.7"}, "192.168.1.7", true},
		{[]string{"192.168.1.7"}, "192.168.1.8", false},
		{[]string{"10.9.0.0/16"}, "10.9.3.3", true},
		{[]string{"10.9.1.1/16"}, "10.9.3.3", true},
		{[]string{"10.9.0.0/16"}, "10.8.3.3", false},
	} {
		g, err := NewGuard(test.allow)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Check(netip.MustParseAddr(test.address)); (err == nil) != test.ok {
			t.Errorf("%v: %s: %v", test.allow, test.address, err)
		}
	}
}

// TestAddressIsCheckedAtDial: a name that led to an allowed address, and leads to
// another one at the next connection, is not followed there.
func TestAddressIsCheckedAtDial(t *testing.T) {
	var requests atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.Header().Set("Connection", "close")
		w.Write([]byte("{}"))
	}))
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	addresses := make(chan [4]byte, 2)
	addresses <- [4]byte{127, 0, 0, 2}
	addresses <- [4]byte{127, 0, 0, 1}
	resolver := nameServer(t, addresses)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c := newClient(t, "http://model.test.:"+port, model.Access{Allow: []string{"127.0.0.2"}})
	d := c.guard.Dialer(time.Second)
	d.Resolver = resolver
	c.http.Transport.(*http.Transport).DialContext = d.DialContext
	if _, err := c.Do(t.Context(), Request{}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Do(t.Context(), Request{})
	f := failure(t, err)
	if _, ok := errors.AsType[*BlockedError](err); !ok || f.Kind != model.Permanent || requests.Load() != 1 {
		t.Errorf("kind %d, %d requests: %v", f.Kind, requests.Load(), err)
	}
}

// nameServer answers each question for an address of IPv4 with the next of a list.
func nameServer(t *testing.T, addresses chan [4]byte) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			q := buf[:n]
			end := 12
			for q[end] != 0 {
				end += int(q[end]) + 1
			}
			end += 5 // the root, the type and the class
			answer := append([]byte{q[0], q[1], 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end]...)
			if q[end-3] == 1 {
				a := <-addresses
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, a[0], a[1], a[2], a[3])
			}
			conn.WriteTo(answer, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serve hands each connection to f, and closes it with the test.
func serve(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go f(c)
		}
	}()
	return l.Addr().String()
}

// request reads a request and reports whether there was one.
func request(c net.Conn) bool {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil
}
