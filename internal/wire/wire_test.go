package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

var header = Header{
	Job:        [16]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff},
	Generation: 3, Term: 2, Seq: 1, Edge: 7, Sender: 1, Receiver: 4,
}

type ping struct {
	Name  string
	Epoch uint64
}

// frames are one of each kind, in the order of the golden file.
func frames(t testing.TB) [][]byte {
	t.Helper()
	c, err := codec.For[ping]()
	if err != nil {
		t.Fatal(err)
	}
	var list [][]byte
	add := func(b []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	add(Append(nil, Data, header, []byte("batch")))
	add(AppendWatermark(nil, header, -1))
	add(Append(nil, Idle, header, nil))
	add(AppendBarrier(nil, BarrierKind, header, Barrier{Epoch: 258, Attempt: 2, Trigger: []byte{0x80}}))
	add(AppendBarrier(nil, CancelBarrier, header, Barrier{Epoch: 258, Attempt: 2}))
	add(Append(nil, EndOfInput, header, nil))
	add(AppendControl(nil, header, c, &ping{"p", 5}))
	return list
}

func TestFramesAreGolden(t *testing.T) {
	file, err := os.ReadFile("testdata/frames.golden")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(file)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			_, text, _ := strings.Cut(line, "\t")
			want = append(want, text)
		}
	}
	list := frames(t)
	if len(want) != len(list) {
		t.Fatalf("%d golden frames, %d kinds", len(want), len(list))
	}
	for i, b := range list {
		if got := hex.EncodeToString(b); got != want[i] {
			t.Errorf("%s\ngot  %s\nwant %s", Kind(i+1), got, want[i])
		}
	}
}

func TestDecodeReturnsWhatWasAppended(t *testing.T) {
	all := bytes.Join(frames(t), nil)
	rest, r := all, iotest.OneByteReader(bytes.NewReader(all))
	var buf []byte
	for kind := Data; kind <= Control; kind++ {
		f, tail, err := Decode(rest)
		if err != nil || f.Kind != kind || f.Header != header {
			t.Fatalf("%s: %+v, %v", kind, f, err)
		}
		g, next, err := Read(r, buf)
		if err != nil || !reflect.DeepEqual(f.Header, g.Header) || f.Kind != g.Kind || !bytes.Equal(f.Payload, g.Payload) {
			t.Fatalf("%s: read %+v, %v", kind, g, err)
		}
		rest, buf = tail, next
		switch kind {
		case Data:
			if string(f.Payload) != "batch" {
				t.Errorf("payload %q", f.Payload)
			}
		case Watermark:
			if f.Time() != -1 {
				t.Errorf("watermark %d", f.Time())
			}
		case BarrierKind, CancelBarrier:
			b := f.Barrier()
			if b.Epoch != 258 || b.Attempt != 2 || (string(b.Trigger) == "\x80") != (kind == BarrierKind) {
				t.Errorf("barrier %+v", b)
			}
		case Control:
			c, _ := codec.For[ping]()
			var p ping
			if err := c.Decode(f.Payload, &p); err != nil || p != (ping{"p", 5}) {
				t.Errorf("control %+v, %v", p, err)
			}
		}
	}
	if _, _, err := Read(r, buf); len(rest) != 0 || err != io.EOF {
		t.Fatalf("%d bytes left, %v", len(rest), err)
	}
}

func TestHeadersRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := Header{
			Generation: base.Generation(rapid.Uint64().Draw(t, "gen")), Term: base.Term(rapid.Uint64().Draw(t, "term")), Seq: rapid.Uint64().Draw(t, "seq"),
			Edge: rapid.Uint32().Draw(t, "edge"), Sender: rapid.Uint32().Draw(t, "sender"), Receiver: rapid.Uint32().Draw(t, "receiver"),
		}
		copy(h.Job[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "job"))
		payload := rapid.SliceOfN(rapid.Byte(), 1, 2000).Draw(t, "payload")
		b, err := Append([]byte("before"), Data, h, payload)
		if err != nil {
			t.Fatal(err)
		}
		f, rest, err := Decode(append(b, "after"...)[6:])
		if err != nil || f.Header != h || !bytes.Equal(f.Payload, payload) || string(rest) != "after" {
			t.Fatalf("%+v, %q, %v", f, rest, err)
		}
	})
}

