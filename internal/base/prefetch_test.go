package base

import (
	"testing"
	"unsafe"
)

// TestPrefetch: any address will do, and what is there stays.
func TestPrefetch(t *testing.T) {
	b := make([]byte, 300)
	for i := range b {
		b[i] = byte(i)
	}
	for n := range 300 {
		Prefetch(unsafe.Pointer(&b[n]), uintptr(300-n))
	}
	Prefetch(nil, 1<<12)
	for i := range b {
		if b[i] != byte(i) {
			t.Fatalf("byte %d is %d", i, b[i])
		}
	}
}
