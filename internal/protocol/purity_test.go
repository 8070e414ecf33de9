package protocol

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestPurity: the cores start no goroutine, use no channel, read no clock and do
// no I/O.
func TestPurity(t *testing.T) {
	allowed := map[string]bool{
		"crypto/sha256": true, "encoding/binary": true, "encoding/hex": true, "errors": true, "fmt": true, "math": true,
		"slices": true, "strconv": true, "strings": true, "github.com/weirflow/weir/internal/base": true,
	}
	names, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, n := range names {
		if !strings.HasSuffix(n.Name(), ".go") || strings.HasSuffix(n.Name(), "_test.go") {
			continue
		}
		checked++
		f, err := parser.ParseFile(token.NewFileSet(), n.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			if p, _ := strconv.Unquote(imp.Path.Value); !allowed[p] {
				t.Errorf("%s imports %s", n.Name(), p)
			}
		}
		ast.Inspect(f, func(x ast.Node) bool {
			switch x.(type) {
			case *ast.GoStmt, *ast.ChanType, *ast.SelectStmt, *ast.SendStmt:
				t.Errorf("%s: %T", n.Name(), x)
			}
			return true
		})
	}
	if checked < 10 {
		t.Fatalf("only %d files were checked", checked)
	}
}
