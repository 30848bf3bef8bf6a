package task

import (
	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// CloneArgs are clone3's, with what clone(2) has of them.
type CloneArgs struct {
	Flags                        uint64
	ChildTID, ParentTID, TLS, SP hal.UserAddr // SP 0: the caller's
	ExitSignal                   int32
	SetTID                       int32 // 0: any
	// Attach, if set, is called with a new process before it is in any table
	// (CLONE_PIDFD): an error ends the call; undo takes back what was done if a later
	// step fails.
	Attach func(p *Process) (undo func(), err error)

	event uint32 // what the caller's tracer is to be told
}

// Clone flags that this kernel honours (uapi/linux/sched.h); namespaces are EINVAL as
// on a kernel built without them, EPERM without privilege.
const (
	cloneIgnored = unix.CLONE_DETACHED | unix.CLONE_UNTRACED | unix.CLONE_PTRACE | unix.CLONE_IO | unix.CLONE_SYSVSEM
	cloneKnown   = cloneIgnored | unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_VFORK |
		unix.CLONE_PARENT | unix.CLONE_THREAD | unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID |
		unix.CLONE_CHILD_CLEARTID | unix.CLONE_CHILD_SETTID | unix.CLONE_PIDFD | cloneClearSighand | cloneIntoCgroup
	cloneNewNS        = 0x7e020080
	cloneClearSighand = 0x100000000
	cloneIntoCgroup   = 0x200000000 // the caller has checked that there is no such cgroup
)

// vforkWait is what a parent in vfork sleeps on.
type vforkWait struct {
	parent *Thread
	done   chan struct{}
}

// Clone makes a thread or a process and lets it run: fork, vfork and pthread_create
// are all this. The child starts as the caller is, with RAX 0. Errors: EINVAL for
// combinations (clone(2)), EPERM for namespaces, EAGAIN at RLIMIT_NPROC or when the
// kernel's budget is used up, ENOMEM.
func (t *Thread) Clone(a *CloneArgs) (int32, error) {
	if err := a.check(); err != nil {
		return 0, err
	}
	if err := t.mayFork(); err != nil {
		return 0, err
	}
	if err := t.mayUnshare(a.Flags); err != nil {
		return 0, err
	}
	space, err := t.cloneSpace(a)
	if err != nil {
		return 0, err
	}
	p := t.process
	if a.Flags&unix.CLONE_THREAD == 0 {
		p = t.newProcess(a)
	}
	n, err := t.k.newThread(p, space)
	if err != nil {
		if p != t.process {
			p.hand.refs.Add(-1)
		}
		t.dropSpace(a, space)
		return 0, err
	}
	undo := func() {}
	if err = t.copyInto(n, a); err == nil && a.Attach != nil {
		undo, err = a.Attach(p)
	}
	if err == nil {
		if err = t.k.attach(t, n, a); err != nil {
			undo()
		}
	}
	if err != nil {
		if p != t.process {
			p.hand.refs.Add(-1)
		}
		n.discard(a)
		t.dropSpace(a, space)
		return 0, err
	}
	id := n.TID()
	event := a.event
	var word [4]byte
	for i := range word {
		word[i] = byte(id >> (8 * i))
	}
	if a.Flags&unix.CLONE_PARENT_SETTID != 0 {
		_ = t.CopyOut(a.ParentTID, word[:])
	}
	if a.Flags&unix.CLONE_CHILD_SETTID != 0 {
		_, _ = space.CopyOut(t, a.ChildTID, word[:])
	}
	var v *vforkWait
	if a.Flags&unix.CLONE_VFORK != 0 {
		v = &vforkWait{parent: t, done: make(chan struct{})}
		n.vfork = v
		n.inVfork.Store(a.Flags&unix.CLONE_VM != 0)
	}
	if p != t.process && p.Limit(RlimitCPU) != RlimInfinity {
		p.armCPULimit()
	}
	t.tellForked(n)
	t.k.spawn(n)
	if event != 0 {
		t.ptraceEvent(event, uint64(id))
	}
	if v != nil {
		t.waitVfork(v)
		t.ptraceEvent(EventVforkDone, uint64(id))
	}
	return id, nil
}

func (a *CloneArgs) check() error {
	f := a.Flags
	switch {
	case f&^(cloneKnown|cloneNewNS) != 0,
		f&unix.CLONE_FS != 0 && f&(unix.CLONE_NEWNS|unix.CLONE_NEWUSER) != 0,
		f&unix.CLONE_THREAD != 0 && f&(unix.CLONE_NEWUSER|unix.CLONE_NEWPID) != 0,
		f&unix.CLONE_PIDFD != 0 && f&(unix.CLONE_DETACHED|unix.CLONE_THREAD) != 0,
		f&unix.CLONE_THREAD != 0 && f&unix.CLONE_SIGHAND == 0,
		f&unix.CLONE_SIGHAND != 0 && f&unix.CLONE_VM == 0,
		f&cloneClearSighand != 0 && f&unix.CLONE_SIGHAND != 0,
		a.SP != 0 && a.SP >= hal.UserTop:
		return unix.EINVAL
	case f&unix.CLONE_SETTLS != 0 && a.TLS >= hal.UserTop:
		return unix.EPERM
	}
	return nil
}

// mayFork checks RLIMIT_NPROC and threads-max.
func (t *Thread) mayFork() error {
	t.k.tree.RLock()
	defer t.k.tree.RUnlock()
	return t.mayForkLocked()
}

// mayForkLocked is called with tree held: to refuse before anything is copied, and
// again when the child is numbered, since others may have forked meanwhile.
func (t *Thread) mayForkLocked() error {
	c := t.Creds()
	root := c.UID == 0 || c.Effective&(1<<unix.CAP_SYS_RESOURCE|1<<unix.CAP_SYS_ADMIN) != 0
	if !root && t.overNprocLocked(c.UID, 1) || uint64(t.k.tasksLocked()) >= t.k.MaxThreads() {
		return unix.EAGAIN
	}
	return nil
}

func (t *Thread) overNproc(uid uint32) bool {
	t.k.tree.RLock()
	defer t.k.tree.RUnlock()
	return t.overNprocLocked(uid, 0)
}

// overNprocLocked says whether more more threads of a user were beyond RLIMIT_NPROC, zombies
// among them. They are counted only where all threads together would be. Called with tree held.
func (t *Thread) overNprocLocked(uid uint32, more uint64) bool {
	limit, k := t.process.Limit(RlimitNproc), t.k
	n := uint64(k.tasksLocked()) + more
	if n <= limit {
		return false
	}
	for _, o := range k.threads {
		if c := o.creds.Load(); c != nil && c.UID != uid {
			n--
		}
	}
	for _, o := range k.procs {
		if o.zombie && o.last.UID != uid {
			n--
		}
	}
	return n > limit
}

// CheckNproc notes, at a change of the user id to uid, whether its threads are more than
// the caller's RLIMIT_NPROC: the change goes through, and the next execve fails.
func (t *Thread) CheckNproc(uid uint32) { t.nprocOver = uid != 0 && t.overNproc(uid) }

// ExecOverNproc is that failure: EAGAIN if they still are.
func (t *Thread) ExecOverNproc() error {
	if t.nprocOver && t.overNproc(t.Creds().UID) {
		return unix.EAGAIN
	}
	t.nprocOver = false
	return nil
}

// mayUnshare is the answer to namespace flags: EPERM without CAP_SYS_ADMIN, else EINVAL as
// on a kernel without them; a new user namespace needs no privilege.
func (t *Thread) mayUnshare(flags uint64) error {
	switch {
	case flags&cloneNewNS == 0:
		return nil
	case flags&unix.CLONE_NEWUSER == 0 && !t.Creds().Can(unix.CAP_SYS_ADMIN):
		return unix.EPERM
	}
	return unix.EINVAL
}

func (t *Thread) cloneSpace(a *CloneArgs) (*mm.Space, error) {
	if a.Flags&unix.CLONE_VM == 0 {
		n, err := t.space.Fork()
		if err == nil && t.space.Owner() != t.process.pid {
			n.SetLimits(t.process.memLimits())
		}
		return n, err
	}
	if a.Flags&unix.CLONE_THREAD == 0 {
		t.space.IncUsers()
	}
	return t.space, nil
}

func (t *Thread) dropSpace(a *CloneArgs, s *mm.Space) {
	if a.Flags&unix.CLONE_THREAD == 0 {
		s.DecUsers()
	}
}

// newProcess copies what a child process inherits.
func (t *Thread) newProcess(a *CloneArgs) *Process {
	p := t.process
	n := &Process{k: p.k, startTime: p.k.M.Nanotime(), exitSignal: a.ExitSignal}
	n.init()
	p.mu.Lock()
	n.limits = p.limits
	n.fileSize.Store(p.limits[unix.RLIMIT_FSIZE].Cur)
	n.hand = p.hand
	p.mu.Unlock()
	if a.Flags&unix.CLONE_SIGHAND != 0 {
		n.hand.refs.Add(1)
	} else {
		n.hand = n.hand.copy()
		if a.Flags&cloneClearSighand != 0 {
			n.hand.reset()
		}
	}
	n.dumpable.Store(p.dumpable.Load())
	n.oomAdj.Store(p.oomAdj.Load())
	n.oomMin.Store(p.oomMin.Load())
	n.personality.Store(p.personality.Load())
	n.barriers.Store(p.barriers.Load())
	n.attrs.Store(p.attrs.Load())
	n.user.Store(p.user.Load())
	n.coreFilter.Store(p.coreFilter.Load())
	return n
}

// copyInto gives the child thread its state. EAGAIN: it is to share root and working
// directory with a thread that is in execve.
func (t *Thread) copyInto(n *Thread, a *CloneArgs) error {
	f := a.Flags
	n.Ctx.Regs = t.Ctx.Regs
	t.k.M.SyncFP(t.Ctx)
	copy(n.Ctx.FP, t.Ctx.FP)
	n.Ctx.RAX = 0
	if a.SP != 0 {
		n.Ctx.RSP = uint64(a.SP)
	}
	if f&unix.CLONE_SETTLS != 0 {
		n.Ctx.FSBase = uint64(a.TLS)
	}
	n.creds.Store(t.Creds())
	n.SetName(t.Name())
	n.mask = t.mask
	if t.restore {
		n.mask = t.savedMask
	}
	n.inherit(t)
	n.timerSlack, n.firstSlack = t.timerSlack, t.timerSlack
	n.ioprio.Store(t.ioprio.Load())
	n.mcePolicy, n.flusher, n.policy = t.mcePolicy, t.flusher, t.policy
	if k := t.k; f&unix.CLONE_SYSVSEM != 0 && k.NewSemUndo != nil {
		if t.semUndo == nil {
			t.semUndo = k.NewSemUndo()
		}
		t.semUndo.IncRef()
		n.semUndo = t.semUndo
	}
	if f&unix.CLONE_CHILD_CLEARTID != 0 {
		n.clearTID = a.ChildTID
	}
	if f&(unix.CLONE_VM|unix.CLONE_VFORK) != unix.CLONE_VM {
		n.altStack = t.altStack
	} else {
		n.altStack.Flags = SSDisable
	}
	if f&unix.CLONE_VM == 0 {
		n.rseq = t.rseq
	}
	fds, fs, err := t.FDs(), t.FS(), error(nil)
	if fds != nil {
		if f&unix.CLONE_FILES != 0 {
			fds.IncRef()
		} else {
			fds = fds.Fork()
		}
	}
	if fs != nil {
		if f&unix.CLONE_FS == 0 {
			fs = fs.Fork()
		} else if !fs.Share() {
			err, fs = unix.EAGAIN, nil
		}
	}
	n.fds.Store(fds)
	n.fs.Store(fs)
	return err
}

// discard undoes copyInto and newThread.
func (n *Thread) discard(*CloneArgs) {
	n.dropSemUndo()
	if fds := n.FDs(); fds != nil {
		fds.DecRef()
	}
	if fs := n.FS(); fs != nil {
		fs.DecRef()
	}
	n.k.dropThread(n)
}

// attach numbers the child and links it into its process or the tree. A signal that
// ends the parent's group, or that came while the child was copied, is seen here:
// EAGAIN and ERESTARTNOINTR as in Linux' copy_process.
func (k *Kernel) attach(t, n *Thread, a *CloneArgs) error {
	k.births.RLock()
	defer k.births.RUnlock()
	k.tree.Lock()
	defer k.tree.Unlock()
	own := t.process
	own.mu.Lock()
	dying := own.exitFlag || own.execing != nil || own.unit != nil && own.unit.closed
	n.inheritSeccomp(t)
	program := own.execs
	own.mu.Unlock()
	if dying {
		return wait.ErrRestartNoInt
	}
	if a.Flags&unix.CLONE_PARENT != 0 && own.parent == nil {
		return unix.EINVAL // process 1: its sibling would have no parent
	}
	if err := t.mayForkLocked(); err != nil {
		return err
	}
	id := a.SetTID
	switch {
	case id == 0:
		id = k.allocPID()
	case k.threads[id] != nil || k.procs[id] != nil:
		return unix.EEXIST
	}
	if id == 0 {
		return unix.EAGAIN
	}
	p := n.process
	if p == own {
		p.mu.Lock()
		if p.exitFlag || p.execing != nil { // meanwhile: who ends its threads would not find it
			p.mu.Unlock()
			return wait.ErrRestartNoInt
		}
		n.tid.Store(id)
		k.threads[id] = n
		n.sibling = p.threads
		p.threads = n
		p.nthreads++
		p.live++
		p.threaded = true
		n.inheritSeccomp(t) // once more, now that AddSeccomp would find it
		if p.stopSig != 0 {
			n.flags.Or(fStop)
		}
		p.mu.Unlock()
		a.event = t.traceChild(n, a)
		return nil
	}
	n.tid.Store(id)
	p.pid = id
	p.pgid, p.sid, p.tty = own.pgid, own.sid, own.tty
	p.parent, p.forker, p.bornOf = own, t, program
	if a.Flags&unix.CLONE_PARENT != 0 {
		p.parent, p.forker, p.bornOf = own.parent, own.forker, own.bornOf
		p.exitSignal = own.exitSignal
	}
	p.parent.children.add(p)
	if p.unit = own.unit; p.unit != nil {
		p.unit.members++
	}
	p.leader, p.threads, p.nthreads, p.live = n, n, 1, 1
	if img := own.image.Load(); img != nil {
		c := *img
		c.Space = n.space
		if c.Exe != nil {
			c.Exe.IncRef()
		}
		p.image.Store(&c)
	}
	if a.Flags&unix.CLONE_VM == 0 {
		n.space.SetOwner(id)
	}
	k.threads[id] = n
	k.enter(p)
	a.event = t.traceChild(n, a)
	return nil
}

// waitVfork parks the parent until the child has let go of its memory. Only a fatal
// signal ends it sooner.
func (t *Thread) waitVfork(v *vforkWait) {
	for {
		select {
		case <-v.done:
			return
		default:
		}
		if t.Block(hal.NoDeadline, wait.Killable) == wait.Kill {
			return
		}
	}
}

// releaseVfork lets the parent of a vfork go on.
func (t *Thread) releaseVfork() {
	if v := t.vfork; v != nil {
		t.vfork = nil
		t.inVfork.Store(false)
		close(v.done)
		v.parent.notify(fEvent)
	}
}

// Exec replaces the program of the calling thread's process by img. The caller has
// loaded it and ended the siblings (KillSiblings). Handlers become default, the
// alternate stack, timers and robust list go, close-on-exec descriptors are closed. Who the
// program runs as and whether it can be dumped change in one with it. See execve(2), "Effect
// on process attributes".
func (t *Thread) Exec(img Image, c *vfs.Creds, dumpable int32) {
	p := t.process
	t.leaveMemory()
	t.trackRSS()
	t.releaseFutexes()
	t.futexDead.Store(false)
	old, oldImg := t.space, p.image.Load()
	p.mu.Lock()
	if p.hand.refs.Load() > 1 {
		p.hand.refs.Add(-1)
		p.hand = p.hand.copy()
	}
	p.hand.mu.Lock()
	p.hand.reset()
	p.hand.mu.Unlock()
	p.mu.Unlock()
	p.dropPosixTimers()
	t.altStack = AltStack{}
	t.rseq = rseqState{cpu: -1}
	t.trap = trapInfo{}
	t.clearStep()
	t.restartFn = nil
	t.enterImage(img)
	p.mu.Lock()
	p.execs++
	t.SetCreds(c)
	p.dumpable.Store(dumpable)
	p.image.Store(&img)
	p.mu.Unlock()
	img.Space.SetLimits(p.memLimits()) // prlimit knows the space only now
	old.DecUsers()
	// Who waits for the end of one of these finds the new program, and the old one's memory gone.
	if fds := t.FDs(); fds != nil {
		if fds.Shared() { // no longer, before the close-on-exec ones go
			n := fds.Fork()
			fds.DecRef()
			t.fds.Store(n)
			fds = n
		}
		fds.Exec()
	}
	p.barriers.Store(0)
	k := t.k
	k.tree.Lock()
	p.exitSignal = int32(unix.SIGCHLD)
	p.execed = true
	k.tree.Unlock()
	t.releaseVfork()
	if oldImg != nil && oldImg.Exe != nil {
		oldImg.Exe.DecRef()
	}
}
