package mm

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

func TestMmapChoosesPlacesAsLinuxDoes(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	s.SetMmapBase(0x7f0000000000)
	a := r.mmap(s, MapArgs{Len: 3 * pg, Prot: rw, Flags: anon})
	if a != 0x7f0000000000-3*pg {
		t.Errorf("first at %#x", a)
	}
	if b := r.mmap(s, MapArgs{Len: pg, Prot: hal.ProtRead, Flags: anon}); b != a-pg {
		t.Errorf("second at %#x", b)
	}
	s.Munmap(a, pg)
	if c := r.mmap(s, MapArgs{Len: pg, Prot: 0, Flags: anon}); c != a {
		t.Errorf("the hole is not used: %#x", c)
	}
	if h := r.mmap(s, MapArgs{Addr: 0x12345678, Len: pg, Prot: rw, Flags: anon}); h != 0x12345000 {
		t.Errorf("hint gives %#x", h)
	}
	if h := r.mmap(s, MapArgs{Addr: 0x12345678, Len: pg, Prot: rw, Flags: anon}); h == 0x12345000 {
		t.Errorf("taken hint given again")
	}
	if h := r.mmap(s, MapArgs{Addr: 1, Len: pg, Prot: rw, Flags: anon}); h < minAddr {
		t.Errorf("mapped at %#x", h)
	}
	if l := r.mmap(s, MapArgs{Len: pg, Prot: rw, Flags: anon | unix.MAP_32BIT}); l != 0x40000000 {
		t.Errorf("MAP_32BIT gives %#x", l)
	}
	if _, err := s.Mmap(nil, MapArgs{Len: pg, Prot: rw, Flags: anon | unix.MAP_HUGETLB}); err != unix.ENOMEM {
		t.Errorf("huge pages: %v", err)
	}
	if _, err := s.Mmap(nil, MapArgs{Addr: 0x1000, Len: pg, Prot: rw, Flags: anon | fixed}); err != unix.EPERM {
		t.Errorf("below mmap_min_addr: %v", err)
	}
	p := r.mmap(s, MapArgs{Len: 5 * pg, Prot: rw, Flags: anon | unix.MAP_POPULATE})
	for i := range hal.UserAddr(5) {
		if _, ok := s.HW.Query(p + i*pg); !ok {
			t.Errorf("page %d is not populated", i)
		}
	}
	s.DecUsers()
	r.close()
}

func TestNeighboursMerge(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	const a = 0x10000000
	for _, i := range []hal.UserAddr{0, 2, 1, 3} {
		r.mmap(s, MapArgs{Addr: a + i*pg, Len: pg, Prot: rw, Flags: anon | fixed})
	}
	if n := len(s.Maps(false)); n != 1 {
		t.Errorf("%d mappings, want 1", n)
	}
	s.Mprotect(a+pg, pg, hal.ProtRead)
	if n := len(s.Maps(false)); n != 3 {
		t.Errorf("%d mappings, want 3", n)
	}
	s.Mprotect(a+pg, pg, rw)
	if n := len(s.Maps(false)); n != 1 {
		t.Errorf("%d mappings after restoring, want 1", n)
	}
	o := NewObject(r.mem, nil, 8*pg)
	f := new(counted)
	m := MapArgs{Addr: 0x20000000, Len: 2 * pg, Prot: rw, Flags: priv | fixed, Object: o, Name: "f", Ino: 3, File: f}
	r.mmap(s, m)
	m.Addr, m.Offset = m.Addr+2*pg, 2*pg
	r.mmap(s, m)
	if n := len(s.Maps(false)); n != 2 || *f != 1 {
		t.Errorf("%d mappings, %d pins", n, *f)
	}
	m.Addr, m.Offset = m.Addr+2*pg, 7*pg // not the next offset
	r.mmap(s, m)
	s.Munmap(0x20000000+pg, pg)
	if n := len(s.Maps(false)); n != 4 {
		t.Errorf("%d mappings", n)
	}
	c, _ := s.Fork()
	s.DecUsers()
	if *f == 0 {
		t.Errorf("the child's file is not pinned")
	}
	c.DecUsers()
	if *f != 0 {
		t.Errorf("%d pins are left", *f)
	}
	o.DecRef()
	r.close()
}

