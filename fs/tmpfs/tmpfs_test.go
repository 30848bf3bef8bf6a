package tmpfs_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// A directory that is somebody's though it was removed takes nothing from the budget, and
// gives nothing back twice.
func TestADeadDirectoryIsNotCharged(t *testing.T) {
	mem := mm.NewMemory(fake.New(1024))
	fs, err := tmpfs.New(mem, "")
	if err != nil {
		t.Fatal(err)
	}
	fs.UserXattrs = true
	ns := vfs.NewNamespace(fs, "none", 0)
	l := vfs.Lookup{C: wait.Background(), FS: vfs.NewFSContext(ns), Creds: vfs.RootCreds()}
	if err := ns.Mkdir(l, "/d", 0o755); err != nil { // its name's place in a map stays
		t.Fatal(err)
	}
	if err := ns.Unlink(l, "/d", true); err != nil {
		t.Fatal(err)
	}
	before := mem.Budget().Used()
	for range 3 {
		if err := ns.Mkdir(l, "/d", 0o755); err != nil {
			t.Fatal(err)
		}
		p, err := ns.Walk(l, "/d", 0)
		if err != nil {
			t.Fatal(err)
		}
		d := p.Inode().(*tmpfs.Inode)
		if err := d.SetXattr(l.C, "user.a", make([]byte, 100), 0); err != nil {
			t.Fatal(err)
		}
		if err := ns.Unlink(l, "/d", true); err != nil {
			t.Fatal(err)
		}
		if err := d.SetXattr(l.C, "user.b", make([]byte, 60000), 0); err != unix.ENOENT {
			t.Errorf("setting one: %v", err)
		}
		if err := d.RemoveXattr(l.C, "user.a"); err != unix.ENOENT {
			t.Errorf("removing one: %v", err)
		}
		acl := vfs.ACL{{Tag: 1, Perm: 7}, {Tag: 2, Perm: 7, ID: 9}, {Tag: 4, Perm: 5}, {Tag: 16, Perm: 7}, {Tag: 32, Perm: 5}}
		if err := d.SetACL(l.C, l.Creds, true, acl); err != unix.ENOENT {
			t.Errorf("setting an ACL: %v", err)
		}
	}
	if n := mem.Budget().Used(); n != before {
		t.Errorf("%d bytes more are charged", n-before)
	}
}