// TestEveryFlippedBitIsFound flips each bit of one frame of each kind.
func TestEveryFlippedBitIsFound(t *testing.T) {
	for _, b := range frames(t) {
		for bit := range len(b) * 8 {
			b[bit/8] ^= 1 << (bit % 8)
			if f, _, err := Decode(b); base.CodeOf(err) != CodeFrame {
				t.Fatalf("bit %d of a %s frame: %v", bit, f.Kind, err)
			}
			if _, _, err := Read(bytes.NewReader(b), nil); base.CodeOf(err) != CodeFrame {
				t.Fatalf("bit %d: read gives %v", bit, err)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestTruncatedFramesAreRefused(t *testing.T) {
	for _, b := range frames(t) {
		for n := range len(b) {
			if _, _, err := Decode(b[:n]); base.CodeOf(err) != CodeFrame {
				t.Fatalf("%d of %d bytes: %v", n, len(b), err)
			}
			want := CodeFrame
			if n == 0 {
				want = ""
			}
			if _, _, err := Read(bytes.NewReader(b[:n]), nil); base.CodeOf(err) != want || err == nil {
				t.Fatalf("%d of %d bytes: read gives %v", n, len(b), err)
			}
		}
	}
	broken := errors.New("broken")
	if _, _, err := Read(iotest.ErrReader(broken), nil); err != broken {
		t.Fatalf("got %v", err)
	}
}

// TestLengthIsCheckedBeforeAllocation sends a header that claims 4 GiB.
func TestLengthIsCheckedBeforeAllocation(t *testing.T) {
	b := frames(t)[0]
	binary.LittleEndian.PutUint32(b[offLength:], 0xffffffff)
	_, buf, err := Read(bytes.NewReader(b), nil)
	if base.CodeOf(err) != CodeFrame || !strings.Contains(err.Error(), "4294967295") || cap(buf) > 4*HeaderLen {
		t.Fatalf("%v, %d bytes allocated", err, cap(buf))
	}
}

func TestPayloadsOfWrongFormAreRefused(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		n    int
	}{{Data, 0}, {Data, MaxPayload + 1}, {Watermark, 7}, {Watermark, 9}, {Idle, 1}, {EndOfInput, 1}, {BarrierKind, 16}, {CancelBarrier, 15}, {CancelBarrier, 17}, {Control, 0}, {0, 1}, {8, 1}} {
		payload := make([]byte, c.n)
		if out, err := Append([]byte("x"), c.kind, header, payload); base.CodeOf(err) != CodeFrame || string(out) != "x" {
			t.Errorf("%s with %d bytes: %v", c.kind, c.n, err)
		}
		// The same with a correct checksum, as a broken or hostile peer sends it.
		if c.n <= MaxPayload {
			b := append(Begin(nil), payload...)
			b[0], b[1], b[2], b[3] = 'W', 'F', Version, byte(c.kind)
			binary.LittleEndian.PutUint32(b[offLength:], uint32(c.n))
			binary.LittleEndian.PutUint32(b[offSum:], checksum(b[:HeaderLen], payload))
			if _, _, err := Decode(b); base.CodeOf(err) != CodeFrame {
				t.Errorf("%s with %d bytes decodes: %v", c.kind, c.n, err)
			}
		}
	}
	bomb := []byte{0xdd, 0x0b, 0xeb, 0xc2, 0x00}
	if _, err := Append(nil, Control, header, bomb); base.CodeOf(err) != CodeFrame {
		t.Errorf("bomb in a control frame: %v", err)
	}
	if _, err := AppendBarrier(nil, BarrierKind, header, Barrier{Trigger: bomb}); base.CodeOf(err) != CodeFrame {
		t.Errorf("bomb in a trigger: %v", err)
	}
	if b, err := Append(nil, Data, header, make([]byte, MaxPayload)); err != nil || len(b) != HeaderLen+MaxPayload {
		t.Errorf("the largest payload: %v", err)
	}
}

func TestSequence(t *testing.T) {
	var s Sequence
	for seq := uint64(1); seq < 4; seq++ {
		if err := s.Accept(seq); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []uint64{0, 2, 3, 5} {
		if base.CodeOf(s.Accept(bad)) != CodeFrame {
			t.Errorf("%d accepted after 3", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, b := range frames(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// Give mutated frames a right checksum half of the time, so that what lies
		// behind it is reached.
		if len(b) > HeaderLen && b[len(b)-1]&1 == 0 {
			if n, err := payloadLen(b); err == nil && n <= len(b)-HeaderLen {
				binary.LittleEndian.PutUint32(b[offSum:], checksum(b[:HeaderLen], b[HeaderLen:HeaderLen+n]))
			}
		}
		fr, rest, err := Decode(b)
		if err != nil {
			return
		}
		again := append(Begin(nil), fr.Payload...)
		if err := Finish(again, 0, fr.Kind, fr.Header); err != nil || !bytes.Equal(again, b[:len(b)-len(rest)]) {
			t.Fatalf("%s frame does not survive: %v", fr.Kind, err)
		}
	})
}

func BenchmarkAppendData(b *testing.B) {
	payload := make([]byte, 16<<10)
	var buf []byte
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		buf, _ = Append(buf[:0], Data, header, payload)
	}
}
