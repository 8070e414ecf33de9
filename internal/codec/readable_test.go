package codec

import (
	"encoding/json"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

func TestReadable(t *testing.T) {
	b, err := msgpack.Marshal(map[string]any{"a": map[int]string{1: "x"}, "b": []any{map[bool]int{true: 2}, "y"}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := Readable(b, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(v)
	if want := `{"a":{"1":"x"},"b":[{"true":2},"y"]}`; err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
	for n := range b {
		if _, err := Readable(b[:n], Limits{}); err == nil {
			t.Errorf("%d of %d bytes can be read", n, len(b))
		}
	}
}
