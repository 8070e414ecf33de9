package pattern

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// Spec is the data form of a pattern.
type Spec struct {
	Stages []StageSpec `json:"stages"`
	Skip   SkipSpec    `json:"skip"`
}

// StageSpec is one stage, or a group, of a Spec.
type StageSpec struct {
	Name  string      `json:"name,omitempty"`
	Group []StageSpec `json:"group,omitempty"`
	// Contiguity is begin, next, followedBy, followedByAny, notNext or notFollowedBy.
	Contiguity string          `json:"contiguity"`
	Where      json.RawMessage `json:"where,omitempty"`
	Times      *TimesSpec      `json:"times,omitempty"`
	// Inner is relaxed, consecutive or combinations.
	Inner        string          `json:"inner,omitempty"`
	Optional     bool            `json:"optional,omitempty"`
	Greedy       bool            `json:"greedy,omitempty"`
	Until        json.RawMessage `json:"until,omitempty"`
	WithinMS     int64           `json:"within_ms,omitempty"`
	WithinPrevMS int64           `json:"within_prev_ms,omitempty"`
}

// TimesSpec is how many events a stage takes: From to To, or From and more. A stage
// that is optional with From 1 may also take none.
type TimesSpec struct {
	From  int   `json:"from"`
	To    *int  `json:"to,omitempty"`
	GapMS int64 `json:"gap_ms,omitempty"`
}

// SkipSpec is a skip strategy: no_skip, skip_to_next, skip_past_last, skip_to_first
// or skip_to_last.
type SkipSpec struct {
	Kind        string `json:"kind"`
	Stage       string `json:"stage,omitempty"`
	ThrowOnMiss bool   `json:"throw_on_miss,omitempty"`
}

// Parse reads a pattern from the JSON of a Spec. Conditions are read by the
// vocabulary. Mistakes in the JSON are reported at once, those in the pattern by
// Compile.
func Parse[T any](data []byte, v Vocabulary[T]) (*Pattern[T], error) {
	var s Spec
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return nil, dataError("pattern", "the JSON does not fit", err)
	}
	return FromSpec(s, v)
}

// FromSpec makes a pattern of its data form.
func FromSpec[T any](s Spec, v Vocabulary[T]) (*Pattern[T], error) {
	p, err := chainOf(s.Stages, v)
	if err != nil {
		return nil, err
	}
	skip, err := s.Skip.strategy()
	if err != nil {
		return nil, err
	}
	return p.SkipStrategy(skip), nil
}

func dataError(where, what string, cause error) error {
	return &base.Error{Code: CodePattern, What: what, Where: where, Cause: cause, Next: "correct the pattern's data"}
}

var skipKinds = map[string]SkipKind{
	"": NoSkip, "no_skip": NoSkip, "skip_to_next": SkipToNext, "skip_past_last": SkipPastLast,
	"skip_to_first": SkipToFirst, "skip_to_last": SkipToLast,
}

func (s SkipSpec) strategy() (Skip, error) {
	kind, ok := skipKinds[s.Kind]
	if !ok {
		return Skip{}, dataError("skip", fmt.Sprintf("no skip strategy %q", s.Kind), nil)
	}
	return Skip{Kind: kind, Stage: s.Stage, ThrowOnMiss: s.ThrowOnMiss}, nil
}

func chainOf[T any](specs []StageSpec, v Vocabulary[T]) (*Pattern[T], error) {
	p := &Pattern[T]{}
	var errs []error
	if len(specs) == 0 {
		return nil, dataError("pattern", "no stages", nil)
	}
	for i := range specs {
		if err := appendStage(p, &specs[i], v, i == 0); err != nil {
			errs = append(errs, err)
		}
	}
	return p, errors.Join(errs...)
}

var contiguities = map[string]contiguity{
	"begin": strict, "next": strict, "followedBy": relaxed, "followedByAny": relaxedAny,
	"notNext": notNext, "notFollowedBy": notFollow,
}

func appendStage[T any](p *Pattern[T], s *StageSpec, v Vocabulary[T], first bool) error {
	how, ok := contiguities[s.Contiguity]
	if !ok || first != (s.Contiguity == "begin") {
		return dataError("stage "+s.Name, fmt.Sprintf("contiguity %q", s.Contiguity), nil)
	}
	switch {
	case len(s.Group) > 0:
		g, err := chainOf(s.Group, v)
		if err != nil {
			return err
		}
		p.addGroup(g, how)
	case how == notNext || how == notFollow:
		if len(p.stages) == 0 {
			return dataError("stage "+s.Name, "a pattern cannot begin with NOT", nil)
		}
		p.addNot(s.Name, how, nil)
	default:
		p.add(s.Name, how, nil)
	}
	if err := conditions(p, s, v); err != nil {
		return err
	}
	return quantifiers(p, s, v)
}

func conditions[T any](p *Pattern[T], s *StageSpec, v Vocabulary[T]) error {
	if s.Where != nil {
		c, err := v.Cond(s.Where)
		if err != nil {
			return dataError("stage "+s.Name+", where", "not a condition", err)
		}
		p.WhereCond(c)
	}
	ms := int64(time.Millisecond)
	if s.WithinMS != 0 {
		p.Within(time.Duration(s.WithinMS * ms))
	}
	if s.WithinPrevMS != 0 {
		p.WithinPrevious(time.Duration(s.WithinPrevMS * ms))
	}
	return nil
}

func quantifiers[T any](p *Pattern[T], s *StageSpec, v Vocabulary[T]) error {
	optional := s.Optional
	switch t := s.Times; {
	case t == nil:
	case t.To == nil:
		p.TimesOrMore(t.From)
	case optional && t.From == 1:
		p.TimesRange(0, *t.To)
		optional = false
	default:
		p.TimesRange(t.From, *t.To)
	}
	if s.Times != nil && s.Times.GapMS > 0 {
		p.Gap(time.Duration(s.Times.GapMS) * time.Millisecond)
	}
	if optional {
		p.Optional()
	}
	switch s.Inner {
	case "", "relaxed":
	case "consecutive":
		p.Consecutive()
	case "combinations":
		p.AllowCombinations()
	default:
		return dataError("stage "+s.Name, fmt.Sprintf("inner contiguity %q", s.Inner), nil)
	}
	if s.Greedy {
		p.Greedy()
	}
	if s.Until != nil {
		c, err := v.Cond(s.Until)
		if err != nil {
			return dataError("stage "+s.Name+", until", "not a condition", err)
		}
		p.UntilCond(c)
	}
	return nil
}
