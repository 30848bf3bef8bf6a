package overlay_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/overlay"
	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// stack is an overlay over a tree with the files /d/f00 … /d/f29, each holding its name.
func stack(t *testing.T) (*vfs.Namespace, vfs.Lookup) {
	t.Helper()
	return stackIn(t, mm.NewMemory(fake.New(2048)))
}

func stackIn(t *testing.T, mem *mm.Memory) (*vfs.Namespace, vfs.Lookup) {
	t.Helper()
	low, _ := tmpfs.New(mem, "mode=755")
	up, _ := tmpfs.New(mem, "")
	l := vfs.Lookup{C: wait.Background(), Creds: vfs.RootCreds()}
	below := vfs.NewNamespace(low, "low", 0)
	if err := below.Mkdir(l, "/d", 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		name := fmt.Sprintf("/d/f%02d", i)
		f, err := below.Open(l, name, unix.O_CREAT|unix.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		q := mm.KernelIO([]byte(name))
		if _, err := f.Write(l.C, &q); err != nil {
			t.Fatal(err)
		}
		f.DecRef()
	}
	return vfs.NewNamespace(overlay.New(up, low), "over", 0), l
}

func read(t *testing.T, l vfs.Lookup, f *vfs.File) string {
	t.Helper()
	b := make([]byte, 100)
	q := mm.KernelIO(b)
	n, err := f.ReadAt(l.C, &q, 0)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestRenamingLowerFilesWhileListingMeetsEachOnce(t *testing.T) {
	ns, l := stack(t)
	d, err := ns.Open(l, "/d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.DecRef()
	met := map[string]int{}
	for {
		var names []string
		if err := d.Iterate(l.C, func(e vfs.Dirent) bool {
			if len(names) == 4 {
				return false
			}
			names = append(names, e.Name)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if len(names) == 0 {
			break
		}
		for _, n := range names {
			if n == "." || n == ".." {
				continue
			}
			if met[n]++; len(met) > 40 {
				t.Fatal("the loop does not end")
			}
			if err := ns.Rename(l, "/d/"+n, l, "/d/"+n+".moved", 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(met) != 30 {
		t.Errorf("met %d names of 30: %v", len(met), met)
	}
}

func TestAnOpenReaderSeesTheFileAfterItIsCopiedUp(t *testing.T) {
	ns, l := stack(t)
	r, err := ns.Open(l, "/d/f01", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := r.Ops.Attr(l.C)
	w, err := ns.Open(l, "/d/f01", unix.O_WRONLY|unix.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	q := mm.KernelIO([]byte("new"))
	if _, err := w.Write(l.C, &q); err != nil {
		t.Fatal(err)
	}
	w.DecRef()
	if s := read(t, l, r); s != "new" {
		t.Errorf("the reader sees %q", s)
	}
	after, _ := r.Ops.Attr(l.C)
	if before.Ino != after.Ino || before.Dev != after.Dev {
		t.Errorf("the file's number changed: %d:%d, then %d:%d", before.Dev, before.Ino, after.Dev, after.Ino)
	}
	if err := ns.Unlink(l, "/d/f01", false); err != nil {
		t.Fatal(err)
	}
	if s := read(t, l, r); s != "new" {
		t.Errorf("after unlink it sees %q", s)
	}
	r.DecRef()
}

func TestAFileUnlinkedBeforeItWasCopiedUpCanStillBeChanged(t *testing.T) {
	ns, l := stack(t)
	r, err := ns.Open(l, "/d/f02", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Unlink(l, "/d/f02", false); err != nil {
		t.Fatal(err)
	}
	if a, _ := r.Ops.Attr(l.C); a.Nlink != 0 {
		t.Errorf("link count %d", a.Nlink)
	}
	if err := r.Inode().SetAttr(l.C, vfs.SetAttr{SetMode: true, Mode: 0o600, Creds: l.Creds}); err != nil {
		t.Fatalf("chmod: %v", err)
	}
	if a, _ := r.Ops.Attr(l.C); a.Mode&0o777 != 0o600 || a.Nlink != 0 {
		t.Errorf("mode %o, links %d", a.Mode, a.Nlink)
	}
	if s := read(t, l, r); s != "/d/f02" {
		t.Errorf("it holds %q", s)
	}
	if _, _, err := ns.Stat(l, "/d/f02", 0); err != unix.ENOENT {
		t.Errorf("it came back: %v", err)
	}
	r.DecRef()
}

func TestRefusedChangesCopyNothing(t *testing.T) {
	ns, l := stack(t)
	u := l
	u.Creds = &vfs.Creds{FSUID: 1000, UID: 1000, FSGID: 1000}
	if err := ns.SetAttr(u, "/d/f03", 0, vfs.SetAttr{SetMode: true, Mode: 0o777}); err != unix.EPERM {
		t.Errorf("chmod by another: %v", err)
	}
	p, err := ns.Walk(l, "/d/f03", 0)
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := p.Mount.Super.FS.Statfs(l.C); s.Bfree != s.Blocks {
		t.Errorf("%d pages were copied", s.Blocks-s.Bfree)
	}
}

// A rename that fails leaves the file that it would have replaced as it is.
func TestARenameThatFailsReplacesNothing(t *testing.T) {
	mem := mm.NewMemory(fake.New(2048))
	ns, l := stackIn(t, mem)
	if err := ns.Mkdir(l, "/e", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/e/new", "/d/other"} { // the directories are copied up
		f, err := ns.Open(l, name, unix.O_CREAT|unix.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		f.DecRef()
	}
	b, full := mem.Budget(), int64(0)
	for n := int64(1 << 40); n > 0; n /= 2 {
		for b.Charge(n) {
			full += n
		}
	}
	err := ns.Rename(l, "/e/new", l, "/d/f07", 0)
	b.Uncharge(full)
	if err != unix.ENOSPC {
		t.Fatalf("a rename without room: %v", err)
	}
	if a, _, err := ns.Stat(l, "/d/f07", 0); err != nil || a.Nlink != 1 {
		t.Errorf("%d links, %v", a.Nlink, err)
	}
	for _, text := range []string{"", "changed"} {
		f, err := ns.Open(l, "/d/f07", unix.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, l, f); got != "/d/f07" {
			t.Errorf("it reads %q", got)
		}
		q := mm.KernelIO([]byte(text))
		if _, err := f.WriteAt(l.C, &q, 0); err != nil {
			t.Fatal(err)
		}
		f.DecRef()
	}
	f, err := ns.Open(l, "/d/f07", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.DecRef()
	if got := read(t, l, f); got != "changed" {
		t.Errorf("after a write it reads %q", got)
	}
}

// The link count of a directory that shows both halves is 1, "not known": find(1) and fts(3)
// take another one for the number of subdirectories.
func TestADirectoryOfBothHalvesDoesNotCountItsSubdirectories(t *testing.T) {
	ns, l := stack(t)
	links := func(name string, want uint32) {
		t.Helper()
		if a, _, err := ns.Stat(l, name, 0); err != nil || a.Nlink != want {
			t.Errorf("%s has %d links, %v, want %d", name, a.Nlink, err, want)
		}
	}
	links("/d", 2)
	if err := ns.Mkdir(l, "/d/new", 0o755); err != nil {
		t.Fatal(err)
	}
	links("/d", 1)
	links("/d/new", 2)
	if err := ns.Mkdir(l, "/d/new/x", 0o755); err != nil {
		t.Fatal(err)
	}
	links("/d/new", 3)
	d, err := ns.Open(l, "/d/new", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/d/new/x", "/d/new"} {
		if err := ns.Unlink(l, name, true); err != nil {
			t.Fatal(err)
		}
	}
	if a, _ := d.Ops.Attr(l.C); a.Nlink != 0 {
		t.Errorf("a removed directory has %d links", a.Nlink)
	}
	d.DecRef()
}
