package fakemodel

import (
	"encoding/json"
	"math"
	"sort"
	"strconv"
	"strings"
	"unicode"

	"github.com/cespare/xxhash/v2"

	"github.com/weirflow/weir/internal/base"
)

// DefaultVersion is the version that answers when a call names none.
const DefaultVersion = "1"

// DefaultDimensions is the length of embeddings unless script or request say
// otherwise.
const DefaultDimensions = 64

// fingerprint is the number from which an answer derives.
func fingerprint(model, version, text string) uint64 {
	d := xxhash.New()
	_, _ = d.WriteString(model + "\x00" + version + "\x00") // a hash takes everything
	_, _ = d.WriteString(text)
	return d.Sum64()
}

// unit maps a hash to [0,1), exactly: its upper 53 bits.
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// Row is the text of one input with these values: the compact JSON array that
// json.Marshal writes. Values are numbers, strings, booleans and slices of them,
// which are flattened. A number of the Open Inference Protocol has the type of its
// tensor (a float32 is written as one), those of the other protocols are float64.
// It returns "" for anything else, and for NaN and infinities.
func Row(values ...any) string {
	b, ok := appendValues([]byte{'['}, values)
	if !ok {
		return ""
	}
	return string(append(b, ']'))
}

func appendValues(b []byte, values []any) ([]byte, bool) {
	for _, v := range values {
		ok := true
		switch x := v.(type) {
		case []any:
			b, ok = appendValues(b, x)
		case []float64:
			b, ok = appendAll(b, x)
		case []float32:
			b, ok = appendAll(b, x)
		case []int64:
			b, ok = appendAll(b, x)
		case []string:
			b, ok = appendAll(b, x)
		default:
			b, ok = appendValue(b, v)
		}
		if !ok {
			return b, false
		}
	}
	return b, true
}

func appendAll[T any](b []byte, values []T) ([]byte, bool) {
	ok := true
	for i := 0; i < len(values) && ok; i++ {
		b, ok = appendValue(b, values[i])
	}
	return b, ok
}

// appendValue appends one scalar as JSON, behind a comma unless it is the first.
func appendValue(b []byte, v any) ([]byte, bool) {
	if b[len(b)-1] != '[' {
		b = append(b, ',')
	}
	switch v := v.(type) {
	case float64:
		return appendFloat(b, v, 64)
	case float32:
		return appendFloat(b, float64(v), 32)
	case int64:
		return strconv.AppendInt(b, v, 10), true
	case uint64:
		return strconv.AppendUint(b, v, 10), true
	case bool:
		return strconv.AppendBool(b, v), true
	case string, int, int8, int16, int32, uint, uint8, uint16, uint32, json.Number:
		text, err := json.Marshal(v)
		return append(b, text...), err == nil
	}
	return b, false
}

// appendFloat appends a number as json.Marshal does, which is slower.
func appendFloat(b []byte, v float64, bits int) ([]byte, bool) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return b, false
	}
	abs := math.Abs(v)
	if abs == 0 || abs >= 1e-6 && abs < 1e21 && bits == 64 || bits == 32 && float32(abs) >= 1e-6 && float32(abs) < 1e21 {
		return strconv.AppendFloat(b, v, 'f', -1, bits), true
	}
	b = strconv.AppendFloat(b, v, 'e', -1, bits)
	if n := len(b); b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' { // e-09 is e-9
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b, true
}

// Score is the answer of a model's function "hash" to an input that [Row] made: a
// number in [0,1) that depends on every bit of it. Call with the version that
// answers, which is never "".
func Score(model, version, row string) float64 { return unit(fingerprint(model, version, row)) }

// Logistic is the answer of a model's function "logistic": 1/(1+e^-s), where s is
// the bias of the version plus the sum of each number of the input, in order, times
// its weight; a missing weight is 1.
func Logistic(bias float64, weights, numbers []float64) float64 {
	s := bias
	for i, x := range numbers {
		w := 1.0
		if i < len(weights) {
			w = weights[i]
		}
		s += w * x
	}
	return 1 / (1 + math.Exp(-s))
}

