package mm

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// Linux is the oracle: the same calls, with good and bad arguments, are made on this
// host, in a window of its own address space that nothing else uses, and on a Space.
// They must agree on every errno and on the resulting mappings.
const (
	oracleBase  = 0x100000000000
	oraclePages = 48
)

func hostMaps(t *testing.T) string {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Skip("no /proc/self/maps")
	}
	defer f.Close()
	out := bytes.Repeat([]byte{'.'}, oraclePages)
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var lo, hi uint64
		var perm string
		fmt.Sscanf(sc.Text(), "%x-%x %s", &lo, &hi, &perm)
		paint(out, lo, hi, perm)
	}
	return string(out)
}

func ourMaps(s *Space) string {
	out := bytes.Repeat([]byte{'.'}, oraclePages)
	for _, v := range s.Maps(false) {
		perm := []byte("---p")
		for i, c := range "rwx" {
			if v.Prot&(1<<i) != 0 {
				perm[i] = byte(c)
			}
		}
		if v.Shared {
			perm[3] = 's'
		}
		paint(out, uint64(v.Start), uint64(v.End), string(perm))
	}
	return string(out)
}

// paint marks pages with a letter for their permissions.
func paint(out []byte, lo, hi uint64, perm string) {
	code := byte('a')
	for i, c := range perm {
		if c != '-' && c != 'p' {
			code += 1 << i
		}
	}
	for i := range out {
		if at := uint64(oracleBase + i*pg); at >= lo && at < hi {
			out[i] = code
		}
	}
}

type oracle struct {
	t   *testing.T
	rng *rand.Rand
	s   *Space
	was string // the last call
}

func host(nr uintptr, a ...uint64) error {
	var x [6]uintptr
	for i, v := range a {
		x[i] = uintptr(v)
	}
	if _, _, e := unix.RawSyscall6(nr, x[0], x[1], x[2], x[3], x[4], x[5]); e != 0 {
		return e
	}
	return nil
}

func (o *oracle) addr() uint64 {
	a := uint64(oracleBase + o.rng.IntN(oraclePages)*pg)
	switch o.rng.IntN(30) {
	case 0:
		a++
	case 1:
		return userTop + uint64(o.rng.IntN(3)*pg)
	case 2:
		return 1 << 63
	}
	return a
}

// length stays in the window if addr does.
func (o *oracle) length(a uint64) uint64 {
	switch o.rng.IntN(30) {
	case 0:
		return 0
	case 1:
		return ^uint64(0) - uint64(o.rng.IntN(2*pg))
	case 2:
		return userTop + pg
	}
	most := 12
	if left := (oracleBase + oraclePages*pg - int(a)) / pg; a < oracleBase+oraclePages*pg && left < most {
		most = max(left, 1)
	}
	n := uint64(1+o.rng.IntN(most)) * pg
	return n - uint64(o.rng.IntN(2)*o.rng.IntN(pg-1))
}

func (o *oracle) inside(a, n uint64) bool {
	return a >= oracleBase && a+pageUp(n) > a && a+pageUp(n) <= oracleBase+oraclePages*pg
}

// both compares one call.
func (o *oracle) both(what string, ours, theirs error) {
	o.t.Helper()
	o.was = fmt.Sprint(what, ": ", ours)
	if ours != theirs && !(ours == nil && theirs == nil) {
		o.t.Fatalf("%s: %v, Linux says %v", what, ours, theirs)
	}
}

func (o *oracle) step() {
	a := o.addr()
	n := o.length(a)
	switch o.rng.IntN(8) {
	case 0, 1, 2:
		o.mmap(a, n)
	case 3:
		err := o.s.Munmap(hal.UserAddr(a), n)
		o.both(fmt.Sprintf("munmap(%#x, %#x)", a, n), err, host(unix.SYS_MUNMAP, a, n))
	case 4:
		p := uint64(o.rng.IntN(4))
		err := o.s.Mprotect(hal.UserAddr(a), n, hal.Prot(p))
		o.both(fmt.Sprintf("mprotect(%#x, %#x, %d)", a, n, p), err, host(unix.SYS_MPROTECT, a, n, p))
	case 5:
		if n > 1<<40 && a+pageUp(n) > a {
			return // goes on over holes, through this process
		}
		advice := []int{unix.MADV_NORMAL, unix.MADV_DONTNEED, unix.MADV_FREE, unix.MADV_DONTFORK, unix.MADV_DOFORK,
			unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK, unix.MADV_DONTDUMP, unix.MADV_DODUMP, unix.MADV_NORMAL,
			unix.MADV_RANDOM, unix.MADV_COLD, unix.MADV_WILLNEED, 5, 777, -1}[o.rng.IntN(16)]
		err := o.s.Madvise(nil, hal.UserAddr(a), n, advice)
		o.both(fmt.Sprintf("madvise(%#x, %#x, %d)", a, n, advice), err, host(unix.SYS_MADVISE, a, n, uint64(advice)))
	case 6:
		flags := o.rng.IntN(9)
		err := o.s.Msync(nil, hal.UserAddr(a), n, flags)
		o.both(fmt.Sprintf("msync(%#x, %#x, %d)", a, n, flags), err, host(unix.SYS_MSYNC, a, n, uint64(flags)))
	case 7:
		o.mremap(a, n)
	}
}

