package syscalls

import (
	"strconv"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// straceString bounds what the log shows of a path.
const straceString = 128

// pathArgs are the calls whose arguments are paths: bit n for argument n.
var pathArgs = map[uint64]uint8{
	unix.SYS_OPEN: 1, unix.SYS_STAT: 1, unix.SYS_LSTAT: 1, unix.SYS_ACCESS: 1, unix.SYS_EXECVE: 1,
	unix.SYS_TRUNCATE: 1, unix.SYS_CHDIR: 1, unix.SYS_RENAME: 3, unix.SYS_MKDIR: 1, unix.SYS_RMDIR: 1,
	unix.SYS_CREAT: 1, unix.SYS_LINK: 3, unix.SYS_UNLINK: 1, unix.SYS_SYMLINK: 3, unix.SYS_READLINK: 1,
	unix.SYS_CHMOD: 1, unix.SYS_CHOWN: 1, unix.SYS_LCHOWN: 1, unix.SYS_MKNOD: 1, unix.SYS_STATFS: 1,
	unix.SYS_CHROOT: 1, unix.SYS_MOUNT: 7, unix.SYS_UMOUNT2: 1, unix.SYS_OPENAT: 2, unix.SYS_MKDIRAT: 2,
	unix.SYS_MKNODAT: 2, unix.SYS_FCHOWNAT: 2, unix.SYS_NEWFSTATAT: 2, unix.SYS_UNLINKAT: 2,
	unix.SYS_RENAMEAT: 2 | 8, unix.SYS_LINKAT: 2 | 8, unix.SYS_SYMLINKAT: 1 | 4, unix.SYS_READLINKAT: 2,
	unix.SYS_FCHMODAT: 2, unix.SYS_FACCESSAT: 2, unix.SYS_UTIMENSAT: 2, unix.SYS_RENAMEAT2: 2 | 8,
	unix.SYS_STATX: 2, unix.SYS_EXECVEAT: 2, unix.SYS_FACCESSAT2: 2, unix.SYS_OPENAT2: 2,
	unix.SYS_MEMFD_CREATE: 1, unix.SYS_INOTIFY_ADD_WATCH: 2,
}

// traced serves the call and writes one line about it. The arguments are read before
// the call, which may change them.
func (d *Dispatcher) traced(t *task.Thread, a *Args) {
	nr, tid := t.Ctx.OrigRAX, t.TID()
	if d.Observe != nil {
		done := d.Observe(t, callName(uint64(uint32(nr))), *a)
		v, err := d.call(t, a)
		done(err)
		if err != nil {
			t.ReturnError(errnoOf(t, err))
		} else {
			t.Return(v)
		}
		return
	}
	line := make([]byte, 0, 256)
	line = append(line, callName(nr)...)
	line = append(line, '(')
	paths := pathArgs[uint64(uint32(nr))]
	for i, v := range a {
		if i > 0 {
			line = append(line, ", "...)
		}
		if paths>>i&1 != 0 && v != 0 {
			line = appendPath(line, t, hal.UserAddr(v))
		} else {
			line = append(line, "0x"...)
			line = strconv.AppendUint(line, v, 16)
		}
	}
	line = append(line, ") = "...)
	if n := uint32(nr); n == unix.SYS_EXIT || n == unix.SYS_EXIT_GROUP {
		line = append(line, '?')
		t.Kernel().Log("strace", "[%d] %s", tid, line)
		_, _ = d.call(t, a)
		return
	}
	v, err := d.call(t, a)
	if err != nil {
		e := errnoOf(t, err)
		t.ReturnError(e)
		line = append(line, "-1 "...)
		line = append(line, errnoName(e)...)
	} else {
		t.Return(v)
		if int64(v) > -4096 && int64(v) < 1<<31 {
			line = strconv.AppendInt(line, int64(v), 10)
		} else {
			line = append(line, "0x"...)
			line = strconv.AppendUint(line, uint64(v), 16)
		}
	}
	t.Kernel().Log("strace", "[%d] %s", tid, line)
}

func appendPath(line []byte, t *task.Thread, at hal.UserAddr) []byte {
	s, err := t.CopyInPath(at)
	if err != nil {
		line = append(line, "0x"...)
		return strconv.AppendUint(line, uint64(at), 16)
	}
	if len(s) > straceString {
		return append(strconv.AppendQuote(line, s[:straceString]), "..."...)
	}
	return strconv.AppendQuote(line, s)
}

// callName is the call's name, or its number for one that Linux does not have.
func callName(nr uint64) string {
	if n := uint32(nr); n < uint32(len(names)) && names[n] != "" {
		return names[n]
	}
	return "syscall_" + strconv.FormatUint(nr, 10)
}

func errnoName(e unix.Errno) string {
	switch e {
	case wait.ErrRestart:
		return "ERESTARTSYS"
	case wait.ErrRestartNoInt:
		return "ERESTARTNOINTR"
	case wait.ErrRestartNoHnd:
		return "ERESTARTNOHAND"
	case wait.ErrRestartBlock:
		return "ERESTART_RESTARTBLOCK"
	}
	if s := unix.ErrnoName(e); s != "" {
		return s
	}
	return strconv.Itoa(int(e))
}
