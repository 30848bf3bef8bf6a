package mm

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

func TestAnonymousMemoryIsZeroAndPrivate(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	a := r.mmap(s, MapArgs{Len: 8 * pg, Prot: rw, Flags: anon})
	r.want(s, a+5, 0)
	r.put(s, a+5, 7)
	r.want(s, a+5, 7)
	if n := s.Resident(); n != 1 {
		t.Errorf("%d pages resident, want 1: the page that was only read is the zero page", n)
	}
	child, err := s.Fork()
	if err != nil {
		t.Fatal(err)
	}
	r.put(child, a+5, 9)
	r.want(s, a+5, 7)
	r.put(s, a+6, 1)
	r.want(child, a+5, 9)
	r.want(child, a+6, 0)
	s.DecUsers()
	child.DecUsers()
	r.close()
}

func TestLastOwnerWritesInPlace(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	a := r.mmap(s, MapArgs{Len: pg, Prot: rw, Flags: anon})
	r.put(s, a, 1)
	before, _ := s.HW.Query(a)
	child, _ := s.Fork()
	child.DecUsers()
	r.put(s, a, 2)
	if after, _ := s.HW.Query(a); after.Frame != before.Frame {
		t.Errorf("a page that nobody shares any more was copied")
	}
	s.DecUsers()
	r.close()
}

func TestAccessesThatAreNotAllowedAreSignals(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	o := NewObject(r.mem, nil, pg+1)
	a := r.mmap(s, MapArgs{Len: 4 * pg, Prot: hal.ProtRead, Flags: unix.MAP_SHARED, Object: o})
	r.wantFault(s, 0, hal.ProtRead, unix.SIGSEGV, segvMapErr)
	r.wantFault(s, hal.UserTop, hal.ProtRead, unix.SIGSEGV, segvMapErr)
	r.wantFault(s, 1<<63, hal.ProtWrite, unix.SIGSEGV, segvMapErr)
	r.wantFault(s, a+3, hal.ProtWrite, unix.SIGSEGV, segvAccErr)
	r.wantFault(s, a+3, hal.ProtExec, unix.SIGSEGV, segvAccErr)
	if err := touch(s, a+pg+3000, hal.ProtRead); err != nil {
		t.Errorf("the last page beyond the last byte: %v", err)
	}
	r.wantFault(s, a+2*pg, hal.ProtRead, unix.SIGBUS, busAdrErr)
	b := r.mmap(s, MapArgs{Len: pg, Flags: anon})
	r.wantFault(s, b, hal.ProtRead, unix.SIGSEGV, segvAccErr)
	// The same addresses given to a system call are EFAULT.
	for _, bad := range []hal.UserAddr{0, b, a + 2*pg, hal.UserTop - 1, 1 << 63, ^hal.UserAddr(0)} {
		if _, err := s.CopyIn(nil, make([]byte, 4), bad); err != unix.EFAULT {
			t.Errorf("copy from %#x: %v", bad, err)
		}
		q := UserIO(s, nil, bad, 10)
		if n, err := q.CopyOut([]byte("x")); n != 0 || err != unix.EFAULT {
			t.Errorf("copy to %#x: %d, %v", bad, n, err)
		}
		if _, err := s.Load32(nil, bad&^3); err != unix.EFAULT {
			t.Errorf("load from %#x: %v", bad, err)
		}
	}
	s.DecUsers()
	o.DecRef()
	r.close()
}

func TestTruncateTakesMappedPagesAway(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	o := NewObject(r.mem, nil, 4*pg)
	sh := r.mmap(s, MapArgs{Len: 4 * pg, Prot: rw, Flags: unix.MAP_SHARED, Object: o})
	pr := r.mmap(s, MapArgs{Len: 4 * pg, Prot: rw, Flags: priv, Object: o})
	for i := range hal.UserAddr(4) {
		r.put(s, sh+i*pg, 1, 2, 3, 4)
		r.put(s, pr+i*pg+100, 9)
	}
	if err := o.Truncate(pg + 2); err != nil {
		t.Fatal(err)
	}
	r.want(s, sh+pg+1, 2)
	r.want(s, sh+pg+2, 0) // the tail of the last page is cleared
	r.want(s, pr+pg+100, 9)
	r.wantFault(s, sh+2*pg, hal.ProtRead, unix.SIGBUS, busAdrErr)
	r.wantFault(s, pr+2*pg+100, hal.ProtRead, unix.SIGBUS, busAdrErr) // private copies go too
	if err := o.Truncate(4 * pg); err != nil {
		t.Fatal(err)
	}
	r.want(s, sh+2*pg, 0)
	r.want(s, pr+2*pg+100, 0)
	if n := o.Pages(); n != 3 {
		t.Errorf("%d pages, want 3", n)
	}
	s.DecUsers()
	o.DecRef()
	r.close()
}

