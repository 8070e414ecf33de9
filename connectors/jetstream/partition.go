package jetstream

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

// maxPartitions bounds the splits of one source.
const maxPartitions = 1024

// partitionMark stands for the partition's number in a filter.
const partitionMark = "{partition}"

// checkFilter reports what is wrong with the filter as such.
func (o *sourceOptions) checkFilter(bad func(what, next string) error) error {
	hasMark := strings.Contains(o.filter, partitionMark)
	switch {
	case o.filter == "":
		return nil
	case o.partitions == 0 && hasMark:
		return bad("the filter "+quote(o.filter)+" has "+partitionMark+" without Partitions", "add Partitions, or drop "+partitionMark)
	case o.partitions > 0 && strings.Count(o.filter, partitionMark) != 1:
		return bad("the filter of a partitioned source has "+partitionMark+" once, as one of its parts", `write it like "ev.`+partitionMark+`.>"`)
	}
	// A wildcard may stand for a part, so the check of plain subjects is run on
	// what the filter could match.
	parts := strings.Split(strings.ReplaceAll(o.filter, partitionMark, "0"), ".")
	for i, p := range parts {
		if p == "*" || p == ">" && i == len(parts)-1 {
			parts[i] = "x"
		}
	}
	if err := checkSubject(strings.Join(parts, ".")); err != nil {
		return bad("the filter "+quote(o.filter)+" is not valid: "+err.Error(), "correct Subject")
	}
	return nil
}

// filters lists the filters of the splits for a stream.
func (o *sourceOptions) filters(c natsjs.StreamConfig) ([]string, error) {
	form := o.filter
	if o.partitions == 0 {
		return []string{form}, nil
	}
	bad := func(what, next string) ([]string, error) {
		return nil, &base.Error{Code: CodeFilter, What: what, Where: "stream " + quote(c.Name), Next: next}
	}
	if c.SubjectTransform != nil {
		derived, n := partitionForm(c.SubjectTransform.Destination)
		if n > 0 && n != o.partitions {
			return bad(fmt.Sprintf("the stream has %d partitions and the source reads %d", n, o.partitions), fmt.Sprintf("write Partitions(%d)", n))
		}
		if form == "" {
			form = derived
		}
	}
	if form == "" {
		return bad("the stream has no subject mapping with a partition number", `add one, or give the form of the subjects by Subject("….`+partitionMark+`.…")`)
	}
	out := make([]string, o.partitions)
	for i := range out {
		out[i] = strings.Replace(form, partitionMark, strconv.Itoa(i), 1)
	}
	return out, nil
}

// partitionForm turns the destination of a subject mapping into the form of a
// filter and returns the number of partitions, or "" and 0.
func partitionForm(destination string) (form string, n int) {
	parts := strings.Split(destination, ".")
	for i, p := range parts {
		inner, ok := strings.CutPrefix(p, "{{")
		switch args, isPart := strings.CutPrefix(strings.TrimSpace(strings.TrimSuffix(inner, "}}")), "partition("); {
		case ok && isPart && n == 0:
			count, _, _ := strings.Cut(strings.TrimSuffix(args, ")"), ",")
			n, _ = strconv.Atoi(strings.TrimSpace(count))
			parts[i] = partitionMark
		case ok, strings.HasPrefix(p, "$"):
			parts[i] = "*"
		}
	}
	if n == 0 {
		return "", 0
	}
	return strings.Join(parts, "."), n
}

// splitID names a split: the stream, and the filter when there is one.
func splitID(stream, filter string) string {
	if filter == "" {
		return stream
	}
	return stream + ":" + filter
}

// splitFilter is the filter of a split.
func splitFilter(stream, id string) string {
	return strings.TrimPrefix(strings.TrimPrefix(id, stream), ":")
}

func sortSplits(s []connectors.Split) {
	slices.SortFunc(s, func(a, b connectors.Split) int { return strings.Compare(a.ID, b.ID) })
}
