package httpjson

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/weirflow/weir/operators/model/internal/rest"
)

// pointer is a JSON pointer (RFC 6901): the names and indexes on the way.
type pointer []string

func parsePointer(s string) (pointer, error) {
	if s == "" {
		return nil, nil
	}
	if s[0] != '/' {
		return nil, fmt.Errorf("the pointer %q does not begin with /", s)
	}
	p := pointer(strings.Split(s[1:], "/"))
	for i, token := range p {
		if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(token), "~") {
			return nil, fmt.Errorf("the pointer %q has a ~ that is neither ~0 nor ~1", s)
		}
		p[i] = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return p, nil
}

// find returns the value that the pointer leads to. NaN and infinities are null.
func (p pointer) find(doc []byte) ([]byte, error) {
	var v json.RawMessage
	if err := rest.Decode(doc, &v); err != nil {
		return nil, err
	}
	for i, token := range p {
		var object map[string]json.RawMessage
		var array []json.RawMessage
		switch v[0] {
		case '{':
			if err := json.Unmarshal(v, &object); err != nil {
				return nil, err
			}
			next, ok := object[token]
			if !ok {
				return nil, fmt.Errorf("there is no %.40q at /%s", token, strings.Join(p[:i], "/"))
			}
			v = next
		case '[':
			if err := json.Unmarshal(v, &array); err != nil {
				return nil, err
			}
			k, err := strconv.ParseUint(token, 10, 31)
			if err != nil || token != strconv.FormatUint(k, 10) || k >= uint64(len(array)) {
				return nil, fmt.Errorf("there is no element %.40q at /%s", token, strings.Join(p[:i], "/"))
			}
			v = array[k]
		default:
			return nil, fmt.Errorf("there is neither an object nor an array at /%s", strings.Join(p[:i], "/"))
		}
	}
	return v, nil
}
