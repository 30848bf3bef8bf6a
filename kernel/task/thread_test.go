package task

import (
	"encoding/binary"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

const (
	threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM
	cloneNr     = 1100
	forkNr      = 1101
	waitNr      = 1102
)

// onClone makes nr start a thread (or process) at entry.
func (r *rig) onClone(nr uint64, a CloneArgs, entry uint64) {
	r.on(nr, func(t *Thread) (uintptr, error) {
		rip := t.Ctx.RIP
		t.Ctx.RIP = entry
		id, err := t.Clone(&a)
		t.Ctx.RIP = rip
		return uintptr(id), err
	})
}

func TestFutexWaitAndWakeBetweenThreads(t *testing.T) {
	r := newRig(t)
	const word = dataBase + 64
	var woken atomic.Int32
	r.onClone(cloneNr, CloneArgs{Flags: threadFlags}, 0x3000)
	r.on(tryCall, func(th *Thread) (uintptr, error) {
		err := th.FutexWait(word, false, 0, ^uint32(0), hal.NoDeadline)
		if err == nil {
			woken.Add(1)
		}
		return 0, err
	})
	r.on(raiseNr, func(th *Thread) (uintptr, error) {
		if th.Process().NumThreads() < 4 || !allBlocked(th) {
			return 1, nil
		}
		if n, _ := th.FutexWake(word, false, 1, ^uint32(0)); n != 1 {
			t.Errorf("woke %d, want 1", n)
		}
		if n, _ := th.FutexRequeue(word, word+4, false, 1, 1, true, 0); n != 2 {
			t.Errorf("requeued %d, want 2", n)
		}
		if n, _ := th.FutexWake(word, false, 9, ^uint32(0)); n != 0 {
			t.Errorf("%d left on the first word", n)
		}
		if n, _ := th.FutexWake(word+4, false, 9, ^uint32(0)); n != 1 {
			t.Errorf("%d on the second word, want 1", n)
		}
		return 0, nil
	})
	for i := uint64(0); i < 3; i++ {
		r.sysAt(0x1000+i*0x10, cloneNr)
		r.jump(0x1002+i*0x10, 0x1010+i*0x10)
	}
	// Try until all three sleep, then wake them, then wait for them to be gone.
	r.sysAt(0x1030, raiseNr)
	r.at(0x1032, func(c *hal.Ctx, _ hal.AddressSpace) {
		c.RIP = 0x1040
		if c.RAX == 1 {
			c.RIP = 0x1030
		}
		c.Exit = hal.Exit{Kind: hal.ExitInterrupt}
	})
	r.sysAt(0x1040, unix.SYS_EXIT, 3)
	r.sysAt(0x3000, tryCall)
	r.sysAt(0x3002, unix.SYS_EXIT, 3) // as the leader: the last one's status counts, whoever that is
	r.m.UseHostClock()
	r.start(0x1000)
	if s := r.wait(); s != 3<<8 || woken.Load() != 3 {
		t.Fatalf("status %#x, woken %d", s, woken.Load())
	}
}

func allBlocked(th *Thread) bool {
	for _, o := range th.process.Threads() {
		if o != th && o.futex.bucket.Load() == nil {
			return false
		}
	}
	return true
}

// solo runs f as one system call of a program.
func solo(t *testing.T, f func(r *rig, th *Thread)) *rig {
	t.Helper()
	r := newRig(t)
	r.m.UseHostClock()
	r.on(tryCall, func(th *Thread) (uintptr, error) { f(r, th); return 0, nil })
	r.sysAt(0x1000, tryCall)
	r.sysAt(0x1002, unix.SYS_EXIT_GROUP, 0)
	r.start(0x1000)
	r.wait()
	return r
}

func TestFutexErrors(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		wait := func(a hal.UserAddr, v, bits uint32, ns int64) error {
			return th.FutexWait(a, false, v, bits, th.Deadline(ns))
		}
		for _, c := range []struct {
			name string
			got  error
			want error
		}{
			{"other value", wait(dataBase, 1, 1, 1e6), unix.EAGAIN},
			{"time-out", wait(dataBase, 0, 1, 1e6), unix.ETIMEDOUT},
			{"unaligned", wait(dataBase+1, 0, 1, 1e6), unix.EINVAL},
			{"no bit", wait(dataBase, 0, 0, 1e6), unix.EINVAL},
			{"unmapped", wait(0x1000, 0, 1, 1e6), unix.EFAULT},
			{"kernel half", wait(0xffff800000000000, 0, 1, 1e6), unix.EFAULT},
		} {
			if c.got != c.want {
				t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
			}
		}
		if b := th.futex.bucket.Load(); b != nil {
			t.Error("still queued after a time-out")
		}
		if n, err := th.FutexWakeOp(dataBase, dataBase+4, false, 1, 1, 1<<28|5<<12|0); n != 0 || err != nil {
			t.Error(n, err)
		}
		if v, _ := th.space.Load32(th, dataBase+4); v != 5 {
			t.Errorf("FUTEX_OP_ADD left %d", v)
		}
		if _, err := th.FutexWakeOp(dataBase, dataBase+4, false, 1, 1, 7<<28); err != unix.ENOSYS {
			t.Errorf("unknown op: %v", err)
		}
	})
}

