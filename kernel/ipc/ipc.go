// Package ipc is System V inter-process communication: semaphores, message queues and
// shared memory segments, which have numbers and keys instead of names and live until
// they are removed. See sysvipc(7).
//
//	ns := ipc.New(mem, m)
//	id, err := ns.Semget(t, key, 3, ipc.Creat|0o600)
//	err = ns.Semop(t, id, ops, hal.NoDeadline)
//
// An ids table maps slots and keys to objects; an object is used under a lock of its
// own, after a look at whether it was removed meanwhile (EIDRM). What objects, messages
// and undo entries take of the Go heap is charged to the budget (ENOMEM).
//
// Locks, outermost first:
//
//	ids.mu            the table
//	  semArray.mu, msgQueue.mu
//	    undoList.mu
//	shmTable.mu       innermost: taken under the locks of kernel/mm
//
// A waiter is woken under its object's lock by a bit in its thread (task.Thread.notify).
package ipc

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
)

// Flags and commands that all three kinds have (uapi/linux/ipc.h).
const (
	Creat  = 0o1000
	Excl   = 0o2000
	Nowait = 0o4000

	Rmid = 0
	Set  = 1
	Stat = 2
	Info = 3

	private = 0 // IPC_PRIVATE
	keep    = ^uint32(0)

	slotBits = 15 // an id is sequence<<slotBits + slot (ipcmni_seq_shift)
	// MaxIDs is IPCMNI, the most objects of a kind.
	MaxIDs   = 1 << slotBits
	maxSeq   = 1<<(31-slotBits) - 1
	minCycle = 64 // ipc_min_cycle: a slot is not used again sooner
)

const (
	ownR = 0o444 // S_IRUGO
	ownW = 0o222 // S_IWUGO
)

// Namespace is all objects of the system.
type Namespace struct {
	mem *mm.Memory
	m   hal.Machine

	sem ids[*semArray]
	msg ids[*msgQueue]
	shm shmTable

	Limits Limits
	used   struct {
		sems               atomic.Int64 // semaphores in all arrays
		msgBytes, msgCount atomic.Int64
	}
}

// Limits are the sysctls kernel.sem, msgmax, msgmnb, shmmax, shmall; those on the number
// of objects are in IDs.
type Limits struct {
	SemMSL, SemMNS, SemOPM atomic.Int64
	MsgMax, MsgMNB         atomic.Int64
	ShmMax, ShmAll         atomic.Uint64
	ShmRmidForced          atomic.Bool
}

// New makes an empty namespace with Linux' default limits.
func New(mem *mm.Memory, m hal.Machine) *Namespace {
	n := &Namespace{mem: mem, m: m}
	n.sem.init(semMNI)
	n.msg.init(msgMNI)
	n.shm.ids.init(shmMNI)
	l := &n.Limits
	l.SemMSL.Store(semMSL)
	l.SemMNS.Store(semMNS)
	l.SemOPM.Store(semOPM)
	l.MsgMax.Store(msgMax)
	l.MsgMNB.Store(msgMNB)
	l.ShmMax.Store(shmMax)
	l.ShmAll.Store(shmMax)
	return n
}

func (n *Namespace) now() int64 { return n.m.Walltime() / 1e9 }

func (n *Namespace) charge(bytes int64) error {
	if !n.mem.Budget().Charge(bytes) {
		return unix.ENOMEM
	}
	return nil
}

func (n *Namespace) uncharge(bytes int64) { n.mem.Budget().Uncharge(bytes) }

// Perm is struct ipc64_perm.
type Perm struct {
	ID, Key              int32
	UID, GID, CUID, CGID uint32
	Mode                 uint32
}

// Seq is the sequence number in the id.
func (p *Perm) Seq() uint16 { return uint16(p.ID >> slotBits) }

func newPerm(t *task.Thread, key int32, flags uint32) Perm {
	c := t.Creds()
	return Perm{Key: key, UID: c.EUID, GID: c.EGID, CUID: c.EUID, CGID: c.EGID, Mode: flags & 0o777}
}

