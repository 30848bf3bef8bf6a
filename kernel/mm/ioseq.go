package mm

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// IOSeq is the memory side of a read or write: one or more ranges of a program's
// memory, or a kernel buffer. Copies advance it.
//
// No lock may be held over CopyOut and CopyIn of a user sequence, which may fault
// a page in and block. Code under a lock uses the NoFault forms: on ErrFault it
// unlocks, calls FaultIn, and tries again.
type IOSeq struct {
	s    *Space // nil: kernel
	c    wait.Context
	base hal.UserAddr // what is left of the current range
	n    int
	rest []IOVec // ranges after it
	left int     // bytes in all
	k    []byte
	word [8]byte // for CopyOutWord
}

// IOVec is one range of program memory.
type IOVec struct {
	Base hal.UserAddr
	Len  uint64
}

// ErrFault is what the NoFault copies return when the next byte is not present;
// it never leaves the kernel.
var ErrFault error = errFault{}

type errFault struct{}

func (errFault) Error() string { return "mm: page not present" }

// UserIO is a sequence over one range; UserIOV over many (the slice is kept). A total
// beyond the largest int is cut there; negative lengths are empty.
func UserIO(s *Space, c wait.Context, addr hal.UserAddr, n int) IOSeq {
	n = max(n, 0)
	return IOSeq{s: s, c: c, base: addr, n: n, left: n}
}

// SetUser makes q, which is c's own, the sequence UserIO: what is there already is not
// written again.
func (q *IOSeq) SetUser(s *Space, c wait.Context, addr hal.UserAddr, n int) {
	if q.s != s || len(q.rest) != 0 {
		*q = IOSeq{s: s, c: c}
	}
	n = max(n, 0)
	q.base, q.n, q.left = addr, n, n
}

// UserIOV is a sequence over many ranges.
func UserIOV(s *Space, c wait.Context, v []IOVec) IOSeq {
	q := IOSeq{s: s, c: c, rest: v}
	const most = int(^uint(0) >> 1)
	for _, r := range v {
		if r.Len > uint64(most-q.left) {
			q.left = most
			break
		}
		q.left += int(r.Len)
	}
	q.settle()
	return q
}

// Rest is the ranges that are left, in a slice of its own. They may be longer than Len.
func (q *IOSeq) Rest() []IOVec {
	if q.left == 0 {
		return nil
	}
	return append(append(make([]IOVec, 0, 1+len(q.rest)), IOVec{q.base, uint64(q.n)}), q.rest...)
}

// KernelIO is a sequence over a kernel buffer.
func KernelIO(b []byte) IOSeq { return IOSeq{k: b, left: len(b)} }

// Len is the number of bytes left.
func (q *IOSeq) Len() int { return q.left }

// Span is the number of bytes that lie in one piece.
func (q *IOSeq) Span() int {
	if q.s == nil {
		return q.left
	}
	return q.n
}

// IsKernel says whether the sequence is a kernel buffer, whose copies never fault.
func (q *IOSeq) IsKernel() bool { return q.s == nil }

// settle moves on to the next range that has bytes.
func (q *IOSeq) settle() {
	for q.n == 0 && q.left > 0 && len(q.rest) > 0 {
		q.base = q.rest[0].Base
		q.n = int(min(q.rest[0].Len, uint64(q.left)))
		q.rest = q.rest[1:]
	}
}

func (q *IOSeq) advance(n int) {
	q.left -= n
	if q.s == nil {
		q.k = q.k[n:]
		return
	}
	q.base += hal.UserAddr(n)
	if q.n -= n; q.n == 0 {
		q.settle()
	}
}

