package task

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
		var n Thread
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
