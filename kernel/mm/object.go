package mm

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

const (
	maxReadAhead = 32 // pages: the longest read from a source
	minReadAhead = 4
	readAround   = 16 // pages: what a fault reads, aligned
	// maxFilePages bounds an index so that offsets never overflow.
	maxFilePages = (1<<63 - 1) >> hal.PageShift
)

// Object is the page cache of one regular file: index → frame. read, write and
// mmap use the same frames; tmpfs, memfd and shared anonymous memory are Objects
// without a source. It knows its mappings, for truncate, write-back and reclaim.
//
// mu guards the pages and the list of mappings, with their address ranges. A page
// fault on a mapping of the object holds mu from the look-up until the page is in
// the page table, and whoever takes a page away holds mu over both steps, so no
// stale page can stay mapped.
type Object struct {
	mem  *Memory
	src  Source
	refs atomic.Int64
	size atomic.Int64 // bytes; changed under mu
	// srcEnd is one past the last page that the source has; pages beyond it are new
	// and zero. It sinks with Truncate and rises with write-back. Changed under mu.
	srcEnd atomic.Int64
	group  int64 // of a Grouped source, else 1

	mu       sync.Mutex
	pages    radix
	maps     *vma         // through vma.onext
	resident atomic.Int64 // present slots; changed under mu
	charge   func(pages int64) bool
	// ahead is where a sequential reader would go on, window its read-ahead.
	ahead  int64
	window int
	busy   waiter.Queue // readers of pages that are being filled

	// writers serialises WriteAt, Truncate and PunchHole, as Linux's i_rwsem does.
	writers SleepLock

	// Links of the clock, under reclaimer.mu, and its hand, under mu.
	ringNext, ringPrev *Object
	hand               int64
}

// NewObject makes an object of size bytes with one reference. A nil src is memory
// (KindShmem).
func NewObject(mem *Memory, src Source, size int64) *Object {
	o := &Object{mem: mem, src: src}
	o.pages.budget = &mem.budget
	o.refs.Store(1)
	o.size.Store(size)
	if src != nil {
		o.srcEnd.Store(pagesFor(size))
		o.group = 1
		if g, ok := src.(Grouped); ok {
			o.group = int64(min(max(g.Group(), 1), maxReadAhead))
		}
	}
	return o
}

// Size in bytes.
func (o *Object) Size() int64 { return o.size.Load() }

// Pages counts the pages in the cache, for st_blocks.
func (o *Object) Pages() int64 { return o.resident.Load() }

// SetCharge installs the owner's quota (tmpfs size=): f(n) takes n more pages or says
// false (ENOSPC), f(-n) gives them back. It runs under the object's lock and must
// not call back. Set it before the first page exists.
func (o *Object) SetCharge(f func(pages int64) bool) { o.charge = f }

// IncRef and DecRef count users (open inode, mappings); the last one frees the pages.
func (o *Object) IncRef() { o.refs.Add(1) }

// DecRef drops a user.
func (o *Object) DecRef() {
	switch n := o.refs.Add(-1); {
	case n < 0:
		panic("mm: Object released twice")
	case n > 0:
		return
	}
	o.mem.reclaim.remove(o)
	o.mu.Lock()
	o.dropFrom(0)
	o.mu.Unlock()
}