func TestManyMappingsAreRefusedAtTheLimitAndCostLittle(t *testing.T) {
	r := newRig(t, 256)
	r.mem.Budget().SetLimit(1 << 30)
	s := r.space()
	start := time.Now()
	n := 0
	for ; n < maxMaps+10; n++ {
		p := hal.ProtRead
		if n%2 == 0 {
			p = rw
		}
		if _, err := s.Mmap(nil, MapArgs{Len: pg, Prot: p, Flags: anon | unix.MAP_NORESERVE}); err != nil {
			if err != unix.ENOMEM {
				t.Fatal(err)
			}
			break
		}
	}
	if n != maxMaps+1 { // as Linux: one more than vm.max_map_count
		t.Errorf("refused after %d", n)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("%d mappings took %v", n, d)
	}
	if err := s.Munmap(s.Maps(false)[5].Start, pg); err != nil {
		t.Error(err)
	}
	s.verify(t)
	s.DecUsers()
	// The kernel-heap budget refuses before the kernel's heap is at risk.
	r.mem.Budget().SetLimit(r.used + spaceCost + 100*vmaCost)
	s = r.space()
	for n = 0; n < 200; n++ {
		if _, err := s.Mmap(nil, MapArgs{Addr: hal.UserAddr(0x10000000 + 2*n*pg), Len: pg, Prot: rw, Flags: anon}); err != nil {
			break
		}
	}
	if n != 100 {
		t.Errorf("the budget refused after %d mappings", n)
	}
	if _, err := NewSpace(r.mem); err != unix.ENOMEM {
		t.Errorf("a space over the budget: %v", err)
	}
	if _, err := s.Fork(); err != unix.ENOMEM {
		t.Errorf("fork over the budget: %v", err)
	}
	s.DecUsers()
	r.close()
}

func TestBrk(t *testing.T) {
	r := newRig(t, 512)
	s := r.space()
	const b = 0x10000000
	s.SetBrkStart(b)
	if g := s.Brk(nil, 0); g != b {
		t.Errorf("query: %#x", g)
	}
	if g := s.Brk(nil, b+5*pg+1); g != b+5*pg+1 {
		t.Errorf("grow: %#x", g)
	}
	r.put(s, b+5*pg+1, 3) // to the end of the page
	if v, _ := s.Find(b); v.Name != "[heap]" || v.End != b+6*pg {
		t.Errorf("%+v", v)
	}
	if g := s.Brk(nil, b+pg); g != b+pg {
		t.Errorf("shrink: %#x", g)
	}
	r.wantFault(s, b+pg, hal.ProtRead, unix.SIGSEGV, segvMapErr)
	s.Brk(nil, b+6*pg)
	r.want(s, b+5*pg+1, 0)
	if g := s.Brk(nil, b-1); g != b+6*pg {
		t.Errorf("below the start: %#x", g)
	}
	r.mmap(s, MapArgs{Addr: b + 20*pg, Len: pg, Prot: rw, Flags: anon | fixed})
	if g := s.Brk(nil, b+20*pg); g != b+6*pg {
		t.Errorf("into a mapping: %#x", g)
	}
	if g := s.Brk(nil, b+19*pg); g != b+19*pg {
		t.Errorf("up to one page below a mapping: %#x", g)
	}
	s.SetLimits(Limits{AS: noLimit, Data: 10 * pg, Stack: noLimit, MemLock: noLimit})
	if g := s.Brk(nil, b+19*pg+1); g != b+19*pg {
		t.Errorf("over RLIMIT_DATA: %#x", g)
	}
	if g := s.Brk(nil, ^hal.UserAddr(0)); g != b+19*pg {
		t.Errorf("absurd: %#x", g)
	}
	s.DecUsers()
	r.close()
}

