package file

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/base"
)

const (
	// freeBytes may come out of any compressed file before the ratio counts.
	freeBytes = 64 << 20
	// maxWindow bounds the memory of a zstd decoder.
	maxWindow = 64 << 20
)

// fileReader reads a file from off on, up to end or, when end is negative, to
// wherever the file ends at each call.
type fileReader struct {
	f        vfs.File
	off, end int64
}

func (r *fileReader) Read(p []byte) (int, error) {
	if r.end >= 0 {
		if r.off >= r.end {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), r.end-r.off)]
	}
	n, err := r.f.ReadAt(p, r.off)
	r.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// unpacker reads the unpacked bytes of a compressed file and stops when there are
// far more than an honest file of its size holds.
type unpacker struct {
	name  string
	raw   *fileReader
	in    io.Reader
	free  func()
	ratio int64
	out   int64
}

// unpack returns a reader of what a compressed file holds. A file without any byte
// holds nothing.
func unpack(name string, c Compression, raw *fileReader, ratio int) (*unpacker, error) {
	u := &unpacker{name: name, raw: raw, ratio: int64(ratio), free: func() {}}
	switch {
	case raw.end == 0:
		u.in = raw
	case c == Gzip:
		z, err := gzip.NewReader(raw)
		if err != nil {
			return nil, damaged(name, err)
		}
		u.in = z
	default:
		// One goroutine owns a reader, so the decoder must not start its own.
		z, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, damaged(name, err)
		}
		u.in, u.free = z, z.Close
	}
	return u, nil
}

func damaged(name string, err error) error {
	return base.Fatal(&base.Error{Code: CodeDamaged, Where: name, What: "the compressed file is damaged", Next: "replace the file by a good copy", Cause: err})
}

// Read implements io.Reader.
func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.in.Read(p)
	u.out += int64(n)
	if u.out > freeBytes && u.out/u.ratio > u.raw.off {
		return 0, base.Fatal(&base.Error{
			Code: CodeDamaged, Where: u.name,
			What: fmt.Sprintf("%d bytes of the file unpacked to more than %d, which is over the ratio of %d", u.raw.off, u.out, u.ratio),
			Next: "if the file is to be trusted, raise MaxRatio",
		})
	}
	if err != nil && err != io.EOF {
		if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			err = fmt.Errorf("its window is larger than %d bytes: %w", maxWindow, err)
		}
		return n, damaged(u.name, err)
	}
	return n, err
}
