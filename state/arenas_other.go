//go:build !cgo || !linux

package state

// limitArenas has nothing to do: without cgo Pebble's memory is the Go runtime's.
func limitArenas() {}
