package tmpfs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	write "kiln/capstan/erofs"
	"kiln/capstan/tree"
	"kiln/fs/erofs"
	"kiln/fs/overlay"
	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// world runs one operation here or on the host.
type world interface {
	do(op string, a, b string, n int) string
}

type ours struct {
	ns *vfs.Namespace
	l  vfs.Lookup
}

func errName(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := err.(unix.Errno); ok {
		return unix.ErrnoName(e)
	}
	return err.Error()
}

func (o *ours) do(op, a, b string, n int) string {
	l := o.l
	switch op {
	case "mkdir":
		return errName(o.ns.Mkdir(l, a, 0o755))
	case "rmdir":
		return errName(o.ns.Unlink(l, a, true))
	case "unlink":
		return errName(o.ns.Unlink(l, a, false))
	case "symlink":
		return errName(o.ns.Symlink(l, b, a))
	case "link":
		return errName(o.ns.Link(l, a, l, b, n&unix.AT_SYMLINK_FOLLOW))
	case "rename":
		return errName(o.ns.Rename(l, a, l, b, uint(n)))
	case "open":
		f, err := o.ns.Open(l, a, uint32(n), 0o644)
		if err == nil {
			f.DecRef()
		}
		return errName(err)
	case "write":
		f, err := o.ns.Open(l, a, unix.O_WRONLY|unix.O_APPEND, 0)
		if err != nil {
			return errName(err)
		}
		q := mm.KernelIO([]byte(b))
		_, err = f.Write(l.C, &q)
		f.DecRef()
		return errName(err)
	case "read":
		f, err := o.ns.Open(l, a, unix.O_RDONLY, 0)
		if err != nil {
			return errName(err)
		}
		buf := make([]byte, 200)
		q := mm.KernelIO(buf)
		k, err := f.Read(l.C, &q)
		f.DecRef()
		return fmt.Sprint(errName(err), string(buf[:max(k, 0)]))
	case "truncate":
		return errName(o.ns.Truncate(l, a, int64(n), func() error { return nil }))
	case "stat", "lstat":
		w := vfs.WalkFollow
		if op == "lstat" {
			w = 0
		}
		at, _, err := o.ns.Stat(l, a, w)
		return describe(err, at.Mode, at.Size, uint64(at.Nlink))
	case "readlink":
		s, err := o.ns.Readlink(l, a)
		return errName(err) + s
	case "list":
		f, err := o.ns.Open(l, a, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return errName(err)
		}
		defer f.DecRef()
		var names []string
		for more := true; more; {
			k := 0
			more = false
			if err := f.Iterate(l.C, func(e vfs.Dirent) bool {
				if k == 3 { // in small pieces, so that cookies are used
					more = true
					return false
				}
				k++
				names = append(names, fmt.Sprint(e.Name, ":", e.Type))
				return true
			}); err != nil {
				return errName(err)
			}
		}
		sort.Strings(names)
		return strings.Join(names, " ")
	}
	panic(op)
}

func describe(err error, mode uint32, size int64, nlink uint64) string {
	if err != nil {
		return errName(err)
	}
	if mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0
	}
	return fmt.Sprintf("%o %d %d", mode, size, nlink)
}

type host struct{ dir int }

