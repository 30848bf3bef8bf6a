package task

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
)

const execNr = 1200

func TestExecEndsSiblingsAndTakesTheLeadersNumber(t *testing.T) {
	r := newRig(t)
	r.onClone(cloneNr, CloneArgs{Flags: threadFlags}, 0x3000)
	var tid, pid, left atomic.Int32
	var flags, handler atomic.Uint64
	r.on(pauseNr, func(th *Thread) (uintptr, error) { return 0, th.Sleep(hal.NoDeadline).Err() })
	r.on(execNr, func(th *Thread) (uintptr, error) {
		install(th, int32(unix.SIGUSR1), 0, 0)
		_, _ = th.process.Action(int32(unix.SIGUSR2), &SigAction{Handler: sigIgnore})
		_ = th.SetAltStack(AltStack{SP: dataBase, Size: 8192})
		if err := th.KillSiblings(); err != nil {
			return 0, err
		}
		th.Exec(Image{Space: r.space(), Entry: 0x5000_0000, SP: stackBase + 4096, Name: "/usr/bin/second-program-name"}, th.Creds(), 1)
		return 0, nil
	})
	r.at(0x5000_0000, func(c *hal.Ctx, _ hal.AddressSpace) {
		p := r.k.Init()
		th := p.Leader()
		tid.Store(th.TID())
		pid.Store(p.PID())
		left.Store(int32(p.NumThreads()))
		if th.Name() != "second-program-" {
			t.Errorf("comm %q", th.Name())
		}
		if c.RSP != stackBase+4096 || c.RBX != 0 || c.RDX != 0 || c.CS != userCS {
			t.Errorf("registers %+v", c.Regs)
		}
		a1, _ := p.Action(int32(unix.SIGUSR1), nil)
		a2, _ := p.Action(int32(unix.SIGUSR2), nil)
		handler.Store(a1.Handler<<1 | a2.Handler)
		flags.Store(uint64(th.AltStack(c.RSP).Flags))
		c.RIP, c.Exit = 0x2000, hal.Exit{Kind: hal.ExitInterrupt}
	})
	// The leader sleeps; a second thread starts a third and calls exec.
	r.sysAt(0x1000, cloneNr)
	r.sysAt(0x1002, pauseNr)
	r.onClone(cloneNr+1, CloneArgs{Flags: threadFlags}, 0x4000)
	r.sysAt(0x3000, cloneNr+1)
	r.at(0x3002, func(c *hal.Ctx, _ hal.AddressSpace) {
		c.RBX, c.RDX = 5, 6
		c.RAX, c.RIP, c.Exit = execNr, 0x3004, hal.Exit{Kind: hal.ExitSyscall}
	})
	r.sysAt(0x4000, pauseNr)
	r.sysAt(0x2000, unix.SYS_EXIT_GROUP, 4)
	r.start(0x1000)
	if s := r.wait(); s != 4<<8 {
		t.Fatalf("status %#x", s)
	}
	if tid.Load() != pid.Load() || left.Load() != 1 {
		t.Errorf("tid %d of pid %d, %d threads", tid.Load(), pid.Load(), left.Load())
	}
	if handler.Load() != sigDefault<<1|sigIgnore || flags.Load() != SSDisable {
		t.Errorf("dispositions %#x, alternate stack %d", handler.Load(), flags.Load())
	}
	r.eventually("all memory is back", func() bool { return r.mem.Count(1) == 0 && r.mem.Budget().Used() == 0 })
}

// A thread that is made while another one begins to end all the others ends, too: nobody waits
// for it for ever. RLIMIT_NPROC, and many processes to look at, make the making take a while.
func TestExecEndsAThreadThatIsBeingMade(t *testing.T) {
	const many = 500_000
	user := func(uid uint32) *vfs.Creds { return &vfs.Creds{UID: uid, EUID: uid, FSUID: uid} }
	m := fake.New(4096)
	m.NumCPU = 2
	r := newRigOn(t, m)
	r.on(pauseNr, func(th *Thread) (uintptr, error) { return 0, th.Sleep(hal.NoDeadline).Err() })
	r.onClone(cloneNr, CloneArgs{Flags: threadFlags}, 0x3000)
	r.on(cloneNr+1, func(th *Thread) (uintptr, error) {
		th.process.SetRlimit(RlimitNproc, Rlimit{Cur: 2, Max: 2})
		th.SetCreds(user(1000))
		th.k.tree.Lock()
		for i, other := 0, new(Process); i < many; i++ {
			th.k.procs[-1-int32(i)] = other
		}
		th.k.tree.Unlock()
		return r.call[cloneNr](th)
	})
	r.on(execNr, func(th *Thread) (uintptr, error) {
		th.SetCreds(user(2000))
		for n := 0; n < many; time.Sleep(time.Millisecond) { // until the other thread is about to begin
			th.k.tree.RLock()
			n = len(th.k.procs)
			th.k.tree.RUnlock()
		}
		for th.k.tree.TryRLock() { // until it does
			th.k.tree.RUnlock()
		}
		for begun := time.Now(); time.Since(begun) < 200*time.Microsecond; {
		}
		if err := th.KillSiblings(); err != nil {
			return 0, err
		}
		th.k.tree.Lock()
		for i := range many {
			delete(th.k.procs, -1-int32(i))
		}
		th.k.tree.Unlock()
		return 0, nil
	})
	r.sysAt(0x1000, cloneNr)
	r.sysAt(0x1002, cloneNr+1)
	r.sysAt(0x1004, pauseNr)
	r.sysAt(0x3000, execNr)
	r.sysAt(0x3002, unix.SYS_EXIT_GROUP, 4)
	r.start(0x1000)
	if s := r.wait(); s != 4<<8 {
		t.Fatalf("status %#x", s)
	}
	r.eventually("all memory is back", func() bool { return r.mem.Count(1) == 0 && r.mem.Budget().Used() == 0 })
}

