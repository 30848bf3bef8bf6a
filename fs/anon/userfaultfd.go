package anon

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Numbers of linux/userfaultfd.h.
const (
	uffdAPI        = 0xaa
	uffdioAPI      = 0xc018aa3f
	uffdioRegister = 0xc020aa00
	uffdioUnreg    = 0x8010aa01
	uffdioWake     = 0x8010aa02
	uffdioCopy     = 0xc028aa03
	uffdioZero     = 0xc020aa04

	uffdAPIIoctls   = 1<<0x3f | 1<<1 | 1<<0
	uffdRangeIoctls = 1<<4 | 1<<3 | 1<<2
	uffdMissing     = 1 // UFFDIO_REGISTER_MODE_MISSING
	uffdDontWake    = 1 // UFFDIO_COPY_MODE_DONTWAKE, UFFDIO_ZEROPAGE_MODE_DONTWAKE
	uffdPageFault   = 0x12
	uffdMsgSize     = 32
	mmapMinAddr     = 0x10000
)

// UnprivilegedUserfault is vm.unprivileged_userfaultfd: whether anybody may serve the faults
// of system calls.
var UnprivilegedUserfault atomic.Int64

// UserfaultFD is the descriptor of an mm.Userfault.
type UserfaultFD struct {
	vfs.BaseOps
	*mm.Userfault
	f     *vfs.File
	ready bool // UFFDIO_API has been called; under mu of users
}

// NewUserfaultFD makes one for mappings of s; flags are O_NONBLOCK or 0, kernel what
// mm.NewUserfault says.
func NewUserfaultFD(s *mm.Space, flags uint32, kernel bool) *vfs.File {
	u := &UserfaultFD{Userfault: s.NewUserfault(kernel)}
	u.f = newFile(u, flags, "[userfaultfd]")
	u.f.SetFlags(unix.O_ACCMODE, unix.O_RDONLY)
	return u.f
}

// Attr and SetAttr implement vfs.FileOps.
func (u *UserfaultFD) Attr(wait.Context) (vfs.Attr, error) { return vfs.AnonAttr(), nil }

// SetAttr implements vfs.FileOps.
func (u *UserfaultFD) SetAttr(_ wait.Context, a vfs.SetAttr) error { return vfs.AnonSetAttr(a) }

// NoSeek implements vfs.NoSeek.
func (u *UserfaultFD) NoSeek() {}

// EventRegister and EventUnregister implement waiter.Waitable.
func (u *UserfaultFD) EventRegister(e *waiter.Entry) error { u.Q.EventRegister(e); return nil }

// EventUnregister implements waiter.Waitable.
func (u *UserfaultFD) EventUnregister(e *waiter.Entry) { u.Q.EventUnregister(e) }

func (u *UserfaultFD) isReady() bool {
	users.mu.Lock()
	defer users.mu.Unlock()
	return u.ready
}

// Readiness implements waiter.Waitable. Who can block is not told: what is ready may not be
// so any more when he reads.
func (u *UserfaultFD) Readiness(mask waiter.EventMask) waiter.EventMask {
	switch {
	case !u.isReady() || !u.f.Nonblocking():
		return mask & waiter.EventErr
	case u.Waiting():
		return mask & waiter.ReadableEvents
	}
	return 0
}

// Read implements vfs.FileOps: struct uffd_msg, as many as fit. EINVAL before UFFDIO_API and
// for less than one, EAGAIN.
func (u *UserfaultFD) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	if !u.isReady() {
		return 0, unix.EINVAL
	}
	done := 0
	for {
		if dst.Len() < uffdMsgSize {
			if done == 0 {
				return 0, unix.EINVAL
			}
			return done, nil
		}
		f, ok := u.Take()
		if !ok {
			if done == 0 {
				return 0, unix.EAGAIN
			}
			return done, nil
		}
		var b [uffdMsgSize]byte
		b[0] = uffdPageFault
		if f.Write {
			b[8] = 1 // UFFD_PAGEFAULT_FLAG_WRITE
		}
		binary.LittleEndian.PutUint64(b[16:], f.Addr)
		binary.LittleEndian.PutUint32(b[24:], uint32(f.TID))
		if _, err := dst.CopyOut(b[:]); err != nil {
			if done == 0 {
				return 0, err
			}
			return done, nil
		}
		done += uffdMsgSize
	}
}

