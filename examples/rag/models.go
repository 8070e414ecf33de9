package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/guard"
	"github.com/weirflow/weir/operators/model/openai"
)

// models says which models are asked, and how.
type models struct {
	// endpoint is the base URL of an OpenAI-compatible server, with /v1.
	endpoint, chat, embedding string
	// timeout bounds one request.
	timeout time.Duration
	// inFlight bounds the requests of a step on their way at once.
	inFlight int
	// perSecond bounds the requests of a step in a second; 0 is no bound.
	perSecond float64
}

// keyVariable has the API key, where the server wants one.
const keyVariable = "OPENAI_API_KEY"

// deadline bounds all that the client does about one call.
func (m models) deadline() time.Duration { return 4 * m.timeout }

// access lets the client reach the host of the endpoint, and this machine or its network
// only if the endpoint names them.
func (m models) access() (model.Access, error) {
	u, err := url.Parse(m.endpoint)
	if err != nil || u.Hostname() == "" {
		return model.Access{}, fmt.Errorf("the endpoint %q is no URL", m.endpoint)
	}
	a := model.Access{Timeout: m.timeout, MaxConns: m.inFlight}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip.IsLoopback() {
		a.Allow = []string{"loopback"}
	} else if ip.IsPrivate() {
		a.Allow = []string{ip.String()}
	}
	if os.Getenv(keyVariable) != "" {
		a.Secret = model.SecretFromEnv(keyVariable)
	}
	return a, nil
}

// policy guards the calls of a step: two attempts by the client, within a budget, and
// no more calls for a while when the model fails again and again. What still fails is
// tried again by a control event, later and from the log.
func (m models) policy(env model.Env) guard.Policy {
	return guard.Policy{
		Name: env.Operator, AttemptTimeout: m.timeout, Deadline: m.deadline(),
		Retry:    guard.Retry{MaxAttempts: 2, Base: 50 * time.Millisecond, Max: time.Second},
		Breaker:  guard.Breaker{Ratio: 0.8, Window: 50, OpenFor: 2 * time.Second},
		InFlight: guard.InFlight{Max: m.inFlight},
		Budgets:  guard.Budgets{Requests: guard.Rate{PerSecond: m.perSecond}},
	}
}

// embeddings makes the client of a step that needs vectors of texts.
func (m models) embeddings(env model.Env) (model.Client[string, []float32], error) {
	a, err := m.access()
	if err != nil {
		return nil, err
	}
	c, err := openai.NewEmbeddings(openai.Endpoint{URL: m.endpoint, Model: m.embedding, Access: a}, openai.Embeddings[string, []float32]{
		Text:   func(text *string) string { return *text },
		Vector: func(_ *string, v []float32) ([]float32, error) { return v, nil },
	})
	if err != nil {
		return nil, err
	}
	return guard.Wrap(c, m.policy(env), guard.WithClock[string, []float32](env.Clock))
}

// chats makes the client of a step that answers questions.
func (m models) chats(env model.Env) (model.Client[Context, string], error) {
	a, err := m.access()
	if err != nil {
		return nil, err
	}
	c, err := openai.NewChat(openai.Endpoint{URL: m.endpoint, Model: m.chat, Access: a}, openai.Chat[Context, string]{
		Prompt: func(c *Context) (openai.Request, error) {
			if c.Question == "" {
				return openai.Request{}, errors.New("there is no question")
			}
			return openai.Request{Messages: messages(c)}, nil
		},
		Reply: func(_ *Context, c *openai.Completion) (string, error) {
			answer := cmp.Or(strings.TrimSpace(c.Content), c.Refusal)
			if answer == "" {
				return "", fmt.Errorf("the answer is empty (%s)", c.FinishReason)
			}
			return answer, nil
		},
		Concurrency: m.inFlight,
	})
	if err != nil {
		return nil, err
	}
	return guard.Wrap(c, m.policy(env), guard.WithClock[Context, string](env.Clock))
}

// messages is what the model is told: what was found, what was said, and the question.
func messages(c *Context) []openai.Message {
	var b strings.Builder
	b.WriteString("Answer the question from these passages alone. If they do not have the answer, say so.\n")
	for _, p := range c.Passages {
		fmt.Fprintf(&b, "[%s] %s\n", p.ID, p.Text)
	}
	out := []openai.Message{openai.System(b.String())}
	for _, t := range c.Memory {
		out = append(out, openai.User(t.Question), openai.Assistant(t.Answer))
	}
	return append(out, openai.User(c.Question))
}

// reply is what a model said about an event.
type reply[T any] struct {
	Attempt weir.Attempt
	Out     T
	Model   string
}

// ask asks a model about the events of a type, tries again what failed, and hands on
// what the model said.
func ask[In, Out any](j *weir.Job, step, typ string, c config, client func(model.Env) (model.Client[In, Out], error),
	request func(weir.Attempt) In,
) weir.Stream[reply[Out]] {
	attempts := weir.Attempts(read(j, typ), read(j, retryRequested), step, refused)
	failed := weir.NewTag[model.Failed[weir.Attempt]]("failed")
	said := weir.Infer(attempts, "ask", client, request,
		func(a weir.Attempt, r model.Result[Out]) reply[Out] { return reply[Out]{a, r.Out, r.Version} },
		weir.FailuresTo(failed), weir.CallDeadline(c.models.deadline()), weir.CallsInFlight(c.models.inFlight))
	publish(j, weir.RetryOrGiveUp(weir.SideOutput(said, failed), step, c.retry), retryRequested, stepFailed)
	return said
}

// payload decodes the payload of an attempt for a model. One that cannot be decoded is
// empty, which the client refuses before it is sent, and the step gives it up.
func payload[T any](a weir.Attempt) T {
	v, _ := weir.EventPayload[T](a.Event)
	return v
}

// index embeds documents.
func index(j *weir.Job, c config) {
	said := ask(j, "index", documentAdded, c, c.models.embeddings, func(a weir.Attempt) string { return payload[Document](a).Text })
	publish(j, weir.TryMap(said, "embedded", func(r reply[[]float32]) (weir.Event, error) {
		return r.Attempt.Next(documentEmbedded, time.Now(), Embedded{payload[Document](r.Attempt), r.Out, r.Attempt.Event.At})
	}, refused), documentEmbedded)
}

// generate has the model answer the question.
func generate(j *weir.Job, c config) {
	said := ask(j, "generate", reranked, c, c.models.chats, payload[Context])
	publish(j, weir.TryMap(said, "generated", func(r reply[string]) (weir.Event, error) {
		return r.Attempt.Next(generated, time.Now(), Generation{payload[Context](r.Attempt), r.Out, r.Model})
	}, refused), generated)
}
