package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/weirflow/weir"

// file is one parsed Go file of the module.
type file struct {
	path string // relative to the root, with slashes
	pkg  string // import path
	test bool
	ast  *ast.File
	fset *token.FileSet
	src  []byte
}

// root is the module's root, seen from this package's directory.
const root = "../.."

// files parses all Go files of the module, without nested modules and testdata.
func files(t *testing.T) []file {
	t.Helper()
	var out []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || nested(path)) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		pkg := module
		if dir := filepath.ToSlash(filepath.Dir(rel)); dir != "." {
			pkg += "/" + dir
		}
		out = append(out, file{path: rel, pkg: pkg, test: strings.HasSuffix(rel, "_test.go"), ast: f, fset: fset, src: src})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d files were found under %s", len(out), root)
	}
	return out
}

// nested reports whether a directory below the root is a module of its own.
func nested(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil && filepath.Clean(dir) != filepath.Clean(root)
}

// generated reports whether a file says that it is generated.
func (f *file) generated() bool { return ast.IsGenerated(f.ast) }

func (f *file) line(p token.Pos) int { return f.fset.Position(p).Line }

// imports returns the import paths of the file, keyed by the name used for them.
func (f *file) imports() map[string]string {
	out := map[string]string{}
	for _, im := range f.ast.Imports {
		path := strings.Trim(im.Path.Value, `"`)
		name := path[strings.LastIndexByte(path, '/')+1:]
		if im.Name != nil {
			name = im.Name.Name
		}
		out[name] = path
	}
	return out
}
