package syscalls

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/uring"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// uringEntries are the rows of io_uring.
var uringEntries = []Entry{
	{Nr: unix.SYS_IO_URING_SETUP, Name: "io_uring_setup", Func: sysIoUringSetup, Support: Partial,
		Note: "no 128-byte submissions or 32-byte completions (EINVAL); a submission-queue thread is always asleep and work is done where it is submitted"},
	{Nr: unix.SYS_IO_URING_ENTER, Name: "io_uring_enter", Func: sysIoUringEnter, Support: Partial,
		Note: "no IORING_OP_URING_CMD, IORING_OP_TEE (EOPNOTSUPP)"},
	{Nr: unix.SYS_IO_URING_REGISTER, Name: "io_uring_register", Func: sysIoUringRegister, Support: Partial,
		Note: "no restrictions, buffer rings or worker affinity (EINVAL)"},
}

// Flags of io_uring_setup (uapi/linux/io_uring.h).
const (
	setupIOPoll       = 1 << 0
	setupSQPoll       = 1 << 1
	setupSQAff        = 1 << 2
	setupCQSize       = 1 << 3
	setupClamp        = 1 << 4
	setupAttachWQ     = 1 << 5
	setupRDisabled    = 1 << 6
	setupSubmitAll    = 1 << 7
	setupCoopTaskrun  = 1 << 8
	setupTaskrunFlag  = 1 << 9
	setupSingleIssuer = 1 << 12
	setupDeferTaskrun = 1 << 13
	setupKnown        = setupIOPoll | setupSQPoll | setupSQAff | setupCQSize | setupClamp | setupAttachWQ | setupRDisabled |
		setupSubmitAll | setupCoopTaskrun | setupTaskrunFlag | setupSingleIssuer | setupDeferTaskrun

	// uringFeatures are those of Linux 6.1.
	uringFeatures = 0x1fff

	uringMaxEntries   = 32768
	uringMaxCQEntries = 2 * uringMaxEntries
	uringParamsSize   = 120
)

// uringState is what stands behind a ring: the requests that are not done, and what the
// program has registered.
type uringState struct {
	ring  *uring.Ring
	k     *task.Kernel
	flags uint32
	owner atomic.Pointer[task.Thread] // of a ring for a single issuer, once it has submitted

	disabled atomic.Bool

	mu       sync.Mutex
	inflight map[*ureq]struct{}
	threads  map[*task.Thread]struct{} // that have submitted, and tell when they end
	drained  []*ureq                   // wait for all before them
	timeouts []*ureq                   // that count completions, by target
	posted   uint64                    // that count, see expire
	expiring bool
	posting  atomic.Int32 // who hold the ring, to add a completion
	lastNr   uint64
	gone     bool
	files    []*vfs.File
	buffers  []uringBuffer
	creds    map[uint16]*vfs.Creds
	lastCred uint16
	groups   map[uint16]*bufferGroup
}

// uringBuffer is a registered range of memory.
type uringBuffer struct{ base, len uint64 }

// providedBuffer is one of those that the kernel may choose from.
type providedBuffer struct {
	addr uint64
	len  uint32
	id   uint16
}

// What is charged to the kernel-heap budget, in bytes: a ring, a request until it is
// completed, what is registered, a thread that submits, a buffer that was provided (with its
// share of what lies unused in its group's list) and its group.
const (
	uringCost            = 2048
	requestCost          = 512
	registeredBufferCost = 16
	registeredFileCost   = 64
	personalityCost      = 64
	submitterCost        = 128
	providedBufferCost   = 64
	bufferGroupCost      = 128
)

