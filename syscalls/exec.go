package syscalls

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/loader"
	"kiln/loader/vdso"
)

// Bounds of execve's arguments: a string (MAX_ARG_STRLEN) and all of them (three
// quarters of _STK_LIM, the most that Linux takes; the loader applies the stack limit).
const (
	maxArgString = 128 << 10
	maxArgBytes  = 6 << 20
	argOverhead  = 24 // string header and pointer
)

// argReader copies strings in and charges them to the kernel's budget.
type argReader struct {
	t       *task.Thread
	charged int64
}

// strings copies a null-terminated array of strings; a null array is empty. EFAULT;
// E2BIG; ENOMEM: over the kernel's budget.
func (r *argReader) strings(at hal.UserAddr) (out []string, err error) {
	if at == 0 {
		return nil, nil
	}
	for {
		p, err := getU64(r.t, at)
		if err != nil {
			return nil, err
		}
		if p == 0 {
			return out, nil
		}
		s, err := r.str(hal.UserAddr(p))
		if err == unix.ENAMETOOLONG {
			return nil, unix.E2BIG
		}
		if err != nil {
			return nil, err
		}
		n := int64(len(s) + argOverhead)
		if r.charged+n > maxArgBytes {
			return nil, unix.E2BIG
		}
		if !r.t.Space().Memory().Budget().Charge(n) {
			return nil, unix.ENOMEM
		}
		r.charged += n
		out = append(out, s)
		at += 8
	}
}

// str copies one string; a short one goes through the thread's scratch space.
func (r *argReader) str(at hal.UserAddr) (string, error) {
	b := localOf(r.t).b[:]
	if n, whole, err := r.t.Space().CopyInShort(r.t, at, b); whole && err == nil {
		return string(b[:n]), nil
	}
	return r.t.Space().CopyInString(r.t, at, maxArgString)
}

// sysExecve replaces the program. Errors, in order: EFAULT, ENAMETOOLONG, ENOENT (path);
// EFAULT, E2BIG (arguments); those of opening (EACCES, ENOENT, ELOOP, …); those of
// loader.Load; EAGAIN (the process is ending). See execve(2).
func sysExecve(t *task.Thread, a *Args) (uintptr, error) {
	return execveat(t, unix.AT_FDCWD, [3]hal.UserAddr{hal.UserAddr(a[0]), hal.UserAddr(a[1]), hal.UserAddr(a[2])}, 0)
}

// sysExecveat is execve relative to a directory (dirfd, path, argv, envp, flags):
// after the arguments come EINVAL: flags; EBADF, ENOTDIR: dirfd; ELOOP. See execveat(2).
func sysExecveat(t *task.Thread, a *Args) (uintptr, error) {
	return execveat(t, int32(a[0]), [3]hal.UserAddr{hal.UserAddr(a[1]), hal.UserAddr(a[2]), hal.UserAddr(a[3])}, uint32(a[4]))
}

func execveat(t *task.Thread, dirfd int32, at [3]hal.UserAddr, flags uint32) (uintptr, error) {
	if err := t.ExecOverNproc(); err != nil {
		return 0, err
	}
	path, err := t.CopyInPath(at[0])
	if err != nil {
		return 0, err
	}
	if path == "" && flags&unix.AT_EMPTY_PATH == 0 {
		return 0, unix.ENOENT
	}
	r := argReader{t: t}
	budget := t.Space().Memory().Budget()
	defer func() { budget.Uncharge(r.charged) }()
	p := Program{C: t, Mem: t.Space().Memory(), NS: t.Kernel().NS, Path: path, VDSO: programVDSO(t)}
	if p.Argv, err = r.strings(at[1]); err != nil {
		return 0, err
	}
	if p.Env, err = r.strings(at[2]); err != nil {
		return 0, err
	}
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	was := t.TID()
	if err := t.GuardExec(func(watched bool) error {
		p.Watched = watched
		f, err := openProgram(t, &p, dirfd, flags)
		if err != nil {
			return err
		}
		defer f.DecRef()
		return exec(t, &p, f)
	}); err != nil {
		return 0, err
	}
	t.TraceExec(was)
	t.TellExec()
	return 0, nil
}

func programVDSO(t *task.Thread) *vdso.VDSO {
	if d, ok := t.Kernel().Syscalls.(*Dispatcher); ok {
		return d.VDSO
	}
	return nil
}

// openProgram opens the file and settles the name that the program and scripts see.
func openProgram(t *task.Thread, p *Program, dirfd int32, flags uint32) (*vfs.File, error) {
	walk := vfs.WalkFollow
	if flags&unix.AT_SYMLINK_NOFOLLOW != 0 {
		walk = 0
	}
	p.Lookup = t.Lookup(vfs.Path{})
	if dirfd == unix.AT_FDCWD || p.Path != "" && p.Path[0] == '/' {
		if p.Path == "" {
			return nil, unix.EACCES // the working directory
		}
		return p.NS.OpenExecAt(p.Lookup, p.Path, walk)
	}
	dir := t.FDs().Get(dirfd)
	if dir == nil {
		return nil, unix.EBADF
	}
	defer dir.DecRef()
	name := p.Path
	p.Unreachable, _ = t.FDs().CloseOnExec(dirfd)
	p.Path = "/dev/fd/" + strconv.Itoa(int(dirfd))
	if name == "" {
		p.ByFile = true
		if !dir.Path.Valid() {
			return p.Lookup.OpenExecFile(dir)
		}
		return p.NS.OpenExecAt(t.Lookup(dir.Path), "", walk|vfs.WalkEmpty)
	}
	p.Path += "/" + name
	if !dir.Path.Valid() {
		return nil, unix.ENOTDIR
	}
	return p.NS.OpenExecAt(t.Lookup(dir.Path), name, walk)
}

// exec loads f and makes it the caller's program.
func exec(t *task.Thread, p *Program, f *vfs.File) error {
	proc := t.Process()
	p.File, p.Exec = f, true
	p.NoRandom = proc.Personality()&addrNoRandomize != 0
	data := proc.Rlimit(unix.RLIMIT_DATA)
	p.Limits = mm.Limits{AS: proc.Limit(task.RlimitAS), Data: data.Cur, DataMax: data.Max,
		Stack: proc.Limit(unix.RLIMIT_STACK), MemLock: proc.Limit(task.RlimitMemlock)}
	img, err := LoadProgram(p)
	var late *loader.LateError
	if errors.As(err, &late) {
		t.ExitGroup(uint32(unix.SIGSEGV))
		return late.Errno
	}
	if err != nil {
		return err
	}
	if err := t.KillSiblings(); err != nil {
		img.Space.DecUsers()
		img.Exe.DecRef()
		return err
	}
	old, nr, dumpable := t.Creds(), t.Ctx.OrigRAX, int32(1)
	other := another(old, p.Creds)
	if other || p.NoDump || old.EUID != old.UID || old.EGID != old.GID {
		dumpable = 0
	}
	if other || p.Secure {
		t.SetPDeathSig(0) // a parent may not signal what has more privileges
	}
	if p.Gained {
		proc.SetPersonality(proc.Personality() &^ perClearOnSetID)
	}
	t.Exec(img, p.Creds, dumpable)
	t.Ctx.OrigRAX = nr // which a tracer sees
	t.TellCreds(old, p.Creds)
	return nil
}
