package pipe

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
)

func write(t *testing.T, f *vfs.File, b []byte) (int, error) {
	t.Helper()
	q := mm.KernelIO(b)
	return f.Write(nil, &q)
}

func read(t *testing.T, f *vfs.File, n int) ([]byte, error) {
	t.Helper()
	b := make([]byte, n)
	q := mm.KernelIO(b)
	n, err := f.Read(nil, &q)
	return b[:n], err
}

func TestBytesComeOutAsTheyWentIn(t *testing.T) {
	m := fake.New(512)
	mem := mm.NewMemory(m)
	free, used := m.FreePages(), mem.Budget().Used()
	r, w, err := New(mem, unix.O_NONBLOCK, vfs.RootCreds())
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var sent, got []byte
	for range 5000 {
		if rng.IntN(2) == 0 {
			b := make([]byte, 1+rng.IntN(9000))
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			n, err := write(t, w, b)
			if err != nil && err != unix.EAGAIN {
				t.Fatal(err)
			}
			if len(b) <= pageSize && n != 0 && n != len(b) {
				t.Fatalf("a write of %d bytes was split at %d", len(b), n)
			}
			sent = append(sent, b[:n]...)
		} else {
			b, err := read(t, r, 1+rng.IntN(9000))
			if err != nil && err != unix.EAGAIN {
				t.Fatal(err)
			}
			got = append(got, b...)
		}
	}
	w.DecRef()
	for {
		b, err := read(t, r, 10000)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			break
		}
		got = append(got, b...)
	}
	if !bytes.Equal(sent, got) {
		t.Errorf("sent %d bytes, got %d others", len(sent), len(got))
	}
	r.DecRef()
	if n := m.FreePages(); n != free {
		t.Errorf("%d frames leaked", free-n)
	}
	if n := mem.Budget().Used(); n != used {
		t.Errorf("%d bytes of budget leaked", n-used)
	}
}