// Ioctl implements vfs.FileOps: UFFDIO_*. EINVAL for others, and before UFFDIO_API.
func (u *UserfaultFD) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	at := hal.UserAddr(arg)
	if req != uffdioAPI && !u.isReady() {
		return 0, unix.EINVAL
	}
	switch req {
	case uffdioAPI:
		return 0, u.api(c, sp, at)
	case uffdioRegister, uffdioUnreg, uffdioWake, uffdioCopy, uffdioZero:
	default:
		return 0, unix.EINVAL
	}
	var b [40]byte
	n := int(req >> 16 & 0x3fff)
	if in := map[uint32]int{uffdioRegister: 24, uffdioCopy: 32, uffdioZero: 24}[req]; in != 0 {
		n = in // without what is answered
	}
	if _, err := sp.CopyIn(c, b[:n], at); err != nil {
		return 0, unix.EFAULT
	}
	le := binary.LittleEndian
	start, size, mode := le.Uint64(b[:]), le.Uint64(b[8:]), le.Uint64(b[16:])
	if req == uffdioCopy {
		src := size
		size, mode = mode, le.Uint64(b[24:])
		if err := uffdRange(start, size); err != nil {
			return 0, err
		}
		if src+size <= src || mode&^uffdDontWake != 0 {
			return 0, unix.EINVAL
		}
		return 0, u.fill(c, sp, at+32, start, size, mode, hal.UserAddr(src), true)
	}
	if req == uffdioRegister && mode != uffdMissing {
		return 0, unix.EINVAL
	}
	if err := uffdRange(start, size); err != nil {
		return 0, err
	}
	switch req {
	case uffdioRegister:
		if err := u.Register(start, size); err != nil {
			return 0, err
		}
		le.PutUint64(b[24:], uffdRangeIoctls)
		if _, err := sp.CopyOut(c, at+24, b[24:32]); err != nil {
			return 0, unix.EFAULT
		}
	case uffdioUnreg:
		return 0, u.Unregister(start, size)
	case uffdioWake:
		u.Wake(start, size)
	default:
		if mode&^uffdDontWake != 0 {
			return 0, unix.EINVAL
		}
		return 0, u.fill(c, sp, at+24, start, size, mode, 0, false)
	}
	return 0, nil
}

// uffdRange is validate_range.
func uffdRange(start, n uint64) error {
	if (start|n)&hal.PageMask != 0 || n == 0 || start < mmapMinAddr || start >= uint64(hal.UserTop) || n > uint64(hal.UserTop)-start {
		return unix.EINVAL
	}
	return nil
}

// api is UFFDIO_API: EFAULT; EINVAL, with zeros in the answer, for another version or
// features that are not here; EINVAL the second time.
func (u *UserfaultFD) api(c wait.Context, sp *mm.Space, at hal.UserAddr) error {
	var b [24]byte
	if _, err := sp.CopyIn(c, b[:], at); err != nil {
		return unix.EFAULT
	}
	le := binary.LittleEndian
	features := le.Uint64(b[8:])
	if le.Uint64(b[:]) != uffdAPI || features&^mm.UserfaultFeature != 0 {
		clear(b[:])
		if _, err := sp.CopyOut(c, at, b[:]); err != nil {
			return unix.EFAULT
		}
		return unix.EINVAL
	}
	le.PutUint64(b[8:], mm.UserfaultFeature)
	le.PutUint64(b[16:], uffdAPIIoctls)
	if _, err := sp.CopyOut(c, at, b[:]); err != nil {
		return unix.EFAULT
	}
	users.mu.Lock()
	again := u.ready
	u.ready = true
	users.mu.Unlock()
	if again {
		clear(b[:])
		_, _ = sp.CopyOut(c, at, b[:])
		return unix.EINVAL
	}
	u.SetFeatures(features)
	return nil
}

// fill is UFFDIO_COPY and UFFDIO_ZEROPAGE: how many bytes were filled in, or -errno, goes to
// said. EAGAIN for less than was asked.
func (u *UserfaultFD) fill(c wait.Context, sp *mm.Space, said hal.UserAddr, start, size, mode uint64, src hal.UserAddr, from bool) error {
	var buf []byte
	if from {
		buf = make([]byte, hal.PageSize)
	}
	done, err := uint64(0), error(nil)
	for done < size && err == nil {
		if from {
			if _, e := sp.CopyIn(c, buf, src+hal.UserAddr(done)); e != nil {
				err = unix.EFAULT
				break
			}
		}
		end := start + done + hal.PageSize
		if done == 0 {
			end = start + size
		}
		if err = u.Fill(c, start+done, end, buf); err == nil {
			done += hal.PageSize
		}
	}
	if err == unix.ESRCH {
		return err
	}
	answer := done
	if done == 0 {
		if e, ok := err.(unix.Errno); ok {
			answer = uint64(-int64(e))
		}
	}
	if _, e := sp.CopyOut(c, said, binary.LittleEndian.AppendUint64(nil, answer)); e != nil {
		return unix.EFAULT
	}
	if done == 0 {
		return err
	}
	if mode&uffdDontWake == 0 {
		u.Wake(start, done)
	}
	if done < size {
		return unix.EAGAIN
	}
	return nil
}

// Release implements vfs.FileOps.
func (u *UserfaultFD) Release(*vfs.File) { u.Close() }
