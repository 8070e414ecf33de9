package connectors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/base"
)

// randomMessages returns n messages with repeated subjects, empty parts and
// some headers.
func randomMessages(rng *rand.Rand, n int) []Message {
	msgs := make([]Message, n)
	for i := range msgs {
		m := &msgs[i]
		m.Subject = strings.Repeat("s", rng.IntN(3)) + fmt.Sprint(rng.IntN(2))
		if rng.IntN(5) == 0 {
			m.Subject = ""
		}
		m.Data = make([]byte, rng.IntN(300)*rng.IntN(2))
		for j := range m.Data {
			m.Data[j] = byte(rng.Uint32())
		}
		for range rng.IntN(3) * rng.IntN(2) {
			m.Headers = append(m.Headers, base.Header{Name: fmt.Sprint("h", rng.IntN(9)), Value: strings.Repeat("v", rng.IntN(200))})
		}
	}
	return msgs
}

// referenceChunks cuts messages by the limits in the plainest way.
func referenceChunks(msgs []Message, l ChunkLimits) [][]Message {
	var out [][]Message
	size := 0
	for _, m := range msgs {
		if len(out) == 0 || len(out[len(out)-1]) == l.MaxMessages || size+m.Size() > l.MaxBytes {
			out, size = append(out, nil), 0
		}
		out[len(out)-1] = append(out[len(out)-1], m)
		size += m.Size()
	}
	return out
}

func sameMessage(a, b Message) bool {
	return a.Subject == b.Subject && bytes.Equal(a.Data, b.Data) &&
		len(a.Headers) == len(b.Headers) && (len(a.Headers) == 0 || reflect.DeepEqual(a.Headers, b.Headers))
}

func TestBlockRoundTrip(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		l := ChunkLimits{MaxMessages: 1 + rng.IntN(20), MaxBytes: 1200 + rng.IntN(4000), MaxMessage: 5000}
		msgs := randomMessages(rng, rng.IntN(100))
		b := NewBlock(l)
		for range 2 { // the second round uses recycled memory
			for i := range msgs {
				if err := b.Append(&msgs[i]); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			want := referenceChunks(msgs, l)
			count, chunks, size := b.Count(), b.Chunks(), b.Bytes()
			data := b.Seal()
			if count != len(msgs) || chunks != len(want) || size != len(data) {
				t.Fatalf("seed %d: builder says %d messages, %d chunks, %d bytes", seed, count, chunks, size)
			}
			checkBlock(t, seed, data, want)
			if b.Count() != 0 || b.Chunks() != 0 {
				t.Fatal("Seal does not empty the builder")
			}
			b.Recycle(bytes.Repeat([]byte{0xff}, 64))
		}
	}
}

func checkBlock(t *testing.T, seed uint64, data []byte, want [][]Message) {
	t.Helper()
	block, err := OpenBlock(data)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if block.Chunks() != len(want) || block.Bytes() != len(data) {
		t.Fatalf("seed %d: %d chunks, %d bytes", seed, block.Chunks(), block.Bytes())
	}
	sum := 0
	for i := range want {
		got := block.Chunk(i)
		sum += len(want[i])
		if len(got) != len(want[i]) || block.Cumulative(i) != uint64(sum) {
			t.Fatalf("seed %d chunk %d: %d messages, cumulative %d", seed, i, len(got), block.Cumulative(i))
		}
		for j := range got {
			if !sameMessage(got[j], want[i][j]) {
				t.Fatalf("seed %d chunk %d message %d: %+v, want %+v", seed, i, j, got[j], want[i][j])
			}
		}
	}
	if block.Count() != sum {
		t.Fatalf("seed %d: count %d, want %d", seed, block.Count(), sum)
	}
}

func TestBlockIsDeterministic(t *testing.T) {
	seal := func() []byte {
		b := NewBlock(ChunkLimits{MaxMessages: 7})
		msgs := randomMessages(rand.New(rand.NewPCG(3, 3)), 50)
		for i := range msgs {
			if err := b.Append(&msgs[i]); err != nil {
				t.Fatal(err)
			}
		}
		return b.Seal()
	}
	if !bytes.Equal(seal(), seal()) {
		t.Fatal("the same messages gave two different blocks")
	}
}

