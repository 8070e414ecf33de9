package datadir_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/datadir"
)

// TestMain is, in a child process, the other holder of a directory: it holds it
// until its standard input ends.
func TestMain(m *testing.M) {
	dir := os.Getenv("DATADIR_TEST_HOLD")
	if dir == "" {
		os.Exit(m.Run())
	}
	if _, err := datadir.Open(dir); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// hold starts a process that holds dir and returns its ID and a function that
// kills it.
func hold(t *testing.T, dir string) (pid int, kill func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "DATADIR_TEST_HOLD="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "held\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	kill = func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	return cmd.Process.Pid, kill
}

func TestSecondProcessIsKeptOutUntilTheFirstIsKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	pid, kill := hold(t, dir)
	_, err := datadir.Open(dir)
	if base.CodeOf(err) != datadir.CodeLocked || !strings.Contains(err.Error(), "process "+strconv.Itoa(pid)+" ") {
		t.Fatalf("Open = %v, want %s naming process %d", err, datadir.CodeLocked, pid)
	}
	kill()
	d, err := datadir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSecondJobOfTheProcessIsKeptOut(t *testing.T) {
	dir := t.TempDir()
	d, err := datadir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Path("x", "y"); got != filepath.Join(dir, "x", "y") {
		t.Fatalf("Path = %s", got)
	}
	if _, err := datadir.Open(dir); base.CodeOf(err) != datadir.CodeLocked || !strings.Contains(err.Error(), "another job of this process") {
		t.Fatalf("Open = %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = datadir.Open(dir); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
}

func TestUnusableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := datadir.Open(filepath.Join(file, "sub")); base.CodeOf(err) != datadir.CodeDir {
		t.Fatalf("Open = %v, want %s", err, datadir.CodeDir)
	}
	dir := t.TempDir()
	if err := os.Symlink(file, filepath.Join(dir, "weir.lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := datadir.Open(dir); base.CodeOf(err) != datadir.CodeDir {
		t.Fatalf("Open through a link = %v, want %s", err, datadir.CodeDir)
	}
}