func TestStoppedChildIsReportedAndContinued(t *testing.T) {
	r := newRig(t)
	r.onClone(forkNr, CloneArgs{ExitSignal: int32(unix.SIGCHLD)}, 0x3000)
	var got []uint32
	r.on(waitNr, func(th *Thread) (uintptr, error) {
		child := r.k.Process(int32(th.Ctx.RBX))
		step := func(sig unix.Signal, opt int) {
			child.SendSignal(SignalInfo{Signo: int32(sig)})
			res, err := th.Wait(WaitArgs{PID: child.PID(), Options: opt})
			if err != nil {
				t.Errorf("%v: %v", sig, err)
			}
			got = append(got, res.Status)
		}
		step(unix.SIGSTOP, unix.WSTOPPED|unix.WEXITED)
		if res, err := th.Wait(WaitArgs{PID: -1, Options: unix.WSTOPPED | unix.WNOHANG}); err != nil || res.PID != 0 {
			t.Errorf("a stop is reported once: %+v %v", res, err)
		}
		step(unix.SIGCONT, unix.WCONTINUED|unix.WEXITED)
		step(unix.SIGTERM, unix.WEXITED)
		return 0, nil
	})
	r.sysAt(0x1000, forkNr)
	r.at(0x1002, func(c *hal.Ctx, _ hal.AddressSpace) {
		c.RBX, c.RAX = c.RAX, waitNr
		c.RIP, c.Exit = 0x1010, hal.Exit{Kind: hal.ExitSyscall}
	})
	r.sysAt(0x1010, unix.SYS_EXIT_GROUP, 0)
	r.on(pauseNr, func(th *Thread) (uintptr, error) { return 0, th.Sleep(hal.NoDeadline).Err() })
	r.sysAt(0x3000, pauseNr)
	r.start(0x1000)
	r.wait()
	want := []uint32{uint32(unix.SIGSTOP)<<8 | 0x7f, 0xffff, uint32(unix.SIGTERM)}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("statuses %#x, want %#x", got, want)
		}
	}
}

// A child whose parent ends goes to process 1, which finds its zombie.
func TestOrphansGoToInit(t *testing.T) {
	r := newRig(t)
	r.onClone(forkNr, CloneArgs{ExitSignal: int32(unix.SIGCHLD)}, 0x3000)
	r.onClone(forkNr+50, CloneArgs{ExitSignal: int32(unix.SIGCHLD)}, 0x4000)
	var pids []int32
	r.on(waitNr, func(th *Thread) (uintptr, error) {
		for {
			res, err := th.Wait(WaitArgs{PID: -1, Options: unix.WEXITED})
			if err == unix.ECHILD {
				return 0, nil
			}
			if err != nil {
				return 0, err
			}
			pids = append(pids, res.PID)
		}
	})
	r.sysAt(0x1000, forkNr)
	r.sysAt(0x1002, waitNr)
	r.sysAt(0x1004, unix.SYS_EXIT_GROUP, 0)
	r.sysAt(0x3000, forkNr+50)
	r.sysAt(0x3002, unix.SYS_EXIT_GROUP, 0)
	r.on(tryCall, func(th *Thread) (uintptr, error) {
		r.eventually("adopted", func() bool { return th.process.PPID() == 1 })
		return 0, nil
	})
	r.sysAt(0x4000, tryCall)
	r.sysAt(0x4002, unix.SYS_EXIT_GROUP, 0)
	r.start(0x1000)
	r.wait()
	if len(pids) != 2 || len(r.k.Processes()) != 0 {
		t.Errorf("reaped %v, %d left", pids, len(r.k.Processes()))
	}
}

