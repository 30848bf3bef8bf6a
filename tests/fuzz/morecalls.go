package fuzz

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The calls that calls.go has not: more of files and names, locks and leases, System V and
// POSIX queues, timers, scheduling, prctl, control messages, and what asks for privileges.

// anything is any number below n, for options and commands that there are many of.
func anything(n int) arg {
	return func(g *gen) string { return num(g.IntN(n))(g) }
}

// but is an argument that is not one of some numbers.
func but(a arg, not ...string) arg {
	return func(g *gen) string {
		for {
			s := a(g)
			ok := true
			for _, n := range not {
				ok = ok && s != "i"+n
			}
			if ok {
				return s
			}
		}
	}
}

// raw is one of some byte strings in memory.
func raw(v ...string) arg {
	return func(g *gen) string {
		if g.IntN(30) == 0 {
			return bad(g)
		}
		return g.data([]byte(pick(g, v...)))
	}
}

// xset are names to set and to remove. Not security.*: Debian's 6.1 has the LSM of BPF, whose
// hook's wrong default lets everybody do it (mended in 6.2), nor user.*, which tmpfs has since 6.6.
var xset = raw("trusted.x\x00", "x\x00", "system.y\x00", "\x00", string(make0('n', 255))+"\x00", string(make0('n', 256))+"\x00")

var xnames = raw("security.x\x00", "security.x\x00", "security.\x00", "security.yy\x00", "trusted.x\x00", "x\x00", "system.y\x00", "\x00",
	"system.posix_acl_access\x00", "security."+string(make0('n', 246))+"\x00", "security."+string(make0('n', 247))+"\x00")

