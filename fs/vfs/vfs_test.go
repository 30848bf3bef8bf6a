package vfs_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

func world(t testing.TB, options string) (*vfs.Namespace, vfs.Lookup, *mm.Memory) {
	t.Helper()
	mem := mm.NewMemory(fake.New(2048))
	fs, err := tmpfs.New(mem, options)
	if err != nil {
		t.Fatal(err)
	}
	ns := vfs.NewNamespace(fs, "none", 0)
	return ns, vfs.Lookup{C: wait.Background(), FS: vfs.NewFSContext(ns), Creds: vfs.RootCreds()}, mem
}

func user(uid uint32, groups ...uint32) *vfs.Creds {
	return &vfs.Creds{UID: uid, EUID: uid, SUID: uid, FSUID: uid, GID: uid, EGID: uid, SGID: uid, FSGID: uid, Groups: groups}
}

func create(t testing.TB, ns *vfs.Namespace, l vfs.Lookup, name string, mode uint32) *vfs.File {
	t.Helper()
	f, err := ns.Open(l, name, unix.O_CREAT|unix.O_RDWR, mode)
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return f
}

type countOps struct {
	vfs.BaseOps
	released chan *vfs.File
}

func (c *countOps) Attr(wait.Context) (vfs.Attr, error) { return vfs.Attr{}, nil }
func (c *countOps) Release(f *vfs.File)                 { c.released <- f }

func TestDescriptorsAreTheLowestFree(t *testing.T) {
	tab := vfs.NewFDTable(200)
	ops := &countOps{released: make(chan *vfs.File, 1000)}
	for want := int32(0); want < 200; want++ {
		fd, err := tab.Install(vfs.NewFile(ops, 0), 0, want%3 == 0)
		if fd != want || err != nil {
			t.Fatalf("got %d, %v, want %d", fd, err, want)
		}
	}
	f := vfs.NewFile(ops, 0)
	if _, err := tab.Install(f, 0, false); err != unix.EMFILE {
		t.Errorf("beyond the limit: %v", err)
	}
	for _, fd := range []int32{150, 7, 63, 64} {
		tab.Close(tab.Remove(fd))
	}
	for _, c := range []struct{ min, want int32 }{{65, 150}, {0, 7}, {10, 63}, {0, 64}} {
		f.IncRef()
		if fd, err := tab.Install(f, c.min, false); fd != c.want || err != nil {
			t.Errorf("from %d: %d, %v, want %d", c.min, fd, err, c.want)
		}
	}
	tab.Exec()
	for fd := int32(0); fd < 200; fd++ {
		g := tab.Get(fd)
		if open := fd%3 != 0 || fd == 7 || fd == 63 || fd == 64 || fd == 150; (g != nil) != open {
			t.Errorf("after exec, %d open: %v", fd, g != nil)
		}
		if g != nil {
			g.DecRef()
		}
	}
	f.DecRef()
	child := tab.Fork()
	tab.DecRef()
	child.DecRef()
	if n := len(ops.released); n != 201 {
		t.Errorf("%d of 201 files released", n)
	}
}

func TestGetNeverGivesAReleasedFile(t *testing.T) {
	tab := vfs.NewFDTable(1024)
	released := &countOps{released: make(chan *vfs.File, 1<<20)}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				for fd := int32(0); fd < 300; fd += 60 {
					if f := tab.Get(fd); f != nil {
						f.DecRef() // panics if the count was wrong
					}
				}
				runtime.Gosched()
			}
		}()
	}
	for i := range 3000 {
		fd, err := tab.Install(vfs.NewFile(released, 0), int32(i%5*60), false)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if old, err := tab.InstallAt(vfs.NewFile(released, 0), fd, false); err == nil && old != nil {
				tab.Close(old)
			}
		}
		tab.Close(tab.Remove(fd))
	}
	close(stop)
	wg.Wait()
	if got := len(released.released); got != 4500 {
		t.Errorf("%d of 4500 files released", got)
	}
}

