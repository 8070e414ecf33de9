package codec

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirflow/weir/internal/base"
)

func schemaOf[T any](t testing.TB) *Schema {
	t.Helper()
	return mustFor[T](t).Schema()
}

type fixedOld struct {
	A    int64
	B    bool
	C    [3]struct{ X, Y int16 }
	Gone float64
	D    uint32
}

type fixedNew struct {
	D     uint32
	Added float64
	C     [3]struct {
		Y   int16
		New int64
		X   int16
	}
	A int64
	B bool
}

func TestSchemaText(t *testing.T) {
	for _, c := range []struct {
		s               *Schema
		text, canonical string
	}{
		{schemaOf[int](t), "int64", "int64"},
		{schemaOf[event](t), "{Active:bool,At:int64,Count:int32,ID:uint64,Item:string,Price:float64,User:string}", ""},
		{schemaOf[fixedOld](t), "{A:int64@0,B:bool@8,C:[3]{X:int16@0,Y:int16@2}#4@10,D:uint32@32,Gone:float64@24}#40", "{A:int64,B:bool,C:[3]{X:int16,Y:int16},D:uint32,Gone:float64}"},
		{schemaOf[map[string][]*inner](t), "map[string][]*{Ratio:float32,n:string}", ""},
		{schemaOf[[16]byte](t), "[16]uint8", "[16]uint8"},
		{schemaOf[[]byte](t), "bytes", ""},
		{schemaOf[custom](t), `custom("codec.custom")`, ""},
		{schemaOf[struct {
			A int `msgpack:"a:b"`
			T hexTime
		}](t), `{T:{At:time},"a:b":int64}`, ""},
		{schemaOf[struct{}](t), "{}#0", "{}"},
	} {
		if c.canonical == "" {
			c.canonical = c.text
		}
		if c.s.String() != c.text || c.s.Canonical() != c.canonical {
			t.Errorf("got %s and %s, want %s and %s", c.s, c.s.Canonical(), c.text, c.canonical)
		}
		back, err := ParseSchema(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		size, flat := back.Fixed()
		wantSize, wantFlat := c.s.Fixed()
		if back.String() != c.text || size != wantSize || flat != wantFlat || back.Fingerprint() != c.s.Fingerprint() || back.LayoutFingerprint() != c.s.LayoutFingerprint() {
			t.Errorf("%s parses back as %s, %d, %v", c.text, back, size, flat)
		}
	}
	// Fingerprints are stored: pinned values.
	if f := schemaOf[event](t).Fingerprint(); f != base.HashString("{Active:bool,At:int64,Count:int32,ID:uint64,Item:string,Price:float64,User:string}") {
		t.Errorf("fingerprint %x", f)
	}
}

func TestParseSchemaRefuses(t *testing.T) {
	for _, text := range []string{
		"", "int", "{", "{a}", "{a:}", "{a:int64,}", "{b:int64,a:int64}", "{a:int64,a:int64}", "int64 ", "[x]int64", "[1", "[]", "map[string", "map[string]",
		"custom(x)", `custom("x"`, "{a:int64@0}", "{a:int64}#8", "{a:int64@4}#8", "{a:int64@-1}#8", "{a:int64@0}#", "[999999999][999999999]int64@", strings.Repeat("*", 100) + "int64",
		strings.Repeat("x", maxSchemaText+1), `{"a:int64}`,
	} {
		if s, err := ParseSchema(text); err == nil {
			t.Errorf("%.40q parsed as %s", text, s)
		}
	}
}

func FuzzParseSchema(f *testing.F) {
	f.Add("{A:int64@0,B:bool@8,C:[3]{X:int16@0,Y:int16@2}#4@10}#40")
	f.Add(`map[string][]*{T:custom("x"),"a:b":bytes}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSchema(text)
		if err != nil {
			return
		}
		back, err := ParseSchema(s.String())
		if err != nil || back.String() != s.String() {
			t.Fatalf("%s does not survive: %v, %v", s, back, err)
		}
		if size, flat := s.Fixed(); flat && size < 1<<16 {
			convert, err := ConvertFixed(s, s)
			if err != nil {
				t.Fatal(err)
			}
			convert(make([]byte, size), make([]byte, size))
		}
	})
}

func incompatible(t *testing.T, old, current *Schema, field string) {
	t.Helper()
	err := Compatible(old, current)
	if base.CodeOf(err) != CodeSchema || !strings.Contains(err.Error(), field+":") {
		t.Errorf("%s to %s: got %v, want field %s", old, current, err, field)
	}
}

func TestCompatible(t *testing.T) {
	if err := Compatible(schemaOf[fixedOld](t), schemaOf[fixedNew](t)); err != nil {
		t.Error(err)
	}
	if err := Compatible(schemaOf[struct{ A int }](t), schemaOf[struct{ A level64 }](t)); err != nil {
		t.Errorf("a renamed type: %v", err)
	}
	incompatible(t, schemaOf[struct{ A int32 }](t), schemaOf[struct{ A int64 }](t), "A")
	incompatible(t, schemaOf[struct {
		A struct{ B []map[string]inner }
	}](t), schemaOf[struct {
		A struct {
			B []map[string]struct{ Ratio string }
		}
	}](t), "A.B[][].Ratio")
	incompatible(t, schemaOf[map[string]int](t), schemaOf[map[int]int](t), "[key]")
	incompatible(t, schemaOf[[2]int](t), schemaOf[[3]int](t), "the value")
	incompatible(t, schemaOf[custom](t), schemaOf[hexID](t), "the value")
	incompatible(t, schemaOf[string](t), schemaOf[[]byte](t), "the value")
}

type level64 int64

func TestFixed(t *testing.T) {
	if size, ok := Fixed[fixedOld](); !ok || size != 40 {
		t.Errorf("%d %v", size, ok)
	}
	type blank struct {
		A int8
		_ [7]byte
		B int64
	}
	if size, ok := Fixed[blank](); !ok || size != 16 {
		t.Errorf("%d %v", size, ok)
	}
	notFixed[string](t)
	notFixed[struct{ P *int }](t)
	notFixed[struct {
		A      int
		hidden int
	}](t)
	notFixed[struct {
		A    int
		Skip int `msgpack:"-"`
	}](t)
	notFixed[[2][]int](t)
	notFixed[map[int]int](t)
	notFixed[hexTime](t)
	notFixed[hexID](t)
	notFixed[chan int](t)
}

type hexTime struct{ At time.Time }

func notFixed[T any](t *testing.T) {
	t.Helper()
	if size, ok := Fixed[T](); ok || size != 0 {
		t.Errorf("%T is fixed with size %d", *new(T), size)
	}
}

func TestRawMemoryIsMappedByField(t *testing.T) {
	old, cur := mustFor[fixedOld](t), mustFor[fixedNew](t)
	convert, err := ConvertFixed(old.Schema(), cur.Schema())
	if err != nil {
		t.Fatal(err)
	}
	type grown struct { // no longer fixed
		Name string
		C    [3]struct{ Y, X int16 }
		B    bool
		D    uint32
	}
	wide := mustFor[grown](t)
	parsed, err := ParseSchema(old.Schema().String())
	if err != nil {
		t.Fatal(err)
	}
	load, err := wide.FromRaw(parsed)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		in := fixedOld{A: rapid.Int64().Draw(t, "a"), B: rapid.Bool().Draw(t, "b"), Gone: 1.5, D: rapid.Uint32().Draw(t, "d")}
		want := fixedNew{A: in.A, B: in.B, D: in.D}
		wantWide := grown{B: in.B, D: in.D}
		for i := range in.C {
			in.C[i].X, in.C[i].Y = rapid.Int16().Draw(t, "x"), rapid.Int16().Draw(t, "y")
			want.C[i].X, want.C[i].Y = in.C[i].X, in.C[i].Y
			wantWide.C[i].X, wantWide.C[i].Y = in.C[i].X, in.C[i].Y
		}
		raw := old.AppendRaw(nil, &in)
		var same fixedOld
		if err := old.LoadRaw(raw, &same); err != nil || same != in {
			t.Fatalf("%+v, %v", same, err)
		}
		size, _ := cur.Fixed()
		dst := make([]byte, size)
		for i := range dst {
			dst[i] = 0xaa // the converter must clear it
		}
		convert(raw, dst)
		var got fixedNew
		if err := cur.LoadRaw(dst, &got); err != nil || got != want {
			t.Fatalf("got %+v (%v), want %+v", got, err, want)
		}
		gotWide := grown{Name: "stale"}
		if err := load(raw, &gotWide); err != nil || gotWide != wantWide {
			t.Fatalf("got %+v (%v), want %+v", gotWide, err, wantWide)
		}
	})
	if load(make([]byte, 39), new(grown)) == nil || cur.LoadRaw(make([]byte, 39), new(fixedNew)) == nil {
		t.Error("raw memory of a wrong size was accepted")
	}
	if _, err := ConvertFixed(schemaOf[fixedOld](t), schemaOf[grown](t)); base.CodeOf(err) != CodeSchema {
		t.Errorf("got %v", err)
	}
	if _, err := wide.FromRaw(schemaOf[struct{ D string }](t)); base.CodeOf(err) != CodeSchema {
		t.Errorf("got %v", err)
	}
	if _, err := wide.FromRaw(schemaOf[struct{ D int8 }](t)); base.CodeOf(err) != CodeSchema {
		t.Errorf("got %v", err)
	}
}