// sysIoUringSetup: EFAULT, EINVAL (entries, flags, reserved words), EMFILE, ENFILE, ENOMEM.
// See io_uring_setup(2).
func sysIoUringSetup(t *task.Thread, a *Args) (uintptr, error) {
	at := hal.UserAddr(a[1])
	var p [uringParamsSize]byte
	if err := t.CopyIn(p[:], at); err != nil {
		return 0, err
	}
	entries, cq, flags := uint32(a[0]), le.Uint32(p[4:]), le.Uint32(p[8:])
	if le.Uint32(p[28:])|le.Uint32(p[32:])|le.Uint32(p[36:]) != 0 {
		return 0, unix.EINVAL
	}
	sq, cq, err := uringSizes(entries, cq, flags)
	if err != nil {
		return 0, err
	}
	if flags&setupAttachWQ != 0 {
		f, err := pollFile(t, uint64(le.Uint32(p[24:])))
		if err != nil {
			return 0, unix.ENXIO
		}
		_, ok := f.Ops.(*uringFile)
		f.DecRef()
		if !ok {
			return 0, unix.EINVAL
		}
	}
	f, err := newUring(t, sq, cq, flags)
	if err != nil {
		return 0, err
	}
	u := f.Ops.(*uringFile)
	le.PutUint32(p[0:], sq)
	le.PutUint32(p[4:], cq)
	le.PutUint32(p[20:], uringFeatures)
	clear(p[40:])
	u.Offsets(p[40:80], p[80:120])
	if err := t.CopyOut(at, p[:]); err != nil {
		f.DecRef()
		return 0, err
	}
	return installFile(t, f, true)
}

// uringSizes checks flags and rounds the numbers of entries to powers of two.
func uringSizes(entries, cq, flags uint32) (uint32, uint32, error) {
	switch {
	case flags&^uint32(setupKnown) != 0,
		flags&setupSQAff != 0 && flags&setupSQPoll == 0,
		flags&setupSQPoll != 0 && flags&(setupCoopTaskrun|setupTaskrunFlag|setupDeferTaskrun) != 0,
		flags&setupTaskrunFlag != 0 && flags&(setupCoopTaskrun|setupDeferTaskrun) == 0,
		flags&setupDeferTaskrun != 0 && flags&setupSingleIssuer == 0,
		entries == 0, entries > uringMaxEntries && flags&setupClamp == 0:
		return 0, 0, unix.EINVAL
	}
	sq := roundUp2(min(entries, uringMaxEntries))
	if flags&setupCQSize == 0 {
		return sq, 2 * sq, nil
	}
	if cq == 0 || cq > uringMaxCQEntries && flags&setupClamp == 0 {
		return 0, 0, unix.EINVAL
	}
	if cq = roundUp2(min(cq, uringMaxCQEntries)); cq < sq {
		return 0, 0, unix.EINVAL
	}
	return sq, cq, nil
}

func roundUp2(n uint32) uint32 {
	p := uint32(1)
	for p < n {
		p *= 2
	}
	return p
}

// uringFile is the description's object.
type uringFile struct {
	*uring.Ring
	u *uringState
}

func newUring(t *task.Thread, sq, cq, flags uint32) (*vfs.File, error) {
	mem := t.Kernel().Mem
	if !mem.Budget().Charge(uringCost) {
		return nil, unix.ENOMEM
	}
	r, err := uring.New(mem, sq, cq)
	if err != nil {
		mem.Budget().Uncharge(uringCost)
		return nil, err
	}
	u := &uringState{ring: r, k: t.Kernel(), flags: flags, inflight: map[*ureq]struct{}{}, threads: map[*task.Thread]struct{}{}, creds: map[uint16]*vfs.Creds{},
		groups: map[uint16]*bufferGroup{}}
	u.disabled.Store(flags&setupRDisabled != 0)
	r.Gone = u.close
	if flags&setupSQPoll != 0 {
		r.Sleep()
	}
	f := vfs.NewFile(&uringFile{r, u}, unix.O_RDWR)
	f.Name = "anon_inode:[io_uring]"
	return f, nil
}

