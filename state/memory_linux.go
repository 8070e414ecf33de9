package state

import "golang.org/x/sys/unix"

// mapMemory reserves zeroed memory outside the Go heap.
func mapMemory(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
}

// unmapMemory gives back what mapMemory returned.
func unmapMemory(m []byte) {
	_ = unix.Munmap(m) // it fails for an unmapped range only
}

// adviseHuge asks for huge pages, which hosts commonly grant on request only.
func adviseHuge(m []byte) {
	_ = unix.Madvise(m, unix.MADV_HUGEPAGE) // advice: smaller pages serve too
}

// dropPages gives the pages back; the memory stays reserved and reads as zero.
func dropPages(m []byte) {
	_ = unix.Madvise(m, unix.MADV_DONTNEED) // advice
}
