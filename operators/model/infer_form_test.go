package model

import (
	"encoding/binary"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
)

// TestFirstForms reads what versions before arms have written: records in flight
// without an arm, results without a latency.
func TestFirstForms(t *testing.T) {
	in, _ := codec.For[string]()
	n := &infer[string, string, string, string]{spec: Spec[string, string, string, string]{In: in, Out: in}}
	rec, answer := "record", "answer"
	result := appendString(appendString([]byte{1, isDegraded}, "v7"), "tree")
	result = binary.AppendVarint(binary.AppendVarint(result, 3), 4)
	result = in.Append(result, &answer)

	b := append([]byte{1, hasResult}, 1, 2, 3, 4, 5, 6, 7, 8)
	b = binary.LittleEndian.AppendUint64(b, 1000)
	b = binary.LittleEndian.AppendUint64(b, 2000)
	b = append(b, 5, 1)
	b = appendString(appendString(b, "name"), "value")
	enc := in.Append(nil, &rec)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(enc))), enc...)
	b = append(b, result...)

	var c call[string, string]
	if err := n.readState(&c, 99, make([]byte, stateKeyLen), b); err != nil {
		t.Fatal(err)
	}
	want := Result[string]{Out: "answer", Version: "v7", By: "tree", Degraded: true, Usage: Usage{3, 4}}
	if c.val != rec || c.attempt != 5 || c.meta.Time != 1000 || c.weight != FullWeight || c.arm != "" || !c.arrived || !reflect.DeepEqual(c.res, want) ||
		(*c.meta.Headers)[0] != (base.Header{Name: "name", Value: "value"}) {
		t.Errorf("%+v", c)
	}
	var fail Result[string]
	if err := n.decodeResult(append([]byte{1, isFailure, byte(Limited)}, 6, 8, 1, 'x'), &fail); err != nil {
		t.Fatal(err)
	}
	if f, ok := fail.Err.(*Failure); !ok || f.Kind != Limited || f.Status != 3 || f.RetryAfter != 4 || f.What != "x" {
		t.Errorf("%+v", fail.Err)
	}
}

// TestForms writes and reads, and reads what is cut short.
func TestForms(t *testing.T) {
	in, _ := codec.For[string]()
	n := &infer[string, string, string, string]{spec: Spec[string, string, string, string]{In: in, Out: in}}
	for _, res := range []Result[string]{
		{Out: "answer", Version: "v7", Cached: true, Asked: Asked{Latency: 3 * time.Second}},
		{Err: &Failure{Kind: Invalid, Status: -1, RetryAfter: time.Minute, What: "no"}, Asked: Asked{Latency: time.Nanosecond}},
	} {
		c := call[string, string]{
			val: "record", meta: base.Meta{Hash: 99, Time: -5}, choice: choice{arm: "canary", weight: 100, routing: 1 << 40}, arrived: true, res: res, attempt: 2,
		}
		b, err := n.appendState(nil, &c)
		if err != nil {
			t.Fatal(err)
		}
		var got call[string, string]
		if err := n.readState(&got, 99, make([]byte, stateKeyLen), b); err != nil {
			t.Fatal(err)
		}
		got.resStored = false
		c.maybe = true // it may have been asked for
		if !reflect.DeepEqual(got, c) {
			t.Errorf("%+v, want %+v", got, c)
		}
		for k := range len(b) {
			var short call[string, string]
			if err := n.readState(&short, 99, make([]byte, stateKeyLen), b[:k]); err == nil && short.arrived {
				t.Errorf("a record cut to %d of %d bytes has a result", k, len(b))
			}
		}
	}
	r := Routing{Version: 7, Arms: []Share{{"a", 1}, {"b", 9999}}, Shadows: []string{"b"}}
	n.spec.Arms = []Arm[string, string]{{Name: "a"}, {Name: "b"}}
	n.route.Routing = r
	b := n.Snapshot()
	if got, err := readRouting(b); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	for k := range len(b) {
		if _, err := readRouting(b[:k]); err == nil {
			t.Errorf("a routing cut to %d of %d bytes is read", k, len(b))
		}
	}
}

// TestNewestRoutingWins, should subtasks have had different ones.
func TestNewestRoutingWins(t *testing.T) {
	everything := func(version uint64) []byte {
		r := Everything("b")
		r.Version = version
		n := &infer[string, string, string, string]{spec: Spec[string, string, string, string]{Arms: []Arm[string, string]{{Name: "b"}}}}
		n.route.Routing = r
		return n.Snapshot()
	}
	for _, parts := range [][][]byte{{everything(7), everything(9), everything(8)}, {everything(9), everything(7)}, {everything(8), everything(9)}} {
		s := operators.NewSubtask(operators.Env{Logger: slog.New(slog.DiscardHandler)})
		n := &infer[string, string, string, string]{s: s, spec: Spec[string, string, string, string]{UID: "ask", Arms: []Arm[string, string]{{Name: "a"}, {Name: "b"}}}}
		n.follow(Everything("a"))
		if err := n.Restore(parts); err != nil || n.route.Version != 9 || n.choose(1).arm != "b" {
			t.Errorf("%+v, %v", n.route, err)
		}
		if err := n.Restore([][]byte{{2}}); err == nil {
			t.Error("a routing of an unknown form is read")
		}
	}
}
