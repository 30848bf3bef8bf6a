// Package klog keeps the kernel's last messages for syslog(2): a ring of records that
// readers go through in order, and that is read whole by dmesg.
package klog

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Size is how many bytes of text are kept (CONFIG_LOG_BUF_SHIFT 17 of Debian's kernel).
const Size = 1 << 17

// MayRead says whether somebody may read the kernel's messages: kernel.dmesg_restrict is 1.
func MayRead(c interface{ Can(capability uint) bool }) bool {
	return c.Can(unix.CAP_SYSLOG) || c.Can(unix.CAP_SYS_ADMIN)
}

// record is a message: as Read gives it, and its parts.
type record struct {
	line string // with level and time
	prio int
	ns   int64
	text string // the end of line
}

// Log is the ring. Its zero value is empty.
type Log struct {
	mu      sync.Mutex
	recs    []record // the oldest first
	bytes   int
	first   uint64 // the number of recs[0]
	clear   uint64 // ReadAll shows records from here on
	next    uint64 // Read gives this record,
	partial int    // of which so much has been given
	q       waiter.Queue
}

// Add keeps a message: prio is its level as syslog(2) has them (3: error … 7: debug), above
// that its facility in steps of 8 (0: the kernel), ns the time since boot.
func (l *Log) Add(prio int, ns int64, text string) {
	r := record{fmt.Sprintf("<%d>[%5d.%06d] %s\n", prio, ns/1e9, ns%1e9/1000, text), prio, ns, text}
	l.mu.Lock()
	l.recs, l.bytes = append(l.recs, r), l.bytes+len(r.line)
	for l.bytes > Size {
		l.bytes -= len(l.recs[0].line)
		l.recs, l.first = l.recs[1:], l.first+1
	}
	if l.next < l.first {
		l.next, l.partial = l.first, 0
	}
	l.mu.Unlock()
	l.q.Notify(waiter.EventIn)
}

// Queue wakes those who wait for a message (EventIn).
func (l *Log) Queue() *waiter.Queue { return &l.q }

// Read takes up to n bytes that nobody has read; the last record in part if need be. It
// is empty when there are none.
func (l *Log) Read(n int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b []byte
	for l.next-l.first < uint64(len(l.recs)) && len(b) < n {
		r := l.recs[l.next-l.first].line[l.partial:]
		if k := n - len(b); k < len(r) {
			b, l.partial = append(b, r[:k]...), l.partial+k
			break
		}
		b = append(b, r...)
		l.next, l.partial = l.next+1, 0
	}
	return b
}

// Unread is how many bytes Read has left.
func (l *Log) Unread() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := -l.partial
	for _, r := range l.recs[l.next-l.first:] {
		n += len(r.line)
	}
	return n
}

// Bounds are the numbers of the oldest record, of the first since Clear, and of the next
// that will be.
func (l *Log) Bounds() (first, clear, end uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first, max(l.clear, l.first), l.first + uint64(len(l.recs))
}

// Record is record n as /dev/kmsg shows it: "priority,number,microseconds,-;text". ok is false
// where there is none: not yet, or not any more.
func (l *Log) Record(n uint64) (b []byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n < l.first || n-l.first >= uint64(len(l.recs)) {
		return nil, false
	}
	r := &l.recs[n-l.first]
	b = fmt.Appendf(nil, "%d,%d,%d,-;", r.prio, n, r.ns/1000)
	for _, c := range []byte(r.text) { // the line is the record: what would break it is escaped
		if c < ' ' || c >= 127 || c == '\\' {
			b = fmt.Appendf(b, "\\x%02x", c)
		} else {
			b = append(b, c)
		}
	}
	return append(b, '\n'), true
}

// ReadAll gives the last records since Clear that are whole in n bytes.
func (l *Log) ReadAll(n int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := len(l.recs)
	for size := 0; from > 0 && l.first+uint64(from) > l.clear; from-- {
		if size += len(l.recs[from-1].line); size > n {
			break
		}
	}
	var b []byte
	for _, r := range l.recs[from:] {
		b = append(b, r.line...)
	}
	return b
}

// Clear makes ReadAll begin behind what there is.
func (l *Log) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear = l.first + uint64(len(l.recs))
}
