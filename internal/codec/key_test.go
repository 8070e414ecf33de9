package codec

import (
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirflow/weir/internal/base"
)

type pair struct{ user, item string }

type mixedKey struct {
	I    int32
	Flag bool
	S    string
	Sub  struct {
		U   uint64
		U16 uint16
	}
	_  float64 // blank fields are no part of ==, nor of the key
	ID [3]byte
	B  int8
}

// goldenKey encodes, hashes and decodes k and renders it as a line of the file.
func goldenKey[K comparable](t *testing.T, name string, k K) string {
	t.Helper()
	c, err := KeyFor[K]()
	if err != nil {
		t.Fatal(err)
	}
	b := c.Append(nil, k)
	if back, err := c.Decode(b); err != nil || back != k {
		t.Errorf("%s: decoded %v, %v", name, back, err)
	}
	if c.HashEncoded(b) != c.Hash(k) {
		t.Errorf("%s: HashEncoded differs from Hash", name)
	}
	return fmt.Sprintf("%s\t%s\t%016x", name, hex.EncodeToString(b), c.Hash(k))
}

func TestKeysAreGolden(t *testing.T) {
	mixed := mixedKey{I: -2, Flag: true, S: "café", ID: [3]byte{1, 2, 3}, B: -1}
	mixed.Sub.U, mixed.Sub.U16 = math.MaxUint64, 513
	id := [16]byte{}
	for i := range id {
		id[i] = byte(i)
	}
	got := []string{
		goldenKey(t, "int 0", 0), goldenKey(t, "int 1", 1), goldenKey(t, "int -1", -1),
		goldenKey(t, "int64 min", int64(math.MinInt64)), goldenKey(t, "int8 -128", int8(-128)),
		goldenKey(t, "uint64 max", uint64(math.MaxUint64)), goldenKey(t, "uint16 65535", uint16(65535)), goldenKey(t, "int32 -7", level(-7)),
		goldenKey(t, "string empty", ""), goldenKey(t, "string a", "a"), goldenKey(t, "string user-12345", "user-12345"),
		goldenKey(t, "string 40", strings.Repeat("x", 40)), goldenKey(t, "string invalid utf8", "\xff\xfe"),
		goldenKey(t, "bool false", false), goldenKey(t, "bool true", true), goldenKey(t, "array16", id),
		goldenKey(t, "pair", pair{"alice", "item-9"}), goldenKey(t, "pair empty", pair{}),
		goldenKey(t, "mixed", mixed), goldenKey(t, "pair long", pair{strings.Repeat("k", 200), strings.Repeat("v", 100)}),
		goldenKey(t, "no fields", struct{}{}),
	}
	file, err := os.ReadFile("testdata/keys.golden")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(file)), "\n")[2:]
	if len(lines) != len(got) {
		t.Fatalf("%d golden lines, %d cases", len(lines), len(got))
	}
	for i := range lines {
		if got[i] != lines[i] {
			t.Errorf("got  %s\nwant %s", got[i], lines[i])
		}
	}
}

func TestKeyKinds(t *testing.T) {
	checkKind(t, KeyUint64, time.Duration(-5))
	checkKind(t, KeyUint64, uint8(200))
	checkKind(t, KeyString, "s")
	checkKind(t, KeyBytes, true)
	checkKind(t, KeyBytes, [8]byte{1})
	checkKind(t, KeyBytes, struct{ N int64 }{7})
}

func checkKind[K comparable](t *testing.T, want KeyKind, k K) {
	t.Helper()
	c, err := KeyFor[K]()
	if err != nil || c.Kind() != want {
		t.Errorf("%T: kind %d (%v), want %d", k, c.Kind(), err, want)
		return
	}
	if want == KeyUint64 && c.FromUint64(c.Uint64(k)) != k {
		t.Errorf("%T: %v does not survive Uint64", k, k)
	}
	if want == KeyString && c.String(k) != fmt.Sprint(k) {
		t.Errorf("%T: String gives %q", k, c.String(k))
	}
}

