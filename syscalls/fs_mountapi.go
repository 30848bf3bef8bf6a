package syscalls

import (
	"math/bits"

	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// mountEntries are the rows of the calls about mounts that work on descriptors, and
// pivot_root.
var mountEntries = []Entry{
	{Nr: unix.SYS_PIVOT_ROOT, Name: "pivot_root", Func: sysPivotRoot, Support: Full},
	{Nr: unix.SYS_FSOPEN, Name: "fsopen", Func: sysFsopen, Support: Full},
	{Nr: unix.SYS_FSCONFIG, Name: "fsconfig", Func: sysFsconfig, Support: Partial,
		Note: "flags and strings: FSCONFIG_SET_BINARY, SET_PATH and SET_FD, which no file system here takes, are EINVAL. No messages are kept to be read"},
	{Nr: unix.SYS_FSMOUNT, Name: "fsmount", Func: sysFsmount, Support: Full},
	{Nr: unix.SYS_FSPICK, Name: "fspick", Func: sysFspick, Support: Full},
	{Nr: unix.SYS_OPEN_TREE, Name: "open_tree", Func: sysOpenTree, Support: Full},
	{Nr: unix.SYS_MOVE_MOUNT, Name: "move_mount", Func: sysMoveMount, Support: Partial, Note: "MOVE_MOUNT_SET_GROUP is EINVAL"},
	{Nr: unix.SYS_MOUNT_SETATTR, Name: "mount_setattr", Func: sysMountSetattr, Support: Partial,
		Note: "MOUNT_ATTR_IDMAP is EINVAL: there are no user namespaces"},
}

// sysPivotRoot: EPERM, the paths' errors, EBUSY, EINVAL. See pivot_root(2).
func sysPivotRoot(t *task.Thread, a *Args) (uintptr, error) {
	next, err := pathArg(t, a[0], false)
	if err != nil && t.Creds().Can(vfs.CapSysAdmin) {
		return 0, err
	}
	old, err := pathArg(t, a[1], false)
	if err != nil && t.Creds().Can(vfs.CapSysAdmin) {
		return 0, err
	}
	return 0, t.Kernel().NS.PivotRoot(t.Lookup(vfs.Path{}), next, old, func(from, to vfs.Path) {
		for _, p := range t.Kernel().Processes() {
			for _, o := range p.Threads() {
				if x := o.FS(); x != nil {
					x.Replace(from, to)
				}
			}
		}
	})
}

// shortString copies a string of fewer than most bytes (strndup_user): EINVAL for a longer one.
func shortString(t *task.Thread, addr uint64, most int) (string, error) {
	s, err := t.Space().CopyInString(t, hal.UserAddr(addr), most)
	if err == unix.ENAMETOOLONG {
		err = unix.EINVAL
	}
	return s, err
}

func mayMount(t *task.Thread) error {
	if !t.Creds().Can(vfs.CapSysAdmin) {
		return unix.EPERM
	}
	return nil
}

// sysFsopen: EPERM, EINVAL (flags), EFAULT, ENODEV. See fsopen(2).
func sysFsopen(t *task.Thread, a *Args) (uintptr, error) {
	if err := mayMount(t); err != nil {
		return 0, err
	}
	if uint32(a[1])&^unix.FSOPEN_CLOEXEC != 0 {
		return 0, unix.EINVAL
	}
	name, err := shortString(t, a[0], hal.PageSize)
	if err != nil {
		return 0, err
	}
	if _, ok := t.Kernel().NS.Type(name); !ok {
		return 0, unix.ENODEV
	}
	f := anon.NewFSContext(&anon.FSContext{Type: name})
	return installFile(t, f, a[1]&unix.FSOPEN_CLOEXEC != 0)
}

// fsContext is the context behind a descriptor, with its file held: EBADF, EINVAL.
func fsContext(t *task.Thread, fd uint64) (*anon.FSContext, *vfs.File, error) {
	f, err := fileOf(t, fd)
	if err != nil {
		return nil, nil, err
	}
	c, ok := f.Ops.(*anon.FSContext)
	if !ok {
		f.DecRef()
		return nil, nil, unix.EINVAL
	}
	return c, f, nil
}

// configArgs says whether a command of fsconfig may come with these arguments.
func configArgs(cmd uint32, key, value bool, aux int32) error {
	ok := false
	switch cmd {
	case unix.FSCONFIG_SET_FLAG:
		ok = key && !value && aux == 0
	case unix.FSCONFIG_SET_STRING:
		ok = key && value && aux == 0
	case unix.FSCONFIG_SET_BINARY:
		ok = key && value && aux > 0 && aux <= 1<<20
	case unix.FSCONFIG_SET_PATH, unix.FSCONFIG_SET_PATH_EMPTY:
		ok = key && value && (aux == unix.AT_FDCWD || aux >= 0)
	case unix.FSCONFIG_SET_FD:
		ok = key && !value && aux >= 0
	case unix.FSCONFIG_CMD_CREATE, unix.FSCONFIG_CMD_RECONFIGURE:
		ok = !key && !value && aux == 0
	default:
		return unix.EOPNOTSUPP
	}
	if !ok {
		return unix.EINVAL
	}
	return nil
}

// sysFsconfig: EINVAL (arguments, a parameter), EOPNOTSUPP (command), EBADF, EBUSY in the
// wrong phase, EPERM (the two commands that do something). See fsconfig(2).
func sysFsconfig(t *task.Thread, a *Args) (uintptr, error) {
	cmd := uint32(a[1])
	if int32(a[0]) < 0 {
		return 0, unix.EINVAL
	}
	if err := configArgs(cmd, a[2] != 0, a[3] != 0, int32(a[4])); err != nil {
		return 0, err
	}
	c, f, err := fsContext(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	key, value := "", ""
	if a[2] != 0 {
		if key, err = shortString(t, a[2], 256); err != nil {
			return 0, err
		}
	}
	if cmd == unix.FSCONFIG_SET_STRING {
		if value, err = shortString(t, a[3], 256); err != nil {
			return 0, err
		}
	}
	ns := t.Kernel().NS
	c.Mu.Lock()
	defer c.Mu.Unlock()
	switch cmd {
	case unix.FSCONFIG_CMD_CREATE:
		return 0, createFS(t, c)
	case unix.FSCONFIG_CMD_RECONFIGURE:
		if c.Phase != anon.FSReconfigure {
			return 0, unix.EBUSY
		}
		err := mayMount(t)
		if err == nil {
			err = ns.ReconfigureSuper(c.Super, c.Flags, c.Options())
		}
		if c.Clear(); err != nil {
			c.Phase = anon.FSFailed
		}
		return 0, err
	case unix.FSCONFIG_SET_FLAG, unix.FSCONFIG_SET_STRING:
		typ, _ := ns.Type(c.Type)
		return 0, c.Set(typ, key, value, cmd == unix.FSCONFIG_SET_STRING)
	}
	if c.Phase != anon.FSParams && c.Phase != anon.FSReconfigure {
		return 0, unix.EBUSY
	}
	return 0, unix.EINVAL
}

// createFS is FSCONFIG_CMD_CREATE. Called with c.Mu held.
func createFS(t *task.Thread, c *anon.FSContext) error {
	if c.Phase != anon.FSParams {
		return unix.EBUSY
	}
	if err := mayMount(t); err != nil {
		return err
	}
	s, err := t.Kernel().NS.NewMounted(c.Type, c.Source, c.Options())
	if err != nil {
		c.Phase = anon.FSFailed
		return err
	}
	s.SetSuperFlags(c.Flags)
	c.Super, c.Phase = s, anon.FSMountable
	c.Clear()
	return nil
}

// Attributes of a mount (include/uapi/linux/mount.h).
const (
	attrAtime    = 0x70
	attrNoAtime  = 0x10
	attrStrict   = 0x20
	attrNoDirs   = 0x80
	attrNoFollow = 0x200000
	attrKnown    = 1 | 2 | 4 | 8 | attrAtime | attrNoDirs | attrNoFollow
	noSymFollow  = 256 // MS_NOSYMFOLLOW
)

// attrFlags turns MOUNT_ATTR_* into MS_*; the first four are the same.
func attrFlags(attr uint64) uint64 {
	fl := attr & 15
	switch attr & attrAtime {
	case 0:
		fl |= unix.MS_RELATIME
	case attrNoAtime:
		fl |= unix.MS_NOATIME
	}
	if attr&attrNoDirs != 0 {
		fl |= unix.MS_NODIRATIME
	}
	if attr&attrNoFollow != 0 {
		fl |= noSymFollow
	}
	return fl
}

// sysFsmount: EPERM, EINVAL (flags, attributes), EBADF, EINVAL before FSCONFIG_CMD_CREATE,
// EBUSY for the second time. See fsmount(2).
func sysFsmount(t *task.Thread, a *Args) (uintptr, error) {
	attr := uint64(uint32(a[2]))
	if err := mayMount(t); err != nil {
		return 0, err
	}
	if uint32(a[1])&^unix.FSMOUNT_CLOEXEC != 0 || attr&^attrKnown != 0 {
		return 0, unix.EINVAL
	}
	if k := attr & attrAtime; k != 0 && k != attrNoAtime && k != attrStrict {
		return 0, unix.EINVAL
	}
	c, f, err := fsContext(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	c.Mu.Lock()
	defer c.Mu.Unlock()
	switch {
	case c.Super == nil:
		return 0, unix.EINVAL
	case c.Phase != anon.FSMountable:
		return 0, unix.EBUSY
	}
	p := t.Kernel().NS.Detached(c.Super, c.Source, attrFlags(attr))
	r, err := installFile(t, t.Kernel().NS.OpenTree(p), a[1]&unix.FSMOUNT_CLOEXEC != 0)
	if err == nil {
		c.Phase = anon.FSMounted
	}
	return r, err
}

// placeAt walks a path from a descriptor.
func placeAt(t *task.Thread, dirfd, addr uint64, follow, empty bool) (p vfs.Path, err error) {
	w := 0
	if follow {
		w = vfs.WalkFollow
	}
	if empty {
		w |= vfs.WalkEmpty
	}
	_, err = withPath(t, dirfd, addr, empty, func(l vfs.Lookup, path string) (err error) {
		p, err = t.Kernel().NS.Walk(l, path, w)
		return err
	})
	return p, err
}

// sysFspick: EPERM, EINVAL (flags), the path's errors, EINVAL for what is no mount. See
// fspick(2).
func sysFspick(t *task.Thread, a *Args) (uintptr, error) {
	flags := uint32(a[2])
	if err := mayMount(t); err != nil {
		return 0, err
	}
	if flags&^(unix.FSPICK_CLOEXEC|unix.FSPICK_SYMLINK_NOFOLLOW|unix.FSPICK_NO_AUTOMOUNT|unix.FSPICK_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	p, err := placeAt(t, a[0], a[1], flags&unix.FSPICK_SYMLINK_NOFOLLOW == 0, flags&unix.FSPICK_EMPTY_PATH != 0)
	if err != nil {
		return 0, err
	}
	if p.Entry != p.Mount.Root {
		return 0, unix.EINVAL
	}
	s := p.Mount.Super
	f := anon.NewFSContext(&anon.FSContext{Type: s.FS.Type(), Super: s, Flags: s.SuperFlags(), Phase: anon.FSReconfigure})
	return installFile(t, f, flags&unix.FSPICK_CLOEXEC != 0)
}

// sysOpenTree: EINVAL (flags), EPERM (OPEN_TREE_CLONE), the path's errors. See open_tree(2).
func sysOpenTree(t *task.Thread, a *Args) (uintptr, error) {
	const known = unix.AT_EMPTY_PATH | unix.AT_NO_AUTOMOUNT | unix.AT_RECURSIVE | unix.AT_SYMLINK_NOFOLLOW | unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	flags := uint32(a[2])
	clone := flags&unix.OPEN_TREE_CLONE != 0
	switch {
	case flags&^known != 0, flags&unix.AT_RECURSIVE != 0 && !clone:
		return 0, unix.EINVAL
	case clone && mayMount(t) != nil:
		return 0, unix.EPERM
	case full(t):
		return 0, unix.EMFILE
	}
	ns := t.Kernel().NS
	if !clone {
		var f *vfs.File
		if _, err := withPath(t, a[0], a[1], flags&unix.AT_EMPTY_PATH != 0, func(l vfs.Lookup, path string) (err error) {
			f, err = ns.OpenPathOf(l, path, walkFlags(uint64(flags)))
			return err
		}); err != nil {
			return 0, err
		}
		return installFile(t, f, flags&unix.OPEN_TREE_CLOEXEC != 0)
	}
	p, err := placeAt(t, a[0], a[1], flags&unix.AT_SYMLINK_NOFOLLOW == 0, flags&unix.AT_EMPTY_PATH != 0)
	if err != nil {
		return 0, err
	}
	if p, err = ns.CloneTree(p, flags&unix.AT_RECURSIVE != 0); err != nil {
		return 0, err
	}
	return installFile(t, ns.OpenTree(p), flags&unix.OPEN_TREE_CLOEXEC != 0)
}

// sysMoveMount: EPERM, EINVAL (flags), the paths' errors, those of MS_MOVE. See
// move_mount(2).
func sysMoveMount(t *task.Thread, a *Args) (uintptr, error) {
	const known = unix.MOVE_MOUNT_F_SYMLINKS | unix.MOVE_MOUNT_F_AUTOMOUNTS | unix.MOVE_MOUNT_F_EMPTY_PATH |
		unix.MOVE_MOUNT_T_SYMLINKS | unix.MOVE_MOUNT_T_AUTOMOUNTS | unix.MOVE_MOUNT_T_EMPTY_PATH
	flags := uint32(a[4])
	if err := mayMount(t); err != nil {
		return 0, err
	}
	if flags&^known != 0 {
		return 0, unix.EINVAL
	}
	from, err := placeAt(t, a[0], a[1], flags&unix.MOVE_MOUNT_F_SYMLINKS != 0, flags&unix.MOVE_MOUNT_F_EMPTY_PATH != 0)
	if err != nil {
		return 0, err
	}
	to, err := placeAt(t, a[2], a[3], flags&unix.MOVE_MOUNT_T_SYMLINKS != 0, flags&unix.MOVE_MOUNT_T_EMPTY_PATH != 0)
	if err != nil {
		return 0, err
	}
	if t.Creds().Domain != nil {
		return 0, unix.EPERM
	}
	return 0, t.Kernel().NS.Move(from, to)
}

// sysMountSetattr: EINVAL (flags, size, attributes), E2BIG, EPERM, EFAULT, the path's
// errors, EINVAL for what is no mount, EBUSY. See mount_setattr(2).
func sysMountSetattr(t *task.Thread, a *Args) (uintptr, error) {
	flags := uint32(a[2])
	switch {
	case flags&^(unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT) != 0:
		return 0, unix.EINVAL
	case a[4] > hal.PageSize:
		return 0, unix.E2BIG
	case a[4] < 32:
		return 0, unix.EINVAL
	}
	if err := mayMount(t); err != nil {
		return 0, err
	}
	var b [32]byte
	if err := getStruct(t, b[:], hal.UserAddr(a[3]), a[4]); err != nil {
		return 0, err
	}
	set, clr, prop := le.Uint64(b[0:]), le.Uint64(b[8:]), le.Uint64(b[16:])
	if set|clr|prop == 0 {
		return 0, nil
	}
	const propagation = unix.MS_SHARED | unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_UNBINDABLE
	if prop&^propagation != 0 || bits.OnesCount64(prop) > 1 || (set|clr)&^attrKnown != 0 {
		return 0, unix.EINVAL
	}
	mask := attrMask(set | clr&^attrAtime)
	if clr&attrAtime != 0 {
		k := set & attrAtime
		if clr&attrAtime != attrAtime || k != 0 && k != attrNoAtime && k != attrStrict {
			return 0, unix.EINVAL
		}
		mask |= unix.MS_RELATIME | unix.MS_NOATIME
	} else if set&attrAtime != 0 {
		return 0, unix.EINVAL
	}
	p, err := placeAt(t, a[0], a[1], flags&unix.AT_SYMLINK_NOFOLLOW == 0, flags&unix.AT_EMPTY_PATH != 0)
	if err != nil {
		return 0, err
	}
	rec := flags&unix.AT_RECURSIVE != 0
	ns := t.Kernel().NS
	if err := ns.Reconfigure(p, attrFlags(set), mask, rec); err != nil || prop == 0 {
		return 0, err
	}
	if rec {
		prop |= unix.MS_REC
	}
	return 0, ns.Propagate(p, prop)
}

// attrMask is which MS_* attributes other than those of atime speak of.
func attrMask(attr uint64) uint64 { return attrFlags(attr&^attrAtime) &^ unix.MS_RELATIME }
