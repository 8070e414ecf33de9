package state

import (
	"github.com/cockroachdb/pebble/v2"
)

// Figures are what a store uses, and how its spill store does. All are zero but Memory
// until something was spilled.
type Figures struct {
	// Memory is what tables and copy buffers use outside the Go heap, in bytes.
	Memory int64
	// Disk is the size of the spill store's files, in bytes.
	Disk int64
	// L0Files are the files that the spill store has not sorted into its levels, Debt
	// the bytes that it is behind with its compactions.
	L0Files, Debt int64
	// CacheHits and CacheMisses count reads of blocks, of the cache and of files.
	CacheHits, CacheMisses int64
	// StallNanos is how long writes have waited for flushes and compactions; a wait
	// counts when it is over.
	StallNanos int64
}

// Figures reads the figures of the store; zero ones once it is closed.
func (s *Store) Figures() Figures {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return Figures{}
	}
	f := Figures{Memory: s.MemoryUsed()}
	s.disk.figures(&f)
	return f
}

func (d *disk) figures(f *Figures) {
	d.life.RLock()
	defer d.life.RUnlock()
	db := d.opened.Load()
	if db == nil {
		return
	}
	m := db.Metrics()
	f.Disk = int64(m.DiskSpaceUsage())
	f.L0Files = int64(m.Levels[0].TablesCount)
	f.Debt = int64(m.Compact.EstimatedDebt)
	f.CacheHits, f.CacheMisses = m.BlockCache.Hits, m.BlockCache.Misses
	f.StallNanos = d.stalled.Load()
}

// stalls measures how long writes wait.
func (d *disk) stalls(l *pebble.EventListener) {
	var since int64 // guarded by Pebble, which has one stall at a time
	l.WriteStallBegin = func(pebble.WriteStallBeginInfo) { since = d.mono() }
	l.WriteStallEnd = func() { d.stalled.Add(d.mono() - since) }
}
