package torture

import (
	"fmt"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/window"
)

// jobName is the name of every job of this package; data directories keep them
// apart.
const jobName = "torture"

// Partitions is the number of partitions of the input stream. With as many source
// subtasks every keyed task has more than one input to align.
const Partitions = 2

// lanes is the number of lanes of the sinks: for some as many as there usually are
// subtasks, so that they are fused with those, for others fewer.
var lanes = map[string]int{JobEcho: 2, JobCount: 2, JobNonce: 1, JobTimers: 2, JobTumbling: 2, JobLate: 1, JobSliding: 1}

// Streams names the two streams of a job. Their subjects begin with their names.
type Streams struct {
	In  string `json:"in"`
	Out string `json:"out"`
}

// specs describes the streams for jetstream.Ensure.
func (s Streams) specs() []jetstream.StreamSpec {
	return []jetstream.StreamSpec{
		{Name: s.In, Subjects: []string{s.In + ".*"}, Partitions: Partitions},
		{Name: s.Out, Subjects: []string{s.Out + ".*"}},
	}
}

// subject is where a record of the input goes: its key decides on the partition.
func (s Streams) subject(r *Record) string { return s.In + "." + r.Key }

// Job returns the job on these streams. With last above 0 its input ends after
// the message with that sequence.
func Job(s Streams, last uint64) weir.JobSpec {
	return weir.NewJob(jobName, func(j *weir.Job) {
		opts := []jetstream.SourceOption{jetstream.JSON(), jetstream.Partitions(Partitions)}
		if last > 0 {
			opts = append(opts, jetstream.UntilSequence(last))
		}
		in := weir.From(j, "in", jetstream.Stream[Record](s.In, opts...),
			weir.BoundedOutOfOrderness(Disorder, func(r Record) time.Time { return time.UnixMilli(r.At) }),
			weir.Parallelism(Partitions))
		byKey := weir.KeyBy(in, "by-key", func(r Record) string { return r.Key })
		echo(s, byKey)
		counted := weir.Process(byKey, JobCount, func() weir.KeyedProcess[string, Record, Output] { return &counter{} })
		toOut(s, counted, JobCount)
		guessed := weir.Process(byKey, JobNonce, func() weir.KeyedProcess[string, Record, Output] { return &guesser{} })
		toOut(s, guessed, JobNonce)
		timed := weir.Process(byKey, JobTimers, func() weir.KeyedProcess[string, Record, Output] { return &timekeeper{} })
		toOut(s, timed, JobTimers)
		windows(s, byKey)
	})
}

// toOut publishes results on a subject of their branch.
func toOut(s Streams, in weir.Stream[Output], branch string) {
	subject := s.Out + "." + branch
	weir.To(in, branch+"-out", jetstream.Publish(s.Out, func(Output) string { return subject }, jetstream.JSON(), jetstream.Lanes(lanes[branch])))
}

// echo is j1. Its stream is not keyed any more after the union, so its sink is a
// task of its own, behind one more exchange.
func echo(s Streams, in weir.KeyedStream[string, Record]) {
	shown := weir.Map(in.Stream, "show", func(r Record) Output {
		return Output{Job: JobEcho, Key: r.Key, ID: r.ID, Sum: r.Value}
	})
	odd := weir.Filter(shown, "odd", func(o Output) bool { return oddKey(o.Key) })
	even := weir.Filter(shown, "even", func(o Output) bool { return !oddKey(o.Key) })
	toOut(s, weir.Union(JobEcho, odd, even), JobEcho)
}

func oddKey(key string) bool { return key[len(key)-1]%2 == 1 }

// tally is the accumulator of the windows. IDs tells which records are in it.
type tally struct {
	Count, IDs uint64
	Sum        int64
}

type tallies struct{}

var _ weir.AggregateFunction[Record, tally, tally] = tallies{}

// Add takes a record in.
func (tallies) Add(a *tally, r Record) {
	a.Count++
	a.IDs += r.ID
	a.Sum += r.Value
}

// Merge folds src into dst.
func (tallies) Merge(dst, src *tally) {
	dst.Count += src.Count
	dst.IDs += src.IDs
	dst.Sum += src.Sum
}

// Result returns the tally itself.
func (tallies) Result(a *tally) tally { return *a }

// windows is j3.
func windows(s Streams, in weir.KeyedStream[string, Record]) {
	tooLate := weir.NewTag[Record]("late")
	tumbling := weir.Aggregate(in, JobTumbling, window.Tumbling(TumblingSize, window.AllowedLateness(Lateness)), tallies{}, weir.LateTo(tooLate))
	toOut(s, weir.Map(tumbling, "show-tumbling", show(JobTumbling)), JobTumbling)
	toOut(s, weir.Map(weir.SideOutput(tumbling, tooLate), "show-late", func(r Record) Output {
		return Output{Job: JobLate, Key: r.Key, ID: r.ID}
	}), JobLate)
	sliding := weir.Aggregate(in, JobSliding, window.Sliding(SlidingSize, SlidingEvery, window.AllowedLateness(Lateness)), tallies{})
	toOut(s, weir.Map(sliding, "show-sliding", show(JobSliding)), JobSliding)
}

func show(branch string) func(weir.Windowed[string, tally]) Output {
	return func(w weir.Windowed[string, tally]) Output {
		return Output{
			Job: branch, Key: w.Key, Count: w.Value.Count, Sum: w.Value.Sum, IDs: fmt.Sprint(w.Value.IDs),
			Start: w.Start.UnixMilli(), End: w.End.UnixMilli(),
		}
	}
}
