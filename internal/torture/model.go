package torture

// Model is what must come out for the records of an input, computed by brute
// force from the input alone.
type Model struct {
	// records is indexed by ID-1; sums holds the sum of the values of a record's
	// key up to and with it, lasts the latest large record of the key before it.
	records []Record
	sums    []int64
	lasts   []uint64
	byKey   map[string][]uint64 // IDs in their order
	windows map[windowKey]tally
	buckets map[windowKey]tally
}

// windowKey names a window of a branch, or a bucket of j8.
type windowKey struct {
	job, key   string
	start, end int64
}

// NewModel computes the model of records in the order of their publication.
func NewModel(records []Record) *Model {
	m := &Model{records: records, byKey: map[string][]uint64{}, windows: map[windowKey]tally{}, buckets: map[windowKey]tally{}}
	sums, last := map[string]int64{}, map[string]uint64{}
	for i := range records {
		r := &records[i]
		sums[r.Key] += r.Value
		m.sums = append(m.sums, sums[r.Key])
		m.lasts = append(m.lasts, last[r.Key])
		if r.Pad >= bigPad {
			last[r.Key] = r.ID
		}
		m.byKey[r.Key] = append(m.byKey[r.Key], r.ID)
		switch r.Class {
		case Late, Flush: // may count or not, see Check
		default:
			m.add(JobTumbling, r, TumblingSize.Milliseconds(), TumblingSize.Milliseconds())
			m.add(JobSliding, r, SlidingSize.Milliseconds(), SlidingEvery.Milliseconds())
		}
		if r.Class == Normal {
			end := bucketEnd(r.At)
			addTo(m.buckets, windowKey{JobTimers, r.Key, end - BucketSize.Milliseconds(), end}, r)
		}
	}
	return m
}

func (m *Model) add(job string, r *Record, size, every int64) {
	for _, w := range windowsOf(job, r, size, every) {
		addTo(m.windows, w, r)
	}
}

// windowsOf lists the windows that a record belongs to, earliest first.
func windowsOf(job string, r *Record, size, every int64) []windowKey {
	var out []windowKey
	first := (r.At-size)/every*every + every
	for s := first; s <= r.At; s += every {
		out = append(out, windowKey{job, r.Key, s, s + size})
	}
	return out
}

func addTo(to map[windowKey]tally, w windowKey, r *Record) {
	t := to[w]
	tallies{}.Add(&t, *r)
	to[w] = t
}

// record returns the record of an ID, or nil.
func (m *Model) record(id uint64) *Record {
	if id == 0 || id > uint64(len(m.records)) {
		return nil
	}
	return &m.records[id-1]
}

// Totals returns what the state of j2 must be at the end, by key.
func (m *Model) Totals() map[string]Totals {
	out := make(map[string]Totals, len(m.byKey))
	for key, ids := range m.byKey {
		out[key] = Totals{Count: uint64(len(ids)), Sum: m.sums[ids[len(ids)-1]-1]}
	}
	return out
}
