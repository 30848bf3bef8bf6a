package syscalls

import (
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/task"
)

// reopen is what opening /proc/self/fd/N of a memfd gives.
func reopen(t *testing.T, p *prog, fd, flags uint64) (uint64, error) {
	t.Helper()
	th := p.thread()
	f := th.FDs().Get(int32(fd))
	defer f.DecRef()
	ops, err := f.Ops.(vfs.Reopener).Reopen(vfs.Lookup{}, uint32(flags))
	if err != nil {
		t.Fatal(err)
	}
	n := vfs.NewFile(ops, uint32(flags))
	if err := n.CountAccess(th); err != nil {
		n.DecRef()
		return 0, err
	}
	return uint64(must(th.FDs().Install(n, 0, false))), nil
}

func must(fd int32, err error) int32 {
	if err != nil {
		panic(err)
	}
	return fd
}

// A memfd as it was made counts as open for nothing (alloc_file_pseudo), one that is opened again
// as any file. The results are Linux's.
func TestLeasesOfMemFDs(t *testing.T) {
	r := newRig(t)
	r.run(vfs.RootCreds(), func(p *prog) {
		p.want(0, unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, putMask(p, unix.SIGIO), 0, 8)
		m := uint64(p.sys(unix.SYS_MEMFD_CREATE, p.path(pathAt, "x"), 0))
		p.want(0, unix.SYS_FCNTL, m, unix.F_SETLEASE, unix.F_RDLCK)
		p.want(unix.F_RDLCK, unix.SYS_FCNTL, m, unix.F_GETLEASE)
		p.fail(unix.EAGAIN, unix.SYS_FCNTL, m, unix.F_SETLEASE, unix.F_WRLCK)
		if _, err := reopen(t, p, m, unix.O_RDWR|unix.O_NONBLOCK); err != unix.EAGAIN {
			t.Errorf("a writer beside a lease: %v", err)
		}
		p.want(unix.F_UNLCK, unix.SYS_FCNTL, m, unix.F_GETLEASE) // it is being broken
		p.want(0, unix.SYS_FCNTL, m, unix.F_SETLEASE, unix.F_UNLCK)
		p.fail(unix.EAGAIN, unix.SYS_FCNTL, m, unix.F_SETLEASE, unix.F_UNLCK)

		ro, err := reopen(t, p, m, unix.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		p.want(0, unix.SYS_FCNTL, ro, unix.F_SETLEASE, unix.F_WRLCK)
		p.want(0, unix.SYS_FCNTL, ro, unix.F_SETLEASE, unix.F_UNLCK)
		w, err := reopen(t, p, m, unix.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		p.fail(unix.EAGAIN, unix.SYS_FCNTL, ro, unix.F_SETLEASE, unix.F_RDLCK)
		p.fail(unix.EAGAIN, unix.SYS_FCNTL, m, unix.F_SETLEASE, unix.F_WRLCK) // somebody reads
		p.want(0, unix.SYS_CLOSE, ro)
		p.want(0, unix.SYS_FCNTL, m, unix.F_SETLEASE, unix.F_WRLCK) // its own writer, for all that is counted
		p.want(0, unix.SYS_CLOSE, w)
		p.want(0, unix.SYS_CLOSE, m)
	})
}

func putMask(p *prog, sig unix.Signal) uint64 {
	p.put64(iovAt, uint64(task.Set(int32(sig))))
	return iovAt
}

// A queue of mq_open counts as any file does, and opening one breaks a lease.
func TestLeasesOfMessageQueues(t *testing.T) {
	r := newRig(t)
	r.run(vfs.RootCreds(), func(p *prog) {
		p.want(0, unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, putMask(p, unix.SIGIO), 0, 8)
		p.path(pathAt, "q")
		q := uint64(p.sys(unix.SYS_MQ_OPEN, pathAt, unix.O_CREAT|unix.O_RDWR, 0o600, 0))
		p.fail(unix.EAGAIN, unix.SYS_FCNTL, q, unix.F_SETLEASE, unix.F_RDLCK)
		p.want(0, unix.SYS_FCNTL, q, unix.F_SETLEASE, unix.F_WRLCK)
		p.fail(unix.EAGAIN, unix.SYS_MQ_OPEN, pathAt, unix.O_RDONLY|unix.O_NONBLOCK, 0, 0)
		p.want(unix.F_RDLCK, unix.SYS_FCNTL, q, unix.F_GETLEASE)
		p.want(0, unix.SYS_FCNTL, q, unix.F_SETLEASE, unix.F_UNLCK)
		ro := uint64(p.sys(unix.SYS_MQ_OPEN, pathAt, unix.O_RDONLY|unix.O_NONBLOCK, 0, 0))
		p.fail(unix.EAGAIN, unix.SYS_FCNTL, ro, unix.F_SETLEASE, unix.F_RDLCK)
		p.fail(unix.EAGAIN, unix.SYS_FCNTL, q, unix.F_SETLEASE, unix.F_WRLCK)
		p.want(0, unix.SYS_CLOSE, q)
		p.want(0, unix.SYS_FCNTL, ro, unix.F_SETLEASE, unix.F_RDLCK)
		p.want(0, unix.SYS_FCNTL, ro, unix.F_SETLEASE, unix.F_WRLCK)
		p.want(0, unix.SYS_CLOSE, ro)
	})
}

// O_TRUNC makes no writer of who reads, and a reader he is.
func TestAReaderThatCutTheFileCounts(t *testing.T) {
	r := newRig(t)
	r.run(vfs.RootCreds(), func(p *prog) {
		p.sys(unix.SYS_CLOSE, p.open("/f", unix.O_CREAT|unix.O_WRONLY, 0o644))
		p.open("/f", unix.O_RDONLY|unix.O_TRUNC, 0)
		fd := p.open("/f", unix.O_RDONLY, 0)
		p.fail(unix.EAGAIN, unix.SYS_FCNTL, fd, unix.F_SETLEASE, unix.F_WRLCK)
		p.want(0, unix.SYS_FCNTL, fd, unix.F_SETLEASE, unix.F_RDLCK)
	})
}
