// Package rootfs builds the tree a program starts in: the image's read-only root with a
// tmpfs over it, /dev, and room for what programs write.
//
//	ns, err := rootfs.Build(c, mem, rootfs.Config{Frame: boot.RootFrame, Size: boot.RootSize, …})
//
// /proc and /sys are mounted by who has a kernel to show there (MountAt).
package rootfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"kiln/fs/devfs"
	"kiln/fs/erofs"
	"kiln/fs/overlay"
	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Config says where the root is and what /dev is made of.
type Config struct {
	// Frame and Size are a root in memory; Disk one on a block device. One of them.
	Frame hal.PFN
	Size  int64
	Disk  mm.BlockDevice
	Dev   devfs.Config
}

// ErrNoRoot means that the image has no root file system and no disk carries one.
var ErrNoRoot = errors.New("there is no root file system: neither in the image nor on a disk with the serial number kiln-root")

// Build makes the namespace. In a root without them it makes the folders it mounts on.
func Build(c wait.Context, mem *mm.Memory, cfg Config) (*vfs.Namespace, error) {
	lower, err := open(c, mem, &cfg)
	if err != nil {
		return nil, err
	}
	upper, err := tmpfs.New(mem, "")
	if err != nil {
		return nil, err
	}
	ns := vfs.NewNamespace(overlay.New(upper, lower), "overlay", 0)
	ns.Register("tmpfs", vfs.FSType{NoDev: true, Check: tmpfs.Check, New: func(_, data string) (vfs.FileSystem, error) { return tmpfs.New(mem, data) }})
	dev, err := devfs.New(mem, cfg.Dev)
	if err != nil {
		return nil, err
	}
	if err := MountAt(c, ns, dev, "devtmpfs", "/dev", unix.MS_NOSUID); err != nil {
		return nil, err
	}
	for _, m := range []struct {
		target, options string
		flags           uint64
	}{
		{"/dev/shm", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
		{"/tmp", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
		{"/run", "mode=755", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		fs, err := tmpfs.New(mem, m.options)
		if err != nil {
			return nil, err
		}
		if err := MountAt(c, ns, fs, "tmpfs", m.target, m.flags); err != nil {
			return nil, err
		}
	}
	return ns, nil
}

func open(c wait.Context, mem *mm.Memory, cfg *Config) (vfs.FileSystem, error) {
	switch {
	case cfg.Size > 0:
		mem.MarkImage(cfg.Frame, int((cfg.Size+hal.PageMask)>>hal.PageShift))
		return erofs.Open(c, mem, erofs.Frames(mem, cfg.Frame, cfg.Size))
	case cfg.Disk != nil:
		return erofs.Open(c, mem, erofs.Device(mem, cfg.Disk))
	}
	return nil, ErrNoRoot
}

// MountAt mounts fs on target, which is made if it is missing.
func MountAt(c wait.Context, ns *vfs.Namespace, fs vfs.FileSystem, source, target string, flags uint64) error {
	if err := ns.Mkdir(Kernel(c, ns), target, 0o755); err != nil && err != unix.EEXIST {
		return fmt.Errorf("mkdir %s: %w", target, err)
	}
	if err := ns.MountFS(fs, source, target, flags); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// Kernel is the look-up context of the kernel itself: the real root, every permission.
func Kernel(c wait.Context, ns *vfs.Namespace) vfs.Lookup {
	return vfs.Lookup{C: c, FS: vfs.NewFSContext(ns), Creds: vfs.RootCreds()}
}

// WriteFile replaces a file's contents; the folder must exist.
func WriteFile(c wait.Context, ns *vfs.Namespace, path, data string) error {
	f, err := ns.Open(Kernel(c, ns), path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer f.DecRef()
	src := mm.KernelIO([]byte(data))
	n, err := f.Ops.Write(c, f, &src, 0)
	if err == nil && n < len(data) {
		err = unix.ENOSPC
	}
	return err
}
