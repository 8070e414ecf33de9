// Package journal keeps the results of calls of models on disk until a checkpoint
// covers them, so that a process that dies does not make the calls again.
//
// A Journal belongs to one subtask of one operator. A result is appended, and synced
// together with others, before it is emitted. The files of all subtasks of an operator
// lie in one directory, which outlives the working state; when the operator starts
// again, at any parallelism, each subtask reads all of them and keeps what belongs to
// its key hashes. The format is docs/format/journal.md.
//
// # What is kept for how long
//
// Every result has the number of the epoch under way when it arrived. The checkpoint
// of epoch n holds each record that had come by its barrier and not left: with its
// result if that had arrived. So results of epoch n and before are needed no more when
// epoch n is durable, and their files are deleted. A job that starts from epoch n reads
// the files of later epochs; what it finds waits for its record, which is either in the
// checkpoint or comes again from the source. It is copied to a file of its own, carry,
// which goes when all of it has been used and covered.
//
// # Failures
//
// A torn or damaged tail of a file is ignored: its calls are made again. A result that
// cannot be written, as when the disk is full, is emitted all the same and counted:
// output stays exactly-once, and what is lost is that a call may be repeated after a
// crash. Results larger than MaxRecord are not written.
//
// Files are not shipped to a remote store. After the loss of a machine the calls since
// the last durable epoch are made again.
package journal