func TestGrowingFileDoesNotShowWhatMappingsWroteBeyondItsEnd(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	o := NewObject(r.mem, nil, 10)
	a := r.mmap(s, MapArgs{Len: pg, Prot: rw, Flags: unix.MAP_SHARED, Object: o})
	r.put(s, a+50, 1)
	r.write(o, 100, 5)
	r.wantRead(o, 49, 0, 0, 0)
	r.put(s, a+200, 1)
	if err := o.Truncate(300); err != nil {
		t.Fatal(err)
	}
	r.wantRead(o, 200, 0)
	s.DecUsers()
	o.DecRef()
	r.close()
}

func TestFaultAroundMapsCachedNeighboursInOneBatch(t *testing.T) {
	for _, c := range []struct {
		name  string
		image bool
		// What touching page 70, then page 10 beside a present page 8, then page 95 of a
		// file of 100 pages maps.
		first, second, third [2]int
	}{
		{"cache", false, [2]int{64, 80}, [2]int{0, 16}, [2]int{80, 96}},
		{"image", true, [2]int{64, 100}, [2]int{0, 64}, [2]int{64, 100}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 1024)
			s := r.space()
			o := NewObject(r.mem, newImage(r, 160), 100*pg)
			if !c.image {
				o.DecRef()
				o = NewObject(r.mem, nil, 0)
				for i := range 100 {
					r.write(o, int64(i)*pg, 1)
				}
			}
			a := r.mmap(s, MapArgs{Addr: 0x10000000, Len: 128 * pg, Prot: rw, Flags: fixed | priv, Object: o})
			at := func(i int) hal.UserAddr { return a + hal.UserAddr(i*pg) }
			want := map[int]bool{}
			touched := func(i int, p hal.Prot, run [2]int) {
				t.Helper()
				if err := touch(s, at(i), p); err != nil {
					t.Fatal(err)
				}
				for i := run[0]; i < run[1]; i++ {
					want[i] = true
				}
				mask := uint64(0)
				for i := range 128 {
					if _, ok := s.HW.Query(at(i)); ok != want[i] {
						t.Errorf("page %d present: %v", i, ok)
					}
					if i < 64 && want[i] {
						mask |= 1 << i
					}
				}
				if got := s.HW.Present(a, 64); got != mask {
					t.Errorf("Present says %#x, want %#x", got, mask)
				}
				if n := s.Resident(); n != int64(len(want)) {
					t.Errorf("%d pages, want %d", n, len(want))
				}
			}
			touched(70, hal.ProtRead, c.first)
			touched(8, rw, [2]int{8, 9})
			own, _ := s.HW.Query(at(8))
			touched(10, hal.ProtRead, c.second)
			if now, _ := s.HW.Query(at(8)); now != own {
				t.Error("a private copy was replaced")
			}
			touched(95, hal.ProtRead, c.third)
			s.DecUsers()
			o.DecRef()
			r.close()
		})
	}
}

// However the present pages lie, the page that faulted is mapped.
func TestFaultAroundFindsRoomForThePageThatIsWanted(t *testing.T) {
	r := newRig(t, 1024)
	o := NewObject(r.mem, newImage(r, 64), 64*pg)
	for _, want := range []int{1, 31, 33, 63} {
		s := r.space()
		a := r.mmap(s, MapArgs{Addr: 0x10000000, Len: 64 * pg, Prot: rw, Flags: fixed | priv, Object: o})
		for i := 0; i < 64; i += 2 {
			if err := touch(s, a+hal.UserAddr(i*pg), rw); err != nil {
				t.Fatal(err)
			}
		}
		at := a + hal.UserAddr(want*pg)
		if err := touch(s, at, hal.ProtRead); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.HW.Query(at); !ok {
			t.Errorf("page %d is still absent", want)
		}
		s.DecUsers()
	}
	o.DecRef()
	r.close()
}