var morefiles = list(
	c(unix.SYS_OPEN, "v", path, opens, mode).gives("fd"),
	c(unix.SYS_SETXATTR, "v", path, xset, text, num(0, 1, 32, 65537), num(0, 1, 2, 3, 4)), c(unix.SYS_LSETXATTR, "v", path, xset, text, num(0, 8), num(0, 1, 2)),
	c(unix.SYS_FSETXATTR, "v", fd, xset, text, num(0, 8), num(0, 1, 2)), c(unix.SYS_FGETXATTR, "v", fd, xnames, buf(64), num(0, 1, 64)), c(unix.SYS_LGETXATTR, "v", path, xnames, buf(64), num(0, 1, 64)),
	c(unix.SYS_FLISTXATTR, "v", fd, buf(64), num(0, 1, 64)), c(unix.SYS_REMOVEXATTR, "v", path, xset), c(unix.SYS_FREMOVEXATTR, "v", fd, xset), c(unix.SYS_LREMOVEXATTR, "v", path, xset),
	c(unix.SYS_FCHMODAT, "v", dirfd, path, mode), c(unix.SYS_FACCESSAT, "v", dirfd, path, num(0, 4, 7, 8)), c(unix.SYS_MKNODAT, "v", dirfd, path, num(0, unix.S_IFIFO|0o600, unix.S_IFBLK), num(0, 0x103)),
	c(unix.SYS_UTIME, "v", path, words(2, 0, 1, 1e9)), c(unix.SYS_UTIMES, "v", path, words(4, 0, 1, 999999, 1000000, -1)), c(unix.SYS_FUTIMESAT, "v", dirfd, path, words(4, 0, 1, 999999, 1000000)),
	c(unix.SYS_UTIMENSAT, "v", fd, zero, words(4, 0, 1, unix.UTIME_NOW, unix.UTIME_OMIT), zero), c(unix.SYS_RENAMEAT, "v", dirfd, path, dirfd, path),
	c(unix.SYS_LINKAT, "v", dirfd, path, dirfd, path, atFlags), c(unix.SYS_RENAMEAT2, "v", dirfd, path, dirfd, path, flags(1, 2)), c(unix.SYS_GETDENTS, "v", fd, buf(4096), num(4096, 0, 20)),
	c(unix.SYS_PREADV, "v", fd, iov, num(0, 1, 3, -1), off, zero), c(unix.SYS_PWRITEV, "v", fd, iov, num(0, 1, 3, -1), off, zero),
	c(unix.SYS_COPY_FILE_RANGE, "v", fd, words(1, 0, 5, -1, 1<<62), fd, words(1, 0, 3, 8000, -1), size, zero), c(unix.SYS_SPLICE, "v", fd, words(1, 0, 5, -1), fd, zero, size, flags(2)), c(unix.SYS_SPLICE, "v", fd, zero, fd, words(1, 0, 5, -1), size, flags(2)),
	c(unix.SYS_SYNCFS, "v", fd), c(unix.SYS_OPENAT, "v", dirfd, path, num(unix.O_TMPFILE|unix.O_RDWR, unix.O_TMPFILE|unix.O_RDONLY, unix.O_TMPFILE|unix.O_WRONLY|unix.O_EXCL, unix.O_DIRECT|unix.O_RDWR|unix.O_CREAT), mode).gives("fd"),
	c(unix.SYS_FCNTL, "v", fd, num(unix.F_SETLEASE), num(0, 1, 2, 3)), c(unix.SYS_FCNTL, "v", fd, num(unix.F_NOTIFY), num(0, 1, 2, 4, 8, 0x80000001-1<<32)), c(unix.SYS_FCNTL, "v", fd, num(unix.F_SETLKW, unix.F_OFD_SETLKW), flock),
	c(unix.SYS_FCNTL, "v", fd, num(unix.F_SETOWN), num(0, 99999, -1)), c(unix.SYS_FCNTL, "v", fd, num(unix.F_SETOWN_EX, unix.F_GETOWN_EX), words32(2, 0, 1, 2, 3, 99999)),
	c(unix.SYS_FCNTL, "v", fd, num(unix.F_GET_RW_HINT, unix.F_SET_RW_HINT), words(1, 0, 1, 5, 6)), c(unix.SYS_FCNTL, "v", fd, anything(45), num(0, 1)), c(unix.SYS_FCNTL, "v", fd, num(1025, 1029, 1030, 1031, 1033, 1034, 1035, 1040), num(0, 1, 4096)),
	c(unix.SYS_FLOCK, "v", fd, num(1, 2, 4, 5, 6, 8, 12, 32, 64)), c(unix.SYS_IOCTL, "v", fd, num(1, 2, 0x5460, 0x541b, 0x5413, 0x540f, 0x8905, 0x8901, 0x8902, 0x8903, 0x8904, 0x8906, 0x1260), words(1, 0, 1, 99999)),
	c(unix.SYS_NAME_TO_HANDLE_AT, "v", dirfd, path, words32(2, 0, 8, 16, 128, 129), buf(4), num(0, 0x400, 0x1000, 1)), c(unix.SYS_OPEN_BY_HANDLE_AT, "v", dirfd, words32(6, 0, 12, 1), num(0, 2)),
	c(unix.SYS_INOTIFY_ADD_WATCH, "v", fd, path, num(0, 0xfff, 0x80000002, 0x40000fff, 0x20000100, 0x10000fff, 0x30000001)), c(unix.SYS_EXECVE, "v", path, zero, zero), c(unix.SYS_EXECVE, "v", path, words(2, 0, 1), zero),
	c(unix.SYS_EXECVEAT, "v", dirfd, path, zero, zero, atFlags), c(unix.SYS_SYSFS, "v", num(0, 1, 2, 4), num(0)), c(unix.SYS_USTAT, "v", num(0, 99999), buf(32)),
)

