package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/task"
)

// getACL is the value of an extended attribute that stands for an ACL: ENODATA where there
// is none, EOPNOTSUPP for links and where nobody keeps any. See acl(5).
func getACL(t *task.Thread, i vfs.Inode, name string) ([]byte, error) {
	a, err := i.Attr(t)
	if err != nil {
		return nil, err
	}
	if _, ok := i.(attributed); ok {
		return nil, unix.ENODATA // a memfd's file system has them
	}
	if _, ok := i.(vfs.ACLHolder); !ok || a.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil, unix.EOPNOTSUPP
	}
	l := a.ACLs.List(name == vfs.ACLDefaultXattr)
	if l == nil {
		return nil, unix.ENODATA
	}
	return l.Bytes(), nil
}

// setACL sets an ACL from the value of its extended attribute; flags do not matter, as on
// Linux. A nil value takes it away, there or not.
func setACL(t *task.Thread, i vfs.Inode, name string, value []byte) error {
	var l vfs.ACL
	var err error
	if value != nil {
		if l, err = vfs.ParseACL(value); err != nil {
			return err
		}
	}
	h, ok := i.(vfs.ACLHolder)
	if !ok {
		return unix.EOPNOTSUPP
	}
	return h.SetACL(t, t.Creds(), name == vfs.ACLDefaultXattr, l)
}
