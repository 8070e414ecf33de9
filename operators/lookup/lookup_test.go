package lookup_test

import (
	"testing"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
	"github.com/weirflow/weir/operators"
	"github.com/weirflow/weir/operators/lookup"
)

// TestNilIsAValue: values that are encoded as nil are none of a question and none of an
// answer without a value.
func TestNilIsAValue(t *testing.T) {
	c, err := codec.For[lookup.Message[int, []int]]()
	if err != nil {
		t.Fatal(err)
	}
	var none []int
	for _, m := range []lookup.Message[int, []int]{{Key: 1, Value: &none, Is: true}, {Key: 1, ID: 4}} {
		var got lookup.Message[int, []int]
		if err := c.Decode(c.Append(nil, &m), &got); err != nil || got.Is != m.Is || lookup.Content(got.Value) != nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// TestARecordWithoutAnAnswerFailsTheBarrier with an error that says where.
func TestARecordWithoutAnAnswerFailsTheBarrier(t *testing.T) {
	var joined []lookup.Joined[string, int, int]
	g := lookup.NewGather(operators.NewSubtask(operators.Env{}), "l/join", operators.Consumer[lookup.Joined[string, int, int]]{
		One: func(_ *base.Meta, j *lookup.Joined[string, int, int]) { joined = append(joined, *j) },
	})
	g.Records().One(&base.Meta{}, &lookup.Carried[string, int]{ID: 1, Keys: []int{7}, Rec: "a"})
	err := g.Barrier(1)
	var coded *base.Error
	if e, ok := err.(*base.Error); ok {
		coded = e
	}
	if coded == nil || coded.Code != lookup.CodeUnanswered || coded.Where != "operator l/join" || coded.Next == "" {
		t.Fatalf("%v", err)
	}
	g.Answers().One(&base.Meta{}, &lookup.Answer[int]{ID: 1, Is: true}) // the zero value
	if err := g.Barrier(2); err != nil || len(joined) != 1 || !joined[0].Found[0].OK || joined[0].Found[0].Value != 0 || joined[0].Found[0].Key != 7 {
		t.Errorf("%v, %+v", err, joined)
	}
}
