package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// optionalPath is a path argument that may be null.
func optionalPath(t *task.Thread, addr uint64) (string, error) {
	if addr == 0 {
		return "", nil
	}
	return t.CopyInPath(hal.UserAddr(addr))
}

// sysMount: EFAULT, ENOENT, ENOTDIR, EPERM, ENODEV, EINVAL, EBUSY. See mount(2).
func sysMount(t *task.Thread, a *Args) (uintptr, error) {
	kind, err := optionalPath(t, a[2])
	if err != nil {
		return 0, err
	}
	if a[2] != 0 && kind == "" {
		kind = "?" // no type has this name, and none is something else
	}
	source, err := optionalPath(t, a[0])
	if err != nil {
		return 0, err
	}
	data := ""
	if a[4] != 0 {
		// A page of options; what does not end in it is cut (copy_mount_options).
		if data, err = t.Space().CopyInString(t, hal.UserAddr(a[4]), hal.PageSize); err != nil {
			if err == unix.ENAMETOOLONG {
				err = unix.EINVAL
			}
			return 0, err
		}
	}
	return withPath(t, atCWD, a[1], false, func(l vfs.Lookup, path string) error {
		return t.Kernel().NS.Mount(l, source, path, kind, a[3], data)
	})
}

// sysUmount2: EINVAL for flags or what is not a mount point, EBUSY, EPERM. See umount(2).
func sysUmount2(t *task.Thread, a *Args) (uintptr, error) {
	flags := int(int32(a[1]))
	if flags&^(unix.MNT_FORCE|unix.MNT_DETACH|unix.MNT_EXPIRE|unix.UMOUNT_NOFOLLOW) != 0 {
		return 0, unix.EINVAL
	}
	return withPath(t, atCWD, a[0], false, func(l vfs.Lookup, path string) error {
		return t.Kernel().NS.Umount(l, path, flags)
	})
}
