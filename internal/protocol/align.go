package protocol

// Aligner aligns the barriers of one task's inputs (C3): an input is blocked
// after its barrier until every other input has delivered the same one, so that
// the snapshot holds exactly the records before the barrier on every input.
//
// An input that has ended counts as aligned, whether or not it goes on to
// forward barriers: all its records were processed. A newer try aborts the one
// being aligned, so does Cancel. A task without inputs (a source) calls Barrier
// with its trigger.
//
// All methods append to the caller's slice and allocate nothing else. An Aligner
// is owned by one goroutine.
type Aligner struct {
	ended   []bool
	aligned []bool // valid while open; ended inputs are not counted here
	live    int    // inputs that have not ended
	missing int    // live inputs whose barrier is missing, while open
	open    bool
	cur     Barrier
	// floor is the newest try that is over (snapshot taken, aborted or
	// cancelled); barriers up to it are ignored.
	floor Try
}

// AlignKind tells what an AlignAction orders.
type AlignKind uint8

// The actions of a completed alignment come in the order Snapshot, Forward,
// UnblockAll and must be carried out in that order.
const (
	// AlignBlock: do not read from Input until UnblockAll.
	AlignBlock AlignKind = iota + 1
	// AlignSnapshot: freeze the state for Barrier (C4).
	AlignSnapshot
	// AlignForward: emit Barrier to every output (C5).
	AlignForward
	// AlignUnblockAll: read from every input again.
	AlignUnblockAll
	// AlignAbort: the alignment of Barrier was given up before its snapshot.
	AlignAbort
)

// AlignAction is one order to the task.
type AlignAction struct {
	Kind    AlignKind
	Input   int
	Barrier Barrier
}

// NewAligner returns an aligner for a task with that many inputs (0 for a
// source). floor is the try the task was restored from; barriers up to it are
// ignored.
func NewAligner(inputs int, floor Try) *Aligner {
	return &Aligner{ended: make([]bool, inputs), aligned: make([]bool, inputs), live: inputs, floor: floor}
}

// Barrier takes a barrier that arrived on an input; input is ignored by a task
// without inputs.
func (a *Aligner) Barrier(input int, b Barrier, out []AlignAction) []AlignAction {
	if !b.Try.Newer(a.floor) {
		return out
	}
	if a.open && b.Try != a.cur.Try {
		if !b.Try.Newer(a.cur.Try) {
			return out
		}
		out = a.abort(out)
	}
	if !a.open {
		a.open, a.cur, a.missing = true, b, a.live
		clear(a.aligned)
	}
	if len(a.ended) > 0 && !a.ended[input] && !a.aligned[input] {
		a.aligned[input] = true
		a.missing--
		if a.missing > 0 {
			out = append(out, AlignAction{Kind: AlignBlock, Input: input})
		}
	}
	return a.finish(out)
}

// End takes the end of an input's records. Barriers may still follow on it.
func (a *Aligner) End(input int, out []AlignAction) []AlignAction {
	if a.ended[input] {
		return out
	}
	a.ended[input] = true
	a.live--
	if !a.open {
		return out
	}
	if !a.aligned[input] {
		a.missing--
	}
	return a.finish(out)
}

// Cancel gives up try t and everything older, whether its barriers have arrived
// or not.
func (a *Aligner) Cancel(t Try, out []AlignAction) []AlignAction {
	if a.open && !a.cur.Try.Newer(t) {
		out = a.abort(out)
	}
	if t.Newer(a.floor) {
		a.floor = t
	}
	return out
}

// Blocked reports whether the input must not be read.
func (a *Aligner) Blocked(input int) bool { return a.open && a.aligned[input] && !a.ended[input] }

func (a *Aligner) abort(out []AlignAction) []AlignAction {
	a.open, a.floor = false, a.cur.Try
	return append(out, AlignAction{Kind: AlignAbort, Barrier: a.cur}, AlignAction{Kind: AlignUnblockAll})
}

func (a *Aligner) finish(out []AlignAction) []AlignAction {
	if a.missing > 0 {
		return out
	}
	a.open, a.floor = false, a.cur.Try
	return append(out,
		AlignAction{Kind: AlignSnapshot, Barrier: a.cur},
		AlignAction{Kind: AlignForward, Barrier: a.cur},
		AlignAction{Kind: AlignUnblockAll})
}