// asking is what asks for privileges that the programs do not have: what is looked at before.
// Not made: what the table has as ENOSYS with its reason (swapon, acct, ioperm, iopl, modules,
// keys), and fanotify, landlock and userfaultfd, which hosts have in other versions.
var asking = list(
	c(unix.SYS_MOUNT, "v", path, path, raw("tmpfs\x00", "nofs\x00", "\x00"), flags(unix.MS_BIND, unix.MS_REMOUNT, unix.MS_PRIVATE, unix.MS_MOVE, unix.MS_RDONLY), zero), c(unix.SYS_UMOUNT2, "v", path, num(0, 1, 2, 4, 8, 16)),
	c(unix.SYS_PIVOT_ROOT, "v", path, path), c(unix.SYS_OPEN_TREE, "v", dirfd, path, num(0, 1, 0x80000, 0x1000, 2)).gives("fd"), c(unix.SYS_MOVE_MOUNT, "v", dirfd, path, dirfd, path, num(0, 4, 0x400)), c(unix.SYS_FSOPEN, "v", raw("tmpfs\x00", "x\x00"), num(0, 1, 2)),
	c(unix.SYS_FSCONFIG, "v", fd, num(0, 1, 5, 6, 9), raw("size\x00"), raw("1m\x00"), zero), c(unix.SYS_FSMOUNT, "v", fd, num(0, 1, 2), num(0, 1)), c(unix.SYS_FSPICK, "v", dirfd, path, num(0, 1, 16)), c(unix.SYS_MOUNT_SETATTR, "v", dirfd, path, num(0, 0x1000, 1), words(4, 0, 1), num(32, 16, 0, 4097)),
	c(unix.SYS_SETDOMAINNAME, "v", text, num(0, 1, 65, -1)), c(unix.SYS_SETTIMEOFDAY, "v", words(2, 0, 1e9, -1), zero), c(unix.SYS_SYSLOG, "v", num(-1, 0, 1, 5, 9, 11), zero, zero),
	c(unix.SYS_VHANGUP, "v"), c(unix.SYS_REBOOT, "v", num(0xfee1dead, 0), num(672274793, 0), zero), c(unix.SYS_SETNS, "v", fd, num(0, 1, 0x20000)),
	c(unix.SYS_UNSHARE, "v", num(unix.CLONE_NEWNS, unix.CLONE_NEWPID, unix.CLONE_NEWNET, unix.CLONE_SIGHAND, unix.CLONE_THREAD, unix.CLONE_VM, unix.CLONE_SYSVSEM)), c(unix.SYS_ADJTIMEX, "s", words(26, 0)), c(unix.SYS_CLOCK_ADJTIME, "s", clocks, words(26, 0)),
	c(unix.SYS_PTRACE, "v", num(1, 7, 12, 16, 17, 24, 0x4200, 0x4206, 0x4207, 0x4208, 99), num(0, 1, 99999, -1), zero, zero), c(unix.SYS_CLONE, "v", num(unix.CLONE_THREAD, unix.CLONE_SIGHAND, unix.CLONE_NEWNS|unix.CLONE_FS, unix.CLONE_NEWNET, unix.CLONE_PIDFD|unix.CLONE_DETACHED), zero),
	// Nothing that makes a child, whose lines would race with the parent's.
	c(unix.SYS_CLONE3, "v", words(11, 1<<40, 1<<40, 1<<41), num(0, 63, 88, 4097)),
	c(unix.SYS_SETGROUPS, "v", num(0, 1, 65537), words32(1, 0, 1000)), c(unix.SYS_SETREGID, "v", idv, idv), c(unix.SYS_SETRESGID, "v", idv, idv, idv), c(unix.SYS_SETFSGID, "v", idv), c(unix.SYS_GETRESUID, "v", buf(4), buf(4), buf(4)).shows("o 2 4"), c(unix.SYS_CAPSET, "v", words32(2, 0x20080522, 0, 99999), words32(6, 0, 1)),
)