// allows is Linux' ipcperms: want has the bits of one of the three classes or of all.
func (p *Perm) allows(c *vfs.Creds, want uint32) bool {
	want = want>>6 | want>>3 | want
	mode := p.Mode
	switch {
	case c.EUID == p.CUID || c.EUID == p.UID:
		mode >>= 6
	case c.InGroup(p.CGID) || c.InGroup(p.GID):
		mode >>= 3
	}
	return want&^mode&7 == 0 || c.Can(unix.CAP_IPC_OWNER)
}

// owned says whether c may change or remove the object.
func (p *Perm) owned(c *vfs.Creds) bool {
	return c.EUID == p.CUID || c.EUID == p.UID || c.Can(unix.CAP_SYS_ADMIN)
}

// update is ipc_update_perm: EINVAL for an owner that is none.
func (p *Perm) update(uid, gid, mode uint32) error {
	if uid == keep || gid == keep {
		return unix.EINVAL
	}
	p.UID, p.GID, p.Mode = uid, gid, p.Mode&^0o777|mode&0o777
	return nil
}

// base is what objects of all kinds begin with.
type base struct {
	mu      sync.Mutex
	perm    Perm
	removed bool
}

func (b *base) common() *base { return b }

type object interface {
	comparable
	common() *base
}

// ids is the table of one kind.
type ids[T object] struct {
	mu        sync.RWMutex
	slots     map[int32]T
	keys      map[int32]T
	seq, last int32
	next      int32 // where the search for a free slot begins
	limit     atomic.Int64
	nextID    atomic.Int64 // sysctl *_next_id: the next object's id; -1: any
}

func (s *ids[T]) init(limit int64) {
	s.slots, s.keys, s.last = map[int32]T{}, map[int32]T{}, -1
	s.limit.Store(limit)
	s.nextID.Store(-1)
}

// IDs are the sysctls of one kind: the most objects (semmni, msgmni, shmmni) and the id
// of the next one (*_next_id; -1: any).
type IDs struct{ Limit, NextID *atomic.Int64 }

// IDs gives those of semaphores, queues and segments.
func (n *Namespace) IDs() (sem, msg, shm IDs) {
	return IDs{&n.sem.limit, &n.sem.nextID}, IDs{&n.msg.limit, &n.msg.nextID}, IDs{&n.shm.limit, &n.shm.nextID}
}

// get is Linux' ipcget: ENOENT, EEXIST, what check says of an object that is there,
// EACCES; what make says of a new one, ENOSPC.
func (s *ids[T]) get(t *task.Thread, key int32, flags uint32, check func(T) error, make func() (T, error), undo func(T)) (int32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none T
	if o := s.keys[key]; key != private && o != none {
		b := o.common()
		b.mu.Lock()
		defer b.mu.Unlock()
		if flags&(Creat|Excl) == Creat|Excl {
			return 0, unix.EEXIST
		}
		if err := check(o); err != nil {
			return 0, err
		}
		if !b.perm.allows(t.Creds(), flags) {
			return 0, unix.EACCES
		}
		return b.perm.ID, nil
	}
	if key != private && flags&Creat == 0 {
		return 0, unix.ENOENT
	}
	o, err := make()
	if err != nil {
		return 0, err
	}
	id, ok := s.add(o)
	if !ok {
		undo(o)
		return 0, unix.ENOSPC
	}
	return id, nil
}

