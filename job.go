// Package weir is a stateful stream processor for real-time features and
// decisions, used as a library: a job is an ordinary Go program that builds a
// graph of typed streams from functions and runs it exactly once.
//
//	func build(j *weir.Job) {
//		clicks := weir.From(j, "clicks", jetstream.Stream[Click]("CLICKS", jetstream.JSON()),
//			weir.BoundedOutOfOrderness(5*time.Second, func(c Click) time.Time { return c.At }))
//		byUser := weir.KeyBy(clicks, "by-user", func(c Click) string { return c.User })
//		counts := weir.Aggregate(byUser, "per-minute", window.Tumbling(time.Minute), weir.Count[Click]())
//		weir.To(counts, "counts", jetstream.Publish("COUNTS", func(c weir.Windowed[string, int64]) string { return "counts." + c.Key }))
//	}
//
//	func main() { weir.Main(weir.NewJob("storefront", build)) }
//
// The name of an operator is its identity: its state, its metrics and its errors
// go by it, wherever it stands in the graph. Builders return no errors and never
// panic; mistakes are collected with file and line and reported together by
// Compile. Build functions must be pure: they run again in every process.
package weir

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/engine"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
)

// Error is what Weir tells a user: a stable code, what, where, why and what next.
type Error = base.Error

// JobSpec is a named job: a name and the function that builds it.
type JobSpec struct {
	name    string
	build   func(*Job)
	streams []jetstream.StreamSpec
}

// NewJob names a job. The name, 1 to 64 characters of a-z, 0-9 and -, is its
// identity in the checkpoint store.
func NewJob(name string, build func(*Job)) JobSpec { return JobSpec{name: name, build: build} }

// Name returns the job's name.
func (s JobSpec) Name() string { return s.name }

// Job is a graph under construction. It is used by one goroutine.
type Job struct {
	name     string
	opts     compileOptions
	tasks    []*chain
	edges    []engine.Edge
	ops      []engine.Operator
	sinks    []operators.LaneSink
	places   map[string]string // operator name → where it was declared
	errs     []error
	scope    string
	consumed map[string]bool
	sides    map[string]map[string]any // side outputs: operator → tag → Stream
	// explained holds the patterns of the job in the order of their declaration,
	// vectors the feature vectors.
	explained []explained
	vectors   []vectorSchema
	dead      deadLetters
}

// chain is a task under construction: fused operators from one head on.
type chain struct {
	index       int
	uid         string
	parallelism int
	source      bool
	keyed       bool
	in, out     []int
	// heads builds the chain of one subtask, one head after another.
	heads []func(*operators.Subtask) error
}

type compileOptions struct {
	parallelism int
	bindings    *Bindings
}

// CompileOption changes how a job is compiled.
type CompileOption func(*compileOptions)

// WithParallelism sets the default parallelism of keyed operators; 1 if not set.
func WithParallelism(n int) CompileOption {
	return func(o *compileOptions) { o.parallelism = n }
}

// WithBindings replaces sources and sinks by name; used by package weirtest.
func WithBindings(b *Bindings) CompileOption {
	return func(o *compileOptions) { o.bindings = b }
}

// MaxParallelism bounds the number of subtasks of an operator.
const MaxParallelism = 1024

// Compile builds the job's plan. Its error joins all mistakes in the job, each
// an *Error with the file and line of the call.
func Compile(spec JobSpec, opts ...CompileOption) (*engine.Plan, error) {
	j, err := compile(spec, opts...)
	if err != nil {
		return nil, err
	}
	return j.plan(), nil
}

func compile(spec JobSpec, opts ...CompileOption) (*Job, error) {
	j := &Job{name: spec.name, places: map[string]string{}, consumed: map[string]bool{}}
	j.opts.parallelism = 1
	for _, o := range opts {
		o(&j.opts)
	}
	if err := base.CheckUID(spec.name); err != nil {
		return nil, &base.Error{Code: "WEIR-0101", What: "the job has no proper name", Cause: err}
	}
	if p := j.opts.parallelism; p < 1 || p > MaxParallelism {
		return nil, &base.Error{
			Code: "WEIR-0102", What: fmt.Sprintf("the parallelism is %d", p),
			Next: fmt.Sprintf("use 1 to %d", MaxParallelism),
		}
	}
	spec.build(j)
	j.buildDeadLetters()
	j.finish()
	if len(j.errs) > 0 {
		return nil, errors.Join(j.errs...)
	}
	return j, nil
}

