// Package nab scores anomaly detectors by the Numenta Anomaly Benchmark, and runs
// Weir's own through it.
//
// The benchmark (Lavin and Ahmad, "Evaluating Real-Time Anomaly Detection
// Algorithms", 2015) is 58 series with 116 labelled windows. A detector gives each
// row a score; a row whose score reaches a threshold, one for all series, is a
// detection. The first detection in a window earns the more the earlier it is, one
// outside costs more the further it is behind the last window, and the first 15 %
// of a series, 750 rows at most, count for nothing. The threshold is the best one
// in hindsight, as in the benchmark's own scoreboard, but the sweep here tries
// every score there is, and so may find a slightly better one.
//
// Bench runs the detectors of package anomaly. They see one row after the other,
// know neither the length of a series nor its range, and have the same parameters
// for all series. The parameters were chosen on this corpus, as those of all
// entries on the scoreboard were: a score here compares detectors and is no
// promise of how well they do elsewhere.
package nab
