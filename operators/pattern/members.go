package pattern

import (
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// Put compiles a pattern and adds it under a name, in place of the one that had the
// name. The errors are those of Compile; the set is unchanged then.
func (s *Set[T]) Put(id string, p *Pattern[T], opts ...Option) error {
	return s.put(id, p, opts, nil)
}

// put is Put; gen, if it is not nil, is the member's.
func (s *Set[T]) put(id string, p *Pattern[T], opts []Option, gen *uint64) error {
	prog, err := compileInto(s.table, p, opts)
	s.eval.grow()
	if err != nil {
		return fmt.Errorf("pattern %s: %w", id, err)
	}
	s.fold()
	m := &member[T]{id: id, hash: base.HashString(id), opts: opts, m: newMatcher(prog, s.eval), leads: prog.leads()}
	m.concerns, m.quiet = prog.concerns()
	old := s.member(id)
	switch {
	case gen != nil:
		m.gen = *gen
		s.gens = max(s.gens, m.gen)
	case old != nil && old.m.p.shape == prog.shape:
		m.gen = old.gen
	case old != nil || s.gens > 0:
		s.gens++
		m.gen = s.gens
	}
	if old != nil {
		m.follow(old)
	}
	if m.tag = base.Mix(m.hash, prog.shape); m.gen > 0 {
		m.tag = base.Mix(m.tag, m.gen)
	}
	s.drop(id)
	s.members = append(s.members, m)
	s.touch(m)
	s.byTag[m.tag] = m
	s.stale = true
	return nil
}

// follow makes m count on from the member that it replaces.
func (m *member[T]) follow(old *member[T]) {
	m.m.stats, m.pub = old.m.stats, old.pub
	m.whole, m.spared = old.whole, old.spared
	if old.m.p.shape == m.m.p.shape && old.gen == m.gen {
		m.open, m.held, m.left = old.open, old.held, old.left
	}
}

// Remove takes a pattern out and reports whether there was one.
func (s *Set[T]) Remove(id string) bool {
	if !s.drop(id) {
		return false
	}
	s.gens++
	return true
}

func (s *Set[T]) drop(id string) bool {
	i := slices.IndexFunc(s.members, func(m *member[T]) bool { return m.id == id })
	if i < 0 {
		return false
	}
	s.fold()
	s.members[i].gone = true
	s.stale = true
	s.members = slices.Delete(s.members, i, i+1)
	return true
}

func (s *Set[T]) member(id string) *member[T] {
	for _, m := range s.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

// refresh makes a key follow the changes of the set: runs of patterns that are gone are
// dropped, those of patterns that were replaced by one of the same shape go on in it.
func (s *Set[T]) refresh(k *SetKey[T]) {
	s.settle()
	if k.version == s.version {
		return
	}
	k.version, k.known = s.version, false
	var shared []sub[T]
	kept := k.subs[:0]
	for _, sb := range k.subs {
		if sb.m.shares != nil {
			shared = append(shared, sb)
		} else if sb.m = s.byTag[sb.m.tag]; sb.m != nil {
			kept = append(kept, sb)
		}
	}
	if len(kept)+len(shared) < len(k.subs) { // what is stored must not come back with a pattern of the same shape
		k.changed = true
	}
	clear(k.subs[len(kept):])
	k.subs = kept
	for _, sb := range shared {
		s.move(k, sb)
	}
	k.renew()
}

// renew notes what the members are now.
func (k *SetKey[T]) renew() {
	k.known = false
	for i := range k.subs {
		sb := &k.subs[i]
		sb.ord, sb.loud = sb.m.ord, sb.m.loud
		sb.note()
	}
	k.order()
}

// settle sorts the members after changes.
func (s *Set[T]) settle() {
	if s.stale {
		s.stale = false
		s.index()
	}
}

// compact makes the table of conditions anew when most of it may be of patterns that
// are gone.
func (s *Set[T]) compact() error {
	if len(s.table.exprs) < 2*s.compacted+1024 {
		return nil
	}
	s.settle()
	s.fold()
	n := NewSet[T](s.out.Want)
	n.eval.event, n.eval.evals = s.eval.event, s.eval.evals
	for _, m := range s.members {
		if err := n.put(m.id, m.m.p.source, m.opts, &m.gen); err != nil {
			return err
		}
	}
	for i, m := range n.members {
		m.follow(s.members[i])
	}
	s.table, s.eval, s.members, s.touched = n.table, n.eval, n.members, n.touched
	s.compacted = len(s.table.exprs)
	s.stale = true
	return nil
}

// Names lists the patterns in the order in which they were put in.
func (s *Set[T]) Names() []string {
	names := make([]string, len(s.members))
	for i, m := range s.members {
		names[i] = m.id
	}
	return names
}

// Program returns a pattern's program; nil if there is none of that name.
func (s *Set[T]) Program(id string) *Program[T] {
	if m := s.member(id); m != nil {
		return m.m.p
	}
	return nil
}

// Stats returns what the Matcher of a pattern has counted, and those that it replaced.
func (s *Set[T]) Stats(id string) (Stats, bool) {
	s.fold()
	if m := s.member(id); m != nil {
		return m.stats(), true
	}
	return Stats{}, false
}

// firsts lists Equal conditions of which one holds for every event that can begin a
// run; not ok if there are no such conditions.
func (p *Program[T]) firsts() (ids []int32, ok bool) {
	stack := []uint16{p.start}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, e := range p.nodes[n].edges {
			switch e.act {
			case actProceed:
				stack = append(stack, e.to)
			case actTake:
				if ids, ok = p.table.needs(e.cond, ids); !ok {
					return nil, false
				}
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), true
}

// needs adds Equal conditions of which one must hold for an expression to hold.
func (t *exprTable[T]) needs(id int32, ids []int32) ([]int32, bool) {
	x := &t.exprs[id]
	switch x.op {
	case opLeaf:
		return append(ids, id), x.leaf.eq != nil
	case opAnd:
		if a, ok := t.needs(x.a, slices.Clip(ids)); ok {
			return a, true
		}
		return t.needs(x.b, ids)
	case opOr:
		a, ok := t.needs(x.a, ids)
		if !ok {
			return nil, false
		}
		return t.needs(x.b, a)
	}
	return nil, false
}
