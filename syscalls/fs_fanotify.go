package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/fs/vfs"
	"kiln/kernel/task"
)

// fanotifyEntries are the rows of fanotify.
var fanotifyEntries = []Entry{
	{Nr: unix.SYS_FANOTIFY_INIT, Name: "fanotify_init", Func: sysFanotifyInit, Support: Full},
	{Nr: unix.SYS_FANOTIFY_MARK, Name: "fanotify_mark", Func: sysFanotifyMark, Support: Full},
}

// Flags of fanotify_init, which of them take CAP_SYS_ADMIN, and those of its second argument.
const (
	fanInitAdmin = unix.FAN_CLASS_CONTENT | unix.FAN_CLASS_PRE_CONTENT | unix.FAN_REPORT_TID | unix.FAN_REPORT_PIDFD |
		unix.FAN_UNLIMITED_QUEUE | unix.FAN_UNLIMITED_MARKS
	fanInitFlags = fanInitAdmin | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_ENABLE_AUDIT |
		unix.FAN_REPORT_FID | unix.FAN_REPORT_DIR_FID | unix.FAN_REPORT_NAME | unix.FAN_REPORT_TARGET_FID
	fanEventFlags = unix.O_ACCMODE | unix.O_APPEND | unix.O_NONBLOCK | unix.O_SYNC | unix.O_DSYNC | unix.O_CLOEXEC | unix.O_LARGEFILE | unix.O_NOATIME
)

