package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/loader"
)

// Securebits (uapi/linux/securebits.h).
const (
	secNoRoot         = 1 << 0
	secNoSetuidFixup  = 1 << 2
	secKeepCaps       = 1 << 4
	secNoAmbientRaise = 1 << 6
)

// readable says whether the caller may read a program: one that it may only execute is not
// dumped (Linux' would_dump).
func (p *Program) readable(f *vfs.File) bool {
	at, err := f.Ops.Attr(p.C)
	return err == nil && p.Lookup.Creds.Permission(&at, vfs.MayRead) == nil
}

// settle decides who the program in file runs as, once scripts have led to it.
func (p *Program) settle(r *loader.Request, file loader.File) error {
	f := file.(*progFile).f
	at, err := f.Ops.Attr(p.C)
	if err != nil {
		return err
	}
	old := p.Lookup.Creds
	p.NoDump = old.Permission(&at, vfs.MayRead) != nil
	x := execCreds{old: old, uid: old.EUID, gid: old.EGID, watched: p.Watched}
	// What has no place is on a mount of the kernel's own, where nobody gains anything (mnt_may_suid).
	if f.Path.Valid() && f.Path.Mount.Flags()&unix.MS_NOSUID == 0 {
		x.setIDs(&at)
		if x.file, err = fileCaps(p, f); err != nil {
			return err
		}
	}
	if p.Creds, p.Secure, err = x.creds(); err != nil {
		return err
	}
	c := p.Creds
	if x.bits || c.Permitted&^old.Permitted != 0 {
		p.Gained, r.NoRandom = true, false
	}
	r.UID, r.EUID, r.GID, r.EGID, r.Secure = c.UID, c.EUID, c.GID, c.EGID, p.Secure
	return nil
}

// execCreds are what execve makes credentials from.
type execCreds struct {
	old      *vfs.Creds
	uid, gid uint32 // effective ids, as the file's mode has them
	file     capData
	bits     bool // the mode's set-id bits counted
	watched  bool // Program.Watched
}

// setIDs applies the set-user-ID and set-group-ID bits, which no_new_privs turns off.
func (x *execCreds) setIDs(at *vfs.Attr) {
	if x.old.NoNewPrivs {
		return
	}
	if at.Mode&unix.S_ISUID != 0 {
		x.uid, x.bits = at.UID, true
	}
	// Without group execute permission the bit means mandatory locking.
	if at.Mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP {
		x.gid, x.bits = at.GID, true
	}
}

// creds are the credentials after execve, and whether the program is to distrust its
// environment (capabilities(7), "Transformation of capabilities during execve()"; Linux'
// cap_bprm_creds_from_file). EPERM: the file's capabilities cannot all be had.
func (x *execCreds) creds() (*vfs.Creds, bool, error) {
	old, c := x.old, *x.old
	c.EUID, c.EGID = x.uid, x.gid
	c.Permitted = c.Bounding&x.file.permitted | c.Inheritable&x.file.inheritable
	if x.file.effective && x.file.permitted&^c.Permitted != 0 {
		return nil, false, unix.EPERM
	}
	effective := x.file.effective
	if c.Securebits&secNoRoot == 0 && !(x.file.present && c.UID != 0 && c.EUID == 0) {
		if c.UID == 0 || c.EUID == 0 {
			c.Permitted = c.Inheritable | c.Bounding
		}
		effective = effective || c.EUID == 0
	}
	setID := c.EUID != old.UID || c.EGID != old.GID
	if (setID || c.Permitted&^old.Permitted != 0) && (x.watched || c.NoNewPrivs) {
		if c.NoNewPrivs || !old.Can(unix.CAP_SETUID) {
			c.EUID, c.EGID = c.UID, c.GID
		}
		c.Permitted &= old.Permitted
	}
	c.SUID, c.FSUID = c.EUID, c.EUID
	c.SGID, c.FSGID = c.EGID, c.EGID
	if x.file.present || setID {
		c.Ambient = 0
	}
	c.Permitted |= c.Ambient
	c.Effective = c.Ambient
	if effective {
		c.Effective = c.Permitted
	}
	c.KeepCaps = false
	c.Securebits &^= secKeepCaps
	secure := setID || c.UID != 0 && (effective || c.Permitted&^c.Ambient != 0)
	return &c, secure, nil
}

// capData is the attribute security.capability (uapi/linux/capability.h, vfs_cap_data).
type capData struct {
	present, effective     bool
	permitted, inheritable uint64
}

// parseCaps reads it; false where it is malformed.
func parseCaps(b []byte) (c capData, ok bool) {
	if len(b) < 4 {
		return c, false
	}
	word := func(i int) uint64 { return uint64(le.Uint32(b[4*i:])) }
	magic := le.Uint32(b)
	size := map[uint32]int{0x01000000: 12, 0x02000000: 20, 0x03000000: 24}[magic&0xff000000]
	if size == 0 || len(b) != size {
		return c, false
	}
	c = capData{present: true, effective: magic&1 != 0, permitted: word(1), inheritable: word(2)}
	if size > 12 {
		c.permitted |= word(3) << 32
		c.inheritable |= word(4) << 32
	}
	if size == 24 && word(5) != 0 {
		return capData{}, true // of another user namespace
	}
	c.permitted &= capAll
	c.inheritable &= capAll
	return c, true
}

// fileCaps are the capabilities of a program file. EINVAL: a malformed attribute.
func fileCaps(p *Program, f *vfs.File) (capData, error) {
	x, ok := f.Inode().(vfs.Xattrs)
	if !ok {
		return capData{}, nil
	}
	b, err := x.GetXattr(p.C, vfs.CapsXattr)
	if err != nil {
		return capData{}, nil
	}
	c, ok := parseCaps(b)
	if !ok {
		return c, unix.EINVAL
	}
	return c, nil
}
