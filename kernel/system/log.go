package system

import (
	"fmt"
	"slices"
	"sync"

	"kiln/kernel/hal"
	"kiln/kernel/image"
)

// logger is the kernel's own voice on the console, and the ring behind syslog(2).
type logger struct {
	m     hal.Machine
	level int

	mu   sync.Mutex
	ring []string // the last lines
}

const ringLines = 256

func newLogger(m hal.Machine, level string) *logger {
	i := slices.Index(image.LogLevels, level)
	if i < 0 {
		i = slices.Index(image.LogLevels, "warn")
	}
	return &logger{m: m, level: i}
}

// log keeps the line and shows it if its level is wanted. A level that is none of
// image.LogLevels, such as "strace", was asked for by its own switch and is always shown.
func (l *logger) log(level, format string, args ...any) {
	ns := l.m.Nanotime()
	line := fmt.Sprintf("[%5d.%06d] kiln: %s\n", ns/1e9, ns%1e9/1000, fmt.Sprintf(format, args...))
	l.mu.Lock()
	if len(l.ring) == ringLines {
		copy(l.ring, l.ring[1:])
		l.ring = l.ring[:ringLines-1]
	}
	l.ring = append(l.ring, line)
	l.mu.Unlock()
	if slices.Index(image.LogLevels, level) <= l.level {
		l.m.ConsoleWrite([]byte(line))
	}
}
