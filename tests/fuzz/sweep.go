package fuzz

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"
)

// The programs of a sweep leave little to chance: every call that takes a descriptor on every
// place (places.go), and every option of every socket.

// sweepSeed is the first seed of a sweep's programs, which Generate makes none from.
const sweepSeed = 1 << 62

// lineRoom is how many lines a program of a sweep may have before the next calls go into
// another: below the executor's MAXLINES, with room for one call's data. dataRoom is the same for
// the arena.
const lineRoom, dataRoom = 110, 55000

// sweep writes programs that begin with a place.
type sweep struct {
	place place
	rand  *rand.Rand
	g     *gen
	port  *int
	out   []Program
	// values are where a program has what it sets options to, lengths where it has lengths to
	// read others with, each with room for the value behind it.
	values  map[uint32]string
	lengths map[int][]int
}

// next is the program to add to.
func (s *sweep) next() *gen {
	if s.g != nil && (len(s.g.lines) > lineRoom || s.g.off > dataRoom) {
		s.end()
	}
	if s.g == nil {
		*s.port++
		s.g = &gen{Rand: s.rand, made: map[string][]int{}}
		s.values, s.lengths = map[uint32]string{}, map[int][]int{}
		s.g.made["fd"] = []int{s.place.open(s.g, *s.port)}
	}
	return s.g
}

func (s *sweep) end() {
	if s.g != nil {
		s.out = append(s.out, Program{Seed: sweepSeed + uint64(*s.port), Text: strings.Join(s.g.lines, "\n") + "\n"})
	}
	s.g = nil
}

// Sweep is all programs of a sweep; turn chooses the order of calls and their arguments.
func Sweep(turn uint64) (out []Program) {
	port := 2000
	for _, f := range []struct {
		places []place
		fill   func(s *sweep)
	}{
		{append(filePlaces(), socketPlaces()...), (*sweep).calls}, {socketPlaces(), (*sweep).options},
	} {
		for i, p := range f.places {
			s := &sweep{place: p, rand: rand.New(rand.NewPCG(turn, uint64(i))), port: &port}
			f.fill(s)
			s.end()
			out = append(out, s.out...)
		}
	}
	return out
}

// calls is each call thrice, in any order.
func (s *sweep) calls() {
	var list []spec
	for range 3 {
		list = append(list, onDescriptors...)
	}
	s.rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for _, c := range list {
		s.next().put(c)
	}
}

type option struct{ level, name int }

// options reads each, sets it to good and bad values, and reads it again.
func (s *sweep) options() {
	for _, o := range allOptions() {
		for _, n := range []int{60, 1, -1} {
			s.getOption(o, n)
		}
		for _, v := range []uint32{1, 100, 0xffffffff, 0} {
			s.setOption(o, v, 4)
			s.getOption(o, 60)
		}
		for _, n := range []int{1, 0, 8, 20} {
			s.setOption(o, 7, n)
		}
	}
}

// valueRoom is the room for a length and an option's value, slots how many of them a line of data has.
const valueRoom, slots = 64, 16

// slot is room for an option that is read into n bytes.
func (s *sweep) slot(g *gen, n int) int {
	if len(s.lengths[n]) == 0 {
		var b []byte
		for range slots {
			b = append(binary.LittleEndian.AppendUint32(b, uint32(n)), make([]byte, valueRoom-4)...)
		}
		at := int(arena(g.data(b)) - arena("b0"))
		for i := range slots {
			s.lengths[n] = append(s.lengths[n], at+i*valueRoom)
		}
	}
	at := s.lengths[n][0]
	s.lengths[n] = s.lengths[n][1:]
	return at
}

// getOption reads an option into n bytes. The length and the value are shown, but for a value that
// may differ.
func (s *sweep) getOption(o option, n int) {
	g := s.next()
	at := s.slot(g, n)
	show := valueRoom
	if maskedOptions[o] {
		show = 0
	}
	g.lines = append(g.lines, fmt.Sprintf("c %d v r%d i%d i%d b%d b%d i0 o %d %d", unix.SYS_GETSOCKOPT, g.made["fd"][0], o.level, o.name, at+4, at, at, show))
}

func (s *sweep) setOption(o option, v uint32, n int) {
	g := s.next()
	if s.values[v] == "" {
		s.values[v] = g.data(append(binary.LittleEndian.AppendUint32(nil, v), make([]byte, 28)...))
	}
	g.lines = append(g.lines, fmt.Sprintf("c %d v r%d i%d i%d %s i%d i0", unix.SYS_SETSOCKOPT, g.made["fd"][0], o.level, o.name, s.values[v], uint32(n)))
}

