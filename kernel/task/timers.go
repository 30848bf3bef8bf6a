package task

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/timer"
)

// itimer is one of setitimer's three. REAL is on the monotonic clock; VIRTUAL and
// PROF are polled against the CPU clock: a check is due when, at the earliest, the
// process could have used up what is left.
type itimer struct {
	p        *Process
	which    int
	timer    timer.Timer
	due      int64 // Nanotime, or CPU time; 0: off
	interval int64
	// waits: the signal of a repeating ITIMER_REAL was sent, and the timer runs on
	// when it is dequeued, as on Linux: a period of a microsecond costs no more than
	// the program's own pace.
	waits bool
}

var itimerSignal = [3]unix.Signal{unix.SIGALRM, unix.SIGVTALRM, unix.SIGPROF}

func (i *itimer) init(p *Process, which int) {
	i.p, i.which = p, which
	i.timer.Init(i.fired)
}

// clock is what the timer counts.
func (i *itimer) clock() int64 {
	switch i.which {
	case unix.ITIMER_REAL:
		return i.p.k.Timers.Now()
	case unix.ITIMER_VIRTUAL:
		return i.p.Usage().User
	}
	return i.p.CPUTime()
}

// arm sets the machine's timer for due. Called with p.mu held and now read before.
func (i *itimer) arm(now int64) {
	if i.which == unix.ITIMER_REAL {
		i.p.k.Timers.Arm(&i.timer, i.due)
		return
	}
	i.p.k.Timers.Arm(&i.timer, i.p.k.cpuTimeCheck(now, i.due, time.Millisecond))
}

// cpuTimeCheck is when a process whose CPU time is now can have used due at the earliest, all
// CPUs together, but no sooner than in least.
func (k *Kernel) cpuTimeCheck(now, due int64, least time.Duration) int64 {
	return timer.Add(k.Timers.Now(), max((due-now)/int64(k.Sched.NumCPU()), int64(least)))
}

func (i *itimer) fired() {
	p := i.p
	now := i.clock()
	p.mu.Lock()
	if i.due == 0 || i.waits {
		p.mu.Unlock()
		return
	}
	if now < i.due {
		i.arm(now)
		p.mu.Unlock()
		return
	}
	switch {
	case i.interval == 0:
		i.due = 0
	case i.which == unix.ITIMER_REAL:
		i.waits = true
	default:
		timer.Forward(&i.due, i.interval, now)
		i.arm(now)
	}
	_ = p.sendLocked(nil, SignalInfo{Signo: int32(itimerSignal[i.which]), Code: SIKernel})
	p.mu.Unlock()
}

// dequeued lets a repeating ITIMER_REAL run on: SIGALRM was taken from the process's
// queue. Called with Process.mu held.
func (i *itimer) dequeued() {
	if !i.waits {
		return
	}
	i.waits = false
	now := i.p.k.Timers.Now()
	timer.Forward(&i.due, i.interval, now)
	i.arm(now)
}

// SetITimer sets one of ITIMER_REAL, VIRTUAL, PROF (nanoseconds; value 0: off) and
// returns what was left and the old interval.
func (p *Process) SetITimer(which int, value, interval int64) (left, old int64) {
	i := &p.itimers[which]
	now := i.clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	left, old = i.left(now), i.interval
	i.interval, i.waits = interval, false
	if value == 0 {
		i.due = 0
		p.k.Timers.Stop(&i.timer)
		return left, old
	}
	i.due = timer.Add(now, value)
	i.arm(now)
	return left, old
}

// ITimer is getitimer.
func (p *Process) ITimer(which int) (left, interval int64) {
	i := &p.itimers[which]
	now := i.clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return i.left(now), i.interval
}

func (i *itimer) left(now int64) int64 {
	if i.due == 0 || i.waits {
		return 0
	}
	return max(i.due-now, 1000)
}

// maxPosixTimers bounds what a process can make: Linux counts them as queued
// signals.
const maxPosixTimers = 4096

// posixTimerCost is what a timer is charged to the kernel-heap budget.
const posixTimerCost = 320

// posixTimers are a process's timer_create timers.
type posixTimers struct {
	byID map[int32]*posixTimer
	next int32
}

