package metal

import (
	"sync/atomic"

	"kiln/kernel/metal/core"
)

// Requests from one CPU to others: to flush their TLBs, to let go of a page table, to
// save vector state, to switch it on, to stand still. The one that asks holds shoot.lock, publishes who
// is to answer in want, sends vecCall and waits, with interrupts off, until every bit of
// want is gone. It may hold the base's lock as well.
//
// That cannot lock up: a CPU that has interrupts on takes the vector; one that has them
// off is on its way to turn them on (enter, a base call), or waits for a lock in spin,
// which serves requests, and the holder of shoot.lock is not asked.
//
// A CPU that idles is not woken to flush: the request is remembered in stale, and it
// flushes before it does anything else (leaveLazy). Tables that are to be freed are
// another matter, since the processor walks tables for no reason at all, and sets
// accessed bits in them.
var shoot = shootState{magic: dataMagic}

type shootState struct {
	magic, lock uint32
	want        uint64 // a bit for each CPU that has not answered
	kind        uint32
	still       uint32 // whoever has answered reqStill waits until it is another
	root, va, n uint64
}

// Kinds of requests.
const (
	reqFlush   = iota // n pages from va (0: all) of root (0: the kernel)
	reqDrop           // do not use root any more
	reqVectors        // set XCR0 to va
	reqFP             // end the ownership of the vector state of va, keeping it if n is not 0
	reqStill          // do nothing until still changes
)

// Bits of CPU.stale.
const (
	staleUser   = 1
	staleKernel = 2
)

// flushTables in flush's n says that page tables will be freed.
const flushTables = 1 << 63

// flush drops TLB entries of the address space with table root (0: kernel) on every
// CPU: n pages from va, all if n is 0 or large.
func flush(c *CPU, root, va, n uint64) {
	flushHere(c, root, va, n)
	flushOthers(c, root, va, n)
}

func flushOthers(c *CPU, root, va, n uint64) {
	if base.ncpu > 1 {
		ask(c, reqFlush, root, va, n)
	}
}

func flushHere(c *CPU, root, va, n uint64) {
	n &^= flushTables
	switch {
	case root != 0 && c.root != root:
	case n != 0 && n <= 32:
		for i := range n {
			invlpg(va + i*pageSize)
		}
	case root == 0:
		flushGlobal()
	default:
		writeCR3(root)
	}
}

// concerned says whether o must answer a request. The tables have been changed by a
// locked instruction before. A CPU stores 0 as root, loads CR3, which is serializing, and
// stores the new root: if root is another, it does not walk these tables any more, or will
// walk them as they are now. A host may stop it for long while root is 0; it answers then as
// soon as it goes on.
func concerned(o *CPU, kind uint32, root, va, n uint64) bool {
	switch kind {
	case reqFlush:
		if root != 0 && !o.walks(root) {
			return false
		}
		if n&flushTables != 0 || atomic.LoadUint32(&o.lazy) == 0 {
			return true
		}
		bit := uint32(staleKernel)
		if root != 0 {
			bit = staleUser
		}
		atomic.OrUint32(&o.stale, bit)
		return atomic.LoadUint32(&o.lazy) == 0 // it may have looked at stale before
	case reqDrop:
		return o.walks(root)
	case reqFP:
		return atomic.LoadUint64(&(*ctxImpl)(ptr(va)).live) == o.self
	}
	return true
}

// walks says whether c may have root, or be about to leave it.
func (c *CPU) walks(root uint64) bool {
	r := atomic.LoadUint64(&c.root)
	return r == root || r == 0
}

// ask makes a request of all CPUs that it concerns but c, ours, and waits for them.
func ask(c *CPU, kind uint32, root, va, n uint64) {
	who := uint64(0)
	for i := range base.ncpu {
		if o := cpuByID(i); o.self != c.self && concerned(o, kind, root, va, n) {
			who |= 1 << i
		}
	}
	if who == 0 {
		return
	}
	if !atomic.CompareAndSwapUint32(&shoot.lock, 0, 1) {
		spin(&shoot.lock)
	}
	shoot.kind, shoot.root, shoot.va, shoot.n = kind, root, va, n
	atomic.StoreUint64(&shoot.want, who)
	for i := range base.ncpu {
		if who&(1<<i) != 0 {
			sendIPI(cpuByID(i).apicID, vecCall)
		}
	}
	for atomic.LoadUint64(&shoot.want) != 0 {
		pause()
	}
	atomic.StoreUint32(&shoot.lock, 0)
}

// serve answers the request there is, if it concerns us. isrCall does the same for a CPU
// in ring 3, if it is to flush.
func serve(c *CPU) {
	bit := uint64(1) << (c.id & 63)
	if atomic.LoadUint64(&shoot.want)&bit == 0 {
		return
	}
	switch s := &shoot; s.kind {
	case reqFlush:
		flushHere(c, s.root, s.va, s.n)
	case reqDrop:
		dropHere(c, s.root)
	case reqVectors:
		setVectors(s.va)
	case reqFP:
		fpLocal((*ctxImpl)(ptr(s.va)), s.n != 0)
	}
	// Before the answer: after it there may be another request.
	wait, turn := shoot.kind == reqStill, atomic.LoadUint32(&shoot.still)
	atomic.AndUint64(&shoot.want, ^bit)
	for wait && atomic.LoadUint32(&shoot.still) == turn {
		pause()
	}
}

// leaveLazy ends a CPU's idling: it does what it was spared.
func leaveLazy(c *CPU) {
	atomic.SwapUint32(&c.lazy, 0)
	s := atomic.SwapUint32(&c.stale, 0)
	if s&staleKernel != 0 {
		flushGlobal()
	} else if s != 0 {
		writeCR3(c.root)
	}
}

// dropRoot makes every M and CPU let go of a page table that is to be freed.
func dropRoot(c *CPU, root uint64) {
	for i := range base.mtop {
		if a := base.ms[i%core.MaxSlots]; a != 0 {
			// An M that runs may be storing another root there.
			atomic.CompareAndSwapUint64(&(*M)(ptr(a)).root, root, base.root)
		}
	}
	dropHere(c, root)
	if base.ncpu > 1 {
		ask(c, reqDrop, root, 0, 0)
	}
}

func dropHere(c *CPU, root uint64) {
	if c.root == root {
		c.load(base.root)
	}
}

// fpAway makes the CPU that has the vector state of impl (an address) save it, or
// forget it without keep.
func fpAway(c *CPU, impl, keep uint64) {
	for atomic.LoadUint64(&(*ctxImpl)(ptr(impl)).live) != 0 {
		fpLocal((*ctxImpl)(ptr(impl)), keep != 0) // we may have been moved to it just now
		ask(c, reqFP, 0, impl, keep)
	}
}

// setVectors switches XSAVE on with the components of xcr0.
func setVectors(xcr0 uint64) {
	writeCR4(readCR4() | cr4OSXSAVE)
	xsetbv(xcr0)
}

// stillPort says that at is a port, not an address.
const stillPort = 1 << 8

// still writes v, how&255 bytes of it, to at while all other CPUs wait (hal.Stiller).
func still(c *CPU, at, how, v uint64) {
	ask(c, reqStill, 0, 0, 0)
	switch how {
	case 2:
		store16(at, uint16(v))
	case 4:
		store32(at, uint32(v))
	case stillPort | 2:
		out16(uint16(at), uint16(v))
	case stillPort | 4:
		out32(uint16(at), uint32(v))
	}
	atomic.AddUint32(&shoot.still, 1)
}
