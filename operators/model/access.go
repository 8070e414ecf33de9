package model

import (
	"time"

	"github.com/weirflow/weir/internal/base"
)

// CodeAccess is the code of errors in the configuration of a model: its address, how
// it may be reached, its columns.
const CodeAccess = "WEIR-0180"

// Secret names a secret, such as an API key, by the environment variable or the file
// that holds it. It prints as "***".
type Secret = base.Secret

// SecretFromEnv names the environment variable that holds a secret.
func SecretFromEnv(name string) Secret { return base.SecretFromEnv(name) }

// SecretFromFile names the file that holds a secret, without white space at its end.
// It is read again for each request.
func SecretFromFile(path string) Secret { return base.SecretFromFile(path) }

// Access says how the server of a model may be reached. The zero value has all
// defaults: public addresses only, no secret, one minute for a request.
type Access struct {
	// Allow lists what may be reached besides public addresses: networks
	// ("10.0.0.0/8"), addresses ("192.168.1.7"), and the words "loopback" and
	// "private" (RFC 1918 and fc00::/7). Whatever a host name resolves to is held
	// against it at each connection. Addresses that clouds serve credentials at, such
	// as 169.254.169.254, are open only to an entry with that very address.
	Allow []string
	// Secret is sent as "Authorization: Bearer …".
	Secret Secret
	// SecretHeader is the header that has the secret instead, without "Bearer".
	SecretHeader string
	// Insecure lets the secret travel over http to other hosts than this one.
	Insecure bool
	// Header is added to each request. It is no place for secrets.
	Header map[string]string
	// CAFile has the certificates, in PEM, that the server's is checked against
	// instead of those of the system.
	CAFile string
	// Redirects is how many redirects within the server's own scheme, host and port
	// are followed; 0: none.
	Redirects int
	// Timeout is for a request and its answer as a whole, also when the context of
	// Invoke has more time; 0: one minute.
	Timeout time.Duration
	// ConnectTimeout is for a connection, and again for its TLS handshake; 0: 5 s.
	ConnectTimeout time.Duration
	// MaxRequest and MaxResponse are the largest bodies, in bytes; 0: 16 MiB.
	MaxRequest, MaxResponse int64
	// MaxConns is the most connections to the server at once; 0: 64.
	MaxConns int
}
