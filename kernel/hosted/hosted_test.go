package hosted

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

const (
	codeAddr = 0x400000
	dataAddr = 0x600000
)

// rig is a machine with one page of code and one context at its start.
type rig struct {
	t   *testing.T
	m   *Machine
	as  *AddressSpace
	ctx *hal.Ctx
}

func newRig(t *testing.T, code ...byte) *rig {
	t.Helper()
	m, err := New(Config{Memory: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	as, err := m.NewAddressSpace()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, m: m, as: as.(*AddressSpace), ctx: m.NewCtx()}
	r.mapNew(codeAddr, 1, hal.ProtRead|hal.ProtExec)
	copy(m.Frame(r.frame(codeAddr)), code)
	r.ctx.RIP = codeAddr
	return r
}

func (r *rig) frame(a hal.UserAddr) hal.PFN {
	p, ok := r.as.Query(a)
	if !ok {
		r.t.Fatalf("no page at %#x", a)
	}
	return p.Frame
}

func (r *rig) mapNew(a hal.UserAddr, n int, p hal.Prot) {
	r.t.Helper()
	for i := 0; i < n; i++ {
		f, err := r.m.AllocFrames(0, hal.AllocZero)
		if err != nil {
			r.t.Fatal(err)
		}
		if err := r.as.Map([]hal.Mapping{{Addr: a + hal.UserAddr(i*hal.PageSize), Frame: f, Pages: 1, Prot: p}}); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) enter() hal.Exit {
	r.t.Helper()
	r.m.Enter(r.ctx, r.as)
	return r.ctx.Exit
}

func (r *rig) want(x hal.Exit) {
	r.t.Helper()
	if got := r.enter(); got != x {
		r.t.Fatalf("exit %+v at %#x, want %+v", got, r.ctx.RIP, x)
	}
}

func TestSystemCallLeavesRegistersAsTheInstructionDoes(t *testing.T) {
	r := newRig(t,
		0xb8, 0xe7, 0, 0, 0, // mov eax, 231
		0xbf, 42, 0, 0, 0, // mov edi, 42
		0x0f, 0x05, // syscall
		0x0f, 0x05)
	r.ctx.R12, r.ctx.OrigRAX = 0x1234567890, 77
	r.want(hal.Exit{Kind: hal.ExitSyscall})
	c := r.ctx
	if c.RAX != 231 || c.RDI != 42 || c.R12 != 0x1234567890 || c.OrigRAX != 77 {
		t.Fatalf("registers %+v", c.Regs)
	}
	if c.RIP != codeAddr+12 || c.RCX != c.RIP || c.R11 != c.RFLAGS || c.CS != userCS {
		t.Fatalf("registers %+v", c.Regs)
	}
	c.RAX = ^uint64(511) // a value that the host itself would restart on
	r.want(hal.Exit{Kind: hal.ExitSyscall})
	if c.RAX != ^uint64(511) || c.RIP != codeAddr+14 {
		t.Fatalf("the second call: %+v", c.Regs)
	}
}

func TestPageFaultIsMappedAndResumed(t *testing.T) {
	r := newRig(t,
		0x48, 0x8b, 0x07, // mov rax, [rdi]
		0x48, 0xff, 0xc0, // inc rax
		0x48, 0x89, 0x07, // mov [rdi], rax
		0x0f, 0x05)
	r.ctx.RDI = dataAddr + 8
	r.want(hal.Exit{Kind: hal.ExitException, Vector: hal.VectorPF, Error: hal.PFUser, Addr: dataAddr + 8})
	if r.ctx.RIP != codeAddr {
		t.Fatalf("RIP %#x", r.ctx.RIP)
	}
	r.mapNew(dataAddr, 1, hal.ProtRead)
	r.m.Frame(r.frame(dataAddr))[8] = 41
	r.want(hal.Exit{Kind: hal.ExitException, Vector: hal.VectorPF, Error: hal.PFUser | hal.PFPresent | hal.PFWrite, Addr: dataAddr + 8})
	r.as.Protect(dataAddr, hal.PageSize, hal.ProtRead|hal.ProtWrite)
	r.want(hal.Exit{Kind: hal.ExitSyscall})
	if r.ctx.RAX != 42 || r.m.Frame(r.frame(dataAddr))[8] != 42 {
		t.Fatalf("RAX %d, memory %d", r.ctx.RAX, r.m.Frame(r.frame(dataAddr))[8])
	}
	r.as.Protect(dataAddr, hal.PageSize, hal.ProtNone)
	r.ctx.RIP = codeAddr
	r.want(hal.Exit{Kind: hal.ExitException, Vector: hal.VectorPF, Error: hal.PFUser | hal.PFPresent, Addr: dataAddr + 8})
}

func TestFetchFaultsSayFetch(t *testing.T) {
	r := newRig(t, 0xff, 0xe7) // jmp rdi
	r.ctx.RDI = dataAddr
	r.want(hal.Exit{Kind: hal.ExitException, Vector: hal.VectorPF, Error: hal.PFUser | hal.PFFetch, Addr: dataAddr})
	r.mapNew(dataAddr, 1, hal.ProtRead|hal.ProtWrite)
	r.want(hal.Exit{Kind: hal.ExitException, Vector: hal.VectorPF, Error: hal.PFUser | hal.PFPresent | hal.PFFetch, Addr: dataAddr})
	// An instruction that begins on the last byte of a page.
	copy(r.m.Frame(r.frame(codeAddr))[4095:], []byte{0x0f})
	r.ctx.RIP = codeAddr + 4095
	r.want(hal.Exit{Kind: hal.ExitException, Vector: hal.VectorPF, Error: hal.PFUser | hal.PFFetch, Addr: codeAddr + 4096})
	r.mapNew(codeAddr+4096, 1, hal.ProtRead|hal.ProtExec)
	copy(r.m.Frame(r.frame(codeAddr+4096)), []byte{0x05})
	r.want(hal.Exit{Kind: hal.ExitSyscall})
}

func TestExceptionsHaveTheirVectors(t *testing.T) {
	for _, c := range []struct {
		name string
		code []byte
		exit hal.Exit
		rip  uint64
	}{
		{"int3", []byte{0xcc}, hal.Exit{Vector: hal.VectorBP}, 1},
		{"ud2", []byte{0x0f, 0x0b}, hal.Exit{Vector: hal.VectorUD}, 0},
		{"div", []byte{0x31, 0xc9, 0xf7, 0xf1}, hal.Exit{Vector: hal.VectorDE}, 2},
		{"hlt", []byte{0xf4}, hal.Exit{Vector: hal.VectorGP}, 0},
		{"cli", []byte{0xfa}, hal.Exit{Vector: hal.VectorGP}, 0},
		{"int80", []byte{0xb8, 1, 0, 0, 0, 0xcd, 0x80}, hal.Exit{Vector: hal.VectorGP, Error: 0x402}, 5},
		{"int33", []byte{0xcd, 0x21}, hal.Exit{Vector: hal.VectorGP, Error: 0x10a}, 0},
		{"noncanonical", []byte{0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x8a, 0x00}, hal.Exit{Vector: hal.VectorGP}, 10},
		{"kernel half", []byte{0x31, 0xc0, 0x48, 0xff, 0xc8, 0x8a, 0x00}, hal.Exit{Vector: hal.VectorPF, Error: 5, Addr: math.MaxUint64}, 5},
		{"stack", []byte{0x48, 0xbc, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x50}, hal.Exit{Vector: hal.VectorSS}, 10},
		{"trap flag", []byte{0x90, 0x90}, hal.Exit{Vector: hal.VectorDB}, 1},
		// MXCSR with the divide exception unmasked, 1/0.
		{"simd", []byte{0x0f, 0xae, 0x15, 0xf9, 0, 0, 0, // ldmxcsr [code+0x100]
			0x0f, 0x57, 0xc9, // xorps xmm1, xmm1
			0xf3, 0x0f, 0x10, 0x05, 0xf2, 0, 0, 0, // movss xmm0, [code+0x104]
			0xf3, 0x0f, 0x5e, 0xc1, // divss xmm0, xmm1
		}, hal.Exit{Vector: hal.VectorXM}, 18},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.code...)
			if c.name == "trap flag" {
				r.ctx.RFLAGS |= 0x100
			}
			if c.name == "simd" {
				f := r.m.Frame(r.frame(codeAddr))
				binary.LittleEndian.PutUint32(f[0x100:], 0x1d80)
				binary.LittleEndian.PutUint32(f[0x104:], 0x3f800000)
			}
			c.exit.Kind = hal.ExitException
			r.want(c.exit)
			if r.ctx.RIP != codeAddr+c.rip {
				t.Fatalf("RIP %#x, want offset %d", r.ctx.RIP, c.rip)
			}
		})
	}
}

