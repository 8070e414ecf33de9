// Package crash holds the named crash points of the exactly-once protocol: the
// instants at which a test kills, stalls or fails a process to see whether the
// promise still holds. A program that nobody armed pays one atomic load and a nil
// check for each point that it passes.
//
// Production code says where it is:
//
//	crash.At(crash.CoordBeforeClaim)
//	if err := crash.AtErr(crash.SnapMidPut); err != nil { return err }
//
// A test harness arms points through the environment (ArmFromEnv), a test in the
// same process through Arm. Nothing is armed by importing the package.
package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is what happens when an armed point is reached.
type Kind uint8

const (
	// Count only counts the hit.
	Count Kind = iota
	// Kill ends the process with SIGKILL: no deferred function runs, no buffer
	// of the process is flushed.
	Kill
	// Exit ends the process by os.Exit(ExitCode).
	Exit
	// Pause blocks the goroutine for Spec.Pause.
	Pause
	// Fail makes AtErr return an error that wraps ErrInjected. At cannot return
	// one and ignores it.
	Fail
	// Call calls Spec.Func on the goroutine that reached the point.
	Call
)

// ExitCode is the exit status of the action Exit.
const ExitCode = 86

// ErrInjected is the cause of every error that an armed point injects.
var ErrInjected = errors.New("injected by an armed crash point")

// Spec arms one point.
type Spec struct {
	Point Point
	// Hit is the hit, counted from 1 since arming, at which the action happens;
	// 0 means 1.
	Hit uint64
	// Every repeats the action at each later hit too.
	Every bool
	Kind  Kind
	// Pause is how long Kind Pause blocks.
	Pause time.Duration
	// Func is called by Kind Call, and may be called concurrently with Every.
	Func func()
}

// armed lists what is armed; nil while nothing is. It is process state by nature:
// a crash point stands for the death of the whole process. The list is immutable.
var armed atomic.Pointer[[]*arming]

// armMu serialises the changes of armed.
var armMu sync.Mutex

// arming is what one call of Arm or ArmFromEnv armed.
type arming struct {
	specs [numPoints][]Spec
	hits  [numPoints]atomic.Uint64
	log   *hitLog
}

// At reports that the code reached p.
func At(p Point) {
	if list := armed.Load(); list != nil {
		_ = reach(*list, p, false)
	}
}

// AtErr is At for code that can fail here: it returns an error that wraps
// ErrInjected when p is armed with Fail, and nil otherwise.
func AtErr(p Point) error {
	if list := armed.Load(); list != nil {
		return reach(*list, p, true)
	}
	return nil
}

// Arm arms points in this process, on top of what is armed already, and returns
// a function that disarms them again. Without specs it only counts hits.
func Arm(specs ...Spec) (disarm func()) { return arm(specs, nil) }

func arm(specs []Spec, log *hitLog) func() {
	a := &arming{log: log}
	for _, s := range specs {
		s.Hit = max(s.Hit, 1)
		a.specs[s.Point] = append(a.specs[s.Point], s)
	}
	change(func(list []*arming) []*arming { return append(list, a) })
	return func() {
		change(func(list []*arming) []*arming {
			return slices.DeleteFunc(list, func(o *arming) bool { return o == a })
		})
	}
}

// change replaces the list by f of a copy of it.
func change(f func([]*arming) []*arming) {
	armMu.Lock()
	defer armMu.Unlock()
	var list []*arming
	if old := armed.Load(); old != nil {
		list = slices.Clone(*old)
	}
	if list = f(list); len(list) == 0 {
		armed.Store(nil)
		return
	}
	armed.Store(&list)
}

// Hits returns how often each point was reached, by name, since the oldest
// arming that still stands. Points never reached are present with 0; the map is
// nil while nothing is armed. It feeds the report of what a test run covered.
func Hits() map[string]uint64 {
	list := armed.Load()
	if list == nil {
		return nil
	}
	hits := make(map[string]uint64, numPoints)
	for i := range table {
		hits[table[i].Name] = (*list)[0].hits[i].Load()
	}
	return hits
}

// reach counts a hit of p in every arming and performs the actions due.
func reach(list []*arming, p Point, canFail bool) error {
	var err error
	for _, a := range list {
		n := a.hits[p].Add(1)
		if n == 1 {
			a.log.seen(p)
		}
		for i := range a.specs[p] {
			s := &a.specs[p][i]
			if due := n == s.Hit || s.Every && n > s.Hit; !due || s.Kind == Fail && !canFail {
				continue
			}
			a.log.acting(p, n, s.Kind)
			if e := s.act(p, n); e != nil {
				err = e
			}
		}
	}
	return err
}

// act performs the action of a point that was reached for the n-th time.
func (s *Spec) act(p Point, n uint64) error {
	switch s.Kind {
	case Count:
	case Kill:
		die()
	case Exit:
		os.Exit(ExitCode)
	case Pause:
		// A context instead of a sleep: the real time is wanted here, also under a
		// virtual clock, and this package lies below the clock.
		ctx, cancel := context.WithTimeout(context.Background(), s.Pause)
		<-ctx.Done()
		cancel()
	case Fail:
		return fmt.Errorf("%w %s, hit %d", ErrInjected, p, n)
	case Call:
		s.Func()
	}
	return nil
}

// die ends the process as "kill -9" does, and never returns.
func die() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {} // the signal is on its way; nothing may happen after the point
}
