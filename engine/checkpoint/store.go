// Package checkpoint makes epochs durable and drives their commit: the records
// of a job in the checkpoint store, recovery, and the coordinator's loop. The
// decisions are those of internal/protocol; this package is their I/O.
package checkpoint

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

// Records reads and writes the records of one job.
type Records struct {
	Blob blob.Store
	Job  string
}

// JobUID returns the UID of the job of that name, 32 hexadecimal digits, and
// makes one when the store has none.
func JobUID(ctx context.Context, b blob.Store, name string) (string, error) {
	uid, err := LookupUID(ctx, b, name)
	if !errors.Is(err, blob.ErrNotFound) {
		return uid, err
	}
	if err := checkNamed(ctx, b, name); err != nil {
		return "", err
	}
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	uid = hex.EncodeToString(raw[:])
	created, err := b.PutIfAbsent(ctx, nameKey(name), []byte(nameRecord(name, uid)))
	if err != nil {
		return "", fmt.Errorf("register job %s: %w", name, err)
	}
	if created {
		return uid, nil
	}
	return LookupUID(ctx, b, name)
}

// checkNamed refuses a store with a job that no name belongs to: the record of a
// name was lost, perhaps of this one, and the job would begin again. Names are
// written before anything else of a job, so they are listed last.
func checkNamed(ctx context.Context, b blob.Store, name string) error {
	jobs, err := b.List(ctx, "jobs/")
	if err != nil || len(jobs) == 0 {
		return err
	}
	names, err := b.List(ctx, nameKey(""))
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, n := range names {
		uid, err := LookupUID(ctx, b, strings.TrimPrefix(n, nameKey("")))
		if err != nil {
			return err
		}
		known[uid] = true
	}
	for _, key := range jobs {
		if uid, _, _ := strings.Cut(strings.TrimPrefix(key, "jobs/"), "/"); !known[uid] {
			return base.Fatal(&base.Error{
				Code: "WEIR-0383", What: fmt.Sprintf("the store has no job %s, but checkpoints of a job whose name is lost, %s", name, uid),
				Where: "checkpoint store, " + nameKey(name),
				Next:  "restore the file from a copy: without it the job would begin again and publish everything a second time; use another store for a new job",
			})
		}
	}
	return nil
}

// uidLen is the length of a job's UID in characters.
const uidLen = 32

func nameKey(name string) string { return "names/" + name }

// nameRecord is what the store keeps under a job's name: its UID and a sum of both.
// With another UID the job would start afresh, and publish everything again, so a
// damaged one must not pass. The form must not change, because stores outlive
// programs.
func nameRecord(name, uid string) string {
	return fmt.Sprintf("%s-%016x", uid, base.HashString(name+"/"+uid))
}

// LookupUID is JobUID for readers: it makes nothing, and fails with
// blob.ErrNotFound.
func LookupUID(ctx context.Context, b blob.Store, name string) (string, error) {
	got, err := b.Get(ctx, nameKey(name))
	if err != nil {
		return "", fmt.Errorf("read the UID of job %s: %w", name, err)
	}
	if len(got) < uidLen || nameRecord(name, string(got[:uidLen])) != string(got) {
		return "", base.Fatal(&base.Error{
			Code: "WEIR-0383", What: "the record of the job's UID is damaged", Where: "checkpoint store, " + nameKey(name),
			Next: "restore it from a copy: without it the job would begin again and publish everything a second time",
		})
	}
	return string(got[:uidLen]), nil
}

// ClaimTerm claims the next term for a coordinator.
func (r *Records) ClaimTerm(ctx context.Context, holder string) (base.Term, error) {
	t := base.Term(r.highest(ctx, "term")) + 1
	for {
		body, err := protocol.TermRecord{Job: r.Job, Term: t, Holder: holder}.Encode()
		if err != nil {
			return 0, err
		}
		created, err := r.Blob.PutIfAbsent(ctx, protocol.TermKey(r.Job, t), body)
		switch {
		case err != nil:
			return 0, fmt.Errorf("claim term %d: %w", t, err)
		case created:
			return t, nil
		}
		t++
	}
}

// ClaimGeneration claims the next generation for a deployment.
func (r *Records) ClaimGeneration(ctx context.Context, rec protocol.GenRecord) (base.Generation, error) {
	g := base.Generation(r.highest(ctx, "gen")) + 1
	for {
		rec.Job, rec.Gen = r.Job, g
		body, err := rec.Encode()
		if err != nil {
			return 0, err
		}
		crash.At(crash.GenBeforePut)
		created, err := r.Blob.PutIfAbsent(ctx, protocol.GenKey(r.Job, g), body)
		switch {
		case err != nil:
			return 0, fmt.Errorf("claim generation %d: %w", g, err)
		case created:
			crash.At(crash.GenAfterPut)
			return g, nil
		}
		g++
	}
}

