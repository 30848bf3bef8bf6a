package mm

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// Userfault serves the absent pages of some private anonymous mappings of a space: whoever
// touches one waits until a program has filled it in (userfaultfd(2),
// UFFDIO_REGISTER_MODE_MISSING). Its mu is inside Space.mu.
type Userfault struct {
	// Q is notified when somebody waits who has not been taken yet.
	Q waiter.Queue

	s *Space

	mu       sync.Mutex
	pending  []*userWait // not taken yet
	taken    []*userWait
	features uint64
	kernel   bool // serves faults of system calls, too
	closed   bool
}

// userWait is one who waits for a page.
type userWait struct {
	UserFault
	done bool // under Userfault.mu
	q    waiter.Queue
}

// UserFault is a touch of an absent page.
type UserFault struct {
	Addr  uint64
	Write bool
	TID   int32
}

// What a Userfault can be asked for (UFFD_FEATURE_*).
const (
	UserfaultSIGBUS  = 1 << 7
	UserfaultThread  = 1 << 8
	UserfaultExact   = 1 << 11
	UserfaultFeature = UserfaultSIGBUS | UserfaultThread | UserfaultExact
)

// NewUserfault makes one for mappings of s; kernel says that it serves touches by system
// calls, which otherwise are EFAULT.
func (s *Space) NewUserfault(kernel bool) *Userfault { return &Userfault{s: s, kernel: kernel} }

// SetFeatures says what is asked for.
func (u *Userfault) SetFeatures(f uint64) {
	u.mu.Lock()
	u.features = f
	u.mu.Unlock()
}

// userFault waits for the page of a fault that a program is to serve. served: fault again.
// A fault of a system call is not interrupted by signals but to die.
func (s *Space) userFault(c wait.Context, a uint64, access hal.Prot, user bool) error {
	s.mu.RLock()
	v := s.find(a)
	if v == nil || v.uffd == nil {
		s.mu.RUnlock()
		return nil
	}
	u := v.uffd
	w := &userWait{UserFault: UserFault{Addr: a, Write: access&hal.ProtWrite != 0}}
	if t, ok := c.(interface{ TID() int32 }); ok {
		w.TID = t.TID()
	}
	u.mu.Lock()
	if u.features&UserfaultSIGBUS != 0 || !user && !u.kernel {
		u.mu.Unlock()
		s.mu.RUnlock()
		return &FaultError{int(unix.SIGBUS), busAdrErr, hal.UserAddr(a)}
	}
	if u.features&UserfaultExact == 0 {
		w.Addr &^= hal.PageMask
	}
	if !u.closed {
		u.pending = append(u.pending, w)
	}
	u.mu.Unlock()
	_, there := s.HW.Query(hal.UserAddr(a &^ uint64(hal.PageMask))) // filled in before anybody knew of w
	s.mu.RUnlock()
	if there {
		u.forget(w)
		return nil
	}
	u.Q.Notify(waiter.EventIn)
	return u.await(c, w, user)
}

func (u *Userfault) await(c wait.Context, w *userWait, user bool) error {
	kind := wait.Killable
	if user {
		kind = wait.Interruptible
	}
	var e waiter.Entry
	e.Init(c.Listener(), waiter.EventIn)
	w.q.EventRegister(&e)
	defer w.q.EventUnregister(&e)
	for {
		u.mu.Lock()
		done := w.done || u.closed
		u.mu.Unlock()
		if done {
			return nil
		}
		if r := c.Block(hal.NoDeadline, kind); r != wait.Ready {
			u.forget(w)
			if user {
				return nil // the boundary serves it, then the program faults again
			}
			return r.Err()
		}
	}
}

// forget is for who waits no more.
func (u *Userfault) forget(w *userWait) {
	u.mu.Lock()
	defer u.mu.Unlock()
	is := func(x *userWait) bool { return x == w }
	u.pending, u.taken = slices.DeleteFunc(u.pending, is), slices.DeleteFunc(u.taken, is)
}

// Waiting says whether there is one to take.
func (u *Userfault) Waiting() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.pending) > 0
}

// Take takes the first who waits; false if there is nobody.
func (u *Userfault) Take() (f UserFault, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.pending) == 0 {
		return f, false
	}
	w := u.pending[0]
	u.pending = slices.Delete(u.pending, 0, 1)
	u.taken = append(u.taken, w)
	f = w.UserFault
	if u.features&UserfaultThread == 0 {
		f.TID = 0
	}
	return f, true
}