func TestBlockRefusesALargeMessage(t *testing.T) {
	b := NewBlock(ChunkLimits{MaxMessages: 10, MaxBytes: 100, MaxMessage: 50})
	ok := Message{Subject: "ab", Data: make([]byte, 48)}
	if err := b.Append(&ok); err != nil {
		t.Fatal(err)
	}
	before := b.Bytes()
	for _, m := range []Message{
		{Subject: "abc", Data: make([]byte, 48)},
		{Data: make([]byte, 46), Headers: base.Headers{{Name: "a"}}},
	} {
		if err := b.Append(&m); base.CodeOf(err) != "WEIR-0501" {
			t.Fatalf("got %v", err)
		}
	}
	if b.Bytes() != before || b.Count() != 1 {
		t.Fatal("a refused message left something behind")
	}
	checkBlock(t, 0, b.Seal(), [][]Message{{ok}})
	narrow := NewBlock(ChunkLimits{MaxBytes: 10, MaxMessage: 50})
	if err := narrow.Append(&ok); base.CodeOf(err) != "WEIR-0501" {
		t.Fatalf("a message that fits no chunk: %v", err)
	}
}

func TestOpenBlockRefusesEveryDamage(t *testing.T) {
	b := NewBlock(ChunkLimits{MaxMessages: 3})
	msgs := randomMessages(rand.New(rand.NewPCG(9, 9)), 10)
	for i := range msgs {
		if err := b.Append(&msgs[i]); err != nil {
			t.Fatal(err)
		}
	}
	data := b.Seal()
	for i := range data {
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(data)
			bad[i] ^= bit
			if _, err := OpenBlock(bad); base.CodeOf(err) != "WEIR-0502" || !errors.Is(err, base.ErrFatal) {
				t.Fatalf("bit flip at %d: %v", i, err)
			}
		}
		if _, err := OpenBlock(data[:i]); err == nil {
			t.Fatalf("cut at %d was accepted", i)
		}
	}
	if _, err := OpenBlock(append(bytes.Clone(data), 0)); err == nil {
		t.Fatal("a trailing byte was accepted")
	}
}

// resum gives damaged bytes a valid checksum, so that the checks behind it run.
func resum(data []byte) []byte {
	if len(data) < blockCRC {
		return data
	}
	body := data[:len(data)-blockCRC]
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
}

// FuzzOpenBlock: no input may crash or hang the decoder, and what it accepts has
// exactly one encoding.
func FuzzOpenBlock(f *testing.F) {
	for seed := range uint64(6) {
		b := NewBlock(ChunkLimits{MaxMessages: 4, MaxBytes: 2000})
		msgs := randomMessages(rand.New(rand.NewPCG(seed, 2)), int(seed)*3)
		for i := range msgs {
			_ = b.Append(&msgs[i])
		}
		f.Add(b.Seal())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = resum(data)
		block, err := OpenBlock(data)
		if err != nil {
			return
		}
		again := NewBlock(ChunkLimits{})
		for i := range block.Chunks() {
			again.openCount = 0
			for _, m := range block.Chunk(i) {
				if again.openCount == 0 { // force the bound
					again.limits.MaxMessages = len(block.Chunk(i))
				}
				if err := again.Append(&m); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !bytes.Equal(again.Seal(), data) {
			t.Fatal("an accepted block encodes differently")
		}
	})
}

func TestOpenBlockMutations(t *testing.T) {
	b := NewBlock(ChunkLimits{MaxMessages: 4})
	msgs := randomMessages(rand.New(rand.NewPCG(5, 5)), 12)
	for i := range msgs {
		_ = b.Append(&msgs[i])
	}
	data := b.Seal()
	rng := rand.New(rand.NewPCG(7, 7))
	for range 20_000 {
		bad := bytes.Clone(data)
		for range 1 + rng.IntN(3) {
			bad[rng.IntN(len(bad))] = byte(rng.Uint32())
		}
		if block, err := OpenBlock(resum(bad)); err == nil {
			for i := range block.Chunks() {
				block.Chunk(i)
			}
		}
	}
}

func BenchmarkBlockAppend(b *testing.B) {
	m := Message{Subject: "scores.user-17", Data: make([]byte, 64)}
	block := NewBlock(ChunkLimits{MaxMessages: 999, MaxBytes: 8 << 20})
	var mem []byte
	b.ReportAllocs()
	for b.Loop() {
		if err := block.Append(&m); err != nil {
			b.Fatal(err)
		}
		if block.Count() == 100_000 {
			mem = block.Seal()
			block.Recycle(mem)
		}
	}
}

func BenchmarkOpenBlock(b *testing.B) {
	m := Message{Subject: "scores.user-17", Data: make([]byte, 64)}
	block := NewBlock(ChunkLimits{MaxMessages: 999, MaxBytes: 8 << 20})
	for range 10_000 {
		_ = block.Append(&m)
	}
	data := block.Seal()
	b.ReportAllocs()
	for b.Loop() {
		blk, err := OpenBlock(data)
		if err != nil {
			b.Fatal(err)
		}
		for i := range blk.Chunks() {
			blk.Chunk(i)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/msg")
}