// posixTimer sends a signal when it expires. While the signal is queued the timer stands
// still: it is armed again when the signal is dequeued, and the periods that went by are
// counted then, so that no period, however short, costs more than the program's own
// pace. One without a signal (SIGEV_NONE) is never armed: its state is worked out when
// it is asked for. As posix-timers.c of Linux. Fields are under Process.mu.
type posixTimer struct {
	p        *Process
	user     *user // whose RLIMIT_SIGPENDING it counts for
	id       int32
	clock    int32
	notify   int32 // SIGEV_*
	signo    int32
	value    uint64
	to       *Thread // SIGEV_THREAD_ID
	of       *Thread // whose CPU time it counts, if a thread's
	timer    timer.Timer
	due      int64 // Nanotime, or CPU time
	wall     bool  // due is a time of the wall clock, reckoned when that had been set by ref
	ref      int64
	interval int64
	queued   bool  // its signal is in a queue; set by enqueue, cleared by sigQueue.free
	waits    bool  // it fired, and is armed again when the signal is dequeued
	extra    int32 // firings that found the signal of an earlier setting queued
	overrun  int64 // periods gone by since the last delivery, less the one that is told
	last     int32 // timer_getoverrun
}

// ignoredPeriod is the shortest period, in nanoseconds, of a timer whose signal is
// ignored: a tick of Linux at 250 Hz.
const ignoredPeriod = 4_000_000

// Clocks as timers know them (uapi/linux/time.h).
const (
	clockRealtime   = 0
	clockMonotonic  = 1
	clockProcessCPU = 2
	clockThreadCPU  = 3
	clockBoottime   = 7
	clockRTAlarm    = 8
	clockBTAlarm    = 9
	clockTAI        = 11
	sigevSignal     = 0
	sigevNone       = 1
	sigevThreadID   = 4
)

// TimerArgs are timer_create's.
type TimerArgs struct {
	Clock  int32
	Notify int32 // SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, with or without SIGEV_THREAD_ID
	Signo  int32
	TID    int32
	Value  uint64
	// ValueIsID: sigev was null, the value is the timer's number.
	ValueIsID bool
}

// SkipTimer uses up a number: a timer that cannot be made after all had one already.
func (p *Process) SkipTimer() {
	p.mu.Lock()
	p.posix.next = (p.posix.next + 1) & math.MaxInt32
	p.mu.Unlock()
}

// SigEvent says whether a timer can tell of its expiry in the way that is asked for, and to which
// thread, if to one (good_sigevent).
func (t *Thread) SigEvent(a *TimerArgs) (to *Thread, good bool) {
	switch a.Notify {
	case sigevNone:
		return nil, true
	case sigevThreadID:
		if to = t.k.Thread(a.TID); to == nil || to.process != t.process {
			return nil, false
		}
	case sigevSignal, 2: // SIGEV_THREAD is glibc's business: a signal all the same
	default:
		return nil, false
	}
	return to, a.Signo > 0 && a.Signo <= NumSignals
}

// CreateTimer is timer_create. EINVAL: clock, notification, signal or thread; EAGAIN:
// too many.
func (t *Thread) CreateTimer(a TimerArgs) (int32, error) {
	p := t.process
	switch a.Clock {
	case clockRealtime, clockMonotonic, clockProcessCPU, clockThreadCPU, clockBoottime, clockTAI:
	case clockRTAlarm, clockBTAlarm, 4, 5, 6: // raw and coarse clocks have no timers
		return 0, unix.EOPNOTSUPP
	default:
		return 0, unix.EINVAL
	}
	pt := &posixTimer{p: p, clock: a.Clock, notify: a.Notify, signo: a.Signo, value: a.Value}
	if a.Clock == clockThreadCPU {
		pt.of = t
	}
	var good bool
	if pt.to, good = t.SigEvent(&a); !good {
		p.SkipTimer()
		return 0, unix.EINVAL
	}
	pt.timer.Init(pt.fired)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.posix.byID) >= maxPosixTimers {
		return 0, unix.EAGAIN
	}
	u := p.user.Load() // its signal must find room whenever it is due
	if n := u.signals.Add(1); uint64(n) > p.limits[RlimitSigpending].Cur ||
		!p.k.charge(posixTimerCost) {
		u.signals.Add(-1)
		return 0, unix.EAGAIN
	}
	pt.user = u
	if p.posix.byID == nil {
		p.posix.byID = map[int32]*posixTimer{}
	}
	for p.posix.byID[p.posix.next] != nil {
		p.posix.next = (p.posix.next + 1) & math.MaxInt32
	}
	pt.id = p.posix.next
	p.posix.next = (p.posix.next + 1) & math.MaxInt32
	if a.ValueIsID {
		pt.value = uint64(pt.id)
	}
	p.posix.byID[pt.id] = pt
	return pt.id, nil
}

