package task

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/bpf"

	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
)

// TestNoNewPrivsIsNotLost: a sibling gives a thread no_new_privs with a filter while that
// changes its user id, or makes a thread, from the credentials that it had before.
func TestNoNewPrivsIsNotLost(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		old := th.Creds()
		mine := *old
		mine.EUID = 7
		th.takeSeccomp(&SeccompFilter{}, true)
		th.SetCreds(&mine)
		if c := th.Creds(); !c.NoNewPrivs || c.EUID != 7 {
			t.Errorf("credentials %+v", c)
		}
		n := Thread{k: th.k}
		n.creds.Store(old)
		n.inheritSeccomp(th)
		if !n.Creds().NoNewPrivs || n.Seccomp() == nil {
			t.Error("the new thread has the filter alone")
		}
		if old.NoNewPrivs || mine.NoNewPrivs {
			t.Error("credentials are changed in place")
		}
	})
}

// TestFiltersAreCharged: each once, however many threads have it, and until the last has gone.
func TestFiltersAreCharged(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		prog, err := bpf.Compile([]bpf.Instruction{bpf.Stmt(bpf.Ret|bpf.K, 0x7fff0000)}, false)
		if err != nil {
			t.Fatal(err)
		}
		b, one := r.mem.Budget(), int64(128+8)
		was := b.Used()
		used := func(what string, n int64) {
			t.Helper()
			if got := b.Used() - was; got != n*one {
				t.Errorf("%s: %d bytes, want %d", what, got, n*one)
			}
		}
		add := func(th *Thread, sync bool) error {
			_, err := th.AddSeccomp(&SeccompFilter{Prog: prog}, sync)
			return err
		}
		if err := add(th, true); err != nil {
			t.Error(err)
		}
		n := &Thread{k: th.k, process: th.process}
		n.creds.Store(th.Creds())
		for range 2 {
			n.inheritSeccomp(th)
		}
		used("shared", 1)
		_, _ = add(th, false), add(n, false)
		used("one more each", 3)
		n.seccomp.Swap(nil).release(n.k)
		used("one thread has gone", 2)
		b.SetLimit(b.Used())
		if err := add(th, false); err != unix.ENOMEM || th.SeccompCount() != 2 {
			t.Errorf("beyond the budget: %v, %d filters", err, th.SeccompCount())
		}
		th.seccomp.Swap(nil).release(th.k)
		used("nobody has any", 0)
		th.hooks.And(^HookSeccomp)
	})
}

// TestFilterForAllWaitsForExec: who execs is settled before all threads get a filter.
func TestFilterForAllWaitsForExec(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		g := &th.process.execGuard
		if !g.TryLock() {
			t.Fatal("the guard is taken")
		}
		var through atomic.Bool
		time.AfterFunc(20*time.Millisecond, func() { through.Store(true); g.Unlock() })
		if _, err := th.AddSeccomp(&SeccompFilter{}, true); err != nil || !through.Load() {
			t.Errorf("%v, exec through: %v", err, through.Load())
		}
	})
}

// TestExecIsGuarded: within, the process cannot be traced anew, and nobody comes to share its
// directories; a look at it that an exec overtakes is repeated.
func TestExecIsGuarded(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		root, err := tmpfs.New(r.mem, "")
		if err != nil {
			t.Fatal(err)
		}
		fs := vfs.NewFSContext(vfs.NewNamespace(root, "", 0))
		th.fs.Store(fs)
		if err := th.GuardExec(func(watched bool) error {
			if watched || th.process.execGuard.TryLock() {
				t.Error("not guarded")
			}
			if _, err := th.Clone(&CloneArgs{Flags: unix.CLONE_FS, ExitSignal: int32(unix.SIGCHLD)}); err != unix.EAGAIN {
				t.Errorf("CLONE_FS: %v, want EAGAIN", err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if !fs.Share() {
			t.Error("still as in execve")
		}
		_ = th.GuardExec(func(watched bool) error {
			if !watched {
				t.Error("directories are shared with another process, and it gains privileges")
			}
			return nil
		})
		looks := 0
		_ = th.process.Steady(func() error {
			if looks++; looks == 1 {
				th.Exec(Image{Space: r.space(), Entry: 0x1002, Name: "/b"}, th.Creds(), 0)
			}
			return nil
		})
		if looks != 2 || th.process.Dumpable() != 0 {
			t.Errorf("%d looks, dumpable %d", looks, th.process.Dumpable())
		}
		th.fs.Store(nil)
	})
}
