package fuzz

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// arg makes an argument.
type arg func(g *gen) string

// spec is a system call to try. ret and after are the executor's, with the number of the
// argument in place of an offset; makes is the resource that the result is.
type spec struct {
	nr    int
	ret   string
	args  []arg
	makes string
	after string
}

func num[T int | uint64 | int64](v ...T) arg {
	return func(g *gen) string { return fmt.Sprintf("i%d", uint64(pick(g, v...))) }
}

// flags is none, one or some of the bits.
func flags(bits ...int) arg {
	return func(g *gen) string {
		n := 0
		for range g.IntN(4) {
			n |= pick(g, bits...)
		}
		return fmt.Sprintf("i%d", n)
	}
}

// oneOf is a value, with flags or'ed to it.
func oneOf(values []int, bits ...int) arg {
	return func(g *gen) string {
		n := pick(g, values...)
		for i := g.IntN(3); i > 0 && len(bits) > 0; i-- {
			n |= pick(g, bits...)
		}
		return fmt.Sprintf("i%d", uint64(n))
	}
}

// ref is the result of an earlier call that makes a resource, or no such thing.
func ref(kind string, none ...int) arg {
	return func(g *gen) string {
		if l := g.made[kind]; len(l) > 0 && g.IntN(20) > 0 {
			i := l[len(l)-1]
			if g.IntN(2) == 0 {
				i = pick(g, l...)
			}
			r := "r"
			if kind == "fd" && g.IntN(2) == 0 && g.pairs(i) {
				r = "R"
			}
			return fmt.Sprintf("%s%d", r, i)
		}
		return fmt.Sprintf("i%d", uint64(pick(g, none...)))
	}
}

// pairs says whether a line gives two descriptors.
func (g *gen) pairs(i int) bool {
	var nr int
	fmt.Sscanf(g.lines[i], "c %d", &nr)
	return nr == unix.SYS_PIPE2 || nr == unix.SYS_SOCKETPAIR
}

var (
	fd    = ref("fd", -1, 40, 63, 64)
	dirfd = func(g *gen) string {
		if g.IntN(4) > 0 {
			return fmt.Sprintf("i%d", uint64(unix.AT_FDCWD&0xffffffffffffffff))
		}
		return fd(g)
	}
	bad  = num[uint64](0, 1, 0x7ffffffff000, 0xffff800000000000, 0x300010000)
	size = num(0, 1, 2, 7, 8, 16, 24, 100, 4095, 4096, 5000)
	zero = num(0)
	off  = num(0, 1, 10, 4095, 4096, 8192, 100000, 1<<20, -1, 1<<40)
	path = func(g *gen) string {
		if g.IntN(40) == 0 {
			return bad(g)
		}
		return g.data(append([]byte(pick(g, paths...)), 0))
	}
	mode  = num(0, 0o644, 0o755, 0o777, 0o4755, 0o2711, 0o1777, 0o400, 0o200, 0o7777)
	paths = []string{"a", "b", "c", "a", "b", "d", "d/a", "d/b", "d/e", "d/e/f", "l", "l/a", "d/../a", ".", "..", "", "./a/", "a/b", "/", "//tmp",
		"nothere/x", "d/", "l/", string(make0('n', 255)), string(make0('n', 256))}
	page = func(g *gen) string { return g.mapped() }
	span = num(0, 1, 4096, 8192, 12288, 4097, 65536, -1, 1<<40)
	prot = flags(unix.PROT_READ, unix.PROT_WRITE, unix.PROT_EXEC)
	sig  = num(0, 1, 2, 10, 12, 15, 17, 18, 34, 40, 64, 65, -1)
	idv  = num(0, 1000, 1001, -1)
	who  = ref("pid", 0, 1, -1, 99999)
)

func make0(c byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = c
	}
	return b
}

// buf is room for a result, or a bad address.
func buf(n int) arg {
	return func(g *gen) string {
		if g.IntN(30) == 0 {
			return bad(g)
		}
		return fmt.Sprintf("b%d", g.room(n))
	}
}

// words are 64-bit or, below, 32-bit numbers in memory.
func words(n int, v ...int) arg {
	return func(g *gen) string {
		if g.IntN(30) == 0 {
			return bad(g)
		}
		var b []byte
		for range n {
			b = binary.LittleEndian.AppendUint64(b, uint64(pick(g, v...)))
		}
		return g.data(b)
	}
}

func words32(n int, v ...int) arg {
	return func(g *gen) string {
		if g.IntN(30) == 0 {
			return bad(g)
		}
		var b []byte
		for range n {
			b = binary.LittleEndian.AppendUint32(b, uint32(pick(g, v...)))
		}
		return g.data(b)
	}
}

// bytes is text to write.
func text(g *gen) string {
	if g.IntN(30) == 0 {
		return bad(g)
	}
	return g.data([]byte(fmt.Sprintf("%032x", g.Uint64())))
}

// iov is one to three vectors of small sizes.
func iov(g *gen) string {
	if g.IntN(30) == 0 {
		return bad(g)
	}
	var b []byte
	for range 3 {
		b = binary.LittleEndian.AppendUint64(b, 0x300000000+uint64(g.room(64)))
		b = binary.LittleEndian.AppendUint64(b, uint64(pick(g, 0, 1, 16, 64)))
	}
	return g.data(b)
}

