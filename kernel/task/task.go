// Package task is processes, threads, signals, futexes and the loop that runs a
// thread.
//
// A thread of a program is a goroutine in a loop (Thread.run): it enters ring 3, comes
// back with the reason, serves it, and passes the boundary (Thread.exitToUser) before it
// enters again. It runs only while it holds a CPU token (Sched); Block parks it and
// gives the token to who comes next (runQueues). Whatever another thread, a timer or a device wants of it is a
// bit in one atomic word, Thread.flags, set by Thread.notify.
//
//	k := task.NewKernel(task.Config{M: m, Mem: mem, Timers: q, NS: ns, Syscalls: table})
//	k.OnInitExit = func(status uint32) { … }
//	p, err := k.Start(task.StartArgs{Image: img, FDs: fds, FS: fsctx})
//
// Signals: SendSignal queues and picks a thread; the thread finds it at its boundary,
// where the handler's frame is built or the default action taken. A system call that
// a signal interrupts returns one of wait's restart codes; the boundary turns it
// into EINTR or runs the call again.
//
// Locks, outermost first:
//
//	Process.execGuard     sleeps: who the process is, while it execs
//	Kernel.births         for writing while a signal for several processes is sent, else by attach
//	Kernel.oom            while a victim is chosen
//	Kernel.tree           the pid table, parents, children, groups, sessions, zombies
//	  Process.mu          threads of the process, pending signals, masks, limits, timers;
//	                      never two at once
//	    sigHand.mu        signal actions (shared by CLONE_SIGHAND)
//	      futexBucket.mu  (two of them in order of index)
//	        Sched.mu      tokens, run queue
//	          timer.Queue, hal
//
// None is held while a thread blocks or program memory is touched, except that a
// futex bucket is held over the no-fault access to the word.
package task

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/timer"
	"kiln/kernel/wait"
)

// Kernel is what all processes share.
type Kernel struct {
	M      hal.Machine
	Mem    *mm.Memory
	Timers *timer.Queue
	NS     *vfs.Namespace
	// Net is the network stack (*net.Stack); task does not look inside.
	Net any
	// Syscalls serves one system call: the registers are in t.Ctx. It sets RAX
	// through t.Return. (syscalls.Dispatcher)
	Syscalls Syscalls
	// Log writes a kernel message at a level ("error", "warn", "info", "debug").
	Log func(level, format string, args ...any)
	// OnInitExit is called when process 1 has ended; status as wait4 has it.
	OnInitExit func(status uint32)
	// OnReboot serves reboot(2); nil: EPERM. cmd is LINUX_REBOOT_CMD_*.
	OnReboot func(cmd uint32)
	// OnLeaderExit is called when the leader of a session has ended, before its parent is
	// told; may be nil.
	OnLeaderExit func(p *Process)
	// OnTimeChange is called after the wall clock has been set (timerfd's
	// TFD_TIMER_CANCEL_ON_SET); may be nil.
	OnTimeChange func()
	// Strace turns on the log of every system call of threads that start from then on.
	Strace atomic.Bool
	// NewSemUndo makes an empty list for CLONE_SYSVSEM; may be nil.
	NewSemUndo func() SemUndo
	// Sched hands out the CPUs.
	Sched Sched
	// UTS is uname's answer that programs can change.
	UTS UTS
	// Core is how core files are named.
	Core CoreNames

	observers atomic.Pointer[Observers]

	initFP    []byte // the vector state of a new program
	bootMono  int64
	sigQueued atomic.Int64 // queued signals, for RLIMIT_SIGPENDING
	forks     atomic.Uint64
	load      loadAvg
	wall      wallClock

	futexes   [futexBuckets]futexBucket
	piWaiters atomic.Int32

	oom      sync.Mutex   // held while a victim is chosen
	oomEnded uint64       // what ended was at the last choice; under oom
	starving atomic.Int32 // threads that wait for one to end

	usersMu sync.Mutex
	users   map[uint32]*user

	births  sync.RWMutex // before tree: see Together
	tree    sync.RWMutex
	threads map[int32]*Thread
	procs   map[int32]*Process
	groups  map[int32]members // countIn
	lastPID int32
	ended   uint64 // processes that have become zombies
	zombies int    // those that are, still
	init    *Process
}

// Config are NewKernel's parts; see Kernel.
type Config struct {
	M          hal.Machine
	Mem        *mm.Memory
	Timers     *timer.Queue
	NS         *vfs.Namespace
	Net        any
	Syscalls   Syscalls
	Log        func(level, format string, args ...any)
	OnInitExit func(status uint32)
	Hostname   string
}

// Syscalls is the system call table as the thread loop sees it.
type Syscalls interface {
	Dispatch(t *Thread)
}

