package net

import (
	"sync/atomic"
	"time"

	gvlog "gvisor.dev/gvisor/pkg/log"
)

// gvisorLog sends netstack's own messages to the kernel's log: its default is standard
// error, which is the console here, and peers can cause some of them.
type gvisorLog struct{}

// logStack is whose log that is: of the last Stack made.
var logStack atomic.Pointer[Stack]

// Some of netstack's loggers keep the one that there was when their packages started, so that
// one's output is changed instead of setting another.
func init() { gvlog.Log().Emitter = gvisorLog{} }

// Emit implements gvlog.Emitter.
func (gvisorLog) Emit(_ int, level gvlog.Level, _ time.Time, format string, args ...any) {
	if s := logStack.Load(); s != nil && level <= gvlog.Warning {
		s.cfg.Log("debug", "netstack: "+format, args...)
	}
}
