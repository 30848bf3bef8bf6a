package system

import (
	"testing"

	"kiln/fs/vfs"
	"kiln/kernel/image"
)

func TestCapabilitiesAreUserZerosWhateverItsGroup(t *testing.T) {
	all := vfs.RootCreds().Bounding
	for _, c := range []struct {
		uid, gid uint32
		caps     uint64
	}{{0, 0, all}, {0, 33, all}, {33, 0, 0}, {33, 33, 0}} {
		whole := &System{cfg: &image.Config{UID: c.uid, GID: c.gid}}
		one := &System{cfg: &image.Config{UID: 7, GID: 7}}
		for _, got := range []*vfs.Creds{whole.creds(nil), one.creds(&image.User{UID: c.uid, GID: c.gid})} {
			if got.UID != c.uid || got.EUID != c.uid || got.SUID != c.uid || got.FSUID != c.uid ||
				got.GID != c.gid || got.EGID != c.gid || got.SGID != c.gid || got.FSGID != c.gid {
				t.Errorf("%d:%d is %+v", c.uid, c.gid, got)
			}
			if got.Permitted != c.caps || got.Effective != c.caps || got.Bounding != all {
				t.Errorf("%d:%d has capabilities %#x permitted, %#x effective, %#x bounding", c.uid, c.gid, got.Permitted, got.Effective, got.Bounding)
			}
		}
	}
}
