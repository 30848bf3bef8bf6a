package hosted

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Seccomp filters, for stubs and for a kernel that has nothing but this to do (Confine).
// They are lists of what is let through; everything else is refused.

// arg is what one argument of a call must be: it is one of values after mask.
type arg struct {
	n      int // 0 to 5
	mask   uint32
	values []uint32
}

// is asks for one of the values in the argument's low half.
func is(n int, values ...uint32) arg { return arg{n, ^uint32(0), values} }

// rule lets a call through whose arguments are as asked.
type rule struct {
	nr   uint32
	args []arg
}

// rules are a filter.
type rules struct {
	list []rule
	// page, if set, is the one page that the calls must come from.
	page uint64
	// refuse is the answer to everything else (SECCOMP_RET_*).
	refuse uint32
}

// Offsets in struct seccomp_data (linux/seccomp.h).
const (
	dataNR   = 0
	dataArch = 4
	dataIP   = 8
	dataArgs = 16
)

// vsyscallPage is the page of three calls at a fixed address (arch/x86/entry/vsyscall).
const vsyscallPage = 0xffffffffff600000

func load(off int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(off)}
}

func ret(v uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: v}
}

// jump goes on in skips instructions.
func jump(k uint32, yes, no int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(yes), Jf: uint8(no), K: k}
}

func and(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: k}
}

// program is the filter in cBPF (Documentation/userspace-api/seccomp_filter.rst).
func (r *rules) program() []unix.SockFilter {
	p := []unix.SockFilter{load(dataArch), jump(unix.AUDIT_ARCH_X86_64, 1, 0), ret(unix.SECCOMP_RET_KILL_PROCESS)}
	if r.page != 0 {
		const low = 0xfffff000
		p = append(p,
			load(dataIP+4), jump(uint32(r.page>>32), 3, 0),
			// What comes from the vsyscall page is a jump of the program's, not a call.
			jump(vsyscallPage>>32, 1, 0), ret(unix.SECCOMP_RET_KILL_PROCESS),
			ret(unix.SECCOMP_RET_TRAP),
			load(dataIP), and(low), jump(uint32(r.page&low), 1, 0), ret(r.refuse))
	}
	p = append(p, load(dataNR))
	for _, c := range r.list {
		body := c.body(r.refuse)
		p = append(p, jump(c.nr, 0, len(body)))
		p = append(p, body...)
	}
	return append(p, ret(r.refuse))
}

// body checks the arguments of a call whose number fits.
func (c *rule) body(refuse uint32) (p []unix.SockFilter) {
	for _, a := range c.args {
		p = append(p, load(dataArgs+8*a.n))
		if a.mask != ^uint32(0) {
			p = append(p, and(a.mask))
		}
		for i, v := range a.values {
			p = append(p, jump(v, len(a.values)-i, 0))
		}
		p = append(p, ret(refuse))
	}
	return append(p, ret(unix.SECCOMP_RET_ALLOW))
}

// calls are the numbers that are let through, each once.
func (r *rules) calls() (n []uint32) {
	for _, c := range r.list {
		if !slices.Contains(n, c.nr) {
			n = append(n, c.nr)
		}
	}
	return n
}

const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM

// stubRules are what a stub's control thread needs: frames in and out of its memory,
// threads, waiting and answering, and the end.
func stubRules() *rules {
	return &rules{page: stubBase, refuse: unix.SECCOMP_RET_KILL_PROCESS, list: []rule{
		{unix.SYS_FUTEX, []arg{is(1, 0 /* FUTEX_WAIT */)}},
		{unix.SYS_MMAP, []arg{is(3, unix.MAP_SHARED|unix.MAP_FIXED), is(4, framesFD)}},
		{unix.SYS_MUNMAP, nil},
		{unix.SYS_WRITE, []arg{is(0, doneFD)}},
		{unix.SYS_LSEEK, []arg{is(0, controlFD)}},
		{unix.SYS_CLONE, []arg{is(0, threadFlags)}},
		{unix.SYS_PAUSE, nil},
		{unix.SYS_EXIT_GROUP, nil},
	}}
}

// kernelRules are what the kernel needs once it runs: its own threads and memory, the
// descriptors that it has, and the tracing of stubs. It opens, connects, executes and
// signals nothing, and makes no process.
func kernelRules() *rules {
	noExec := []arg{{2, unix.PROT_EXEC, []uint32{0}}}
	return &rules{refuse: unix.SECCOMP_RET_TRAP, list: []rule{
		// The Go runtime.
		{unix.SYS_FUTEX, nil}, {unix.SYS_NANOSLEEP, nil}, {unix.SYS_SCHED_YIELD, nil}, {unix.SYS_RESTART_SYSCALL, nil},
		{unix.SYS_CLOCK_GETTIME, nil}, {unix.SYS_GETTID, nil}, {unix.SYS_GETPID, nil},
		{unix.SYS_MMAP, noExec}, {unix.SYS_MPROTECT, noExec}, {unix.SYS_MUNMAP, nil}, {unix.SYS_MADVISE, nil},
		{unix.SYS_PRCTL, []arg{is(0, unix.PR_SET_VMA)}},
		{unix.SYS_CLONE, []arg{{0, unix.CLONE_THREAD, []uint32{unix.CLONE_THREAD}}}},
		{unix.SYS_RT_SIGPROCMASK, nil}, {unix.SYS_RT_SIGACTION, nil}, {unix.SYS_RT_SIGRETURN, nil}, {unix.SYS_SIGALTSTACK, nil},
		{unix.SYS_TGKILL, []arg{is(2, uint32(unix.SIGURG), uint32(interruptSignal))}}, // pre-emption, hal.Interrupt
		{unix.SYS_EPOLL_PWAIT, nil}, {unix.SYS_EXIT, nil}, {unix.SYS_EXIT_GROUP, nil},
		// Terminal, control port, card, stubs' pipes; entropy.
		{unix.SYS_READ, nil}, {unix.SYS_WRITE, nil}, {unix.SYS_SENDMSG, nil}, {unix.SYS_CLOSE, nil}, {unix.SYS_GETRANDOM, nil},
		// Stubs.
		{unix.SYS_MEMFD_CREATE, nil}, {unix.SYS_FTRUNCATE, nil}, {unix.SYS_PIPE2, nil}, {unix.SYS_LSEEK, nil}, {unix.SYS_WAIT4, nil},
		{unix.SYS_PTRACE, []arg{is(0, unix.PTRACE_SEIZE, unix.PTRACE_INTERRUPT, ptraceSysemu, unix.PTRACE_GETREGS,
			unix.PTRACE_SETREGS, unix.PTRACE_GETREGSET, unix.PTRACE_SETREGSET, unix.PTRACE_GETSIGINFO)}},
	}}
}

// HostCalls are how many system calls of the host the filters leave a kernel after
// Confine, and a stub.
func HostCalls() (kernel, stub int) {
	return len(kernelRules().calls()), len(stubRules().calls())
}

// Confine leaves this whole process, for good, what a running kernel needs of the host. A
// machine must have been made before. A call that is refused is a SIGSYS, with which the
// Go runtime ends the process and says where.
func Confine() error {
	if mother.sock == 0 {
		return fmt.Errorf("hosted: Confine before New")
	}
	// Told a number, the runtime does not look for changes of the host's any more.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("hosted: PR_SET_NO_NEW_PRIVS: %w", err)
	}
	p := kernelRules().program()
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	r, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if e != 0 || r != 0 {
		return fmt.Errorf("hosted: seccomp: thread %d, %w", r, e)
	}
	return nil
}
