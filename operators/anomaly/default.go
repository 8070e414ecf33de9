package anomaly

import "time"

// Default returns the declaration to begin with: values, and means of 30 values,
// far from what was usual over about the last 1,000, told once in 120 records.
// State: 290 bytes. On the Numenta Anomaly Benchmark it scores 57 (package
// internal/nab, standard profile).
func Default() Spec { return Rest{Records: 120, Of: usual()} }

func usual() Spec { return ZScore{Alpha: 0.001, Limit: 5.5, Mean: 30, Weight: 2} }

// Best returns the declaration that scores highest of all here on the Numenta
// Anomaly Benchmark, 61: Default, and a season of a week by the hour. It needs
// time stamps that mean something. State: 1.9 kB.
func Best() Spec {
	return Rest{Records: 120, Of: AnyOf{
		usual(),
		Seasonal{Period: 7 * 24 * time.Hour, Bins: 168, Level: 0.02, Limit: 7},
	}}
}
