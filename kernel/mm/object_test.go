package mm

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/wait"
)

func TestRadixAgreesWithMap(t *testing.T) {
	b := &Budget{}
	b.SetLimit(1 << 40)
	r := radix{budget: b}
	m := map[int64]slot{}
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func() int64 {
		switch rng.IntN(3) {
		case 0:
			return rng.Int64N(64)
		case 1:
			return rng.Int64N(1 << 16)
		}
		return rng.Int64N(maxFilePages)
	}
	var known []int64
	for range 20000 {
		idx := pick()
		if len(known) > 0 && rng.IntN(2) == 0 {
			idx = known[rng.IntN(len(known))]
		}
		switch rng.IntN(3) {
		case 0:
			v := makeSlot(hal.PFN(rng.IntN(1000)), 0)
			if !r.set(idx, v) {
				t.Fatal("budget")
			}
			m[idx] = v
			known = append(known, idx)
		case 1:
			if got := r.clear(idx); got != m[idx] {
				t.Fatalf("clear %d: %d, want %d", idx, got, m[idx])
			}
			delete(m, idx)
		case 2:
			if got := r.state(idx); got != m[idx] {
				t.Fatalf("state %d: %d, want %d", idx, got, m[idx])
			}
		}
	}
	n := 0
	for i := r.next(0); i >= 0; i = r.next(i + 1) {
		if m[i] == 0 {
			t.Fatalf("walk finds %d", i)
		}
		n++
	}
	if n != len(m) {
		t.Errorf("walk finds %d of %d", n, len(m))
	}
	for i := range m {
		r.clear(i)
	}
	if b.Used() != 0 || !r.root.empty() {
		t.Errorf("%d bytes charged for nothing", b.Used())
	}
}

func TestGapSearchAgreesWithScan(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var tr vmaTree
		var all []*vma
		at := uint64(0)
		for range rng.IntN(20) {
			at += uint64(1+rng.IntN(600)) * pg
			v := &vma{start: at, end: at + uint64(1+rng.IntN(5))*pg}
			if rng.IntN(6) == 0 {
				v.flags = vmGrowsDown
			}
			at = v.end
			all = append(all, v)
		}
		for _, i := range rng.Perm(len(all)) {
			tr.insert(all[i])
		}
		for i := len(all) - 1; i >= 0; i-- {
			if rng.IntN(4) == 0 {
				tr.remove(all[i])
				all = append(all[:i], all[i+1:]...)
			}
		}
		for range 20 {
			n := uint64(1+rng.IntN(400)) * pg
			low := uint64(rng.IntN(3000)) * pg
			high := low + uint64(rng.IntN(6000))*pg
			free := func(a uint64) bool {
				for _, v := range all {
					if v.end > a { // the guard of the next mapping counts, no other's
						if a+n > v.lowEdge() {
							return false
						}
						break
					}
				}
				return a >= low && a+n <= high
			}
			var lo, hi uint64
			ok := false
			for a := low; a+n <= high; a += pg {
				if free(a) {
					if !ok {
						lo = a
					}
					hi, ok = a, true
				}
			}
			if g, k := tr.highest(n, low, high); k != ok || ok && g != hi {
				t.Fatalf("highest: %#x %v, want %#x %v", g, k, hi, ok)
			}
			if g, k := tr.lowest(n, low, high); k != ok || ok && g != lo {
				t.Fatalf("lowest: %#x %v, want %#x %v", g, k, lo, ok)
			}
		}
	}
}

