// Package pipe is pipes and FIFOs, with Linux's structure of slots: a pipe is a ring of
// at most size/4096 slots, each a page that one write filled (or several small ones, which
// merge). Readiness, PIPE_BUF atomicity and packets (O_DIRECT) all follow from it: a
// pipe is writable while a slot is free, and a write of at most a page takes one slot or
// merges into one, so it is never split.
//
//	r, w, err := pipe.New(mem, 0, creds)     // two descriptions with a reference each
//	ops, err := pipe.OpenFIFO(c, inode, fl)  // vfs.FIFO
//
// Neither Read nor Write blocks: EAGAIN. Whoever wants a blocking write calls Write
// again until its source is empty.
//
// Pages are frames, charged to the kernel-heap budget; a pipe keeps two spare ones so
// that a steady stream allocates nothing.
//
// Locks: fifos.mu > Pipe.mu > the wait queues. Program memory is copied under Pipe.mu
// with the no-fault copies only; a fault is served without it and the piece, which was
// not yet visible to the other side, starts again.
package pipe

import (
	"encoding/binary"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

const (
	pageSize = hal.PageSize
	// DefaultSize is a new pipe's capacity in bytes (PIPE_DEF_BUFFERS).
	DefaultSize = 16 * pageSize
	// pipeCost is what a pipe without pages is charged: the structures and both
	// descriptions, in bytes.
	pipeCost = 1024
	slotCost = 32
	maxSpare = 2
)

// maxSize is fs.pipe-max-size.
var maxSize atomic.Int64

func init() { maxSize.Store(1 << 20) }

// MaxSize and SetMaxSize are /proc/sys/fs/pipe-max-size, in bytes.
func MaxSize() int64 { return maxSize.Load() }

// SetMaxSize rounds up as Linux does; false if n is out of range.
func SetMaxSize(n int64) bool {
	r := roundSize(uint64(n))
	if n <= 0 || r == 0 {
		return false
	}
	maxSize.Store(int64(r))
	return true
}

// roundSize is round_pipe_size: a power of two of pages; 0 if beyond 1 << 31.
func roundSize(n uint64) uint64 {
	if n > 1<<31 {
		return 0
	}
	r := uint64(pageSize)
	for r < n {
		r <<= 1
	}
	return r
}

// page is a frame and its bytes.
type page struct {
	frame hal.PFN
	b     *[pageSize]byte
}

// slot is one page of the ring with the bytes [off, off+n) to be read.
type slot struct {
	page
	off, n int32
	packet bool // a read takes it whole and never goes on behind it
}

// Pipe is what two or more descriptions share.
type Pipe struct {
	mem  *mm.Memory
	ino  uint64
	time int64 // of creation, nanoseconds since the epoch
	// owned is of a pipe that is no FIFO.
	owned vfs.Owned

	// Readers wait in rd, writers in wr, descriptions open for both in rw.
	rd, wr, rw wait.Queue

	mu       sync.Mutex
	ring     []slot // capacity in slots is len(ring)
	head     int    // index of the first used slot
	used     int
	spare    [maxSpare]page
	nspare   int
	readers  int
	writers  int
	wcounter uint64 // how often it was opened for reading or writing (FIFOs)
	rcounter uint64
	dead     bool
	// Lend and Hold are in force, and somebody came to read or write meanwhile.
	lent, held       bool
	unread, unfilled bool
	filler           *mm.IOSeq // what Fill writes
	// dry says that the pipe is empty and has writers, so that a read need not take mu
	// to find nothing. Like wait.Queue.n it is written before the waking, and read after the
	// registering.
	dry atomic.Bool
}

// unlock lets go of mu.
func (p *Pipe) unlock() {
	if dry := p.used == 0 && p.writers > 0; dry != p.dry.Load() {
		p.dry.Store(dry)
	}
	p.mu.Unlock()
}

var lastIno atomic.Uint64
var dev = sync.OnceValue(vfs.AllocDev)

func newPipe(mem *mm.Memory) (*Pipe, error) {
	const slots = DefaultSize / pageSize
	if !mem.Budget().Charge(pipeCost + slots*slotCost) {
		return nil, unix.ENFILE
	}
	return &Pipe{mem: mem, ino: lastIno.Add(1), time: mem.M.Walltime(), ring: make([]slot, slots)}, nil
}

// New is pipe2: flags are O_NONBLOCK and O_DIRECT (packets). ENFILE at the edge of the
// kernel-heap budget.
func New(mem *mm.Memory, flags uint32, creds *vfs.Creds) (r, w *vfs.File, err error) {
	p, err := newPipe(mem)
	if err != nil {
		return nil, nil, err
	}
	p.owned.Own(creds, 0o600)
	p.readers, p.writers = 1, 1
	p.rcounter, p.wcounter = 1, 1
	name := "pipe:[" + strconv.FormatUint(p.ino, 10) + "]"
	r = vfs.NewFile(&end{p: p, read: true, q: &p.rd}, unix.O_RDONLY|flags&unix.O_NONBLOCK)
	w = vfs.NewFile(&end{p: p, write: true, q: &p.wr}, unix.O_WRONLY|flags&(unix.O_NONBLOCK|unix.O_DIRECT))
	r.Name, w.Name = name, name
	return r, w, nil
}

// end is one description's view of a pipe.
type end struct {
	vfs.BaseOps
	p           *Pipe
	q           *wait.Queue
	read, write bool
	seen        uint64 // writers opened before this reader, while there was none: no hang-up yet
	inode       vfs.Inode
}

// Readiness implements waiter.Waitable (pipe_poll).
func (e *end) Readiness(mask waiter.EventMask) waiter.EventMask {
	p := e.p
	var ev waiter.EventMask
	p.mu.Lock()
	if e.read {
		if p.used > 0 {
			ev |= waiter.ReadableEvents
		}
		if p.writers == 0 && e.seen != p.wcounter {
			ev |= waiter.EventHUp
		}
	}
	if e.write {
		if p.used < len(p.ring) {
			ev |= waiter.WritableEvents
		}
		if p.readers == 0 {
			ev |= waiter.EventErr
		}
	}
	p.unlock()
	return ev & (mask | waiter.EventErr | waiter.EventHUp)
}

// LockKey gives both ends of a pipe the same locks.
func (e *end) LockKey() any { return e.p }

// Async implements vfs.Asyncer: whoever reads hears that something can be read, also at the
// end, and who writes that there is room.
func (e *end) Async(mask waiter.EventMask) int32 {
	switch {
	case mask&waiter.AllEvents == waiter.AllEvents && !e.read:
		return vfs.PollOut
	case mask&waiter.ReadableEvents != 0 && e.read:
		return vfs.PollIn
	case mask&waiter.WritableEvents != 0 && e.write:
		return vfs.PollOut
	}
	return 0
}

// EventRegister and EventUnregister implement waiter.Waitable.
func (e *end) EventRegister(w *waiter.Entry) error { e.q.EventRegister(w); return nil }
func (e *end) EventUnregister(w *waiter.Entry)     { e.q.EventUnregister(w) }

func (p *Pipe) wakeReaders() {
	p.rd.Notify(waiter.ReadableEvents)
	p.rw.Notify(waiter.ReadableEvents)
}

func (p *Pipe) wakeWriters() {
	p.wr.Notify(waiter.WritableEvents)
	p.rw.Notify(waiter.WritableEvents)
}

// wakeAll is for opens and closes, which look for any state.
func (p *Pipe) wakeAll() {
	p.rd.Notify(waiter.AllEvents)
	p.wr.Notify(waiter.AllEvents)
	p.rw.Notify(waiter.AllEvents)
}

// Read implements vfs.FileOps: 0 at the end, EAGAIN while empty, EFAULT (what could
// not be copied stays in the pipe).
func (e *end) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	p := e.p
	if !e.read {
		return 0, unix.EBADF
	}
	if dst.Len() == 0 {
		return 0, nil
	}
	if p.dry.Load() {
		return 0, unix.EAGAIN
	}
	done, full := 0, false
	p.mu.Lock()
	var err error
	for dst.Len() > 0 && p.used > 0 && !p.lent {
		// Each time: writers may have filled it while a fault was served.
		full = full || p.used == len(p.ring)
		s := &p.ring[p.head]
		b := s.b[s.off : s.off+s.n]
		if one := dst.Span(); one < len(b) && !s.packet { // the next goes on with the rest
			b = b[:one]
		}
		n, fault := len(b), error(nil)
		if !dst.Put(b) {
			if n, fault = p.copyOut(dst, b); fault == errAgain {
				continue
			}
			if fault != nil {
				err = fault
				break
			}
		}
		done += n
		last := s.packet
		if s.off, s.n = s.off+int32(n), s.n-int32(n); s.n == 0 || last {
			p.pop()
		}
		if last {
			break
		}
	}
	if done == 0 && err == nil && (p.writers > 0 || p.lent) {
		err = unix.EAGAIN
		p.unread = p.lent
	}
	// A reader that left the pipe full woke writers for nothing before Linux 6.14.
	full = full && p.used < len(p.ring)
	p.unlock()
	if full {
		p.wakeWriters()
	}
	if done > 0 {
		return done, nil
	}
	return 0, err
}

