package syscalls

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM

func TestExitStatusIsWhatExitGroupGot(t *testing.T) {
	if s := newRig(t).run(nil, func(p *prog) { p.sys(unix.SYS_EXIT_GROUP, 0x107) }); s != 7<<8 {
		t.Errorf("status %#x", s)
	}
}

func TestForkedChildIsWaitedForWithStatusAndUsage(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		r.child(func(c *prog) {
			c.want(1, unix.SYS_GETPPID)
			c.sys(unix.SYS_EXIT_GROUP, 42)
		})
		pid := p.sys(unix.SYS_FORK)
		p.want(pid, unix.SYS_WAIT4, ^uint64(0), dataAt, 0, dataAt+8)
		if s := p.get32(dataAt); s != 42<<8 {
			t.Errorf("status %#x", s)
		}
		p.fail(unix.ECHILD, unix.SYS_WAIT4, ^uint64(0), 0, 0, 0)
	})
}

func TestWaitidFillsSiginfoAndWNOWAITLeavesTheChild(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		r.child(func(c *prog) { c.sys(unix.SYS_KILL, uint64(c.sys(unix.SYS_GETPID)), uint64(unix.SIGKILL)) })
		pid := p.sys(unix.SYS_CLONE, uint64(unix.SIGCHLD))
		for _, flag := range []uint64{unix.WNOWAIT, 0} {
			p.want(0, unix.SYS_WAITID, unix.P_PID, uint64(pid), dataAt, unix.WEXITED|flag, 0)
			if p.get32(dataAt) != uint32(unix.SIGCHLD) || p.get32(dataAt+16) != uint32(pid) ||
				p.get32(dataAt+8) != 2 || p.get32(dataAt+24) != uint32(unix.SIGKILL) {
				t.Errorf("siginfo % x", p.get(dataAt, 32))
			}
		}
		p.fail(unix.ECHILD, unix.SYS_WAITID, unix.P_ALL, 0, dataAt, unix.WEXITED, 0)
	})
}

func TestThreadsAreJoinedThroughTheirTidWord(t *testing.T) {
	r := newRig(t)
	const word = dataAt + 128
	r.run(nil, func(p *prog) {
		r.child(func(c *prog) {
			c.want(1, unix.SYS_GETPID)
			if tid := c.sys(unix.SYS_GETTID); tid == 1 {
				t.Error("the thread has the process's number")
			}
			c.sys(unix.SYS_EXIT, 0)
		})
		p.put64(dataAt+256, threadFlags|unix.CLONE_PARENT_SETTID|unix.CLONE_CHILD_SETTID|unix.CLONE_CHILD_CLEARTID, 0,
			word, dataAt+136, 0, dataAt+8192, 4096, 0, 0, 0, 0)
		tid := p.sys(unix.SYS_CLONE3, dataAt+256, 88)
		if tid <= 1 || p.get32(dataAt+136) != uint32(tid) {
			t.Fatalf("clone3 = %d, parent_tid %d", tid, p.get32(dataAt+136))
		}
		for p.get32(word) != 0 {
			p.sys(unix.SYS_FUTEX, word, 0, uint64(tid), 0)
		}
		p.want(1, unix.SYS_GETPID)
	})
}

func TestClone3RefusesNonzeroUnknownFieldsAndBadCombinations(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		p.put64(dataAt+88, 1)
		p.fail(unix.E2BIG, unix.SYS_CLONE3, dataAt, 96)
		p.put64(dataAt+88, 0)
		for _, words := range [][]uint64{
			{0, 0, 0, 0, 65},                  // exit signal
			{0, 0, 0, 0, 17, dataAt},          // a stack without a size
			{0, 0, 0, 0, 17, 0, 4096},         // and the reverse
			{threadFlags, 0, 0, 0, 17},        // exit signal of a thread
			{1 << 40},                         // unknown flag
			{0, 0, 0, 0, 17, 0, 0, 0, 0, 1},   // set_tid without an array
			{0, 0, 0, 0, 17, 0, 0, 0, 8, 33},  // too many
			{unix.CLONE_DETACHED, 0, 0, 0, 0}, // legacy
		} {
			p.put(dataAt, make([]byte, 88))
			p.put64(dataAt, words...)
			p.fail(unix.EINVAL, unix.SYS_CLONE3, dataAt, 88)
		}
	})
}

