package vfs_test

import (
	"bytes"
	"runtime"
	"testing"
	"weak"

	"golang.org/x/sys/unix"

	"kiln/fs/pseudo"
	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/wait"
)

// numbers is a directory like /proc: an entry is made each time it is looked up.
type numbers struct {
	fs   *pseudo.FS
	made []weak.Pointer[pseudo.Dir]
}

func (n *numbers) Lookup(_ wait.Context, name string) (vfs.Inode, error) {
	if name != "42" {
		return nil, unix.ENOENT
	}
	d := n.fs.NewDir(42)
	d.SetLayout(pseudo.NewLayout("file", "dir/"), func(i int) vfs.Inode {
		if i == 1 {
			return n.fs.NewDir(44)
		}
		return n.fs.NewFile(0o444, 43, func(_ wait.Context, b *bytes.Buffer) error { return nil }, nil)
	})
	n.made = append(n.made, weak.Make(d))
	return d, nil
}

func (n *numbers) Names(wait.Context, int64, func(string, uint8, uint64, int64) bool) error {
	return nil
}

func numbered(t *testing.T) (*vfs.Namespace, vfs.Lookup, *numbers) {
	ns, l, mem := world(t, "")
	fs := pseudo.New(mem, "proc", pseudo.ProcMagic)
	n := &numbers{fs: fs}
	fs.TopDir().SetDynamic(n)
	fs.TopDir().Mkdir("sys/kernel").Const("name", "x")
	if err := ns.Mkdir(l, "/proc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := ns.MountFS(fs, "proc", "/proc", 0); err != nil {
		t.Fatal(err)
	}
	return ns, l, n
}

// A process that has ended must not stay in memory because its directory was looked at.
func TestEntriesOfAnUncachedDirectoryAreNotKept(t *testing.T) {
	ns, l, n := numbered(t)
	for range 100 {
		for _, p := range []string{"/proc/42", "/proc/42/file", "/proc/42/dir", "/proc/42/none", "/proc/7"} {
			_, _, err := ns.Stat(l, p, 0)
			if want := p == "/proc/42/none" || p == "/proc/7"; (err == unix.ENOENT) != want || err != nil && !want {
				t.Fatalf("%s: %v", p, err)
			}
		}
	}
	runtime.GC()
	runtime.GC()
	for _, w := range n.made {
		if w.Value() != nil {
			t.Fatal("an entry outlives its use")
		}
	}
}

// What stays in such a directory has one entry, below which the cache works.
func TestFixedEntriesOfAnUncachedDirectoryKeepTheirIdentity(t *testing.T) {
	ns, l, _ := numbered(t)
	walk := func(p string) vfs.Path {
		t.Helper()
		at, err := ns.Walk(l, p, 0)
		if err != nil {
			t.Fatal(p, err)
		}
		return at
	}
	for _, p := range []string{"/proc/sys", "/proc/sys/kernel", "/proc/sys/kernel/name"} {
		if walk(p) != walk(p) {
			t.Errorf("%s: two look-ups find two entries", p)
		}
	}
}

func TestMountsOnEntriesOfAnUncachedDirectory(t *testing.T) {
	ns, l, _ := numbered(t)
	_, _, mem := world(t, "")
	for _, at := range []string{"/proc/42", "/proc/42/dir", "/proc/sys"} {
		fs, err := tmpfs.New(mem, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := ns.MountFS(fs, "none", at, 0); err != nil {
			t.Fatal(at, err)
		}
		create(t, ns, l, at+"/mine", 0o644).DecRef()
		runtime.GC()
		if _, _, err := ns.Stat(l, at+"/mine", 0); err != nil {
			t.Errorf("%s: the mount is not found again: %v", at, err)
		}
		if err := ns.Umount(l, at, 0); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		if _, _, err := ns.Stat(l, at+"/mine", 0); err != unix.ENOENT {
			t.Errorf("%s after umount: %v", at, err)
		}
	}
}
