// Package storefront is `weir demo`: it runs the job of examples/storefront while
// it kills it again and again, and proves that what the job publishes is right.
//
// One process, the supervisor, has four children: a NATS server that survives the
// death of the job, the job, a generator of events with a log of its own, and an
// independent reader. The generator writes the play of package script; the reader,
// package proof, compares everything that the job makes visible with a model of
// the generator's log. Both know nothing of the engine.
//
// A child takes a line of JSON with its configuration from its standard input, and
// then commands. The end of its input means that the supervisor is gone, however
// that came about; the child then ends at once, so that none is left behind.
package storefront

import (
	"time"

	"github.com/weirflow/weir/internal/storefront/proof"
	"github.com/weirflow/weir/internal/storefront/script"
)

// Roles of the child processes.
const (
	roleNATS      = "nats"
	roleGenerator = "generator"
	roleJob       = "job"
	roleReader    = "reader"
)

// childConfig is the first line that a child reads.
type childConfig struct {
	URL    string        `json:"url,omitempty"`
	Dir    string        `json:"dir,omitempty"`
	Script script.Config `json:"script,omitzero"`
	// Events ends the play after so many of this session; 0: never.
	Events  uint64 `json:"events,omitempty"`
	Session string `json:"session,omitempty"`
	// Interval is that of checkpoints.
	Interval    time.Duration `json:"interval,omitempty"`
	Parallelism int           `json:"parallelism,omitempty"`
	AtLeastOnce bool          `json:"at_least_once,omitempty"`
	Reader      proof.Config  `json:"reader,omitzero"`
}

// command is any later line. One field is set.
type command struct {
	// Stop asks for an orderly end.
	Stop bool `json:"stop,omitempty"`
	proof.Command
}

// jobStarted is what the job's process says once it runs.
type jobStarted struct {
	Resumed bool `json:"resumed"`
}