func TestEndlessLoopIsInterrupted(t *testing.T) {
	r := newRig(t, 0xeb, 0xfe) // jmp .
	for i := 0; i < 20; i++ {
		go func() {
			time.Sleep(time.Duration(i%4) * time.Millisecond)
			r.m.Interrupt(r.ctx)
		}()
		r.want(hal.Exit{Kind: hal.ExitInterrupt})
		if r.ctx.RIP != codeAddr {
			t.Fatalf("RIP %#x", r.ctx.RIP)
		}
	}
	r.m.Interrupt(r.ctx)
	r.want(hal.Exit{Kind: hal.ExitInterrupt})
}

func TestVectorStateAndBasesAreKeptPerContext(t *testing.T) {
	code := []byte{
		0x66, 0x0f, 0xfe, 0xc1, // paddd xmm0, xmm1
		0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, // mov rax, fs:[0]
		0x0f, 0x05, // syscall
		0xeb, 0xef, // jmp start
	}
	r := newRig(t, code...)
	r.mapNew(dataAddr, 2, hal.ProtRead)
	r.m.Frame(r.frame(dataAddr))[0] = 1
	r.m.Frame(r.frame(dataAddr + 4096))[0] = 2
	other := r.m.NewCtx()
	other.RIP = codeAddr
	r.ctx.FSBase, other.FSBase = dataAddr, dataAddr+4096
	r.ctx.FP[160], r.ctx.FP[176] = 0, 1 // xmm0, xmm1
	other.FP[160], other.FP[176] = 100, 3
	for i := byte(1); i <= 10; i++ {
		for _, c := range []*hal.Ctx{r.ctx, other} {
			r.m.Enter(c, r.as)
			if c.Exit.Kind != hal.ExitSyscall {
				t.Fatalf("%+v", c.Exit)
			}
		}
		if r.ctx.FP[160] != i || other.FP[160] != 100+3*i {
			t.Fatalf("round %d: xmm0 %d and %d", i, r.ctx.FP[160], other.FP[160])
		}
		if r.ctx.RAX != 1 || other.RAX != 2 || r.ctx.FSBase != dataAddr {
			t.Fatalf("fs:0 is %d and %d", r.ctx.RAX, other.RAX)
		}
	}
	// The kernel may change the image between calls.
	r.ctx.FP[160] = 50
	if r.enter(); r.ctx.FP[160] != 51 {
		t.Fatalf("xmm0 %d after it was set to 50", r.ctx.FP[160])
	}
}

