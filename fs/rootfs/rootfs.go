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
	"path"

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
// /tmp and /run are file systems of their own only where the root has nothing in them.
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
	for _, m := range [][2]string{{"/dev/shm", "mode=1777"}, {"/tmp", "mode=1777"}, {"/run", "mode=755"}} {
		if err := scratch(c, ns, mem, m[0], m[1]); err != nil {
			return nil, err
		}
	}
	return ns, nil
}

// scratch mounts a tmpfs, or, where the image has something, that folder on itself: what
// is written there is in the root's tmpfs.
func scratch(c wait.Context, ns *vfs.Namespace, mem *mm.Memory, target, options string) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	if used, err := hasEntries(c, ns, target); err != nil {
		return fmt.Errorf("%s: %w", target, err)
	} else if used {
		l := Kernel(c, ns)
		if err := ns.Mount(l, target, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
		return ns.Mount(l, "", target, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
	}
	fs, err := tmpfs.New(mem, options)
	if err != nil {
		return err
	}
	return MountAt(c, ns, fs, "tmpfs", target, flags)
}

// hasEntries says whether a folder is there and not empty.
func hasEntries(c wait.Context, ns *vfs.Namespace, dir string) (bool, error) {
	f, err := ns.Open(Kernel(c, ns), dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.DecRef()
	found := false
	err = f.Iterate(c, func(e vfs.Dirent) bool {
		found = found || e.Name != "." && e.Name != ".."
		return !found
	})
	return found, err
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

// MountAt mounts fs on target, which is made, with its parents, if it is missing.
func MountAt(c wait.Context, ns *vfs.Namespace, fs vfs.FileSystem, source, target string, flags uint64) error {
	if err := MkdirAll(c, ns, target); err != nil {
		return err
	}
	if err := ns.MountFS(fs, source, target, flags); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// MkdirAll makes a folder, and those above it, where they are missing.
func MkdirAll(c wait.Context, ns *vfs.Namespace, dir string) error {
	dir = path.Clean("/" + dir)
	for i := 1; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		if err := ns.Mkdir(Kernel(c, ns), dir[:i], 0o755); err != nil && err != unix.EEXIST {
			return fmt.Errorf("mkdir %s: %w", dir[:i], err)
		}
	}
	return nil
}

// Kernel is the look-up context of the kernel itself: the real root, every permission.
func Kernel(c wait.Context, ns *vfs.Namespace) vfs.Lookup {
	return vfs.Lookup{C: c, FS: vfs.NewFSContext(ns), Creds: vfs.RootCreds()}
}

// ReadFile is the contents of a regular file: EFBIG if they are longer than limit.
func ReadFile(c wait.Context, ns *vfs.Namespace, path string, limit int) (string, error) {
	f, err := ns.Open(Kernel(c, ns), path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	defer f.DecRef()
	switch a, err := f.Ops.Attr(c); {
	case err != nil:
		return "", err
	case a.Mode&unix.S_IFMT != unix.S_IFREG:
		return "", fmt.Errorf("%s: %w", path, unix.EINVAL)
	case a.Size > int64(limit):
		return "", fmt.Errorf("%s: %w", path, unix.EFBIG)
	default:
		b := make([]byte, a.Size)
		dst := mm.KernelIO(b)
		n, err := f.Ops.Read(c, f, &dst, 0)
		return string(b[:n]), err
	}
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