// posixTimer is called with Process.mu held: another thread may delete the timer.
func (p *Process) posixTimer(id int32) (*posixTimer, error) {
	if pt := p.posix.byID[id]; pt != nil {
		return pt, nil
	}
	return nil, unix.EINVAL
}

// now reads the timer's clock as its due time is kept: wall-clock timers are kept on
// the monotonic clock.
// Called with Process.mu held.
func (pt *posixTimer) now() int64 {
	switch pt.clock {
	case clockProcessCPU:
		return pt.p.CPUTime()
	case clockThreadCPU:
		return pt.of.CPUTime()
	}
	return pt.p.k.Timers.Now()
}

func (pt *posixTimer) onCPUTime() bool {
	return pt.clock == clockProcessCPU || pt.clock == clockThreadCPU
}

func (pt *posixTimer) arm(now int64) {
	if pt.notify == sigevNone {
		return
	}
	at := pt.due
	if pt.clock == clockThreadCPU && pt.of.state.Load() == stateDead {
		return // it uses no more
	}
	if pt.onCPUTime() {
		at = pt.p.k.cpuTimeCheck(now, pt.due, time.Millisecond)
	}
	pt.p.k.Timers.Arm(&pt.timer, at)
}

// SetTimer is timer_settime: value and interval in nanoseconds, value 0 disarms. It
// returns what was left and the old interval.
func (p *Process) SetTimer(id int32, absolute bool, value, interval int64) (left, old int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pt, err := p.posixTimer(id)
	if err != nil {
		return 0, 0, err
	}
	now := pt.now()
	wall := absolute && (pt.clock == clockRealtime || pt.clock == clockTAI)
	if absolute && value != 0 {
		if wall {
			value = pt.onMonotonic(value)
		}
		value = max(value, 1)
	} else if value != 0 {
		value = timer.Add(now, value)
	}
	left, old = pt.left(now), pt.interval
	p.k.Timers.Stop(&pt.timer)
	pt.due, pt.interval, pt.wall = value, interval, wall
	if value == 0 {
		pt.interval = 0
	}
	pt.overrun, pt.last = -1, 0
	pt.waits = false // a queued signal of the old setting is delivered all the same
	switch {
	case value == 0:
	case pt.notify != sigevNone && now >= value:
		pt.expire(now) // before the call returns, as on Linux
	default:
		pt.arm(now)
	}
	return left, old, nil
}

// Timer is timer_gettime.
func (p *Process) Timer(id int32) (left, interval int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pt, err := p.posixTimer(id)
	if err != nil {
		return 0, 0, err
	}
	return pt.left(pt.now()), pt.interval, nil
}

func (pt *posixTimer) left(now int64) int64 {
	if pt.due == 0 {
		return 0
	}
	if pt.interval > 0 && (pt.waits || pt.notify == sigevNone) {
		pt.overrun += timer.Forward(&pt.due, pt.interval, now)
	}
	if l := pt.due - now; l > 0 {
		return l
	}
	if pt.notify == sigevNone {
		return 0
	}
	return 1
}

// TimerOverrun is timer_getoverrun.
func (p *Process) TimerOverrun(id int32) (int32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pt, err := p.posixTimer(id)
	if err != nil {
		return 0, err
	}
	return pt.last, nil
}

// DeleteTimer is timer_delete.
func (p *Process) DeleteTimer(id int32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pt, err := p.posixTimer(id)
	if err != nil {
		return err
	}
	p.dropTimer(pt)
	return nil
}

// dropTimer ends a timer. A signal that it has queued is delivered all the same, and counts
// for the user until then.
func (p *Process) dropTimer(pt *posixTimer) {
	p.k.Timers.Stop(&pt.timer)
	pt.due = 0
	if !pt.queued || !p.orphanSignal(pt) {
		pt.user.signals.Add(-1)
	}
	p.k.uncharge(posixTimerCost)
	delete(p.posix.byID, pt.id)
}

