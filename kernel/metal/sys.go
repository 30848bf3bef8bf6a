package metal

import "kiln/kernel/metal/core"

// The system calls of the Go runtime (GO-ON-METAL 1.1). Everything else is ENOSYS.
// Results are as Linux gives them; arguments are kernel addresses, made present
// before the base touches them.

const (
	eNOENT    = 2
	eINTR     = 4
	eBADF     = 9
	eAGAIN    = 11
	eNOMEM    = 12
	eFAULT    = 14
	eEXIST    = 17
	eINVAL    = 22
	eMFILE    = 24
	eSPIPE    = 29
	eSRCH     = 3
	eNOSYS    = 38
	eTIMEDOUT = 110
)

func syscall(c *CPU, m *M) {
	a0, a1, a2, a3 := m.RDI, m.RSI, m.RDX, m.R10
	r := int64(-eNOSYS)
	switch m.RAX {
	case 0:
		r = sysRead(a0, a1, a2)
	case 1:
		r = sysWrite(a0, a1, a2)
	case 3:
		r = sysClose(a0)
	case 9:
		r = sysMmap(a0, a1, a2, a3)
	case 10:
		r = sysMprotect(a0, a1, a2)
	case 11:
		r = sysMunmap(a0, a1)
	case 13:
		r = sysSigaction(a0, a1, a2, a3)
	case 14:
		r = sysSigprocmask(m, a0, a1, a2, a3)
	case 15:
		sysSigreturn(m)
		return
	case 17:
		r = sysPread(a0)
	case 24:
		c.resched = 1
		r = 0
	case 28:
		r = sysMadvise(a0, a1, a2)
	case 35:
		r = sysNanosleep(m, a0)
	case 39:
		r = 1
	case 56:
		r = sysClone(c, m)
	case 60:
		m.state = mFree
		c.resched = 1
		freeM(m)
		switchTo(c, (*M)(ptr(c.idleM)))
		return
	case 62:
		r = sysKill(m, a0, a1)
	case 72:
		r = sysFcntl(a0, a1, a2)
	case 131:
		r = sysSigaltstack(m, a0, a1)
	case 157:
		r = -eINVAL // PR_SET_VMA: the runtime stops asking
	case 158:
		r = sysArchPrctl(m, a0, a1)
	case 186:
		r = int64(m.tid)
	case 202:
		r = sysFutex(m, a0, a1, a2, a3)
	case 204:
		r = sysGetaffinity(a1, a2)
	case 228:
		r = sysClockGettime(a0, a1)
	case 231:
		exitGroup(a0)
	case 232, 281:
		r = sysEpollWait(m, a0, a1, a2, a3)
	case 233:
		r = sysEpollCtl(a0, a1, a2, a3)
	case 234:
		r = sysTgkill(m, a0, a1, a2)
	case 257:
		r = sysOpenat(a1)
	case 290:
		r = sysEventfd(a0, a1, fileEvent)
	case 291:
		r = sysEpollCreate(a0)
	case 318:
		r = sysGetrandom(a0, a1, a2)
	case sysIRQFile:
		r = sysEventfd(0, 0x800, fileIRQ)
	case sysIdleCall:
		r = sysIdle(m)
	case sysMoveCPU:
		r = sysMove(c, m, a0)
	}
	if m.state == mRunning {
		m.RAX = uint64(r)
	} else if m.pend&^m.mask != 0 {
		ready(m, -eINTR, false) // sent while it was on its way here, where nobody wakes it
	}
}

// sysIRQFile is ours: the descriptor on which the dispatcher goroutine waits.
const sysIRQFile = 0x4b01

// sysMoveCPU moves the calling M to a CPU.
const sysMoveCPU = 0x4b02

// sysIdleCall waits for an interrupt (idle.go).
const sysIdleCall = 0x4b03

func pageUp(n uint64) uint64 { return (n + pageSize - 1) &^ (pageSize - 1) }

