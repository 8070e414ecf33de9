package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model/journal"
	"github.com/weirflow/weir/state"
)

// Barrier implements operators.Barrierer: every record that has come and not left is in
// the snapshot, with its result if that has arrived, also if the journal has yet to
// write it.
func (n *infer[T, In, Out, O]) Barrier(e base.Epoch) error {
	n.cut()
	n.reroute()
	n.epoch = e
	n.mu.Lock()
	defer n.mu.Unlock()
	n.label = e + 1
	for _, c := range n.all[n.head:] {
		if c == nil || c.phase == left || c.stored && (c.resStored || !c.arrived) {
			continue
		}
		var err error
		if n.enc, err = n.appendState(n.enc[:0], c); err != nil {
			return err
		}
		n.table.PutVar(c.meta.Hash, stateKey(c.id, c.seq), n.enc)
		c.stored, c.resStored = true, c.arrived
	}
	if n.log != nil {
		n.log.Barrier(e)
	}
	return nil
}

// Confirm implements operators.Confirmer.
func (n *infer[T, In, Out, O]) Confirm(e base.Epoch) {
	if n.log != nil {
		n.log.Confirm(e)
	}
}

// restore takes up the records of the state, in the order in which they came. Those of
// different subtasks of an earlier deployment mix; records of a key were in one.
func (n *infer[T, In, Out, O]) restore() error {
	var calls []*call[T, Out]
	var cur state.Cursor
	var err error
	for !n.table.Walk(&cur, 1<<20, func(hash uint64, key, val []byte) bool {
		c := &call[T, Out]{since: base.MinTime, stored: true}
		if err = n.readState(c, hash, key, val); err != nil {
			return false
		}
		calls = append(calls, c)
		return true
	}) && err == nil {
	}
	if err != nil {
		return base.Fatal(&base.Error{
			Code: "WEIR-0705", What: "the operator cannot read its state", Where: "operator " + n.spec.UID, Cause: err,
			Next: "restore an earlier checkpoint; if the record type has changed, give the operator a new name",
		})
	}
	slices.SortFunc(calls, func(a, b *call[T, Out]) int {
		switch {
		case a.seq < b.seq:
			return -1
		case a.seq > b.seq:
			return 1
		}
		return slices.Compare(a.id[:], b.id[:])
	})
	for _, c := range calls {
		n.seq = max(n.seq, c.seq)
		n.settle(c)
		n.add(c)
	}
	return nil
}

// stateKeyLen is the length of the key of a record in the state: its origin and its
// number in the subtask, which tells apart records of one origin.
const stateKeyLen = 24 + 8

func stateKey(id journal.ID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(slices.Clone(id[:24]), seq)
}

// The form of a record in the state: version, flags, hash of the record as encoded
// when it came, event time, ingest time, attempts, arm, its weight, version of the
// routing, headers, record, result. Version 1 had no arm, weight and routing.
const (
	stateVersion = 2
	hasResult    = 1
)

func (n *infer[T, In, Out, O]) appendState(dst []byte, c *call[T, Out]) ([]byte, error) {
	flags := byte(0)
	if c.arrived {
		flags |= hasResult
	}
	dst = append(dst, stateVersion, flags)
	dst = append(dst, c.id[24:]...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.meta.Time))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.meta.Ingest))
	dst = binary.AppendUvarint(dst, uint64(c.attempt))
	dst = appendString(dst, c.arm)
	dst = binary.AppendUvarint(dst, uint64(c.weight))
	dst = binary.AppendUvarint(dst, c.routing)
	var h base.Headers
	if c.meta.Headers != nil {
		h = *c.meta.Headers
	}
	dst = binary.AppendUvarint(dst, uint64(len(h)))
	for _, e := range h {
		dst = appendString(appendString(dst, e.Name), e.Value)
	}
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = n.spec.In.Append(dst, &c.val)
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	if !c.arrived {
		return dst, nil
	}
	return n.encodeResult(dst, &c.res)
}

