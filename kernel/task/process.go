package task

import (
	"path"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/timer"
)

// pidMax is kernel.pid_max.
const pidMax = 32768

// threadCost is what a thread is charged to the kernel-heap budget: its goroutine's
// stack, Thread and vector state, in bytes. That of the last thread pays for the zombie, until
// somebody has waited for it.
const threadCost = 8 << 10

// Process is a thread group.
type Process struct {
	k   *Kernel
	pid int32 // the leader's TID

	// Under Kernel.tree.
	parent     *Process
	children   childList
	siblings   childLinks // in parent.children
	forker     *Thread    // the thread of the parent that made it, for __WNOTHREAD and death signals
	pgid, sid  int32
	zombie     bool
	reaped     bool
	status     uint32 // wait status once a zombie
	exitSignal int32  // what the parent gets, 0: nothing
	bornOf     uint32 // the parent's program then (execs): another one gets SIGCHLD
	subreaper  bool
	unit       *Unit
	tracees    int // of its threads
	// tracedLeader is the leader while somebody traces it, also when it has ended.
	tracedLeader *Thread

	// Never changed.
	supervise   *Supervision        // of process 1 where it is the kernel's own
	onEnd       func(status uint32) // StartArgs.Ended
	tty         Terminal            // the controlling one
	ttyOldGroup int32               // see TTYOldGroup
	leaving     int                 // threads in finish that live still counts
	threaded    bool                // has had a second thread
	execed      bool                // has called execve since its fork (setpgid's EACCES)
	last        *vfs.Creds          // of the last thread, once a zombie

	// childEvents wakes parents in wait4; procEvents wakes pidfd pollers.
	childEvents waiter.Queue
	ExitEvents  waiter.Queue

	execGuard mm.SleepLock // GuardExec

	mu         sync.Mutex
	leader     *Thread
	corpse     *Thread // see Corpse
	threads    *Thread // list through Thread.sibling
	nthreads   int     // linked in threads
	live       int     // of those, not ending
	exitFlag   bool    // group exit has begun
	exitCode   uint32
	dumper     *Thread // writes a core file
	execing    *Thread // de-thread in progress: every other thread ends
	execs      uint32  // programs that it has been (Steady)
	pending    sigQueue
	hand       *sigHand
	limits     [NumLimits]Rlimit
	fileSize   atomic.Uint64 // limits[RLIMIT_FSIZE].Cur, read without mu
	stopSig    int32         // group stop in force or being entered
	stopped    int           // threads parked for it
	stopReport uint32        // status not yet waited for: stopped
	contReport bool          // … or continued
	contTell   int32         // what the parent is to be told of a SIGCONT: cldContinued, cldStopped, 0
	itimers    [3]itimer
	posix      posixTimers
	cpuLimit   timer.Timer

	sigChildren waiter.Queue // signalfd and sigtimedwait pollers
	image       atomic.Pointer[Image]
	dumpable    atomic.Int32
	oomAdj      atomic.Int32
	hurried     atomic.Bool  // hurry has been called
	oomMin      atomic.Int32 // what oomAdj may be lowered to without privilege
	personality atomic.Uint32
	barriers    atomic.Uint32 // registered membarrier commands
	attrs       atomic.Uint32 // Attr*
	user        atomic.Pointer[user]
	coreFilter  atomic.Uint32
	io          ioCounts // of ended threads and of children waited for

	startTime                         int64 // Nanotime
	cpuTime                           atomic.Int64
	deadSys                           atomic.Int64 // system time of ended threads
	split                             cpuSplit
	deadMinFlt, deadMajFlt            atomic.Uint64
	deadVol, deadInvol                atomic.Uint64
	childUser, childSys               atomic.Int64 // of children waited for
	childMinFlt, childMajFlt          atomic.Uint64
	childVol, childInvol, childMaxRSS atomic.Uint64
	maxRSS                            atomic.Int64 // pages
}

// PID is the process's number.
func (p *Process) PID() int32 { return p.pid }

// Leader is the thread whose TID is the PID.
func (p *Process) Leader() *Thread { p.mu.Lock(); defer p.mu.Unlock(); return p.leader }

