package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// Operations of io_uring_register.
const (
	regBuffers          = 0
	unregBuffers        = 1
	regFiles            = 2
	unregFiles          = 3
	regEventfd          = 4
	unregEventfd        = 5
	regFilesUpdate      = 6
	regEventfdAsync     = 7
	regProbe            = 8
	regPersonality      = 9
	unregPersonality    = 10
	regEnableRings      = 12
	regMaxRegistered    = 1 << 15 // IORING_MAX_FIXED_FILES
	regMaxBuffers       = 1 << 14
	uringOpSupported    = 1 << 0
	maxPersonalities    = 1 << 10
	maxProvidedBuffers  = 1 << 16
	registerSkipUpdates = -2 // IORING_REGISTER_FILES_SKIP
)

// sysIoUringRegister: EBADF, EOPNOTSUPP, EINVAL (operation, number, null pointer), EBUSY
// (there already), ENXIO (nothing there), EFAULT, EMFILE, ENOMEM, EBADFD. See
// io_uring_register(2).
func sysIoUringRegister(t *task.Thread, a *Args) (uintptr, error) {
	f, u, err := uringOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	at, n := a[2], uint32(a[3])
	switch uint32(a[1]) {
	case regBuffers:
		return 0, u.setBuffers(t, at, n)
	case unregBuffers:
		if at != 0 || n != 0 {
			return 0, unix.EINVAL
		}
		return 0, u.dropBuffers()
	case regFiles:
		return 0, u.setFiles(t, at, n)
	case unregFiles:
		if at != 0 || n != 0 {
			return 0, unix.EINVAL
		}
		return 0, u.dropFiles()
	case regFilesUpdate:
		return u.updateFilesCall(t, at, n)
	case regEventfd, regEventfdAsync:
		if n != 1 {
			return 0, unix.EINVAL
		}
		return 0, u.setEventfd(t, at)
	case unregEventfd:
		if at != 0 || n != 0 {
			return 0, unix.EINVAL
		}
		if !u.ring.SetEventFD(nil) {
			return 0, unix.ENXIO
		}
		return 0, nil
	case regProbe:
		return 0, probeUring(t, at, n)
	case regPersonality:
		if at != 0 || n != 0 {
			return 0, unix.EINVAL
		}
		return u.addPersonality(t)
	case unregPersonality:
		if at != 0 {
			return 0, unix.EINVAL
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.creds[uint16(n)] == nil || n > 0xffff {
			return 0, unix.EINVAL
		}
		delete(u.creds, uint16(n))
		u.k.Mem.Budget().Uncharge(personalityCost)
		return 0, nil
	case regEnableRings:
		if at != 0 || n != 0 {
			return 0, unix.EINVAL
		}
		if !u.disabled.CompareAndSwap(true, false) {
			return 0, unix.EBADFD
		}
		return 0, nil
	}
	return 0, unix.EINVAL
}

// probeUring says which operations there are.
func probeUring(t *task.Thread, at uint64, n uint32) error {
	if at == 0 || n > 256 {
		return unix.EINVAL
	}
	b := make([]byte, 16+8*n)
	if err := t.CopyIn(b, hal.UserAddr(at)); err != nil {
		return err
	}
	for _, x := range b {
		if x != 0 {
			return unix.EINVAL
		}
	}
	ops := min(int(n), len(uringOps))
	b[0], b[1] = byte(len(uringOps)-1), byte(ops)
	for i := range ops {
		b[16+8*i] = byte(i)
		if i != 46 && i != 33 {
			le.PutUint16(b[16+8*i+2:], uringOpSupported)
		}
	}
	return t.CopyOut(hal.UserAddr(at), b)
}

func (u *uringState) addPersonality(t *task.Thread) (uintptr, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.creds) >= maxPersonalities {
		return 0, unix.ENOSPC
	}
	for {
		if u.lastCred++; u.lastCred == 0 {
			u.lastCred = 1
		}
		if u.creds[u.lastCred] == nil {
			if !u.k.Mem.Budget().Charge(personalityCost) {
				return 0, unix.ENOMEM
			}
			u.creds[u.lastCred] = t.Creds()
			return uintptr(u.lastCred), nil
		}
	}
}

