// Package window is the event-time arithmetic of Weir: which windows a record
// belongs to, how windows share slices, when a window fires and when a record is
// late, how sessions merge, how watermarks are made and combined, and how the
// result of a window is computed from its slices.
//
// Everything here is a pure function or a small state machine that is told the
// time: no goroutine, no clock, no input or output. Times are int64 nanoseconds
// (base.Timestamp), windows are half-open intervals.
//
// # Rules
//
// Watermark W says that no record with a time below W follows, late ones
// excepted. A tumbling or sliding window [s, e) fires at W >= e. A record is late
// when every window it belongs to has e + lateness <= W, and belongs to no window
// at all when it falls into a gap between windows (slide > size). A record that
// is not late but belongs to a window that has fired already causes that window
// to fire again with the record in it.
//
// A session covers the records of one key of which each is at most the gap away
// from the next; a distance of exactly the gap joins. Its window is
// [first, last + gap). Because a record at last + gap still joins, and may come
// while W = last + gap, a session is closed, and fires, at W >= last + gap + 1.
// With that rule the records that are not late form the same sessions in
// whatever order and batches they arrive.
//
// # Ends of the time axis
//
// Nothing wraps around. The start of a window saturates at base.MinTime. A
// window whose end would lie beyond base.MaxTime does not exist; a record that
// has only such windows belongs to no window.
package window
