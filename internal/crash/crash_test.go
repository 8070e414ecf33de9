package crash

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirflow/weir/internal/base"
)

// designed is the list of the protocol's design, in its own notation.
const designed = `lease.{before_create,after_create,before_renew,after_renew}
gen.{before_put,after_put} ckpt.{before_trigger,after_trigger_one} src.{before_offset,after_offset,after_barrier}
align.{first_barrier,mid,last}
snap.{before_swap,after_swap,mid_copy,before_delta,after_delta,before_writeback,after_writeback,before_base,after_base,before_put,mid_put,after_put}
sink.{before_seal,after_seal,after_block_upload} ack.{before_send,after_send}
coord.{after_first_ack,after_last_ack,before_manifest,after_manifest,before_claim,after_claim_unacked,after_claim,after_complete_one}
commit.{before_batch,mid_batch,before_marker,after_marker_unacked,after_ack,between_chunks,between_lanes}
done.{before,after} gc.{before_delete,mid}
rec.{after_gen,after_find,after_markers,mid_replay,mid_deploy,mid_restore,after_seek}
rescale.{after_epoch,after_plan,mid_deploy} savepoint.{mid_copy,before_publish,after_publish}`

func TestPointsAreThoseOfTheDesign(t *testing.T) {
	var want []string
	for group := range strings.FieldsSeq(designed) {
		prefix, list, _ := strings.Cut(group, "{")
		for name := range strings.SplitSeq(strings.TrimSuffix(list, "}"), ",") {
			want = append(want, prefix+name)
		}
	}
	points := Points()
	if len(points) != len(want) {
		t.Fatalf("%d points, the design has %d", len(points), len(want))
	}
	for i, p := range points {
		if p.Name != want[i] {
			t.Errorf("point %d is %q, want %q", i, p.Name, want[i])
		}
		group, _, _ := strings.Cut(p.Name, ".")
		later := group == "lease" || group == "rescale" || group == "savepoint"
		if p.Wired == later {
			t.Errorf("%s: wired=%v", p.Name, p.Wired)
		}
		if q, ok := Parse(p.Name); !ok || q != p.Point || q.String() != p.Name {
			t.Errorf("%s does not parse back", p.Name)
		}
	}
	if _, ok := Parse("no.such"); ok {
		t.Error("an unknown name parsed")
	}
}

func TestActionsHappenAtTheirHit(t *testing.T) {
	var called []string
	disarm := Arm(
		Spec{Point: AckBeforeSend, Hit: 2, Kind: Call, Func: func() { called = append(called, "ack2") }},
		Spec{Point: AckAfterSend, Hit: 2, Every: true, Kind: Fail},
		Spec{Point: SnapMidPut, Kind: Fail},
	)
	for range 3 {
		At(AckBeforeSend)
	}
	if len(called) != 1 {
		t.Fatalf("called %v, want once at the second hit", called)
	}
	for i, want := range []bool{false, true, true} {
		if err := AtErr(AckAfterSend); errors.Is(err, ErrInjected) != want {
			t.Fatalf("hit %d: %v", i+1, err)
		}
	}
	At(SnapMidPut) // At cannot fail
	if err := AtErr(SnapMidPut); err != nil {
		t.Fatalf("second hit failed: %v", err)
	}
	hits := Hits()
	if hits["ack.before_send"] != 3 || hits["snap.mid_put"] != 2 || hits["done.after"] != 0 || len(hits) != int(numPoints) {
		t.Fatalf("hits %v", hits)
	}
	disarm()
	disarm()
	if AtErr(AckAfterSend) != nil || Hits() != nil {
		t.Fatal("still armed")
	}
}

func TestArmingsNest(t *testing.T) {
	outer := Arm(Spec{Point: GCMid, Every: true, Kind: Fail})
	inner := Arm(Spec{Point: DoneAfter, Every: true, Kind: Fail})
	if AtErr(GCMid) == nil || AtErr(DoneAfter) == nil {
		t.Fatal("both must act")
	}
	outer()
	if AtErr(GCMid) != nil || AtErr(DoneAfter) == nil {
		t.Fatal("only the inner one must act")
	}
	inner()
	if armed.Load() != nil {
		t.Fatal("still armed")
	}
}

