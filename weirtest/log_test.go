package weirtest_test

import (
	"log/slog"
	"os"
	"testing"

	"github.com/weirflow/weir/weirtest"
)

// logs shows the engine's logs under -v.
func logs() weirtest.Option {
	if !testing.Verbose() {
		return weirtest.Logger(nil)
	}
	return weirtest.Logger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
}
