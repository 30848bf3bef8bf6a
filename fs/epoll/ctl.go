package epoll

import (
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/wait"
)

// Operations of Ctl.
const (
	Add = unix.EPOLL_CTL_ADD
	Del = unix.EPOLL_CTL_DEL
	Mod = unix.EPOLL_CTL_MOD
)

// maxNests is EP_MAX_NESTS: sets may stand in sets this deep.
const maxNests = 4

// pathLimits bound how many chains of sets of each length lead up from a set, so that
// one event cannot set off an avalanche (Linux's path_limits).
var pathLimits = [...]int{500, 100, 50, 10}

// topology orders changes to what stands in what.
var topology struct {
	mu   sync.Mutex
	mark uint64
}

// CanPoll marks the files that look regular and can be watched all the same (queues).
type CanPoll interface{ CanPoll() }

// Pollable says whether a file can be watched: not regular files and directories.
func Pollable(c wait.Context, f *vfs.File) bool {
	if f.Flags()&unix.O_PATH != 0 {
		return false
	}
	if _, no := f.Ops.(NoPoll); no {
		return false
	}
	if _, yes := f.Ops.(CanPoll); yes {
		return true
	}
	if f.Inode() == nil && Of(f) != nil {
		return true
	}
	a, err := f.Ops.Attr(c)
	if err != nil {
		return true
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFBLK:
		return false
	}
	return true
}

// Ctl is epoll_ctl on the file that descriptor fd leads to, in Linux's order of errors:
// EPERM for what cannot be polled, EINVAL, ELOOP, EEXIST, ENOENT, ENOSPC, ENOMEM.
func (s *Set) Ctl(c wait.Context, op int, fd int32, f *vfs.File, events uint32, data uint64) error {
	if !Pollable(c, f) {
		return unix.EPERM
	}
	inner := Of(f)
	if inner == s {
		return unix.EINVAL
	}
	if op != Del && events&unix.EPOLLEXCLUSIVE != 0 {
		if op == Mod || inner != nil || events&^exclusiveOK != 0 {
			return unix.EINVAL
		}
	}
	if inner != nil && op != Mod {
		topology.mu.Lock()
		defer topology.mu.Unlock()
	}
	switch op {
	case Add:
		return s.add(fd, f, inner, events, data)
	case Del:
		return s.del(fd, f)
	case Mod:
		return s.mod(fd, f, events, data)
	}
	return unix.EINVAL
}

// add is EPOLL_CTL_ADD; topology.mu is held if inner is not nil.
func (s *Set) add(fd int32, f *vfs.File, inner *Set, events uint32, data uint64) error {
	if inner != nil {
		if err := s.mayNest(inner); err != nil {
			return err
		}
	}
	k := key{fd, f}
	s.mtx.Lock()
	if s.items[k] != nil {
		s.mtx.Unlock()
		return unix.EEXIST
	}
	if s.dead {
		s.mtx.Unlock()
		return unix.EBADF
	}
	if !s.mem.Budget().Charge(itemCost) {
		s.mtx.Unlock()
		return unix.ENOMEM
	}
	i := &item{set: s, key: k, inner: inner, events: events | always, data: data}
	_, i.endsAsRead = f.Ops.(interface{ EndsAsReadable() })
	i.entry.Init(i, waiter.AllEvents|wait.RingWake)
	var err error
	if events&unix.EPOLLEXCLUSIVE != 0 {
		err = join(i)
	} else {
		err = f.Ops.EventRegister(&i.entry)
	}
	if err != nil {
		s.mtx.Unlock()
		s.mem.Budget().Uncharge(itemCost)
		return err
	}
	s.items[k] = i
	if inner != nil {
		if inner.above == nil {
			inner.above = map[*item]struct{}{}
		}
		inner.above[i] = struct{}{}
	}
	f.Watch(i)
	s.offer(i)
	s.mtx.Unlock()
	return nil
}

// offer puts an item that is new or changed on the ready list if it is ready. Called
// with mtx held.
func (s *Set) offer(i *item) {
	s.lock.Lock()
	events := i.events
	s.lock.Unlock()
	if i.poll(events) == 0 {
		return
	}
	s.lock.Lock()
	fresh := !i.ready
	if fresh {
		s.pushBack(i)
		s.wakeOne()
	}
	s.lock.Unlock()
	if fresh {
		s.q.Notify(waiter.EventIn)
	}
}

