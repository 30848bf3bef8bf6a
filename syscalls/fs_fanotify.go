package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/fs/vfs"
	"kiln/kernel/task"
)

// fanotifyEntries are the rows of fanotify.
var fanotifyEntries = []Entry{
	{Nr: unix.SYS_FANOTIFY_INIT, Name: "fanotify_init", Func: sysFanotifyInit, Support: Partial,
		Note: "events have descriptors: FAN_REPORT_FID and its kin are EINVAL"},
	{Nr: unix.SYS_FANOTIFY_MARK, Name: "fanotify_mark", Func: sysFanotifyMark, Support: Partial,
		Note: "FAN_ACCESS, FAN_MODIFY, FAN_CLOSE, FAN_OPEN and FAN_OPEN_EXEC; the events that need FAN_REPORT_FID are EINVAL, " +
			"and those that ask for permission, as on a kernel without CONFIG_FANOTIFY_ACCESS_PERMISSIONS; a close is its process's that used the file last"},
}

// Flags of fanotify_init that are known here, and those of its second argument.
const (
	fanInitFlags  = unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_ALL_CLASS_BITS | unix.FAN_UNLIMITED_QUEUE | unix.FAN_UNLIMITED_MARKS | unix.FAN_ENABLE_AUDIT | unix.FAN_REPORT_TID | unix.FAN_REPORT_PIDFD
	fanEventFlags = unix.O_ACCMODE | unix.O_APPEND | unix.O_NONBLOCK | unix.O_SYNC | unix.O_DSYNC | unix.O_CLOEXEC | unix.O_LARGEFILE | unix.O_NOATIME
)

// sysFanotifyInit: EPERM without CAP_SYS_ADMIN, EINVAL (flags, modes, class), EMFILE. See
// fanotify_init(2).
func sysFanotifyInit(t *task.Thread, a *Args) (uintptr, error) {
	flags, events := uint32(a[0]), uint32(a[1])
	const both = unix.FAN_REPORT_TID | unix.FAN_REPORT_PIDFD
	switch {
	case !t.Creds().Can(vfs.CapSysAdmin):
		return 0, unix.EPERM
	case flags&^fanInitFlags != 0, flags&both == both, events&^uint32(fanEventFlags|largeFile) != 0,
		events&unix.O_ACCMODE == unix.O_ACCMODE, flags&unix.FAN_ALL_CLASS_BITS == unix.FAN_ALL_CLASS_BITS:
		return 0, unix.EINVAL
	}
	f, err := anon.NewFanotify(t.Kernel().NS, t.Kernel().Mem.Budget(), t.Creds().UID, flags, events)
	if err != nil {
		return 0, err
	}
	return installFile(t, f, flags&unix.FAN_CLOEXEC != 0)
}

const (
	fanMarkTypes = unix.FAN_MARK_MOUNT | unix.FAN_MARK_FILESYSTEM
	fanIgnore    = unix.FAN_MARK_IGNORED_MASK | unix.FAN_MARK_IGNORE
	fanMarkFlags = unix.FAN_MARK_ADD | unix.FAN_MARK_REMOVE | unix.FAN_MARK_FLUSH | fanMarkTypes | fanIgnore |
		unix.FAN_MARK_DONT_FOLLOW | unix.FAN_MARK_ONLYDIR | unix.FAN_MARK_IGNORED_SURV_MODIFY | unix.FAN_MARK_EVICTABLE
	// fanFD are the events that a descriptor can tell of, fanFID those that cannot.
	fanFD         = unix.FAN_ACCESS | unix.FAN_MODIFY | unix.FAN_CLOSE | unix.FAN_OPEN | unix.FAN_OPEN_EXEC
	fanFID        = unix.FAN_ATTRIB | unix.FAN_MOVE | unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_DELETE_SELF | unix.FAN_MOVE_SELF | unix.FAN_FS_ERROR | unix.FAN_RENAME
	fanMaskFlags  = unix.FAN_ONDIR | unix.FAN_EVENT_ON_CHILD
	fanKnownMasks = fanFD | fanFID | fanMaskFlags
)

