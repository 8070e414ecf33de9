package base

import (
	"errors"
	"strings"
)

// Error is what Weir tells a user: a stable code, what happened, where, why and
// what to do next.
type Error struct {
	// Code is stable, such as "WEIR-0107".
	Code string
	// What happened, in one sentence without a full stop.
	What string
	// Where: a file and line, an operator, an object; "" when it is clear.
	Where string
	// Next is what the user can do about it.
	Next string
	// Cause is the underlying error; may be nil.
	Cause error
}

// Error renders the message on one line.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Code != "" {
		b.WriteString(e.Code + ": ")
	}
	if e.Where != "" {
		b.WriteString(e.Where + ": ")
	}
	b.WriteString(e.What)
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	if e.Next != "" {
		b.WriteString("; " + e.Next)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// CodeOf returns the code of the first Error in err's chain, or "".
func CodeOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// ErrFatal marks an error after which the job must stop instead of restarting:
// going on would lose or duplicate records, or would fail in the same way again.
var ErrFatal = errors.New("the job must stop")

// Fatal marks err as one after which the job must not restart by itself.
func Fatal(err error) error {
	if err == nil || errors.Is(err, ErrFatal) {
		return err
	}
	return fatalError{err}
}

type fatalError struct{ error }

func (f fatalError) Unwrap() error        { return f.error }
func (f fatalError) Is(target error) bool { return target == ErrFatal }
