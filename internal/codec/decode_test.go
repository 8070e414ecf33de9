package codec

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/weirflow/weir/internal/base"
)

type narrow struct {
	I8  int8
	I16 int16
	I32 int32
	U8  uint8
	U32 uint32
	U16 uint16
	F   float64
	B   bool
	S   string
	A   [2]int8
	ID  [2]byte
	Sub []struct{ N int32 }
	T   struct{ M map[string]bool }
}

// TestDecodeErrorsNameTheField checks code, path and position of failures.
func TestDecodeErrorsNameTheField(t *testing.T) {
	c := mustFor[narrow](t)
	field := func(name, value string) string { return "81" + hex.EncodeToString(appendString(nil, name)) + value }
	for _, x := range []struct{ hex, code, part string }{
		{field("I8", "cc80"), CodeMismatch, "narrow.I8"}, {field("I8", "d1ff7f"), CodeMismatch, reasonRange},
		{field("I8", "cfffffffffffffffff"), CodeMismatch, reasonRange}, {field("I8", "a161"), CodeMismatch, reasonKind},
		{field("U16", "ff"), CodeMismatch, reasonRange}, {field("U16", "ce00010000"), CodeMismatch, reasonRange},
		{field("I16", "cd8000"), CodeMismatch, reasonRange}, {field("I16", "d2ffff7fff"), CodeMismatch, reasonRange},
		{field("I32", "ce80000000"), CodeMismatch, reasonRange}, {field("U8", "cd0100"), CodeMismatch, reasonRange},
		{field("U32", "cf0000000100000000"), CodeMismatch, reasonRange}, {field("zzz", "a261"), CodeMalformed, reasonTruncated},
		{field("F", "a161"), CodeMismatch, "narrow.F, byte 3"}, {field("F", "cb00"), CodeMalformed, reasonTruncated},
		{field("B", "01"), CodeMismatch, "narrow.B"}, {field("S", "01"), CodeMismatch, "narrow.S"},
		{field("A", "93010203"), CodeMismatch, reasonArray}, {field("ID", "c403010203"), CodeMismatch, reasonArray},
		{field("Sub", "9281a14e0181a14ea0"), CodeMismatch, "narrow.Sub[1].N"},
		{field("Sub", "c0c0"), CodeMalformed, reasonTrailing}, {field("Sub", "9a"), CodeMalformed, reasonLength},
		{field("T", "81a14d81a178ff"), CodeMismatch, "narrow.T.M[value]"}, {field("T", "81a14d81c0c3"), CodeMismatch, reasonNilKey},
		{field("zzz", "c1"), CodeMalformed, reasonReserved}, {field("zzz", ""), CodeMalformed, reasonTruncated},
		{"8101", CodeMalformed, reasonLength}, {"810102", CodeMismatch, reasonKey}, {"01", CodeMismatch, reasonKind}, {"", CodeMalformed, reasonTruncated},
	} {
		b, err := hex.DecodeString(x.hex)
		if err != nil {
			t.Fatal(err)
		}
		err = c.Decode(b, new(narrow))
		if base.CodeOf(err) != x.code || !strings.Contains(err.Error(), x.part) {
			t.Errorf("%s: got %v, want %s %s", x.hex, err, x.code, x.part)
		}
	}
}

func TestDecodeAcceptsOtherForms(t *testing.T) {
	type rec struct {
		I int8
		F float64
		S string
		R []byte
	}
	c := mustFor[rec](t)
	// Fields out of order, wide integers, an integer for a float, binary for a
	// string, a string for binary, a field twice, an unknown field.
	b, _ := hex.DecodeString("87" + "a152" + "a3616263" + "a153" + "c40178" + "a146" + "fe" + "a149" + "d300000000000000" + "05" + "a158" + "82a161900190" + "d90149" + "d0fb" + "a146" + "ca3f800000")
	var got rec
	if err := c.Decode(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.I != -5 || got.F != 1 || got.S != "x" || string(got.R) != "abc" {
		t.Fatalf("got %+v", got)
	}
	b[4] = 'z' // the message is not aliased
	if string(got.R) != "abc" {
		t.Fatal("the decoded value aliases the message")
	}
}

func TestTimestampsOutOfRangeAreRefused(t *testing.T) {
	type box struct{ T time.Time }
	c := mustFor[box](t)
	for _, h := range []string{"d6000000000a", "d7ff" + "ffffffffffffffff", "c70cff" + "3b9aca00" + "0000000000000000", "c704ff00000000", "c70c", "a161", "d5ff0000"} {
		b, _ := hex.DecodeString(h)
		if err := c.Decode(append([]byte{0x81, 0xa1, 'T'}, b...), new(box)); err == nil {
			t.Errorf("%s accepted", h)
		}
	}
}

// TestIntegersAreShortest compares every boundary with the reference library.
func TestIntegersAreShortest(t *testing.T) {
	ints, uints := mustFor[int64](t), mustFor[uint64](t)
	for shift := range 64 {
		for _, d := range []int64{-2, -1, 0, 1, 2} {
			v := int64(1)<<shift + d
			for _, v := range []int64{v, -v} {
				var ref bytes.Buffer
				e := msgpack.NewEncoder(&ref)
				if err := e.EncodeInt(v); err != nil {
					t.Fatal(err)
				}
				b := ints.Append(nil, &v)
				var back int64
				if err := ints.Decode(b, &back); err != nil || back != v || !bytes.Equal(b, ref.Bytes()) {
					t.Errorf("%d: %x (%d, %v), the library writes %x", v, b, back, err, ref.Bytes())
				}
				u, ub := uint64(v), uint64(0)
				if err := uints.Decode(uints.Append(nil, &u), &ub); err != nil || ub != u {
					t.Errorf("%d: %d, %v", u, ub, err)
				}
			}
		}
	}
}

func TestMapValuesDoNotLeakIntoEachOther(t *testing.T) {
	b, _ := hex.DecodeString("82" + "a161" + "81a16ea178" + "a162" + "80")
	var m map[string]inner
	if err := mustFor[map[string]inner](t).Decode(b, &m); err != nil || m["a"].Name != "x" || m["b"] != (inner{}) {
		t.Fatalf("%+v, %v", m, err)
	}
}
