package weirtest_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

var sampleLetter = weir.DeadLetterRecord{
	Version: 1, ID: "0123456789abcdef0123456789abcdef", Job: "job", JobVersion: "v1", Plan: "0123456789abcdef", Operator: "scope/op", Kind: "record",
	Source: "source in, split 0", Origin: "00000000000000ff-7-0", EventTime: time.Unix(12, 34).UTC(), KeyHash: "00000000000000aa", Attempt: 3,
	Refused: time.Unix(56, 78).UTC(), Code: "WEIR-0702", Error: "no", Stack: "f\n\tf.go:1\n", Raw: []byte{0, 1, 2}, Size: 3,
	ContentType: "application/msgpack", Schema: "int", Headers: base.Headers{{Name: "a", Value: "b"}},
}

func encodeLetter(t testing.TB, d *weir.DeadLetterRecord) []byte {
	t.Helper()
	f, err := codec.MsgPack[weir.DeadLetterRecord](codec.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := f.Encode(nil, d)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestLettersAreReadInBothEncodings(t *testing.T) {
	text, err := json.Marshal(sampleLetter)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{encodeLetter(t, &sampleLetter), text} {
		got, err := weir.DecodeDeadLetter(data)
		got.EventTime, got.Refused = got.EventTime.UTC(), got.Refused.UTC()
		if err != nil || !reflect.DeepEqual(got, sampleLetter) {
			t.Errorf("%q: %+v, %v", data, got, err)
		}
	}
	for _, data := range []string{"", "{", "{}", `{"ID":"x","Operator":"op"}`, "\x80", "no letter"} {
		if _, err := weir.DecodeDeadLetter([]byte(data)); err == nil {
			t.Errorf("%q is a dead letter", data)
		}
	}
}

// FuzzDecodeDeadLetter decodes what it is given; what is a letter is so again when it
// was encoded.
func FuzzDecodeDeadLetter(f *testing.F) {
	text, _ := json.Marshal(sampleLetter)
	f.Add(text)
	f.Add(encodeLetter(f, &sampleLetter))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := weir.DecodeDeadLetter(data)
		if err != nil {
			return
		}
		again, err := weir.DecodeDeadLetter(encodeLetter(t, &d))
		if err != nil {
			t.Fatalf("encoded again it is none: %v", err)
		}
		if !bytes.Equal(encodeLetter(t, &again), encodeLetter(t, &d)) {
			t.Errorf("%+v became %+v", d, again)
		}
	})
}