func TestIgnoredSIGCHLDReapsByItself(t *testing.T) {
	r := newRig(t)
	r.onClone(forkNr, CloneArgs{ExitSignal: int32(unix.SIGCHLD)}, 0x3000)
	r.on(waitNr, func(th *Thread) (uintptr, error) {
		_, _ = th.process.Action(int32(unix.SIGCHLD), &SigAction{Handler: sigIgnore})
		if _, err := th.Wait(WaitArgs{PID: -1, Options: unix.WEXITED}); err != unix.ECHILD {
			t.Errorf("wait: %v", err)
		}
		return 0, nil
	})
	r.sysAt(0x1000, forkNr)
	r.sysAt(0x1002, waitNr)
	r.sysAt(0x1004, unix.SYS_EXIT_GROUP, 0)
	r.sysAt(0x3000, unix.SYS_EXIT_GROUP, 0)
	r.start(0x1000)
	r.wait()
}

func TestCloneRefusesWhatLinuxRefuses(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		for _, c := range []struct {
			a    CloneArgs
			want error
		}{
			{CloneArgs{Flags: unix.CLONE_THREAD}, unix.EINVAL},
			{CloneArgs{Flags: unix.CLONE_SIGHAND}, unix.EINVAL},
			{CloneArgs{Flags: unix.CLONE_NEWNET}, unix.EINVAL},
			{CloneArgs{Flags: unix.CLONE_VM | unix.CLONE_SETTLS, TLS: hal.UserTop}, unix.EPERM},
			{CloneArgs{SetTID: th.TID()}, unix.EEXIST},
		} {
			if _, err := th.Clone(&c.a); err != c.want {
				t.Errorf("%#x: %v, want %v", c.a.Flags, err, c.want)
			}
		}
		// Threads end at the budget, not with a panic.
		used := r.mem.Budget().Used()
		r.mem.Budget().SetLimit(used + 3*threadCost)
		r.on(pauseNr, func(th *Thread) (uintptr, error) { return 0, th.Sleep(hal.NoDeadline).Err() })
		r.sysAt(0x3000, pauseNr)
		rip := th.Ctx.RIP
		th.Ctx.RIP = 0x3000
		n := 0
		var err error
		for ; n < 100; n++ {
			if _, err = th.Clone(&CloneArgs{Flags: threadFlags}); err != nil {
				break
			}
		}
		th.Ctx.RIP = rip
		if n != 3 || err != unix.EAGAIN {
			t.Errorf("%d threads, then %v", n, err)
		}
		r.mem.Budget().SetLimit(1 << 30)
	})
}

func TestSetPGIDAndSID(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		if err := th.SetPGID(0, 0); err != unix.EPERM {
			t.Errorf("a session leader changed its group: %v", err)
		}
		if _, err := th.SetSID(); err != unix.EPERM {
			t.Errorf("a group leader made a session: %v", err)
		}
		if err := th.SetPGID(4242, 0); err != unix.ESRCH {
			t.Errorf("no such process: %v", err)
		}
	})
}

// TestZombieKeepsItsChargeUntilItIsWaitedFor: it counts as a thread and against the budget,
// and what keeps it beyond that pays for what is left.
func TestZombieKeepsItsChargeUntilItIsWaitedFor(t *testing.T) {
	r := newRig(t)
	r.m.UseHostClock()
	r.onClone(forkNr, CloneArgs{ExitSignal: int32(unix.SIGCHLD)}, 0x2000)
	r.on(waitNr, func(th *Thread) (uintptr, error) {
		k, b := th.k, r.mem.Budget()
		w, err := th.Wait(WaitArgs{PID: -1, Options: unix.WEXITED | unix.WNOWAIT})
		if err != nil {
			t.Error(err)
		}
		z := k.Process(w.PID)
		n, _, _ := k.Counts()
		if n != 2 || z.Corpse() == nil || z.action(int32(unix.SIGTERM)) != (SigAction{}) {
			t.Errorf("%d threads with the zombie", n)
		}
		if err := z.Keep(); err != nil {
			t.Error(err)
		}
		was := b.Used()
		if _, err := th.Wait(WaitArgs{PID: -1, Options: unix.WEXITED}); err != nil {
			t.Error(err)
		}
		if n, _, _ := k.Counts(); n != 1 || z.Corpse() != nil || was-b.Used() != threadCost {
			t.Errorf("%d threads, %d bytes less", n, was-b.Used())
		}
		if z.parent != nil || z.forker != nil || z.PPID() != 0 {
			t.Error("it keeps whose child it was")
		}
		z.Drop()
		b.SetLimit(b.Used())
		if err := z.Keep(); err != unix.ENOMEM {
			t.Errorf("kept beyond the budget: %v", err)
		}
		return 0, nil
	})
	r.sysAt(0x1000, forkNr)
	r.sysAt(0x1002, waitNr)
	r.sysAt(0x1004, unix.SYS_EXIT_GROUP, 0)
	r.sysAt(0x2000, unix.SYS_EXIT_GROUP, 7)
	r.start(0x1000)
	r.wait()
}