func TestHandlersRunAndCallsRestartOrEndWithEINTR(t *testing.T) {
	for _, c := range []struct {
		flags uint64
		nr    uint64
		want  int64
	}{
		{task.SARestart, unix.SYS_PAUSE, -int64(unix.EINTR)},
		{task.SARestart, unix.SYS_WAIT4, 0}, // restarts, then finds the child
		{0, unix.SYS_WAIT4, -int64(unix.EINTR)},
	} {
		r := newRig(t)
		var ran atomic.Int32
		r.handlers[0x5000] = func(sig int32) { ran.Add(sig) }
		asleep := func(k *prog) {
			for r.k.Init().State() != 'S' {
				k.sys(unix.SYS_SCHED_YIELD)
			}
		}
		r.run(nil, func(p *prog) {
			p.put64(dataAt, 0x5000, c.flags|task.SARestorer, 0x5008, 0)
			p.want(0, unix.SYS_RT_SIGACTION, uint64(unix.SIGUSR1), dataAt, 0, 8)
			r.child(func(k *prog) {
				asleep(k)
				k.want(0, unix.SYS_KILL, 1, uint64(unix.SIGUSR1))
				if c.want != 0 {
					k.sys(unix.SYS_PAUSE) // a zombie would be found before the signal
				}
				for ran.Load() == 0 {
					k.sys(unix.SYS_SCHED_YIELD)
				}
				asleep(k)
			})
			pid := p.sys(unix.SYS_FORK)
			want := c.want
			if want == 0 {
				want = pid
			}
			p.want(want, c.nr, ^uint64(0), 0, 0, 0)
		})
		if n := ran.Load(); n != int32(unix.SIGUSR1) {
			t.Errorf("handler of %s: signals add up to %d", callName(c.nr), n)
		}
	}
}

func TestTimersSendSignalsThatSigtimedwaitTakes(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		p.put64(dataAt, uint64(task.Set(int32(unix.SIGALRM))|task.Set(34)))
		p.want(0, unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, dataAt, 0, 8)
		p.put64(dataAt+64, 77, 34|0<<32, 0) // sigevent: value 77, signal 34, SIGEV_SIGNAL
		p.want(0, unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, dataAt+64, dataAt+128)
		id := uint64(p.get32(dataAt + 128))
		p.put64(dataAt+160, 0, 0, 0, 1) // once, at time 1 ns: long ago
		p.want(0, unix.SYS_TIMER_SETTIME, id, timerAbstime, dataAt+160, 0)
		p.want(34, unix.SYS_RT_SIGTIMEDWAIT, dataAt, dataAt+256, 0, 8)
		if v := p.get64(dataAt + 256 + 24); v != 77 {
			t.Errorf("si_value %d", v)
		}
		p.want(0, unix.SYS_TIMER_DELETE, id)
		p.want(0, unix.SYS_ALARM, 100)
		if left := p.sys(unix.SYS_ALARM, 0); left != 100 {
			t.Errorf("alarm left %d", left)
		}
	})
}

func TestUserIDsFollowLinuxRules(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		p.put64(dataAt, 5|6<<32)
		p.want(0, unix.SYS_SETGROUPS, 2, dataAt)
		p.want(2, unix.SYS_GETGROUPS, 0, 0)
		p.want(0, unix.SYS_SETRESGID, 10, 10, 10)
		p.want(0, unix.SYS_SETRESUID, uint64(keep), 1000, uint64(keep)) // effective only: capabilities rest
		if c := p.thread().Creds(); c.Effective != 0 || c.Permitted == 0 || c.FSUID != 1000 {
			t.Errorf("after seteuid: %+v", c)
		}
		p.fail(unix.EPERM, unix.SYS_SETUID, 7)
		p.want(0, unix.SYS_SETRESUID, uint64(keep), 0, uint64(keep)) // and come back
		if c := p.thread().Creds(); c.Effective != c.Permitted || c.Effective == 0 {
			t.Errorf("after seteuid(0): %+v", c)
		}
		p.want(0, unix.SYS_SETUID, 1000)
		if c := p.thread().Creds(); c.Effective|c.Permitted != 0 || c.SUID != 1000 {
			t.Errorf("after setuid: %+v", c)
		}
		p.fail(unix.EPERM, unix.SYS_SETUID, 0)
		p.fail(unix.EPERM, unix.SYS_SETGROUPS, 0, 0)
		p.fail(unix.EPERM, unix.SYS_SETHOSTNAME, dataAt, 1)
		p.fail(unix.EPERM, unix.SYS_REBOOT, 0, 0, 0)
		p.put64(dataAt, 10<<20, 20<<20)
		p.want(0, unix.SYS_SETRLIMIT, uint64(unix.RLIMIT_STACK), dataAt)
		p.put64(dataAt, 10<<20, 30<<20)
		p.fail(unix.EPERM, unix.SYS_SETRLIMIT, uint64(unix.RLIMIT_STACK), dataAt)
		p.want(1000, unix.SYS_SETFSUID, 0)
		p.want(1000, unix.SYS_SETFSUID, uint64(keep))
	})
}