func sysMmap(addr, length, prot, flags uint64) int64 {
	const (
		private, fixed, anon, fixedNoReplace = 2, 0x10, 0x20, 0x100000
	)
	if length == 0 || addr&(pageSize-1) != 0 && flags&fixed != 0 {
		return -eINVAL
	}
	if flags&anon == 0 {
		return -eBADF
	}
	if flags&3 != private {
		return -eINVAL
	}
	n := pageUp(length)
	if n < length {
		return -eNOMEM
	}
	switch {
	case flags&(fixed|fixedNoReplace) != 0:
		if addr < base.goLo || addr+n < addr || addr+n > base.goHi {
			return -eNOMEM
		}
		if flags&fixedNoReplace != 0 && !regions.Vacant(addr, addr+n) {
			return -eEXIST
		}
		if !regions.Vacant(addr, addr+n) && flags&fixed != 0 {
			// Only a change that can hold data loses it: PROT_NONE pages have none.
			dropPages(addr, addr+n)
		}
	case addr != 0 && regions.Vacant(addr&^(pageSize-1), addr&^(pageSize-1)+n):
		addr &^= pageSize - 1
	case addr != 0 && (addr < base.goLo || addr >= base.goHi):
		// A hint in the program's half. Linux would honour it; we cannot, and a
		// refusal is cheaper than a place the runtime gives back at once.
		return -eNOMEM
	default:
		align := uint64(pageSize)
		if n >= 4<<20 {
			align = 64 << 20 // the runtime trims large reservations to this
		}
		a, ok := regions.Gap(n, align)
		if !ok {
			return -eNOMEM
		}
		addr = a
	}
	if !regions.Set(addr, addr+n, uint32(prot&7)) {
		return -eNOMEM
	}
	return int64(addr)
}

func sysMunmap(addr, length uint64) int64 {
	n := pageUp(length)
	if addr&(pageSize-1) != 0 || n == 0 || addr < base.goLo || addr+n > base.goHi || addr+n < addr {
		return -eINVAL
	}
	// First the pages: as long as another CPU may have them in its TLB, nobody else may
	// get the addresses.
	dropPages(addr, addr+n)
	if !regions.Remove(addr, addr+n) {
		return -eNOMEM
	}
	return 0
}

// sysMprotect changes what a fault may do; pages that lose rights are unmapped
// from the tables only if they become inaccessible, which drops their data. The
// runtime uses it for memory whose contents it has given up (sysFault).
func sysMprotect(addr, length, prot uint64) int64 {
	n := pageUp(length)
	if addr&(pageSize-1) != 0 {
		return -eINVAL
	}
	if addr < base.goLo || addr+n > base.goHi || addr+n < addr {
		return -eNOMEM
	}
	if n == 0 {
		return 0
	}
	if !regions.Covered(addr, addr+n) {
		return -eNOMEM
	}
	if !regions.Set(addr, addr+n, uint32(prot&7)) {
		return -eNOMEM
	}
	protectPages(addr, addr+n, prot)
	return 0
}

// protectPages changes present pages: without read they keep their frame with the
// present bit off (pteNone), and get it back.
func protectPages(start, end, prot uint64) {
	for va := start; va < end; va += pageSize {
		e := walk(base.root, va, 0, 0, false)
		if e == 0 {
			va = (va+1<<21)&^(1<<21-1) - pageSize
			continue
		}
		v := load64(e)
		if v&pteAddr == 0 {
			continue
		}
		v &^= pteP | pteW | pteNone
		switch {
		case prot == 0:
			v |= pteNone
		case prot&2 != 0:
			v |= pteP | pteW
		default:
			v |= pteP
		}
		store64(e, v)
		invlpg(va)
	}
	flushOthers(curCPU(), 0, 0, 0)
}

func sysMadvise(addr, length, advice uint64) int64 {
	n := pageUp(length)
	if addr&(pageSize-1) != 0 || addr+n < addr {
		return -eINVAL
	}
	switch advice {
	case 4: // MADV_DONTNEED: zero pages on the next touch (GO-ON-METAL 0.8)
		if !regions.Covered(addr, addr+n) {
			return -eNOMEM
		}
		dropPages(addr, addr+n)
		return 0
	case 8, 14, 15: // FREE, HUGEPAGE, NOHUGEPAGE
		return 0
	}
	return -eINVAL
}

func sysArchPrctl(m *M, code, addr uint64) int64 {
	switch code {
	case 0x1002: // ARCH_SET_FS
		m.fs = addr
		return 0
	case 0x1003: // ARCH_GET_FS
		if !touch(addr, 8, true) {
			return -eFAULT
		}
		store64(addr, m.fs)
		return 0
	}
	return -eINVAL
}