func TestBlockEndsAsAsked(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		th.NotifyEvent(0)
		if res := th.Block(hal.NoDeadline, wait.Uninterruptible); res != wait.Ready {
			t.Errorf("a notification before Block: %v", res)
		}
		start := r.m.Nanotime()
		if res := th.Sleep(th.Deadline(5e6)); res != wait.Timeout || r.m.Nanotime()-start < 5e6 {
			t.Errorf("sleep: %v after %d ns", res, r.m.Nanotime()-start)
		}
		th.SetMask(Set(int32(unix.SIGUSR1)))
		th.SendSignal(SignalInfo{Signo: int32(unix.SIGUSR1)})
		if res := th.Block(th.Deadline(1e6), wait.Interruptible); res != wait.Timeout {
			t.Errorf("a blocked signal ended the wait: %v", res)
		}
		th.process.Action(int32(unix.SIGUSR1), &SigAction{Handler: handlerA, Flags: SARestorer})
		th.SetMask(0)
		if res := th.Block(hal.NoDeadline, wait.Interruptible); res != wait.Signal {
			t.Errorf("signal: %v", res)
		}
		if res := th.Block(th.Deadline(1e6), wait.Killable); res != wait.Timeout {
			t.Errorf("a signal with a handler ended a killable wait: %v", res)
		}
		th.process.Action(int32(unix.SIGUSR1), &SigAction{Handler: sigIgnore})
		th.process.mu.Lock()
		th.recalc()
		th.process.mu.Unlock()
	})
}

func TestBlockDoesNotAllocate(t *testing.T) {
	r := newRig(t)
	r.on(tryCall, func(th *Thread) (uintptr, error) {
		var stop atomic.Bool
		var q waiter.Queue
		go func() {
			for !stop.Load() {
				th.NotifyEvent(0)
				q.Notify(waiter.ReadableEvents)
				runtime.Gosched()
			}
		}()
		before := th.voluntary.Load()
		if n := testing.AllocsPerRun(200, func() { th.Block(hal.NoDeadline-1, wait.Interruptible) }); n > 0 {
			t.Errorf("%v allocations a Block", n)
		}
		if th.voluntary.Load() == before {
			t.Error("it never parked")
		}
		w := &pollable{q: &q}
		tries := 0
		try := func() (int, error) {
			if tries++; tries%3 == 0 {
				return 1, nil
			}
			return 0, unix.EAGAIN
		}
		if n := testing.AllocsPerRun(200, func() {
			th.BlockOn(w, waiter.ReadableEvents, false, hal.NoDeadline, unix.ETIMEDOUT, try)
		}); n > 0 {
			t.Errorf("%v allocations a BlockOn", n)
		}
		stop.Store(true)
		return 0, nil
	})
	r.sysAt(0x1000, tryCall)
	r.sysAt(0x1002, unix.SYS_EXIT_GROUP, 0)
	r.start(0x1000)
	r.wait()
}

type pollable struct{ q *waiter.Queue }

func (p *pollable) Readiness(m waiter.EventMask) waiter.EventMask { return 0 }
func (p *pollable) EventRegister(e *waiter.Entry) error           { p.q.EventRegister(e); return nil }
func (p *pollable) EventUnregister(e *waiter.Entry)               { p.q.EventUnregister(e) }

