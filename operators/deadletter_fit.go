package operators

import (
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

// FitLetters returns a consumer that cuts letters to what their sink takes, and hands
// them on: a letter that cannot be written would stop the job that it was to keep
// running. The record goes first, then the texts. Sinks without a limit get all.
func FitLetters(s *Subtask, uid string, sink connectors.Sink[DeadLetter], next Consumer[DeadLetter]) Consumer[DeadLetter] {
	largest := letterLimit(s, uid, sink.Target)
	var msg connectors.Message
	size := func(m *base.Meta, d *DeadLetter) int {
		msg.Subject, msg.Data, msg.Headers = "", msg.Data[:0], nil
		if m.Headers != nil {
			msg.Headers = *m.Headers
		}
		if sink.Encode(&msg, m, d) != nil {
			return 0 // the sink itself says what is wrong
		}
		return msg.Size()
	}
	return Consumer[DeadLetter]{One: func(m *base.Meta, d *DeadLetter) {
		if most := largest(); most > 0 && size(m, d) > most {
			c := *d
			for _, cut := range []func(){
				func() { c.Raw = c.Raw[:min(len(c.Raw), most/4)] },
				func() { c.Stack, c.Error = clip(c.Stack, most/16), clip(c.Error, most/16) },
				func() { c.Headers, c.Schema = nil, clip(c.Schema, most/16) },
				func() { c.Raw, c.Stack = nil, "" },
			} {
				if cut(); size(m, &c) <= most {
					break
				}
			}
			d = &c
		}
		next.One(m, d)
	}}
}

// letterLimit returns what knows the largest message that the sink takes, in bytes; 0
// for no limit. Some targets know it only once their writer is open.
func letterLimit(s *Subtask, uid string, target connectors.Target) func() int {
	if b, ok := target.(connectors.Bounded); ok {
		return b.MaxMessage
	}
	limits := s.Env.Sinks[uid].Limits
	most := limits.MaxMessage
	if b := limits.MaxBytes; b > 0 && (most <= 0 || b < most) {
		most = b
	}
	return func() int { return most }
}
