package torture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weirflow/weir/internal/crash"
)

// Waits of the nemesis.
const (
	// A fault comes at this time after the first result that followed the one
	// before it, or, one time in five, after its victim was started again.
	calmFrom, calmTo   = 200 * time.Millisecond, 1800 * time.Millisecond
	hasteFrom, hasteTo = 20 * time.Millisecond, 500 * time.Millisecond
	// outage is how long a killed server is away at most.
	outage = 400 * time.Millisecond
	// armedFor is how long an armed job may take to reach its point.
	armedFor = 5 * time.Second
	// stuckAfter without a result while nothing is killed ends the run.
	stuckAfter = 30 * time.Second
	// maxExits bounds the exits of the job by itself.
	maxExits = 200
)

// rage kills until enough was killed.
func (s *storm) rage(ctx context.Context) error {
	points := reachable()
	for s.res.Kills() < s.cfg.Kills {
		during := s.res.Kills() > 0 && s.rng.IntN(5) == 0
		if during {
			if err := s.pause(ctx, s.between(hasteFrom, hasteTo)); err != nil {
				return err
			}
			s.res.DuringRecovery++
		} else {
			if err := s.progress(ctx); err != nil {
				return err
			}
			if err := s.pause(ctx, s.between(calmFrom, calmTo)); err != nil {
				return err
			}
		}
		var err error
		switch p := s.rng.IntN(100); {
		case p < 40:
			err = s.killJob(during)
		case p < 70:
			err = s.killNATS(ctx, during)
		default:
			err = s.crashAt(ctx, points[s.rng.IntN(len(points))], during)
		}
		if err != nil {
			return err
		}
	}
	return s.progress(ctx)
}

// reachable lists the names of the points that a job passes again and again or
// at its start.
func reachable() []string {
	var out []string
	for _, p := range crash.Points() {
		if _, rare := unreached[p.Name]; p.Wired && !rare {
			out = append(out, p.Name)
		}
	}
	return out
}

func (s *storm) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(s.rng.Int64N(int64(hi-lo)))
}

// startJob starts the job, with a crash point armed or "".
func (s *storm) startJob(armed string) error {
	parallelism := []int{2, 2, 1, 3}[s.rng.IntN(4)]
	env := []string{crash.EnvLog + "=" + filepath.Join(s.cfg.Dir, crashFile), crash.Env + "=" + armed}
	var err error
	s.job, err = spawn(s.cfg.Dir, "job", jobArgs{
		URL: s.url, Streams: s.streams, DataDir: s.jobDir(), Parallelism: parallelism, Interval: s.cfg.Interval, Retain: 2,
	}, env...)
	s.armed = armed
	if err != nil {
		return err
	}
	return s.journal.note(FaultLine{Kind: "restart-job", Parallelism: parallelism, Point: armed})
}

func (s *storm) startNATS(port int) error {
	var err error
	s.nats, err = spawn(s.cfg.Dir, "nats", natsArgs{Dir: filepath.Join(s.cfg.Dir, "nats"), Port: port})
	s.natsUp = false
	return err
}

// awaitNATS waits until a started server is ready.
func (s *storm) awaitNATS() error {
	if s.natsUp {
		return nil
	}
	if _, err := s.nats.line(30 * time.Second); err != nil {
		return fmt.Errorf("%w: %s", err, tail(s.cfg.Dir, "nats"))
	}
	s.natsUp = true
	return nil
}

func (s *storm) killJob(during bool) error {
	if err := s.journal.note(FaultLine{Kind: "kill-job", DuringRecovery: during}); err != nil {
		return err
	}
	s.job.kill()
	s.res.JobKills++
	s.say("%3d  kill the job%s", s.res.Kills(), recovering(during))
	return s.startJob("")
}

func recovering(during bool) string {
	if during {
		return ", amid recovery"
	}
	return ""
}

func (s *storm) killNATS(ctx context.Context, during bool) error {
	away := s.between(0, outage)
	if err := s.journal.note(FaultLine{Kind: "kill-nats", DuringRecovery: during, Detail: "away for " + away.String()}); err != nil {
		return err
	}
	s.nats.kill()
	s.res.NATSKills++
	s.say("%3d  kill the server%s", s.res.Kills(), recovering(during))
	if err := s.pause(ctx, away); err != nil {
		return err
	}
	var port int
	if _, err := fmt.Sscanf(s.url, "nats://127.0.0.1:%d", &port); err != nil {
		return err
	}
	if err := s.journal.note(FaultLine{Kind: "restart-nats"}); err != nil {
		return err
	}
	return s.startNATS(port)
}

