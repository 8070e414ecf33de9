package operators

import "fmt"

// Inspector is a Node that tells people about one key of its state, between two
// batches and without changing anything.
type Inspector interface {
	Node
	// Inspect answers a question about a key. Key is its JSON form, or the text
	// itself where keys are strings; arg belongs to the question. Owned is false when
	// another subtask has the key. The answer has a JSON form.
	Inspect(question, key string, arg []byte) (answer any, owned bool, err error)
}

// Inspect asks an operator of the subtask.
func (s *Subtask) Inspect(uid, question, key string, arg []byte) (answer any, owned bool, err error) {
	for _, n := range s.nodes {
		if i, ok := n.(Inspector); ok && n.UID() == uid {
			return i.Inspect(question, key, arg)
		}
	}
	return nil, false, fmt.Errorf("operator %s answers no questions", uid)
}
