package oip

import (
	"encoding/json"
	"testing"
)

// FuzzTensor: no answer makes the decoder panic, and what it takes has the shape that
// it says.
func FuzzTensor(f *testing.F) {
	for _, s := range []string{
		`{"name":"p","shape":[2,1],"datatype":"FP32","data":[[1],[null]]}`,
		`{"name":"p","shape":[2,2],"datatype":"INT8","data":[[1,2],[300,4]]}`,
		`{"name":"p","shape":[2],"datatype":"BYTES","data":["a\"]","\\"]}`,
		`{"name":"p","shape":[1],"datatype":"BOOL","data":[ true ]}`,
		`{"name":"p","shape":[0],"datatype":"UINT64","data":[]}`,
		`{"name":"p","shape":[1,1,1],"datatype":"FP64","data":[[[{}]]]}`,
		`{"name":"p","shape":[1],"datatype":"FP64","data":7}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var a answerTensor
		if json.Unmarshal(b, &a) != nil {
			return
		}
		tensor, err := a.tensor()
		if err != nil {
			return
		}
		size, err := tensor.size()
		if err != nil || length(tensor.Data) != size {
			t.Fatalf("%d elements of shape %v, %v", length(tensor.Data), tensor.Shape, err)
		}
		if len(tensor.Shape) == 0 || tensor.Shape[0] < 1 || tensor.Shape[0] > 100 {
			return
		}
		n := int(tensor.Shape[0])
		c := Codec[int, int]{Decode: func(r *Row) (int, error) {
			r.Floats("p")
			r.Ints("p")
			r.Bools("p")
			r.Texts("p")
			return r.rows, nil
		}}
		if results, err := c.Unpack([]Tensor{tensor}, n); err == nil && len(results) != n {
			t.Fatalf("%d results for %d rows", len(results), n)
		}
	})
}