// Two programs that never call the kernel share one CPU by the slice timer.
func TestSpinningThreadsShareACPU(t *testing.T) {
	r := newRig(t)
	r.m.UseHostClock()
	r.onClone(cloneNr, CloneArgs{Flags: threadFlags}, 0x3000)
	var mu sync.Mutex
	count := map[uint64]int{}
	spin := func(at uint64) {
		r.at(at, func(c *hal.Ctx, _ hal.AddressSpace) {
			time.Sleep(100 * time.Microsecond)
			mu.Lock()
			count[at]++
			enough := count[0x2000] > 3 && count[0x3000] > 3
			mu.Unlock()
			c.Exit = hal.Exit{Kind: hal.ExitInterrupt}
			if enough {
				c.RIP = 0x4000
			}
		})
	}
	spin(0x2000)
	spin(0x3000)
	r.sysAt(0x1000, cloneNr)
	r.jump(0x1002, 0x2000)
	r.sysAt(0x4000, unix.SYS_EXIT_GROUP, 0)
	p := r.start(0x1000)
	r.wait()
	u := p.Usage()
	if u.User <= 0 {
		t.Errorf("no CPU time was counted: %+v", u)
	}
}

// A machine that cannot run a program costs that process, not the kernel.
func TestAProcessThatCannotBeRunIsKilled(t *testing.T) {
	r := newRig(t)
	r.at(0x1000, func(c *hal.Ctx, _ hal.AddressSpace) { c.Exit = hal.Exit{Kind: hal.ExitRefused} })
	r.start(0x1000)
	if s := r.wait(); s != uint32(unix.SIGKILL) {
		t.Errorf("status %#x", s)
	}
	if l := strings.Join(r.log(), "\n"); !strings.Contains(l, "no thread left to run process 1 ") {
		t.Errorf("log: %q", l)
	}
}

// A signal that came to a thread because it waited for it goes to another where the thread
// takes something else.
func TestWhatIsLeftBySigTimedWaitGoesToAnotherThread(t *testing.T) {
	r := newRig(t)
	r.m.UseHostClock()
	r.onClone(cloneNr, CloneArgs{Flags: threadFlags}, 0x3000)
	usr1, usr2 := int32(unix.SIGUSR1), int32(unix.SIGUSR2)
	r.on(raiseNr, func(th *Thread) (uintptr, error) {
		install(th, usr2, 0, 0)
		th.SetMask(Set(usr1) | Set(usr2))
		return 0, nil
	})
	r.on(waitNr, func(th *Thread) (uintptr, error) {
		info, err := th.SigTimedWait(Set(usr1)|Set(usr2), hal.NoDeadline)
		if err != nil || info.Signo != usr1 {
			t.Errorf("took %d, %v", info.Signo, err)
		}
		for th.process.NumThreads() > 1 {
			th.Yield()
		}
		return 0, nil
	})
	r.on(pauseNr, func(th *Thread) (uintptr, error) {
		p := th.process
		th.SetMask(Set(usr1))
		for p.Leader().state.Load() != stateBlocked {
			th.Yield()
		}
		p.mu.Lock() // both come before it takes one
		_ = p.sendLocked(nil, SignalInfo{Signo: usr1})
		_ = p.sendLocked(nil, SignalInfo{Signo: usr2})
		p.mu.Unlock()
		if r := th.Sleep(th.k.M.Nanotime() + int64(5*time.Second)); r.Err() == unix.ETIMEDOUT {
			t.Error("the other thread sleeps on")
		}
		if info, ok := th.TakeSignal(Set(usr2)); !ok {
			t.Errorf("the other thread has %+v", info)
		}
		th.Exit(0)
		return 0, nil
	})
	r.sysAt(0x1000, raiseNr)
	r.sysAt(0x1002, cloneNr)
	r.jump(0x1004, 0x1010)
	r.sysAt(0x1010, waitNr)
	r.sysAt(0x1012, unix.SYS_EXIT_GROUP, 0)
	r.sysAt(0x3000, pauseNr)
	r.start(0x1000)
	r.wait()
}