func TestSequentialReadsAreReadAhead(t *testing.T) {
	r := newRig(t, 2048)
	d := newDisk(r.m, 512)
	o := NewObject(r.mem, d, 512*pg)
	buf := make([]byte, pg)
	for i := range int64(512) {
		q := KernelIO(buf)
		if n, err := o.ReadAt(nil, &q, i*pg); n != pg || err != nil || buf[0] != byte(i+1) {
			t.Fatalf("page %d: %d, %v, %d", i, n, err, buf[0])
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for o.refs.Load() != 1 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // a read-ahead in the background
	}
	if n := d.count(); n > 32 {
		t.Errorf("%d reads for 512 pages", n)
	}
	total := int64(0)
	for _, x := range d.reads {
		total += x[1]
	}
	if total != 512 {
		t.Errorf("%d pages read", total)
	}
	o.DecRef()
	r.close()
}

func TestRandomReadsDoNotReadMuchMore(t *testing.T) {
	r := newRig(t, 2048)
	d := newDisk(r.m, 1024)
	o := NewObject(r.mem, d, 1024*pg)
	for i := range int64(30) {
		r.wantRead(o, (i*389%1024)*pg, byte(i*389%1024+1))
	}
	total := int64(0)
	for _, x := range d.reads {
		total += x[1]
	}
	if total > 30*minReadAhead {
		t.Errorf("%d pages read for 30", total)
	}
	o.DecRef()
	r.close()
}

func TestOneReadServesAllWhoWait(t *testing.T) {
	r := newRig(t, 512)
	d := newDisk(r.m, 64)
	d.gate = make(chan struct{})
	o := NewObject(r.mem, d, 64*pg)
	s := r.space()
	a := r.mmap(s, MapArgs{Len: 64 * pg, Prot: hal.ProtRead, Flags: priv, Object: o})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if i%2 == 0 {
				r.want(s, a+5*pg, 6)
			} else {
				r.wantRead(o, 5*pg, 6)
			}
		}()
	}
	time.Sleep(20 * time.Millisecond)
	// The space's lock is free while they wait for the disk.
	b := r.mmap(s, MapArgs{Len: pg, Prot: rw, Flags: anon})
	r.put(s, b, 1)
	close(d.gate)
	wg.Wait()
	if n := d.count(); n > 2 {
		t.Errorf("%d reads", n)
	}
	s.DecUsers()
	o.DecRef()
	r.close()
}

func TestReadErrors(t *testing.T) {
	r := newRig(t, 512)
	d := newDisk(r.m, 64)
	d.fail = unix.EIO
	o := NewObject(r.mem, d, 64*pg)
	s := r.space()
	a := r.mmap(s, MapArgs{Len: 64 * pg, Prot: hal.ProtRead, Flags: priv, Object: o})
	q := KernelIO(make([]byte, 10))
	if n, err := o.ReadAt(nil, &q, 0); n != 0 || err != unix.EIO {
		t.Errorf("read: %d, %v", n, err)
	}
	r.wantFault(s, a, hal.ProtRead, unix.SIGBUS, busAdrErr)
	d.mu.Lock()
	d.fail = nil
	d.mu.Unlock()
	r.want(s, a, 1) // it is not for ever
	if n, _ := o.ReadAt(nil, &q, 64*pg); n != 0 {
		t.Errorf("%d bytes beyond the end", n)
	}
	if _, err := o.ReadAt(nil, &q, -1); err != unix.EINVAL {
		t.Errorf("negative offset: %v", err)
	}
	s.DecUsers()
	o.DecRef()
	r.close()
}

func TestWriteBackFindsWhatMappingsWrote(t *testing.T) {
	r := newRig(t, 512)
	d := newDisk(r.m, 16)
	o := NewObject(r.mem, d, 16*pg)
	s := r.space()
	a := r.mmap(s, MapArgs{Len: 16 * pg, Prot: rw, Flags: unix.MAP_SHARED, Object: o})
	p := r.mmap(s, MapArgs{Len: 16 * pg, Prot: rw, Flags: priv, Object: o})
	r.want(s, a+3*pg, 4)
	r.put(s, a+3*pg, 77)
	r.put(s, p+4*pg, 78)
	r.write(o, 5*pg, 79)
	r.put(s, a+6*pg, 80)
	s.Munmap(a+6*pg, pg) // the dirty bit goes with the page
	if err := s.Msync(nil, a, 6*pg, unix.MS_SYNC); err != nil {
		t.Fatal(err)
	}
	if d.data[3*pg] != 77 || d.data[4*pg] != 5 || d.data[5*pg] != 79 || d.data[6*pg] != 7 {
		t.Errorf("disk has %d %d %d %d", d.data[3*pg], d.data[4*pg], d.data[5*pg], d.data[6*pg])
	}
	if n := r.mem.Reclaim(1000); n == 0 {
		t.Error("nothing to reclaim")
	}
	if err := o.SyncAll(nil); err != nil || d.data[6*pg] != 80 {
		t.Errorf("%v, disk has %d", err, d.data[6*pg])
	}
	r.mem.Reclaim(1000)
	r.want(s, a+3*pg, 77)
	r.want(s, p+4*pg, 78)
	d.ro = true
	r.put(s, a+3*pg, 1)
	if err := o.SyncAll(nil); err != unix.EROFS {
		t.Errorf("read-only disk: %v", err)
	}
	s.DecUsers()
	o.DecRef()
	r.close()
}

