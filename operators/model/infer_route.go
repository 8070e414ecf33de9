package model

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model/journal"
)

// choice is what the routing has said about a record: it is made when the record comes
// and stays with it, so that no record is answered by two arms and every answer is
// logged with the chance that its arm had.
type choice struct {
	arm     string
	lane    int // of the arm
	weight  uint32
	routing uint64
	// primary, of a shadow, is the arm that answers.
	primary string
}

// route is the routing in effect.
type route[T, In, Out any] struct {
	Routing
	salt    uint64
	arms    []int // the arms of the routing, as indices of the operator's arms
	shadows []int
	queued  []Routing
}

// maxRoutings bounds the routings that wait for a barrier.
const maxRoutings = 1000

func (n *infer[T, In, Out, O]) routed() bool { return n.spec.Arms[0].Name != "" }

func (n *infer[T, In, Out, O]) armNames() []string {
	names := make([]string, len(n.spec.Arms))
	for i := range names {
		names[i] = n.spec.Arms[i].Name
	}
	return names
}

// follow puts a valid routing into effect.
func (n *infer[T, In, Out, O]) follow(r Routing) {
	names := n.armNames()
	n.route.Routing, n.route.salt = r, saltOf(n.spec.UID)
	n.route.arms, n.route.shadows = nil, nil
	for _, a := range r.Arms {
		n.route.arms = append(n.route.arms, slices.Index(names, a.Arm))
	}
	for _, a := range r.Shadows {
		n.route.shadows = append(n.route.shadows, slices.Index(names, a))
	}
	if n.figs.version != nil {
		n.figs.version.Set(int64(r.Version))
	}
}

// choose routes a record with a key of that hash.
func (n *infer[T, In, Out, O]) choose(hash uint64) choice {
	if !n.routed() {
		return choice{weight: FullWeight}
	}
	i := n.route.pick(bucket(n.route.salt, hash))
	if i < 0 { // no routing comes into effect that leaves a bucket out
		panic(fmt.Sprintf("the routing %+v has no arm for a key", n.route.Routing))
	}
	s := n.route.Arms[i]
	return choice{arm: s.Arm, lane: n.route.arms[i], weight: s.Weight, routing: n.route.Version}
}

// settle finds the arm of a record that was restored. One that has an answer keeps it;
// another whose arm is gone goes by the routing in effect, like a record that comes now.
func (n *infer[T, In, Out, O]) settle(c *call[T, Out]) {
	i := slices.IndexFunc(n.spec.Arms, func(a Arm[In, Out]) bool { return a.Name == c.arm })
	switch {
	case i >= 0:
		c.lane = i
	case !c.arrived:
		c.choice = n.choose(c.meta.Hash)
	}
}

// journalID is the name of the input in the journal. Each arm has its own: a record that
// a replay routes to another arm is not answered by what the first one has said.
func (c *call[T, Out]) journalID() journal.ID {
	id := c.id
	if c.arm != "" {
		binary.BigEndian.PutUint64(id[24:], base.Mix(base.HashString(c.arm), binary.BigEndian.Uint64(id[24:])))
	}
	return id
}

// asked is what the operator adds to the result of a record.
func (n *infer[T, In, Out, O]) asked(c *call[T, Out]) Asked {
	return Asked{
		ID: n.name(c), Model: n.spec.UID, Arm: c.arm, Propensity: float64(c.weight) / FullWeight, Routing: c.routing,
		At: c.meta.Time, Latency: c.res.Latency,
	}
}

// queueRouting makes a change at the next barrier: with a control stream that is
// broadcast to all subtasks, all of them make it after the same records of that stream
// and as of the same checkpoint.
func (n *infer[T, In, Out, O]) queueRouting(r Routing) {
	if len(n.route.queued) >= maxRoutings {
		n.refuse(r, fmt.Errorf("%d others wait for the next checkpoint", maxRoutings))
		return
	}
	n.route.queued = append(n.route.queued, r)
}

// reroute makes the changes that wait for a barrier.
func (n *infer[T, In, Out, O]) reroute() {
	for _, r := range n.route.queued {
		if err := n.admit(r); err != nil {
			n.refuse(r, err)
			continue
		}
		n.follow(r)
		n.s.Env.Logger.Info("the routing of a model has changed", "operator", n.spec.UID, "version", r.Version, "arms", r.Arms, "shadows", r.Shadows)
	}
	n.route.queued = nil
}

