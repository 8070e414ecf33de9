package openai_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

type schema = map[string]any

// checkSchema holds a request against a schema of the published interface. Fields
// that it does not name are refused as well.
func checkSchema(t *testing.T, name string, doc []byte) {
	t.Helper()
	b, err := os.ReadFile("testdata/openapi_requests.json")
	if err != nil {
		t.Fatal(err)
	}
	all := schemas{}
	var v any
	if err := json.Unmarshal(b, &all); err != nil || all[name] == nil {
		t.Fatalf("no schema %s: %v", name, err)
	}
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	if err := all.match(all[name], v, name); err != nil {
		t.Error(err)
	}
	if o, ok := v.(map[string]any); ok {
		known := map[string]bool{}
		all.properties(all[name], known)
		for field := range o {
			if !known[field] {
				t.Errorf("%s: %s is not known", name, field)
			}
		}
	}
}

type schemas map[string]schema

func (all schemas) resolve(s schema) schema {
	for {
		ref, ok := s["$ref"].(string)
		if !ok {
			return s
		}
		s = all[ref[strings.LastIndexByte(ref, '/')+1:]]
	}
}

// properties collects the names of the fields of an object.
func (all schemas) properties(s schema, out map[string]bool) {
	s = all.resolve(s)
	p, _ := s["properties"].(map[string]any)
	for name := range p {
		out[name] = true
	}
	list, _ := s["allOf"].([]any)
	for _, part := range list {
		all.properties(part.(schema), out)
	}
}

// match knows the parts of JSON Schema that the interface uses.
func (all schemas) match(s schema, v any, at string) error {
	s = all.resolve(s)
	if v == nil && s["nullable"] == true {
		return nil
	}
	list, _ := s["allOf"].([]any)
	for _, part := range list {
		if err := all.match(part.(schema), v, at); err != nil {
			return err
		}
	}
	for _, kind := range []string{"anyOf", "oneOf"} {
		choices, ok := s[kind].([]any)
		var errs []string
		for _, c := range choices {
			err := all.match(c.(schema), v, at)
			if err == nil {
				ok = false
				break
			}
			errs = append(errs, err.Error())
		}
		if ok {
			return fmt.Errorf("%s: none of: %s", at, strings.Join(errs, "; "))
		}
	}
	if enum, ok := s["enum"].([]any); ok {
		found := false
		for _, e := range enum {
			found = found || reflect.DeepEqual(e, v)
		}
		if !found {
			return fmt.Errorf("%s: %v is none of %v", at, v, enum)
		}
	}
	return all.matchType(s, v, at)
}

func (all schemas) matchType(s schema, v any, at string) error {
	ok := true
	switch s["type"] {
	case "object":
		return all.matchObject(s, v, at)
	case "array":
		var list []any
		list, ok = v.([]any)
		if !between(s, "minItems", "maxItems", float64(len(list))) {
			return fmt.Errorf("%s: %d items", at, len(list))
		}
		for i, e := range list {
			if err := all.match(s["items"].(schema), e, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "string":
		var text string
		text, ok = v.(string)
		ok = ok && between(s, "", "maxLength", float64(len(text)))
	case "boolean":
		_, ok = v.(bool)
	case "number", "integer":
		var f float64
		f, ok = v.(float64)
		ok = ok && between(s, "minimum", "maximum", f) && (s["type"] == "number" || f == float64(int64(f)))
	case "null":
		ok = v == nil
	}
	if !ok {
		return fmt.Errorf("%s: %v is no %v", at, v, s["type"])
	}
	return nil
}

func between(s schema, low, high string, v float64) bool {
	lo, hasLow := s[low].(float64)
	hi, hasHigh := s[high].(float64)
	return !(hasLow && v < lo || hasHigh && v > hi)
}

func (all schemas) matchObject(s schema, v any, at string) error {
	o, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: %v is no object", at, v)
	}
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, ok := o[name.(string)]; !ok {
			return fmt.Errorf("%s: %s is missing", at, name)
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for name, value := range o {
		if p, ok := properties[name].(schema); ok {
			if err := all.match(p, value, at+"."+name); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestSchemasRefuse: the check can fail.
func TestSchemasRefuse(t *testing.T) {
	b, err := os.ReadFile("testdata/openapi_requests.json")
	if err != nil {
		t.Fatal(err)
	}
	all := schemas{}
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for _, doc := range []string{
		`{"model":"m"}`, `{"model":"m","messages":[]}`, `{"model":"m","messages":[{"role":"user"}]}`, `{"model":"m","messages":[{"role":"usr","content":"a"}]}`,
		`{"model":"m","messages":[{"role":"user","content":"a"}],"temperature":3}`, `{"model":"m","messages":[{"role":"user","content":"a"}],"stream":"yes"}`,
	} {
		var v any
		if err := json.Unmarshal([]byte(doc), &v); err != nil {
			t.Fatal(err)
		}
		if all.match(all["CreateChatCompletionRequest"], v, "") == nil {
			t.Errorf("%s passes", doc)
		}
	}
}