func (u *uringState) setEventfd(t *task.Thread, at uint64) error {
	fd, err := getU32(t, hal.UserAddr(at))
	if err != nil {
		return err
	}
	f := t.FDs().Get(int32(fd))
	if f == nil {
		return unix.EBADF
	}
	e, ok := f.Ops.(*anon.EventFD)
	if !ok {
		f.DecRef()
		return unix.EINVAL
	}
	// The counter outlives its descriptor as long as the ring tells it.
	f.DecRef()
	if !u.ring.SetEventFD(e.Completed) {
		return unix.EBUSY
	}
	return nil
}

// ---- files -----------------------------------------------------------------------

func (u *uringState) setFiles(t *task.Thread, at uint64, n uint32) error {
	u.mu.Lock()
	busy := u.files != nil
	u.mu.Unlock()
	switch {
	case busy:
		return unix.EBUSY
	case n == 0:
		return unix.EINVAL
	case n > regMaxRegistered, uint64(n) > t.Process().Limit(unix.RLIMIT_NOFILE):
		return unix.EMFILE
	}
	b := make([]byte, 4*n)
	if err := t.CopyIn(b, hal.UserAddr(at)); err != nil {
		return err
	}
	files := make([]*vfs.File, n)
	for i := range files {
		fd := int32(le.Uint32(b[4*i:]))
		if fd == -1 {
			continue
		}
		f := t.FDs().Get(fd)
		if f != nil {
			if _, ring := f.Ops.(*uringFile); ring {
				f.DecRef()
				f = nil
			}
		}
		if f == nil {
			dropAll(files)
			return unix.EBADF
		}
		files[i] = f
	}
	u.mu.Lock()
	err := error(nil)
	switch {
	case u.files != nil: // another thread was quicker
		err = unix.EBUSY
	case !u.k.Mem.Budget().Charge(int64(n) * registeredFileCost):
		err = unix.ENOMEM
	default:
		u.files = files
	}
	u.mu.Unlock()
	if err != nil {
		dropAll(files)
	}
	return err
}

func dropAll(files []*vfs.File) {
	for _, f := range files {
		if f != nil {
			f.DecRef()
		}
	}
}

func (u *uringState) dropFiles() error {
	u.mu.Lock()
	files := u.files
	u.files = nil
	u.mu.Unlock()
	if files == nil {
		return unix.ENXIO
	}
	u.k.Mem.Budget().Uncharge(int64(len(files)) * registeredFileCost)
	dropAll(files)
	return nil
}

// setFile puts f, with its reference, into a place: EINVAL, ENXIO where there is no table.
func (u *uringState) setFile(slot int32, f *vfs.File) error {
	u.mu.Lock()
	err := error(nil)
	switch {
	case u.files == nil:
		err = unix.ENXIO
	case slot < 0 || int(slot) >= len(u.files):
		err = unix.EINVAL
	}
	old := f
	if err == nil {
		old, u.files[slot] = u.files[slot], f
	}
	u.mu.Unlock()
	if old != nil {
		old.DecRef()
	}
	return err
}

// dropFile empties a place: ENXIO, EINVAL, EBADF.
func (u *uringState) dropFile(slot int32) error {
	u.mu.Lock()
	var f *vfs.File
	err := error(nil)
	switch {
	case u.files == nil:
		err = unix.ENXIO
	case slot < 0 || int(slot) >= len(u.files):
		err = unix.EINVAL
	case u.files[slot] == nil:
		err = unix.EBADF
	default:
		f, u.files[slot] = u.files[slot], nil
	}
	u.mu.Unlock()
	if f != nil {
		f.DecRef()
	}
	return err
}

