package system

import (
	"fmt"
	"slices"
	"sync/atomic"

	"kiln/kernel/hal"
	"kiln/kernel/image"
	"kiln/kernel/klog"
)

// logger is the kernel's own voice on the console, and the ring behind syslog(2).
type logger struct {
	m     hal.Machine
	level int
	// apart runs what writes to the console while nobody else does; nil: as it comes.
	apart atomic.Pointer[func(func())]

	ring klog.Log
}

// priorities are syslog(2)'s numbers of image.LogLevels.
var priorities = []int{3, 4, 6, 7}

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
	text := "kiln: " + fmt.Sprintf(format, args...)
	i := slices.Index(image.LogLevels, level)
	l.ring.Add(priorities[max(i, 0)], ns, text)
	if i <= l.level {
		line := fmt.Appendf(nil, "[%5d.%06d] %s\n", ns/1e9, ns%1e9/1000, text)
		if f := l.apart.Load(); f != nil {
			(*f)(func() { l.m.ConsoleWrite(line) })
		} else {
			l.m.ConsoleWrite(line)
		}
	}
}
