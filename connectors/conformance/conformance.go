// Package conformance tests whether a connector keeps the contracts of package
// connectors. An author calls Source or Sink from a test of the connector with a
// factory that makes a fresh fixture; a connector is done when the suite passes.
//
//	func TestConformance(t *testing.T) {
//		conformance.Source(t, func(t testing.TB) conformance.SourceFixture[string] { … })
//	}
//
// Each check gets a fixture of its own. What a system cannot do — lose records,
// be created again, grow — is left nil in the fixture, and the checks that need it
// are skipped by name, so that the output says what was not checked.
package conformance

import (
	"testing"
	"time"
)

// defaultPatience bounds how long a check waits for something that must happen. It
// only turns a hang into a failure; no check passes because time went by.
const defaultPatience = 20 * time.Second

// check is one named demand on a fixture.
type check[F any] struct {
	name string
	run  func(t testing.TB, f F)
}

func run[F any](t *testing.T, factory func(testing.TB) F, checks []check[F]) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, factory(t)) })
	}
}