// close ends what is under way when the ring's last descriptor and mapping are gone.
func (u *uringState) close() {
	u.mu.Lock()
	u.gone = true
	var all []*ureq
	for r := range u.inflight {
		all = append(all, r)
	}
	drained := u.drained
	u.drained = nil
	for _, g := range u.groups {
		u.k.Mem.Budget().Uncharge(int64(g.len())*providedBufferCost + bufferGroupCost)
	}
	u.k.Mem.Budget().Uncharge(int64(len(u.creds)) * personalityCost)
	u.groups, u.creds = nil, nil
	u.mu.Unlock()
	for _, r := range drained {
		r.failAll(unix.ECANCELED)
	}
	_, _ = u.dropFiles(), u.dropBuffers()
	for _, r := range all {
		r.cancel(unix.ECANCELED)
	}
	u.settle()
}

// settle frees the rings once nobody can post any more.
func (u *uringState) settle() {
	u.mu.Lock()
	last := u.gone && len(u.inflight) == 0 && u.posting.Load() == 0 && u.ring != nil
	r, threads := u.ring, u.threads
	if last {
		u.ring, u.threads = nil, nil
	}
	u.mu.Unlock()
	if last {
		for t := range threads {
			t.ForgetLeave(u)
		}
		r.Free(u.k.Mem)
		u.k.Mem.Budget().Uncharge(uringCost + int64(len(threads))*submitterCost)
	}
}

// join notes that t submits: ENOMEM.
func (u *uringState) join(t *task.Thread) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.threads[t]; ok {
		return nil
	}
	if !u.k.Mem.Budget().Charge(submitterCost) {
		return unix.ENOMEM
	}
	u.threads[t] = struct{}{}
	t.OnLeave(u, func(exec bool) bool { return u.leave(t, exec) })
	return nil
}

// leave ends requests of a thread that ends, or executes a program: then all; else those that
// wait for a ring and hold it, perhaps their own, so that nothing else would end them. The
// others end when what they wait for comes. True: there were some, and may be more.
func (u *uringState) leave(t *task.Thread, exec bool) bool {
	var all, drained []*ureq
	u.mu.Lock()
	for r := range u.inflight {
		if r.t == t && !r.done && r.ended == nil && (exec || r.waitsForRing()) {
			all = append(all, r)
		}
	}
	if exec {
		u.drained = slices.DeleteFunc(u.drained, func(r *ureq) bool {
			if r.t == t {
				drained = append(drained, r)
			}
			return r.t == t
		})
	} else if _, ok := u.threads[t]; ok {
		delete(u.threads, t)
		u.k.Mem.Budget().Uncharge(submitterCost)
	}
	u.mu.Unlock()
	slices.SortFunc(all, func(a, b *ureq) int { return cmp.Compare(a.nr, b.nr) })
	for _, r := range all {
		_ = r.cancel(unix.ECANCELED)
	}
	for _, r := range drained {
		r.failAll(unix.ECANCELED)
	}
	return len(all)+len(drained) > 0
}

// uringOf is the ring behind a descriptor with its file held: EBADF, EOPNOTSUPP.
func uringOf(t *task.Thread, fd uint64) (*vfs.File, *uringState, error) {
	f, err := pollFile(t, fd)
	if err != nil {
		return nil, nil, err
	}
	if x, ok := f.Ops.(*uringFile); ok {
		return f, x.u, nil
	}
	f.DecRef()
	return nil, nil, unix.EOPNOTSUPP
}

// Flags of io_uring_enter.
const (
	enterGetEvents = 1 << 0
	enterSQWakeup  = 1 << 1
	enterSQWait    = 1 << 2
	enterExtArg    = 1 << 3
)