func (h *host) do(op, a, b string, n int) string {
	d := h.dir
	switch op {
	case "mkdir":
		return errName(unix.Mkdirat(d, a, 0o755))
	case "rmdir":
		return errName(unix.Unlinkat(d, a, unix.AT_REMOVEDIR))
	case "unlink":
		return errName(unix.Unlinkat(d, a, 0))
	case "symlink":
		return errName(unix.Symlinkat(b, d, a))
	case "link":
		return errName(unix.Linkat(d, a, d, b, n&unix.AT_SYMLINK_FOLLOW))
	case "rename":
		return errName(unix.Renameat2(d, a, d, b, uint(n)))
	case "open":
		fd, err := unix.Openat(d, a, n, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		return errName(err)
	case "write":
		fd, err := unix.Openat(d, a, unix.O_WRONLY|unix.O_APPEND, 0)
		if err != nil {
			return errName(err)
		}
		defer unix.Close(fd)
		_, err = unix.Write(fd, []byte(b))
		return errName(err)
	case "read":
		fd, err := unix.Openat(d, a, unix.O_RDONLY, 0)
		if err != nil {
			return errName(err)
		}
		defer unix.Close(fd)
		buf := make([]byte, 200)
		k, err := unix.Read(fd, buf)
		return fmt.Sprint(errName(err), string(buf[:max(k, 0)]))
	case "truncate":
		fd, err := unix.Openat(d, a, unix.O_PATH, 0)
		if err != nil {
			return errName(err)
		}
		defer unix.Close(fd)
		return errName(unix.Truncate(fmt.Sprintf("/proc/self/fd/%d", fd), int64(n)))
	case "stat", "lstat":
		fl := 0
		if op == "lstat" {
			fl = unix.AT_SYMLINK_NOFOLLOW
		}
		var st unix.Stat_t
		err := unix.Fstatat(d, a, &st, fl)
		return describe(err, st.Mode, st.Size, st.Nlink)
	case "readlink":
		buf := make([]byte, 4096)
		k, err := unix.Readlinkat(d, a, buf)
		return errName(err) + string(buf[:max(k, 0)])
	case "list":
		fd, err := unix.Openat(d, a, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return errName(err)
		}
		f := os.NewFile(uintptr(fd), a)
		defer f.Close()
		es, err := f.ReadDir(-1)
		if err != nil {
			return err.Error()
		}
		names := []string{".:4", "..:4"}
		for _, e := range es {
			t := map[os.FileMode]int{0: 8, os.ModeDir: 4, os.ModeSymlink: 10}[e.Type()]
			names = append(names, fmt.Sprint(e.Name(), ":", t))
		}
		sort.Strings(names)
		return strings.Join(names, " ")
	}
	panic(op)
}

var pieces = []string{"a", "b", "c", "d", ".", "..", "a/b", "b/c", "l1", "l2", "c/d/a", strings.Repeat("n", 256)}

func randPath(r *rand.Rand) string {
	var s []string
	for n := 1 + r.IntN(3); n > 0; n-- {
		s = append(s, pieces[min(r.IntN(len(pieces)), r.IntN(len(pieces)))])
	}
	p := strings.Join(s, "/")
	// The host's walk must stay in its directory.
	if strings.HasPrefix(filepath.Clean(p), "..") {
		return "a"
	}
	if r.IntN(8) == 0 {
		p += "/"
	}
	if r.IntN(100) == 0 {
		p = ""
	}
	return p
}

// bounded keeps ".." of links from leaving the host's directory: targets are relative
// names without it, or loops.
func target(r *rand.Rand) string {
	return []string{"a", "b", "c/d", "l1", "l2", "./a", "a/", "nowhere", "b/c/"}[r.IntN(9)]
}

var opens = []int{unix.O_RDONLY, unix.O_RDWR, unix.O_CREAT | unix.O_WRONLY, unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY,
	unix.O_CREAT | unix.O_TRUNC | unix.O_RDWR, unix.O_DIRECTORY, unix.O_NOFOLLOW, unix.O_PATH | unix.O_NOFOLLOW,
	unix.O_CREAT | unix.O_NOFOLLOW | unix.O_RDWR, unix.O_DIRECTORY | unix.O_NOFOLLOW, unix.O_PATH, unix.O_TMPFILE | unix.O_RDWR,
	unix.O_TMPFILE, unix.O_WRONLY | unix.O_DIRECTORY}

func step(r *rand.Rand) (op, a, b string, n int) {
	ops := []string{"mkdir", "mkdir", "mkdir", "rmdir", "unlink", "symlink", "symlink", "link", "rename", "rename", "rename",
		"open", "open", "open", "write", "read", "truncate", "stat", "lstat", "readlink", "list"}
	op, a, b = ops[r.IntN(len(ops))], randPath(r), randPath(r)
	switch op {
	case "symlink":
		b = target(r)
	case "write":
		b = strings.Repeat("x", r.IntN(20)) + fmt.Sprint(r.IntN(1000))
	case "rename":
		n = []int{0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, 16, unix.RENAME_EXCHANGE | unix.RENAME_NOREPLACE}[r.IntN(7)]
	case "link":
		n = []int{0, unix.AT_SYMLINK_FOLLOW}[r.IntN(2)]
	case "open":
		n = opens[r.IntN(len(opens))]
	case "truncate":
		n = r.IntN(100)
	}
	return
}

func compare(t *testing.T, fs func(mem *mm.Memory, dir string) vfs.FileSystem, nlinks bool, prepare func(dir string)) {
	unix.Umask(0o022)
	for seed := uint64(0); seed < 40; seed++ {
		dir := t.TempDir()
		if prepare != nil {
			prepare(dir)
		}
		fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		mem := mm.NewMemory(fake.New(4096))
		ns := vfs.NewNamespace(fs(mem, dir), "x", 0)
		o := &ours{ns, vfs.Lookup{C: wait.Background(), FS: vfs.NewFSContext(ns), Creds: vfs.RootCreds()}}
		h := &host{fd}
		r := rand.New(rand.NewPCG(seed, 1))
		var log []string
		for i := 0; i < 600; i++ {
			op, a, b, n := step(r)
			if i%97 == 0 {
				vfs.DropCaches()
			}
			want := h.do(op, a, b, n)
			got := o.do(op, a, b, n)
			log = append(log, fmt.Sprintf("%s %q %q %#x = %s", op, a, b, n, want))
			if !nlinks && (op == "stat" || op == "lstat") && strings.HasPrefix(want, "40") {
				// The link count of a merged directory is not kept.
				got, want = strings.TrimRight(got, "0123456789"), strings.TrimRight(want, "0123456789")
			}
			if got != want {
				var rel []string
				for _, s := range log {
					if !strings.Contains(s, "= E") {
						rel = append(rel, s)
					}
				}
				t.Fatalf("seed %d step %d: %s %q %q %#x: got %s, the host says %s\n%s", seed, i, op, a, b, n, got, want, strings.Join(rel[max(0, len(rel)-25):], "\n"))
			}
		}
		unix.Close(fd)
	}
}

func TestTmpfsAgreesWithTheHost(t *testing.T) {
	compare(t, func(mem *mm.Memory, _ string) vfs.FileSystem {
		fs, err := tmpfs.New(mem, "mode=755")
		if err != nil {
			t.Fatal(err)
		}
		return fs
	}, true, nil)
}

func TestOverlayOverAnEmptyTreeAgreesWithTheHost(t *testing.T) {
	compare(t, func(mem *mm.Memory, _ string) vfs.FileSystem {
		up, _ := tmpfs.New(mem, "")
		low, _ := tmpfs.New(mem, "mode=755")
		return overlay.New(up, low)
	}, false, nil) // the root counts no subdirectories
}

// populate fills a folder of the host with what the image will hold.
func populate(dir string) {
	for _, d := range []string{"a/b/c", "b/a", "c/d/a", "d"} {
		os.MkdirAll(filepath.Join(dir, d), 0o755)
	}
	for i, f := range []string{"a/a", "a/b/a", "a/b/d", "b/b", "b/c", "b/d", "c/a", "c/d/b", "d/a"} {
		os.WriteFile(filepath.Join(dir, f), []byte(strings.Repeat(fmt.Sprint(i), 10*i)), 0o644)
	}
	os.Symlink("a/b", filepath.Join(dir, "l1"))
	os.Symlink("c/a", filepath.Join(dir, "l2"))
	os.Symlink("b", filepath.Join(dir, "a/c"))
}

// image is the EROFS image of a folder, loaded into memory or read from a disk.
func image(t *testing.T, mem *mm.Memory, dir string, disk bool) vfs.FileSystem {
	tr := tree.New()
	if err := tr.CopyTree(tree.HostSource{Dir: dir}, "/", func(string, *tree.Node) bool { return true }); err != nil {
		t.Fatal(err)
	}
	l, err := write.Plan(tr, write.None)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := l.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	var back erofs.Backing
	if disk {
		back = erofs.Device(mem, ramDisk{mem, b.Bytes()})
	} else {
		first, err := mem.M.AllocFrames(8, 0)
		if err != nil {
			t.Fatal(err)
		}
		copy(mem.M.FrameRange(first, 256), b.Bytes())
		back = erofs.Frames(mem, first, int64(b.Len()))
	}
	fs, err := erofs.Open(wait.Background(), mem, back)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

type ramDisk struct {
	mem *mm.Memory
	b   []byte
}

func (d ramDisk) Size() int64 { return int64(len(d.b)) }
func (d ramDisk) ReadFrames(_ wait.Context, off int64, frames []hal.PFN) error {
	for i, f := range frames {
		at := off + int64(i)*hal.PageSize
		if at >= int64(len(d.b)) {
			return unix.EIO
		}
		copy(d.mem.Bytes(f), d.b[at:])
	}
	return nil
}
func (d ramDisk) WriteFrames(wait.Context, int64, []hal.PFN) error { return unix.EROFS }
func (d ramDisk) Flush(wait.Context) error                         { return nil }

func TestOverlayOverAnImageAgreesWithTheHost(t *testing.T) {
	for _, disk := range []bool{false, true} {
		compare(t, func(mem *mm.Memory, dir string) vfs.FileSystem {
			up, _ := tmpfs.New(mem, "")
			return overlay.New(up, image(t, mem, dir, disk))
		}, false, populate)
	}
}