func TestKernelHalfBaseSurvivesAMoveToAnotherThread(t *testing.T) {
	r := newRig(t, 0xf3, 0x48, 0x0f, 0xae, 0xd8, // wrgsbase rax
		0x0f, 0x05, 0x0f, 0x05)
	if !r.m.Features().FSGSBASE {
		t.Skip("the host has no FSGSBASE")
	}
	r.ctx.RAX = 0xffff800000000000
	r.want(hal.Exit{Kind: hal.ExitSyscall})
	done := make(chan bool)
	runtime.LockOSThread() // so that the other goroutine is on another thread
	defer runtime.UnlockOSThread()
	go func() {
		defer close(done)
		r.want(hal.Exit{Kind: hal.ExitSyscall})
	}()
	<-done
	if r.ctx.GSBase != 0xffff800000000000 || r.ctx.RIP != codeAddr+9 {
		t.Fatalf("gs %#x rip %#x", r.ctx.GSBase, r.ctx.RIP)
	}
}

func TestCopiesHonourProtection(t *testing.T) {
	r := newRig(t)
	r.mapNew(dataAddr, 1, hal.ProtRead|hal.ProtWrite)
	r.mapNew(dataAddr+4096, 1, hal.ProtRead)
	if n, f := r.as.CopyOut(dataAddr+4090, []byte("0123456789")); n != 6 || f != dataAddr+4096 {
		t.Fatalf("CopyOut: %d, %#x", n, f)
	}
	b := make([]byte, 10)
	if n, _ := r.as.CopyIn(b, dataAddr+4090); n != 10 || string(b) != "012345\x00\x00\x00\x00" {
		t.Fatalf("CopyIn: %d %q", n, b)
	}
	if n, f := r.as.CopyIn(b, dataAddr+8190); n != 2 || f != dataAddr+8192 {
		t.Fatalf("CopyIn past the end: %d %#x", n, f)
	}
	if n, f := r.as.CopyIn(b, math.MaxUint64-3); n != 0 || f != math.MaxUint64-3 {
		t.Fatalf("CopyIn of the top: %d %#x", n, f)
	}
	if _, ok := r.as.CAS32(dataAddr+4096, 0, 1); ok {
		t.Fatal("CAS32 wrote a read-only page")
	}
	if v, ok := r.as.CAS32(dataAddr, 0, 7); !ok || v != 0 {
		t.Fatal("CAS32", v, ok)
	}
	if v, ok := r.as.Xchg32(dataAddr, 9); !ok || v != 7 {
		t.Fatal("Xchg32", v, ok)
	}
	if v, ok := r.as.Load32(dataAddr); !ok || v != 9 {
		t.Fatal("Load32", v, ok)
	}
}

