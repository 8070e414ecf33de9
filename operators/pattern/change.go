package pattern

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// Change is a change of the patterns of an operator while its job runs, in the form in
// which a control record carries it: {"put": name, "pattern": {…}} or
// {"remove": name}.
type Change struct {
	// Put names a pattern that is put in, in place of the one that has the name, if
	// any: 1 to 64 characters of a-z, 0-9 and -. Pattern is its data form, see Spec.
	Put     string          `json:"put,omitempty"`
	Pattern json.RawMessage `json:"pattern,omitempty"`
	// Remove names a pattern that is taken out.
	Remove string `json:"remove,omitempty"`
}

// ChangeLimits bound what changes can lead to.
type ChangeLimits struct {
	// Patterns bounds the patterns of the operator, those that it began with included.
	// Default 4,096.
	Patterns int
	// Size bounds the JSON of one pattern, Total that of all that came by changes, in
	// bytes: the snapshot of each subtask holds them. Default 64 KiB and 1 MiB.
	Size, Total int
}

func (l ChangeLimits) orDefault() ChangeLimits {
	return ChangeLimits{cmp.Or(l.Patterns, 4096), cmp.Or(l.Size, 64<<10), cmp.Or(l.Total, 1<<20)}
}

// changed is a pattern that is not as the operator began with it.
type changed struct {
	id   string
	gen  uint64
	spec []byte // JSON; nil: taken out
}

// Change puts a pattern in, or takes one out, from the next record on that is given to
// the patterns; see Set for what becomes of runs. It must be called on the goroutine
// of the subtask, between two batches. The same changes in the same places lead to the
// same patterns in every replay, and a checkpoint holds them. A change that is refused
// changes nothing; the error is a *base.Error.
func (n *Detector[K, T, R, TO]) Change(c Change) error {
	name := cmp.Or(c.Put, c.Remove)
	refused := func(what string, cause error) error {
		return &base.Error{
			Code: "WEIR-0717", What: fmt.Sprintf("pattern %q stays as it is: %s", name, what), Where: "operator " + n.spec.UID, Cause: cause,
			Next: "correct the change and send it again",
		}
	}
	switch {
	case n.spec.Words == nil:
		return refused("the operator takes no changes, for it has no vocabulary", nil)
	case (c.Put == "") == (c.Remove == ""):
		return refused("a change names one pattern, to put or to remove", nil)
	case c.Remove != "" && n.set.member(name) == nil:
		return refused("there is none of that name to remove", nil)
	case c.Remove != "":
		n.takeOut(name)
		return nil
	}
	if err := base.CheckUID(name); err != nil {
		return refused("its name is not allowed", err)
	}
	if what := n.tooMuch(name, len(c.Pattern)); what != "" {
		return refused(what, nil)
	}
	if err := n.putIn(name, c.Pattern, nil); err != nil {
		return refused("the new one has mistakes", err)
	}
	n.publish(true)
	return nil
}

// tooMuch says which limit a pattern of that many bytes would exceed; "" if none.
func (n *Detector[K, T, R, TO]) tooMuch(name string, size int) string {
	l := n.spec.Changes.orDefault()
	total := size
	for i := range n.changes {
		if n.changes[i].id != name {
			total += len(n.changes[i].spec)
		}
	}
	switch {
	case size > l.Size:
		return fmt.Sprintf("its JSON has %d bytes; there may be %d", size, l.Size)
	case total > l.Total:
		return fmt.Sprintf("the JSON of all changed patterns would have %d bytes; there may be %d", total, l.Total)
	case n.set.member(name) == nil && len(n.set.members) >= l.Patterns:
		return fmt.Sprintf("there are %d patterns already", len(n.set.members))
	}
	return ""
}

// putIn puts in a pattern in its data form. gen is that of a pattern that comes from a
// checkpoint, and else nil.
func (n *Detector[K, T, R, TO]) putIn(name string, spec []byte, gen *uint64) error {
	p, err := Parse(spec, *n.spec.Words)
	if err == nil {
		err = n.set.put(name, p, n.spec.Options, gen)
	}
	if c := n.set.compact(); err == nil {
		err = c
	}
	if err != nil {
		return err
	}
	n.changes = slices.DeleteFunc(n.changes, func(c changed) bool { return c.id == name })
	n.changes = append(n.changes, changed{name, n.set.member(name).gen, bytes.Clone(spec)})
	return nil
}

// takeOut takes a pattern out. That is kept in mind only for patterns that are there
// from the beginning.
func (n *Detector[K, T, R, TO]) takeOut(name string) {
	n.set.Remove(name)
	n.s.Env.Stats.Figures.Drop(n.spec.UID, name)
	n.changes = slices.DeleteFunc(n.changes, func(c changed) bool { return c.id == name })
	if n.initial[name] {
		n.changes = append(n.changes, changed{id: name})
	}
}

