package operators

import (
	"fmt"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

// sourceRefusers makes the refusers for records that cannot be decoded and for those
// too far ahead of the clock. They share what takes dead letters.
func sourceRefusers[T any](s *Subtask, op int32, spec *SourceSpec[T]) (bad, future *Refuser[T]) {
	bad = NewRefuser(s, spec.UID, op, spec.OnBad, spec.Letters)
	if spec.OnFuture == spec.OnBad {
		return bad, bad
	}
	return bad, NewRefuser(s, spec.UID, op, spec.OnFuture, spec.Letters)
}

// refuseBad applies the policy to a record that could not be decoded.
func (h *sourceHead[T]) refuseBad(m *base.Meta, b *connectors.BadRecord) {
	if h.bad.out == nil {
		h.s.refuse(h.spec.OnBad, m, &base.Error{
			Code: codeUndecodable, What: "a record cannot be decoded", Cause: b.Err,
			Next: "mend the format or the record's producer, raise the limit with MaxRecord, or give the source the option OnError(Skip) or OnError(DeadLetter)",
		})
		return
	}
	h.s.Env.Stats.BadRecords.Add(1)
	h.bad.send(m, &DeadLetter{Kind: SourceLetter, Raw: b.Raw, Size: b.Size, ContentType: BytesContent}, b.Err, codeUndecodable)
}

// Codes of what a source refuses.
const (
	codeUndecodable = "WEIR-0605"
	codeAhead       = "WEIR-0606"
)

// refuseFuture applies the policy to a record that is too far ahead of the clock.
func (h *sourceHead[T]) refuseFuture(m *base.Meta, v *T) {
	e := &base.Error{
		Code: codeAhead, What: fmt.Sprintf("a record is more than %v ahead of the clock", h.spec.Strategy.MaxSkew()),
		Next: "mend the clock of its producer, or give the source the option MaxAhead with another bound or with Skip or DeadLetter",
	}
	if h.future.out == nil {
		h.s.refuse(h.spec.OnFuture, m, e)
		return
	}
	h.future.Refuse(m, v, e)
}