func TestLimits(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	s.SetLimits(Limits{AS: 10 * pg, Data: 4 * pg, Stack: noLimit, MemLock: 2 * pg})
	try := func(want error, a MapArgs) hal.UserAddr {
		t.Helper()
		at, err := s.Mmap(nil, a)
		if err != want {
			t.Errorf("mmap %+v: %v, want %v", a, err, want)
		}
		return at
	}
	try(unix.ENOMEM, MapArgs{Len: 11 * pg, Prot: hal.ProtRead, Flags: anon})
	try(unix.ENOMEM, MapArgs{Len: 5 * pg, Prot: rw, Flags: anon})
	ro := try(nil, MapArgs{Addr: 0x10000000, Len: 6 * pg, Prot: hal.ProtRead, Flags: anon})
	if err := s.Mprotect(ro, 5*pg, rw); err != unix.ENOMEM {
		t.Errorf("mprotect over RLIMIT_DATA: %v", err)
	}
	try(nil, MapArgs{Addr: ro, Len: 6 * pg, Prot: hal.ProtRead, Flags: anon | fixed}) // replaces
	try(unix.EAGAIN, MapArgs{Len: 3 * pg, Prot: hal.ProtRead, Flags: anon | unix.MAP_LOCKED})
	if err := s.Mlock(nil, ro, 3*pg, false); err != unix.ENOMEM {
		t.Errorf("mlock over the limit: %v", err)
	}
	if err := s.Mlock(nil, ro+1, pg, false); err != nil {
		t.Errorf("mlock of two pages: %v", err)
	}
	if err := s.Mlock(nil, ro, 2*pg, false); err != nil {
		t.Errorf("mlock again: %v", err)
	}
	if err := s.Madvise(nil, ro, pg, unix.MADV_DONTNEED); err != unix.EINVAL {
		t.Errorf("dropping locked pages: %v", err)
	}
	if u := s.Usage(); u.Locked != 2 || u.Total != 6 {
		t.Errorf("%+v", u)
	}
	if err := s.Munlock(ro, 6*pg); err != nil || s.Usage().Locked != 0 {
		t.Errorf("munlock: %v", err)
	}
	if err := s.MlockAll(nil, true, false, false); err != unix.ENOMEM {
		t.Errorf("mlockall over the limit: %v", err)
	}
	s.SetLimits(Limits{AS: noLimit, Data: noLimit, Stack: noLimit})
	if err := s.Mlock(nil, ro, pg, false); err != unix.EPERM {
		t.Errorf("mlock without permission: %v", err)
	}
	// More than the machine has can never be promised; sparse memory may be asked for.
	try(unix.ENOMEM, MapArgs{Len: 300 * pg, Prot: rw, Flags: anon})
	try(nil, MapArgs{Len: 1 << 40, Prot: rw, Flags: anon | unix.MAP_NORESERVE})
	big := try(nil, MapArgs{Len: 1 << 40, Prot: 0, Flags: anon})
	if err := s.Mprotect(big, 1<<40, rw); err != unix.ENOMEM {
		t.Errorf("mprotect to more than there is: %v", err)
	}
	s.DecUsers()
	r.close()
}

func TestMincoreAndPopulateAdvice(t *testing.T) {
	r := newRig(t, 512)
	s := r.space()
	o := NewObject(r.mem, newDisk(r.m, 32), 32*pg)
	a := r.mmap(s, MapArgs{Addr: 0x10000000, Len: 4 * pg, Prot: rw, Flags: anon | fixed})
	f := r.mmap(s, MapArgs{Addr: 0x20000000, Len: 40 * pg, Prot: hal.ProtRead, Flags: priv | fixed, Object: o})
	core := func(at hal.UserAddr, n uint64) string {
		out := ""
		err := s.Mincore(nil, at, n, func(v []byte) error {
			for _, b := range v {
				out += string('0' + b)
			}
			return nil
		})
		if err != nil {
			return err.Error()
		}
		return out
	}
	r.put(s, a+pg, 1)
	if g := core(a, 4*pg); g != "0100" {
		t.Errorf("mincore %s", g)
	}
	r.read(o, 20*pg, 1)
	if g := core(f+19*pg, 3*pg); g != "011" && g != "010" {
		t.Errorf("mincore of a file %s", g)
	}
	if g := core(a, 5*pg); g != unix.ENOMEM.Error() {
		t.Errorf("mincore over a hole: %s", g)
	}
	if err := s.Madvise(nil, a, 4*pg, unix.MADV_POPULATE_WRITE); err != nil || core(a, 4*pg) != "1111" {
		t.Errorf("populate: %v", err)
	}
	if err := s.Madvise(nil, f, pg, unix.MADV_POPULATE_WRITE); err != unix.EINVAL {
		t.Errorf("populate for writing what is read-only: %v", err)
	}
	if err := s.Madvise(nil, f+31*pg, 2*pg, unix.MADV_POPULATE_READ); err != unix.EFAULT {
		t.Errorf("populate beyond the end: %v", err)
	}
	if err := s.Madvise(nil, a, 8*pg, unix.MADV_POPULATE_READ); err != unix.ENOMEM {
		t.Errorf("populate a hole: %v", err)
	}
	if err := s.Madvise(nil, f, 8*pg, unix.MADV_WILLNEED); err != nil || o.Pages() < 8 {
		t.Errorf("willneed: %v, %d pages", err, o.Pages())
	}
	s.DecUsers()
	o.DecRef()
	r.close()
}

