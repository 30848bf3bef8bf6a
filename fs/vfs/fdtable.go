package vfs

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// maxDescriptors is fs.nr_open: no table grows beyond it.
const maxDescriptors = 1 << 20

// FDTable is a process's descriptors. Get takes no lock: it is on the path of every
// read and write.
//
// The slots are an array of atomic pointers, replaced by a longer copy when it is
// full. Get loads a file, takes a reference unless the file is dying, and looks
// again: if table or slot changed, the file may have been closed in between and the
// reference goes back. Writers hold mu.
type FDTable struct {
	slots atomic.Pointer[[]atomic.Pointer[File]]
	refs  atomic.Int64

	mu      sync.Mutex
	used    []uint64 // a bit a descriptor
	cloexec []uint64
	hint    int // no free descriptor below it
	charged int64
	max     int
	// lent are files that calls find under numbers that are no descriptors (Lend).
	lent   map[int32]*File
	lentNr int32

	// first is what most processes never outgrow.
	first struct {
		slots         [64]atomic.Pointer[File]
		slice         []atomic.Pointer[File]
		used, cloexec [1]uint64
	}
}

// firstLent is above every descriptor.
const firstLent = 1 << 30

// Lend makes f, of which the caller holds a reference, what Get finds under the number it
// returns, until TakeBack: for calls that are given a file and not a descriptor
// (io_uring's registered files). It is no descriptor: nothing lists, copies or closes it.
func (t *FDTable) Lend(f *File) int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lent == nil {
		t.lent = map[int32]*File{}
	}
	for {
		t.lentNr = (t.lentNr + 1) & (firstLent - 1)
		if n := firstLent + t.lentNr; t.lent[n] == nil {
			t.lent[n] = f
			return n
		}
	}
}

// TakeBack ends a Lend.
func (t *FDTable) TakeBack(n int32) {
	t.mu.Lock()
	delete(t.lent, n)
	t.mu.Unlock()
}

func (t *FDTable) getLent(n int32) *File {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.lent[n]
	if f != nil {
		f.IncRef()
	}
	return f
}

// NewFDTable is an empty table with its reference held; max is RLIMIT_NOFILE's soft
// limit, which SetMax changes.
func NewFDTable(max int) *FDTable {
	t := &FDTable{max: max}
	t.refs.Store(1)
	t.grow(64)
	return t
}

// slotCost is what a descriptor's slot is charged to the kernel-heap budget, in bytes.
const slotCost = 9

var budget atomic.Pointer[mm.Budget]

// clock is the memory of whose machine the clock is.
var clock atomic.Pointer[mm.Memory]

// Init bounds what descriptors may cost: tables are charged to mem's budget, and there is
// one description for each 4 KiB of memory at most. Called once at boot.
func Init(mem *mm.Memory) {
	clock.Store(mem)
	budget.Store(mem.Budget())
	SetMaxFiles(max(int64(mem.TotalPages()), 8192))
}

// grow makes room for n descriptors (a multiple of 64), or says false at the edge of the
// kernel-heap budget. Called with mu held.
func (t *FDTable) grow(n int) bool {
	if b := budget.Load(); b != nil && n > 1024 { // small tables are the process's own cost
		cost := int64(n) * slotCost
		if !b.Charge(cost - t.charged) {
			return false
		}
		t.charged = cost
	}
	t.extend(n)
	return true
}

// extend is grow after the charge.
func (t *FDTable) extend(n int) {
	old, f := t.slots.Load(), &t.first
	if old == nil && n == len(f.slots) {
		f.slice = f.slots[:]
		t.slots.Store(&f.slice)
		t.used, t.cloexec = f.used[:], f.cloexec[:]
		return
	}
	s := make([]atomic.Pointer[File], n)
	if old != nil {
		for i := range *old {
			s[i].Store((*old)[i].Load())
		}
	}
	t.used = append(t.used, make([]uint64, n/64-len(t.used))...)
	t.cloexec = append(t.cloexec, make([]uint64, n/64-len(t.cloexec))...)
	t.slots.Store(&s)
}

// room makes fd a valid index; ENOMEM. Called with mu held.
func (t *FDTable) room(fd int) error {
	n := len(*t.slots.Load())
	if fd < n {
		return nil
	}
	for n <= fd {
		n *= 2
	}
	if !t.grow(n) {
		return unix.ENOMEM
	}
	return nil
}

// SetMax changes the limit for new descriptors.
func (t *FDTable) SetMax(max int) {
	t.mu.Lock()
	t.max = max
	t.mu.Unlock()
}

// Get returns the file with a reference taken, nil if fd is not open.
func (t *FDTable) Get(fd int32) *File {
	for {
		s := t.slots.Load()
		if fd < 0 || int(fd) >= len(*s) {
			if fd >= firstLent {
				return t.getLent(fd)
			}
			return nil
		}
		f := (*s)[fd].Load()
		if f == nil {
			if t.slots.Load() == s {
				return nil
			}
			continue
		}
		// It was open when the slot was read, or when s was replaced, and no File is used
		// again for another: it is the right one even if the slot has changed since.
		if f.TryIncRef() {
			return f
		}
		// It is being closed: the slot has changed.
	}
}

