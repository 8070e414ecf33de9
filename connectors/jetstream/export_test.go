package jetstream

// QueuedBytes returns the bytes that a reader has fetched ahead and not handed to
// its owner.
func QueuedBytes(r any) int {
	s := r.(*reader[string]).session
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}
