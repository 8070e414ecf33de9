package protocol

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/weirflow/weir/internal/base"
	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

func sum(s string) SHA { return SumSHA([]byte(s)) }

// sampleManifest has every field set and every list filled.
func sampleManifest() *Manifest {
	half := base.SplitRange(0, 2)
	rest := base.SplitRange(1, 2)
	return &Manifest{
		Job: "0123456789abcdef0123456789abcdef", Epoch: 7, Attempt: NewAttempt(3, 9), Term: 3, Gen: 4,
		PlanHash: sum("plan"), Prev: sum("record 6"), Final: FinalStop,
		Tasks: []TaskState{
			{
				Task: TaskID{"by-user", 0}, Gen: 4, Keyed: true, Range: half,
				Objects: []ObjectRef{
					{Kind: KindBase, SHA: sum("base"), Size: 1 << 40, Range: base.FullRange, Epoch: 5, Name: "000012.sst"},
					{Kind: KindDelta, SHA: sum("delta 6"), Size: 300, Range: half, Since: 5, Epoch: 6},
					{Kind: KindDelta, SHA: sum("d"), Size: 1, Range: half, Since: 6, Epoch: 7, Inline: []byte("d")},
				},
				Named: []NamedState{{Name: "watermark", SHA: sum("w"), Size: 1, Inline: []byte("w")}},
			},
			{Task: TaskID{"by-user", 1}, Gen: 4, Keyed: true, Range: rest},
			{Task: TaskID{"clicks", 0}, Gen: 3},
		},
		Splits: []SplitState{{
			Source: "clicks", Split: "CLICKS", Identity: "2026-01-02T03:04:05Z", Offset: 70000, Finished: true,
			Watermark: -5, State: []byte{1, 2},
		}},
		Lanes: []LaneState{
			{
				Block: LaneBlock{Lane: LaneID{"scores", 0}, SHA: sum("block"), Bytes: 200, Chunks: []uint32{999, 1}},
				Pred:  MarkerID{5, 1, sum("manifest 5")}, Before: 40, Committed: 5,
			},
			{Block: LaneBlock{Lane: LaneID{"scores", 1}}},
		},
		Control: []ControlEvent{{ID: 1, Target: "churn", Name: "model", Body: []byte("v2")}},
		Schemas: []Schema{{Operator: "by-user", State: "sums", Fingerprint: "f00", Detail: "int64"}},
	}
}

// form is one stored form under test.
type form struct {
	name   string
	sample func() ([]byte, error)
	// recode decodes and encodes again.
	recode func(b []byte) ([]byte, error)
}

func recode[T interface{ Encode() ([]byte, error) }](decode func([]byte) (T, error)) func(b []byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		v, err := decode(b)
		if err != nil {
			return nil, err
		}
		return v.Encode()
	}
}

var forms = []form{
	{"manifest", func() ([]byte, error) { return sampleManifest().Encode() }, recode(DecodeManifest)},
	{"epoch", func() ([]byte, error) {
		return EpochRecord{"job", 300, 4, NewAttempt(3, 9), sum("manifest"), sum("record")}.Encode()
	}, recode(DecodeEpochRecord)},
	{"term", func() ([]byte, error) { return TermRecord{"job", 3, "host a, process 12"}.Encode() }, recode(DecodeTermRecord)},
	{"gen", func() ([]byte, error) {
		return GenRecord{"job", 4, 3, sum("plan"), 300, []Placement{{TaskID{"by-user", 0}, "w1", 4}, {TaskID{"clicks", 0}, "w2", 3}}}.Encode()
	}, recode(DecodeGenRecord)},
	{"floor", func() ([]byte, error) { return FloorRecord{"job", 250}.Encode() }, recode(DecodeFloorRecord)},
	{"marker", func() ([]byte, error) {
		return Marker{"job", LaneID{"scores", 2}, 300, 2, 3, 4, sum("manifest"), 999, 1 << 33}.Encode()
	}, recode(DecodeMarker)},
}

// TestGoldenForms pins the bytes of every form: stores and streams outlive
// binaries.
func TestGoldenForms(t *testing.T) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			got, err := f.sample()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", f.name+".hex")
			if *rewrite {
				if err := os.WriteFile(file, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, err := hex.DecodeString(string(bytes.TrimSpace(text)))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the form has changed:\n got %x\nwant %x", got, want)
			}
			again, err := f.recode(want)
			if err != nil || !bytes.Equal(again, want) {
				t.Errorf("decoding and encoding gives %x, %v", again, err)
			}
			// Behind the two leading bytes it is one ordinary MessagePack value.
			d := msgpack.NewDecoder(bytes.NewReader(want[2:]))
			if _, err := d.DecodeInterface(); err != nil {
				t.Errorf("not MessagePack: %v", err)
			}
			if n, _ := d.Buffered().(*bytes.Reader); n != nil && n.Len() > 0 {
				t.Errorf("%d bytes follow the value", n.Len())
			}
		})
	}
}

// TestDamagedForms: every truncation and every flipped bit is refused, or gives a
// value whose own form is exactly the damaged bytes; nothing is read loosely.
func TestDamagedForms(t *testing.T) {
	for _, f := range forms {
		b, err := f.sample()
		if err != nil {
			t.Fatal(err)
		}
		for n := range b {
			if _, err := f.recode(b[:n]); !errors.Is(err, errCorrupt) {
				t.Fatalf("%s cut to %d bytes: %v", f.name, n, err)
			}
		}
		if _, err := f.recode(append(bytes.Clone(b), 0)); !errors.Is(err, errCorrupt) {
			t.Errorf("%s with a byte more: %v", f.name, err)
		}
		for i := range len(b) * 8 {
			bad := bytes.Clone(b)
			bad[i/8] ^= 1 << (i % 8)
			if again, err := f.recode(bad); err == nil && !bytes.Equal(again, bad) {
				t.Fatalf("%s with bit %d flipped reads as %x", f.name, i, again)
			}
		}
	}
}