// word is a 32-bit word of the mapping arena, or an unaligned one.
func word(g *gen) string {
	if g.IntN(20) == 0 {
		return bad(g)
	}
	return fmt.Sprintf("b%d", pick(g, 60000, 60004, 60008, 60001, 60064))
}

// timeout is a struct timespec, short or wrong.
func timeout(g *gen) string {
	switch g.IntN(8) {
	case 0:
		return bad(g)
	case 1:
		return g.data(binary.LittleEndian.AppendUint64(make([]byte, 8), pick(g, uint64(1e9), 1<<63)))
	}
	return g.data(binary.LittleEndian.AppendUint64(make([]byte, 8), uint64(pick(g, 0, 0, 1000000))))
}

// some is a timeout that is not without end.
func some(g *gen) string {
	if s := timeout(g); s != "i0" {
		return s
	}
	return g.data(make([]byte, 16))
}

// inet is a struct sockaddr_in on loopback.
func inet(g *gen) string {
	b := make([]byte, 16)
	binary.LittleEndian.PutUint16(b, uint16(pick(g, unix.AF_INET, unix.AF_INET, unix.AF_INET, unix.AF_INET6, 0, unix.AF_UNIX)))
	binary.BigEndian.PutUint16(b[2:], uint16(pick(g, 5000, 5001, 5000, 0, 80)))
	copy(b[4:], pick(g, []byte{127, 0, 0, 1}, []byte{127, 0, 0, 1}, []byte{0, 0, 0, 0}, []byte{127, 0, 0, 2}))
	return g.data(b)
}

// local is a struct sockaddr_un.
func local(g *gen) string {
	b := make([]byte, 110)
	binary.LittleEndian.PutUint16(b, uint16(pick(g, unix.AF_UNIX, unix.AF_UNIX, unix.AF_UNIX, unix.AF_INET)))
	copy(b[2:], pick(g, "s", "s", "d/s", "\x00abstract", "a", ""))
	return g.data(b)
}

func addr(g *gen) string {
	switch g.IntN(12) {
	case 0:
		return bad(g)
	case 1, 2, 3, 4:
		return local(g)
	}
	return inet(g)
}

var (
	addrLen = num(16, 16, 110, 3, 2, 0, 200, -1)
	msgs    = flags(unix.MSG_DONTWAIT, unix.MSG_PEEK, unix.MSG_TRUNC, unix.MSG_WAITALL, unix.MSG_NOSIGNAL, unix.MSG_ERRQUEUE)
	opens   = oneOf([]int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, 3}, unix.O_CREAT, unix.O_CREAT, unix.O_EXCL, unix.O_TRUNC, unix.O_APPEND,
		unix.O_NONBLOCK, unix.O_DIRECTORY, unix.O_NOFOLLOW, unix.O_CLOEXEC, unix.O_PATH, unix.O_SYNC)
	atFlags = flags(unix.AT_SYMLINK_NOFOLLOW, unix.AT_SYMLINK_FOLLOW, unix.AT_REMOVEDIR, unix.AT_EMPTY_PATH, unix.AT_EACCESS, 1)
	clocks  = num(unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_PROCESS_CPUTIME_ID, 99, -1)
)

