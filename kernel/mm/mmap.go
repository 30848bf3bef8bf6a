package mm

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// MapArgs are mmap's arguments. Object is nil for anonymous memory. Flags are the
// MAP_* bits; Name appears in /proc/self/maps ("[stack]", a path).
type MapArgs struct {
	Addr   hal.UserAddr
	Len    uint64
	Prot   hal.Prot
	Flags  int
	Object *Object
	Offset int64
	// MaxProt bounds later mprotect (a read-only descriptor mapped shared); 0: all.
	MaxProt hal.Prot
	Name    string
	// Dev and Ino identify the file in /proc/self/maps.
	Dev, Ino uint64
	// File is what is mapped, kept while any piece of the mapping is there: its name, where
	// there is no other, is its own to tell.
	File Counted
	// Opened and Closed, if set, are told of each piece of the mapping that comes
	// and goes, in all address spaces, with the space's owner; such pieces are not
	// joined. They are called under the locks of this package.
	Opened, Closed func(owner int32)
	// Denied is what the file's access mode and mount say, given where Linux looks at
	// them. Refused is what the file itself says, when what was there is gone already.
	Denied, Refused error
	// Special is for the kernel's own pages (vvar, vdso): mremap, madvise and
	// merging leave them alone.
	Special bool
}

// Counted is what a mapping keeps, as an open file description.
type Counted interface {
	IncRef()
	DecRef()
}

const protAll = hal.ProtRead | hal.ProtWrite | hal.ProtExec

// Where MAP_HUGETLB's page size is (uapi/asm-generic/hugetlb_encode.h).
const (
	mapHugeShift = 26
	mapHugeMask  = 0x3f
)

// mapKnown are the flags that MAP_SHARED_VALIDATE lets pass (Linux' LEGACY_MAP_MASK
// and what the mm of every file system knows).
const mapKnown = unix.MAP_SHARED | unix.MAP_PRIVATE | unix.MAP_FIXED | unix.MAP_ANONYMOUS |
	unix.MAP_DENYWRITE | unix.MAP_EXECUTABLE | 0x4000000 /* MAP_UNINITIALIZED */ | unix.MAP_GROWSDOWN |
	unix.MAP_LOCKED | unix.MAP_NORESERVE | unix.MAP_POPULATE | unix.MAP_NONBLOCK | unix.MAP_STACK |
	unix.MAP_HUGETLB | unix.MAP_32BIT | 0x3f<<26 /* huge page size */ | unix.MAP_FIXED_NOREPLACE

func pageUp(n uint64) uint64 { return (n + hal.PageMask) &^ hal.PageMask }

// Mmap maps a file or anonymous memory. Errors, in Linux' order: EINVAL (length 0),
// ENOMEM (length or number of mappings too large), ENOMEM, EINVAL and EPERM (fixed
// address too high, unaligned, below 64 KB), EEXIST (MAP_FIXED_NOREPLACE), EAGAIN
// (MAP_LOCKED over the limit), EOVERFLOW (file offset), EINVAL (type, growing
// file), EOPNOTSUPP (MAP_SHARED_VALIDATE), EACCES (write beyond MaxProt), ENOMEM (address
// space or data limit, overcommit). See mmap(2).
//
// There are no huge page pools: MAP_HUGETLB is ENOMEM. The access mode of the
// descriptor, EBADF and ENODEV are the caller's.
func (s *Space) Mmap(c wait.Context, a MapArgs) (hal.UserAddr, error) {
	if a.Flags&unix.MAP_HUGETLB != 0 && a.Object == nil {
		size := a.Flags >> mapHugeShift & mapHugeMask
		switch size { // the sizes that x86 has, log 2
		case 0:
			size = 21
		case 21, 30:
		default:
			return 0, unix.EINVAL
		}
		if mask := uint64(1)<<size - 1; (a.Len+mask)&^mask == 0 { // none, or more than there are
			return 0, unix.EINVAL
		}
		return 0, unix.ENOMEM
	}
	if a.Len == 0 {
		return 0, unix.EINVAL
	}
	if a.Flags&unix.MAP_FIXED_NOREPLACE != 0 {
		a.Flags |= unix.MAP_FIXED
	}
	if a.Flags&unix.MAP_FIXED == 0 {
		if a.Addr &^= hal.PageMask; a.Addr != 0 && a.Addr < minAddr {
			a.Addr = minAddr
		}
	}
	if a.Len = pageUp(a.Len); a.Len == 0 {
		return 0, unix.ENOMEM
	}
	if a.Offset&hal.PageMask != 0 {
		return 0, unix.EINVAL
	}
	s.mu.Lock()
	addr, lock, dead, err := s.mmap(c, &a)
	lazy := s.lockLazy && a.Flags&unix.MAP_LOCKED == 0
	s.mu.Unlock()
	s.bury(dead)
	if err != nil {
		return 0, err
	}
	if lock && !lazy || a.Flags&(unix.MAP_POPULATE|unix.MAP_NONBLOCK) == unix.MAP_POPULATE {
		s.populate(c, addr, addr+a.Len)
	}
	return hal.UserAddr(addr), nil
}