// allOptions are those below the last of each level but what is left out, and some that are of
// no level.
func allOptions() (out []option) {
	for _, l := range []struct{ level, end int }{{unix.SOL_SOCKET, 80}, {unix.SOL_IP, 52}, {unix.SOL_IPV6, 84}, {unix.SOL_TCP, 42}, {unix.SOL_UDP, 4}, {unix.SOL_NETLINK, 14}} {
		for n := range l.end {
			if o := (option{l.level, n}); !leftOut[o] {
				out = append(out, o)
			}
		}
	}
	for _, n := range []int{101, 102, 103, 104, 250} {
		out = append(out, option{unix.SOL_UDP, n}, option{unix.SOL_IP, n})
	}
	for _, l := range []int{unix.SOL_RAW, 2, 99, 132, 263} {
		out = append(out, option{l, 0}, option{l, 1})
	}
	return out
}

// leftOut are options that docs/caveats.md says are not there, and filters, whose argument is
// longer than a sweep's.
var leftOut = map[option]bool{
	{unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}: true, {unix.SOL_SOCKET, unix.SO_DETACH_FILTER}: true, {unix.SOL_SOCKET, unix.SO_ATTACH_BPF}: true,
	{unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF}: true, {unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF}: true,
	{unix.SOL_IP, 51}: true, {unix.SOL_IP, unix.IP_PKTOPTIONS}: true, {unix.SOL_IPV6, unix.IPV6_PATHMTU}: true, // 51: IP_LOCAL_PORT_RANGE
	{unix.SOL_SOCKET, unix.SO_PEEK_OFF}: true, {unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX}: true,
	{unix.SOL_IPV6, unix.IPV6_2292PKTOPTIONS}: true, {unix.SOL_TCP, unix.TCP_ZEROCOPY_RECEIVE}: true,
}

// maskedOptions are those whose values are sizes of buffers, times, counts, ports, processes or
// the CPU of the moment.
var maskedOptions = map[option]bool{
	{unix.SOL_SOCKET, unix.SO_SNDBUF}: true, {unix.SOL_SOCKET, unix.SO_RCVBUF}: true, {unix.SOL_SOCKET, unix.SO_RCVLOWAT}: true,
	{unix.SOL_SOCKET, unix.SO_PEERNAME}: true, {unix.SOL_SOCKET, unix.SO_PEERCRED}: true, {unix.SOL_SOCKET, unix.SO_INCOMING_CPU}: true,
	{unix.SOL_SOCKET, unix.SO_MEMINFO}: true, {unix.SOL_SOCKET, unix.SO_COOKIE}: true, {unix.SOL_IP, unix.IP_MULTICAST_TTL}: true,
	{unix.SOL_TCP, unix.TCP_MAXSEG}: true, {unix.SOL_TCP, unix.TCP_INFO}: true, {unix.SOL_TCP, unix.TCP_WINDOW_CLAMP}: true,
	{unix.SOL_IPV6, unix.IPV6_MULTICAST_IF}: true, {unix.SOL_IPV6, unix.IPV6_MULTICAST_HOPS}: true, {unix.SOL_TCP, unix.TCP_QUICKACK}: true, {unix.SOL_TCP, unix.TCP_TIMESTAMP}: true,
}