func c(nr int, ret string, args ...arg) spec { return spec{nr: nr, ret: ret, args: args} }
func (s spec) gives(kind string) spec        { s.makes = kind; return s }
func (s spec) shows(after string) spec       { s.after = after; return s }
func list(more ...spec) []spec               { return more }
func join(lists ...[]spec) (out []spec) {
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

var files = list(
	c(unix.SYS_OPENAT, "v", dirfd, path, opens, mode).gives("fd"),
	c(unix.SYS_OPENAT, "v", dirfd, path, num(unix.O_CREAT|unix.O_RDWR), num(0o644)).gives("fd"),
	c(unix.SYS_OPENAT, "v", dirfd, path, num(unix.O_RDONLY|unix.O_DIRECTORY)).gives("fd"),
	c(unix.SYS_CREAT, "v", path, mode).gives("fd"),
	c(unix.SYS_OPENAT2, "v", dirfd, path, func(g *gen) string {
		return g.data(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil,
			uint64(pick(g, 0, 2, unix.O_CREAT|unix.O_RDWR, unix.O_PATH, 1<<40))), uint64(pick(g, 0, 0o644, 0o10000))), uint64(pick(g, 0, 0, 1, 4, 8, 16, 32, 64))))
	}, num(24, 24, 16, 32, 0)).gives("fd"),
	c(unix.SYS_CLOSE, "v", fd), c(unix.SYS_CLOSE_RANGE, "v", num(3, 5, 40, 10), num(2, 40, -1, 5), flags(unix.CLOSE_RANGE_CLOEXEC, unix.CLOSE_RANGE_UNSHARE, 8)),
	c(unix.SYS_READ, "v", fd, buf(5000), size).shows("o 1 -1"), c(unix.SYS_PREAD64, "v", fd, buf(5000), size, off).shows("o 1 -1"),
	c(unix.SYS_WRITE, "v", fd, text, num(0, 1, 10, 32)), c(unix.SYS_PWRITE64, "v", fd, text, num(0, 1, 10, 32), off),
	c(unix.SYS_WRITE, "v", fd, page, num(4096, 10000, 70000)), c(unix.SYS_READ, "v", fd, page, num(4096, 10000)),
	c(unix.SYS_READV, "v", fd, iov, num(0, 1, 2, 3, 1025, -1)), c(unix.SYS_WRITEV, "v", fd, iov, num(0, 1, 2, 3, 1025, -1)),
	c(unix.SYS_PREADV2, "v", fd, iov, num(1, 3), off, zero, flags(1, 2, 4, 8, 16, 512)), c(unix.SYS_PWRITEV2, "v", fd, iov, num(1, 3), off, zero, flags(1, 2, 4, 8, 16, 512)),
	c(unix.SYS_LSEEK, "v", fd, off, num(0, 1, 2, 3, 4, 5, -1)),
	c(unix.SYS_FTRUNCATE, "v", fd, off), c(unix.SYS_TRUNCATE, "v", path, off),
	c(unix.SYS_FALLOCATE, "v", fd, flags(1, 2, 8, 16, 32), off, num(0, 1, 4096, 10000, -1)),
	c(unix.SYS_FSTAT, "v", fd, buf(144)).shows("S 1"), c(unix.SYS_STAT, "v", path, buf(144)).shows("S 1"), c(unix.SYS_LSTAT, "v", path, buf(144)).shows("S 1"),
	c(unix.SYS_NEWFSTATAT, "v", dirfd, path, buf(144), atFlags).shows("S 2"),
	c(unix.SYS_STATX, "v", dirfd, path, atFlags, num(0, 0xfff, 1<<31, 0x7ff), buf(256)),
	c(unix.SYS_FSYNC, "v", fd), c(unix.SYS_FDATASYNC, "v", fd), c(unix.SYS_SYNC_FILE_RANGE, "v", fd, off, num(0, 4096, -1), flags(1, 2, 4, 8)),
	c(unix.SYS_FADVISE64, "v", fd, off, num(0, 4096, -1), num(0, 1, 2, 3, 4, 5, 6, -1)), c(unix.SYS_READAHEAD, "v", fd, off, size),
	c(unix.SYS_COPY_FILE_RANGE, "v", fd, zero, fd, zero, size, num(0, 0, 1)), c(unix.SYS_SENDFILE, "v", fd, fd, zero, size),
	c(unix.SYS_SENDFILE, "v", fd, fd, words(1, 0, 1, 5000, -1), size),
	c(unix.SYS_DUP, "v", fd).gives("fd"), c(unix.SYS_DUP2, "v", fd, num(3, 5, 30, 64, -1)).gives("fd"), c(unix.SYS_DUP3, "v", fd, num(3, 7, 31, 64), flags(unix.O_CLOEXEC, 1)).gives("fd"),
	c(unix.SYS_FCNTL, "v", fd, num(unix.F_DUPFD, unix.F_DUPFD_CLOEXEC), num(0, 3, 20, 63, 64, -1)).gives("fd"),
	c(unix.SYS_FCNTL, "v", fd, num(unix.F_GETFD, unix.F_GETFL, unix.F_GETPIPE_SZ, unix.F_GET_SEALS, unix.F_GETOWN, unix.F_GETSIG, unix.F_GETLEASE)),
	c(unix.SYS_FCNTL, "v", fd, num(unix.F_SETFD, unix.F_SETFL, unix.F_SETSIG), num(0, 1, unix.O_NONBLOCK, unix.O_APPEND|unix.O_NONBLOCK, 65)),
	c(unix.SYS_FCNTL, "v", fd, num(unix.F_SETPIPE_SZ), num(0, 1, 4096, 5000, 65536, 1<<20, 1<<21, -1)),
	c(unix.SYS_FCNTL, "v", fd, num(unix.F_ADD_SEALS), flags(1, 2, 4, 8, 16, 64)),
	c(unix.SYS_FCNTL, "v", fd, num(unix.F_SETLK, unix.F_OFD_SETLK, unix.F_GETLK, unix.F_OFD_GETLK), flock), c(unix.SYS_FLOCK, "v", fd, num(1|4, 2|4, 8, 0, 3, 1)),
	c(unix.SYS_MEMFD_CREATE, "v", path, flags(unix.MFD_CLOEXEC, unix.MFD_ALLOW_SEALING, 64)).gives("fd"),
	c(unix.SYS_FCHMOD, "v", fd, mode), c(unix.SYS_FCHOWN, "v", fd, idv, idv), c(unix.SYS_FSTATFS, "s", fd, buf(120)), c(unix.SYS_FCHDIR, "v", fd),
	c(unix.SYS_GETDENTS64, "v", fd, buf(4096), num(4096, 0, 1, 24)),
)

