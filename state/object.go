package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

// objectReader reads an object from front to back and checks it on the way.
type objectReader struct {
	src  io.ReaderAt
	size int64
	foot *footer
	buf  []byte
}

// openObject prepares to read an object that is in memory.
func openObject(b []byte) (*objectReader, *footer, error) {
	r := &objectReader{src: bytes.NewReader(b), size: int64(len(b))}
	err := r.open()
	return r, r.foot, err
}

// open reads header and footer.
func (r *objectReader) open() error {
	if r.size < headerLen+trailerLen {
		return fmt.Errorf("%w: it has %d bytes", ErrCorrupt, r.size)
	}
	head, tail := make([]byte, headerLen), make([]byte, trailerLen)
	if err := r.read(head, 0); err != nil {
		return err
	}
	if err := checkHeader(head); err != nil {
		return err
	}
	if err := r.read(tail, r.size-trailerLen); err != nil {
		return err
	}
	off, n, sum, err := footerSpan(tail, r.size)
	if err != nil {
		return err
	}
	foot := make([]byte, n)
	if err := r.read(foot, off); err != nil {
		return err
	}
	if crc32.Checksum(foot, castagnoli) != sum {
		return fmt.Errorf("%w: the sum of its footer is wrong", ErrCorrupt)
	}
	r.foot, err = parseFooter(foot, off)
	return err
}

func (r *objectReader) read(b []byte, off int64) error {
	n, err := r.src.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends at byte %d", ErrCorrupt, off+int64(n))
	}
	return err
}

// block returns block i, which is valid until the next call.
func (r *objectReader) block(i int) ([]byte, error) {
	b := r.foot.blocks[i]
	if cap(r.buf) < int(b.len) {
		r.buf = make([]byte, b.len)
	}
	p := r.buf[:b.len]
	if err := r.read(p, int64(b.off)); err != nil {
		return nil, err
	}
	if crc32.Checksum(p, castagnoli) != b.crc {
		return nil, fmt.Errorf("%w: the sum of block %d, bytes %d to %d, is wrong", ErrCorrupt, i, b.off, b.off+uint64(b.len))
	}
	return p, nil
}

// verify checks the sum of the whole object.
func (r *objectReader) verify(want protocol.SHA) error {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(r.src, 0, r.size)); err != nil {
		return err
	}
	var got protocol.SHA
	if h.Sum(got[:0]); got != want {
		return fmt.Errorf("%w: its SHA-256 sum is %s", ErrCorrupt, got.Short())
	}
	return nil
}

// withObject opens an object of a chain, verifies its sum and calls f.
func withObject(ctx context.Context, store blob.Store, job string, ref *protocol.ObjectRef, f func(*objectReader) error) (err error) {
	where := protocol.ObjectKey(job, ref.SHA)
	defer func() { err = readError(where, err) }()
	r := &objectReader{src: bytes.NewReader(ref.Inline), size: int64(len(ref.Inline))}
	if len(ref.Inline) == 0 {
		if store == nil {
			return errors.New("there is no checkpoint store")
		}
		o, err := store.Open(ctx, where)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, o.Close()) }()
		r.src, r.size = o, o.Size()
	}
	if uint64(r.size) != ref.Size {
		return fmt.Errorf("%w: it has %d bytes instead of %d", ErrCorrupt, r.size, ref.Size)
	}
	if err := r.verify(ref.SHA); err != nil {
		return err
	}
	if err := r.open(); err != nil {
		return err
	}
	return f(r)
}

// readError gives an error about an object its code.
func readError(where string, err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, errVersion):
		return stateError(CodeVersion, "the checkpoint object cannot be read", where, "run the version of the program that wrote it, or a later one", err)
	case errors.Is(err, ErrCorrupt):
		return stateError(CodeCorrupt, "the checkpoint object is not what was written", where,
			"replace it by a copy, or restore another checkpoint; nothing has been changed", err)
	case isStateError(err):
		return err
	}
	return stateError(CodeRead, "the checkpoint object cannot be read", where, "see to the checkpoint store and start again", err)
}

// VerifyObject reads an object of a chain completely and checks every sum in it.
// It returns the number of entries, deletions included. The errors are
// WEIR-0304, WEIR-0305 (which wraps ErrCorrupt) and WEIR-0310.
func VerifyObject(ctx context.Context, store blob.Store, job string, ref *protocol.ObjectRef) (entries int64, err error) {
	err = withObject(ctx, store, job, ref, func(r *objectReader) error {
		entries = int64(r.foot.entries)
		for i := range r.foot.blocks {
			if err := ctx.Err(); err != nil {
				return err
			}
			b, err := r.block(i)
			if err != nil {
				return err
			}
			if err := eachSection(b, func(*section) error { return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	return entries, err
}

// section is a run of entries of one namespace in a block.
type section struct {
	ns    int64
	group uint32
	count int
	kind  sectionKind
	body  []byte
}

// eachSection calls f for each section of a block.
func eachSection(b []byte, f func(*section) error) error {
	for len(b) > 0 {
		if len(b) < sectionHeader {
			return fmt.Errorf("%w: a section is cut", ErrCorrupt)
		}
		s := section{
			ns: int64(binary.LittleEndian.Uint64(b)), group: binary.LittleEndian.Uint32(b[8:]),
			count: int(binary.LittleEndian.Uint32(b[12:])), kind: sectionKind(b[20]),
		}
		n := int(binary.LittleEndian.Uint32(b[16:]))
		if n > len(b)-sectionHeader || s.kind < sectionPut || s.kind > sectionDrop {
			return fmt.Errorf("%w: a section of kind %d with %d bytes", ErrCorrupt, s.kind, n)
		}
		s.body = b[sectionHeader : sectionHeader+n]
		b = b[sectionHeader+n:]
		if err := f(&s); err != nil {
			return err
		}
	}
	return nil
}

// entry is one entry of a section. key and val alias the block.
type entry struct {
	hash, u64 uint64
	key, val  []byte
}

// next cuts the first entry off the body.
func (s *section) next(g *groupInfo, e *entry) error {
	b := s.body
	if g.key == KeyUint64 {
		if len(b) < 8 {
			return errCut
		}
		e.u64 = binary.LittleEndian.Uint64(b)
		b = b[8:]
	} else {
		if !g.scattered {
			if len(b) < 8 {
				return errCut
			}
			e.hash = binary.LittleEndian.Uint64(b)
			b = b[8:]
		}
		if len(b) < 2 {
			return errCut
		}
		n := int(binary.LittleEndian.Uint16(b))
		if b = b[2:]; len(b) < n || g.scattered && n < 8 {
			return errCut
		}
		e.key, b = b[:n:n], b[n:]
	}
	e.val = nil
	if s.kind == sectionPut {
		n := g.valueSize
		if n == 0 {
			if len(b) < 4 {
				return errCut
			}
			n = int(binary.LittleEndian.Uint32(b))
			b = b[4:]
		}
		if n > len(b) {
			return errCut
		}
		e.val, b = b[:n:n], b[n:]
	}
	s.body = b
	return nil
}

var errCut = fmt.Errorf("%w: an entry is cut", ErrCorrupt)
