package net

import (
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// txMem bounds the bytes queued in TCP send buffers (Linux's tcp_mem). A write adds to
// an estimate that acknowledgements do not lower; when it passes the limit, the true sum
// is taken from the endpoints. While that is over half of the limit, the buffers that
// are written to shrink, the more the more of them hold something, and over the limit
// to the least that Linux gives too. The sum stays within the limit, one write for each
// CPU and a floor of 4 KiB for each socket.
type txMem struct {
	s       *Stack
	limit   int64
	est     atomic.Int64
	holders atomic.Int64 // endpoints that had something queued
	level   atomic.Int32 // 0: plenty; 1: over half of the limit; 2: over it
	mu      sync.Mutex
	last    int64
}

// leastBuffer is the smallest send buffer, the first of Linux's tcp_wmem.
const leastBuffer = 4 << 10

func (m *txMem) init(s *Stack, limit int64) { m.s, m.limit = s, limit }

// shortRecount bounds how often the sum is taken while there is a shortage, nanoseconds.
const shortRecount = int64(20 * time.Millisecond)

// share is the largest send buffer a socket may have now. It is called without
// netstack's locks.
func (m *txMem) share() int64 {
	if m.level.Load() == 0 {
		return 1 << 20
	}
	m.recount(false)
	switch m.level.Load() {
	case 0:
		return 1 << 20
	case 1:
		if m.est.Load() > m.limit {
			break // it may be less, but that is looked at again soon
		}
		return min(max(m.limit/(m.holders.Load()+4), leastBuffer), 1<<20)
	}
	return leastBuffer
}

// wrote counts what a socket has queued. It is called without netstack's locks.
func (m *txMem) wrote(n int) {
	if m.est.Add(int64(n)) > m.limit {
		m.recount(false)
	}
}

// recount takes the true sum, at most every shortRecount while there is a shortage.
func (m *txMem) recount(always bool) {
	if !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	now := m.s.cfg.Machine.Nanotime()
	if !always && m.level.Load() > 0 && now-m.last < shortRecount {
		return
	}
	m.last = now
	before := m.est.Load()
	var sum, holders int64
	for _, ep := range m.s.ns.RegisteredEndpoints() {
		if t, ok := ep.(*tcp.Endpoint); ok {
			if n := sendQueue(t); n > 0 {
				sum += n
				holders++
			}
		}
	}
	m.est.Add(sum - before)
	m.holders.Store(holders)
	level := int32(0)
	if sum > m.limit {
		level = 2
	} else if sum > m.limit/2 {
		level = 1
	}
	m.level.Store(level)
}

// sndBufUsed is the path to tcp.Endpoint.sndQueueInfo.SndBufUsed.
// Errata: netstack of 2026-07 answers SendQueueSizeOption for no transport, so its field
// is read by reflection; to be dropped when it does (TestSendQueueIsCounted).
var sndBufUsed = func() []int {
	f, ok := reflect.TypeFor[tcp.Endpoint]().FieldByName("sndQueueInfo")
	if !ok {
		return nil
	}
	g, ok := f.Type.FieldByName("SndBufUsed")
	if !ok || g.Type.Kind() != reflect.Int {
		return nil
	}
	return append(f.Index, g.Index...)
}()

// sendQueue is the bytes of an endpoint that are not acknowledged yet or not sent. The
// caller holds no lock of netstack's.
func sendQueue(e *tcp.Endpoint) int64 {
	if sndBufUsed == nil {
		return 0
	}
	e.LockUser() // every change of the field happens under this lock
	n := reflect.ValueOf(e).Elem().FieldByIndex(sndBufUsed).Int()
	e.UnlockUser()
	return max(n, 0) // netstack takes the acknowledged FIN for a byte
}