func flock(g *gen) string {
	b := make([]byte, 32)
	binary.LittleEndian.PutUint16(b, uint16(pick(g, 0, 1, 2, 3)))
	binary.LittleEndian.PutUint16(b[2:], uint16(pick(g, 0, 0, 1, 2, 3)))
	binary.LittleEndian.PutUint64(b[8:], uint64(pick(g, 0, 10, -1, 100)))
	binary.LittleEndian.PutUint64(b[16:], uint64(pick(g, 0, 10, -5, 100)))
	return g.data(b)
}

var names = list(
	c(unix.SYS_MKDIRAT, "v", dirfd, path, mode), c(unix.SYS_MKDIR, "v", path, num(0o755)), c(unix.SYS_RMDIR, "v", path), c(unix.SYS_UNLINK, "v", path), c(unix.SYS_UNLINKAT, "v", dirfd, path, atFlags),
	c(unix.SYS_RENAME, "v", path, path), c(unix.SYS_RENAMEAT2, "v", dirfd, path, num(unix.AT_FDCWD), path, flags(1, 2, 4, 8)), c(unix.SYS_LINK, "v", path, path),
	c(unix.SYS_LINKAT, "v", dirfd, path, num(unix.AT_FDCWD), path, atFlags), c(unix.SYS_SYMLINK, "v", path, path), c(unix.SYS_SYMLINKAT, "v", path, dirfd, path),
	c(unix.SYS_READLINK, "v", path, buf(300), num(0, 1, 5, 300, -1)).shows("o 1 -1"), c(unix.SYS_READLINKAT, "v", dirfd, path, buf(300), num(300, 2)).shows("o 2 -1"),
	c(unix.SYS_CHMOD, "v", path, mode), c(unix.SYS_FCHMODAT, "v", dirfd, path, mode), c(unix.SYS_CHOWN, "v", path, idv, idv), c(unix.SYS_LCHOWN, "v", path, idv, idv),
	c(unix.SYS_FCHOWNAT, "v", dirfd, path, idv, idv, atFlags), c(unix.SYS_ACCESS, "v", path, num(0, 1, 2, 4, 7, 8, -1)), c(unix.SYS_FACCESSAT2, "v", dirfd, path, num(0, 1, 6, 8), atFlags),
	c(unix.SYS_UMASK, "v", num(0, 0o22, 0o77, 0o777, -1)), c(unix.SYS_CHDIR, "v", path), c(unix.SYS_GETCWD, "v", buf(300), num(300, 0, 1, 5)).shows("o 0 -1"),
	c(unix.SYS_MKNOD, "v", path, num(0, unix.S_IFREG|0o644, unix.S_IFIFO|0o666, unix.S_IFSOCK|0o600, unix.S_IFCHR|0o600, unix.S_IFDIR, 0xf000), zero),
	c(unix.SYS_UTIMENSAT, "v", dirfd, path, words(4, 0, 1, 1e9, unix.UTIME_NOW, unix.UTIME_OMIT, -1), atFlags), c(unix.SYS_STATFS, "s", path, buf(120)),
	c(unix.SYS_GETXATTR, "v", path, xname, buf(64), size), c(unix.SYS_LISTXATTR, "v", path, buf(64), size), c(unix.SYS_CHROOT, "v", path),
	c(unix.SYS_INOTIFY_ADD_WATCH, "v", fd, path, flags(unix.IN_CREATE, unix.IN_DELETE, unix.IN_MODIFY, unix.IN_ALL_EVENTS, unix.IN_ONLYDIR, unix.IN_MASK_ADD, unix.IN_MASK_CREATE)),
	c(unix.SYS_INOTIFY_INIT1, "v", flags(unix.IN_NONBLOCK, unix.IN_CLOEXEC, 1)).gives("fd"), c(unix.SYS_INOTIFY_RM_WATCH, "v", fd, num(1, 2, 0, -1)),
)

func xname(g *gen) string {
	return g.data([]byte(pick(g, "security.x\x00", "x\x00", "system.y\x00", "\x00")))
}

