package fakemodel

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// schemas holds the definitions of one file below testdata/schemas.
type schemas struct{ defs map[string]any }

func loadSchemas(t *testing.T, file string) *schemas {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "schemas", file))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Defs map[string]any `json:"$defs"`
	}
	if err := json.Unmarshal(text, &doc); err != nil || len(doc.Defs) == 0 {
		t.Fatalf("%s has no definitions: %v", file, err)
	}
	return &schemas{doc.Defs}
}

// check compares a JSON text with a definition.
func (s *schemas) check(t *testing.T, def string, text []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s: %v in %s", def, err, text)
	}
	schema, ok := s.defs[def]
	if !ok {
		t.Fatalf("there is no definition %q", def)
	}
	if err := s.validate(schema, v, def); err != nil {
		t.Errorf("%v: %s", err, text)
	}
}

// validate knows the keywords that the files use, and fails on others.
func (s *schemas) validate(schema, v any, at string) error {
	for keyword, arg := range schema.(map[string]any) {
		if err := s.keyword(keyword, arg, v, schema.(map[string]any), at); err != nil {
			return err
		}
	}
	return nil
}

func (s *schemas) keyword(keyword string, arg, v any, schema map[string]any, at string) error {
	object, isObject := v.(map[string]any)
	list, isList := v.([]any)
	switch keyword {
	case "$ref":
		return s.validate(s.defs[strings.TrimPrefix(arg.(string), "#/$defs/")], v, at)
	case "type":
		types, many := arg.([]any)
		if !many {
			types = []any{arg}
		}
		if !slices.ContainsFunc(types, func(t any) bool { return isType(t.(string), v) }) {
			return fmt.Errorf("%s is no %v", at, arg)
		}
	case "enum":
		if !slices.Contains(arg.([]any), v) {
			return fmt.Errorf("%s is %v, none of %v", at, v, arg)
		}
	case "anyOf":
		if !slices.ContainsFunc(arg.([]any), func(o any) bool { return s.validate(o, v, at) == nil }) {
			return fmt.Errorf("%s fits none of its alternatives", at)
		}
	case "required":
		for _, name := range arg.([]any) {
			if _, ok := object[name.(string)]; isObject && !ok {
				return fmt.Errorf("%s has no %v", at, name)
			}
		}
	case "properties":
		for name, sub := range arg.(map[string]any) {
			if x, ok := object[name]; ok {
				if err := s.validate(sub, x, at+"."+name); err != nil {
					return err
				}
			}
		}
	case "additionalProperties":
		known, _ := schema["properties"].(map[string]any)
		for name := range object {
			if _, ok := known[name]; !ok && arg == false {
				return fmt.Errorf("%s has the unknown field %q", at, name)
			}
		}
	case "items":
		for i, x := range list {
			if err := s.validate(arg, x, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "minItems":
		if isList && float64(len(list)) < arg.(float64) {
			return fmt.Errorf("%s has %d elements", at, len(list))
		}
	default:
		return fmt.Errorf("the validator does not know %q", keyword)
	}
	return nil
}

func isType(name string, v any) bool {
	switch v := v.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case float64:
		return name == "number" || name == "integer" && v == math.Trunc(v)
	case []any:
		return name == "array"
	case map[string]any:
		return name == "object"
	}
	return false
}

func TestTheValidatorSeesMistakes(t *testing.T) {
	s := loadSchemas(t, "oip.json")
	const good = `{"model_name":"m","outputs":[{"name":"o","datatype":"FP64","shape":[1],"data":[[1],"a",true]}]}`
	for _, c := range []struct{ old, new string }{
		{"", ""},
		{`"model_name"`, `"model"`},
		{`"m"`, `1`},
		{`FP64`, `FP65`},
		{`[1],"data"`, `[1.5],"data"`},
		{`[[1]`, `[[null]`},
		{`"outputs":[`, `"outputs":[3,`},
	} {
		var v any
		if err := json.Unmarshal([]byte(strings.Replace(good, c.old, c.new, 1)), &v); err != nil {
			t.Fatal(err)
		}
		if err := s.validate(s.defs["response"], v, "response"); (err == nil) != (c.old == "") {
			t.Errorf("%q for %q: %v", c.new, c.old, err)
		}
	}
}
