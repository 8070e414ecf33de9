package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/weirflow/weir"
)

// words splits a text into its words of more than two letters or digits, in lower case,
// each once.
func words(text string) []string {
	var out []string
	seen := map[string]bool{}
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if len(w) > 2 && !seen[w] {
			seen[w] = true
			out = append(out, w)
		}
	}
	return out
}

// share is how many of the words are in the texts, as a part of all; 1 if there are no
// words.
func share(of []string, texts ...string) float64 {
	if len(of) == 0 {
		return 1
	}
	known := map[string]bool{}
	for _, t := range texts {
		for _, w := range words(t) {
			known[w] = true
		}
	}
	n := 0
	for _, w := range of {
		if known[w] {
			n++
		}
	}
	return float64(n) / float64(len(of))
}

// kept is how many passages the model gets.
const kept = 3

// rerank orders the passages again: half by their vectors, half by the words of the
// question that they have.
func rerank(j *weir.Job, _ config) {
	publish(j, weir.TryMap(read(j, retrieved), "rerank", then(reranked, func(_ weir.Event, c Context) (Context, error) {
		question := words(c.Question)
		for i := range c.Passages {
			p := &c.Passages[i]
			p.Score = (p.Score + share(question, p.Text)) / 2
		}
		slices.SortFunc(c.Passages, compare)
		c.Passages = c.Passages[:min(kept, len(c.Passages))]
		return c, nil
	}), refused), reranked)
}

// evaluate says how much of the answer is in what the model was given.
func evaluate(j *weir.Job, _ config) {
	publish(j, weir.TryMap(read(j, generated), "evaluate", then(evaluated, func(_ weir.Event, g Generation) (Evaluation, error) {
		known := []string{g.Question}
		for _, p := range g.Passages {
			known = append(known, p.Text, p.ID)
		}
		for _, t := range g.Memory {
			known = append(known, t.Question, t.Answer)
		}
		return Evaluation{g, share(words(g.Answer), known...)}, nil
	}), refused), evaluated)
}

// unwanted are words that moderate looks for.
var unwanted = []string{"password", "secret"}

// moderate looks at answers that were generated. No other step knows of it: it may be
// started while the others run, and then goes through all answers since the first.
func moderate(j *weir.Job, _ config) {
	publish(j, weir.TryMap(read(j, generated), "moderate", then(moderated, func(_ weir.Event, g Generation) (Verdict, error) {
		v := Verdict{Allowed: true}
		for _, w := range words(g.Answer) {
			if slices.Contains(unwanted, w) {
				v = Verdict{Words: append(v.Words, w)}
			}
		}
		return v, nil
	}), refused), moderated)
}

// channels that notify knows.
var channels = []string{"mail", "push"}

// notify tells whoever asked. Here that is the event notified, which is published once;
// a step that calls a service instead would hand it the event's ID as idempotency key.
// A channel that does not exist does not get better by trying again.
func notify(j *weir.Job, _ config) {
	publish(j, weir.TryMap(read(j, answered), "notify", func(e weir.Event) (weir.Event, error) {
		a, err := weir.EventPayload[Answer](e)
		if err != nil {
			return weir.Event{}, err
		}
		if kind, _, _ := strings.Cut(a.Channel, ":"); !slices.Contains(channels, kind) {
			return giveUp(e, "notify", fmt.Errorf("there is no channel %q", kind))
		}
		return next(e, notified, Notification{a.Channel, a.Answer})
	}, refused), notified, stepFailed)
}
