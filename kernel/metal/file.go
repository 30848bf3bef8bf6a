package metal

// The few descriptors the runtime has: 0-2 are the console, the others its
// epoll, its wake-up eventfd and the base's irq file (GO-ON-METAL 1.8, 3.3).

const maxFD = 32

const (
	fileNone = iota
	fileConsole
	fileEpoll
	fileEvent
	fileIRQ
)

type file struct {
	kind   uint32
	flags  uint32 // O_NONBLOCK, O_CLOEXEC, EFD_SEMAPHORE
	count  uint64 // eventfd counter
	watch  uint32 // epoll events asked for; 0 if not registered
	edge   uint32 // 1: an edge has happened that was not reported
	ep     uint64 // the epoll descriptor that watches it: one at most
	data   uint64
	waiter uint64 // of an epoll: the M in epoll_pwait + 1
}

const (
	flagSemaphore = 1
	flagNonblock  = 0x800
	flagCloexec   = 0x80000
)

const (
	epollIn  = 1
	epollOut = 4
	epollET  = 1 << 31
)

func newFD(kind, flags uint32) int64 {
	for fd := uint64(3); fd < maxFD; fd++ {
		if f := &base.fds[fd]; f.kind == fileNone {
			*f = file{kind: kind, flags: flags}
			return int64(fd)
		}
	}
	return -eMFILE
}

func fileOf(fd uint64) *file {
	if fd >= maxFD || fd > 2 && base.fds[fd].kind == fileNone {
		return nil
	}
	return &base.fds[fd]
}

func sysFcntl(fd, cmd, arg uint64) int64 {
	f := fileOf(fd)
	if f == nil {
		return -eBADF
	}
	switch cmd {
	case 1: // F_GETFD
		return int64(f.flags / flagCloexec)
	case 2: // F_SETFD
		f.flags = f.flags&^flagCloexec | uint32(arg&1)*flagCloexec
		return 0
	case 3: // F_GETFL
		return int64(f.flags&flagNonblock) | 2
	case 4: // F_SETFL
		f.flags = f.flags&^flagNonblock | uint32(arg)&flagNonblock
		return 0
	}
	return -eINVAL
}

func sysEpollCreate(flags uint64) int64 {
	if flags&^flagCloexec != 0 {
		return -eINVAL
	}
	return newFD(fileEpoll, uint32(flags))
}

func sysEventfd(init, flags uint64, kind uint32) int64 {
	if flags&^(flagCloexec|flagNonblock|flagSemaphore) != 0 {
		return -eINVAL
	}
	fd := newFD(kind, uint32(flags))
	if fd >= 0 {
		base.fds[fd].count = init & 0xffffffff
		if kind == fileIRQ {
			base.irqFD = uint64(fd)
		}
	}
	return fd
}

func sysClose(fd uint64) int64 {
	f := fileOf(fd)
	if f == nil || fd < 3 {
		return -eBADF
	}
	if f.kind == fileEpoll {
		for i := range base.fds {
			if g := &base.fds[i]; g.watch != 0 && g.ep == fd {
				g.watch = 0
			}
		}
	}
	*f = file{}
	return 0
}

func sysRead(fd, buf, n uint64) int64 {
	f := fileOf(fd)
	if f == nil {
		return -eBADF
	}
	switch f.kind {
	case fileEvent, fileIRQ:
		if n < 8 {
			return -eINVAL
		}
		if f.count == 0 {
			return -eAGAIN // the runtime's are all non-blocking
		}
		v := f.count
		if f.flags&flagSemaphore != 0 {
			v = 1
		}
		f.count -= v
		f.edge = 1
		if !touch(buf, 8, true) {
			return -eFAULT // the value is lost, as on Linux
		}
		store64(buf, v)
		return 8
	case fileEpoll:
		return -eINVAL
	}
	return 0 // the console has no input here: end of file
}

