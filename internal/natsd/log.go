package natsd

import (
	"context"
	"fmt"
	"log/slog"
)

// log writes one message. The server has no context to hand on.
func (l *logger) log(level slog.Level, format string, v []any) {
	if l.to == nil {
		return
	}
	ctx := context.Background()
	if l.to.Enabled(ctx, level) {
		l.to.Log(ctx, level, fmt.Sprintf(format, v...), "component", "nats")
	}
}

// Noticef implements the server's logger. Notices are of no interest to a user of
// an embedded server, so they go to level debug.
func (l *logger) Noticef(format string, v ...any) { l.log(slog.LevelDebug, format, v) }

// Warnf implements the server's logger.
func (l *logger) Warnf(format string, v ...any) { l.log(slog.LevelWarn, format, v) }

// Errorf implements the server's logger.
func (l *logger) Errorf(format string, v ...any) { l.log(slog.LevelError, format, v) }

// Fatalf implements the server's logger. It does not end the process: Start
// reports the message, and after the start a server that gives up shuts down.
func (l *logger) Fatalf(format string, v ...any) {
	l.mu.Lock()
	if l.fatal == "" {
		l.fatal = fmt.Sprintf(format, v...)
	}
	l.mu.Unlock()
	l.log(slog.LevelError, format, v)
}

// Debugf implements the server's logger; it is never enabled.
func (l *logger) Debugf(string, ...any) {}

// Tracef implements the server's logger; it is never enabled.
func (l *logger) Tracef(string, ...any) {}