// A call that fails takes back its own file, and not what another thread has opened by the number.
func TestWithdraw(t *testing.T) {
	tab := vfs.NewFDTable(64)
	ops := &countOps{released: make(chan *vfs.File, 2)}
	mine, other := vfs.NewFile(ops, 0), vfs.NewFile(ops, 0)
	fd, err := tab.Install(mine, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if old := tab.Remove(fd); old != mine {
		t.Fatalf("%v was there", old)
	}
	tab.Close(mine)
	if again, err := tab.Install(other, 0, false); again != fd || err != nil {
		t.Fatalf("%d instead of %d, %v", again, fd, err)
	}
	tab.Withdraw(fd, mine)
	tab.Withdraw(fd+1, mine)
	tab.Withdraw(99, mine)
	if tab.Sole(fd) != other {
		t.Error("the other thread's file was closed")
	}
	tab.Withdraw(fd, other)
	if n := tab.Count(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

func TestPermissions(t *testing.T) {
	ns, l, _ := world(t, "mode=755")
	for _, d := range []string{"/open", "/sticky", "/closed"} {
		if err := ns.Mkdir(l, d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	chmod := func(p string, mode uint32) {
		if err := ns.SetAttr(l, p, 0, vfs.SetAttr{SetMode: true, Mode: mode}); err != nil {
			t.Fatal(err)
		}
	}
	chmod("/open", 0o777)
	chmod("/sticky", 0o1777)
	chmod("/closed", 0o700)
	create(t, ns, l, "/open/f", 0o640).DecRef()
	create(t, ns, l, "/closed/f", 0o644).DecRef()
	a, b := l, l
	a.Creds, b.Creds = user(1000), user(1001, 7)
	create(t, ns, a, "/sticky/mine", 0o644).DecRef()
	if err := ns.SetAttr(l, "/open/f", 0, vfs.SetAttr{SetGID: true, GID: 7}); err != nil {
		t.Fatal(err)
	}
	open := func(l vfs.Lookup, p string, flags uint32) error {
		f, err := ns.Open(l, p, flags, 0o644)
		if err == nil {
			f.DecRef()
		}
		return err
	}
	for _, c := range []struct {
		what      string
		got, want error
	}{
		{"other reads 0640", open(a, "/open/f", unix.O_RDONLY), unix.EACCES},
		{"group reads 0640", open(b, "/open/f", unix.O_RDONLY), nil},
		{"group writes 0640", open(b, "/open/f", unix.O_RDWR), unix.EACCES},
		{"through 0700", open(a, "/closed/f", unix.O_RDONLY), unix.EACCES},
		{"create in 0755", open(a, "/x", unix.O_CREAT|unix.O_WRONLY), unix.EACCES},
		{"another's file in a sticky folder", ns.Unlink(b, "/sticky/mine", false), unix.EPERM},
		{"rename it", ns.Rename(b, "/sticky/mine", b, "/open/mine", 0), unix.EPERM},
		{"chmod by another", ns.SetAttr(b, "/sticky/mine", 0, vfs.SetAttr{SetMode: true, Mode: 0o777}), unix.EPERM},
		{"chown by the owner", ns.SetAttr(a, "/sticky/mine", 0, vfs.SetAttr{SetUID: true, UID: 5}), unix.EPERM},
		{"a device", ns.Mknod(a, "/open/dev", unix.S_IFCHR|0o666, 0x103), unix.EPERM},
		{"one's own", ns.Unlink(a, "/sticky/mine", false), nil},
		{"access for root of 0644 to run", ns.Access(l, "/closed/f", 0, vfs.MayExec), unix.EACCES},
		{"access for root to write", ns.Access(l, "/closed/f", 0, vfs.MayWrite), nil},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestUnusedEntriesAreBounded(t *testing.T) {
	ns, l, _ := world(t, "")
	f := create(t, ns, l, "/held", 0o644)
	place := f.Path
	var before, after runtime.MemStats
	look := func(from, to int) {
		for i := from; i < to; i++ {
			if _, _, err := ns.Stat(l, fmt.Sprintf("/no-such-name-%0100d", i), 0); err != unix.ENOENT {
				t.Fatal(err)
			}
		}
	}
	look(0, 20000)
	runtime.GC()
	runtime.ReadMemStats(&before)
	look(20000, 200000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
		t.Errorf("180000 names that do not exist left %d bytes behind", grown)
	}
	vfs.DropCaches()
	runtime.GC()
	p, err := ns.Walk(l, "/held", 0)
	if err != nil || p != place {
		t.Errorf("a held entry has another identity after the caches were dropped: %v", err)
	}
	f.DecRef()
}

func TestMountsAndDotDot(t *testing.T) {
	ns, l, mem := world(t, "")
	ns.Register("tmpfs", vfs.FSType{NoDev: true, New: func(_, data string) (vfs.FileSystem, error) { return tmpfs.New(mem, data) }})
	for _, d := range []string{"/m", "/m/x", "/n"} {
		if err := ns.Mkdir(l, d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(ns.Mount(l, "t", "/m", "tmpfs", unix.MS_NOSUID, "size=64k"))
	must(ns.Mkdir(l, "/m/in", 0o755))
	if _, _, err := ns.Stat(l, "/m/x", 0); err != unix.ENOENT {
		t.Errorf("what is covered shows: %v", err)
	}
	p, err := ns.Walk(l, "/m/in/../../n", 0)
	must(err)
	if s := ns.Name(p, ns.Root()); s != "/n" {
		t.Errorf(".. out of a mount: %s", s)
	}
	must(ns.Mount(l, "/m/in", "/n", "", unix.MS_BIND, ""))
	create(t, ns, l, "/n/f", 0o644).DecRef()
	if _, _, err := ns.Stat(l, "/m/in/f", 0); err != nil {
		t.Errorf("a file made through the bind mount: %v", err)
	}
	for _, c := range []struct {
		what      string
		got, want error
	}{
		{"rmdir of a mount point", ns.Unlink(l, "/n", true), unix.EBUSY},
		{"rename across mounts", ns.Rename(l, "/m/in", l, "/elsewhere", 0), unix.EXDEV},
		{"unknown type", ns.Mount(l, "", "/m", "ext9", 0, ""), unix.ENODEV},
		{"bad option", ns.Mount(l, "", "/m", "tmpfs", 0, "colour=blue"), unix.EINVAL},
		{"not a mount point", ns.Umount(l, "/m/in", 0), unix.EINVAL},
		{"without privilege", ns.Umount(vfs.Lookup{C: l.C, FS: l.FS, Creds: user(5)}, "/n", 0), unix.EPERM},
		{"umount", ns.Umount(l, "/n", 0), nil},
		{"umount again", ns.Umount(l, "/n", 0), unix.EINVAL},
		{"read-only", ns.Mount(l, "", "/m", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""), nil},
		{"mkdir on it", ns.Mkdir(l, "/m/y", 0o755), unix.EROFS},
		{"what exists there", ns.Mkdir(l, "/m/in", 0o755), unix.EEXIST},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
	if infos := ns.MountList(ns.Root()); len(infos) != 2 || infos[1].Point != "/m" {
		t.Errorf("mounts: %+v", infos)
	}
}

// TestNoFileIsOpenForWritingOnAMountThatBecameReadOnly opens while another thread remounts.
// What a rename or a handle takes out of the part of a file system that a bind mount shows
// has no name there, and is no way out for "..".
func TestDirectoriesThatEscapeTheirMount(t *testing.T) {
	ns, l, _ := world(t, "")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"/a", "/a/in", "/a/in/deep", "/m", "/c"} {
		must(ns.Mkdir(l, d, 0o755))
	}
	top, err := ns.Open(l, "/", unix.O_RDONLY, 0)
	must(err)
	defer top.DecRef()
	handle, err := top.Path.Handle()
	must(err)
	must(ns.Mount(l, "/a", "/m", "", unix.MS_BIND, ""))
	in, err := ns.Walk(l, "/m/in/deep", 0)
	must(err)
	at, err := ns.Walk(l, "/m", 0)
	must(err)
	f, err := ns.OpenHandle(l, at, handle, unix.O_RDONLY)
	must(err)
	defer f.DecRef()
	must(ns.Rename(l, "/a/in", l, "/c/out", 0))
	for _, p := range []vfs.Path{in, f.Path} {
		if s := ns.Name(p, ns.Root()); s != "/" {
			t.Errorf("its name is %s", s)
		}
		if below, gone := ns.Reachable(p, ns.Root()); below || gone {
			t.Errorf("reachable %v, gone %v", below, gone)
		}
		x := l
		x.At = p
		if _, err := ns.Walk(x, "..", 0); err != unix.ENOENT {
			t.Errorf(".. is %v", err)
		}
	}
	// Nor is there a directory that landlock could ask about the root.
	mem := mm.NewMemory(fake.New(64))
	rules, err := vfs.NewRuleset(mem.Budget(), unix.LANDLOCK_ACCESS_FS_REFER)
	must(err)
	confined := *l.Creds
	confined.Domain, err = confined.Domain.Confine(rules)
	must(err)
	x := l
	x.Creds, x.At = &confined, f.Path
	if err := ns.Link(x, "", vfs.Lookup{C: l.C, FS: l.FS, Creds: &confined}, "/m/link", unix.AT_EMPTY_PATH); err != unix.EXDEV {
		t.Errorf("a link to the root is %v", err)
	}
	must(ns.Rename(l, "/c/out", l, "/a/back", 0))
	if s := ns.Name(in, ns.Root()); s != "/m/back/deep" {
		t.Errorf("its name is %s again", s)
	}
}

func TestNoFileIsOpenForWritingOnAMountThatBecameReadOnly(t *testing.T) {
	for what, remount := range map[string]func(ns *vfs.Namespace, l vfs.Lookup, ro uint64) error{
		"the file system": func(ns *vfs.Namespace, l vfs.Lookup, ro uint64) error {
			return ns.Mount(l, "", "/m", "", unix.MS_REMOUNT|ro, "")
		},
		"the mount": func(ns *vfs.Namespace, l vfs.Lookup, ro uint64) error {
			return ns.Mount(l, "", "/m", "", unix.MS_REMOUNT|unix.MS_BIND|ro, "")
		},
	} {
		t.Run(what, func(t *testing.T) {
			ns, l, mem := world(t, "")
			ns.Register("tmpfs", vfs.FSType{NoDev: true, Check: tmpfs.Check, New: func(_, data string) (vfs.FileSystem, error) { return tmpfs.New(mem, data) }})
			if err := ns.Mkdir(l, "/m", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := ns.Mount(l, "", "/m", "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			create(t, ns, l, "/m/f", 0o644).DecRef()
			var shut, end atomic.Bool
			var opened, refused atomic.Int64
			var wait sync.WaitGroup
			for range 3 {
				wait.Go(func() {
					for !end.Load() {
						f, err := ns.Open(l, "/m/f", unix.O_WRONLY, 0)
						if err == unix.EROFS {
							refused.Add(1)
							continue
						}
						if err != nil {
							t.Error(err)
							return
						}
						opened.Add(1)
						for range 3 {
							if shut.Load() {
								t.Error("a writer on a mount that is read-only")
							}
							runtime.Gosched()
						}
						f.DecRef()
						runtime.Gosched()
					}
				})
			}
			done := 0
			for limit := time.Now().Add(10 * time.Second); (done < 300 || opened.Load() < 300) && time.Now().Before(limit) && !t.Failed(); runtime.Gosched() {
				switch err := remount(ns, l, unix.MS_RDONLY); err {
				case nil:
					done++
					shut.Store(true)
					runtime.Gosched()
					shut.Store(false)
					if err := remount(ns, l, 0); err != nil {
						t.Error(err)
					}
				case unix.EBUSY:
				default:
					t.Error(err)
				}
			}
			end.Store(true)
			wait.Wait()
			if done == 0 || opened.Load() == 0 {
				t.Errorf("%d remounts, %d opens, %d refused", done, opened.Load(), refused.Load())
			}
		})
	}
}

func TestChrootHoldsDotDot(t *testing.T) {
	ns, l, _ := world(t, "")
	for _, d := range []string{"/jail", "/jail/a", "/out"} {
		if err := ns.Mkdir(l, d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	j := l
	j.FS = l.FS.Fork()
	if err := ns.Chroot(j, "/jail"); err != nil {
		t.Fatal(err)
	}
	p, err := ns.Walk(j, "/a/../../../a", 0)
	if err != nil || ns.Name(p, j.FS.Root()) != "/a" {
		t.Errorf("%v, %v", ns.Name(p, j.FS.Root()), err)
	}
	if _, err := ns.Walk(j, "/../out", 0); err != unix.ENOENT {
		t.Errorf("out of the root: %v", err)
	}
}

func TestUnlinkedFilesLiveUntilTheLastClose(t *testing.T) {
	ns, l, mem := world(t, "size=64k")
	start := mem.Count(mm.KindShmem)
	f := create(t, ns, l, "/f", 0o644)
	q := mm.KernelIO(make([]byte, 80<<10))
	n, err := f.Write(l.C, &q)
	if n != 64<<10 || err != nil {
		t.Errorf("a write beyond size=: %d, %v", n, err)
	}
	if _, err := f.Write(l.C, &q); err != unix.ENOSPC {
		t.Errorf("a write to a full file system: %v", err)
	}
	if err := ns.Unlink(l, "/f", false); err != nil {
		t.Fatal(err)
	}
	if got := mem.Count(mm.KindShmem) - start; got != 16 {
		t.Errorf("%d pages before the last close, want 16", got)
	}
	if s := ns.Name(f.Path, ns.Root()); s != "/f (deleted)" {
		t.Errorf("its name: %s", s)
	}
	f.DecRef()
	if got := mem.Count(mm.KindShmem) - start; got != 0 {
		t.Errorf("%d pages after it", got)
	}
	g := create(t, ns, l, "/g", 0o644)
	q = mm.KernelIO([]byte(strings.Repeat("x", 64<<10)))
	if n, err := g.Write(l.C, &q); n != 64<<10 || err != nil {
		t.Errorf("the space is not free again: %d, %v", n, err)
	}
	g.DecRef()
}

// sleeper is a context whose waits a test can interrupt.
type sleeper struct {
	ch  chan struct{}
	sig chan struct{}
}

func newSleeper() *sleeper { return &sleeper{make(chan struct{}, 1), make(chan struct{}, 1)} }

func (s *sleeper) Listener() waiter.EventListener { return s }
func (s *sleeper) NotifyEvent(waiter.EventMask) {
	select {
	case s.ch <- struct{}{}:
	default:
	}
}
func (s *sleeper) Block(_ int64, k wait.Kind) wait.Result {
	if k == wait.Uninterruptible {
		<-s.ch
		return wait.Ready
	}
	select {
	case <-s.ch:
		return wait.Ready
	case <-s.sig:
		return wait.Signal
	}
}

func TestRecordLocks(t *testing.T) {
	ns, l, _ := world(t, "")
	p1, p2 := vfs.NewFDTable(10), vfs.NewFDTable(10)
	f1, f2 := create(t, ns, l, "/f", 0o644), create(t, ns, l, "/f", 0o644)
	lock := func(f *vfs.File, owner any, from, to int64, write bool) error {
		return f.SetLock(l.C, vfs.RecordLock{Start: from, End: to, Write: write, Owner: owner, PID: 1}, false, false)
	}
	unlock := func(f *vfs.File, owner any, from, to int64) error {
		return f.SetLock(l.C, vfs.RecordLock{Start: from, End: to, Owner: owner}, true, false)
	}
	for _, c := range []struct {
		what      string
		got, want error
	}{
		{"write lock", lock(f1, p1, 0, 100, true), nil},
		{"the same owner through another file", lock(f2, p1, 50, 60, false), nil},
		{"another process, part that was downgraded", lock(f2, p2, 52, 58, false), nil},
		{"the part before it", lock(f2, p2, 40, 51, false), unix.EAGAIN},
		{"behind it", lock(f2, p2, 60, 61, false), unix.EAGAIN},
		{"unlock the middle", unlock(f1, p1, 20, 80), nil},
		{"now free", lock(f2, p2, 20, 80, true), nil},
		{"still held", lock(f2, p2, 19, 20, true), unix.EAGAIN},
		{"OFD lock conflicts with both", lock(f1, f1, 0, 1, true), unix.EAGAIN},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
	if o, ok := f2.TestLock(vfs.RecordLock{Start: 0, End: 1 << 40, Write: true, Owner: p2}); !ok || o.Start != 0 || o.End != 20 {
		t.Errorf("F_GETLK: %+v %v", o, ok)
	}
	// Closing any descriptor of the file drops the process's locks.
	g := create(t, ns, l, "/f", 0o644)
	p1.Close(g)
	if err := lock(f2, p2, 0, 1<<62, true); err != nil {
		t.Errorf("after the other process closed a descriptor: %v", err)
	}
	f1.DecRef()
	p2.Close(f2)
}

func TestBlockedLocksWakeDieAndDetectRings(t *testing.T) {
	ns, l, _ := world(t, "")
	f := create(t, ns, l, "/f", 0o644)
	p1, p2 := vfs.NewFDTable(10), vfs.NewFDTable(10)
	set := func(c wait.Context, owner any, at int64, block bool) error {
		return f.SetLock(c, vfs.RecordLock{Start: at, End: at + 1, Write: true, Owner: owner}, false, block)
	}
	if set(l.C, p1, 1, false) != nil || set(l.C, p2, 2, false) != nil {
		t.Fatal("cannot lock")
	}
	s := newSleeper()
	got := make(chan error)
	go func() { got <- set(s, p1, 2, true) }()
	time.Sleep(20 * time.Millisecond)
	if err := set(l.C, p2, 1, true); err != unix.EDEADLK {
		t.Errorf("a ring of waits: %v", err)
	}
	s.sig <- struct{}{}
	if err := <-got; err != wait.ErrRestart {
		t.Errorf("interrupted: %v", err)
	}
	go func() { got <- set(s, p1, 2, true) }()
	time.Sleep(20 * time.Millisecond)
	if err := f.SetLock(l.C, vfs.RecordLock{Start: 2, End: 3, Owner: p2}, true, false); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("woken: %v", err)
	}
	f.DecRef()
}

func TestFlockBelongsToTheDescription(t *testing.T) {
	ns, l, _ := world(t, "")
	a, b := create(t, ns, l, "/f", 0o644), create(t, ns, l, "/f", 0o644)
	for _, c := range []struct {
		what      string
		got, want error
	}{
		{"shared", a.Flock(l.C, 1, unix.LOCK_SH, false), nil},
		{"shared twice", b.Flock(l.C, 1, unix.LOCK_SH, false), nil},
		{"exclusive beside it", b.Flock(l.C, 1, unix.LOCK_EX, false), unix.EAGAIN},
		{"unlock", a.Flock(l.C, 1, unix.LOCK_UN, false), nil},
		{"exclusive", b.Flock(l.C, 1, unix.LOCK_EX, false), nil},
		{"shared beside it", a.Flock(l.C, 1, unix.LOCK_SH, false), unix.EAGAIN},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
	b.DecRef()
	if err := a.Flock(l.C, 1, unix.LOCK_EX, false); err != nil {
		t.Errorf("after the holder closed: %v", err)
	}
	a.DecRef()
}

func TestReadAndWriteAllocateNothing(t *testing.T) {
	ns, l, _ := world(t, "")
	tab := vfs.NewFDTable(10)
	fd, _ := tab.Install(create(t, ns, l, "/f", 0o644), 0, false)
	buf := make([]byte, 100)
	q := new(mm.IOSeq)
	n := testing.AllocsPerRun(1000, func() {
		f := tab.Get(fd)
		*q = mm.KernelIO(buf)
		if _, err := f.WriteAt(l.C, q, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(l.C, 0, unix.SEEK_SET); err != nil {
			t.Fatal(err)
		}
		*q = mm.KernelIO(buf)
		if k, err := f.Read(l.C, q); k != 100 || err != nil {
			t.Fatal(k, err)
		}
		f.DecRef()
	})
	if n != 0 {
		t.Errorf("%v allocations for a write and a read", n)
	}
}

func TestNamesThatStayAreListedOnceWhileOthersGo(t *testing.T) {
	ns, l, _ := world(t, "nr_inodes=5000")
	if err := ns.Mkdir(l, "/d", 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		create(t, ns, l, fmt.Sprintf("/d/%03d", i), 0o644).DecRef()
	}
	d, err := ns.Open(l, "/d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.DecRef()
	// Every second name goes while the folder is being read.
	seen := map[string]int{}
	for round := 0; ; round++ {
		n := 0
		if err := d.Iterate(l.C, func(e vfs.Dirent) bool {
			if n++; n > 7 {
				return false
			}
			seen[e.Name]++
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		_ = ns.Unlink(l, fmt.Sprintf("/d/%03d", 2*round), false)
	}
	for i := 1; i < 500; i += 2 {
		if c := seen[fmt.Sprintf("%03d", i)]; c != 1 {
			t.Errorf("%03d, which stayed, was listed %d times", i, c)
		}
	}
}

func TestRenamingWhatIsListedMeetsEachFileOnce(t *testing.T) {
	ns, l, _ := world(t, "")
	for i := range 50 {
		create(t, ns, l, fmt.Sprintf("/f%02d", i), 0o644).DecRef()
	}
	d, err := ns.Open(l, "/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.DecRef()
	met := 0
	for {
		var names []string
		if err := d.Iterate(l.C, func(e vfs.Dirent) bool {
			if len(names) == 5 {
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
			if met++; met > 60 {
				t.Fatal("the loop does not end")
			}
			if err := ns.Rename(l, "/"+n, l, "/"+n+".moved", 0); err != nil {
				t.Fatal(err)
			}
			create(t, ns, l, fmt.Sprintf("/new%d", met), 0o644).DecRef()
		}
	}
	if met != 50 {
		t.Errorf("met %d files of 50", met)
	}
}

// A program cannot make the kernel keep record locks beyond what they are charged, and what it
// has at the bound can be given up.
func TestRecordLocksAreChargedAndBounded(t *testing.T) {
	ns, l, mem := world(t, "")
	vfs.Init(mem)
	f := create(t, ns, l, "/f", 0o644)
	tab := vfs.NewFDTable(10)
	before := mem.Budget().Used()
	set := func(at, n int64, unlock bool) error {
		return f.SetLock(l.C, vfs.RecordLock{Start: at, End: at + n, Write: true, Owner: tab}, unlock, false)
	}
	n := int64(0)
	for set(2*n, 1, false) == nil {
		n++
	}
	if n != 16384 {
		t.Errorf("%d locks", n)
	}
	if used := mem.Budget().Used() - before; used < 64*n {
		t.Errorf("%d locks cost %d bytes", n, used)
	}
	if err := set(2*n, 1, false); err != unix.ENOLCK {
		t.Error(err)
	}
	if err := set(0, 1, true); err != nil {
		t.Errorf("unlocking one of many: %v", err)
	}
	if err := set(0, 2*n, true); err != nil {
		t.Errorf("unlocking all: %v", err)
	}
	if used := mem.Budget().Used() - before; used != 0 {
		t.Errorf("%d bytes stay", used)
	}
	f.DecRef()
}