// onDescriptors are the calls that take a descriptor.
var onDescriptors = list(
	c(unix.SYS_FCNTL, "v", fd, but(anything(17), "8"), num(0, 1, 2, 3, -1)), c(unix.SYS_FCNTL, "v", fd, func(g *gen) string { return fmt.Sprintf("i%d", 1024+g.IntN(17)) }, num(0, 1, 2, 3, -1)),
	c(unix.SYS_FCNTL, "v", fd, num(5, 6, 36, 37, 38, 1035, 1036, 1037, 1038, 15, 16), flock),
	c(unix.SYS_IOCTL, "v", fd, anything(256), num(0, 1)), c(unix.SYS_IOCTL, "v", fd, func(g *gen) string { return fmt.Sprintf("i%d", 0x5400+g.IntN(0x100)) }, words(8, 0, 1)),
	c(unix.SYS_IOCTL, "v", fd, func(g *gen) string { return fmt.Sprintf("i%d", 0x8900+g.IntN(0x100)) }, words(8, 0, 1)), c(unix.SYS_IOCTL, "v", fd, num(fileRequests...), words(8, 0, 1, 5)),
	c(unix.SYS_LSEEK, "v", fd, num(0, 1, 299, 300, 301, 4096, -1, 1<<40), num(0, 1, 2, 3, 4, 5, -1)), c(unix.SYS_READ, "v", fd, buf(64), num(0, 1, 4, 7, 8, 16, 64)).shows("o 1 -1"), c(unix.SYS_WRITE, "v", fd, text, num(0, 1, 4, 7, 8, 16)),
	c(unix.SYS_PREAD64, "v", fd, buf(64), num(0, 1, 8, 64), num(0, 1, 299, -1)), c(unix.SYS_PWRITE64, "v", fd, text, num(0, 1, 8), num(0, 1, -1, 1<<40)),
	c(unix.SYS_READV, "v", fd, iov, num(0, 1, 2, 1025)), c(unix.SYS_WRITEV, "v", fd, iov, num(0, 1, 2, 1025)), c(unix.SYS_PREADV, "v", fd, iov, num(0, 1, 2), num(0, 1, -1), zero), c(unix.SYS_PWRITEV, "v", fd, iov, num(0, 1, 2), num(0, 1, -1), zero),
	c(unix.SYS_PREADV2, "v", fd, iov, num(0, 1, 2), num(0, 1, -1), zero, num(0, 1, 2, 4, 8, 16, 32)), c(unix.SYS_PWRITEV2, "v", fd, iov, num(0, 1, 2), num(0, 1, -1), zero, num(0, 1, 2, 4, 8, 16, 32)),
	c(unix.SYS_READ, "v", fd, page, num(0, 4096)), c(unix.SYS_READ, "v", fd, num(0, 1<<47), num(0, 8)), c(unix.SYS_WRITE, "v", fd, num(0, 1<<47), num(0, 8)),
	c(unix.SYS_FSYNC, "v", fd), c(unix.SYS_FDATASYNC, "v", fd), c(unix.SYS_SYNCFS, "v", fd), c(unix.SYS_SYNC_FILE_RANGE, "v", fd, num(0, 4096, -1), num(0, 4096, -1), num(0, 1, 2, 4, 7, 8)),
	c(unix.SYS_FTRUNCATE, "v", fd, num(0, 100, 5000, -1, 1<<40)), c(unix.SYS_FALLOCATE, "v", fd, num(0, 1, 2, 3, 8, 0x10, 0x11, 0x20, 0x40, 9, 0x80), num(0, 4096, -1), num(0, 1, 4096, -1)),
	c(unix.SYS_FADVISE64, "v", fd, num(0, 4096, -1), num(0, 4096, -1), num(0, 1, 2, 3, 4, 5, 6, -1)), c(unix.SYS_READAHEAD, "v", fd, num(0, -1), num(0, 4096, -1)),
	c(unix.SYS_FSTAT, "v", fd, buf(144)).shows("S 1"), c(unix.SYS_FSTATFS, "v", fd, buf(120)).shows("o 1 8"), c(unix.SYS_NEWFSTATAT, "v", fd, raw("\x00", "a\x00", "b\x00", ".\x00"), buf(144), num(0, 0x1000, 0x100, 0x800)).shows("S 2"),
	c(unix.SYS_STATX, "v", fd, raw("\x00", "a\x00"), num(0, 0x1000, 0x2000, 0x6000), num(0, 0xfff), buf(256)).shows("o 4 16"),
	c(unix.SYS_FCHMOD, "v", fd, num(0o644, 0o755, 0o4755, 0o7777)), c(unix.SYS_FCHOWN, "v", fd, num(0, 1000, -1), num(0, 1000, -1)), c(unix.SYS_FCHMODAT, "v", fd, raw("\x00", "a\x00"), num(0o644)), c(unix.SYS_FCHOWNAT, "v", fd, raw("\x00", "a\x00"), num(1000, -1, 0), num(-1), num(0, 0x1000, 0x100)),
	c(unix.SYS_FACCESSAT2, "v", fd, raw("\x00", "a\x00"), num(0, 1, 2, 4), num(0, 0x1000, 0x200, 0x100)), c(unix.SYS_FCHDIR, "v", fd), c(unix.SYS_GETDENTS64, "v", fd, buf(4096), num(4096, 24, 0)), c(unix.SYS_GETDENTS, "v", fd, buf(4096), num(4096, 24, 0)),
	c(unix.SYS_UTIMENSAT, "v", fd, num(0, 0, 1), zero, num(0, 0x100, 0x1000)), c(unix.SYS_UTIMENSAT, "v", fd, raw("\x00", "a\x00"), words(4, 0, unix.UTIME_OMIT), num(0, 0x1000)), c(unix.SYS_FUTIMESAT, "v", fd, num(0), zero),
	c(unix.SYS_FGETXATTR, "v", fd, xnames, buf(64), num(0, 1, 64)), c(unix.SYS_FLISTXATTR, "v", fd, buf(64), num(0, 1, 64)), c(unix.SYS_FSETXATTR, "v", fd, xset, text, num(0, 8), num(0, 1, 2)), c(unix.SYS_FREMOVEXATTR, "v", fd, xset),
	c(unix.SYS_FLOCK, "v", fd, num(5, 6, 8, 0, 4, 1, 2)), c(unix.SYS_EPOLL_CTL, "v", fd, num(0, 1, 2, 3, 4), num(0, 1, 3), event), c(unix.SYS_EPOLL_WAIT, "v", fd, buf(120), num(0, 1, 8, -1), num(0, 1)),
	c(unix.SYS_MMAP, "a", page, num(0, 4096, 8192), num(0, 1, 2, 3, 4, 5, 7), num(0x11, 0x12, 0x13, 0x10, 0x80012, 0x8012, 0x2012, 0x14012, 0x40012, 0x1012), fd, num(0, 4096, 1, 1<<20, -4096)),
	c(unix.SYS_SPLICE, "v", fd, zero, fd, zero, num(0, 1), num(0, 2, 16)), c(unix.SYS_TEE, "v", fd, fd, num(0, 1), num(0, 2, 16)), c(unix.SYS_VMSPLICE, "v", fd, iov, num(0, 1), num(0, 2, 16)),
	c(unix.SYS_SENDFILE, "v", fd, fd, zero, num(0, 1, 100)), c(unix.SYS_COPY_FILE_RANGE, "v", fd, zero, fd, zero, num(0, 1, 100), num(0, 1)), c(unix.SYS_COPY_FILE_RANGE, "v", fd, words(1, 0, 5, -1), fd, words(1, 400, 3, -1), num(0, 1, 100), zero),
	c(unix.SYS_SPLICE, "v", fd, words(1, 0, 5), fd, zero, num(1, 5), num(0, 2)), c(unix.SYS_SPLICE, "v", fd, zero, fd, words(1, 0, 5), num(1, 5), num(0, 2)),
	c(unix.SYS_TIMERFD_SETTIME, "v", fd, num(0, 1, 2), words(4, 0), buf(32)), c(unix.SYS_TIMERFD_GETTIME, "s", fd, buf(32)), c(unix.SYS_SIGNALFD4, "v", fd, words(1, 0, 0x200), num(8, 4), num(0, 0o4000, 1)),
	c(unix.SYS_INOTIFY_ADD_WATCH, "v", fd, raw("a\x00", "d\x00", "x\x00", ".\x00"), num(0, 2, 0xfff)), c(unix.SYS_INOTIFY_RM_WATCH, "v", fd, num(0, 1, 2)),
	c(unix.SYS_PIDFD_SEND_SIGNAL, "v", fd, num(0, 10, 65), zero, num(0, 1)), c(unix.SYS_PIDFD_GETFD, "v", fd, num(0, 1, 99), num(0, 1)), c(unix.SYS_WAITID, "v", num(3), fd, buf(128), num(4, 5), zero), c(unix.SYS_SETNS, "v", fd, num(0, 1, 0x20000)),
	c(unix.SYS_MQ_TIMEDSEND, "v", fd, text, num(0, 1, 8), num(0, 1), timeout), c(unix.SYS_MQ_TIMEDRECEIVE, "v", fd, buf(8192), num(8, 8192), zero, timeout), c(unix.SYS_MQ_GETSETATTR, "v", fd, zero, buf(64)).shows("o 2 32"), c(unix.SYS_MQ_NOTIFY, "v", fd, zero),
	c(unix.SYS_BIND, "v", fd, inet, num(16, 3)), c(unix.SYS_LISTEN, "v", fd, num(0, 1)), c(unix.SYS_GETSOCKNAME, "v", fd, buf(110), words32(1, 110, 0)).shows("o 1 2"), c(unix.SYS_GETPEERNAME, "v", fd, buf(110), words32(1, 110, 0)).shows("o 1 2"),
	c(unix.SYS_GETSOCKOPT, "v", fd, num(1), num(3, 4), buf(4), words32(1, 4)), c(unix.SYS_SHUTDOWN, "v", fd, num(3, -1)),
	c(unix.SYS_SENDTO, "v", fd, text, num(0, 1, 20), num(0x40, 0x4040, 0x44, 0xc0, 0x8040, 0x4000040, 0x10040, 0x20000040, 0x2040), zero, zero), c(unix.SYS_SENDTO, "v", fd, text, num(0, 1), num(0x40), addr, addrLen),
	c(unix.SYS_RECVFROM, "v", fd, buf(64), num(0, 1, 3, 64), num(0x40, 0x42, 0x41, 0x60, 0x62, 0x140, 0x2040, 0x10040, 0x40000040, 0x4040), buf(110), words32(1, 110, 0)).shows("o 1 -1"),
	c(unix.SYS_SENDMSG, "v", fd, message(1, false), num(0x40, 0x4040)), c(unix.SYS_RECVMSG, "v", fd, message(1, false), num(0x40, 0x42, 0x60, 0x2040)).shows("o 1 56"),
	c(unix.SYS_SENDMMSG, "v", fd, message(2, false), num(0, 1, 2), num(0x40)), c(unix.SYS_RECVMMSG, "v", fd, message(2, false), num(0, 1, 2), num(0x40, 0x42), zero),
	c(unix.SYS_ACCEPT4, "v", fd, buf(110), words32(1, 110, 0), num(0, 0o4000, 1)), c(unix.SYS_CONNECT, "v", fd, addr, addrLen),
	c(unix.SYS_OPENAT, "v", fd, raw("\x00", "a\x00", ".\x00", "new\x00"), num(0, unix.O_CREAT|2, unix.O_PATH, unix.O_DIRECTORY)), c(unix.SYS_MKDIRAT, "v", fd, raw("n\x00", "\x00"), num(0o755)), c(unix.SYS_UNLINKAT, "v", fd, raw("n\x00", "\x00"), num(0, 0x200)), c(unix.SYS_READLINKAT, "v", fd, raw("\x00", "l\x00"), buf(64), num(64, 0)),
	c(unix.SYS_LINKAT, "v", fd, raw("\x00"), num(unix.AT_FDCWD), raw("k\x00"), num(0, 0x1000)), c(unix.SYS_NAME_TO_HANDLE_AT, "v", fd, raw("\x00"), words32(4, 0, 8, 128), buf(4), num(0x1000, 0)), c(unix.SYS_EXECVEAT, "v", fd, raw("\x00", "a\x00"), zero, zero, num(0, 0x1000)),
	c(unix.SYS_POLL, "v", func(g *gen) string { return g.data([]byte{byte(3 + g.IntN(6)), 0, 0, 0, 0xff, 0xfd, 0, 0}) }, num(1), num(0)).shows("o 0 8"), // not POLLWRBAND
	c(unix.SYS_PROCESS_MADVISE, "v", fd, iov, num(0, 1), num(20, 21, 4), zero), c(unix.SYS_PROCESS_MRELEASE, "v", fd, num(0, 1)), c(unix.SYS_IO_URING_ENTER, "v", fd, num(0, 1), zero, zero, zero, zero), c(unix.SYS_IO_URING_REGISTER, "v", fd, num(0, 1, 2), zero, zero),
	c(unix.SYS_OPEN_TREE, "v", fd, raw("\x00", "a\x00"), num(0, 0x1000)), c(unix.SYS_FANOTIFY_MARK, "v", fd, num(1), num(2), num(unix.AT_FDCWD), raw("a\x00")),
)

// fileRequests are the requests of ioctl(2) that include/uapi/linux/fs.h and its kin have for
// files, and some of other kinds of descriptors.
var fileRequests = []int{
	0x6601, 0x80086601, 0x40086602, 0x80047601, 0xc0045877, 0xc0045878, 0x40049409, 0x4020940d, 0xc0189436, 0xc020660b, 0x801c581f, 0x401c5820, 0x1260,
	0x5452, 0x5421, 0x5450, 0x5451, 0x5460, 0x541b, 0x5411, 0x40305828, 0x40305829, 0x4030582a, 0x4030582b, 0x40305839, 0x8008ff0a, 0x2401,
}