// errAgain asks for another try with what the pipe holds then.
var errAgain = errors.New("pipe: a page had to be faulted in")

// copyOut copies b, or what dst has room for; errAgain when a fault has been served, with
// mu released and nothing done. Called with mu held.
func (p *Pipe) copyOut(dst *mm.IOSeq, b []byte) (int, error) {
	before := *dst
	n, err := dst.CopyOutNoFault(b)
	if err == nil {
		return n, nil
	}
	fault := *dst
	*dst = before
	p.unlock()
	err = fault.FaultIn(true)
	p.mu.Lock()
	if err == nil {
		err = errAgain
	}
	return 0, err
}

// pop drops the first slot. Called with mu held.
func (p *Pipe) pop() {
	s := &p.ring[p.head]
	p.giveBack(s.page)
	*s = slot{}
	if p.head++; p.head == len(p.ring) {
		p.head = 0
	}
	p.used--
}

// giveBack keeps a page as a spare or frees it. Called with mu held.
func (p *Pipe) giveBack(f page) {
	if p.nspare < maxSpare && !p.dead {
		p.spare[p.nspare] = f
		p.nspare++
		return
	}
	p.mem.Unref(f.frame)
	p.mem.Budget().Uncharge(pageSize)
}

// page takes a spare page, or makes one with mu released meanwhile; the pipe may have
// changed then and the caller starts again. Called with mu held.
func (p *Pipe) page() error {
	if p.nspare > 0 {
		return nil
	}
	p.unlock()
	f, err := hal.PFN(0), error(unix.ENOMEM)
	if p.mem.Budget().Charge(pageSize) {
		if f, err = p.mem.Alloc(mm.KindAnon); err != nil {
			p.mem.Budget().Uncharge(pageSize)
		}
	}
	p.mu.Lock()
	if err == nil {
		p.giveBack(page{f, (*[pageSize]byte)(p.mem.Bytes(f))})
	}
	return err
}

