package syscalls

import (
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/task"
)

// errnoCases are calls that fail, or succeed without effect, in the order of checks that
// the comments of the calls promise. They run here and on the host's Linux.
var errnoCases = []struct {
	nr   uint64
	want unix.Errno
	args []uint64
}{
	{unix.SYS_CLONE, unix.EINVAL, []uint64{unix.CLONE_THREAD}},
	{unix.SYS_CLONE, unix.EINVAL, []uint64{unix.CLONE_SIGHAND}},
	{unix.SYS_CLONE3, unix.EINVAL, []uint64{badAddr, 63}},
	{unix.SYS_CLONE3, unix.E2BIG, []uint64{badAddr, 4097}},
	{unix.SYS_CLONE3, unix.EFAULT, []uint64{badAddr, 64}},
	{unix.SYS_EXECVE, unix.EFAULT, []uint64{badAddr}},
	{unix.SYS_EXECVEAT, unix.ENOENT, []uint64{atCwd, emptyString, 0, 0, 0x8000}},
	{unix.SYS_EXECVEAT, unix.EINVAL, []uint64{atCwd, emptyString, 0, 0, 0x9000}},
	{unix.SYS_EXECVEAT, unix.EBADF, []uint64{999, emptyString, 0, 0, 0x1000}},
	{unix.SYS_EXECVE, unix.ENOENT, []uint64{emptyString}},
	{unix.SYS_WAIT4, unix.EINVAL, []uint64{^uint64(0), 0, 0x10}},
	{unix.SYS_WAIT4, unix.ESRCH, []uint64{1 << 31, 0, unix.WNOHANG}},
	{unix.SYS_WAIT4, unix.ECHILD, []uint64{30000, 0, unix.WNOHANG}},
	{unix.SYS_WAITID, unix.EINVAL, []uint64{unix.P_ALL, 0, 0, unix.WNOHANG}},
	{unix.SYS_WAITID, unix.EINVAL, []uint64{unix.P_PID, 0, 0, unix.WEXITED}},
	{unix.SYS_WAITID, unix.EINVAL, []uint64{77, 1, 0, unix.WEXITED}},
	{unix.SYS_SETPGID, unix.EINVAL, []uint64{0, ^uint64(0)}},
	{unix.SYS_GETPGID, unix.ESRCH, []uint64{1 << 30}},
	{unix.SYS_GETSID, unix.ESRCH, []uint64{1 << 30}},
	{unix.SYS_ARCH_PRCTL, unix.EINVAL, []uint64{0x9999}},
	{unix.SYS_ARCH_PRCTL, unix.EPERM, []uint64{archSetGS, 1 << 63}},
	{unix.SYS_ARCH_PRCTL, unix.EFAULT, []uint64{archGetGS, badAddr}},
	{unix.SYS_FUTEX, unix.ENOSYS, []uint64{badAddr, 77}},
	{unix.SYS_FUTEX, unix.EINVAL, []uint64{0x1001, 0}},
	{unix.SYS_FUTEX, unix.EFAULT, []uint64{badAddr, 0}},
	{unix.SYS_FUTEX, unix.EFAULT, []uint64{badAddr, 0, 0, badAddr}},
	{unix.SYS_FUTEX, unix.EINVAL, []uint64{badAddr, futexWaitBitset, 0, 0, 0, 0}},
	{unix.SYS_SET_ROBUST_LIST, unix.EINVAL, []uint64{0, 23}},
	{unix.SYS_GET_ROBUST_LIST, unix.ESRCH, []uint64{1 << 30, badAddr, badAddr}},
	{unix.SYS_GET_ROBUST_LIST, unix.EFAULT, []uint64{0, badAddr, badAddr}},
	{unix.SYS_RT_SIGACTION, unix.EINVAL, []uint64{10, badAddr, 0, 4}},
	{unix.SYS_RT_SIGACTION, unix.EFAULT, []uint64{99, badAddr, 0, 8}},
	{unix.SYS_RT_SIGACTION, unix.EINVAL, []uint64{65, 0, 0, 8}},
	{unix.SYS_RT_SIGACTION, unix.EINVAL, []uint64{9, zeros, 0, 8}},
	{unix.SYS_RT_SIGPROCMASK, unix.EINVAL, []uint64{0, 0, 0, 9}},
	{unix.SYS_RT_SIGPROCMASK, unix.EFAULT, []uint64{77, badAddr, 0, 8}},
	{unix.SYS_RT_SIGPROCMASK, unix.EINVAL, []uint64{77, zeros, 0, 8}},
	{unix.SYS_RT_SIGPROCMASK, 0, []uint64{77, 0, 0, 8}},
	{unix.SYS_RT_SIGPENDING, unix.EINVAL, []uint64{badAddr, 9}},
	{unix.SYS_RT_SIGPENDING, unix.EFAULT, []uint64{badAddr, 8}},
	{unix.SYS_RT_SIGTIMEDWAIT, unix.EINVAL, []uint64{badAddr, 0, badAddr, 7}},
	{unix.SYS_RT_SIGTIMEDWAIT, unix.EFAULT, []uint64{zeros, 0, badAddr, 8}},
	{unix.SYS_RT_SIGTIMEDWAIT, unix.EAGAIN, []uint64{zeros, 0, zeros, 8}},
	{unix.SYS_SIGALTSTACK, unix.EFAULT, []uint64{badAddr, 0}},
	{unix.SYS_KILL, unix.ESRCH, []uint64{1 << 30, 99}},
	{unix.SYS_KILL, unix.ESRCH, []uint64{1 << 31, 0}},
	{unix.SYS_KILL, unix.EINVAL, []uint64{0, 99}},
	{unix.SYS_TKILL, unix.EINVAL, []uint64{0, 0}},
	{unix.SYS_TKILL, unix.ESRCH, []uint64{1 << 30, 99}},
	{unix.SYS_TGKILL, unix.EINVAL, []uint64{0, 1, 0}},
	{unix.SYS_TGKILL, unix.ESRCH, []uint64{1, 1 << 30, 0}},
	{unix.SYS_RT_SIGQUEUEINFO, unix.EFAULT, []uint64{1 << 30, 1, badAddr}},
	{unix.SYS_RT_SIGQUEUEINFO, unix.EPERM, []uint64{1 << 30, 1, zeros}},
	{unix.SYS_TIMER_CREATE, unix.EINVAL, []uint64{99, 0, badAddr}},
	{unix.SYS_TIMER_CREATE, unix.EFAULT, []uint64{0, badAddr, badAddr}},
	{unix.SYS_TIMER_CREATE, unix.EFAULT, []uint64{0, 0, badAddr}},
	{unix.SYS_TIMER_SETTIME, unix.EINVAL, []uint64{999, 0, 0, 0}},
	{unix.SYS_TIMER_SETTIME, unix.EFAULT, []uint64{999, 0, badAddr, 0}},
	{unix.SYS_TIMER_SETTIME, unix.EINVAL, []uint64{999, 0, zeros, 0}},
	{unix.SYS_TIMER_GETTIME, unix.EINVAL, []uint64{999, badAddr}},
	{unix.SYS_TIMER_GETOVERRUN, unix.EINVAL, []uint64{999}},
	{unix.SYS_TIMER_DELETE, unix.EINVAL, []uint64{999}},
	{unix.SYS_SETITIMER, unix.EFAULT, []uint64{9, badAddr, 0}},
	{unix.SYS_SETITIMER, unix.EINVAL, []uint64{9, zeros, 0}},
	{unix.SYS_SETITIMER, unix.EINVAL, []uint64{0, ones, 0}},
	{unix.SYS_GETITIMER, unix.EINVAL, []uint64{3, badAddr}},
	{unix.SYS_GETITIMER, unix.EFAULT, []uint64{1, badAddr}},
	{unix.SYS_SCHED_SETAFFINITY, unix.EFAULT, []uint64{1 << 30, 8, badAddr}},
	{unix.SYS_SCHED_SETAFFINITY, unix.ESRCH, []uint64{1 << 30, 8, zeros}},
	{unix.SYS_SCHED_SETAFFINITY, unix.EINVAL, []uint64{0, 8, zeros}},
	{unix.SYS_SCHED_GETAFFINITY, unix.EINVAL, []uint64{1 << 30, 12, badAddr}},
	{unix.SYS_SCHED_GETAFFINITY, unix.ESRCH, []uint64{1 << 30, 1024, badAddr}},
	{unix.SYS_SCHED_GETAFFINITY, unix.EFAULT, []uint64{0, 1024, badAddr}},
	{unix.SYS_SCHED_SETSCHEDULER, unix.EINVAL, []uint64{0, 0, 0}},
	{unix.SYS_SCHED_SETSCHEDULER, unix.EFAULT, []uint64{0, 99, badAddr}},
	{unix.SYS_SCHED_SETSCHEDULER, unix.ESRCH, []uint64{1 << 30, 99, zeros}},
	{unix.SYS_SCHED_SETSCHEDULER, unix.EINVAL, []uint64{0, 99, zeros}},
	{unix.SYS_SCHED_SETSCHEDULER, unix.EINVAL, []uint64{0, uint64(task.SchedFIFO), zeros}},
	{unix.SYS_SCHED_GETSCHEDULER, unix.EINVAL, []uint64{^uint64(0)}},
	{unix.SYS_SCHED_GETPARAM, unix.EINVAL, []uint64{0, 0}},
	{unix.SYS_SCHED_GETPARAM, unix.EFAULT, []uint64{0, badAddr}},
	{unix.SYS_SCHED_GET_PRIORITY_MAX, unix.EINVAL, []uint64{4}},
	{unix.SYS_GETPRIORITY, unix.EINVAL, []uint64{3, 0}},
	{unix.SYS_GETPRIORITY, unix.ESRCH, []uint64{0, 1 << 30}},
	{unix.SYS_SETPRIORITY, unix.EINVAL, []uint64{3, 0, 0}},
	{unix.SYS_SETPRIORITY, unix.ESRCH, []uint64{0, 1 << 30, 0}},
	{unix.SYS_GETCPU, unix.EFAULT, []uint64{badAddr}},
	{unix.SYS_IOPRIO_SET, unix.EINVAL, []uint64{1, 0, 5 << 13}},
	{unix.SYS_IOPRIO_GET, unix.EINVAL, []uint64{0, 0}},
	{unix.SYS_IOPRIO_GET, unix.ESRCH, []uint64{1, 1 << 30}},
	{unix.SYS_PRLIMIT64, unix.EFAULT, []uint64{1 << 30, 99, badAddr, 0}},
	{unix.SYS_PRLIMIT64, unix.ESRCH, []uint64{1 << 30, 99, 0, 0}},
	{unix.SYS_PRLIMIT64, unix.EINVAL, []uint64{0, 16, 0, badAddr}},
	{unix.SYS_PRLIMIT64, unix.EFAULT, []uint64{0, 7, 0, badAddr}},
	{unix.SYS_GETRLIMIT, unix.EINVAL, []uint64{16, badAddr}},
	{unix.SYS_SETRLIMIT, unix.EFAULT, []uint64{16, badAddr}},
	{unix.SYS_SETRLIMIT, unix.EINVAL, []uint64{16, zeros}},
	{unix.SYS_GETRUSAGE, unix.EINVAL, []uint64{9, badAddr}},
	{unix.SYS_GETRUSAGE, unix.EFAULT, []uint64{0, badAddr}},
	{unix.SYS_TIMES, unix.EFAULT, []uint64{badAddr}},
	{unix.SYS_PRCTL, unix.EINVAL, []uint64{9999}},
	{unix.SYS_PRCTL, unix.EINVAL, []uint64{unix.PR_SET_PDEATHSIG, 65}},
	{unix.SYS_PRCTL, unix.EFAULT, []uint64{unix.PR_SET_NAME, badAddr}},
	{unix.SYS_PRCTL, unix.EFAULT, []uint64{unix.PR_GET_NAME, badAddr}},
	{unix.SYS_PRCTL, unix.EINVAL, []uint64{unix.PR_SET_DUMPABLE, 2}},
	{unix.SYS_PRCTL, unix.EINVAL, []uint64{unix.PR_SET_NO_NEW_PRIVS, 0}},
	{unix.SYS_PRCTL, unix.EINVAL, []uint64{unix.PR_GET_NO_NEW_PRIVS, 0, 0, 1}},
	{unix.SYS_PRCTL, unix.EINVAL, []uint64{unix.PR_CAPBSET_READ, 99}},
	{unix.SYS_PRCTL, unix.EINVAL, []uint64{unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, 99}},
	{unix.SYS_PRCTL, unix.EINVAL, []uint64{unix.PR_SET_TIMING, 1}},
	{unix.SYS_SETUID, unix.EINVAL, []uint64{0xffffffff}},
	{unix.SYS_SETGID, unix.EINVAL, []uint64{0xffffffff}},
	{unix.SYS_GETRESUID, unix.EFAULT, []uint64{badAddr, badAddr, badAddr}},
	{unix.SYS_GETGROUPS, unix.EINVAL, []uint64{0xffffffff, badAddr}},
	{unix.SYS_CAPGET, unix.EFAULT, []uint64{badAddr, badAddr}},
	{unix.SYS_CAPGET, unix.EINVAL, []uint64{ones, zeros}},
	{unix.SYS_UNAME, unix.EFAULT, []uint64{badAddr}},
	{unix.SYS_SYSINFO, unix.EFAULT, []uint64{badAddr}},
	{unix.SYS_GETRANDOM, unix.EINVAL, []uint64{badAddr, 8, 8}},
	{unix.SYS_GETRANDOM, unix.EINVAL, []uint64{badAddr, 8, 6}},
	{unix.SYS_GETRANDOM, unix.EFAULT, []uint64{badAddr, 8, 0}},
	{unix.SYS_GETRANDOM, 0, []uint64{badAddr, 0, 0}},
	{unix.SYS_SYSLOG, unix.EINVAL, []uint64{3, 0, 1}},
	{unix.SYS_RSEQ, unix.EINVAL, []uint64{zeros, 31, 0, 0}},
	{unix.SYS_MEMBARRIER, unix.EINVAL, []uint64{1 << 20, 0}},
}