// Snapshot implements operators.Snapshotter. The form is: version (a byte, 1); length
// and bytes of how far event time has come (see reached); how often patterns were
// changed; count of changed patterns, then of each its name, the number of the change,
// and 1 and its JSON, or 0 if it was taken out; count of patterns with runs, then of
// each its name, how many are open, how many held. Numbers are varints, names and JSON
// have their lengths before them.
func (n *Detector[K, T, R, TO]) Snapshot() []byte {
	e := encoder[T]{dst: []byte{blobVersion}}
	e.bytes(n.prog.snapshot(n.s.Env.Range))
	e.uint(n.set.gens)
	e.uint(uint64(len(n.changes)))
	for _, c := range n.changes {
		e.bytes([]byte(c.id))
		e.uint(c.gen)
		if c.spec == nil {
			e.uint(0)
			continue
		}
		e.uint(1)
		e.bytes(c.spec)
	}
	n.set.settle()
	var counted []*member[T]
	for _, m := range n.set.members {
		if m.active() != 0 || m.held != 0 {
			counted = append(counted, m)
		}
	}
	e.uint(uint64(len(counted)))
	for _, m := range counted {
		e.bytes([]byte(m.id))
		e.int(m.active())
		e.int(m.held)
	}
	return e.dst
}

func (e *encoder[T]) bytes(b []byte) {
	e.uint(uint64(len(b)))
	e.dst = append(e.dst, b...)
}

// bytes returns a part of the source.
func (d *decoder[T]) bytes() []byte {
	n := d.count()
	b := d.src[:n:n]
	d.src = d.src[n:]
	return b
}

// part is the snapshot of one subtask.
type part struct {
	reached []byte
	gens    uint64
	list    []byte // the changed patterns, as they were written
	changes []changed
	counts  []count
}

type count struct {
	id         string
	open, held int64
}

func readPart[T any](b []byte) (p part, ok bool) {
	if len(b) == 0 || b[0] != blobVersion {
		return p, false
	}
	d := decoder[T]{src: b[1:], ok: true}
	p.reached, p.gens = d.bytes(), d.uint()
	p.list = d.src
	for range d.count() {
		c := changed{id: string(d.bytes()), gen: d.uint()}
		if d.uint() == 1 {
			c.spec = append([]byte{}, d.bytes()...)
		}
		p.changes = append(p.changes, c)
	}
	p.list = p.list[:len(p.list)-len(d.src)]
	for range d.count() {
		p.counts = append(p.counts, count{string(d.bytes()), d.int(), d.int()})
	}
	return p, d.ok && len(d.src) == 0
}

// Restore implements operators.Snapshotter.
func (n *Detector[K, T, R, TO]) Restore(parts [][]byte) error {
	var read []part
	var times [][]byte
	for _, b := range parts {
		p, ok := readPart[T](b)
		if !ok {
			return n.stateError(ErrState)
		}
		read, times = append(read, p), append(times, p.reached)
	}
	if !n.prog.restore(n.s.Env.Range, times) {
		return base.Fatal(&base.Error{
			Code: "WEIR-0708", What: "the checkpoint holds state of keys of another type", Where: "operator " + n.spec.UID,
			Next: "give the stream its old key back, or the operator a new name to start afresh",
		})
	}
	n.sent = n.prog.w
	// All subtasks have had the same changes, but for control records that came over
	// several ways in another order.
	newest := slices.MaxFunc(read, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.gens, b.gens), bytes.Compare(a.list, b.list))
	})
	if slices.ContainsFunc(read, func(p part) bool { return !bytes.Equal(p.list, newest.list) }) {
		n.s.Env.Logger.Warn("subtasks had different patterns; all go on with those of one of them", "operator", n.spec.UID)
	}
	if err := n.restorePatterns(newest); err != nil {
		return err
	}
	for i := range read {
		n.restoreCounts(&read[i])
	}
	n.publish(true)
	return nil
}

func (n *Detector[K, T, R, TO]) restorePatterns(p part) error {
	gens := max(n.set.gens, p.gens)
	for _, c := range p.changes {
		if c.spec == nil {
			if n.initial[c.id] {
				n.takeOut(c.id)
			}
			continue
		}
		var err error = ErrNoWords
		if n.spec.Words != nil {
			err = n.putIn(c.id, c.spec, &c.gen)
		}
		if err != nil {
			return base.Fatal(&base.Error{
				Code: "WEIR-0718", What: fmt.Sprintf("the checkpoint holds the pattern %q, put in while the job ran, which cannot be read", c.id),
				Where: "operator " + n.spec.UID, Cause: err, Next: "give the operator back the vocabulary that it had",
			})
		}
	}
	n.set.gens = gens
	return nil
}

// restoreCounts takes over the figures of a subtask, or the part of them that its
// range of keys suggests.
func (n *Detector[K, T, R, TO]) restoreCounts(p *part) {
	var of base.HashRange
	if len(p.reached) >= 24 {
		of = base.HashRange{Lo: binary.LittleEndian.Uint64(p.reached[8:]), Hi: binary.LittleEndian.Uint64(p.reached[16:])}
	}
	own := n.s.Env.Range
	if !of.Overlaps(own) {
		return
	}
	lo, hi := max(of.Lo, own.Lo), min(of.Hi, own.Hi)
	share := (float64(hi-lo) + 1) / (float64(of.Hi-of.Lo) + 1)
	for _, c := range p.counts {
		if m := n.set.member(c.id); m != nil {
			m.open += int64(share*float64(c.open) + 0.5)
			m.held += int64(share*float64(c.held) + 0.5)
			n.set.touch(m)
		}
	}
}