// Image describes the running program; nil for a process that has ended.
func (p *Process) Image() *Image { return p.image.Load() }

// Space is the address space, nil once the process has ended.
func (p *Process) Space() *mm.Space {
	if img := p.image.Load(); img != nil {
		return img.Space
	}
	return nil
}

// Threads are those that have not ended.
func (p *Process) Threads() []*Thread {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*Thread, 0, p.nthreads)
	for t := p.threads; t != nil; t = t.sibling {
		out = append(out, t)
	}
	return out
}

// NumThreads counts them.
func (p *Process) NumThreads() int { p.mu.Lock(); defer p.mu.Unlock(); return p.nthreads }

// Threaded says whether it has ever had a second thread.
func (p *Process) Threaded() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.threaded }

// PPID is the parent's PID, 0 for process 1.
func (p *Process) PPID() int32 {
	p.k.tree.RLock()
	defer p.k.tree.RUnlock()
	if p.parent == nil {
		return 0
	}
	return p.parent.pid
}

// PGID and SID are the process group and session.
func (p *Process) PGID() int32 { p.k.tree.RLock(); defer p.k.tree.RUnlock(); return p.pgid }
func (p *Process) SID() int32  { p.k.tree.RLock(); defer p.k.tree.RUnlock(); return p.sid }

// State is the letter of /proc/pid/stat: R, S, T or Z.
func (p *Process) State() byte {
	p.k.tree.RLock()
	zombie := p.zombie
	p.k.tree.RUnlock()
	if zombie {
		return 'Z'
	}
	p.mu.Lock()
	l, stopped := p.leader, p.stopSig != 0 && p.stopped > 0
	p.mu.Unlock()
	switch {
	case l != nil && l.Traced() && l.State() == 't':
		return 't'
	case stopped:
		return 'T'
	case p.supervise != nil:
		return 'S'
	case l == nil:
		return 'Z'
	}
	return l.State()
}

// State is the letter of /proc/pid/task/tid/stat.
func (t *Thread) State() byte {
	if t.Traced() {
		t.process.mu.Lock()
		stopped := t.pt.stopped
		t.process.mu.Unlock()
		if stopped {
			return 't'
		}
	}
	switch t.state.Load() {
	case stateBlocked:
		return 'S'
	case stateDead:
		return 'Z'
	}
	return 'R'
}

// childLinks and childList are the children of a process in the order of their birth, as
// wait looks at them. Under Kernel.tree.
type childLinks struct{ prev, next *Process }

type childList struct{ first, last *Process }

func (l *childList) add(c *Process) {
	c.siblings = childLinks{prev: l.last}
	if l.last == nil {
		l.first = c
	} else {
		l.last.siblings.next = c
	}
	l.last = c
}

func (l *childList) remove(c *Process) {
	s := &c.siblings
	if s.prev == nil {
		l.first = s.next
	} else {
		s.prev.siblings.next = s.next
	}
	if s.next == nil {
		l.last = s.prev
	} else {
		s.next.siblings.prev = s.prev
	}
	*s = childLinks{}
}

// Process finds a live or zombie process, nil if there is none.
func (k *Kernel) Process(pid int32) *Process {
	k.tree.RLock()
	defer k.tree.RUnlock()
	return k.procs[pid]
}

// Thread finds a live thread.
func (k *Kernel) Thread(tid int32) *Thread {
	k.tree.RLock()
	defer k.tree.RUnlock()
	return k.threads[tid]
}

// Init is process 1, nil before Start.
func (k *Kernel) Init() *Process { k.tree.RLock(); defer k.tree.RUnlock(); return k.init }

// Processes lists all, zombies included, in no order.
func (k *Kernel) Processes() []*Process {
	k.tree.RLock()
	defer k.tree.RUnlock()
	out := make([]*Process, 0, len(k.procs))
	for _, p := range k.procs {
		out = append(out, p)
	}
	return out
}

// Counts are for sysinfo and /proc/stat: threads, zombies among them, forks since boot, the
// last PID.
func (k *Kernel) Counts() (threads int, forks uint64, last int32) {
	k.tree.RLock()
	defer k.tree.RUnlock()
	return k.tasksLocked(), k.forks.Load(), k.lastPID
}

