// Table replays what the Go runtime asks of its kernel (GO-ON-METAL 1.1), with good and
// bad arguments, and prints a line for each. It runs as a Linux program and as a
// kernel; tests/metal/table_test.go compares the two. No line holds an address, a time
// or a number that the kernel is free to choose.
package main

import (
	"fmt"
	"math/bits"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	_ "kiln/kernel/metal"
)

// Numbers of the calls (asm/unistd_64.h).
const (
	sysRead, sysWrite, sysClose, sysMmap, sysMprotect, sysMunmap  = 0, 1, 3, 9, 10, 11
	sysSigaction, sysSigprocmask, sysPread, sysYield, sysMincore  = 13, 14, 17, 24, 27
	sysMadvise, sysNanosleep, sysGetpid, sysClone, sysKill        = 28, 35, 39, 56, 62
	sysFcntl, sysSigaltstack, sysPrctl, sysArchPrctl, sysGettid   = 72, 131, 157, 158, 186
	sysFutex, sysGetaffinity, sysClockGettime, sysEpollCtl        = 202, 204, 228, 233
	sysTgkill, sysOpenat, sysEpollPwait, sysEventfd2, sysEpollNew = 234, 257, 281, 290, 291
	sysGetrandom                                                  = 318

	page = 4096
	bad  = 8 // an address where nothing can be
)

func call(nr uintptr, a ...uintptr) (uintptr, syscall.Errno) {
	var v [6]uintptr
	copy(v[:], a)
	r, _, e := syscall.Syscall6(nr, v[0], v[1], v[2], v[3], v[4], v[5])
	return r, e
}

// row prints the result of a call as it is; ok prints only whether it succeeded.
func row(name string, nr uintptr, a ...uintptr) uintptr {
	r, e := call(nr, a...)
	if e != 0 {
		fmt.Println("row", name, "errno", int(e))
	} else {
		fmt.Println("row", name, "=", r)
	}
	return r
}

func ok(name string, nr uintptr, a ...uintptr) uintptr {
	r, e := call(nr, a...)
	fmt.Println("row", name, "errno", int(e))
	return r
}

func fact(name string, v ...any) { fmt.Println(append([]any{"row", name}, v...)...) }

