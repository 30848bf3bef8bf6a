package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/fs/vfs"
	"kiln/kernel/task"
)

// notifyEntries are the rows of file notification.
var notifyEntries = []Entry{
	{Nr: unix.SYS_INOTIFY_INIT, Name: "inotify_init", Func: sysInotifyInit, Support: Full},
	{Nr: unix.SYS_INOTIFY_INIT1, Name: "inotify_init1", Func: sysInotifyInit1, Support: Full},
	{Nr: unix.SYS_INOTIFY_ADD_WATCH, Name: "inotify_add_watch", Func: sysInotifyAddWatch, Support: Full},
	{Nr: unix.SYS_INOTIFY_RM_WATCH, Name: "inotify_rm_watch", Func: sysInotifyRmWatch, Support: Full},
}

// sysInotifyInit: EMFILE, ENFILE. See inotify_init(2).
func sysInotifyInit(t *task.Thread, _ *Args) (uintptr, error) { return inotifyInit(t, 0) }

// sysInotifyInit1: EINVAL (flags), EMFILE (of the user's instances or descriptors),
// ENFILE. See inotify_init1(2).
func sysInotifyInit1(t *task.Thread, a *Args) (uintptr, error) {
	flags := uint32(a[0])
	if flags&^(unix.IN_CLOEXEC|unix.IN_NONBLOCK) != 0 {
		return 0, unix.EINVAL
	}
	return inotifyInit(t, flags)
}

func inotifyInit(t *task.Thread, flags uint32) (uintptr, error) {
	f, err := anon.NewInotify(t.Kernel().Mem.Budget(), t.Creds().UID, flags&unix.IN_NONBLOCK)
	if err != nil {
		return 0, err
	}
	return installFile(t, f, flags&unix.IN_CLOEXEC != 0)
}

// inotifyBits are the bits that a watch's mask may have (ALL_INOTIFY_BITS).
const inotifyBits = unix.IN_ALL_EVENTS | unix.IN_UNMOUNT | unix.IN_Q_OVERFLOW | unix.IN_IGNORED | unix.IN_ONLYDIR |
	unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK | unix.IN_MASK_CREATE | unix.IN_MASK_ADD | unix.IN_ISDIR | unix.IN_ONESHOT

// inotifyOf is the instance behind a descriptor with its file held: EBADF, EINVAL.
func inotifyOf(f *vfs.File) (*anon.Inotify, error) {
	n, ok := f.Ops.(*anon.Inotify)
	if !ok {
		return nil, unix.EINVAL
	}
	return n, nil
}

// sysInotifyAddWatch: EINVAL (mask), EBADF, EINVAL (IN_MASK_ADD with IN_MASK_CREATE, not
// an inotify descriptor), the path's errors, EACCES (not readable), EEXIST, ENOSPC,
// ENOMEM. See inotify_add_watch(2).
func sysInotifyAddWatch(t *task.Thread, a *Args) (uintptr, error) {
	mask := uint32(a[2])
	if mask&^uint32(inotifyBits) != 0 || mask&uint32(inotifyBits) == 0 {
		return 0, unix.EINVAL
	}
	f, err := pollFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if mask&unix.IN_MASK_ADD != 0 && mask&unix.IN_MASK_CREATE != 0 {
		return 0, unix.EINVAL
	}
	n, err := inotifyOf(f)
	if err != nil {
		return 0, err
	}
	walk := vfs.WalkFollow
	if mask&unix.IN_DONT_FOLLOW != 0 {
		walk = 0
	}
	if mask&unix.IN_ONLYDIR != 0 {
		walk |= vfs.WalkDir
	}
	var wd int32
	_, err = withPath(t, atCWD, a[1], false, func(l vfs.Lookup, path string) error {
		ns := t.Kernel().NS
		p, err := ns.Walk(l, path, walk)
		if err != nil {
			return err
		}
		if err = ns.AccessAt(l, p, vfs.MayRead); err == nil {
			wd, err = n.Add(p.Entry.Inode(), mask)
		}
		return err
	})
	return uintptr(wd), err
}

// sysInotifyRmWatch: EBADF, EINVAL (not an inotify descriptor, no such watch). See
// inotify_rm_watch(2).
func sysInotifyRmWatch(t *task.Thread, a *Args) (uintptr, error) {
	f, err := pollFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	n, err := inotifyOf(f)
	if err != nil {
		return 0, err
	}
	return 0, n.Remove(int32(a[1]))
}
