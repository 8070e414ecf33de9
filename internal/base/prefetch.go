//go:build amd64 || arm64

package base

import "unsafe"

// Prefetch asks the processor for the cache lines of n > 0 bytes from p on, and does
// not wait. The address need not be mapped.
//
//go:noescape
func Prefetch(p unsafe.Pointer, n uintptr)