// A child's SIGCHLD comes before its wake-up: the wait tells of the child nevertheless.
func TestWaitIsNotInterruptedByTheSignalOfItsOwnChild(t *testing.T) {
	r := newRig(t)
	r.onClone(forkNr, CloneArgs{ExitSignal: int32(unix.SIGCHLD)}, 0x3000)
	const stopped = uint32(unix.SIGSTOP)<<8 | 0x7f
	var over atomic.Bool
	r.on(waitNr, func(th *Thread) (uintptr, error) {
		install(th, int32(unix.SIGCHLD), 0, 0)
		res, err := th.Wait(WaitArgs{PID: -1, Options: unix.WEXITED | unix.WSTOPPED})
		if err != nil || res.Status != stopped {
			t.Errorf("waited for %+v, %v", res, err)
		}
		over.Store(true)
		th.SetMask(Set(int32(unix.SIGCHLD)))
		return 0, nil
	})
	r.on(pauseNr, func(th *Thread) (uintptr, error) {
		for parent := th.process.parent.Threads()[0]; parent.state.Load() != stateBlocked; {
			th.Yield()
		}
		p := th.process
		p.mu.Lock()
		p.stopReport = stopped
		p.mu.Unlock()
		p.parent.SendSignal(SignalInfo{Signo: int32(unix.SIGCHLD), Code: cldStopped, PID: p.pid})
		for !over.Load() {
			th.Yield()
		}
		return 0, nil
	})
	r.sysAt(0x1000, forkNr)
	r.jump(0x1002, 0x1010)
	r.sysAt(0x1010, waitNr)
	r.sysAt(0x1012, unix.SYS_EXIT_GROUP, 0)
	r.sysAt(0x3000, pauseNr)
	r.sysAt(0x3002, unix.SYS_EXIT_GROUP, 0)
	r.start(0x1000)
	r.wait()
}

func TestForkWaitAndChildSignals(t *testing.T) {
	r := newRig(t)
	r.onClone(forkNr, CloneArgs{ExitSignal: int32(unix.SIGCHLD)}, 0x3000)
	var res WaitResult
	var child uintptr
	r.on(waitNr, func(th *Thread) (uintptr, error) {
		if _, err := th.Wait(WaitArgs{PID: 99, Options: unix.WEXITED}); err != unix.ECHILD {
			t.Errorf("no such child: %v", err)
		}
		if p := th.k.Process(int32(th.Ctx.RBX)); p == nil || p.PPID() != 1 {
			t.Error("the child has no parent")
		}
		var err error
		res, err = th.Wait(WaitArgs{PID: -1, Options: unix.WEXITED})
		if err == nil {
			if _, err := th.Wait(WaitArgs{PID: -1, Options: unix.WEXITED}); err != unix.ECHILD {
				t.Errorf("after the last child: %v", err)
			}
			if info, ok := th.TakeSignal(Set(int32(unix.SIGCHLD))); !ok || info.Status != 9 || info.PID != res.PID {
				t.Errorf("SIGCHLD %v %+v", ok, info)
			}
		}
		return 0, err
	})
	r.on(raiseNr, func(th *Thread) (uintptr, error) {
		install(th, int32(unix.SIGCHLD), 0, 0)
		th.SetMask(Set(int32(unix.SIGCHLD)))
		return 0, th.CopyOut(dataBase, []byte("parent"))
	})
	r.sysAt(0x900, raiseNr)
	r.jump(0x902, 0x1000)
	r.sysAt(0x1000, forkNr)
	r.at(0x1002, func(c *hal.Ctx, _ hal.AddressSpace) {
		child, c.RBX = uintptr(c.RAX), c.RAX
		c.RIP, c.Exit = 0x1010, hal.Exit{Kind: hal.ExitInterrupt}
	})
	r.sysAt(0x1010, waitNr)
	r.at(0x1012, func(c *hal.Ctx, as hal.AddressSpace) {
		var b [6]byte
		as.CopyIn(b[:], dataBase)
		if string(b[:]) != "parent" {
			t.Errorf("the child wrote to its parent: %q", b)
		}
		c.RIP, c.Exit = 0x2000, hal.Exit{Kind: hal.ExitInterrupt}
	})
	r.sysAt(0x2000, unix.SYS_EXIT_GROUP, 0)
	r.on(pauseNr, func(th *Thread) (uintptr, error) { return 0, th.CopyOut(dataBase, []byte("child!")) })
	r.at(0x3000, func(c *hal.Ctx, _ hal.AddressSpace) {
		if c.RAX != 0 {
			t.Errorf("fork returned %d in the child", c.RAX)
		}
		c.RIP, c.Exit = 0x3010, hal.Exit{Kind: hal.ExitInterrupt}
	})
	r.sysAt(0x3010, pauseNr)
	r.sysAt(0x3012, unix.SYS_EXIT_GROUP, 9)
	r.start(0x900)
	if s := r.wait(); s != 0 {
		t.Fatalf("status %#x", s)
	}
	if uintptr(res.PID) != child || res.Status != 9<<8 {
		t.Errorf("waited for %+v, child %d", res, child)
	}
	if n := len(r.k.Processes()); n != 0 {
		t.Errorf("%d processes left", n)
	}
}