// mmap is Mmap under the lock. dead are mappings to bury, whatever the error.
func (s *Space) mmap(c wait.Context, a *MapArgs) (addr uint64, lock bool, dead *vma, err error) {
	if s.vmas.n > maxMaps {
		return 0, false, nil, unix.ENOMEM
	}
	if addr, err = s.place(a); err != nil {
		return 0, false, nil, err
	}
	if a.Flags&unix.MAP_FIXED_NOREPLACE != 0 {
		if v := s.vmas.above(addr); v != nil && v.start < addr+a.Len {
			return 0, false, nil, unix.EEXIST
		}
	}
	pages := int64(a.Len >> hal.PageShift)
	if lock = a.Flags&unix.MAP_LOCKED != 0 || s.lockAll; lock {
		switch limit := s.memLock(c); {
		case limit == 0 && a.Flags&unix.MAP_LOCKED != 0:
			return 0, false, nil, unix.EPERM
		case uint64(s.locked+pages) > limit>>hal.PageShift:
			return 0, false, nil, unix.EAGAIN
		}
	}
	if (a.Object != nil || a.Denied != nil || a.Refused != nil) && (a.Offset < 0 || a.Offset > 1<<63-1-int64(a.Len)) {
		return 0, false, nil, unix.EOVERFLOW
	}
	v := vma{start: addr, end: addr + a.Len, prot: a.Prot, maxProt: a.MaxProt}
	if v.flags, err = mapFlags(a); err != nil {
		return 0, false, nil, err
	}
	if lock {
		v.flags |= vmLocked
	}
	if a.MaxProt == 0 {
		v.maxProt = protAll
	}
	if a.Prot&^v.maxProt != 0 {
		return 0, false, nil, unix.EACCES
	}
	fixed, backed := a.Flags&unix.MAP_FIXED != 0, a.backed()
	if !s.mayExpand(pages, v.prot, v.flags) { // what is replaced counts in its favour
		if !fixed || !s.mayExpand(pages-s.covered(v.start, v.end), v.prot, v.flags) {
			return 0, false, nil, unix.ENOMEM
		}
	}
	if !fixed {
		if err = s.granted(&v, a); err != nil {
			return 0, false, nil, err
		}
		if !backed && a.Object == nil && s.extend(&v) {
			return addr, lock, nil, nil
		}
	}
	cost := int64(vmaCost)
	if backed {
		cost += backingCost
	}
	if !s.mem.budget.Charge(cost) {
		return 0, false, nil, unix.ENOMEM
	}
	if fixed {
		// What was there goes before the last checks, as on Linux.
		if err = s.clearFor(&v, &dead); err == nil {
			err = s.granted(&v, a)
		}
		if err != nil {
			s.mem.budget.Uncharge(cost)
			return 0, false, dead, err
		}
	}
	n := newVMA(v)
	s.furnish(n, a, backed)
	s.add(n)
	s.merge(n, &dead)
	return addr, lock, dead, nil
}

