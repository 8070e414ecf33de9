package codec

import (
	"bytes"
	"encoding/hex"
	"runtime"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/weirflow/weir/internal/base"
)

// The three messages that make msgpack v5.4.1 allocate gigabytes or kill the
// process. They must be refused by Validate and by every decoder.
var bombs = map[string][]byte{
	"array of 200 million in 5 bytes": {0xdd, 0x0b, 0xeb, 0xc2, 0x00},
	"map of 50 million in 5 bytes":    {0xdf, 0x02, 0xfa, 0xf0, 0x80},
	"3 million nested arrays":         bytes.Repeat([]byte{0x91}, 3_000_000),
}

func TestBombsAreRefused(t *testing.T) {
	lim := Limits{MaxRecord: 16 << 20}
	slices, maps := mustFor[[]int64](t), mustFor[map[string]int64](t)
	record, customs := mustFor[everything](t), mustFor[[]custom](t)
	for name, b := range bombs {
		before := allocated()
		if err := Validate(b, lim); base.CodeOf(err) == "" {
			t.Errorf("%s: Validate accepts it", name)
		}
		if slices.Decode(b, new([]int64)) == nil || maps.Decode(b, new(map[string]int64)) == nil || customs.Decode(b, new([]custom)) == nil {
			t.Errorf("%s: a codec accepts it", name)
		}
		// The same bomb inside an unknown field and inside a custom type.
		for _, field := range []string{"unknown", "C"} {
			b := append(appendString([]byte{0x81}, field), b...)
			if err := record.Decode(b, new(everything)); base.CodeOf(err) == "" {
				t.Errorf("%s: accepted in field %s", name, field)
			}
		}
		if grown := allocated() - before; grown > 20<<20 {
			t.Errorf("%s: refusing it took %d bytes", name, grown)
		}
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// TestDecodingIsBoundedByTheMessage checks that a short message cannot stand for
// large zero values.
func TestDecodingIsBoundedByTheMessage(t *testing.T) {
	c := mustFor[[][1 << 16]int64](t)
	b := append([]byte{0xdd, 0x00, 0x0f, 0xff, 0xf0}, bytes.Repeat([]byte{0xc0}, 0x0ffff0)...)
	before := allocated()
	if err := c.Decode(b, new([][1 << 16]int64)); base.CodeOf(err) != CodeLimit {
		t.Fatalf("got %v", err)
	}
	if grown := allocated() - before; grown > 1<<20 {
		t.Fatalf("took %d bytes", grown)
	}
}

func TestValidate(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("91", n) + "90" }
	for _, c := range []struct {
		hex, code, part string
		lim             Limits
	}{
		{hex: "c0"}, {hex: "7f"}, {hex: "e0"}, {hex: "c2"}, {hex: "a161"}, {hex: "a0"}, {hex: "80"}, {hex: "90"},
		{hex: "c400"}, {hex: "c50001ff"}, {hex: "c60000000100"}, {hex: "d90161"}, {hex: "da000161"}, {hex: "db0000000161"},
		{hex: "ca00000000"}, {hex: "cb0000000000000000"}, {hex: "ccff"}, {hex: "cdffff"}, {hex: "ceffffffff"}, {hex: "cfffffffffffffffff"},
		{hex: "d0ff"}, {hex: "d1ffff"}, {hex: "d2ffffffff"}, {hex: "d3ffffffffffffffff"},
		{hex: "d40100"}, {hex: "d5010000"}, {hex: "d60100000000"}, {hex: "d7010000000000000000"}, {hex: "d801" + strings.Repeat("00", 16)},
		{hex: "c70001"}, {hex: "c7020100ff"}, {hex: "c8000001"}, {hex: "c90000000001"},
		{hex: "dc000101"}, {hex: "dd0000000101"}, {hex: "de00010102"}, {hex: "df000000010102"}, {hex: "82a16101a16290"}, {hex: "929091c0"},
		{hex: deep(32)}, {hex: deep(128), lim: Limits{Depth: 1000}},

		{hex: "", code: CodeMalformed, part: reasonTruncated},
		{hex: "c1", code: CodeMalformed, part: reasonReserved},
		{hex: "c0c0", code: CodeMalformed, part: "byte 1"},
		{hex: "a2", code: CodeMalformed, part: reasonTruncated},
		{hex: "a261", code: CodeMalformed, part: reasonTruncated}, {hex: "c4", code: CodeMalformed}, {hex: "c402ff", code: CodeMalformed},
		{hex: "c60000", code: CodeMalformed}, {hex: "c7", code: CodeMalformed}, {hex: "c700", code: CodeMalformed},
		{hex: "d401", code: CodeMalformed}, {hex: "cb00", code: CodeMalformed},
		{hex: "91", code: CodeMalformed, part: reasonLength}, {hex: "8101", code: CodeMalformed, part: reasonLength},
		{hex: "dfffffffff", code: CodeMalformed, part: reasonLength}, {hex: "dbffffffff", code: CodeMalformed},
		{hex: "9281", code: CodeMalformed, part: reasonLength},
		{hex: deep(33), code: CodeLimit, part: "32 levels"}, {hex: deep(129), lim: Limits{Depth: 1000}, code: CodeLimit, part: "128 levels"},
		{hex: "93010101", lim: Limits{Elems: 3}, code: CodeLimit, part: "more than 3"}, {hex: "920101", lim: Limits{Elems: 3}},
		{hex: "a3616263", lim: Limits{MaxRecord: 3}, code: CodeLimit, part: "4 bytes"},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		err = Validate(b, c.lim)
		if base.CodeOf(err) != c.code || c.code != "" && !strings.Contains(err.Error(), c.part) {
			t.Errorf("%.20s: got %v, want %s %s", c.hex, err, c.code, c.part)
		}
	}
}

func TestValidateAllocatesNothing(t *testing.T) {
	b := mustFor[event](t).Append(nil, &sample)
	if n := testing.AllocsPerRun(100, func() { _ = Validate(b, Limits{}) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// FuzzValidate checks that what Validate accepts is what the reference library
// can decode, without more memory than the message accounts for.
func FuzzValidate(f *testing.F) {
	f.Add(mustFor[event](f).Append(nil, &sample))
	f.Add([]byte("\x82\xa1a\x01\xa1b\x93\x01\x02\xc0"))
	for _, b := range bombs {
		f.Add(b[:min(len(b), 100)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if Validate(b, Limits{}) != nil {
			return
		}
		before := allocated()
		d := msgpack.NewDecoder(bytes.NewReader(b))
		d.SetMapDecoder(func(d *msgpack.Decoder) (any, error) { return d.DecodeUntypedMap() })
		defer func() { _ = recover() }() // it panics on unhashable keys
		_, _ = d.DecodeInterface()
		if grown := allocated() - before; grown > 1<<20+1000*uint64(len(b)) {
			t.Fatalf("%d bytes made the library allocate %d", len(b), grown)
		}
	})
}

// FuzzDecode checks that decoders neither panic nor accept what they cannot
// write back.
func FuzzDecode(f *testing.F) {
	c := mustFor[everything](f)
	f.Add(c.Append(nil, &everything{}))
	f.Add(c.Append(nil, &everything{
		Ins: []inner{{"a", 1}}, M: map[string]int64{"x": 1}, Ptr: &inner{}, Raw: []byte{1}, Ints: []int64{1, -70000},
		Cs: []custom{{1, 2}}, Opt: "o", MI: map[int32][]string{5: {"q"}}, MB: map[[2]byte]bool{{1}: true},
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, w everything
		if len(b) > 1<<20 || c.Decode(b, &v) != nil {
			return
		}
		first := c.Append(nil, &v)
		if err := c.Decode(first, &w); err != nil {
			t.Fatalf("own encoding refused: %v", err)
		}
		if second := c.Append(nil, &w); !bytes.Equal(first, second) {
			t.Fatalf("not stable:\n%x\n%x", first, second)
		}
	})
}

func TestValidateJSON(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct {
		text, code, part string
		lim              Limits
	}{
		{text: `{"a":[1,2,{"b":"]]]]\"[["}]}`, lim: Limits{Depth: 3}}, {text: `"[[[[[[[["`, lim: Limits{Depth: 3}}, {text: " null "}, {text: nested(32)},
		{text: "", code: CodeMalformed}, {text: "{", code: CodeMalformed}, {text: `{"a" 1}`, code: CodeMalformed, part: "byte 6"},
		{text: `[1,2`, code: CodeMalformed}, {text: `"abc`, code: CodeMalformed}, {text: `"abc\`, code: CodeMalformed}, {text: "1 2", code: CodeMalformed},
		{text: nested(33), code: CodeLimit, part: "32 levels"}, {text: nested(3_000_000), lim: Limits{MaxRecord: 10 << 20}, code: CodeLimit},
		{text: "[1,2,3]", lim: Limits{Elems: 3}, code: CodeLimit, part: "more than 3"}, {text: "[1,2,3]", lim: Limits{Elems: 4}},
		{text: "[1,2,3]", lim: Limits{MaxRecord: 6}, code: CodeLimit, part: "7 bytes"},
	} {
		err := ValidateJSON([]byte(c.text), c.lim)
		if base.CodeOf(err) != c.code || c.code != "" && !strings.Contains(err.Error(), c.part) {
			t.Errorf("%.30s: got %v, want %s %s", c.text, err, c.code, c.part)
		}
	}
}

func FuzzValidateJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,"\\",{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) { _ = ValidateJSON(b, Limits{}) })
}
