package vfs_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/mm"
)

// What a directory found last is remembered without its lock; every change must show in
// the next look-up all the same.
func TestLookupsSeeEveryChangeAtOnce(t *testing.T) {
	ns, l, _ := world(t, "")
	ino := func(name string) uint64 {
		a, _, err := ns.Stat(l, name, 0)
		if err == unix.ENOENT {
			return 0
		}
		if err != nil {
			t.Fatal(err)
		}
		return a.Ino
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(what string, got, want uint64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: inode %d, want %d", what, got, want)
		}
	}
	must(ns.Mkdir(l, "/d", 0o755))
	is("a name that is not there", ino("/d/a"), 0)
	create(t, ns, l, "/d/a", 0o644).DecRef()
	a := ino("/d/a")
	if a == 0 {
		t.Error("a negative entry hides the new file")
	}
	must(ns.Rename(l, "/d/a", l, "/d/b", 0))
	is("the old name", ino("/d/a"), 0)
	is("the new name", ino("/d/b"), a)
	create(t, ns, l, "/d/a", 0o644).DecRef()
	other := ino("/d/a")
	is("still", ino("/d/b"), a)
	must(ns.Rename(l, "/d/a", l, "/d/b", unix.RENAME_EXCHANGE))
	is("exchanged b", ino("/d/b"), other)
	is("exchanged a", ino("/d/a"), a)
	must(ns.Mkdir(l, "/e", 0o755))
	create(t, ns, l, "/e/x", 0o644).DecRef()
	x := ino("/e/x")
	must(ns.Rename(l, "/e/x", l, "/d/a", unix.RENAME_EXCHANGE))
	is("over directories: x", ino("/e/x"), a)
	is("over directories: a", ino("/d/a"), x)
	must(ns.Rename(l, "/d/a", l, "/d/b", 0))
	is("replaced", ino("/d/b"), x)
	must(ns.Unlink(l, "/d/b", false))
	is("unlinked", ino("/d/b"), 0)
	must(ns.Rename(l, "/e", l, "/d/e", 0))
	is("through a moved directory", ino("/d/e/x"), a)
	is("through its old name", ino("/e/x"), 0)
	create(t, ns, l, "/d/b", 0o600).DecRef()
	if ino("/d/b") == 0 {
		t.Error("made again, not found")
	}
}

// An entry that somebody holds keeps its identity however much the cache forgets.
func TestHeldEntriesSurviveTheCache(t *testing.T) {
	ns, l, _ := world(t, "")
	if err := ns.Mkdir(l, "/d", 0o755); err != nil {
		t.Fatal(err)
	}
	f := create(t, ns, l, "/d/held", 0o644)
	defer f.DecRef()
	for round := range 3 {
		for i := range 9000 {
			if _, _, err := ns.Stat(l, fmt.Sprintf("/no-%d-%d", round, i), 0); err != unix.ENOENT {
				t.Fatal(err)
			}
		}
		runtime.GC()
		p, err := ns.Walk(l, "/d/held", 0)
		if err != nil || p != f.Path {
			t.Fatalf("round %d: another entry (%v)", round, err)
		}
	}
}

// Look-ups beside renames find the file under one of its names, or under none for the
// moment of the change, never another file.
func TestLookupsBesideRenames(t *testing.T) {
	ns, l, _ := world(t, "")
	create(t, ns, l, "/a", 0o644).DecRef()
	create(t, ns, l, "/c", 0o644).DecRef()
	at, _, err := ns.Stat(l, "/a", 0)
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			l := vfs.Lookup{FS: l.FS, Creds: l.Creds}
			for !stop.Load() {
				for _, n := range []string{"/a", "/b", "/c"} {
					got, _, err := ns.Stat(l, n, 0)
					if err != nil && err != unix.ENOENT || err == nil && (got.Ino == at.Ino) != (n != "/c") {
						t.Errorf("%s: inode %d, %v", n, got.Ino, err)
						return
					}
				}
			}
		}()
	}
	for range 3000 {
		if err := ns.Rename(l, "/a", l, "/b", 0); err != nil {
			t.Fatal(err)
		}
		if err := ns.Rename(l, "/b", l, "/a", 0); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
}