// admit says why a routing cannot come into effect now; nil if it can.
func (n *infer[T, In, Out, O]) admit(r Routing) error {
	if r.Version <= n.route.Version {
		return fmt.Errorf("version %d is in effect, which is not older", n.route.Version)
	}
	return n.valid(r)
}

func (n *infer[T, In, Out, O]) valid(r Routing) error {
	if len(r.Shadows) > 0 && !n.shadows.wanted {
		return fmt.Errorf("it has shadows, and the operator has no stream for what they say")
	}
	return r.Validate(n.armNames())
}

func (n *infer[T, In, Out, O]) refuse(r Routing, why error) {
	if n.figs.refused != nil {
		n.figs.refused.Add(1)
	}
	n.s.Env.Logger.Warn("a routing of a model is refused", "operator", n.spec.UID, "error", &base.Error{
		Code: "WEIR-0733", What: fmt.Sprintf("the routing of version %d does not come into effect", r.Version), Where: "operator " + n.spec.UID, Cause: why,
		Next: "correct it and send it again, with a version above the one in effect",
	})
}

// Snapshot implements operators.Snapshotter. The form is: version (a byte, 1); version
// of the routing; count of arms, then of each its name and weight; count of shadows,
// then of each its name. Numbers are varints, names have their lengths before them.
func (n *infer[T, In, Out, O]) Snapshot() []byte {
	if !n.routed() {
		return nil
	}
	r := n.route.Routing
	b := binary.AppendUvarint([]byte{1}, r.Version)
	b = binary.AppendUvarint(b, uint64(len(r.Arms)))
	for _, a := range r.Arms {
		b = binary.AppendUvarint(appendString(b, a.Arm), uint64(a.Weight))
	}
	b = binary.AppendUvarint(b, uint64(len(r.Shadows)))
	for _, s := range r.Shadows {
		b = appendString(b, s)
	}
	return b
}

func readRouting(b []byte) (r Routing, err error) {
	in := reader{b: b}
	if v := in.byte(); v != 1 && in.err == nil {
		return r, fmt.Errorf("the routing has form %d; this program knows 1", v)
	}
	r.Version = in.uvarint()
	for k := in.uvarint(); k > 0 && in.err == nil; k-- {
		r.Arms = append(r.Arms, Share{Arm: in.string(), Weight: uint32(in.uvarint())})
	}
	for k := in.uvarint(); k > 0 && in.err == nil; k-- {
		r.Shadows = append(r.Shadows, in.string())
	}
	return r, in.err
}

// Restore implements operators.Snapshotter. The newest routing is in effect: that of the
// checkpoint, in which all subtasks have the same, or a newer one of the program. One of
// the checkpoint that does not fit the program's arms any more gives way to the
// program's.
func (n *infer[T, In, Out, O]) Restore(parts [][]byte) error {
	if !n.routed() {
		return nil // it had arms before, and has one model now
	}
	var newest Routing
	var from []byte
	for i, b := range parts {
		r, err := readRouting(b)
		if err != nil {
			return base.Fatal(&base.Error{
				Code: "WEIR-0705", What: "the operator cannot read its state", Where: "operator " + n.spec.UID, Cause: err,
				Next: "restore an earlier checkpoint, or run the program that wrote this one",
			})
		}
		if i > 0 && !bytes.Equal(b, from) {
			n.s.Env.Logger.Warn("subtasks had different routings; all go on with the newest", "operator", n.spec.UID)
		}
		if i == 0 || r.Version > newest.Version || r.Version == newest.Version && bytes.Compare(b, from) > 0 {
			newest, from = r, b
		}
	}
	if len(parts) == 0 || newest.Version < n.route.Version {
		return nil
	}
	if err := n.valid(newest); err != nil {
		n.s.Env.Logger.Warn("the routing of the checkpoint does not fit the program's arms; the program's comes into effect", "operator", n.spec.UID,
			"version", newest.Version, "error", err)
		return nil
	}
	n.follow(newest)
	return nil
}
