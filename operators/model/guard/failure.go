package guard

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/weirflow/weir/operators/model"
)

var kindNames = [...]string{
	model.Permanent: "permanent", model.Unavailable: "unavailable", model.Limited: "limited",
	model.Unknown: "unknown", model.Invalid: "invalid",
}

func kindName(k model.Kind) string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", k)
}

// failureOf returns the failure that an error is. Clients return no other errors;
// should one do so, time that ran out is Unknown and everything else is Permanent.
func failureOf(err error) *model.Failure {
	var f *model.Failure
	if errors.As(err, &f) {
		return f
	}
	kind := model.Permanent
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		kind = model.Unknown
	}
	return &model.Failure{Kind: kind, What: "the call failed", Cause: err}
}

// historyKept is the number of kinds that a failure lists.
const historyKept = 8

// conclude makes the failure of a call after all attempts: last, and stop, which is
// why there are no more of them.
func conclude(name string, sent int, history []model.Kind, last *model.Failure, stop string) *model.Failure {
	f := *last
	if sent == 0 {
		f.What = fmt.Sprintf("%sthe call was not sent: %s", prefix(name), last.What)
		return &f
	}
	unknown := false
	var kinds []string
	for i, k := range history {
		unknown = unknown || k == model.Unknown
		if i < historyKept {
			kinds = append(kinds, kindName(k))
		}
	}
	if len(history) > historyKept {
		kinds = append(kinds, "…")
	}
	if unknown && f.Kind != model.Permanent && f.Kind != model.Invalid {
		// One of the attempts may have happened, whatever the last one says.
		f.Kind = model.Unknown
	}
	attempts := "1 attempt"
	if sent > 1 {
		attempts = fmt.Sprintf("%d attempts", sent)
	}
	f.What = fmt.Sprintf("%sno answer after %s (%s); %s: %s", prefix(name), attempts, strings.Join(kinds, ", "), stop, last.What)
	return &f
}

func prefix(name string) string {
	if name == "" {
		return ""
	}
	return name + ": "
}
