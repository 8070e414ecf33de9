package operators

import (
	"encoding/binary"
	"fmt"

	"github.com/weirflow/weir/internal/base"
)

// progress says up to which watermark a window operator has fired: w, and for
// some ranges of key hashes a later one. Ranges differ only after a restore from
// subtasks whose watermarks differed at the barrier, until w has caught up with
// them. Without that memory a window that one of them had fired would fire twice.
type progress struct {
	w     base.Timestamp
	ahead []firedRange
}

type firedRange struct {
	base.HashRange
	w base.Timestamp
}

// of returns the watermark that holds for a key.
func (p *progress) of(hash uint64) base.Timestamp { return p.later(p.w, hash) }

// later returns what holds for a key when w is the watermark.
func (p *progress) later(w base.Timestamp, hash uint64) base.Timestamp {
	for i := range p.ahead {
		if p.ahead[i].Contains(hash) {
			w = max(w, p.ahead[i].w)
		}
	}
	return w
}

// firedBefore reports that, for a key, the window that ends at end had fired
// before the restore.
func (p *progress) firedBefore(hash uint64, end base.Timestamp) bool {
	for i := range p.ahead {
		if p.ahead[i].w >= end && p.ahead[i].Contains(hash) {
			return true
		}
	}
	return false
}

// reach moves the watermark up to w and forgets ranges that are no longer ahead.
func (p *progress) reach(w base.Timestamp) {
	p.w = max(p.w, w)
	n := 0
	for _, a := range p.ahead {
		if a.w > p.w {
			p.ahead[n] = a
			n++
		}
	}
	p.ahead = p.ahead[:n]
}

// progressLen is the length of one range in a snapshot: the lowest and highest
// hash and the watermark, little-endian.
const progressLen = 24

// snapshot appends the subtask's own range, then those ahead of it.
func (p *progress) snapshot(dst []byte, own base.HashRange) []byte {
	out := appendRange(dst, firedRange{own, p.w})
	for _, a := range p.ahead {
		out = appendRange(out, a)
	}
	return out
}

func appendRange(dst []byte, r firedRange) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, r.Lo)
	dst = binary.LittleEndian.AppendUint64(dst, r.Hi)
	return binary.LittleEndian.AppendUint64(dst, uint64(r.w))
}

// restore takes the snapshots of all former subtasks: the watermark is the least
// of those that had part of the range, and whoever was ahead of it is noted.
func (p *progress) restore(own base.HashRange, parts [][]byte) error {
	p.w, p.ahead = base.MaxTime, nil
	var all []firedRange
	for _, part := range parts {
		if len(part) == 0 || len(part)%progressLen != 0 {
			return fmt.Errorf("the snapshot of its progress has %d bytes", len(part))
		}
		for i := 0; i < len(part); i += progressLen {
			u := func(j int) uint64 { return binary.LittleEndian.Uint64(part[i+8*j:]) }
			r := firedRange{base.HashRange{Lo: u(0), Hi: u(1)}, int64(u(2))}
			if !r.Overlaps(own) {
				continue
			}
			r.Lo, r.Hi = max(r.Lo, own.Lo), min(r.Hi, own.Hi)
			if i == 0 {
				p.w = min(p.w, r.w)
			}
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		p.w = base.MinTime
	}
	p.ahead = all
	p.reach(p.w)
	return nil
}