func BenchmarkStat(b *testing.B) {
	ns, l, _ := world(b, "")
	for _, d := range []string{"/var", "/var/www", "/var/www/html"} {
		if err := ns.Mkdir(l, d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	create(b, ns, l, "/var/www/html/index.html", 0o644).DecRef()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ns.Stat(l, "/var/www/html/index.html", vfs.WalkFollow); err != nil {
			b.Fatal(err)
		}
	}
}

// settled is the bytes of the budget and the pages that are in use when the collector has found
// what was let go of so far.
func settled(mem *mm.Memory) (used int64, pages int64) {
	for same := 0; same < 5; same++ {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
		if n := mem.Budget().Used(); n != used {
			used, same = n, -1
		}
	}
	return used, mem.Count(mm.KindShmem)
}

// goesBack waits for as much to be in use as settled has said.
func goesBack(t *testing.T, mem *mm.Memory, used, pages int64) {
	t.Helper()
	for range 200 {
		if mem.Count(mm.KindShmem) == pages && mem.Budget().Used() == used {
			return
		}
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d pages and %d bytes of budget stay", mem.Count(mm.KindShmem)-pages, mem.Budget().Used()-used)
}

// An unmounted tmpfs lives as long as somebody uses something in it, and gives back its
// pages and its share of the kernel-heap budget afterwards.
func TestUnmountedTmpfsIsFreed(t *testing.T) {
	ns, l, mem := world(t, "")
	ns.Register("tmpfs", vfs.FSType{NoDev: true, New: func(_, data string) (vfs.FileSystem, error) { return tmpfs.New(mem, data) }})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(ns.Mkdir(l, "/m", 0o755))
	used, pages := settled(mem)
	var held *vfs.File
	func() {
		must(ns.Mount(l, "t", "/m", "tmpfs", 0, ""))
		must(ns.Mkdir(l, "/m/d", 0o755))
		must(ns.Symlink(l, "elsewhere", "/m/s"))
		for i := range 10 {
			f := create(t, ns, l, fmt.Sprintf("/m/d/f%d", i), 0o644)
			q := mm.KernelIO(make([]byte, 5*4096))
			if n, err := f.Write(l.C, &q); n != 5*4096 || err != nil {
				t.Fatal(n, err)
			}
			if i == 3 {
				held = f
			} else {
				f.DecRef()
			}
		}
		must(ns.Unlink(l, "/m/d/f9", false))
		if err := ns.Umount(l, "/m", 0); err != unix.EBUSY {
			t.Fatalf("unmounted while a file is open: %v", err)
		}
		must(ns.Umount(l, "/m", unix.MNT_DETACH))
	}()
	if n := mem.Count(mm.KindShmem) - pages; n != 45 {
		t.Fatalf("%d pages while a file is open, want 45", n)
	}
	for range 5 {
		runtime.GC()
	}
	q := mm.KernelIO(make([]byte, 4096))
	if n, err := held.ReadAt(l.C, &q, 4096); n != 4096 || err != nil || mem.Count(mm.KindShmem)-pages != 45 {
		t.Errorf("a file that is open: %d, %v, %d pages", n, err, mem.Count(mm.KindShmem)-pages)
	}
	held.DecRef()
	held = nil
	goesBack(t, mem, used, pages)
}

// A file that a bind mount shows lives without a name, and goes when the mount has gone.
func TestAMountKeepsItsRoot(t *testing.T) {
	ns, l, mem := world(t, "")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	create(t, ns, l, "/at", 0o644).DecRef()
	used, pages := settled(mem)
	f := create(t, ns, l, "/f", 0o644)
	q := mm.KernelIO([]byte("content"))
	if _, err := f.Write(l.C, &q); err != nil {
		t.Fatal(err)
	}
	f.DecRef()
	must(ns.Mount(l, "/f", "/at", "", unix.MS_BIND, ""))
	must(ns.Unlink(l, "/f", false))
	for range 3 {
		runtime.GC()
	}
	f, err := ns.Open(l, "/at", unix.O_RDONLY, 0)
	must(err)
	b := make([]byte, 10)
	q = mm.KernelIO(b)
	if n, err := f.ReadAt(l.C, &q, 0); string(b[:n]) != "content" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	f.DecRef()
	f = nil
	must(ns.Umount(l, "/at", 0))
	goesBack(t, mem, used, pages)
}