func (n *infer[T, In, Out, O]) readState(c *call[T, Out], hash uint64, key, val []byte) error {
	if len(key) != stateKeyLen {
		return fmt.Errorf("the key of a record has %d bytes", len(key))
	}
	copy(c.id[:24], key)
	c.seq = binary.BigEndian.Uint64(key[24:])
	u := func(i int) uint64 { return binary.BigEndian.Uint64(key[i:]) }
	c.meta.Hash, c.meta.Origin = hash, base.Origin{Split: u(0), Pos: u(8), Emit: u(16)}
	r := reader{b: val}
	version, flags := r.byte(), r.byte()
	if r.err == nil && (version < 1 || version > stateVersion) {
		return fmt.Errorf("the record has version %d; this program knows %d", version, stateVersion)
	}
	copy(c.id[24:], r.take(8))
	c.meta.Time, c.meta.Ingest = int64(r.word()), int64(r.word())
	c.attempt, c.maybe = int(r.uvarint()), true
	c.weight = FullWeight
	if version > 1 {
		c.arm, c.weight, c.routing = r.string(), uint32(r.uvarint()), r.uvarint()
	}
	if k := r.uvarint(); k > 0 && r.err == nil {
		h := make(base.Headers, 0, min(k, 64))
		for ; k > 0 && r.err == nil; k-- {
			h = append(h, base.Header{Name: r.string(), Value: r.string()})
		}
		c.meta.Headers = &h
	}
	enc := r.take(int(r.word32()))
	if r.err != nil {
		return r.err
	}
	if err := n.spec.In.Decode(enc, &c.val); err != nil {
		return err
	}
	// A prediction whose type has changed is asked for again.
	if flags&hasResult != 0 && n.decodeResult(r.b, &c.res) == nil {
		c.arrived, c.resStored = true, true
	}
	return nil
}

// The form of a result in the state and in the journal: version, flags, latency in
// nanoseconds, then either model version, maker, tokens in, tokens out, and the
// prediction, or, for a failure, kind, status, retry-after in nanoseconds, and text.
// Version 1 had no latency.
const (
	resultVersion = 2

	isFailure  = 1
	isDegraded = 2
	isCached   = 4
)

func (n *infer[T, In, Out, O]) encodeResult(dst []byte, r *Result[Out]) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(error)
			if !ok {
				e = fmt.Errorf("%v", p)
			}
			out, err = nil, e
		}
	}()
	flags := byte(0)
	if r.Degraded {
		flags |= isDegraded
	}
	if r.Cached {
		flags |= isCached
	}
	if r.Err != nil {
		f := asFailure(r.Err)
		dst = binary.AppendVarint(append(dst, resultVersion, flags|isFailure), int64(r.Latency))
		dst = append(dst, byte(f.Kind))
		dst = binary.AppendVarint(dst, int64(f.Status))
		dst = binary.AppendVarint(dst, int64(f.RetryAfter))
		return appendString(dst, f.Error()), nil
	}
	dst = binary.AppendVarint(append(dst, resultVersion, flags), int64(r.Latency))
	dst = appendString(appendString(dst, r.Version), r.By)
	dst = binary.AppendVarint(dst, r.Usage.InputTokens)
	dst = binary.AppendVarint(dst, r.Usage.OutputTokens)
	return n.spec.Out.Append(dst, &r.Out), nil
}

func (n *infer[T, In, Out, O]) decodeResult(b []byte, res *Result[Out]) error {
	*res = Result[Out]{}
	r := reader{b: b}
	version, flags := r.byte(), r.byte()
	if r.err == nil && (version < 1 || version > resultVersion) {
		return fmt.Errorf("the result has version %d", version)
	}
	if version > 1 {
		res.Latency = time.Duration(r.varint())
	}
	res.Degraded, res.Cached = flags&isDegraded != 0, flags&isCached != 0
	if flags&isFailure != 0 {
		f := &Failure{Kind: Kind(r.byte())}
		f.Status = int(r.varint())
		f.RetryAfter = time.Duration(r.varint())
		f.What = r.string()
		res.Err = f
		return r.err
	}
	res.Version, res.By = r.string(), r.string()
	res.Usage = Usage{InputTokens: r.varint(), OutputTokens: r.varint()}
	if r.err != nil {
		return r.err
	}
	return n.spec.Out.Decode(r.b, &res.Out)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// reader takes bytes apart; after an error everything is zero.
type reader struct {
	b   []byte
	err error
}

var errShort = errors.New("the bytes end too soon")

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.err = errShort
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) word() uint64 {
	if p := r.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (r *reader) word32() uint32 {
	if p := r.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, k := binary.Uvarint(r.b)
	if r.take(k); k <= 0 {
		r.err = errShort
		return 0
	}
	return v
}

func (r *reader) varint() int64 {
	v, k := binary.Varint(r.b)
	if r.take(k); k <= 0 {
		r.err = errShort
		return 0
	}
	return v
}

func (r *reader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.err = errShort
		return ""
	}
	return string(r.take(int(n)))
}
