package file

import (
	"bytes"
	"encoding/csv"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// stutter hands out a few bytes at a time.
type stutter struct {
	data []byte
	rng  *rand.Rand
}

func (s *stutter) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.rng.IntN(7))], s.data)
	s.data = s.data[n:]
	return n, nil
}

// FuzzLines compares the scanner with a plain split, whatever the reads return.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\n\nbcd\r\nefghijklmnop\nq"), uint8(5))
	f.Add([]byte("\n"), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, limit uint8) {
		s := scanner{src: &stutter{data, rand.New(rand.NewPCG(1, 2))}, max: int(limit) + 1, final: true}
		var off uint64
		rest := data
		for len(rest) > 0 {
			want, after, broken := bytes.Cut(rest, []byte("\n"))
			rest = after
			off += uint64(len(want))
			if broken {
				off++
			}
			line, end, what, err := s.next()
			long := len(want) > s.max
			if err != nil || end != off || (what == gotLong) != long || what > gotLong || !bytes.Equal(line, want[:min(len(want), s.max)]) {
				t.Fatalf("got %q, end %d, %d, %v; want %q, end %d", line, end, what, err, want, off)
			}
		}
		if line, _, what, err := s.next(); what != gotNone || err != nil {
			t.Fatalf("after the end: %q, %d, %v", line, what, err)
		}
	})
}

// TestRows compares the rows of what encoding/csv writes.
func TestRows(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var text strings.Builder
		w := csv.NewWriter(&text)
		n := 1 + rng.IntN(20)
		for range n {
			row := make([]string, 1+rng.IntN(4))
			for i := range row {
				for range rng.IntN(6) {
					row[i] += string("a,\"\n \r;"[rng.IntN(7)])
				}
			}
			if len(row) == 1 && row[0] == "" {
				row[0] = "x"
			}
			if err := w.Write(row); err != nil {
				t.Fatal(err)
			}
		}
		w.Flush()
		s := scanner{src: &stutter{[]byte(text.String()), rng}, max: 1 << 10, final: true, comma: ','}
		var joined strings.Builder
		rows := 0
		for {
			line, _, what, err := s.next()
			if err != nil || what == gotLong || what == gotTurn {
				t.Fatalf("seed %d: %d, %v", seed, what, err)
			}
			if what == gotNone {
				break
			}
			rows++
			joined.Write(append(line, '\n'))
			if _, err := csv.NewReader(bytes.NewReader(line)).ReadAll(); err != nil {
				t.Fatalf("seed %d: row %q: %v", seed, line, err)
			}
		}
		if rows != n || joined.String() != text.String() {
			t.Fatalf("seed %d: %d rows of %d", seed, rows, n)
		}
	}
}

// TestLongLineTakesTurns: a line without an end neither fills the memory nor keeps
// its caller waiting.
func TestLongLineTakesTurns(t *testing.T) {
	s := scanner{src: io.LimitReader(zeros{}, 64<<20), max: 1000, final: true}
	turns := 0
	for {
		line, end, what, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		if what == gotTurn {
			turns++
			continue
		}
		if what != gotLong || end != 64<<20 || len(line) != 1000 {
			t.Fatalf("%d bytes, end %d, %d", len(line), end, what)
		}
		break
	}
	if turns < 50 || len(s.buf) > 2*minBuffer {
		t.Fatalf("%d turns, a buffer of %d bytes", turns, len(s.buf))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func FuzzCommit(f *testing.F) {
	f.Add([]byte(commitMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeCommit(data)
		if err != nil {
			return
		}
		if b, err := c.encode(); err != nil || len(b) > len(data) {
			t.Fatalf("%q encodes as %q, %v", data, b, err)
		}
	})
}

func BenchmarkScan(b *testing.B) {
	data := []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", 10_000))
	for name, comma := range map[string]byte{"lines": 0, "rows": ','} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				s := scanner{src: bytes.NewReader(data), max: 1 << 20, final: true, comma: comma}
				for {
					if _, _, what, _ := s.next(); what == gotNone {
						break
					}
				}
			}
		})
	}
}
