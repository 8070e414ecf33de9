// Package feature computes rolling features: what the events of a key say over
// many horizons at once, at every event.
//
// A [Group] is a set of features over one key: each an aggregate (Count, Sum,
// Distinct, Percentile, …) of the records that pass its Where, over the horizons
// of its Over, or a plain function of the others ([Derive]). [Group.Compile] turns it into a [Program], and reports all mistakes
// of the declaration together. A [Core] runs a program on the state of one key, a
// byte string that it changes in place; [Node] is the operator that keeps these
// states in the state table of a subtask.
//
// # Time
//
// The clock of a key is the greatest event time it has seen. A vector describes
// its key at the key's clock, the record in hand included: a record moves the
// clock, and then the vector is read. A record that comes out of order moves no
// clock: it is added to the past where it belongs, and gets the vector of the
// clock. A record that counts in no feature does not make a key known, and a key
// that has been silent for its longest horizon is forgotten with its clock. Whether
// an event at the clock itself counts is the boundary rule of the group: by default
// only what happened strictly before the clock does, so neither the record in hand
// nor others of the same time; [Group.Including] counts them.
// In a group read at calendar boundaries, [Group.SnapshotEvery], the clock is the
// last boundary, and what happened after it does not count yet.
//
// # Horizons
//
// The window of a horizon W ends at the clock and begins at a tile: the head is
// exact, the tail is cut to whole tiles. Tiles are about W/24 long by default (see
// [Group.Tiles], [Group.Hops]); the window begins
//
//	(⌊clock/hop⌋ − ⌈W/hop⌉) · hop
//
// so it is never shorter than W, and longer by less than a hop, or two where the
// hop does not divide W. [Program.Horizons] states it. With [Feature.Exact] the
// window is W to the nanosecond, at the price of keeping every event time.
//
// # One store
//
// All horizons are served from one chain of tiles: an event is in the tile of its
// time, fine tiles become coarse ones as they leave a horizon, and the tiles of
// each horizon are nested in those of the next. For scalar aggregates there are two
// more forms: keys with few records keep these as they are, as long as that is
// smaller, and keys with many tiles get a ring for each horizon with the running
// aggregate of its window, where a record costs two merges a horizon whatever its
// length. See layout.go, raw.go and rings.go for the bytes.
//
// # Determinism
//
// A vector depends on nothing but the records of the key in the order in which
// they came: not on batches, watermarks, the wall clock, memory or restarts. Windows
// are summed anew from records or tiles when something leaves them, and nothing is ever
// subtracted, so a value that has left a horizon leaves no rounding error behind.
// Records of one key that come over several splits may come in another order in a
// replay; their tiles are the same then, but the vectors in between need not be.
// Results are bit-identical on one architecture; decayed sums use math.Exp2, which
// may differ in the last bit between architectures.
//
// # Limits
//
// The state of a key is bounded: see [Feature.Limit] for what it keeps of each
// feature, and what happens beyond. Numbers are float64; NaN and the infinities
// count as null, and a null value counts nowhere. Texts are cut to 4,096 bytes.
// Horizons end at the clock; there are no sessions, calendar months or windows
// that skip the most recent past.
package feature
