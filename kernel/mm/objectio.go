package mm

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// ReadAt copies from the file to dst; 0, nil at and beyond the end. Short only at
// the end, on a fault (EFAULT with n > 0 returns n, nil) or an I/O error.
//
// No lock is held over the copy: each page is pinned by a reference.
func (o *Object) ReadAt(c wait.Context, dst *IOSeq, off int64) (int, error) {
	if off < 0 {
		return 0, unix.EINVAL
	}
	done := 0
	for dst.Len() > 0 {
		size := o.size.Load()
		if off >= size {
			if done == 0 && off+int64(dst.Len()) < 0 {
				return 0, unix.EINVAL
			}
			break
		}
		n := int(min(int64(dst.Len()), size-off))
		b, f, err := o.span(c, off, n)
		if err == unix.EFAULT {
			break // truncated meanwhile
		}
		if err != nil {
			return orDone(done, err)
		}
		m := len(b)
		if !dst.Put(b) {
			m, err = dst.CopyOut(b)
		}
		o.mem.Unref(f)
		done += m
		off += int64(m)
		if err != nil {
			return orDone(done, err)
		}
		if m < len(b) {
			break
		}
	}
	return done, nil
}

// Lent is a piece of a file that Lend gave; Return it when it has been read.
type Lent struct {
	Bytes []byte
	mem   *Memory
	frame hal.PFN
}

// Return gives the piece back.
func (l *Lent) Return() { l.mem.Unref(l.frame) }

// Lend gives the file's own n bytes from off on (fewer only at its end), to be read and
// not kept: a read without a copy, for sendfile. ok is false, and a read will serve,
// where they do not lie in one piece, and at the end. A writer may change the bytes
// meanwhile, as it may under a read.
func (o *Object) Lend(c wait.Context, off int64, n int) (l Lent, ok bool, err error) {
	if off < 0 {
		return l, false, unix.EINVAL
	}
	size := o.size.Load()
	if off >= size || n <= 0 {
		return l, false, nil
	}
	n = int(min(int64(n), size-off))
	if o.resident.Load() != 0 && int(off&hal.PageMask)+n > hal.PageSize {
		return l, false, nil
	}
	b, f, err := o.span(c, off, n)
	switch {
	case err == unix.EFAULT: // truncated meanwhile
		return l, false, nil
	case err != nil:
		return l, false, err
	case len(b) < n:
		o.mem.Unref(f)
		return l, false, nil
	}
	return Lent{b, o.mem, f}, true, nil
}

// span gives the bytes at off, at most n of them, that lie in one piece: to the end of
// the page, or of a run of image frames. The returned frame holds a reference.
func (o *Object) span(c wait.Context, off int64, n int) ([]byte, hal.PFN, error) {
	idx, at := off>>hal.PageShift, int(off&hal.PageMask)
	if o.resident.Load() == 0 {
		if f, ok := o.imageFrame(idx); ok {
			pages := 1
			for at+n > pages<<hal.PageShift {
				g, ok := o.imageFrame(idx + int64(pages))
				if !ok || g != f+hal.PFN(pages) {
					break
				}
				pages++
			}
			b := o.mem.M.FrameRange(f, pages)
			return b[at:min(at+n, len(b))], f, nil
		}
	}
	f, err := o.page(c, idx, int((int64(at+n)+hal.PageMask)>>hal.PageShift), false)
	if err != nil {
		return nil, 0, err
	}
	return o.mem.Bytes(f)[at:min(at+n, hal.PageSize)], f, nil
}

// orDone is what a partly done transfer returns.
func orDone(done int, err error) (int, error) {
	if done > 0 {
		return done, nil
	}
	return 0, err
}

// WriteAt copies from src into the file, growing it; ENOSPC or ENOMEM when the
// memory is gone. Writers exclude each other; they may fault on their source, which
// may be a mapping of the same file.
func (o *Object) WriteAt(c wait.Context, src *IOSeq, off int64) (int, error) {
	o.writers.Lock(c)
	n, err := o.write(c, src, off)
	o.writers.Unlock()
	return n, err
}

// Append is WriteAt at the end of the file (O_APPEND) and returns where it wrote.
func (o *Object) Append(c wait.Context, src *IOSeq) (off int64, n int, err error) {
	o.writers.Lock(c)
	defer o.writers.Unlock()
	off = o.size.Load()
	n, err = o.write(c, src, off)
	return off, n, err
}

