package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/file"
	"github.com/weirflow/weir/window"
)

// Entry is what the job uses of a line of the log.
type Entry struct {
	Address string
	Path    string // as requested, with the query
	Status  int
}

// parse reads a line of the common or combined log format as far as the status.
func parse(line string) (Entry, error) {
	address, rest, ok := strings.Cut(line, " ")
	_, rest, quoted := strings.Cut(rest, `] "`)
	request, rest, ended := strings.Cut(rest, `" `)
	if !ok || !quoted || !ended || len(rest) < 3 {
		return Entry{}, fmt.Errorf("not a line of an access log: %.80q", line)
	}
	status, err := strconv.Atoi(rest[:3])
	if err != nil {
		return Entry{}, fmt.Errorf("no status: %w", err)
	}
	// A request that is not METHOD PATH PROTOCOL is one path.
	path := request
	if part := strings.Split(request, " "); len(part) == 3 {
		path = part[1]
	}
	return Entry{Address: address, Path: path, Status: status}, nil
}

// lineTime is the time of a line. One without a time gets the epoch, which moves
// no watermark; parse refuses it later.
func lineTime(line string) time.Time {
	_, rest, _ := strings.Cut(line, "[")
	stamp, _, _ := strings.Cut(rest, "]")
	t, err := time.Parse("02/Jan/2006:15:04:05 -0700", stamp)
	if err != nil {
		return time.Unix(0, 0)
	}
	return t
}

// Session is a visit: requests of one address with at most half an hour from one
// to the next. Times are in seconds since the epoch.
type Session struct {
	Address  string `json:"address"`
	First    int64  `json:"first"`
	Last     int64  `json:"last"`
	Requests int64  `json:"requests"`
}

// Hour is what happened in an hour, which begins at From.
type Hour struct {
	From int64 `json:"from"`
	Traffic
}

// Traffic counts requests.
type Traffic struct {
	Requests int64 `json:"requests"`
	NotFound int64 `json:"not_found"`
}

// Day is how often something was counted on a day (UTC), which begins at From.
type Day struct {
	From  int64  `json:"from"`
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// Burst says that an address got the answer 404 three times or more in [From, To),
// a minute that begins at a multiple of ten seconds.
type Burst struct {
	Address string `json:"address"`
	From    int64  `json:"from"`
	To      int64  `json:"to"`
	Count   int64  `json:"count"`
}

const (
	// disorder is how late a line may be.
	disorder   = time.Minute
	sessionGap = 30 * time.Minute
	burstLeast = 3
	notFound   = 404
)

// traffic adds up entries.
type traffic struct{}

var _ weir.AggregateFunction[Entry, Traffic, Traffic] = traffic{}

func (traffic) Add(t *Traffic, e Entry) {
	t.Requests++
	if e.Status == notFound {
		t.NotFound++
	}
}

func (traffic) Merge(dst, src *Traffic) {
	dst.Requests += src.Requests
	dst.NotFound += src.NotFound
}

func (traffic) Result(t *Traffic) Traffic { return *t }

// job reads a log and writes five directories of JSON lines below out.
func job(log connectors.Source[string], out string) weir.JobSpec {
	return weir.NewJob("weblogs", func(j *weir.Job) {
		lines := weir.From(j, "log", log, weir.BoundedOutOfOrderness(disorder, lineTime))
		entries := weir.TryMap(lines, "parse", parse, weir.OnError(weir.Skip))

		all := weir.KeyBy(entries, "all", func(Entry) bool { return true }, weir.Parallelism(1))
		hours := weir.Aggregate(all, "hourly", window.Tumbling(time.Hour), traffic{})
		weir.To(weir.Map(hours, "hour", func(w weir.Windowed[bool, Traffic]) Hour {
			return Hour{From: w.Start.Unix(), Traffic: w.Value}
		}), "hours", file.WriteJSONL[Hour](out+"/hours"))

		byAddress := weir.KeyBy(entries, "by-address", func(e Entry) string { return e.Address })
		visits := weir.Aggregate(byAddress, "visits", window.Session(sessionGap), weir.Count[Entry]())
		weir.To(weir.Map(visits, "visit", func(w weir.Windowed[string, int64]) Session {
			return Session{Address: w.Key, First: w.Start.Unix(), Last: w.End.Add(-sessionGap).Unix(), Requests: w.Value}
		}), "sessions", file.WriteJSONL[Session](out+"/sessions"))

		missed := weir.Filter(entries, "missed", func(e Entry) bool { return e.Status == notFound })
		missedBy := weir.KeyBy(missed, "missed-by", func(e Entry) string { return e.Address })
		rolling := weir.Aggregate(missedBy, "rolling", window.Sliding(time.Minute, 10*time.Second), weir.Count[Entry]())
		often := weir.Filter(rolling, "often", func(w weir.Windowed[string, int64]) bool { return w.Value >= burstLeast })
		weir.To(weir.Map(often, "burst", func(w weir.Windowed[string, int64]) Burst {
			return Burst{Address: w.Key, From: w.Start.Unix(), To: w.End.Unix(), Count: w.Value}
		}), "bursts", file.WriteJSONL[Burst](out+"/bursts"))

		daily(entries, "status", "statuses", out, func(e Entry) string { return strconv.Itoa(e.Status) })
		daily(entries, "path", "paths", out, func(e Entry) string { return e.Path })
	})
}

// daily counts the values of something by day: a part of a job that is used twice.
func daily(entries weir.Stream[Entry], what, sink, out string, value func(Entry) string) {
	by := weir.KeyBy(entries, "by-"+what, value)
	days := weir.Aggregate(by, "daily-"+what, window.Tumbling(24*time.Hour), weir.Count[Entry]())
	weir.To(weir.Map(days, "day-"+what, func(w weir.Windowed[string, int64]) Day {
		return Day{From: w.Start.Unix(), Value: w.Key, Count: w.Value}
	}), sink, file.WriteJSONL[Day](out+"/"+sink))
}
