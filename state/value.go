package state

// Value is one V for each key. Its methods act on the backend's current key.
type Value[V any] struct {
	form[V]
	keyed
	tmp V
}

// NewValue declares a Value. A V without pointers is kept as it is in memory, any
// other is encoded. The errors are those of codec.For and Backend.Group.
func NewValue[V any](b *Backend, operator, name string, opts ...Option) (*Value[V], error) {
	f, err := newForm[V](b, operator, name, options(opts), 0)
	if err != nil {
		return nil, err
	}
	k, err := b.newKeyed(f.decl(operator, name, KeyBytes))
	if err != nil {
		return nil, err
	}
	return &Value[V]{form: f, keyed: k}, nil
}

// Get returns the value and whether there is one.
func (s *Value[V]) Get() (v V, ok bool) {
	if s.raw {
		p := s.get()
		if p == nil || s.hidden(p) {
			return v, false
		}
		return *s.at(p), true
	}
	val, ok := s.getVar()
	if !ok || s.hiddenVar(val) {
		return v, false
	}
	s.decode(val, &v)
	return v, true
}

// Set stores the value.
func (s *Value[V]) Set(v V) {
	if s.raw {
		p, _ := s.upsert()
		s.stamp(p)
		*s.at(p) = v
		return
	}
	s.tmp = v
	s.putVar(s.encode(&s.tmp))
}

// Update calls f with the value, the zero one when there is none, and stores what
// f leaves in it. f must not keep the pointer, nor use any state.
func (s *Value[V]) Update(f func(v *V)) {
	if s.raw {
		if s.expires {
			if p := s.get(); p != nil {
				s.hidden(p) // removes it
			}
		}
		p, _ := s.upsert()
		s.stamp(p)
		f(s.at(p))
		return
	}
	s.tmp, _ = s.Get()
	f(&s.tmp)
	s.putVar(s.encode(&s.tmp))
}

// Clear removes the value and reports whether there was one.
func (s *Value[V]) Clear() bool { return s.remove() }
