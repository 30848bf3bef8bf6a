package task

import (
	"kiln/fs/vfs"
	"kiln/kernel/wait"
)

// An execve takes its time: it reads files, copies arguments, waits for the other threads to
// end. Who the new program is to be is settled at its beginning, from who the old one is.

// GuardExec runs f, the caller's execve, as the only one that changes who the process is: nobody
// begins to trace it meanwhile, or gives all its threads a filter (Linux' cred_guard_mutex).
// watched says that the program must not gain privileges: somebody traces the caller who has
// fewer, or another process shares its root and working directory. ERESTARTNOINTR: a signal came
// first.
func (t *Thread) GuardExec(f func(watched bool) error) error {
	g := &t.process.execGuard
	if g.LockAs(t, wait.Interruptible) != wait.Ready {
		return wait.ErrRestartNoInt
	}
	defer g.Unlock()
	fs := t.FS()
	own := t.process.keepFS(fs)
	if own {
		defer fs.EndExec()
	}
	return f(!own || t.TracedUnsafely())
}

// keepFS says whether no other process shares fs with p, and keeps it so until EndExec. p's
// threads that let go of it do so with mu held.
func (p *Process) keepFS(fs *vfs.FSContext) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		all, own := fs.Users(), int64(0)
		for t := p.threads; t != nil; t = t.sibling {
			if t.FS() == fs {
				own++
			}
		}
		if all > own {
			return false
		}
		if fs.BeginExec(all) {
			return true
		}
	}
}

// dropFS lets go of root and working directory for others, nil at the thread's end.
func (t *Thread) dropFS(n *vfs.FSContext) {
	p := t.process
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := t.fs.Swap(n); old != nil {
		old.DecRef()
	}
}

// Steady runs look, and again if p has become another program meanwhile: what it finds of who p
// is (Creds, Dumpable) and of what p has (memory, descriptors) belongs to one program. It gives
// look's last result.
func (p *Process) Steady(look func() error) error {
	for {
		n := p.program()
		err := look()
		if p.program() == n {
			return err
		}
	}
}

// program is the number of p's program, of those that it has been.
func (p *Process) program() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.execs
}
