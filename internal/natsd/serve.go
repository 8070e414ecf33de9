package natsd

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Serve runs a server as the work of a whole process, usually a child: it starts
// the server, writes its URL as one line to out, and returns after a shutdown when
// ctx is done, SIGTERM or SIGINT arrives, or parent reaches its end. A parent
// process that keeps the other end of the pipe open thereby takes the child down
// with it, however it dies; parent may be nil.
func Serve(ctx context.Context, o Options, out io.Writer, parent io.Reader) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := Start(o)
	if err != nil {
		return err
	}
	defer s.Shutdown()
	if _, err := fmt.Fprintln(out, s.URL()); err != nil {
		return fmt.Errorf("write the URL: %w", err)
	}
	gone := make(chan struct{})
	if parent != nil {
		// The read ends with the process at the latest; nobody waits for it.
		go func() {
			_, _ = io.Copy(io.Discard, parent)
			close(gone)
		}()
	}
	select {
	case <-ctx.Done():
	case <-gone:
	}
	return nil
}