// crashAt kills the job, starts it with a point armed, and starts it again when
// it has died there.
func (s *storm) crashAt(ctx context.Context, point string, during bool) error {
	hit := 1
	for s.rng.IntN(2) == 0 && hit < 6 {
		hit++
	}
	if err := s.journal.note(FaultLine{Kind: "arm", Point: point, Hit: hit, DuringRecovery: during}); err != nil {
		return err
	}
	s.job.kill()
	s.res.JobKills++
	if err := s.startJob(fmt.Sprintf("%s:%d", point, hit)); err != nil {
		return err
	}
	// The exit of an armed job is seen to by pause.
	before := s.res.CrashKills
	err := s.await(ctx, armedFor, func() bool { return s.res.CrashKills > before })
	if errors.Is(err, errPatience) {
		s.res.NotReached++
		s.say("%3d  kill the job; hit %d of %s is not reached", s.res.Kills(), hit, point)
		return s.journal.note(FaultLine{Kind: "not-reached", Point: point, Hit: hit})
	}
	return err
}

// errPatience says that something did not come about in time.
var errPatience = errors.New("waited in vain")

// await waits until done, and sees to the children meanwhile.
func (s *storm) await(ctx context.Context, limit time.Duration, done func() bool) error {
	for deadline := time.Now().Add(limit); !done(); {
		if time.Now().After(deadline) {
			return errPatience
		}
		if err := s.pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// progress waits until the server is up and a new result is visible.
func (s *storm) progress(ctx context.Context) error {
	if err := s.awaitNATS(); err != nil {
		return err
	}
	before := s.read().Lines
	err := s.await(ctx, stuckAfter, func() bool { return s.read().Lines > before })
	if errors.Is(err, errPatience) {
		return fmt.Errorf("no result for %v, though nothing was killed; the end of job.log:\n%s", stuckAfter, tail(s.cfg.Dir, "job"))
	}
	return err
}

// pause waits for d. A job that exits meanwhile is started again if that is as it
// should be.
func (s *storm) pause(ctx context.Context, d time.Duration) error {
	for deadline := time.Now().Add(d); ; {
		if err := s.care(); err != nil {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		if err := sleep(ctx, min(left, 10*time.Millisecond)); err != nil {
			return err
		}
	}
}

// care looks after the children.
func (s *storm) care() error {
	for _, p := range []*proc{s.gen, s.reader} {
		if p != nil && !p.running() {
			if p == s.gen && p.err == nil {
				continue // it was asked to end
			}
			return fmt.Errorf("the %s has ended: %v: %s", p.name, p.err, tail(s.cfg.Dir, p.name))
		}
	}
	if s.job == nil || s.job.running() {
		return nil
	}
	if s.job.killed() && s.armed != "" {
		s.res.CrashKills++
		s.say("%3d  the job dies at %s", s.res.Kills(), s.armed)
		if err := s.journal.note(FaultLine{Kind: "crash-point", Point: s.armed}); err != nil {
			return err
		}
		return s.startJob("")
	}
	code := s.job.exitCode()
	if code != exitUnreachable && code != exitRestarts {
		return fmt.Errorf("the job stopped for good (exit code %d); the end of job.log:\n%s", code, tail(s.cfg.Dir, "job"))
	}
	if s.res.Exits++; s.res.Exits > maxExits {
		return fmt.Errorf("the job has exited %d times; the end of job.log:\n%s", s.res.Exits, tail(s.cfg.Dir, "job"))
	}
	if err := s.journal.note(FaultLine{Kind: "job-exit", Detail: fmt.Sprint("code ", code)}); err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond)
	return s.startJob(s.armed)
}

// pointsIn counts the points that a crash log has seen.
func pointsIn(path string) (map[string]int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]int{}
	in := bufio.NewScanner(f)
	for in.Scan() {
		name, _, _ := strings.Cut(in.Text(), " ")
		out[name]++
	}
	return out, in.Err()
}
