package codec

import (
	"io"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirflow/weir/internal/base"
)

type click struct {
	User  string    `json:"user" csv:"user"`
	At    time.Time `json:"at" csv:"at"`
	Price float64   `json:"price" csv:"price"`
	Count int16     `json:"count" csv:"count"`
	OK    bool      `json:"ok"`
	Wait  time.Duration
	Addr  netip.Addr
	Code  uint8  `csv:"code"`
	Note  string `csv:"-"`
}

func formats(t *testing.T) []Format[click] {
	t.Helper()
	j, err1 := JSON[click](JSONOptions{})
	s, err2 := JSON[click](JSONOptions{Strict: true})
	m, err3 := MsgPack[click](Limits{})
	c, err4 := CSV[click](CSVOptions{})
	semi, err5 := CSV[click](CSVOptions{Comma: ';'})
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return []Format[click]{j, s, m, c, semi}
}

func TestFormatsRoundTrip(t *testing.T) {
	fs := formats(t)
	rapid.Check(t, func(t *rapid.T) {
		in := click{
			User: rapid.StringMatching(`[a-z",;\r\n '<>&é]{0,12}`).Draw(t, "user"), Price: rapid.Float64().Draw(t, "price"),
			At:    time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "sec"), rapid.Int64Range(0, 999999999).Draw(t, "nsec")).UTC(),
			Count: rapid.Int16().Draw(t, "count"), OK: rapid.Bool().Draw(t, "ok"), Wait: time.Duration(rapid.Int64().Draw(t, "wait")),
			Addr: netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, "ip")}), Code: rapid.Uint8().Draw(t, "code"),
		}
		for _, f := range fs {
			b, err := f.Encode([]byte("pre"), &in)
			if err != nil || string(b[:3]) != "pre" {
				t.Fatalf("%s: %v", f.Name(), err)
			}
			out := click{Note: "stale", Wait: 3}
			if err := f.Decode(b[3:], &out); err != nil {
				t.Fatalf("%s: %q: %v", f.Name(), b[3:], err)
			}
			if !reflect.DeepEqual(in, out) {
				t.Fatalf("%s: %q: got %+v, want %+v", f.Name(), b[3:], out, in)
			}
			clear(b)
			if out.User != in.User || f.ContentType() == "" {
				t.Fatalf("%s aliases its input", f.Name())
			}
		}
	})
}

// badRecord is a record that a format must refuse.
type badRecord struct{ text, code, part string }

func refuseAll[T any](t *testing.T, f Format[T], records []badRecord) {
	t.Helper()
	for _, r := range records {
		err := f.Decode([]byte(r.text), new(T))
		if base.CodeOf(err) != r.code || !strings.Contains(err.Error(), r.part) {
			t.Errorf("%s: %.40q: got %v, want %s %s", f.Name(), r.text, err, r.code, r.part)
		}
	}
}