func (o *Object) write(c wait.Context, src *IOSeq, off int64) (int, error) {
	if off < 0 || off+int64(src.Len()) < 0 {
		return 0, unix.EINVAL
	}
	// A mapping may have written beyond the end in the last page; the file is about
	// to grow over it.
	if size := o.size.Load(); off > size && size&hal.PageMask != 0 && src.Len() > 0 {
		if err := o.zeroRange(c, size, min(off, (size|hal.PageMask)+1)-size); err != nil {
			return 0, err
		}
	}
	done := 0
	for src.Len() > 0 {
		if done > 0 && dying(c) {
			break // gigabytes take seconds, and others wait for the file (generic_perform_write)
		}
		idx, at := off>>hal.PageShift, int(off&hal.PageMask)
		if idx >= maxFilePages {
			return orDone(done, unix.EFBIG)
		}
		n := min(src.Len(), hal.PageSize-at)
		f, err := o.writable(c, idx)
		if err != nil {
			return orDone(done, err)
		}
		m, b := n, o.mem.Bytes(f)[at:at+n]
		if !src.Take(b) {
			m, err = src.CopyIn(b)
		}
		o.mem.Unref(f)
		o.wrote(idx, off+int64(m), m)
		done += m
		off += int64(m)
		if err != nil {
			return orDone(done, err)
		}
		if m < n {
			break
		}
	}
	return done, nil
}

// writable gives page idx for writing, with a reference: its own frame (a page of the
// image is replaced by a copy first), beyond the end too.
func (o *Object) writable(c wait.Context, idx int64) (hal.PFN, error) {
	for {
		o.mu.Lock()
		f, st := o.lookup(idx)
		if st != 0 && st&slotBusy == 0 && o.mem.kindOf(f) != KindImage {
			o.mem.Ref(f)
			o.mu.Unlock()
			return f, nil
		}
		inside := idx < o.srcEnd.Load()
		o.mu.Unlock()
		var err error
		switch {
		case st&slotBusy != 0:
			o.waitBusy(c, idx)
		case st != 0:
			err = o.own(idx, f)
		case inside:
			err = o.fill(c, idx, 1, false)
		default:
			err = o.own(idx, o.mem.zero)
		}
		if err != nil {
			return 0, err
		}
	}
}