// finish checks what only the whole graph shows.
func (j *Job) finish() {
	if len(j.ops) == 0 && len(j.errs) == 0 {
		j.fail("", "WEIR-0103", "the job has no operators", "start with weir.From and end with weir.To")
	}
	for _, b := range j.opts.bindings.unused(j.places) {
		j.fail("", "WEIR-0104", fmt.Sprintf("a source or sink is bound to %q, which the job does not have", b), "check the name")
	}
}

func (j *Job) plan() *engine.Plan {
	p := &engine.Plan{Job: j.name, Edges: j.edges, Operators: j.ops, Sinks: j.sinks}
	for _, c := range j.tasks {
		heads := c.heads
		p.Tasks = append(p.Tasks, engine.Task{
			UID: c.uid, Parallelism: c.parallelism, Source: c.source, Keyed: c.keyed, In: c.in, Out: c.out,
			Build: func(s *operators.Subtask) error {
				for _, h := range heads {
					if err := h(s); err != nil {
						return err
					}
				}
				return nil
			},
		})
	}
	j.dead.info.Plan = fmt.Sprintf("%016x", p.Hash())
	return p
}

// fail records a mistake.
func (j *Job) fail(where, code, what, next string) {
	j.errs = append(j.errs, &base.Error{Code: code, What: what, Where: where, Next: next})
}

// failWith records the mistakes that a package found in what it was given, each an
// Error; the place of the call goes in front of where they are.
func (j *Job) failWith(where string, err error) {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range all.Unwrap() {
			j.failWith(where, e)
		}
		return
	}
	e := &base.Error{Code: "WEIR-0126", What: "the operator cannot be built", Cause: err}
	if found := (*base.Error)(nil); errors.As(err, &found) {
		*e = *found
	}
	if e.Where != "" {
		where += ", " + e.Where
	}
	e.Where = where
	j.errs = append(j.errs, e)
}

// declare registers an operator and returns its full name. where is the file and
// line of the user's call.
func (j *Job) declare(c *chain, name, kind, detail, where string, inputs ...string) string {
	uid := j.scope + name
	if err := base.CheckUID(name); err != nil {
		j.fail(where, "WEIR-0101", kind+": "+err.Error(), "")
	} else if at, dup := j.places[uid]; dup {
		j.fail(where, "WEIR-0105", fmt.Sprintf("the name %q is used twice", uid),
			"the other use is at "+at+"; a name is an operator's identity, so give one of them another")
	}
	j.places[uid] = where
	j.ops = append(j.ops, engine.Operator{
		UID: uid, Kind: kind, Detail: detail, Task: c.index, Inputs: inputs, Where: where,
	})
	return uid
}

// operatorOf returns the declared operator, to add states to.
func (j *Job) operatorOf(uid string) *engine.Operator {
	for i := range j.ops {
		if j.ops[i].UID == uid {
			return &j.ops[i]
		}
	}
	return nil
}

// newChain starts a task.
func (j *Job) newChain(uid string, parallelism int) *chain {
	c := &chain{index: len(j.tasks), uid: uid, parallelism: parallelism}
	j.tasks = append(j.tasks, c)
	return c
}

// connect adds an edge between two tasks and returns the number of the output in
// the sending chain.
func (j *Job) connect(from, to *chain, part operators.Partition, mk func() operators.Batch) int {
	e := len(j.edges)
	j.edges = append(j.edges, engine.Edge{From: from.index, To: to.index, Partition: part, Make: mk})
	from.out = append(from.out, e)
	to.in = append(to.in, e)
	return len(from.out) - 1
}

// Scope prefixes the names of everything built in f with name and "/", so that a
// composite operator, a plain function from streams to streams, can be used more
// than once in a job.
func Scope(j *Job, name string, f func(*Job)) {
	if err := base.CheckUID(name); err != nil {
		j.fail(caller(1), "WEIR-0101", "scope: "+err.Error(), "")
	}
	old := j.scope
	j.scope += name + "/"
	f(j)
	j.scope = old
}

// caller returns the file and line skip frames above its caller, with the file's
// last two path elements.
func caller(skip int) string {
	_, file, line, ok := runtime.Caller(skip + 1)
	if !ok {
		return ""
	}
	dir, f := filepath.Split(file)
	return strings.TrimPrefix(filepath.Base(dir)+"/"+f, "./") + ":" + strconv.Itoa(line)
}
