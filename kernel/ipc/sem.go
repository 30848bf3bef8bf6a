package ipc

import (
	"slices"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// Limits and flags of semaphores (uapi/linux/sem.h).
const (
	semMNI = 32000
	semMSL = 32000
	semMNS = semMNI * semMSL
	semOPM = 500
	// SemMax is SEMVMX, the largest value, and SEMAEM, the largest adjustment at exit.
	SemMax = 32767

	// SemUndo is SEM_UNDO.
	SemUndo = 0x1000

	semCost      = 8 // of a semaphore on the heap
	semArrayCost = 256
	semWaitCost  = 192
	semOpCost    = 6
)

// SemOp is struct sembuf.
type SemOp struct {
	Num   uint16
	Op    int16
	Flags int16
}

// semArray is a set of semaphores. Operations that cannot be done wait in two lists in
// the order they came: those that wait for zero alone, and those that change values.
type semArray struct {
	base
	sems         []semaphore
	otime, ctime int64
	zero, alter  []*semWaiter
	undos        map[*undoList]*semUndo
}

type semaphore struct{ val, pid int32 }

// semWaiter is a thread in semop. done and err are under semArray.mu.
type semWaiter struct {
	t        *task.Thread
	pid      int32
	ops      []SemOp
	undo     *semUndo
	alter    bool
	blocking int // of ops: what it waits for
	done     bool
	err      error
}

// Semget finds or makes an array: EINVAL (number), ENOENT, EEXIST, EACCES; ENOSPC, ENOMEM.
func (n *Namespace) Semget(t *task.Thread, key, nsems int32, flags uint32) (int32, error) {
	if nsems < 0 || int64(nsems) > n.Limits.SemMSL.Load() {
		return 0, unix.EINVAL
	}
	cost := int64(nsems)*semCost + semArrayCost
	return n.sem.get(t, key, flags,
		func(a *semArray) error {
			if int(nsems) > len(a.sems) {
				return unix.EINVAL
			}
			return nil
		},
		func() (*semArray, error) {
			switch {
			case nsems == 0:
				return nil, unix.EINVAL
			case n.used.sems.Load()+int64(nsems) > n.Limits.SemMNS.Load():
				return nil, unix.ENOSPC
			}
			if err := n.charge(cost); err != nil {
				return nil, err
			}
			n.used.sems.Add(int64(nsems))
			return &semArray{base: base{perm: newPerm(t, key, flags)}, sems: make([]semaphore, nsems), ctime: n.now()}, nil
		}, n.dropSems)
}

func (n *Namespace) dropSems(a *semArray) {
	n.used.sems.Add(-int64(len(a.sems)))
	n.uncharge(int64(len(a.sems))*semCost + semArrayCost)
}

// Semop does all operations at once, waiting until that is possible, or the absolute
// deadline. E2BIG and EINVAL for the number of operations are the caller's. Errors:
// EINVAL, EFBIG, EACCES, EIDRM, ERANGE, ENOMEM, EAGAIN (IPC_NOWAIT, deadline), EINTR. See semop(2).
func (n *Namespace) Semop(t *task.Thread, id int32, ops []SemOp, deadline int64) error {
	alter, undo, top := false, false, uint16(0)
	for _, o := range ops {
		alter = alter || o.Op != 0
		undo = undo || o.Flags&SemUndo != 0
		top = max(top, o.Num)
	}
	a, err := n.sem.find(id)
	if err != nil {
		return err
	}
	want := uint32(ownR)
	if alter {
		want = ownW
	}
	switch {
	case int(top) >= len(a.sems):
		err = unix.EFBIG
	case !a.perm.allows(t.Creds(), want):
		err = unix.EACCES
	}
	var un *semUndo
	if err == nil && undo {
		un, err = n.undoOf(t, a)
	}
	if err != nil {
		a.mu.Unlock()
		return err
	}
	pid := t.Process().PID()
	blocking, err := a.try(ops, un, pid)
	if blocking < 0 || err != nil {
		if err == nil {
			a.settle(ops, alter, n.now())
		}
		a.mu.Unlock()
		return err
	}
	cost := int64(semWaitCost + semOpCost*len(ops))
	if err := n.charge(cost); err != nil {
		a.mu.Unlock()
		return err
	}
	defer n.uncharge(cost)
	w := &semWaiter{t: t, pid: pid, ops: slices.Clone(ops), undo: un, alter: alter, blocking: blocking}
	if alter {
		a.alter = append(a.alter, w)
	} else {
		a.zero = append(a.zero, w)
	}
	a.mu.Unlock()
	return a.wait(w, deadline)
}

// wait parks a thread until its operations are done.
func (a *semArray) wait(w *semWaiter, deadline int64) error {
	for {
		r := w.t.Block(deadline, wait.Interruptible)
		a.mu.Lock()
		if !w.done && r != wait.Ready {
			a.unqueue(w)
			w.done, w.err = true, unix.EINTR
			if r == wait.Timeout {
				w.err = unix.EAGAIN
			}
		}
		done, err := w.done, w.err
		a.mu.Unlock()
		if done {
			return err
		}
	}
}

func (a *semArray) unqueue(w *semWaiter) {
	l := &a.zero
	if w.alter {
		l = &a.alter
	}
	if i := slices.Index(*l, w); i >= 0 {
		*l = slices.Delete(*l, i, i+1)
	}
	if len(*l) == 0 {
		*l = nil
	}
}

// finish wakes a waiter with its result. Called with mu held.
func (w *semWaiter) finish(err error) {
	w.done, w.err = true, err
	w.t.NotifyEvent(0)
}

// try does all operations or none (perform_atomic_semop): blocking is the one that must
// wait, -1 if they are done; EAGAIN for one that must not, ERANGE. Called with mu held.
func (a *semArray) try(ops []SemOp, un *semUndo, pid int32) (blocking int, err error) {
	for i, o := range ops {
		s := &a.sems[o.Num]
		v := s.val + int32(o.Op)
		if o.Op == 0 && s.val != 0 || v < 0 {
			if o.Flags&Nowait != 0 {
				err = unix.EAGAIN
			}
			a.rollBack(ops[:i], un)
			return i, err
		}
		adj := int32(0)
		if o.Flags&SemUndo != 0 {
			adj = int32(un.adj[o.Num]) - int32(o.Op)
		}
		if v > SemMax || adj < -SemMax-1 || adj > SemMax {
			a.rollBack(ops[:i], un)
			return i, unix.ERANGE
		}
		if o.Flags&SemUndo != 0 {
			un.adj[o.Num] = int16(adj)
		}
		s.val = v
	}
	for _, o := range ops {
		a.sems[o.Num].pid = pid
	}
	return -1, nil
}

func (a *semArray) rollBack(ops []SemOp, un *semUndo) {
	for _, o := range slices.Backward(ops) {
		a.sems[o.Num].val -= int32(o.Op)
		if o.Flags&SemUndo != 0 {
			un.adj[o.Num] += o.Op
		}
	}
}

// settle does what has become possible after ops (nil: anything may have changed), and
// notes the time. Called with mu held.
func (a *semArray) settle(ops []SemOp, alter bool, now int64) {
	a.otime = now
	if alter {
		a.wakeUp(ops)
	}
}

// wakeUp is do_smart_update. Waiters for zero are first; then those that change values,
// in the order they came, from the start again after each that was served and may have
// made an earlier one possible. It says whether any was done.
func (a *semArray) wakeUp(ops []SemOp) (any bool) {
	any = a.wakeZero()
	if ops != nil && !slices.ContainsFunc(ops, func(o SemOp) bool { return o.Op > 0 }) && !a.complex() {
		return any // nothing that waits for a larger value can go on
	}
	for i := 0; i < len(a.alter); {
		w := a.alter[i]
		if len(w.ops) == 1 && a.sems[w.ops[0].Num].val == 0 {
			i++ // a decrement of zero
			continue
		}
		blocking, err := a.try(w.ops, w.undo, w.pid)
		if blocking >= 0 && err == nil {
			w.blocking = blocking
			i++
			continue
		}
		again := false
		a.alter = slices.Delete(a.alter, i, i+1)
		if err == nil {
			any = true
			a.wakeZero()
			again = len(w.ops) > 1 || a.complex()
		}
		w.finish(err)
		if again {
			i = 0
		}
	}
	if len(a.alter) == 0 {
		a.alter = nil
	}
	return any
}

// complex says whether anyone waits with several operations at once.
func (a *semArray) complex() bool {
	several := func(w *semWaiter) bool { return len(w.ops) > 1 }
	return slices.ContainsFunc(a.alter, several)
}

// wakeZero serves those that wait for zero alone.
func (a *semArray) wakeZero() (any bool) {
	for i := 0; i < len(a.zero); {
		w := a.zero[i]
		blocking, err := a.try(w.ops, w.undo, w.pid)
		if blocking >= 0 && err == nil {
			w.blocking = blocking
			i++
			continue
		}
		a.zero = slices.Delete(a.zero, i, i+1)
		w.finish(err)
		any = true
	}
	if len(a.zero) == 0 {
		a.zero = nil
	}
	return any
}

// Deadline turns semtimedop's relative time into Semop's; negative: none.
func Deadline(t *task.Thread, ns int64) int64 {
	if ns < 0 {
		return hal.NoDeadline
	}
	return t.Deadline(ns)
}
