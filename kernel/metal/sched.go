package metal

import (
	"sync/atomic"
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
	switch m.state {
	case mEpoll:
		base.fds[m.waitEP%maxFD].waiter = 0
		timers.Clear(m.id)
	case mFutex:
		futexes.Drop(m.id)
		timers.Clear(m.id)
	case mSleep:
		timers.Clear(m.id)
	case mIdle:
		idling.m = 0
	}
	m.RAX = uint64(result)
	m.state = mRunnable
	if urgent {
		runq.PushFront(m.id)
	} else {
		runq.Push(m.id)
	}
	if !kickIdle(m.cpu) && urgent {
		curCPU().resched = 1
	}
}

// schedule chooses what this CPU runs next and makes it current.
func schedule(c *CPU) {
	m := (*M)(ptr(c.cur))
	running := m.idle == 0 && m.state == mRunning
	if running && c.resched == 0 {
		return
	}
	c.resched = 0
	id := next(c)
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
	if runq.Len() != 0 && base.ncpu > 1 {
		kickIdle(c.id)
	}
}

// next takes the M that CPU c is to run: one that asked for this CPU, else the first.
func next(c *CPU) uint32 {
	if c.here == 0 {
		return runq.Pop()
	}
	m := mByID(c.here - 1)
	c.here = m.nextHere
	m.nextHere = 0
	if c.here == 0 {
		c.hereEnd = 0
	}
	return m.id
}

// sysMove is the call by which an M moves to another CPU. It stays there no longer
// than the scheduler likes: Enter asks again (ctxImpl.want).
func sysMove(c *CPU, m *M, id uint64) int64 {
	if id >= base.ncpu || id == uint64(c.id) {
		return 0
	}
	o := cpuByID(id)
	m.RAX = 0
	m.state = mRunnable
	if o.hereEnd == 0 {
		o.here = m.id + 1
	} else {
		mByID(o.hereEnd - 1).nextHere = m.id + 1
	}
	o.hereEnd = m.id + 1
	o.resched = 1
	c.kick(o)
	return 0
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
	c.load(n.root)
}

// load makes root the CPU's page table, as LOADROOT does.
func (c *CPU) load(root uint64) {
	c.root = 0
	writeCR3(root)
	c.root = root
}

// kickIdle makes an idle CPU look at the run queue: ours if it idles, else the
// preferred one, else any. One that was told so already does not count. False if there
// is none.
func kickIdle(prefer uint32) bool {
	self := curCPU()
	if self.free() {
		self.resched = 1
		return true
	}
	n := base.ncpu
	if n == 1 {
		return false
	}
	i := uint64(prefer)
	for range n {
		if o := cpuByID(i); o.self != self.self && o.free() {
			o.resched = 1
			self.kick(o)
			return true
		}
		if i++; i >= n {
			i = 0
		}
	}
	return false
}

// kick makes o look at the run queue, and at what is to be delivered to its M.
func (c *CPU) kick(o *CPU) { c.kicks |= 1 << (o.id & 63) }

// settle does what was noted under the base's lock for devices.
func (c *CPU) settle() {
	if k := c.kicks; k != 0 {
		c.kicks = 0
		for i := uint64(0); k != 0; i++ {
			if k&1 != 0 {
				sendIPI(cpuByID(i).apicID, vecWake)
			}
			k >>= 1
		}
	}
	if t := c.arm; t != 0 {
		c.arm = 0
		setTimer(t)
	}
}

// free says that nothing runs on c and nobody has woken it.
func (c *CPU) free() bool { return c.resched == 0 && (*M)(ptr(c.cur)).idle != 0 }

// expire serves the timers that are due.
func expire(c *CPU, now int64) {
	for {
		id := timers.Expired(now)
		if id == core.None {
			break
		}
		m := mByID(id)
		switch m.state {
		case mFutex:
			ready(m, -eTIMEDOUT, true)
		case mSleep, mEpoll:
			ready(m, 0, true)
		}
	}
	if d := atomic.LoadInt64(&deadline.at); now >= d && atomic.CompareAndSwapInt64(&deadline.at, d, never) {
		latchLine(lineDeadline, c.fromUser())
	}
	if idling.m != 0 && now >= idling.until {
		wakeIdle(idling.why)
	}
}

// fromUser reports whether the trap being served interrupted ring 3: then the task
// loop dispatches, and the dispatcher goroutine need not be woken.
func (c *CPU) fromUser() bool { return (*M)(ptr(c.cur)).user != 0 }

const never = int64(1<<63 - 1)

// rearm programs this CPU's timer for what comes next. The first of all deadlines is
// watched by one CPU, base.tmCPU: whoever sets an earlier one becomes it, and the old
// one finds nothing to do when its timer fires.
func rearm(c *CPU, now int64) {
	next, t := never, atomic.LoadInt64(&deadline.at)
	if n, ok := timers.Next(); ok && n < t {
		t = n
	}
	if idling.m != 0 && idling.until < t {
		t = idling.until
	}
	if t < base.tmAt || t != never && base.tmCPU == uint64(c.id) {
		base.tmAt, base.tmCPU = t, uint64(c.id)
		next = t
	}
	if c.slice != 0 && c.sliceAt < next {
		next = c.sliceAt
	}
	if runq.Len() > 0 && now+sliceNS < next {
		next = now + sliceNS
	}
	if noiseMean != 0 && c.noiseAt < next {
		next = c.noiseAt
	}
	if next >= c.armedAt && c.armedAt > now {
		return // fires earlier than needed, and looks again then
	}
	if next == never {
		return
	}
	atomic.StoreInt64(&c.armedAt, next)
	c.arm = max(next-now, 1)
}
