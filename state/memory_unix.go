//go:build unix && !linux

package state

import "golang.org/x/sys/unix"

// mapMemory reserves zeroed memory outside the Go heap.
func mapMemory(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// unmapMemory gives back what mapMemory returned.
func unmapMemory(m []byte) {
	_ = unix.Munmap(m) // it fails for an unmapped range only
}

func adviseHuge([]byte) {} // no such advice on these systems

func dropPages([]byte) {} // pages stay resident until the region is unmapped