func at[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

// word is memory at an address the runtime does not manage.
func word(a uintptr) *uint64 { return *(**uint64)(unsafe.Pointer(&a)) }

func main() {
	runtime.LockOSThread()
	for _, f := range []func(){start, files, memory, reserve, signals, threads, futexes, clocks, events, polling, entropy} {
		f()
	}
	for _, nr := range []uintptr{12, 27, 38, 41, 42, 63, 222, 223, 226, 269, 293, 302} {
		if _, e := call(nr); e == syscall.ENOSYS {
			fmt.Println("absent", nr)
		}
	}
	fmt.Println("end of table")
	os.Exit(0)
}

func start() {
	var fs, again uintptr
	ok("arch_prctl get", sysArchPrctl, 0x1003, at(&fs))
	ok("arch_prctl set", sysArchPrctl, 0x1002, fs)
	call(sysArchPrctl, 0x1003, at(&again))
	fact("arch_prctl same", fs == again && fs != 0)
	row("arch_prctl get, bad address", sysArchPrctl, 0x1003, bad)
	row("arch_prctl unknown", sysArchPrctl, 0x999)
	row("prctl unknown", sysPrctl, 9999)

	var set [128]uint64
	n, e := call(sysGetaffinity, 0, 1024, at(&set))
	cpus := 0
	for _, w := range set[:n/8] {
		cpus += bits.OnesCount64(w)
	}
	fact("sched_getaffinity", e == 0, n%8, cpus == runtime.NumCPU())
	for _, n := range []uintptr{0, 4, 7, 9} {
		row(fmt.Sprint("sched_getaffinity length ", n), sysGetaffinity, 0, n, at(&set))
	}
	row("sched_getaffinity bad address", sysGetaffinity, 0, 1024, bad)
}

func files() {
	name := []byte("/no/such/file\x00")
	row("openat missing", sysOpenat, ^uintptr(99), at(&name[0]), 0)
	row("openat bad address", sysOpenat, ^uintptr(99), bad, 0)
	var b [16]byte
	for _, fd := range []uintptr{1000, ^uintptr(0)} {
		row("read bad fd", sysRead, fd, at(&b[0]), 1)
		row("write bad fd", sysWrite, fd, at(&b[0]), 1)
		row("close bad fd", sysClose, fd)
		row("pread64 bad fd", sysPread, fd, at(&b[0]), 1, 0)
		row("fcntl bad fd", sysFcntl, fd, 1)
	}
	row("write bad address", sysWrite, 1, bad, 1)
	row("write nothing", sysWrite, 1, at(&b[0]), 0)
	for fd := uintptr(0); fd < 3; fd++ {
		row("fcntl F_GETFD", sysFcntl, fd, 1)
		ok("fcntl F_GETFL", sysFcntl, fd, 3)
	}
	row("fcntl unknown", sysFcntl, 1, 9999)
}

const (
	private, fixed, anon, noReplace = 2, 0x10, 0x20, 0x100000
	nobody                          = ^uintptr(0)
)

// faults says whether the kernel finds memory at a that it may write.
func faults(a uintptr) syscall.Errno {
	_, e := call(sysClockGettime, 1, a)
	return e
}

func memory() {
	row("mmap length 0", sysMmap, 0, 0, 3, private|anon, nobody, 0)
	row("mmap no type", sysMmap, 0, page, 3, anon, nobody, 0)
	row("mmap no file", sysMmap, 0, page, 3, private, nobody, 0)
	row("mmap everything", sysMmap, 0, ^uintptr(0), 3, private|anon, nobody, 0)
	row("mmap too much", sysMmap, 0, 1<<47, 0, private|anon, nobody, 0)
	a := ok("mmap", sysMmap, 0, 8*page+1, 3, private|anon, nobody, 0)
	fact("mmap aligned", a%page)
	sum := uint64(0)
	for o := uintptr(0); o < 9*page; o += 8 {
		sum |= *word(a + o)
		*word(a + o) = uint64(o) + 1
	}
	fact("mmap zeroed, rounded up", sum)
	row("mmap fixed unaligned", sysMmap, a+1, page, 3, private|anon|fixed, nobody, 0)
	row("mmap fixed-noreplace", sysMmap, a, page, 3, private|anon|noReplace, nobody, 0)
	r := ok("mmap fixed", sysMmap, a+page, page, 3, private|anon|fixed, nobody, 0)
	fact("mmap fixed there, zero", r == a+page, *word(a + page), *word(a), *word(a + 2*page))

	row("madvise unaligned", sysMadvise, a+1, page, 4)
	row("madvise unknown", sysMadvise, a, page, 1000)
	row("madvise nothing", sysMadvise, a, 0, 4)
	row("madvise DONTNEED", sysMadvise, a+2*page, page, 4)
	fact("madvise DONTNEED zeroes", *word(a + 2*page), *word(a + 3*page))
	ok("madvise NOHUGEPAGE", sysMadvise, a, 4*page, 15)

	row("mprotect unaligned", sysMprotect, a+1, page, 1)
	row("mprotect nothing", sysMprotect, a, 0, 1)
	row("mprotect none", sysMprotect, a+3*page, page, 0)
	fact("mprotect none faults", int(faults(a+3*page)))
	row("mprotect read", sysMprotect, a+3*page, page, 1)
	fact("mprotect read keeps, faults on write", *word(a + 3*page), int(faults(a+3*page)))
	row("mprotect write", sysMprotect, a+3*page, page, 3)
	fact("mprotect write", int(faults(a+3*page+16)), *word(a + 3*page + 8))

	row("munmap unaligned", sysMunmap, a+1, page)
	row("munmap nothing", sysMunmap, a, 0)
	row("munmap", sysMunmap, a+4*page, page)
	fact("munmap faults", int(faults(a+4*page)), int(faults(a+5*page)))
	row("munmap hole", sysMunmap, a+4*page, page)
	row("mprotect hole", sysMprotect, a+3*page, 3*page, 3)
	row("madvise hole", sysMadvise, a+4*page, page, 4)
	row("munmap all", sysMunmap, a, 9*page)
	row("munmap nowhere", sysMunmap, 1<<63-page, page)
}

// reserve does with memory what the runtime's heap does.
func reserve() {
	const size = 64 << 20
	a := ok("reserve", sysMmap, 0, size, 0, private|anon, nobody, 0)
	fact("reserve faults", int(faults(a+size/2)))
	r := ok("commit", sysMmap, a+size/2, 1<<20, 3, private|anon|fixed, nobody, 0)
	fact("commit there", r == a+size/2, int(faults(r)), int(faults(r-page)), int(faults(r+1<<20)))
	ok("trim head", sysMunmap, a, size/4)
	ok("trim tail", sysMunmap, a+3*size/4, size/4)
	h := ok("hint taken", sysMmap, a+size/4, page, 3, private|anon, nobody, 0)
	fact("hint taken, elsewhere", h != a+size/4)
	call(sysMunmap, h, page)
	h = ok("hint free", sysMmap, a+page, page, 3, private|anon, nobody, 0)
	fact("hint free, there", h == a+page, *word(h))
	call(sysMunmap, h, page)
	ok("release", sysMunmap, a, size)
}

type sigset struct{ handler, flags, restorer, mask uintptr }

func signals() {
	var old, now uint64
	usr1, kill := uint64(1<<9), uint64(1<<8|1<<18)
	row("rt_sigprocmask query", sysSigprocmask, 0, 0, at(&old), 8)
	fact("mask at start", old)
	block := usr1 | kill
	row("rt_sigprocmask block", sysSigprocmask, 0, at(&block), 0, 8)
	call(sysSigprocmask, 0, 0, at(&now), 8)
	fact("mask blocked", now)
	row("rt_sigprocmask unblock", sysSigprocmask, 1, at(&usr1), at(&now), 8)
	fact("mask before", now)
	row("rt_sigprocmask set", sysSigprocmask, 2, at(&old), at(&now), 8)
	fact("mask before", now)
	row("rt_sigprocmask how", sysSigprocmask, 9, at(&old), 0, 8)
	row("rt_sigprocmask how, no set", sysSigprocmask, 9, 0, at(&now), 8)
	row("rt_sigprocmask size", sysSigprocmask, 0, at(&old), 0, 4)
	row("rt_sigprocmask bad set", sysSigprocmask, 0, bad, 0, 8)
	row("rt_sigprocmask bad old", sysSigprocmask, 0, 0, bad, 8)

	var was, set, got sigset
	row("rt_sigaction query", sysSigaction, 12, 0, at(&was), 8)
	fact("rt_sigaction runtime's", was.handler > 1, was.restorer != 0, was.flags, was.mask)
	set = sigset{1, 0x14000000, was.restorer, ^uintptr(0)}
	row("rt_sigaction set", sysSigaction, 12, at(&set), at(&got), 8)
	fact("rt_sigaction old", got == was)
	call(sysSigaction, 12, 0, at(&got), 8)
	fact("rt_sigaction new", got.handler, got.flags, got.mask)
	row("rt_sigaction restore", sysSigaction, 12, at(&was), 0, 8)
	for _, s := range []uintptr{0, 9, 19, 64, 65, ^uintptr(0)} {
		row(fmt.Sprint("rt_sigaction query ", int(s)), sysSigaction, s, 0, at(&got), 8)
	}
	for _, s := range []uintptr{0, 9, 19, 65} {
		row(fmt.Sprint("rt_sigaction set ", int(s)), sysSigaction, s, at(&was), 0, 8)
	}
	row("rt_sigaction size", sysSigaction, 12, 0, at(&got), 4)
	row("rt_sigaction bad new", sysSigaction, 12, bad, 0, 8)
	row("rt_sigaction bad old", sysSigaction, 12, 0, bad, 8)

	type stack struct {
		sp    uintptr
		flags int32
		size  uintptr
	}
	var s stack
	row("sigaltstack query", sysSigaltstack, 0, at(&s))
	fact("sigaltstack runtime's", s.flags, s.size, s.sp != 0)
	small := stack{s.sp, 0, 100}
	row("sigaltstack small", sysSigaltstack, at(&small), 0)
	odd := stack{s.sp, 77, s.size}
	row("sigaltstack flags", sysSigaltstack, at(&odd), 0)
	off := stack{0, 2, 0}
	row("sigaltstack off", sysSigaltstack, at(&off), 0)
	var q stack
	row("sigaltstack query", sysSigaltstack, 0, at(&q))
	fact("sigaltstack off", q.flags, q.size)
	row("sigaltstack on", sysSigaltstack, at(&s), 0)
	row("sigaltstack bad new", sysSigaltstack, bad, 0)
	row("sigaltstack bad old", sysSigaltstack, 0, bad)

	ch := make(chan os.Signal, 8)
	signal.Notify(ch, syscall.SIGUSR1)
	pid, _ := call(sysGetpid)
	tid, _ := call(sysGettid)
	// Blocked: pending until it is let in; rt_sigreturn brings every register back.
	call(sysSigprocmask, 0, at(&usr1), 0, 8)
	row("tgkill", sysTgkill, pid, tid, 10)
	fact("tgkill blocked", len(ch))
	call(sysSigprocmask, 1, at(&usr1), 0, 8)
	x := [4]float64{1.5, 2.5, 3.5, 4.5}
	for i := range x {
		call(sysTgkill, pid, tid, 10)
		x[i] *= 2
	}
	fact("signal", <-ch, x)
	row("tgkill 0", sysTgkill, pid, tid, 0)
	row("tgkill number", sysTgkill, pid, tid, 65)
	row("tgkill no thread", sysTgkill, pid, 1<<21, 0)
	row("tgkill negative", sysTgkill, pid, nobody, 0)
	row("tgkill zero", sysTgkill, 0, tid, 0)
	row("kill 0", sysKill, pid, 0)
	row("kill number", sysKill, pid, 65)
	row("kill nobody", sysKill, 1<<21, 0)
	for _, f := range []func(){
		func() { *(*int)(nil) = 1 },
		func() { x := 0; _ = 1 / x },
	} {
		func() {
			defer func() { fact("panic", recover()) }()
			f()
		}()
	}
}

func threads() {
	for _, fl := range []uintptr{0x10000, 0x800, 0x10800} {
		row(fmt.Sprintf("clone %#x", fl), sysClone, fl)
	}
	var wg sync.WaitGroup
	pid, _ := call(sysGetpid)
	me, _ := call(sysGettid)
	var tids [4]uintptr
	var fs [4]uintptr
	for i := range tids {
		wg.Add(1)
		go func() {
			runtime.LockOSThread() // the thread ends with the goroutine
			tids[i], _ = call(sysGettid)
			call(sysArchPrctl, 0x1003, at(&fs[i]))
			time.Sleep(2 * time.Millisecond)
			wg.Done()
		}()
	}
	wg.Wait()
	same := 0
	for i := range tids {
		if tids[i] == me || tids[i] == 0 || fs[i] == 0 {
			same++
		}
		for j := range i {
			if tids[i] == tids[j] || fs[i] == fs[j] {
				same++
			}
		}
	}
	fact("threads differ", same == 0)
	gone := 0
	for range 500 {
		gone = 0
		for _, t := range tids {
			if _, e := call(sysTgkill, pid, t, 0); e == syscall.ESRCH {
				gone++
			}
		}
		if gone == len(tids) {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	fact("threads exited", gone)
	row("sched_yield", sysYield)
}

type timespec struct{ sec, nsec int64 }

func futexes() {
	w := new(uint32)
	*w = 5
	var ts timespec
	for _, op := range []uintptr{0, 128} {
		row("futex wait, other value", sysFutex, at(w), op, 4, 0)
		row("futex wait, no time", sysFutex, at(w), op, 5, at(&ts))
		row("futex wake nobody", sysFutex, at(w), op|1, 1)
	}
	ts.nsec = 3e6
	t := time.Now()
	row("futex wait", sysFutex, at(w), 128, 5, at(&ts))
	fact("futex wait lasted", time.Since(t) >= 3*time.Millisecond)
	ts.nsec = 1e9
	row("futex wait, nsec", sysFutex, at(w), 128, 5, at(&ts))
	ts = timespec{-1, 0}
	row("futex wait, negative", sysFutex, at(w), 128, 5, at(&ts))
	row("futex wait, bad time", sysFutex, at(w), 128, 5, bad)
	row("futex wait, bad address", sysFutex, 4096, 128, 5, 0)
	row("futex wait, unaligned", sysFutex, at(w)+1, 128, 5, 0)
	row("futex wake, unaligned", sysFutex, at(w)+1, 129, 5, 0)
	row("futex unknown", sysFutex, at(w), 128|50, 5, 0)
	done := make(chan bool)
	for range 2 {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			_, e := call(sysFutex, at(w), 128, 5, 0)
			done <- e == 0
		}()
	}
	n := uintptr(0)
	for n < 2 {
		time.Sleep(time.Millisecond)
		r, _ := call(sysFutex, at(w), 129, 1)
		if r > 1 {
			fact("futex woke too many", r)
		}
		n += r
	}
	fact("futex woken", <-done, <-done)
}

func clocks() {
	var a, b timespec
	for _, id := range []uintptr{0, 1, 4, 5, 6, 7} {
		row(fmt.Sprint("clock_gettime ", id), sysClockGettime, id, at(&a))
		fact("clock_gettime set", a.sec != 0 || a.nsec != 0, a.nsec < 1e9)
	}
	row("clock_gettime unknown", sysClockGettime, 9999, at(&a))
	row("clock_gettime bad address", sysClockGettime, 1, bad)
	back := 0
	call(sysClockGettime, 1, at(&a))
	for range 1000 {
		call(sysClockGettime, 1, at(&b))
		if b.sec < a.sec || b.sec == a.sec && b.nsec < a.nsec {
			back++
		}
		a = b
	}
	fact("monotonic", back == 0)
	call(sysClockGettime, 0, at(&b))
	fact("realtime", b.sec > 1.7e9, b.sec-time.Now().Unix() < 2)
	ts := timespec{0, 2e6}
	t := time.Now()
	row("nanosleep", sysNanosleep, at(&ts), 0)
	fact("nanosleep lasted", time.Since(t) >= 2*time.Millisecond)
	for _, v := range []timespec{{0, 0}, {0, 1e9}, {0, -1}, {-1, 0}} {
		row(fmt.Sprint("nanosleep ", v), sysNanosleep, at(&v), 0)
	}
	row("nanosleep bad address", sysNanosleep, bad, 0)
}

func events() {
	row("eventfd2 flags", sysEventfd2, 0, 4)
	b := new(uint64)
	p := at(b)
	fd := ok("eventfd2", sysEventfd2, 3, 0x80800)
	row("eventfd F_GETFD", sysFcntl, fd, 1)
	row("eventfd F_GETFL", sysFcntl, fd, 3)
	row("eventfd read short", sysRead, fd, p, 7)
	row("eventfd read bad address", sysRead, fd, bad, 8)
	row("eventfd read", sysRead, fd, p, 8)
	fact("eventfd value", *b)
	row("eventfd read empty", sysRead, fd, p, 8)
	row("eventfd pread64", sysPread, fd, p, 8, 0)
	*b = 7
	row("eventfd write short", sysWrite, fd, p, 4)
	row("eventfd write bad address", sysWrite, fd, bad, 8)
	row("eventfd write", sysWrite, fd, p, 8)
	row("eventfd write", sysWrite, fd, p, 8)
	*b = ^uint64(0)
	row("eventfd write max", sysWrite, fd, p, 8)
	*b = ^uint64(0) - 1 - 13
	row("eventfd write overflow", sysWrite, fd, p, 8)
	row("eventfd read", sysRead, fd, p, 8)
	fact("eventfd value", *b)
	row("close", sysClose, fd)
	row("close again", sysClose, fd)
	fd = ok("eventfd2 semaphore", sysEventfd2, 2, 0x801)
	row("eventfd F_GETFD", sysFcntl, fd, 1)
	for range 3 {
		row("semaphore read", sysRead, fd, p, 8)
	}
	call(sysClose, fd)
}

// epollEvent is packed, 12 bytes.
type epollEvent struct{ events, lo, hi uint32 }

func polling() {
	row("epoll_create1 flags", sysEpollNew, 1)
	ep := ok("epoll_create1", sysEpollNew, 0x80000)
	fd, _ := call(sysEventfd2, 0, 0x80800)
	ev, out := &epollEvent{1, 11, 22}, &[4]epollEvent{}
	wait := func(name string, timeout int) {
		*out = [4]epollEvent{}
		row(name, sysEpollPwait, ep, at(out), 4, uintptr(timeout), 0, 8)
		fact(name, out[0])
	}
	put := func() { one := uint64(1); call(sysWrite, fd, at(&one), 8) }
	get := func() { var v uint64; call(sysRead, fd, at(&v), 8) }
	row("epoll_ctl add bad fd", sysEpollCtl, ep, 1, 1000, at(ev))
	row("epoll_ctl bad epfd", sysEpollCtl, 1000, 1, fd, at(ev))
	row("epoll_ctl not epoll", sysEpollCtl, fd, 1, fd, at(ev))
	row("epoll_ctl itself", sysEpollCtl, ep, 1, ep, at(ev))
	row("epoll_ctl bad event", sysEpollCtl, ep, 1, fd, bad)
	row("epoll_ctl unknown", sysEpollCtl, ep, 9, fd, at(ev))
	row("epoll_ctl mod missing", sysEpollCtl, ep, 3, fd, at(ev))
	row("epoll_ctl del missing", sysEpollCtl, ep, 2, fd, 0)
	row("epoll_ctl add", sysEpollCtl, ep, 1, fd, at(ev))
	row("epoll_ctl add again", sysEpollCtl, ep, 1, fd, at(ev))
	row("epoll_pwait none", sysEpollPwait, ep, at(out), 0, 0, 0, 8)
	row("epoll_pwait negative", sysEpollPwait, ep, at(out), nobody, 0, 0, 8)
	row("epoll_pwait bad fd", sysEpollPwait, 1000, at(out), 1, 0, 0, 8)
	row("epoll_pwait not epoll", sysEpollPwait, fd, at(out), 1, 0, 0, 8)
	wait("level: nothing", 0)
	t := time.Now()
	wait("level: nothing for 2 ms", 2)
	fact("epoll_pwait lasted", time.Since(t) >= 2*time.Millisecond)
	put()
	wait("level: readable", -1)
	wait("level: still readable", 0)
	row("epoll_pwait bad address", sysEpollPwait, ep, bad, 1, 0, 0, 8)
	get()
	wait("level: read", 0)
	ev.events = 1 | 4 | 0x2000 | 1<<31 // IN, OUT, RDHUP, ET as the runtime asks
	row("epoll_ctl mod", sysEpollCtl, ep, 3, fd, at(ev))
	wait("edge: writable", 0)
	wait("edge: nothing new", 0)
	put()
	wait("edge: readable", 0)
	wait("edge: still", 0)
	put()
	wait("edge: again", 0)
	get()
	put()
	wait("edge: after a read", 0)
	written := make(chan struct{})
	go func() {
		time.Sleep(time.Millisecond)
		put()
		close(written)
	}()
	wait("edge: woken", -1)
	<-written // a write(2) under way would keep the closed file open below
	row("epoll_ctl del", sysEpollCtl, ep, 2, fd, 0)
	put()
	wait("deleted", 0)
	row("epoll_ctl add", sysEpollCtl, ep, 1, fd, at(ev))
	call(sysClose, fd)
	wait("closed", 0)
	row("read an epoll", sysRead, ep, at(out), 8)
	call(sysClose, ep)
}

func entropy() {
	var b [256]byte
	row("getrandom", sysGetrandom, at(&b[0]), 256, 0)
	zero := 0
	for _, v := range b {
		if v == 0 {
			zero++
		}
	}
	fact("getrandom looks random", zero < 16)
	row("getrandom nonblock", sysGetrandom, at(&b[0]), 8, 1)
	row("getrandom nothing", sysGetrandom, at(&b[0]), 0, 0)
	row("getrandom flags", sysGetrandom, at(&b[0]), 8, 0x100)
	row("getrandom bad address", sysGetrandom, bad, 8, 0)
}