func TestReclaimSparesWhatIsUsedAndTakesTheRest(t *testing.T) {
	r := newRig(t, 1024)
	d := newDisk(r.m, 128)
	o := NewObject(r.mem, d, 128*pg)
	s := r.space()
	a := r.mmap(s, MapArgs{Len: 64 * pg, Prot: hal.ProtRead, Flags: priv, Object: o})
	refs := o.refs.Load()
	for i := range hal.UserAddr(64) {
		r.want(s, a+i*pg, byte(i+1))
	}
	r.settle(o, refs)
	o.DropClean(64*pg, 64*pg)
	r.mem.Reclaim(64)
	for i := range hal.UserAddr(8) {
		r.want(s, a+i*pg, byte(i+1))
	}
	r.settle(o, refs)
	r.mem.Reclaim(8)
	left := 0
	for i := range int64(8) {
		if o.pages.state(i) != 0 {
			left++
		}
	}
	if left < 8 {
		t.Errorf("%d of the 8 pages in use were taken", 8-left)
	}
	// Locked pages stay.
	s.SetLimits(Limits{AS: noLimit, Data: noLimit, Stack: noLimit, MemLock: noLimit})
	if err := s.Mlock(nil, a, 4*pg, false); err != nil {
		t.Fatal(err)
	}
	r.settle(o, refs+1) // the mapping is two now
	r.mem.Reclaim(1000)
	r.mem.Reclaim(1000)
	if n := o.Pages(); n != 4 {
		t.Errorf("%d pages left, want the 4 locked", n)
	}
	s.DecUsers()
	o.DecRef()
	r.close()
}