func (o *oracle) mmap(a, n uint64) {
	p := uint64(o.rng.IntN(4))
	fl := uint64(unix.MAP_ANONYMOUS | unix.MAP_NORESERVE)
	fl |= []uint64{unix.MAP_FIXED, unix.MAP_FIXED_NOREPLACE}[o.rng.IntN(2)]
	fl |= []uint64{unix.MAP_PRIVATE, unix.MAP_PRIVATE, unix.MAP_SHARED, unix.MAP_SHARED_VALIDATE, 0}[o.rng.IntN(5)]
	if n > 1<<40 && a&(pg-1) == 0 && a+pageUp(n) > a && a+pageUp(n) < userTop {
		return // would really cover this process
	}
	_, err := o.s.Mmap(nil, MapArgs{Addr: hal.UserAddr(a), Len: n, Prot: hal.Prot(p), Flags: int(fl)})
	if err == nil && !o.inside(a, n) {
		o.t.Fatalf("mmap(%#x, %#x) went outside", a, n)
	}
	o.both(fmt.Sprintf("mmap(%#x, %#x, %d, %#x)", a, n, p, fl), err,
		host(unix.SYS_MMAP, a, n, p, fl, ^uint64(0), 0))
}

func (o *oracle) mremap(a, n uint64) {
	to := o.addr()
	m := o.length(to)
	fl := []uint64{0, 0, mremapFixed | mremapMayMove, mremapFixed | mremapMayMove, mremapFixed, 8,
		mremapFixed | mremapMayMove | mremapDontUnmap, mremapDontUnmap}[o.rng.IntN(8)]
	if fl&mremapDontUnmap != 0 {
		n, m = pageUp(n), pageUp(m) // compared before or after rounding up
		if o.rng.IntN(2) == 0 {
			m = n
		}
	}
	if fl == 0 && a+m > oracleBase+oraclePages*pg && m < 1<<40 {
		return // might grow out of the window
	}
	if v := o.s.vmas.at(a); fl&(mremapFixed|mremapDontUnmap) != 0 && (v == nil || n > 1<<40 || a+pageUp(n) > v.end || n == 0) {
		// Since 6.17 Linux moves several mappings at once, and tests before it
		// unmaps the target; 6.1 does neither.
		return
	}
	if m > 1<<40 {
		return // refused in another order since 6.17
	}
	_, err := o.s.Mremap(nil, hal.UserAddr(a), n, m, int(fl), hal.UserAddr(to))
	o.both(fmt.Sprintf("mremap(%#x, %#x, %#x, %#x, %#x)", a, n, m, fl, to), err,
		host(unix.SYS_MREMAP, a, n, m, fl, to))
}

func TestMappingCallsAgreeWithLinux(t *testing.T) {
	if before := hostMaps(t); strings.Trim(before, ".") != "" {
		t.Skip("the window is in use")
	}
	defer host(unix.SYS_MUNMAP, oracleBase, oraclePages*pg)
	for seed := range uint64(8) {
		r := newRig(t, 1024)
		o := &oracle{t: t, rng: rand.New(rand.NewPCG(seed, 7)), s: r.space()}
		o.s.SetLimits(Limits{AS: noLimit, Data: noLimit, Stack: 8 << 20, MemLock: noLimit})
		host(unix.SYS_MUNMAP, oracleBase, oraclePages*pg)
		for i := range 2000 {
			o.step()
			if ours, theirs := ourMaps(o.s), hostMaps(t); ours != theirs {
				t.Fatalf("seed %d step %d, after %s: mappings\n%s\nLinux\n%s", seed, i, o.was, ours, theirs)
			}
		}
		o.s.DecUsers()
		r.close()
	}
}
