package file

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
)

// A chunk is written in three steps. (1) Its data go into a staged file, synced.
// (2) The marker, which names the staged file and the part it becomes, is linked to
// the lane's next number. The link fails when the number is taken, so this is the
// compare-and-set, and the point at which the chunk is committed. (3) The staged
// file is renamed to the part.
//
// A crash between (2) and (3) leaves a committed chunk that nobody sees. Whoever
// reads the lane's marker finds the staged file and does step (3) for it; nobody
// links the next marker before. Rename moves the file, so step (3) happens once
// however many processes try, and a part that a reader deleted does not come back.
//
// Markers are never deleted. If the number of an old marker became free, a writer
// that was overtaken long ago could link its marker there.

// laneWriter implements connectors.LaneWriter.
type laneWriter struct {
	t     *target
	lanes []laneHint // by lane; each belongs to whoever uses the lane
}

// laneHint is what a writer knows of a lane.
type laneHint struct {
	// last is a marker that exists; later ones may.
	last uint64
	// settled is a marker whose part is in place.
	settled uint64
}

// commit is the content of a marker file.
type commit struct {
	staged, part string
	marker       protocol.Marker
}

// The form of a marker file is documented in docs/format/file-sink.md.
const (
	commitMagic = "WEIRMRK\x01"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (c commit) encode() ([]byte, error) {
	m, err := c.marker.Encode()
	if err != nil {
		return nil, err
	}
	b := []byte(commitMagic)
	for _, s := range []string{c.staged, c.part, string(m)} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

func decodeCommit(b []byte) (c commit, err error) {
	n := len(b) - 4
	if n < len(commitMagic) || string(b[:len(commitMagic)]) != commitMagic {
		return c, errors.New("it does not begin like a marker")
	}
	if crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]) {
		return c, errors.New("its checksum does not match")
	}
	rest := b[len(commitMagic):n]
	var marker string
	for _, dst := range []*string{&c.staged, &c.part, &marker} {
		size, used := binary.Uvarint(rest)
		if used <= 0 || size > uint64(len(rest)-used) {
			return c, errors.New("it ends early")
		}
		*dst = string(rest[used : used+int(size)])
		rest = rest[used+int(size):]
	}
	if len(rest) > 0 {
		return c, errors.New("bytes follow its end")
	}
	c.marker, err = protocol.DecodeMarker([]byte(marker))
	return c, err
}

// Limits implements connectors.LaneWriter.
func (w *laneWriter) Limits() connectors.ChunkLimits { return partLimits }

// Close implements connectors.LaneWriter.
func (w *laneWriter) Close() error { return nil }

func (w *laneWriter) markerPath(lane int, seq uint64) string {
	return w.t.fs.PathJoin(w.t.laneDir(lane), fmt.Sprintf("%020d", seq))
}