// fanMarkArgs checks what needs no file.
func fanMarkArgs(flags uint32, mask uint64) error {
	if mask>>32 != 0 || flags&^uint32(fanMarkFlags) != 0 || flags&fanMarkTypes == fanMarkTypes {
		return unix.EINVAL
	}
	switch flags & (unix.FAN_MARK_ADD | unix.FAN_MARK_REMOVE | unix.FAN_MARK_FLUSH) {
	case unix.FAN_MARK_ADD, unix.FAN_MARK_REMOVE:
		if mask == 0 {
			return unix.EINVAL
		}
	case unix.FAN_MARK_FLUSH:
		if flags&^(fanMarkTypes|unix.FAN_MARK_FLUSH) != 0 {
			return unix.EINVAL
		}
	default:
		return unix.EINVAL
	}
	if mask&^fanKnownMasks != 0 || flags&fanIgnore == fanIgnore {
		return unix.EINVAL
	}
	return nil
}

// sysFanotifyMark: EINVAL (flags, mask), EBADF, EINVAL (not a fanotify group; events that a
// descriptor cannot tell of), the path's errors, EACCES (not readable), EINVAL and EISDIR
// (FAN_MARK_IGNORE that does not survive), ENOENT (no such mark), EEXIST, ENOSPC, ENOMEM.
// See fanotify_mark(2).
func sysFanotifyMark(t *task.Thread, a *Args) (uintptr, error) {
	flags, mask := uint32(a[1]), uint32(a[2])
	if err := fanMarkArgs(flags, a[2]); err != nil {
		return 0, err
	}
	keep := uint32(0)
	if flags&fanIgnore == unix.FAN_MARK_IGNORED_MASK {
		mask, keep = mask&^fanMaskFlags, fanMaskFlags
	}
	f, err := pollFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	g, ok := f.Ops.(*anon.Fanotify)
	kind := flags & fanMarkTypes
	if !ok || flags&unix.FAN_MARK_EVICTABLE != 0 && kind != 0 || mask&fanFID != 0 {
		return 0, unix.EINVAL
	}
	if flags&unix.FAN_MARK_FLUSH != 0 {
		g.FlushMarks(kind)
		return 0, nil
	}
	p, err := fanPath(t, a, flags)
	if err != nil {
		return 0, err
	}
	add := flags&unix.FAN_MARK_ADD != 0
	whole := kind != 0 // a mount or a file system
	dir, err := isDirectory(t, p)
	if err != nil {
		return 0, err
	}
	if add && flags&fanIgnore == unix.FAN_MARK_IGNORE && (whole || dir) && flags&unix.FAN_MARK_IGNORED_SURV_MODIFY == 0 {
		if whole {
			return 0, unix.EINVAL
		}
		return 0, unix.EISDIR
	}
	if whole || !dir {
		mask, keep = mask&^unix.FAN_EVENT_ON_CHILD, keep|unix.FAN_EVENT_ON_CHILD
	}
	var object any = p.Entry.Inode()
	switch kind {
	case unix.FAN_MARK_MOUNT:
		object = p.Mount
	case unix.FAN_MARK_FILESYSTEM:
		object = p.Mount.Super
	}
	if add {
		return 0, g.Mark(object, flags, mask)
	}
	return 0, g.Unmark(object, flags, mask, keep)
}

func isDirectory(t *task.Thread, p vfs.Path) (bool, error) {
	at, err := p.Entry.Inode().Attr(t)
	return at.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// fanPath is what the mark is for: the path, or the descriptor where there is none.
func fanPath(t *task.Thread, a *Args, flags uint32) (p vfs.Path, err error) {
	ns := t.Kernel().NS
	if a[4] == 0 {
		f, err := pollFile(t, a[3])
		if err != nil {
			return p, err
		}
		defer f.DecRef()
		if !f.Path.Valid() {
			return p, unix.EINVAL
		}
		if flags&unix.FAN_MARK_ONLYDIR != 0 {
			if dir, err := isDirectory(t, f.Path); err != nil || !dir {
				return p, unix.ENOTDIR
			}
		}
		return f.Path, ns.AccessAt(vfs.Lookup{C: t, FS: t.FS(), Creds: t.Creds()}, f.Path, vfs.MayRead)
	}
	walk := vfs.WalkFollow
	if flags&unix.FAN_MARK_DONT_FOLLOW != 0 {
		walk = 0
	}
	if flags&unix.FAN_MARK_ONLYDIR != 0 {
		walk |= vfs.WalkDir
	}
	_, err = withPath(t, a[3], a[4], false, func(l vfs.Lookup, path string) (err error) {
		if p, err = ns.Walk(l, path, walk); err != nil {
			return err
		}
		return ns.AccessAt(l, p, vfs.MayRead)
	})
	return p, err
}