var ipc = list(
	c(unix.SYS_MSGGET, "s", num(0, 0, 1, 2), num(0o600, 0o1600, 0o3600, 0o200)).gives("msq"), c(unix.SYS_MSGGET, "s", zero, num(0o600)).gives("msq"),
	c(unix.SYS_MSGSND, "v", ref("msq", -1, 99999), words(5, 1, 2, 3, 0, -1), num(0, 1, 16, 32, 8193, -1), num(0, 0x800)), c(unix.SYS_MSGSND, "v", ref("msq", -1), words(5, 1, 2, 3), num(1, 16), num(0x800)),
	c(unix.SYS_MSGRCV, "v", ref("msq", -1, 99999), buf(64), num(0, 1, 16, 32, -1), num(0, 1, 2, -2, -1), flags(0x800, 0x800, 0x1000, 0x2000, 0x4000)).shows("o 1 -1"), c(unix.SYS_MSGCTL, "v", ref("msq", -1, 99999), num(0, 1, 2, 3, 11, 12, 13, 99), buf(120)),
	c(unix.SYS_SEMGET, "s", num(0, 0, 1, 2), num(0, 1, 3, 32001, -1), num(0o600, 0o1600, 0o3600)).gives("sem"), c(unix.SYS_SEMGET, "s", zero, num(2), num(0o600)).gives("sem"),
	c(unix.SYS_SEMOP, "v", ref("sem", -1, 99999), sembufs, num(0, 1, 2, 501)), c(unix.SYS_SEMTIMEDOP, "v", ref("sem", -1), sembufs, num(1, 2), some), c(unix.SYS_SEMCTL, "v", ref("sem", -1, 99999), num(0, 1, 2, -1), num(0, 1, 2, 3, 11, 12, 14, 15, 16, 17, 99), num(0, 1, 32768)),
	c(unix.SYS_SEMCTL, "v", ref("sem", -1), num(0, 1), num(16, 16, 12), num(0, 1, 5, 32767)),
	c(unix.SYS_SHMGET, "s", num(0, 0, 1, 2), num(0, 1, 4096, 10000, -1), num(0o600, 0o1600, 0o3600)).gives("shm"), c(unix.SYS_SHMGET, "s", zero, num(8192), num(0o600)).gives("shm"),
	c(unix.SYS_SHMAT, "a", ref("shm", -1, 99999), page, num(0, 0x1000, 0x4000, 0x5000, 0x2000, 0x8000, 0xd000)), c(unix.SYS_SHMDT, "v", page), c(unix.SYS_SHMCTL, "v", ref("shm", -1, 99999), num(0, 1, 2, 3, 11, 12, 13, 99), buf(120)),
	c(unix.SYS_MQ_OPEN, "v", raw("q1\x00", "q2\x00", "q1\x00", "/q1\x00", "\x00", ".\x00", "a/b\x00"), num(0, 1, 2, 0o102, 0o302, 0o4102, 0o100, 3), mode, zero).gives("fd"), c(unix.SYS_MQ_OPEN, "v", raw("q1\x00", "q2\x00"), num(0o4102), num(0o600), zero).gives("fd"),
	c(unix.SYS_MQ_OPEN, "v", raw("q1\x00", "q2\x00"), num(0o4102, 0o302), num(0o600), words(4, 0, 1, 8, 10, 11, 8192, -1)).gives("fd"), c(unix.SYS_MQ_UNLINK, "v", raw("q1\x00", "q2\x00", "x\x00", "\x00")),
	c(unix.SYS_MQ_TIMEDSEND, "v", fd, text, num(0, 1, 8, 8192, 8193), num(0, 1, 32767, 32768), timeout), c(unix.SYS_MQ_TIMEDRECEIVE, "v", fd, buf(8192), num(0, 8, 8192), buf(4), timeout), c(unix.SYS_MQ_GETSETATTR, "v", fd, words(4, 0, 0x800, 1), buf(64)), c(unix.SYS_MQ_GETSETATTR, "v", fd, zero, buf(64)).shows("o 2 32"),
	c(unix.SYS_MQ_NOTIFY, "v", fd, zero), c(unix.SYS_MQ_NOTIFY, "v", fd, words32(16, 0, 1, 2, 10)),
)

// sembufs are two struct sembuf.
func sembufs(g *gen) string {
	if g.IntN(30) == 0 {
		return bad(g)
	}
	var b []byte
	for range 2 {
		b = binary.LittleEndian.AppendUint16(b, uint16(pick(g, 0, 1, 2, 0)))
		b = binary.LittleEndian.AppendUint16(b, uint16(pick(g, 0, 1, -1, 5, 32767)))
		b = binary.LittleEndian.AppendUint16(b, uint16(pick(g, 0, 0x800, 0x800, 0x1800, 0x1000)))
	}
	return g.data(b)
}