func TestVforkParentSleepsUntilTheChildIsGone(t *testing.T) {
	r := newRig(t)
	var done atomic.Bool
	r.onClone(forkNr, CloneArgs{Flags: unix.CLONE_VM | unix.CLONE_VFORK, ExitSignal: int32(unix.SIGCHLD)}, 0x3000)
	r.sysAt(0x1000, forkNr)
	r.at(0x1002, func(c *hal.Ctx, _ hal.AddressSpace) {
		if !done.Load() {
			t.Error("the parent ran first")
		}
		c.RIP, c.Exit = 0x2000, hal.Exit{Kind: hal.ExitInterrupt}
	})
	r.sysAt(0x2000, unix.SYS_EXIT_GROUP, 0)
	r.at(0x3000, func(c *hal.Ctx, _ hal.AddressSpace) {
		time.Sleep(5 * time.Millisecond)
		done.Store(true)
		c.RIP, c.Exit = 0x3010, hal.Exit{Kind: hal.ExitInterrupt}
	})
	r.sysAt(0x3010, unix.SYS_EXIT_GROUP, 0)
	r.start(0x1000)
	r.wait()
}

func TestExitGroupEndsBlockedSiblings(t *testing.T) {
	r := newRig(t)
	r.onClone(cloneNr, CloneArgs{Flags: threadFlags | unix.CLONE_CHILD_CLEARTID, ChildTID: dataBase + 128}, 0x3000)
	r.on(pauseNr, func(th *Thread) (uintptr, error) { return 0, th.Sleep(hal.NoDeadline).Err() })
	r.sysAt(0x1000, cloneNr)
	r.sysAt(0x1002, cloneNr)
	r.sysAt(0x1004, unix.SYS_EXIT_GROUP, 5)
	r.sysAt(0x3000, pauseNr)
	r.start(0x1000)
	if s := r.wait(); s != 5<<8 {
		t.Fatalf("status %#x", s)
	}
	r.eventually("every thread is gone", func() bool { n, _, _ := r.k.Counts(); return n == 0 })
	r.eventually("the budget is given back", func() bool { return r.mem.Budget().Used() == 0 })
}

// Work that makes more of itself, as a ring's requests may, does not keep a thread from its end.
func TestWorkWithoutEndDoesNotOutliveItsThread(t *testing.T) {
	r := newRig(t)
	done := 0
	r.on(1000, func(t *Thread) (uintptr, error) {
		var again func()
		again = func() {
			if done++; done == 100 {
				t.process.SendSignal(SignalInfo{Signo: int32(unix.SIGKILL)})
			}
			t.AddWork(again)
		}
		t.AddWork(again)
		return 0, nil
	})
	r.sysAt(0x1000, 1000)
	r.start(0x1000)
	if s := r.wait(); s != uint32(unix.SIGKILL) {
		t.Errorf("status %#x", s)
	}
	if done < 100 || done > 102 {
		t.Errorf("it was done %d times", done)
	}
}

