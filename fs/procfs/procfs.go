// Package procfs is /proc: processes and threads, the machine, and the sysctls.
//
//	fs := procfs.New(procfs.Config{Kernel: k, Net: stack, NetFiles: net.ProcNames(), Release: "6.1.0", …})
//	ns.MountFS(fs, "proc", "/proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC)
//
// Formats are those of Linux 6.1 (proc(5) and fs/proc/), since programs parse them; what
// this kernel does not have is 0 or absent as on a machine without it. Whose /proc/self it
// is goes by the wait.Context of the call, which is a thread.
//
// No lock is held here: each value is read through its owner's accessors, so a file is as
// consistent as on Linux, which is line by line.
package procfs

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/fs/mqueue"
	"kiln/fs/pseudo"
	"kiln/fs/vfs"
	"kiln/kernel/ipc"
	"kiln/kernel/klog"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// Net is what /proc/net and /proc/sys/net show (*net.Stack); nil where there is none.
type Net interface {
	ProcFile(name string) ([]byte, bool)
	Somaxconn() int
	SetSomaxconn(n int)
	MaxMemberships() int
	SetMaxMemberships(n int)
	PortRange() (lo, hi uint16)
	SetPortRange(lo, hi uint16) error
	PingGroups() (lo, hi uint32)
	SetPingGroups(lo, hi uint32)
}

// PTYs is the count of pseudo-terminals and its bounds.
type PTYs interface {
	Count() int64
	Max() int64
	SetMax(n int64)
	Reserve() int64
	SetReserve(n int64)
}

// Config is what procfs shows.
type Config struct {
	Kernel   *task.Kernel
	Net      Net
	NetFiles []string // names for Net.ProcFile
	IPC      *ipc.Namespace
	MQ       *mqueue.FS
	// PTYs is /proc/sys/kernel/pty (*devpts.System); nil: there are none.
	PTYs PTYs
	// Messages are the kernel's, for kmsg; nil: there is none.
	Messages *klog.Log
	// Cmdline is the kernel's command line, Release and Version uname's fields.
	Cmdline, Release, Version string
}

// FS is /proc.
type FS struct {
	*pseudo.FS
	cfg  Config
	k    *task.Kernel
	uuid string
	hide atomic.Pointer[hiding]
	sys  sync.Mutex // the sysctls that are kept here
}

// New makes it.
func New(cfg Config) *FS {
	f := &FS{FS: pseudo.New(cfg.Kernel.Mem, "proc", pseudo.ProcMagic), cfg: cfg, k: cfg.Kernel}
	f.hide.Store(&hiding{})
	f.uuid = f.newUUID()
	top := f.TopDir()
	top.SetDynamic(pids{f})
	f.global(top)
	f.kiln(top)
	f.sysctl(top.Mkdir("sys"))
	top.Add("self", f.NewLink(0, func(c wait.Context) (string, error) {
		if t, ok := c.(*task.Thread); ok {
			return strconv.Itoa(int(t.Process().PID())), nil
		}
		return "", unix.ENOENT
	}))
	top.Add("thread-self", f.NewLink(0, func(c wait.Context) (string, error) {
		if t, ok := c.(*task.Thread); ok {
			return fmt.Sprintf("%d/task/%d", t.Process().PID(), t.TID()), nil
		}
		return "", unix.ENOENT
	}))
	top.Symlink("mounts", "self/mounts")
	top.Symlink("net", "self/net")
	return f
}

// thread is the caller, nil for the kernel.
func thread(c wait.Context) *task.Thread {
	t, _ := c.(*task.Thread)
	return t
}

// number parses a decimal name as Linux does: no leading zeros.
func number(name string) (int32, bool) {
	if len(name) == 0 || len(name) > 9 || name[0] == '0' && len(name) > 1 {
		return 0, false
	}
	n := int32(0)
	for _, c := range []byte(name) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int32(c-'0')
	}
	return n, true
}

// Inode numbers: fixed nodes count from 1, those of threads and their files are computed,
// so that a node looked up twice is the same to a program.
const (
	inoThread = 1 << 32 // + tid<<20 + file
	inoShift  = 20
	inoFDs    = 1 << 12 // + descriptor
)

// pids serves the numbered directories of /proc.
type pids struct{ f *FS }

// Lookup implements pseudo.Dynamic.
func (d pids) Lookup(c wait.Context, name string) (vfs.Inode, error) {
	pid, ok := number(name)
	if !ok {
		return nil, unix.ENOENT
	}
	if p := d.f.k.Process(pid); p != nil {
		if !d.f.visible(c, p, hideInvisible) {
			return nil, unix.ENOENT
		}
		return d.f.procDir(p), nil
	}
	// A thread's number works too, though it is not listed.
	if t := d.f.k.Thread(pid); t != nil {
		return d.f.threadDir(t.Process(), t), nil
	}
	return nil, unix.ENOENT
}

// Dirs implements pseudo.Counter.
func (d pids) Dirs() int { return len(d.f.k.Processes()) }

// Names implements pseudo.Dynamic.
func (d pids) Names(c wait.Context, pos int64, emit func(string, uint8, uint64, int64) bool) error {
	var list []pseudo.Entry
	for _, p := range d.f.k.Processes() {
		if !d.f.visible(c, p, hideInvisible) {
			continue
		}
		pid := p.PID()
		list = append(list, pseudo.Entry{Name: strconv.Itoa(int(pid)), Type: unix.DT_DIR, Ino: inoOf(pid, 0), Cookie: int64(pid)})
	}
	pseudo.SortedNames(list, pos, emit)
	return nil
}

func inoOf(id int32, file uint64) uint64 { return inoThread + uint64(id)<<inoShift + file }

// text adapts a function without errors.
func text(f func(b *bytes.Buffer)) pseudo.Show {
	return func(_ wait.Context, b *bytes.Buffer) error { f(b); return nil }
}