// tasksLocked is what Linux calls nr_threads: threads, and processes of which only the number
// and the status are left. Called with tree held.
func (k *Kernel) tasksLocked() int { return len(k.threads) + k.zombies }

// MaxThreads is kernel.threads-max as Linux computes it: an eighth of memory in
// stacks of 16 KB, and never beyond the budget for kernel memory.
func (k *Kernel) MaxThreads() uint64 {
	if k.Mem == nil {
		return 1024
	}
	n := k.Mem.TotalPages() * hal.PageSize / 4 / threadCost
	return max(64, min(n, pidMax-1))
}

// allocPID gives the next free number. Called with tree held.
func (k *Kernel) allocPID() int32 {
	for range pidMax {
		if k.lastPID++; k.lastPID >= pidMax {
			k.lastPID = 300 // RESERVED_PIDS
		}
		id := k.lastPID
		// The number of a group or session must not become a PID.
		if k.threads[id] == nil && k.procs[id] == nil && k.groups[id] == (members{}) {
			return id
		}
	}
	return 0
}

// members counts the processes, zombies too, of the group and of the session with a number.
type members struct{ group, session int32 }

// countIn adds n to the members of p's group and session, which are numbers of their
// own as long as they have any. Called with tree held, also before and after either
// changes.
func (k *Kernel) countIn(p *Process, n int32) {
	add := func(id int32, m members) {
		c := k.groups[id]
		c.group, c.session = c.group+n*m.group, c.session+n*m.session
		if c == (members{}) {
			delete(k.groups, id)
		} else {
			k.groups[id] = c
		}
	}
	if p.pgid == p.sid {
		add(p.pgid, members{1, 1})
		return
	}
	add(p.pgid, members{group: 1})
	add(p.sid, members{session: 1})
}

// enter makes a new process known by its number, group and session. Called with tree held.
func (k *Kernel) enter(p *Process) {
	k.procs[p.pid] = p
	k.countIn(p, 1)
}

// charge charges n bytes of the Go heap to the kernel-heap budget, if there is room, and says
// whether there is; a kernel without memory of its own has no bound. uncharge gives them back.
func (k *Kernel) charge(n int64) bool {
	return k.Mem == nil || k.Mem.Budget().Charge(n)
}

func (k *Kernel) uncharge(n int64) {
	if k.Mem != nil {
		k.Mem.Budget().Uncharge(n)
	}
}

// newThread makes a thread without a number. EAGAIN: over the kernel-heap budget.
func (k *Kernel) newThread(p *Process, s *mm.Space) (*Thread, error) {
	if !k.charge(threadCost) {
		return nil, unix.EAGAIN
	}
	t := &Thread{k: k, process: p, space: s, hw: s.HW, startTime: k.M.Nanotime(), timerSlack: 50000, firstSlack: 50000}
	t.sysLeft, t.sysRand = sampleEvery, uint32(t.startTime)
	t.e = newEntity(t, k.Sched.AllCPUs())
	t.Ctx = k.M.NewCtx()
	t.timer.Init(func() { t.notify(fTimeout) })
	t.rseq.cpu = -1
	if k.Strace.Load() {
		t.hooks.Store(HookStrace)
	}
	return t, nil
}

// dropThread undoes newThread.
func (k *Kernel) dropThread(t *Thread) {
	k.M.FreeCtx(t.Ctx)
	k.refundThread(t)
}

// refundThread gives back what is charged for t.
func (k *Kernel) refundThread(t *Thread) {
	t.seccomp.Swap(nil).release(k)
	k.uncharge(threadCost)
}

// processCost is what a Process takes of the Go heap.
const processCost = 1280

// Keep charges the Process itself to the kernel-heap budget, for a descriptor that keeps it
// beyond its end: ENOMEM. Drop gives the charge back.
func (p *Process) Keep() error {
	if !p.k.charge(processCost) {
		return unix.ENOMEM
	}
	return nil
}

// Drop undoes Keep.
func (p *Process) Drop() { p.k.uncharge(processCost) }

