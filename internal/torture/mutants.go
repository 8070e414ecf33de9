package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Mutant is a bug that can be planted in the engine, and the test that must find
// it.
type Mutant struct {
	// Name is short, with dashes; What says what goes wrong.
	Name, What string
	Edits      []Edit
	// Package and Run say which tests must fail: a package of this module and a
	// regular expression of names.
	Package, Run string
	// Args are further flags of go test.
	Args []string
	// Cells is a regular expression of cells of the crash matrix that must fail
	// too; "" for none.
	Cells string
}

// Edit replaces Old, which must be in File exactly once, by New.
type Edit struct{ File, Old, New string }

// apply returns the changed text of each file of a mutant. root is the directory
// of the module.
func (m *Mutant) apply(root string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, e := range m.Edits {
		path := filepath.Join(root, filepath.FromSlash(e.File))
		text, ok := out[path]
		if !ok {
			var err error
			if text, err = os.ReadFile(path); err != nil {
				return nil, fmt.Errorf("mutant %s: %w", m.Name, err)
			}
		}
		if n := bytes.Count(text, []byte(e.Old)); n != 1 {
			return nil, fmt.Errorf("mutant %s: %s has the text to be changed %d times, not once; adapt internal/torture/mutants_list.go to the new code:\n%s", m.Name, e.File, n, e.Old)
		}
		out[path] = bytes.Replace(text, []byte(e.Old), []byte(e.New), 1)
	}
	return out, nil
}

// Applicable returns the mutants whose edits no longer fit the source, joined.
func Applicable(root string) error {
	var errs []string
	for i := range Mutants {
		if _, err := Mutants[i].apply(root); err != nil {
			errs = append(errs, err.Error())
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(errs, "\n"))
}

// MutantsConfig says what RunMutants does.
type MutantsConfig struct {
	// Root is the directory of the module.
	Root string
	// Only limits the mutants by their names; all if empty.
	Only []string
	// Matrix also runs the cells of the crash matrix that must find a mutant.
	Matrix bool
	Log    io.Writer
}

// RunMutants plants one bug after another and says for how many the test that
// must find it did not fail. Before that, the tests must pass without any bug.
func RunMutants(ctx context.Context, cfg MutantsConfig) (missed int, err error) {
	if err := Applicable(cfg.Root); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "weir-mutants-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	r := &mutantRun{cfg: cfg, dir: dir}
	list := slices.DeleteFunc(slices.Clone(Mutants), func(m Mutant) bool {
		return len(cfg.Only) > 0 && !slices.Contains(cfg.Only, m.Name)
	})
	if err := r.sane(ctx, list); err != nil {
		return 0, err
	}
	for i := range list {
		found, err := r.plant(ctx, &list[i])
		if err != nil {
			return missed, err
		}
		if !found {
			missed++
		}
	}
	return missed, nil
}

type mutantRun struct {
	cfg MutantsConfig
	dir string
}

// sane runs all tests without a bug.
func (r *mutantRun) sane(ctx context.Context, list []Mutant) error {
	done := map[string]bool{}
	for i := range list {
		m := &list[i]
		what := fmt.Sprint(m.Package, m.Run, m.Args)
		if done[what] {
			continue
		}
		done[what] = true
		if out, err := r.goTest(ctx, m, ""); err != nil {
			return fmt.Errorf("without any bug, go test %s -run %q: %w\n%s", m.Package, m.Run, err, out)
		}
	}
	fmt.Fprintf(r.cfg.Log, "%d tests pass without a bug\n", len(done))
	return nil
}

// plant runs the test of one mutant.
func (r *mutantRun) plant(ctx context.Context, m *Mutant) (found bool, err error) {
	began := time.Now()
	overlay, err := r.overlay(m)
	if err != nil {
		return false, err
	}
	out, err := r.goTest(ctx, m, overlay)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")) {
		return false, fmt.Errorf("mutant %s does not compile:\n%s", m.Name, out)
	}
	found = err != nil
	where := "go test " + m.Package + " -run " + m.Run
	if found && r.cfg.Matrix && m.Cells != "" {
		where += ", crash matrix"
		if found, err = r.matrix(ctx, m, overlay); err != nil {
			return false, err
		}
	}
	verdict := "found by"
	if !found {
		verdict = "NOT FOUND by"
	}
	fmt.Fprintf(r.cfg.Log, "%6.1fs  %s: %s %s\n", time.Since(began).Seconds(), m.Name, verdict, where)
	return found, nil
}

// overlay writes the changed files and the list of them that go build takes.
func (r *mutantRun) overlay(m *Mutant) (string, error) {
	files, err := m.apply(r.cfg.Root)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for path, text := range files {
		to := filepath.Join(r.dir, m.Name+"-"+filepath.Base(path))
		if err := os.WriteFile(to, text, 0o600); err != nil {
			return "", err
		}
		replace[path] = to
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(r.dir, m.Name+".json")
	return list, os.WriteFile(list, b, 0o600)
}

// buildTags are those of every build of this module.
const buildTags = "pebblegozstd"

func (r *mutantRun) goTest(ctx context.Context, m *Mutant, overlay string) ([]byte, error) {
	args := []string{"test", "-tags", buildTags, "-count=1", "-failfast", "-timeout=120s"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	args = append(append(args, m.Args...), "-run", m.Run, m.Package)
	return r.command(ctx, "go", args...)
}

// matrix builds the crash matrix with the bug and runs its cells.
func (r *mutantRun) matrix(ctx context.Context, m *Mutant, overlay string) (found bool, err error) {
	bin := filepath.Join(r.dir, m.Name+".bin")
	if out, err := r.command(ctx, "go", "build", "-tags", buildTags, "-overlay", overlay, "-o", bin, "./internal/torture/cmd/crashmatrix"); err != nil {
		return false, fmt.Errorf("mutant %s: %w\n%s", m.Name, err, out)
	}
	_, err = r.command(ctx, bin, "-run", m.Cells)
	return err != nil, ctx.Err()
}

func (r *mutantRun) command(ctx context.Context, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = r.cfg.Root
	return c.CombinedOutput()
}