func TestClearedBitsComeBackWithTheNextUse(t *testing.T) {
	r := newRig(t, 0x8a, 0x07, 0x0f, 0x05, 0x88, 0x07, 0x0f, 0x05) // mov al,[rdi]; syscall; mov [rdi],al
	r.mapNew(dataAddr, 1, hal.ProtRead|hal.ProtWrite)
	r.ctx.RDI = dataAddr
	r.as.Walk(dataAddr, 4096, true, func(hal.UserAddr, hal.PTE) {})
	if p, _ := r.as.Query(dataAddr); p.Accessed || p.Dirty {
		t.Fatalf("%+v after clearing", p)
	}
	r.want(hal.Exit{Kind: hal.ExitSyscall})
	if p, _ := r.as.Query(dataAddr); !p.Accessed {
		t.Fatalf("%+v after a read", p)
	}
	r.want(hal.Exit{Kind: hal.ExitSyscall})
	if p, _ := r.as.Query(dataAddr); !p.Dirty {
		t.Fatalf("%+v after a write", p)
	}
}

func TestUnmapReportsPagesAndTakesThemFromTheProgram(t *testing.T) {
	r := newRig(t, 0x8a, 0x07, 0x0f, 0x05)
	r.mapNew(dataAddr, 3, hal.ProtRead)
	r.as.Unmap(dataAddr+4096, 4096, nil)
	var got []hal.UserAddr
	r.ctx.RDI = dataAddr
	r.want(hal.Exit{Kind: hal.ExitSyscall})
	r.as.Unmap(0, uint64(hal.UserTop), func(a hal.UserAddr, p hal.PTE) {
		got = append(got, a)
		r.m.FreeFrames(p.Frame, 0)
	})
	if len(got) != 3 || got[0] != codeAddr || got[1] != dataAddr || got[2] != dataAddr+8192 {
		t.Fatalf("%#x", got)
	}
	r.ctx.RIP = codeAddr
	r.want(hal.Exit{Kind: hal.ExitException, Vector: hal.VectorPF, Error: hal.PFUser | hal.PFFetch, Addr: codeAddr})
	pid := r.as.stub.pid
	r.as.Destroy()
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Fatalf("the stub after Destroy: %v", err)
	}
}

func TestStubHasNothingOfTheHost(t *testing.T) {
	r := newRig(t, 0x0f, 0x05)
	r.enter()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(r.as.stub.pid) + "/maps")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if !strings.HasPrefix(line, "10000000") && !strings.HasPrefix(line, "00400000-") && !strings.Contains(line, "[vsyscall]") {
			t.Errorf("the stub maps %s", line)
		}
	}
}

