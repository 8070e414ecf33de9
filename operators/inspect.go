package operators

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/weirflow/weir/internal/base"
)

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

// ParseKey reads a key from JSON, or takes the text as it is where keys are strings.
func ParseKey[K comparable](text string) (k K, err error) {
	v := reflect.ValueOf(&k).Elem()
	if v.Kind() == reflect.String && (text == "" || text[0] != '"') {
		v.SetString(text)
		return k, nil
	}
	if err := json.Unmarshal([]byte(text), &k); err != nil {
		return k, &base.Error{
			Code: "WEIR-0712", What: fmt.Sprintf("%q is no key of type %T", text, k), Cause: err,
			Next: "write the key as JSON, such as 17 or {\"User\":\"u1\",\"Item\":\"i7\"}",
		}
	}
	return k, nil
}
