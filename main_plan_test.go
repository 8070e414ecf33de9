package weir

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/generator"
	"github.com/weirflow/weir/connectors/memory"
	"github.com/weirflow/weir/window"
)

var update = flag.Bool("update", false, "rewrite golden files and generated documentation")

type planEvent struct {
	I    uint64
	User string
	At   time.Time
}

func planSource() connectors.Source[planEvent] {
	return generator.New(func(i uint64) planEvent { return planEvent{I: i} }, generator.Count(10))
}

func userOf(e planEvent) string { return e.User }

// planJobs are the jobs of the golden files.
func planJobs() []JobSpec {
	return []JobSpec{
		NewJob("line", func(j *Job) {
			in := From(j, "events", planSource(), ProcessingTime[planEvent]())
			even := Filter(in, "even", func(e planEvent) bool { return e.I%2 == 0 })
			To(even, "out", memory.NewSink[planEvent](memory.WithLanes(1)).Sink())
		}),
		NewJob("windows", func(j *Job) {
			in := From(j, "events", planSource(), BoundedOutOfOrderness(time.Second, func(e planEvent) time.Time { return e.At }), Parallelism(2))
			byUser := KeyBy(in, "by-user", userOf, Parallelism(3))
			late := NewTag[planEvent]("late")
			counts := Aggregate(byUser, "per-minute", window.Tumbling(time.Minute), Count[planEvent](), LateTo(late))
			To(counts, "counts", memory.NewSink[Windowed[string, int64]](memory.WithLanes(4)).Sink())
			To(SideOutput(counts, late), "late", memory.NewDirect[planEvent]().Sink())
		}),
		NewJob("diamond", func(j *Job) {
			in := From(j, "events", planSource(), ProcessingTime[planEvent]())
			other := From(j, "orders", planSource(), ProcessingTime[planEvent]())
			a := KeyBy(in, "by-user", userOf, Parallelism(2))
			b := KeyBy(in, "by-number", func(e planEvent) uint64 { return e.I })
			c := KeyBy(other, "orders-by-user", userOf)
			same := func(e planEvent) planEvent { return e }
			all := Union("all", Map(a.Stream, "left", same), Map(b.Stream, "right", same), Map(c.Stream, "third", same), other)
			To(KeyBy(all, "again", userOf, Parallelism(4)).Stream, "out", memory.NewSink[planEvent]().Sink())
			To(Map(in, "copy", same), "copies", memory.NewDirect[planEvent]().Sink())
		}),
	}
}

var declared = regexp.MustCompile(`"where": "[^"]*main_plan_test\.go:\d+"`)

func TestPlanGolden(t *testing.T) {
	for _, job := range planJobs() {
		for _, format := range []string{"ascii", "mermaid", "json"} {
			t.Run(job.Name()+"-"+format, func(t *testing.T) {
				root := NewCommand(planJobs()...)
				var out bytes.Buffer
				root.SetOut(&out)
				root.SetArgs([]string{"plan", job.Name(), "--format", format})
				if code := Execute(root); code != ExitOK {
					t.Fatalf("exit code %d", code)
				}
				// Lines of this file change, and so does the directory it is in.
				got := declared.ReplaceAllString(out.String(), `"where": "FILE:LINE"`)
				name := filepath.Join("testdata", "plan", job.Name()+"."+format+".golden")
				if *update {
					if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if got != string(want) {
					t.Errorf("the plan is not that of %s; run with -update if it should be\n%s", name, got)
				}
				if format == "json" && !json.Valid(out.Bytes()) {
					t.Error("it is not JSON")
				}
			})
		}
	}
}

// TestPlanLinesDoNotJoin draws random graphs: no two links may share a cell
// unless they cross there, and each must end in a box of its own task.
func TestPlanLinesDoNotJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "tasks")
		v := planView{}
		for i := range n {
			v.Tasks = append(v.Tasks, taskView{Name: fmt.Sprint("t", i), Operators: make([]operatorView, rapid.IntRange(1, 3).Draw(t, "ops"))})
			for f := range i {
				if rapid.IntRange(0, 3).Draw(t, "edge") == 0 {
					v.Edges = append(v.Edges, edgeView{From: fmt.Sprint("t", f), To: fmt.Sprint("t", i), Partition: "by key"})
				}
			}
		}
		links := 0
		for _, layer := range layout(v) {
			used := map[[2]int]uint8{}
			mark := func(x, y int, dirs uint8) {
				if used[[2]int{x, y}]&dirs != 0 || used[[2]int{x, y}] != 0 && used[[2]int{x, y}]|dirs != up|down|left|right {
					t.Fatalf("two links meet at column %d, row %d:\n%s", x, y, draw(v))
				}
				used[[2]int{x, y}] |= dirs
			}
			for _, node := range layer {
				for _, l := range node.out {
					links++
					walk(l, mark)
					if l.dstX < l.to.x || l.dstX >= l.to.x+l.to.w || l.srcX < node.x || l.srcX >= node.x+node.w {
						t.Fatalf("a link from column %d to %d misses its task:\n%s", l.srcX, l.dstX, draw(v))
					}
				}
			}
		}
		if links < len(v.Edges) {
			t.Fatalf("%d links for %d edges", links, len(v.Edges))
		}
		for i, line := range strings.Split(draw(v), "\n") {
			if strings.ContainsRune(line, 0) {
				t.Fatalf("line %d has a cell without a glyph:\n%s", i, draw(v))
			}
		}
	})
}

// walk visits the cells of a link between two layers, rows counted from the
// first below the boxes.
func walk(l *link, visit func(x, y int, dirs uint8)) {
	const last = 100
	if l.track < 0 {
		for y := range last {
			visit(l.srcX, y, up|down)
		}
		return
	}
	row := 1 + l.track
	for y := range row {
		visit(l.srcX, y, up|down)
	}
	turn, enter := right, left
	if l.dstX < l.srcX {
		turn, enter = left, right
	}
	visit(l.srcX, row, up|turn)
	for x := min(l.srcX, l.dstX) + 1; x < max(l.srcX, l.dstX); x++ {
		visit(x, row, left|right)
	}
	visit(l.dstX, row, enter|down)
	for y := row + 1; y < last; y++ {
		visit(l.dstX, y, up|down)
	}
}