// Writers of whole records from many goroutines never mix them, though the source faults in
// the middle.
func TestRecordsOfAPageStayWhole(t *testing.T) {
	m := fake.New(1024)
	mem := mm.NewMemory(m)
	r, w, _ := New(mem, unix.O_NONBLOCK, vfs.RootCreds())
	const writers, records, size = 4, 300, 3000
	var wg sync.WaitGroup
	for i := range writers {
		s, err := mm.NewSpace(mem)
		if err != nil {
			t.Fatal(err)
		}
		at, err := s.Mmap(nil, mm.MapArgs{Len: 2 * size * 4, Prot: hal.ProtRead | hal.ProtWrite, Flags: unix.MAP_SHARED | unix.MAP_ANONYMOUS})
		if err != nil {
			t.Fatal(err)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer s.DecUsers()
			for range records {
				src := at + hal.UserAddr(hal.PageSize-size/2)
				if _, err := s.CopyOut(nil, src, bytes.Repeat([]byte{byte('a' + i)}, size)); err != nil {
					t.Error(err)
					return
				}
				// Shared memory: the bytes stay, their pages leave the page table, and the
				// copy faults at its start and half-way.
				if err := s.Madvise(nil, at, 2*hal.PageSize, unix.MADV_DONTNEED); err != nil {
					t.Error(err)
				}
				for {
					q := mm.UserIO(s, nil, src, size)
					n, err := w.Write(nil, &q)
					if err == unix.EAGAIN {
						runtime.Gosched()
						continue
					}
					if n != size || err != nil {
						t.Errorf("%d %v", n, err)
					}
					break
				}
			}
		}()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	total := 0
	for total < writers*records*size {
		b, err := read(t, r, size)
		if err == unix.EAGAIN {
			runtime.Gosched()
			continue
		}
		total += len(b)
		if len(b) != size {
			// A record may straddle pages only by merging, never by mixing.
			rest, _ := read(t, r, size-len(b))
			total += len(rest)
			b = append(b, rest...)
		}
		for _, c := range b {
			if c != b[0] || c < 'a' {
				t.Fatalf("a record holds %q and %q", b[0], c)
			}
		}
	}
	<-done
	r.DecRef()
	w.DecRef()
}

func TestAFaultLosesNothing(t *testing.T) {
	m := fake.New(256)
	mem := mm.NewMemory(m)
	r, w, _ := New(mem, unix.O_NONBLOCK, vfs.RootCreds())
	s, _ := mm.NewSpace(mem)
	q := mm.UserIO(s, nil, 0x1000, 10)
	if n, err := w.Write(nil, &q); n != 0 || err != unix.EFAULT {
		t.Errorf("write from nowhere: %d %v", n, err)
	}
	if _, err := write(t, w, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	q = mm.UserIO(s, nil, 0x1000, 10)
	if n, err := r.Read(nil, &q); n != 0 || err != unix.EFAULT {
		t.Errorf("read to nowhere: %d %v", n, err)
	}
	if b, err := read(t, r, 10); string(b) != "hello" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	r.DecRef()
	if _, err := write(t, w, []byte("x")); err != unix.EPIPE {
		t.Errorf("write without readers: %v", err)
	}
	w.DecRef()
}

func TestASteadyStreamAllocatesNothing(t *testing.T) {
	mem := mm.NewMemory(fake.New(256))
	r, w, _ := New(mem, unix.O_NONBLOCK, vfs.RootCreds())
	b := make([]byte, 5000)
	q := new(mm.IOSeq)
	if n := testing.AllocsPerRun(1000, func() {
		*q = mm.KernelIO(b)
		_, _ = w.Write(nil, q)
		*q = mm.KernelIO(b)
		_, _ = r.Read(nil, q)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is lent is nobody else's meanwhile, and what comes back is read next.
func TestLentBytesComeBack(t *testing.T) {
	mem := mm.NewMemory(fake.New(512))
	used := mem.Budget().Used()
	r, w, err := New(mem, unix.O_NONBLOCK, vfs.RootCreds())
	if err != nil {
		t.Fatal(err)
	}
	p, _ := Of(r)
	var want []byte
	for i := range 3 * pageSize / 100 {
		b := bytes.Repeat([]byte{byte(i)}, 100)
		if _, err := write(t, w, b); err != nil {
			t.Fatal(err)
		}
		want = append(want, b...)
	}
	b := make([]byte, 2*pageSize)
	for _, n := range []int{0, 150, pageSize + 7} {
		k, err := p.Lend(b)
		if err != nil || !bytes.Equal(b[:k], want[:k]) {
			t.Fatalf("lent %d, %v", k, err)
		}
		if _, err := read(t, r, 1); err != unix.EAGAIN {
			t.Errorf("a read of lent bytes: %v", err)
		}
		if _, err := p.Lend(b); err != unix.EAGAIN {
			t.Errorf("lent twice: %v", err)
		}
		// Behind them it goes on.
		if _, err := write(t, w, []byte("more")); err != nil {
			t.Fatal(err)
		}
		p.Return(n)
		want = append(want[n:], "more"...)
	}
	w.DecRef()
	if k, err := p.Lend(b[:5]); k != 5 || err != nil {
		t.Fatal(k, err)
	}
	if _, err := read(t, r, 1); err != unix.EAGAIN {
		t.Errorf("the end is not yet: %v", err)
	}
	p.Return(5)
	got, err := read(t, r, len(want)+100)
	if err != nil || !bytes.Equal(got, want[5:]) {
		t.Fatalf("%d bytes are left, not %d: %v", len(got), len(want)-5, err)
	}
	if k, err := p.Lend(b); k != 0 || err != nil {
		t.Errorf("at the end: %d, %v", k, err)
	}
	r.DecRef()
	if mem.Budget().Used() != used {
		t.Error("the budget is not what it was")
	}
}

// Room that is held is nobody else's.
func TestHeldRoomIsFilledByOne(t *testing.T) {
	mem := mm.NewMemory(fake.New(512))
	r, w, err := New(mem, unix.O_NONBLOCK, vfs.RootCreds())
	if err != nil {
		t.Fatal(err)
	}
	p, _ := Of(w)
	room, err := p.Hold()
	if err != nil || room != p.Size() {
		t.Fatal(room, err)
	}
	if _, err := write(t, w, []byte("x")); err != unix.EAGAIN {
		t.Errorf("a write to room that is held: %v", err)
	}
	if _, err := p.Hold(); err != unix.EAGAIN {
		t.Errorf("held twice: %v", err)
	}
	if _, err := p.SetSize(pageSize, vfs.RootCreds()); err != unix.EBUSY {
		t.Errorf("made smaller: %v", err)
	}
	q := mm.KernelIO(make([]byte, room))
	if n, err := p.Fill(w, &q); n != room || err != nil {
		t.Errorf("filled %d of %d, %v", n, room, err)
	}
	p.Release()
	if b, err := read(t, r, room); len(b) != room || err != nil {
		t.Fatal(len(b), err)
	}
	if n, err := write(t, w, []byte("x")); n != 1 || err != nil {
		t.Errorf("afterwards: %d, %v", n, err)
	}
	w.DecRef()
	r.DecRef()
}