// Borrow is Get for the time in which the calling task, whose table it is, does not wait
// for anything that signals end: the reference is counted only if others use the table,
// since nobody else closes descriptors in it. A lent file's reference is the lender's.
func (t *FDTable) Borrow(fd int32) (f *File, counted bool) {
	if f := t.Sole(fd); f != nil {
		return f, false
	}
	return t.Get(fd), true
}

// Sole is Borrow for who wants it in line: nil if others use the table, or there is no such
// file in it.
func (t *FDTable) Sole(fd int32) *File {
	if t.refs.Load() != 1 {
		return nil
	}
	s := *t.slots.Load()
	if uint(fd) >= uint(len(s)) {
		return nil
	}
	return s[fd].Load()
}

// Install puts f (taking over the caller's reference) at the lowest free number
// >= min; EMFILE at the limit, ENFILE when the machine has too many open files (the
// reference stays the caller's).
func (t *FDTable) Install(f *File, min int32, cloexec bool) (int32, error) {
	if tooManyFiles() {
		return -1, unix.ENFILE
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fd := t.lowest(int(min))
	if fd >= t.max || fd >= maxDescriptors {
		return -1, unix.EMFILE
	}
	if err := t.room(fd); err != nil {
		return -1, err
	}
	t.set(fd, f, cloexec)
	if int(min) <= t.hint {
		t.hint = fd + 1
	}
	return int32(fd), nil
}

// Full says whether the table has no room for n more descriptors: open asks before it makes
// a file.
func (t *FDTable) Full(n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	fd := t.lowest(0)
	for ; n > 1; n-- {
		fd = t.lowest(fd + 1)
	}
	return fd >= t.max || fd >= maxDescriptors
}

// lowest is the first free number >= min. Called with mu held.
func (t *FDTable) lowest(min int) int {
	fd := max(min, t.hint)
	for w := fd / 64; w < len(t.used); w++ {
		free := ^t.used[w]
		if w == fd/64 {
			free &= ^uint64(0) << (fd % 64)
		}
		if free != 0 {
			return w*64 + bits.TrailingZeros64(free)
		}
	}
	return max(fd, len(t.used)*64)
}

// set fills a slot. Called with mu held.
func (t *FDTable) set(fd int, f *File, cloexec bool) (old *File) {
	bit := uint64(1) << (fd % 64)
	t.used[fd/64] |= bit
	t.cloexec[fd/64] &^= bit
	if cloexec {
		t.cloexec[fd/64] |= bit
	}
	return (*t.slots.Load())[fd].Swap(f)
}

// clear empties a slot. Called with mu held.
func (t *FDTable) clear(fd int) *File {
	old := (*t.slots.Load())[fd].Swap(nil)
	if old == nil {
		return nil
	}
	bit := uint64(1) << (fd % 64)
	t.used[fd/64] &^= bit
	t.cloexec[fd/64] &^= bit
	t.hint = min(t.hint, fd)
	return old
}

// InstallAt is dup2's half: replaces what was at fd, whose old file is returned for
// the caller to close (Close). EBADF beyond the limit.
func (t *FDTable) InstallAt(f *File, fd int32, cloexec bool) (old *File, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fd < 0 || int(fd) >= t.max || int(fd) >= maxDescriptors {
		return nil, unix.EBADF
	}
	if err := t.room(int(fd)); err != nil {
		return nil, err
	}
	return t.set(int(fd), f, cloexec), nil
}

// Remove takes fd out; nil if it was not open.
func (t *FDTable) Remove(fd int32) *File {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fd < 0 || int(fd) >= len(*t.slots.Load()) {
		return nil
	}
	return t.clear(int(fd))
}

// Withdraw closes fd where it is f still, for a call that fails after Install: another thread may
// have closed the number meanwhile, and opened something else by it.
func (t *FDTable) Withdraw(fd int32, f *File) {
	t.mu.Lock()
	mine := t.open(fd) && (*t.slots.Load())[fd].Load() == f
	if mine {
		t.clear(int(fd))
	}
	t.mu.Unlock()
	if mine {
		t.Close(f)
	}
}

// open says whether fd is open. Called with mu held.
func (t *FDTable) open(fd int32) bool {
	s := *t.slots.Load()
	return fd >= 0 && int(fd) < len(s) && s[fd].Load() != nil
}

// CloseOnExec and SetCloseOnExec are FD_CLOEXEC; ok is false for a closed fd.
func (t *FDTable) CloseOnExec(fd int32) (on, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open(fd) {
		return false, false
	}
	return t.cloexec[fd/64]>>(fd%64)&1 != 0, true
}

// SetCloseOnExec sets or clears FD_CLOEXEC.
func (t *FDTable) SetCloseOnExec(fd int32, on bool) (ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open(fd) {
		return false
	}
	t.cloexec[fd/64] &^= 1 << (fd % 64)
	if on {
		t.cloexec[fd/64] |= 1 << (fd % 64)
	}
	return true
}

// Fork is a copy (clone without CLONE_FILES).
func (t *FDTable) Fork() *FDTable {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := NewFDTable(t.max)
	// Only as long as the highest descriptor needs, and whatever the budget says: fork
	// has no way to fail here.
	w := len(t.used)
	for w > 1 && t.used[w-1] == 0 {
		w--
	}
	if n.room(w*64-1) != nil {
		n.extend(w * 64)
	}
	copy(n.cloexec, t.cloexec)
	copy(n.used, t.used[:w])
	s, d := *t.slots.Load(), *n.slots.Load()
	for fd := t.next(0); fd >= 0; fd = t.next(fd + 1) {
		f := s[fd].Load()
		f.IncRef()
		d[fd].Store(f)
	}
	n.hint = t.hint
	return n
}

// next is the first open descriptor from fd on, -1 if there is none. Called with mu held.
func (t *FDTable) next(fd int) int {
	for w := fd / 64; w < len(t.used); w++ {
		left := t.used[w]
		if w == fd/64 {
			left &= ^uint64(0) << (fd % 64)
		}
		if left != 0 {
			return w*64 + bits.TrailingZeros64(left)
		}
	}
	return -1
}

// IncRef and DecRef share the table (CLONE_FILES); the last DecRef closes everything.
func (t *FDTable) IncRef() { t.refs.Add(1) }

// DecRef drops a user.
func (t *FDTable) DecRef() {
	if t.refs.Add(-1) == 0 {
		t.closeWhere(func(int) bool { return true })
		if b := budget.Load(); b != nil {
			b.Uncharge(t.charged)
			t.charged = 0
		}
	}
}

// UsedBy notes on all descriptions who is about to end the table, if somebody wants to know.
func (t *FDTable) UsedBy(c wait.Context) {
	if listening() && t.refs.Load() == 1 {
		t.Range(func(_ int32, f *File, _ bool) bool {
			f.usedBy(c)
			return true
		})
	}
}

// Shared says whether more than one task uses the table.
func (t *FDTable) Shared() bool { return t.refs.Load() > 1 }

// Exec closes the close-on-exec descriptors.
func (t *FDTable) Exec() {
	t.closeWhere(func(fd int) bool { return t.cloexec[fd/64]>>(fd%64)&1 != 0 })
}

// CloseRange closes first to last; with cloexecOnly it sets FD_CLOEXEC instead.
func (t *FDTable) CloseRange(first, last uint32, cloexecOnly bool) {
	in := func(fd int) bool { return uint64(fd) >= uint64(first) && uint64(fd) <= uint64(last) }
	if !cloexecOnly {
		t.closeWhere(in)
		return
	}
	t.mu.Lock()
	for fd := range *t.slots.Load() {
		if in(fd) && t.open(int32(fd)) {
			t.cloexec[fd/64] |= 1 << (fd % 64)
		}
	}
	t.mu.Unlock()
}

// closeWhere closes what pick chooses; pick runs with mu held, closing without.
func (t *FDTable) closeWhere(pick func(fd int) bool) {
	for fd := 0; ; fd++ {
		t.mu.Lock()
		for fd = t.next(fd); fd >= 0 && !pick(fd); {
			fd = t.next(fd + 1)
		}
		var f *File
		if fd >= 0 {
			f = t.clear(fd)
		}
		t.mu.Unlock()
		if f == nil {
			return
		}
		t.Close(f)
	}
}

// Close is what closing a descriptor does beyond taking it out: POSIX record locks of
// this table on the file go, Flush is called, the reference dropped.
func (t *FDTable) Close(f *File) { t.CloseBy(nil, f) }

// CloseBy is Close on behalf of c.
func (t *FDTable) CloseBy(c wait.Context, f *File) {
	f.UsedBy(c)
	f.dropPosixLocks(t)
	if f.Flags()&unix.O_PATH == 0 {
		if f.notify.Load() != nil {
			f.dropNotify()
		}
		f.Ops.Flush(t, f)
	}
	f.DecRef()
}

// Range calls f for each open descriptor in order until it returns false. f runs
// without locks; file holds a reference during the call.
func (t *FDTable) Range(f func(fd int32, file *File, cloexec bool) bool) {
	for fd := int32(0); int(fd) < len(*t.slots.Load()); fd++ {
		file := t.Get(fd)
		if file == nil {
			continue
		}
		on, _ := t.CloseOnExec(fd)
		more := f(fd, file, on)
		file.DecRef()
		if !more {
			return
		}
	}
}

// Count is the number of open descriptors.
func (t *FDTable) Count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, w := range t.used {
		n += bits.OnesCount64(w)
	}
	return n
}

// Size is one past the highest number that fits without growing (select's bound).
func (t *FDTable) Size() int { return len(*t.slots.Load()) }