func TestForkHonoursAdvice(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	a := r.mmap(s, MapArgs{Addr: 0x10000000, Len: 4 * pg, Prot: rw, Flags: anon | fixed})
	sh := r.mmap(s, MapArgs{Len: pg, Prot: rw, Flags: unix.MAP_SHARED | unix.MAP_ANONYMOUS})
	for i := range hal.UserAddr(4) {
		r.put(s, a+i*pg, 9)
	}
	s.Madvise(nil, a, pg, unix.MADV_DONTFORK)
	s.Madvise(nil, a+pg, pg, unix.MADV_WIPEONFORK)
	c, err := s.Fork()
	if err != nil {
		t.Fatal(err)
	}
	r.wantFault(c, a, hal.ProtRead, unix.SIGSEGV, segvMapErr)
	r.want(c, a+pg, 0)
	r.want(c, a+2*pg, 9)
	r.put(c, sh, 5)
	r.want(s, sh, 5)
	k1, _ := s.FutexKey(nil, sh+4, true)
	k2, _ := c.FutexKey(nil, sh+4, true)
	p1, _ := s.FutexKey(nil, a+pg, true)
	p2, _ := c.FutexKey(nil, a+pg, true)
	if k1 != k2 || p1 == p2 {
		t.Errorf("futex keys: shared %v %v, private %v %v", k1, k2, p1, p2)
	}
	if _, err := s.FutexKey(nil, 0x5000, true); err != unix.EFAULT {
		t.Errorf("futex key of nothing: %v", err)
	}
	// The file's offset, not the address, names a shared word.
	d, _ := s.Mremap(nil, sh, 0, pg, mremapMayMove, 0)
	if k3, _ := s.FutexKey(nil, d+4, true); k3 != k1 {
		t.Errorf("duplicate mapping has another key: %v, %v", k3, k1)
	}
	s.DecUsers()
	c.DecUsers()
	r.close()
}

func TestAtomicsFaultPagesIn(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	a := r.mmap(s, MapArgs{Len: 2 * pg, Prot: rw, Flags: anon})
	if v, err := s.Load32(nil, a); v != 0 || err != nil {
		t.Errorf("load: %d, %v", v, err)
	}
	if v, err := s.CAS32(nil, a+pg, 0, 5); v != 0 || err != nil {
		t.Errorf("cas: %d, %v", v, err)
	}
	if v, err := s.CAS32(nil, a+pg, 0, 6); v != 5 || err != nil {
		t.Errorf("failed cas: %d, %v", v, err)
	}
	if v, err := s.Xchg32(nil, a+pg, 7); v != 5 || err != nil {
		t.Errorf("xchg: %d, %v", v, err)
	}
	for _, bad := range []hal.UserAddr{a + 1, a + 2, a + 3} {
		if _, err := s.Load32(nil, bad); err != unix.EINVAL {
			t.Errorf("unaligned: %v", err)
		}
	}
	s.DecUsers()
	r.close()
}

