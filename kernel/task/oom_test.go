package task

import (
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// zeros is a file of zeros on a disk.
type zeros struct{}

func (zeros) ImageRun(int64, int) (hal.PFN, int)                    { return 0, 0 }
func (zeros) ReadPages(wait.Context, int64, []hal.PFN) error        { return nil }
func (zeros) WritePages(_ wait.Context, _ int64, _ []hal.PFN) error { return unix.EROFS }

// A thread that ends by itself gets memory for the word that joiners wait for, where page cache
// is to be had, though one that was killed does without.
func TestEndingThreadHasMemoryForItsWord(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		at, err := th.space.Mmap(th, mm.MapArgs{Len: 16 * hal.PageSize, Prot: hal.ProtRead | hal.ProtWrite,
			Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS})
		if err != nil {
			t.Fatal(err)
		}
		if err := th.CopyOut(at, make([]byte, 4)); err != nil { // page tables
			t.Fatal(err)
		}
		r.m.SetWatermarks(0, 0)
		const pages = 8192 // more than there are
		o := mm.NewObject(r.mem, zeros{}, pages*hal.PageSize)
		defer o.DecRef()
		fill := func() {
			for i := range int64(pages) {
				f, err := o.Page(th, i)
				if err != nil {
					t.Fatal(err)
				}
				r.mem.Unref(f)
			}
			for r.m.FreePages() > 0 { // what the last reclaim has left
				if _, err := r.m.AllocFrames(0, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		fill()
		th.Exit(0)
		if err := th.CopyOut(at+5*hal.PageSize, make([]byte, 4)); err != nil {
			t.Errorf("of a thread that ends: %v", err)
		}
		th.flags.And(^fKill)
		fill()
		th.process.SendSignal(SignalInfo{Signo: int32(unix.SIGKILL)})
		if err := th.CopyOut(at+9*hal.PageSize, make([]byte, 4)); err == nil {
			t.Error("a thread that was killed looked for memory")
		}
	})
}

func TestOutOfMemoryKillsWithALine(t *testing.T) {
	r := newRig(t)
	r.at(0x1000, func(c *hal.Ctx, _ hal.AddressSpace) {
		c.R12 += hal.PageSize
		c.Exit = hal.Exit{Kind: hal.ExitException, Vector: hal.VectorPF, Error: hal.PFUser | hal.PFWrite, Addr: c.R12}
	})
	r.on(tryCall, func(th *Thread) (uintptr, error) {
		a, err := th.space.Mmap(th, mmArgs(64<<20))
		th.Ctx.R12 = uint64(a)
		return 0, err
	})
	r.sysAt(0x0f00, tryCall)
	r.jump(0x0f02, 0x1000)
	r.start(0x0f00)
	if s := r.wait(); s != uint32(unix.SIGKILL) {
		t.Fatalf("status %#x", s)
	}
	if l := r.log(); len(l) != 1 || l[0][:len("out of memory: killed process 1 (prog)")] != "out of memory: killed process 1 (prog)" {
		t.Errorf("log %q", l)
	}
}

// chosen runs f as a system call of a program, which is to die of it for want of memory.
func chosen(t *testing.T, f func(r *rig, th *Thread)) *rig {
	t.Helper()
	r := newRig(t)
	r.on(tryCall, func(th *Thread) (uintptr, error) { f(r, th); return 0, nil })
	r.sysAt(0x0f00, tryCall)
	r.jump(0x0f02, 0x0f00)
	r.start(0x0f00)
	if s := r.wait(); s != uint32(unix.SIGKILL) {
		t.Fatalf("status %#x", s)
	}
	return r
}

// While a process ends, its memory is about to come back, also when it has no Space any more;
// and who found no memory before it came back kills nobody.
func TestNobodyIsKilledForMemoryThatComesBack(t *testing.T) {
	r := chosen(t, func(r *rig, th *Thread) {
		k := r.k
		dying := &Process{k: k, pid: 77, exitFlag: true}
		with := func(f func()) {
			k.tree.Lock()
			defer k.tree.Unlock()
			f()
		}
		r.m.SetWatermarks(8192, 4096) // none is free for programs
		with(func() { k.procs[77] = dying })
		k.oomKill(th.space)
		with(func() { dying.zombie = true; k.ended++ })
		r.m.SetWatermarks(64, 16)
		k.oomKill(th.space)
		with(func() { delete(k.procs, 77) })
		if l := r.log(); len(l) != 0 {
			t.Errorf("log %q", l)
		}
		// It did not help: somebody must die.
		k.oomKill(th.space)
	})
	if l := r.log(); len(l) != 1 {
		t.Errorf("log %q", l)
	}
}

// Whoever dies for memory's sake runs before those who look for some, however many they are and
// however much of the processors it has had; a real-time thread keeps its own priority.
func TestWhoDiesForMemoryIsHurried(t *testing.T) {
	chosen(t, func(r *rig, th *Thread) {
		k := r.k
		fast := &Thread{k: k}
		slow := &Thread{k: k, sibling: fast}
		slow.e.set(SchedOther, 0, 19)
		fast.e.set(SchedRR, 7, 0)
		dying := &Process{k: k, pid: 77, exitFlag: true, threads: slow, nthreads: 2}
		r.m.SetWatermarks(8192, 4096) // none is free for programs
		k.tree.Lock()
		k.procs[77] = dying
		k.tree.Unlock()
		k.oomKill(th.space)
		k.oomKill(th.space)
		k.tree.Lock()
		delete(k.procs, 77)
		k.tree.Unlock()
		if p := slow.SchedParam(); p.Policy != SchedFIFO || p.Priority != 1 {
			t.Errorf("who ends by itself is scheduled by %+v", p)
		}
		if p := fast.SchedParam(); p.Policy != SchedRR || p.Priority != 7 {
			t.Errorf("a real-time thread is scheduled by %+v", p)
		}
		if p := th.SchedParam(); p.Priority != 0 {
			t.Errorf("who looks for memory is scheduled by %+v", p)
		}
		k.oomKill(th.space)
		if p := th.SchedParam(); p.Policy != SchedFIFO || p.Priority != 1 {
			t.Errorf("the victim is scheduled by %+v", p)
		}
	})
}

// A process that its tracer holds at its end gives nothing back for as long as the tracer likes.
func TestOneThatIsHeldAtItsEndIsNotWaitedFor(t *testing.T) {
	chosen(t, func(r *rig, th *Thread) {
		k, held := r.k, &Thread{}
		held.pt.stopped, held.pt.dying = true, true
		r.m.SetWatermarks(8192, 4096) // none is free for programs
		k.tree.Lock()
		k.procs[77] = &Process{k: k, pid: 77, exitFlag: true, threads: held}
		k.tree.Unlock()
		k.oomKill(th.space)
		k.tree.Lock()
		delete(k.procs, 77)
		k.tree.Unlock()
	})
}