// sysIoUringEnter submits up to a[1] requests and, with IORING_ENTER_GETEVENTS, waits for
// a[2] completions. EINVAL (flags), EBADF, EOPNOTSUPP, EBADFD (not enabled), EEXIST
// (another than the ring's one issuer), EFAULT, ETIME, EINTR. See io_uring_enter(2).
func sysIoUringEnter(t *task.Thread, a *Args) (uintptr, error) {
	flags := uint32(a[3])
	if flags&^uint32(enterGetEvents|enterSQWakeup|enterSQWait|enterExtArg) != 0 {
		return 0, unix.EINVAL
	}
	f, u, err := uringOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if u.disabled.Load() {
		return 0, unix.EBADFD
	}
	if u.flags&setupSingleIssuer != 0 {
		if !u.owner.CompareAndSwap(nil, t) && u.owner.Load() != t {
			return 0, unix.EEXIST
		}
	}
	n := uint32(a[1])
	submitted := uint32(0)
	if u.flags&setupSQPoll != 0 {
		// What is in the ring is taken whole; the caller hears its own number.
		if flags&enterSQWakeup != 0 {
			_, _ = u.submit(t, ^uint32(0)) // what is not taken is at the next wake-up
		}
		submitted = n
	} else if n > 0 {
		var err error
		submitted, err = u.submit(t, n)
		if submitted != n {
			return uintptr(submitted), err
		}
	}
	if flags&enterGetEvents == 0 {
		return uintptr(submitted), nil
	}
	err = u.wait(t, a, flags)
	if err != nil && submitted == 0 {
		return 0, err
	}
	return uintptr(submitted), nil
}

// wait waits for completions as io_uring_enter's arguments say.
func (u *uringState) wait(t *task.Thread, a *Args, flags uint32) error {
	want := min(uint32(a[2]), u.ring.Entries())
	mask, size, deadline := a[4], a[5], hal.NoDeadline
	if flags&enterExtArg != 0 {
		if a[5] != 24 {
			return unix.EINVAL
		}
		var arg [24]byte
		if err := t.CopyIn(arg[:], hal.UserAddr(a[4])); err != nil {
			return err
		}
		if le.Uint32(arg[12:]) != 0 {
			return unix.EINVAL
		}
		mask, size = le.Uint64(arg[0:]), uint64(le.Uint32(arg[8:]))
		if ts := le.Uint64(arg[16:]); ts != 0 {
			ns, err := getTimespec(t, hal.UserAddr(ts))
			if err == unix.EFAULT {
				return err
			}
			deadline = t.Deadline(ns)
		}
	}
	if mask != 0 {
		if err := userSigmask(t, mask, size); err != nil {
			return err
		}
	}
	err := u.await(t, want, deadline)
	if mask != 0 {
		t.RestoreSigmask(err == unix.EINTR)
	}
	return err
}

func (u *uringState) await(t *task.Thread, want uint32, deadline int64) error {
	var e waiter.Entry
	e.Init(t.Listener(), waiter.EventIn)
	_ = u.ring.EventRegister(&e)
	defer u.ring.EventUnregister(&e)
	for {
		u.ring.Spill()
		if u.ring.Ready() >= want {
			return nil
		}
		switch t.Block(deadline, wait.Interruptible) {
		case wait.Ready:
		case wait.Timeout:
			return unix.ETIME
		default:
			return unix.EINTR
		}
	}
}

// submit takes up to n submissions and starts them, each chain of linked ones as one. It
// returns how many it took: EAGAIN if there is not the memory for any, ENOMEM.
func (u *uringState) submit(t *task.Thread, n uint32) (taken uint32, err error) {
	if err := u.join(t); err != nil {
		return 0, err
	}
	var head, last *ureq
	for taken < n {
		r := &ureq{u: u, t: t}
		if !r.charge(requestCost) {
			if taken == 0 {
				err = unix.EAGAIN
			}
			break
		}
		if !u.ring.Next(&r.sqe) {
			r.uncharge()
			break
		}
		taken++
		err := r.parse()
		r.failed = err
		if last != nil {
			last.next = r
			if err != nil && head.failed == nil {
				head.failed = unix.ECANCELED // none of the chain runs
			}
		} else {
			head = r
		}
		if r.flags&(sqeLink|sqeHardLink) != 0 {
			last = r
			continue
		}
		last = nil
		head.start()
		if err != nil && u.flags&setupSubmitAll == 0 {
			return taken, nil
		}
	}
	if last != nil {
		head.start()
	}
	return taken, err
}
