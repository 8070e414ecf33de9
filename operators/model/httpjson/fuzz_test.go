package httpjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzTemplate: no text of an input changes the structure of a body.
func FuzzTemplate(f *testing.F) {
	t, err := parseTemplate(`{"a": {{.}}, "b": "x{{.}}y", "{{.}}k": 1}`)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", `"`, `\`, `", "admin": true, "`, "\n\x00é", "\\u0022", "</script>", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(tt *testing.T, s string) {
		var b bytes.Buffer
		if err := t.Execute(&b, s); err != nil {
			tt.Fatal(err)
		}
		got := map[string]any{}
		if err := json.Unmarshal(b.Bytes(), &got); err != nil {
			tt.Fatalf("%q: %v in %s", s, err, b.Bytes())
		}
		// What JSON makes of the text: what is not UTF-8 is replaced.
		text, _ := json.Marshal(s)
		if err := json.Unmarshal(text, &s); err != nil {
			tt.Fatal(err)
		}
		want := map[string]any{"a": s, "b": "x" + s + "y", s + "k": 1.0}
		if len(want) == 3 && !reflect.DeepEqual(got, want) {
			tt.Fatalf("%v, want %v", got, want)
		}
	})
}

// FuzzTemplateText: no template makes the parser panic.
func FuzzTemplateText(f *testing.F) {
	for _, s := range []string{`{"a": {{.}}}`, `"{{if .}}"{{end}}`, `{{range .}}{{break}}{{end}}`, `"\{{.}}"`, `{{with $x := .}}"{{$x}}"{{end}}`} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) { _, _ = parseTemplate(s) })
}

// FuzzPointer: a pointer leads to a value of the answer, or nowhere.
func FuzzPointer(f *testing.F) {
	f.Add("/a/0", `{"a":[1]}`)
	f.Add("/~1~0", `{"/~": {}}`)
	f.Add("", ` 1`)
	f.Fuzz(func(t *testing.T, s, doc string) {
		p, err := parsePointer(s)
		if err != nil {
			return
		}
		if v, err := p.find([]byte(doc)); err == nil && !json.Valid(v) {
			t.Fatalf("%q of %q is %q", s, doc, v)
		}
	})
}
