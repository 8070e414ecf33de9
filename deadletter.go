package weir

import (
	"fmt"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
)

// DeadLetterRecord is a record that an operator with the policy DeadLetter refused:
// what it was, where it came from, why it was refused. See docs/format/dead-letters.md.
type DeadLetterRecord = operators.DeadLetter

// DeadLetterRetry is an entry of a job's retry stream: a dead letter that is to go back
// into its operator, or that was dropped. The command weir dlq writes them.
type DeadLetterRetry = operators.Retry

// RetryOf returns the entry that sends a dead letter back into its operator.
func RetryOf(d DeadLetterRecord) DeadLetterRetry {
	d.Stack = ""
	return DeadLetterRetry{Version: operators.DeadLetterVersion, ID: d.ID, Action: operators.RetryAction, Letter: d}
}

// deadLetters is what a job under construction has of dead letters.
type deadLetters struct {
	// uses are the operators with the policy, in the order of their declaration.
	uses []deadUse
	// queue is what DeadLetters declared; nil for none.
	queue *deadQueue
	info  operators.JobInfo
}

// deadUse is an operator whose policy is to send dead letters.
type deadUse struct {
	uid, where string
	chain      *chain
	keyed      bool
	source     bool
	out        Stream[DeadLetterRecord]
}

// deadQueue is where the dead letters of a job go.
type deadQueue struct {
	name, scope, where string
	sink               connectors.Sink[DeadLetterRecord]
	sinkOptions        []SinkOption
	// retries is the retry stream; nil for none. follow makes it end with the job's
	// sources.
	retries   connectors.Source[DeadLetterRetry]
	follow    bool
	noRetries bool
}

// retrySuffix makes the name of the source of the retry stream.
const retrySuffix = "-retries"

// DeadLetterOption is an option of DeadLetters.
type DeadLetterOption interface{ dead(*deadQueue) }

func (requireOption) dead(q *deadQueue) { q.sinkOptions = append(q.sinkOptions, requireOption{}) }

// DeadLetters sends all dead letters of the job to a sink: the records that operators
// with the option OnError(DeadLetter) refuse. The sink is one like any other, with the
// guarantee that it has: an exactly-once sink shows every dead letter once, whatever
// fails. A letter that is larger than the sink takes is cut.
//
//	clicks := weir.From(j, "clicks", source, watermarks, weir.OnError(weir.DeadLetter))
//	parsed := weir.TryMap(clicks, "parse", parse, weir.OnError(weir.DeadLetter))
//	weir.DeadLetters(j, "dead-letters", weir.DeadLetterStream("DEAD"))
//
// Where the sink is a JetStream stream, records can be sent back, by the command weir
// dlq retry: it writes to the stream NAME-RETRY, which a source of the job reads (called
// like the dead letters with "-retries" behind it; it appears in plans and metrics). A
// record that comes back enters the operator that refused it, and no other, with the
// event time, the origin and the headers that it had. Windows find it late where event
// time has passed it. If it is refused again, it is a dead letter with the next number
// of attempt. RetriesFrom names another retry stream.
//
// It may stand before or after the operators, once in a job.
func DeadLetters(j *Job, name string, sink connectors.Sink[DeadLetterRecord], opts ...DeadLetterOption) {
	where := caller(1)
	if q := j.dead.queue; q != nil {
		j.fail(where, "WEIR-0141", "the job has two places for its dead letters", "the other is at "+q.where+"; keep one of them")
		return
	}
	q := &deadQueue{name: name, scope: j.scope, where: where, sink: sink}
	for _, o := range opts {
		o.dead(q)
	}
	j.dead.queue = q
}

// lettersOf gives an operator declared in chain c what it needs to make dead letters,
// if that is its policy.
func lettersOf[T any](j *Job, c *chain, where, uid string, keyed bool, policy Policy) operators.Letters[T] {
	if policy != DeadLetter {
		return operators.Letters[T]{}
	}
	return addDeadUse[T](j, deadUse{uid: uid, where: where, chain: c, keyed: keyed}, true)
}

