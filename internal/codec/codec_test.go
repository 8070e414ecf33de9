package codec

import (
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/weirflow/weir/internal/base"
)

// event is the seven-field record of the measurements.
type event struct {
	ID     uint64
	User   string
	Item   string
	Price  float64
	At     int64
	Count  int32
	Active bool
}

var sample = event{ID: 123456789, User: "user-12345", Item: "item-99", Price: 12.5, At: 1700000000123456789, Count: 42, Active: true}

type level int32

type inner struct {
	Name  string `msgpack:"n"`
	Ratio float32
}

type embedded struct {
	Depth uint16
	Tags  []string
}

// custom encodes itself as an array of two through the reference library.
type custom struct{ a, b int64 }

func (c *custom) EncodeMsgpack(e *msgpack.Encoder) error {
	if err := e.EncodeArrayLen(2); err != nil {
		return err
	}
	if err := e.EncodeInt(c.a); err != nil {
		return err
	}
	return e.EncodeInt(c.b)
}

func (c *custom) DecodeMsgpack(d *msgpack.Decoder) (err error) {
	if _, err = d.DecodeArrayLen(); err != nil {
		return err
	}
	if c.a, err = d.DecodeInt64(); err != nil {
		return err
	}
	c.b, err = d.DecodeInt64()
	return err
}

// hexID encodes itself through MarshalText.
type hexID uint32

func (h hexID) MarshalText() ([]byte, error) {
	return binary.BigEndian.AppendUint32(nil, uint32(h)), nil
}
func (h *hexID) UnmarshalText(b []byte) error {
	if len(b) != 4 {
		return errors.New("not four bytes")
	}
	*h = hexID(binary.BigEndian.Uint32(b))
	return nil
}

// everything has a field of each supported shape.
type everything struct {
	embedded
	B    bool
	I    int
	I8   int8
	I16  int16
	I32  level
	I64  int64
	U    uint
	U8   uint8
	U16  uint16
	U32  uint32
	U64  uint64
	F32  float32
	F64  float64
	S    string
	Raw  []byte
	ID   [16]byte
	Arr  [3]int16
	Ints []int64
	Ptr  *inner
	In   inner
	Ins  []inner
	Ptrs []*inner
	M    map[string]int64
	MI   map[int32][]string
	MB   map[[2]byte]bool
	T    time.Time
	D    time.Duration
	C    custom
	Cs   []custom
	H    hexID
	Opt  string `msgpack:"opt,omitempty"`
	Opts []int  `msgpack:",omitempty"`
	Skip string `msgpack:"-"`
}

