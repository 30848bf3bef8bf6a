package vfs

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// ACL is a POSIX access control list (acl(5)) in the order that ParseACL demands. It is not
// changed once others can see it; nil is none.
type ACL []ACLEntry

// ACLEntry gives Perm (MayRead, MayWrite, MayExec) to whom Tag and, for ACLUser and ACLGroup,
// ID say.
type ACLEntry struct {
	Tag, Perm uint16
	ID        uint32
}

// Tags of entries (linux/posix_acl.h).
const (
	ACLUserObj  = 0x01
	ACLUser     = 0x02
	ACLGroupObj = 0x04
	ACLGroup    = 0x08
	ACLMask     = 0x10
	ACLOther    = 0x20
)

// ACLs are a node's own list and, for a directory, what is made in it inherits.
type ACLs struct{ Access, Default ACL }

// Size is what they take in memory, in bytes.
func (a *ACLs) Size() int64 {
	if a == nil {
		return 0
	}
	return a.Access.size() + a.Default.size()
}

// With is a with one list replaced; nil if none is left.
func (a *ACLs) With(def bool, l ACL) *ACLs {
	n := ACLs{}
	if a != nil {
		n = *a
	}
	if def {
		n.Default = l
	} else {
		n.Access = l
	}
	if n.Access == nil && n.Default == nil {
		return nil
	}
	return &n
}

// List is the list that an extended attribute stands for.
func (a *ACLs) List(def bool) ACL {
	switch {
	case a == nil:
		return nil
	case def:
		return a.Default
	}
	return a.Access
}

// Xattrs are the names of the extended attributes that there are.
func (a *ACLs) Xattrs() (names []string) {
	if a.List(false) != nil {
		names = append(names, ACLAccessXattr)
	}
	if a.List(true) != nil {
		names = append(names, ACLDefaultXattr)
	}
	return names
}

// Names of extended attributes that stand for them.
const (
	ACLAccessXattr  = "system.posix_acl_access"
	ACLDefaultXattr = "system.posix_acl_default"
)

// IsACLXattr says whether an extended attribute is an ACL.
func IsACLXattr(name string) bool { return name == ACLAccessXattr || name == ACLDefaultXattr }

// ACLHolder is implemented by inodes that keep ACLs, which their Attr shows. SetACL is
// set_posix_acl: EOPNOTSUPP for links, EACCES for a default list of what is no directory,
// EPERM unless creds own the node; a nil list takes it away.
type ACLHolder interface {
	SetACL(c wait.Context, creds *Creds, def bool, acl ACL) error
}

// CheckSetACL applies the rules of ACLHolder; done says that there is nothing to do.
func CheckSetACL(cur *Attr, creds *Creds, def bool, acl ACL) (done bool, err error) {
	switch k := cur.Mode & unix.S_IFMT; {
	case k == unix.S_IFLNK:
		return false, unix.EOPNOTSUPP
	case def && k != unix.S_IFDIR && acl != nil:
		return false, unix.EACCES
	case def && k != unix.S_IFDIR:
		return true, nil
	case !creds.owns(cur):
		return false, unix.EPERM
	case acl != nil && !acl.valid():
		return false, unix.EINVAL
	}
	return false, nil
}

const (
	aclVersion   = 2
	aclEntrySize = 8
	noACLID      = 1<<32 - 1
)

// ParseACL reads the value of an extended attribute (linux/posix_acl_xattr.h); one without
// entries is nil. EINVAL for what is malformed, EOPNOTSUPP for another version. Whether the
// list makes sense is looked at when it is set.
func ParseACL(b []byte) (ACL, error) {
	if len(b) < 4 {
		return nil, unix.EINVAL
	}
	if binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, unix.EOPNOTSUPP
	}
	if b = b[4:]; len(b)%aclEntrySize != 0 {
		return nil, unix.EINVAL
	}
	var acl ACL
	for ; len(b) > 0; b = b[aclEntrySize:] {
		e := ACLEntry{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), noACLID}
		switch e.Tag {
		case ACLUserObj, ACLGroupObj, ACLMask, ACLOther:
		case ACLUser, ACLGroup:
			if e.ID = binary.LittleEndian.Uint32(b[4:]); e.ID == noACLID {
				return nil, unix.EINVAL
			}
		default:
			return nil, unix.EINVAL
		}
		acl = append(acl, e)
	}
	return acl, nil
}

// Bytes is the value of the extended attribute.
func (l ACL) Bytes() []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range l {
		b = binary.LittleEndian.AppendUint16(b, e.Tag)
		b = binary.LittleEndian.AppendUint16(b, e.Perm)
		b = binary.LittleEndian.AppendUint32(b, e.ID)
	}
	return b
}

