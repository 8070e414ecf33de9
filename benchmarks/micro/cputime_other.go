//go:build !linux

package main

import "time"

var began = time.Now()

// threadNanos falls back to the wall clock, which also counts what other threads
// took.
func threadNanos() int64 { return time.Since(began).Nanoseconds() }
