package anomaly

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// Codes of the errors of this package.
const (
	// CodeSpec: a detector is declared wrongly.
	CodeSpec = "WEIR-0160"
	// CodeState: stored state is not that of the detector.
	CodeState = "WEIR-0360"
	// CodeValue: a value is not a number.
	CodeValue = "WEIR-0616"
)

// Result is what a detector makes of one value.
type Result struct {
	// Score is between 0, nothing unusual, and 1. Each detector scales its own
	// measure so that 0.5 is its limit.
	Score float64
	// Alert is whether Score is at least 0.5.
	Alert bool
	// By names the detector that scored highest, for detectors made of others.
	By string
}

// alertScore is the score of a value right at a detector's limit; quiet is the
// highest that is no alert.
const (
	alertScore = 0.5
	quiet      = 0.499
)

// result makes the Result of a score.
func result(score float64, by string) Result {
	return Result{Score: score, Alert: score >= alertScore, By: by}
}

// ratio scales a measure whose limit is limit to a score: 0.5 at the limit, and
// the nearer to 1 the larger.
func ratio(x, limit float64) float64 {
	switch {
	case math.IsInf(x, 1):
		return 1
	case !(x > 0):
		return 0
	}
	return x / (x + limit)
}

// mute returns r without its alert.
func (r Result) mute() Result {
	return Result{Score: min(r.Score, quiet), By: r.By}
}

// Detector judges the values of one series in the order in which they come. It
// knows nothing of those to come: what it says of a value depends on that value,
// those before, and the declaration.
//
// A Detector is used by one goroutine. Between two calls of Observe its state can
// be taken by AppendState, and a Detector of the same declaration that loads it
// goes on exactly as this one would.
type Detector interface {
	// Observe takes the next value and its time, and then learns from it. Times
	// matter to detectors with a season and to Rate only; they should not go back.
	Observe(at time.Time, v float64) Result
	// AppendState appends the state to b.
	AppendState(b []byte) []byte
	// LoadState replaces the state by one that AppendState made, and keeps nothing
	// of b. After an error the detector must not be used.
	LoadState(b []byte) error
}

// Learner is a Detector that takes verdicts on its alerts.
type Learner interface {
	Detector
	// Learn takes the verdict on the last alert.
	Learn(v Verdict)
}

// Verdict is what somebody says of an alert.
type Verdict uint8

// The verdicts.
const (
	// FalseAlarm: there was nothing.
	FalseAlarm Verdict = iota + 1
	// Confirmed: the alert was right.
	Confirmed
)

// Spec declares a detector: one of the structs of this package, or Custom. Fields
// that are zero have the default that they name.
type Spec interface {
	// build returns the detector and the part of the declaration that shapes its
	// state.
	build() (d Detector, shape string, err error)
}

// Custom declares a detector of the program's own.
type Custom struct {
	// Name names the detector and the form of its state: state of one name is not
	// loaded into a detector of another.
	Name string
	// New makes a detector at the start of a series.
	New func() (Detector, error)
}

func (s Custom) build() (Detector, string, error) {
	if s.Name == "" || s.New == nil {
		return nil, "", wrong("Custom", "needs Name and New")
	}
	d, err := s.New()
	if err == nil && d == nil {
		err = errors.New("New returned no detector")
	}
	return d, fmt.Sprintf("custom(%q)", s.Name), err
}

// New returns the detector that spec declares, at the start of a series. It
// refuses declarations that are wrong. The detector ignores values that are not
// numbers, infinite, or beyond ±1e100: their score is 0.
//
// Its state begins with a version and a hash of what shapes it, such as lengths of
// windows, but not of limits: a limit can be changed between two runs, and a
// window cannot.
func New(spec Spec) (Learner, error) {
	if spec == nil {
		return nil, specError(errors.New("no detector is declared"))
	}
	d, shape, err := spec.build()
	if err != nil {
		return nil, specError(err)
	}
	return &root{inner: d, shape: base.HashString(shape)}, nil
}

func specError(err error) error {
	return &base.Error{Code: CodeSpec, What: "an anomaly detector is declared wrongly", Cause: err, Next: "correct the declaration"}
}

// root is the outermost part of every detector.
type root struct {
	inner Detector
	shape uint64
}

// stateVersion is the first byte of every state. It changes with the encoding of
// any detector.
const stateVersion = 1

// Observe implements Detector.
func (r *root) Observe(at time.Time, v float64) Result {
	if !usable(v) {
		return Result{}
	}
	return r.inner.Observe(at, v)
}

// usable says whether a detector can take a value: the squares and sums that they
// form stay finite.
func usable(v float64) bool { return math.Abs(v) <= 1e100 }

// AppendState implements Detector.
func (r *root) AppendState(b []byte) []byte {
	return r.inner.AppendState(appendUint64(append(b, stateVersion), r.shape))
}

// LoadState implements Detector.
func (r *root) LoadState(b []byte) error {
	d := decoder{b: b}
	version, shape := d.byte(), d.uint64()
	err := d.err
	switch {
	case err != nil:
	case version != stateVersion:
		err = fmt.Errorf("version %d of the encoding, this program has %d", version, stateVersion)
	case shape != r.shape:
		err = errors.New("it is that of a detector with other parts or windows")
	default:
		err = r.inner.LoadState(d.b)
	}
	if err != nil {
		return &base.Error{
			Code: CodeState, What: "stored state does not fit the anomaly detector", Cause: err,
			Next: "give the detector its old declaration back, or the operator a new name to start afresh",
		}
	}
	return nil
}

// Learn implements Learner.
func (r *root) Learn(v Verdict) { learn(r.inner, v) }

// learn hands a verdict to a detector that takes one.
func learn(d Detector, v Verdict) {
	if l, ok := d.(Learner); ok {
		l.Learn(v)
	}
}

// wrong is the error of a declaration.
func wrong(spec, format string, args ...any) error {
	return fmt.Errorf("%s: %w", spec, fmt.Errorf(format, args...))
}

// checks collects what is wrong with the fields of a declaration.
type checks struct {
	spec string
	err  error
}

// that notes that ok must hold.
func (c *checks) that(ok bool, format string, args ...any) {
	if !ok {
		c.err = errors.Join(c.err, wrong(c.spec, format, args...))
	}
}

// or returns v, or the default when v is zero.
func or[V comparable](v, def V) V {
	var zero V
	if v == zero {
		return def
	}
	return v
}

// finite says whether all are numbers and finite.
func finite(vs ...float64) bool {
	for _, v := range vs {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}