var moresignals = list(
	c(unix.SYS_RT_SIGACTION, "v", num(0, 9, 10, 12, 17, 19, 34, 64, 65, -1), words(4, 0, 1), num(0, 0), num(8, 8, 4)), c(unix.SYS_RT_SIGACTION, "v", num(10, 12, 64), words(4, 0, 1), zero, num(8)), c(unix.SYS_RT_TGSIGQUEUEINFO, "v", num(0, 99999, -1), num(0, 1, -1), sig, words32(32, 0, 10, -1)),
	c(unix.SYS_TIMER_CREATE, "s", clocks, words32(16, 0, 1, 2, 3, 10, 65), buf(8)), c(unix.SYS_TIMER_CREATE, "s", num(0, 1), raw("\x00\x00\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x00\x00"+string(make([]byte, 48))), buf(8)),
	c(unix.SYS_TIMER_SETTIME, "v", num(0, 1, 2, -1), num(0, 1, 2), words(4, 0, 0, 1e9-1, 1e9, -1), buf(32)), c(unix.SYS_TIMER_GETTIME, "s", num(0, 1, 2, -1), buf(32)), c(unix.SYS_TIMER_GETOVERRUN, "v", num(0, 1, 2, -1)), c(unix.SYS_TIMER_DELETE, "v", num(0, 1, 2)),
	c(unix.SYS_SETITIMER, "v", num(1, 2, 3, -1), words(4, 100000, 100000, 999999, 1000000, -1), buf(32)), c(unix.SYS_TIMERFD_SETTIME, "v", fd, num(0, 1, 3), words(4, 0, 0, 100000, 1e9-1), buf(32)), c(unix.SYS_PSELECT6, "v", num(0, 5, 64, -1), words(16, 0, 8, 0x18), zero, zero, some, zero),
	c(unix.SYS_EPOLL_PWAIT, "v", fd, buf(120), num(1, 8, 0, -1), num(0, 1), words(1, 0, 0x200), num(8, 4)), c(unix.SYS_RT_SIGPENDING, "v", buf(8), num(8)).shows("o 0 8"), c(unix.SYS_SIGALTSTACK, "v", words(3, 0, 1, 2, 4, 0x300000000, 2048, 1<<31), buf(24)),
	c(unix.SYS_CLOCK_NANOSLEEP, "s", num(2, 3, 4, 5, 6, 8, 9, 11, 12, -2, -6, -1), num(0, 1), some, zero), c(unix.SYS_CLOCK_GETTIME, "s", num(4, 5, 6, 7, 8, 9, 10, 11, 12, -2, -6, -7, -1), buf(16)), c(unix.SYS_CLOCK_GETRES, "s", num(4, 5, 6, 8, 9, 11, 12, -2, -6, -7), buf(16)),
	c(unix.SYS_PIDFD_SEND_SIGNAL, "v", fd, num(0, 65), words32(32, 0, 10), zero), c(unix.SYS_WAITID, "v", num(3), fd, buf(128), num(4, 5, 4|0x40000000), zero), c(unix.SYS_TIME, "s", buf(8)),
)

var scheduling = list(
	c(unix.SYS_SCHED_SETAFFINITY, "v", num(0, 99999, -1), num(8, 0, 4, 128, -1), words(16, 0, 1, 2, 3, -1)), c(unix.SYS_SCHED_GETAFFINITY, "s", num(0, 99999, -1), num(8, 4, 128, 7), buf(128)), c(unix.SYS_SCHED_SETATTR, "v", num(0, 99999, -1), words(8, 48, 56, 0, 1, 47), num(0, 1)),
	c(unix.SYS_SCHED_GETATTR, "v", num(0, 99999, -1), buf(64), num(48, 56, 47, 4097), num(0, 1)), c(unix.SYS_SCHED_RR_GET_INTERVAL, "s", num(0, 99999, -1), buf(16)), c(unix.SYS_SCHED_GET_PRIORITY_MIN, "v", num(0, 1, 2, 3, 4, 5, 6, 7)), c(unix.SYS_SCHED_SETSCHEDULER, "v", zero, num(0, 3, 5, 0x40000000, 0x40000003), words32(1, 0)),
	c(unix.SYS_PRCTL, "v", but(anything(60), "14", "22", "26", "34", "35", "59"), num(0, 1, 2, 3, -1), num(0, 0, 1), num(0, 0, 1), num(0, 0, 1)), c(unix.SYS_PRCTL, "v", num(23, 24, 47, 38, 37, 2, 25), num(0, 1, 2, 3, 4, 40, 41), num(0, 1, 41), zero, zero),
	c(unix.SYS_ARCH_PRCTL, "s", num(0x1003, 0x1004, 0x1011, 0x3001, 99), buf(8)), c(unix.SYS_GETCPU, "s", buf(4), buf(4), zero), c(unix.SYS_PRLIMIT64, "v", num(0, 1, 99999), num(0, 3, 7, 14, 15), zero, buf(16)), c(unix.SYS_SETRLIMIT, "v", num(3, 5, 6, 7, 8, 10, 12, 16), words(2, 0, 1, 64, 100, -1)),
	c(unix.SYS_IOPRIO_SET, "v", num(1, 2, 3), num(0, 99999), num(0, 0x2000, 0x4003, 0x4008, 0x6007, 0x8000)), c(unix.SYS_SETPRIORITY, "v", num(0, 1, 2, 3), num(0, 99999), num(0, 10, -20, 100)), c(unix.SYS_KCMP, "v", num(0), num(0), num(0, 7, 8), zero, zero), c(unix.SYS_PERSONALITY, "v", num(0xffffffff, 0, 0x40000)),
	c(unix.SYS_MEMBARRIER, "v", num(0, 4, 8, 16, 32, 64, 128, 256, 512), num(0, 1), zero), c(unix.SYS_SECCOMP, "v", num(0, 1, 2, 3, 9), num(0, 1, 99), zero), c(unix.SYS_WAIT4, "s", num(-1, 0), buf(4), num(unix.WNOHANG, 0x80000001, 0x40000000|unix.WNOHANG), buf(144)),
	c(unix.SYS_EXIT, "v", num(0, 5, 256)), c(unix.SYS_PROCESS_VM_WRITEV, "v", num(0, 1, 99999), iov, num(0, 1), iov, num(0, 1), num(0, 1)), c(unix.SYS_PROCESS_MADVISE, "v", fd, iov, num(0, 1), num(20, 21, 4), num(0, 1)), c(unix.SYS_PROCESS_MRELEASE, "v", fd, num(0, 1)),
	c(unix.SYS_MREMAP, "a", page, num(0, 4096, 8192, 4097), num(4096, 16384, 1<<40, 0), num(1, 3, 5, 7), page), c(unix.SYS_MMAP, "a", page, span, prot, oneOf([]int{0x12, 0x32, 0x122, 0x2032, 0x8032, 0x10032, 0x100022, 0x13, 0x40022}), num(-1), zero), c(unix.SYS_MADVISE, "v", page, num(4096, 8192), num(4, 9, 10, 11, 12, 13, 16, 17, 18, 19, 22, 23, 24, 25, 100)),
)