// mod is EPOLL_CTL_MOD: it looks anew, so an edge-triggered item that is still ready
// is reported again.
func (s *Set) mod(fd int32, f *vfs.File, events uint32, data uint64) error {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	i := s.items[key{fd, f}]
	if i == nil {
		return unix.ENOENT
	}
	s.lock.Lock()
	exclusive := i.events&unix.EPOLLEXCLUSIVE != 0
	if !exclusive {
		i.events = events | always
	}
	s.lock.Unlock()
	if exclusive {
		return unix.EINVAL
	}
	i.data = data
	s.offer(i)
	return nil
}

func (s *Set) del(fd int32, f *vfs.File) error {
	s.mtx.Lock()
	i := s.items[key{fd, f}]
	if i == nil {
		s.mtx.Unlock()
		return unix.ENOENT
	}
	delete(s.items, i.key)
	s.forget(i)
	s.mtx.Unlock()
	return nil
}

// forget undoes add for an item that is no longer in items. Called with mtx held, and
// topology.mu where the item watches a set.
func (s *Set) forget(i *item) {
	i.removed = true
	if i.group != nil {
		leave(i)
	} else {
		i.key.f.Ops.EventUnregister(&i.entry) // waits for a notification under way
	}
	i.key.f.Unwatch(i)
	s.lock.Lock()
	if i.ready {
		s.drop(i)
	}
	s.lock.Unlock()
	if i.inner != nil {
		delete(i.inner.above, i)
	}
	s.mem.Budget().Uncharge(itemCost)
}

// FileReleased implements vfs.Watcher: the last descriptor of the file is gone.
func (i *item) FileReleased(*vfs.File) {
	s := i.set
	if i.inner != nil {
		topology.mu.Lock()
		defer topology.mu.Unlock()
	}
	s.mtx.Lock()
	if !i.removed {
		delete(s.items, i.key)
		s.forget(i)
	}
	s.mtx.Unlock()
}

// mayNest says whether inner may be put into s: ELOOP if s can be reached from it or
// the nest becomes too deep, EINVAL if too many chains would lead up. Called with
// topology.mu held.
func (s *Set) mayNest(inner *Set) error {
	topology.mark++
	down, ok := inner.depth(s, 0)
	if !ok {
		return unix.ELOOP
	}
	if s.height(0)+1+down > maxNests {
		return unix.ELOOP
	}
	var paths [maxNests]int
	paths[0] = 1
	if !s.paths(&paths, 1) {
		return unix.EINVAL
	}
	return nil
}

// depth is how deep sets stand below s; false if target is among them, or too deep.
func (s *Set) depth(target *Set, at int) (int, bool) {
	if s == target || at > maxNests {
		return 0, false
	}
	// Sets below are found through their links up, which topology.mu guards; the
	// items themselves are mtx's.
	most := 0
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.mark == topology.mark {
		return s.below, true
	}
	for _, i := range s.items {
		if i.inner == nil {
			continue
		}
		d, ok := i.inner.depth(target, at+1)
		if !ok {
			return 0, false
		}
		most = max(most, d+1)
	}
	s.mark, s.below = topology.mark, most
	return most, true
}

// height is how many sets stand above s, one in the other.
func (s *Set) height(at int) int {
	most := 0
	if at <= maxNests {
		for i := range s.above {
			most = max(most, 1+i.set.height(at+1))
		}
	}
	return most
}

// paths counts the chains that lead up from s by length; false beyond the limits.
func (s *Set) paths(n *[maxNests]int, length int) bool {
	if length >= maxNests {
		return true
	}
	for i := range s.above {
		if n[length]++; n[length] > pathLimits[length] || !i.set.paths(n, length+1) {
			return false
		}
	}
	return true
}

// Registered is the file that the set watches under descriptor number fd, the nth of them
// where several have had that number; nil if there is none (kcmp).
func (s *Set) Registered(fd int32, nth uint32) *vfs.File {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	for k := range s.items {
		if k.fd == fd {
			if nth == 0 {
				return k.f
			}
			nth--
		}
	}
	return nil
}
