package state

import (
	"errors"

	"github.com/weirflow/weir/internal/base"
)

// ErrCorrupt is the cause of every error about stored bytes that are not what
// was written: a wrong sum, a cut file, an impossible length.
var ErrCorrupt = errors.New("stored state is corrupt")

// ErrClosed is returned by methods of a Store or Backend that was closed.
var ErrClosed = errors.New("the state store is closed")

// Codes of the errors of this package.
const (
	// CodeOpen: the state directory cannot be opened.
	CodeOpen = "WEIR-0301"
	// CodeSpill: state that did not fit in memory cannot be written or read.
	CodeSpill = "WEIR-0302"
	// CodeWrite: a checkpoint object cannot be written.
	CodeWrite = "WEIR-0303"
	// CodeRead: a checkpoint object cannot be read.
	CodeRead = "WEIR-0304"
	// CodeCorrupt: a checkpoint object is not what was written. It wraps ErrCorrupt.
	CodeCorrupt = "WEIR-0305"
	// CodeSchema: stored state does not fit the job's types.
	CodeSchema = "WEIR-0306"
	// CodeUnmatched: the checkpoint has state that the job does not declare.
	CodeUnmatched = "WEIR-0307"
	// CodeDeclare: a state is declared in an impossible way, or twice differently.
	CodeDeclare = "WEIR-0308"
	// CodeKey: a key or its hash is not acceptable.
	CodeKey = "WEIR-0309"
	// CodeVersion: a checkpoint object was written by a newer version.
	CodeVersion = "WEIR-0310"
	// CodeIncomplete: a snapshot cannot be given because an earlier one failed
	// and the state is still being written again.
	CodeIncomplete = "WEIR-0311"
)

// stateError builds an error of this package.
func stateError(code, what, where, next string, cause error) *base.Error {
	return &base.Error{Code: code, What: what, Where: where, Next: next, Cause: cause}
}