// NewKernel makes a kernel without processes and takes over mem's OOM call-back.
func NewKernel(c Config) *Kernel {
	k := &Kernel{
		M: c.M, Mem: c.Mem, Timers: c.Timers, NS: c.NS, Net: c.Net,
		Syscalls: c.Syscalls, Log: c.Log, OnInitExit: c.OnInitExit,
		threads: map[int32]*Thread{}, procs: map[int32]*Process{}, groups: map[int32]members{},
	}
	if k.Log == nil {
		k.Log = func(string, string, ...any) {}
	}
	k.UTS.init(c.Hostname)
	k.Sched.init(c.M, c.Timers)
	ctx := c.M.NewCtx()
	k.initFP = append([]byte(nil), ctx.FP...)
	c.M.FreeCtx(ctx)
	if c.Mem != nil {
		c.Mem.OnOOM(k.oomKill)
	}
	return k
}

// UTS holds the names of the machine.
type UTS struct {
	mu           sync.Mutex
	host, domain string
}

func (u *UTS) init(host string) {
	if host == "" {
		host = "kiln"
	}
	u.host, u.domain = host, "(none)"
}

// Hostname and Domainname are nodename and domainname of uname(2).
func (u *UTS) Hostname() string   { u.mu.Lock(); defer u.mu.Unlock(); return u.host }
func (u *UTS) Domainname() string { u.mu.Lock(); defer u.mu.Unlock(); return u.domain }

// SetHostname and SetDomainname replace them.
func (u *UTS) SetHostname(s string)   { u.mu.Lock(); u.host = s; u.mu.Unlock() }
func (u *UTS) SetDomainname(s string) { u.mu.Lock(); u.domain = s; u.mu.Unlock() }

// Image is a program ready to run, as the loader leaves it: Space has one user, the
// stack is filled, registers that are not named start as zero.
type Image struct {
	Space     *mm.Space
	Entry, SP hal.UserAddr
	// Exe is the executable with a reference, for /proc/self/exe.
	Exe *vfs.File
	// Name is the program's path as it was given; its base name becomes comm.
	Name string
	// Where the strings lie, for /proc/self/cmdline and environ.
	ArgStart, ArgEnd, EnvStart, EnvEnd hal.UserAddr
	StackStart                         hal.UserAddr
	CodeStart, CodeEnd, DataStart      hal.UserAddr
	// Auxv is the vector as it lies on the stack, for /proc/self/auxv.
	Auxv []byte
}

// StartArgs are the first process, or another that the kernel starts.
type StartArgs struct {
	Image Image
	FDs   *vfs.FDTable
	FS    *vfs.FSContext
	Creds *vfs.Creds // nil: root
	// Limits replaces defaults by RLIMIT_* number.
	Limits map[int]Rlimit
	// Unit, if set, is what the process belongs to.
	Unit *Unit
	// Leader, if set, leads the session and process group that the process joins;
	// otherwise it leads its own.
	Leader *Process
	// TTY is its controlling terminal, nil: none.
	TTY Terminal
	// Before, if set, is called with the process before it runs, Ended with its wait
	// status when it has ended. Neither may block.
	Before func(*Process)
	Ended  func(status uint32)
}

// Thread is one thread of a program, and the wait.Context of its goroutine. Fields
// without a comment on locking belong to its own goroutine.
type Thread struct {
	Ctx *hal.Ctx
	// SysArgs are the arguments of the system call being served.
	SysArgs [6]uint64
	// Local is the system call layer's own: room that its calls work in.
	Local any

	k       *Kernel
	process *Process
	hw      hal.AddressSpace // space.HW
	space   *mm.Space
	fds     atomic.Pointer[vfs.FDTable]
	fs      atomic.Pointer[vfs.FSContext]
	creds   atomic.Pointer[vfs.Creds]
	tid     atomic.Int32
	name    atomic.Pointer[string]

	hooks         atomic.Uint32 // who looks at system calls (seccomp.go)
	seccomp       atomic.Pointer[SeccompFilter]
	seccompStrict atomic.Bool
	pt            tracing // ptrace.go

	// Scheduling. flags may be set by anyone (notify); the rest is Sched.mu's.
	flags  atomic.Uint32
	state  atomic.Int32
	cpu    atomic.Int32
	waits  uint32
	idling bool // blocked, on the stack of its CPU
	under  bool // has resumed another thread and waits for that to leave (leave)
	e      entity
	fiber  *fiber
	timer  timer.Timer // of Block
	wall   wallWait

	work      workList
	attempt   *wouldWait   // BlockOn is not to wait
	entry     waiter.Entry // of BlockOn
	entryUsed bool
	paths     pathNames

	// Accounting.
	base                   atomic.Int64 // cpuTime less the time when it got its token
	cpuTime, sysTime       atomic.Int64
	split                  cpuSplit
	voluntary, involuntary atomic.Uint64
	minFlt, majFlt         atomic.Uint64
	startTime              int64
	sysLeft                uint32 // calls until one is measured
	sysRand                uint32
	io                     ioCounts

	// Signals: mask, realMask and pending are Process.mu's for writing; mask is
	// written by the thread itself only.
	mask      SigSet
	savedMask SigSet // to restore at the boundary or in the frame
	restore   bool   // savedMask is valid
	waitingIn SigSet // sigtimedwait: signals that wake it though blocked
	pending   sigQueue
	altStack  AltStack
	restart   unix.Errno // what the system call returned, if it was a restart code
	restartFn func(t *Thread) (uintptr, error)
	trap      trapInfo
	sigInfo   SignalInfo // the signal that is being delivered, and its action
	stopTaken bool       // no SIGCONT has come since it was taken: it may stop (JOBCTL_STOP_DEQUEUED); Process.mu
	sigAct    SigAction
	frameBuf  [frameSize]byte // a frame on its way
	fpBuf     []byte          // vector state on its way and FP_XSTATE_MAGIC2, made by the first handler

	// Futexes and death.
	sibling    *Thread // in Process.threads; Process.mu
	futex      futexWaiter
	futexDead  atomic.Bool // its PI locks have been passed on
	clearTID   hal.UserAddr
	robust     atomic.Uint64 // other threads may ask (get_robust_list)
	rseq       rseqState
	exiting    bool // Process.mu
	held       bool // while another thread writes a core file; Process.mu
	parked     bool // in a group stop; Process.mu
	nprocOver  bool // a change of user ids went beyond RLIMIT_NPROC
	exitCode   uint32
	exitSignal int32
	vfork      *vforkWait // what the parent in vfork waits for
	inVfork    atomic.Bool
	pdeathsig  int32
	timerSlack uint64 // nanoseconds, PR_SET_TIMERSLACK
	firstSlack uint64 // what it was when the thread began
	ioprio     atomic.Uint32
	mcePolicy  int32        // 2 less PR_MCE_KILL's value: 0 is the default
	flusher    bool         // PR_SET_IO_FLUSHER
	policy     mm.Policy    // set_mempolicy's
	semUndo    SemUndo      // nil until it is needed
	rtprio     atomic.Int32 // of SchedParam, as futexes order waiters by it
}

