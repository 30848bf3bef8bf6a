package rootfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"kiln/fs/devfs"
	"kiln/fs/rootfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// image is a root with /etc/conf and a folder /srv, and nothing else: not even what is
// mounted on. more adds to it.
func image(t *testing.T, more ...func(*goerofs.Writer) error) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "img")
	out, err := os.Create(name)
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(err)
	w := goerofs.Create(out)
	check(w.Mkdir("/etc", 0o755))
	check(w.Mkdir("/srv", 0o700))
	f, err := w.Create("/etc/conf")
	check(err)
	_, err = f.Write([]byte("from the image\n"))
	check(err)
	check(f.Close())
	for _, add := range more {
		check(add(w))
	}
	check(w.Close())
	check(out.Close())
	b, err := os.ReadFile(name)
	check(err)
	for len(b)%hal.PageSize != 0 {
		b = append(b, 0)
	}
	return b
}

// build makes the tree of an image in memory.
func build(t *testing.T, more ...func(*goerofs.Writer) error) (*vfs.Namespace, vfs.Lookup, *mm.Memory, hal.PFN) {
	t.Helper()
	img := image(t, more...)
	mem := mm.NewMemory(fake.New(4096))
	order := uint(0)
	for hal.PageSize<<order < len(img) {
		order++
	}
	pfn, err := mem.M.AllocFrames(order, 0)
	if err != nil {
		t.Fatal(err)
	}
	copy(mem.M.FrameRange(pfn, 1<<order), img)
	c := wait.Background()
	ns, err := rootfs.Build(c, mem, rootfs.Config{Frame: pfn, Size: int64(len(img)),
		Dev: devfs.Config{Entropy: func([]byte) {}, AddEntropy: func([]byte) {}}})
	if err != nil {
		t.Fatal(err)
	}
	return ns, rootfs.Kernel(c, ns), mem, pfn
}