// freeSlot is a place without a file, or -1.
func (u *uringState) freeSlot() int32 {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, f := range u.files {
		if f == nil {
			return int32(i)
		}
	}
	return -1
}

// updateFilesCall is IORING_REGISTER_FILES_UPDATE: struct io_uring_files_update.
func (u *uringState) updateFilesCall(t *task.Thread, at uint64, n uint32) (uintptr, error) {
	if n == 0 {
		return 0, unix.EINVAL
	}
	var b [16]byte
	if err := t.CopyIn(b[:], hal.UserAddr(at)); err != nil {
		return 0, err
	}
	if le.Uint32(b[4:]) != 0 {
		return 0, unix.EINVAL
	}
	return u.updateFiles(t, le.Uint32(b[:]), le.Uint64(b[8:]), n)
}

// updateFiles replaces n places from off on by the descriptors at fds: -1 empties one, -2
// leaves it. It returns how many it did.
func (u *uringState) updateFiles(t *task.Thread, off uint32, fds uint64, n uint32) (uintptr, error) {
	u.mu.Lock()
	have := u.files != nil
	size := uint64(len(u.files))
	u.mu.Unlock()
	switch {
	case !have:
		return 0, unix.ENXIO
	case uint64(off)+uint64(n) > size:
		return 0, unix.EINVAL
	}
	for i := range n {
		v, err := getU32(t, hal.UserAddr(fds+4*uint64(i)))
		if err != nil {
			return some2(i, err)
		}
		switch fd := int32(v); fd {
		case registerSkipUpdates:
		case -1:
			_ = u.setFile(int32(off+i), nil)
		default:
			f := t.FDs().Get(fd)
			if f == nil {
				return some2(i, unix.EBADF)
			}
			if _, ring := f.Ops.(*uringFile); ring {
				f.DecRef()
				return some2(i, unix.EBADF)
			}
			if err := u.setFile(int32(off+i), f); err != nil {
				return some2(i, err)
			}
		}
	}
	return uintptr(n), nil
}

// some2 is how many were done, or the error of the first.
func some2(done uint32, err error) (uintptr, error) {
	if done > 0 {
		return uintptr(done), nil
	}
	return 0, err
}

func prepFilesUpdate(r *ureq) error {
	return invalid(r.flags&(sqeFixedFile|sqeBufferSelect) != 0 || r.opf != 0 || r.file2 != 0 || r.len == 0)
}

func uringFilesUpdate(r *ureq) (uintptr, error) {
	return r.u.updateFiles(r.t, uint32(r.off), r.addr, r.len)
}

// ---- buffers ---------------------------------------------------------------------

func (u *uringState) setBuffers(t *task.Thread, at uint64, n uint32) error {
	u.mu.Lock()
	busy := u.buffers != nil
	u.mu.Unlock()
	switch {
	case busy:
		return unix.EBUSY
	case n == 0 || n > regMaxBuffers:
		return unix.EINVAL
	}
	b := make([]byte, 16*n)
	if err := t.CopyIn(b, hal.UserAddr(at)); err != nil {
		return err
	}
	bufs := make([]uringBuffer, n)
	for i := range bufs {
		base, l := le.Uint64(b[16*i:]), le.Uint64(b[16*i+8:])
		switch {
		case base == 0 && l == 0:
			continue
		case base == 0 || l == 0 || l > 1<<30:
			return unix.EFAULT
		}
		if _, err := userRange(base, l); err != nil {
			return unix.EOVERFLOW
		}
		// It must be there to be pinned.
		var x [1]byte
		if t.CopyIn(x[:], hal.UserAddr(base)) != nil || t.CopyIn(x[:], hal.UserAddr(base+l-1)) != nil {
			return unix.EFAULT
		}
		bufs[i] = uringBuffer{base, l}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.buffers != nil: // another thread was quicker
		return unix.EBUSY
	case !u.k.Mem.Budget().Charge(int64(n) * registeredBufferCost):
		return unix.ENOMEM
	}
	u.buffers = bufs
	return nil
}