var streams = list(
	c(unix.SYS_PIPE2, "v", buf(8), flags(unix.O_NONBLOCK, unix.O_NONBLOCK, unix.O_CLOEXEC, unix.O_DIRECT, 1)).gives("fd").shows("F 0"),
	c(unix.SYS_PIPE2, "v", buf(8), num(unix.O_NONBLOCK)).gives("fd").shows("F 0"),
	c(unix.SYS_SOCKETPAIR, "v", num(unix.AF_UNIX, unix.AF_INET, 99), oneOf([]int{1, 2, 5, 3}, unix.SOCK_NONBLOCK, unix.SOCK_CLOEXEC), num(0), buf(8)).gives("fd").shows("F 3"),
	c(unix.SYS_SPLICE, "v", fd, zero, fd, zero, size, flags(1, 2, 4, 8, 16)), c(unix.SYS_TEE, "v", fd, fd, size, flags(2, 4)), c(unix.SYS_VMSPLICE, "v", fd, iov, num(1, 2, 0), flags(2, 4, 8)),
	c(unix.SYS_EVENTFD2, "v", num(0, 1, 5, -1), flags(unix.EFD_NONBLOCK, unix.EFD_SEMAPHORE, unix.EFD_CLOEXEC, 2)).gives("fd"),
	c(unix.SYS_WRITE, "v", fd, words(1, 0, 1, 5, -1, -2), num(8, 8, 7)), c(unix.SYS_READ, "v", fd, buf(8), num(8)).shows("o 1 -1"),
	c(unix.SYS_TIMERFD_CREATE, "v", clocks, flags(unix.TFD_NONBLOCK, unix.TFD_CLOEXEC, 1)).gives("fd"),
	c(unix.SYS_TIMERFD_SETTIME, "v", fd, num(0, 1, 2, 4), words(4, 0, 1000, 1e9, -1), num(0)), c(unix.SYS_TIMERFD_GETTIME, "s", fd, buf(32)),
	c(unix.SYS_SIGNALFD4, "v", fd, words(1, 0, 0x200, nearlyAll), num(8, 8, 4), flags(unix.SFD_NONBLOCK, unix.SFD_CLOEXEC)).gives("fd"),
	c(unix.SYS_SIGNALFD4, "v", num(-1), words(1, 0, 0x200, nearlyAll), num(8), num(unix.SFD_NONBLOCK)).gives("fd"),
	c(unix.SYS_EPOLL_CREATE1, "v", flags(unix.EPOLL_CLOEXEC, 1)).gives("fd"), c(unix.SYS_EPOLL_CREATE1, "v", zero).gives("fd"),
	c(unix.SYS_EPOLL_CTL, "v", fd, num(1, 1, 1, 2, 3, 0, 4), fd, event), c(unix.SYS_EPOLL_WAIT, "v", fd, buf(120), num(1, 8), num(0, 0, 1, -1)),
	c(unix.SYS_EPOLL_PWAIT2, "v", fd, buf(120), num(1, 8), some, zero, num(8)),
	c(unix.SYS_POLL, "v", pollfds, num(0, 1, 2, 65), num(0, 0, 1, -1)).shows("o 0 16"), c(unix.SYS_PPOLL, "v", pollfds, num(1, 2), some, zero, num(8)).shows("o 0 16"),
	c(unix.SYS_SELECT, "v", num(0, 5, 8, 64, -1), words(16, 0, 8, 0x18, 0x30), words(16, 0, 8, 0x20), zero, words(2, 0)),
	c(unix.SYS_IOCTL, "v", fd, num(0x5421, 0x5451, 0x5450, unix.TIOCOUTQ, unix.TCGETS, 0x5452, 0x12345), words(1, 0, 1)),
	c(unix.SYS_PIDFD_OPEN, "v", who, flags(unix.PIDFD_NONBLOCK, 1)).gives("fd"), c(unix.SYS_PIDFD_SEND_SIGNAL, "v", fd, num(0, 0, 10, 65), zero, num(0, 16)),
	c(unix.SYS_PIDFD_GETFD, "v", fd, num(0, 3, 40), num(0, 1)).gives("fd"),
)

// nearlyAll is all signals but SIGALRM, by which the executor ends what blocks.
const nearlyAll = -1 &^ (1 << 13)

func event(g *gen) string {
	if g.IntN(30) == 0 {
		return bad(g)
	}
	n := 0
	for range 1 + g.IntN(2) {
		n |= pick(g, unix.EPOLLIN, unix.EPOLLOUT, unix.EPOLLIN|unix.EPOLLOUT, unix.EPOLLET, unix.EPOLLONESHOT, unix.EPOLLEXCLUSIVE, unix.EPOLLRDHUP, 0)
	}
	return g.data(append(binary.LittleEndian.AppendUint32(nil, uint32(n)), 1, 2, 3, 4, 5, 6, 7, 8))
}

func pollfds(g *gen) string {
	if g.IntN(30) == 0 {
		return bad(g)
	}
	var b []byte
	for range 2 {
		b = binary.LittleEndian.AppendUint32(b, uint32(pick(g, 3, 4, 5, 6, 50, -1)))
		b = binary.LittleEndian.AppendUint16(b, uint16(pick(g, 1, 4, 5, 0, 0x2000, 0x7f)))
		b = append(b, 0, 0)
	}
	return g.data(b)
}