// Write implements vfs.FileOps: EPIPE without readers (the caller sends SIGPIPE), EAGAIN
// while there is no room for the first piece.
func (e *end) Write(_ wait.Context, f *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	p := e.p
	if !e.write {
		return 0, unix.EBADF
	}
	if src.Len() == 0 {
		return 0, nil
	}
	packet := f.Flags()&unix.O_DIRECT != 0
	done := 0
	p.mu.Lock()
	tail := src.Len() % pageSize // what Linux tries to merge
	var err error
	for src.Len() > 0 {
		if p.readers == 0 {
			err = unix.EPIPE
			break
		}
		if p.held && p.filler != src {
			p.unfilled = true
			err = unix.EAGAIN
			break
		}
		var n int
		if n, err = p.put(src, tail, packet); err != nil {
			break
		}
		if n > 0 {
			tail = 0
		}
		done += n
	}
	p.unlock()
	// Linux wakes at each write once somebody polls, even one that found no room, so
	// that edge-triggered readers hear of data that came behind old data.
	if p.rd.Waiting() || p.rw.Waiting() {
		p.wakeReaders()
	}
	if done > 0 {
		return done, nil
	}
	return 0, err
}

// put moves one piece: into the last slot if tail bytes fit there, else into a new one.
// 0 and nil: try again. Called with mu held, which it may release.
func (p *Pipe) put(src *mm.IOSeq, tail int, packet bool) (int, error) {
	if tail > 0 && p.used > 0 {
		s := &p.ring[(p.head+p.used-1)%len(p.ring)]
		if end := int(s.off + s.n); !s.packet && end+tail <= pageSize {
			n, err := p.fill(s.b[end:end+tail], src)
			s.n += int32(n) // n > 0 only if mu was held throughout
			return n, err
		}
	}
	if p.used == len(p.ring) {
		return 0, unix.EAGAIN
	}
	if p.nspare == 0 {
		return 0, p.page()
	}
	f := p.spare[p.nspare-1]
	want := min(src.Len(), pageSize)
	n, err := p.fill(f.b[:want], src)
	if n == 0 {
		return 0, err
	}
	p.nspare--
	p.ring[(p.head+p.used)%len(p.ring)] = slot{page: f, n: int32(n), packet: packet}
	p.used++
	return n, nil
}

