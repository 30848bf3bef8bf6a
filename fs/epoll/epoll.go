// Package epoll is epoll(7): sets of files that say which of them are ready.
//
//	set, f := epoll.New(mem)
//	err := set.Add(file, fd, epoll.Event{Events: unix.EPOLLIN, Data: 7})
//	n := set.Harvest(buf, items)          // what epoll_wait copies out
//
// An item registers a waiter entry with its file; the file's notification puts the item
// on the ready list. Harvest takes items off the list and asks each file again: what is
// not ready after all is dropped, what is edge-triggered (or one-shot) stays off until the
// next notification, and the rest goes to the end of the list. So the cost of a wait is
// that of the ready files, whatever the size of the set, and nothing is allocated.
//
// An item holds no reference to its file: the file tells its watchers when it goes.
//
// Locks, outermost first: nest (adding a set to a set) < Set.ctl < file locks and queues
// < Set.mu, Set.aboveMu < Set.q. Notifications run under the file's queue lock and take Set.mu, the
// set's own queue, and through it those of the sets that watch the set; loops are refused
// when they are made, so this ends.
package epoll

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

const (
	// EventSize is struct epoll_event on x86-64 (packed).
	EventSize = 12
	itemCost  = 256
	// maxNests is EP_MAX_NESTS: the depth of sets in sets.
	maxNests = 4

	private   = unix.EPOLLWAKEUP | unix.EPOLLONESHOT | unix.EPOLLET | unix.EPOLLEXCLUSIVE
	exclusive = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLERR | unix.EPOLLHUP | unix.EPOLLWAKEUP | unix.EPOLLET | unix.EPOLLEXCLUSIVE
)

// Event is struct epoll_event.
type Event struct {
	Events uint32
	Data   uint64
}

// Put encodes e.
func (e Event) Put(b []byte) {
	binary.LittleEndian.PutUint32(b, e.Events)
	binary.LittleEndian.PutUint64(b[4:], e.Data)
}

type key struct {
	f  *vfs.File
	fd int32
}

// Item is one registration.
type Item struct {
	set   *Set
	key   key
	entry waiter.Entry

	// Under Set.mu.
	events     uint32
	data       uint64
	queued     bool
	gone       bool
	prev, next *Item
}

// Set is an epoll instance.
type Set struct {
	vfs.BaseOps
	mem *mm.Memory
	q   waiter.Queue

	ctl   sync.Mutex
	items map[key]*Item

	aboveMu sync.Mutex
	above   map[*Set]int // sets with items for this one

	mu    sync.Mutex
	ready Item // head of a ring
	n     int  // ready items
}

// nest serialises the search for loops.
var nest sync.Mutex

// New makes a set and its file.
func New(mem *mm.Memory) (*Set, *vfs.File) {
	s := &Set{mem: mem, items: map[key]*Item{}}
	s.ready.prev, s.ready.next = &s.ready, &s.ready
	f := vfs.NewFile(s, unix.O_RDWR)
	f.Name = "anon_inode:[eventpoll]"
	return s, f
}

// push and take keep the ready ring. Called with mu held.
func (s *Set) push(i *Item) {
	if i.queued || i.gone {
		return
	}
	i.queued = true
	i.prev, i.next = s.ready.prev, &s.ready
	i.prev.next, i.next.prev = i, i
	s.n++
}

func (s *Set) take(i *Item) {
	if i.queued {
		i.queued = false
		i.prev.next, i.next.prev = i.next, i.prev
		i.prev, i.next = nil, nil
		s.n--
	}
}

// NotifyEvent implements waiter.EventListener.
func (i *Item) NotifyEvent(waiter.EventMask) {
	s := i.set
	s.mu.Lock()
	live := i.events&^private != 0 && !i.gone
	if live {
		s.push(i)
	}
	s.mu.Unlock()
	if live {
		s.q.Notify(waiter.ReadableEvents)
	}
}

func mask(events uint32) waiter.EventMask {
	return waiter.EventMask(events&^private) | waiter.EventErr | waiter.EventHUp
}