// An allocator's map, use, unmap in turn, next to memory of the same kind, changes a
// neighbour's end and makes nothing.
func TestMappingBelowALikeNeighbourAllocatesNothing(t *testing.T) {
	r := newRig(t, 256)
	s, err := NewSpace(r.mem)
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Mmap(nil, MapArgs{Len: 4 * pg, Prot: rw, Flags: anon})
	if err != nil {
		t.Fatal(err)
	}
	used := r.mem.Budget().Used()
	var wrong int
	n := testing.AllocsPerRun(100, func() {
		a, err := s.Mmap(nil, MapArgs{Len: 2 * pg, Prot: rw, Flags: anon})
		if err != nil || a != first-2*pg || s.total != 6 || s.vmas.n != 1 {
			wrong++
		}
		if s.Munmap(a, 2*pg) != nil || s.total != 4 || s.rss.Load() != 0 {
			wrong++
		}
	})
	if n != 0 || wrong != 0 || r.mem.Budget().Used() != used {
		t.Errorf("%v allocations, %d wrong results", n, wrong)
	}
	// Its pages come and go with it.
	b, err := s.Mmap(nil, MapArgs{Len: 2 * pg, Prot: rw, Flags: anon})
	if err != nil || s.HandleFault(nil, b+pg, hal.ProtWrite) != nil || s.rss.Load() != 1 || s.Munmap(b, 2*pg) != nil || s.rss.Load() != 0 {
		t.Error("a page stayed")
	}
	// The upper end, and above it again.
	if s.Munmap(first+3*pg, pg) != nil || s.total != 3 {
		t.Error("the upper end was not taken away")
	}
	a, err := s.Mmap(nil, MapArgs{Addr: first + 3*pg, Len: pg, Prot: rw, Flags: anon})
	if err != nil || a != first+3*pg || s.vmas.n != 1 || s.total != 4 {
		t.Errorf("above a neighbour: %#x, %v, %d mappings", a, err, s.vmas.n)
	}
	s.DecUsers()
	r.close()
}

// counted is a file that counts who keeps it.
type counted int

func (c *counted) IncRef() { *c++ }
func (c *counted) DecRef() { *c-- }

// TestMappingsOfAFileAreCharged: what each costs the kernel, with the file that it keeps, is
// charged once and given back with its last piece.
func TestMappingsOfAFileAreCharged(t *testing.T) {
	r := newRig(t, 64)
	s := r.space()
	o, b, f := NewObject(r.mem, nil, 8*pg), r.mem.Budget(), new(counted)
	was := b.Used()
	m := MapArgs{Addr: 0x20000000, Len: 2 * pg, Prot: rw, Flags: priv | fixed, Object: o, File: f, Ino: 3}
	r.mmap(s, m)
	if n := b.Used() - was; n != vmaCost+backingCost || *f != 1 {
		t.Errorf("%d bytes charged, kept %d times", n, *f)
	}
	s.Munmap(m.Addr, pg)
	c, err := s.Fork()
	if err != nil {
		t.Fatal(err)
	}
	s.Munmap(m.Addr+pg, pg)
	if v := c.Maps(false); len(v) != 1 || v[0].File != Counted(f) || *f != 1 {
		t.Errorf("the child has %+v, kept %d times", v, *f)
	}
	c.DecUsers()
	if n := b.Used() - was; n != 0 || *f != 0 {
		t.Errorf("%d bytes left, kept %d times", n, *f)
	}
	b.SetLimit(was + vmaCost)
	if _, err := s.Mmap(nil, m); err != unix.ENOMEM || *f != 0 {
		t.Errorf("beyond the budget: %v", err)
	}
	b.SetLimit(1 << 30)
	s.DecUsers()
	o.DecRef()
	r.close()
}

// rooted is a context that may lock memory beyond the limit.
type rooted struct{ wait.Context }

func (rooted) MayLock() bool { return true }

func TestLockedStackGrowsForWhoMayLock(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	s.SetLimits(Limits{AS: noLimit, Data: noLimit, Stack: 64 * pg, MemLock: 4 * pg})
	at := r.mmap(s, MapArgs{Addr: 0x10000000, Len: 2 * pg, Prot: rw, Flags: fixed | anon | unix.MAP_GROWSDOWN})
	if err := s.Mlock(wait.Background(), at, 2*pg, false); err != nil {
		t.Fatal(err)
	}
	if err := s.HandleFault(wait.Background(), at-8*pg, rw); err == nil {
		t.Error("a locked stack grows beyond RLIMIT_MEMLOCK")
	}
	if err := s.HandleFault(rooted{wait.Background()}, at-8*pg, rw); err != nil {
		t.Errorf("that of who may lock memory: %v", err)
	}
	s.DecUsers()
	r.close()
}

