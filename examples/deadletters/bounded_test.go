package main

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
)

// TestJobThatEndsTakesRetriesAtItsNextRun runs a job on input that ends: so does the
// job, in spite of its retry stream, and takes what was sent back when it runs again.
func TestJobThatEndsTakesRetriesAtItsNextRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	src, sink, good := memory.NewSource[Order](), memory.NewSink[int](), false
	for i := range 10 {
		src.Append("0", 0, Order{ID: i})
	}
	src.Finish()
	bounded := weir.NewJob("bounded", func(j *weir.Job) {
		in := weir.From(j, "in", src, weir.ProcessingTime[Order](), weir.OnError(weir.DeadLetter))
		ids := weir.TryMap(in, "check", func(o Order) (int, error) {
			if o.ID%5 == 3 && !good {
				return 0, errors.New("not yet")
			}
			return o.ID, nil
		}, weir.OnError(weir.DeadLetter))
		weir.To(ids, "out", sink.Sink())
		weir.DeadLetters(j, "dead", weir.DeadLetterStream("BOUNDED-DEAD"))
	})
	opts := weir.Options{DataDir: dir}
	if err := weir.Run(t.Context(), bounded, opts); err != nil {
		t.Fatal(err)
	}
	if n := len(sink.Visible()); n != 8 {
		t.Errorf("%d records, want 8", n)
	}
	if out := dlq(t, "retry", "--all", "--stream", "BOUNDED-DEAD", "--data-dir", dir); out != "2 dead letters sent back\n" {
		t.Errorf("retry: %s", out)
	}
	good = true
	if err := weir.Run(t.Context(), bounded, opts); err != nil {
		t.Fatal(err)
	}
	got := sink.Visible()
	slices.Sort(got)
	if !slices.Equal(got, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
		t.Errorf("records in the end: %v", got)
	}
}
