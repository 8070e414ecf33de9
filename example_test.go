package weir_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/state"
	"github.com/weirflow/weir/window"
)

// Click is the record of most examples.
type Click struct {
	User, Page string
	At         time.Time
}

func at(sec int) time.Time { return time.Unix(int64(sec), 0).UTC() }

func when(c Click) time.Time { return c.At }

var clicks = []Click{
	{"ann", "home", at(1)},
	{"bob", "home", at(2)},
	{"ann", "cart", at(30)},
	{"bob", "cart", at(70)},
	{"ann", "home", at(75)},
}

// source returns a source that ends after the given records.
func source(records ...Click) *memory.Source[Click] {
	src := memory.NewSource[Click]()
	for _, r := range records {
		src.Append("0", 0, r)
	}
	src.Finish()
	return src
}

// run runs a job to the end of its input.
func run(job weir.JobSpec) error {
	dir, err := os.MkdirTemp("", "weir-example")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return weir.Run(context.Background(), job, weir.Options{DataDir: dir})
}

// show runs the job that build makes of the clicks, and prints its output in
// alphabetical order.
func show(build func(weir.Stream[Click]) weir.Stream[string]) {
	out := memory.NewSink[string]()
	err := run(weir.NewJob("example", func(j *weir.Job) {
		in := weir.From(j, "clicks", source(clicks...), weir.Ascending(when), weir.WatermarkEveryRecord())
		weir.To(build(in), "out", out.Sink())
	}))
	if err != nil {
		fmt.Println(err)
	}
	for _, line := range slices.Sorted(slices.Values(out.Visible())) {
		fmt.Println(line)
	}
}

// A whole job: count the clicks of every user and minute.
func Example() {
	out := memory.NewSink[weir.Windowed[string, int64]]()
	job := weir.NewJob("clicks-per-minute", func(j *weir.Job) {
		in := weir.From(j, "clicks", source(clicks...), weir.BoundedOutOfOrderness(5*time.Second, when))
		byUser := weir.KeyBy(in, "by-user", func(c Click) string { return c.User })
		counts := weir.Aggregate(byUser, "per-minute", window.Tumbling(time.Minute), weir.Count[Click]())
		weir.To(counts, "out", out.Sink())
	})
	if err := run(job); err != nil {
		fmt.Println(err)
	}
	for _, w := range out.Visible() {
		fmt.Println(w.Start.Format(time.TimeOnly), w.Key, w.Value)
	}
	// Unordered output:
	// 00:00:00 ann 2
	// 00:00:00 bob 1
	// 00:01:00 ann 1
	// 00:01:00 bob 1
}

func ExampleMap() {
	show(func(in weir.Stream[Click]) weir.Stream[string] {
		return weir.Map(in, "pages", func(c Click) string { return c.Page })
	})
	// Output:
	// cart
	// cart
	// home
	// home
	// home
}

func ExampleTryMap() {
	show(func(in weir.Stream[Click]) weir.Stream[string] {
		return weir.TryMap(in, "carts", func(c Click) (string, error) {
			if c.Page != "cart" {
				return "", errors.New("not a cart")
			}
			return c.User + " has a cart", nil
		}, weir.OnError(weir.Skip))
	})
	// Output:
	// ann has a cart
	// bob has a cart
}

func ExampleFilter() {
	show(func(in weir.Stream[Click]) weir.Stream[string] {
		late := weir.Filter(in, "second-minute", func(c Click) bool { return !c.At.Before(at(60)) })
		return weir.Map(late, "show", func(c Click) string { return c.User + " " + c.Page })
	})
	// Output:
	// ann home
	// bob cart
}

func ExampleFlatMap() {
	show(func(in weir.Stream[Click]) weir.Stream[string] {
		return weir.FlatMap(in, "both", func(c Click, emit func(string)) {
			if c.Page == "cart" {
				emit(c.User)
				emit(strings.ToUpper(c.User))
			}
		})
	})
	// Output:
	// ANN
	// BOB
	// ann
	// bob
}

func ExampleUnion() {
	show(func(in weir.Stream[Click]) weir.Stream[string] {
		users := weir.Map(in, "users", func(c Click) string { return c.User })
		pages := weir.Map(in, "pages", func(c Click) string { return c.Page })
		return weir.Union("all", users, pages)
	})
	// Output:
	// ann
	// ann
	// ann
	// bob
	// bob
	// cart
	// cart
	// home
	// home
	// home
}