// Start makes process 1, or a child of the kernel's own process 1 (Supervise), or another
// child of none, and lets it run. EAGAIN: the kernel's budget is used up, or the unit is
// being killed.
func (k *Kernel) Start(a StartArgs) (*Process, error) {
	p := &Process{k: k, hand: newSigHand(),
		limits: defaultLimits(k.MaxThreads() / 2), startTime: k.M.Nanotime(), exitSignal: int32(unix.SIGCHLD), onEnd: a.Ended, execed: true}
	p.init()
	for r, l := range a.Limits {
		if r >= 0 && r < NumLimits {
			p.limits[r] = l
		}
	}
	p.fileSize.Store(p.limits[unix.RLIMIT_FSIZE].Cur)
	if l := &p.limits[RlimitNofile]; l.Cur > MaxNofile || l.Max > MaxNofile {
		l.Cur, l.Max = min(l.Cur, MaxNofile), min(l.Max, MaxNofile)
	}
	t, err := k.newThread(p, a.Image.Space)
	if err != nil {
		return nil, err
	}
	creds := a.Creds
	if creds == nil {
		creds = vfs.RootCreds()
	}
	t.creds.Store(creds)
	p.user.Store(k.userOf(creds.UID))
	t.fds.Store(a.FDs)
	t.fs.Store(a.FS)
	if a.FDs != nil {
		a.FDs.SetMax(int(p.limits[RlimitNofile].Cur))
	}
	k.tree.Lock()
	if a.Unit != nil && a.Unit.closed {
		k.tree.Unlock()
		k.dropThread(t)
		return nil, unix.EAGAIN
	}
	id := k.allocPID()
	p.pid, p.pgid, p.sid, p.tty = id, id, id, a.TTY
	if a.Leader != nil {
		p.pgid, p.sid = a.Leader.pid, a.Leader.pid
	}
	if a.Unit != nil {
		p.unit = a.Unit
		p.unit.members++
	}
	if k.init != nil && k.init.supervise != nil {
		p.parent = k.init
		k.init.children.add(p)
	}
	t.tid.Store(id)
	k.threads[id] = t
	k.enter(p)
	if k.init == nil {
		k.init = p
	}
	p.leader, p.threads, p.nthreads, p.live = t, t, 1, 1
	k.tree.Unlock()
	t.enterImage(a.Image)
	p.image.Store(&a.Image)
	p.armCPULimit()
	if a.Before != nil {
		a.Before(p)
	}
	k.spawn(t)
	return p, nil
}

func (p *Process) init() {
	p.dumpable.Store(1)
	p.coreFilter.Store(defaultCoreFilter)
	for i := range p.itimers {
		p.itimers[i].init(p, i)
	}
	p.cpuLimit.Init(p.cpuLimitFired)
}

// spawn starts a thread's goroutine.
func (k *Kernel) spawn(t *Thread) {
	k.forks.Add(1)
	k.Sched.start(t)
}

// enterImage gives t the memory of img and sets its registers to the entry, as
// ELF_PLAT_INIT and start_thread do: everything else is zero. The caller makes img the
// process's.
func (t *Thread) enterImage(img Image) {
	p := t.process
	t.space, t.hw = img.Space, img.Space.HW
	img.Space.SetLimits(p.memLimits())
	img.Space.SetOwner(p.pid)
	t.SetName(path.Base(img.Name))
	c := t.Ctx
	c.Regs = hal.Regs{RIP: uint64(img.Entry), RSP: uint64(img.SP), CS: userCS, SS: userSS, RFLAGS: flagIF | flagFixed}
	t.k.M.SyncFP(c)
	copy(c.FP, t.k.initFP)
	clear(c.FP[min(len(c.FP), len(t.k.initFP)):])
}

// Selectors and flags of a 64-bit program, as Linux has them (asm/segment.h).
const (
	userCS    = 0x33
	userSS    = 0x2b
	flagFixed = 1 << 1
	flagTF    = 1 << 8
	flagIF    = 1 << 9
	flagDF    = 1 << 10
	flagRF    = 1 << 16
)
