package protocol

import (
	"fmt"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// RecoveryConfig says what a Recovery looks for.
type RecoveryConfig struct {
	Job string
	// Gen is the generation that was claimed for the deployment, or that is to
	// be adopted.
	Gen base.Generation
	// Lanes lists the lanes of the deployment to come. Lanes that only the
	// checkpoint knows are recovered as well.
	Lanes []LaneID
	// Floor is the published floor; 0 when there is none.
	Floor base.Epoch
	// Hint is an epoch that may be durable, such as the newest one that a
	// listing showed; it saves probes and is never trusted. 0 for none.
	Hint base.Epoch
}

// Recovery finds the newest durable epoch and what is left to commit (R3-R5), as
// a pure step function. Every question it asks must be answered; several may be
// open at a time. It never falls back to an older epoch: what contradicts the
// newest one ends the recovery.
//
// A deployment that is still alive may make epochs durable and commit them
// meanwhile. Therefore the store is probed once more after the markers were
// read, and the markers are read again when it has moved: then no marker can be
// ahead of the newest epoch, and none can be missing that a newer manifest knew.
type Recovery struct {
	cfg   RecoveryConfig
	known map[base.Epoch]foundEpoch // looked up by epoch only, never iterated

	phase recoveryPhase
	at    base.Epoch // the epoch being probed or read
	tries int

	tip      base.Epoch
	manifest *Manifest
	lanes    []laneWalk
	markers  int // lanes whose marker is not read yet
	// marked says that the markers were read after tip was found to be the
	// newest epoch.
	marked bool
}

type recoveryPhase uint8

const (
	recoverProbe    recoveryPhase = iota // reading epochs upward
	recoverTip                           // reading the manifest of the newest
	recoverMarkers                       // reading the lanes' markers
	recoverRecord                        // reading records downward
	recoverManifest                      // reading a manifest on the way down
	recoverOver
)

type foundEpoch struct {
	record EpochRecord
	sum    SHA
}

// RecoveryEvent answers a RecoveryAction.
type RecoveryEvent interface{ recoveryEvent() }

// EpochRead answers ReadEpoch. Err set: nothing is known.
type EpochRead struct {
	Epoch base.Epoch
	Found bool
	Body  []byte
	Err   error
}

// ManifestRead answers ReadManifest. Err set: nothing is known.
type ManifestRead struct {
	Epoch base.Epoch
	Found bool
	Body  []byte
	Err   error
}

// LaneMarkerRead answers ReadLaneMarker.
type LaneMarkerRead struct {
	Lane LaneID
	MarkerRead
}

func (EpochRead) recoveryEvent()      {}
func (ManifestRead) recoveryEvent()   {}
func (LaneMarkerRead) recoveryEvent() {}

// RecoveryAction is a question of a Recovery, or its result.
type RecoveryAction interface{ recoveryAction() }

// ReadEpoch: read the record under Key.
type ReadEpoch struct {
	Epoch base.Epoch
	Key   string
	Tries int
}

// ReadManifest: read the manifest under Key.
type ReadManifest struct {
	Epoch base.Epoch
	Key   string
	Tries int
}

// ReadLaneMarker: read the lane's last marker from the leader.
type ReadLaneMarker struct {
	Lane  LaneID
	Tries int
}

// RecoveryDone ends a recovery with its plan.
type RecoveryDone struct{ Plan RecoveryPlan }

// RecoverySuperseded ends a recovery: the newest epoch was made by generation
// Gen, which was deployed after this one was claimed. Do not deploy; claim again
// if this process still holds the lease.
type RecoverySuperseded struct{ Gen base.Generation }

// RecoveryFailed ends a recovery. Err is fatal: a person has to decide.
type RecoveryFailed struct{ Err error }

func (ReadEpoch) recoveryAction()          {}
func (ReadManifest) recoveryAction()       {}
func (ReadLaneMarker) recoveryAction()     {}
func (RecoveryDone) recoveryAction()       {}
func (RecoverySuperseded) recoveryAction() {}
func (RecoveryFailed) recoveryAction()     {}

// RecoveryPlan is what a deployment starts from.
type RecoveryPlan struct {
	// Start goes to NewCoordinator. Its Manifest is nil for a job without any
	// durable epoch; its Uncommitted lists all that is left to commit, oldest
	// first, and is committed by the coordinator repeating Complete.
	Start Start
	// Lanes is ordered by lane.
	Lanes []RecoveredLane
}

// RecoveredLane is where a lane stands.
type RecoveredLane struct {
	Lane  LaneID
	Start LaneStart
	// Replay is the number of blocks left to commit.
	Replay int
}

// NewRecovery returns a recovery and its first question.
func NewRecovery(cfg RecoveryConfig) (*Recovery, []RecoveryAction) {
	r := &Recovery{cfg: cfg, known: map[base.Epoch]foundEpoch{}}
	r.at = max(cfg.Floor, cfg.Hint, 1)
	return r, r.ask()
}

// Step takes one answer.
func (r *Recovery) Step(ev RecoveryEvent) []RecoveryAction {
	switch ev := ev.(type) {
	case EpochRead:
		if ev.Epoch != r.at || r.phase != recoverProbe && r.phase != recoverRecord {
			return nil
		}
		if ev.Err != nil {
			r.tries++
			return r.ask()
		}
		r.tries = 0
		return r.onEpoch(ev)
	case ManifestRead:
		if ev.Epoch != r.at || r.phase != recoverTip && r.phase != recoverManifest {
			return nil
		}
		if ev.Err != nil {
			r.tries++
			return r.ask()
		}
		r.tries = 0
		return r.onManifest(ev)
	case LaneMarkerRead:
		if r.phase != recoverMarkers {
			return nil
		}
		return r.onMarker(ev)
	}
	return nil
}

// ask repeats or issues the question of the phase about epoch at.
func (r *Recovery) ask() []RecoveryAction {
	if r.phase == recoverTip || r.phase == recoverManifest {
		rec := r.known[r.at].record
		return []RecoveryAction{ReadManifest{r.at, ManifestKey(r.cfg.Job, rec.Try(), rec.Gen), r.tries}}
	}
	return []RecoveryAction{ReadEpoch{r.at, EpochKey(r.cfg.Job, r.at), r.tries}}
}

func (r *Recovery) onEpoch(ev EpochRead) []RecoveryAction {
	if !ev.Found {
		return r.onNoEpoch()
	}
	rec, err := DecodeEpochRecord(ev.Body)
	if err == nil && (rec.Job != r.cfg.Job || rec.Epoch != r.at) {
		err = fmt.Errorf("it describes epoch %d of job %s", rec.Epoch, rec.Job)
	}
	if err != nil {
		return r.storeBroken("the record is damaged", err)
	}
	r.known[r.at] = foundEpoch{rec, SumSHA(ev.Body)}
	if below, ok := r.known[r.at-1]; ok && rec.Prev != below.sum {
		return r.storeBroken("the record does not continue the one before", nil)
	}
	if above, ok := r.known[r.at+1]; ok && above.record.Prev != r.known[r.at].sum {
		return r.storeBroken("the next record does not continue this one", nil)
	}
	if r.phase == recoverRecord {
		return r.walk()
	}
	r.tip, r.marked = r.at, false
	r.at++
	return r.ask()
}

// onNoEpoch takes the absence of epoch at: while probing, that is the end.
func (r *Recovery) onNoEpoch() []RecoveryAction {
	switch first := max(r.cfg.Floor, 1); {
	case r.phase == recoverRecord:
		return r.storeBroken("the record is missing, but a lane has not committed all before it", nil)
	case r.marked:
		return r.plan()
	case r.tip > 0 && r.known[r.tip].record.Gen > r.cfg.Gen:
		r.phase = recoverOver
		return []RecoveryAction{RecoverySuperseded{r.known[r.tip].record.Gen}}
	case r.tip > 0:
		r.phase, r.at = recoverTip, r.tip
		return r.ask()
	case r.at > first: // the hint was wrong
		r.at = first
		return r.ask()
	case r.cfg.Floor > 0:
		return r.storeBroken("the record is missing, but the floor says that it is kept", nil)
	}
	return r.readMarkers() // a new job
}

func (r *Recovery) onManifest(ev ManifestRead) []RecoveryAction {
	if !ev.Found {
		return r.storeBroken("the manifest is missing", nil)
	}
	m, err := VerifyManifest(r.known[r.at].record, ev.Body)
	if err != nil {
		return r.storeBroken("the manifest is damaged", err)
	}
	if r.phase == recoverManifest {
		return r.descend(m)
	}
	r.manifest = m
	return r.readMarkers()
}

// VerifyManifest checks an encoded manifest against the record that names it,
// and its content, and returns it decoded.
func VerifyManifest(rec EpochRecord, body []byte) (*Manifest, error) {
	if sum := SumSHA(body); sum != rec.Manifest {
		return nil, fmt.Errorf("its sum is %s, the record names %s", sum, rec.Manifest)
	}
	m, err := DecodeManifest(body)
	if err != nil {
		return nil, err
	}
	if m.Job != rec.Job || m.Epoch != rec.Epoch || m.Gen != rec.Gen || m.Attempt != rec.Attempt || m.Prev != rec.Prev {
		return nil, fmt.Errorf("it describes try %s of generation %d, the record %s of generation %d",
			Try{m.Epoch, m.Attempt}, m.Gen, rec.Try(), rec.Gen)
	}
	return m, m.Check()
}

// storeBroken ends the recovery: the checkpoint store contradicts itself at
// epoch at. It names the object that was read last, or is missing.
func (r *Recovery) storeBroken(what string, cause error) []RecoveryAction {
	object := EpochKey(r.cfg.Job, r.at)
	if r.phase == recoverTip || r.phase == recoverManifest {
		rec := r.known[r.at].record
		object = ManifestKey(r.cfg.Job, rec.Try(), rec.Gen) + " or its record " + object
	}
	r.phase = recoverOver
	return []RecoveryAction{RecoveryFailed{base.Fatal(&base.Error{
		Code: "WEIR-0381", Where: fmt.Sprintf("checkpoint store, epoch %d, %s", r.at, object), What: what, Cause: cause,
		Next: "restore the checkpoint store from a copy; an older epoch is not used by itself, because output of this one may be visible",
	})}}
}

func (r *Recovery) laneBroken(id LaneID, format string, args ...any) []RecoveryAction {
	r.phase = recoverOver
	return []RecoveryAction{RecoveryFailed{laneError(id, fmt.Errorf(format, args...))}}
}

// readMarkers asks for the markers of all lanes (R4).
func (r *Recovery) readMarkers() []RecoveryAction {
	ids := slices.Clone(r.cfg.Lanes)
	if r.manifest != nil {
		for i := range r.manifest.Lanes {
			ids = append(ids, r.manifest.Lanes[i].Block.Lane)
		}
	}
	slices.SortFunc(ids, func(a, b LaneID) int {
		if a == b {
			return 0
		}
		return order(a.Less(b))
	})
	r.phase, r.lanes = recoverMarkers, nil
	var acts []RecoveryAction
	for _, id := range slices.Compact(ids) {
		r.lanes = append(r.lanes, laneWalk{id: id})
		acts = append(acts, ReadLaneMarker{id, 0})
	}
	r.markers = len(r.lanes)
	if r.markers == 0 {
		return r.plan()
	}
	return acts
}
