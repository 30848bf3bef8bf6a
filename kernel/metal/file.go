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
	kind    uint32
	flags   uint32 // O_NONBLOCK
	count   uint64 // eventfd counter
	watch   uint32 // epoll events asked for; 0 if not registered
	edge    uint32 // 1: an edge has happened that was not reported
	edgeOut uint32
	_       uint32
	data    uint64
}

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

func sysFcntl(fd, cmd uint64) int64 {
	f := fileOf(fd)
	if f == nil {
		return -eBADF
	}
	switch cmd {
	case 1: // F_GETFD
		if fd > 2 {
			return 1
		}
		return 0
	case 2: // F_SETFD
		return 0
	case 3: // F_GETFL
		return int64(f.flags) | 2
	case 4: // F_SETFL
		f.flags = uint32(cmd) & 0x800
		return 0
	}
	return -eINVAL
}

func sysEpollCreate(flags uint64) int64 {
	if flags&^0x80000 != 0 {
		return -eINVAL
	}
	return newFD(fileEpoll, 0)
}

func sysEventfd(init, flags uint64, kind uint32) int64 {
	if flags&^0x80801 != 0 {
		return -eINVAL
	}
	fd := newFD(kind, uint32(flags)&0x800)
	if fd >= 0 {
		base.fds[fd].count = init & 0xffffffff
	}
	return fd
}

func sysClose(fd uint64) int64 {
	f := fileOf(fd)
	if f == nil || fd < 3 {
		return -eBADF
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
		if !touch(buf, 8, true) {
			return -eFAULT
		}
		if f.count == 0 {
			return -eAGAIN // the runtime's are all non-blocking
		}
		store64(buf, f.count)
		f.count = 0
		f.edgeOut = 1
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
		pollWake()
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
	if e == nil || f == nil {
		return -eBADF
	}
	if e.kind != fileEpoll {
		return -eINVAL
	}
	if f.kind != fileEvent && f.kind != fileIRQ {
		return -1 // EPERM: not pollable
	}
	switch op {
	case 1, 3:
		if !touch(ev, 12, false) {
			return -eFAULT
		}
		if op == 1 && f.watch != 0 {
			return -eEXIST
		}
		if op == 3 && f.watch == 0 {
			return -eNOENT
		}
		f.watch = load32(ev) | 0x18 // ERR and HUP are always on
		f.data = load64(ev + 4)
		f.edge, f.edgeOut = 1, 1
		pollWake()
		return 0
	case 2:
		if f.watch == 0 {
			return -eNOENT
		}
		f.watch = 0
		return 0
	}
	return -eINVAL
}

// pollReady stores the ready events and counts them; with buf 0 it only counts.
func pollReady(buf, limit uint64) int64 {
	n := uint64(0)
	for fd := 3; fd < maxFD && n < limit; fd++ {
		f := &base.fds[fd]
		if f.watch == 0 {
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
		if f.watch&epollET != 0 {
			if got&epollIn != 0 && f.edge == 0 && f.edgeOut == 0 || got == epollOut && f.edgeOut == 0 {
				continue
			}
		}
		if buf != 0 {
			if f.watch&epollET != 0 {
				f.edge, f.edgeOut = 0, 0
			}
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
	if n := pollReady(buf, limit); n != 0 || int32(timeout) == 0 {
		return n
	}
	if t := int32(timeout); t > 0 {
		timers.Set(m.id, nanotime()+int64(t)*1e6)
	}
	m.waitAddr, m.waitMax = buf, limit
	m.state = mEpoll
	base.epollM = uint64(m.id) + 1
	return 0
}

// pollWake ends an epoll_pwait that has something to report. The buffer was made
// present when the call began and is the M's own stack, so it still is.
func pollWake() {
	if base.epollM == 0 {
		return
	}
	m := mByID(uint32(base.epollM - 1))
	if pollReady(0, 1) == 0 || !touch(m.waitAddr, m.waitMax*12, true) {
		return
	}
	ready(m, pollReady(m.waitAddr, m.waitMax), true)
	curCPU().resched = 1
}

func wakeIRQFile() {
	for fd := 3; fd < maxFD; fd++ {
		if f := &base.fds[fd]; f.kind == fileIRQ {
			f.count = 1
			f.edge = 1
		}
	}
	pollWake()
}