func TestSequentialTouchesAreBackedInBatches(t *testing.T) {
	r := newRig(t, 1024)
	s := r.space()
	a := r.mmap(s, MapArgs{Addr: 0x10000000, Len: 128 * pg, Prot: rw, Flags: fixed | anon})
	faults := 0
	for i := range hal.UserAddr(128) {
		if _, ok := s.HW.Query(a + i*pg); !ok {
			faults++
		}
		r.put(s, a+i*pg, 1)
	}
	if faults > 16 {
		t.Errorf("%d faults for 128 pages in order", faults)
	}
	b := r.mmap(s, MapArgs{Addr: 0x20000000, Len: 128 * pg, Prot: rw, Flags: fixed | anon})
	before := s.Resident()
	for i := range hal.UserAddr(16) {
		r.put(s, b+i*8*pg, 1)
	}
	if n := s.Resident() - before; n != 16 {
		t.Errorf("%d pages for 16 scattered ones", n)
	}
	s.DecUsers()
	r.close()
}

func TestImagePagesAreNeverWritten(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	img := newImage(r, 4)
	o := NewObject(r.mem, img, 4*pg)
	pr := r.mmap(s, MapArgs{Len: 4 * pg, Prot: rw, Flags: priv, Object: o})
	sh := r.mmap(s, MapArgs{Len: 4 * pg, Prot: rw, Flags: unix.MAP_SHARED, Object: o})
	for i := range hal.UserAddr(4) {
		r.want(s, pr+i*pg, byte(i+1))
		if p, _ := s.HW.Query(pr + i*pg); p.Frame != img.first+hal.PFN(i) {
			t.Errorf("page %d is not the image's frame", i)
		}
		r.want(s, sh+i*pg, byte(i+1))
	}
	if err := s.Mprotect(sh, 4*pg, hal.ProtRead); err != nil {
		t.Fatal(err)
	}
	if err := s.Mprotect(sh, 4*pg, rw); err != nil {
		t.Fatal(err)
	}
	r.put(s, pr, 100)
	r.put(s, sh+pg, 101)
	r.write(o, 2*pg, 102)
	r.want(s, pr+pg, 101) // sees the shared write
	r.want(s, pr+2*pg, 102)
	r.want(s, sh, 1)
	for i := range 4 {
		if b := r.m.Frame(img.first + hal.PFN(i))[0]; b != byte(i+1) {
			t.Errorf("image page %d was written: %d", i, b)
		}
	}
	s.DecUsers()
	o.DecRef()
	r.close()
}

func TestStackGrowsDownToItsLimitAndNotIntoItsNeighbour(t *testing.T) {
	r := newRig(t, 2048)
	s := r.space()
	const top = 0x7fff00000000
	stack := MapArgs{Addr: top - 16*pg, Len: 16 * pg, Prot: rw, Flags: fixed | anon | unix.MAP_GROWSDOWN, Name: "[stack]"}
	r.mmap(s, stack)
	s.SetLimits(Limits{AS: noLimit, Data: noLimit, Stack: 1 << 20, MemLock: noLimit})
	r.put(s, top-200000, 1)
	if v, _ := s.Find(top - 1); v.Start != (top-200000)&^hal.PageMask {
		t.Errorf("stack begins at %#x", v.Start)
	}
	r.wantFault(s, top-1<<20-1, hal.ProtWrite, unix.SIGSEGV, segvMapErr)
	r.put(s, top-1<<20, 1)
	// mmap keeps the guard gap free, MAP_FIXED may go in; then the stack stops.
	s2 := r.space()
	r.mmap(s2, stack)
	at := r.mmap(s2, MapArgs{Addr: top - 17*pg, Len: pg, Prot: rw, Flags: anon})
	if at+pg > top-16*pg-stackGuardGap && at < top {
		t.Errorf("mmap gave %#x inside the guard gap", at)
	}
	r.mmap(s2, MapArgs{Addr: top - 300*pg, Len: pg, Prot: rw, Flags: fixed | anon})
	r.put(s2, top-43*pg, 1)
	r.wantFault(s2, top-44*pg, hal.ProtWrite, unix.SIGSEGV, segvMapErr)
	s.DecUsers()
	s2.DecUsers()
	r.close()
}

