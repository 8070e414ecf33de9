package tree

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/weirflow/weir/internal/base"
)

// Expect is what a program expects of a model. What is zero is not checked. It can
// be kept beside the model as JSON.
type Expect struct {
	// SHA256 is the checksum of the file, in hexadecimal.
	SHA256 string `json:"sha256,omitempty"`
	// Features are the names of the features in the order of a row. A file without
	// names need only have as many.
	Features []string `json:"features,omitempty"`
	// NumFeatures and NumOutputs are the numbers of values in a row and in a
	// prediction.
	NumFeatures int `json:"num_features,omitempty"`
	NumOutputs  int `json:"num_outputs,omitempty"`
	// SelfTest are rows whose predictions are known.
	SelfTest []TestRow `json:"self_test,omitempty"`
	// Tolerance is by how much they may differ, relative to their size or to 1,
	// whichever is larger; 0 is 1e-6.
	Tolerance float64 `json:"tolerance,omitempty"`
}

// TestRow is a row with its prediction.
type TestRow struct {
	Row        Numbers `json:"row"`
	Prediction Numbers `json:"prediction"`
	// Raw: before the objective is applied.
	Raw bool `json:"raw,omitempty"`
}

// Numbers is a list of numbers whose JSON has null for NaN.
type Numbers []float64

// MarshalJSON implements json.Marshaler. Infinities are refused.
func (n Numbers) MarshalJSON() ([]byte, error) {
	out := make([]*float64, len(n))
	for i := range n {
		if !math.IsNaN(n[i]) {
			out[i] = &n[i]
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Numbers) UnmarshalJSON(b []byte) error {
	var in []*float64
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*n = make(Numbers, len(in))
	for i, p := range in {
		if (*n)[i] = math.NaN(); p != nil {
			(*n)[i] = *p
		}
	}
	return nil
}

// Open loads a model and checks it by Verify.
func Open(path string, e Expect, limits Limits) (*Model, error) {
	m, err := Load(path, limits)
	if err != nil {
		return nil, err
	}
	if err := m.Verify(e); err != nil {
		if e, ok := errors.AsType[*base.Error](err); ok {
			e.Where = path
		}
		return nil, err
	}
	return m, nil
}

// Verify holds the model against what is expected of it. Its error has the code
// CodeExpect and names all differences of schema and checksum, and the first row
// with another prediction.
func (m *Model) Verify(e Expect) error {
	i := &m.info
	var errs []error
	if e.SHA256 != "" && !strings.EqualFold(e.SHA256, i.SHA256) {
		errs = append(errs, fmt.Errorf("its SHA-256 is %s, not %s", i.SHA256, e.SHA256))
	}
	for _, n := range []struct {
		what      string
		want, got int
	}{
		{"features", e.NumFeatures, i.NumFeatures}, {"features", len(e.Features), i.NumFeatures}, {"outputs", e.NumOutputs, i.NumOutputs},
	} {
		if n.want != 0 && n.want != n.got {
			errs = append(errs, fmt.Errorf("it has %d %s, not %d", n.got, n.what, n.want))
		}
	}
	if len(errs) == 0 && i.Features != nil && len(e.Features) > 0 && !slices.Equal(i.Features, e.Features) {
		for k := range e.Features {
			if i.Features[k] != e.Features[k] {
				errs = append(errs, fmt.Errorf("its feature %d is %q, not %q", k, i.Features[k], e.Features[k]))
				break
			}
		}
	}
	if len(errs) == 0 {
		errs = append(errs, m.selfTest(e))
	}
	if err := errors.Join(errs...); err != nil {
		return &base.Error{
			Code: CodeExpect, What: "the model is not the one that is expected", Cause: err,
			Next: "put the right file in place, or correct what is expected",
		}
	}
	return nil
}

func (m *Model) selfTest(e Expect) error {
	tolerance := e.Tolerance
	if tolerance == 0 {
		tolerance = 1e-6
	}
	got := make([]float64, m.info.NumOutputs)
	for i, t := range e.SelfTest {
		if len(t.Row) != m.info.NumFeatures || len(t.Prediction) != m.info.NumOutputs {
			return fmt.Errorf("row %d of the self-test has %d values and %d predictions, the model %d and %d",
				i, len(t.Row), len(t.Prediction), m.info.NumFeatures, m.info.NumOutputs)
		}
		if m.PredictRaw(got, t.Row); !t.Raw {
			m.link.apply(got)
		}
		for k, want := range t.Prediction {
			if !(math.Abs(got[k]-want) <= tolerance*max(1, math.Abs(want))) {
				return fmt.Errorf("row %d of the self-test gives %g, not %g", i, got[k], want)
			}
		}
	}
	return nil
}
