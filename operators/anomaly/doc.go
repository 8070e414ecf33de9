// Package anomaly has detectors that learn what is normal for each key of a
// stream while it runs, and the operator that keeps one for each key.
//
// A detector is declared by a struct, a Spec:
//
//	anomaly.Rest{Records: 120, Of: anomaly.AnyOf{
//		anomaly.ZScore{Limit: 6, Mean: 20},
//		anomaly.Seasonal{Period: 7 * 24 * time.Hour, Bins: 168},
//	}}
//
// New makes the Detector of a declaration, and says what is wrong with it. Default
// and Best are declarations that do well on a public benchmark. weir.Anomalies runs
// a declaration in a job, by Process.
//
// # Detectors
//
//	ZScore        far from the mean, also the mean of the last few values
//	Robust        far from the median, by the median absolute deviation
//	Seasonal      far from a forecast by level, trend and season (Holt-Winters)
//	KNN           a run of values far from all seen before (KNN-CAD)
//	Forest        in a region where few were (half-space trees)
//	CUSUM         small shifts that last, in standard deviations
//	PageHinkley   shifts of the mean, in the unit of the values
//	ADWIN         changes of the mean, by an adaptive window
//	Rate          too many or too few events in an interval (Poisson)
//	Threshold     a fixed limit
//	AnyOf         any of several
//	Custom        one of the program's own
//
// and around them
//
//	Warmup        no alerts among the first records
//	Rest          quiet for some records after an alert
//	Range         the range that values can have
//	Consecutive   several alerts in a row for one
//	Feedback      verdicts on alerts move the limit
//
// A detector sees a value when it comes and knows nothing of later ones: it never
// needs the range or length of a series, unless Range declares the former. The
// score of a value is computed before the detector learns from it, except by those
// that judge the past as a whole (ADWIN, PageHinkley).
//
// # State
//
// AppendState writes the state of a detector; one that loads it goes on exactly as
// the first would have, to the last bit. A state is
//
//	byte     version of the encoding, 1
//	uint64   hash of what shapes the state: kinds, nesting, windows, not limits
//	…        the detector
//
// Integers of fixed size and floats are little-endian; counts are uvarints; a list
// is its count and its elements; moments are the count, mean and variance.
//
//	ZScore        moments of values, moments of short means, list of last values
//	Robust        list of last values
//	Seasonal      count, int64 first time, level, trend, moments of errors; for each
//	              bin a byte 1 and its season, or 0
//	KNN           count, list of values, list of distances, list of the factor
//	Forest        byte 0 and list of values, in the first window; after it byte 1,
//	              count, low, high, list of last values, moments of densities, and
//	              for each tree the counts of last and this window, where a 0 is
//	              followed by the number of further zeros
//	CUSUM         moments of values, rising and falling sum
//	PageHinkley   count, mean, rising sum, its minimum, falling sum, its maximum
//	ADWIN         count, count of levels; for each level the count of its buckets,
//	              and for each of them sum and squared deviations
//	Rate          count, byte of flags, int64 interval, mean, sum
//	Threshold     nothing
//	Range         the inner detector
//	Warmup, Rest, Consecutive   count, inner detector
//	Feedback      factor, inner detector
//	AnyOf         inner detectors
//
// where an inner detector is a uint32, its length, and its state. Between versions
// of a program a state is loaded if its shape is the same, and refused otherwise.
//
// # Limits
//
// A value is one number. Detectors over several numbers of a record, robust random
// cut forests and deep models are not here; state of one key is not merged with
// that of another.
package anomaly