// Wake lets those go on who wait for a page in [start, start+n), filled in or not.
func (u *Userfault) Wake(start, n uint64) {
	u.mu.Lock()
	var woken []*userWait
	rest := func(l []*userWait) []*userWait {
		return slices.DeleteFunc(l, func(w *userWait) bool {
			if w.Addr < start || w.Addr-start >= n {
				return false
			}
			w.done = true
			woken = append(woken, w)
			return true
		})
	}
	u.pending, u.taken = rest(u.pending), rest(u.taken)
	u.mu.Unlock()
	for _, w := range woken {
		w.q.Notify(waiter.EventIn)
	}
}

// Register makes u serve the mappings in [start, start+n): EINVAL if there is none at start
// or one that cannot be served, EBUSY for another's, ENOMEM.
func (u *Userfault) Register(start, n uint64) error {
	return u.change(start, n, u)
}

// Unregister ends that, whoever serves them, and lets who waits there go on.
func (u *Userfault) Unregister(start, n uint64) error {
	if err := u.change(start, n, nil); err != nil {
		return err
	}
	u.Wake(start, n)
	return nil
}

func (u *Userfault) change(start, n uint64, to *Userfault) error {
	s, end := u.s, start+n
	if !s.TryIncUsers() {
		return unix.ENOMEM
	}
	defer s.DecUsers()
	s.mu.Lock()
	var dead *vma
	err := s.mayServe(start, end, to)
	if err == nil {
		err = s.cut(start, end)
	}
	if err == nil {
		for v := s.vmas.above(start); v != nil && v.start < end; v = v.next() {
			v.uffd = to
			v = s.merge(v, &dead)
		}
	}
	s.mu.Unlock()
	s.bury(dead)
	return err
}

// mayServe checks the mappings of a range. Called with mu held.
func (s *Space) mayServe(start, end uint64, to *Userfault) error {
	v := s.vmas.above(start)
	if v == nil || v.start >= end {
		return unix.EINVAL
	}
	for ; v != nil && v.start < end; v = v.next() {
		switch {
		case v.obj != nil || v.shared() || v.flags&vmSpecial != 0:
			return unix.EINVAL
		case to != nil && v.uffd != nil && v.uffd != to:
			return unix.EBUSY
		}
	}
	return nil
}

// Fill puts a page with b (nil: zeros) at a: ESRCH if the space has ended, ENOENT if nobody serves
// [a, end), EEXIST if there is one, ENOMEM.
func (u *Userfault) Fill(c wait.Context, a, end uint64, b []byte) error {
	s := u.s
	if !s.TryIncUsers() {
		return unix.ESRCH
	}
	defer s.DecUsers()
	for {
		switch err := s.fill(a, end, b); err {
		case errNoFrame:
			if !s.mem.reclaimOrWait(c) {
				return unix.ENOMEM
			}
		default:
			return err
		}
	}
}

// errNoFrame is fill's when there is no frame left.
const errNoFrame = unix.EAGAIN

func (s *Space) fill(a, end uint64, b []byte) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.find(a)
	if v == nil || v.uffd == nil || end > v.end {
		return unix.ENOENT
	}
	st := &s.stripe[a>>21%numStripes]
	st.mu.Lock()
	defer st.mu.Unlock()
	if _, there := s.HW.Query(hal.UserAddr(a)); there {
		return unix.EEXIST
	}
	if b == nil && s.mem.zero != 0 {
		if s.mapOne(st, a, s.mem.zero, v.pteProt(false)) != served {
			return errNoFrame
		}
		return nil
	}
	f, ok := s.mem.tryAlloc(KindAnon, b == nil)
	if !ok {
		return errNoFrame
	}
	copy(s.mem.Bytes(f), b)
	if s.mapOne(st, a, f, v.prot) != served {
		s.mem.Unref(f)
		return errNoFrame
	}
	s.rss.Add(1)
	return nil
}

// Close ends the service: who waits goes on, and finds pages of zeros.
func (u *Userfault) Close() {
	if s := u.s; s.TryIncUsers() {
		s.mu.Lock()
		var dead *vma
		for v := s.vmas.first(); v != nil; v = v.next() {
			if v.uffd == u {
				v.uffd = nil
				v = s.merge(v, &dead)
			}
		}
		s.mu.Unlock()
		s.bury(dead)
		s.DecUsers()
	}
	u.mu.Lock()
	u.closed = true
	l := append(u.pending, u.taken...)
	u.pending, u.taken = nil, nil
	u.mu.Unlock()
	for _, w := range l {
		w.q.Notify(waiter.EventIn)
	}
}
