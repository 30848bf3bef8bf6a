package syscalls

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/procfs"
	"kiln/fs/sysfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
)

// readAll reads a file as the program's thread would.
func readAll(ns *vfs.Namespace, l vfs.Lookup, path string) (string, error) {
	f, err := ns.Open(l, path, unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.DecRef()
	out, b := "", make([]byte, 300) // several reads for most files
	for {
		q := mm.KernelIO(b)
		n, err := f.Read(l.C, &q)
		if err != nil || n == 0 {
			return out, err
		}
		out += string(b[:n])
	}
}

// TestPseudoFilesCanBeReadWhole walks /proc and /sys as a program does, reads every file and
// link, and looks at the contents of those that programs parse.
func TestPseudoFilesCanBeReadWhole(t *testing.T) {
	r := newRig(t)
	for dir, fs := range map[string]vfs.FileSystem{
		"/proc": procfs.New(procfs.Config{Kernel: r.k, Release: Release, Version: Version, Cmdline: "console=ttyS0"}),
		"/sys":  sysfs.New(sysfs.Config{Machine: r.k.M, Mem: r.mem}),
	} {
		if err := r.ns.Mkdir(vfs.Lookup{}, dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := r.ns.MountFS(fs, strings.TrimPrefix(dir, "/"), dir, 0); err != nil {
			t.Fatal(err)
		}
	}
	r.run(nil, func(p *prog) {
		b := p.base()
		p.want(0, unix.SYS_PIPE2, b, 0)
		th := p.thread()
		l := th.Lookup(vfs.Path{})
		before := r.mem.Budget().Used()
		files, links, dirs := 0, 0, 0
		var walk func(dir string)
		walk = func(dir string) {
			f, err := r.ns.Open(l, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
			if err != nil {
				t.Errorf("%s: %v", dir, err)
				return
			}
			var list []vfs.Dirent
			if err := f.Iterate(l.C, func(e vfs.Dirent) bool { list = append(list, e); return true }); err != nil {
				t.Errorf("%s: %v", dir, err)
			}
			f.DecRef()
			dirs++
			seen := map[string]bool{}
			for _, e := range list {
				if seen[e.Name] {
					t.Errorf("%s lists %s twice", dir, e.Name)
				}
				seen[e.Name] = true
				path := dir + "/" + e.Name
				if e.Name == "." || e.Name == ".." {
					continue
				}
				a, _, err := r.ns.Stat(l, path, 0)
				if err != nil || a.Ino != e.Ino || uint8(a.Mode>>12&15) != e.Type {
					t.Errorf("%s: stat %+v, %v; listed as %+v", path, a, err, e)
				}
				switch e.Type {
				case unix.DT_DIR:
					walk(path)
				case unix.DT_LNK:
					links++
					if s, err := r.ns.Readlink(l, path); (err != nil || s == "") && !strings.HasSuffix(path, "/exe") {
						t.Errorf("readlink %s: %q %v", path, s, err)
					}
				default:
					files++
					if _, err := readAll(r.ns, l, path); err != nil && e.Name != "mem" && e.Name != "pagemap" { // EIO at address 0; EINVAL for parts of an entry
						t.Errorf("%s: %v", path, err)
					}
				}
			}
		}
		walk("/proc")
		walk("/sys")
		if files < 200 || links < 15 || dirs < 40 {
			t.Errorf("only %d files, %d links, %d directories", files, links, dirs)
		}
		if n := r.mem.Budget().Used(); n != before {
			t.Errorf("%d bytes of budget leaked", n-before)
		}
		get := func(path string) string {
			s, err := readAll(r.ns, l, path)
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			return s
		}
		if s := get("/proc/self/stat"); !strings.HasPrefix(s, "1 (prog) R 0 ") || len(strings.Fields(s)) != 52 {
			t.Errorf("stat: %d fields: %s", len(strings.Fields(s)), s)
		}
		if s := get("/proc/self/maps"); !strings.HasPrefix(s, "60000000-60100000 rw-p 00000000 00:00 0") {
			t.Errorf("maps: %q", s)
		}
		if s := get("/proc/self/limits"); !strings.Contains(s, "\nMax open files            1024                 524288               files     \n") {
			t.Errorf("limits: %q", s)
		}
		if s := get("/proc/self/status"); !strings.Contains(s, "\nPid:\t1\n") || !strings.Contains(s, "\nThreads:\t1\n") {
			t.Errorf("status: %q", s)
		}
		if s := get("/sys/devices/system/cpu/online"); s != "0\n" && !strings.HasPrefix(s, "0-") {
			t.Errorf("online: %q", s)
		}
		if s, err := r.ns.Readlink(l, "/proc/self/fd/0"); err != nil || !strings.HasPrefix(s, "pipe:[") {
			t.Errorf("fd/0: %q %v", s, err)
		}
		// Opening the link of a pipe gives another end of it.
		f, err := r.ns.Open(l, "/proc/self/fd/1", unix.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		q := mm.KernelIO([]byte("x"))
		if n, err := f.Write(l.C, &q); n != 1 || err != nil {
			t.Errorf("write: %d %v", n, err)
		}
		f.DecRef()
		p.want(1, unix.SYS_READ, 0, b, 10)
		store := func(path, text string) error {
			f, err := r.ns.Open(l, path, unix.O_WRONLY|unix.O_TRUNC, 0)
			if err != nil {
				return err
			}
			defer f.DecRef()
			q := mm.KernelIO([]byte(text))
			_, err = f.Write(l.C, &q)
			return err
		}
		for _, c := range []struct {
			path, text, after string
			err               error
		}{
			{"/proc/sys/vm/overcommit_memory", "1\n", "1\n", nil},
			{"/proc/sys/vm/overcommit_memory", "9\n", "1\n", unix.EINVAL},
			{"/proc/sys/vm/overcommit_memory", "x", "1\n", unix.EINVAL},
			{"/proc/sys/kernel/hostname", "box\n", "box\n", nil},
			{"/proc/self/comm", "a name that is too long\n", "a name that is \n", nil},
			{"/proc/self/oom_score_adj", "-500\n", "-500\n", nil},
			{"/proc/self/oom_score_adj", "-2000\n", "-500\n", unix.EINVAL},
			{"/proc/sys/fs/pipe-max-size", "5000\n", "8192\n", nil},
			{"/proc/version", "x", fmt.Sprintf("Linux version %s (kiln) %s\n", Release, Version), unix.EIO},
		} {
			if err := store(c.path, c.text); err != c.err {
				t.Errorf("writing %q to %s: %v, want %v", c.text, c.path, err, c.err)
			}
			if s := get(c.path); s != c.after {
				t.Errorf("%s is %q, want %q", c.path, s, c.after)
			}
		}
	})
}

// At the edge of the budget smaps is refused before its text is made: that of a process with
// many mappings is tens of megabytes.
func TestMappingsAreListedWithinTheBudget(t *testing.T) {
	r := newRig(t)
	fs := procfs.New(procfs.Config{Kernel: r.k, Release: Release, Version: Version})
	if err := r.ns.Mkdir(vfs.Lookup{}, "/proc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.ns.MountFS(fs, "proc", "/proc", 0); err != nil {
		t.Fatal(err)
	}
	r.run(nil, func(p *prog) {
		const n = 4000
		at := p.sys(unix.SYS_MMAP, 0, n*hal.PageSize, 1, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
		for i := range uint64(n / 2) {
			p.want(0, unix.SYS_MPROTECT, uint64(at)+2*i*hal.PageSize, hal.PageSize, 0)
		}
		budget, l := r.mem.Budget(), p.thread().Lookup(vfs.Path{})
		before, left := budget.Used(), int64(0)
		for k := int64(1) << 40; k > 0; k /= 2 {
			if budget.Charge(k) {
				left += k
			}
		}
		budget.Uncharge(1 << 20)
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		for _, name := range []string{"smaps", "maps"} {
			f, err := r.ns.Open(l, "/proc/self/"+name, unix.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			q := mm.KernelIO(make([]byte, 300))
			_, err = f.Read(l.C, &q)
			f.DecRef()
			if want := map[string]error{"smaps": unix.ENOMEM, "maps": nil}[name]; err != want {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		runtime.ReadMemStats(&m1)
		if n := m1.TotalAlloc - m0.TotalAlloc; n > 5<<20 {
			t.Errorf("%d bytes were allocated beside an exhausted budget", n)
		}
		budget.Uncharge(left - 1<<20)
		if n := budget.Used(); n != before {
			t.Errorf("%d bytes of budget leaked", n-before)
		}
	})
}
