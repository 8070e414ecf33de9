package protocol

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

func epochOf(n int) base.Epoch { return base.Epoch(n) }

// failf reports a violated invariant; the next move carries it.
func (m *model) failf(format string, args ...any) {
	if m.bad == nil {
		m.bad = fmt.Errorf(format, args...)
	}
}

// alarm takes an error that would stop the job. Unless the sink did lose a
// marker, nothing may ever be fatal: a false alarm is a violation.
func (m *model) alarm(w world, err error) {
	if !errors.Is(err, base.ErrFatal) {
		return
	}
	for l := range m.lanes {
		if m.sinks.vals[w.sink[l]].lost {
			m.noticed = true
			return
		}
	}
	m.failf("false alarm: %v", err)
}

// checkClaim checks what has just become durable: I4 (the chain), I6 (state and
// source agree, nothing goes back), and that the blocks hold exactly what the
// state's records put out (I3's other half).
func (m *model) checkClaim(w world, n int) {
	s := m.stores.vals[w.store]
	rec := m.epochRecord(s, epochOf(n))
	man := m.manifests[rec.Manifest]
	var prevState []byte
	if n > 1 {
		if rec.Prev != SumSHA(s.epochs[n-2]) {
			m.failf("I4: the record of epoch %d does not continue that of epoch %d", n, n-1)
			return
		}
		prevState = m.stateOf(m.manifests[m.epochRecord(s, epochOf(n-1)).Manifest])
	}
	state := m.stateOf(man)
	if off := int(man.Splits[0].Offset); off != len(state) || slices.Contains(state, 0) {
		m.failf("I6: epoch %d: the source stands at %d, the state holds %v", n, off, state)
		return
	}
	if len(state) < len(prevState) || !slices.Equal(state[:len(prevState)], prevState) {
		m.failf("I6: epoch %d: state %v does not continue %v", n, state, prevState)
		return
	}
	for l := range m.lanes {
		want := m.outputs(state, len(prevState), len(state), l)
		if got := m.blocks[man.Lanes[l].Block.SHA]; !slices.Equal(got, want) {
			m.failf("I3: epoch %d: lane %d publishes %v, the state has %v", n, l, got, want)
		}
	}
}

func (m *model) stateOf(man *Manifest) []byte {
	for i := range man.Tasks {
		if man.Tasks[i].Task == taskK {
			return m.fold(man.Tasks[i].Objects)
		}
	}
	return nil
}

// wanted is what a lane holds when every durable epoch is committed.
func (m *model) wanted(store uint32, l int) []uint16 {
	key := [2]uint32{store, uint32(l)}
	if log, ok := m.wantedLogs[key]; ok {
		return log
	}
	s := m.stores.vals[store]
	var log []uint16
	for n := range s.epochs {
		man := m.manifests[m.epochRecord(s, epochOf(n+1)).Manifest]
		log = append(log, m.blocks[man.Lanes[l].Block.SHA]...)
	}
	m.wantedLogs[key] = log
	return log
}

// checkLog checks I1, I2 and I3 after a write: what is visible in the lane is
// the beginning of the durable epochs' blocks, in order, and nothing else.
func (m *model) checkLog(w world, l int) {
	log, want := m.sinks.vals[w.sink[l]].log, m.wanted(w.store, l)
	if len(log) > len(want) || !slices.Equal(log, want[:len(log)]) {
		m.failf("I1-I3: lane %d shows %v, the durable epochs say %v", l, log, want)
	}
}

// checkHeal checks that a fresh start without faults would commit everything
// that is durable: the job is never stuck.
func (m *model) checkHeal(w world) {
	key := healKey{w.store, w.sink}
	if m.healed[key] {
		return
	}
	m.healed[key] = true
	for l := range m.lanes {
		if m.sinks.vals[w.sink[l]].lost {
			return
		}
	}
	c := &coordM{term: modelTerms + 1, stage: stageProbe, gen: modelGens + 1}
	m.probe(w, c)
	plan, err := m.recoverPlan(w, c)
	if err != nil {
		m.failf("false alarm: %v", err)
		return
	}
	m.mutatePlan(w, c.gen, plan)
	p := m.deploy(base.Generation(m.stores.vals[w.store].gens+1), c.term, plan)
	if m.bad != nil {
		return
	}
	for _, u := range plan.Start.Uncommitted {
		for _, st := range u.Complete.Lanes {
			m.laneStep2(w, p, st.Block.Lane.Lane, BlockClaimed{Claimed{u.Try.Epoch, u.Complete.Manifest, st}})
		}
	}
	for l := range m.lanes {
		for p.ops[l] != nil && m.bad == nil {
			after, ok := m.apply(w, l, p.ops[l])
			if !ok {
				m.failf("stuck: a recovered lane's batch is refused")
				return
			}
			w = after
			m.laneStep(w, p, l, PublishOK{m.sinks.vals[w.sink[l]].seq})
		}
		if got, want := m.sinks.vals[w.sink[l]].log, m.wanted(w.store, l); m.bad == nil && !slices.Equal(got, want) {
			m.failf("stuck: after recovery lane %d shows %v, the durable epochs say %v", l, got, want)
		}
	}
}

type healKey struct {
	store uint32
	sink  [modelLanes]uint32
}

// mutatePlan plants the recovery bugs.
func (m *model) mutatePlan(w world, g base.Generation, plan *RecoveryPlan) {
	switch m.mut {
	case mutNoReplay:
		plan.Start.Uncommitted = nil
	case mutReplayNewest:
		if n := len(plan.Start.Uncommitted); n > 0 {
			plan.Start.Uncommitted = plan.Start.Uncommitted[n-1:]
		}
	case mutRestoreStaged:
		man := m.manifests[m.stores.vals[w.store].staged]
		if man == nil || man.Epoch < plan.Start.Record.Epoch || man.Gen > g {
			return
		}
		rec := EpochRecord{Job: modelJob, Epoch: man.Epoch, Gen: man.Gen, Attempt: man.Attempt, Manifest: m.stores.vals[w.store].staged, Prev: man.Prev}
		body, err := rec.Encode()
		if err != nil {
			m.failf("%v", err)
		}
		plan.Start.Record, plan.Start.RecordSHA, plan.Start.Manifest = rec, SumSHA(body), man
	}
}
