// Command weblogs is a bounded job over a real access log, 10,000 requests of four
// days whose lines are up to 59 seconds out of order: visits, hourly counts,
// statuses and paths by day, and bursts of 404.
//
//	go run ./examples/weblogs
//	go run ./examples/weblogs -log access.log.gz -dir data
//
// The job reads the log, packed as it is, and writes files of JSON lines, exactly
// once; the program then prints what is in them. With -dir everything stays there,
// and a run that was interrupted goes on where it stopped.
//
// A visit is the requests of one address as long as each comes at most half an
// hour after the one before, exactly half an hour included. A burst is a minute,
// beginning at a multiple of ten seconds, in which one address got 404 at least
// three times; bursts.py finds the same without the engine.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/file"
)

//go:embed testdata/apache_logs.gz
var sample []byte

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	log := flag.String("log", "", "access log, plain, .gz or .zst (default the one of the repository)")
	dir := flag.String("dir", "", "directory for the output and the checkpoints (default a temporary one)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	source, err := open(*log)
	if err != nil {
		return err
	}
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "weblogs-"); err != nil {
			return err
		}
		defer os.RemoveAll(*dir)
	}
	out := filepath.Join(*dir, "out")
	if err := weir.Run(ctx, job(source, out), weir.Options{DataDir: filepath.Join(*dir, "weir")}); err != nil {
		return err
	}
	if ctx.Err() != nil {
		fmt.Println("stopped with a final checkpoint; with -dir the next run goes on from there")
		return nil
	}
	o, err := readOutput(out)
	if err != nil {
		return err
	}
	o.print(os.Stdout)
	return nil
}

// open returns a source of the lines of a log, or of the sample.
func open(log string) (connectors.Source[string], error) {
	if log != "" {
		return file.Lines(log), nil
	}
	fs := vfs.NewMem()
	f, err := fs.Create("apache_logs.gz", vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(sample); err != nil {
		return nil, err
	}
	return file.Lines("apache_logs.gz", file.FS(fs)), f.Close()
}
