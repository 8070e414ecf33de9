package protocol

import (
	"fmt"
	"math"

	"github.com/weirflow/weir/internal/base"
)

// Every stored record starts with two bytes: what it is, and the version of its
// form. They must not change, because stores outlive binaries; a new form gets a
// new version and the old decoder stays.
const (
	formTerm     = 'T'
	formGen      = 'G'
	formEpoch    = 'E'
	formFloor    = 'F'
	formMarker   = 'C'
	formManifest = 'M'

	version1 = 1
)

// encode runs body into a fresh record of the form.
func encode(form byte, limit int, body func(e *encoder)) ([]byte, error) {
	e := encoder{b: []byte{form, version1}}
	body(&e)
	if len(e.b) > limit {
		e.fail("record", len(e.b), limit)
	}
	if e.err != nil {
		return nil, fmt.Errorf("record %q: %w", form, e.err)
	}
	return e.b, nil
}

// decode checks form, version, size and that body consumes b entirely.
func decode(form byte, limit int, b []byte, body func(d *decoder)) error {
	d := decoder{b: b}
	switch {
	case len(b) > limit:
		d.fail("%d bytes, at most %d are allowed", len(b), limit)
	case len(b) < 2 || b[0] != form:
		d.fail("it does not start with %q", form)
	case b[1] != version1:
		d.fail("version %d is unknown; this binary knows %d", b[1], version1)
	}
	if d.err == nil {
		d.pos = 2
		body(&d)
	}
	if d.err == nil && d.pos != len(b) {
		d.fail("%d bytes follow the end", len(b)-d.pos)
	}
	if d.err != nil {
		return fmt.Errorf("record %q: %w", form, d.err)
	}
	return nil
}

// Encode returns the canonical form of the record.
func (r EpochRecord) Encode() ([]byte, error) {
	return encode(formEpoch, MaxRecord, func(e *encoder) {
		e.array(6, 6)
		e.str(r.Job, maxName)
		e.uint(uint64(r.Epoch))
		e.uint(uint64(r.Gen))
		e.uint(uint64(r.Attempt))
		e.sha(r.Manifest)
		e.sha(r.Prev)
	})
}

// DecodeEpochRecord reads what EpochRecord.Encode wrote.
func DecodeEpochRecord(b []byte) (r EpochRecord, err error) {
	err = decode(formEpoch, MaxRecord, b, func(d *decoder) {
		d.fields(6)
		r.Job = d.str(maxName)
		r.Epoch = base.Epoch(d.u64())
		r.Gen = base.Generation(d.u64())
		r.Attempt = Attempt(d.u64())
		r.Manifest = d.sha()
		r.Prev = d.sha()
	})
	return r, err
}

// Encode returns the canonical form of the record.
func (r TermRecord) Encode() ([]byte, error) {
	return encode(formTerm, MaxRecord, func(e *encoder) {
		e.array(3, 3)
		e.str(r.Job, maxName)
		e.uint(uint64(r.Term))
		e.str(r.Holder, maxName)
	})
}

// DecodeTermRecord reads what TermRecord.Encode wrote.
func DecodeTermRecord(b []byte) (r TermRecord, err error) {
	err = decode(formTerm, MaxRecord, b, func(d *decoder) {
		d.fields(3)
		r.Job = d.str(maxName)
		r.Term = base.Term(d.u64())
		r.Holder = d.str(maxName)
	})
	return r, err
}

// Encode returns the canonical form of the record.
func (r GenRecord) Encode() ([]byte, error) {
	return encode(formGen, MaxRecord, func(e *encoder) {
		e.array(6, 6)
		e.str(r.Job, maxName)
		e.uint(uint64(r.Gen))
		e.uint(uint64(r.Term))
		e.sha(r.PlanHash)
		e.uint(uint64(r.From))
		e.array(len(r.Tasks), MaxElems)
		for _, p := range r.Tasks {
			e.array(3, 3)
			e.task(p.Task)
			e.str(p.Worker, maxName)
			e.uint(uint64(p.Gen))
		}
	})
}

// DecodeGenRecord reads what GenRecord.Encode wrote.
func DecodeGenRecord(b []byte) (r GenRecord, err error) {
	err = decode(formGen, MaxRecord, b, func(d *decoder) {
		d.fields(6)
		r.Job = d.str(maxName)
		r.Gen = base.Generation(d.u64())
		r.Term = base.Term(d.u64())
		r.PlanHash = d.sha()
		r.From = base.Epoch(d.u64())
		r.Tasks = list(d, MaxElems, 6, func() Placement {
			d.fields(3)
			return Placement{d.task(), d.str(maxName), base.Generation(d.u64())}
		})
	})
	return r, err
}

// Encode returns the canonical form of the record.
func (r FloorRecord) Encode() ([]byte, error) {
	return encode(formFloor, MaxRecord, func(e *encoder) {
		e.array(2, 2)
		e.str(r.Job, maxName)
		e.uint(uint64(r.Floor))
	})
}

// DecodeFloorRecord reads what FloorRecord.Encode wrote.
func DecodeFloorRecord(b []byte) (r FloorRecord, err error) {
	err = decode(formFloor, MaxRecord, b, func(d *decoder) {
		d.fields(2)
		r.Job = d.str(maxName)
		r.Floor = base.Epoch(d.u64())
	})
	return r, err
}

// Encode returns the canonical form of the marker, the body of its message.
func (m Marker) Encode() ([]byte, error) {
	return encode(formMarker, MaxRecord, func(e *encoder) {
		e.array(9, 9)
		e.str(m.Job, maxName)
		e.lane(m.Lane)
		e.uint(uint64(m.Epoch))
		e.uint(uint64(m.Chunk))
		e.uint(uint64(m.Chunks))
		e.uint(uint64(m.Gen))
		e.sha(m.Manifest)
		e.uint(uint64(m.Count))
		e.uint(m.Total)
	})
}

// DecodeMarker reads what Marker.Encode wrote.
func DecodeMarker(b []byte) (m Marker, err error) {
	err = decode(formMarker, MaxRecord, b, func(d *decoder) {
		d.fields(9)
		m.Job = d.str(maxName)
		m.Lane = d.lane()
		m.Epoch = base.Epoch(d.u64())
		m.Chunk = uint32(d.uint(math.MaxUint32))
		m.Chunks = uint32(d.uint(math.MaxUint32))
		m.Gen = base.Generation(d.u64())
		m.Manifest = d.sha()
		m.Count = uint32(d.uint(math.MaxUint32))
		m.Total = d.u64()
		if d.err == nil && (m.Epoch == 0 || m.Chunk == 0 || m.Chunk > m.Chunks) {
			d.fail("chunk %d of %d of epoch %d does not exist", m.Chunk, m.Chunks, m.Epoch)
		}
	})
	return m, err
}

// list reads a list of elements of at least size encoded bytes each. An empty
// list reads as nil. It stops at the first error.
func list[T any](d *decoder, limit, size int, read func() T) []T {
	n := d.array(limit, size)
	if n == 0 {
		return nil
	}
	s := make([]T, 0, n)
	for range n {
		s = append(s, read())
		if d.err != nil {
			return nil
		}
	}
	return s
}
