package metal

import (
	"runtime"
	"sync"
	"unsafe"

	"kiln/kernel/hal"
)

// AddressSpace is a page table whose lower half is a program's; its upper half is
// the kernel's, the same in all. mu guards the lower half against other Go code;
// the processor walks it freely. No callback may use the AddressSpace.
type AddressSpace struct {
	root uint64 // CR3
	cpus uint64 // CPUs that have loaded it, set in enter and the user copy
	mu   sync.Mutex
	buf  [512]uint64 // the entries of a leaf table on their way out
}

// NewAddressSpace makes one without any mapping.
func (*Machine) NewAddressSpace() (hal.AddressSpace, error) {
	root := baseCall(opAllocTable, 0, 0, 0)
	if root == 0 {
		return nil, hal.ErrNoMemory
	}
	for i := uint64(256); i < 512; i++ {
		store64(phys(root)+8*i, load64(phys(base.root)+8*i))
	}
	return &AddressSpace{root: root}, nil
}

// entry is the address of va's entry in the leaf table; 0 if there is no table and
// none is to be made, or none can be had.
func (a *AddressSpace) entry(va uint64, alloc bool) uint64 {
	t := a.root
	for l := uint(3); l > 0; l-- {
		e := phys(t) + (va>>(12+9*l)&511)*8
		v := load64(e)
		if v&pteP == 0 {
			if !alloc {
				return 0
			}
			n := baseCall(opAllocTable, 0, 0, 0)
			if n == 0 {
				return 0
			}
			v = n | pteP | pteW | pteU
			store64(e, v)
		}
		t = v & pteAddr
	}
	return phys(t) + (va>>12&511)*8
}

const present = pteP | pteNone

func encode(f hal.PFN, p hal.Prot) uint64 {
	v := uint64(f) << 12
	if p == hal.ProtNone {
		return v | pteNone | pteU | pteNX
	}
	v |= pteP | pteU
	if p&hal.ProtWrite != 0 {
		v |= pteW
	}
	if p&hal.ProtExec == 0 {
		v |= pteNX
	}
	return v
}

func decode(v uint64) hal.PTE {
	p := hal.PTE{Frame: hal.PFN(v & pteAddr >> 12), Accessed: v&pteA != 0, Dirty: v&pteD != 0}
	if v&pteP != 0 {
		p.Prot = hal.ProtRead
		if v&pteW != 0 {
			p.Prot |= hal.ProtWrite
		}
		if v&pteNX == 0 {
			p.Prot |= hal.ProtExec
		}
	}
	return p
}

func (a *AddressSpace) flush(va, pages uint64) { baseCall(opFlush, a.root, va, pages) }

// Map implements hal.AddressSpace.
func (a *AddressSpace) Map(batch []hal.Mapping) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range batch {
		m := &batch[i]
		va := uint64(m.Addr)
		if m.Pages < 0 || va&(pageSize-1) != 0 || va >= uint64(hal.UserTop) || uint64(m.Pages) > (uint64(hal.UserTop)-va)>>12 {
			return hal.ErrBadAddress
		}
		replaced, e := false, uint64(0)
		for j := 0; j < m.Pages; j++ {
			if e == 0 || va&(1<<21-1) == 0 {
				if e = a.entry(va, true); e == 0 {
					if replaced {
						a.flush(0, 0)
					}
					return hal.ErrNoMemory
				}
			}
			replaced = replaced || load64(e)&pteP != 0
			store64(e, encode(m.Frame+hal.PFN(j), m.Prot))
			e += 8
			va += pageSize
		}
		if replaced {
			a.flush(uint64(m.Addr), uint64(m.Pages))
		}
	}
	return nil
}

// clip is the part of a range that programs can map.
func clip(addr hal.UserAddr, length uint64) (va, end uint64) {
	va = uint64(addr) &^ (pageSize - 1)
	end = uint64(addr) + length
	if end < va || end > uint64(hal.UserTop) {
		end = uint64(hal.UserTop)
	}
	return va, end
}

