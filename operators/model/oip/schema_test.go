package oip_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// checkSchema holds JSON against a schema of the published description of the
// protocol. Fields that it does not name are refused as well.
func checkSchema(t *testing.T, name string, doc []byte) {
	t.Helper()
	b, err := os.ReadFile("testdata/open_inference_rest.json")
	if err != nil {
		t.Fatal(err)
	}
	var schemas map[string]map[string]any
	var v any
	if err := json.Unmarshal(b, &schemas); err != nil || schemas[name] == nil {
		t.Fatalf("no schema %s: %v", name, err)
	}
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	if err := matches(schemas, schemas[name], v, name); err != nil {
		t.Error(err)
	}
}

// matches knows the parts of JSON Schema that the description uses.
func matches(all map[string]map[string]any, schema map[string]any, v any, at string) error {
	if ref, ok := schema["$ref"].(string); ok {
		name := ref[strings.LastIndexByte(ref, '/')+1:]
		if all[name] == nil {
			return fmt.Errorf("%s: no schema %s", at, name)
		}
		return matches(all, all[name], v, at)
	}
	if choices, ok := schema["anyOf"].([]any); ok {
		for _, s := range choices {
			if matches(all, s.(map[string]any), v, at) == nil {
				return nil
			}
		}
		return fmt.Errorf("%s: %v is none of what is allowed", at, v)
	}
	ok := false
	switch schema["type"] {
	case "object":
		return matchesObject(all, schema, v, at)
	case "array":
		list, isList := v.([]any)
		for i, e := range list {
			if err := matches(all, schema["items"].(map[string]any), e, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		ok = isList
	case "string":
		_, ok = v.(string)
	case "boolean":
		_, ok = v.(bool)
	case "number":
		_, ok = v.(float64)
	case "integer":
		f, isNumber := v.(float64)
		ok = isNumber && f == float64(int64(f))
	}
	if !ok {
		return fmt.Errorf("%s: %v is no %v", at, v, schema["type"])
	}
	return nil
}

func matchesObject(all map[string]map[string]any, schema map[string]any, v any, at string) error {
	o, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: %v is no object", at, v)
	}
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := o[name.(string)]; !ok {
			return fmt.Errorf("%s: %s is missing", at, name)
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, value := range o {
		s, ok := properties[name].(map[string]any)
		switch {
		case properties == nil: // anything
		case !ok:
			return fmt.Errorf("%s: %s is not known", at, name)
		default:
			if err := matches(all, s, value, at+"."+name); err != nil {
				return err
			}
		}
	}
	return nil
}
