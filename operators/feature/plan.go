package feature

import "math/bits"

// The parts of which scalar aggregates are made. A channel (a value under a
// condition) keeps those that its features need, in this order.
const (
	pN     uint8 = 1 << iota // number of values, uint32
	pSum                     // their sum
	pM2                      // sum of squared distances from the mean
	pMin                     // least
	pMax                     // greatest
	pTrend                   // Σt, Σ(t−t̄)², Σ(t−t̄)(v−v̄); t in seconds from the state's origin
	pFirst                   // time and value of the first
)

// partSize is the size in bytes of what each part takes in a tile.
var partSize = [...]int{4, 8, 8, 8, 8, 24, 16}

func maskSize(mask uint8) int {
	n := 0
	for m := mask; m != 0; m &= m - 1 {
		n += partSize[bits.TrailingZeros8(m)]
	}
	return n
}

// partAt is where a part is in a channel of a mask.
func partAt(mask, part uint8) int { return maskSize(mask & (part - 1)) }

// needs are the parts that a scalar aggregate is computed from.
func needs(k kind) uint8 {
	switch k {
	case kSum, kMean:
		return pN | pSum
	case kMin:
		return pN | pMin
	case kMax:
		return pN | pMax
	case kVariance, kStddev:
		return pN | pSum | pM2
	case kTrend:
		return pN | pSum | pTrend
	case kFirst, kDelta:
		return pN | pFirst
	}
	return pN
}

// channel is a value under a condition, and the parts of it that are kept.
type channel struct {
	filter uint64 // predicates that must hold
	col    int    // -1: records are counted
	mask   uint8
	off    int    // in the payload of a cell
	used   uint64 // levels of the store, by bit
}

// out is one field that a store computes at a level.
type out struct {
	kind, kind2 kind // kind2 is the denominator's, of a ratio
	field, slot int  // index in the schema, and among those of its kind
	ch, ch2     int
	secs        float64 // length of the horizon
	k           int
	q           float64
	recent      int // the list of the last value, of a delta
	text        bool
}

// cellMode says what the payload of a cell is.
type cellMode uint8

const (
	modeParts  cellMode = iota // the parts of the channels
	modeTop                    // the k greatest values
	modeBottom                 // the k least values
	modeFirst                  // the k earliest values
)

// cellStore is a chain of tiles of one or more features.
type cellStore struct {
	sec    int
	mode   cellMode
	keyed  bool // cells are per tile and item
	levels []level
	outs   [][]out // by level
	chans  []channel
	pay    int // offset of the payload in a cell
	size   int // of a cell
	k      int
	unique bool // of the earliest values, one of each
	by     int  // column of the items; -1 unless they are texts
	text   bool
	limit  int
	exact  bool
	gamma  float64 // of a percentile; 0 otherwise
	// plan says, for scalars, what is computed; from cells the payloads of the levels
	// lie one behind the other.
	plan scalarPlan
	// rings is set for the store of scalars, which has a dense form.
	rings *ringPlan
	// raw is set for that store where it has a raw form.
	raw *rawPlan
}

// recentStore is a list of the latest values.
type recentStore struct {
	sec    int
	filter uint64
	col    int // -1: only times
	k      int
	unique bool
	text   bool
	levels []level
	outs   [][]out
}

// distinctStore is a set of values with the time each was last seen.
type distinctStore struct {
	sec    int
	filter uint64
	col    int
	text   bool
	limit  int
	prec   int
	levels []level
	outs   [][]out
}

// decay is an exponentially weighted sum.
type decay struct {
	filter uint64
	col    int // -1: a count
	half   float64
	field  int
}

// plan is a program without its record type.
type plan struct {
	including bool
	period    int64
	offset    int64
	levels    []level // of the group
	cells     []*cellStore
	recents   []*recentStore
	distincts []*distinctStore
	decays    []decay
	derived   []derived
	// update holds, for each store or decay, the predicates of it: a record that
	// passes none changes no state.
	update []uint64
	nsec   int
	dict   int        // section of texts; -1 if there is none
	secOff int        // of the section table
	base   int        // of the sections
	rings  *cellStore // the store of scalars, if it has a dense form
	finger uint32
	// expiry is how long after its clock a state is of no use; forever if it is
	// always.
	expiry int64
	schema *Schema
	// cols holds, for each column, the filters under which it is read.
	cols []colUse
}

type colUse struct {
	filters []uint64
	text    bool
}

// inside cuts an event time to what sums and differences of times can hold: from
// 1823 to 2116.
func (p *plan) inside(t int64) int64 { return max(-1<<62, min(t, 1<<62)) }

// boundary returns the clock for an event time, both less the offset.
func (p *plan) boundary(t int64) int64 {
	if p.period == 0 {
		return t
	}
	return floorDiv(t, p.period) * p.period
}
