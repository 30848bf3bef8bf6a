package metal

import (
	"unsafe"

	"kiln/kernel/metal/core"
)

// The scheduler of Ms: one run queue for all CPUs. The Go runtime keeps no more
// than GOMAXPROCS of them busy; the rest is sysmon, an M in epoll_pwait and Ms in
// locked threads, so the queue is short and time slices rarely matter.

// sliceNS is how long an M runs while another waits. userSliceNS is how long ring 3 runs
// at most before the task loop gets a look: devices, deadlines and other Ms end the stay
// earlier, so it bounds only how late the Go scheduler's own request to yield is seen.
const (
	sliceNS     = 2_000_000
	userSliceNS = 8_000_000
)

// ready makes a waiting M runnable with its system call's result.
func ready(m *M, result int64, urgent bool) {
	if m.state == mRunning || m.state == mRunnable || m.state == mFree {
		return
	}
	if m.state == mEpoll {
		base.fds[m.waitEP%maxFD].waiter = 0
	}
	timers.Clear(m.id)
	futexes.Drop(m.id)
	m.RAX = uint64(result)
	m.state = mRunnable
	if urgent {
		runq.PushFront(m.id)
	} else {
		runq.Push(m.id)
	}
	kickIdle()
}

// schedule chooses what this CPU runs next and makes it current.
func schedule(c *CPU) {
	m := (*M)(ptr(c.cur))
	running := m.idle == 0 && m.state == mRunning
	if running && c.resched == 0 {
		return
	}
	c.resched = 0
	id := runq.Pop()
	if id == core.None {
		if !running && m.idle == 0 {
			switchTo(c, (*M)(ptr(c.idleM)))
		}
		return
	}
	if running {
		m.state = mRunnable
		runq.Push(m.id)
	}
	n := mByID(id)
	n.state = mRunning
	switchTo(c, n)
}

func switchTo(c *CPU, n *M) {
	c.cur = addrOf(unsafe.Pointer(n))
	n.cpu = c.id
	setIST(c, n)
	if n.idle != 0 || n.root == c.root {
		return
	}
	if n.root == base.root {
		// It has served no program: any table will do, and loading one costs the TLB.
		n.root = c.root
		return
	}
	c.root = n.root
	writeCR3(n.root)
}

// kickIdle wakes a CPU that sleeps, if another than ours does.
func kickIdle() {
	self := curCPU()
	if c := (*M)(ptr(self.cur)); c.idle != 0 {
		self.resched = 1
		return
	}
	for i := uint64(0); i < base.ncpu; i++ {
		o := (*CPU)(ptr(base.cpus[i]))
		if o.self != self.self && o.online != 0 && (*M)(ptr(o.cur)).idle != 0 {
			sendIPI(o.apicID, vecWake)
			return
		}
	}
}

// expire serves the timers that are due.
func expire(c *CPU, now int64) {
	for {
		id := timers.Expired(now)
		if id == core.None {
			break
		}
		if id == deadlineSlot {
			latchLine(lineDeadline, c.fromUser())
			continue
		}
		m := mByID(id)
		switch m.state {
		case mFutex:
			ready(m, -eTIMEDOUT, true)
		case mSleep, mEpoll:
			ready(m, 0, true)
		}
		c.resched = 1
	}
}

// fromUser reports whether the trap being served interrupted ring 3: then the task
// loop dispatches, and the dispatcher goroutine need not be woken.
func (c *CPU) fromUser() bool { return (*M)(ptr(c.cur)).user != 0 }

// rearm programs this CPU's timer for what comes next.
func rearm(c *CPU, now int64) {
	next := int64(1<<63 - 1)
	if t, ok := timers.Next(); ok && c.id == 0 {
		next = t
	}
	if c.slice != 0 && c.sliceAt < next {
		next = c.sliceAt
	}
	if runq.Len() > 0 && now+sliceNS < next {
		next = now + sliceNS
	}
	if next >= c.armedAt && c.armedAt > now {
		return // fires earlier than needed, and looks again then
	}
	if next == 1<<63-1 {
		return
	}
	c.armedAt = next
	setTimer(next - now)
}
