package openai

import (
	"math"
	"strconv"
)

// jsonFloat32 is a number that is NaN where the JSON has null, or a number that a
// float32 cannot hold.
type jsonFloat32 float32

// UnmarshalJSON implements json.Unmarshaler.
func (f *jsonFloat32) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*f = jsonFloat32(math.NaN())
		return nil
	}
	v, err := strconv.ParseFloat(string(b), 32)
	if err != nil && math.IsInf(v, 0) {
		v, err = math.NaN(), nil
	}
	*f = jsonFloat32(v)
	return err
}
