package base

import (
	"errors"
	"fmt"
)

// MaxUIDLen is the longest operator or job name.
const MaxUIDLen = 64

// CheckUID reports why s cannot name a job or an operator: names match
// [a-z0-9-]{1,64}. Composite operators join such parts by "/"; each part counts
// on its own.
func CheckUID(s string) error {
	if s == "" {
		return errors.New("the name is empty; give it 1 to 64 characters of a-z, 0-9 and -")
	}
	if len(s) > MaxUIDLen {
		return fmt.Errorf("the name %.20q… has %d characters; at most %d are allowed", s, len(s), MaxUIDLen)
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("the name %q has %q at position %d; use a-z, 0-9 and -", s, c, i+1)
		}
	}
	return nil
}
