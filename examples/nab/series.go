package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weirflow/weir/connectors"
)

// series is a source of the program's own: each file DIR/data/GROUP/SERIES.csv, or
// .csv.gz, is a split, and a record's position is the number of its row.
type series struct{ dir string }

// Kind implements connectors.Source.
func (s series) Kind() string { return "nab" }

// Timeless implements connectors.Timeless: these rows are years old.
func (s series) Timeless() {}

// Splits implements connectors.Source.
func (s series) Splits(context.Context) ([]connectors.Split, error) {
	// Sorted by name, because Glob sorts.
	files, err := filepath.Glob(filepath.Join(s.dir, "data", "*", "*.csv*"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("there is no file data/GROUP/SERIES.csv in %s", s.dir)
	}
	var out []connectors.Split
	for _, f := range files {
		out = append(out, connectors.Split{ID: filepath.Base(filepath.Dir(f)) + "/" + filepath.Base(f)})
	}
	return out, err
}

// Open implements connectors.Source. A series has a few thousand rows, so that it
// is read as a whole.
func (s series) Open(_ context.Context, split connectors.Split, after connectors.Position, _ connectors.ReaderEnv) (connectors.Reader[Reading], error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "data", filepath.FromSlash(split.ID)))
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(split.ID, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(text))
		if err == nil {
			text, err = io.ReadAll(z)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", split.ID, err)
		}
	}
	r := &rows{name: strings.TrimSuffix(split.ID, ".gz"), next: int(after.Offset)}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Scan() // the header
	for lines.Scan() {
		r.lines = append(r.lines, lines.Text())
	}
	if r.next > len(r.lines) {
		return nil, fmt.Errorf("%s: %d rows were read before, and it has %d now: %w", split.ID, r.next, len(r.lines), connectors.ErrPositionLost)
	}
	return r, lines.Err()
}

// rows reads a series.
type rows struct {
	name  string
	lines []string
	next  int
}

// Poll implements connectors.Reader.
func (r *rows) Poll(dst *connectors.Records[Reading], most int) (connectors.Poll, error) {
	for ; most > 0 && r.next < len(r.lines); most-- {
		line := r.lines[r.next]
		r.next++
		v, err := parse(line)
		if err != nil {
			dst.Bad = append(dst.Bad, connectors.BadRecord{Pos: uint64(r.next), Raw: []byte(line), Err: err})
			continue
		}
		v.Series = r.name
		dst.Append(v, 0, uint64(r.next), nil)
	}
	end := r.next == len(r.lines)
	return connectors.Poll{More: !end, End: end}, nil
}

// parse reads a row: a time and a value.
func parse(line string) (Reading, error) {
	at, value, ok := strings.Cut(line, ",")
	if !ok {
		return Reading{}, errors.New("the row has no comma")
	}
	t, err := time.Parse(time.DateTime, at)
	if err != nil {
		return Reading{}, err
	}
	v, err := strconv.ParseFloat(value, 64)
	return Reading{At: t, Value: v}, err
}

// Position implements connectors.Reader.
func (r *rows) Position() connectors.Position {
	return connectors.Position{Started: true, Offset: uint64(r.next), Done: r.next == len(r.lines)}
}

// Lag implements connectors.Reader.
func (r *rows) Lag() int64 { return int64(len(r.lines) - r.next) }

// Close implements connectors.Reader.
func (r *rows) Close() error { return nil }