// sysOpenat: there are no files.
func sysOpenat(name uint64) int64 {
	if !touch(name, 1, false) {
		return -eFAULT
	}
	return -eNOENT
}

// sysPread: nothing that is open has offsets.
func sysPread(fd uint64) int64 {
	if fileOf(fd) == nil {
		return -eBADF
	}
	return -eSPIPE
}

func sysGetaffinity(n, buf uint64) int64 {
	if n < 8 || n&7 != 0 {
		return -eINVAL
	}
	if !touch(buf, 8, true) {
		return -eFAULT
	}
	store64(buf, 1<<base.ncpu-1)
	return 8
}

func sysClone(c *CPU, m *M) int64 {
	const thread = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 // VM, FS, FILES, SIGHAND, THREAD
	if m.RDI&thread != thread {
		return -eINVAL // there is one process
	}
	n := newM()
	if n == nil {
		return -eAGAIN
	}
	n.frame = m.frame
	n.xmm = m.xmm
	n.mxcsr = m.mxcsr
	n.mask = m.mask
	n.root = base.root
	n.fs = m.fs
	if m.RDI&0x80000 != 0 { // CLONE_SETTLS
		n.fs = m.R8
	}
	n.RAX = 0
	if m.RSI != 0 {
		n.RSP = m.RSI
	}
	n.state = mRunnable
	runq.Push(n.id)
	kickIdle(c.id)
	return int64(n.tid)
}

func sysNanosleep(m *M, ts uint64) int64 {
	if !touch(ts, 16, false) {
		return -eFAULT
	}
	sec, nsec := int64(load64(ts)), int64(load64(ts+8))
	if sec < 0 || nsec < 0 || nsec >= 1e9 {
		return -eINVAL
	}
	s, now := &idling, nanotime()
	s.napper, s.napped = uint64(m.id)+1, now
	timers.Set(m.id, s.nap(now+clampNS(sec, nsec)))
	m.state = mSleep
	return 0
}

// clampNS bounds a span to 100 years so that sums with the clock do not overflow.
func clampNS(sec, nsec int64) int64 { return min(sec, 3_153_600_000)*1e9 + nsec }

func sysFutex(m *M, addr, op, val, ts uint64) int64 {
	if addr&3 != 0 {
		return -eINVAL
	}
	switch op &^ 128 {
	case 0: // WAIT, relative timeout
		if !touch(addr, 4, false) {
			return -eFAULT
		}
		if ts != 0 {
			if !touch(ts, 16, false) {
				return -eFAULT
			}
			sec, nsec := int64(load64(ts)), int64(load64(ts+8))
			if sec < 0 || nsec < 0 || nsec >= 1e9 {
				return -eINVAL
			}
			if load32(addr) != uint32(val) {
				return -eAGAIN
			}
			timers.Set(m.id, nanotime()+clampNS(sec, nsec))
		} else if load32(addr) != uint32(val) {
			return -eAGAIN
		}
		m.state = mFutex
		futexes.Add(m.id, addr)
		return 0
	case 1: // WAKE
		n := int64(0)
		for n < int64(int32(val)) {
			id := futexes.Wake(addr)
			if id == core.None {
				break
			}
			ready(mByID(id), 0, false)
			n++
		}
		return n
	}
	return -eNOSYS
}

func sysClockGettime(id, ts uint64) int64 {
	if id > 1 && (id < 4 || id > 7) {
		return -eINVAL
	}
	if !touch(ts, 16, true) {
		return -eFAULT
	}
	ns := nanotime()
	if id == 0 || id == 5 {
		ns += clk.realOffset
	}
	store64(ts, uint64(ns/1e9))
	store64(ts+8, uint64(ns%1e9))
	return 0
}

func sysGetrandom(buf, n, flags uint64) int64 {
	if flags&^7 != 0 || flags&6 == 6 {
		return -eINVAL
	}
	n = min(n, 1<<20)
	if !touch(buf, n, true) {
		return -eFAULT
	}
	for i := uint64(0); i < n; {
		v := rng.Uint64()
		for j := 0; j < 8 && i < n; j++ {
			store8(buf+i, uint8(v))
			v >>= 8
			i++
		}
	}
	return int64(n)
}
