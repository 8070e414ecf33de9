package lint

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// pure lists the packages whose code must not start goroutines, use channels, or
// touch time, files or the network.
var pure = map[string]bool{"internal/protocol": true, "window": true}

var impureImports = []string{"time", "os", "net", "sync", "math/rand", "math/rand/v2", "io/fs", "context"}

func TestPureCores(t *testing.T) {
	for _, f := range files(t) {
		if !pure[rel(f.pkg)] || f.test {
			continue
		}
		for _, path := range f.imports() {
			for _, bad := range impureImports {
				// window takes durations from its users.
				if path == bad && !(bad == "time" && rel(f.pkg) == "window") {
					t.Errorf("%s imports %s; a protocol core is pure", f.path, path)
				}
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.ChanType, *ast.SendStmt, *ast.SelectStmt:
				t.Errorf("%s:%d: %T in a pure package", f.path, f.line(n.Pos()), n)
			}
			return true
		})
	}
}

// timeFuncs are the functions of package time that only internal/clock may use.
var timeFuncs = map[string]bool{
	"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "AfterFunc": true,
	"NewTimer": true, "NewTicker": true, "Tick": true,
}

// mayAskTime lists layer-6 code and the few places below that measure real time.
func mayAskTime(f *file) bool {
	l, _ := layerOf(f.pkg)
	return f.test || l == 6 || rel(f.pkg) == "internal/clock" || rel(f.pkg) == "connectors/conformance"
}

func TestOnlyTheClockAsksForTime(t *testing.T) {
	for _, f := range files(t) {
		if mayAskTime(&f) || f.imports()["time"] != "time" {
			continue
		}
		calls(&f, "time", func(name string, pos token.Pos) {
			if timeFuncs[name] {
				t.Errorf("%s:%d: time.%s; use a clock.Clock, so that tests own time", f.path, f.line(pos), name)
			}
		})
	}
}

func TestLibrariesDoNotPrint(t *testing.T) {
	for _, f := range files(t) {
		l, _ := layerOf(f.pkg)
		if f.test || l == 6 {
			continue
		}
		calls(&f, "fmt", func(name string, pos token.Pos) {
			if strings.HasPrefix(name, "Print") {
				t.Errorf("%s:%d: fmt.%s; log, or return a value", f.path, f.line(pos), name)
			}
		})
		calls(&f, "msgpack", func(name string, pos token.Pos) {
			if name == "Unmarshal" && rel(f.pkg) != "internal/codec" && rel(f.pkg) != "engine/checkpoint" {
				t.Errorf("%s:%d: msgpack.Unmarshal; decode through internal/codec, which validates first", f.path, f.line(pos))
			}
		})
	}
}

// calls visits the selections pkg.Name in a file.
func calls(f *file, pkg string, visit func(name string, pos token.Pos)) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && id.Name == pkg {
			visit(sel.Sel.Name, sel.Pos())
		}
		return true
	})
}

const (
	maxFileLines = 500
	maxFuncLines = 70
)

func TestSizes(t *testing.T) {
	for _, f := range files(t) {
		if f.test || f.generated() {
			continue
		}
		if n := strings.Count(string(f.src), "\n"); n > maxFileLines {
			t.Errorf("%s has %d lines; split it by role, at most %d", f.path, n, maxFileLines)
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				if n := f.line(fn.End()) - f.line(fn.Pos()); n > maxFuncLines {
					t.Errorf("%s:%d: %s has %d lines; at most %d", f.path, f.line(fn.Pos()), fn.Name.Name, n, maxFuncLines)
				}
			}
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range files(t) {
		if f.test {
			continue
		}
		documented[f.pkg] = documented[f.pkg] || f.ast.Doc != nil
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
	for _, f := range files(t) {
		if f.test || f.ast.Name.Name == "main" {
			continue
		}
		for _, d := range f.ast.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s:%d: %s has no doc comment", f.path, f.line(d.Pos()), name)
			}
		}
	}
}

// undocumented lists the exported names of a declaration that lack a comment.
func undocumented(d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
			return []string{d.Name.Name}
		}
	case *ast.GenDecl:
		var out []string
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
					out = append(out, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
						out = append(out, n.Name)
					}
				}
			}
		}
		return out
	}
	return nil
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

func TestEngineDeclaresNoTypeParameters(t *testing.T) {
	for _, f := range files(t) {
		if f.test || !strings.HasPrefix(rel(f.pkg), "engine") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Type.TypeParams != nil {
					t.Errorf("%s:%d: %s has type parameters; the engine is type-free", f.path, f.line(n.Pos()), n.Name.Name)
				}
			case *ast.TypeSpec:
				if n.TypeParams != nil {
					t.Errorf("%s:%d: %s has type parameters; the engine is type-free", f.path, f.line(n.Pos()), n.Name.Name)
				}
			}
			return true
		})
	}
}

func TestPackageNamesSaySomething(t *testing.T) {
	for _, f := range files(t) {
		switch f.ast.Name.Name {
		case "util", "utils", "common", "helper", "helpers", "misc":
			t.Errorf("%s: a package called %s says nothing", f.path, f.ast.Name.Name)
		}
	}
}