func refusedKey[K comparable](t *testing.T, parts ...string) {
	t.Helper()
	_, err := KeyFor[K]()
	if base.CodeOf(err) != CodeKeyType {
		t.Errorf("%s: got %v", reflect.TypeFor[K](), err)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
}

func TestUnsupportedKeysAreRefusedByName(t *testing.T) {
	refusedKey[float64](t, "NaN")
	refusedKey[struct {
		A string
		B struct{ Ratio float32 }
	}](t, ".B.Ratio", "float32")
	refusedKey[*int](t, "pointer")
	refusedKey[any](t, "interface")
	refusedKey[chan int](t)
	refusedKey[complex64](t)
	refusedKey[uintptr](t)
	refusedKey[[2]string](t, "arrays of bytes")
	refusedKey[time.Time](t)
}

func TestKeyEncodingIsInjective(t *testing.T) {
	c, err := KeyFor[pair]()
	if err != nil {
		t.Fatal(err)
	}
	draw := func(t *rapid.T, label string) pair {
		s := rapid.StringOfN(rapid.RuneFrom([]rune{0, 1, 2, 'a'}), 0, 3, -1)
		return pair{s.Draw(t, label+".user"), s.Draw(t, label+".item")}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t, "a"), draw(t, "b")
		if same := string(c.Append(nil, a)) == string(c.Append(nil, b)); same != (a == b) {
			t.Fatalf("%q and %q: encodings equal is %v", a, b, same)
		}
	})
}

func TestKeyDecodeAcceptsOnlyCanonicalBytes(t *testing.T) {
	pairs, _ := KeyFor[pair]()
	small, _ := KeyFor[int8]()
	flags, _ := KeyFor[bool]()
	for _, b := range []string{"", "\x01", "\x01a", "\x01a\x05b", "\x01a\x01bc", "\x81\x00a\x01b", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		if k, err := pairs.Decode([]byte(b)); base.CodeOf(err) != CodeMalformed || k != (pair{}) {
			t.Errorf("%q: %v, %v", b, k, err)
		}
	}
	for _, b := range []string{"", "1234567", "\x00\x00\x00\x00\x00\x00\x00\x80", "\xff\xff\xff\xff\xff\xff\xff\x7f"} {
		if _, err := small.Decode([]byte(b)); base.CodeOf(err) != CodeMalformed {
			t.Errorf("%q: %v", b, err)
		}
	}
	if _, err := flags.Decode([]byte{2}); base.CodeOf(err) != CodeMalformed {
		t.Errorf("bool 2: %v", err)
	}
}

func FuzzKeyDecode(f *testing.F) {
	c, err := KeyFor[mixedKey]()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.Append(nil, mixedKey{S: "seed"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := c.Decode(b); err == nil && string(c.Append(nil, k)) != string(b) {
			t.Fatalf("%x is a second encoding of %+v", b, k)
		}
	})
}

func TestKeyHashAllocatesNothing(t *testing.T) {
	ints, _ := KeyFor[int64]()
	strs, _ := KeyFor[string]()
	pairs, _ := KeyFor[pair]()
	var sum uint64
	if n := testing.AllocsPerRun(100, func() {
		sum += ints.Hash(7) + strs.Hash("user-1") + pairs.Hash(pair{"user-1", "item-2"})
	}); n != 0 {
		t.Errorf("Hash allocates %v times", n)
	}
}

func BenchmarkKeyHash(b *testing.B) {
	ints, _ := KeyFor[int64]()
	strs, _ := KeyFor[string]()
	pairs, _ := KeyFor[pair]()
	var sum uint64
	b.Run("int64", func(b *testing.B) {
		for b.Loop() {
			sum += ints.Hash(int64(sum))
		}
	})
	b.Run("string", func(b *testing.B) {
		for b.Loop() {
			sum += strs.Hash("user-12345")
		}
	})
	b.Run("pair", func(b *testing.B) {
		for b.Loop() {
			sum += pairs.Hash(pair{"user-12345", "item-99"})
		}
	})
}
