package crash

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirflow/weir/internal/base"
)

const (
	// Env names the variable that arms points: a comma-separated list of
	// "point[:hit][:action]". The hit is a number from 1, with "+" appended to act
	// on every later hit too. The action is kill (the default), exit, err, count or
	// pause:duration. Examples:
	//
	//	WEIR_CRASH=coord.after_claim
	//	WEIR_CRASH=commit.mid_batch:3:kill,snap.mid_put:2+:err
	//	WEIR_CRASH=ack.before_send:pause:1500ms
	Env = "WEIR_CRASH"
	// EnvLog names the variable that holds the path of a log file. A line "point
	// hit action" is appended and fsynced before an action happens, and a line
	// "point 1 seen" is appended at the first hit of every point, armed or not, so
	// that a harness learns how far a killed process came. Lines of several
	// processes may share the file.
	EnvLog = "WEIR_CRASH_LOG"
)

// kinds are the actions that the environment can name.
var kinds = map[string]Kind{"kill": Kill, "exit": Exit, "err": Fail, "count": Count, "pause": Pause}

// String returns the word for the kind in WEIR_CRASH and in the log.
func (k Kind) String() string {
	for name, kind := range kinds {
		if kind == k {
			return name
		}
	}
	return "call"
}

// ArmFromEnv arms what the two variables ask for; without both it does nothing. A
// program calls it once at its start, before any other goroutine runs. A mistake
// in the variables is an Error WEIR-0290.
func ArmFromEnv() error {
	text, path := os.Getenv(Env), os.Getenv(EnvLog)
	if text == "" && path == "" {
		return nil
	}
	specs, err := ParseSpecs(text)
	if err != nil {
		return err
	}
	var log *hitLog
	if path != "" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return &base.Error{Code: "WEIR-0290", Where: EnvLog, What: "the crash log cannot be opened", Cause: err}
		}
		log = &hitLog{f: f}
	}
	arm(specs, log)
	return nil
}

// ParseSpecs parses the text form of Env. An empty text gives no specs.
func ParseSpecs(text string) ([]Spec, error) {
	var specs []Spec
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		s, err := parseSpec(item)
		if err != nil {
			return nil, &base.Error{
				Code: "WEIR-0290", Where: Env, What: fmt.Sprintf("%q cannot be armed", item), Cause: err,
				Next: "write point[:hit][:action], for example coord.after_claim:2:kill",
			}
		}
		specs = append(specs, s)
	}
	return specs, nil
}

func parseSpec(item string) (Spec, error) {
	name, rest, _ := strings.Cut(item, ":")
	p, ok := Parse(name)
	if !ok {
		return Spec{}, fmt.Errorf("no crash point is named %q", name)
	}
	s := Spec{Point: p, Hit: 1, Kind: Kill}
	if rest != "" && rest[0] >= '0' && rest[0] <= '9' {
		var hit string
		hit, rest, _ = strings.Cut(rest, ":")
		hit, s.Every = strings.CutSuffix(hit, "+")
		n, err := strconv.ParseUint(hit, 10, 63)
		if err != nil || n == 0 {
			return Spec{}, fmt.Errorf("the hit %q is not a number from 1", hit)
		}
		s.Hit = n
	}
	if rest == "" {
		return s, nil
	}
	action, arg, hasArg := strings.Cut(rest, ":")
	if s.Kind, ok = kinds[action]; !ok {
		return Spec{}, fmt.Errorf("no action is named %q; use kill, exit, err, count or pause:duration", action)
	}
	if hasArg != (s.Kind == Pause) {
		return Spec{}, fmt.Errorf("the action is %q; only pause takes a duration, and needs one", rest)
	}
	if s.Kind == Pause {
		d, err := time.ParseDuration(arg)
		if err != nil || d <= 0 {
			return Spec{}, fmt.Errorf("%q is not a positive duration such as 500ms", arg)
		}
		s.Pause = d
	}
	return s, nil
}

// hitLog appends lines to the file named by EnvLog. A nil log drops them. Errors
// are dropped too: the log serves the harness, and a missing line fails it there.
type hitLog struct {
	mu sync.Mutex
	f  *os.File
}

// seen notes the first hit of a point. The line survives the death of the
// process, not of the machine.
func (l *hitLog) seen(p Point) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.f.WriteString(p.String() + " 1 seen\n")
}

// acting notes an action that is about to happen, durably.
func (l *hitLog) acting(p Point, n uint64, k Kind) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.f.WriteString(p.String() + " " + strconv.FormatUint(n, 10) + " " + k.String() + "\n")
	_ = l.f.Sync()
}
