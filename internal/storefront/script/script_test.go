package script_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/storefront/script"
)

var configs = []script.Config{
	{Seed: 1, Rate: 1000, Speed: 120},
	{Seed: 2, Rate: 50, Speed: 120},
	{Seed: 3, Rate: 777, Speed: 33},
}

func TestPlayerGoesOnAtAnyIndex(t *testing.T) {
	for _, c := range configs {
		all := script.Play(c, 0)
		n := 2*c.ChapterLen() + 500
		events := make([]script.Event, n)
		plants := map[uint64]string{}
		for i := range events {
			e, p := all.Next()
			events[i] = e
			if p != nil {
				plants[uint64(i)] = p.Name
			}
		}
		for _, from := range []uint64{1, 999, c.ChapterLen() - 1, c.ChapterLen(), c.ChapterLen() + 1, 2*c.ChapterLen() + 77} {
			p := script.Play(c, from)
			for i := from; i < min(from+300, n); i++ {
				e, pl := p.Next()
				name := ""
				if pl != nil {
					name = pl.Name
				}
				if e != events[i] || name != plants[i] {
					t.Fatalf("%+v: event %d played from %d is %+v (%q), and from the start %+v (%q)", c, i, from, e, name, events[i], plants[i])
				}
			}
		}
	}
}

// TestEveryKindIsPlanted also says how much of the play the plants are.
func TestEveryKindIsPlanted(t *testing.T) {
	for _, c := range configs {
		seen := map[string]int{}
		planted := 0
		p := script.Play(c, 0)
		for range 3 * c.ChapterLen() {
			e, pl := p.Next()
			if script.PlantOf(e.Item) != "" {
				planted++
			}
			if pl != nil {
				seen[pl.Kind]++
			}
		}
		for _, k := range script.Kinds() {
			if seen[k] == 0 {
				t.Errorf("%+v: no %q in three chapters: %v", c, k, seen)
			}
		}
		if share := float64(planted) / float64(3*c.ChapterLen()); share < 0.05 || share > 0.3 {
			t.Errorf("%+v: %.0f %% of the events are planted", c, 100*share)
		}
	}
}

func TestSeedsGiveDifferentPlays(t *testing.T) {
	a, b := script.Play(script.Config{Seed: 1, Rate: 1000, Speed: 120}, 0), script.Play(script.Config{Seed: 2, Rate: 1000, Speed: 120}, 0)
	same := 0
	for range 1000 {
		x, _ := a.Next()
		y, _ := b.Next()
		if x == y {
			same++
		}
	}
	if same > 100 {
		t.Errorf("%d of 1000 events are the same with another seed", same)
	}
}

// write appends n events like a generator, and returns the log without closing it.
func write(t *testing.T, dir string, c script.Config, session string, now int64, n int) *script.Log {
	t.Helper()
	l, err := script.OpenLog(dir, c, session, now)
	if err != nil {
		t.Fatal(err)
	}
	p := script.Play(c, l.Next())
	for range n {
		if err := l.Append(p.Next()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	return l
}

func read(t *testing.T, tail *script.Tail) (events []script.Event, due []int64, plants []string, end uint64) {
	t.Helper()
	for {
		line, d, ok, err := tail.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return events, due, plants, end
		}
		switch {
		case line.Sent != nil:
			events, due = append(events, line.Sent.Event), append(due, d)
		case line.Plant != nil:
			plants = append(plants, line.Plant.Name)
		case line.End > 0:
			end = line.End
		}
	}
}

func TestLogIsReadWhileItIsWrittenAndKilled(t *testing.T) {
	c := script.Config{Seed: 9, Rate: 50, Speed: 120}
	dir := filepath.Join(t.TempDir(), "log")
	tail := script.NewTail(dir)
	defer tail.Close()
	if e, _, _, _ := read(t, tail); len(e) != 0 {
		t.Fatal("events before the log begins")
	}
	write(t, dir, c, "a", 1000, 700)
	got, due, plants, _ := read(t, tail)
	if len(got) != 700 || due[0] != 1000 || due[50] != 1000+1e9 {
		t.Fatalf("%d events, the first due at %d, number 50 at %d", len(got), due[0], due[50])
	}
	// Killed in the middle of a line; the reader has looked at it already.
	files, err := filepath.Glob(filepath.Join(dir, "events-*"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(files[len(files)-1], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"sent":{"i":700,"user":"some`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if e, _, _, _ := read(t, tail); len(e) != 0 {
		t.Fatal("a torn line was read")
	}
	l := write(t, dir, c, "a", 5e9, 800) // same session: the schedule goes on
	if got := l.Due(750); got != 1000+15e9 {
		t.Errorf("after a restart event 750 is due at %d", got)
	}
	l = write(t, dir, c, "b", 90e9, 100) // another session: it begins anew
	if got := l.Due(1500); got != 90e9 {
		t.Errorf("in another session event 1500 is due at %d", got)
	}
	if err := l.Append(c.Closing(l.Next()), nil); err != nil {
		t.Fatal(err)
	}
	if err := l.End(); err != nil {
		t.Fatal(err)
	}
	more, due, morePlants, end := read(t, tail)
	got, plants = append(got, more...), append(plants, morePlants...)
	if end != 1601 || len(got) != 1601 {
		t.Fatalf("%d events, end %d", len(got), end)
	}
	if due[800] != 90e9 || due[799] != 1000+1499*2e7 {
		t.Errorf("the events around the new session are due at %d and %d", due[799], due[800])
	}
	p := script.Play(c, 0)
	var want []string
	for i := range got[:1600] {
		e, pl := p.Next()
		if e != got[i] {
			t.Fatalf("event %d is %+v in the log and %+v in the play", i, got[i], e)
		}
		if pl != nil {
			want = append(want, pl.Name)
		}
	}
	if !reflect.DeepEqual(plants, want) {
		t.Errorf("plants %v, want %v", plants, want)
	}
	if l, err := script.OpenLog(dir, c, "c", 0); err != nil || !l.Ended() {
		t.Errorf("an ended log opens with %v, ended %v", err, l.Ended())
	}
}

func TestLogOfAnotherRunIsRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, script.Config{Seed: 1, Rate: 50, Speed: 120}, "a", 0, 10)
	_, err := script.OpenLog(dir, script.Config{Seed: 2, Rate: 50, Speed: 120}, "a", 0)
	if err == nil || !strings.Contains(err.Error(), "seed 1") {
		t.Errorf("error: %v", err)
	}
}
