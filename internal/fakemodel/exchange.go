package fakemodel

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"
)

// exchange is one request for inference on its way to an answer.
type exchange struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	p    protocol
	c    *call
	prog *program
	rec  *record
	// booked says that the end is in the books.
	booked bool
}

// book books the end. The client gets the last byte of its answer only thereafter, so
// that whoever has an answer finds it in the books.
func (x *exchange) book(o Outcome, status int, processed bool) {
	if x.booked {
		return
	}
	x.booked = true
	if err := x.s.book.end(x.rec, o, status, processed); err != nil {
		x.s.opts.Logger.Error("the fake model server cannot write its log", "error", err)
	}
}

func (x *exchange) refuse(status int, what string, o Outcome) {
	x.book(o, status, false)
	x.s.refuse(x.w, x.p, status, what)
}

// run decides about a call and carries it out.
func (x *exchange) run(inf inference) {
	f := x.prog.decide(x.c)
	rule := f.failure
	if rule == nil {
		rule = &Rule{}
	}
	ctx := x.r.Context()
	lim := x.prog.limiter(x.c.model)
	if rule.Status != 0 || rule.Fault == Reset {
		if rule.Latency != nil && !x.pause(ctx, f.duration(x.c.items, 0)) {
			return
		}
		x.rateHeaders(lim)
		x.fail(rule)
		return
	}
	if rule.Fault == Hang && !x.hang(ctx, rule) {
		return
	}
	if lim != nil {
		if wait := lim.admit(x.c.tokens); wait > 0 {
			x.limited(lim, wait)
			return
		}
	}
	x.rateHeaders(lim)
	arrived := x.c.arrived
	if rule.Fault == Hang {
		arrived = x.s.opts.Clock.Mono() // what it has hung does not count
	}
	turn, err := lim.begin(ctx, x.s.opts.Clock, arrived)
	if errors.Is(err, errQueueFull) {
		x.refuse(http.StatusServiceUnavailable, "too many calls wait for the model", QueueFull)
		return
	}
	if err != nil {
		x.book(Canceled, 0, false)
		return
	}
	x.work(ctx, inf, rule, &f, &turn)
}

// work answers a call that has its turn.
func (x *exchange) work(ctx context.Context, inf inference, rule *Rule, f *fate, t *turn) {
	defer t.end()
	spoil := Fault("")
	switch rule.Fault {
	case NaN, Null, WrongShape, WrongCount:
		spoil = rule.Fault
	}
	rep := inf.answer(x.c, spoil)
	tokens := x.c.generated
	if rep.events != nil {
		tokens = 0
	}
	if t.until(ctx, f.duration(x.c.items, tokens)) != nil {
		x.book(Canceled, 0, false)
		return
	}
	outcome := OK
	if rule.Fault != "" {
		outcome = Outcome(rule.Fault)
	}
	switch rule.Fault {
	case ResetAfter:
		x.book(outcome, 0, true)
		x.hangUp(true)
		return
	case Empty:
		rep = reply{contentType: rep.contentType}
	case HTML:
		rep = reply{contentType: "text/html", body: []byte("<html><body><h1>502 Bad Gateway</h1></body></html>\n")}
	case BadJSON, Huge:
		rep = reply{contentType: rep.contentType, body: bytes.Join(append(rep.events, rep.body), nil)}
	}
	switch {
	case rule.Fault == BadJSON:
		rep.body = rep.body[:len(rep.body)/2]
	case rule.Fault == Huge:
		x.huge(rep, rule)
		return
	case rep.events != nil:
		x.stream(ctx, rep, rule, outcome, t, milliseconds(f.latency.PerToken))
		return
	}
	t.end()
	if rule.Fault == Truncate || rule.Fault == Stall {
		x.half(ctx, rep, rule)
		return
	}
	x.deliver(rep, outcome)
}

// pause waits before a failure. It reports whether the client is still there.
func (x *exchange) pause(ctx context.Context, d time.Duration) bool {
	if x.s.opts.Clock.Sleep(ctx, d) != nil {
		x.book(Canceled, 0, false)
		return false
	}
	return true
}

// fail answers with a status or breaks the connection.
func (x *exchange) fail(rule *Rule) {
	if rule.Fault == Reset {
		x.book(Outcome(Reset), 0, false)
		x.hangUp(true)
		return
	}
	if rule.RetryAfter > 0 {
		x.retryAfter(time.Duration(rule.RetryAfter * float64(time.Second)))
	}
	if h := x.w.Header(); rule.Status == http.StatusTooManyRequests && x.openAI() {
		h.Set("X-Ratelimit-Remaining-Requests", "0")
		h.Set("X-Ratelimit-Reset-Requests", time.Duration(rule.RetryAfter*float64(time.Second)).String())
	}
	x.refuse(rule.Status, rule.message(), Failed)
}

func (r *Rule) message() string {
	switch {
	case r.Message != "":
		return r.Message
	case http.StatusText(r.Status) != "":
		return http.StatusText(r.Status)
	}
	return "the script says so"
}

func (x *exchange) retryAfter(d time.Duration) {
	h := x.w.Header()
	h.Set("Retry-After", strconv.FormatFloat(math.Ceil(d.Seconds()), 'f', 0, 64))
	h.Set("Retry-After-Ms", strconv.FormatFloat(math.Ceil(d.Seconds()*1000), 'f', 0, 64))
}

func (x *exchange) limited(l *limiter, wait time.Duration) {
	x.retryAfter(wait)
	x.rateHeaders(l)
	x.refuse(http.StatusTooManyRequests, "the model takes no more calls for now", Limited)
}

// openAI reports whether the client speaks one of OpenAI's protocols.
func (x *exchange) openAI() bool {
	switch x.p.(type) {
	case chat, embeddings:
		return true
	}
	return false
}

