package main

import (
	"fmt"
	"strings"

	"github.com/weirflow/weir"
)

// config is what steps are told.
type config struct {
	models models
	// retry is the policy of the steps that ask a model.
	retry weir.RetryPolicy
}

// step is a part of the chain: a job of its own, which knows the types of the events
// that it reads and writes, and nothing of the other steps.
type step struct {
	name, about string
	// extra steps are not part of the chain until somebody starts them.
	extra bool
	build func(*weir.Job, config)
}

func (s step) job(c config) weir.JobSpec {
	return weir.NewJob(s.name, func(j *weir.Job) {
		s.build(j, c)
		weir.DeadLetters(j, "dead-letters", weir.DeadLetterStream(deadLetters(s.name)))
	})
}

// steps lists all steps.
func steps() []step {
	return []step{
		{name: "index", about: "document-added → document-embedded", build: index},
		{name: "retrieve", about: "prompted → retrieved", build: retrieve},
		{name: "rerank", about: "retrieved → reranked", build: rerank},
		{name: "generate", about: "reranked → generated", build: generate},
		{name: "evaluate", about: "generated → evaluated", build: evaluate},
		{name: "store", about: "evaluated → answered, memory-updated; undo-requested → memory-undone", build: store},
		{name: "notify", about: "answered → notified", build: notify},
		{name: "saga", about: "step-failed → undo-requested, abandoned", build: saga},
		{name: "moderate", about: "generated → moderated; started by hand", extra: true, build: moderate},
	}
}

func stepNamed(name string) (step, error) {
	var names []string
	for _, s := range steps() {
		if s.name == name {
			return s, nil
		}
		names = append(names, s.name)
	}
	return step{}, fmt.Errorf("there is no step %q; there are %s", name, strings.Join(names, ", "))
}
