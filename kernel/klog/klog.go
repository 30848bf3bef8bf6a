// Package klog keeps the kernel's last messages for syslog(2): a ring of records that
// readers go through in order, and that is read whole by dmesg.
package klog

import (
	"fmt"
	"sync"

	"gvisor.dev/gvisor/pkg/waiter"
)

// Size is how many bytes of text are kept (CONFIG_LOG_BUF_SHIFT 17 of Debian's kernel).
const Size = 1 << 17

// Log is the ring. Its zero value is empty.
type Log struct {
	mu      sync.Mutex
	recs    []string // the oldest first
	bytes   int
	first   uint64 // the number of recs[0]
	clear   uint64 // ReadAll shows records from here on
	next    uint64 // Read gives this record,
	partial int    // of which so much has been given
	q       waiter.Queue
}

// Add keeps a message: prio is its level as syslog(2) has them (3: error … 7: debug), ns
// the time since boot.
func (l *Log) Add(prio int, ns int64, text string) {
	r := fmt.Sprintf("<%d>[%5d.%06d] %s\n", prio, ns/1e9, ns%1e9/1000, text)
	l.mu.Lock()
	l.recs, l.bytes = append(l.recs, r), l.bytes+len(r)
	for l.bytes > Size {
		l.bytes -= len(l.recs[0])
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
		r := l.recs[l.next-l.first][l.partial:]
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
		n += len(r)
	}
	return n
}

// ReadAll gives the last records since Clear that are whole in n bytes.
func (l *Log) ReadAll(n int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := len(l.recs)
	for size := 0; from > 0 && l.first+uint64(from) > l.clear; from-- {
		if size += len(l.recs[from-1]); size > n {
			break
		}
	}
	var b []byte
	for _, r := range l.recs[from:] {
		b = append(b, r...)
	}
	return b
}

// Clear makes ReadAll begin behind what there is.
func (l *Log) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear = l.first + uint64(len(l.recs))
}
