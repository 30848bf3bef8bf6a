// Package devfs is /dev: the memory devices, the random devices and the console.
//
//	tty := devfs.NewTTY(port)
//	fs, err := devfs.New(mem, devfs.Config{Entropy: m.Entropy, AddEntropy: m.AddEntropy, Console: tty})
//	ns.MountFS(fs, "devtmpfs", "/dev", unix.MS_NOSUID)
//
// The tree is a tmpfs, as Linux's devtmpfs is: programs may add nodes and folders. What
// a node does is found by its device number (vfs.RegisterDevice).
package devfs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/fs/tmpfs"
	"kiln/fs/tty"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/klog"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Config is what stands behind the devices.
type Config struct {
	Entropy    func([]byte)
	AddEntropy func([]byte)
	// Console is the machine's terminal, Terminals what it belongs to; nil: none.
	Console   *tty.TTY
	Terminals *tty.Host
	// Tun opens /dev/net/tun; nil: there is none.
	Tun func(vfs.Inode) vfs.FileOps
	// Vsock opens /dev/vsock; nil: there is none.
	Vsock func(vfs.Inode) vfs.FileOps
	// Messages are the kernel's, for /dev/kmsg; nil: there is none. Say adds one of a program's,
	// prio as klog.Log.Add has it.
	Messages *klog.Log
	Say      func(prio int, text string)
}

// Device numbers (Linux, Documentation/admin-guide/devices.txt).
var (
	devNull    = unix.Mkdev(1, 3)
	devZero    = unix.Mkdev(1, 5)
	devFull    = unix.Mkdev(1, 7)
	devRandom  = unix.Mkdev(1, 8)
	devURandom = unix.Mkdev(1, 9)
	devKmsg    = unix.Mkdev(1, 11)
	devTTYS0   = unix.Mkdev(4, 64)
	devTTY     = unix.Mkdev(5, 0)
	devConsole = unix.Mkdev(5, 1)
	devPTMX    = unix.Mkdev(5, 2)
	devTun     = unix.Mkdev(10, 200)
	devVsock   = unix.Mkdev(10, 121) // Linux takes a free number of the misc devices'
)

