// Package jetstream reads records from NATS JetStream streams and publishes
// records to them, exactly once or at least once.
//
// # Source
//
// A split is a stream and one subject filter; its offset is the sequence of the
// stream, and its identity the stream's creation time. Readers position
// themselves: they use short-lived pull consumers without acknowledgements, so the
// server stores nothing for them and a restart resumes at the engine's own offset.
// Lost records are an error, not a surprise: retention that passed the offset, a
// stream that was deleted and created again and a log that lost its end are
// detected when a split is opened and after each reconnect. See Stream.
//
// # Sink
//
// Publish stages records in lanes. The chunks of an epoch are written as atomic
// batches that end with a commit marker, whose write is conditional on the lane's
// previous marker: data and marker become visible together or not at all, and a
// zombie's batch is refused. No de-duplication window is involved. The stream must
// allow atomic batches, message TTLs and rollups; Ensure creates such a stream.
// With Immediate, records are published at once and at least once instead.
//
// # Left out
//
// Streams with work-queue or interest retention, mirrors of such streams,
// JetStream domains and account imports, and acknowledging messages on behalf of
// other consumers.
package jetstream

// Error codes of this package. The 04xx belong to sources, the 05xx to sinks and
// the 08xx to the connection.
const (
	// CodeGap: records after the stored position are gone.
	CodeGap = "WEIR-0410"
	// CodeIdentity: the stream was deleted and created again.
	CodeIdentity = "WEIR-0411"
	// CodeLostEnd: the stream ends before the stored position, or holds other
	// messages there.
	CodeLostEnd = "WEIR-0412"
	// CodeSource: the source cannot be read as configured.
	CodeSource = "WEIR-0413"
	// CodeFilter: the subject filter or the partitions do not fit the stream.
	CodeFilter = "WEIR-0414"
	// CodeStream: the stream does not allow what an exactly-once sink needs.
	CodeStream = "WEIR-0510"
	// CodeSubject: a message's subject does not belong to the stream.
	CodeSubject = "WEIR-0511"
	// CodePublish: the server refused a message or batch for good.
	CodePublish = "WEIR-0512"
	// CodeSink: the sink cannot write as configured.
	CodeSink = "WEIR-0513"
	// CodeNoConn: neither the job nor the connector names a NATS server.
	CodeNoConn = "WEIR-0810"
	// CodeDial: the connection to a NATS server failed.
	CodeDial = "WEIR-0811"
	// CodeAuth: the server refused the credentials, or they cannot be read.
	CodeAuth = "WEIR-0812"
	// CodeConfig: the connection configuration is wrong.
	CodeConfig = "WEIR-0813"
)
