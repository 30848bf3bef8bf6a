package devpts

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/tty"
	"kiln/fs/vfs"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

type world struct {
	mem *mm.Memory
	sys *System
	ns  *vfs.Namespace
	l   vfs.Lookup
}

// mounted is a tree that is an instance with options.
func mounted(t *testing.T, options string) *world {
	t.Helper()
	w := &world{mem: mm.NewMemory(fake.New(2048))}
	host := &tty.Host{Budget: w.mem.Budget(), Now: func() int64 { return 0 }, Wall: func() int64 { return 1e9 }}
	w.sys = New(host, nil)
	fs, err := w.sys.Instance(options)
	if err != nil {
		t.Fatal(err)
	}
	w.sys.SetPrimary(fs)
	w.ns = vfs.NewNamespace(fs, "devpts", 0)
	w.l = vfs.Lookup{C: wait.Background(), FS: vfs.NewFSContext(w.ns), Creds: vfs.RootCreds()}
	return w
}

func (w *world) open(name string) (*vfs.File, error) {
	return w.ns.Open(w.l, name, unix.O_RDWR|unix.O_NOCTTY, 0)
}

func TestPairsGiveBackWhatTheyCost(t *testing.T) {
	w := mounted(t, "")
	before, files := w.mem.Budget().Used(), vfs.OpenFiles()
	for range 3000 {
		m, err := w.open("/ptmx")
		if err != nil {
			t.Fatal(err)
		}
		src := mm.KernelIO([]byte("input\n"))
		if _, err := m.Write(w.l.C, &src); err != nil {
			t.Fatal(err)
		}
		m.DecRef()
	}
	if n := w.mem.Budget().Used(); n != before || w.sys.Count() != 0 || vfs.OpenFiles() != files {
		t.Errorf("%d bytes more, %d pairs, %d files more", n-before, w.sys.Count(), vfs.OpenFiles()-files)
	}
	if _, err := w.ns.Walk(w.l, "/0", 0); err != unix.ENOENT {
		t.Errorf("a name is left: %v", err)
	}
}

func TestPairsEndAtEveryBound(t *testing.T) {
	fill := func(w *world) (n int, err error) {
		var all []*vfs.File
		defer func() {
			for _, f := range all {
				f.DecRef()
			}
		}()
		for {
			f, err := w.open("/ptmx")
			if err != nil {
				return len(all), err
			}
			all = append(all, f)
		}
	}
	w := mounted(t, "max=3")
	if n, err := fill(w); n != 3 || err != unix.ENOSPC {
		t.Errorf("max=3: %d pairs, then %v", n, err)
	}
	w = mounted(t, "")
	w.sys.SetMax(5)
	if n, err := fill(w); n != 5 || err != unix.ENOSPC {
		t.Errorf("kernel.pty.max 5: %d pairs, then %v", n, err)
	}
	w.sys.SetReserve(2)
	w.sys.SetPrimary(nil) // what is not primary leaves the reserve
	if n, err := fill(w); n != 3 || err != unix.ENOSPC {
		t.Errorf("with a reserve of 2: %d pairs, then %v", n, err)
	}
	w = mounted(t, "")
	if n, err := fill(w); err != unix.ENOMEM && err != unix.ENOSPC || n == 0 {
		t.Errorf("memory: %d pairs, then %v", n, err)
	}
}

func TestSlavesAreTheirOpenersWithTheMountsMode(t *testing.T) {
	w := mounted(t, "mode=620,gid=5,ptmxmode=666")
	w.l.Creds = &vfs.Creds{UID: 7, EUID: 7, SUID: 7, FSUID: 7, GID: 8, EGID: 8, SGID: 8, FSGID: 8}
	m, err := w.open("/ptmx")
	if err != nil {
		t.Fatal(err)
	}
	defer m.DecRef()
	p, err := w.ns.Walk(w.l, "/0", 0)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := p.Inode().Attr(w.l.C)
	if got := fmt.Sprintf("%o %d %d %d:%d", a.Mode, a.UID, a.GID, unix.Major(a.Rdev), unix.Minor(a.Rdev)); got != "20620 7 5 136:0" {
		t.Error(got)
	}
	if _, err := w.open("/0"); err != unix.EIO {
		t.Errorf("a locked slave: %v", err)
	}
	if o := p.Mount.Super.FS.Options(); o != "gid=5,mode=620,ptmxmode=666" {
		t.Error(o)
	}
}

// A slave that is open keeps its pair's number, and what the pair costs, behind the master's end.
func TestASlaveKeepsItsPair(t *testing.T) {
	w := mounted(t, "")
	before := w.mem.Budget().Used()
	open := func(name string) (*vfs.File, vfs.FileOps) {
		t.Helper()
		m, err := w.open("/ptmx")
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.ns.Walk(w.l, name, 0)
		if err != nil {
			t.Fatal(err)
		}
		n := p.Inode().(*node)
		return m, n.pair.Slave().Open(n, false)
	}
	m, s := open("/0")
	m.DecRef()
	if _, err := w.ns.Walk(w.l, "/0", 0); err != unix.ENOENT {
		t.Errorf("the name is left: %v", err)
	}
	if n := w.mem.Budget().Used() - before; n < tty.PairCost || w.sys.Count() != 1 {
		t.Errorf("%d bytes are charged for %d pairs", n, w.sys.Count())
	}
	m2, s2 := open("/1")
	s.Release(nil)
	if n := w.sys.Count(); n != 1 {
		t.Errorf("%d pairs", n)
	}
	m, s = open("/0")
	for _, o := range []vfs.FileOps{s, s2} {
		o.Release(nil)
	}
	m.DecRef()
	m2.DecRef()
	if n := w.mem.Budget().Used(); n != before || w.sys.Count() != 0 {
		t.Errorf("%d bytes more, %d pairs", n-before, w.sys.Count())
	}
}