func (u *uringState) dropBuffers() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.buffers == nil {
		return unix.ENXIO
	}
	u.k.Mem.Budget().Uncharge(int64(len(u.buffers)) * registeredBufferCost)
	u.buffers = nil
	return nil
}

// bufferGroup is buffers that the kernel chooses from, in their order.
type bufferGroup struct {
	list  []providedBuffer
	first int // those before it are taken
}

func (g *bufferGroup) len() int {
	if g == nil {
		return 0
	}
	return len(g.list) - g.first
}

// take forgets the first n, and gives up memory that is mostly theirs.
func (g *bufferGroup) take(n int) {
	if g.first += n; g.first > len(g.list)/2 {
		g.list, g.first = append([]providedBuffer(nil), g.list[g.first:]...), 0
	}
}

// takeBuffer takes one of a group, nil if it has none.
func (u *uringState) takeBuffer(group uint16) *providedBuffer {
	u.mu.Lock()
	defer u.mu.Unlock()
	g := u.groups[group]
	if g.len() == 0 {
		return nil
	}
	b := g.list[g.first]
	g.take(1)
	u.k.Mem.Budget().Uncharge(providedBufferCost)
	return &b
}

// giveBuffer puts one back in front.
func (u *uringState) giveBuffer(group uint16, b *providedBuffer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gone {
		return
	}
	u.k.Mem.Budget().Force(providedBufferCost)
	g := u.groups[group]
	if g.first == 0 {
		g.list = append([]providedBuffer{*b}, g.list...)
		return
	}
	g.first--
	g.list[g.first] = *b
}

// prepProvideBuffers: EINVAL, E2BIG, EFAULT.
func prepProvideBuffers(r *ureq) error {
	n := r.fd
	switch {
	case r.opf != 0 || r.file2 != 0:
		return unix.EINVAL
	case n <= 0 || n > maxProvidedBuffers:
		return unix.E2BIG
	case r.len == 0:
		return unix.EINVAL
	case r.off > 0xffff || r.off+uint64(n) > maxProvidedBuffers:
		return unix.EINVAL
	}
	_, err := userRange(r.addr, uint64(n)*uint64(r.len))
	return err
}

// uringProvideBuffers: ENOMEM.
func uringProvideBuffers(r *ureq) (uintptr, error) {
	n, u := r.fd, r.u
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gone {
		return 0, unix.ECANCELED
	}
	g, cost := u.groups[r.bufIndex], int64(n)*providedBufferCost
	if g == nil {
		cost += bufferGroupCost
	}
	if !u.k.Mem.Budget().Charge(cost) {
		return 0, unix.ENOMEM
	}
	if g == nil {
		g = &bufferGroup{}
		u.groups[r.bufIndex] = g
	}
	for i := range n {
		g.list = append(g.list, providedBuffer{addr: r.addr + uint64(i)*uint64(r.len), len: r.len, id: uint16(r.off) + uint16(i)})
	}
	return 0, nil
}

func prepRemoveBuffers(r *ureq) error {
	return invalid(r.opf != 0 || r.addr != 0 || r.len != 0 || r.off != 0 || r.file2 != 0 || r.fd <= 0 || r.fd > maxProvidedBuffers)
}

// earlyGroups are those that Linux makes together when the first of them is used.
const earlyGroups = 64

// uringRemoveBuffers takes up to fd buffers away: how many; ENOENT.
func uringRemoveBuffers(r *ureq) (uintptr, error) {
	r.u.mu.Lock()
	defer r.u.mu.Unlock()
	g := r.u.groups[r.bufIndex]
	if g == nil && !(r.bufIndex < earlyGroups && len(r.u.groups) > 0) {
		return 0, unix.ENOENT
	}
	n := min(int(r.fd), g.len())
	if n > 0 {
		g.take(n)
		r.u.k.Mem.Budget().Uncharge(int64(n) * providedBufferCost)
	}
	return uintptr(n), nil
}