// rateHeaders tells a client of OpenAI's protocol about the rates.
func (x *exchange) rateHeaders(l *limiter) {
	if l == nil || !x.openAI() {
		return
	}
	h := x.w.Header()
	for name, b := range map[string]*bucket{"Requests": &l.requests, "Tokens": &l.tokens} {
		if b.rate == 0 {
			continue
		}
		left, full := b.level()
		h.Set("X-Ratelimit-Limit-"+name, strconv.FormatFloat(math.Floor(b.most), 'f', 0, 64))
		h.Set("X-Ratelimit-Remaining-"+name, strconv.FormatFloat(left, 'f', 0, 64))
		h.Set("X-Ratelimit-Reset-"+name, full.String())
	}
}

// hang waits until the client gives up, the server stops or the rule says that it is
// enough; only then the call goes on.
func (x *exchange) hang(ctx context.Context, rule *Rule) bool {
	if x.hold(ctx, rule) {
		return true
	}
	x.book(Outcome(Hang), 0, false)
	x.hangUp(false)
	return false
}

// hold reports whether the time of a hang is over and the client still there.
func (x *exchange) hold(ctx context.Context, rule *Rule) bool {
	seconds := rule.HangSeconds
	if seconds == 0 {
		seconds = maxHangSeconds
	}
	t := x.s.opts.Clock.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer t.Stop()
	select {
	case <-t.C():
		return rule.HangSeconds > 0
	case <-ctx.Done():
	case <-x.s.stop:
	}
	return false
}

// hangUp takes the connection from the HTTP server and closes it, or breaks it.
func (x *exchange) hangUp(breakIt bool) {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.s.opts.Logger.Error("the fake model server cannot take over a connection", "error", err)
		return
	}
	if l, ok := conn.(*limitedConn); ok && breakIt {
		_ = l.reset() // it is of no more use either way
		return
	}
	_ = conn.Close()
}

// deliver sends a whole answer, the last byte after it is booked.
func (x *exchange) deliver(rep reply, o Outcome) {
	_ = http.NewResponseController(x.w).SetWriteDeadline(x.s.deadline())
	h := x.w.Header()
	h.Set("Content-Type", rep.contentType)
	h.Set("Content-Length", strconv.Itoa(len(rep.body)))
	head := rep.body[:max(0, len(rep.body)-1)]
	x.w.WriteHeader(http.StatusOK)
	_, err := x.w.Write(head)
	if err != nil {
		o = Undelivered
	}
	x.book(o, http.StatusOK, true)
	_, _ = x.w.Write(rep.body[len(head):]) // the client may be gone
}

// half sends half of an answer, and no more: the connection stalls or is closed.
func (x *exchange) half(ctx context.Context, rep reply, rule *Rule) {
	rc := http.NewResponseController(x.w)
	_ = rc.SetWriteDeadline(x.s.deadline())
	h := x.w.Header()
	h.Set("Content-Type", rep.contentType)
	h.Set("Content-Length", strconv.Itoa(len(rep.body)))
	x.w.WriteHeader(http.StatusOK)
	_, _ = x.w.Write(rep.body[:len(rep.body)/2]) // the client may be gone
	_ = rc.Flush()
	x.cutOff(ctx, rule)
}

func (x *exchange) cutOff(ctx context.Context, rule *Rule) {
	if rule.Fault == Stall {
		x.hold(ctx, rule)
	}
	x.book(Outcome(rule.Fault), http.StatusOK, true)
	x.hangUp(false)
}

// huge sends an answer with white space in it.
func (x *exchange) huge(rep reply, rule *Rule) {
	rest := rule.Bytes
	if rest == 0 {
		rest = defaultHuge
	}
	at := bytes.IndexByte(rep.body, '{') + 1
	rc := http.NewResponseController(x.w)
	x.w.Header().Set("Content-Type", rep.contentType)
	x.w.WriteHeader(http.StatusOK)
	_, err := x.w.Write(rep.body[:at])
	for blank := bytes.Repeat([]byte{' '}, 64<<10); rest > 0 && err == nil; {
		_ = rc.SetWriteDeadline(x.s.deadline())
		var n int
		n, err = x.w.Write(blank[:min(rest, int64(len(blank)))])
		rest -= int64(n)
	}
	x.book(Outcome(Huge), http.StatusOK, true)
	if err == nil {
		_, _ = x.w.Write(rep.body[at:]) // the client may be gone
	}
}

// stream sends an answer in parts, one per step of time.
func (x *exchange) stream(ctx context.Context, rep reply, rule *Rule, o Outcome, t *turn, step time.Duration) {
	rc := http.NewResponseController(x.w)
	x.w.Header().Set("Content-Type", rep.contentType)
	x.w.Header().Set("Cache-Control", "no-cache")
	x.w.WriteHeader(http.StatusOK)
	events := rep.events
	if rule.Fault == Truncate || rule.Fault == Stall {
		events = events[:len(events)/2]
	}
	for i, e := range events {
		// The first event is the role; those behind the tokens take no time of theirs.
		if i > 0 && i <= x.c.generated && t.until(ctx, step) != nil {
			x.book(Canceled, http.StatusOK, false)
			return
		}
		if i == len(rep.events)-1 {
			t.end()
			x.book(o, http.StatusOK, true)
		}
		_ = rc.SetWriteDeadline(x.s.deadline())
		_, err := x.w.Write(e)
		if err = errors.Join(err, rc.Flush()); err != nil {
			x.book(Undelivered, http.StatusOK, true)
			return
		}
	}
	if len(events) < len(rep.events) {
		t.end()
		x.cutOff(ctx, rule)
	}
}
