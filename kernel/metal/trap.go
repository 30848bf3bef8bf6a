package metal

import (
	"sync/atomic"
	"unsafe"
)

// trap is entered from toBase with the running M's state saved, interrupts off, on
// the base's stack and g. When it returns the CPU's current M is resumed.
func trap(c *CPU, m *M) {
	if c.lazy != 0 {
		leaveLazy(c)
	}
	switch m.Vector {
	case vecCall:
		serve(c)
		eoi()
	case vecWake, vecTimer:
		eoi()
	}
	base.acquire()
	now := int64(0)
	switch v := m.Vector; {
	case v == vecSyscall:
		c.sysCount++
		syscall(c, m)
	case v == 14:
		pageFault(m)
	case v < 32:
		exception(m)
	default:
		now = nanotime()
		interrupt(c, uint8(v), now)
	}
	if c.resched != 0 || m.state != mRunning || runq.Len() != 0 || c.armedAt == 0 || now != 0 {
		if now == 0 {
			now = nanotime()
		}
		schedule(c)
		rearm(c, now)
	}
	m.user = 0
	n := (*M)(ptr(c.cur))
	if n.idle != 0 {
		c.lazy = 1
	} else if n.pend&^n.mask != 0 {
		deliverPending(n)
	}
	base.release()
	if c.kicks|uint64(c.arm) != 0 {
		c.settle()
	}
}

// interrupt latches a device's line or serves the base's own.
func interrupt(c *CPU, v uint8, now int64) {
	irqs.count[v]++
	if clk.shared == 0 && c.id == 0 {
		refineClock()
	}
	switch v {
	case vecTimer:
		atomic.StoreInt64(&c.armedAt, 0) // before deadline is read (SetDeadline)
		if base.tmCPU == uint64(c.id) {
			base.tmAt = never
		}
		if c.slice != 0 && now >= c.sliceAt {
			c.slice = 0
		}
		if runq.Len() != 0 {
			c.resched = 1
		}
		expire(c, now)
		if noiseMean != 0 && now >= c.noiseAt {
			c.noise(now)
		}
	case vecWake:
		c.resched = 1
	case vecCall:
	case vecSpurious:
		counters.spurious++
	default:
		if v >= vecDevFirst && v <= vecDevLast {
			maskIfLevel(v)
			latchLine(v, c.fromUser())
			eoi()
		} else if v >= 0x20 && v < 0x30 {
			counters.spurious++ // the masked 8259s
		}
	}
}

// latchLine marks a line pending. Unless the task loop is about to look anyway,
// the dispatcher goroutine is woken through the irq file.
func latchLine(v uint8, fromUser bool) {
	atomic.OrUint64(&irqs.word[v>>6], 1<<(v&63))
	atomic.StoreUint32(&irqs.any, 1)
	if !fromUser && !wakeIdle(idleLook) {
		wakeIRQFile()
	}
}

// pageFault serves a fault at ring 0: demand-zero memory, a program address inside
// the user copy, or a bug, which becomes SIGSEGV as on Linux.
func pageFault(m *M) {
	va := m.cr2
	if m.Error&1 == 0 && populate(va, m.Error&2 != 0) {
		return
	}
	if va < 1<<47 && m.RIP >= pcCopyStart() && m.RIP < pcCopyEnd() {
		m.RIP = pcCopyFault()
		m.RAX = va
		return
	}
	code := uint64(1) // SEGV_MAPERR
	if m.Error&1 != 0 {
		code = 2
	}
	syncSignal(m, sigSEGV, code, va)
}

func exception(m *M) {
	switch m.Vector {
	case 0:
		syncSignal(m, sigFPE, 1, m.RIP)
	case 3:
		syncSignal(m, sigTRAP, 0x80, 0)
	case 6:
		syncSignal(m, sigILL, 2, m.RIP)
	case 16, 19:
		syncSignal(m, sigFPE, 3, m.RIP)
	case 17:
		syncSignal(m, sigBUS, 1, 0)
	default: // #GP and the rest: Linux says SI_KERNEL
		if m.RIP >= pcCopyStart() && m.RIP < pcCopyEnd() {
			// A non-canonical program address inside the copy.
			m.RIP = pcCopyFault()
			m.RAX = m.RSI
			return
		}
		syncSignal(m, sigSEGV, 0x80, 0)
	}
}