// sysFanotifyInit: EPERM for what takes CAP_SYS_ADMIN, EINVAL (flags, modes, class), EMFILE,
// EPERM (FAN_ENABLE_AUDIT without CAP_AUDIT_WRITE). See fanotify_init(2).
func sysFanotifyInit(t *task.Thread, a *Args) (uintptr, error) {
	flags, events := uint32(a[0]), uint32(a[1])
	const both = unix.FAN_REPORT_TID | unix.FAN_REPORT_PIDFD
	fid := func(f uint32) bool { return flags&f != 0 }
	anyFID := fid(unix.FAN_REPORT_FID | unix.FAN_REPORT_DIR_FID | unix.FAN_REPORT_NAME | unix.FAN_REPORT_TARGET_FID)
	class := flags & unix.FAN_ALL_CLASS_BITS
	switch {
	case !t.Creds().Can(vfs.CapSysAdmin) && (flags&fanInitAdmin != 0 || !anyFID):
		return 0, unix.EPERM
	case flags&^fanInitFlags != 0, flags&both == both, events&^uint32(fanEventFlags|largeFile) != 0,
		events&unix.O_ACCMODE == unix.O_ACCMODE, anyFID && class != 0,
		fid(unix.FAN_REPORT_NAME) && !fid(unix.FAN_REPORT_DIR_FID),
		fid(unix.FAN_REPORT_TARGET_FID) && !(fid(unix.FAN_REPORT_NAME) && fid(unix.FAN_REPORT_FID)),
		class == unix.FAN_ALL_CLASS_BITS:
		return 0, unix.EINVAL
	case flags&unix.FAN_ENABLE_AUDIT != 0 && !t.Creds().Can(vfs.CapAuditWrite):
		return 0, unix.EPERM
	}
	f, err := anon.NewFanotify(t.Kernel().NS, t.Kernel().Mem.Budget(), t.Creds(), flags, events)
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
	// fanFD are the events that a descriptor can tell of, fanFID those that cannot; of these
	// fanDirent are those of a directory's entries.
	fanPerms      = unix.FAN_OPEN_PERM | unix.FAN_ACCESS_PERM | unix.FAN_OPEN_EXEC_PERM
	fanFD         = unix.FAN_ACCESS | unix.FAN_MODIFY | unix.FAN_CLOSE | unix.FAN_OPEN | unix.FAN_OPEN_EXEC | fanPerms
	fanDirent     = unix.FAN_MOVE | unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_RENAME
	fanFID        = fanDirent | unix.FAN_ATTRIB | unix.FAN_DELETE_SELF | unix.FAN_MOVE_SELF | unix.FAN_FS_ERROR
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

// fanGroupTakes checks a mark against its group.
func fanGroupTakes(t *task.Thread, g *anon.Fanotify, flags, mask uint32) error {
	kind, fid := flags&fanMarkTypes, g.FIDMode()
	switch {
	case (g.Unprivileged() || !t.Creds().Can(vfs.CapSysAdmin)) && kind != unix.FAN_MARK_INODE:
		return unix.EPERM
	case mask&fanPerms != 0 && g.Class() == unix.FAN_CLASS_NOTIF,
		mask&unix.FAN_FS_ERROR != 0 && kind != unix.FAN_MARK_FILESYSTEM,
		flags&unix.FAN_MARK_EVICTABLE != 0 && kind != unix.FAN_MARK_INODE,
		mask&fanFID != 0 && (fid == 0 || kind == unix.FAN_MARK_MOUNT),
		mask&unix.FAN_RENAME != 0 && fid&unix.FAN_REPORT_NAME == 0:
		return unix.EINVAL
	}
	return nil
}

// fanFileTakes checks a mark against what it is to be on.
func fanFileTakes(t *task.Thread, g *anon.Fanotify, p vfs.Path, flags, mask uint32) error {
	whole, dir := flags&fanMarkTypes != 0, p.Entry.Kind() == unix.S_IFDIR
	add := flags&unix.FAN_MARK_ADD != 0
	const ofDirs = fanDirent | fanMaskFlags
	strict := g.FIDMode()&unix.FAN_REPORT_TARGET_FID != 0 || mask&unix.FAN_RENAME != 0 || flags&unix.FAN_MARK_IGNORE != 0
	switch {
	case add && mask&fanPerms != 0 && p.Mount.Super.FS.Type() == "proc":
		return unix.EINVAL
	case add && strict && !whole && !dir && mask&ofDirs != 0:
		return unix.ENOTDIR
	case g.FIDMode() != 0 && p.Mount.Super.Handle(p.Entry.Inode()) == nil:
		if s, err := p.Mount.Super.FS.Statfs(t); err != nil || s.NoID {
			return unix.ENODEV
		}
		return unix.EOPNOTSUPP
	case add && flags&fanIgnore == unix.FAN_MARK_IGNORE && flags&unix.FAN_MARK_IGNORED_SURV_MODIFY == 0:
		if whole {
			return unix.EINVAL
		}
		if dir {
			return unix.EISDIR
		}
	}
	return nil
}

// sysFanotifyMark: EINVAL (flags, mask), EBADF, EINVAL (not a fanotify group), EPERM (mounts
// and file systems of an unprivileged group), EINVAL (events that the group cannot tell of),
// the path's errors, EACCES (not readable), EINVAL (permissions on proc), ENOTDIR (events of
// entries), ENODEV and EOPNOTSUPP (no f_fsid, no handles), EINVAL and EISDIR (FAN_MARK_IGNORE that does not
// survive), ENOENT (no such mark), EEXIST, ENOSPC, ENOMEM. See fanotify_mark(2).
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
	if !ok {
		return 0, unix.EINVAL
	}
	if err := fanGroupTakes(t, g, flags, mask); err != nil {
		return 0, err
	}
	if flags&unix.FAN_MARK_FLUSH != 0 {
		g.FlushMarks(flags & fanMarkTypes)
		return 0, nil
	}
	p, err := fanPath(t, a, flags)
	if err != nil {
		return 0, err
	}
	if err := fanFileTakes(t, g, p, flags, mask); err != nil {
		return 0, err
	}
	add := flags&unix.FAN_MARK_ADD != 0
	var object any = p.Entry.Inode()
	switch flags & fanMarkTypes {
	case unix.FAN_MARK_MOUNT:
		object = p.Mount
	case unix.FAN_MARK_FILESYSTEM:
		object = p.Mount.Super
	}
	if object != any(p.Entry.Inode()) || p.Entry.Kind() != unix.S_IFDIR {
		mask, keep = mask&^unix.FAN_EVENT_ON_CHILD, keep|unix.FAN_EVENT_ON_CHILD
		if g.FIDMode()&unix.FAN_REPORT_DIR_FID != 0 && add && flags&fanIgnore == 0 {
			mask |= unix.FAN_EVENT_ON_CHILD // as fdinfo has it: the parent is told of
		}
	}
	if w, ok := object.(vfs.Writable); ok && add && flags&fanIgnore != 0 && flags&unix.FAN_MARK_IGNORED_SURV_MODIFY == 0 && w.Writes().Written() {
		return 0, nil // the next change would end it
	}
	if add {
		return 0, g.Mark(object, flags, mask)
	}
	return 0, g.Unmark(object, flags, mask, keep)
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
		if flags&unix.FAN_MARK_ONLYDIR != 0 && f.Path.Entry.Kind() != unix.S_IFDIR {
			return p, unix.ENOTDIR
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
