package weir

import (
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/operators"
)

// RetriesFrom makes the job read what is to be retried from a source of the caller's.
// It must begin with what comes after the job's first start. The command weir dlq does
// not know it.
func RetriesFrom(src connectors.Source[DeadLetterRetry]) DeadLetterOption {
	return deadLetterOption(func(q *deadQueue) { q.retries, q.follow = src, true })
}

// NoRetries leaves the retry stream out.
func NoRetries() DeadLetterOption {
	return deadLetterOption(func(q *deadQueue) { q.noRetries = true })
}

type deadLetterOption func(*deadQueue)

func (f deadLetterOption) dead(q *deadQueue) { f(q) }

// bindDeadQueue finds the sink and the retry stream: those that a test has bound, or
// else those of the job. A test that binds the sink alone has no retries.
func (j *Job) bindDeadQueue(q *deadQueue) {
	sink, bound := boundSink[DeadLetterRecord](j, q.name, q.where)
	if bound {
		q.sink, q.retries = sink, nil
	}
	if src, ok := boundSource[DeadLetterRetry](j, q.name+retrySuffix, q.where); ok {
		q.retries, q.follow = src, false
		return
	}
	if q.retries == nil && !bound && !q.noRetries {
		if t, ok := q.sink.Target.(interface{ Stream() string }); ok && t.Stream() != "" {
			q.retries, q.follow = retryStream(t.Stream(), q.sink.Target), true
		}
	}
}

// buildRetries adds the source of the retry stream and an input for each task with an
// operator whose dead letters can come back. The inputs carry no event time.
func (j *Job) buildRetries(q *deadQueue) {
	name := q.name + retrySuffix
	c := j.newChain(j.scope+name, 1)
	c.source = true
	uid := j.declare(c, name, "from", q.retries.Kind()+", dead letters to retry", q.where)
	checkBuild(j, q.where, "source "+uid, q.retries)
	uses := j.dead.uses
	letters := addDeadUse[DeadLetterRetry](j, deadUse{uid: uid, where: q.where, chain: c}, false)
	entries := newStream[DeadLetterRetry](j, c, uid, false)
	routed := map[*chain]Stream[DeadLetterRetry]{}
	for _, u := range uses {
		if u.source {
			continue
		}
		if _, ok := routed[u.chain]; !ok {
			out := newStream[DeadLetterRetry](j, c, uid, false)
			in := exchange(out, u.chain, uid, operators.Partition{Kind: operators.ByHash, Timeless: true}, q.where, nil)
			in.attach(operators.TakeRetries)
			routed[u.chain] = out
		}
	}
	entries.attach(func(s *operators.Subtask) operators.Consumer[DeadLetterRetry] {
		to := map[*chain]operators.Consumer[DeadLetterRetry]{}
		for _, u := range uses { // in the order of the outputs
			if out, ok := routed[u.chain]; ok && !u.source {
				if _, built := to[u.chain]; !built {
					to[u.chain] = out.bind(s)
				}
			}
		}
		routes, keyed := map[string]operators.Consumer[DeadLetterRetry]{}, map[string]bool{}
		for _, u := range uses {
			routes[u.uid], keyed[u.uid] = to[u.chain], u.keyed
			if u.source {
				routes[u.uid] = operators.Consumer[DeadLetterRetry]{}
			}
		}
		return operators.RouteRetries(s, uid, routes, keyed, letters)
	})
	spec := operators.RetrySource(uid, q.retries, q.follow)
	c.heads = append(c.heads, func(s *operators.Subtask) error {
		operators.SourceHead(s, spec, entries.bind(s))
		return nil
	})
}
