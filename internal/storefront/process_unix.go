//go:build unix

package storefront

import (
	"os/exec"
	"syscall"
)

// isolate puts a child into a process group of its own: Ctrl-C in a terminal
// reaches the supervisor only, which ends the others in order.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