// fill copies all of b from src, or nothing: then the fault has been served with mu
// released. Called with mu held.
func (p *Pipe) fill(b []byte, src *mm.IOSeq) (int, error) {
	if src.Take(b) {
		return len(b), nil
	}
	before := *src
	n, err := src.CopyInNoFault(b)
	if err == nil {
		return n, nil
	}
	fault := *src
	*src = before
	p.unlock()
	err = fault.FaultIn(false)
	p.mu.Lock()
	return 0, err
}

// Attr implements vfs.FileOps; that of a FIFO is its inode's.
func (e *end) Attr(c wait.Context) (vfs.Attr, error) {
	if e.inode != nil {
		return e.inode.Attr(c)
	}
	p := e.p
	a := vfs.Attr{Dev: dev(), Ino: p.ino, Mode: unix.S_IFIFO, Nlink: 1, BlockSize: pageSize,
		Atime: p.time, Mtime: p.time, Ctime: p.time}
	p.owned.Fill(&a)
	return a, nil
}

// SetAttr implements vfs.FileOps.
func (e *end) SetAttr(c wait.Context, a vfs.SetAttr) error {
	if e.inode != nil && !a.SetSize {
		return e.inode.SetAttr(c, a)
	}
	cur, err := e.Attr(c)
	if err != nil {
		return err
	}
	return e.p.owned.Change(cur, a)
}

// Ioctl implements vfs.FileOps: FIONREAD.
func (e *end) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	if req != unix.TIOCINQ { // FIONREAD
		return 0, unix.ENOTTY
	}
	p, n := e.p, 0
	p.mu.Lock()
	for i := range p.used {
		n += int(p.ring[(p.head+i)%len(p.ring)].n)
	}
	p.unlock()
	b := binary.LittleEndian.AppendUint32(nil, uint32(n))
	if _, err := sp.CopyOut(c, hal.UserAddr(arg), b); err != nil {
		return 0, unix.EFAULT
	}
	return 0, nil
}

// Release implements vfs.FileOps.
func (e *end) Release(*vfs.File) {
	if e.inode != nil {
		releaseFIFO(e)
		return
	}
	e.p.leave(e)
}

// leave takes an end away and, with the last, frees the pages.
func (p *Pipe) leave(e *end) {
	p.mu.Lock()
	if e.read {
		p.readers--
	}
	if e.write {
		p.writers--
	}
	gone := p.readers == 0 && p.writers == 0
	half := (p.readers == 0) != (p.writers == 0)
	if gone {
		p.free()
	}
	p.unlock()
	if half {
		p.wakeAll()
	}
}

// free gives every page back. Called with mu held.
func (p *Pipe) free() {
	if p.dead {
		return
	}
	p.dead = true
	for p.used > 0 {
		p.pop()
	}
	for ; p.nspare > 0; p.nspare-- {
		p.mem.Unref(p.spare[p.nspare-1].frame)
		p.mem.Budget().Uncharge(pageSize)
	}
	p.mem.Budget().Uncharge(pipeCost + int64(len(p.ring))*slotCost)
}

// Of says whether f is a pipe or FIFO.
func Of(f *vfs.File) (*Pipe, bool) {
	e, ok := f.Ops.(*end)
	if !ok {
		return nil, false
	}
	return e.p, true
}

// Peek copies what is in the pipe to b and leaves it there, for tee: EAGAIN if there is
// nothing but may be later.
func (p *Pipe) Peek(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.unlock()
	return p.peek(b)
}

// peek is Peek with mu held.
func (p *Pipe) peek(b []byte) (n int, err error) {
	for i := 0; i < p.used && n < len(b); i++ {
		s := &p.ring[(p.head+i)%len(p.ring)]
		n += copy(b[n:], s.b[s.off:s.off+s.n])
	}
	if n == 0 && p.writers > 0 {
		return 0, unix.EAGAIN
	}
	return n, nil
}

// Lend copies what comes first in the pipe to b for somebody who does not know yet how much of
// it he gets rid of: until Return, which takes that away, nobody reads. EAGAIN if there is
// nothing but may be later; 0 at the end.
func (p *Pipe) Lend(b []byte) (int, error) {
	p.mu.Lock()
	defer p.unlock()
	if p.lent {
		p.unread = true
		return 0, unix.EAGAIN
	}
	n, err := p.peek(b)
	p.lent = n > 0
	return n, err
}

// Return ends a Lend that gave bytes: n of them are gone.
func (p *Pipe) Return(n int) {
	p.mu.Lock()
	full := p.used == len(p.ring)
	for n > 0 {
		s := &p.ring[p.head]
		k := min(int32(n), s.n)
		if s.off, s.n = s.off+k, s.n-k; s.n == 0 {
			p.pop()
		}
		n -= int(k)
	}
	unread := p.unread
	p.lent, p.unread = false, false
	full = full && p.used < len(p.ring)
	p.unlock()
	if full {
		p.wakeWriters()
	}
	if unread {
		p.wakeReaders()
	}
}