// extend lets a neighbour grow over v, new private memory in a free place, if it is like
// it: what an allocator asks for lies below what it asked for last.
func (s *Space) extend(v *vma) bool {
	if v.flags&(vmGrowsDown|vmSpecial) != 0 {
		return false
	}
	next := s.vmas.above(v.start)
	var prev *vma
	if next != nil {
		prev = next.prev()
	} else {
		prev = s.vmas.lastOne()
	}
	up := next != nil && v.canMerge(next)
	down := prev != nil && prev.canMerge(v)
	switch {
	case up && down:
		return false // the two become one
	case up:
		s.resize(next, v.start, next.end)
		s.account(next, v.pages())
	case down:
		s.resize(prev, prev.start, v.end)
		s.account(prev, v.pages())
	}
	return up || down
}

// mapFlags turns MAP_* into the mapping's flags.
func mapFlags(a *MapArgs) (f vmFlags, err error) {
	switch a.Flags & unix.MAP_TYPE {
	case unix.MAP_SHARED_VALIDATE:
		if a.Object == nil && a.Denied == nil && a.Refused == nil {
			return 0, unix.EINVAL
		}
		if a.Flags&^mapKnown&^unix.MAP_SHARED_VALIDATE != 0 {
			return 0, unix.EOPNOTSUPP
		}
		f = vmShared
	case unix.MAP_SHARED:
		f = vmShared
	case unix.MAP_PRIVATE:
	default:
		return 0, unix.EINVAL
	}
	if a.Denied != nil {
		return 0, a.Denied
	}
	if a.Flags&unix.MAP_GROWSDOWN != 0 {
		if a.Object != nil || a.Refused != nil || f&vmShared != 0 {
			return 0, unix.EINVAL
		}
		f |= vmGrowsDown
	}
	if a.Flags&unix.MAP_NORESERVE != 0 {
		f |= vmNoReserve
	}
	if a.Special {
		f |= vmSpecial | vmDontDump
	}
	if accountable(a.Prot, f) || f&vmShared != 0 && a.Object == nil && f&vmNoReserve == 0 {
		f |= vmAccount
	}
	return f, nil
}

// accountable is what overcommit accounting counts: private and writable.
func accountable(p hal.Prot, f vmFlags) bool {
	return p&hal.ProtWrite != 0 && f&(vmShared|vmNoReserve) == 0
}

// granted are the checks of a mapping whose place is free: ENOMEM (overcommit), and what the
// file says.
func (s *Space) granted(v *vma, a *MapArgs) error {
	ofFile := a.Refused != nil && a.Flags&unix.MAP_TYPE != unix.MAP_PRIVATE // shared: nobody's memory
	if v.flags&vmAccount != 0 && !ofFile && !s.mem.enough(v.pages()) {
		return unix.ENOMEM
	}
	return a.Refused
}

// covered counts the pages of mappings in [start, end).
func (s *Space) covered(start, end uint64) (n int64) {
	for v := s.vmas.above(start); v != nil && v.start < end; v = v.next() {
		n += int64((min(v.end, end) - max(v.start, start)) >> hal.PageShift)
	}
	return n
}

// backed says whether the mapping has a backing: it is of something, or shared.
func (a *MapArgs) backed() bool {
	return a.File != nil || a.Name != "" || a.Ino != 0 ||
		a.Object == nil && a.Flags&unix.MAP_TYPE != unix.MAP_PRIVATE
}

// furnish gives a new mapping its object and backing, with their references.
func (s *Space) furnish(v *vma, a *MapArgs, backed bool) {
	name, dev, ino := a.Name, a.Dev, a.Ino
	switch {
	case a.Object != nil:
		v.obj, v.off = a.Object, a.Offset
		v.obj.IncRef()
	case v.shared():
		v.obj = NewObject(s.mem, nil, int64(a.Len))
		if name == "" {
			name, dev, ino = "/dev/zero (deleted)", 1, s.mem.anonIno.Add(1)
		}
	}
	if backed {
		v.back = &backing{name: name, dev: dev, ino: ino, file: a.File}
		v.back.refs.Store(1)
		v.back.opened, v.back.closed = a.Opened, a.Closed
		if a.File != nil {
			a.File.IncRef()
		}
		if a.Opened != nil {
			a.Opened(s.owner.Load())
		}
	}
}

