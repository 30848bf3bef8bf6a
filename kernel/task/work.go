package task

import (
	"maps"
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/waiter"
)

// workList is what others want done on a thread's own goroutine, where its program's
// memory can be touched (io_uring's retries; Linux's task_work).
type workList struct {
	mu    sync.Mutex
	todo  []func()
	ended bool
	local any // Thread.Local while the work runs
	// leave is who is told that the thread leaves its memory, by whatever they are known by.
	leave map[any]func(exec bool) bool
}

// OnLeave has f called when the thread ends, and with exec before it gets another program's
// memory: there again until f has found nothing to do and says false.
func (t *Thread) OnLeave(key any, f func(exec bool) bool) {
	w := &t.work
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leave == nil {
		w.leave = map[any]func(bool) bool{}
	}
	w.leave[key] = f
}

// ForgetLeave ends OnLeave, of a thread that may have ended.
func (t *Thread) ForgetLeave(key any) {
	t.work.mu.Lock()
	delete(t.work.leave, key)
	t.work.mu.Unlock()
}

// tellLeave calls those of OnLeave, and says whether one has found something to do.
func (t *Thread) tellLeave(exec bool) (more bool) {
	t.work.mu.Lock()
	todo := slices.Collect(maps.Values(t.work.leave))
	t.work.mu.Unlock()
	for _, f := range todo {
		more = f(exec) || more
	}
	return more
}

// leaveMemory sees to what work there is for the memory that exec drops.
func (t *Thread) leaveMemory() {
	for t.tellLeave(true) {
		t.runWork()
	}
}

// AddWork has f run by the thread before it returns to the program, or in the middle of a
// wait that signals can end. f must not wait itself. False: the thread has ended, f will
// not run.
func (t *Thread) AddWork(f func()) bool {
	w := &t.work
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		return false
	}
	w.todo = append(w.todo, f)
	w.mu.Unlock()
	t.notify(fWork)
	return true
}

// runWork does what there is to do. The system call layer's room may be in use by the call
// that waits: the work gets its own.
func (t *Thread) runWork() {
	w := &t.work
	outer := t.Local
	t.Local = w.local
	defer func() { w.local, t.Local = t.Local, outer }()
	for {
		w.mu.Lock()
		todo := w.todo
		if len(todo) == 0 || t.flags.Load()&fKill != 0 && !w.ended {
			w.mu.Unlock()
			return // what makes more of itself does not keep the thread alive: endWork has the rest
		}
		w.todo = nil
		w.mu.Unlock()
		for _, f := range todo {
			f()
		}
	}
}

// endWork refuses work from now on and does what is left.
func (t *Thread) endWork() {
	t.work.mu.Lock()
	t.work.ended = true
	t.work.mu.Unlock()
	t.tellLeave(false)
	t.runWork()
}

// wouldWait is where BlockOn says for what it would have waited.
type wouldWait struct {
	on   waiter.Waitable
	mask waiter.EventMask
}

// WouldWait says, inside an Attempt, whether a call has come to where it would wait.
func (t *Thread) WouldWait() bool { return t.attempt != nil && t.attempt.on != nil }

// Attempting says whether the call is made by Attempt: one that has moved something is to
// return with that where it would otherwise wait for more.
func (t *Thread) Attempting() bool { return t.attempt != nil }

// Attempt runs a system call's function so that it does not wait where it would for one
// object: then on is the object, mask the events, nothing has been done and the results mean
// nothing. The call is made again once one of the events has come.
func (t *Thread) Attempt(call func() (uintptr, error)) (v uintptr, err error, on waiter.Waitable, mask waiter.EventMask) {
	var w wouldWait
	t.attempt = &w
	v, err = call()
	t.attempt = nil
	return v, err, w.on, w.mask
}