func TestFaultsThatHitTheCacheDoNotAllocate(t *testing.T) {
	r := newRig(t, 4096)
	s := r.space()
	o := NewObject(r.mem, newImage(r, 16), 16*pg)
	f := r.mmap(s, MapArgs{Len: 16 * pg, Prot: rw, Flags: priv, Object: o})
	a := r.mmap(s, MapArgs{Len: 1024 * pg, Prot: rw, Flags: anon})
	r.put(s, a, 1)
	r.put(s, f, 1)
	buf := make([]byte, 64)
	c := &counter{}
	check := func(what string, n float64) {
		t.Helper()
		if n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
	hw := s.HW
	s.HW = &quiet{AddressSpace: hw} // the fake's own record allocates
	check("CopyIn", testing.AllocsPerRun(100, func() { s.CopyIn(nil, buf, a) }))
	check("CopyOut", testing.AllocsPerRun(100, func() { s.CopyOut(nil, a, buf) }))
	check("IOSeq", testing.AllocsPerRun(100, func() {
		q := UserIO(s, nil, a, len(buf))
		q.CopyOut(buf)
	}))
	check("ReadAt", testing.AllocsPerRun(100, func() {
		q := UserIO(s, nil, a, len(buf))
		o.ReadAt(nil, &q, 100)
	}))
	check("file fault", testing.AllocsPerRun(100, func() { s.HandleFault(nil, f+pg, hal.ProtRead) }))
	check("copy-on-write fault", testing.AllocsPerRun(100, func() {
		s.HandleFault(nil, f+2*pg, hal.ProtWrite)
		if p, ok := hw.Query(f + 2*pg); ok {
			s.dropPTE(p)
		}
	}))
	next := a + pg
	check("anonymous fault", testing.AllocsPerRun(100, func() {
		s.HandleFault(nil, next, hal.ProtWrite)
		next += 2 * pg
	}))
	check("FutexKey", testing.AllocsPerRun(100, func() {
		k, _ := s.FutexKey(nil, a, true)
		c.n += k.Offset
	}))
	s.HW = hw
}

type counter struct{ n uint64 }

// quiet maps nothing and answers Query from memory: what is left are mm's allocations.
type quiet struct {
	hal.AddressSpace
	frame hal.PFN
}

func (q *quiet) Map(b []hal.Mapping) error                            { q.frame = b[0].Frame; return nil }
func (q *quiet) Query(hal.UserAddr) (hal.PTE, bool)                   { return hal.PTE{}, false }
func (q *quiet) CopyIn(d []byte, _ hal.UserAddr) (int, hal.UserAddr)  { return len(d), 0 }
func (q *quiet) CopyOut(_ hal.UserAddr, d []byte) (int, hal.UserAddr) { return len(d), 0 }

// Threads that fault, copy, protect and unmap the same memory agree on its contents.
func TestConcurrentFaultsOnOneSpace(t *testing.T) {
	r := newRig(t, 4096)
	s := r.space()
	d := newDisk(r.m, 64)
	o := NewObject(r.mem, d, 64*pg)
	a := r.mmap(s, MapArgs{Addr: 0x10000000, Len: 256 * pg, Prot: rw, Flags: fixed | anon})
	f := r.mmap(s, MapArgs{Addr: 0x20000000, Len: 64 * pg, Prot: rw, Flags: fixed | priv, Object: o})
	sh := r.mmap(s, MapArgs{Addr: 0x30000000, Len: 64 * pg, Prot: rw, Flags: fixed | unix.MAP_SHARED, Object: o})
	var wg sync.WaitGroup
	var stop atomic.Bool
	run := func(g func(i int)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; !stop.Load(); i++ {
				g(i)
			}
		}()
	}
	for k := range hal.UserAddr(3) {
		// Each thread owns a byte of every page.
		run(func(i int) {
			at := a + hal.UserAddr(i%256)*pg + 64*k
			var b [1]byte
			if _, err := s.CopyIn(nil, b[:], at); err != nil {
				t.Error(err)
			}
			b[0]++
			s.CopyOut(nil, at, b[:])
			s.CopyIn(nil, b[:], f+hal.UserAddr(i%64)*pg)
			if b[0] != byte(i%64+1) {
				t.Errorf("file page %d reads %d", i%64, b[0])
				stop.Store(true)
			}
			s.CopyOut(nil, f+hal.UserAddr(i%64)*pg+100+k, b[:])
			s.CopyOut(nil, sh+hal.UserAddr(i%64)*pg+200+k, b[:])
		})
	}
	run(func(i int) {
		s.Mprotect(a+hal.UserAddr(i%200)*pg, 20*pg, hal.ProtRead)
		s.Mprotect(a, 256*pg, rw)
	})
	run(func(i int) {
		if c, err := s.Fork(); err == nil {
			var b [1]byte
			c.CopyOut(nil, a+hal.UserAddr(i%256)*pg, b[:])
			c.DecUsers()
		}
	})
	run(func(i int) { r.mem.Reclaim(8) })
	run(func(i int) { s.Madvise(nil, f+hal.UserAddr(i%64)*pg, 4*pg, unix.MADV_DONTNEED) })
	run(func(i int) {
		at := hal.UserAddr(0x40000000 + i%8*pg)
		s.Mmap(nil, MapArgs{Addr: at, Len: 3 * pg, Prot: rw, Flags: fixed | anon})
		s.CopyOut(nil, at, []byte{1})
		s.Munmap(at+pg, 2*pg)
	})
	time.Sleep(700 * time.Millisecond)
	stop.Store(true)
	wg.Wait()
	s.verify(t)
	s.DecUsers()
	o.DecRef()
	r.close()
}

