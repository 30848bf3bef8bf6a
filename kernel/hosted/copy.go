package hosted

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"kiln/kernel/hal"
)

// Copies go through the kernel's own mapping of the frames, under mu: a frame cannot
// leave the space while bytes of it are on their way. The race detector does not
// look at memory that Go did not allocate, so a program that races with itself is
// its own business.

// access gives the bytes of a page from addr on, nil where a ring-3 access would
// fault. Called with mu held.
func (as *AddressSpace) access(addr hal.UserAddr, write bool) []byte {
	e := as.entry(addr)
	if e == nil || !e.present || e.prot == hal.ProtNone || write && e.prot&hal.ProtWrite == 0 {
		return nil
	}
	if write && !e.dirty || !e.accessed {
		return nil
	}
	return as.m.Frame(hal.PFN(e.frame))[addr&hal.PageMask:]
}

// touch sets the accessed and dirty bits that the page at addr lacks for such an
// access; false if it would fault.
func (as *AddressSpace) touch(addr hal.UserAddr, write bool) bool {
	as.mu.Lock()
	defer as.mu.Unlock()
	e := as.entry(addr)
	if e == nil || !e.present || e.prot == hal.ProtNone || write && e.prot&hal.ProtWrite == 0 {
		return false
	}
	e.accessed = true
	e.dirty = e.dirty || write
	return true
}

// page calls f with the bytes at addr while they cannot go away.
func (as *AddressSpace) page(addr hal.UserAddr, write bool, f func(b []byte)) bool {
	for {
		as.mu.RLock()
		as.alive()
		if b := as.access(addr, write); b != nil {
			f(b)
			as.mu.RUnlock()
			return true
		}
		as.mu.RUnlock()
		if !as.touch(addr, write) {
			return false
		}
	}
}

// copy runs f over the pieces of [addr, addr+n).
func (as *AddressSpace) copy(addr hal.UserAddr, n int, write bool, f func(piece []byte, done int)) (int, hal.UserAddr) {
	done := 0
	for done < n {
		a := addr + hal.UserAddr(done)
		if a < addr {
			return done, a // wrapped
		}
		if !as.page(a, write, func(b []byte) {
			b = b[:min(len(b), n-done)]
			f(b, done)
			done += len(b)
		}) {
			return done, a
		}
	}
	return done, 0
}

// CopyIn implements hal.AddressSpace.
func (as *AddressSpace) CopyIn(dst []byte, src hal.UserAddr) (int, hal.UserAddr) {
	return as.copy(src, len(dst), false, func(b []byte, done int) { copy(dst[done:], b) })
}

// CopyOut implements hal.AddressSpace.
func (as *AddressSpace) CopyOut(dst hal.UserAddr, src []byte) (int, hal.UserAddr) {
	return as.copy(dst, len(src), true, func(b []byte, done int) { copy(b, src[done:]) })
}

// Zero implements hal.AddressSpace.
func (as *AddressSpace) Zero(dst hal.UserAddr, n int) (int, hal.UserAddr) {
	return as.copy(dst, n, true, func(b []byte, _ int) { clear(b) })
}

// word calls f with an aligned word of program memory.
func (as *AddressSpace) word(addr hal.UserAddr, write bool, f func(p *uint32)) bool {
	if addr&3 != 0 {
		panic(fmt.Sprintf("hosted: atomic access to unaligned %#x", addr))
	}
	return as.page(addr, write, func(b []byte) { f((*uint32)(unsafe.Pointer(&b[0]))) })
}

// Load32 implements hal.AddressSpace.
func (as *AddressSpace) Load32(addr hal.UserAddr) (v uint32, ok bool) {
	ok = as.word(addr, false, func(p *uint32) { v = atomic.LoadUint32(p) })
	return v, ok
}

// CAS32 implements hal.AddressSpace.
func (as *AddressSpace) CAS32(addr hal.UserAddr, old, new uint32) (prev uint32, ok bool) {
	ok = as.word(addr, true, func(p *uint32) {
		for {
			prev = atomic.LoadUint32(p)
			if prev != old || atomic.CompareAndSwapUint32(p, old, new) {
				return
			}
		}
	})
	return prev, ok
}

// Xchg32 implements hal.AddressSpace.
func (as *AddressSpace) Xchg32(addr hal.UserAddr, new uint32) (prev uint32, ok bool) {
	ok = as.word(addr, true, func(p *uint32) { prev = atomic.SwapUint32(p, new) })
	return prev, ok
}