// A mapping of half of what a program has moves as fast as its few pages do.
func TestVastMappingsMove(t *testing.T) {
	const vast, to = 32 << 40, 0x40_0000_0000
	r := newRig(t, 64)
	s := r.space()
	a := r.mmap(s, MapArgs{Len: vast, Prot: rw, Flags: anon | unix.MAP_NORESERVE})
	places := []hal.UserAddr{0, 5 * pg, 1<<30 - pg, 1 << 30, 7<<40 + 3*pg, vast - pg}
	for i, p := range places {
		r.put(s, a+p, byte(i+1))
	}
	start := time.Now()
	b, err := s.Mremap(nil, a, vast, vast, mremapMayMove|mremapFixed, to)
	if err != nil || b != to {
		t.Fatalf("%#x, %v", b, err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("it took %v", d)
	}
	for i, p := range places {
		r.want(s, b+p, byte(i+1))
	}
	if n := s.Resident(); n != int64(len(places)) {
		t.Errorf("%d pages", n)
	}
	s.DecUsers()
	r.close()
}

// A core file holds what memory has, and what it has not is passed over.
func TestNextDumped(t *testing.T) {
	const vast = 8 << 40
	r := newRig(t, 64)
	s := r.space()
	a := r.mmap(s, MapArgs{Addr: 0x10_0000_0000, Len: vast, Prot: rw, Flags: anon | unix.MAP_NORESERVE})
	shared := r.mmap(s, MapArgs{Addr: a + vast, Len: vast, Prot: rw, Flags: unix.MAP_SHARED | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE})
	o := NewObject(r.mem, nil, 3*pg)
	file := r.mmap(s, MapArgs{Addr: shared + vast, Len: vast, Prot: hal.ProtRead, Flags: priv, Object: o})
	for _, at := range []hal.UserAddr{a, shared} {
		r.put(s, at+2*pg, 1)
		r.put(s, at+5<<40, 1)
	}
	r.get(s, a+3*pg) // the page of zeros
	start := time.Now()
	for _, c := range []struct{ at, end, want hal.UserAddr }{
		{a, shared, a + 2*pg}, {a + 2*pg, shared, a + 2*pg}, {a + 3*pg, shared, a + 5<<40}, {a + 5<<40 + pg, shared, shared},
		{a + 3*pg, a + 9*pg, a + 9*pg},
		{shared, file, shared + 2*pg}, {shared + 3*pg, file, shared + 5<<40}, {shared + 5<<40 + pg, file, file}, {shared, shared + pg, shared + pg},
		{file, file + vast, file}, {file + 2*pg, file + vast, file + 2*pg}, {file + 3*pg, file + vast, file + vast},
		{file + vast, file + vast + pg, file + vast + pg},
	} {
		if got := s.NextDumped(c.at, c.end); got != c.want {
			t.Errorf("from %#x: %#x, want %#x", c.at, got, c.want)
		}
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("it took %v", d)
	}
	s.DecUsers()
	o.DecRef()
	r.close()
}

// killed is a thread that somebody ends once it has let others run n times.
type killed struct {
	wait.Context
	n int
}

func (k *killed) Block(int64, wait.Kind) wait.Result {
	if k.n--; k.n < 0 {
		return wait.Kill
	}
	return wait.Timeout
}

// The answer for a vast mapping can be as long as a small file mapped again and again.
func TestMincoreOfVastMappingsEnds(t *testing.T) {
	r := newRig(t, 64)
	s := r.space()
	a := r.mmap(s, MapArgs{Len: 8 << 40, Prot: rw, Flags: anon | unix.MAP_NORESERVE})
	r.put(s, a+100*pg, 1)
	pages, there := 0, 0
	err := s.Mincore(&killed{n: 3}, a, 8<<40, func(vec []byte) error {
		for _, b := range vec {
			there += int(b)
		}
		pages += len(vec)
		return nil
	})
	if err != unix.EINTR || pages != 4<<16 || there != 1 {
		t.Errorf("%v after %d pages, %d of them there", err, pages, there)
	}
	s.DecUsers()
	r.close()
}
