package state

import "unsafe"

// stamp sets the expiry of a raw value that is being written.
func (f *form[V]) stamp(p unsafe.Pointer) {
	if f.expires {
		setExpiry(unsafe.Slice((*byte)(p), expiryLen), f.b.expiry(f.ttl))
	}
}

// hidden says that the raw value at p has expired, and then removes it.
func (s *Value[V]) hidden(p unsafe.Pointer) bool {
	if !s.expires {
		return false
	}
	return s.hiddenVar(unsafe.Slice((*byte)(p), expiryLen))
}

// hiddenVar is hidden for the bytes of a value.
func (s *Value[V]) hiddenVar(val []byte) bool {
	if !s.expires {
		return false
	}
	if s.keyed.b.past(expiryOf(val), s.ttl) {
		s.remove()
		return true
	}
	return false
}