func ExampleKeyBy() {
	type userPage struct{ User, Page string }
	show(func(in weir.Stream[Click]) weir.Stream[string] {
		byBoth := weir.KeyBy(in, "by-user-and-page", func(c Click) userPage { return userPage{c.User, c.Page} })
		counts := weir.Aggregate(byBoth, "all", window.Tumbling(time.Hour), weir.Count[Click]())
		return weir.Map(counts, "show", func(w weir.Windowed[userPage, int64]) string { return fmt.Sprint(w.Key, w.Value) })
	})
	// Output:
	// {ann cart} 1
	// {ann home} 2
	// {bob cart} 1
	// {bob home} 1
}

// abandoned tells of carts that see no click for 40 seconds.
type abandoned struct{ deadline *state.Value[time.Time] }

func (f *abandoned) Declare(d *weir.Declarer) {
	f.deadline = weir.ValueState[time.Time](d, "deadline")
}

func (f *abandoned) OnRecord(c *weir.Context[string, string], v Click) error {
	if old, ok := f.deadline.Get(); ok {
		c.DeleteEventTimer(old)
		f.deadline.Clear()
	}
	if v.Page == "cart" {
		deadline := v.At.Add(40 * time.Second)
		c.RegisterEventTimer(deadline)
		f.deadline.Set(deadline)
	}
	return nil
}

func (f *abandoned) OnTimer(c *weir.Context[string, string], t weir.Timer) error {
	c.Emit(fmt.Sprintf("%s left a cart at %s", c.Key(), t.Time.Format(time.TimeOnly)))
	f.deadline.Clear()
	return nil
}

func ExampleProcess() {
	show(func(in weir.Stream[Click]) weir.Stream[string] {
		byUser := weir.KeyBy(in, "by-user", func(c Click) string { return c.User })
		return weir.Process(byUser, "abandoned", func() weir.KeyedProcess[string, Click, string] { return &abandoned{} })
	})
	// Output:
	// ann left a cart at 00:01:10
	// bob left a cart at 00:01:50
}

// router sends clicks on carts one way and all others another.
type router struct {
	weir.NoState
	weir.NoTimers[string, string]
}

var others = weir.NewTag[Click]("others")

func (router) OnRecord(c *weir.Context[string, string], v Click) error {
	if v.Page == "cart" {
		c.Emit(v.User)
	} else {
		weir.EmitTo(c, others, v)
	}
	return nil
}

func ExampleSideOutput() {
	show(func(in weir.Stream[Click]) weir.Stream[string] {
		byUser := weir.KeyBy(in, "by-user", func(c Click) string { return c.User })
		carts := weir.Process(byUser, "route", func() weir.KeyedProcess[string, Click, string] { return router{} }, weir.WritesTo(others))
		rest := weir.Map(weir.SideOutput(carts, others), "show", func(c Click) string { return "(" + c.User + ")" })
		return weir.Union("both", carts, rest)
	})
	// Output:
	// (ann)
	// (ann)
	// (bob)
	// ann
	// bob
}

// Mistakes in a job are reported together, with their places.
func ExampleCompile() {
	_, err := weir.Compile(weir.NewJob("mistakes", func(j *weir.Job) {
		in := weir.From(j, "clicks", source(), weir.Ascending(when))
		weir.KeyBy(in, "by-share", func(Click) float64 { return 0.5 })
		weir.Map(in, "Pages!", func(c Click) string { return c.Page })
	}))
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Println(strings.Fields(line)[0])
	}
	// Output:
	// WEIR-0106:
	// WEIR-0101:
}

func ExampleScope() {
	pages := func(in weir.Stream[Click]) weir.Stream[string] {
		return weir.Map(in, "pages", func(c Click) string { return c.Page })
	}
	plan, err := weir.Compile(weir.NewJob("scopes", func(j *weir.Job) {
		in := weir.From(j, "clicks", source(), weir.Ascending(when))
		weir.Scope(j, "first", func(*weir.Job) { pages(in) })
		weir.Scope(j, "second", func(*weir.Job) { pages(in) })
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, o := range plan.Operators {
		fmt.Println(o.UID)
	}
	// Output:
	// clicks
	// first/pages
	// second/pages
}
