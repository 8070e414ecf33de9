package state

import (
	"errors"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/state/blob"
)

// picky cannot be encoded when it is bad.
type picky struct{ N int }

func (p picky) EncodeMsgpack(e *msgpack.Encoder) error {
	if p.N < 0 {
		return errors.New("a bad value")
	}
	return e.EncodeInt(int64(p.N))
}

func (p *picky) DecodeMsgpack(d *msgpack.Decoder) (err error) {
	p.N, err = d.DecodeInt()
	return err
}

// TestPanicsOfEncodingMethods: a value that cannot be encoded panics, which the caller
// may survive; nothing of it is in the state.
func TestPanicsOfEncodingMethods(t *testing.T) {
	_, rng := seeds(t)
	b := newHarness(t, openTestStore(t, blob.Memory(), 0), base.FullRange, rng).b
	b.SetKeyKind(KeyUint64)
	list, err := NewList[picky](b, "op", "picky list")
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMap[string, picky](b, "op", "picky map")
	if err != nil {
		t.Fatal(err)
	}
	b.SetKeyU64(base.HashUint64(7), 7)
	fails := func(f func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Fatal("a bad value was taken")
			}
		}()
		f()
	}
	fails(func() { list.Append(picky{-1}) })
	list.Append(picky{1})
	fails(func() { list.Append(picky{-1}) })
	if got, ok := list.Get(0); list.Len() != 1 || !ok || got.N != 1 {
		t.Errorf("the list has %d elements; the first is %v, %v", list.Len(), got, ok)
	}
	m.Put("x", picky{1})
	fails(func() { m.Put("k", picky{-1}) })
	fails(func() { m.Put("x", picky{-1}) })
	m.Put("k", picky{2})
	var keys string
	for k, v := range m.All() {
		keys += k
		if v.N < 1 {
			t.Errorf("%s is %d", k, v.N)
		}
	}
	if len(keys) != 2 || m.Len() != 2 || !m.Delete("k") || !m.Delete("x") || m.Len() != 0 {
		t.Errorf("the map has %q, and then %d", keys, m.Len())
	}
}
