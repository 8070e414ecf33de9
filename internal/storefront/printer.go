package storefront

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/weirflow/weir/internal/storefront/proof"
)

// printer writes plain lines, each with the time since the start.
type printer struct {
	out   io.Writer
	began time.Time
	next  time.Time // of the next progress line
}

func newPrinter(out io.Writer, began time.Time) *printer {
	return &printer{out: out, began: began, next: time.Now().Add(progressEvery)}
}

func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(p.out, "%6.2f s  %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

// due reports that it is time for a progress line.
func (p *printer) due(now time.Time) bool {
	if now.Before(p.next) {
		return false
	}
	p.next = now.Add(progressEvery)
	return true
}

// title says what can be seen.
func (p *printer) title(d *demo) {
	s := d.o.Script
	where := "temporary, removed at the end"
	if !d.temp {
		where = "kept"
	}
	fmt.Fprintf(p.out, `weir demo · storefront · seed %d · %s events a second
  job     CLICKS ─▶ per user: counts and spend, 1 min every 10 s and 5 min ─▶ COUNTS
                 ─▶ per user and item: viewed 3 times, added, removed within 10 min ─▶ NUDGES
                 ─▶ a model scores each click on its features, a canary some ─▶ PREDICTIONS
  time    event time runs %d times as fast as the clock: ten minutes of it take %s
  proof   an independent reader compares every visible result with a model of the
          generator's own log, which has planted hesitations and near misses
  data    %s (%s)
  NATS    %s, a process of its own, every write synced
`, s.Seed, count(uint64(s.Rate)), s.Speed, (10 * time.Minute / time.Duration(s.Speed)).Round(100*time.Millisecond), d.dir, where, d.url)
	if d.o.AtLeastOnce {
		fmt.Fprintln(p.out, "  note    the sinks are at-least-once: the reader will see what that means")
	}
	if d.o.KillEvery > 0 {
		fmt.Fprintf(p.out, "  kills   the job is killed (kill -9) and started again about every %v\n", d.o.KillEvery)
	}
	if d.o.Once == 0 {
		fmt.Fprintln(p.out, "  Ctrl-C  ends with a final checkpoint and a summary")
	}
}

// progress says how things stand.
func (p *printer) progress(r *proof.Report) {
	behind := ""
	if r.Outstanding > 0 {
		behind = fmt.Sprintf(" · %s due for up to %s", count(uint64(r.Outstanding)), millis(r.Age))
	}
	p.line("%s events · %s results compared · %s nudges · %s scores, %s by the canary · %d wrong · %d missing · %d duplicated%s",
		count(r.Events), count(r.Compared), count(r.Nudges), count(r.Scores), count(r.Canary), r.Wrong, r.Missing, r.Duplicated, behind)
}

// summary says what was run and how fast it was.
func (p *printer) summary(r *proof.Report) {
	p.line("%s events, %s of them too late for the pattern; %s planted sequences were decided, %s nudges were to come of them",
		count(r.Events), count(r.Late), count(uint64(r.Plants)), count(uint64(r.Planted)))
	if r.P99 == 0 {
		return
	}
	p.line("results visible %s (median) and %s (99 %%) after the event that decides them was due, kills included", millis(r.P50), millis(r.P99))
}

// proof prints the line that counts.
func (p *printer) proof(r *proof.Report, kills int) {
	recovery := ""
	if len(r.Recovered) > 0 {
		recovery = ", recovery " + millis(median(r.Recovered)) + " (median)"
	}
	fmt.Fprintf(p.out, "proof: %s results compared, %d wrong, %d missing, %d duplicated; job killed %d %s%s\n",
		count(r.Compared), r.Wrong, r.Missing, r.Duplicated, kills, plural(kills, "time", "times"), recovery)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// millis renders nanoseconds as milliseconds, from ten seconds on as seconds.
func millis(nanos int64) string {
	if nanos >= 10e9 {
		return strconv.FormatFloat(float64(nanos)/1e9, 'f', 1, 64) + " s"
	}
	return strconv.FormatInt((nanos+500_000)/1_000_000, 10) + " ms"
}

// count groups digits by commas.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
