package jetstream

import (
	"errors"
	"strings"

	"github.com/weirflow/weir/internal/base"
)

// checkSubject reports why nothing can be published on s: it is empty, has empty
// parts, white space or wildcards.
func checkSubject(s string) error {
	if s == "" {
		return errors.New("the subject is empty")
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			switch c := s[i]; {
			case c <= ' ' || c == 0x7f:
				return errors.New("the subject has white space or a control character")
			case (c == '*' || c == '>') && i == start && (i+1 == len(s) || s[i+1] == '.'):
				return errors.New("the subject has a wildcard")
			}
			continue
		}
		if i == start {
			return errors.New("the subject has an empty part between dots")
		}
		start = i + 1
	}
	return nil
}

// matches reports whether a subject lies in the space of a pattern, in which *
// stands for one part and a final > for one or more. The subject may itself have
// wildcards; then every subject that it stands for must lie in the space.
func matches(pattern, subject string) bool {
	for {
		p, prest, pmore := strings.Cut(pattern, ".")
		s, srest, smore := strings.Cut(subject, ".")
		switch {
		case p == ">":
			return true
		case s == ">", p != "*" && p != s:
			return false
		case !pmore || !smore:
			return pmore == smore
		}
		pattern, subject = prest, srest
	}
}

// inSpace reports whether one of the patterns covers the subject. A subject that
// only several patterns cover together is not recognised.
func inSpace(patterns []string, subject string) bool {
	for _, p := range patterns {
		if matches(p, subject) {
			return true
		}
	}
	return false
}

// subjectError says that a message cannot be published on its subject.
func subjectError(stream, subject string, cause error) error {
	e := &base.Error{Code: CodeSubject, What: "a record cannot be published", Where: "subject " + quote(subject), Cause: cause,
		Next: "make the sink's subject function return a subject of stream " + stream}
	if cause == nil {
		e.What = "the subject of a record does not belong to stream " + stream
		e.Next = "add it to the subjects of the stream, or correct the sink's subject function"
	}
	return e
}

// quote renders a subject for a message, cut to a bearable length.
func quote(s string) string {
	const most = 128
	if len(s) > most {
		s = s[:most] + "…"
	}
	return `"` + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s) + `"`
}
