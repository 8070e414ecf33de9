package openai

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzEvents: the events are the same however the stream is cut.
func FuzzEvents(f *testing.F) {
	for _, s := range []string{"data: a\n\n", "data:a\r\ndata: b\r\n\r\n: c\n\ndata\n\n", "data: cut", "\n\n\n", "data: x\n\ndata: y\n", "datax: 1\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		read := func(cut bool) (out []string) {
			var err error
			each := func(data []byte) (bool, error) { out = append(out, string(data)); return true, nil }
			if cut {
				err = events(iotest.OneByteReader(bytes.NewReader(b)), each)
			} else {
				err = events(bytes.NewReader(b), each)
			}
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		whole, cut := read(false), read(true)
		if strings.Join(whole, "\x00") != strings.Join(cut, "\x00") || len(whole) != len(cut) {
			t.Fatalf("%q: %q and %q", b, whole, cut)
		}
		for _, e := range whole {
			var a answer
			if json.Unmarshal([]byte(e), &a) != nil {
				continue
			}
			p := pieces{}
			for i := range a.Choices {
				p.add(&a.Choices[i].Delta)
			}
			_, _ = p.completion("host")
		}
	})
}