func TestRobustListMarksTheOwnersDeath(t *testing.T) {
	r := newRig(t)
	const head, lock = dataBase + 256, dataBase + 512
	r.onClone(cloneNr, CloneArgs{Flags: threadFlags}, 0x3000)
	r.on(tryCall, func(th *Thread) (uintptr, error) {
		put := func(a hal.UserAddr, v uint64) {
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], v)
			th.CopyOut(a, b[:])
		}
		put(head, lock) // the list: one entry
		put(head+8, 16) // the word lies 16 bytes behind the entry
		put(head+16, 0) // nothing pending
		put(lock, head) // back to the head
		put(lock+16, uint64(th.TID())|futexWaiters)
		th.SetRobustList(head)
		return 0, nil
	})
	r.on(raiseNr, func(th *Thread) (uintptr, error) {
		for {
			v, err := th.space.Load32(th, lock+16)
			if err != nil {
				return 0, err
			}
			if v == futexWaiters|futexOwnerDied {
				return 0, nil
			}
			if r := th.Sleep(th.Deadline(1e6)); r != wait.Timeout {
				return 0, r.Err()
			}
		}
	})
	r.m.UseHostClock()
	r.sysAt(0x1000, cloneNr)
	r.sysAt(0x1002, raiseNr)
	r.sysAt(0x1004, unix.SYS_EXIT_GROUP, 0)
	r.sysAt(0x3000, tryCall)
	r.sysAt(0x3002, unix.SYS_EXIT, 0)
	r.start(0x1000)
	if s := r.wait(); s != 0 {
		t.Fatalf("status %#x", s)
	}
}

func TestIntervalAndPosixTimers(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		p := th.process
		set := Set(int32(unix.SIGALRM)) | Set(rtSig)
		th.SetMask(set)
		p.SetITimer(unix.ITIMER_REAL, 2e6, 0)
		info, err := th.SigTimedWait(Set(int32(unix.SIGALRM)), th.Deadline(5e9))
		if err != nil || info.Signo != int32(unix.SIGALRM) {
			t.Errorf("alarm: %+v %v", info, err)
		}
		if left, _ := p.ITimer(unix.ITIMER_REAL); left != 0 {
			t.Errorf("%d ns left of an expired timer", left)
		}
		id, err := th.CreateTimer(TimerArgs{Clock: 1, Notify: sigevSignal, Signo: rtSig, Value: 77})
		if err != nil {
			t.Fatal(err)
		}
		p.SetTimer(id, false, 1e6, 1e6)
		th.Sleep(th.Deadline(20e6))
		info, err = th.SigTimedWait(Set(rtSig), 0)
		if err != nil || info.Code != SITimer || info.Value != 77 || info.Overrun < 5 {
			t.Errorf("timer: %+v %v", info, err)
		}
		if n, _ := p.TimerOverrun(id); n != info.Overrun {
			t.Errorf("overrun %d, delivered %d", n, info.Overrun)
		}
		if err := p.DeleteTimer(id); err != nil {
			t.Error(err)
		}
		if err := p.DeleteTimer(id); err != unix.EINVAL {
			t.Errorf("deleted twice: %v", err)
		}
		if _, err := th.SigTimedWait(set, th.Deadline(3e6)); err != unix.EAGAIN {
			t.Errorf("a deleted timer fired: %v", err)
		}
	})
}

func TestSignalGoesToAThreadThatTakesIt(t *testing.T) {
	r := newRig(t)
	r.onClone(cloneNr, CloneArgs{Flags: threadFlags}, 0x3000)
	var by atomic.Int32
	var leader *Thread
	r.on(tryCall, func(th *Thread) (uintptr, error) {
		leader = th
		install(th, int32(unix.SIGUSR1), 0, 0)
		return 0, nil
	})
	r.on(raiseNr, func(th *Thread) (uintptr, error) {
		th.SetMask(Set(int32(unix.SIGUSR1)))
		th.process.SendSignal(SignalInfo{Signo: int32(unix.SIGUSR1)})
		return 0, th.Sleep(hal.NoDeadline).Err()
	})
	r.on(pauseNr, func(th *Thread) (uintptr, error) { return 0, th.Sleep(hal.NoDeadline).Err() })
	r.sysAt(0x0f00, tryCall)
	r.jump(0x0f02, 0x1000)
	r.sysAt(0x1000, cloneNr)
	r.sysAt(0x1002, raiseNr)
	r.sysAt(0x3000, pauseNr)
	r.on(1200, func(th *Thread) (uintptr, error) { by.Store(th.TID()); th.ExitGroup(0); return 0, nil })
	r.sysAt(handlerA, 1200)
	r.start(0x0f00)
	r.wait()
	if by.Load() == leader.TID() || by.Load() == 0 {
		t.Errorf("thread %d took a signal that it blocks", by.Load())
	}
}

