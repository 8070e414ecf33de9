package main

import (
	"fmt"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/internal/fakemodel"
)

// script is what is asked when nobody else asks: documents, and prompts about them.
type script struct {
	documents, prompts int
	// poison prompts are refused by the fake server for good, undeliverable ones have a
	// channel that does not exist; they come on top of prompts.
	poison, undeliverable int
	// rate is prompts per second; 0 is as fast as they are taken.
	rate float64
}

func (s script) total() int { return s.prompts + s.poison + s.undeliverable }

var (
	towns = []string{
		"Arlon", "Brugge", "Cork", "Delft", "Evora", "Faro", "Ghent", "Huesca", "Imst", "Jena",
		"Kosice", "Lund", "Mons", "Narvik", "Olten", "Porto", "Quedlinburg", "Riga", "Siena", "Tartu",
	}
	things = []string{"river", "market", "bridge", "library", "harbour", "museum", "station", "garden", "tower", "school"}
)

// facts is how many different documents there are.
var facts = len(towns) * len(things)

// collections holds the names of the collections; a town is in one of them.
var collections = []string{"north", "south"}

func collectionOf(i int) string { return collections[i%len(towns)%len(collections)] }

// document is document i.
func (s script) document(i int) (weir.Event, error) {
	town, thing := towns[i%len(towns)], things[i/len(towns)%len(things)]
	d := Document{
		ID:   fmt.Sprintf("%s-%s-%d", town, thing, i/facts),
		Text: fmt.Sprintf("The %s of %s opened in %d and has number %d.", thing, town, 1200+(i*37)%800, i),
	}
	return weir.NewEvent(documentAdded, fmt.Sprintf("d-%06d", i), collectionOf(i), time.Now(), d)
}

// perConversation is how many prompts a conversation has.
const perConversation = 25

// prompt is prompt i.
func (s script) prompt(i int) (weir.Event, error) {
	about := i % max(1, min(s.documents, facts))
	town, thing := towns[about%len(towns)], things[about/len(towns)%len(things)]
	p := Prompt{
		Collection: collectionOf(about), Question: fmt.Sprintf("When did the %s of %s open?", thing, town),
		Channel: fmt.Sprintf("mail:user-%d", i/perConversation),
	}
	switch s.kind(i) {
	case poisoned:
		p.Question = "Tell me something " + forbidden + " about " + town
	case undeliverable:
		p.Channel = fmt.Sprintf("pigeon:user-%d", i/perConversation)
	}
	return weir.NewEvent(prompted, correlation(i), fmt.Sprintf("c-%05d", i/perConversation), time.Now(), p)
}

func correlation(i int) string { return fmt.Sprintf("p-%06d", i) }

// kind says what becomes of a prompt.
type kind int

const (
	normal kind = iota
	poisoned
	undeliverable
)

// kind of prompt i: those that fail are spread among the others.
func (s script) kind(i int) kind {
	stride := 7919
	for gcd(stride, s.total()) != 1 {
		stride++
	}
	switch place := i * stride % s.total(); {
	case place < s.poison:
		return poisoned
	case place < s.poison+s.undeliverable:
		return undeliverable
	}
	return normal
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// forbidden is a word that the fake model refuses to answer about.
const forbidden = "forbidden"

// failures is a script of the fake server by which about 30 of 100 requests fail, each
// attempt on its own, and chats with the forbidden word always.
func failures(seed uint64) fakemodel.Script {
	return fakemodel.Script{Seed: seed, Rules: []fakemodel.Rule{
		{Name: "refused", Path: "*chat*", Contains: forbidden, Status: 400, Message: "I will not answer that"},
		{Name: "unavailable", Share: 0.16, Status: 503},
		{Name: "hangs", Share: 0.06, Fault: fakemodel.Hang},
		{Name: "garbage", Share: 0.06, Fault: fakemodel.BadJSON},
		{Name: "cut off", Share: 0.06, Fault: fakemodel.ResetAfter},
	}}
}

// documentsJob publishes the documents, promptsJob the prompts.
func (s script) documentsJob() weir.JobSpec {
	return s.driver("documents", documentAdded, s.documents, 0, s.document)
}

func (s script) promptsJob() weir.JobSpec {
	return s.driver("prompts", prompted, s.total(), s.rate, s.prompt)
}

func (s script) driver(name, typ string, n int, rate float64, make func(int) (weir.Event, error)) weir.JobSpec {
	return weir.NewJob(name, func(j *weir.Job) {
		opts := []generator.Option{generator.Count(uint64(n))}
		if rate > 0 {
			opts = append(opts, generator.Rate(rate))
		}
		numbers := weir.From(j, "numbers", generator.New(func(i uint64) uint64 { return i }, opts...), weir.ProcessingTime[uint64]())
		publish(j, weir.TryMap(numbers, "make", func(i uint64) (weir.Event, error) { return make(int(i)) }), typ)
	})
}
