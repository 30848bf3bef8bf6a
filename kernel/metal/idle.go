package metal

import (
	"sync/atomic"
	gosyscall "syscall"

	"kiln/kernel/hal"
)

// A CPU idles in one of two ways. The runtime's: its M finds nothing to run and waits in
// epoll_pwait or on a futex; an interrupt makes the irq file readable, the M takes a P
// again, and the dispatcher goroutine runs. Ours, for the last thread of a program to
// block: its goroutine keeps P and M, waits in the base (sysIdle), and runs the
// interrupt's functions itself. That is a quarter of the instructions, for short waits.
//
// It does not keep the runtime from anything, since it waits only while every other P
// is idle (or for a moment, brief), no goroutine is runnable and the collector does not mark; until the runtime's
// next timer, and idleMax at most. What could give the P work then are interrupts and
// whoever calls WakeIdle, which end the wait, and sysmon. A stop of the world sends a
// signal, as to ring 3.

// idleMax is the longest wait of this kind. sysmon's naps, 20 us to 10 ms, are put off to
// the end of it, but not beyond napMax after the last: it is then no later to notice what
// runs on than it may be by itself.
const (
	idleMax = 10_000_000
	napMax  = 100_000_000
	// With another P at work, which mostly is an M that has just been woken and finds
	// nothing to do, a wait is brief, and after maxBrief of them there is none.
	brief    = 50_000
	maxBrief = 4
)

// Results of sysIdle.
const (
	idleLook = iota
	idleBusy
	idlePark
)

// Offsets in the runtime of Go 1.26; TestRuntimeLayout checks them as it does cpu.go's.
const (
	mP               = 208
	pRunqHead        = 400
	pRunqTail        = 404
	pRunNext         = 2456
	pMinWhenHeap     = 13672 + 48
	pMinWhenModified = 13672 + 56
	schedNPIdle      = 112
	schedRunqSize    = 128 + 16
	schedGCWaiting   = 264
)

// idleState is the base's for waits of this kind, in .data.
type idleState struct {
	magic uint32
	woken uint32 // WakeIdle was called while nobody waited
	m     uint64 // the M that waits + 1
	until int64
	why   int64 // what it is told at that time
	brief int64 // how many waits with another P at work there were

	napper uint64 // the M that was the last to call nanosleep + 1
	napped int64  // when
}

var idling = idleState{magic: dataMagic}

// sysIdle is the call by which an M waits for an interrupt with its P.
func sysIdle(m *M) int64 {
	s := &idling
	if irqs.any|s.woken != 0 {
		if irqs.any != 0 {
			base.fds[base.irqFD%maxFD].edge = 0 // the caller dispatches
		}
		s.woken = 0
		return idleLook
	}
	if s.m != 0 {
		return idlePark
	}
	pp := currentP(m)
	if pp == 0 || load8(pcWriteBarrier()) != 0 {
		return idlePark
	}
	now := nanotime()
	until, why := now+idleMax, int64(idlePark)
	if uint64(load32(pcSched()+schedNPIdle))+1 == base.ncpu {
		s.brief = 0
	} else if s.brief++; s.brief <= maxBrief {
		until, why = now+brief, idleLook
	} else {
		s.brief = 0
		return idlePark
	}
	for _, o := range [...]uint64{pMinWhenHeap, pMinWhenModified} {
		if t := int64(load64(pp + o)); t != 0 && t < until {
			until, why = t, idleBusy
		}
	}
	if until <= now || queued(pp) {
		return idleBusy
	}
	m.state = mIdle
	s.m, s.until, s.why = uint64(m.id)+1, until, why
	if n := s.napper; n != 0 {
		if n := mByID(uint32(n - 1)); n.state == mSleep {
			timers.Set(n.id, s.nap(timers.When(n.id)))
		}
	}
	return 0
}

// currentP is the runtime's P that m has, or 0.
func currentP(m *M) uint64 { return load64(load64(load64(m.fs-8)+gM) + mP) }

// queued says whether goroutines wait for pp or for any P.
func queued(pp uint64) bool {
	s := pcSched()
	return load32(pp+pRunqHead) != load32(pp+pRunqTail) || load64(pp+pRunNext) != 0 ||
		load32(s+schedRunqSize) != 0 || load8(s+schedGCWaiting) != 0
}

// nap is when an M is to wake that would at the given time, while another idles.
func (s *idleState) nap(when int64) int64 {
	if s.m == 0 || when-s.napped > idleMax {
		return when
	}
	return max(when, min(s.until, s.napped+napMax))
}

// wakeIdle ends the wait, and says whether there was one.
func wakeIdle(why int64) bool {
	n := idling.m
	if n == 0 {
		return false
	}
	ready(mByID(uint32(n-1)), why, true)
	return true
}

// Idle implements hal.Idler.
func (*Machine) Idle() hal.IdleResult {
	switch r, _, _ := gosyscall.RawSyscall(sysIdleCall, 0, 0, 0); r {
	case idleBusy:
		return hal.IdleBusy
	case idlePark:
		return hal.IdlePark
	}
	return hal.IdleLook // or a signal has ended it
}

// WakeIdle implements hal.Idler.
func (*Machine) WakeIdle() { baseCall(opWakeIdle, 0, 0, 0) }

// Others implements hal.Idler. The P may be another's by now: then the answer is about
// that one's goroutines.
func (*Machine) Others() bool {
	pp := thisP()
	return atomic.LoadUint32((*uint32)(ptr(pp+pRunqHead))) != atomic.LoadUint32((*uint32)(ptr(pp+pRunqTail))) ||
		atomic.LoadUint64((*uint64)(ptr(pp+pRunNext))) != 0
}
