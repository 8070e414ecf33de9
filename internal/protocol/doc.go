// Package protocol holds the decisions of exactly-once processing as pure step
// functions: barrier alignment, the checkpoint coordinator, the participant in
// each task, the commit of one sink lane, recovery and take-over. It also owns
// the canonical encoding of everything those decisions make durable (manifests,
// records, markers) and the control messages between coordinator and tasks.
//
// Nothing here starts a goroutine, reads a clock, touches a file or a socket, or
// iterates a map to produce output. A core is fed facts and answers with
// actions; the engine carries the actions out and feeds the results back. The
// same cores are driven by the explicit-state model in this package's tests, so
// what the model proves is what runs.
//
// Two conditional writes carry all safety:
//
//   - epochs/<n> is created only if absent (Coordinator: ClaimEpoch). A
//     checkpoint exists from that moment, and before it nothing is visible.
//   - a sink lane's records and its commit marker are published in one atomic
//     batch that expects the sequence of the preceding marker (Lane: Publish).
//
// Terms fence control messages, generations fence acks, commits and data
// connections; both give liveness and clean shutdown, not safety.
//
// Left out: garbage collection of objects and savepoints, which only read these
// formats, and the lease itself, which is liveness only.
package protocol
