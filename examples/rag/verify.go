package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir"
)

// oncePerChain are the types of which a chain has one event at most.
var oncePerChain = []string{
	prompted, retrieved, reranked, generated, evaluated, answered, memoryUpdated, notified, abandoned,
	undoRequested, memoryUndone, moderated,
}

// book is all events.
type book struct {
	byType map[string][]weir.Event
	byID   map[string]weir.Event
	wrong  []error
}

func (b *book) fail(format string, args ...any) {
	const most = 20
	if len(b.wrong) < most {
		b.wrong = append(b.wrong, fmt.Errorf(format, args...))
	}
}

// verify compares all events with what was asked.
func (c *check) verify(ctx context.Context) error {
	b := &book{byType: map[string][]weir.Event{}, byID: map[string]weir.Event{}}
	for _, typ := range append(slices.Clone(oncePerChain), documentAdded, documentEmbedded, retryRequested, stepFailed) {
		events, err := readAll(ctx, c.js, typ)
		if err != nil {
			return err
		}
		b.byType[typ] = events
		for _, e := range events {
			if e.Type != typ {
				b.fail("an event %s is in the stream of %s", e.Type, typ)
			}
			if _, dup := b.byID[e.ID]; dup {
				b.fail("%s %s of chain %s is there twice", e.Type, e.ID, e.Correlation)
			}
			b.byID[e.ID] = e
		}
	}
	b.causes()
	b.ends(c.script)
	b.turns()
	s := c.script
	c.printf("%d prompts: %d answers, %d memory updates, %d notifications; %d abandoned, %d memories undone; %d moderated; %d retries, %d steps given up",
		len(b.byType[prompted]), len(b.byType[answered]), len(b.byType[memoryUpdated]), len(b.byType[notified]),
		len(b.byType[abandoned]), len(b.byType[memoryUndone]), len(b.byType[moderated]), len(b.byType[retryRequested]), len(b.byType[stepFailed]))
	letters, err := countLetters(ctx, c.js)
	if err != nil {
		return err
	}
	if letters != s.poison {
		b.fail("%d dead letters, for %d prompts that the model refuses", letters, s.poison)
	}
	if n := len(b.byType[documentEmbedded]); n != s.documents {
		b.fail("%d documents are indexed, of %d", n, s.documents)
	}
	return errors.Join(b.wrong...)
}

// countLetters counts the dead letters of all steps.
func countLetters(ctx context.Context, js natsjs.JetStream) (n int, err error) {
	for _, st := range steps() {
		name := deadLetters(st.name)
		c, err := js.OrderedConsumer(ctx, name, natsjs.OrderedConsumerConfig{FilterSubjects: []string{name + ".letters.>"}})
		if err != nil {
			return 0, err
		}
		info, err := c.Info(ctx)
		if err != nil {
			return 0, err
		}
		n += int(info.NumPending)
	}
	return n, nil
}

// causes checks that each event but the first has a cause in its chain.
func (b *book) causes() {
	for _, e := range b.byID {
		if e.Type == prompted || e.Type == documentAdded {
			continue
		}
		if cause, ok := b.byID[e.Causation]; !ok || cause.Correlation != e.Correlation {
			b.fail("%s %s of chain %s has no cause", e.Type, e.ID, e.Correlation)
		}
	}
}

// ends checks what became of each prompt.
func (b *book) ends(s script) {
	counts := map[string]map[string]int{}
	for _, typ := range oncePerChain {
		counts[typ] = map[string]int{}
		for _, e := range b.byType[typ] {
			counts[typ][e.Correlation]++
		}
		if len(counts[typ]) > s.total() {
			b.fail("%d chains have an event %s, of %d", len(counts[typ]), typ, s.total())
		}
	}
	all := []string{prompted, retrieved, reranked}
	through := append(slices.Clone(all), generated, evaluated, answered, memoryUpdated, moderated)
	for i := range s.total() {
		want := append(slices.Clone(through), notified)
		switch s.kind(i) {
		case poisoned:
			want = append(slices.Clone(all), abandoned)
		case undeliverable:
			want = append(slices.Clone(through), abandoned, undoRequested, memoryUndone)
		}
		for _, typ := range oncePerChain {
			n := 0
			if slices.Contains(want, typ) {
				n = 1
			}
			if got := counts[typ][correlation(i)]; got != n {
				b.fail("chain %s has %d events %s, not %d", correlation(i), got, typ, n)
			}
		}
	}
}

// turns checks that the turns of each conversation are numbered without a gap, that
// what was undone was there, and that an answer says what the memory says.
func (b *book) turns() {
	type turn struct {
		conversation string
		n            int
	}
	memory, most := map[turn]string{}, map[string]int{}
	for _, e := range b.byType[memoryUpdated] {
		t, err := weir.EventPayload[Turn](e)
		if err != nil {
			b.fail("%v", err)
			continue
		}
		at := turn{e.Key, t.Turn}
		if _, dup := memory[at]; dup {
			b.fail("turn %d of conversation %s is there twice", t.Turn, e.Key)
		}
		memory[at] = t.Answer
		most[e.Key] = max(most[e.Key], t.Turn)
	}
	for conversation, n := range most {
		for i := range n {
			if _, ok := memory[turn{conversation, i + 1}]; !ok {
				b.fail("conversation %s has no turn %d, and %d in all", conversation, i+1, n)
			}
		}
	}
	for _, e := range b.byType[answered] {
		if a, err := weir.EventPayload[Answer](e); err != nil || memory[turn{e.Key, a.Turn.Turn}] != a.Answer {
			b.fail("the answer of chain %s is not the one remembered (%v)", e.Correlation, err)
		}
	}
	for _, e := range b.byType[memoryUndone] {
		if t, err := weir.EventPayload[Turn](e); err != nil || memory[turn{e.Key, t.Turn}] != t.Answer {
			b.fail("chain %s undid what was not there (%v)", e.Correlation, err)
		}
	}
}

// inOrder checks that no event of a trace comes before its cause.
func inOrder(t weir.Trace) error {
	if len(t.Events) == 0 || t.Events[0].Type != prompted || t.Repeated > 0 || t.Cut {
		return fmt.Errorf("it begins with %d events, %d repeated", len(t.Events), t.Repeated)
	}
	at := map[string]int{}
	var order []string
	for i, e := range t.Events {
		if cause, ok := at[e.Causation]; i > 0 && (!ok || cause != e.Cause) {
			return fmt.Errorf("event %d, %s, comes before its cause", i+1, e.Type)
		}
		at[e.ID] = i
		if slices.Contains(oncePerChain[:6], e.Type) {
			order = append(order, e.Type)
		}
	}
	if want := oncePerChain[:6]; !slices.Equal(order, want[:len(order)]) {
		return fmt.Errorf("the steps are %s", strings.Join(order, ", "))
	}
	return nil
}
