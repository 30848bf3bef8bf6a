package epoll

import (
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/wait"
)

// group is the EPOLLEXCLUSIVE items of one file, in every set. It stands in the file's
// wait queue for all of them and passes an event on until a set had a thread waiting, in
// the order in which they came, as Linux's wait queues do with exclusive waiters.
type group struct {
	entry waiter.Entry
	mu    sync.Mutex // below the wait queue's, above Set.lock
	items []*item
}

// exclusives finds a file's group. Its mutex is above the files' wait queues.
var exclusives = struct {
	mu sync.Mutex
	m  map[*vfs.File]*group
}{m: map[*vfs.File]*group{}}

// NotifyEvent implements waiter.EventListener.
func (g *group) NotifyEvent(m waiter.EventMask) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, i := range g.items {
		if i.notify(m) {
			return
		}
	}
}

// join puts a new item into the group of its file.
func join(i *item) error {
	x := &exclusives
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.m[i.key.f]
	if g == nil {
		g = &group{}
		g.entry.Init(g, waiter.AllEvents|wait.RingWake)
		if err := i.key.f.Ops.EventRegister(&g.entry); err != nil {
			return err
		}
		x.m[i.key.f] = g
	}
	g.mu.Lock()
	g.items = append(g.items, i)
	g.mu.Unlock()
	i.group = g
	return nil
}

// leave takes an item out; no notification of it is under way afterwards.
func leave(i *item) {
	x := &exclusives
	x.mu.Lock()
	defer x.mu.Unlock()
	g := i.group
	g.mu.Lock()
	if k := slices.Index(g.items, i); k >= 0 {
		g.items = slices.Delete(g.items, k, k+1)
	}
	last := len(g.items) == 0
	g.mu.Unlock()
	if last {
		delete(x.m, i.key.f)
		i.key.f.Ops.EventUnregister(&g.entry)
	}
}
