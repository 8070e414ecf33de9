package file

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

// headLen is how much of a file's beginning identifies it.
const headLen = 4096

// identity is what is known of a file when it is first read.
type identity struct {
	// size is where a bounded source ends; -1 when the file is followed.
	size int64
	// head and sum are the length and the hash of the file's beginning.
	head int64
	sum  uint64
}

func (d identity) String() string {
	return fmt.Sprintf("size=%d head=%d:%016x", d.size, d.head, d.sum)
}

func parseIdentity(s string) (d identity, err error) {
	if _, err := fmt.Sscanf(s, "size=%d head=%d:%x", &d.size, &d.head, &d.sum); err != nil {
		return d, err
	}
	if d.String() != s || d.size < -1 || d.head < 0 || d.head > headLen {
		return d, errors.New("it is not an identity of a file")
	}
	return d, nil
}

// identify describes a file as it is now.
func (s *Source[T]) identify(name string) (identity, error) {
	f, err := s.fs.Open(name)
	if err != nil {
		return identity{}, err
	}
	d, err := identifyFile(f)
	if s.follow > 0 {
		d.size = -1
	}
	return d, errors.Join(err, f.Close())
}

func identifyFile(f vfs.File) (identity, error) {
	info, err := f.Stat()
	if err != nil {
		return identity{}, err
	}
	d := identity{size: info.Size(), head: min(info.Size(), headLen)}
	d.sum, err = headSum(f, d.head)
	return d, err
}

// headSum hashes the first n bytes of a file.
func headSum(f vfs.File, n int64) (uint64, error) {
	head := make([]byte, n)
	if got, err := f.ReadAt(head, 0); got < len(head) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	return base.HashKey(head), nil
}

// verify checks that an open file is the one that was described, and still holds
// the position, an offset for a plain file. It returns the description to go on
// with.
func (s *Source[T]) verify(f vfs.File, name string, known identity, offset uint64) (identity, error) {
	now, err := identifyFile(f)
	if err != nil {
		return now, readError(name, err)
	}
	plain := s.compressionOf(name) == Plain
	switch sum, err := headSum(f, min(known.head, now.size)); {
	case err != nil:
		return now, readError(name, err)
	case now.size < known.head || plain && (now.size < known.size || uint64(now.size) < offset):
		return now, lost(name, fmt.Sprintf("the file was read up to byte %d and now has %d", max(uint64(known.head), offset), now.size))
	case sum != known.sum || !plain && known.size >= 0 && now.size != known.size:
		return now, changed(name)
	}
	d := known
	switch {
	case s.follow > 0:
		d.size = -1
	case known.size < 0:
		d.size = now.size
	}
	if plain && offset > 0 && int64(offset) != d.size {
		var before [1]byte
		if _, err := f.ReadAt(before[:], int64(offset)-1); err != nil {
			return d, readError(name, err)
		}
		if before[0] != '\n' {
			return d, changed(name)
		}
	}
	return d, nil
}

func lost(name, what string) error {
	return base.Fatal(&base.Error{Code: CodePosition, Where: name, What: what, Next: "bring the file back, or start the job without its state", Cause: connectors.ErrPositionLost})
}

func changed(name string) error {
	return base.Fatal(&base.Error{
		Code: CodeIdentity, Where: name, What: "the file is not the one that was read before",
		Next: "bring the file back, or start the job without its state", Cause: connectors.ErrIdentity,
	})
}
