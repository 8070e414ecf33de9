package operators_test

import (
	"testing"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators"
)

// bounded is an at-least-once target that knows its limit once its writer is open.
type bounded struct {
	connectors.Target
	most int
}

func (b *bounded) MaxMessage() int { return b.most }

// TestLettersFitAnAtLeastOnceSink: a direct sink has no lanes, and its limit comes with
// its writer.
func TestLettersFitAnAtLeastOnceSink(t *testing.T) {
	target := &bounded{}
	sink := connectors.Sink[operators.DeadLetter]{Target: target, Encode: func(msg *connectors.Message, _ *base.Meta, d *operators.DeadLetter) error {
		msg.Data = append(append(append(msg.Data[:0], d.Raw...), d.Error...), d.Stack...)
		return nil
	}}
	var got operators.DeadLetter
	fit := operators.FitLetters(operators.NewSubtask(operators.Env{Stats: &base.TaskStats{}}), "dead", sink,
		operators.Consumer[operators.DeadLetter]{One: func(_ *base.Meta, d *operators.DeadLetter) { got = *d }})
	letter := operators.DeadLetter{Raw: make([]byte, 5000), Size: 5000, Error: "refused"}
	if fit.One(&base.Meta{}, &letter); got.Truncated() {
		t.Error("a letter is cut for a sink without a limit")
	}
	target.most = 1000
	if fit.One(&base.Meta{}, &letter); !got.Truncated() || len(got.Raw) == 0 || len(got.Raw) > 1000 || got.Error != "refused" {
		t.Errorf("%d of %d bytes for a sink that takes 1000, error %q", len(got.Raw), got.Size, got.Error)
	}
	if len(letter.Raw) != 5000 {
		t.Error("the letter itself was cut")
	}
}