// CopyOut copies src to the sequence; n < len(src) with EFAULT on a bad address,
// n < len(src) with nil at the end of the sequence. ENOMEM: out of memory.
func (q *IOSeq) CopyOut(src []byte) (n int, err error) {
	for n < len(src) && q.left > 0 {
		m, err := q.CopyOutNoFault(src[n:])
		n += m
		if err == ErrFault {
			err = q.FaultIn(true)
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// CopyIn copies from the sequence to dst, likewise.
func (q *IOSeq) CopyIn(dst []byte) (n int, err error) {
	for n < len(dst) && q.left > 0 {
		m, err := q.CopyInNoFault(dst[n:])
		n += m
		if err == ErrFault {
			err = q.FaultIn(false)
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// CopyOutNoFault and CopyInNoFault never block: ErrFault where a page is absent.
func (q *IOSeq) CopyOutNoFault(src []byte) (n int, err error) {
	if q.s == nil {
		n = copy(q.k, src)
		q.advance(n)
		return n, nil
	}
	for n < len(src) && q.left > 0 {
		want := min(len(src)-n, q.n)
		m, _ := q.s.HW.CopyOut(q.base, src[n:n+want])
		n += m
		q.advance(m)
		if m < want {
			return n, ErrFault
		}
	}
	return n, nil
}

// CopyInNoFault is CopyOutNoFault's other direction.
func (q *IOSeq) CopyInNoFault(dst []byte) (n int, err error) {
	if q.s == nil {
		n = copy(dst, q.k)
		q.advance(n)
		return n, nil
	}
	for n < len(dst) && q.left > 0 {
		want := min(len(dst)-n, q.n)
		m, _ := q.s.HW.CopyIn(dst[n:n+want], q.base)
		n += m
		q.advance(m)
		if m < want {
			return n, ErrFault
		}
	}
	return n, nil
}

// Put copies all of src to the sequence if that takes one range of present memory, as most
// transfers do: false, and nothing has changed, otherwise.
func (q *IOSeq) Put(src []byte) bool {
	if q.s == nil || len(src) > q.n {
		return false
	}
	if n, _ := q.s.HW.CopyOut(q.base, src); n < len(src) {
		return false
	}
	q.advance(len(src))
	return true
}

// CopyOutWord is CopyOut of a 64-bit number, without a buffer of the caller's.
func (q *IOSeq) CopyOutWord(v uint64) (n int, err error) {
	binary.LittleEndian.PutUint64(q.word[:], v)
	return q.CopyOut(q.word[:])
}

// Take is Put's other direction.
func (q *IOSeq) Take(dst []byte) bool {
	if q.s == nil || len(dst) > q.n {
		return false
	}
	if n, _ := q.s.HW.CopyIn(dst, q.base); n < len(dst) {
		return false
	}
	q.advance(len(dst))
	return true
}

// FaultIn makes the next page present for writing (write: the kernel will CopyOut)
// or reading; EFAULT if the program could not access it.
func (q *IOSeq) FaultIn(write bool) error {
	if q.s == nil || q.left == 0 {
		return nil
	}
	access := hal.ProtRead
	if write {
		access = hal.ProtWrite
	}
	return q.s.faultForCopy(q.c, q.base, access)
}

// ZeroOut writes up to n zero bytes.
func (q *IOSeq) ZeroOut(n int) (done int, err error) {
	n = min(n, q.left)
	for done < n {
		if q.s == nil {
			clear(q.k[:n])
			q.advance(n)
			return n, nil
		}
		want := min(n-done, q.n)
		m, _ := q.s.HW.Zero(q.base, want)
		done += m
		q.advance(m)
		if m < want {
			if err = q.FaultIn(true); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// Skip advances without copying; Limit cuts the sequence to n bytes.
func (q *IOSeq) Skip(n int) {
	for n = min(n, q.left); n > 0; {
		m := n
		if q.s != nil {
			m = min(n, q.n)
		}
		q.advance(m)
		n -= m
	}
}

// Limit cuts the sequence to n bytes.
func (q *IOSeq) Limit(n int) {
	n = max(n, 0)
	if n >= q.left {
		return
	}
	q.left = n
	if q.s == nil {
		q.k = q.k[:n]
	} else {
		q.n = min(q.n, n)
	}
}

// Starving is a wait.Context that can wait for memory: OutOfMemory is called when a victim
// has been chosen (Memory.OnOOM) and gives it a moment; false: it is to end itself, as Dying
// says at any time.
type Starving interface {
	OutOfMemory() bool
	Dying() bool
}

// dying says whether c is a thread's that is to end itself. No memory is looked for on its
// behalf: what its end gives back is more than a scan would find, and comes sooner.
func dying(c wait.Context) bool {
	w, ok := c.(Starving)
	return ok && w.Dying()
}

// oomTries bounds how often a fault waits for memory: a victim may need what the caller
// holds before it can end.
const oomTries = 5000

// faultForCopy serves a fault that the kernel hit on a program's behalf. ENOMEM: there is no
// memory (faultPatiently).
func (s *Space) faultForCopy(c wait.Context, addr hal.UserAddr, access hal.Prot) error {
	switch err := s.faultPatiently(c, addr, access); err {
	case nil, unix.ENOMEM:
		return err
	}
	return unix.EFAULT
}

// faultPatiently is HandleFault for a caller who waits for a victim to end where there is no
// memory (Linux's allocator does not fail for one page either). ENOMEM: none ended, or the
// caller is the victim.
func (s *Space) faultPatiently(c wait.Context, addr hal.UserAddr, access hal.Prot) error {
	for try := 0; ; try++ {
		err := s.HandleFault(c, addr, access)
		if err != unix.ENOMEM {
			return err
		}
		if w, ok := c.(Starving); !ok || try == oomTries || !w.OutOfMemory() {
			return err
		}
	}
}