// control is control data with descriptors, credentials or rubbish.
func control(g *gen) []byte {
	var b []byte
	for range 1 + g.IntN(2) {
		typ := pick(g, 1, 1, 1, 2, 3)
		var data []byte
		for range pick(g, 1, 1, 2, 3) {
			data = binary.LittleEndian.AppendUint32(data, uint32(pick(g, 3, 4, 5, 0, 1000, 40, -1)))
		}
		b = binary.LittleEndian.AppendUint64(b, uint64(pick(g, 16+len(data), 16+len(data), 15, 200)))
		b = binary.LittleEndian.AppendUint32(b, uint32(pick(g, unix.SOL_SOCKET, unix.SOL_SOCKET, unix.SOL_IP, 99)))
		b = binary.LittleEndian.AppendUint32(b, uint32(typ))
		b = append(b, data...)
		b = append(b, make([]byte, -len(b)&7)...)
	}
	return b
}

// arena is the address of an argument that data gave.
func arena(arg string) uint64 {
	n := uint64(0)
	for _, c := range arg[1:] {
		n = n*10 + uint64(c-'0')
	}
	return 0x300000000 + n
}

// message is a struct msghdr with a name and control data, n of them (struct mmsghdr).
func message(n int, with bool) arg {
	return func(g *gen) string {
		var all []byte
		for range n {
			b := make([]byte, 56, 64)
			le := binary.LittleEndian
			if v := iov(g); v[0] == 'b' {
				le.PutUint64(b[16:], arena(v))
				le.PutUint64(b[24:], uint64(pick(g, 1, 2, 3, 0)))
			}
			if g.IntN(3) == 0 {
				if a := addr(g); a[0] == 'b' {
					le.PutUint64(b, arena(a))
					le.PutUint32(b[8:], uint32(pick(g, 16, 110, 2, 0, -1)))
				}
			}
			if with || g.IntN(2) == 0 {
				c := control(g)
				le.PutUint64(b[32:], arena(g.data(c)))
				le.PutUint64(b[40:], uint64(pick(g, len(c), len(c), 16, 8, 0, 20, 24)))
			}
			if n > 1 {
				b = b[:64]
			}
			all = append(all, b...)
		}
		return g.data(all)
	}
}

// inet6 is a struct sockaddr_in6 on loopback.
func inet6(g *gen) string {
	b := make([]byte, 28)
	binary.LittleEndian.PutUint16(b, uint16(pick(g, unix.AF_INET6, unix.AF_INET6, unix.AF_INET6, unix.AF_INET)))
	binary.BigEndian.PutUint16(b[2:], uint16(pick(g, 5000, 5001, 0, 80)))
	copy(b[8:], pick(g, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", "", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x7f\x00\x00\x01", "\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"))
	return g.data(b)
}

