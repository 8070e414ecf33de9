package weir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"github.com/weirflow/weir/engine/checkpoint"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

// codeBroken: the checkpoint store is damaged.
const codeBroken = "WEIR-0390"

func (c *cli) checkpointCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Look at the checkpoints of a job",
		Long: `Look at the checkpoints of a job, from its store. The job may run meanwhile; nothing
is changed.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			cmd.SuggestionsMinimumDistance = 2
			return unknown(cmd, "command", "checkpoint "+args[0], cmd.SuggestionsFor(args[0]))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		c.storeCommand("ls [JOB]", "List the checkpoints of a job", 1, listCheckpoints),
		c.storeCommand("describe [JOB] [EPOCH|latest]", "Show what a checkpoint holds", 2, describeCheckpoint),
		c.storeCommand("verify [JOB] [EPOCH|latest]",
			"Read every object of the checkpoints and compare its sum; exit code 1 if one is damaged", 2, verifyCheckpoints),
	)
	return cmd
}

// storeQuery is what a command asks of a store.
type storeQuery struct {
	rec *checkpoint.Records
	job string
	// epoch is the epoch that was asked for; 0 when none was.
	epoch base.Epoch
	json  bool
	out   io.Writer
}

func (c *cli) storeCommand(use, short string, most int, f func(context.Context, *storeQuery) error) *cobra.Command {
	form := word{value: "table", allowed: []string{"table", "json"}}
	var dir string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args(most),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := &storeQuery{json: form.value == "json", out: cmd.OutOrStdout()}
			return c.query(cmd.Context(), q, dir, args, f)
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "data directory of the job (default weir-data/JOB)")
	cmd.Flags().VarP(&form, "output", "o", "form of the output")
	return cmd
}

// query opens the store and answers. A single argument that is an epoch leaves
// the job out.
func (c *cli) query(ctx context.Context, q *storeQuery, dir string, args []string, f func(context.Context, *storeQuery) error) error {
	epoch := ""
	if n := len(args); n > 0 && (n == 2 || isEpoch(args[0])) {
		epoch, args = args[n-1], args[:n-1]
	}
	if len(args) > 0 {
		q.job = args[0]
		if err := base.CheckUID(q.job); err != nil {
			return &base.Error{Code: codeJob, What: fmt.Sprintf("%q does not name a job", q.job), Cause: err}
		}
	}
	if epoch != "" && !isEpoch(epoch) {
		return &base.Error{Code: codeValue, What: fmt.Sprintf("%q is not the number of a checkpoint", epoch), Next: "give a number from checkpoint ls, or latest"}
	}
	store, err := c.openStore(ctx, q, dir)
	if err != nil {
		return err
	}
	uid, err := lookupUID(ctx, store, q.job)
	if err != nil {
		return err
	}
	q.rec = &checkpoint.Records{Blob: store, Job: uid}
	switch {
	case epoch == "latest":
		if q.epoch = q.rec.EpochHint(ctx); q.epoch == 0 {
			return noEpoch(q, epoch)
		}
	case epoch != "":
		n, _ := strconv.ParseUint(epoch, 10, 64) // isEpoch has looked
		q.epoch = base.Epoch(n)
	}
	return f(ctx, q)
}

// isEpoch reports whether an argument can be an epoch: a number without sign or
// leading zeros, or "latest".
func isEpoch(s string) bool {
	n, err := strconv.ParseUint(s, 10, 64)
	return s == "latest" || err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

// openStore opens the store for reading, and finds the job when none is named:
// the binary's only one, or else the store's.
func (c *cli) openStore(ctx context.Context, q *storeQuery, dir string) (blob.Store, error) {
	if q.job == "" && len(c.jobs) == 1 {
		q.job = c.jobs[0].name
	}
	if dir == "" {
		if q.job == "" {
			return nil, &base.Error{Code: codeJob, What: "whose checkpoints?", Next: "name a job or give --data-dir"}
		}
		dir = filepath.Join("weir-data", q.job)
	}
	path := filepath.Join(dir, checkpointDir)
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return nil, &base.Error{
			Code: codeNoStore, What: "there are no checkpoints", Where: path, Cause: err,
			Next: "check --data-dir; it is where run keeps its data",
		}
	}
	store, err := blob.NewDir(vfs.Default, path, fmt.Sprintf("read-%d", os.Getpid()))
	if err != nil {
		return nil, storeError(path, err)
	}
	if q.job != "" {
		return store, nil
	}
	names, err := store.List(ctx, "names/")
	if err != nil {
		return nil, storeError(path, err)
	}
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], "names/")
	}
	if len(names) != 1 {
		return nil, &base.Error{Code: codeJob, What: "whose checkpoints?", Next: "the store has " + strings.Join(names, ", ")}
	}
	q.job = names[0]
	return store, nil
}

// lookupUID returns the UID of a job of the store.
func lookupUID(ctx context.Context, store blob.Store, job string) (string, error) {
	uid, err := checkpoint.LookupUID(ctx, store, job)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return "", &base.Error{Code: codeNoStore, What: "the store has no checkpoints of job " + job, Next: "check the name and --data-dir"}
	case base.CodeOf(err) != "":
		return "", err
	case err != nil:
		return "", storeError("names/"+job, err)
	}
	if len(uid) != 32 || strings.Trim(uid, "0123456789abcdef") != "" {
		return "", broken("names/"+job, fmt.Errorf("it holds %.40q instead of 32 hexadecimal digits", uid))
	}
	return uid, nil
}

func noEpoch(q *storeQuery, epoch string) error {
	return &base.Error{
		Code: codeNoEpoch, What: fmt.Sprintf("job %s has no checkpoint %s", q.job, epoch),
		Next: "checkpoint ls lists those there are; old ones are deleted",
	}
}

// broken is the error for an object that is damaged.
func broken(object string, cause error) error {
	return &base.Error{
		Code: codeBroken, What: "the checkpoint store is damaged", Where: object, Cause: cause,
		Next: "restore the object from a copy of the store; checkpoint verify looks for further damage",
	}
}

// record reads the record of an epoch and its sum; found is false without one.
func (q *storeQuery) record(ctx context.Context, n base.Epoch) (rec protocol.EpochRecord, sum protocol.SHA, found bool, err error) {
	key := protocol.EpochKey(q.rec.Job, n)
	body, err := q.rec.Blob.Get(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return rec, sum, false, nil
	}
	if err != nil {
		return rec, sum, false, broken(key, err)
	}
	rec, err = protocol.DecodeEpochRecord(body)
	if err == nil && (rec.Job != q.rec.Job || rec.Epoch != n) {
		err = fmt.Errorf("it is the record of epoch %d of job %s", rec.Epoch, rec.Job)
	}
	if err != nil {
		return rec, sum, false, broken(key, err)
	}
	return rec, protocol.SumSHA(body), true, nil
}

// manifest reads the manifest that a record names.
func (q *storeQuery) manifest(ctx context.Context, rec protocol.EpochRecord) (*protocol.Manifest, error) {
	m, err := q.rec.Manifest(ctx, rec)
	if err != nil {
		return nil, broken(protocol.ManifestKey(q.rec.Job, rec.Try(), rec.Gen), err)
	}
	return m, nil
}

// rangeOf returns the first and the last epoch that the store should hold.
func (q *storeQuery) rangeOf(ctx context.Context) (first, last base.Epoch, err error) {
	floor, err := q.rec.Floor(ctx)
	if err != nil {
		return 0, 0, broken(protocol.FloorKey(q.rec.Job), err)
	}
	return max(floor, 1), q.rec.EpochHint(ctx), nil
}

// write prints v as JSON, or what table writes in columns.
func (q *storeQuery) write(v any, table func(io.Writer)) error {
	if q.json {
		enc := json.NewEncoder(q.out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	tw := tabwriter.NewWriter(q.out, 0, 0, 2, ' ', 0)
	table(tw)
	return tw.Flush()
}
