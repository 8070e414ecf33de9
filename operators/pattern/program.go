package pattern

// action is what an edge does with the event.
type action uint8

const (
	actTake    action = iota // accept it into the node's stage, and move
	actIgnore                // drop it, and move or stay
	actProceed               // move, and look at it again there
)

type nodeKind uint8

const (
	normalNode nodeKind = iota
	finalNode
	stopNode
	pendingNode
)

// edge leads from a node to another when its condition holds.
type edge struct {
	act  action
	to   uint16
	cond int32
	// gap, if not 0, bounds the time since the run's last event.
	gap int64
}

// node is a place where a run waits.
type node struct {
	kind  nodeKind
	stage uint16
	edges []edge
	// prev bounds the time since the run's last event while it waits here; 0: no
	// bound.
	prev int64
	// plain says that what happens here depends on the event alone: it is the same
	// for all runs.
	plain bool
	// matures says that the end of the window completes a run here.
	matures bool
	// twin says that the node is where a run waits that has dropped an event.
	twin bool
}

// stageInfo is what the program knows of a stage.
type stageInfo struct {
	name string
	// aggs are the slots of the aggregates that an event of the stage goes into.
	aggs []int
	not  bool
	top  bool
}

// Program is a compiled pattern. It is immutable and safe for concurrent use.
type Program[T any] struct {
	table  *exprTable[T]
	nodes  []node
	start  uint16
	stages []stageInfo
	// window bounds the time between a run's first event and now; 0: no bound.
	window int64
	skip   Skip
	// target is the stage that the skip strategy names.
	target uint16
	opts   options
	growth Growth
	empty  bool
	shape  uint64
	prevs  bool // some node has a bound of its own
	// aggs are the aggregates that conditions ask for; aggLocal maps the slots of
	// the table to them.
	aggs     []*aggDecl[T]
	aggLocal []int
	warns    []string
	source   *Pattern[T]
}

// CanBeEmpty says that the pattern is satisfied by no event at all. The empty match
// is never emitted.
func (p *Program[T]) CanBeEmpty() bool { return p.empty }

// Window returns the bound on the time between first and last event in nanoseconds,
// 0 if there is none.
func (p *Program[T]) Window() int64 { return p.window }

// Growth returns how the number of runs grows.
func (p *Program[T]) Growth() Growth { return p.growth }

// Warnings lists what is allowed and likely not what was meant.
func (p *Program[T]) Warnings() []string { return p.warns }

// Shape fingerprints the automaton: nodes, edges, windows, stage names, skip strategy,
// mode, and those conditions that are given as data. State is only read by a program
// of the same shape.
func (p *Program[T]) Shape() uint64 { return p.shape }

// Option configures Compile.
type Option func(*options)

type options struct {
	flink         bool
	onlyUnmatched bool
	buckets       bool // in tests: buckets in FlinkCompat
	limits        Limits
}

// FlinkCompat makes the program behave as Flink CEP does; see the package
// documentation.
func FlinkCompat() Option { return func(o *options) { o.flink = true } }

// OnlyUnmatched leaves out the timeouts of runs that have given a match already.
func OnlyUnmatched() Option { return func(o *options) { o.onlyUnmatched = true } }

// WithLimits bounds what a key may hold; zero fields keep their default.
func WithLimits(l Limits) Option {
	return func(o *options) {
		if l.Runs > 0 {
			o.limits.Runs = l.Runs
		}
		if l.Buffered > 0 {
			o.limits.Buffered = l.Buffered
		}
		if l.Length > 0 {
			o.limits.Length = l.Length
		}
		o.limits.Overflow = l.Overflow
	}
}

// Overflow says what happens to a key that exceeds a limit. It is counted in
// any case.
type Overflow uint8

const (
	// DropNewest drops the runs that started last.
	DropNewest Overflow = iota
	// DropOldest drops the runs that started first.
	DropOldest
	// DropKey drops all runs and events of the key.
	DropKey
	// FailOnOverflow makes the operator fail.
	FailOnOverflow
)

// Limits bound what one key may hold in one pattern.
type Limits struct {
	// Runs bounds the open runs and held matches. Default 10,000.
	Runs int
	// Buffered bounds the events that wait for the watermark. Default 100,000.
	Buffered int
	// Length bounds the events of one run; a run that would grow beyond it ends, as
	// an overflow, and counts as dropped. Default 10,000.
	Length   int
	Overflow Overflow
}

func defaults() options {
	return options{limits: Limits{Runs: 10_000, Buffered: 100_000, Length: 10_000}}
}