var moresockets = list(
	c(unix.SYS_SOCKET, "v", num(unix.AF_INET6), num(1|unix.SOCK_NONBLOCK, 2|unix.SOCK_NONBLOCK), zero).gives("fd"), c(unix.SYS_BIND, "v", fd, inet6, num(28, 24, 16, 27)), c(unix.SYS_CONNECT, "v", fd, inet6, num(28, 24, 16)), c(unix.SYS_SENDTO, "v", fd, text, num(0, 1, 20), msgs, inet6, num(28, 24)),
	c(unix.SYS_SENDMSG, "v", fd, message(1, true), msgs), c(unix.SYS_RECVMSG, "v", fd, message(1, true), msgs).shows("o 1 56"), c(unix.SYS_SENDMMSG, "v", fd, message(2, false), num(0, 1, 2), msgs), c(unix.SYS_RECVMMSG, "v", fd, message(2, false), num(0, 1, 2), msgs, some),
	c(unix.SYS_SOCKETPAIR, "v", num(unix.AF_UNIX), num(1|unix.SOCK_NONBLOCK, 2|unix.SOCK_NONBLOCK, 5|unix.SOCK_NONBLOCK), zero, buf(8)).gives("fd").shows("F 3"), c(unix.SYS_ACCEPT, "v", fd, buf(110), words32(1, 110, 0, 16, -1)).gives("fd"),
	c(unix.SYS_RECVFROM, "v", fd, buf(64), num(0, 1, 64), flags(unix.MSG_DONTWAIT, unix.MSG_PEEK, unix.MSG_OOB, unix.MSG_TRUNC), buf(110), words32(1, 110, 0, 16, -1)), c(unix.SYS_SENDTO, "v", fd, text, num(0, 1, 32), flags(unix.MSG_OOB, unix.MSG_MORE, unix.MSG_DONTWAIT, unix.MSG_EOR, unix.MSG_CONFIRM, unix.MSG_DONTROUTE), zero, zero),
	c(unix.SYS_SETSOCKOPT, "v", fd, num(unix.SOL_SOCKET), but(anything(78), "26", "27", "50", "51", "52", "62"), words32(4, 0, 1, 7, 100, -1), num(4, 8, 16, 1, 0, -1)), c(unix.SYS_SETSOCKOPT, "v", fd, num(unix.SOL_IP), but(anything(52), "51"), words32(4, 0, 1, 7, 100, -1), num(4, 8, 1, 0)), c(unix.SYS_SETSOCKOPT, "v", fd, num(unix.SOL_IPV6), but(anything(82), "6"), words32(5, 0, 1, 7, 100, -1), num(4, 20, 8, 1, 0)),
	c(unix.SYS_SETSOCKOPT, "v", fd, num(unix.SOL_TCP), anything(37), words32(4, 0, 1, 7, 100, -1), num(4, 8, 1, 0)), c(unix.SYS_SETSOCKOPT, "v", fd, num(unix.SOL_UDP, unix.SOL_RAW, 255), num(1, 101, 103, 104, 7), words32(1, 0, 1, 7, -1), num(4, 0)),
	c(unix.SYS_GETSOCKOPT, "v", fd, num(unix.SOL_SOCKET), but(anything(78), "26", "51"), buf(64), words32(1, 4, 16, 2, 0, -1)), c(unix.SYS_GETSOCKOPT, "v", fd, num(unix.SOL_IP), but(anything(52), "51"), buf(64), words32(1, 4, 16, 1, 0, -1)), c(unix.SYS_GETSOCKOPT, "v", fd, num(unix.SOL_IPV6), anything(82), buf(64), words32(1, 4, 20, 1, 0, -1)),
	c(unix.SYS_GETSOCKOPT, "v", fd, num(unix.SOL_TCP), but(anything(37), "35"), buf(256), words32(1, 4, 256, 1, 0, -1)), c(unix.SYS_GETSOCKOPT, "v", fd, num(unix.SOL_UDP), num(1, 100, 101, 103), buf(64), words32(1, 4, 0)), c(unix.SYS_LISTEN, "v", fd, num(1)),
)

var (
	wideFamilies = append(families[:len(families):len(families)], join(files, morefiles), join(names, morefiles), asking, ipc, join(ipc, signals), moresignals,
		join(moresignals, streams), scheduling, join(scheduling, memory), moresockets, join(sockets, moresockets), join(streams, moresockets))
	wideAll = join(all, morefiles, asking, ipc, moresignals, scheduling, moresockets)
)