// orphanSignal makes a timer's queued signal one that belongs to no timer, and has its count.
// False: there is none.
func (p *Process) orphanSignal(pt *posixTimer) bool {
	orphan := func(q *sigQueue) bool {
		for n := q.head; n != nil; n = n.next {
			if n.info.timer == pt {
				n.info.timer, n.info.Overrun, n.user = nil, pt.extra, pt.user
				return true
			}
		}
		return false
	}
	pt.queued = false
	if orphan(&p.pending) {
		return true
	}
	for t := p.threads; t != nil; t = t.sibling {
		if orphan(&t.pending) {
			return true
		}
	}
	return false
}

// dropPosixTimers ends all timers and what they have queued, as exec does.
func (p *Process) dropPosixTimers() {
	p.mu.Lock()
	for _, pt := range p.posix.byID {
		p.dropTimer(pt)
	}
	p.posix.next = 0
	p.pending.flushTimers(p.k)
	for t := p.threads; t != nil; t = t.sibling {
		t.pending.flushTimers(p.k)
	}
	p.mu.Unlock()
}

func (pt *posixTimer) fired() {
	p := pt.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if pt.due == 0 || pt.waits {
		return
	}
	if now := pt.now(); now < pt.due {
		pt.arm(now)
	} else {
		pt.expire(now)
	}
}

// expire tells of a timer that is due. Called with Process.mu held.
func (pt *posixTimer) expire(now int64) {
	p := pt.p
	pt.waits = true
	switch {
	case pt.queued:
		pt.extra++
	case pt.to == nil || !pt.to.exiting:
		_ = p.sendLocked(pt.to, SignalInfo{Signo: pt.signo, Code: SITimer, TimerID: pt.id, Value: pt.value, timer: pt})
		pt.waits = pt.queued // not if the signal is ignored
	}
	switch {
	case pt.interval == 0:
		pt.due = 0
	case !pt.waits:
		at := now
		if pt.interval < ignoredPeriod {
			at += ignoredPeriod
		}
		pt.overrun += timer.Forward(&pt.due, pt.interval, at)
		pt.arm(now)
	}
}

// delivered is called when the timer's signal is dequeued: the periods since it was
// queued go with it, and the timer runs on. Called with Process.mu held.
func (pt *posixTimer) delivered(info *SignalInfo) {
	info.Overrun, pt.extra = pt.extra, 0
	if !pt.waits {
		return
	}
	pt.waits = false
	if pt.interval == 0 {
		return
	}
	now := pt.now()
	pt.overrun += timer.Forward(&pt.due, pt.interval, now)
	pt.last = int32(min(pt.overrun, math.MaxInt32))
	pt.overrun = -1
	info.Overrun = pt.last
	pt.arm(now)
}

// stopTimers disarms everything of a process that ends. Called with mu held.
func (p *Process) stopTimers() {
	for i := range p.itimers {
		p.itimers[i].due = 0
		p.k.Timers.Stop(&p.itimers[i].timer)
	}
	for _, pt := range p.posix.byID {
		p.dropTimer(pt)
	}
	p.k.Timers.Stop(&p.cpuLimit)
}

// armCPULimit watches RLIMIT_CPU: SIGXCPU each second over the soft limit, SIGKILL at
// the hard one.
func (p *Process) armCPULimit() {
	now := p.CPUTime()
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.limits[RlimitCPU]
	if l.Cur == RlimInfinity || p.live == 0 { // the last thread has stopped the timers
		p.k.Timers.Stop(&p.cpuLimit)
		return
	}
	const second = 1_000_000_000
	due := int64(min(l.Cur, math.MaxInt64/second)) * second
	p.k.Timers.Arm(&p.cpuLimit, p.k.cpuTimeCheck(now, due, 10*time.Millisecond))
}

func (p *Process) cpuLimitFired() {
	used := uint64(p.CPUTime() / 1_000_000_000)
	p.mu.Lock()
	l := &p.limits[RlimitCPU]
	switch {
	case used >= l.Max:
		_ = p.sendLocked(nil, SignalInfo{Signo: int32(unix.SIGKILL), Code: SIKernel})
	case used >= l.Cur:
		l.Cur++
		_ = p.sendLocked(nil, SignalInfo{Signo: int32(unix.SIGXCPU), Code: SIKernel})
	}
	p.mu.Unlock()
	p.armCPULimit()
}
