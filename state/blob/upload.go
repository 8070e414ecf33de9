package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/crash"
)

// Upload is an object that is being written, whose name is known only when it is
// complete. Exactly one of Commit and Abort ends it. It belongs to one goroutine.
type Upload interface {
	io.Writer
	// Commit makes the object durable under the name. When the name is taken, the
	// object that has it stays: names of uploads are sums of their content. After
	// an error the object may exist.
	Commit(ctx context.Context, name string) error
	// Abort discards what was written.
	Abort()
}

// Creator is implemented by stores that take uploads without holding them in
// memory.
type Creator interface {
	Create(ctx context.Context) (Upload, error)
}

// Create starts an upload. Stores that are no Creator get it in one piece.
func Create(ctx context.Context, s Store) (Upload, error) {
	if c, ok := s.(Creator); ok {
		return c.Create(ctx)
	}
	return &spooled{s: s}, nil
}

// spooled is an upload that is held in memory.
type spooled struct {
	s   Store
	buf bytes.Buffer
}

// Write implements Upload.
func (u *spooled) Write(b []byte) (int, error) { return u.buf.Write(b) }

// Commit implements Upload.
func (u *spooled) Commit(ctx context.Context, name string) error {
	return u.s.PutFrom(ctx, name, &u.buf)
}

// Abort implements Upload.
func (u *spooled) Abort() {}

// dirUpload is a temporary file.
type dirUpload struct {
	d   *Dir
	tmp string
	f   vfs.File
}

// Create implements Creator.
func (d *Dir) Create(ctx context.Context) (Upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	tmp := d.fs.PathJoin(d.path(tmpDir), fmt.Sprintf("%s-%d", d.tag, d.seq.Add(1)))
	f, err := d.fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	return &dirUpload{d: d, tmp: tmp, f: f}, nil
}

// Write implements Upload.
func (u *dirUpload) Write(b []byte) (int, error) { return u.f.Write(b) }

// Commit implements Upload.
func (u *dirUpload) Commit(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), CheckName(name), u.d.mkdir(parent(name))); err != nil {
		u.Abort()
		return err
	}
	crash.At(crash.SnapMidPut)
	err := errors.Join(u.f.Sync(), u.f.Close())
	u.f = nil
	if err != nil {
		u.Abort()
		return err
	}
	final := u.d.path(name)
	if err := u.d.fs.Link(u.tmp, final); err != nil && !oserror.IsExist(err) {
		u.Abort()
		return err
	}
	u.Abort() // the file has its other name
	return u.d.syncDir(u.d.fs.PathDir(final))
}

// Abort implements Upload.
func (u *dirUpload) Abort() {
	if u.f != nil {
		_ = u.f.Close() // what was written is not wanted
		u.f = nil
	}
	_ = u.d.fs.Remove(u.tmp) // else the next NewDir removes it
}