// leaves calls f for each run of entries [e, e+8n) of one leaf table in the range.
func (a *AddressSpace) leaves(va, end uint64, f func(va, e, n uint64)) {
	for va < end {
		t, l := a.root, uint(3)
		for ; l > 0; l-- {
			v := load64(phys(t) + (va>>(12+9*l)&511)*8)
			if v&pteP == 0 {
				break
			}
			t = v & pteAddr
		}
		if l > 0 { // nothing below: on to the next entry of this level
			va = (va>>(12+9*l) + 1) << (12 + 9*l)
			continue
		}
		lim := min((va>>21+1)<<21, end)
		n := (lim - va + pageSize - 1) >> 12
		f(va, phys(t)+(va>>12&511)*8, n)
		va = lim
	}
}

// Protect implements hal.AddressSpace.
func (a *AddressSpace) Protect(addr hal.UserAddr, length uint64, p hal.Prot) {
	a.mu.Lock()
	defer a.mu.Unlock()
	va, end := clip(addr, length)
	changed := false
	a.leaves(va, end, func(_, e, n uint64) {
		for ; n > 0; n-- {
			if v := load64(e); v&present != 0 {
				store64(e, encode(hal.PFN(v&pteAddr>>12), p)|v&(pteA|pteD))
				changed = true
			}
			e += 8
		}
	})
	if changed {
		a.flush(va, (end-va+pageSize-1)>>12)
	}
}

// Unmap implements hal.AddressSpace. Leaf tables that become empty are freed.
func (a *AddressSpace) Unmap(addr hal.UserAddr, length uint64, f func(hal.UserAddr, hal.PTE)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	va, end := clip(addr, length)
	for va < end {
		next := end
		found := false
		a.leaves(va, end, func(va, e, n uint64) {
			if found {
				return
			}
			found = true
			next = va + n<<12
			a.unmapLeaf(va, e, n, f)
		})
		if !found {
			return
		}
		va = next
	}
}

func (a *AddressSpace) unmapLeaf(va, e, n uint64, f func(hal.UserAddr, hal.PTE)) {
	got := false
	for i := uint64(0); i < n; i++ {
		v := load64(e + 8*i)
		a.buf[i] = v
		if v&present != 0 {
			store64(e+8*i, 0)
			got = true
		}
	}
	if !got {
		return
	}
	if t := e &^ (pageSize - 1); tableEmpty(t) {
		a.freeLeaf(va, t)
	} else {
		a.flush(va, n)
	}
	if f == nil {
		return
	}
	for i := uint64(0); i < n; i++ {
		if v := a.buf[i]; v&present != 0 {
			f(hal.UserAddr(va+i<<12), decode(v))
		}
	}
}

func tableEmpty(t uint64) bool {
	for i := uint64(0); i < 512; i++ {
		if load64(t+8*i) != 0 {
			return false
		}
	}
	return true
}

// freeLeaf cuts the empty leaf table t out and frees it, and the tables above it
// that become empty. The flush comes between: the processor caches upper entries.
func (a *AddressSpace) freeLeaf(va, t uint64) {
	var up [3]uint64 // tables of level 1, 2, 3 on va's path
	p := a.root
	for l := uint(3); l > 0; l-- {
		up[l-1] = phys(p)
		p = load64(phys(p)+(va>>(12+9*l)&511)*8) & pteAddr
	}
	var dead [3]uint64
	n := 0
	for l := uint(1); l <= 3; l++ {
		dead[n] = t - base.direct
		n++
		store64(up[l-1]+(va>>(12+9*l)&511)*8, 0)
		t = up[l-1]
		if l == 3 || !tableEmpty(t) {
			break
		}
	}
	a.flush(0, 0)
	for _, d := range dead[:n] {
		baseCall(opFreeTable, d, 0, 0)
	}
}