func TestConcurrentHitsActOnce(t *testing.T) {
	var mu sync.Mutex
	n := 0
	defer Arm(Spec{Point: SrcAfterOffset, Hit: 50, Kind: Call, Func: func() { mu.Lock(); n++; mu.Unlock() }})()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				At(SrcAfterOffset)
			}
		})
	}
	wg.Wait()
	if n != 1 || Hits()["src.after_offset"] != 200 {
		t.Fatalf("acted %d times in %d hits", n, Hits()["src.after_offset"])
	}
}

func TestParseSpecs(t *testing.T) {
	got, err := ParseSpecs("coord.after_claim, commit.mid_batch:3:kill,snap.mid_put:2+:err,ack.before_send:pause:1500ms,gc.mid:7,done.after:exit,")
	if err != nil {
		t.Fatal(err)
	}
	want := []Spec{
		{Point: CoordAfterClaim, Hit: 1, Kind: Kill},
		{Point: CommitMidBatch, Hit: 3, Kind: Kill},
		{Point: SnapMidPut, Hit: 2, Every: true, Kind: Fail},
		{Point: AckBeforeSend, Hit: 1, Kind: Pause, Pause: 1500 * time.Millisecond},
		{Point: GCMid, Hit: 7, Kind: Kill},
		{Point: DoneAfter, Hit: 1, Kind: Exit},
	}
	if len(got) != len(want) {
		t.Fatalf("%d specs", len(got))
	}
	for i := range want {
		g, w := got[i], want[i]
		if g.Point != w.Point || g.Hit != w.Hit || g.Every != w.Every || g.Kind != w.Kind || g.Pause != w.Pause {
			t.Errorf("spec %d is %+v, want %+v", i, g, w)
		}
	}
	for _, bad := range []string{"nope", "gc.mid:0", "gc.mid:1x", "gc.mid:boom", "gc.mid:pause", "gc.mid:pause:-1s", "gc.mid:kill:3", "gc.mid:99999999999999999999"} {
		if _, err := ParseSpecs(bad); base.CodeOf(err) != "WEIR-0290" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestMain lets the test binary play the process that crashes.
func TestMain(m *testing.M) {
	if os.Getenv("WEIR_CRASH_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	if err := ArmFromEnv(); err != nil {
		os.Exit(3)
	}
	for range 5 {
		At(SrcBeforeOffset)
		if AtErr(SnapMidPut) != nil {
			os.Exit(4)
		}
		At(CoordAfterClaim)
	}
	os.Exit(0)
}

func TestArmedFromTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		env, log string
		code     int // -1: killed by SIGKILL
	}{
		{"coord.after_claim:2", "src.before_offset 1 seen\nsnap.mid_put 1 seen\ncoord.after_claim 1 seen\ncoord.after_claim 2 kill\n", -1},
		{"src.before_offset:exit", "src.before_offset 1 seen\nsrc.before_offset 1 exit\n", ExitCode},
		{"snap.mid_put:err", "src.before_offset 1 seen\nsnap.mid_put 1 seen\nsnap.mid_put 1 err\n", 4},
		{"snap.mid_put:5:pause:1ms", "src.before_offset 1 seen\nsnap.mid_put 1 seen\ncoord.after_claim 1 seen\nsnap.mid_put 5 pause\n", 0},
		{"coord.after_claim:err", "src.before_offset 1 seen\nsnap.mid_put 1 seen\ncoord.after_claim 1 seen\n", 0}, // At cannot fail
		{"nonsense", "", 3},
		{"", "src.before_offset 1 seen\nsnap.mid_put 1 seen\ncoord.after_claim 1 seen\n", 0},
	} {
		log := filepath.Join(t.TempDir(), "crash.log")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "WEIR_CRASH_TEST_CHILD=1", Env+"="+c.env, EnvLog+"="+log)
		_ = cmd.Run()
		got, _ := os.ReadFile(log)
		if string(got) != c.log {
			t.Errorf("%q logged\n%swant\n%s", c.env, got, c.log)
		}
		ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if c.code < 0 && ws.Signal() != syscall.SIGKILL || c.code >= 0 && cmd.ProcessState.ExitCode() != c.code {
			t.Errorf("%q ended with %v, want %d", c.env, cmd.ProcessState, c.code)
		}
	}
}

func BenchmarkUnarmed(b *testing.B) {
	for b.Loop() {
		At(CoordAfterClaim)
	}
}