// More pages than the host lets a process have mappings, none next to its frame's
// neighbour: the stub is flushed and filled again.
func TestMoreMappingsThanTheHostAllows(t *testing.T) {
	if testing.Short() {
		t.Skip("70000 mappings")
	}
	r := newRig(t,
		0x8a, 0x07, // mov al, [rdi]
		0x48, 0x81, 0xc7, 0, 0x10, 0, 0, // add rdi, 4096
		0x48, 0x39, 0xf7, // cmp rdi, rsi
		0x72, 0xf2, // jb start
		0x0f, 0x05)
	const n = 70000
	f, _ := r.m.AllocFrames(0, hal.AllocZero)
	var batch []hal.Mapping
	for i := 0; i < n; i++ {
		batch = append(batch, hal.Mapping{Addr: 0x10000000 + hal.UserAddr(i)*hal.PageSize, Frame: f, Pages: 1, Prot: hal.ProtRead})
	}
	if err := r.as.Map(batch); err != nil {
		t.Fatal(err)
	}
	r.ctx.RDI, r.ctx.RSI = 0x10000000, 0x10000000+n*hal.PageSize
	r.want(hal.Exit{Kind: hal.ExitSyscall})
}

func TestThreadsShareMemoryWhileItChanges(t *testing.T) {
	// lock inc dword [rdi]; mov al,[rsi]; dec ecx; jnz start; syscall
	r := newRig(t, 0xf0, 0xff, 0x07, 0x8a, 0x06, 0xff, 0xc9, 0x75, 0xf7, 0x0f, 0x05)
	r.mapNew(dataAddr, 1, hal.ProtRead|hal.ProtWrite)
	r.mapNew(dataAddr+4096, 1, hal.ProtRead)
	const threads, rounds = 4, 20000
	var wg sync.WaitGroup
	for i := 0; i < threads; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := r.m.NewCtx()
			c.RIP, c.RDI, c.RSI, c.RCX = codeAddr, dataAddr, dataAddr+4096, rounds
			for r.m.Enter(c, r.as); c.Exit.Kind != hal.ExitSyscall; r.m.Enter(c, r.as) {
				if x := c.Exit; x.Kind == hal.ExitException && x.Error&hal.PFPresent != 0 {
					t.Errorf("exit %+v", x) // the page is there or it is not, but never read-only
					return
				}
			}
		}()
	}
	stop := make(chan bool)
	go func() {
		f := r.frame(dataAddr + 4096)
		for {
			select {
			case <-stop:
				close(stop)
				return
			default:
			}
			r.as.Unmap(dataAddr+4096, hal.PageSize, nil)
			r.as.Map([]hal.Mapping{{Addr: dataAddr + 4096, Frame: f, Pages: 1, Prot: hal.ProtRead}})
		}
	}()
	wg.Wait()
	stop <- true
	<-stop
	if v, _ := r.as.Load32(dataAddr); v != threads*rounds {
		t.Fatalf("%d increments, want %d", v, threads*rounds)
	}
}

func TestDeadlineRunsOnceItHasPassed(t *testing.T) {
	r := newRig(t)
	fired := make(chan int64, 4)
	r.m.OnDeadline(func() { fired <- r.m.Nanotime() })
	at := r.m.Nanotime() + 5e6
	r.m.SetDeadline(at)
	if now := <-fired; now < at {
		t.Fatalf("fired %d ns early", at-now)
	}
	r.m.SetDeadline(r.m.Nanotime() - 1)
	<-fired
	r.m.SetDeadline(r.m.Nanotime() + 20e6)
	r.m.SetDeadline(hal.NoDeadline)
	select {
	case <-fired:
		t.Fatal("a disarmed deadline fired")
	case <-time.After(40 * time.Millisecond):
	}
}

func TestTimeParamsAgreeWithNanotime(t *testing.T) {
	r := newRig(t)
	p := r.m.TimeParams()
	if !p.UsableTSC {
		t.Skip("the host's TSC is not constant")
	}
	a := r.m.Nanotime()
	mono := p.MonoBase + int64(mulShift(rdtsc()-p.TSCBase, p.Mult))
	b := r.m.Nanotime()
	if mono < a || mono > b {
		t.Fatalf("%d is not between %d and %d", mono, a, b)
	}
	if w := r.m.Walltime(); w-time.Now().UnixNano() > 1e8 || time.Now().UnixNano()-w > 1e8 {
		t.Fatalf("Walltime %d", w)
	}
}

