// Package storefront is a job over the clicks of a web shop: what every visitor
// did in rolling windows, and a nudge for whoever hesitates over an item. It is
// what `weir demo` runs.
//
//	CLICKS ─▶ clicks ─┬─▶ by-user ──────┬─▶ minute ───────▶ COUNTS
//	                  │                 └─▶ five-minutes ─▶ COUNTS
//	                  └─▶ by-user-item ─▶ interest ─┬─▶ hesitation ─┬─▶ NUDGES
//	                                                └───────────────┴─▶ scores ─▶ PREDICTIONS
//	ROUTES ─▶ routes ─────────────────────────────────────────────────────┘
//
// All results are published exactly once.
//
// # Time
//
// Event time is the time in the click. Clicks come out of order by up to Bound;
// after every click the watermark is the greatest time so far less Bound. It moves
// with every single click, so that the same clicks in the same order always have
// the same results, whichever of them are late.
//
// # Windows
//
// A Count says what one visitor did in [From, To): in one minute, every ten
// seconds, and in five minutes, every five. Windows without clicks have none. A
// click counts in those of its windows that the watermark has not reached when it
// comes.
//
// # Hesitations
//
// Interest says what a visitor did about an item over rolling horizons, at every
// click; Hesitation is a pattern in these clicks. A Nudge is a match of it, with the
// interest at its end.
//
// # Predictions
//
// A model of trees scores every click, and every end of a hesitation, on the features
// by then: how likely it is that the visitor hesitates over the item within ten minutes.
// A canary, a larger model, answers for some visitors and items; records of ROUTES
// change its share while the job runs.
package storefront

import (
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/window"
)

// Click is a message of stream CLICKS: one event of one visitor.
type Click struct {
	User string `json:"user"`
	Item string `json:"item"`
	// Kind is one of View, Add, Remove and Buy; others are of no consequence.
	Kind string `json:"kind"`
	// Price of the item, in cents.
	Price int64 `json:"price"`
	// At is the event time in milliseconds since the epoch.
	At int64 `json:"at"`
}

// Kinds of clicks.
const (
	View   = "view"
	Add    = "add"    // to the cart
	Remove = "remove" // from the cart
	Buy    = "buy"
)

// Time returns the event time.
func (c Click) Time() time.Time { return time.UnixMilli(c.At) }

// Count is a message of stream COUNTS: what a visitor did in a window.
type Count struct {
	// Window is "1m" or "5m".
	Window string `json:"window"`
	User   string `json:"user"`
	// From and To (exclusive) bound the window, in milliseconds since the epoch.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	Activity
}

// Activity is what a visitor did.
type Activity struct {
	Views   int64 `json:"views"`
	Adds    int64 `json:"adds"`
	Removes int64 `json:"removes"`
	Buys    int64 `json:"buys"`
	// Spend is the price of everything bought, in cents.
	Spend int64 `json:"spend"`
}

// activity adds up clicks.
type activity struct{}

var (
	_ weir.AggregateFunction[Click, Activity, Activity] = activity{}
	_ weir.Subtracter[Activity]                         = activity{}
)

func (activity) Add(a *Activity, c Click) {
	switch c.Kind {
	case View:
		a.Views++
	case Add:
		a.Adds++
	case Remove:
		a.Removes++
	case Buy:
		a.Buys++
		a.Spend += c.Price
	}
}

func (activity) Merge(dst, src *Activity) {
	dst.Views += src.Views
	dst.Adds += src.Adds
	dst.Removes += src.Removes
	dst.Buys += src.Buys
	dst.Spend += src.Spend
}

// Subtract undoes Merge: sliding windows then cost the same whatever their length.
func (activity) Subtract(dst, src *Activity) {
	dst.Views -= src.Views
	dst.Adds -= src.Adds
	dst.Removes -= src.Removes
	dst.Buys -= src.Buys
	dst.Spend -= src.Spend
}

func (activity) Result(a *Activity) Activity { return *a }

// Bound is how much later than one with a greater time a click may come.
const Bound = 5 * time.Second

