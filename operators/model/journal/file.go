package journal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirflow/weir/internal/base"
)

// ID names the input of a call: its origin and a hash of the record.
type ID [32]byte

// Record is a journaled result.
type Record struct {
	ID ID
	// Hash is the key hash of the record, which places it on a subtask.
	Hash uint64
	// Epoch is the one that was under way when the result arrived.
	Epoch base.Epoch
	// Data is the encoded result.
	Data []byte
}

// MaxRecord bounds the encoded result in bytes.
const MaxRecord = 64 << 20

const (
	magic    = "weircal1"
	suffix   = ".calls"
	carry    = "carry"
	headLen  = 8                 // length and checksum
	fixedLen = len(ID{}) + 8 + 8 // identity, hash, epoch
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends a record's form in a file.
func appendRecord(dst []byte, r *Record) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, headLen)...)
	dst = append(dst, r.ID[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, r.Hash)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Epoch))
	dst = append(dst, r.Data...)
	body := dst[at+headLen:]
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(body)))
	binary.LittleEndian.PutUint32(dst[at+4:], crc32.Checksum(body, castagnoli))
	return dst
}

// errTorn ends a file that does not end after a record.
var errTorn = errors.New("the file does not end after a record, or is damaged from here on")

// readRecords calls f with the records of a file, in order. Data is f's own. It
// returns errTorn, after all whole records in front, when the rest makes no sense.
func readRecords(r io.Reader, f func(Record)) error {
	br := bufio.NewReaderSize(r, 1<<16)
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(br, head); err != nil || string(head) != magic {
		return errTorn
	}
	for {
		_, err := io.ReadFull(br, head[:headLen])
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return errTorn
		case err != nil:
			return err
		}
		n := int64(binary.LittleEndian.Uint32(head))
		if n < int64(fixedLen) || n > int64(fixedLen)+MaxRecord {
			return errTorn
		}
		body, err := io.ReadAll(io.LimitReader(br, n))
		if err != nil {
			return err
		}
		if int64(len(body)) < n || crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			return errTorn
		}
		rec := Record{Hash: binary.LittleEndian.Uint64(body[len(ID{}):]), Epoch: base.Epoch(binary.LittleEndian.Uint64(body[len(ID{})+8:]))}
		copy(rec.ID[:], body)
		rec.Data = body[fixedLen:]
		f(rec)
	}
}

// name is the name of a file: of results of one epoch, or of carried ones.
func name(epoch base.Epoch, carried bool, subtask, n int) string {
	if carried {
		return fmt.Sprintf("%s-s%d-%d%s", carry, subtask, n, suffix)
	}
	return fmt.Sprintf("e%016x-s%d-%d%s", uint64(epoch), subtask, n, suffix)
}

// parse is the inverse of name, as far as it matters.
func parse(file string) (epoch base.Epoch, subtask int, carried, ok bool) {
	stem, ok := strings.CutSuffix(file, suffix)
	if !ok {
		return 0, 0, false, false
	}
	var e uint64
	var n int
	if rest, ok := strings.CutPrefix(stem, carry+"-"); ok {
		k, err := fmt.Sscanf(rest, "s%d-%d", &subtask, &n)
		return 0, subtask, true, err == nil && k == 2
	}
	if k, err := fmt.Sscanf(stem, "e%016x-s%d-%d", &e, &subtask, &n); err != nil || k != 3 {
		return 0, 0, false, false
	}
	return base.Epoch(e), subtask, false, true
}

// create makes a new file with its header, and its entry in the directory durable.
func create(dir string, epoch base.Epoch, carried bool, subtask int) (*os.File, error) {
	for n := 0; ; n++ {
		f, err := os.OpenFile(filepath.Join(dir, name(epoch, carried, subtask, n)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if _, err := f.WriteString(magic); err != nil {
			return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
		return f, syncDir(dir)
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
