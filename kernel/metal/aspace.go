package metal

import (
	"runtime"
	"unsafe"

	"kiln/kernel/hal"
	"kiln/kernel/metal/paging"
)

// AddressSpace is a page table whose lower half is a program's (paging.Space); its
// upper half is the kernel's, the same in all. The processor walks it freely.
type AddressSpace struct {
	root uint64 // CR3
	paging.Space
}

// frames gives page tables to paging.Space: frames, seen through the direct map.
type frames struct{}

func (frames) Alloc() (uint64, error) {
	if pa := baseCall(opAllocTable, 0, 0, 0); pa != 0 {
		return pa, nil
	}
	return 0, hal.ErrNoMemory
}

func (frames) Free(pa uint64) { baseCall(opFreeTable, pa, 0, 0) }

func (frames) Table(pa uint64) *paging.Table { return (*paging.Table)(ptr(phys(pa))) }

// Flush implements paging.Flusher.
func (a *AddressSpace) Flush(va hal.UserAddr, pages int, tables bool) {
	n := uint64(pages)
	if tables {
		n |= flushTables
	}
	baseCall(opFlush, a.root, uint64(va), n)
}

// NewAddressSpace makes one without any mapping.
func (*Machine) NewAddressSpace() (hal.AddressSpace, error) {
	root := baseCall(opAllocTable, 0, 0, 0)
	if root == 0 {
		return nil, hal.ErrNoMemory
	}
	const half = 256
	copy((frames{}).Table(root)[half:], (frames{}).Table(base.root)[half:])
	a := &AddressSpace{root: root}
	a.Init(frames{}, a, root)
	return a, nil
}

// Fork implements hal.AddressSpace.
func (a *AddressSpace) Fork(child hal.AddressSpace, addr hal.UserAddr, length uint64, keep func(hal.PFN) bool) error {
	return a.Space.Fork(&child.(*AddressSpace).Space, addr, length, keep)
}

// Retire implements hal.AddressSpace.
func (a *AddressSpace) Retire() {
	baseCall(opDropRoot, a.root, 0, 0)
	a.Space.Retire()
}

// Destroy implements hal.AddressSpace.
func (a *AddressSpace) Destroy() {
	if a.root == 0 {
		return
	}
	a.Space.Destroy()
	baseCall(opFreeTable, a.root, 0, 0)
	a.root = 0
}

// userSpan clips [addr, addr+n) to the program's half: the bytes that may be tried.
func userSpan(addr hal.UserAddr, n int) uint64 {
	if addr >= hal.UserTop {
		return 0
	}
	return min(uint64(n), uint64(hal.UserTop-addr))
}

// CopyIn implements hal.AddressSpace.
func (a *AddressSpace) CopyIn(dst []byte, src hal.UserAddr) (int, hal.UserAddr) {
	n := uint64(len(dst))
	if end := uint64(src) + n; end > uint64(hal.UserTop) || end < n {
		n = userSpan(src, len(dst))
	}
	to := unsafe.Pointer(unsafe.SliceData(dst))
	left, fault := userCopyIn(a, to, uint64(src), n)
	if left == 0 && n == uint64(len(dst)) {
		return len(dst), 0
	}
	done, at := a.partial(addrOf(to), uint64(src), n, left, fault, src)
	runtime.KeepAlive(to)
	return done, at
}

// CopyOut implements hal.AddressSpace.
func (a *AddressSpace) CopyOut(dst hal.UserAddr, src []byte) (int, hal.UserAddr) {
	n := uint64(len(src))
	if end := uint64(dst) + n; end > uint64(hal.UserTop) || end < n {
		n = userSpan(dst, len(src))
	}
	from := unsafe.Pointer(unsafe.SliceData(src))
	left, fault := userCopyOut(a, uint64(dst), from, n)
	if left == 0 && n == uint64(len(src)) {
		return len(src), 0
	}
	done, at := a.partial(uint64(dst), addrOf(from), n, left, fault, dst)
	runtime.KeepAlive(from)
	return done, at
}

// partial ends a copy of n bytes that faulted with left of them to go, or that the end
// of the program's half cut short. The copy goes by up to 32 bytes; those before the
// fault in a step that straddles a page's end follow alone. user is the program's side.
func (a *AddressSpace) partial(to, from, n, left, fault uint64, user hal.UserAddr) (int, hal.UserAddr) {
	done := n - left
	if k := fault - uint64(user) - done; left != 0 && k > 0 && k < 32 {
		l, _ := userCopy(a, to+done, from+done, min(k, left))
		done += min(k, left) - l
	}
	if done < n {
		return int(done), hal.UserAddr(fault)
	}
	return int(n), user + hal.UserAddr(n)
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