func mustFor[T any](t testing.TB) *Codec[T] {
	t.Helper()
	c, err := For[T]()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func drawInner(t *rapid.T) inner {
	return inner{Name: rapid.String().Draw(t, "name"), Ratio: rapid.Float32().Draw(t, "ratio")}
}

func maybe[T any](t *rapid.T, v T) *T {
	if rapid.Bool().Draw(t, "set") {
		return &v
	}
	return nil
}

func drawEverything(t *rapid.T) everything {
	e := everything{
		B: rapid.Bool().Draw(t, "b"), I: rapid.Int().Draw(t, "i"), I8: rapid.Int8().Draw(t, "i8"), I16: rapid.Int16().Draw(t, "i16"),
		I32: level(rapid.Int32().Draw(t, "i32")), I64: rapid.Int64().Draw(t, "i64"), U: rapid.Uint().Draw(t, "u"), U8: rapid.Uint8().Draw(t, "u8"),
		U16: rapid.Uint16().Draw(t, "u16"), U32: rapid.Uint32().Draw(t, "u32"), U64: rapid.Uint64().Draw(t, "u64"),
		F32: rapid.Float32().Draw(t, "f32"), F64: rapid.Float64().Draw(t, "f64"), S: rapid.StringN(0, -1, 300).Draw(t, "s"),
		Raw: rapid.SliceOfN(rapid.Byte(), -1, 300).Draw(t, "raw"), Ints: rapid.SliceOfN(rapid.Int64(), -1, 40).Draw(t, "ints"),
		Ptr: maybe(t, drawInner(t)), In: drawInner(t), D: time.Duration(rapid.Int64().Draw(t, "d")),
		M:    rapid.MapOf(rapid.String(), rapid.Int64()).Draw(t, "m"),
		MI:   rapid.MapOf(rapid.Int32(), rapid.SliceOf(rapid.String())).Draw(t, "mi"),
		C:    custom{rapid.Int64().Draw(t, "ca"), rapid.Int64().Draw(t, "cb")},
		Cs:   []custom{{1, 2}, {-3, 4}},
		T:    time.Unix(rapid.Int64Range(-62135596800, 253402300799).Draw(t, "sec"), rapid.Int64Range(0, 999999999).Draw(t, "nsec")).UTC(),
		H:    hexID(rapid.Uint32().Draw(t, "h")),
		Opt:  rapid.String().Draw(t, "opt"),
		Opts: rapid.SliceOfN(rapid.Int(), 1, 3).Draw(t, "opts"),
	}
	e.Depth, e.Tags = rapid.Uint16().Draw(t, "depth"), rapid.SliceOf(rapid.String()).Draw(t, "tags")
	for i := range e.ID {
		e.ID[i] = rapid.Byte().Draw(t, "id")
	}
	for i := range e.Arr {
		e.Arr[i] = rapid.Int16().Draw(t, "arr")
	}
	for range rapid.IntRange(0, 20).Draw(t, "count") {
		e.Ins = append(e.Ins, drawInner(t))
		e.Ptrs = append(e.Ptrs, maybe(t, drawInner(t)))
	}
	if rapid.Bool().Draw(t, "mb") {
		e.MB = map[[2]byte]bool{{1, 2}: true, {3, 4}: false}
	}
	return e
}

func TestRoundTripAndReferenceLibrary(t *testing.T) {
	c := mustFor[everything](t)
	rapid.Check(t, func(t *rapid.T) {
		in := drawEverything(t)
		b := c.Append([]byte("prefix"), &in)
		if string(b[:6]) != "prefix" {
			t.Fatal("the prefix changed")
		}
		b = b[6:]
		if err := Validate(b, Limits{}); err != nil {
			t.Fatalf("own encoding is invalid: %v", err)
		}
		if again := c.Append(nil, &in); string(again) != string(b) {
			t.Fatal("two encodings of one value differ")
		}
		out := everything{S: "stale", Ints: []int64{9}}
		if err := c.Decode(b, &out); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(in, out) {
			t.Fatalf("decoded\n%+v\nwant\n%+v", out, in)
		}

		// The reference library reads what we write …
		var ref everything
		if err := msgpack.Unmarshal(b, &ref); err != nil {
			t.Fatalf("reference decode: %v", err)
		}
		ref.T = ref.T.UTC()
		if !reflect.DeepEqual(in, ref) {
			t.Fatalf("reference decoded\n%+v\nwant\n%+v", ref, in)
		}
		// … and we read what it writes.
		rb, err := msgpack.Marshal(&in)
		if err != nil {
			t.Fatal(err)
		}
		var back everything
		if err := c.Decode(rb, &back); err != nil {
			t.Fatalf("decoding the reference encoding: %v", err)
		}
		if !reflect.DeepEqual(in, back) {
			t.Fatalf("from the reference\n%+v\nwant\n%+v", back, in)
		}
	})
}

func TestRoots(t *testing.T) {
	roundTrip(t, int64(-5))
	roundTrip(t, "text")
	roundTrip(t, []byte{1, 2})
	roundTrip(t, []string{"a", ""})
	roundTrip(t, map[string]float64{"x": 1, "y": 2})
	roundTrip(t, [4]uint32{1, 2, 3, 1 << 31})
	roundTrip(t, struct{}{})
	roundTrip(t, []int(nil))
	roundTrip(t, []int{})
	roundTrip(t, map[string]int{})
	roundTrip(t, &inner{Name: "p"})
	roundTrip(t, custom{1, 2})
	roundTrip(t, time.Time{})
}

func roundTrip[T any](t *testing.T, v T) {
	t.Helper()
	c := mustFor[T](t)
	var got T
	if err := c.Decode(c.Append(nil, &v), &got); err != nil || !reflect.DeepEqual(v, got) {
		t.Errorf("%T: got %#v (%v), want %#v", v, got, err, v)
	}
}

type older struct {
	Gone  []inner
	Kept  string
	Inner inner
}

type newer struct {
	Added int64
	Inner struct {
		Name  string `msgpack:"n"`
		Extra []byte
	}
	Kept string
}

func TestFieldsMayBeAddedAndRemoved(t *testing.T) {
	old, cur := mustFor[older](t), mustFor[newer](t)
	if err := Compatible(old.Schema(), cur.Schema()); err != nil {
		t.Fatal(err)
	}
	b := old.Append(nil, &older{Gone: []inner{{"a", 1}, {"b", 2}}, Kept: "k", Inner: inner{"n", 3}})
	got := newer{Added: 99}
	if err := cur.Decode(b, &got); err != nil {
		t.Fatal(err)
	}
	want := newer{Kept: "k"}
	want.Inner.Name = "n"
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

type selfRef struct{ Next *selfRef }

type twice struct {
	A int `msgpack:"x"`
	B int `msgpack:"x"`
}

type withPtr struct{ *inner }

type asArray struct {
	//lint:ignore U1000 its tag is the point
	_msgpack struct{} `msgpack:",as_array"`
	A        int
}

func refused[T any](t *testing.T, parts ...string) {
	t.Helper()
	_, err := For[T]()
	if base.CodeOf(err) != CodeType {
		t.Errorf("%s: got %v", reflect.TypeFor[T](), err)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %q lacks %q", reflect.TypeFor[T](), err, part)
		}
	}
}

func TestUnsupportedTypesAreRefusedByName(t *testing.T) {
	refused[chan int](t, "chan int")
	refused[func()](t)
	refused[any](t)
	refused[complex128](t)
	refused[uintptr](t)
	refused[struct {
		A struct{ B []map[string]chan int }
	}](t, ".A.B[][value]", "chan int")
	refused[struct{ Err error }](t, ".Err")
	refused[struct{ a, b int }](t, "no exported field")
	refused[selfRef](t, ".Next", "contains itself")
	refused[**int](t, "pointer to a pointer")
	refused[map[float64]int](t, "keys of an encoded map")
	refused[twice](t, `"x"`)
	refused[withPtr](t, "embedded by pointer")
	refused[asArray](t, "_msgpack")
	refused[struct {
		A int `msgpack:",as_array"`
	}](t, "as_array")
	refused[[][][][][][][][][][][][][][][][][][][][][][][][][][][][][][][][][][]int](t, "32 levels")
}

func TestEncodingAllocatesNothing(t *testing.T) {
	c := mustFor[event](t)
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() {
		local := sample // must not escape
		buf = c.Append(buf[:0], &local)
	}); n != 0 {
		t.Errorf("Append allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		var out event
		if c.Decode(buf, &out) != nil || out.ID != sample.ID {
			t.Error("wrong decode")
		}
	}); n != 2 {
		t.Errorf("Decode allocates %v times, want one for each of two strings", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	c := mustFor[event](b)
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = c.Append(buf[:0], &sample)
	}
}

func BenchmarkDecode(b *testing.B) {
	c := mustFor[event](b)
	buf := c.Append(nil, &sample)
	var out event
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Decode(buf, &out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	c := mustFor[event](b)
	buf := c.Append(nil, &sample)
	for b.Loop() {
		if err := Validate(buf, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
