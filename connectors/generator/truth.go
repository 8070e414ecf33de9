package generator

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/weirflow/weir/internal/base"
)

// truthFile appends the planted lines of one shard. The file itself says how far
// it got, because lines come in order of i: no state of the job is needed, and a
// file that is behind the position (the machine lost its power) is caught up.
type truthFile struct {
	f      *os.File
	plant  func(uint64) any
	stride uint64
	next   uint64 // first index that was not looked at
	buf    bytes.Buffer
}

// maxTruthTail is how much of the end of the file is searched for its last line.
const maxTruthTail = 1 << 20

type truthLine struct {
	I       uint64 `json:"i"`
	Planted any    `json:"planted"`
}

// truthPath returns the file of a shard.
func (c *config) truthPath(shard int) string {
	if c.shards == 1 {
		return c.truth
	}
	ext := filepath.Ext(c.truth)
	return c.truth[:len(c.truth)-len(ext)] + "-" + strconv.Itoa(shard) + ext
}

// openTruth opens or creates the file and brings it up to, not including, index
// upTo.
func openTruth(path string, first, stride, upTo uint64, plant func(uint64) any) (*truthFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, truthError(path, err)
	}
	t := &truthFile{f: f, plant: plant, stride: stride, next: first}
	if err := t.recover(); err != nil {
		return nil, errors.Join(truthError(path, err), f.Close())
	}
	if upTo > first {
		if err := t.cover(upTo - stride); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return t, nil
}

func truthError(path string, err error) error {
	return &base.Error{Code: "WEIR-0432", Where: path, What: "the truth file cannot be written", Next: "check its directory, or move the file away", Cause: err}
}

// recover cuts off a torn last line, and goes on after the last whole one.
func (t *truthFile) recover() error {
	size, err := t.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	from := max(0, size-maxTruthTail)
	data := make([]byte, size-from)
	if _, err := t.f.ReadAt(data, from); err != nil && err != io.EOF {
		return err
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	if from > 0 && bytes.Count(data, []byte{'\n'}) < 2 {
		return errors.New("it ends in a line that is too long for a truth file")
	}
	if err := t.f.Truncate(from + int64(whole)); err != nil {
		return err
	}
	if _, err := t.f.Seek(from+int64(whole), io.SeekStart); err != nil || whole == 0 {
		return err
	}
	last := data[bytes.LastIndexByte(data[:whole-1], '\n')+1 : whole-1]
	var line struct {
		I *uint64 `json:"i"`
	}
	if err := json.Unmarshal(last, &line); err != nil || line.I == nil {
		return errors.Join(errors.New("its last line is not one of a truth file"), err)
	}
	if *line.I%t.stride != t.next%t.stride {
		return errors.New("it was written with another number of shards")
	}
	t.next = *line.I + t.stride
	return nil
}

// cover writes the lines up to and including index i that are missing.
func (t *truthFile) cover(i uint64) error {
	if t.next > i {
		return nil
	}
	t.buf.Reset()
	enc := json.NewEncoder(&t.buf)
	for ; t.next <= i; t.next += t.stride {
		if p := t.plant(t.next); p != nil {
			if err := enc.Encode(truthLine{t.next, p}); err != nil {
				return truthError(t.f.Name(), err)
			}
		}
		if t.buf.Len() > 1<<16 {
			if err := t.flush(); err != nil {
				return err
			}
		}
	}
	return t.flush()
}

func (t *truthFile) flush() error {
	if t.buf.Len() == 0 {
		return nil
	}
	_, err := t.f.Write(t.buf.Bytes())
	t.buf.Reset()
	if err != nil {
		return truthError(t.f.Name(), err)
	}
	return nil
}

func (t *truthFile) close() error { return t.f.Close() }
