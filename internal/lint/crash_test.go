package lint

import (
	"go/ast"
	"testing"

	"github.com/weirflow/weir/internal/crash"
)

// TestCrashPointsAreInTheCode compares the list of crash points with their uses:
// a point that is said to be wired must be passed to At or AtErr somewhere outside
// package crash, and one that is not must not be.
func TestCrashPointsAreInTheCode(t *testing.T) {
	used := map[string]bool{}
	constants := map[string]string{} // constant → name in the list
	for _, f := range files(t) {
		if f.test {
			continue
		}
		if rel(f.pkg) == "internal/crash" {
			collectConstants(&f, constants)
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if id, ok := sel.X.(*ast.Ident); ok && id.Name == "crash" {
					used[sel.Sel.Name] = true
				}
			}
			return true
		})
	}
	byName := map[string]string{}
	for c, name := range constants {
		byName[name] = c
	}
	for _, p := range crash.Points() {
		c, ok := byName[p.Name]
		switch {
		case !ok:
			t.Errorf("crash point %s has no constant", p.Name)
		case p.Wired && !used[c]:
			t.Errorf("crash point %s (%s) is listed as wired and is nowhere in the code", p.Name, c)
		case !p.Wired && used[c]:
			t.Errorf("crash point %s (%s) is in the code and is listed as not wired", p.Name, c)
		}
	}
}

// collectConstants reads the table of names: composite elements Constant: {Name: "…"}.
func collectConstants(f *file, out map[string]string) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		kv, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		key, ok := kv.Key.(*ast.Ident)
		lit, ok2 := kv.Value.(*ast.CompositeLit)
		if !ok || !ok2 {
			return true
		}
		for _, e := range lit.Elts {
			if f, ok := e.(*ast.KeyValueExpr); ok {
				if id, ok := f.Key.(*ast.Ident); ok && id.Name == "Name" {
					if s, ok := f.Value.(*ast.BasicLit); ok {
						out[key.Name] = s.Value[1 : len(s.Value)-1]
					}
				}
			}
		}
		return true
	})
}