// place chooses the address (get_unmapped_area).
func (s *Space) place(a *MapArgs) (uint64, error) {
	addr, n := uint64(a.Addr), a.Len
	if n > userTop {
		return 0, unix.ENOMEM
	}
	if a.Flags&unix.MAP_FIXED != 0 {
		switch {
		case addr > userTop-n:
			return 0, unix.ENOMEM
		case addr&hal.PageMask != 0:
			return 0, unix.EINVAL
		case addr < minAddr:
			return 0, unix.EPERM
		}
		return addr, nil
	}
	top := uint64(userTop)
	if a.Flags&unix.MAP_32BIT != 0 {
		top = 1 << 31
	}
	if addr != 0 && n <= top && addr <= top-n {
		if v := s.vmas.above(addr); v == nil || addr+n <= v.lowEdge() {
			return addr, nil
		}
	}
	if a.Flags&unix.MAP_32BIT != 0 {
		return orNoMem(s.vmas.lowest(n, 1<<30, top))
	}
	if at, ok := s.vmas.highest(n, minAddr, s.mmapBase); ok {
		return at, nil
	}
	return orNoMem(s.vmas.lowest(n, pageUp(userTop/3), userTop))
}

func orNoMem(a uint64, ok bool) (uint64, error) {
	if !ok {
		return 0, unix.ENOMEM
	}
	return a, nil
}

// clearFor makes [v.start, v.end) free.
func (s *Space) clearFor(v *vma, dead **vma) error {
	if err := s.cut(v.start, v.end); err != nil {
		return err
	}
	*dead = s.unmapRange(v.start, v.end)
	return nil
}

// cut splits the mappings that straddle start and end, so that whole mappings fill
// the range. ENOMEM if that takes more mappings than there may be.
func (s *Space) cut(start, end uint64) error {
	if v := s.vmas.at(start); v != nil && v.start < start {
		if _, err := s.split(v, start); err != nil {
			return err
		}
	}
	if v := s.vmas.at(end); v != nil && v.start < end {
		if _, err := s.split(v, end); err != nil {
			return err
		}
	}
	return nil
}

// unmapRange takes the whole mappings in [start, end) away, their pages with them.
func (s *Space) unmapRange(start, end uint64) (dead *vma) {
	s.notePeak()
	run := pageRun{s: s, f: s.unref, lo: start, hi: start}
	for v := s.vmas.above(start); v != nil && v.start < end; {
		next := v.next()
		run.add(v)
		s.drop(v, &dead)
		v = next
	}
	run.end()
	return dead
}

// unmapAll takes everything away from a space whose last user has left: the tree of
// mappings and the page count are not kept up on the way.
func (s *Space) unmapAll() (dead *vma) {
	run := pageRun{s: s, f: func(_ hal.UserAddr, p hal.PTE) {
		if p.Frame != s.mem.zero {
			s.mem.Unref(p.Frame)
		}
	}}
	s.hit.Store(nil)
	for v := s.vmas.first(); v != nil; v = v.next() {
		run.add(v)
		s.account(v, -v.pages())
		v.die(&dead)
	}
	run.end()
	s.vmas = vmaTree{}
	s.rss.Store(0)
	return dead
}

// pageRun takes the pages of mappings that come in address order out of the page table,
// several mappings in one step.
type pageRun struct {
	s      *Space
	f      func(hal.UserAddr, hal.PTE)
	lo, hi uint64
}

// nearMaps is how far apart mappings are that go in one step. Looking for pages where
// there are none costs something for each table that could be: to end a process by one
// step over its half of the address space took longer than to free its pages.
const nearMaps = 8 << 20