// exists reports whether a file is there.
func (w *laneWriter) exists(name string) (bool, error) {
	_, err := w.t.fs.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// findLast returns the number of the lane's last marker; 0 for none. Numbers have
// no gaps, so after the first listing it only looks for the next ones.
func (w *laneWriter) findLast(lane int) (uint64, error) {
	h := &w.lanes[lane]
	if h.last == 0 {
		names, err := w.t.fs.List(w.t.laneDir(lane))
		if err != nil {
			return 0, err
		}
		for _, name := range names {
			if n, err := strconv.ParseUint(name, 10, 64); err == nil {
				h.last = max(h.last, n)
			}
		}
	}
	for {
		there, err := w.exists(w.markerPath(lane, h.last+1))
		if err != nil || !there {
			return h.last, err
		}
		h.last++
	}
}

// ReadMarker implements connectors.LaneWriter. It puts the part of the marker in
// place when a crash kept it from there.
func (w *laneWriter) ReadMarker(ctx context.Context, lane int) (protocol.Marker, uint64, bool, error) {
	if err := ctx.Err(); err != nil {
		return protocol.Marker{}, 0, false, err
	}
	seq, err := w.findLast(lane)
	if err != nil || seq == 0 {
		return protocol.Marker{}, 0, false, err
	}
	c, err := w.settle(lane, seq)
	return c.marker, seq, err == nil, err
}

// settle makes sure that the part of a marker is in place.
func (w *laneWriter) settle(lane int, seq uint64) (commit, error) {
	name := w.markerPath(lane, seq)
	data, err := readFile(w.t.fs, name)
	if err != nil {
		return commit{}, err
	}
	c, err := decodeCommit(data)
	if err != nil {
		return c, base.Fatal(&base.Error{Code: CodeMarker, Where: name, What: "the commit marker is damaged", Next: "check the disk; restore the directory from a copy", Cause: err})
	}
	// The link may be in memory only, when its writer died before it synced.
	if err := syncDir(w.t.fs, w.t.laneDir(lane)); err != nil {
		return c, err
	}
	if err := w.place(c); err != nil {
		return c, err
	}
	w.lanes[lane].settled = seq
	return c, nil
}

// place renames a staged file to its part; a file that is gone was renamed before.
func (w *laneWriter) place(c commit) error {
	err := w.t.fs.Rename(w.t.path(adminDir, stagedDir, c.staged), w.t.path(c.part))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(syncDir(w.t.fs, w.t.dir), syncDir(w.t.fs, w.t.path(adminDir, stagedDir)))
}

// PublishChunk implements connectors.LaneWriter.
func (w *laneWriter) PublishChunk(ctx context.Context, lane int, msgs []connectors.Message, m protocol.Marker, expect uint64) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	c := commit{part: w.t.partName(m.Epoch, lane, m.Chunk), marker: m}
	if err := w.precede(lane, expect, c.part); err != nil {
		return 0, err
	}
	data := w.staged(".data")
	c.staged = w.t.fs.PathBase(data)
	err := writeFile(w.t.fs, data, func(f *fileWriter) {
		f.write(w.t.header)
		for i := range msgs {
			f.write(msgs[i].Data)
			f.write([]byte{'\n'})
		}
	})
	linked := false
	if err == nil {
		linked, err = w.link(ctx, lane, expect+1, c)
	}
	if !linked {
		return 0, errors.Join(err, w.discard(data))
	}
	if err == nil {
		err = w.place(c)
	}
	if err != nil {
		return 0, err
	}
	w.lanes[lane] = laneHint{last: expect + 1, settled: expect + 1}
	return expect + 1, nil
}

// precede checks what must hold before the marker after expect is linked.
func (w *laneWriter) precede(lane int, expect uint64, part string) error {
	if expect > 0 {
		there, err := w.exists(w.markerPath(lane, expect))
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("file: lane %d has no marker %d: %w", lane, expect, connectors.ErrConflict)
		}
		if w.lanes[lane].settled != expect {
			if _, err := w.settle(lane, expect); err != nil {
				return err
			}
		}
	}
	// The marker is looked for after the part: if another writer makes both at
	// this moment, that is a conflict and no contradiction.
	stray, err := w.exists(w.t.path(part))
	if err != nil {
		return err
	}
	taken, err := w.exists(w.markerPath(lane, expect+1))
	switch {
	case err != nil:
		return err
	case taken:
		return fmt.Errorf("file: lane %d has marker %d already: %w", lane, expect+1, connectors.ErrConflict)
	case stray:
		return base.Fatal(&base.Error{Code: CodeMarker, Where: w.t.path(part), What: "the part file exists, and its commit marker does not", Next: "restore the directory from a copy, or give the sink an empty one"})
	}
	return nil
}

// link writes the marker and links it to its number. While linked is false no
// marker names the staged file.
func (w *laneWriter) link(ctx context.Context, lane int, seq uint64, c commit) (linked bool, err error) {
	body, err := c.encode()
	if err != nil {
		return false, err
	}
	tmp := w.staged(".marker")
	if err := writeFile(w.t.fs, tmp, func(f *fileWriter) { f.write(body) }); err != nil {
		return false, errors.Join(err, w.discard(tmp))
	}
	// The staged data must outlive a power cut before a marker may name them.
	if err := errors.Join(syncDir(w.t.fs, w.t.path(adminDir, stagedDir)), ctx.Err()); err != nil {
		return false, errors.Join(err, w.discard(tmp))
	}
	name := w.markerPath(lane, seq)
	err = w.t.fs.Link(tmp, name)
	switch {
	case errors.Is(err, os.ErrExist):
		// A network file system may have repeated the call after its first answer
		// was lost: then the marker there is ours.
		there, rerr := readFile(w.t.fs, name)
		if rerr != nil || !bytes.Equal(there, body) {
			return rerr != nil, errors.Join(fmt.Errorf("file: lane %d has marker %d already: %w", lane, seq, connectors.ErrConflict), rerr, w.discard(tmp))
		}
	case err != nil:
		return true, err
	}
	return true, errors.Join(w.discard(tmp), syncDir(w.t.fs, w.t.laneDir(lane)))
}