// check asks the file of an item whether it is ready for what the item wants.
func (i *Item) check(events uint32) uint32 {
	if events&^private == 0 {
		return 0
	}
	f := i.key.f
	return uint32(f.Ops.Readiness(mask(events))) & (events&^private | unix.EPOLLERR | unix.EPOLLHUP)
}

// Add is EPOLL_CTL_ADD. EEXIST, EPERM (the file cannot be polled), EINVAL, ELOOP, ENOSPC.
// The caller holds f.
func (s *Set) Add(f *vfs.File, fd int32, e Event) error {
	t, isSet := f.Ops.(*Set)
	if e.Events&unix.EPOLLEXCLUSIVE != 0 && (isSet || e.Events&^exclusive != 0) {
		return unix.EINVAL
	}
	if isSet {
		if t == s {
			return unix.EINVAL
		}
		nest.Lock()
		defer nest.Unlock()
		if d, ok := t.depth(s, 1); !ok || d+s.height() > maxNests {
			return unix.ELOOP
		}
	}
	s.ctl.Lock()
	defer s.ctl.Unlock()
	k := key{f, fd}
	if s.items[k] != nil {
		return unix.EEXIST
	}
	if !s.mem.Budget().Charge(itemCost) {
		return unix.ENOSPC
	}
	i := &Item{set: s, key: k, events: e.Events, data: e.Data}
	i.entry.Init(i, mask(e.Events))
	if err := f.Ops.EventRegister(&i.entry); err != nil {
		s.mem.Budget().Uncharge(itemCost)
		return err
	}
	s.items[k] = i
	f.Watch(i)
	if isSet {
		t.watched(s, 1)
	}
	s.poll(i, e.Events)
	return nil
}

// poll queues an item that is ready now. Called with ctl held.
func (s *Set) poll(i *Item, events uint32) {
	if i.check(events) != 0 {
		i.NotifyEvent(0)
	}
}

// Modify is EPOLL_CTL_MOD; ENOENT, EINVAL.
func (s *Set) Modify(f *vfs.File, fd int32, e Event) error {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	i := s.items[key{f, fd}]
	if i == nil {
		return unix.ENOENT
	}
	s.mu.Lock()
	if (e.Events|i.events)&unix.EPOLLEXCLUSIVE != 0 {
		s.mu.Unlock()
		return unix.EINVAL
	}
	same := mask(i.events) == mask(e.Events)
	i.events, i.data = e.Events, e.Data
	s.mu.Unlock()
	if !same {
		f.Ops.EventUnregister(&i.entry)
		i.entry.Init(i, mask(e.Events))
		if err := f.Ops.EventRegister(&i.entry); err != nil {
			return err
		}
	}
	s.poll(i, e.Events)
	return nil
}

// Remove is EPOLL_CTL_DEL; ENOENT.
func (s *Set) Remove(f *vfs.File, fd int32) error {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	i := s.items[key{f, fd}]
	if i == nil {
		return unix.ENOENT
	}
	f.Unwatch(i)
	s.forget(i)
	return nil
}

// forget takes an item apart. Called with ctl held.
func (s *Set) forget(i *Item) {
	delete(s.items, i.key)
	i.key.f.Ops.EventUnregister(&i.entry)
	s.mu.Lock()
	s.take(i)
	i.gone = true
	s.mu.Unlock()
	s.mem.Budget().Uncharge(itemCost)
	if t, ok := i.key.f.Ops.(*Set); ok {
		t.watched(s, -1)
	}
}

// FileReleased implements vfs.Watcher.
func (i *Item) FileReleased(f *vfs.File) {
	s := i.set
	s.ctl.Lock()
	if s.items[i.key] == i {
		s.forget(i)
	}
	s.ctl.Unlock()
}

// Release implements vfs.FileOps.
func (s *Set) Release(*vfs.File) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	for _, i := range s.items {
		i.key.f.Unwatch(i)
		s.forget(i)
	}
}

