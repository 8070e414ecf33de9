//go:build !amd64 && !arm64

package base

import "unsafe"

// Prefetch does nothing where there is no such instruction.
func Prefetch(unsafe.Pointer, uintptr) {}
