package syscalls

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/procfs"
	"kiln/fs/vfs"
	"kiln/loader"
)

// A memfd keeps capabilities and set-id bits until somebody writes to it, and nobody gains
// anything by them: its mount is the kernel's own.
func TestPrivilegesOfMemFDs(t *testing.T) {
	caps := []byte{1, 0, 0, 2, 0x20, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	r := newRig(t)
	r.run(vfs.RootCreds(), func(p *prog) {
		m := uint64(p.sys(unix.SYS_MEMFD_CREATE, p.path(pathAt, "x"), 0))
		name := p.path(pathAt, vfs.CapsXattr)
		p.put(bufAt, caps)
		set := func() { p.want(0, unix.SYS_FSETXATTR, m, name, bufAt, uint64(len(caps)), 0) }
		for what, drop := range map[string]func(){
			"write":     func() { p.want(1, unix.SYS_PWRITE64, m, bufAt, 1, 0) },
			"ftruncate": func() { p.want(0, unix.SYS_FTRUNCATE, m, 5) },
			"fchown":    func() { p.want(0, unix.SYS_FCHOWN, m, 0, 0) },
			"remove":    func() { p.want(0, unix.SYS_FREMOVEXATTR, m, name) },
		} {
			set()
			p.want(int64(len(caps)), unix.SYS_FGETXATTR, m, name, bufAt+100, 100)
			drop()
			if got := p.sys(unix.SYS_FGETXATTR, m, name, bufAt+100, 100); got != -int64(unix.ENODATA) {
				t.Errorf("after %s: %d", what, got)
			}
		}
		set()
		p.want(0, unix.SYS_FCHMOD, m, 0o6755)
		f := p.thread().FDs().Get(int32(m))
		defer f.DecRef()
		user := &vfs.Creds{UID: 1, EUID: 1, SUID: 1, FSUID: 1, Bounding: capAll}
		run := Program{C: p.thread(), Lookup: vfs.Lookup{Creds: user}}
		if err := run.settle(&loader.Request{}, &progFile{f: f}); err != nil {
			t.Fatal(err)
		}
		if c := run.Creds; c.EUID != 1 || c.Permitted != 0 || run.Secure || run.Gained {
			t.Errorf("who executes it becomes %+v", c)
		}
	})
}

// truncate(2) reaches what has no place by its link in /proc.
func TestTruncateByALinkOfProc(t *testing.T) {
	r := newRig(t)
	if err := r.ns.Mkdir(vfs.Lookup{}, "/proc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.ns.MountFS(procfs.New(procfs.Config{Kernel: r.k}), "proc", "/proc", 0); err != nil {
		t.Fatal(err)
	}
	r.run(vfs.RootCreds(), func(p *prog) {
		m := uint64(p.sys(unix.SYS_MEMFD_CREATE, p.path(pathAt, "x"), unix.MFD_ALLOW_SEALING))
		link := func(fd uint64) uint64 { return p.path(pathAt, fmt.Sprint("/proc/self/fd/", fd)) }
		p.want(0, unix.SYS_TRUNCATE, link(m), 77)
		p.want(0, unix.SYS_FSTAT, m, bufAt)
		if size := p.get64(bufAt + 48); size != 77 {
			t.Errorf("it has %d bytes", size)
		}
		p.want(0, unix.SYS_FCNTL, m, unix.F_ADD_SEALS, unix.F_SEAL_SHRINK)
		p.fail(unix.EPERM, unix.SYS_TRUNCATE, link(m), 7)
		p.want(0, unix.SYS_PIPE2, iovAt, 0)
		p.fail(unix.EINVAL, unix.SYS_TRUNCATE, link(uint64(p.get32(iovAt))), 7)
		p.fail(unix.EINVAL, unix.SYS_TRUNCATE, link(uint64(p.sys(unix.SYS_EVENTFD2, 0, 0))), 7)
	})
}
