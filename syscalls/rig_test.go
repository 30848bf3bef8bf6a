package syscalls

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/fs/mqueue"
	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/ipc"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/timer"
	"kiln/kernel/wait"
)

// rig runs programs that are Go functions on the fake machine, with the real table. A
// program makes system calls with prog.sys; its goroutine and the thread's take turns.
type rig struct {
	t    *testing.T
	k    *task.Kernel
	mem  *mm.Memory
	ns   *vfs.Namespace
	done chan uint32

	mu       sync.Mutex
	progs    map[*hal.Ctx]*prog
	children []func(p *prog) // what the next new threads run
	handlers map[uint64]func(sig int32)
	images   map[uint64]func(p *prog) // by entry point, after execve
	logs     []string
}

// prog is one thread of a program. Its instruction pointer is sysAt while it does
// nothing: a call is two bytes there, so that a restart finds it again.
type prog struct {
	r     *rig
	ctx   *hal.Ctx
	toRun chan uint64
	call  chan [7]uint64
}

const (
	sysAt    = 0x10000
	spinAt   = sysAt + 2
	dataAt   = 0x6000_0000 // the program's memory
	dataSize = 1 << 20
	stackTop = 0x7000_0000 + 64<<10
	badAddr  = 0x10
)

func newRig(t *testing.T) *rig {
	m := fake.New(8192)
	r := &rig{t: t, mem: mm.NewMemory(m), done: make(chan uint32, 1), progs: map[*hal.Ctx]*prog{},
		handlers: map[uint64]func(int32){}, images: map[uint64]func(*prog){}}
	fs, err := tmpfs.New(r.mem, "")
	if err != nil {
		t.Fatal(err)
	}
	r.ns = vfs.NewNamespace(fs, "none", 0)
	m.OnEnter = r.enter
	d := New()
	d.IPC, d.MQ = ipc.New(r.mem, m), mqueue.New(r.mem)
	r.k = task.NewKernel(task.Config{M: m, Mem: r.mem, Timers: timer.NewQueue(m), NS: r.ns, Syscalls: d,
		OnInitExit: func(s uint32) { r.done <- s },
		Log: func(_, f string, a ...any) {
			r.mu.Lock()
			r.logs = append(r.logs, fmt.Sprintf(f, a...))
			r.mu.Unlock()
		}})
	return r
}

func (r *rig) enter(c *hal.Ctx, _ hal.AddressSpace) {
	r.mu.Lock()
	if h := r.handlers[c.RIP]; h != nil {
		r.mu.Unlock()
		h(int32(c.RDI))
		c.RSP += 8 // ret takes the restorer's address
		c.RAX, c.RIP = unix.SYS_RT_SIGRETURN, sysAt
		c.Exit = hal.Exit{Kind: hal.ExitSyscall}
		return
	}
	f := r.images[c.RIP]
	p := r.progs[c]
	if p == nil || f != nil {
		if f == nil {
			f = r.children[0]
			r.children = r.children[1:]
		}
		p = &prog{r: r, ctx: c, toRun: make(chan uint64), call: make(chan [7]uint64)}
		r.progs[c] = p
		go func(p *prog) {
			<-p.toRun
			f(p)
			p.sys(unix.SYS_EXIT_GROUP, 0)
		}(p)
		c.RIP = spinAt
	}
	r.mu.Unlock()
	if c.RIP == spinAt { // the call before has ended
		p.toRun <- c.RAX
		a := <-p.call
		c.RAX, c.RDI, c.RSI, c.RDX, c.R10, c.R8, c.R9 = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
	}
	c.RIP = spinAt
	c.Exit = hal.Exit{Kind: hal.ExitSyscall}
}

// sys makes a system call and gives RAX.
func (p *prog) sys(nr uint64, args ...uint64) int64 {
	a := [7]uint64{nr}
	copy(a[1:], args)
	p.call <- a
	return int64(<-p.toRun)
}

// want makes a system call that is to answer so.
func (p *prog) want(want int64, nr uint64, args ...uint64) {
	p.r.t.Helper()
	if got := p.sys(nr, args...); got != want {
		p.r.t.Errorf("%s(%#x) = %d, want %d", callName(nr), args, got, want)
	}
}

// fail is want for an errno.
func (p *prog) fail(e unix.Errno, nr uint64, args ...uint64) {
	p.r.t.Helper()
	if got := p.sys(nr, args...); got != -int64(e) {
		p.r.t.Errorf("%s(%#x) = %d, want %s", callName(nr), args, got, unix.ErrnoName(e))
	}
}

func (p *prog) thread() *task.Thread { return p.r.k.Thread(int32(p.sys(unix.SYS_GETTID))) }

// put and get reach the memory of process 1.
func (p *prog) put(at uint64, b []byte) {
	if _, err := p.r.k.Init().Space().CopyOut(wait.Background(), hal.UserAddr(at), b); err != nil {
		p.r.t.Error(err)
	}
}

func (p *prog) put64(at uint64, words ...uint64) {
	for i, w := range words {
		var b [8]byte
		le.PutUint64(b[:], w)
		p.put(at+uint64(i)*8, b[:])
	}
}

func (p *prog) get(at uint64, n int) []byte {
	b := make([]byte, n)
	if _, err := p.r.k.Init().Space().CopyIn(wait.Background(), b, hal.UserAddr(at)); err != nil {
		p.r.t.Error(err)
	}
	return b
}

func (p *prog) get64(at uint64) uint64 { return le.Uint64(p.get(at, 8)) }
func (p *prog) get32(at uint64) uint32 { return le.Uint32(p.get(at, 4)) }

// child says what the next thread that clone makes runs.
func (r *rig) child(f func(p *prog)) {
	r.mu.Lock()
	r.children = append(r.children, f)
	r.mu.Unlock()
}

// run runs f as process 1 with credentials and gives its wait status.
func (r *rig) run(c *vfs.Creds, f func(p *prog)) uint32 {
	r.t.Helper()
	s, err := mm.NewSpace(r.mem)
	if err != nil {
		r.t.Fatal(err)
	}
	big := ^uint64(0)
	s.SetLimits(mm.Limits{AS: big, Data: big, Stack: big, MemLock: big})
	for at, n := range map[hal.UserAddr]uint64{stackTop - 64<<10: 64 << 10, dataAt: dataSize} {
		if _, err := s.Mmap(nil, mm.MapArgs{Addr: at, Len: n, Prot: hal.ProtRead | hal.ProtWrite,
			Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED}); err != nil {
			r.t.Fatal(err)
		}
	}
	r.child(f)
	if _, err := r.k.Start(task.StartArgs{Image: task.Image{Space: s, Entry: spinAt, SP: stackTop - 16, Name: "/prog"},
		FDs: vfs.NewFDTable(1024), FS: vfs.NewFSContext(r.ns), Creds: c}); err != nil {
		r.t.Fatal(err)
	}
	select {
	case s := <-r.done:
		return s
	case <-time.After(20 * time.Second):
		r.t.Fatal("the program did not end")
	}
	return 0
}