// A PI lock goes from owner to waiter without looking free; a dead owner's goes on with
// FUTEX_OWNER_DIED.
func TestPILockIsHandedOver(t *testing.T) {
	for _, how := range []string{"unlocks", "dies", "dies after a fork", "dies with a robust list", "dies and the word has gone"} {
		r := newRig(t)
		dies := how != "unlocks"
		r.m.UseHostClock()
		const word = dataBase + 32
		r.onClone(cloneNr, CloneArgs{Flags: threadFlags}, 0x3000)
		var got atomic.Uint32
		r.on(tryCall, func(th *Thread) (uintptr, error) { // the second thread
			if err := th.FutexUnlockPI(word, false); err != unix.EPERM {
				t.Errorf("unlock of another's lock: %v", err)
			}
			if err := th.FutexLockPI(word, false, true, hal.NoDeadline); err != unix.EAGAIN {
				t.Errorf("trylock: %v", err)
			}
			if err := th.FutexLockPI(word, false, false, th.Deadline(2e6)); err != unix.ETIMEDOUT {
				t.Errorf("lock with a time-out: %v", err)
			}
			err := th.FutexLockPI(word, false, false, hal.NoDeadline)
			if how == "dies and the word has gone" {
				if err != unix.EFAULT {
					t.Errorf("%s: %v, want EFAULT", how, err)
				}
				got.Store(futexWaiters | futexOwnerDied)
				return 0, nil
			}
			if err != nil {
				t.Errorf("lock: %v", err)
			}
			v, _ := th.space.Load32(th, word)
			got.Store(v ^ uint32(th.TID()))
			if err := th.FutexUnlockPI(word, false); err != nil {
				t.Errorf("unlock: %v", err)
			}
			if v, _ := th.space.Load32(th, word); v != 0 {
				t.Errorf("free lock is %#x", v)
			}
			return 0, nil
		})
		r.on(raiseNr, func(th *Thread) (uintptr, error) { // the leader
			if err := th.FutexLockPI(word, false, false, hal.NoDeadline); err != nil {
				t.Errorf("first lock: %v", err)
			}
			if err := th.FutexLockPI(word, false, false, hal.NoDeadline); err != unix.EDEADLK {
				t.Errorf("again: %v", err)
			}
			return 0, nil
		})
		r.on(waitNr, func(th *Thread) (uintptr, error) {
			for {
				if res := th.Sleep(th.Deadline(1e6)); res != wait.Timeout {
					return 0, res.Err()
				}
				if th.k.piWaiters.Load() == 1 && th.process.Threads()[0].futex.bucket.Load() != nil {
					if v, _ := th.space.Load32(th, word); v&futexWaiters != 0 && th.Ctx.RBX == 1 {
						break
					}
				}
				th.Ctx.RBX = 0
				if th.k.piWaiters.Load() == 1 {
					th.Ctx.RBX = 1
				}
			}
			th.Sleep(th.Deadline(5e6)) // past the time-out of the first try
			switch how {
			case "dies after a fork":
				c, err := th.space.Fork() // the page is read-only
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.DecUsers)
			case "dies with a robust list":
				th.ownerDied(word, true, false)
			case "dies and the word has gone":
				_ = th.space.Munmap(dataBase, stackSize)
			}
			if dies {
				return 0, nil
			}
			if err := th.FutexUnlockPI(word, false); err != nil {
				return 0, err
			}
			// The other has it, though it has not run yet, and waits for nobody.
			switch err := th.FutexLockPI(word, false, false, th.Deadline(1)); err {
			case nil:
				return 0, th.FutexUnlockPI(word, false)
			case unix.ETIMEDOUT:
			default:
				t.Errorf("lock after handing it over: %v", err)
			}
			return 0, nil
		})
		r.sysAt(0x1000, raiseNr)
		r.sysAt(0x1002, cloneNr)
		r.sysAt(0x1004, waitNr)
		r.sysAt(0x1006, unix.SYS_EXIT, 0)
		r.sysAt(0x3000, tryCall)
		r.sysAt(0x3002, unix.SYS_EXIT_GROUP, 0)
		r.start(0x1000)
		if s := r.wait(); s != 0 {
			t.Fatalf("status %#x", s)
		}
		want := uint32(futexWaiters) // Linux leaves it, so that the new owner unlocks in the kernel
		if dies {
			want |= futexOwnerDied
		}
		if got.Load() != want {
			t.Errorf("the owner %s: beside the TID the word has %#x", how, got.Load())
		}
	}
}
