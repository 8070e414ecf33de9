// Package state keeps the keyed state of subtasks.
//
// A Store serves a process; each keyed subtask has a Backend in it, which belongs
// to the subtask's goroutine and needs no locks. An operator declares a Group for
// each of its states and works on Tables, one for each namespace of a group:
// flat hash tables outside the Go heap whose entries lie in the order of their
// key hashes. Value, List, Map and Timers are views on tables for user functions.
package state
