package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir/internal/crash"
)

// Dir is a store in a directory. An object is written to a temporary file,
// synced, and linked to its name, which fails if the name exists: that is the
// put-if-absent. Then the directory is synced. Processes may share the directory
// if they share the file system.
type Dir struct {
	fs   vfs.FS
	root string
	seq  atomic.Uint64
	// tag makes the temporary names of one process unique.
	tag string

	mu   sync.Mutex
	made map[string]bool // directories known to exist
}

// tmpDir holds files that are being written.
const tmpDir = "tmp"

// NewDir opens or creates a store in a directory, and removes what a crash left
// in the making. tag must be unique among the processes that share it.
func NewDir(fs vfs.FS, root, tag string) (*Dir, error) {
	d := &Dir{fs: fs, root: root, tag: tag, made: map[string]bool{}}
	if err := d.mkdir(tmpDir); err != nil {
		return nil, err
	}
	names, err := fs.List(d.path(tmpDir))
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if strings.HasPrefix(n, tag+"-") {
			if err := fs.Remove(fs.PathJoin(d.path(tmpDir), n)); err != nil && !oserror.IsNotExist(err) {
				return nil, err
			}
		}
	}
	return d, nil
}

func (d *Dir) path(name string) string {
	return d.fs.PathJoin(append([]string{d.root}, strings.Split(name, "/")...)...)
}

// mkdir makes a directory of the store and all above it durable.
func (d *Dir) mkdir(rel string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made[rel] {
		return nil
	}
	path := d.root
	if rel != "" {
		path = d.path(rel)
	}
	var above []string // directories above the store that are made now
	for p := d.root; ; p = d.fs.PathDir(p) {
		if _, err := d.fs.Stat(p); !oserror.IsNotExist(err) || d.fs.PathDir(p) == p {
			break
		}
		above = append(above, d.fs.PathDir(p))
	}
	if err := d.fs.MkdirAll(path, 0o700); err != nil {
		return err
	}
	// Sync every parent once, from the bottom up: a directory entry is durable
	// only when the directory that holds it is.
	for p := path; ; p = d.fs.PathDir(p) {
		if err := d.syncDir(d.fs.PathDir(p)); err != nil {
			return err
		}
		if p == d.root || len(d.fs.PathDir(p)) >= len(p) {
			break
		}
	}
	for _, p := range above {
		if err := d.syncDir(p); err != nil {
			return err
		}
	}
	d.made[rel] = true
	return nil
}

func (d *Dir) syncDir(path string) error {
	f, err := d.fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// write makes a durable temporary file and returns its path.
func (d *Dir) write(r io.Reader) (string, error) {
	tmp := d.fs.PathJoin(d.path(tmpDir), fmt.Sprintf("%s-%d", d.tag, d.seq.Add(1)))
	f, err := d.fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, r)
	crash.At(crash.SnapMidPut)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, d.fs.Remove(tmp))
	}
	return tmp, nil
}

// PutIfAbsent implements Store.
func (d *Dir) PutIfAbsent(ctx context.Context, name string, data []byte) (bool, error) {
	if err := errors.Join(ctx.Err(), CheckName(name)); err != nil {
		return false, err
	}
	final := d.path(name)
	dir := d.fs.PathDir(final)
	if err := d.mkdir(parent(name)); err != nil {
		return false, err
	}
	tmp, err := d.write(bytes.NewReader(data))
	if err != nil {
		return false, err
	}
	created := true
	if err := d.fs.Link(tmp, final); err != nil {
		if !oserror.IsExist(err) {
			return false, errors.Join(err, d.fs.Remove(tmp))
		}
		created = false
	}
	if err := d.fs.Remove(tmp); err != nil {
		return created, err
	}
	// Synced also when the name was taken: whoever took it may have crashed
	// before doing so, and the caller relies on it being there.
	return created, d.syncDir(dir)
}

func parent(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return ""
}

// Put implements Store.
func (d *Dir) Put(ctx context.Context, name string, data []byte) error {
	return d.PutFrom(ctx, name, bytes.NewReader(data))
}

// PutFrom implements Store.
func (d *Dir) PutFrom(ctx context.Context, name string, r io.Reader) error {
	if err := errors.Join(ctx.Err(), CheckName(name)); err != nil {
		return err
	}
	if err := d.mkdir(parent(name)); err != nil {
		return err
	}
	tmp, err := d.write(r)
	if err != nil {
		return err
	}
	final := d.path(name)
	if err := d.fs.Rename(tmp, final); err != nil {
		return errors.Join(err, d.fs.Remove(tmp))
	}
	return d.syncDir(d.fs.PathDir(final))
}

// Get implements Store.
func (d *Dir) Get(ctx context.Context, name string) ([]byte, error) {
	o, err := d.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	data := make([]byte, o.Size())
	_, err = io.ReadFull(io.NewSectionReader(o, 0, o.Size()), data)
	return data, errors.Join(err, o.Close())
}

// Open implements Store.
func (d *Dir) Open(ctx context.Context, name string) (Object, error) {
	if err := errors.Join(ctx.Err(), CheckName(name)); err != nil {
		return nil, err
	}
	f, err := d.fs.Open(d.path(name))
	if oserror.IsNotExist(err) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &dirObject{File: f, size: info.Size()}, nil
}

type dirObject struct {
	vfs.File
	size int64
}

// Size implements Object.
func (o *dirObject) Size() int64 { return o.size }

// Delete implements Store.
func (d *Dir) Delete(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), CheckName(name)); err != nil {
		return err
	}
	err := d.fs.Remove(d.path(name))
	if oserror.IsNotExist(err) {
		return fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return err
}

// List implements Store.
func (d *Dir) List(ctx context.Context, prefix string) ([]string, error) {
	start := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		start = prefix[:i]
	}
	var out []string
	if err := d.walk(ctx, start, prefix, &out); err != nil {
		return nil, err
	}
	sort.Strings(out)
	return out, nil
}

func (d *Dir) walk(ctx context.Context, rel, prefix string, out *[]string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := d.root
	if rel != "" {
		path = d.path(rel)
	}
	names, err := d.fs.List(path)
	if oserror.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, n := range names {
		name := n
		if rel != "" {
			name = rel + "/" + n
		} else if n == tmpDir {
			continue
		}
		info, err := d.fs.Stat(d.path(name))
		switch {
		case oserror.IsNotExist(err): // deleted meanwhile
		case err != nil:
			return err
		case info.IsDir():
			if strings.HasPrefix(name+"/", prefix) || strings.HasPrefix(prefix, name+"/") {
				if err := d.walk(ctx, name, prefix, out); err != nil {
					return err
				}
			}
		case strings.HasPrefix(name, prefix):
			*out = append(*out, name)
		}
	}
	return nil
}

// Private makes the directory unreadable to others; the operating system's file
// system only.
func Private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}
