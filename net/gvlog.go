package net

import (
	"time"

	gvlog "gvisor.dev/gvisor/pkg/log"
)

// gvisorLog sends netstack's own messages to the kernel's log: its default is standard
// error, which this kernel does not have, and peers can cause some of them.
type gvisorLog struct{ s *Stack }

// Emit implements gvlog.Emitter.
func (g gvisorLog) Emit(_ int, level gvlog.Level, _ time.Time, format string, args ...any) {
	if level <= gvlog.Warning {
		g.s.cfg.Log("debug", "netstack: "+format, args...)
	}
}
