// Package epoll is epoll sets: level- and edge-triggered, one-shot, exclusive, nested.
//
//	f := epoll.New(mem)
//	err := epoll.Of(f).Ctl(epoll.Add, fd, file, events, data)
//	n, err := epoll.Of(f).Wait(c, seq, maxEvents, deadline)
//
// An item is one (descriptor number, open file description) in a set. It stands in the
// wait queue of its file for good; a notification that it asked for puts it on the
// set's ready list, and Wait looks at that list alone: its cost goes by what is ready.
// Wait asks each listed item what it is ready for, reports it, and puts it back
// at the end if it is level-triggered, so edge-triggered items come back with the next
// notification only and an item whose event has gone vanishes from the list. This is
// Linux's structure (fs/eventpoll.c) and its corners follow: a notification without a
// change of state is reported again to an edge-triggered item, MOD looks anew, data stay
// reported in turn. Wait allocates nothing.
//
// Threads that wait in one set are woken one an event; of the sets that watch a file with
// EPOLLEXCLUSIVE one with such a thread hears of an event, or all if there is none
// (exclusive.go).
//
// Locks, outermost first:
//
//	topology.mu          which set is in which; only for ADD of or to nested sets
//	  Set.mtx            items, and the reporting of events; a set's before that of a set inside it
//	    exclusives.mu    which file has a group
//	      the files' own locks, their wait queues
//	        group.mu     the exclusive items of a file
//	          Set.lock   the ready list and who waits; a leaf but for waking
//
// Notifications come with a wait queue locked and take Set.lock only, then the queue
// of who watches the set. Sets nest without loops, so those chains end.
package epoll

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// EventSize is struct epoll_event on x86-64, which is packed.
const EventSize = 12

// MaxEvents is EP_MAX_EVENTS.
const MaxEvents = (1<<31 - 1) / EventSize

// What a set and an item are charged to the kernel-heap budget, in bytes.
const (
	setCost  = 512
	itemCost = 384
)

// privateBits are not events (EP_PRIVATE_BITS).
const (
	wakeUp      = 1 << 29
	privateBits = unix.EPOLLET | unix.EPOLLONESHOT | wakeUp | unix.EPOLLEXCLUSIVE
	// exclusiveOK is what may stand beside EPOLLEXCLUSIVE (EPOLLEXCLUSIVE_OK_BITS).
	exclusiveOK = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLERR | unix.EPOLLHUP | wakeUp | unix.EPOLLET | unix.EPOLLEXCLUSIVE
	always      = unix.EPOLLERR | unix.EPOLLHUP
)

// NoPoll is implemented by the FileOps of devices that cannot be polled (/dev/null):
// epoll_ctl answers EPERM for them as for regular files and directories.
type NoPoll interface{ NoPoll() }

type key struct {
	fd int32
	f  *vfs.File
}

// item is one watched file.
type item struct {
	// endsAsRead: the file announces its peer's end as something to read (a TCP
	// stream; EndsAsReadable).
	endsAsRead bool
	set        *Set
	key        key
	inner      *Set // the watched file is a set itself
	entry      waiter.Entry
	group      *group // with EPOLLEXCLUSIVE: what stands in the file's queue for it

	// Under Set.mtx.
	data    uint64
	removed bool
	pass    uint64 // of Look or report, in which it was reported last

	// Under Set.lock.
	next, prev *item
	ready      bool // on the ready list

	events uint32      // written under both, read under one of them
	again  atomic.Bool // set under Set.lock: notified while it was asked on the list
}

// sleeper is one thread in Wait.
type sleeper struct {
	l          waiter.EventListener
	next, prev *sleeper
	queued     bool
}

var sleepers = sync.Pool{New: func() any { return new(sleeper) }}