// syncSignal raises a signal for what the M itself did.
func syncSignal(m *M, sig uint32, code, addr uint64) {
	act := &base.sigact[sig]
	if act.handler <= 1 || m.mask&(1<<(sig-1)) != 0 || !pushSignal(m, sig, code, addr) {
		fatalFrame("exception in the kernel that the runtime cannot take", &m.frame, m.cr2)
	}
}

// fatalTrap: a trap inside the base, a double fault or a machine check.
func fatalTrap(c *CPU, f *frame) {
	m := (*M)(unsafe.Pointer(f))
	_ = c
	cr2 := readCR2()
	fatalFrame("trap inside the base", &m.frame, cr2)
}

// baseOp numbers.
const (
	opAllocFrames = iota
	opFreeFrames
	opNewDeadline
	opSlice
	opFlush
	opLine
	opIOAPIC
	opMapMMIO
	opIPI
	opAllocTable
	opFreeTable
	opMix
	opDropRoot
	opPin
	opFatal
	opRefine
	opReset
	opVectors
	opFPAway
	opWakeIdle
	opStill
)

// baseOp runs a call from Go (baseCall) under the base's lock.
func baseOp(c *CPU, op, a, b, d uint64) uint64 {
	r := uint64(0)
	switch op { // what needs no lock of the base's
	case opFlush:
		flush(c, a, b, d)
		return 0
	case opFPAway:
		fpAway(c, a, b)
		return 0
	}
	base.acquire()
	switch op {
	case opAllocFrames:
		r = opAlloc(uint(a), b)
	case opFreeFrames:
		if releaseFrames(a, uint(b)) {
			r = 1
		}
	case opNewDeadline:
		newDeadline(c)
	case opSlice:
		now := nanotime()
		c.slice, c.sliceAt = 1, now+userSliceNS
		rearm(c, now)
	case opLine:
		if !wakeIdle(idleLook) {
			wakeIRQFile()
		}
	case opWakeIdle:
		if !wakeIdle(idleLook) {
			idling.woken = 1
		}
	case opIOAPIC:
		ioapicWrite(a, uint32(b), uint32(d))
	case opPin:
		v := ioapicRead(a, 0) &^ (1 << 16)
		ioapicWrite(a, 0, v|uint32(b)<<16)
	case opMapMMIO:
		r = mapDevice(a, b, d)
	case opIPI:
		c.kick(cpuByID(a))
	case opAllocTable:
		r = allocTable()
	case opFreeTable:
		freeFrame(a)
	case opMix:
		rng.Mix(a)
	case opDropRoot:
		dropRoot(c, a)
	case opRefine:
		clk.shared = 1
		if clk.unsync == 0 {
			refineClock()
		}
	case opVectors:
		setVectors(a)
		ask(c, reqVectors, 0, a, 0)
	case opStill:
		still(c, a, b, d)
	case opFatal:
		endMachine()
	case opReset:
		cli()
		drainUART()
		resetMachine()
	}
	if c.resched != 0 {
		rearm(c, nanotime()) // an M was readied: we have no frame to switch from here
	}
	base.release()
	if c.kicks|uint64(c.arm) != 0 {
		c.settle()
	}
	return r
}

// Flags of opAlloc.
const (
	allocZero    = 1
	allocBelow4G = 2
	allocReserve = 4
)

// opAlloc returns a frame number, or 0.
func opAlloc(order uint, flags uint64) uint64 {
	if flags&allocReserve == 0 && freePages() < reservePages()+1<<order {
		notePressure()
		return 0
	}
	pfn, ok := uint64(0), false
	if flags&allocBelow4G == 0 {
		pfn, ok = base.high.Alloc(order)
	}
	if !ok {
		pfn, ok = base.low.Alloc(order)
	}
	if !ok {
		notePressure()
		return 0
	}
	if flags&allocZero != 0 && order == 0 {
		memzero(phys(pfn<<12), pageSize)
	}
	notePressure()
	return pfn
}

// newDeadline sees to it that deadline is noticed.
func newDeadline(c *CPU) {
	now := nanotime()
	if d := atomic.LoadInt64(&deadline.at); now >= d && atomic.CompareAndSwapInt64(&deadline.at, d, never) {
		latchLine(lineDeadline, false)
		return
	}
	rearm(c, now)
}

// allocTable is a zeroed page table that must leave the reserve alone.
func allocTable() uint64 {
	if freePages() <= reservePages() {
		notePressure()
		return 0
	}
	return allocZeroFrame()
}
