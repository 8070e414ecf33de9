package operators

import "sync"

// SourceCount counts the source subtasks of a deployment that have not come to their
// end, for a source that has none of its own: it ends with the others. It is safe for
// concurrent use.
type SourceCount struct {
	mu   sync.Mutex
	open int
	// waiting are the Wake functions of the subtasks that end with the others.
	waiting []func()
}

// join counts a source that is being built.
func (c *SourceCount) join() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
}

// wait makes the end of the last source wake a subtask.
func (c *SourceCount) wait(wake func()) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, wake)
}

// leave counts a source out that has come to its end.
func (c *SourceCount) leave() {
	if c == nil {
		return
	}
	c.mu.Lock()
	c.open--
	var wake []func()
	if c.open == 0 {
		wake = c.waiting
	}
	c.mu.Unlock()
	for _, f := range wake {
		f()
	}
}

// none says that all have come to their end.
func (c *SourceCount) none() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open == 0
}