// Harvest fills out with events of EventSize bytes each and returns how many; got
// remembers their items, for Return. Both are as long as the number of events wanted.
func (s *Set) Harvest(out []byte, got []*Item) int {
	n := 0
	s.mu.Lock()
	for left := s.n; left > 0 && n < len(got); left-- {
		i := s.ready.next
		if i == &s.ready {
			break
		}
		s.take(i)
		events, data := i.events, i.data
		s.mu.Unlock()
		r := i.check(events)
		s.mu.Lock()
		if r == 0 || i.gone {
			continue
		}
		switch {
		case events&unix.EPOLLONESHOT != 0:
			// Off until EPOLL_CTL_MOD, unless one came just now.
			if i.events == events {
				i.events &= private
			}
		case events&unix.EPOLLET == 0:
			s.push(i)
		}
		Event{r, data}.Put(out[n*EventSize:])
		got[n] = i
		n++
	}
	s.mu.Unlock()
	return n
}

// Return puts items back whose events could not be delivered (EFAULT).
func (s *Set) Return(got []*Item) {
	s.mu.Lock()
	for _, i := range got {
		s.push(i)
	}
	s.mu.Unlock()
}

// Readiness implements waiter.Waitable: readable if a wait would return something.
func (s *Set) Readiness(m waiter.EventMask) waiter.EventMask {
	if m&waiter.ReadableEvents == 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for left := s.n; left > 0; left-- {
		i := s.ready.next
		if i == &s.ready {
			break
		}
		events := i.events
		s.mu.Unlock()
		r := i.check(events)
		s.mu.Lock()
		if r != 0 {
			return m & waiter.ReadableEvents
		}
		// Nobody would be told of it; the next notification queues it again.
		s.take(i)
	}
	return 0
}

// EventRegister and EventUnregister implement waiter.Waitable.
func (s *Set) EventRegister(e *waiter.Entry) error { s.q.EventRegister(e); return nil }

// EventUnregister implements waiter.Waitable.
func (s *Set) EventUnregister(e *waiter.Entry) { s.q.EventUnregister(e) }

// Ready is a cheap test for epoll_wait.
func (s *Set) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n > 0
}

// depth is how many sets hang below t, itself included; false if target is among them or
// there are too many levels. Called with nest held.
func (t *Set) depth(target *Set, level int) (int, bool) {
	if t == target || level > maxNests {
		return 0, false
	}
	t.ctl.Lock()
	var below []*Set
	for k := range t.items {
		if b, ok := k.f.Ops.(*Set); ok {
			below = append(below, b)
		}
	}
	t.ctl.Unlock()
	d := 0
	for _, b := range below {
		n, ok := b.depth(target, level+1)
		if !ok {
			return 0, false
		}
		d = max(d, n)
	}
	return d + 1, true
}

// height is how many levels of sets are above s: its watchers are items of theirs. Called
// with nest held.
func (s *Set) height() int {
	s.aboveMu.Lock()
	up := make([]*Set, 0, len(s.above))
	for p := range s.above {
		up = append(up, p)
	}
	s.aboveMu.Unlock()
	h := 0
	for _, p := range up {
		h = max(h, 1+p.height())
	}
	return h
}

// watched adds n to the number of items that by has for t.
func (t *Set) watched(by *Set, n int) {
	t.aboveMu.Lock()
	if t.above == nil {
		t.above = map[*Set]int{}
	}
	if t.above[by] += n; t.above[by] == 0 {
		delete(t.above, by)
	}
	t.aboveMu.Unlock()
}

// Attr and SetAttr implement vfs.FileOps.
func (s *Set) Attr(wait.Context) (vfs.Attr, error) {
	return vfs.Attr{Ino: 1, Mode: 0o600, Nlink: 1, BlockSize: hal.PageSize}, nil
}

// Each calls f for every registration, for /proc/self/fdinfo.
func (s *Set) Each(f func(fd int32, e Event)) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	for k, i := range s.items {
		f(k.fd, Event{i.events, i.data})
	}
}
