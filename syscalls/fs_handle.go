package syscalls

import (
	"sort"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// handleEntries are the rows of file handles, and of old calls about file systems.
var handleEntries = []Entry{
	{Nr: unix.SYS_NAME_TO_HANDLE_AT, Name: "name_to_handle_at", Func: sysNameToHandleAt, Support: Full},
	{Nr: unix.SYS_OPEN_BY_HANDLE_AT, Name: "open_by_handle_at", Func: sysOpenByHandleAt, Support: Partial,
		Note: "a file without a name is ESTALE, also while it is open"},
	{Nr: unix.SYS_USTAT, Name: "ustat", Func: sysUstat, Support: Full},
	{Nr: unix.SYS_SYSFS, Name: "sysfs", Func: sysSysfs, Support: Full},
	{Nr: unix.SYS_QUOTACTL, Name: "quotactl", Func: sysQuotactl, Support: Partial,
		Note: "no file system has quotas: ENODEV, as on Linux for one that has none"},
	{Nr: unix.SYS_QUOTACTL_FD, Name: "quotactl_fd", Func: sysQuotactlFd, Support: Partial,
		Note: "no file system has quotas: ENOSYS, as on Linux for one that has none"},
}

// maxHandle is MAX_HANDLE_SZ; handleHead what struct file_handle has before the bytes.
const (
	maxHandle  = 128
	handleHead = 8
)

// sysNameToHandleAt: EINVAL (flags), the path's errors, EOPNOTSUPP, EFAULT, EINVAL (size),
// EOVERFLOW with the size it takes. See name_to_handle_at(2).
func sysNameToHandleAt(t *task.Thread, a *Args) (uintptr, error) {
	if uint32(a[4])&^(unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	p, err := placeAt(t, a[0], a[1], a[4]&unix.AT_SYMLINK_FOLLOW != 0, a[4]&unix.AT_EMPTY_PATH != 0)
	if err == unix.ENXIO {
		err = unix.EOPNOTSUPP // it has no place, and its file system no handles
	}
	if err != nil {
		return 0, err
	}
	h, err := p.Handle()
	if err != nil {
		return 0, err
	}
	room, err := getU32(t, hal.UserAddr(a[2]))
	switch {
	case err != nil:
		return 0, err
	case room > maxHandle:
		return 0, unix.EINVAL
	}
	kind, size := uint32(vfs.HandleType), len(h)
	var full error
	if int(room) < size {
		const invalid = 0xff // FILEID_INVALID
		kind, h, full = invalid, nil, unix.EOVERFLOW
	}
	b := le.AppendUint32(make([]byte, 0, handleHead+maxHandle), uint32(size))
	b = append(le.AppendUint32(b, kind), h...)
	if err := putU32(t, hal.UserAddr(a[3]), uint32(p.Mount.ID)); err != nil {
		return 0, err
	}
	if err := t.CopyOut(hal.UserAddr(a[2]), b); err != nil {
		return 0, err
	}
	return 0, full
}

// sysOpenByHandleAt: EPERM without CAP_DAC_READ_SEARCH, EFAULT, EINVAL (size), EBADF, ESTALE,
// and what open(2) says. See open_by_handle_at(2).
func sysOpenByHandleAt(t *task.Thread, a *Args) (uintptr, error) {
	if !t.Creds().Can(vfs.CapDACReadSearch) {
		return 0, unix.EPERM
	}
	var b [handleHead + maxHandle]byte
	if err := t.CopyIn(b[:handleHead], hal.UserAddr(a[1])); err != nil {
		return 0, err
	}
	n := le.Uint32(b[:])
	if n == 0 || n > maxHandle {
		return 0, unix.EINVAL
	}
	if err := t.CopyIn(b[handleHead:handleHead+n], hal.UserAddr(a[1])+handleHead); err != nil {
		return 0, err
	}
	at := t.FS().Cwd()
	if int32(a[0]) != unix.AT_FDCWD {
		f, err := fileOf(t, a[0])
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		if at = f.Path; !at.Valid() {
			return 0, unix.ESTALE
		}
	}
	const made = unix.O_CREAT | unix.O_EXCL | unix.O_TMPFILE&^unix.O_DIRECTORY
	f, err := t.Kernel().NS.OpenHandle(t.Lookup(vfs.Path{}), at, b[handleHead:handleHead+n], uint32(a[2])&^made)
	if err != nil {
		return 0, err
	}
	return installFD(t, f, a[2]&unix.O_CLOEXEC != 0)
}

// sysUstat: EINVAL for a device that nothing is mounted from, EFAULT. See ustat(2).
func sysUstat(t *task.Thread, a *Args) (uintptr, error) {
	fs := t.Kernel().NS.MountedOn(uint64(uint32(a[0])))
	if fs == nil {
		return 0, unix.EINVAL
	}
	s, err := fs.Statfs(t)
	if err != nil {
		return 0, err
	}
	var b [32]byte // f_tfree, f_tinode, f_fname, f_fpack
	le.PutUint32(b[0:], uint32(s.Bfree))
	le.PutUint64(b[8:], s.Ffree)
	return 0, t.CopyOut(hal.UserAddr(a[1]), b[:])
}

// sysSysfs tells the number of a file-system type (1), the type of a number (2), and how
// many there are (3): EINVAL, EFAULT. See sysfs(2).
func sysSysfs(t *task.Thread, a *Args) (uintptr, error) {
	var types []string
	t.Kernel().NS.Types(func(name string, _ vfs.FSType) { types = append(types, name) })
	sort.Strings(types)
	switch int32(a[0]) {
	case 1:
		name, err := t.CopyInPath(hal.UserAddr(a[1]))
		if err != nil {
			return 0, err
		}
		if i := sort.SearchStrings(types, name); i < len(types) && types[i] == name {
			return uintptr(i), nil
		}
	case 2:
		if i := uint32(a[1]); int64(i) < int64(len(types)) {
			return 0, t.CopyOut(hal.UserAddr(a[2]), append([]byte(types[i]), 0))
		}
	case 3:
		return uintptr(len(types)), nil
	}
	return 0, unix.EINVAL
}

// quotaTypes is MAXQUOTAS: users, groups, projects. quotaSync is Q_SYNC.
const (
	quotaTypes = 3
	quotaSync  = 0x800001
)

// sysQuotactl: EINVAL (type), ENODEV without a device, the path's errors, ENOTBLK; ENODEV.
// Q_SYNC of all has nothing to do. See quotactl(2).
func sysQuotactl(t *task.Thread, a *Args) (uintptr, error) {
	cmd := uint32(a[0])
	if cmd&0xff >= quotaTypes {
		return 0, unix.EINVAL
	}
	if a[1] == 0 {
		if cmd>>8 == quotaSync {
			return 0, nil
		}
		return 0, unix.ENODEV
	}
	p, err := placeAt(t, atCWD, a[1], true, false)
	if err != nil {
		return 0, err
	}
	at, err := p.Inode().Attr(t)
	switch {
	case err != nil:
		return 0, err
	case at.Mode&unix.S_IFMT != unix.S_IFBLK:
		return 0, unix.ENOTBLK
	}
	return 0, unix.ENODEV
}

// sysQuotactlFd: EBADF, EINVAL (type), ENOSYS. See quotactl(2).
func sysQuotactlFd(t *task.Thread, a *Args) (uintptr, error) {
	f, err := rawFile(t, a[0])
	if err != nil {
		return 0, err
	}
	f.DecRef()
	if uint32(a[1])&0xff >= quotaTypes {
		return 0, unix.EINVAL
	}
	return 0, unix.ENOSYS
}