// A tracer's write to a page of a file copies it. Truncation, which takes it away with the file
// held alone, comes before or after, not between: the same reference would be dropped twice.
func TestTracersWriteExcludesTruncation(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	o := NewObject(r.mem, nil, pg)
	at := r.mmap(s, MapArgs{Len: pg, Prot: hal.ProtRead, Flags: priv, Object: o})
	r.want(s, at, 0)
	done := make(chan struct{})
	var once sync.Once
	r.m.AllocHook = func(uint, hal.AllocFlags) error {
		once.Do(func() { // Poke has seen the file's page and is about to copy it
			go func() {
				defer close(done)
				_ = o.Truncate(0)
			}()
			select {
			case <-done:
				t.Error("truncation comes between")
			case <-time.After(50 * time.Millisecond):
			}
		})
		return nil
	}
	if n, err := s.Poke(nil, at, []byte{1}); n != 1 || err != nil {
		t.Error(n, err)
	}
	<-done
	r.wantFault(s, at, hal.ProtRead, unix.SIGBUS, busAdrErr)
	s.verify(t)
	s.DecUsers()
	o.DecRef()
	r.close()
}

// A read or write between a file and its own mapping moves the bytes and does not lock
// up, whichever side faults (Done-when 8).
func TestReadAndWriteBetweenFileAndItsOwnMapping(t *testing.T) {
	for _, kind := range []string{"memory", "disk", "image"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, 512)
			s := r.space()
			var src Source
			switch kind {
			case "disk":
				src = newDisk(r.m, 32)
			case "image":
				src = newImage(r, 32)
			}
			o := NewObject(r.mem, src, 32*pg)
			if src == nil {
				for i := range int64(32) {
					r.write(o, i*pg, byte(i+1))
				}
			}
			a := r.mmap(s, MapArgs{Len: 32 * pg, Prot: rw, Flags: unix.MAP_SHARED, Object: o})
			done := make(chan struct{})
			go func() {
				defer close(done)
				// write(fd, mapping of page 1.., 3 pages) to page 8, straddling.
				q := UserIO(s, nil, a+pg-10, 3*pg)
				if n, err := o.WriteAt(nil, &q, 8*pg+5); n != 3*pg || err != nil {
					t.Errorf("write from own mapping: %d, %v", n, err)
				}
				// read(fd) of page 1 into the mapping of page 20.
				q = UserIO(s, nil, a+20*pg+1, 2*pg)
				if n, err := o.ReadAt(nil, &q, pg); n != 2*pg || err != nil {
					t.Errorf("read into own mapping: %d, %v", n, err)
				}
				// The very page that is written.
				q = UserIO(s, nil, a+16*pg, pg)
				if n, err := o.WriteAt(nil, &q, 16*pg); n != pg || err != nil {
					t.Errorf("write of a page to itself: %d, %v", n, err)
				}
				// Growing the file from its own last page.
				q = UserIO(s, nil, a+31*pg, pg)
				if n, err := o.WriteAt(nil, &q, 32*pg); n != pg || err != nil {
					t.Errorf("growing write: %d, %v", n, err)
				}
			}()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Fatal("locked up")
			}
			r.wantRead(o, 8*pg+5+10, 2)
			r.wantRead(o, 8*pg+5+10+pg, 3)
			r.wantRead(o, 20*pg+1, 2)
			r.wantRead(o, 21*pg+1, 3)
			r.wantRead(o, 32*pg, 32)
			if o.Size() != 33*pg {
				t.Errorf("size %d", o.Size())
			}
			s.DecUsers()
			o.DecRef()
			r.close()
		})
	}
}

