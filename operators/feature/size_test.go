package feature_test

import (
	"slices"
	"testing"
	"time"

	"github.com/weirflow/weir/operators/feature"
)

// TestKeysStaySmall: a key keeps its records or has tiles, whichever is smaller.
func TestKeysStaySmall(t *testing.T) {
	eight := func() *feature.Group[txn] { return eightScalars(fiveHorizons...) }
	for name, c := range map[string]struct {
		group  *feature.Group[txn]
		n      int
		gap    time.Duration
		atMost int
	}{
		"seldom":                {eight(), 20, 8 * time.Hour, 480},
		"one":                   {eight(), 1, 0, 110},
		"a lifetime":            {feature.Set(feature.Count[txn]("n").Over(time.Minute, time.Hour).Lifetime()), 40, 24 * time.Hour, 140},
		"a burst":               {feature.Set(feature.Count[txn]("n").Over(24 * time.Hour)), 48, 20 * time.Millisecond, 140},
		"its records of a week": {eight(), 100, 4 * time.Hour, 1000},
		"seldom, of a few sec":  {feature.Set(feature.Sum("s", txnAmount).Over(10 * time.Second)), 60, time.Minute, 110},
	} {
		p, err := c.group.Compile()
		if err != nil {
			t.Fatal(err)
		}
		core, at := p.NewCore(), int64(1_700_000_000e9)
		var state []byte
		for i := range c.n {
			next, moved, err := core.Step(state, at, &txn{Amount: float64(i)})
			if err != nil {
				t.Fatal(err)
			}
			if moved {
				state = slices.Clone(next)
			}
			at += int64(c.gap)
		}
		t.Logf("%s: %d bytes", name, len(state))
		if len(state) > c.atMost {
			t.Errorf("%s: %d bytes after %d records %v apart, want at most %d", name, len(state), c.n, c.gap, c.atMost)
		}
	}
}