func mulShift(a, m uint64) uint64 {
	hi, lo := a>>32, a&(1<<32-1)
	return hi*m + lo*m>>32
}

func TestFramesSplitMergeAndRefuse(t *testing.T) {
	m, err := New(Config{Memory: 16 << 20, Root: bytes.Repeat([]byte("root"), 5000)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if b := m.Boot(); b.RootSize != 20000 || string(m.FrameRange(b.RootFrame, 5)[19996:20000]) != "root" {
		t.Fatalf("root %+v", b)
	}
	before := m.MemStats()
	if before.TotalPages != 4096 || before.FreePages != 4091 {
		t.Fatalf("%+v", before)
	}
	type block struct {
		f hal.PFN
		o uint
	}
	var all []block
	seen := map[hal.PFN]bool{}
	for o := uint(0); ; o = (o + 1) % 4 {
		f, err := m.AllocFrames(o, hal.AllocZero)
		if err != nil {
			if err != hal.ErrNoMemory {
				t.Fatal(err)
			}
			break
		}
		if uint64(f)&(1<<o-1) != 0 {
			t.Fatalf("frame %#x of order %d is not aligned", f, o)
		}
		for i := 0; i < 1<<o; i++ {
			if seen[f+hal.PFN(i)] {
				t.Fatalf("frame %#x given twice", f)
			}
			seen[f+hal.PFN(i)] = true
		}
		all = append(all, block{f, o})
	}
	if m.MemStats().FreePages > before.Reserve+8 {
		t.Fatalf("refused with %d pages free", m.MemStats().FreePages)
	}
	for _, b := range all {
		m.FreeFrames(b.f, b.o)
	}
	if after := m.MemStats(); after != before {
		t.Fatalf("%+v after, %+v before", after, before)
	}
	if _, err := m.AllocFrames(maxOrder, 0); err != nil {
		t.Fatal("blocks were not merged:", err)
	}
}

func BenchmarkSyscall(b *testing.B) {
	m, err := New(Config{Memory: 8 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	space, _ := m.NewAddressSpace()
	f, _ := m.AllocFrames(0, hal.AllocZero)
	copy(m.Frame(f), []byte{0x0f, 0x05, 0xeb, 0xfc})
	space.Map([]hal.Mapping{{Addr: codeAddr, Frame: f, Pages: 1, Prot: hal.ProtRead | hal.ProtExec}})
	c := m.NewCtx()
	c.RIP = codeAddr
	for b.Loop() {
		m.Enter(c, space)
	}
}

// The host refuses a thread: Enter waits for better times, comes back for an interrupt, and
// gives up in the end without having run anything.
func TestAThreadThatTheHostRefuses(t *testing.T) {
	old := newThread
	defer func() { newThread = old }()
	refusals, asked := 3, 0
	newThread = func(s *stub) (int, error) {
		if asked++; asked <= refusals {
			return 0, fmt.Errorf("refused: %w", unix.EAGAIN)
		}
		return old(s)
	}
	r := newRigBefore(t, old)
	r.want(hal.Exit{Kind: hal.ExitSyscall})
	if asked != refusals+1 {
		t.Errorf("asked %d times", asked)
	}

	asked, refusals = 0, 1<<30
	r = newRigBefore(t, old)
	go func() {
		time.Sleep(20 * time.Millisecond)
		r.m.Interrupt(r.ctx)
	}()
	r.want(hal.Exit{Kind: hal.ExitInterrupt})
	start := time.Now()
	r.want(hal.Exit{Kind: hal.ExitRefused})
	if d := time.Since(start); d < refusedFor/2 || r.ctx.RIP != codeAddr {
		t.Errorf("gave up after %v at %#x", d, r.ctx.RIP)
	}
	refusals = 0
	r.want(hal.Exit{Kind: hal.ExitSyscall})
}

// newRigBefore makes a rig with a SYSCALL while threads are made by clone.
func newRigBefore(t *testing.T, clone func(*stub) (int, error)) *rig {
	now := newThread
	newThread = clone
	defer func() { newThread = now }()
	return newRig(t, 0x0f, 0x05)
}