var sockets = list(
	c(unix.SYS_SOCKET, "v", num(unix.AF_INET, unix.AF_INET, unix.AF_UNIX), num(1|unix.SOCK_NONBLOCK, 2|unix.SOCK_NONBLOCK), zero).gives("fd"),
	c(unix.SYS_SOCKET, "v", num(unix.AF_INET, unix.AF_UNIX, unix.AF_INET6, 99, -1), oneOf([]int{1, 2, 5, 3, 9}, unix.SOCK_NONBLOCK, unix.SOCK_CLOEXEC), num(0, 0, 0, 6, 17, 1, 300)).gives("fd"),
	c(unix.SYS_BIND, "v", fd, addr, addrLen), c(unix.SYS_CONNECT, "v", fd, addr, addrLen), c(unix.SYS_LISTEN, "v", fd, num(0, 1, 5, -1)),
	c(unix.SYS_BIND, "v", fd, inet, num(16)), c(unix.SYS_CONNECT, "v", fd, inet, num(16)), c(unix.SYS_BIND, "v", fd, local, num(110)), c(unix.SYS_CONNECT, "v", fd, local, num(110)),
	c(unix.SYS_ACCEPT4, "v", fd, zero, zero, flags(unix.SOCK_NONBLOCK, unix.SOCK_NONBLOCK, unix.SOCK_CLOEXEC, 1)).gives("fd"),
	c(unix.SYS_SENDTO, "v", fd, text, num(0, 1, 20, 32), msgs, addr, addrLen), c(unix.SYS_SENDTO, "v", fd, text, num(0, 1, 20, 32), msgs, zero, zero),
	c(unix.SYS_RECVFROM, "v", fd, buf(5000), size, msgs, zero, zero).shows("o 1 -1"), c(unix.SYS_SHUTDOWN, "v", fd, num(0, 1, 2, 3, -1)),
	c(unix.SYS_GETSOCKNAME, "s", fd, buf(110), words32(1, 110, 16, 0, -1)), c(unix.SYS_GETPEERNAME, "s", fd, buf(110), words32(1, 110, 16, 0, -1)),
	c(unix.SYS_SETSOCKOPT, "v", fd, num(unix.SOL_SOCKET), num(unix.SO_REUSEADDR, unix.SO_REUSEPORT, unix.SO_KEEPALIVE, unix.SO_BROADCAST, unix.SO_PASSCRED, unix.SO_OOBINLINE, unix.SO_TYPE, unix.SO_ERROR, unix.SO_PRIORITY, unix.SO_MARK, unix.SO_TIMESTAMP, unix.SO_RCVLOWAT, unix.SO_LINGER, unix.SO_DONTROUTE, 250), words32(2, 0, 1, 7, -1), num(4, 8, 3, 0)),
	c(unix.SYS_SETSOCKOPT, "v", fd, num(unix.SOL_TCP), num(unix.TCP_NODELAY, unix.TCP_CORK, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT, unix.TCP_USER_TIMEOUT, unix.TCP_MAXSEG, unix.TCP_DEFER_ACCEPT, unix.TCP_QUICKACK, 250), words32(2, 0, 1, 100, -1), num(4, 3, 0)),
	c(unix.SYS_SETSOCKOPT, "v", fd, num(unix.SOL_IP, unix.SOL_IPV6, 99), num(unix.IP_TTL, unix.IP_TOS, unix.IP_PKTINFO, unix.IP_RECVTTL, unix.IPV6_V6ONLY, unix.IP_MTU_DISCOVER, 250), words32(2, 0, 1, 64, 256, -1), num(4, 1, 0)),
	c(unix.SYS_GETSOCKOPT, "v", fd, num(unix.SOL_SOCKET), num(unix.SO_REUSEADDR, unix.SO_TYPE, unix.SO_DOMAIN, unix.SO_PROTOCOL, unix.SO_ERROR, unix.SO_ACCEPTCONN, unix.SO_KEEPALIVE, unix.SO_LINGER, unix.SO_PRIORITY, 250), buf(16), words32(1, 4, 8, 2, 0, -1)).shows("o 3 4"),
	c(unix.SYS_GETSOCKOPT, "v", fd, num(unix.SOL_TCP, unix.SOL_IP), num(1, 2, 4, 6, 250), buf(16), words32(1, 4, 8, 2, 0, -1)),
	c(unix.SYS_SENDMSG, "v", fd, msghdr, msgs), c(unix.SYS_RECVMSG, "v", fd, msghdr, msgs),
)

func msghdr(g *gen) string {
	if g.IntN(30) == 0 {
		return bad(g)
	}
	v := iov(g)
	at := uint64(0)
	if v[0] == 'b' {
		fmt.Sscanf(v[1:], "%d", &at)
		at += 0x300000000
	}
	b := make([]byte, 56)
	binary.LittleEndian.PutUint64(b[16:], at)
	binary.LittleEndian.PutUint64(b[24:], uint64(pick(g, 1, 2, 3, 0, 1025)))
	return g.data(b)
}