func (r *pageRun) add(v *vma) {
	if o := v.obj; o != nil && o.src != nil && v.shared() {
		v.unmapDirty(r.f)
	}
	if v.start > r.hi+nearMaps {
		r.end()
		r.lo = v.start
	}
	r.hi = v.end
}

// unmapDirty takes the pages of a shared file's mapping away and remembers in the file
// what the program wrote.
func (v *vma) unmapDirty(f func(hal.UserAddr, hal.PTE)) {
	o := v.obj
	o.mu.Lock()
	defer o.mu.Unlock()
	v.space.HW.Unmap(hal.UserAddr(v.start), v.size(), func(a hal.UserAddr, p hal.PTE) {
		if p.Dirty {
			o.markDirty(v.index(uint64(a)))
		}
		f(a, p)
	})
}

// end does what is left.
func (r *pageRun) end() {
	if r.hi > r.lo {
		r.s.HW.Unmap(hal.UserAddr(r.lo), r.hi-r.lo, r.f)
	}
}

func (s *Space) unmapPages(lo, hi uint64) {
	if hi > lo {
		s.HW.Unmap(hal.UserAddr(lo), hi-lo, s.unref)
	}
}

// Munmap takes [addr, addr+n) away. EINVAL: unaligned, empty or beyond the top;
// ENOMEM: it would split into too many mappings. See munmap(2).
func (s *Space) Munmap(addr hal.UserAddr, n uint64) error {
	a := uint64(addr)
	if a&hal.PageMask != 0 || a > userTop || n > userTop-a {
		return unix.EINVAL
	}
	if n = pageUp(n); n == 0 {
		return unix.EINVAL
	}
	s.mu.Lock()
	if s.trim(a, a+n) {
		s.mu.Unlock()
		return nil
	}
	err := s.cut(a, a+n)
	var dead *vma
	if err == nil {
		dead = s.unmapRange(a, a+n)
	}
	s.mu.Unlock()
	s.bury(dead)
	return err
}

// trim is Munmap of one end of private memory: extend's opposite.
func (s *Space) trim(start, end uint64) bool {
	v := s.vmas.at(start)
	if v == nil || v.obj != nil || v.end < end || (v.start == start) == (v.end == end) {
		return false
	}
	s.notePeak()
	s.account(v, -int64((end-start)>>hal.PageShift))
	if v.start == start {
		s.resize(v, end, v.end)
	} else {
		s.resize(v, v.start, start)
	}
	s.unmapPages(start, end)
	return true
}

// stride is after how many bytes of work on one call others are let run.
const stride = 16 << 20

// dies lets other threads run after each stride, and says whether the thread is to die.
func (s *Space) dies(c wait.Context, done uint64) bool {
	return done != 0 && done%stride == 0 && s.pause(c)
}

func (s *Space) pause(c wait.Context) (dies bool) {
	const pause = 20000 // nanoseconds
	return c.Block(s.mem.M.Nanotime()+pause, wait.Killable) == wait.Kill
}

// populate brings the pages of [start, end) in, as far as that goes (MAP_POPULATE,
// mlock); errors show at the program's own access. Of a large range it lets others run
// from time to time, and ends when the thread is to die.
func (s *Space) populate(c wait.Context, start, end uint64) error {
	for a := start; a < end; a += hal.PageSize {
		if s.dies(c, a-start) {
			return unix.EINTR
		}
		access := hal.ProtRead
		s.mu.RLock()
		v := s.find(a)
		if v == nil || v.prot == 0 {
			s.mu.RUnlock()
			return &FaultError{int(unix.SIGSEGV), segvAccErr, hal.UserAddr(a)}
		}
		if v.prot&hal.ProtWrite != 0 && !v.shared() {
			access = hal.ProtWrite
		} else if v.prot&hal.ProtRead == 0 {
			access = v.prot & hal.ProtExec
		}
		s.mu.RUnlock()
		if err := s.faultPatiently(c, hal.UserAddr(a), access); err != nil {
			return err
		}
	}
	return nil
}
