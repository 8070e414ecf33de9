package rest

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzDecode: what is JSON stays as it is, and what is not panics nowhere.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`[NaN,"NaN\"",-Infinity]`, `{"a":"\\","b":NaN}`, `"`, `"\`, `NaNaN`, `null`, `{"n":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		without := withoutNaN(b)
		if json.Valid(b) && !bytes.Equal(without, b) {
			t.Fatalf("%q became %q", b, without)
		}
		var v any
		_ = Decode(b, &v)
		err := DecodeValue(b, &v)
		if err == nil && v == nil {
			t.Fatalf("%q was decoded as nothing", b)
		}
	})
}

// FuzzExcerpt: what is shown of an answer is short, on one line, and without the
// secret.
func FuzzExcerpt(f *testing.F) {
	f.Add([]byte(`{"error":{"message":"no\ncanary"}}`))
	f.Add([]byte("cana\x00ry \xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := Excerpt(b, "canary")
		if len(s) > maxExcerpt+len("…") || bytes.ContainsAny([]byte(s), "\r\n\x00") || bytes.Contains([]byte(s), []byte("canary")) {
			t.Fatalf("%q is shown as %q", b, s)
		}
	})
}