// Set is one epoll set; it is the FileOps of its descriptor.
type Set struct {
	vfs.BaseOps
	mem *mm.Memory
	q   waiter.Queue // who polls the set

	// Under topology.mu.
	above map[*item]struct{} // items of other sets that watch this one
	mark  uint64
	below int // depth of sets below, as found at mark

	mtx   sync.Mutex
	items map[key]*item
	ev    [EventSize]byte // the event being copied out
	pass  uint64
	dead  bool

	// Written under lock. Items leave the ready list under mtx alone: with it held, the
	// first is the first until it is moved.
	lock        sync.Mutex
	first, last atomic.Pointer[item]
	sleepFirst  atomic.Pointer[sleeper]
	sleepEnd    *sleeper
}

// New makes an empty set and its description; nil at the edge of the kernel-heap
// budget (ENOMEM).
func New(mem *mm.Memory) *vfs.File {
	if !mem.Budget().Charge(setCost) {
		return nil
	}
	f := vfs.NewFile(&Set{mem: mem, items: map[key]*item{}}, unix.O_RDWR)
	f.Name = "anon_inode:[eventpoll]"
	return f
}

// Of is the set behind f, nil if f is something else.
func Of(f *vfs.File) *Set {
	s, _ := f.Ops.(*Set)
	return s
}

// NotifyEvent implements waiter.EventListener: the file has events (ep_poll_callback).
func (i *item) NotifyEvent(m waiter.EventMask) { i.notify(m) }

// notify says whether it woke a thread, and so whether an exclusive event is taken.
func (i *item) notify(m waiter.EventMask) bool {
	s, ring := i.set, m&wait.RingWake
	m &^= wait.RingWake
	if m&waiter.ReadableEvents != 0 && i.endsAsRead {
		// Whether it is the end is seen when the events are collected.
		m |= waiter.EventRdHUp
	}
	s.lock.Lock()
	if i.events&^privateBits == 0 || uint32(m)&i.events == 0 {
		s.lock.Unlock()
		return false
	}
	if i.again.Store(true); !i.ready {
		s.pushBack(i)
	}
	woke := s.wakeOne()
	s.lock.Unlock()
	s.q.Notify(waiter.EventIn | ring)
	// What is news to readers and writers alike is for all.
	return woke && uint32(m)&(unix.EPOLLIN|unix.EPOLLOUT) != unix.EPOLLIN|unix.EPOLLOUT
}

// wakeOne wakes the thread that has waited longest. Called with lock held.
func (s *Set) wakeOne() bool {
	w := s.sleepFirst.Load()
	if w == nil {
		return false
	}
	s.unqueue(w)
	w.l.NotifyEvent(waiter.EventIn)
	return true
}

