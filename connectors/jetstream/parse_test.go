package jetstream

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"a.b", "a.b", true}, {"a.b", "a", false}, {"a", "a.b", false}, {"a.*", "a.b", true}, {"a.*", "a.b.c", false},
		{"a.>", "a.b.c", true}, {"a.>", "a", false}, {">", "a", true}, {"*.b", "a.b", true}, {"*.b", "a.c", false},
		{"a.*", "a.*", true}, {"a.b", "a.*", false}, {"a.*", "a.>", false}, {"a.>", "a.>", true}, {"a.>", "a.*.b", true},
	} {
		if got := matches(c.pattern, c.subject); got != c.want {
			t.Errorf("matches(%q, %q) = %v", c.pattern, c.subject, got)
		}
	}
}

func TestParseReply(t *testing.T) {
	want := delivery{sseq: 123, cseq: 45, time: 1700000000000000001, pending: 67}
	for _, s := range []string{
		"$JS.ACK.S.c.1.123.45.1700000000000000001.67",
		"$JS.ACK.dom.acc.S.c.1.123.45.1700000000000000001.67",
		"$JS.ACK._.acc.S.c.1.123.45.1700000000000000001.67.token",
	} {
		if got, ok := parseReply(s); !ok || got != want {
			t.Errorf("%s: %+v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "$JS.ACK.", "$JS.ACK.S.c.1.x.45.17.67", "_INBOX.1", "$JS.ACK.S.c.1.123.45"} {
		if _, ok := parseReply(s); ok {
			t.Errorf("%q was taken for the reply subject of a message", s)
		}
	}
}

func TestCursorRoundTrip(t *testing.T) {
	for _, c := range []cursor{
		{offset: 7, created: "2026-01-01T00:00:00Z"},
		{offset: 7, created: "x", end: 9, hasEnd: true, at: 3, done: true},
	} {
		if got := parseCursor(c.position(true)); got != c {
			t.Errorf("%+v became %+v", c, got)
		}
	}
	if p := (cursor{end: 9, hasEnd: true}).position(false); strings.Contains(p.Identity, "end") {
		t.Errorf("an end that is not pinned is stored: %+v", p)
	}
}

func TestPartitionForm(t *testing.T) {
	for dest, want := range map[string]string{
		"ev.{{partition(16,1)}}.{{wildcard(1)}}":         "ev.{partition}.* 16",
		"{{ partition( 4 , 1 , 2 ) }}.a.{{wildcard(2)}}": "{partition}.a.* 4",
		"ev.$1.b": " 0",
		"":        " 0",
	} {
		form, n := partitionForm(dest)
		if got := fmt.Sprint(form, " ", n); got != want {
			t.Errorf("%q: got %q, want %q", dest, got, want)
		}
	}
}

func FuzzUnblock(f *testing.F) {
	p := packer{max: 1 << 20}
	for i := range 3 {
		p.append(&connectors.Message{Data: fmt.Append(nil, i), Headers: base.Headers{{Name: "k", Value: "v"}}})
	}
	f.Add(p.finish())
	f.Add([]byte(packedMagic + "\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		recs, err := Unblock(data)
		if err != nil {
			return
		}
		q := packer{max: 1 << 30}
		for i := range recs {
			q.append(&connectors.Message{Data: recs[i].Data, Headers: recs[i].Headers})
		}
		if len(recs) == 0 {
			return
		}
		again, err := Unblock(q.finish())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(recs) {
			t.Fatalf("packed again it reads differently (error %v)", err)
		}
	})
}