func TestManyGroupsAreCopiedWholeAndCharged(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		const n, out = 3*groupsAtOnce + 5, dataAt + 0x1000
		list := make([]byte, 4*n)
		for i := range n {
			le.PutUint32(list[4*i:], uint32(1000+i))
		}
		p.put(dataAt, list)
		b := r.mem.Budget()
		was := b.Used()
		p.want(0, unix.SYS_SETGROUPS, n, dataAt)
		if got := b.Used() - was; got != 4*n {
			t.Errorf("%d bytes charged for %d groups", got, n)
		}
		p.want(n, unix.SYS_GETGROUPS, 0, 0)
		p.fail(unix.EINVAL, unix.SYS_GETGROUPS, n-1, out)
		p.fail(unix.EFAULT, unix.SYS_GETGROUPS, n, badAddr)
		p.want(n, unix.SYS_GETGROUPS, n, out)
		if got := p.get(out, len(list)); !bytes.Equal(got, list) {
			t.Error("other groups come back")
		}
		p.fail(unix.EFAULT, unix.SYS_SETGROUPS, n, badAddr)
		le.PutUint32(list[4*(n-1):], keep)
		p.put(dataAt, list)
		p.fail(unix.EINVAL, unix.SYS_SETGROUPS, n, dataAt)
		p.want(n, unix.SYS_GETGROUPS, 0, 0)
		b.SetLimit(1) // the lists that failed may go meanwhile
		p.fail(unix.ENOMEM, unix.SYS_SETGROUPS, n-1, dataAt)
		p.want(0, unix.SYS_SETGROUPS, groupsAtOnce, dataAt)
	})
}

// tiny is a static ELF program: one page of text at 0x400000 whose entry is 0x400078.
func tiny() []byte {
	b := make([]byte, 4096)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)  // ET_EXEC
	le.PutUint16(b[18:], 62) // x86-64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], 0x400078)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	h := b[64:]
	le.PutUint32(h[0:], 1) // PT_LOAD
	le.PutUint32(h[4:], 5) // R X
	le.PutUint64(h[16:], 0x400000)
	le.PutUint64(h[24:], 0x400000)
	le.PutUint64(h[32:], 4096)
	le.PutUint64(h[40:], 4096)
	le.PutUint64(h[48:], 4096)
	return b
}

// file makes a file in the program's root.
func (p *prog) file(name string, mode uint64, data []byte) {
	p.r.t.Helper()
	p.put(dataAt+0x10000, append([]byte(name), 0))
	p.put(dataAt+0x11000, data)
	fd := p.sys(unix.SYS_OPEN, dataAt+0x10000, unix.O_CREAT|unix.O_WRONLY, 0o700)
	p.want(int64(len(data)), unix.SYS_WRITE, uint64(fd), dataAt+0x11000, uint64(len(data)))
	p.want(0, unix.SYS_FCHMOD, uint64(fd), mode)
	p.want(0, unix.SYS_CLOSE, uint64(fd))
}

func (r *rig) argv(img *task.Image) string {
	b := make([]byte, img.ArgEnd-img.ArgStart)
	if _, err := img.Space.CopyIn(wait.Background(), b, img.ArgStart); err != nil {
		r.t.Error(err)
	}
	return string(b)
}