func sysWrite(fd, buf, n uint64) int64 {
	f := fileOf(fd)
	if f == nil {
		return -eBADF
	}
	switch f.kind {
	case fileEvent:
		if n < 8 {
			return -eINVAL
		}
		if !touch(buf, 8, false) {
			return -eFAULT
		}
		v := load64(buf)
		if v == ^uint64(0) {
			return -eINVAL
		}
		if f.count+v < f.count || f.count+v == ^uint64(0) {
			return -eAGAIN
		}
		f.count += v
		f.edge = 1
		pollWake(f)
		return 8
	case fileEpoll, fileIRQ:
		return -eINVAL
	}
	n = min(n, 1<<20)
	if n != 0 && !touch(buf, n, false) {
		return -eFAULT
	}
	for i := uint64(0); i < n; i++ {
		putc(load8(buf + i))
	}
	return int64(n)
}

func sysEpollCtl(ep, op, fd, ev uint64) int64 {
	e, f := fileOf(ep), fileOf(fd)
	if op != 2 && !touch(ev, 12, false) {
		return -eFAULT
	}
	if e == nil || f == nil {
		return -eBADF
	}
	if e.kind != fileEpoll || ep == fd {
		return -eINVAL
	}
	if f.kind != fileEvent && f.kind != fileIRQ {
		return -1 // EPERM: not pollable
	}
	switch op {
	case 1, 3:
		if op == 1 && f.watch != 0 {
			return -eEXIST
		}
		if op == 3 && (f.watch == 0 || f.ep != ep) {
			return -eNOENT
		}
		f.watch = load32(ev) | 0x18 // ERR and HUP are always on
		f.data = load64(ev + 4)
		f.ep, f.edge = ep, 1
		pollWake(f)
		return 0
	case 2:
		if f.watch == 0 || f.ep != ep {
			return -eNOENT
		}
		f.watch = 0
		return 0
	}
	return -eINVAL
}

// pollReady stores an epoll's ready events and counts them; with buf 0 it only counts.
func pollReady(ep, buf, limit uint64) int64 {
	n := uint64(0)
	for fd := 3; fd < maxFD && n < limit; fd++ {
		f := &base.fds[fd]
		if f.watch == 0 || f.ep != ep {
			continue
		}
		got := uint32(0)
		if f.count != 0 {
			got |= epollIn
		}
		if f.kind == fileEvent {
			got |= epollOut // an irq file never reports it (GO-ON-METAL 1.8)
		}
		got &= f.watch
		if got == 0 {
			continue
		}
		if f.watch&epollET != 0 && f.edge == 0 {
			continue
		}
		if buf != 0 {
			f.edge = 0
			store32(buf+12*n, got)
			store64(buf+12*n+4, f.data)
		}
		n++
	}
	return int64(n)
}

func sysEpollWait(m *M, ep, buf, limit, timeout uint64) int64 {
	e := fileOf(ep)
	if e == nil {
		return -eBADF
	}
	if e.kind != fileEpoll || int32(limit) <= 0 {
		return -eINVAL
	}
	limit = min(limit, 128)
	if !touch(buf, limit*12, true) {
		return -eFAULT
	}
	if n := pollReady(ep, buf, limit); n != 0 || int32(timeout) == 0 {
		return n
	}
	if e.waiter != 0 {
		return -eINTR // the runtime never waits twice; whoever does looks again
	}
	if t := int32(timeout); t > 0 {
		timers.Set(m.id, nanotime()+int64(t)*1e6)
	}
	m.waitAddr, m.waitMax, m.waitEP = buf, limit, ep
	m.state = mEpoll
	e.waiter = uint64(m.id) + 1
	return 0
}

// pollWake ends an epoll_pwait on a file that has something to report. The buffer was
// made present when the call began and is the M's own stack, so it still is.
func pollWake(f *file) {
	w := base.fds[f.ep%maxFD].waiter
	if f.watch == 0 || w == 0 {
		return
	}
	m := mByID(uint32(w - 1))
	if pollReady(f.ep, 0, 1) == 0 || !touch(m.waitAddr, m.waitMax*12, true) {
		return
	}
	ready(m, pollReady(f.ep, m.waitAddr, m.waitMax), true)
}

func wakeIRQFile() {
	if f := &base.fds[base.irqFD%maxFD]; f.kind == fileIRQ {
		f.count = 1
		f.edge = 1
		pollWake(f)
	}
}