// Query implements hal.AddressSpace.
func (a *AddressSpace) Query(addr hal.UserAddr) (hal.PTE, bool) {
	if addr >= hal.UserTop {
		return hal.PTE{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.entry(uint64(addr), false)
	if e == 0 {
		return hal.PTE{}, false
	}
	v := load64(e)
	return decode(v), v&present != 0
}

// Walk implements hal.AddressSpace.
func (a *AddressSpace) Walk(addr hal.UserAddr, length uint64, clr bool, f func(hal.UserAddr, hal.PTE)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	va, end := clip(addr, length)
	changed := false
	a.leaves(va, end, func(va, e, n uint64) {
		for ; n > 0; n-- {
			if v := load64(e); v&present != 0 {
				if clr && v&(pteA|pteD) != 0 {
					v = andEntry(e, ^uint64(pteA|pteD))
					changed = true
				}
				f(hal.UserAddr(va), decode(v))
			}
			e += 8
			va += pageSize
		}
	})
	if changed {
		a.flush(va, (end-va+pageSize-1)>>12)
	}
}

// Destroy implements hal.AddressSpace.
func (a *AddressSpace) Destroy() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.root == 0 {
		return
	}
	baseCall(opDropRoot, a.root, 0, 0)
	freeTables(a.root, 3)
	a.root = 0
}

func freeTables(t uint64, level uint) {
	n := uint64(512)
	if level == 3 {
		n = 256
	}
	if level > 0 {
		for i := uint64(0); i < n; i++ {
			if v := load64(phys(t) + 8*i); v&pteP != 0 {
				freeTables(v&pteAddr, level-1)
			}
		}
	}
	baseCall(opFreeTable, t, 0, 0)
}

// userSpan clips [addr, addr+n) to the program's half: the bytes that may be tried.
func userSpan(addr hal.UserAddr, n int) uint64 {
	if addr >= hal.UserTop {
		return 0
	}
	return min(uint64(n), uint64(hal.UserTop-addr))
}

// CopyIn implements hal.AddressSpace. The copy goes by words; the bytes before the
// fault in a word that straddles a page's end follow one by one.
func (a *AddressSpace) CopyIn(dst []byte, src hal.UserAddr) (int, hal.UserAddr) {
	n := userSpan(src, len(dst))
	to := addrOf(unsafe.Pointer(unsafe.SliceData(dst)))
	left, fault := userCopy(a, to, uint64(src), n)
	done := n - left
	if k := fault - uint64(src) - done; left != 0 && k > 0 && k < 8 {
		l, _ := userCopy(a, to+done, uint64(src)+done, min(k, left))
		done += min(k, left) - l
	}
	runtime.KeepAlive(dst)
	if done < n {
		return int(done), hal.UserAddr(fault)
	}
	if int(n) < len(dst) {
		return int(n), src + hal.UserAddr(n)
	}
	return int(n), 0
}

// CopyOut implements hal.AddressSpace.
func (a *AddressSpace) CopyOut(dst hal.UserAddr, src []byte) (int, hal.UserAddr) {
	n := userSpan(dst, len(src))
	from := addrOf(unsafe.Pointer(unsafe.SliceData(src)))
	left, fault := userCopy(a, uint64(dst), from, n)
	done := n - left
	if k := fault - uint64(dst) - done; left != 0 && k > 0 && k < 8 {
		l, _ := userCopy(a, uint64(dst)+done, from+done, min(k, left))
		done += min(k, left) - l
	}
	runtime.KeepAlive(src)
	if done < n {
		return int(done), hal.UserAddr(fault)
	}
	if int(n) < len(src) {
		return int(n), dst + hal.UserAddr(n)
	}
	return int(n), 0
}

// Zero implements hal.AddressSpace.
func (a *AddressSpace) Zero(dst hal.UserAddr, length int) (int, hal.UserAddr) {
	n := userSpan(dst, length)
	left, fault := userZero(a, uint64(dst), n)
	done := n - left
	if k := fault - uint64(dst) - done; left != 0 && k > 0 && k < 8 {
		l, _ := userZero(a, uint64(dst)+done, min(k, left))
		done += min(k, left) - l
	}
	if done < n {
		return int(done), hal.UserAddr(fault)
	}
	if int(n) < length {
		return int(n), dst + hal.UserAddr(n)
	}
	return int(n), 0
}

// Load32 implements hal.AddressSpace.
func (a *AddressSpace) Load32(addr hal.UserAddr) (uint32, bool) {
	if addr&3 != 0 || addr >= hal.UserTop {
		return 0, false
	}
	left, _, v := userLoad32(a, uint64(addr))
	return v, left == 0
}

// CAS32 implements hal.AddressSpace.
func (a *AddressSpace) CAS32(addr hal.UserAddr, old, new uint32) (uint32, bool) {
	if addr&3 != 0 || addr >= hal.UserTop {
		return 0, false
	}
	left, _, v := userCAS32(a, uint64(addr), old, new)
	return v, left == 0
}

// Xchg32 implements hal.AddressSpace.
func (a *AddressSpace) Xchg32(addr hal.UserAddr, new uint32) (uint32, bool) {
	if addr&3 != 0 || addr >= hal.UserTop {
		return 0, false
	}
	left, _, v := userXchg32(a, uint64(addr), new)
	return v, left == 0
}
