package base

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// MaxSecret is the size of the largest secret, in bytes.
const MaxSecret = 64 << 10

// Secret names a secret, such as an API key, by the place where it lies: an
// environment variable or a file. The secret itself is read when it is used and kept
// nowhere, so that a file may be replaced while the job runs. All printed, logged and
// encoded forms of a Secret are "***".
//
// The zero Secret is none.
type Secret struct {
	env, file string
}

// SecretFromEnv names the environment variable that holds a secret.
func SecretFromEnv(name string) Secret { return Secret{env: name} }

// SecretFromFile names the file that holds a secret. White space at the end of the
// file, such as a last newline, is no part of it.
func SecretFromFile(path string) Secret { return Secret{file: path} }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s == Secret{} }

// Value reads the secret. Errors name the place and nothing of the content: it is
// missing, empty, larger than MaxSecret, or of more than one line.
func (s Secret) Value() (string, error) {
	var b []byte
	var from string
	switch {
	case s.env != "":
		from = "environment variable " + s.env
		b = []byte(os.Getenv(s.env))
	case s.file != "":
		from = "file " + s.file
		f, err := os.Open(s.file)
		if err != nil {
			return "", fmt.Errorf("the secret cannot be read: %w", err)
		}
		b, err = io.ReadAll(io.LimitReader(f, MaxSecret+1))
		_ = f.Close() // it was only read
		if err != nil {
			return "", fmt.Errorf("the secret cannot be read: %w", err)
		}
		b = bytes.TrimRight(b, " \t\r\n")
	default:
		return "", fmt.Errorf("there is no secret")
	}
	switch {
	case len(b) == 0:
		return "", fmt.Errorf("the secret in %s is missing or empty", from)
	case len(b) > MaxSecret:
		return "", fmt.Errorf("the secret in %s is larger than %d bytes", from, MaxSecret)
	case bytes.ContainsAny(b, "\r\n\x00"):
		return "", fmt.Errorf("the secret in %s has more than one line", from)
	}
	return string(b), nil
}

const hidden = "***"

// String implements fmt.Stringer.
func (Secret) String() string { return hidden }

// Format implements fmt.Formatter, for all verbs.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText implements encoding.TextMarshaler, and with it JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
