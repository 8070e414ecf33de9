package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/clock"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

// MarkerReader reads the last marker of a lane from the sink's leader.
type MarkerReader func(ctx context.Context, lane protocol.LaneID) protocol.MarkerRead

// Recover finds, for a claimed generation, the newest durable epoch of the job and
// what is left to commit.
func Recover(ctx context.Context, r *Records, gen base.Generation, lanes []protocol.LaneID, markers MarkerReader, clk clock.Clock) (protocol.RecoveryPlan, error) {
	floor, err := r.Floor(ctx)
	if err != nil {
		return protocol.RecoveryPlan{}, err
	}
	core, acts := protocol.NewRecovery(protocol.RecoveryConfig{Job: r.Job, Gen: gen, Lanes: lanes, Floor: floor, Hint: r.EpochHint(ctx)})
	for len(acts) > 0 {
		act := acts[0]
		acts = acts[1:]
		var ev protocol.RecoveryEvent
		switch a := act.(type) {
		case protocol.RecoveryDone:
			crash.At(crash.RecAfterMarkers)
			return a.Plan, nil
		case protocol.RecoverySuperseded:
			return protocol.RecoveryPlan{}, fmt.Errorf("%w: generation %d", ErrSuperseded, a.Gen)
		case protocol.RecoveryFailed:
			return protocol.RecoveryPlan{}, a.Err
		case protocol.ReadEpoch:
			body, found, err := r.read(ctx, a.Key)
			ev, err = protocol.EpochRead{Epoch: a.Epoch, Found: found, Body: body, Err: err}, wait(ctx, clk, a.Tries)
			if err != nil {
				return protocol.RecoveryPlan{}, err
			}
		case protocol.ReadManifest:
			crash.At(crash.RecAfterFind)
			body, found, err := r.read(ctx, a.Key)
			ev, err = protocol.ManifestRead{Epoch: a.Epoch, Found: found, Body: body, Err: err}, wait(ctx, clk, a.Tries)
			if err != nil {
				return protocol.RecoveryPlan{}, err
			}
		case protocol.ReadLaneMarker:
			if err := wait(ctx, clk, a.Tries); err != nil {
				return protocol.RecoveryPlan{}, err
			}
			ev = protocol.LaneMarkerRead{Lane: a.Lane, MarkerRead: markers(ctx, a.Lane)}
		}
		acts = append(acts, core.Step(ev)...)
	}
	return protocol.RecoveryPlan{}, errors.New("the recovery ended without a result")
}

func (r *Records) read(ctx context.Context, key string) (body []byte, found bool, err error) {
	body, err = r.Blob.Get(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, false, nil
	}
	return body, err == nil, err
}

// wait pauses before a repeated access.
func wait(ctx context.Context, clk clock.Clock, tries int) error {
	if tries == 0 {
		return ctx.Err()
	}
	return clk.Sleep(ctx, min(50*time.Millisecond<<min(tries, 8), 5*time.Second))
}

// Epochs lists the durable epochs that a listing shows, oldest first, with their
// records.
func (r *Records) Epochs(ctx context.Context) ([]protocol.EpochRecord, error) {
	hint := r.EpochHint(ctx)
	var out []protocol.EpochRecord
	floor, err := r.Floor(ctx)
	if err != nil {
		return nil, err
	}
	for n := max(floor, 1); n <= hint; n++ {
		body, found, err := r.read(ctx, protocol.EpochKey(r.Job, n))
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		rec, err := protocol.DecodeEpochRecord(body)
		if err != nil {
			return nil, base.Fatal(err)
		}
		out = append(out, rec)
	}
	return out, nil
}

// Manifest reads and verifies the manifest that a record names.
func (r *Records) Manifest(ctx context.Context, rec protocol.EpochRecord) (*protocol.Manifest, error) {
	body, err := r.Blob.Get(ctx, protocol.ManifestKey(r.Job, rec.Try(), rec.Gen))
	if err != nil {
		return nil, err
	}
	return protocol.VerifyManifest(rec, body)
}