// Arguments that stand for addresses and other values of the program.
const (
	zeros       = 0xfeed_0001_0000_0000 + iota // 128 bytes of 0
	ones                                       // 128 bytes of 0xff
	emptyString                                // ""
	atCwd       = 0xffffff9c                   // AT_FDCWD
)

func TestErrnosComeInLinuxOrder(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		p.put(dataAt+4096, []byte(strings.Repeat("\xff", 128)))
		for _, c := range errnoCases {
			args := resolve(c.args, dataAt, dataAt+4096)
			if got := p.sys(c.nr, args...); c.want == 0 && got < 0 || c.want != 0 && got != -int64(c.want) {
				t.Errorf("%s(%#x) = %d, want %s", callName(c.nr), c.args, got, unix.ErrnoName(c.want))
			}
		}
	})
}

func resolve(args []uint64, zero, one uint64) []uint64 {
	out := append([]uint64(nil), args...)
	for i, a := range out {
		switch a {
		case zeros, emptyString:
			out[i] = zero
		case ones:
			out[i] = one
		}
	}
	return out
}

// The same calls on the host say that the table above is Linux'.
func TestErrnoTableIsTheHosts(t *testing.T) {
	m, err := unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 128 {
		m[4096+i] = 0xff
	}
	base := addrOf(m)
	for _, c := range errnoCases {
		var a [6]uintptr
		for i, v := range resolve(c.args, base, base+4096) {
			a[i] = uintptr(v)
		}
		_, _, e := unix.RawSyscall6(uintptr(c.nr), a[0], a[1], a[2], a[3], a[4], a[5])
		if e != c.want && e != unix.ENOSYS {
			t.Errorf("the host says %s to %s(%#x), the table %s", unix.ErrnoName(e), callName(c.nr), c.args, unix.ErrnoName(c.want))
		}
	}
	runtime.KeepAlive(m)
}