// Words splits a text into its lower-case words: runs of letters and digits.
func Words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// featuresPerWord is how many components of a vector a word moves.
const featuresPerWord = 4

// Embedding is a model's vector for a text: each occurrence of a word adds 1 or -1 to
// four components, chosen by the hash of word, model and version, and the whole is
// scaled to length 1, in float32. A text without words has the first unit vector.
func Embedding(model, version, text string, dimensions int) []float32 {
	seed := fingerprint(model, version, "")
	sum := make([]float64, dimensions)
	for _, w := range Words(text) {
		h := base.Mix(seed, xxhash.Sum64String(w))
		for k := range uint64(featuresPerWord) {
			x := base.Mix(h, k)
			sign := 1.0
			if x&1 == 1 {
				sign = -1
			}
			sum[(x>>1)%uint64(dimensions)] += sign
		}
	}
	norm := 0.0
	for _, x := range sum {
		norm += x * x
	}
	out := make([]float32, dimensions)
	if norm == 0 {
		out[0] = 1
		return out
	}
	norm = math.Sqrt(norm)
	for i, x := range sum {
		out[i] = float32(x / norm)
	}
	return out
}

// Message is one turn of a chat.
type Message struct {
	Role, Content string
}

// Prompt is the text of a chat: a line "role: content" for each message.
func Prompt(messages []Message) string {
	var b strings.Builder
	for _, m := range messages {
		b.WriteString(m.Role + ": " + m.Content + "\n")
	}
	return b.String()
}

// maxQuotes is how many lines of the prompt an answer quotes.
const maxQuotes = 2

// ChatAnswer is a model's answer to a chat: "answer:" and the upper 8 hexadecimal
// digits of the fingerprint of its [Prompt], then up to two quotes, each behind " | ".
// The question is the last line with words of the last message of a user. Quoted are
// those other lines of all messages that share most different words with it, at least
// one; of two that share as many, the earlier comes first.
func ChatAnswer(model, version string, messages []Message) string {
	out := "answer:" + hex8(fingerprint(model, version, Prompt(messages)))
	for _, q := range quotes(messages) {
		out += " | " + q
	}
	return out
}

func hex8(h uint64) string {
	s := strconv.FormatUint(h, 16)
	return (strings.Repeat("0", 16-len(s)) + s)[:8]
}

// quotes returns the lines that bear most on the question.
func quotes(messages []Message) []string {
	type line struct {
		text   string
		shared int
	}
	question, at := question(messages)
	asked := map[string]bool{}
	for _, w := range Words(question) {
		asked[w] = true
	}
	var lines []line
	for i, m := range messages {
		for j, text := range strings.Split(m.Content, "\n") {
			if [2]int{i, j} == at {
				continue
			}
			n, seen := 0, map[string]bool{}
			for _, w := range Words(text) {
				if asked[w] && !seen[w] {
					n, seen[w] = n+1, true
				}
			}
			if n > 0 {
				lines = append(lines, line{strings.TrimSpace(text), n})
			}
		}
	}
	sort.SliceStable(lines, func(i, j int) bool { return lines[i].shared > lines[j].shared })
	var out []string
	for _, l := range lines[:min(len(lines), maxQuotes)] {
		out = append(out, l.text)
	}
	return out
}

// question returns the last line with words of the last message of a user, and the
// indices of message and line.
func question(messages []Message) (string, [2]int) {
	for i := len(messages) - 1; i >= 0; i-- {
		if messages[i].Role != "user" {
			continue
		}
		lines := strings.Split(messages[i].Content, "\n")
		for j := len(lines) - 1; j >= 0; j-- {
			if len(Words(lines[j])) > 0 {
				return lines[j], [2]int{i, j}
			}
		}
	}
	return "", [2]int{-1, -1}
}

// Tokens counts the tokens of a text: its parts between spaces. It is what the server
// bills.
func Tokens(text string) int { return len(strings.Fields(text)) }
