package syscalls

import (
	"strings"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
	"kiln/kernel/wait"
	"kiln/net"
)

// Limits of extended attributes (include/uapi/linux/limits.h).
const (
	xattrNameMax = 255
	xattrSizeMax = 65536
	xattrListMax = 65536
)

// xattrName reads a name: ERANGE if it is empty or too long.
func xattrName(t *task.Thread, addr uint64) (string, error) {
	s, err := t.Space().CopyInString(t, hal.UserAddr(addr), xattrNameMax+1)
	switch {
	case err == unix.ENAMETOOLONG, err == nil && s == "":
		return "", unix.ERANGE
	case err != nil:
		return "", unix.EFAULT
	}
	return s, nil
}

// xattrAllowed is xattr_permission: by name space, kind of node and the mode.
func xattrAllowed(t *task.Thread, i vfs.Inode, name string, write bool) error {
	a, err := i.Attr(t)
	if err != nil {
		return err
	}
	c := t.Creds()
	switch {
	case name == vfs.CapsXattr:
		return nil // CAP_SETFCAP is asked by who changes it
	case name == "security.", name == "trusted." && c.Can(vfs.CapSysAdmin):
		if _, ok := i.(vfs.Xattrs); !ok {
			return unix.EOPNOTSUPP
		}
		return unix.EINVAL
	case strings.HasPrefix(name, "security."):
		if write && !c.Can(vfs.CapSysAdmin) {
			return unix.EPERM
		}
		return nil
	case strings.HasPrefix(name, "trusted."):
		if !c.Can(vfs.CapSysAdmin) {
			if write {
				return unix.EPERM
			}
			return unix.ENODATA
		}
		return nil
	case strings.HasPrefix(name, "user.") && len(name) > len("user."):
		if k := a.Mode & unix.S_IFMT; k != unix.S_IFREG && k != unix.S_IFDIR {
			if write {
				return unix.EPERM
			}
			return unix.ENODATA
		}
		if write && a.Mode&(unix.S_IFMT|unix.S_ISVTX) == unix.S_IFDIR|unix.S_ISVTX && c.FSUID != a.UID && !c.Can(vfs.CapFowner) {
			return unix.EPERM
		}
	case strings.HasPrefix(name, "system."):
		if _, ok := i.(socketNode); ok && !write {
			return nil
		}
		return unix.EOPNOTSUPP // ACLs are not asked here
	}
	mask := uint32(vfs.MayRead)
	if write {
		mask = vfs.MayWrite
	}
	if err := c.Permission(&a, mask); err != nil {
		return err
	}
	if !strings.HasPrefix(name, "user.") || len(name) == len("user.") {
		return unix.EOPNOTSUPP
	}
	return nil
}

// onInode finds the node of one of the three forms of an xattr call: by path, by path
// without following, by descriptor.
func onInode(t *task.Thread, arg uint64, form int, write bool, do func(i vfs.Inode) (uintptr, error)) (r uintptr, err error) {
	if form == byFD {
		f, err := fileOf(t, arg)
		if err != nil {
			return 0, err
		}
		defer f.DecRef()
		if s, ok := f.Ops.(net.Socket); ok {
			return do(socketNode{nodeless{ops: f.Ops}, s})
		}
		if f.Inode() == nil {
			if x, ok := f.Ops.(vfs.Xattrs); ok {
				return do(attributed{nodeless{ops: f.Ops}, x})
			}
			return do(nodeless{ops: f.Ops})
		}
		if write && f.Path.Valid() && f.Path.ReadOnly() {
			return 0, unix.EROFS
		}
		if r, err = do(f.Inode()); err == nil && write {
			f.Path.Attributed(t)
		}
		return r, err
	}
	_, err = withPath(t, atCWD, arg, false, func(l vfs.Lookup, path string) error {
		p, done, err := t.Kernel().NS.Held(l, path, form)
		if err != nil {
			return err
		}
		defer done()
		if write && p.ReadOnly() {
			return unix.EROFS
		}
		if r, err = do(p.Inode()); err == nil && write {
			p.Attributed(t)
		}
		return err
	})
	return r, err
}

const byFD = -1

// nodeless is what a description without a node (a pipe, an eventfd) has for one: an owner
// and a mode, and no attributes.
type nodeless struct {
	vfs.BaseInode
	ops vfs.FileOps
}

// Attr implements vfs.Inode.
func (n nodeless) Attr(c wait.Context) (vfs.Attr, error) { return n.ops.Attr(c) }

// attributed is one that has attributes (a memfd).
type attributed struct {
	nodeless
	vfs.Xattrs
}

// socketNode is a socket's: its one attribute is the name of its protocol (sockfs).
type socketNode struct {
	nodeless
	s net.Socket
}

const sockProtoName = "system.sockprotoname"

// GetXattr implements vfs.Xattrs.
func (n socketNode) GetXattr(_ wait.Context, name string) ([]byte, error) {
	if name != sockProtoName {
		return nil, unix.EOPNOTSUPP
	}
	return append([]byte(net.ProtocolName(n.s)), 0), nil
}

// SetXattr and RemoveXattr implement vfs.Xattrs.
func (socketNode) SetXattr(wait.Context, string, []byte, int) error { return unix.EOPNOTSUPP }
func (socketNode) RemoveXattr(wait.Context, string) error           { return unix.EOPNOTSUPP }

// ListXattr implements vfs.Xattrs.
func (socketNode) ListXattr(wait.Context) ([]string, error) { return []string{sockProtoName}, nil }

func sysGetxattr(t *task.Thread, a *Args) (uintptr, error)  { return getxattr(t, a, vfs.WalkFollow) }
func sysLgetxattr(t *task.Thread, a *Args) (uintptr, error) { return getxattr(t, a, 0) }
func sysFgetxattr(t *task.Thread, a *Args) (uintptr, error) { return getxattr(t, a, byFD) }

