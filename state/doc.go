// Package state keeps the keyed state of subtasks.
//
// A Store serves a process; each keyed subtask has a Backend in it, which belongs
// to the subtask's goroutine and needs no locks. An operator declares a Group for
// each of its states and works on Tables, one for each namespace of a group.
// Value, List, Map and Timers are views on tables for user functions.
//
// # Tables
//
// A table is an open-addressing hash table outside the Go heap, without pointers
// for the garbage collector, cut into segments of up to 256 KiB that grow and split
// one at a time. An entry lies at the slot that the top bits of its hash name, or
// close behind, so a scan comes in the order of hashes. Keys of up to 24 bytes and
// fixed values of up to 64 lie in the slot, longer ones in an arena of the segment.
//
// # Barriers
//
// Each slot carries the stamp of the epoch in which it was changed last. The first
// change in an epoch sets a bit; Freeze makes the bits of the epoch the frozen
// ones, segment by segment when they are next looked at, and so takes a constant
// time. CopyTurn copies frozen entries into small buffers for the writer; an entry
// that is changed while it is frozen is copied first. A few slices of the hash
// range are copied completely in each epoch, which makes the object a base for
// them and lets older objects go: see docs/format/delta.md. This replaces the
// Pebble checkpoint that the design once named as the base, and merging files.
//
// # More state than memory
//
// When the budget is exceeded, segments are visited in turn. Entries not used since
// the last visit are written to a Pebble that serves as overflow only, without a
// log, emptied at each start, and then leave memory. A table that never spilled
// answers for absent keys by itself, one that did asks a Bloom filter first. An
// entry that is evicted before it was recorded for its epoch is recorded then.
//
// # Limits
//
// One goroutine writes the objects of all backends. Raw values are in the byte
// order of the machine, and objects are for little-endian ones. There is no
// read-only access to a backend from other goroutines: the engine serves reads on
// the owner's. A budget bounds tables, buffers and Pebble; what one batch adds may
// exceed it until the next call. Backends must be closed before their store.
package state