// SemUndo is what threads owe to System V semaphores (kernel/ipc): clone shares it with
// CLONE_SYSVSEM, and the last thread that ends pays.
type SemUndo interface {
	IncRef()
	Exit(t *Thread)
}

// SemUndo is the thread's list, nil if it has none; SetSemUndo gives it one (nil: it is
// on its own again).
func (t *Thread) SemUndo() SemUndo     { return t.semUndo }
func (t *Thread) SetSemUndo(u SemUndo) { t.semUndo = u }

func (t *Thread) dropSemUndo() {
	if u := t.semUndo; u != nil {
		t.semUndo = nil
		u.Exit(t)
	}
}

var _ wait.Context = (*Thread)(nil)

// Kernel, Process and the accessors below are for system calls. FDs, FS and Space
// are the thread's own view (clone shares or copies them); they are only changed by
// the thread itself.
func (t *Thread) Kernel() *Kernel { return t.k }

// Process is the thread group.
func (t *Thread) Process() *Process { return t.process }

// PID is the process's number.
func (t *Thread) PID() int32 { return t.process.pid }

// TID is gettid's answer.
func (t *Thread) TID() int32 { return t.tid.Load() }

// Space is the address space.
func (t *Thread) Space() *mm.Space { return t.space }

// FDs are the descriptors; nil once the thread has ended.
func (t *Thread) FDs() *vfs.FDTable { return t.fds.Load() }

// FS is root, working directory and umask; nil once the thread has ended.
func (t *Thread) FS() *vfs.FSContext { return t.fs.Load() }

// Creds are who the thread acts as; SetCreds replaces them (the thread itself only).
func (t *Thread) Creds() *vfs.Creds { return t.creds.Load() }

// SetCreds keeps no_new_privs: another thread may just have given it to this one (seccomp's
// TSYNC), and it is never lost.
func (t *Thread) SetCreds(c *vfs.Creds) {
	for {
		old, n := t.creds.Load(), c
		if old.NoNewPrivs && !c.NoNewPrivs {
			n = c.WithNoNewPrivs()
		}
		if !t.creds.CompareAndSwap(old, n) {
			continue
		}
		if old.UID != c.UID {
			t.process.user.Store(t.k.userOf(c.UID))
		}
		return
	}
}

// Name is comm: at most 15 bytes.
func (t *Thread) Name() string { return *t.name.Load() }

// SetName cuts s to 15 bytes.
func (t *Thread) SetName(s string) {
	if len(s) > 15 {
		s = s[:15]
	}
	t.name.Store(&s)
}

// Lookup is the thread's path-walking context; dirfd's file must be held by the caller.
func (t *Thread) Lookup(at vfs.Path) vfs.Lookup {
	return vfs.Lookup{C: t, FS: t.FS(), Creds: t.Creds(), At: at}
}

// Return sets the result of the system call being served.
func (t *Thread) Return(v uintptr) { t.Ctx.RAX = uint64(v) }

// ReturnError sets -errno; the restart codes of kernel/wait make the boundary decide.
func (t *Thread) ReturnError(e unix.Errno) {
	t.Ctx.RAX = -uint64(e)
	if e >= wait.ErrRestart && e <= wait.ErrRestartBlock {
		t.restart = e
		t.flags.Or(fSettle)
	}
}