// add numbers an object as ipc_addid does: slots in a cycle, the sequence number goes on
// when the cycle begins anew. Called with mu held.
func (s *ids[T]) add(o T) (int32, bool) {
	n := int32(len(s.slots))
	if int64(n) >= min(s.limit.Load(), MaxIDs) {
		return 0, false
	}
	p := &o.common().perm
	var slot, seq int32
	if want := int32(s.nextID.Load()); want >= 0 {
		s.nextID.Store(-1)
		seq, slot = want>>slotBits, want&(MaxIDs-1)
		for s.taken(slot) {
			slot = (slot + 1) % MaxIDs
		}
	} else {
		top := min(max(n*3/2, minCycle), MaxIDs)
		slot = s.next
		for slot >= top || s.taken(slot) {
			if slot++; slot >= top {
				slot = 0
			}
		}
		if slot <= s.last {
			if s.seq++; s.seq >= maxSeq {
				s.seq = 0
			}
		}
		s.last, s.next, seq = slot, slot+1, s.seq
	}
	p.ID = seq<<slotBits + slot
	s.slots[slot] = o
	if p.Key != private {
		s.keys[p.Key] = o
	}
	return p.ID, true
}

func (s *ids[T]) taken(slot int32) bool { _, ok := s.slots[slot]; return ok }

// find gives the object of an id, locked: EINVAL, EIDRM if it was just removed.
func (s *ids[T]) find(id int32) (T, error) {
	o, err := s.bySlot(id)
	if err == nil && o.common().perm.ID != id {
		o.common().mu.Unlock()
		err = unix.EINVAL
	}
	return o, err
}

// bySlot is find by the slot alone, for the *_STAT commands.
func (s *ids[T]) bySlot(id int32) (o T, err error) {
	if id < 0 {
		return o, unix.EINVAL
	}
	s.mu.RLock()
	o, ok := s.slots[id&(MaxIDs-1)]
	s.mu.RUnlock()
	if !ok {
		return o, unix.EINVAL
	}
	b := o.common()
	b.mu.Lock()
	if b.removed {
		b.mu.Unlock()
		return o, unix.EIDRM
	}
	return o, nil
}

// findRead is find, or bySlot for the *_STAT commands, of an object that may be read
// (EACCES unless any): for reports.
func (s *ids[T]) findRead(t *task.Thread, id int32, slot, any bool) (T, error) {
	find := s.find
	if slot {
		find = s.bySlot
	}
	o, err := find(id)
	if err == nil && !any && !o.common().perm.allows(t.Creds(), ownR) {
		o.common().mu.Unlock()
		err = unix.EACCES
	}
	return o, err
}

// remove takes an object of the caller's out of the table and gives it, locked and
// marked: EINVAL, EIDRM, EPERM.
func (s *ids[T]) remove(t *task.Thread, id int32) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none T
	o, ok := s.slots[id&(MaxIDs-1)]
	if id < 0 || !ok || o.common().perm.ID != id {
		return none, unix.EINVAL
	}
	b := o.common()
	b.mu.Lock()
	if !b.perm.owned(t.Creds()) {
		b.mu.Unlock()
		return none, unix.EPERM
	}
	s.unlink(o)
	return o, nil
}

// unlink forgets an object. Called with mu and the object's held.
func (s *ids[T]) unlink(o T) {
	b := o.common()
	delete(s.slots, b.perm.ID&(MaxIDs-1))
	s.hide(b)
	b.removed = true
}

// hide makes an object one that no key leads to.
func (s *ids[T]) hide(b *base) {
	if o, ok := s.keys[b.perm.Key]; ok && o.common() == b {
		delete(s.keys, b.perm.Key)
	}
	b.perm.Key = private
}

// change is find of an object that the caller may change, for *_SET: EPERM.
func (s *ids[T]) change(t *task.Thread, id int32) (T, error) {
	o, err := s.find(id)
	if err == nil && !o.common().perm.owned(t.Creds()) {
		o.common().mu.Unlock()
		err = unix.EPERM
	}
	return o, err
}

// top is the highest slot in use and the number of objects.
func (s *ids[T]) top() (slot, n int32) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range s.slots {
		slot = max(slot, i)
	}
	return slot, int32(len(s.slots))
}

// each calls f for every object in order of slots, locked.
func (s *ids[T]) each(f func(o T)) {
	top, _ := s.top()
	for i := int32(0); i <= top; i++ {
		if o, err := s.bySlot(i); err == nil {
			f(o)
			o.common().mu.Unlock()
		}
	}
}