func TestIOSeqStopsWhereMemoryEnds(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	a := r.mmap(s, MapArgs{Addr: 0x10000000, Len: 2 * pg, Prot: rw, Flags: fixed | anon})
	src := bytes.Repeat([]byte{7}, 3*pg)
	q := UserIO(s, nil, a+pg, 2*pg)
	if n, err := q.CopyOut(src); n != pg || err != unix.EFAULT || q.Len() != pg {
		t.Errorf("copy past the end: %d, %v, %d left", n, err, q.Len())
	}
	v := []IOVec{{a, 3}, {a + 100, 0}, {a + pg - 1, 2}, {0, 0}, {a + 50, 4}}
	q = UserIOV(s, nil, v)
	if n, err := q.CopyOut([]byte("abcdefghijkl")); n != 9 || err != nil || q.Len() != 0 {
		t.Errorf("vector: %d, %v", n, err)
	}
	r.want(s, a+2, 'c')
	r.want(s, a+pg-1, 'd')
	r.want(s, a+pg, 'e')
	r.want(s, a+53, 'i')
	b := make([]byte, 20)
	q = UserIOV(s, nil, v)
	q.Skip(2)
	q.Limit(4)
	if n, err := q.CopyIn(b); err != nil || string(b[:n]) != "cdef" {
		t.Errorf("skip and limit: %q, %v", b[:n], err)
	}
	q = UserIOV(s, nil, []IOVec{{a, 5}, {0, 5}})
	if n, err := q.CopyIn(b); n != 5 || err != unix.EFAULT {
		t.Errorf("second range bad: %d, %v", n, err)
	}
	// NoFault copies nothing that is absent, and FaultIn brings it.
	c := r.mmap(s, MapArgs{Addr: 0x20000000, Len: 2 * pg, Prot: rw, Flags: fixed | anon})
	r.put(s, c, 1)
	q = UserIO(s, nil, c, 2*pg)
	if n, err := q.CopyOutNoFault(src[:2*pg]); n != pg || err != ErrFault {
		t.Errorf("NoFault: %d, %v", n, err)
	}
	if err := q.FaultIn(true); err != nil {
		t.Error(err)
	}
	if n, err := q.CopyOutNoFault(src[:pg]); n != pg || err != nil {
		t.Errorf("after FaultIn: %d, %v", n, err)
	}
	q = UserIO(s, nil, c, 2*pg)
	if n, err := q.ZeroOut(pg + 1); n != pg+1 || err != nil {
		t.Errorf("zero: %d, %v", n, err)
	}
	r.want(s, c+pg, 0)
	r.want(s, c+pg+1, 7)
	k := KernelIO(b[:4])
	if n, _ := k.CopyOut([]byte("123456")); n != 4 || k.Len() != 0 || !k.IsKernel() {
		t.Errorf("kernel buffer: %d", n)
	}
	q = UserIOV(s, nil, []IOVec{{a, 1 << 63}, {a, 1 << 63}})
	if q.Len() <= 0 {
		t.Errorf("length %d overflowed", q.Len())
	}
	s.DecUsers()
	r.close()
}

func TestCopyInString(t *testing.T) {
	r := newRig(t, 256)
	s := r.space()
	a := r.mmap(s, MapArgs{Addr: 0x10000000, Len: 2 * pg, Prot: rw, Flags: fixed | anon})
	r.put(s, a+2*pg-4, []byte("abc\x00")...)
	if g, err := s.CopyInString(nil, a+2*pg-4, 100); g != "abc" || err != nil {
		t.Errorf("at the very end: %q, %v", g, err)
	}
	r.put(s, a+2*pg-4, []byte("abcd")...)
	if _, err := s.CopyInString(nil, a+2*pg-4, 100); err != unix.EFAULT {
		t.Errorf("without end: %v", err)
	}
	if _, err := s.CopyInString(nil, a+2*pg-4, 4); err != unix.ENAMETOOLONG {
		t.Errorf("too long: %v", err)
	}
	long := bytes.Repeat([]byte("x"), 4095)
	r.put(s, a+100, append(long, 0)...)
	if g, err := s.CopyInString(nil, a+100, 4096); g != string(long) || err != nil {
		t.Errorf("4095 bytes: %d, %v", len(g), err)
	}
	if _, err := s.CopyInString(nil, a+100, 4095); err != unix.ENAMETOOLONG {
		t.Errorf("4096 with the NUL: %v", err)
	}
	s.DecUsers()
	r.close()
}