// highest returns the highest number listed under a folder of the job. A listing
// is only a hint: whoever claims goes on upward from it.
func (r *Records) highest(ctx context.Context, folder string) uint64 {
	prefix := "jobs/" + r.Job + "/" + folder + "/"
	names, err := r.Blob.List(ctx, prefix)
	if err != nil {
		return 0
	}
	var high uint64
	for _, n := range names {
		if v, err := strconv.ParseUint(n[strings.LastIndexByte(n, '/')+1:], 10, 64); err == nil {
			high = max(high, v)
		}
	}
	return high
}

// EpochHint returns an epoch that may be the newest, from a listing; 0 for none.
func (r *Records) EpochHint(ctx context.Context) base.Epoch {
	return base.Epoch(r.highest(ctx, "epochs"))
}

// Floor returns the published floor; 0 when there is none.
func (r *Records) Floor(ctx context.Context) (base.Epoch, error) {
	body, err := r.Blob.Get(ctx, protocol.FloorKey(r.Job))
	if errors.Is(err, blob.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	f, err := protocol.DecodeFloorRecord(body)
	if err == nil && f.Job != r.Job {
		err = fmt.Errorf("it describes job %s", f.Job)
	}
	if err != nil {
		return 0, base.Fatal(&base.Error{
			Code: "WEIR-0381", What: "the floor record is damaged", Where: "checkpoint store, " + protocol.FloorKey(r.Job), Cause: err,
			Next: "restore the checkpoint store from a copy",
		})
	}
	return f.Floor, nil
}

// ReadManifestOf returns the manifest that the record of an epoch names.
func (r *Records) ReadManifestOf(ctx context.Context, n base.Epoch) (protocol.SHA, bool, error) {
	body, err := r.Blob.Get(ctx, protocol.EpochKey(r.Job, n))
	if errors.Is(err, blob.ErrNotFound) {
		return protocol.SHA{}, false, nil
	}
	if err != nil {
		return protocol.SHA{}, false, err
	}
	rec, err := protocol.DecodeEpochRecord(body)
	return rec.Manifest, err == nil, err
}

// claim creates the record of an epoch (C9).
func (r *Records) claim(ctx context.Context, a protocol.ClaimEpoch) protocol.ClaimResult {
	res := protocol.ClaimResult{Try: a.Try}
	if _, err := r.Blob.Get(ctx, protocol.GenKey(r.Job, a.NextGen)); err == nil {
		res.Outcome = protocol.ClaimStale
		return res
	}
	crash.At(crash.CoordBeforeClaim)
	created, err := r.Blob.PutIfAbsent(ctx, a.Key, a.Body)
	crash.At(crash.CoordAfterClaimUnacked)
	switch {
	case err != nil:
		res.Outcome, res.Err = protocol.ClaimUnknown, err
	case created:
		res.Outcome = protocol.ClaimCreated
	default:
		r.compare(ctx, a, &res)
	}
	return res
}

// compare tells our own record from another's.
func (r *Records) compare(ctx context.Context, a protocol.ClaimEpoch, res *protocol.ClaimResult) {
	got, err := r.Blob.Get(ctx, a.Key)
	switch {
	case err != nil:
		res.Outcome, res.Err = protocol.ClaimUnknown, err
	case bytes.Equal(got, a.Body):
		res.Outcome = protocol.ClaimIdentical
	default:
		res.Outcome = protocol.ClaimOther
	}
}

// fence reads what a claim is checked against afterwards.
func (r *Records) fence(ctx context.Context, a protocol.ReadFence, term base.Term, gen base.Generation) protocol.FenceRead {
	res := protocol.FenceRead{Try: a.Try, Term: term, Gen: gen}
	for ; ; res.Term++ {
		if found, err := r.exists(ctx, protocol.TermKey(r.Job, res.Term+1)); err != nil || !found {
			res.Err = err
			break
		}
	}
	for ; res.Err == nil; res.Gen++ {
		if found, err := r.exists(ctx, protocol.GenKey(r.Job, res.Gen+1)); err != nil || !found {
			res.Err = err
			break
		}
	}
	if res.Err == nil {
		res.Floor, res.Err = r.Floor(ctx)
	}
	return res
}

func (r *Records) exists(ctx context.Context, key string) (bool, error) {
	_, err := r.Blob.Get(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
