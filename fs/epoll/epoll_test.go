package epoll

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

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

// A file in several sets with EPOLLEXCLUSIVE: an event wakes one of the threads that wait,
// every thread is woken by some event, and without a waiting thread all sets know.
func TestExclusiveEventsWakeOneSet(t *testing.T) {
	mem := mm.NewMemory(fake.New(256))
	used := mem.Budget().Used()
	e := anon.NewEventFD(0, false, 0)
	const sets = 4
	var fs [sets]*vfs.File
	got := make(chan int, sets)
	for k := range fs {
		fs[k] = New(mem)
		if err := Of(fs[k]).Ctl(nil, Add, 5, e, unix.EPOLLIN|unix.EPOLLEXCLUSIVE|unix.EPOLLET, 7); err != nil {
			t.Fatal(err)
		}
	}
	plain := New(mem)
	if err := Of(plain).Ctl(nil, Add, 5, e, unix.EPOLLIN, 7); err != nil {
		t.Fatal(err)
	}
	look := func(f *vfs.File) int {
		q := mm.KernelIO(make([]byte, EventSize))
		n, err := Of(f).Wait(wait.Background(), &q, 1, 0)
		if err != nil {
			t.Error(err)
		}
		return n
	}
	asleep := func() (n int) {
		for _, f := range fs {
			s := Of(f)
			s.lock.Lock()
			if s.sleepFirst.Load() != nil {
				n++
			}
			s.lock.Unlock()
		}
		return n
	}
	for k := range fs {
		go func() {
			q := mm.KernelIO(make([]byte, EventSize))
			if n, err := Of(fs[k]).Wait(wait.Background(), &q, 1, hal.NoDeadline); n != 1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			got <- k
		}()
	}
	for asleep() < sets {
		time.Sleep(time.Millisecond)
	}
	seen := map[int]bool{}
	for k := range sets {
		add(t, e)
		seen[<-got] = true
		if n := asleep(); n != sets-1-k {
			t.Fatalf("event %d left %d threads asleep", k, n)
		}
		if look(plain) != 1 {
			t.Errorf("event %d passed the set by that is not exclusive", k)
		}
	}
	if len(seen) != sets {
		t.Errorf("only %d sets were woken", len(seen))
	}
	add(t, e)
	for k := range fs {
		if look(fs[k]) != 1 {
			t.Errorf("set %d does not know of an event that woke nobody", k)
		}
	}
	if err := Of(fs[0]).Ctl(nil, Del, 5, e, 0, 0); err != nil {
		t.Fatal(err)
	}
	add(t, e)
	if look(fs[0]) != 0 || look(fs[1]) != 1 {
		t.Error("the wrong set left the group")
	}
	fs[1].DecRef()
	e.DecRef() // items of the others go
	if n := len(exclusives.m); n != 0 {
		t.Errorf("%d groups stay", n)
	}
	for _, f := range []*vfs.File{fs[0], fs[2], fs[3], plain} {
		f.DecRef()
	}
	if n := mem.Budget().Used(); n != used {
		t.Errorf("%d bytes of budget leaked", n-used)
	}
}

// asked is a file that is ready, and calls a function when it is asked whether it is.
type asked struct {
	anon.Base
	f func()
}

func (a *asked) Readiness(mask waiter.EventMask) waiter.EventMask {
	a.f()
	return mask & waiter.EventIn
}

func (a *asked) EventRegister(e *waiter.Entry) error { a.Q.EventRegister(e); return nil }
func (a *asked) EventUnregister(e *waiter.Entry)     { a.Q.EventUnregister(e) }

// While one asks a set, another does not find it empty: it would sleep beside an event.
func TestAskingASetDoesNotHideWhatItHas(t *testing.T) {
	_, s, f := rig()
	a := &asked{f: func() {}}
	e := vfs.NewFile(a, unix.O_RDWR)
	if err := s.Ctl(nil, Add, 1, e, unix.EPOLLIN, 0); err != nil {
		t.Fatal(err)
	}
	second := make(chan waiter.EventMask, 1)
	var once sync.Once
	a.f = func() {
		once.Do(func() {
			s.lock.Lock()
			if s.first.Load() == nil {
				t.Error("the set looks empty")
			}
			s.lock.Unlock()
			go func() { second <- s.Readiness(waiter.EventIn) }()
			time.Sleep(20 * time.Millisecond)
		})
	}
	for range 2 {
		if got := s.Readiness(waiter.EventIn); got != waiter.EventIn {
			t.Errorf("ready for %v", got)
		}
	}
	if got := <-second; got != waiter.EventIn {
		t.Errorf("the other hears %v", got)
	}
	e.DecRef()
	f.DecRef()
}