func read(t *testing.T, ns *vfs.Namespace, l vfs.Lookup, name string) string {
	t.Helper()
	f, err := ns.Open(l, name, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer f.DecRef()
	b := make([]byte, 100)
	q := mm.KernelIO(b)
	n, err := f.Read(l.C, &q)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(b[:n])
}

func TestFoldersThatAreMountedOnAreMadeInARootWithoutThem(t *testing.T) {
	ns, l, _, _ := build(t)
	for name, mode := range map[string]uint32{"/dev": 0o755, "/dev/shm": 0o1777, "/tmp": 0o1777, "/run": 0o755} {
		a, _, err := ns.Stat(l, name, vfs.WalkFollow)
		if err != nil || a.Mode != unix.S_IFDIR|mode {
			t.Errorf("%s: mode %o, %v", name, a.Mode, err)
		}
	}
	want := map[string]string{"/": "overlay", "/dev": "devtmpfs", "/dev/shm": "tmpfs", "/tmp": "tmpfs", "/run": "tmpfs"}
	for _, m := range ns.MountList(ns.Root()) {
		if want[m.Point] != m.Type {
			t.Errorf("%s is %s", m.Point, m.Type)
		}
		if nodev := m.Flags&unix.MS_NODEV != 0; nodev != (m.Type == "tmpfs") {
			t.Errorf("%s: nodev %v", m.Point, nodev)
		}
		delete(want, m.Point)
	}
	if len(want) != 0 {
		t.Errorf("not mounted: %v", want)
	}
}

// What an image has in /run or /tmp is in the machine, and can be written; an empty one is
// a tmpfs all the same.
func TestWhatTheImageHasInRunAndTmpIsThere(t *testing.T) {
	ns, l, _, _ := build(t, func(w *goerofs.Writer) error {
		return errors.Join(w.Mkdir("/tmp", 0o777), w.Mkdir("/run", 0o755), w.Mkdir("/run/app", 0o700))
	})
	a, _, err := ns.Stat(l, "/run/app", vfs.WalkFollow)
	if err != nil || a.Mode != unix.S_IFDIR|0o700 {
		t.Errorf("mode %o, %v", a.Mode, err)
	}
	if err := rootfs.WriteFile(l.C, ns, "/run/app/pid", "1\n"); err != nil {
		t.Error(err)
	}
	if s := read(t, ns, l, "/run/app/pid"); s != "1\n" {
		t.Errorf("%q", s)
	}
	types := map[string]string{}
	for _, m := range ns.MountList(ns.Root()) {
		types[m.Point] = m.Type
		if m.Point == "/run" && m.Flags&(unix.MS_NOSUID|unix.MS_NODEV) != unix.MS_NOSUID|unix.MS_NODEV {
			t.Errorf("/run has the flags %#x", m.Flags)
		}
	}
	if types["/run"] != "overlay" || types["/tmp"] != "tmpfs" {
		t.Errorf("%v", types)
	}
}

// A device in a folder that anybody may write to must not open (MS_NODEV).
func TestDeviceNodesWorkInDevOnly(t *testing.T) {
	ns, l, _, _ := build(t)
	for dir, want := range map[string]error{"/tmp": unix.EACCES, "/dev/shm": unix.EACCES, "/run": unix.EACCES, "/dev": nil} {
		if err := ns.Mknod(l, dir+"/n", unix.S_IFCHR|0o666, unix.Mkdev(1, 3)); err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		f, err := ns.Open(l, dir+"/n", unix.O_RDWR, 0)
		if err != want && !(err == nil && want == nil) {
			t.Errorf("%s: %v", dir, err)
		}
		if err == nil {
			f.DecRef()
		}
	}
}

func TestTheImageStaysAsItIsUnderWhatProgramsWrite(t *testing.T) {
	ns, l, mem, pfn := build(t)
	before := string(mem.M.FrameRange(pfn, 1))
	if s := read(t, ns, l, "/etc/conf"); s != "from the image\n" {
		t.Fatalf("%q", s)
	}
	if err := rootfs.WriteFile(l.C, ns, "/etc/conf", "short\n"); err != nil {
		t.Fatal(err)
	}
	if s := read(t, ns, l, "/etc/conf"); s != "short\n" {
		t.Errorf("after the write: %q", s)
	}
	if string(mem.M.FrameRange(pfn, 1)) != before {
		t.Error("the image's frame was written")
	}
	if err := rootfs.WriteFile(l.C, ns, "/no/such/folder", "x"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a file in no folder: %v", err)
	}
	if err := ns.Unlink(l, "/etc/conf", false); err != nil {
		t.Fatal(err)
	}
	if _, err := ns.Open(l, "/etc/conf", unix.O_RDONLY, 0); err != unix.ENOENT {
		t.Errorf("after unlink: %v", err)
	}
}

func TestMountAtMakesItsTargetAndSaysWhereItFailed(t *testing.T) {
	ns, l, mem, _ := build(t)
	dev, err := devfs.New(mem, devfs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := rootfs.MountAt(l.C, ns, dev, "dev2", "/srv/dev2", 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ns.Stat(l, "/srv/dev2/null", 0); err != nil {
		t.Error(err)
	}
	if err := rootfs.MountAt(l.C, ns, dev, "dev3", "/a//deep/b/", 0); err != nil {
		t.Error(err)
	}
	if _, _, err := ns.Stat(l, "/a/deep/b/null", 0); err != nil {
		t.Error(err)
	}
	for target, want := range map[string]error{"/etc/conf": unix.ENOTDIR, "/etc/conf/a/b": unix.ENOTDIR} {
		if err := rootfs.MountAt(l.C, ns, dev, "dev3", target, 0); !errors.Is(err, want) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestNoRootIsOneClearError(t *testing.T) {
	mem := mm.NewMemory(fake.New(64))
	if _, err := rootfs.Build(wait.Background(), mem, rootfs.Config{}); err != rootfs.ErrNoRoot {
		t.Error(err)
	}
	// Frames that hold no file system.
	pfn, err := mem.M.AllocFrames(2, hal.AllocZero)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rootfs.Build(wait.Background(), mem, rootfs.Config{Frame: pfn, Size: 4 * hal.PageSize}); err == nil {
		t.Error("zeros are a root")
	}
}
