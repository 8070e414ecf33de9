package torture

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Times of the script and the job, in event time.
const (
	// Disorder is the bound of the job's watermark strategy. It is also how long a
	// partition may be silent, in real time, before the job goes on without it: long
	// against everything that the nemesis does, or records would become late by it.
	Disorder = time.Minute
	// Lateness is what the windows allow.
	Lateness = 2 * time.Minute
	// TumblingSize, SlidingSize and SlidingEvery are those of the windows, and
	// BucketSize that of j8's buckets.
	TumblingSize = 2 * time.Minute
	SlidingSize  = 3 * time.Minute
	SlidingEvery = 2 * time.Minute
	BucketSize   = 2 * time.Minute
	// LifeTime is the time to live of j8's state. It counts in the watermark, which
	// trails behind the records while the job catches up, so only much shorter and
	// much longer gaps are certain.
	LifeTime      = 40 * time.Minute
	surelyAlive   = 2 * time.Minute
	surelyExpired = 115 * time.Minute

	// shortVisit and longVisit are the gaps between the visits to a key.
	shortVisit = 36 * time.Second
	longVisit  = 2 * time.Hour
	// jitter is how far normal records lie behind the generator's time at most:
	// less than Disorder, so that none is late. That holds for each partition.
	jitter = 48 * time.Second
	// mildFrom and mildTo bound how far mild records lie behind.
	mildFrom, mildTo = 72 * time.Second, 156 * time.Second
	// lateFrom and lateTo bound how far late records lie behind.
	lateFrom, lateTo = 24 * time.Minute, 36 * time.Minute
	// flushAhead is how far ahead the last records are.
	flushAhead = 10 * time.Hour
)

// start is the event time at which scripts begin.
var start = time.Date(2024, 1, 1, 1, 0, 0, 0, time.UTC)

// Script makes the records of a run from a seed. Two scripts of one seed and step
// make the same records.
type Script struct {
	rng  *rand.Rand
	zipf *rand.Zipf
	step time.Duration
	big  int
	now  time.Time
	id   uint64
	seq  map[string]uint64
	// visits lists visits to come, in the order of their time.
	short, long []visit
	newVisits   int
}

type visit struct {
	at  time.Time
	key string
}

// NewScript returns a script in which event time moves by step from record to
// record, over about the given number of keys.
func NewScript(seed uint64, keys int, step time.Duration, big int) *Script {
	rng := rand.New(rand.NewPCG(seed, 0x7061737361676521))
	return &Script{
		rng: rng, zipf: rand.NewZipf(rng, 1.1, 8, uint64(keys-1)), step: step, big: big, now: start, seq: map[string]uint64{},
	}
}

// Next returns the next record.
func (s *Script) Next() Record {
	s.now = s.now.Add(s.step)
	if len(s.short) > 0 && !s.short[0].at.After(s.now) {
		v := s.short[0]
		s.short = s.short[1:]
		s.long = append(s.long, visit{s.now.Add(longVisit), v.key})
		return s.record(v.key, Visit, 0)
	}
	if len(s.long) > 0 && !s.long[0].at.After(s.now) {
		v := s.long[0]
		s.long = s.long[1:]
		return s.record(v.key, Visit, 0)
	}
	switch p := s.rng.IntN(1000); {
	case p < 10:
		s.newVisits++
		key := fmt.Sprintf("visit-%d", s.newVisits)
		s.short = append(s.short, visit{s.now.Add(shortVisit), key})
		return s.record(key, Visit, 0)
	case p < 15:
		return s.record(fmt.Sprintf("late-%d", s.id+1), Late, s.between(lateFrom, lateTo))
	case p < 65:
		return s.record(s.key(), Mild, s.between(mildFrom, mildTo))
	default:
		return s.record(s.key(), Normal, s.between(0, jitter))
	}
}

// key draws a key: one hot one, the others with falling frequency.
func (s *Script) key() string {
	if s.rng.IntN(10) == 0 {
		return "hot"
	}
	return fmt.Sprintf("k%d", s.zipf.Uint64())
}

func (s *Script) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(s.rng.Int64N(int64(hi-lo)))
}

func (s *Script) record(key string, c Class, behind time.Duration) Record {
	s.id++
	s.seq[key]++
	pad := s.rng.IntN(64)
	if s.rng.IntN(1000) < s.big {
		pad = largePad
	}
	return Record{
		ID: s.id, Key: key, Seq: s.seq[key], Class: c, At: s.now.Add(-behind).UnixMilli(),
		Value: s.rng.Int64N(2001) - 1000, Pad: pad, Fill: fill(s.id, pad),
	}
}

// largePad is the Pad of large records, in bytes: some hundreds of them do not fit
// into the memory of the job.
const largePad = 32 << 10

// flushKeys is how many records end a script: enough for every partition to get
// one.
const flushKeys = 32

// End returns the records that end the input.
func (s *Script) End() []Record {
	s.now = s.now.Add(flushAhead)
	out := make([]Record, 0, flushKeys)
	for i := range flushKeys {
		out = append(out, s.record(fmt.Sprintf("flush-%d", i), Flush, 0))
	}
	return out
}
