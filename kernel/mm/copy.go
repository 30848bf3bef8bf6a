package mm

import (
	"bytes"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// CopyIn and CopyOut copy all or return EFAULT (with the bytes done); ENOMEM if the
// machine has no page left. They go straight to the hardware and look at mappings only
// after a fault.
func (s *Space) CopyIn(c wait.Context, dst []byte, src hal.UserAddr) (int, error) {
	n, fault := s.HW.CopyIn(dst, src)
	for n < len(dst) {
		if err := s.faultForCopy(c, fault, hal.ProtRead); err != nil {
			return n, err
		}
		var m int
		m, fault = s.HW.CopyIn(dst[n:], src+hal.UserAddr(n))
		n += m
	}
	return n, nil
}

// CopyOut is CopyIn's other direction.
func (s *Space) CopyOut(c wait.Context, dst hal.UserAddr, src []byte) (int, error) {
	n, fault := s.HW.CopyOut(dst, src)
	for n < len(src) {
		if err := s.faultForCopy(c, fault, hal.ProtWrite); err != nil {
			return n, err
		}
		var m int
		m, fault = s.HW.CopyOut(dst+hal.UserAddr(n), src[n:])
		n += m
	}
	return n, nil
}

// Zero writes n zero bytes.
func (s *Space) Zero(c wait.Context, dst hal.UserAddr, n int) error {
	for n > 0 {
		m, fault := s.HW.Zero(dst, n)
		dst += hal.UserAddr(m)
		if n -= m; n > 0 {
			if err := s.faultForCopy(c, fault, hal.ProtWrite); err != nil {
				return err
			}
		}
	}
	return nil
}

// CopyInShort reads a NUL-terminated string into buf: its length, and whether the NUL was
// among the bytes that buf could take without crossing a page. It does not allocate.
func (s *Space) CopyInShort(c wait.Context, src hal.UserAddr, buf []byte) (n int, whole bool, err error) {
	n, err = s.CopyIn(c, buf[:min(len(buf), hal.PageSize-int(src&hal.PageMask))], src)
	if i := bytes.IndexByte(buf[:n], 0); i >= 0 {
		return i, true, nil
	}
	return n, false, err
}

// CopyInString reads a NUL-terminated string of at most max bytes, the NUL included:
// ENAMETOOLONG if there is none in them, EFAULT on a bad address before it.
func (s *Space) CopyInString(c wait.Context, src hal.UserAddr, max int) (string, error) {
	var first [64]byte
	buf := first[:0]
	for len(buf) < max {
		// One piece never crosses a page: the string may end at the last byte
		// before an unmapped one.
		n := min(max-len(buf), hal.PageSize-int(src&hal.PageMask), cap(first)+len(buf))
		at := len(buf)
		buf = append(buf, make([]byte, n)...)
		m, err := s.CopyIn(c, buf[at:], src)
		if i := bytes.IndexByte(buf[at:at+m], 0); i >= 0 {
			return string(buf[:at+i]), nil
		}
		if err != nil {
			return "", err
		}
		src += hal.UserAddr(n)
	}
	return "", unix.ENAMETOOLONG
}

// Load32, CAS32 and Xchg32 are atomic accesses to an aligned word (futexes), EFAULT
// on a bad address; they fault pages in. EINVAL: not aligned.
func (s *Space) Load32(c wait.Context, addr hal.UserAddr) (uint32, error) {
	if addr&3 != 0 {
		return 0, unix.EINVAL
	}
	for {
		if v, ok := s.HW.Load32(addr); ok {
			return v, nil
		}
		if err := s.faultForCopy(c, addr, hal.ProtRead); err != nil {
			return 0, err
		}
	}
}

// CAS32 swaps if the word holds old, and returns what it held.
func (s *Space) CAS32(c wait.Context, addr hal.UserAddr, old, new uint32) (uint32, error) {
	if addr&3 != 0 {
		return 0, unix.EINVAL
	}
	for {
		if v, ok := s.HW.CAS32(addr, old, new); ok {
			return v, nil
		}
		if err := s.faultForCopy(c, addr, hal.ProtWrite); err != nil {
			return 0, err
		}
	}
}

// Xchg32 exchanges and returns what the word held.
func (s *Space) Xchg32(c wait.Context, addr hal.UserAddr, new uint32) (uint32, error) {
	if addr&3 != 0 {
		return 0, unix.EINVAL
	}
	for {
		if v, ok := s.HW.Xchg32(addr, new); ok {
			return v, nil
		}
		if err := s.faultForCopy(c, addr, hal.ProtWrite); err != nil {
			return 0, err
		}
	}
}