func TestJSONRefusesBadRecords(t *testing.T) {
	lax, _ := JSON[click](JSONOptions{Limits: Limits{MaxRecord: 1000, Elems: 200}})
	strict, _ := JSON[click](JSONOptions{Limits: Limits{MaxRecord: 1000, Elems: 200}, Strict: true})
	bad := []badRecord{
		{`{"user":"a"`, CodeMalformed, ""}, {``, CodeMalformed, ""}, {`{"user":}`, CodeMalformed, "byte 9"},
		{`{"user":5}`, CodeMismatch, "user"}, {`{"count":40000}`, CodeMismatch, "count"}, {`{"at":"yesterday"}`, CodeMismatch, ""},
		{`{"user":"a"} x`, CodeMalformed, ""}, {`[1]`, CodeMismatch, ""},
		{`{"user":"` + strings.Repeat("x", 1000) + `"}`, CodeLimit, "1000 are allowed"},
		{strings.Repeat(`{"a":`, 40), CodeLimit, "levels"}, {`{"x":[` + strings.Repeat("1,", 300) + `1]}`, CodeLimit, "more than 200"},
	}
	refuseAll(t, lax, bad)
	refuseAll(t, strict, append(bad, badRecord{`{"nope":1}`, CodeMismatch, ""}))
	var v click
	if err := lax.Decode([]byte(` {"nope":[{}],"USER":"u"} `), &v); err != nil || v.User != "u" {
		t.Fatalf("%+v, %v", v, err)
	}
	v.Price = math.NaN()
	if b, err := lax.Encode([]byte("p"), &v); base.CodeOf(err) != CodeEncode || string(b) != "p" {
		t.Fatalf("%q, %v", b, err)
	}
	v = click{User: strings.Repeat("x", 1000)}
	if b, err := lax.Encode([]byte("p"), &v); base.CodeOf(err) != CodeLimit || string(b) != "p" {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestMsgPackFormatKeepsItsLimits(t *testing.T) {
	f, err := MsgPack[[]int](Limits{MaxRecord: 100, Elems: 5})
	if err != nil {
		t.Fatal(err)
	}
	refuseAll(t, f, []badRecord{
		{"\x96\x01\x02\x03\x04\x05\x06", CodeLimit, "more than 5"}, {"\x01", CodeMismatch, ""}, {"\xdd\x0b\xeb\xc2\x00", CodeMalformed, ""},
		{"\xc4\x65" + strings.Repeat("x", 101), CodeLimit, "100 are allowed"},
	})
	tight, _ := MsgPack[[][]int](Limits{Depth: 1})
	refuseAll(t, tight, []badRecord{{"\x91\x91\x01", CodeLimit, "1 levels"}})
	failing, _ := MsgPack[brokenEncoder](Limits{})
	if b, err := failing.Encode([]byte("p"), new(brokenEncoder)); base.CodeOf(err) != CodeEncode || string(b) != "p" {
		t.Fatalf("%q, %v", b, err)
	}
}

// brokenEncoder fails to encode itself.
type brokenEncoder struct{}

func (*brokenEncoder) MarshalBinary() ([]byte, error) { return nil, io.ErrNoProgress }
func (*brokenEncoder) UnmarshalBinary([]byte) error   { return nil }

func TestCSV(t *testing.T) {
	f, err := CSV[click](CSVOptions{Columns: []string{"count", "extra", "user"}, TimeLayout: time.DateOnly})
	if err != nil {
		t.Fatal(err)
	}
	var v click
	if err := f.Decode([]byte("7,\"a,\n\",\"say \"\"hi\"\"\"\r\n"), &v); err != nil || v.Count != 7 || v.User != `say "hi"` {
		t.Fatalf("%+v, %v", v, err)
	}
	if b, err := f.Encode(nil, &v); err != nil || string(b) != `7,,"say ""hi"""` {
		t.Fatalf("%s, %v", b, err)
	}
	if string(f.Header()) != "count,extra,user" {
		t.Fatalf("header %s", f.Header())
	}
	g, err := f.WithHeader([]byte("\xef\xbb\xbfat,\"user\"\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Decode([]byte("2026-01-02,"), &v); err != nil || v.At.Day() != 2 || v.User != "" || v.Count != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	refuseAll(t, Format[click](f), []badRecord{
		{"", CodeMalformed, "1 fields"}, {"1,2", CodeMalformed, "2 fields, 3 columns"}, {"1,2,3,4", CodeMalformed, "4 fields"},
		{"x,,", CodeMismatch, "column count, byte 0"}, {"40000,,", CodeMismatch, "count"}, {`1,"a,b`, CodeMalformed, "does not end"},
		{`1,"a"b,c`, CodeMalformed, "byte 5"}, {`1,a"b,c`, CodeMalformed, "byte 3"}, {"1,a\nb,c", CodeMalformed, "line break"},
		{strings.Repeat("x", 2<<20), CodeLimit, ""},
	})
	one, err := CSV[struct{ S string }](CSVOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := one.Encode(nil, &struct{ S string }{}); string(b) != `""` {
		t.Fatalf("an empty record became %q", b)
	}
}

func TestFormatsRefuseTypesAtBuild(t *testing.T) {
	_, e1 := JSON[struct{ A []chan int }](JSONOptions{})
	_, e2 := CSV[struct{ A []string }](CSVOptions{})
	_, e3 := CSV[string](CSVOptions{})
	_, e4 := CSV[click](CSVOptions{Comma: '"'})
	_, e5 := CSV[click](CSVOptions{Columns: []string{"nope"}})
	_, e6 := CSV[click](CSVOptions{Columns: []string{"user", "user"}})
	_, e7 := MsgPack[any](Limits{})
	for i, err := range []error{e1, e2, e3, e4, e5, e6, e7} {
		if code := base.CodeOf(err); code != CodeFormat && code != CodeType {
			t.Errorf("%d: %v", i+1, err)
		}
	}
	if !strings.Contains(e1.Error(), ".A[]") || !strings.Contains(e2.Error(), ".A") {
		t.Errorf("the field is not named: %v, %v", e1, e2)
	}
	type tree struct {
		Next *tree
		Any  any
		Skip chan int `json:"-"`
	}
	if _, err := JSON[tree](JSONOptions{}); err != nil {
		t.Errorf("a type that encoding/json supports was refused: %v", err)
	}
}

func TestRaw(t *testing.T) {
	f := Raw[[]byte](Limits{MaxRecord: 3})
	src := []byte("abc")
	var v []byte
	if err := f.Decode(src, &v); err != nil {
		t.Fatal(err)
	}
	src[0] = 'x'
	if b, err := f.Encode([]byte("-"), &v); err != nil || string(b) != "-abc" {
		t.Fatalf("%q, %v", b, err)
	}
	refuseAll(t, f, []badRecord{{"abcd", CodeLimit, "3 are allowed"}})
	var s string
	if err := Raw[string](Limits{}).Decode([]byte("text"), &s); err != nil || s != "text" {
		t.Fatal(s, err)
	}
}

func FuzzCSV(f *testing.F) {
	c, err := CSV[click](CSVOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`u,2026-01-02T03:04:05Z,1.5,3,true,1s,10.0.0.1,7`))
	f.Add([]byte("\"a\"\"b\",,,,,,,\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, w click
		if c.Decode(b, &v) != nil {
			return
		}
		first, err := c.Encode(nil, &v)
		if err != nil {
			return // such as a time beyond the year 9999
		}
		if err := c.Decode(first, &w); err != nil {
			t.Fatalf("own encoding %q refused: %v", first, err)
		}
		if second, err := c.Encode(nil, &w); err != nil || string(first) != string(second) {
			t.Fatalf("not stable: %q, %q, %v", first, second, err)
		}
	})
}
