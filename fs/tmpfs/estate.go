package tmpfs

import (
	"sync"
	"sync/atomic"

	"kiln/kernel/mm"
)

// estate is what an instance holds outside the Go heap: pages and budget. A mounted
// instance lives by its mount, one that was unmounted by its open files, directories that
// are somebody's, mappings; when the collector finds that nothing leads to it any more,
// the estate is given back. So it never points at the FS or its inodes.
type estate struct {
	mem             *mm.Memory
	maxPages, pages atomic.Int64
	bytes           atomic.Int64 // charged to the kernel-heap budget

	mu   sync.Mutex
	objs map[*mm.Object]struct{}
}

// settle gives everything back.
func (e *estate) settle() {
	e.mu.Lock()
	objs := e.objs
	e.objs = nil
	e.mu.Unlock()
	for o := range objs {
		o.DecRef()
	}
	e.uncharge(e.bytes.Load())
}

// charge takes n bytes of the kernel-heap budget, or says false.
func (e *estate) charge(n int64) bool {
	if !e.mem.Budget().Charge(n) {
		return false
	}
	e.bytes.Add(n)
	return true
}

func (e *estate) uncharge(n int64) {
	e.bytes.Add(-n)
	e.mem.Budget().Uncharge(n)
}

// newObject makes a file's page cache, with the instance's quota.
func (e *estate) newObject() *mm.Object {
	o := mm.NewObject(e.mem, nil, 0)
	o.SetCharge(e.chargePages)
	e.mu.Lock()
	e.objs[o] = struct{}{}
	e.mu.Unlock()
	return o
}

// drop lets go of a file's page cache.
func (e *estate) drop(o *mm.Object) {
	e.mu.Lock()
	delete(e.objs, o)
	e.mu.Unlock()
	o.DecRef()
}

// chargePages is mm.Object's quota call.
func (e *estate) chargePages(n int64) bool {
	if beyond(e.pages.Add(n), e.maxPages.Load()) && n > 0 {
		e.pages.Add(-n)
		return false
	}
	return true
}