// sourceLetters is lettersOf for a source; typed says that it needs letters of records
// that are decoded, too. Where it does not, those for which its function of the event
// time panics are in letters if their type allows, and stop the job otherwise.
func sourceLetters[T any](j *Job, c *chain, where, uid string, typed bool) operators.Letters[T] {
	l := addDeadUse[T](j, deadUse{uid: uid, where: where, chain: c, source: true}, typed)
	if !typed {
		l.Codec, _ = codec.For[T]()
	}
	return l
}

func addDeadUse[T any](j *Job, use deadUse, typed bool) operators.Letters[T] {
	use.out = newStream[DeadLetterRecord](j, use.chain, use.uid, use.keyed)
	j.dead.uses = append(j.dead.uses, use)
	l := operators.Letters[T]{Out: use.out.bind, Job: &j.dead.info}
	if !typed {
		return l
	}
	var err error
	if l.Codec, err = codec.For[T](); err != nil {
		j.fail(use.where, "WEIR-0107", fmt.Sprintf("operator %s: records of type %T cannot be kept as dead letters: %v", use.uid, *new(T), err),
			"use exported fields of encodable types, or give the type msgpack methods")
	}
	return l
}

// buildDeadLetters adds, once all operators are declared, the task that takes their
// dead letters.
func (j *Job) buildDeadLetters() {
	d, q := &j.dead, j.dead.queue
	if q == nil {
		for _, u := range d.uses {
			j.fail(u.where, "WEIR-0140", fmt.Sprintf("operator %s sends the records that it refuses to the dead letters, and the job has no place for them", u.uid),
				`add weir.DeadLetters(j, "dead-letters", sink), with a sink such as weir.DeadLetterStream("DEAD")`)
		}
		return
	}
	if len(d.uses) == 0 {
		j.fail(q.where, "WEIR-0142", "the job has a place for dead letters, and no operator that sends any",
			"give operators the option OnError(DeadLetter), or leave DeadLetters out")
		return
	}
	d.info.Version = jobVersion()
	scope := j.scope
	j.scope = q.scope
	defer func() { j.scope = scope }()
	j.bindDeadQueue(q)
	if q.retries != nil {
		j.buildRetries(q)
	}
	j.buildDeadSink(q)
}

// buildDeadSink adds the sink of the dead letters, and what brings them there.
func (j *Job) buildDeadSink(q *deadQueue) {
	uid := j.scope + q.name
	// One subtask is enough for what should be rare, and needs no exchange by lane.
	c := j.newChain(uid, 1)
	all := newStream[DeadLetterRecord](j, c, uid, false)
	once := onePerSubtask(all.bind)
	inputs := make([]string, 0, len(j.dead.uses))
	for _, u := range j.dead.uses {
		in := exchange(u.out, c, uid, operators.Partition{Kind: operators.Forward, Timeless: true}, q.where, nil)
		in.attach(once)
		inputs = append(inputs, u.uid)
	}
	fitted := newStream[DeadLetterRecord](j, c, uid, false)
	all.attach(func(s *operators.Subtask) operators.Consumer[DeadLetterRecord] {
		return operators.FitLetters(s, uid, q.sink, fitted.bind(s))
	})
	toSink(fitted, q.name, q.where, q.sink, q.sinkOptions)
	if op := j.operatorOf(uid); op != nil {
		op.Inputs = inputs
	}
}

// onePerSubtask makes what several heads of a subtask hand on to one and the same.
func onePerSubtask[T any](bind operators.Bind[T]) operators.Bind[T] {
	var last *operators.Subtask
	var built operators.Consumer[T]
	return func(s *operators.Subtask) operators.Consumer[T] {
		if s != last {
			last, built = s, bind(s)
		}
		return built
	}
}
