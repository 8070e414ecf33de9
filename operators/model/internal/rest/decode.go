package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// Decode decodes JSON into v. NaN, Infinity and -Infinity, which are not JSON and
// which servers in Python and C++ write all the same, read as null, so that one such
// number does not spoil the answers to other calls.
func Decode(b []byte, v any) error { return json.Unmarshal(withoutNaN(b), v) }

func withoutNaN(b []byte) []byte {
	if !bytes.Contains(b, []byte("NaN")) && !bytes.Contains(b, []byte("Infinity")) {
		return b
	}
	out := make([]byte, 0, len(b)+16)
	for i := 0; i < len(b); {
		if b[i] == '"' {
			end := stringEnd(b, i)
			out = append(out, b[i:end]...)
			i = end
			continue
		}
		word := ""
		for _, w := range []string{"NaN", "Infinity", "-Infinity", "-NaN"} {
			if bytes.HasPrefix(b[i:], []byte(w)) {
				word = w
			}
		}
		if word != "" {
			out = append(out, "null"...)
			i += len(word)
			continue
		}
		out = append(out, b[i])
		i++
	}
	return out
}

// stringEnd is the position after the string that begins at b[i].
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// DecodeValue decodes a value that a model has answered with. A null in it, which
// would leave a zero in its place, is an error.
func DecodeValue(b []byte, v any) error {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case 'n':
			return fmt.Errorf("there is null, or a number that is none, at byte %d", i)
		}
	}
	return json.Unmarshal(b, v)
}

// Finite returns an error if there is a number that is NaN or infinite.
func Finite[T ~float32 | ~float64](values []T) error {
	for i, v := range values {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("value %d of %d is %g", i, len(values), float64(v))
		}
	}
	return nil
}

// Each calls f(0) to f(n-1), at most k at once, and returns when all have returned.
func Each(n, k int, f func(i int)) {
	var next atomic.Int64
	work := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			f(i)
		}
	}
	var wg sync.WaitGroup
	for range min(n, k) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}
