package operators

import (
	"fmt"
	"strings"

	"github.com/weirflow/weir/internal/codec"
)

// CheckSchema reports why state that was stored under one declared schema cannot be
// read under another. Schemas are those of DeclaredState and WindowState: a kind of
// state, or none, and the schemas of its parts. Fields may be added and removed.
func CheckSchema(have, want string) error {
	if have == want {
		return nil
	}
	haveKind, old, err := splitSchema(have)
	if err != nil {
		return err
	}
	wantKind, now, err := splitSchema(want)
	if err != nil {
		return err
	}
	if haveKind != wantKind || len(old) != len(now) {
		return fmt.Errorf("the checkpoint has a %s state, the job a %s state", haveKind, wantKind)
	}
	for i := range old {
		if i < len(old)-1 && old[i].Canonical() != now[i].Canonical() {
			return fmt.Errorf("its keys are %s in the checkpoint and %s in the job", old[i].Canonical(), now[i].Canonical())
		}
		if err := codec.Compatible(old[i], now[i]); err != nil {
			return err
		}
	}
	return nil
}

// splitSchema takes a declared schema apart: the kind of state ("" for a window's)
// and the schemas of its parts.
func splitSchema(s string) (kind string, parts []*codec.Schema, err error) {
	for _, k := range []string{"value", "list", "map"} {
		rest, ok := strings.CutPrefix(s, k+" ")
		if !ok {
			continue
		}
		if k == "map" {
			return splitMap(rest)
		}
		kind, s = k, rest
	}
	p, err := codec.ParseSchema(s)
	if err != nil {
		return kind, nil, fmt.Errorf("the schema %q: %w", s, err)
	}
	return kind, []*codec.Schema{p}, nil
}

// splitMap splits the schemas of key and value at the blank between them. Names of
// fields may hold blanks too, so both sides have to make sense.
func splitMap(s string) (string, []*codec.Schema, error) {
	for i := range len(s) {
		if s[i] != ' ' {
			continue
		}
		k, kerr := codec.ParseSchema(s[:i])
		v, verr := codec.ParseSchema(s[i+1:])
		if kerr == nil && verr == nil {
			return "map", []*codec.Schema{k, v}, nil
		}
	}
	return "", nil, fmt.Errorf("the schema %q of a map has no two parts", s)
}
