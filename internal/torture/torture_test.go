package torture_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/torture"
)

func TestMain(m *testing.M) {
	torture.Child()
	os.Exit(m.Run())
}

// writer hands lines to the log of a test.
type writer struct{ t *testing.T }

func (w writer) Write(b []byte) (int, error) {
	w.t.Logf("%s", b[:len(b)-1])
	return len(b), nil
}

// TestSmallStorm is a whole run with few kills.
func TestSmallStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for a quarter of a minute; run without -short")
	}
	res, err := torture.Run(context.Background(), torture.Config{
		Dir: t.TempDir() + "/storm", Seed: uint64(time.Now().UnixNano()), Kills: 3, Log: writer{t},
	})
	t.Log(res.Summary())
	if err != nil || !res.OK() {
		t.Fatalf("%v\n%s", err, res.Details())
	}
}
