package operators

import (
	"encoding/binary"
	"fmt"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/state"
)

// Declarer takes the states that a KeyedProcess declares. Without a backend it
// only describes them, for the plan.
type Declarer struct {
	uid     string
	backend *state.Backend
	states  []DeclaredState
	views   map[string]any
	// values are the views whose entries a batch can load ahead.
	values []prefetcher
	err    error
}

// prefetcher is a view of one entry per key.
type prefetcher interface {
	Spilled() bool
	Prefetch(hashes, ints []uint64, bytes [][]byte)
}

// DeclaredState describes a state for plans and manifests. Stored state is only
// read by a job that declares it with a schema that fits.
type DeclaredState struct{ Name, Schema string }

func openDeclarer(uid string, b *state.Backend) *Declarer {
	return &Declarer{uid: uid, backend: b, views: map[string]any{}}
}

// DescribeStates returns what a function declares, for the plan.
func DescribeStates(uid string, declare func(*Declarer)) ([]DeclaredState, error) {
	d := openDeclarer(uid, nil)
	declare(d)
	return d.states, d.err
}

// add notes a state; false says that it cannot be declared.
func (d *Declarer) add(name, schema string, err error) bool {
	if err == nil {
		err = base.CheckUID(name)
	}
	for _, s := range d.states {
		if err == nil && s.Name == name {
			err = fmt.Errorf("state %q is declared twice", name)
		}
	}
	if err != nil {
		if d.err == nil {
			d.err = fmt.Errorf("state %q: %w", name, err)
		}
		return false
	}
	d.states = append(d.states, DeclaredState{name, schema})
	return d.backend != nil
}

// keep notes the view of a state by name, for reads from outside.
func keep[V any](d *Declarer, name string, v V, err error) V {
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("state %q: %w", name, err)
	}
	d.views[name] = v
	return v
}

// schemaOf describes V as the element of a state of some kind.
func schemaOf[V any](kind string) (string, error) {
	c, err := codec.For[V]()
	if err != nil {
		return "", err
	}
	return kind + " " + c.Schema().String(), nil
}

// ValueState declares a state that holds one V per key. The handle may be used
// during calls of OnRecord and OnTimer, on the key in hand.
func ValueState[V any](d *Declarer, name string, opts ...state.Option) *state.Value[V] {
	schema, err := schemaOf[V]("value")
	if !d.add(name, schema, err) {
		return nil
	}
	v, err := state.NewValue[V](d.backend, d.uid, name, opts...)
	if err == nil {
		d.values = append(d.values, v)
	}
	return keep(d, name, v, err)
}

// ListState declares a state that holds a list of V per key.
func ListState[V any](d *Declarer, name string, opts ...state.Option) *state.List[V] {
	schema, err := schemaOf[V]("list")
	if !d.add(name, schema, err) {
		return nil
	}
	v, err := state.NewList[V](d.backend, d.uid, name, opts...)
	return keep(d, name, v, err)
}

// MapState declares a state that holds a map from MK to V per key.
func MapState[MK comparable, V any](d *Declarer, name string, opts ...state.Option) *state.Map[MK, V] {
	schema, err := schemaOf[V]("map")
	if err == nil {
		var kc *codec.KeyCodec[MK]
		if kc, err = codec.KeyFor[MK](); err == nil {
			schema = "map " + kc.Schema().String() + schema[len("map"):]
		}
	}
	if !d.add(name, schema, err) {
		return nil
	}
	v, err := state.NewMap[MK, V](d.backend, d.uid, name, opts...)
	return keep(d, name, v, err)
}

// stateReader is a node whose states can be read from outside.
type stateReader interface {
	Node
	// view makes the key in its encoded form current and returns the handle of a
	// state.
	view(hash uint64, key []byte, name string) (any, error)
}

// view implements stateReader.
func (n *processCore) view(hash uint64, key []byte, name string) (any, error) {
	v, ok := n.decl.views[name]
	if !ok {
		return nil, fmt.Errorf("operator %s has no state %q", n.uid, name)
	}
	if !n.s.Env.Range.Contains(hash) {
		return nil, fmt.Errorf("subtask %d of operator %s does not own the key", n.s.Env.Index, n.uid)
	}
	n.key = stateKey{hash: hash, b: key}
	if n.ints {
		n.key.u = binary.BigEndian.Uint64(key)
	}
	n.setKey()
	return v, nil
}

// ReadState calls read with the handle of a state of an operator, set to a key,
// for a look from outside. It must run on the goroutine of the subtask that owns
// the key, between two batches; read must not change the state. H is the type of
// the handle, such as *state.Value[V].
func ReadState[K comparable, H any](s *Subtask, uid, name string, keys *codec.KeyCodec[K], k K, read func(H)) error {
	for _, n := range s.nodes {
		r, ok := n.(stateReader)
		if !ok || n.UID() != uid {
			continue
		}
		v, err := r.view(keys.Hash(k), keys.Append(nil, k), name)
		if err != nil {
			return err
		}
		h, ok := v.(H)
		if !ok {
			return fmt.Errorf("state %q of operator %s is a %T", name, uid, v)
		}
		read(h)
		return s.Err()
	}
	return fmt.Errorf("the task has no operator %s with states to read", uid)
}