func (s *Set) unqueue(w *sleeper) {
	if w.prev == nil {
		s.sleepFirst.Store(w.next)
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		s.sleepEnd = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.next, w.prev, w.queued = nil, nil, false
}

func (s *Set) enqueue(w *sleeper) {
	w.prev, w.next, w.queued = s.sleepEnd, nil, true
	if w.prev == nil {
		s.sleepFirst.Store(w)
	} else {
		w.prev.next = w
	}
	s.sleepEnd = w
}

// pushBack puts an item on the ready list, drop takes it off. Called with lock held.
func (s *Set) pushBack(i *item) {
	i.prev, i.next, i.ready = s.last.Load(), nil, true
	if i.prev == nil {
		s.first.Store(i)
	} else {
		i.prev.next = i
	}
	s.last.Store(i)
}

func (s *Set) drop(i *item) {
	if i.prev == nil {
		s.first.Store(i.next)
	} else {
		i.prev.next = i.next
	}
	if i.next == nil {
		s.last.Store(i.prev)
	} else {
		i.next.prev = i.prev
	}
	i.next, i.prev, i.ready = nil, nil, false
}

// poll is what the item is ready for now, of what it asked; nothing if it asks for nothing
// any more. Called with mtx held.
func (i *item) poll(events uint32) uint32 {
	if events&^privateBits == 0 {
		return 0
	}
	return uint32(i.key.f.Ops.Readiness(waiter.EventMask(events)&waiter.AllEvents)) & events
}

// Look reports up to max events to dst, which is program memory of as, without waiting: n
// of them, none if nothing is ready. more: the page behind them is absent; More goes on.
// It is what most calls of epoll_wait are.
func (s *Set) Look(as hal.AddressSpace, dst hal.UserAddr, max int) (n int, more bool) {
	s.mtx.Lock()
	s.pass++
	pass := s.pass
	for n < max {
		i := s.first.Load()
		if i == nil || i.pass == pass {
			break
		}
		if i.again.Load() {
			i.again.Store(false)
		}
		got := i.poll(i.events)
		if got == 0 {
			s.settle(i, 0, pass)
			continue
		}
		binary.LittleEndian.PutUint32(s.ev[:], got)
		binary.LittleEndian.PutUint64(s.ev[4:], i.data)
		if m, _ := as.CopyOut(dst+hal.UserAddr(n)*EventSize, s.ev[:]); m != EventSize {
			more = true
			break
		}
		n++
		if i.events&(unix.EPOLLONESHOT|unix.EPOLLET) == 0 && i == s.last.Load() {
			i.pass = pass
		} else {
			s.settle(i, got, pass)
		}
	}
	if s.sleepFirst.Load() != nil && s.first.Load() != nil {
		s.passOn()
	}
	s.mtx.Unlock()
	return n, more
}

// More goes on after a Look that reported some events and had a page absent: EFAULT if
// nothing can be written at dst. Another thread's pass in between may have begun anew.
func (s *Set) More(dst *mm.IOSeq, max int) (int, error) {
	s.mtx.Lock()
	pass := s.pass
	s.mtx.Unlock()
	return s.report(dst, max, pass)
}

// Wait reports up to max events to dst: epoll_wait's core. It returns 0 at the
// deadline, EINTR for a signal, EFAULT if not even the first event could be
// written. A deadline that has passed makes it look once.
func (s *Set) Wait(c wait.Context, dst *mm.IOSeq, max int, deadline int64) (int, error) {
	n, err := s.report(dst, max, s.newPass())
	if n > 0 || err != nil || deadline <= 0 {
		return n, err
	}
	w := sleepers.Get().(*sleeper)
	w.l = c.Listener()
	for {
		s.lock.Lock()
		empty := s.first.Load() == nil
		if empty {
			s.enqueue(w)
		}
		s.lock.Unlock()
		r := wait.Ready
		if empty {
			r = c.Block(deadline, wait.Interruptible)
			s.lock.Lock()
			if w.queued {
				s.unqueue(w)
			}
			s.lock.Unlock()
		}
		// Whoever took this thread off the queue counts on it: look in any case.
		n, err = s.report(dst, max, s.newPass())
		if n > 0 || err != nil {
			break
		}
		if r == wait.Timeout {
			break
		}
		if r != wait.Ready {
			err = unix.EINTR
			break
		}
	}
	w.l = nil
	sleepers.Put(w)
	return n, err
}

// newPass is a number that no item has been reported in.
func (s *Set) newPass() uint64 {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.pass++
	return s.pass
}

// report is ep_send_events: one pass over what is ready now.
func (s *Set) report(dst *mm.IOSeq, max int, pass uint64) (n int, err error) {
	for {
		s.mtx.Lock()
		m, fault := s.reportLocked(dst, max-n, pass)
		s.mtx.Unlock()
		if n += m; fault == nil {
			return n, nil
		}
		if err := fault.FaultIn(true); err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
	}
}

// reportLocked reports until max, an item that the pass has reported, or a fault,
// at which it stops with the sequence where it must be faulted in. Called with mtx held.
func (s *Set) reportLocked(dst *mm.IOSeq, max int, pass uint64) (n int, fault *mm.IOSeq) {
	for n < max && fault == nil {
		i := s.first.Load()
		if i == nil || i.pass == pass {
			break
		}
		// It stays on the list while it is asked; what comes meanwhile is noted.
		i.again.Store(false)
		got := i.poll(i.events)
		if got != 0 {
			if fault = s.put(dst, got, i.data); fault != nil {
				break
			}
			n++
		}
		s.settle(i, got, pass)
	}
	if s.first.Load() != nil && s.sleepFirst.Load() != nil {
		s.passOn()
	}
	return n, fault
}

// settle puts an item that was asked, and reported if it got anything, where it belongs:
// behind the others if it is level-triggered or was notified meanwhile, else off the list.
// Called with mtx held.
func (s *Set) settle(i *item, got uint32, pass uint64) {
	s.lock.Lock()
	stays := i.again.Load()
	if got != 0 {
		i.pass = pass
		if i.events&unix.EPOLLONESHOT != 0 {
			i.events &= privateBits
		} else if i.events&unix.EPOLLET == 0 {
			stays = true
		}
	}
	if !stays {
		s.drop(i)
	} else if i != s.last.Load() {
		s.drop(i)
		s.pushBack(i)
	}
	s.lock.Unlock()
}

// passOn wakes another thread for what is left on the list. Who comes to wait now sees the
// list itself. Called with mtx held.
func (s *Set) passOn() {
	s.lock.Lock()
	if s.first.Load() != nil {
		s.wakeOne()
	}
	s.lock.Unlock()
}

// put copies an event out. At a fault the sequence stays at the event's first byte; the
// page to fault in may be the next one. Called with mtx held.
func (s *Set) put(dst *mm.IOSeq, events uint32, data uint64) (fault *mm.IOSeq) {
	binary.LittleEndian.PutUint32(s.ev[:], events)
	binary.LittleEndian.PutUint64(s.ev[4:], data)
	if dst.Put(s.ev[:]) {
		return nil
	}
	before := *dst
	m, err := dst.CopyOutNoFault(s.ev[:])
	if err == nil && m == EventSize {
		return nil
	}
	at := before
	at.Skip(m)
	*dst = before
	return s.faultAt(at)
}

// faultAt moves a sequence to the heap: only the path of a fault pays for it.
func (s *Set) faultAt(at mm.IOSeq) *mm.IOSeq {
	q := new(mm.IOSeq)
	*q = at
	return q
}

// Readiness implements waiter.Waitable: whether a Wait would report something. Items
// that are not ready after all leave the list (ep_eventpoll_poll).
func (s *Set) Readiness(mask waiter.EventMask) waiter.EventMask {
	if s.first.Load() == nil {
		return 0
	}
	s.mtx.Lock()
	defer s.mtx.Unlock()
	for {
		i := s.first.Load()
		if i == nil {
			return 0
		}
		// It stays on the list while it is asked: a thread that finds the list empty sleeps.
		i.again.Store(false)
		if i.poll(i.events) != 0 {
			return waiter.ReadableEvents & mask
		}
		s.lock.Lock()
		if !i.again.Load() {
			s.drop(i)
		}
		s.lock.Unlock()
	}
}

// EventRegister and EventUnregister implement waiter.Waitable.
func (s *Set) EventRegister(e *waiter.Entry) error { s.q.EventRegister(e); return nil }
func (s *Set) EventUnregister(e *waiter.Entry)     { s.q.EventUnregister(e) }

// Attr implements vfs.FileOps.
func (s *Set) Attr(wait.Context) (vfs.Attr, error) { return vfs.AnonAttr(), nil }

// SetAttr implements vfs.FileOps.
func (s *Set) SetAttr(_ wait.Context, a vfs.SetAttr) error { return vfs.AnonSetAttr(a) }

// Release implements vfs.FileOps: every item goes.
func (s *Set) Release(*vfs.File) {
	topology.mu.Lock()
	s.mtx.Lock()
	items := s.items
	s.items, s.dead = nil, true
	for _, i := range items {
		s.forget(i)
	}
	s.mtx.Unlock()
	topology.mu.Unlock()
	s.mem.Budget().Uncharge(setCost)
}