// New makes the tree and registers the devices.
func New(mem *mm.Memory, cfg Config) (vfs.FileSystem, error) {
	fs, err := tmpfs.NewNamed(mem, "devtmpfs", "mode=755")
	if err != nil {
		return nil, err
	}
	c := wait.Background()
	root := fs.Root()
	add := func(name string, mode uint32, rdev uint64, target string) {
		if err == nil {
			_, err = root.Create(c, name, vfs.NewNode{Mode: mode, Rdev: rdev, Target: target})
		}
	}
	char := func(name string, perm uint32, rdev uint64, open func(node) vfs.FileOps) {
		vfs.RegisterDevice(unix.S_IFCHR, rdev, func(_ vfs.Lookup, i vfs.Inode, _ uint32) (vfs.FileOps, error) {
			return open(node{i: i}), nil
		})
		add(name, unix.S_IFCHR|perm, rdev, "")
	}
	char("null", 0o666, devNull, func(n node) vfs.FileOps { return &null{n} })
	char("zero", 0o666, devZero, func(n node) vfs.FileOps { return &zero{n} })
	char("full", 0o666, devFull, func(n node) vfs.FileOps { return &full{zero{n}} })
	rnd := func(n node) vfs.FileOps { return &random{n, &cfg} }
	char("random", 0o666, devRandom, rnd)
	char("urandom", 0o666, devURandom, rnd)
	if cfg.Messages != nil {
		vfs.RegisterDevice(unix.S_IFCHR, devKmsg, func(l vfs.Lookup, i vfs.Inode, flags uint32) (vfs.FileOps, error) {
			return openKmsg(l, i, flags, &cfg)
		})
		add("kmsg", unix.S_IFCHR|0o644, devKmsg, "")
	}
	if cfg.Console != nil {
		add("console", unix.S_IFCHR|0o600, devConsole, "")
		add("tty", unix.S_IFCHR|0o666, devTTY, "")
		add("ttyS0", unix.S_IFCHR|0o620, devTTYS0, "")
		add("ptmx", unix.S_IFCHR|0o666, devPTMX, "")
		terminals(&cfg)
	}
	if cfg.Vsock != nil {
		vfs.RegisterDevice(unix.S_IFCHR, devVsock, func(_ vfs.Lookup, i vfs.Inode, _ uint32) (vfs.FileOps, error) { return cfg.Vsock(i), nil })
		add("vsock", unix.S_IFCHR|0o666, devVsock, "")
	}
	if cfg.Tun != nil && err == nil {
		vfs.RegisterDevice(unix.S_IFCHR, devTun, func(_ vfs.Lookup, i vfs.Inode, _ uint32) (vfs.FileOps, error) { return cfg.Tun(i), nil })
		var dir vfs.Inode
		if dir, err = root.Create(c, "net", vfs.NewNode{Mode: unix.S_IFDIR | 0o755}); err == nil {
			_, err = dir.Create(c, "tun", vfs.NewNode{Mode: unix.S_IFCHR | 0o666, Rdev: devTun})
		}
	}
	for _, l := range [][2]string{{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"}} {
		add(l[0], unix.S_IFLNK|0o777, 0, l[1])
	}
	add("shm", unix.S_IFDIR|0o1777, 0, "")
	add("pts", unix.S_IFDIR|0o755, 0, "")
	return fs, err
}

// terminals registers the console under its two names and /dev/tty, which is whatever
// terminal controls the caller.
func terminals(cfg *Config) {
	reg := func(rdev uint64, noctty bool, which func(c wait.Context) (*tty.TTY, error)) {
		vfs.RegisterDevice(unix.S_IFCHR, rdev, func(l vfs.Lookup, i vfs.Inode, flags uint32) (vfs.FileOps, error) {
			t, err := which(l.C)
			if err != nil {
				return nil, err
			}
			if err := t.MayOpen(l.C, flags, noctty); err != nil {
				return nil, err
			}
			return t.Open(i, rdev == devConsole), nil
		})
	}
	console := func(wait.Context) (*tty.TTY, error) { return cfg.Console, nil }
	reg(devConsole, true, console)
	reg(devTTYS0, false, console)
	reg(devTTY, true, cfg.Terminals.Controlling)
}

// node is the part that all devices share: the attributes are the inode's.
type node struct {
	vfs.BaseOps
	i vfs.Inode
}

func (n *node) Attr(c wait.Context) (vfs.Attr, error)       { return n.i.Attr(c) }
func (n *node) SetAttr(c wait.Context, a vfs.SetAttr) error { return n.i.SetAttr(c, a) }
func (n *node) Seekable() bool                              { return true }

// Still implements vfs.Still.
func (n *node) Still() {}

func (n *node) Sync(wait.Context, bool) error                     { return unix.EINVAL }
func (n *node) Object(wait.Context) (*mm.Object, error)           { return nil, unix.ENODEV }
func (n *node) Allocate(wait.Context, uint32, int64, int64) error { return unix.ENODEV }

type null struct{ node }

// NoPoll implements epoll.NoPoll.
func (*null) NoPoll() {}

func (*null) Read(wait.Context, *vfs.File, *mm.IOSeq, int64) (int, error) { return 0, nil }

// Write takes everything without looking at it, so a bad address is no error (mem(4)).
func (*null) Write(_ wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	n := src.Len()
	src.Skip(n)
	return n, nil
}

// Nowait implements vfs.Nowait.
func (*null) Nowait() {}

// Nowait implements vfs.Nowait.
func (*zero) Nowait() {}

// Seek implements vfs.Seeker: any is good and stays at 0 (null_lseek).
func (*null) Seek(wait.Context, *vfs.File, int64, int64, int) (int64, error) { return 0, nil }

type zero struct{ node }

// NoPoll implements epoll.NoPoll.
func (*zero) NoPoll() {}

// Seek implements vfs.Seeker.
func (*zero) Seek(wait.Context, *vfs.File, int64, int64, int) (int64, error) { return 0, nil }

func (*zero) Read(c wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (total int, err error) {
	for step := hal.PageSize; dst.Len() > 0; step = 16 * hal.PageSize {
		n, err := dst.ZeroOut(min(dst.Len(), step))
		if total += n; err != nil && total == 0 {
			return 0, err
		}
		if err != nil || ends(c) {
			break
		}
	}
	return total, nil
}

// ends says whether a transfer without a bound of its own is to end with what it has done: a signal
// waits. Others whose turn it is are let run.
func ends(c wait.Context) bool {
	t, ok := c.(interface{ Rest() bool })
	return ok && t.Rest()
}

func (z *zero) Write(c wait.Context, f *vfs.File, src *mm.IOSeq, off int64) (int, error) {
	return (*null)(z).Write(c, f, src, off)
}

// Object is nil without an error: mmap of /dev/zero is anonymous memory.
func (*zero) Object(wait.Context) (*mm.Object, error) { return nil, nil }

type full struct{ zero }

func (*full) Write(_ wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	return 0, unix.ENOSPC
}

func (*full) Object(wait.Context) (*mm.Object, error) { return nil, unix.ENODEV }

// random is /dev/random and /dev/urandom, which are one since the pool is seeded at
// boot (random(4)).
type random struct {
	node
	cfg *Config
}

// chunk is how many bytes are made or mixed in at once.
const chunk = 256

func (r *random) Read(c wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	var b [chunk]byte
	total := 0
	for dst.Len() > 0 {
		p := b[:min(dst.Len(), chunk)]
		r.cfg.Entropy(p)
		n, err := dst.CopyOut(p)
		total += n
		if err != nil {
			if total > 0 {
				return total, nil
			}
			return 0, err
		}
		if total%hal.PageSize == 0 && ends(c) {
			break
		}
	}
	return total, nil
}

func (r *random) Write(c wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	var b [chunk]byte
	total := 0
	for src.Len() > 0 {
		n, err := src.CopyIn(b[:min(src.Len(), chunk)])
		r.cfg.AddEntropy(b[:n])
		total += n
		if err != nil {
			if total > 0 {
				return total, nil
			}
			return 0, err
		}
		if total%hal.PageSize == 0 && ends(c) {
			break
		}
	}
	return total, nil
}

// Requests of random(4).
const (
	rndGetEntCnt  = 0x80045200
	rndAddToEnt   = 0x40045201
	rndAddEntropy = 0x40085203
	rndZapEntCnt  = 0x5204
	rndClearPool  = 0x5206
	rndReseedCRNG = 0x5207
	// poolBits is what entropy_avail says of a seeded pool since Linux 5.18.
	poolBits = 256
)

// Ioctl knows the entropy count; the requests that change the pool are for
// CAP_SYS_ADMIN and are refused.
func (r *random) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	switch req {
	case rndGetEntCnt:
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], poolBits)
		if _, err := sp.CopyOut(c, hal.UserAddr(arg), b[:]); err != nil {
			return 0, unix.EFAULT
		}
		return 0, nil
	case rndAddToEnt, rndAddEntropy, rndZapEntCnt, rndClearPool, rndReseedCRNG:
		return 0, unix.EPERM
	}
	return 0, unix.EINVAL
}