var memory = list(
	c(unix.SYS_MMAP, "a", page, span, prot, oneOf([]int{unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED, unix.MAP_SHARED | unix.MAP_ANONYMOUS | unix.MAP_FIXED}, unix.MAP_NORESERVE, unix.MAP_POPULATE, unix.MAP_FIXED_NOREPLACE), num(-1), zero),
	c(unix.SYS_MMAP, "a", page, span, prot, num(unix.MAP_PRIVATE|unix.MAP_FIXED, unix.MAP_SHARED|unix.MAP_FIXED, 3|unix.MAP_FIXED, unix.MAP_FIXED), fd, num(0, 4096, 1, 1<<20)),
	c(unix.SYS_MMAP, "a", num(0), span, prot, oneOf([]int{unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, unix.MAP_SHARED | unix.MAP_ANONYMOUS})),
	c(unix.SYS_MUNMAP, "v", page, num(4096, 8192, 0, 4097)), c(unix.SYS_MPROTECT, "v", page, num(0, 4096, 8192, 20000), prot), c(unix.SYS_MPROTECT, "v", page, num(4096), num(0, 1, 3, 5, 7, 8, 1<<24, 0x1000)),
	c(unix.SYS_MREMAP, "a", page, num(0, 4096, 8192), num(0, 4096, 8192, 16384), num(0, 3, 3, 2, 1, 7, 8), page),
	c(unix.SYS_MADVISE, "v", page, num(0, 4096, 8192, 65536), num(0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 99)),
	c(unix.SYS_MINCORE, "v", page, num(4096, 8192, 0, 1<<30), buf(64)), c(unix.SYS_MSYNC, "v", page, num(4096, 8192, 0), flags(1, 2, 4, 8)),
	c(unix.SYS_MLOCK, "v", page, num(0, 4096, 8192, 1<<17)), c(unix.SYS_MUNLOCK, "v", page, num(4096, 1<<17)), c(unix.SYS_MLOCK2, "v", page, num(4096), num(0, 1, 2)), c(unix.SYS_MUNLOCKALL, "v"),
	c(unix.SYS_MLOCKALL, "v", num(0, 4, 8)), c(unix.SYS_REMAP_FILE_PAGES, "v", page, num(4096), num(0, 1), num(0, 1), zero),
	c(unix.SYS_PROCESS_VM_READV, "v", num(0, 1, 99999), iov, num(1, 2), iov, num(1, 2, 0), num(0, 1)),
	c(unix.SYS_MEMBARRIER, "v", num(1, 8, 16, 2, 99), num(0, 1), zero), c(unix.SYS_GETRANDOM, "v", buf(300), num(0, 1, 256), flags(1, 2, 4, 8)),
	c(unix.SYS_FTRUNCATE, "v", fd, num(0, 4096, 100, 8192)), c(unix.SYS_MEMFD_CREATE, "v", path, num(0, 2)).gives("fd"),
)

var signals = list(
	c(unix.SYS_RT_SIGPROCMASK, "v", num(0, 1, 2, 3), words(1, 0, 0x200, 0xa00, nearlyAll), buf(8), num(8, 8, 4)).shows("o 2 8"), c(unix.SYS_RT_SIGPENDING, "v", buf(8), num(8, 4, 16)).shows("o 0 8"),
	c(unix.SYS_RT_SIGTIMEDWAIT, "v", words(1, 0x200, 0xa00, nearlyAll), zero, some, num(8, 8, 4)), c(unix.SYS_RT_SIGQUEUEINFO, "v", num(0, 99999), sig, buf(128)),
	c(unix.SYS_KILL, "v", num(99999), sig), c(unix.SYS_KILL, "v", num(0), num(0, 10, 12, 65, -1)), c(unix.SYS_TGKILL, "v", num(0, -1, 99999), num(1, 0, -1), sig), c(unix.SYS_TKILL, "v", num(99999, 0, -1), sig),
	c(unix.SYS_SIGALTSTACK, "v", words(3, 0, 2, 0x300000000, 0x4000), zero), c(unix.SYS_PAUSE, "v"), c(unix.SYS_RT_SIGSUSPEND, "v", words(1, 0, 0x200), num(8, 4)),
	c(unix.SYS_FUTEX, "v", word, num(0, 128, 256, 9, 137), num(0, 1), timeout, zero, num(0, 1, -1)), c(unix.SYS_FUTEX, "v", word, num(1, 129, 10, 3, 4, 2, 13, 99), num(0, 1, -1, 1<<31), num(0, 1, -1), word, num(0, 1, -1)),
	c(unix.SYS_FUTEX, "v", word, num(5, 133), num(1), num(1), word, num(0, 0x12345678, 0x4000000, -1)), c(unix.SYS_FUTEX, "v", word, num(6, 7, 8, 134, 135), zero, some),
	c(unix.SYS_FUTEX_WAITV, "v", buf(48), num(0, 1, 129), num(0, 1), some, num(0, 1, 99)),
	c(unix.SYS_NANOSLEEP, "s", some, zero), c(unix.SYS_CLOCK_GETTIME, "s", clocks, buf(16)), c(unix.SYS_CLOCK_GETRES, "s", clocks, buf(16)), c(unix.SYS_CLOCK_NANOSLEEP, "s", num(0, 1, 7, 99), num(0, 2), some, zero),
	c(unix.SYS_TIMER_CREATE, "s", clocks, zero, buf(8)), c(unix.SYS_TIMER_DELETE, "v", num(-1, 99)), c(unix.SYS_GETITIMER, "s", num(0, 1, 2, 3, -1), buf(32)), c(unix.SYS_GETTIMEOFDAY, "s", buf(16), zero),
	c(unix.SYS_CLOCK_SETTIME, "v", clocks, words(2, 0, 1e9)),
)

