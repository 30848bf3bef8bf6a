package epoll

import (
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

func rig() (*mm.Memory, *Set, *vfs.File) {
	mem := mm.NewMemory(fake.New(256))
	f := New(mem)
	return mem, Of(f), f
}

func add(t *testing.T, f *vfs.File) {
	t.Helper()
	q := mm.KernelIO([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	if _, err := f.Write(nil, &q); err != nil {
		t.Fatal(err)
	}
}

func TestWaitAllocatesNothingAndCostsWhatIsReady(t *testing.T) {
	mem, s, f := rig()
	used := mem.Budget().Used()
	var files []*vfs.File
	for i := range 2000 {
		e := anon.NewEventFD(0, false, 0)
		files = append(files, e)
		if err := s.Ctl(nil, Add, int32(i), e, unix.EPOLLIN, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	add(t, files[1234])
	buf := make([]byte, 64*EventSize)
	q := new(mm.IOSeq)
	if n := testing.AllocsPerRun(100, func() {
		*q = mm.KernelIO(buf)
		if n, err := s.Wait(nil, q, 64, 0); n != 1 || err != nil {
			t.Errorf("%d %v", n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	for _, e := range files {
		e.DecRef() // the last reference: the items go
	}
	if n := len(s.items); n != 0 {
		t.Errorf("%d items of closed files", n)
	}
	if n := mem.Budget().Used(); n != used {
		t.Errorf("%d bytes of budget leaked", n-used)
	}
	f.DecRef()
}

// Many threads wait in one set for one-shot events while files come and go: every event is
// taken exactly once and nothing hangs.
func TestOneShotEventsAreTakenOnce(t *testing.T) {
	_, s, f := rig()
	const files, rounds, threads = 8, 400, 4
	var fs [files]*vfs.File
	for i := range fs {
		fs[i] = anon.NewEventFD(0, false, 0)
		if err := s.Ctl(nil, Add, int32(i), fs[i], unix.EPOLLIN|unix.EPOLLONESHOT, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	stop := anon.NewEventFD(0, false, 0)
	var taken atomic.Int64
	var wg sync.WaitGroup
	var done [files]chan struct{}
	for i := range done {
		done[i] = make(chan struct{}, 1)
	}
	for range threads {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := wait.Background()
			buf := make([]byte, 2*EventSize)
			for {
				q := mm.KernelIO(buf)
				n, err := s.Wait(c, &q, 2, hal.NoDeadline)
				if err != nil {
					t.Error(err)
					return
				}
				for k := range n {
					i := buf[k*EventSize+4]
					if i == 99 {
						return
					}
					q := mm.KernelIO(make([]byte, 8))
					if _, err := fs[i].Read(nil, &q); err != nil {
						t.Errorf("file %d was reported and has nothing: %v", i, err)
					}
					taken.Add(1)
					if err := s.Ctl(nil, Mod, int32(i), fs[i], unix.EPOLLIN|unix.EPOLLONESHOT, uint64(i)); err != nil {
						t.Error(err)
					}
					done[i] <- struct{}{}
				}
			}
		}()
	}
	for range rounds {
		for i := range fs {
			add(t, fs[i])
		}
		for i := range fs {
			<-done[i]
		}
	}
	if n := taken.Load(); n != files*rounds {
		t.Errorf("%d events taken, %d sent", n, files*rounds)
	}
	if err := s.Ctl(nil, Add, 99, stop, unix.EPOLLIN, 99); err != nil {
		t.Fatal(err)
	}
	add(t, stop)
	wg.Wait()
	f.DecRef()
}

// A set in a set, in a set, closed in every order while events arrive.
func TestNestedSetsComeApartInAnyOrder(t *testing.T) {
	for order := range 24 {
		mem := mm.NewMemory(fake.New(256))
		used := mem.Budget().Used()
		e := anon.NewEventFD(0, false, 0)
		all := []*vfs.File{e, New(mem), New(mem), New(mem)}
		for i := 1; i < 4; i++ {
			if err := Of(all[i]).Ctl(nil, Add, int32(i), all[i-1], unix.EPOLLIN, 0); err != nil {
				t.Fatal(err)
			}
		}
		e.IncRef()
		var wg sync.WaitGroup
		wg.Add(1)
		go func() { add(t, e); e.DecRef(); wg.Done() }()
		n := order
		for k := 4; k > 0; k-- {
			i := n % k
			n /= k
			all[i].DecRef()
			all = append(all[:i], all[i+1:]...)
		}
		wg.Wait()
		if n := mem.Budget().Used(); n != used {
			t.Errorf("order %d: %d bytes of budget leaked", order, n-used)
		}
	}
}