// Streams are the JetStream streams of the job.
func Streams() []jetstream.StreamSpec {
	return []jetstream.StreamSpec{
		{Name: "CLICKS", Subjects: []string{"clicks.*"}},
		{Name: "COUNTS", Subjects: []string{"counts.>"}},
		{Name: "NUDGES", Subjects: []string{"nudges.*"}},
		{Name: "PREDICTIONS", Subjects: []string{"predictions.*"}},
		{Name: "ROUTES", Subjects: []string{"routes"}},
	}
}

// Job is the job.
func Job() weir.JobSpec {
	return weir.NewJob("storefront", build(weir.RequireExactlyOnce())).WithStreams(Streams()...)
}

// JobAtLeastOnce is the job with sinks that publish every result at once, and
// after a failure some of them again. It is there for comparison.
func JobAtLeastOnce() weir.JobSpec {
	return weir.NewJob("storefront", build(nil, jetstream.Immediate())).WithStreams(Streams()...)
}

// lanes of each sink: few, because every checkpoint commits each lane that has
// output in a batch of its own.
const lanes = 2

func build(require weir.SinkOption, publish ...jetstream.SinkOption) func(*weir.Job) {
	var to []weir.SinkOption
	if require != nil {
		to = append(to, require)
	}
	publish = append(publish, jetstream.JSON(), jetstream.Lanes(lanes))
	return func(j *weir.Job) {
		clicks := weir.From(j, "clicks", jetstream.Stream[Click]("CLICKS", jetstream.JSON()),
			weir.BoundedOutOfOrderness(Bound, Click.Time),
			weir.WatermarkEveryRecord(),
			// The demo plays hours of event time in minutes.
			weir.MaxAhead(0, weir.Fail))

		byUser := weir.KeyBy(clicks, "by-user", func(c Click) string { return c.User })
		counts := func(name, label string, spec window.Spec) {
			windows := weir.Aggregate(byUser, name, spec, activity{})
			out := weir.Map(windows, name+"-count", func(w weir.Windowed[string, Activity]) Count {
				return Count{Window: label, User: w.Key, From: w.Start.UnixMilli(), To: w.End.UnixMilli(), Activity: w.Value}
			})
			weir.To(out, name+"-counts", jetstream.Publish("COUNTS", func(c Count) string { return "counts." + c.Window + "." + c.User }, publish...), to...)
		}
		counts("minute", "1m", window.Sliding(time.Minute, 10*time.Second))
		counts("five-minutes", "5m", window.Tumbling(5*time.Minute))

		byUserItem := weir.KeyBy(clicks, "by-user-item", func(c Click) UserItem { return UserItem{c.User, c.Item} })
		visits := weir.Rolling(byUserItem, "interest", interest(), func(c Click, in Interest) Visit { return Visit{c, in} })
		byVisit := weir.SameKey(byUserItem, visits, Visit.key)
		hesitated := weir.Detect(byVisit, "hesitation", Hesitation(), hesitated)
		nudges := weir.Map(hesitated, "nudge", func(h Hesitated) Nudge { return h.Nudge })
		weir.To(nudges, "nudges", jetstream.Publish("NUDGES", func(n Nudge) string { return "nudges." + n.User }, publish...), to...)

		routes := weir.From(j, "routes", jetstream.Stream[model.Routing]("ROUTES", jetstream.JSON()), weir.ProcessingTime[model.Routing]())
		moments := weir.Union("moments", weir.Map(visits, "moment", moment), weir.Map(hesitated, "end", Hesitated.moment))
		arms := weir.Arms[Moment, float64]{Steady: forest("steady", "1"), Canary: forest("canary", "2")}
		scores := weir.Predict(weir.KeyBy(moments, "by-moment", Moment.key), "scores", arms, Routing(0, firstCanary), func(m Moment) Moment { return m }, model.Bare,
			weir.DropFailures(), weir.RoutingBy(routes))
		weir.To(scores, "predictions", jetstream.Publish("PREDICTIONS", func(p Prediction) string { return "predictions." + p.Features.User }, publish...), to...)
	}
}
