// Package operators holds the operator bodies and the typed chain that hides the
// record type from the engine.
//
// A subtask runs a chain: a head (a source, or batches from input edges), fused
// operators, and tails (edges to other tasks, sinks). Inside a chain composed
// closures hand a *T from operator to operator; only at an edge are records
// copied into a typed batch. The engine sees a chain as a *Subtask and a batch
// as a Batch, and knows no record type.
package operators

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

// MaxBatch is the largest number of records in a batch. Measured: 256 records
// of 64 bytes stay in the second-level cache; larger batches gain nothing.
const MaxBatch = 256

// Batch is a run of records between two subtasks. Its owner is whoever holds
// it: the sender while it fills it, the receiver from Send on until it gives it
// back to the port.
type Batch interface {
	// Len returns the number of records.
	Len() int
	// Reset empties the batch and keeps its memory.
	Reset()
	// AppendWire appends the records' encoding; see docs/format/frames.md.
	AppendWire(dst []byte) []byte
	// ReadWire replaces the records by those decoded from src.
	ReadWire(src []byte) error
}

// TypedBatch is a Batch of T: parallel columns of metadata and values.
type TypedBatch[T any] struct {
	Metas []base.Meta
	Vals  []T
	// headers says that a record has some; where none has, all places of the
	// column, used or not, have none.
	headers bool
	codec   *codec.Codec[T]
}

// NewBatch returns a factory of batches of T, for the edges of a plan. It fails
// when T cannot be encoded.
func NewBatch[T any]() (func() Batch, error) {
	c, err := codec.For[T]()
	if err != nil {
		return nil, err
	}
	return func() Batch {
		return &TypedBatch[T]{
			Metas: make([]base.Meta, 0, MaxBatch),
			Vals:  make([]T, 0, MaxBatch),
			codec: c,
		}
	}, nil
}

// Len returns the number of records.
func (b *TypedBatch[T]) Len() int { return len(b.Vals) }

// Reset empties the batch.
func (b *TypedBatch[T]) Reset() {
	if b.headers {
		clear(b.Metas)
		b.headers = false
	}
	b.Metas, b.Vals = b.Metas[:0], b.Vals[:0]
}

// add appends a record and returns the new length. The columns have room for
// MaxBatch records from the start, so that nothing grows here.
func (b *TypedBatch[T]) add(m *base.Meta, v *T) int {
	n := len(b.Vals)
	b.Metas, b.Vals = b.Metas[:n+1], b.Vals[:n+1]
	b.Metas[n] = *m
	b.headers = b.headers || m.Headers != nil
	b.Vals[n] = *v
	return n + 1
}

// metaWireLen is the length of a record's fixed metadata on the wire.
const metaWireLen = 6 * 8

var errShortBatch = errors.New("the batch ends inside a record")

// AppendWire appends, for every record: six little-endian 64-bit words (time,
// hash, ingest, origin split, position and emission), the headers (count, then
// length-prefixed name and value), and the length-prefixed msgpack value.
func (b *TypedBatch[T]) AppendWire(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b.Vals)))
	for i := range b.Vals {
		m := &b.Metas[i]
		dst = binary.LittleEndian.AppendUint64(dst, uint64(m.Time))
		dst = binary.LittleEndian.AppendUint64(dst, m.Hash)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(m.Ingest))
		dst = binary.LittleEndian.AppendUint64(dst, m.Origin.Split)
		dst = binary.LittleEndian.AppendUint64(dst, m.Origin.Pos)
		dst = binary.LittleEndian.AppendUint64(dst, m.Origin.Emit)
		dst = appendHeaders(dst, m.Headers)
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		dst = b.codec.Append(dst, &b.Vals[i])
		binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	return dst
}

// ReadWire is the inverse of AppendWire. It refuses malformed input and never
// reads beyond it.
func (b *TypedBatch[T]) ReadWire(src []byte) error {
	b.Reset()
	n, k := binary.Uvarint(src)
	if k <= 0 || n > MaxBatch {
		return fmt.Errorf("a batch of %d records: at most %d are allowed", n, MaxBatch)
	}
	src = src[k:]
	for range n {
		if len(src) < metaWireLen {
			return errShortBatch
		}
		u := func(i int) uint64 { return binary.LittleEndian.Uint64(src[8*i:]) }
		m := base.Meta{
			Time: int64(u(0)), Hash: u(1), Ingest: int64(u(2)),
			Origin: base.Origin{Split: u(3), Pos: u(4), Emit: u(5)},
		}
		var err error
		if m.Headers, src, err = readHeaders(src[metaWireLen:]); err != nil {
			return err
		}
		if len(src) < 4 {
			return errShortBatch
		}
		l := int(binary.LittleEndian.Uint32(src))
		if l > len(src)-4 {
			return errShortBatch
		}
		var v T
		if err := b.codec.Decode(src[4:4+l], &v); err != nil {
			return err
		}
		src = src[4+l:]
		b.add(&m, &v)
	}
	if len(src) != 0 {
		return fmt.Errorf("%d bytes follow the last record of a batch", len(src))
	}
	return nil
}

func appendHeaders(dst []byte, h *base.Headers) []byte {
	if h == nil {
		return binary.AppendUvarint(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(*h)))
	for _, e := range *h {
		dst = appendString(dst, e.Name)
		dst = appendString(dst, e.Value)
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func readHeaders(src []byte) (*base.Headers, []byte, error) {
	n, k := binary.Uvarint(src)
	if k <= 0 || n > uint64(len(src)) {
		return nil, nil, errShortBatch
	}
	src = src[k:]
	if n == 0 {
		return nil, src, nil
	}
	h := make(base.Headers, 0, min(n, 64))
	for range n {
		var e base.Header
		var err error
		if e.Name, src, err = readString(src); err != nil {
			return nil, nil, err
		}
		if e.Value, src, err = readString(src); err != nil {
			return nil, nil, err
		}
		h = append(h, e)
	}
	return &h, src, nil
}

func readString(src []byte) (string, []byte, error) {
	n, k := binary.Uvarint(src)
	if k <= 0 || n > uint64(len(src)-k) {
		return "", nil, errShortBatch
	}
	return string(src[k : k+int(n)]), src[k+int(n):], nil
}
