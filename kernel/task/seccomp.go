package task

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/bpf"

	"kiln/kernel/wait"
)

// Bits of Thread.hooks: who wants a look at each system call before it is served. One
// word, so that a call that nobody looks at pays one test.
const (
	// HookStrace logs the call.
	HookStrace uint32 = 1 << iota
	// HookSeccomp: the thread is in one of seccomp's modes.
	HookSeccomp
	// HookSyscall, HookEmulate and HookStep are what a tracer has asked for: stops at
	// system calls, calls that are not served, single steps.
	HookSyscall
	HookEmulate
	HookStep

	hookPtrace = HookSyscall | HookEmulate | HookStep
)

// Hooks are the thread's.
func (t *Thread) Hooks() uint32 { return t.hooks.Load() }

// SeccompFilter is one filter and those that were there before it. Immutable once a
// thread has it; threads and children share it.
type SeccompFilter struct {
	Prog bpf.Program
	// Log is SECCOMP_FILTER_FLAG_LOG: what is not allowed is logged.
	Log  bool
	Prev *SeccompFilter

	count int          // filters, this one included
	insns int          // instructions of all, as Linux counts them
	refs  atomic.Int32 // threads whose newest it is, and filters in front of it
}

// cost is what a filter is charged to the kernel-heap budget.
func (f *SeccompFilter) cost() int64 { return 128 + 8*int64(f.Prog.Length()) }

// release lets go of a thread's filters, or of those that it would have had: what nobody else
// has is paid back.
func (f *SeccompFilter) release(k *Kernel) {
	for ; f != nil && f.refs.Add(-1) == 0; f = f.Prev {
		k.uncharge(f.cost())
	}
}

// Linux charges each filter four instructions for its own sake and allows a path of
// filters 256 KiB of struct sock_filter (kernel/seccomp.c).
const (
	seccompPenalty  = 4
	seccompMaxInsns = 1 << 18 / 8
)

// SeccompMode is 0 (disabled), 1 (strict) or 2 (filter), as prctl(PR_GET_SECCOMP) has it.
func (t *Thread) SeccompMode() int {
	switch {
	case t.seccompStrict.Load():
		return 1
	case t.seccomp.Load() != nil:
		return 2
	}
	return 0
}

// Seccomp is the newest filter, or nil; SeccompCount is how many there are.
func (t *Thread) Seccomp() *SeccompFilter { return t.seccomp.Load() }

// SeccompCount is the number of filters.
func (t *Thread) SeccompCount() int {
	if f := t.seccomp.Load(); f != nil {
		return f.count
	}
	return 0
}

// SeccompStrict enters strict mode: EINVAL if the thread has filters.
func (t *Thread) SeccompStrict() error {
	if t.seccomp.Load() != nil {
		return unix.EINVAL
	}
	t.seccompStrict.Store(true)
	t.hooks.Or(HookSeccomp)
	return nil
}

// AddSeccomp puts f in front of the thread's filters; with sync in front of those of all
// threads of the process, unless one has others than the caller: then nothing is changed
// and its number returned. EINVAL in strict mode, ENOMEM for too many instructions or beyond
// the kernel's budget.
func (t *Thread) AddSeccomp(f *SeccompFilter, sync bool) (int32, error) {
	if t.seccompStrict.Load() {
		return 0, unix.EINVAL
	}
	p := t.process
	if sync {
		// No thread is to change who it is by an exec while it gets the filter.
		if r := p.execGuard.LockAs(t, wait.Killable); r != wait.Ready {
			return 0, r.Err()
		}
		defer p.execGuard.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	own := t.seccomp.Load()
	f.Prev, f.count, f.insns = own, 1, f.Prog.Length()
	if own != nil {
		f.count += own.count
		f.insns += own.insns + seccompPenalty
	}
	if f.insns > seccompMaxInsns {
		return 0, unix.ENOMEM
	}
	if sync {
		for o := p.threads; o != nil; o = o.sibling {
			if o != t && !o.canSync(own) {
				return o.TID(), nil
			}
		}
	}
	if !t.k.charge(f.cost()) {
		return 0, unix.ENOMEM
	}
	if own != nil {
		own.refs.Add(1) // f's
	}
	f.refs.Store(1) // until the thread has it
	for o := p.threads; sync && o != nil; o = o.sibling {
		if o != t {
			o.takeSeccomp(f, t.Creds().NoNewPrivs)
		}
	}
	t.takeSeccomp(f, false)
	f.release(t.k)
	return 0, nil
}

// canSync says whether t's filters are all among those from newest on.
func (t *Thread) canSync(newest *SeccompFilter) bool {
	own := t.seccomp.Load()
	if own == nil {
		return !t.seccompStrict.Load()
	}
	for ; newest != nil; newest = newest.Prev {
		if newest == own {
			return true
		}
	}
	return false
}

func (t *Thread) takeSeccomp(f *SeccompFilter, noNewPrivs bool) {
	if noNewPrivs {
		t.setNoNewPrivs()
	}
	f.refs.Add(1)
	t.seccomp.Swap(f).release(t.k)
	t.hooks.Or(HookSeccomp)
}

// setNoNewPrivs gives a thread no_new_privs, whatever it does with its credentials meanwhile.
func (t *Thread) setNoNewPrivs() {
	for {
		old := t.creds.Load()
		if old.NoNewPrivs || t.creds.CompareAndSwap(old, old.WithNoNewPrivs()) {
			return
		}
	}
}

// inheritSeccomp gives a new thread its parent's mode, and no_new_privs where that has come
// with it since the credentials were copied. Called with the parent's Process.mu held, so that
// no AddSeccomp of a sibling is missed.
func (t *Thread) inheritSeccomp(parent *Thread) {
	if parent.Creds().NoNewPrivs {
		t.setNoNewPrivs()
	}
	f := parent.seccomp.Load()
	if f != nil {
		f.refs.Add(1)
	}
	t.seccomp.Swap(f).release(t.k)
	t.seccompStrict.Store(parent.seccompStrict.Load())
	t.hooks.Or(parent.hooks.Load() & HookSeccomp)
}

// KillThread ends the calling thread by sig, and the process if it has no other
// (SECCOMP_RET_KILL_THREAD).
func (t *Thread) KillThread(sig unix.Signal) {
	p := t.process
	p.mu.Lock()
	last := p.nthreads == 1
	p.mu.Unlock()
	if last {
		t.KillProcess(sig)
		return
	}
	t.exitCode = uint32(sig)
	t.flags.Or(fKill)
}

// KillProcess ends the process by sig, whatever it does with that signal, for the system
// call it has made.
func (t *Thread) KillProcess(sig unix.Signal) {
	t.reportDeath(&SignalInfo{Signo: int32(sig), Code: 1, Syscall: int32(t.Ctx.OrigRAX)})
	t.dumpCore(&SignalInfo{Signo: int32(sig), Code: 1, Addr: t.Ctx.RIP, Syscall: int32(t.Ctx.OrigRAX)})
	t.ExitGroup(uint32(sig))
}