// own gives page idx a frame of its own with the bytes of from, if it still has none.
func (o *Object) own(idx int64, from hal.PFN) error {
	f, err := o.mem.Alloc(o.kind())
	if err != nil {
		return err
	}
	if from != o.mem.zero {
		copy(o.mem.Bytes(f), o.mem.Bytes(from))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pages.state(idx) == 0 {
		if err = o.insert(idx, f, slotUsed|slotDirty); err == nil {
			o.unmapPages(idx, 1, false)
			return nil
		}
	}
	o.mem.Unref(f)
	return err
}

// wrote records that bytes up to end of page idx were written (n of them), and grows
// the file. A page that turned out to lie beyond the end goes again.
func (o *Object) wrote(idx, end int64, n int) {
	o.mu.Lock()
	if n > 0 {
		if p := o.pages.get(idx); p != nil && *p != 0 {
			*p = *p&^slotBlank | slotDirty
		}
		if end > o.size.Load() {
			o.size.Store(end)
		}
	} else if idx >= pagesFor(o.size.Load()) {
		o.remove(idx)
	}
	o.mu.Unlock()
}

// Truncate sets the size; pages beyond it leave the cache and every mapping (a
// later access there is SIGBUS), and the tail of the last page is zeroed.
func (o *Object) Truncate(size int64) error { return o.TruncateCtx(nil, size) }

// TruncateCtx is Truncate for a caller that has a context to wait with. A program's
// thread must use it: waiting without its context, it would keep the CPU token that the
// writer it waits for may need.
func (o *Object) TruncateCtx(c wait.Context, size int64) error {
	if size < 0 {
		return unix.EINVAL
	}
	if pagesFor(size) > maxFilePages {
		return unix.EFBIG
	}
	o.writers.Lock(c)
	defer o.writers.Unlock()
	old := o.size.Load()
	if tail := min(size, old); tail&hal.PageMask != 0 {
		if err := o.zeroRange(c, tail, (tail|hal.PageMask)+1-tail); err != nil {
			return err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size.Store(size)
	if size < old {
		first := pagesFor(size)
		o.srcEnd.Store(min(o.srcEnd.Load(), first))
		o.unmapPages(first, maxFilePages-first, true)
		o.dropFrom(first)
	}
	return nil
}

// zeroRange clears bytes of one page, if the page has any that are not zero yet.
func (o *Object) zeroRange(c wait.Context, off, n int64) error {
	idx, at := off>>hal.PageShift, off&hal.PageMask
	o.mu.Lock()
	_, st := o.lookup(idx)
	o.mu.Unlock()
	if st == 0 && idx >= o.srcEnd.Load() {
		return nil
	}
	f, err := o.writable(c, idx)
	if err != nil {
		return err
	}
	clear(o.mem.Bytes(f)[at : at+n])
	o.mem.Unref(f)
	o.mu.Lock()
	if p := o.pages.get(idx); p != nil && *p != 0 {
		*p |= slotDirty
	}
	o.mu.Unlock()
	return nil
}

// PunchHole zeroes a range without changing the size (fallocate).
func (o *Object) PunchHole(off, length int64) error { return o.PunchHoleCtx(nil, off, length) }

// PunchHoleCtx is PunchHole for a caller that has a context to wait with.
func (o *Object) PunchHoleCtx(c wait.Context, off, length int64) error {
	if off < 0 || length <= 0 || off+length < 0 {
		return unix.EINVAL
	}
	o.writers.Lock(c)
	defer o.writers.Unlock()
	// Behind the file's end there may be whole pages that Allocate has made.
	size, end := pagesFor(o.size.Load())<<hal.PageShift, off+length
	switch {
	case end <= size:
	case o.src != nil:
		end = size
	default:
		if end = max(size, end&^hal.PageMask); off > size {
			off = (off + hal.PageMask) &^ hal.PageMask
		}
	}
	for off < end {
		if off&hal.PageMask == 0 && end-off >= hal.PageSize && o.src == nil {
			first, n := off>>hal.PageShift, (end-off)>>hal.PageShift
			o.mu.Lock()
			o.unmapPages(first, n, false)
			for i := o.pages.next(first); i >= 0 && i < first+n; i = o.pages.next(i) {
				o.remove(i)
			}
			o.mu.Unlock()
			off += n << hal.PageShift
			continue
		}
		n := min(end-off, hal.PageSize-off&hal.PageMask)
		if err := o.zeroRange(c, off, n); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// Allocate gives every page of a range of a memory object a frame, as fallocate does, and
// grows the file to its end unless keep is set. What it made goes again if it fails
// (ENOSPC, ENOMEM).
func (o *Object) Allocate(c wait.Context, off, length int64, keep bool) error {
	end := off + length
	if off < 0 || length <= 0 || end < 0 {
		return unix.EINVAL
	}
	if pagesFor(end) > maxFilePages {
		return unix.EFBIG
	}
	o.writers.Lock(c)
	defer o.writers.Unlock()
	if size := o.size.Load(); end > size && !keep && size&hal.PageMask != 0 {
		// What a mapping wrote beyond the end in the last page does not become part of
		// the file.
		if err := o.zeroRange(c, size, (size|hal.PageMask)+1-size); err != nil {
			return err
		}
	}
	type run struct{ first, n int64 }
	var made []run
	for idx := off >> hal.PageShift; idx < pagesFor(end); idx++ {
		fresh, err := o.allocatePage(idx)
		if err != nil {
			for _, r := range made {
				o.mu.Lock()
				o.unmapPages(r.first, r.n, false)
				for i := r.first; i < r.first+r.n; i++ {
					o.remove(i)
				}
				o.mu.Unlock()
			}
			return err
		}
		switch last := len(made) - 1; {
		case !fresh:
		case last >= 0 && made[last].first+made[last].n == idx:
			made[last].n++
		default:
			made = append(made, run{idx, 1})
		}
	}
	if o.mu.Lock(); !keep && end > o.size.Load() {
		o.size.Store(end)
	}
	o.mu.Unlock()
	return nil
}

// allocatePage gives page idx a frame of zeroes, unless it has one.
func (o *Object) allocatePage(idx int64) (fresh bool, err error) {
	o.mu.Lock()
	p := o.pages.get(idx)
	there := p != nil && *p != 0
	if there {
		*p &^= slotBlank // as Linux has it, the second time makes it data
	}
	o.mu.Unlock()
	if there {
		return false, nil
	}
	f, err := o.mem.Alloc(o.kind())
	if err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pages.state(idx) == 0 {
		if err = o.insert(idx, f, slotUsed|slotBlank); err == nil {
			return true, nil
		}
	}
	o.mem.Unref(f)
	return false, err
}

// NextData is lseek's SEEK_DATA and SEEK_HOLE for memory objects: the first offset
// >= off inside (data) or outside (hole) an allocated page; -1 if there is none before
// the end. An object with a source is data throughout.
func (o *Object) NextData(off int64, hole bool) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	size := o.size.Load()
	if off >= size {
		return -1
	}
	if o.src != nil {
		if hole {
			return size
		}
		return off
	}
	idx := off >> hal.PageShift
	if !hole {
		n := o.pages.next(idx)
		for n >= 0 && o.pages.state(n)&slotBlank != 0 {
			n = o.pages.next(n + 1)
		}
		if n < 0 || n<<hal.PageShift >= size {
			return -1
		}
		return max(off, n<<hal.PageShift)
	}
	for idx < pagesFor(size) && o.pages.state(idx) != 0 && o.pages.state(idx)&slotBlank == 0 {
		idx++
	}
	return min(max(off, idx<<hal.PageShift), size)
}
