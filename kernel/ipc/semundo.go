package ipc

import (
	"sync"
	"sync/atomic"

	"kiln/kernel/task"
)

const semUndoCost = 192

// undoList is what a process, or the threads that share it by CLONE_SYSVSEM, owes to
// semaphores: at the exit of the last, the changes made with SEM_UNDO are taken back.
type undoList struct {
	n    *Namespace
	refs atomic.Int32
	mu   sync.Mutex
	in   map[*semArray]struct{} // the arrays with an entry of this list
}

// semUndo is the adjustments of one list to one array. Under semArray.mu.
type semUndo struct{ adj []int16 }

// NewUndo makes an empty list with one reference (task.Kernel.NewSemUndo).
func (n *Namespace) NewUndo() task.SemUndo {
	u := &undoList{n: n}
	u.refs.Store(1)
	return u
}

// undoOf is the entry of t's list for a, made if need be: ENOMEM. Called with a.mu held.
func (n *Namespace) undoOf(t *task.Thread, a *semArray) (*semUndo, error) {
	u, ok := t.SemUndo().(*undoList)
	if !ok {
		u = n.NewUndo().(*undoList)
		t.SetSemUndo(u)
	}
	if un := a.undos[u]; un != nil {
		return un, nil
	}
	if err := n.charge(a.undoCost()); err != nil {
		return nil, err
	}
	un := &semUndo{adj: make([]int16, len(a.sems))}
	if a.undos == nil {
		a.undos = map[*undoList]*semUndo{}
	}
	a.undos[u] = un
	u.mu.Lock()
	if u.in == nil {
		u.in = map[*semArray]struct{}{}
	}
	u.in[a] = struct{}{}
	u.mu.Unlock()
	return un, nil
}

func (a *semArray) undoCost() int64 { return semUndoCost + 2*int64(len(a.sems)) }

// dropUndos forgets all entries of an array that goes. Called with mu held.
func (n *Namespace) dropUndos(a *semArray) {
	for u := range a.undos {
		u.mu.Lock()
		delete(u.in, a)
		u.mu.Unlock()
		n.uncharge(a.undoCost())
	}
	a.undos = nil
}

// IncRef implements task.SemUndo.
func (u *undoList) IncRef() { u.refs.Add(1) }

// Exit implements task.SemUndo: exit_sem.
func (u *undoList) Exit(t *task.Thread) {
	if u.refs.Add(-1) != 0 {
		return
	}
	pid := t.Process().PID()
	for {
		u.mu.Lock()
		var a *semArray
		for a = range u.in {
			break
		}
		delete(u.in, a)
		u.mu.Unlock()
		if a == nil {
			return
		}
		a.mu.Lock()
		if un := a.undos[u]; un != nil {
			delete(a.undos, u)
			u.n.uncharge(a.undoCost())
			a.undo(un, pid)
			a.wakeUp(nil)
			a.otime = u.n.now()
		}
		a.mu.Unlock()
	}
}

// undo applies the adjustments, as far as values can go. Called with mu held.
func (a *semArray) undo(un *semUndo, pid int32) {
	for i, adj := range un.adj {
		if adj != 0 {
			s := &a.sems[i]
			s.val, s.pid = min(max(s.val+int32(adj), 0), SemMax), pid
		}
	}
}

// forgetUndo clears the adjustments of all lists to semaphore i (SETVAL). mu is held.
func (a *semArray) forgetUndo(i int) {
	for _, un := range a.undos {
		un.adj[i] = 0
	}
}
