package anomaly

import (
	"fmt"
	"time"
)

// Seasonal declares a detector of values far from a forecast with a season, in
// standard deviations of the forecast's errors. The forecast is additive
// exponential smoothing of level, trend and season (Holt 1957; Winters 1960).
//
// The season has Bins parts, and a record belongs to one by its time: records may
// come at any rate, and gaps do no harm. A bin that has not been met has the
// season of the nearest bin before it that has. The trend is per record.
//
// It says nothing in the first Period and the Learn values after it.
//
// State: 60 bytes and 9 for each bin.
type Seasonal struct {
	// Period is the length of the season; 0 is a day. A period starts at a multiple
	// of Period since Monday, 5 January 1970, 00:00 UTC.
	Period time.Duration
	// Bins is the number of parts of a period; 0 is 24; at most 10,080.
	Bins int
	// Level, Trend and Season are the weights of a new value in each, from 0 to 1;
	// 0 is 0.05, 0.0001 and 0.2. Negative: it stays what it was at first.
	Level, Trend, Season float64
	// Alpha is the weight of a new error in their mean and variance; 0 is 0.002.
	Alpha float64
	// Limit is the number of standard deviations that is an alert; 0 is 5.
	Limit float64
	// Learn is the number of errors before they are judged; 0 is 30.
	Learn int
}

func (s Seasonal) build() (Detector, string, error) {
	s.Period, s.Bins, s.Limit = or(s.Period, 24*time.Hour), or(s.Bins, 24), or(s.Limit, 5)
	s.Level, s.Trend, s.Season, s.Alpha = or(s.Level, 0.05), or(s.Trend, 0.0001), or(s.Season, 0.2), or(s.Alpha, 0.002)
	s.Learn = or(s.Learn, defaultLearn)
	c := checks{spec: "Seasonal"}
	c.that(s.Bins > 0 && s.Bins <= 10_080, "Bins %d is not from 1 to 10,080", s.Bins)
	c.that(s.Period >= time.Duration(max(s.Bins, 1)), "Period %v cannot be cut into %d bins", s.Period, s.Bins)
	for _, w := range []float64{s.Level, s.Trend, s.Season, s.Alpha} {
		c.that(finite(w) && w <= 1, "weight %g is above 1", w)
	}
	c.that(finite(s.Limit) && s.Limit > 0, "Limit %g is not positive", s.Limit)
	c.that(s.Learn > 1 && s.Learn <= maxCount, "Learn %d is not above 1", s.Learn)
	if c.err != nil {
		return nil, "", c.err
	}
	return &seasonal{spec: s, season: make([]float64, s.Bins), met: make([]bool, s.Bins)},
		fmt.Sprintf("seasonal(%d,%d)", s.Period, s.Bins), nil
}

type seasonal struct {
	spec         Seasonal
	n            int
	first        int64 // time of the first record, in nanoseconds
	level, trend float64
	season       []float64
	met          []bool
	errors       moments
}

// monday is the first Monday after the epoch, in nanoseconds.
const monday = int64(4 * 24 * time.Hour)

// bin returns the part of the season that a time is in.
func (s *seasonal) bin(nanos int64) int {
	period := int64(s.spec.Period)
	in := (nanos - monday) % period
	if in < 0 {
		in += period
	}
	return int(float64(in) / float64(period) * float64(s.spec.Bins))
}

// at returns the season of a bin.
func (s *seasonal) at(bin int) float64 {
	for i := range s.spec.Bins {
		if b := (bin - i + s.spec.Bins) % s.spec.Bins; s.met[b] {
			return s.season[b]
		}
	}
	return 0
}

// Observe implements Detector.
func (s *seasonal) Observe(at time.Time, v float64) Result {
	nanos := at.UnixNano()
	b := s.bin(nanos)
	if s.n == 0 {
		s.first, s.level = nanos, v
	}
	if s.n < maxCount {
		s.n++
	}
	season := s.at(b)
	err := v - (s.level + s.trend + season)
	score := 0.0
	learning := nanos-s.first < int64(s.spec.Period)
	if !learning {
		score = ratio(s.errors.z(err, 0, s.spec.Learn), s.spec.Limit)
		s.errors.add(err, s.spec.Alpha)
	}
	// The error is shared out as Winters does, in the form of error correction.
	weight := max(s.spec.Level, 0)
	if learning {
		weight = max(weight, 1/float64(s.n)) // the level of the first period is its mean
	}
	s.level += s.trend + weight*err
	if !learning {
		s.trend += max(s.spec.Trend, 0) * err * weight
	}
	if s.met[b] {
		s.season[b] += max(s.spec.Season, 0) * (1 - weight) * err
	} else {
		s.season[b], s.met[b] = season+(1-weight)*err, true
	}
	return result(score, "seasonal")
}

// AppendState implements Detector.
func (s *seasonal) AppendState(b []byte) []byte {
	b = appendUint64(appendCount(b, s.n), uint64(s.first))
	b = s.errors.append(appendFloats(b, s.level, s.trend))
	for i, v := range s.season {
		if s.met[i] {
			b = appendFloat(append(b, 1), v)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

// LoadState implements Detector.
func (s *seasonal) LoadState(b []byte) error {
	d := decoder{b: b}
	s.n = d.count(maxCount)
	s.first = int64(d.uint64())
	d.floats(&s.level, &s.trend)
	s.errors.load(&d)
	for i := range s.season {
		s.season[i], s.met[i] = 0, d.byte() != 0
		if s.met[i] {
			s.season[i] = d.float()
		}
	}
	return d.end()
}