var processes = list(
	c(unix.SYS_WAIT4, "s", num(-1, 0, 99999, -99999), buf(4), flags(unix.WNOHANG, unix.WUNTRACED, unix.WCONTINUED, unix.WNOHANG, 64), zero), c(unix.SYS_WAITID, "v", num(0, 1, 2, 3, 9), num(0, 1, 99999), buf(128), oneOf([]int{0, 4, 5, 1}, 0x1000000, 2, 8, 64), zero),
	c(unix.SYS_GETPGID, "s", num(0, 99999, -1)), c(unix.SYS_SETPGID, "v", num(0, 99999, -1), num(0, -1, 99999)), c(unix.SYS_SETSID, "s"), c(unix.SYS_GETSID, "s", num(0, 99999, -1)), c(unix.SYS_GETPGRP, "s"),
	c(unix.SYS_GETUID, "v"), c(unix.SYS_SETUID, "v", idv), c(unix.SYS_SETGID, "v", idv), c(unix.SYS_SETREUID, "v", idv, idv), c(unix.SYS_SETRESUID, "v", idv, idv, idv), c(unix.SYS_SETFSUID, "v", idv), c(unix.SYS_GETGROUPS, "v", num(0, 1, 10, -1), buf(40)),
	c(unix.SYS_SETGROUPS, "v", num(0, 1, -1), words32(1, 1000)), c(unix.SYS_CAPGET, "v", words32(2, 0x20080522, 0, 0x19980330, 99), buf(24)).shows("o 1 24"),
	c(unix.SYS_PRLIMIT64, "v", zero, num(0, 1, 2, 3, 4, 5, 7, 8, 10, 15, 16, -1), words(2, 0, 1, 30, 64, -1), zero), c(unix.SYS_GETRLIMIT, "v", num(1, 7, 8, 13, 14, 16, 99), buf(16)).shows("o 1 16"), c(unix.SYS_GETRUSAGE, "s", num(0, -1, 1, 5), buf(144)),
	c(unix.SYS_GETPRIORITY, "v", num(0, 1, 2, 3), num(0, 99999)), c(unix.SYS_SETPRIORITY, "v", num(0, 3), num(0, 99999), num(0, 1, 5, 19, 30)), c(unix.SYS_SCHED_GETSCHEDULER, "v", num(0, 99999, -1)), c(unix.SYS_SCHED_GETPARAM, "v", num(0, -1), buf(4)).shows("o 1 4"),
	c(unix.SYS_SCHED_SETSCHEDULER, "v", zero, num(0, 1, 2, 3, 5, 99, -1), words32(1, 0, 1, 50, -1)), c(unix.SYS_SCHED_SETPARAM, "v", zero, words32(1, 0, 1)), c(unix.SYS_SCHED_GET_PRIORITY_MAX, "v", num(0, 1, 2, 3, 5, 6, 99)), c(unix.SYS_SCHED_YIELD, "v"),
	c(unix.SYS_IOPRIO_GET, "s", num(1, 2, 3, 4), num(0, 99999)), c(unix.SYS_IOPRIO_SET, "v", num(1, 4), num(0, 99999), num(0, 0x4000, 0x4007, 0x6000, 0x2000, -1)), c(unix.SYS_PERSONALITY, "v", num(0xffffffff)),
	c(unix.SYS_PRCTL, "v", num(unix.PR_GET_PDEATHSIG, unix.PR_GET_NAME, unix.PR_GET_TID_ADDRESS), buf(16)), c(unix.SYS_PRCTL, "v", num(unix.PR_SET_PDEATHSIG, unix.PR_SET_DUMPABLE, unix.PR_SET_KEEPCAPS, unix.PR_CAPBSET_READ, unix.PR_SET_TIMERSLACK, unix.PR_SET_CHILD_SUBREAPER, unix.PR_SET_NO_NEW_PRIVS, unix.PR_SET_THP_DISABLE, 999), num(0, 1, 2, 9, 64, 65, -1), num(0, 0, 1), zero, zero),
	c(unix.SYS_PRCTL, "v", num(unix.PR_GET_DUMPABLE, unix.PR_GET_KEEPCAPS, unix.PR_GET_TIMERSLACK, unix.PR_GET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP, unix.PR_GET_THP_DISABLE, unix.PR_GET_SECUREBITS), num(0, 0, 1), num(0, 0, 1), zero, zero),
	c(unix.SYS_UNAME, "s", buf(400)), c(unix.SYS_SYSINFO, "s", buf(120)), c(unix.SYS_TIMES, "s", buf(32)), c(unix.SYS_GETTID, "s"), c(unix.SYS_KCMP, "v", num(1, 99999), num(1, 99999), num(0, 1, 2, 99), zero, zero), c(unix.SYS_SETHOSTNAME, "v", text, num(1, 65, -1)),
	c(unix.SYS_UNSHARE, "v", num(0, unix.CLONE_FS, unix.CLONE_FILES, 1, 0x20)), c(unix.SYS_GET_ROBUST_LIST, "s", num(0, 99999), buf(8), buf(8)), c(unix.SYS_SET_ROBUST_LIST, "v", buf(24), num(24, 8)), c(unix.SYS_SET_TID_ADDRESS, "s", buf(4)),
)

// families are calls that have to do with each other.
var families = [][]spec{
	files, join(files, names), join(files, streams), join(streams, sockets), sockets, memory, join(memory, files), signals, join(signals, streams), join(processes, signals),
}

var all = join(files, names, streams, sockets, memory, signals, processes)
