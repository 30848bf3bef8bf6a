package system

import (
	"golang.org/x/sys/unix"

	"kiln/fs/procfs"
	"kiln/fs/rootfs"
	"kiln/fs/sysfs"
	"kiln/fs/vfs"
	"kiln/kernel/wait"
	"kiln/net"
	"kiln/syscalls"
)

// pseudo mounts /proc and /sys.
func (s *System) pseudo() error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RELATIME
	c := wait.Background()
	cfg := procfs.Config{Kernel: s.kernel, Net: s.net, IPC: s.calls.IPC, MQ: s.calls.MQ, NetFiles: net.ProcNames(), PTYs: s.ptys, Messages: &s.log.ring,
		Cmdline: s.m.Boot().Cmdline, Release: syscalls.Release, Version: syscalls.Version}
	proc := procfs.New(cfg)
	s.kernel.SampleLoad()
	s.ns.Register("proc", vfs.FSType{NoDev: true, New: func(_, options string) (vfs.FileSystem, error) {
		fs := procfs.New(cfg)
		return fs, fs.Remount(options)
	}})
	if err := rootfs.MountAt(c, s.ns, proc, "proc", "/proc", flags); err != nil {
		return err
	}
	sys := sysfs.New(sysfs.Config{Machine: s.m, Mem: s.mem, Nets: s.interfaces})
	return rootfs.MountAt(c, s.ns, sys, "sysfs", "/sys", flags)
}

// interfaces are those of /sys/class/net.
func (s *System) interfaces() []sysfs.Net {
	var out []sysfs.Net
	for _, i := range s.net.Interfaces() {
		out = append(out, sysfs.Net{Name: i.Name, Index: i.Index, MTU: i.MTU, Address: i.Address, Type: i.Type,
			Flags: i.Flags, Up: i.Flags&unix.IFF_UP != 0, QueueLen: i.QueueLen, More: i.Tun, Bytes: i.Counters})
	}
	return out
}
