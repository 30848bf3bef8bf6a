package syscalls

import (
	"errors"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/fs/mqueue"
	"kiln/kernel/ipc"
	"kiln/kernel/klog"
	"kiln/kernel/task"
	"kiln/loader/vdso"
)

// Dispatcher serves system calls by number (task.Syscalls).
type Dispatcher struct {
	// VDSO, if set, is mapped into programs that execve starts.
	VDSO *vdso.VDSO

	// IPC is System V IPC; the calls need it.
	IPC *ipc.Namespace
	// MQ is the POSIX message queues; the calls need it.
	MQ *mqueue.FS

	// Messages are the kernel's, for syslog; nil: there are none.
	Messages *klog.Log

	// Observe, if set, hears of each call before it is served and of its result (tests).
	// Kernel.Strace must be on; nothing is logged then.
	Observe func(t *task.Thread, name string, a Args) (done func(err error))

	calls   [len(names)]Func // none where a number has no row
	none    Func
	missing [len(names)]atomic.Bool // logged
	beyond  atomic.Bool             // a number above the table was logged
}

// New makes the lookup array out of the families' rows.
func New() *Dispatcher {
	d := &Dispatcher{}
	d.none = d.noCall
	for nr := range d.calls {
		d.calls[nr] = d.none
	}
	for _, f := range families {
		for _, e := range f {
			d.calls[e.Nr] = e.masked()
		}
	}
	return d
}

// Without makes calls ENOSYS: the tests ask what depends on them.
func (d *Dispatcher) Without(calls []string) {
	for nr, name := range names {
		if name != "" && slices.Contains(calls, name) {
			d.calls[nr] = d.none
		}
	}
}

// Dispatch serves the call that t's registers ask for. The number is EAX, as in
// Linux since 5.12 (arch/x86/entry/common.c); numbers of the x32 ABI have no row.
func (d *Dispatcher) Dispatch(t *task.Thread) {
	r := &t.Ctx.Regs
	r.OrigRAX = r.RAX
	a := (*Args)(&t.SysArgs)
	a[0], a[1], a[2], a[3], a[4], a[5] = r.RDI, r.RSI, r.RDX, r.R10, r.R8, r.R9
	if h := t.Hooks(); h != 0 && d.hooked(t, a, h) {
		return
	}
	f := d.none
	if nr := uint32(r.OrigRAX); nr < uint32(len(d.calls)) { // call, in line
		f = d.calls[nr]
	}
	v, err := f(t, a)
	if err != nil {
		t.ReturnError(errnoOf(t, err))
		return
	}
	t.Return(v)
}

// hooked lets a tracer, seccomp and the log look at the call; true: it has its result.
func (d *Dispatcher) hooked(t *task.Thread, a *Args, h uint32) bool {
	if h&(task.HookSyscall|task.HookEmulate|task.HookStep) != 0 {
		if !t.SyscallEntry() {
			return true
		}
		a.reload(t)
	}
	if h&task.HookSeccomp != 0 && !secured(t, a) {
		return true
	}
	if h&task.HookStrace != 0 {
		d.traced(t, a)
		return true
	}
	return false
}

// reload takes the arguments from the registers anew: a tracer may have changed them.
func (a *Args) reload(t *task.Thread) {
	r := &t.Ctx.Regs
	a[0], a[1], a[2], a[3], a[4], a[5] = r.RDI, r.RSI, r.RDX, r.R10, r.R8, r.R9
}

func (d *Dispatcher) call(t *task.Thread, a *Args) (uintptr, error) {
	if nr := uint32(t.Ctx.OrigRAX); nr < uint32(len(d.calls)) {
		return d.calls[nr](t, a)
	}
	return d.none(t, a)
}

// noCall is a number that nobody serves.
func (d *Dispatcher) noCall(t *task.Thread, _ *Args) (uintptr, error) {
	if nr := uint32(t.Ctx.OrigRAX); nr < uint32(len(d.calls)) {
		d.unknown(t, nr)
	} else if !d.beyond.Swap(true) {
		t.Kernel().Log("warn", "%s (pid %d) made call %d, which Linux does not have: ENOSYS; no others of the kind are logged",
			t.Name(), t.Process().PID(), nr)
	}
	return 0, unix.ENOSYS
}

// masked is the row's function behind its masks.
func (e *Entry) masked() Func {
	f, masks := e.Func, e.Masks
	if len(masks) == 0 {
		return f
	}
	return func(t *task.Thread, a *Args) (uintptr, error) {
		for i := range masks {
			if m := &masks[i]; a[m.Arg]&^m.Bits != 0 {
				if m.Errno != 0 {
					return 0, unix.Errno(m.Errno)
				}
				return 0, unix.EINVAL
			}
		}
		return f(t, a)
	}
}

// unknown logs a call that is not served, once.
func (d *Dispatcher) unknown(t *task.Thread, nr uint32) {
	if names[nr] != "" && !d.missing[nr].Swap(true) {
		t.Kernel().Log("warn", "%s (pid %d) called %s, which this kernel lacks: ENOSYS",
			t.Name(), t.Process().PID(), names[nr])
	}
}

// errnoOf is the errno of a call's error. Everything under syscalls returns errnos; what
// does not is a bug that a program sees as EIO.
func errnoOf(t *task.Thread, err error) unix.Errno {
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	t.Kernel().Log("warn", "%s failed inside the kernel: %v", callName(t.Ctx.OrigRAX), err)
	return unix.EIO
}
