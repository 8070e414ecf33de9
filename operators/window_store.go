package operators

import (
	"fmt"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/state"
)

// accStore keeps accumulators A by namespace and key. An A without pointers lies
// in the state table as it is and is changed in place; any other is encoded.
type accStore[K comparable, A any] struct {
	s     *Subtask
	uid   string
	keys  keyForm[K]
	group *state.Group
	codec *codec.Codec[A]
	raw   bool

	acc A      // an accumulator decoded
	buf []byte // an accumulator encoded
}

func newAccStore[K comparable, A any](s *Subtask, uid, name string, keys *codec.KeyCodec[K], acc *codec.Codec[A]) (*accStore[K, A], error) {
	st := &accStore[K, A]{s: s, uid: uid, keys: newKeyForm(keys), codec: acc}
	size, raw := acc.Fixed()
	st.raw = raw && size > 0
	d := state.Decl{Operator: uid, Name: name, Key: st.keys.kind(), ValueSize: size, Schema: acc.Schema().String()}
	if !st.raw {
		// Variable values are addressed by the bytes of the key.
		st.keys.ints = false
		d.Key, d.ValueSize = state.KeyBytes, 0
	}
	var err error
	st.group, err = s.Env.Backend.Group(d)
	return st, err
}

// get returns the accumulator of a key, or nil. It is valid until the next call
// on the state, and must not be changed.
func (st *accStore[K, A]) get(t *state.Table, k *stateKey) *A {
	if st.raw {
		return (*A)(st.keys.get(t, k))
	}
	b, ok := t.GetVar(k.hash, k.b)
	if !ok {
		return nil
	}
	return st.decode(b)
}

func (st *accStore[K, A]) decode(b []byte) *A {
	var none A
	st.acc = none
	if err := st.codec.Decode(b, &st.acc); err != nil {
		st.s.Fail(stateError(st.uid, err))
	}
	return &st.acc
}

// open returns the accumulator of a key to be changed, the zero one when there
// was none; save must follow before anything else is done with the state.
func (st *accStore[K, A]) open(t *state.Table, k *stateKey) (acc *A, fresh bool) {
	if st.raw {
		p, fresh := st.keys.upsert(t, k)
		return (*A)(p), fresh
	}
	if acc := st.get(t, k); acc != nil {
		return acc, false
	}
	var none A
	st.acc = none
	return &st.acc, true
}

// save keeps what open returned.
func (st *accStore[K, A]) save(t *state.Table, k *stateKey) {
	if st.raw {
		return
	}
	st.buf = st.codec.Append(st.buf[:0], &st.acc)
	t.PutVar(k.hash, k.b, st.buf)
}

// value returns the accumulator that a walk yields.
func (st *accStore[K, A]) value(val []byte) *A {
	if st.raw {
		return (*A)(unsafe.Pointer(unsafe.SliceData(val)))
	}
	return st.decode(val)
}

// stateError reports that an operator cannot read its own state.
func stateError(uid string, err error) error {
	return base.Fatal(&base.Error{
		Code: "WEIR-0705", What: "the operator cannot read its state", Where: "operator " + uid, Cause: err,
		Next: "restore an earlier checkpoint; if the accumulator's type has changed, give the operator a new name",
	})
}

// declareError reports that the state of an operator cannot be declared.
func declareError(uid string, err error) error {
	return fmt.Errorf("operator %s: declare its state: %w", uid, err)
}
