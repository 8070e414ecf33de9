package file_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/conformance"
	"github.com/weirflow/weir/connectors/file"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
)

type row struct {
	Name string
	N    int
}

// put writes a whole file.
func put(t testing.TB, fs vfs.FS, name, text string) {
	t.Helper()
	if err := fs.MkdirAll(fs.PathDir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, fs vfs.FS, name string) string {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// grow appends to a file in place.
func grow(t testing.TB, fs vfs.FS, name, text string) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(text), info.Size()); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func pack(t testing.TB, kind, text string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch kind {
	case "":
		return text
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".zst":
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// sample makes lines of a file and what they must be read as.
func sample(format string) (text string, want []conformance.Item[row]) {
	var b strings.Builder
	if format == "csv" {
		b.WriteString("\ufeffN,Extra,Name\r\n")
	}
	for i := range 40 {
		item := conformance.Item[row]{Value: row{Name: fmt.Sprint("name ", i), N: i}, Bad: i%9 == 4}
		end := "\n"
		if i%3 == 0 {
			end = "\r\n"
		}
		if i%10 == 7 {
			b.WriteString("\n") // an empty line is no record
		}
		switch {
		case i == 22: // too long, across several reads
			b.WriteString(strings.Repeat("x", 3<<15))
		case item.Bad && format == "csv":
			b.WriteString("1,2")
		case item.Bad:
			b.WriteString(`{"Name":`)
		case format == "csv":
			if i%5 == 1 {
				item.Value.Name = "a \"quoted\"\nname, of two lines"
			}
			fmt.Fprintf(&b, "%d,,\"%s\"", i, strings.ReplaceAll(item.Value.Name, `"`, `""`))
		default:
			fmt.Fprintf(&b, ` {"Name":"name %d","N":%d}`, i, i)
		}
		if i < 39 {
			b.WriteString(end)
		}
		want = append(want, item)
	}
	return b.String(), want
}

func TestSourceConformance(t *testing.T) {
	for _, format := range []string{"jsonl", "csv"} {
		for _, packed := range []string{"", ".gz", ".zst"} {
			t.Run(format+packed, func(t *testing.T) {
				text, want := sample(format)
				conformance.Source(t, func(t testing.TB) conformance.SourceFixture[row] {
					fs := vfs.NewMem()
					a, b, empty := "/in/a."+format+packed, "/in/b."+format+packed, "/in/c."+format+packed
					put(t, fs, a, pack(t, packed, text))
					put(t, fs, b, pack(t, packed, text))
					put(t, fs, empty, "")
					put(t, fs, "/in/_ignored", "x")
					f := conformance.SourceFixture[row]{
						Bounded: true, Limits: connectors.Limits{MaxRecord: 4096},
						Want:     map[string][]conformance.Item[row]{a: want, b: want, empty: nil},
						Recreate: func(s string) { put(t, fs, s, pack(t, packed, "0123,,\n"+text)) },
						LoseTail: func(s string, n int) { put(t, fs, s, pack(t, packed, text[:len(text)/3])) },
					}
					if format == "csv" {
						f.Source = file.CSV[row]("/in", file.FS(fs))
					} else {
						f.Source = file.JSONL[row]("/in/*."+format+packed, file.FS(fs))
					}
					return f
				})
			})
		}
	}
	t.Run("follow", func(t *testing.T) {
		conformance.Source(t, func(t testing.TB) conformance.SourceFixture[string] {
			fs := vfs.NewMem()
			f := conformance.SourceFixture[string]{
				Source: file.Lines("/log", file.FS(fs), file.Follow(time.Second)),
				Want:   map[string][]conformance.Item[string]{},
				Clock:  clock.NewVirtual(0),
			}
			var text strings.Builder
			for i := range 20 {
				line := strings.Repeat("z", i%3)
				f.Want["/log"] = append(f.Want["/log"], conformance.Item[string]{Value: line})
				text.WriteString(line + "\n")
			}
			put(t, fs, "/log", text.String())
			f.Append = func(split string) conformance.Item[string] {
				grow(t, fs, split, "more\n")
				return conformance.Item[string]{Value: "more"}
			}
			f.LoseTail = func(split string, n int) { put(t, fs, split, text.String()[:n]) }
			f.Recreate = func(split string) { put(t, fs, split, "q"+text.String()) }
			return f
		})
	})
}

// read polls a source's only split up to its end, or to max records.
func read[T any](t *testing.T, s *file.Source[T], after connectors.Position, max int) (connectors.Records[T], connectors.Position, error) {
	t.Helper()
	var recs connectors.Records[T]
	splits, err := s.Splits(t.Context())
	if err != nil {
		return recs, after, err
	}
	r, err := s.Open(t.Context(), splits[0], after, connectors.ReaderEnv{Clock: clock.NewVirtual(0), Limits: connectors.DefaultLimits})
	if err != nil {
		return recs, after, err
	}
	defer r.Close()
	for {
		p, err := r.Poll(&recs, max-len(recs.Values)-len(recs.Bad))
		if err != nil || !p.More || len(recs.Values)+len(recs.Bad) >= max {
			return recs, r.Position(), err
		}
	}
}

func TestFollowWaitsForTheLineBreak(t *testing.T) {
	fs := vfs.NewMem()
	put(t, fs, "/log", "one\nhal")
	s := file.Lines("/log", file.FS(fs), file.Follow(time.Second))
	splits, err := s.Splits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), splits[0], connectors.Position{}, connectors.ReaderEnv{Clock: clock.NewVirtual(7)})
	if err != nil {
		t.Fatal(err)
	}
	var recs connectors.Records[string]
	p, err := r.Poll(&recs, 9)
	if err != nil || len(recs.Values) != 1 || p.End || p.More || p.Due != 7+1e9 {
		t.Fatalf("%v %+v %v", recs.Values, p, err)
	}
	grow(t, fs, "/log", "f\nnext")
	if _, err = r.Poll(&recs, 9); err != nil || len(recs.Values) != 2 || recs.Values[1] != "half" {
		t.Fatalf("%v %v", recs.Values, err)
	}
	put(t, fs, "/log", "")
	if _, _, err := read(t, s, r.Position(), 9); !errors.Is(err, connectors.ErrPositionLost) || base.CodeOf(err) != file.CodePosition {
		t.Fatalf("a file that lost its end: %v", err)
	}
}

// TestBoundedByWhatWasListed: a file that grows meanwhile ends where it ended when
// the source first saw it, also after a restart.
func TestBoundedByWhatWasListed(t *testing.T) {
	fs := vfs.NewMem()
	put(t, fs, "/a.txt", "1\n2\n3")
	s := file.Lines("/a.txt", file.FS(fs))
	recs, pos, err := read(t, s, connectors.Position{}, 1)
	if err != nil || len(recs.Values) != 1 {
		t.Fatal(recs.Values, err)
	}
	grow(t, fs, "/a.txt", "33\n4\n")
	recs, pos, err = read(t, s, pos, 100)
	if err != nil || fmt.Sprint(recs.Values) != "[2 3]" || !pos.Done || pos.Offset != 5 {
		t.Fatal(recs.Values, pos, err)
	}
	if recs, _, err = read(t, s, pos, 100); err != nil || len(recs.Values) != 0 {
		t.Fatal(recs.Values, err)
	}
}

func TestAChangedFileIsNoticed(t *testing.T) {
	fs := vfs.NewMem()
	put(t, fs, "/a.txt", strings.Repeat("line\n", 2000))
	s := file.Lines("/a.txt", file.FS(fs))
	_, pos, err := read(t, s, connectors.Position{}, 1500)
	if err != nil {
		t.Fatal(err)
	}
	put(t, fs, "/a.txt", strings.Repeat("line\n", 1400)+strings.Repeat("other\n", 600))
	if _, _, err := read(t, s, pos, 10); !errors.Is(err, connectors.ErrIdentity) || base.CodeOf(err) != file.CodeIdentity {
		t.Fatalf("a position inside a line: %v", err)
	}
	put(t, fs, "/a.txt", "x"+strings.Repeat("line\n", 2000))
	if _, _, err := read(t, s, pos, 10); !errors.Is(err, connectors.ErrIdentity) {
		t.Fatalf("another beginning: %v", err)
	}
	pos.Identity = "nonsense"
	if _, _, err := read(t, s, pos, 10); !errors.Is(err, base.ErrFatal) {
		t.Fatalf("a foreign position: %v", err)
	}
}

func TestLongLinesAreBad(t *testing.T) {
	fs := vfs.NewMem()
	const limit = 1 << 20
	exact := strings.Repeat("a", limit)
	put(t, fs, "/a.txt", exact+"\n"+exact+"b\nshort\n"+exact+exact+exact)
	recs, pos, err := read(t, file.Lines("/a.txt", file.FS(fs)), connectors.Position{}, 100)
	if err != nil || len(recs.Values) != 2 || recs.Values[0] != exact || recs.Values[1] != "short" || !pos.Done {
		t.Fatal(len(recs.Values), err)
	}
	if len(recs.Bad) != 2 || recs.Bad[0].Pos != 2*limit+3 || base.CodeOf(recs.Bad[0].Err) != file.CodeTooLong || len(recs.Bad[1].Raw) != limit {
		t.Fatalf("%d bad records", len(recs.Bad))
	}
}

func TestDamagedFiles(t *testing.T) {
	text, _ := sample("jsonl")
	for _, kind := range []string{".gz", ".zst"} {
		fs := vfs.NewMem()
		whole := pack(t, kind, text)
		for name, data := range map[string]string{"cut": whole[:len(whole)*2/3], "noise": "not packed at all"} {
			put(t, fs, "/"+name+".jsonl"+kind, data)
			_, _, err := read(t, file.JSONL[row]("/"+name+".jsonl"+kind, file.FS(fs)), connectors.Position{}, 1000)
			if base.CodeOf(err) != file.CodeDamaged || !errors.Is(err, base.ErrFatal) {
				t.Errorf("%s%s: %v", name, kind, err)
			}
		}
	}
}

func TestBomb(t *testing.T) {
	for _, kind := range []string{".gz", ".zst"} {
		fs := vfs.NewMem()
		put(t, fs, "/bomb.txt"+kind, pack(t, kind, strings.Repeat("\x00", 80<<20)))
		recs, _, err := read(t, file.Lines("/bomb.txt"+kind, file.FS(fs), file.MaxRatio(100)), connectors.Position{}, 10)
		if base.CodeOf(err) != file.CodeDamaged || len(recs.Values) > 0 {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestCSVHeaderThatDoesNotFit(t *testing.T) {
	fs := vfs.NewMem()
	put(t, fs, "/a.csv", "x,y\n1,2\n")
	if _, _, err := read(t, file.CSV[row]("/a.csv", file.FS(fs)), connectors.Position{}, 10); base.CodeOf(err) != file.CodeHeader {
		t.Fatalf("got %v", err)
	}
	recs, _, err := read(t, file.CSV[row]("/a.csv", file.FS(fs), file.Columns("Name", "x")), connectors.Position{}, 10)
	if err != nil || len(recs.Values) != 2 || recs.Values[0].Name != "x" {
		t.Fatal(recs.Values, err)
	}
	put(t, fs, "/b.csv", "Name;N\na\"b;1\n\"c\";2\n")
	recs, _, err = read(t, file.CSV[row]("/b.csv", file.FS(fs), file.Comma(';')), connectors.Position{}, 10)
	if err != nil || len(recs.Values) != 1 || len(recs.Bad) != 1 || recs.Values[0] != (row{"c", 2}) {
		t.Fatal(recs.Values, recs.Bad, err)
	}
}

func TestSourceOptions(t *testing.T) {
	fs := vfs.NewMem()
	put(t, fs, "/d/a.gz", "x")
	for name, s := range map[string]connectors.BuildChecker{
		"no file":  file.Lines(""),
		"pattern":  file.Lines("/d/[", file.FS(fs)),
		"follow":   file.Lines("/d", file.Follow(0)),
		"ratio":    file.Lines("/d", file.MaxRatio(0)),
		"type":     file.CSV[int]("/d"),
		"json":     file.JSONL[chan int]("/d"),
		"no codec": file.Read[int]("/d", nil),
	} {
		if s.BuildError() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, _, err := read(t, file.Lines("/d", file.FS(fs), file.Follow(1)), connectors.Position{}, 1); base.CodeOf(err) != file.CodeSource {
		t.Errorf("following a compressed file: %v", err)
	}
	if _, err := file.Lines("/d/*.txt", file.FS(fs)).Splits(t.Context()); base.CodeOf(err) != file.CodeRead {
		t.Errorf("no file matches: %v", err)
	}
	if recs, _, err := read(t, file.Lines("/d", file.FS(fs), file.Packed(file.Plain)), connectors.Position{}, 9); err != nil || len(recs.Values) != 1 {
		t.Errorf("taken as plain: %v, %v", recs.Values, err)
	}
}
