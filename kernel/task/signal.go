package task

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"
)

// SigSet is a set of signals: bit n-1 is signal n.
type SigSet uint64

// NumSignals is _NSIG.
const NumSignals = 64

// Set returns the one-signal set.
func Set(sig int32) SigSet { return 1 << (uint32(sig-1) & 63) }

// Has says whether sig is in s.
func (s SigSet) Has(sig int32) bool { return s&Set(sig) != 0 }

func setOf(sigs ...unix.Signal) (s SigSet) {
	for _, n := range sigs {
		s |= Set(int32(n))
	}
	return s
}

// Classes of signals by default action (include/linux/signal.h).
var (
	sigUnmaskable = setOf(unix.SIGKILL, unix.SIGSTOP)
	sigStops      = setOf(unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	sigIgnores    = setOf(unix.SIGCONT, unix.SIGCHLD, unix.SIGWINCH, unix.SIGURG)
	sigCores      = setOf(unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGFPE, unix.SIGSEGV,
		unix.SIGBUS, unix.SIGSYS, unix.SIGXCPU, unix.SIGXFSZ)
	sigSync = setOf(unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGTRAP, unix.SIGFPE, unix.SIGSYS)
)

// firstRT is SIGRTMIN of the kernel.
const firstRT = 32

// Handlers that are no address.
const (
	sigDefault = 0
	sigIgnore  = 1
)

// si_code values of the kernel (asm-generic/siginfo.h).
const (
	SIUser    = 0
	SIKernel  = 0x80
	SIQueue   = -1
	SITimer   = -2
	SIMesgQ   = -3
	SIAsyncIO = -4
	SISigIO   = -5
	SITkill   = -6

	cldExited, cldKilled, cldDumped, cldStopped, cldContinued = 1, 2, 3, 5, 6
)

// SigAction is struct sigaction as rt_sigaction has it.
type SigAction struct {
	Handler  uint64
	Flags    uint64 // SA_*
	Restorer uint64
	Mask     SigSet
}

// SA_* flags (asm-generic/signal-defs.h, asm/signal.h).
const (
	SANoCldStop = 1
	SANoCldWait = 2
	SASigInfo   = 4
	SARestorer  = 0x04000000
	SAOnStack   = 0x08000000
	SARestart   = 0x10000000
	SANoDefer   = 0x40000000
	SAResetHand = 0x80000000
	saKnown     = SANoCldStop | SANoCldWait | SASigInfo | SARestorer | SAOnStack | SARestart |
		SANoDefer | SAResetHand | 0x800 /* SA_EXPOSE_TAGBITS */
)

// sigHand is the table of actions, shared by CLONE_SIGHAND.
type sigHand struct {
	refs    atomic.Int32
	mu      sync.Mutex
	actions [NumSignals]SigAction
}

// noHand are the handlers of processes that have ended: none.
var noHand sigHand

func newSigHand() *sigHand {
	h := &sigHand{}
	h.refs.Store(1)
	return h
}

func (h *sigHand) get(sig int32) SigAction {
	h.mu.Lock()
	a := h.actions[sig-1]
	h.mu.Unlock()
	return a
}

// handler is get's Handler alone.
func (h *sigHand) handler(sig int32) uint64 {
	h.mu.Lock()
	a := h.actions[sig-1].Handler
	h.mu.Unlock()
	return a
}

func (h *sigHand) copy() *sigHand {
	n := newSigHand()
	h.mu.Lock()
	n.actions = h.actions
	h.mu.Unlock()
	return n
}

// reset is execve's: handlers become default, ignored signals stay ignored.
func (h *sigHand) reset() {
	for i := range h.actions {
		a := &h.actions[i]
		if a.Handler != sigIgnore {
			a.Handler = sigDefault
		}
		a.Flags, a.Restorer, a.Mask = 0, 0, 0
	}
}

// SignalInfo is the part of siginfo_t that a sender fills; which fields count goes by
// Signo and Code, as in Linux' siginfo_layout.
type SignalInfo struct {
	Signo, Code, Errno int32
	PID                int32
	UID                uint32
	Addr               uint64 // faults; si_call_addr of SIGSYS
	Value              uint64
	Status             int32
	UTime, STime       int64 // SIGCHLD, clock ticks
	TimerID, Overrun   int32 // SI_TIMER
	Band               int64 // SIGIO
	FD                 int32
	Syscall            int32 // SIGSYS
	// Sender is the thread that sends, if one does: a signal to itself needs no
	// interrupt.
	Sender *Thread
	timer  *posixTimer
	force  bool
}

// queued is one pending signal.
type queued struct {
	info SignalInfo
	user *user // whom it counts for; nil: a timer's, which has counted itself
	next *queued
	own  bool  // its queue's first node, which stays with the queue
	cost int32 // charged to the budget
}

// queuedCost is what a node beyond a queue's own is charged to the kernel-heap budget.
const queuedCost = 176

// sigQueue is the pending signals of a thread or process. A classic signal is there at
// most once, a real-time signal as often as it was sent.
type sigQueue struct {
	set        SigSet
	head, tail *queued
	spare      *queued // an empty node: most queues have one signal at a time
	has        bool    // a node of its own, spare or in use: the thread's cost has it
}

// node is an empty node, nil over the budget. must says that the sender has bounded the number
// in another way.
func (q *sigQueue) node(k *Kernel, must bool) *queued {
	n := q.spare
	if n == nil {
		return q.newNode(k, must)
	}
	q.spare = nil
	return n
}

func (q *sigQueue) newNode(k *Kernel, must bool) *queued {
	n := &queued{own: !q.has}
	switch {
	case n.own:
		q.has = true
	case k.Mem == nil:
	case must:
		k.Mem.Budget().Force(queuedCost)
		n.cost = queuedCost
	case !k.charge(queuedCost):
		return nil
	default:
		n.cost = queuedCost
	}
	return n
}

// free gives a node back that is in no queue.
func (q *sigQueue) free(k *Kernel, n *queued) {
	k.sigQueued.Add(-1)
	if n.user != nil {
		n.user.signals.Add(-1)
	}
	if n.info.timer != nil {
		n.info.timer.queued = false
	}
	if n.own {
		*n = queued{}
		n.own = true
		q.spare = n
	} else if n.cost != 0 {
		k.uncharge(int64(n.cost))
	}
}

func (q *sigQueue) put(n *queued) {
	q.set |= Set(n.info.Signo)
	if q.tail == nil {
		q.head = n
	} else {
		q.tail.next = n
	}
	q.tail = n
}

// take removes the first entry for sig; one without an entry (the queue was full) has
// only its number.
func (q *sigQueue) take(k *Kernel, sig int32, info *SignalInfo) {
	var found, prev *queued
	more := false
	for n, before := q.head, (*queued)(nil); n != nil; before, n = n, n.next {
		if n.info.Signo != sig {
			continue
		}
		if found != nil {
			more = true
			break
		}
		found, prev = n, before
	}
	if !more {
		q.set &^= Set(sig)
	}
	if found == nil {
		*info = SignalInfo{Signo: sig}
		return
	}
	q.unlink(found, prev)
	*info = found.info
	q.free(k, found)
}

func (q *sigQueue) unlink(n, prev *queued) {
	if prev == nil {
		q.head = n.next
	} else {
		prev.next = n.next
	}
	if q.tail == n {
		q.tail = prev
	}
	n.next = nil
}

// flush drops every signal of s.
func (q *sigQueue) flush(k *Kernel, s SigSet) {
	q.set &^= s
	q.drop(k, func(i *SignalInfo) bool { return s.Has(i.Signo) })
}

// flushTimers drops the signals of POSIX timers.
func (q *sigQueue) flushTimers(k *Kernel) {
	q.drop(k, func(i *SignalInfo) bool {
		if i.Code == SITimer {
			q.set &^= Set(i.Signo)
		}
		return i.Code == SITimer
	})
	for n := q.head; n != nil; n = n.next {
		q.set |= Set(n.info.Signo) // the same number from elsewhere
	}
}

// drop takes the entries out that match.
func (q *sigQueue) drop(k *Kernel, match func(*SignalInfo) bool) {
	var prev *queued
	for n := q.head; n != nil; {
		next := n.next
		if match(&n.info) {
			q.unlink(n, prev)
			q.free(k, n)
		} else {
			prev = n
		}
		n = next
	}
}

// next picks the signal of s to deliver first: synchronous ones, then the lowest.
func nextSignal(s SigSet) int32 {
	if s&sigSync != 0 {
		s &= sigSync
	}
	if s == 0 {
		return 0
	}
	return int32(bits.TrailingZeros64(uint64(s))) + 1
}

// SendSignal queues a signal for the process, as kill does; info carries si_code,
// si_pid, si_addr… Signal 0 does nothing.
func (p *Process) SendSignal(info SignalInfo) { _ = p.send(nil, info) }

// SendSignal queues a signal for this thread alone, as tgkill does.
func (t *Thread) SendSignal(info SignalInfo) { _ = t.process.send(t, info) }

// Queue is SendSignal that tells EAGAIN when the queue is full (sigqueue(3)).
func (p *Process) Queue(info SignalInfo) error { return p.send(nil, info) }

// Queue is the thread's.
func (t *Thread) Queue(info SignalInfo) error { return t.process.send(t, info) }

// send queues info for t, or for the process if t is nil.
func (p *Process) send(t *Thread, info SignalInfo) error {
	if info.Signo <= 0 || info.Signo > NumSignals {
		return nil
	}
	if p.supervise != nil {
		p.signalSupervisor(info.Signo)
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sendLocked(t, info)
}

func (p *Process) sendLocked(t *Thread, info SignalInfo) error {
	sig, sender := info.Signo, info.Sender
	info.Sender = nil
	if p.live == 0 {
		return nil // nobody takes it from the queue any more
	}
	p.prepare(sig)
	if t != nil && t.exiting {
		return nil // its queue has been emptied for the last time
	}
	if !info.force && p.ignored(t, sig) {
		return nil
	}
	q := &p.pending
	if t != nil {
		q = &t.pending
	}
	if sig < firstRT && q.set.Has(sig) && info.timer == nil {
		return nil
	}
	if err := p.enqueue(q, info); err != nil {
		return err
	}
	p.sigChildren.Notify(waiter.ReadableEvents)
	p.dispatch(t, sig, sender)
	return nil
}

// enqueue adds info to q within RLIMIT_SIGPENDING and the kernel's budget. A full queue costs
// a classic signal its information only, and a real-time signal sent by sigqueue is refused.
func (p *Process) enqueue(q *sigQueue, info SignalInfo) error {
	limit := p.limits[RlimitSigpending].Cur
	must := info.Signo < firstRT && (info.Code >= 0 || info.force) || info.timer != nil
	u := p.user.Load()
	var n *queued
	if info.timer != nil {
		u, info.timer.queued = nil, true
		n = q.node(p.k, true)
	} else if c := u.signals.Add(1); must || uint64(c) <= limit {
		n = q.node(p.k, must)
	}
	if n == nil {
		u.signals.Add(-1)
		if info.Signo >= firstRT && info.Code != SIUser {
			return unix.EAGAIN
		}
		q.set |= Set(info.Signo)
		return nil
	}
	p.k.sigQueued.Add(1)
	n.info, n.user = info, u
	q.put(n)
	return nil
}

// prepare is what sending does whatever the action: SIGCONT ends a stop and takes
// pending stops away, a stop signal takes a pending SIGCONT away.
func (p *Process) prepare(sig int32) {
	switch {
	case sigStops.Has(sig):
		p.flushAll(Set(int32(unix.SIGCONT)))
	case sig == int32(unix.SIGCONT):
		p.flushAll(sigStops)
		for t := p.threads; t != nil; t = t.sibling {
			t.stopTaken = false
		}
		p.resume(true)
		p.continued()
	case sig == int32(unix.SIGKILL):
		p.resume(false)
		p.killStopped()
		if p.dumper != nil {
			p.dumper.notify(fEnd) // it writes no more
		}
	}
}

func (p *Process) flushAll(s SigSet) {
	p.pending.flush(p.k, s)
	for t := p.threads; t != nil; t = t.sibling {
		t.pending.flush(p.k, s)
	}
}

// ignored says that a signal need not even be queued.
func (p *Process) ignored(t *Thread, sig int32) bool {
	if sig == int32(unix.SIGKILL) {
		return false
	}
	to := t
	if to == nil {
		to = p.leader
	}
	if to != nil && ((to.mask | to.savedBlocked()).Has(sig) || to.Traced()) {
		return false
	}
	return p.actionIgnores(sig)
}

func (p *Process) actionIgnores(sig int32) bool {
	switch p.hand.handler(sig) {
	case sigIgnore:
		return true
	case sigDefault:
		return sigIgnores.Has(sig)
	}
	return false
}

// savedBlocked is what sigtimedwait has taken out of the mask for its wait: blocked
// all the same.
func (t *Thread) savedBlocked() SigSet { return t.waitingIn }

// wants says whether t would take sig now; one that is stopped takes only SIGKILL.
func (t *Thread) wants(sig int32) bool {
	if t.exiting || (t.parked || t.pt.stopped) && sig != int32(unix.SIGKILL) {
		return false
	}
	return sig == int32(unix.SIGKILL) || !t.mask.Has(sig) || t.waitingIn.Has(sig)
}

// dispatch wakes a thread for a signal just queued, or ends the group at once where
// the default action is to end it.
func (p *Process) dispatch(t *Thread, sig int32, sender *Thread) {
	if t == nil {
		t = p.pick(sig)
	} else if !t.wants(sig) {
		t = nil
	}
	if t == nil {
		return
	}
	if p.fatal(sig) && !sigCores.Has(sig) && (sig == int32(unix.SIGKILL) || !t.waitingIn.Has(sig) && !t.Traced()) {
		p.beginExit(uint32(sig))
		return
	}
	if t == sender {
		t.flags.Or(fSignal) // it is on its way to the boundary
		return
	}
	t.notify(fSignal)
}

// pick is Linux' complete_signal: the leader if it wants the signal, else any thread.
func (p *Process) pick(sig int32) *Thread {
	if l := p.leader; l != nil && l.wants(sig) {
		return l
	}
	for t := p.threads; t != nil; t = t.sibling {
		if t.wants(sig) {
			return t
		}
	}
	return nil
}

// fatal says that the action for sig ends the process.
func (p *Process) fatal(sig int32) bool {
	if sig == int32(unix.SIGKILL) {
		return true
	}
	return p.hand.handler(sig) == sigDefault && !sigIgnores.Has(sig) && !sigStops.Has(sig)
}

// beginExit makes every thread end; the first status counts. Called with mu held.
func (p *Process) beginExit(status uint32) {
	if p.exitFlag {
		return
	}
	p.exitFlag = true
	p.exitCode = status
	p.stopSig = 0
	for t := p.threads; t != nil; t = t.sibling {
		t.notify(fEnd)
	}
}

// force sends a signal that the thread cannot refuse: a fault's. Blocked or ignored,
// the action becomes the default one.
func (t *Thread) force(info SignalInfo) {
	p := t.process
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.hand.get(info.Signo)
	if t.mask.Has(info.Signo) || a.Handler == sigIgnore {
		p.hand.mu.Lock()
		p.hand.actions[info.Signo-1].Handler = sigDefault
		p.hand.mu.Unlock()
		t.mask &^= Set(info.Signo)
	}
	info.force = true
	if !t.pending.set.Has(info.Signo) {
		_ = p.enqueue(&t.pending, info)
	}
	t.flags.Or(fSignal) // the thread itself: it is on its way to the boundary
}

// ForceSignal sends the thread itself a signal that it cannot block or ignore.
func (t *Thread) ForceSignal(info SignalInfo) { t.force(info) }

// forceSegv is for a frame that cannot be written or read: SIGSEGV, fatally if it was
// SIGSEGV's own frame.
func (t *Thread) forceSegv(during int32) {
	if during == int32(unix.SIGSEGV) {
		h := t.process.hand
		h.mu.Lock()
		h.actions[during-1].Handler = sigDefault
		h.mu.Unlock()
	}
	t.force(SignalInfo{Signo: int32(unix.SIGSEGV), Code: SIKernel})
}

// dequeue takes the next signal of set from the thread's or the process's queue to info.
// Called with Process.mu held.
func (t *Thread) dequeue(set SigSet, info *SignalInfo) bool {
	p := t.process
	q := &t.pending
	sig := nextSignal(q.set & set)
	if sig == 0 {
		q = &p.pending
		if sig = nextSignal(q.set & set); sig == 0 {
			return false
		}
	}
	q.take(p.k, sig, info)
	t.stopTaken = true // whatever it is: a tracer may make a stop of it
	if info.timer != nil {
		info.timer.delivered(info)
	}
	if sig == int32(unix.SIGALRM) && q == &p.pending {
		p.itimers[unix.ITIMER_REAL].dequeued()
	}
	return true
}

// recalc clears fSignal if nothing is deliverable. Called with Process.mu held, as
// every place that sets the flag for a pending signal is.
func (t *Thread) recalc() {
	if (t.pending.set|t.process.pending.set)&^t.mask != 0 {
		t.flags.Or(fSignal)
	} else if t.flags.Load()&fSignal != 0 {
		t.flags.And(^fSignal)
	}
}

// Mask is the set of blocked signals.
func (t *Thread) Mask() SigSet { return t.mask }

// SetMask replaces it. Pending signals that only this thread left unblocked go to a
// sibling that takes them.
func (t *Thread) SetMask(m SigSet) {
	m &^= sigUnmaskable
	if m == t.mask {
		return
	}
	p := t.process
	p.mu.Lock()
	newly := m &^ t.mask
	t.mask = m
	if move := p.pending.set & newly; move != 0 && p.nthreads > 1 {
		p.retarget(t, move)
	}
	t.recalc()
	p.mu.Unlock()
}

// retarget wakes siblings for shared signals that t no longer takes.
func (p *Process) retarget(t *Thread, s SigSet) {
	for o := p.threads; o != nil && s != 0; o = o.sibling {
		if o != t && !o.exiting && s&^o.mask != 0 {
			s &= o.mask
			o.notify(fSignal)
		}
	}
}

// SetUserSigmask is ppoll's and epoll_pwait's temporary mask: in force until the call
// has ended. The boundary restores the old one, after the handler of a signal that
// the call was interrupted by has been set up.
func (t *Thread) SetUserSigmask(m SigSet) {
	t.savedMask, t.restore = t.mask, true
	t.SetMask(m)
	t.flags.Or(fSettle)
}

// RestoreSigmask ends SetUserSigmask at once for a call that was not interrupted; for
// one that was, the boundary does it.
func (t *Thread) RestoreSigmask(interrupted bool) {
	if t.restore && !interrupted {
		t.restore = false
		t.SetMask(t.savedMask)
	}
}

// Action gives the action for sig, and sets it if set is not nil. EINVAL: no such
// signal, or SIGKILL and SIGSTOP set.
func (p *Process) Action(sig int32, set *SigAction) (old SigAction, err error) {
	if sig < 1 || sig > NumSignals || set != nil && sigUnmaskable.Has(sig) {
		return old, unix.EINVAL
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hand
	h.mu.Lock()
	old = h.actions[sig-1]
	if set != nil {
		a := *set
		a.Mask &^= sigUnmaskable
		a.Flags &= saKnown
		h.actions[sig-1] = a
	}
	h.mu.Unlock()
	if set != nil && p.actionIgnores(sig) {
		p.flushAll(Set(sig)) // POSIX 3.3.1.3: pending ones are discarded
	}
	return old, nil
}

// Pending is the set of signals that wait though blocked.
func (t *Thread) Pending() SigSet {
	p := t.process
	p.mu.Lock()
	defer p.mu.Unlock()
	return t.pending.set | p.pending.set
}

// Pending is the set of signals that wait for any of the process's threads.
func (p *Process) Pending() SigSet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending.set
}

// SignalSets are for /proc/pid/status.
func (t *Thread) SignalSets() (pending, shared, blocked, ignored, caught SigSet) {
	p := t.process
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hand.mu.Lock()
	defer p.hand.mu.Unlock()
	for i, a := range p.hand.actions {
		switch a.Handler {
		case sigDefault:
		case sigIgnore:
			ignored |= 1 << i
		default:
			caught |= 1 << i
		}
	}
	return t.pending.set, p.pending.set, t.mask, ignored, caught
}

// TakeSignal removes a pending signal of s (signalfd); false if there is none.
func (t *Thread) TakeSignal(s SigSet) (SignalInfo, bool) {
	p := t.process
	p.mu.Lock()
	defer p.mu.Unlock()
	var info SignalInfo
	ok := t.dequeue(s&^sigUnmaskable, &info)
	t.recalc()
	return info, ok
}

// SignalEvents is notified of every signal queued for the process (signalfd).
func (p *Process) SignalEvents() *waiter.Queue { return &p.sigChildren }
