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

// guardTime makes panics of the source's function of the event time fall under the
// policy for records that cannot be decoded, unless that is to fail.
func (h *sourceHead[T]) guardTime() {
	if h.spec.Time == nil || h.spec.ProcessingTime || h.spec.OnBad == connectors.FailOnBad {
		return
	}
	h.tryTime = func(v T) (base.Timestamp, error) { return h.spec.Time(v).UnixNano(), nil }
}

// timed sets a record's event time; t is the source's own. Where the function of the
// event time panics it applies the policy and returns false: such a record leaves event
// time alone.
func (h *sourceHead[T]) timed(m *base.Meta, v *T, t, now base.Timestamp) bool {
	if h.tryTime == nil {
		m.Time = h.timeOf(v, t, now)
		return true
	}
	err := protect(h.tryTime, v, &m.Time)
	if err == nil {
		return true
	}
	if m.Time = t; h.bad.out != nil && h.spec.Letters.Codec == nil {
		h.s.bad(m, err) // records of the type cannot be put into letters
		return false
	}
	h.bad.Refuse(m, v, err)
	return false
}
