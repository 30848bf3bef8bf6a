package vfs_test

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/fs/overlay"
	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// whole says whether b is one of the contents that replace writes.
func whole(b []byte) bool {
	return len(b) > 0 && len(b) == int(b[0])*100 && bytes.Count(b, b[:1]) == len(b)
}

// replace makes a file of n·100 bytes n and renames it over /conf.
func replace(ns *vfs.Namespace, l vfs.Lookup, tmp string, n byte) error {
	f, err := ns.Open(l, tmp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	defer f.DecRef()
	q := mm.KernelIO(bytes.Repeat([]byte{n}, int(n)*100))
	if _, err := f.Write(l.C, &q); err != nil {
		return err
	}
	return ns.Rename(l, tmp, l, "/conf", 0)
}

// Whoever uses a file while others are renamed over it finds the old one or the new one,
// whole, and never that there is none.
func TestReplacingAFileIsAtomic(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	mem := mm.NewMemory(fake.New(4096))
	newTmpfs := func() *tmpfs.FS {
		fs, err := tmpfs.New(mem, "")
		if err != nil {
			t.Fatal(err)
		}
		return fs
	}
	contents := func(ns *vfs.Namespace, l vfs.Lookup, open func() (*vfs.File, error)) error {
		f, err := open()
		if err != nil {
			return err
		}
		defer f.DecRef()
		b := make([]byte, 4096)
		q := mm.KernelIO(b)
		if n, err := f.ReadAt(l.C, &q, 0); err != nil || !whole(b[:n]) {
			return fmt.Errorf("%d bytes, %v", n, err)
		}
		if a, err := f.Ops.Attr(l.C); err != nil || a.Size == 0 || a.Blocks == 0 {
			return fmt.Errorf("%+v, %v", a, err)
		}
		return nil
	}
	for _, c := range []struct {
		name string
		fs   vfs.FileSystem
	}{
		{"tmpfs", newTmpfs()},
		{"overlay", overlay.New(newTmpfs(), newTmpfs())},
	} {
		ns := vfs.NewNamespace(c.fs, "none", 0)
		l := vfs.Lookup{C: wait.Background(), FS: vfs.NewFSContext(ns), Creds: vfs.RootCreds()}
		if err := replace(ns, l, "/first", 1); err != nil {
			t.Fatal(err)
		}
		before, err := c.fs.Statfs(l.C)
		if err != nil {
			t.Fatal(err)
		}
		var stop atomic.Bool
		var wg sync.WaitGroup
		for what, use := range map[string]func() error{
			"open": func() error {
				return contents(ns, l, func() (*vfs.File, error) { return ns.Open(l, "/conf", unix.O_RDONLY, 0) })
			},
			"open to create": func() error {
				return contents(ns, l, func() (*vfs.File, error) { return ns.Open(l, "/conf", unix.O_CREAT|unix.O_RDONLY, 0) })
			},
			"open by a path descriptor": func() error {
				f, err := ns.Open(l, "/conf", unix.O_PATH, 0)
				if err != nil {
					return err
				}
				defer f.DecRef()
				a, err := f.Ops.Attr(l.C)
				if err == nil && a.Size == 0 {
					err = fmt.Errorf("%+v", a)
				}
				return err
			},
			"execute": func() error {
				return contents(ns, l, func() (*vfs.File, error) {
					for {
						f, err := ns.OpenExec(l, "/conf")
						if err != unix.ETXTBSY { // its maker has not closed it
							return f, err
						}
					}
				})
			},
			"stat": func() error {
				a, _, err := ns.Stat(l, "/conf", 0)
				if err == nil && (a.Size == 0 || a.Blocks == 0) {
					err = fmt.Errorf("%+v", a)
				}
				return err
			},
			"held": func() error {
				p, done, err := ns.Held(l, "/conf", 0)
				if err != nil {
					return err
				}
				defer done()
				a, err := p.Inode().Attr(l.C)
				if err == nil && a.Size == 0 {
					err = fmt.Errorf("%+v", a)
				}
				return err
			},
		} {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for !stop.Load() {
					if err := use(); err != nil {
						t.Errorf("%s: %s: %v", c.name, what, err)
						return
					}
				}
			}()
		}
		for end := time.Now().Add(time.Second); time.Now().Before(end) && !t.Failed(); {
			for n := range byte(30) {
				if err := replace(ns, l, "/new", n+1); err != nil {
					t.Fatal(err)
				}
			}
			runtime.Gosched()
		}
		stop.Store(true)
		wg.Wait()
		if err := replace(ns, l, "/last", 1); err != nil {
			t.Fatal(err)
		}
		if after, err := c.fs.Statfs(l.C); err != nil || after != before {
			t.Errorf("%s: %+v, %v at the end, %+v before", c.name, after, err, before)
		}
	}
}

// What somebody makes with O_CREAT is open for him though others unlink it at once.
func TestAFileIsOpenForItsMaker(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	ns, l, _ := world(t, "")
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				if err := ns.Unlink(l, "/f", false); err != nil && err != unix.ENOENT {
					t.Error(err)
				}
			}
		})
	}
	for made, end := 0, time.Now().Add(2*time.Second); made < 2000 && time.Now().Before(end); made++ {
		f, err := ns.Open(l, "/f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
		if err == unix.EEXIST {
			made--
			continue
		}
		if err != nil {
			t.Error(err)
			break
		}
		q := mm.KernelIO([]byte("x"))
		if n, err := f.Write(l.C, &q); n != 1 || err != nil {
			t.Error(n, err)
		}
		f.DecRef()
	}
	stop.Store(true)
	wg.Wait()
}

// A dead file that a walk leads to again and again is not looked for for ever.
func TestALookUpOfADeadNodeEnds(t *testing.T) {
	ns, l, _ := world(t, "")
	if err := ns.Mkdir(l, "/d", 0o755); err != nil {
		t.Fatal(err)
	}
	f := create(t, ns, l, "/d/f", 0o644)
	x := l
	x.At = f.Path
	f.DecRef()
	if err := ns.Unlink(l, "/d/f", false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ns.Held(x, "", vfs.WalkEmpty); err != unix.ENOENT {
		t.Errorf("held: %v", err)
	}
	if _, err := ns.OpenExecAt(x, "", vfs.WalkEmpty); err != unix.EACCES && err != unix.ENOENT {
		t.Errorf("opened: %v", err)
	}
	if _, _, err := ns.Stat(x, "", vfs.WalkEmpty); err != nil {
		t.Errorf("stat: %v", err)
	}
}

// Who finds a description that its owner may have let go of does not bring it back to life.
func TestADeadDescriptionStaysDead(t *testing.T) {
	released := 0
	f := vfs.NewFile(&countedOps{n: &released}, unix.O_RDONLY)
	if !f.TryIncRef() {
		t.Error("it lives")
	}
	f.DecRef()
	f.DecRef()
	if f.TryIncRef() {
		t.Error("it is dead")
		f.DecRef()
	}
	if released != 1 {
		t.Errorf("released %d times", released)
	}
}

// countedOps counts its ends.
type countedOps struct {
	vfs.BaseOps
	n *int
}

func (o *countedOps) Attr(wait.Context) (vfs.Attr, error) { return vfs.Attr{}, nil }
func (o *countedOps) Release(*vfs.File)                   { *o.n++ }