// Hold is Room for somebody who is about to fetch what he will write with Fill: until Release
// nobody else writes.
func (p *Pipe) Hold() (int, error) {
	p.mu.Lock()
	defer p.unlock()
	n, err := p.room()
	p.held = p.held || err == nil
	return n, err
}

// Fill writes to the room that Hold gave, through f.
func (p *Pipe) Fill(f *vfs.File, src *mm.IOSeq) (int, error) {
	p.mu.Lock()
	p.filler = src
	p.mu.Unlock()
	return f.Ops.Write(nil, f, src, -1)
}

// Release ends a Hold.
func (p *Pipe) Release() {
	p.mu.Lock()
	wake := p.unfilled && p.used < len(p.ring)
	p.held, p.unfilled, p.filler = false, false, nil
	p.unlock()
	if wake {
		p.wakeWriters()
	}
}

// Room is how many bytes certainly fit: EAGAIN for none, EPIPE if nobody reads.
func (p *Pipe) Room() (int, error) {
	p.mu.Lock()
	defer p.unlock()
	return p.room()
}

// room is Room with mu held.
func (p *Pipe) room() (int, error) {
	p.unfilled = p.unfilled || p.held
	switch n := (len(p.ring) - p.used) * pageSize; {
	case p.readers == 0:
		return 0, unix.EPIPE
	case n == 0, p.held:
		return 0, unix.EAGAIN
	default:
		return n, nil
	}
}

// mostSlots is the largest ring that Linux can allocate (KMALLOC_MAX_SIZE of 40 bytes each,
// in powers of two).
const mostSlots = 1 << 16

// Size is F_GETPIPE_SZ: the capacity in bytes.
func (p *Pipe) Size() int {
	p.mu.Lock()
	defer p.unlock()
	return len(p.ring) * pageSize
}

// SetSize is F_SETPIPE_SZ, and returns the capacity it set: EINVAL beyond
// 1 << 31, EPERM beyond fs.pipe-max-size without CAP_SYS_RESOURCE, EBUSY if more is
// in the pipe, ENOMEM. See fcntl(2).
func (p *Pipe) SetSize(n uint64, creds *vfs.Creds) (int, error) {
	r := roundSize(n)
	if r == 0 {
		return 0, unix.EINVAL
	}
	slots := int(r / pageSize)
	p.mu.Lock()
	defer p.unlock()
	if slots > len(p.ring) && int64(r) > maxSize.Load() && !creds.Can(vfs.CapSysResource) {
		return 0, unix.EPERM
	}
	if slots < p.used || p.held && slots < len(p.ring) {
		return 0, unix.EBUSY
	}
	if slots > mostSlots {
		return 0, unix.ENOMEM
	}
	more := int64(slots-len(p.ring)) * slotCost
	if more > 0 && !p.mem.Budget().Charge(more) {
		return 0, unix.ENOMEM
	} else if more < 0 {
		p.mem.Budget().Uncharge(-more)
	}
	ring := make([]slot, slots)
	for i := range p.used {
		ring[i] = p.ring[(p.head+i)%len(p.ring)]
	}
	full := p.used == len(p.ring)
	p.ring, p.head = ring, 0
	if full && p.used < slots {
		p.wakeWriters() // queues are below mu
	}
	return slots * pageSize, nil
}

// Reopen implements vfs.Reopener: /proc/self/fd/N of a pipe gives another end of it, for
// what flags ask.
func (e *end) Reopen(_ vfs.Lookup, flags uint32) (vfs.FileOps, error) {
	p := e.p
	acc := flags & unix.O_ACCMODE
	n := &end{p: p, read: acc != unix.O_WRONLY, write: acc == unix.O_WRONLY || acc == unix.O_RDWR}
	switch {
	case n.read && n.write:
		n.q = &p.rw
	case n.read:
		n.q = &p.rd
	default:
		n.q = &p.wr
	}
	p.mu.Lock()
	defer p.unlock()
	if n.write && !n.read && p.readers == 0 && flags&unix.O_NONBLOCK != 0 {
		return nil, unix.ENXIO
	}
	if n.read {
		p.readers++
		p.rcounter++
	}
	if n.write {
		p.writers++
		p.wcounter++
	}
	if p.writers == 0 {
		n.seen = p.wcounter
	}
	return n, nil
}