// TestHugeLengths: lengths that the input cannot hold are refused before memory
// is taken.
func TestHugeLengths(t *testing.T) {
	for _, tail := range [][]byte{
		{0xdd, 0xff, 0xff, 0xff, 0xff}, {0xdc, 0xff, 0xff}, {0xdb, 0xff, 0xff, 0xff, 0xff}, {0xc6, 0xff, 0xff, 0xff, 0xff},
		bytes.Repeat([]byte{0x91}, 100_000),
	} {
		for _, f := range forms {
			b, err := f.sample()
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{2, 3, len(b) / 2} {
				in := append(bytes.Clone(b[:n]), tail...)
				if got := testing.AllocsPerRun(1, func() { _, _ = f.recode(in) }); got > 200 {
					t.Errorf("%s: %v allocations", f.name, got)
				}
			}
		}
	}
}

// TestLimits: what could not be read back is not written.
func TestLimits(t *testing.T) {
	m := sampleManifest()
	m.Tasks[0].Named[0].Inline = make([]byte, MaxInline+1)
	if _, err := m.Encode(); err == nil {
		t.Error("an inline snapshot above the limit was written")
	}
	m = sampleManifest()
	m.Tasks[0].Task.Index = -1
	if _, err := m.Encode(); err == nil {
		t.Error("a negative index was written")
	}
	if _, err := (TermRecord{Job: "j", Holder: string(make([]byte, maxName+1))}).Encode(); err == nil {
		t.Error("a name above the limit was written")
	}
}

// TestManifestRoundTrip: whatever can be written reads back equal.
func TestManifestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.Make[Manifest]().Draw(t, "manifest")
		m.Final %= 3
		for i := range m.Tasks {
			m.Tasks[i].Task.Index = int(uint32(m.Tasks[i].Task.Index) >> 1)
		}
		for i := range m.Lanes {
			m.Lanes[i].Block.Lane.Lane = int(uint32(m.Lanes[i].Block.Lane.Lane) >> 1)
		}
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeManifest(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := got.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%+v reads back as %+v", m, got)
		}
	})
}

// TestMessagesSurviveEncoding: control messages hold plain data, so that any
// MessagePack library carries them.
func TestMessagesSurviveEncoding(t *testing.T) {
	lane := LaneID{"scores", 1}
	for _, m := range []Message{
		{Kind: KindTrigger, Trigger: &Trigger{Prev: 5, Final: FinalEnd, Control: sampleManifest().Control}},
		{Kind: KindComplete, Complete: &Complete{Manifest: sum("m"), Lanes: sampleManifest().Lanes}},
		{Kind: KindAck, Ack: &Ack{State: sampleManifest().Tasks[0], Splits: sampleManifest().Splits, Lanes: []LaneBlock{sampleManifest().Lanes[0].Block}}},
		{Kind: KindDecline, Failure: &Failure{Code: "WEIR-0301", What: "a snapshot failed", Cause: "disk full", Where: "here", Next: "make room", Fatal: true}},
		{Kind: KindFailed, Failure: &Failure{Cause: "panic"}},
		{Kind: KindCommitted, Lane: &lane},
		{Kind: KindStatus, Status: &Status{sum("p"), []Try{{6, 7}}, 6, []LaneMark{{lane, MarkerID{1, 2, sum("x")}}}, true}},
		{Kind: KindAbort}, {Kind: KindQuery}, {Kind: KindStop}, {Kind: KindMoved}, {Kind: KindOutput}, {Kind: KindFinished}, {Kind: KindStale},
	} {
		m.Job, m.Term, m.Gen, m.Epoch, m.Attempt, m.Task = "job", 3, 4, 7, NewAttempt(3, 1), TaskID{"by-user", 2}
		if err := m.Check(); err != nil {
			t.Errorf("kind %d: %v", m.Kind, err)
		}
		b, err := msgpack.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		var got Message
		if err := msgpack.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("kind %d comes back as %+v, %v", m.Kind, got, err)
		}
		bad := m
		bad.Kind = KindTrigger
		if m.Kind != KindTrigger && bad.Check() == nil {
			t.Errorf("the payload of kind %d passed as a trigger", m.Kind)
		}
	}
	if (&Message{Kind: 99}).Check() == nil || (&Message{Kind: KindQuery, Job: string(make([]byte, maxName+1))}).Check() == nil {
		t.Error("a malformed message passed")
	}
}

// fuzzForm feeds arbitrary bytes to a decoder: it must not panic, and what it
// accepts must be canonical.
func fuzzForm(f *testing.F, i int) {
	b, err := forms[i].sample()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		if out, err := forms[i].recode(in); err == nil && !bytes.Equal(in, out) {
			t.Errorf("%x reads as %x", in, out)
		}
	})
}

func FuzzManifest(f *testing.F)    { fuzzForm(f, 0) }
func FuzzEpochRecord(f *testing.F) { fuzzForm(f, 1) }
func FuzzTermRecord(f *testing.F)  { fuzzForm(f, 2) }
func FuzzGenRecord(f *testing.F)   { fuzzForm(f, 3) }
func FuzzFloorRecord(f *testing.F) { fuzzForm(f, 4) }
func FuzzMarker(f *testing.F)      { fuzzForm(f, 5) }
