package operators

import (
	"encoding/binary"
	"unsafe"

	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/state"
)

// stateKey is a key in the form that state tables take: u for integer keys, b
// for all others. b is only valid as long as what it was made from.
type stateKey struct {
	hash, u uint64
	b       []byte
}

// keyForm converts keys and calls the methods of a table that fit their form.
type keyForm[K comparable] struct {
	codec *codec.KeyCodec[K]
	ints  bool
	text  bool
}

func newKeyForm[K comparable](c *codec.KeyCodec[K]) keyForm[K] {
	return keyForm[K]{codec: c, ints: c.Kind() == codec.KeyUint64, text: c.Kind() == codec.KeyString}
}

// kind returns what a table of such keys is declared with.
func (f *keyForm[K]) kind() state.KeyKind {
	if f.ints {
		return state.KeyUint64
	}
	return state.KeyBytes
}

// bytes returns the encoding of a key; it is appended to *arena unless the key
// itself can stand for it.
func (f *keyForm[K]) bytes(arena *[]byte, k K) []byte {
	if f.text {
		s := f.codec.String(k)
		return unsafe.Slice(unsafe.StringData(s), len(s))
	}
	at := len(*arena)
	*arena = f.codec.Append(*arena, k)
	return (*arena)[at:len(*arena):len(*arena)]
}

// set makes the state form of k; arena is memory for its encoding.
func (f *keyForm[K]) set(sk *stateKey, hash uint64, k K, arena *[]byte) {
	sk.hash = hash
	if f.ints {
		sk.u = f.codec.Uint64(k)
		return
	}
	sk.b = f.bytes(arena, k)
}

// walked makes the state form of a key that a walk over a table yields.
func (f *keyForm[K]) walked(sk *stateKey, hash uint64, key []byte) {
	sk.hash = hash
	if f.ints {
		sk.u = binary.BigEndian.Uint64(key)
		return
	}
	sk.b = key
}

// key is the inverse of set.
func (f *keyForm[K]) key(sk *stateKey) (K, error) {
	if f.ints {
		return f.codec.FromUint64(sk.u), nil
	}
	return f.codec.Decode(sk.b)
}

func (f *keyForm[K]) upsert(t *state.Table, k *stateKey) (p unsafe.Pointer, fresh bool) {
	if f.ints {
		return t.UpsertU64(k.hash, k.u)
	}
	return t.UpsertBytes(k.hash, k.b)
}

func (f *keyForm[K]) get(t *state.Table, k *stateKey) unsafe.Pointer {
	if f.ints {
		return t.GetU64(k.hash, k.u)
	}
	return t.GetBytes(k.hash, k.b)
}

func (f *keyForm[K]) remove(t *state.Table, k *stateKey) {
	if f.ints {
		t.DeleteU64(k.hash, k.u)
		return
	}
	t.DeleteBytes(k.hash, k.b)
}

// keyBatch holds keys in columns, for the two-pass access of a table, and what
// the table answers.
type keyBatch struct {
	hashes, us []uint64
	bs         [][]byte
	out        []unsafe.Pointer
	arena      []byte
}

func newKeyBatch() keyBatch {
	return keyBatch{
		hashes: make([]uint64, 0, MaxBatch), us: make([]uint64, 0, MaxBatch),
		bs: make([][]byte, 0, MaxBatch), out: make([]unsafe.Pointer, MaxBatch),
	}
}

func (b *keyBatch) reset() {
	b.hashes, b.us, b.bs, b.arena = b.hashes[:0], b.us[:0], b.bs[:0], b.arena[:0]
}

func (b *keyBatch) len() int { return len(b.hashes) }

// copied appends a copy of a key.
func (b *keyBatch) copied(ints bool, k *stateKey) {
	b.hashes = append(b.hashes, k.hash)
	if ints {
		b.us = append(b.us, k.u)
		return
	}
	at := len(b.arena)
	b.arena = append(b.arena, k.b...)
	b.bs = append(b.bs, b.arena[at:len(b.arena):len(b.arena)])
}

// at makes key i.
func (b *keyBatch) at(ints bool, i int, k *stateKey) {
	k.hash = b.hashes[i]
	if ints {
		k.u = b.us[i]
		return
	}
	k.b = b.bs[i]
}

// upsert finds or makes the values of all keys; there are at most MaxBatch.
func (b *keyBatch) upsert(ints bool, t *state.Table) []unsafe.Pointer {
	out := b.out[:len(b.hashes)]
	if ints {
		t.UpsertBatchU64(b.hashes, b.us, out)
	} else {
		t.UpsertBatchBytes(b.hashes, b.bs, out)
	}
	return out
}