// The kernel's own heap eats into the reserve while no program allocates: the hook is
// told, once in a while, until there is room again; above half of the reserve it is not.
func TestKernelEatingTheReserveTellsTheHook(t *testing.T) {
	r := newRig(t, 256)
	r.m.SetWatermarks(64, 32)
	told := make(chan *Space, 100)
	r.mem.OnOOM(func(s *Space) { told <- s })
	var taken []hal.PFN
	take := func(free int) {
		for r.m.FreePages() > free {
			f, err := r.m.AllocFrames(0, hal.AllocReserve)
			if err != nil {
				t.Fatal(err)
			}
			taken = append(taken, f)
		}
	}
	take(20)
	time.Sleep(3 * heapWait)
	if len(told) != 0 {
		t.Error("told above half of the reserve")
	}
	take(10)
	r.mem.reclaim.wake() // metal calls at half of the reserve, the fake only once
	for range 2 {
		select {
		case s := <-told:
			if s != nil {
				t.Error("a program is blamed")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the hook is never told")
		}
	}
	for _, f := range taken {
		r.m.FreeFrames(f, 0)
	}
	for i := 0; r.mem.reclaim.running.Load() || r.mem.tight(); i++ {
		if i == 1000 {
			t.Fatal("reclaim never ends")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := len(told); n > 1 {
		t.Errorf("told %d times more in no time", n)
	}
	r.close()
}

// hungry is a context that waits for memory.
type hungry struct {
	wait.Context
	wait func() bool
	dies bool
}

func (h hungry) OutOfMemory() bool { return !h.dies && h.wait() }
func (h hungry) Dying() bool       { return h.dies }

// A working set larger than memory works, slowly; anonymous memory squeezes the cache
// out; when nothing is left a fault is ENOMEM, the hook is told, and nothing leaks.
func TestMemoryRunsOut(t *testing.T) {
	r := newRig(t, 256)
	d := newDisk(r.m, 600)
	o := NewObject(r.mem, d, 600*pg)
	s := r.space()
	told := 0
	r.mem.OnOOM(func(sp *Space) {
		if sp == s {
			told++
		}
	})
	f := r.mmap(s, MapArgs{Len: 600 * pg, Prot: hal.ProtRead, Flags: priv, Object: o})
	refs := o.refs.Load()
	for range 2 {
		for i := range hal.UserAddr(600) {
			r.want(s, f+i*pg, byte(i+1))
		}
	}
	a := r.mmap(s, MapArgs{Len: 200 * pg, Prot: rw, Flags: anon | unix.MAP_NORESERVE})
	for i := range hal.UserAddr(200) {
		r.put(s, a+i*pg, 1)
	}
	r.want(s, f+599*pg, byte(600%256))
	r.settle(o, refs) // what it holds would be free again after the ENOMEM
	b := r.mmap(s, MapArgs{Len: 200 * pg, Prot: rw, Flags: anon | unix.MAP_NORESERVE})
	var err error
	for i := hal.UserAddr(0); err == nil && i < 200; i++ {
		err = s.HandleFault(nil, b+i*pg, hal.ProtWrite)
	}
	if err != unix.ENOMEM || told != 1 {
		t.Errorf("out of memory: %v, told %d times", err, told)
	}
	if _, err := r.mem.Alloc(KindShmem); err != unix.ENOMEM {
		t.Errorf("Alloc: %v", err)
	}
	if c, err := s.Fork(); err == nil {
		c.DecUsers()
	}
	q := UserIO(s, nil, b+150*pg, 10)
	if _, err := q.CopyOut([]byte("x")); err != unix.ENOMEM {
		t.Errorf("copy: %v", err)
	}
	// For the victim itself no memory is looked for, and nobody else is chosen: of mlockall's
	// many mappings each would have cost a scan of the whole cache.
	victim := hungry{Context: wait.Background(), dies: true}
	scanned, before := r.mem.reclaim.Scanned.Load(), told
	if err := s.HandleFault(victim, b+150*pg, hal.ProtWrite); err != unix.ENOMEM {
		t.Errorf("a victim's fault: %v", err)
	}
	s.SetLimits(Limits{AS: noLimit, Data: noLimit, Stack: noLimit, MemLock: noLimit})
	if err := s.MlockAll(victim, true, false, false); err != unix.EINTR {
		t.Errorf("a victim's mlockall: %v", err)
	}
	s.MunlockAll()
	if n := r.mem.reclaim.Scanned.Load() - scanned; n != 0 || told != before {
		t.Errorf("for a victim %d pages were looked at, and told %d times", n, told-before)
	}
	// One who can wait for a victim does, and then has its page.
	waited := 0
	c := hungry{Context: wait.Background(), wait: func() bool {
		if waited++; waited == 3 {
			if err := s.Munmap(a, 200*pg); err != nil {
				t.Error(err)
			}
		}
		return true
	}}
	if n, err := s.CopyOut(c, b+150*pg, []byte("x")); n != 1 || err != nil || waited != 3 {
		t.Errorf("copy that waits: %d, %v, %d times", n, err, waited)
	}
	r.put(s, b+150*pg, 1)
	s.DecUsers()
	o.DecRef()
	r.close()
}

// Page tables that cannot be had are ENOMEM too, and lose no page.
func TestPageTablesRunOut(t *testing.T) {
	r := newRig(t, 512)
	s := r.space()
	a := r.mmap(s, MapArgs{Addr: 0x10000000, Len: 300 * pg, Prot: rw, Flags: fixed | anon})
	for i := range hal.UserAddr(300) {
		r.put(s, a+i*pg, byte(i))
	}
	fail := false
	r.m.MapHook = func(b []hal.Mapping) error {
		if fail && b[0].Addr >= 0x20000000 {
			return hal.ErrNoMemory
		}
		return nil
	}
	fail = true
	if _, err := s.Mremap(nil, a, 300*pg, 300*pg, mremapMayMove|mremapFixed, 0x30000000); err != unix.ENOMEM {
		t.Errorf("mremap: %v", err)
	}
	for i := range hal.UserAddr(300) {
		r.want(s, a+i*pg, byte(i))
	}
	o := NewObject(r.mem, newImage(r, 8), 8*pg)
	f := r.mmap(s, MapArgs{Addr: 0x40000000, Len: 8 * pg, Prot: rw, Flags: fixed | priv, Object: o})
	for _, access := range []hal.Prot{hal.ProtRead, hal.ProtWrite} {
		if err := s.HandleFault(nil, f, access); err != unix.ENOMEM {
			t.Errorf("fault: %v", err)
		}
	}
	fail = false
	r.want(s, f, 1)
	s.DecUsers()
	o.DecRef()
	r.close()
}

func TestQuotaIsENOSPCAndSIGBUS(t *testing.T) {
	r := newRig(t, 256)
	o := NewObject(r.mem, nil, 10*pg)
	left := int64(3)
	o.SetCharge(func(n int64) bool {
		if n > left {
			return false
		}
		left -= n
		return true
	})
	s := r.space()
	a := r.mmap(s, MapArgs{Len: 10 * pg, Prot: rw, Flags: unix.MAP_SHARED, Object: o})
	r.put(s, a, 1)
	r.write(o, pg, 1)
	q := KernelIO(make([]byte, 3*pg))
	if n, err := o.WriteAt(nil, &q, 4*pg); n != pg || err != nil {
		t.Errorf("write over the quota: %d, %v", n, err)
	}
	if n, err := o.WriteAt(nil, &q, 8*pg); n != 0 || err != unix.ENOSPC {
		t.Errorf("write at the quota: %d, %v", n, err)
	}
	r.wantFault(s, a+9*pg, hal.ProtWrite, unix.SIGBUS, busAdrErr)
	if err := o.PunchHole(0, 2*pg); err != nil || left != 2 {
		t.Errorf("punch: %v, %d left", err, left)
	}
	r.want(s, a, 0)
	s.DecUsers()
	o.DecRef()
	if left != 3 {
		t.Errorf("%d left", left)
	}
	r.close()
}

func TestHolesAndData(t *testing.T) {
	r := newRig(t, 256)
	o := NewObject(r.mem, nil, 0)
	r.write(o, 2*pg+5, 1, 2, 3)
	if n := o.Pages(); n != 1 {
		t.Errorf("%d pages", n)
	}
	for _, c := range []struct {
		off  int64
		hole bool
		want int64
	}{{0, false, 2 * pg}, {0, true, 0}, {2*pg + 3, false, 2*pg + 3}, {2 * pg, true, 2*pg + 8}, {2*pg + 8, false, -1}} {
		if g := o.NextData(c.off, c.hole); g != c.want {
			t.Errorf("NextData(%d, %v) = %d, want %d", c.off, c.hole, g, c.want)
		}
	}
	if err := o.Truncate(100 * pg); err != nil {
		t.Fatal(err)
	}
	if g := o.NextData(50*pg, false); g != -1 {
		t.Errorf("data at %d in a hole", g)
	}
	if err := o.PunchHole(2*pg+6, 1); err != nil {
		t.Fatal(err)
	}
	r.wantRead(o, 2*pg+5, 1, 0, 3)
	off, n, err := o.Append(nil, ptr(KernelIO([]byte("end"))))
	if off != 100*pg || n != 3 || err != nil || o.Size() != 100*pg+3 {
		t.Errorf("append at %d: %d, %v", off, n, err)
	}
	if err := o.PunchHole(5, -1); err != unix.EINVAL {
		t.Errorf("bad hole: %v", err)
	}
	if err := o.Truncate(-1); err != unix.EINVAL {
		t.Errorf("bad size: %v", err)
	}
	if err := o.Truncate(1<<63 - 1); err != unix.EFBIG && err != nil {
		t.Errorf("largest size: %v", err)
	}
	o.DecRef()
	r.close()
}

func ptr[T any](v T) *T { return &v }

// dyingContext is that of a thread that is to end itself.
type dyingContext struct{ wait.Context }

func (dyingContext) OutOfMemory() bool { return false }
func (dyingContext) Dying() bool       { return true }

// Who is to end does not write to the end first: gigabytes may be left, and others wait for the
// file.
func TestAWriteEndsWithItsThread(t *testing.T) {
	o := NewObject(NewMemory(fake.New(64)), nil, 0)
	q := KernelIO(make([]byte, 5*hal.PageSize))
	if n, err := o.WriteAt(dyingContext{wait.Background()}, &q, 100); n != hal.PageSize-100 || err != nil {
		t.Errorf("%d bytes are written, %v", n, err)
	}
	if o.Size() != hal.PageSize {
		t.Errorf("the file has %d bytes", o.Size())
	}
	o.DecRef()
}
