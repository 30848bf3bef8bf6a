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
	i := slices.Index(image.LogLevels, level)
	l.add(priorities[max(i, 0)], i <= l.level, "kiln: "+fmt.Sprintf(format, args...))
}

// say keeps a program's message (/dev/kmsg), and shows it as one of the kernel's of that level.
func (l *logger) say(prio int, text string) {
	l.add(prio, prio&7 <= priorities[l.level], text)
}

func (l *logger) add(prio int, show bool, text string) {
	ns := l.m.Nanotime()
	l.ring.Add(prio, ns, text)
	if show {
		line := fmt.Appendf(nil, "[%5d.%06d] %s\n", ns/1e9, ns%1e9/1000, text)
		if f := l.apart.Load(); f != nil {
			(*f)(func() { l.m.ConsoleWrite(line) })
		} else {
			l.m.ConsoleWrite(line)
		}
	}
}
