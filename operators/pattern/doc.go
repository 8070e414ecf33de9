// Package pattern recognises sequences of events per key.
//
// A Pattern is a sequence of stages, built by Begin, Next, FollowedBy and their
// kin or read from its data form by Parse, and compiled by Compile into a Program:
// a non-deterministic automaton in which a partial match is a run. A Matcher steps
// the runs of a Key; it is pure: no clock, no goroutine, no I/O. Detect joins it to
// a keyed stream.
//
// # Semantics
//
// Events of a key are taken in the order of their timestamps, then, where a tie
// break is given, by that, then as they came. A run accepts (TAKE), drops (IGNORE)
// or looks at an event again in the next node (PROCEED). Next means the very next
// event; FollowedBy drops events that do not fit; FollowedByAny may drop those that
// do as well. The same rule holds between the events of one stage: Consecutive,
// relaxed (the default), AllowCombinations. A window is half open: an event exactly
// Within after the first one is outside, and finds the run gone. Time is advanced
// to an event's timestamp before the event is taken, so what a window completes or
// ends comes before what the event completes.
//
// An iterative condition and a declared aggregate see the events that the run has
// accepted, never the event in hand.
//
// # Two modes
//
// FlinkCompat reproduces Apache Flink's CEP library, the order of matches
// included. Without it, these corners differ:
//
//   - A gap of a loop or of Times limits the time between successive events of the
//     stage: all of them, not all but the last, and not the wait for the first. A
//     loop whose gap has passed can still be left.
//   - WithinPrevious holds on stages with a quantifier too, for every event of the
//     stage, and for an optional stage until it is decided; when it has passed the
//     stage can still be skipped. On groups and on a NotFollowedBy that is not last
//     it is refused.
//   - A pattern has one window, the smallest that is declared on any of its stages,
//     in front of a trailing NotFollowedBy too. Inside groups windows are refused.
//   - A trailing NotFollowedBy after a loop completes all runs of the window, also
//     the one whose last event was taken by the loop and followed by nothing.
//   - Windows of starts at or before 1970 have timers, and so have windows between
//     neighbours.
//   - The first stage of a group keeps its own contiguity between its events.
//   - Optional holds when it is said before the quantifier as well.
//
// These corners are kept in both modes: an event that fits a NOT and the last stage
// at once gives a match, while with any other stage after the NOT it ends the run; an
// event that fits a loop and its Until, while the first event of the loop is awaited
// after FollowedBy, ends the run; a NOT behind which only optional stages stand in its
// group looks at one event when they are left out, the one with which the run leaves
// the group, and a NOT behind Times at the head of an optional group looks at one
// event between two of them; greedy also forbids the following stage to
// drop an event that fits the greedy one (so a greedy range dies on one event too
// many); greedy has no effect on the last stage; a trailing NotNext is completed by
// the next event, never by time; a loop left open after a match is reported as
// timed out (OnlyUnmatched turns that off); and with a skip strategy a match waits
// while a run that began earlier is open (Warnings says so when no window bounds
// the wait). Among runs with one start, each stands in the
// place of the one it grew from; in FlinkCompat the order is that of Flink's heap.
//
// In both modes Compile refuses what makes Flink loop for ever or fail: a group
// that can be empty inside a loop, a NOT that can be reached before any event was
// accepted, a NOT before an optional greedy loop with Until.
//
// # Many patterns
//
// Patterns of a Set that begin with the same plain stages keep the runs in these stages
// once, and an event is only shown to the patterns of a key that it can do anything in:
// both by the Equal conditions that the patterns ask. A pattern whose first or next stage
// asks something else, or whose next stage is Next, is shown all events. Patterns share
// without a skip strategy, WithinPrevious or aggregates.
//
// Where nobody takes timeouts and nothing waits for the end of a window, one timer
// serves for many ends: runs whose window is over may stay, and be counted as active,
// for an eighth of the smallest window longer if their key gets no event.
//
// # State
//
// The state of a key is one blob (see Matcher.Append), empty when no run is open. Runs
// share their paths by parent pointers, in memory and in the blob. Limits bound what
// a key may hold; Overflow says what goes when it holds more, and it is counted.
package pattern