// tryIncRef is IncRef unless the object is already dying.
func (o *Object) tryIncRef() bool {
	for {
		n := o.refs.Load()
		if n <= 0 {
			return false
		}
		if o.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func pagesFor(size int64) int64 { return (size + hal.PageMask) >> hal.PageShift }

// kind is that of the frames the object allocates.
func (o *Object) kind() Kind {
	if o.src == nil {
		return KindShmem
	}
	return KindCache
}

// lookup finds page idx without filling it: its frame, and whether it is valid. Called
// with mu held. A page of the image that was never written has no slot.
func (o *Object) lookup(idx int64) (f hal.PFN, st slot) {
	if o.resident.Load() != 0 {
		if p := o.pages.get(idx); p != nil && *p != 0 {
			*p |= slotUsed
			return p.frame(), *p
		}
	}
	if f, ok := o.imageFrame(idx); ok {
		return f, slotPresent
	}
	return 0, 0
}

// imageFrame is the frame of the image that holds page idx.
func (o *Object) imageFrame(idx int64) (hal.PFN, bool) {
	f, n := o.imageRun(idx, 1)
	return f, n > 0
}

// imageRun is the first of up to most frames of the image that hold pages from idx on.
func (o *Object) imageRun(idx int64, most int) (hal.PFN, int) {
	if left := o.srcEnd.Load() - idx; left > 0 {
		return o.src.ImageRun(idx, int(min(int64(most), left)))
	}
	return 0, 0
}

// insert stores a new page; the caller's reference becomes the cache's. Called with
// mu held.
func (o *Object) insert(idx int64, f hal.PFN, state slot) error {
	if o.charge != nil && !o.charge(1) {
		return unix.ENOSPC
	}
	if !o.pages.set(idx, makeSlot(f, state)) {
		if o.charge != nil {
			o.charge(-1)
		}
		return unix.ENOMEM
	}
	if o.resident.Add(1) == 1 && o.src != nil {
		o.mem.reclaim.add(o)
	}
	return nil
}

// remove takes page idx out of the cache and drops the cache's reference. Called
// with mu held; mappings are the caller's business.
func (o *Object) remove(idx int64) {
	st := o.pages.clear(idx)
	if st == 0 {
		return
	}
	o.resident.Add(-1)
	if o.charge != nil {
		o.charge(-1)
	}
	o.mem.Unref(st.frame())
}

// dropFrom removes every page from idx on. Called with mu held.
func (o *Object) dropFrom(idx int64) {
	for i := o.pages.next(idx); i >= 0; i = o.pages.next(i) {
		o.remove(i)
	}
}

// Page gives page idx with a reference taken, reading it if it is absent; EFAULT
// beyond the end (the caller's SIGBUS).
func (o *Object) Page(c wait.Context, idx int64) (hal.PFN, error) {
	return o.page(c, idx, readAround, true)
}

// page is Page with the number of pages the caller wants from idx on (around: the
// neighbours before it too).
func (o *Object) page(c wait.Context, idx int64, want int, around bool) (hal.PFN, error) {
	for {
		o.mu.Lock()
		if idx < 0 || idx >= pagesFor(o.size.Load()) {
			o.mu.Unlock()
			return 0, unix.EFAULT
		}
		f, st := o.lookup(idx)
		switch {
		case st&slotBusy != 0:
			o.mu.Unlock()
			o.waitBusy(c, idx)
		case st != 0:
			o.mem.Ref(f)
			ahead := st&slotAhead != 0
			if ahead {
				*o.pages.get(idx) &^= slotAhead
			}
			o.mu.Unlock()
			if ahead {
				o.startAhead()
			}
			return f, nil
		case !around && o.src == nil && o.mem.zero != 0:
			o.mu.Unlock()
			return o.mem.zero, nil // reading a hole in memory does not fill it
		default:
			o.mu.Unlock()
			if err := o.fill(c, idx, want, around); err != nil {
				return 0, err
			}
		}
	}
}

func (o *Object) waitBusy(c wait.Context, idx int64) {
	blockUntil(c, &o.busy, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.pages.state(idx)&slotBusy == 0
	})
}

// fill brings page idx into the cache if it is absent; nil also when it came and went
// meanwhile, so callers look again. Called without locks.
func (o *Object) fill(c wait.Context, idx int64, want int, around bool) error {
	if idx >= o.srcEnd.Load() {
		return o.fillZero(idx)
	}
	buf := o.mem.spare.Get().(*[maxReadAhead]hal.PFN)
	defer o.mem.spare.Put(buf)
	for {
		o.mu.Lock()
		if o.pages.state(idx) != 0 {
			o.mu.Unlock()
			return nil
		}
		first, n := o.readWindow(idx, want, around)
		o.mem.reclaim.filling.Add(1)
		got, err := o.reserve(first, buf[:n])
		o.mu.Unlock()
		if err == nil && first+int64(got) > idx {
			err = o.readInto(c, first, buf[:got])
			o.mem.reclaim.endFill(true)
			if err == nil || got == 1 {
				return err
			}
			// A neighbour may be what the device cannot read.
		} else {
			o.release(first, buf[:got])
			o.mem.reclaim.endFill(false)
			if err == nil && !o.mem.reclaimOrWait(c) {
				err = unix.ENOMEM
			}
			if err != nil {
				return err
			}
		}
		want, around = 0, false // that page alone
	}
}

// fillZero gives a page that the source does not have: zeroes.
func (o *Object) fillZero(idx int64) error {
	f, err := o.mem.Alloc(o.kind())
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pages.state(idx) == 0 && idx < pagesFor(o.size.Load()) {
		if err = o.insert(idx, f, slotUsed); err == nil {
			return nil
		}
	}
	o.mem.Unref(f)
	return err
}

// readWindow chooses what to read for a miss at idx: the pages [first, first+n), none
// of them present, idx among them. Called with mu held.
func (o *Object) readWindow(idx int64, want int, around bool) (first int64, n int) {
	first = idx
	switch {
	case want == 0:
		n = 1
	case idx == o.ahead && idx > 0:
		o.window = min(max(2*o.window, minReadAhead), maxReadAhead)
		n = max(o.window, min(want, maxReadAhead))
	case around:
		first = idx &^ (readAround - 1)
		n = readAround
	default:
		o.window = minReadAhead
		n = min(max(want, minReadAhead), maxReadAhead)
	}
	if g := o.group; g > 1 && want > 0 {
		end := min(first+int64(n)+g-1, idx&^(g-1)+maxReadAhead) &^ (g - 1)
		first &^= g - 1
		n = int(end - first)
	}
	n = int(min(int64(n), o.srcEnd.Load()-first))
	for i := idx - 1; i >= first; i-- {
		if o.pages.state(i) != 0 {
			n -= int(i + 1 - first)
			first = i + 1
			break
		}
	}
	for i := idx + 1; i < first+int64(n); i++ {
		if o.pages.state(i) != 0 {
			n = int(i - first)
			break
		}
	}
	return first, max(n, 1)
}

// reserve puts busy frames at first, first+1, … and returns how many it could get,
// each with a second reference for the reader. Called with mu held.
func (o *Object) reserve(first int64, frames []hal.PFN) (int, error) {
	for i := range frames {
		f, ok := o.mem.tryAlloc(KindCache, false)
		if !ok {
			return i, nil
		}
		if err := o.insert(first+int64(i), f, slotBusy); err != nil {
			o.mem.Unref(f)
			if i > 0 {
				err = nil
			}
			return i, err
		}
		o.mem.Ref(f)
		frames[i] = f
	}
	return len(frames), nil
}

// readInto fills reserved frames from the source and publishes them.
func (o *Object) readInto(c wait.Context, first int64, frames []hal.PFN) error {
	err := o.src.ReadPages(orBackground(c), first, frames)
	o.mu.Lock()
	for i, f := range frames {
		idx := first + int64(i)
		// Truncate may have taken the page away, and another come since.
		if p := o.pages.get(idx); p != nil && *p&slotBusy != 0 && p.frame() == f {
			if err == nil {
				*p &^= slotBusy
			} else {
				o.remove(idx)
			}
		}
	}
	if err == nil {
		o.ahead = first + int64(len(frames))
		if o.window > minReadAhead {
			if p := o.pages.get(first + int64(len(frames)/2)); p != nil && *p != 0 {
				*p |= slotAhead
			}
		}
	}
	o.mu.Unlock()
	for _, f := range frames {
		o.mem.Unref(f)
	}
	o.busy.Notify(waiter.EventOut)
	return err
}

// release undoes reserve.
func (o *Object) release(first int64, frames []hal.PFN) {
	o.mu.Lock()
	for i, f := range frames {
		idx := first + int64(i)
		if st := o.pages.state(idx); st&slotBusy != 0 && st.frame() == f {
			o.remove(idx)
		}
	}
	o.mu.Unlock()
	for _, f := range frames {
		o.mem.Unref(f)
	}
	o.busy.Notify(waiter.EventOut)
}

// startAhead reads the next window in the background: a sequential reader has come
// half-way through the last one.
func (o *Object) startAhead() {
	o.mu.Lock()
	next := o.ahead
	ok := next < o.srcEnd.Load() && o.pages.state(next) == 0
	o.mu.Unlock()
	if ok && o.tryIncRef() {
		go func() {
			// Errors show when somebody asks for the page.
			_ = o.fill(wait.Background(), next, 2, false)
			o.DecRef()
		}()
	}
}