func (l ACL) size() int64 {
	if l == nil {
		return 0
	}
	return int64(len(l))*aclEntrySize + 64
}

// valid is posix_acl_valid: the owner, users, the owning group, groups, the mask where there
// are users or groups, and the others, in this order.
func (l ACL) valid() bool {
	next := []uint16{ACLUserObj}
	named := false
	for _, e := range l {
		if e.Perm&^(MayRead|MayWrite|MayExec) != 0 || !slices.Contains(next, e.Tag) {
			return false
		}
		switch e.Tag {
		case ACLUserObj:
			next = []uint16{ACLUser, ACLGroupObj}
		case ACLUser:
			named = true
		case ACLGroupObj:
			next = []uint16{ACLGroup, ACLMask, ACLOther}
		case ACLGroup:
			named = true
		case ACLMask:
			named, next = false, []uint16{ACLOther}
		case ACLOther:
			if named {
				return false
			}
			next = nil
		}
	}
	return len(l) > 0 && next == nil
}

// Update is what an access list makes of a node's mode, and the list that stays (nil where
// the mode says it all): posix_acl_update_mode.
func (l ACL) Update(cur *Attr, creds *Creds) (mode uint32, stays ACL) {
	mode, stays = cur.Mode, nil
	for _, e := range l {
		p := uint32(e.Perm)
		switch e.Tag {
		case ACLUserObj:
			mode = mode&^0o700 | p<<6
		case ACLGroupObj:
			mode = mode&^0o070 | p<<3
		case ACLOther:
			mode = mode&^0o007 | p
		case ACLMask: // behind the group it stands for
			mode = mode&^0o070 | p<<3
			stays = l
		default:
			stays = l
		}
	}
	if creds != nil && !creds.InGroup(cur.GID) && !creds.Can(CapFsetid) {
		mode &^= unix.S_ISGID
	}
	return mode, stays
}

// group is the entry that the group bits of a mode are: the mask's or the owning group's.
func (l ACL) group() *ACLEntry {
	var g *ACLEntry
	for i := range l {
		if l[i].Tag == ACLMask || l[i].Tag == ACLGroupObj {
			g = &l[i]
		}
	}
	return g
}

// Chmod is the list for a new mode: posix_acl_chmod.
func (l ACL) Chmod(mode uint32) ACL {
	l = slices.Clone(l)
	for i := range l {
		switch l[i].Tag {
		case ACLUserObj:
			l[i].Perm = uint16(mode >> 6 & 7)
		case ACLOther:
			l[i].Perm = uint16(mode & 7)
		}
	}
	if g := l.group(); g != nil {
		g.Perm = uint16(mode >> 3 & 7)
	}
	return l
}

// inherit is what a node made with mode gets from a directory with the default list l, which
// takes the umask's place: posix_acl_create.
func (l ACL) inherit(mode uint32) (uint32, *ACLs) {
	own := slices.Clone(l)
	named := false
	// Each side keeps only what the other allows too.
	both := func(e *ACLEntry, shift uint) {
		e.Perm &= uint16(mode >> shift & 7)
		mode = mode&^(7<<shift) | uint32(e.Perm)<<shift
	}
	for i := range own {
		switch e := &own[i]; e.Tag {
		case ACLUserObj:
			both(e, 6)
		case ACLOther:
			both(e, 0)
		case ACLGroupObj:
		default:
			named = true
		}
	}
	if g := own.group(); g != nil {
		both(g, 3)
	}
	var n *ACLs
	if named {
		n = n.With(false, own)
	}
	if mode&unix.S_IFMT == unix.S_IFDIR {
		n = n.With(true, l)
	}
	return mode, n
}

// permits is posix_acl_permission for somebody who is not the owner of the node, whose group
// is gid.
func (l ACL) permits(c *Creds, gid uint32, mask uint32) bool {
	want, found := uint16(mask), false
	for i, e := range l {
		switch e.Tag {
		case ACLUser:
			if e.ID == c.FSUID {
				return l[i:].masked(want)
			}
		case ACLGroupObj, ACLGroup:
			if e.Tag == ACLGroup && !c.InGroup(e.ID) || e.Tag == ACLGroupObj && !c.InGroup(gid) {
				continue
			}
			if found = true; e.Perm&want == want {
				return l[i:].masked(want)
			}
		case ACLOther:
			return !found && e.Perm&want == want
		}
	}
	return false
}

// masked says whether the first entry, and the mask behind it if there is one, give want.
func (l ACL) masked(want uint16) bool {
	p := l[0].Perm
	for _, e := range l[1:] {
		if e.Tag == ACLMask {
			p &= e.Perm
		}
	}
	return p&want == want
}