// getxattr: ENODATA, EOPNOTSUPP, ERANGE for a small buffer; size 0 asks for the length. See
// getxattr(2).
func getxattr(t *task.Thread, a *Args, form int) (uintptr, error) {
	return onInode(t, a[0], form, false, func(i vfs.Inode) (uintptr, error) {
		name, err := xattrName(t, a[1])
		if err != nil {
			return 0, err
		}
		if vfs.IsACLXattr(name) {
			v, err := getACL(t, i, name)
			if err != nil {
				return 0, err
			}
			return putSized(t, a[2], a[3], v)
		}
		if err := xattrAllowed(t, i, name, false); err != nil {
			return 0, err
		}
		x, ok := i.(vfs.Xattrs)
		if !ok {
			return 0, unix.EOPNOTSUPP
		}
		v, err := x.GetXattr(t, name)
		if err != nil {
			return 0, err
		}
		return putSized(t, a[2], a[3], v)
	})
}

// putSized copies out v unless size is 0; ERANGE if it does not fit.
func putSized(t *task.Thread, addr, size uint64, v []byte) (uintptr, error) {
	switch {
	case size == 0 || len(v) == 0:
		return uintptr(len(v)), nil
	case uint64(len(v)) > size:
		return 0, unix.ERANGE
	}
	return uintptr(len(v)), t.CopyOut(hal.UserAddr(addr), v)
}

func sysSetxattr(t *task.Thread, a *Args) (uintptr, error)  { return setxattr(t, a, vfs.WalkFollow) }
func sysLsetxattr(t *task.Thread, a *Args) (uintptr, error) { return setxattr(t, a, 0) }
func sysFsetxattr(t *task.Thread, a *Args) (uintptr, error) { return setxattr(t, a, byFD) }

// setxattr: EINVAL for flags, E2BIG, EEXIST, ENODATA, ENOSPC, EPERM. See setxattr(2).
func setxattr(t *task.Thread, a *Args, form int) (uintptr, error) {
	return onInode(t, a[0], form, true, func(i vfs.Inode) (uintptr, error) {
		if a[4]&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0 {
			return 0, unix.EINVAL
		}
		name, err := xattrName(t, a[1])
		if err != nil {
			return 0, err
		}
		if a[3] > xattrSizeMax {
			return 0, unix.E2BIG
		}
		v := make([]byte, a[3])
		if err := t.CopyIn(v, hal.UserAddr(a[2])); err != nil {
			return 0, err
		}
		if vfs.IsACLXattr(name) {
			return 0, setACL(t, i, name, v)
		}
		if err := xattrAllowed(t, i, name, true); err != nil {
			return 0, err
		}
		x, ok := i.(vfs.Xattrs)
		if !ok {
			return 0, unix.EOPNOTSUPP
		}
		if name == vfs.CapsXattr {
			if _, ok := parseCaps(v); !ok {
				return 0, unix.EINVAL
			}
			if !t.Creds().Can(unix.CAP_SETFCAP) {
				return 0, unix.EPERM
			}
		}
		return 0, x.SetXattr(t, name, v, int(a[4]))
	})
}

func sysListxattr(t *task.Thread, a *Args) (uintptr, error)  { return listxattr(t, a, vfs.WalkFollow) }
func sysLlistxattr(t *task.Thread, a *Args) (uintptr, error) { return listxattr(t, a, 0) }
func sysFlistxattr(t *task.Thread, a *Args) (uintptr, error) { return listxattr(t, a, byFD) }

// listxattr: ERANGE; trusted names show with CAP_SYS_ADMIN only. See listxattr(2).
func listxattr(t *task.Thread, a *Args, form int) (uintptr, error) {
	return onInode(t, a[0], form, false, func(i vfs.Inode) (uintptr, error) {
		x, ok := i.(vfs.Xattrs)
		if !ok {
			return 0, nil
		}
		names, err := x.ListXattr(t)
		if err != nil {
			return 0, err
		}
		var b []byte
		for _, n := range names {
			if !strings.HasPrefix(n, "trusted.") || t.Creds().Can(vfs.CapSysAdmin) {
				b = append(append(b, n...), 0)
			}
		}
		if len(b) > xattrListMax {
			return 0, unix.E2BIG
		}
		return putSized(t, a[1], a[2], b)
	})
}

func sysRemovexattr(t *task.Thread, a *Args) (uintptr, error) {
	return removexattr(t, a, vfs.WalkFollow)
}
func sysLremovexattr(t *task.Thread, a *Args) (uintptr, error) { return removexattr(t, a, 0) }
func sysFremovexattr(t *task.Thread, a *Args) (uintptr, error) { return removexattr(t, a, byFD) }

// removexattr: ENODATA, EPERM, EOPNOTSUPP. See removexattr(2).
func removexattr(t *task.Thread, a *Args, form int) (uintptr, error) {
	return onInode(t, a[0], form, true, func(i vfs.Inode) (uintptr, error) {
		name, err := xattrName(t, a[1])
		if err != nil {
			return 0, err
		}
		if vfs.IsACLXattr(name) {
			return 0, setACL(t, i, name, nil)
		}
		if err := xattrAllowed(t, i, name, true); err != nil {
			return 0, err
		}
		x, ok := i.(vfs.Xattrs)
		if !ok {
			return 0, unix.EOPNOTSUPP
		}
		if name == vfs.CapsXattr && !t.Creds().Can(unix.CAP_SETFCAP) {
			return 0, unix.EPERM
		}
		return 0, x.RemoveXattr(t, name)
	})
}