func TestExecveReplacesTheProgramAndKeepsWhatItMust(t *testing.T) {
	r := newRig(t)
	ran := false
	r.images[0x400078] = func(p *prog) {
		ran = true
		p.want(1, unix.SYS_GETPID)
		img := r.k.Init().Image()
		if got := r.argv(img); got != "one\x00two\x00" {
			t.Errorf("arguments %q", got)
		}
		if th := p.thread(); th.Name() != "prog" {
			t.Errorf("comm %q", th.Name())
		}
		if img.Exe == nil || !strings.HasSuffix(r.ns.Name(img.Exe.Path, r.ns.Root()), "/prog") {
			t.Error("no exe")
		}
		p.fail(unix.EBADF, unix.SYS_CLOSE, 0) // close-on-exec
		p.want(0, unix.SYS_CLOSE, 1)
		p.sys(unix.SYS_EXIT_GROUP, 9)
	}
	s := r.run(nil, func(p *prog) {
		p.file("/prog", 0o755, tiny())
		p.file("/noexec", 0o644, tiny())
		p.file("/garbage", 0o755, []byte("no program at all"))
		p.put(dataAt, []byte("/prog\x00"))
		p.put(dataAt+16, []byte("one\x00two\x00"))
		p.put64(dataAt+32, dataAt+16, dataAt+20, 0)
		p.want(0, unix.SYS_OPEN, dataAt, unix.O_RDONLY|unix.O_CLOEXEC)
		p.want(1, unix.SYS_OPEN, dataAt, unix.O_RDONLY)
		p.put(dataAt+64, []byte("/noexec\x00/garbage\x00/none\x00"))
		p.fail(unix.EACCES, unix.SYS_EXECVE, dataAt+64, dataAt+32, 0)
		p.fail(unix.ENOEXEC, unix.SYS_EXECVE, dataAt+72, dataAt+32, 0)
		p.fail(unix.ENOENT, unix.SYS_EXECVE, dataAt+81, dataAt+32, 0)
		p.fail(unix.EFAULT, unix.SYS_EXECVE, dataAt, badAddr, 0)
		if used := r.mem.Budget().Used(); used < 0 {
			t.Errorf("budget %d", used)
		}
		p.sys(unix.SYS_EXECVE, dataAt, dataAt+32, 0)
		t.Error("execve came back")
	})
	if s != 9<<8 || !ran {
		t.Errorf("status %#x, ran %v", s, ran)
	}
}

func TestSetUserIDProgramsGainAndScriptsDoNot(t *testing.T) {
	for _, nnp := range []bool{false, true} {
		r := newRig(t)
		r.images[0x400078] = func(p *prog) {
			c, want := p.thread().Creds(), uint32(0)
			if nnp {
				want = 1000
			}
			if c.UID != 1000 || c.EUID != want || c.SUID != want || (c.Effective != 0) == nnp {
				t.Errorf("no_new_privs %v: %+v", nnp, c)
			}
			if d := r.k.Init().Dumpable(); (d == 0) == nnp {
				t.Errorf("dumpable %d", d)
			}
		}
		r.run(vfs.RootCreds(), func(p *prog) {
			p.file("/suid", 0o4755, tiny())
			if nnp {
				p.want(0, unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
			}
			p.want(0, unix.SYS_SETUID, 1000)
			p.put(dataAt, []byte("/suid\x00"))
			p.sys(unix.SYS_EXECVE, dataAt, 0, 0)
			t.Error("execve came back")
		})
	}
}

func TestExecveBoundsWhatItCopies(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		p.file("/prog", 0o755, tiny())
		p.put(dataAt, []byte("/prog\x00"))
		long := make([]byte, maxArgString+8)
		for i := range long {
			long[i] = 'a'
		}
		p.put(dataAt+0x20000, long)
		p.put64(dataAt+32, dataAt+0x20000, 0)
		p.fail(unix.E2BIG, unix.SYS_EXECVE, dataAt, dataAt+32, 0) // one string
		p.put(dataAt+0x20000+maxArgString-64, []byte{0})
		for at := uint64(dataAt + 0x60000); at < dataAt+0x60000+8*100; at += 8 {
			p.put64(at, dataAt+0x20000)
		}
		r.mem.Budget().SetLimit(64 << 20)
		before := r.mem.Budget().Used()
		p.fail(unix.E2BIG, unix.SYS_EXECVE, dataAt, dataAt+0x60000, 0) // all of them
		if after := r.mem.Budget().Used(); after != before {
			t.Errorf("execve left %d bytes charged", after-before)
		}
	})
}
