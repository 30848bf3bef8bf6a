package erofs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"kiln/fs/erofs"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// want are the files of the test image.
func want() map[string][]byte {
	m := map[string][]byte{
		"/hello":      []byte("hello world\n"), // tail behind the inode
		"/empty":      nil,
		"/page":       bytes.Repeat([]byte("0123456789abcdef"), 256),
		"/odd":        bytes.Repeat([]byte("odd"), 5000),
		"/dir/nested": []byte("nested"),
	}
	for i := range 600 { // more names than a block of entries holds
		m[fmt.Sprintf("/many/a-rather-long-file-name-%04d", i)] = []byte{byte(i), 1}
	}
	return m
}

// makeImage writes them with a library that puts tails behind inodes (FLAT_INLINE).
func makeImage(t testing.TB) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "img")
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := goerofs.Create(out)
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(w.Mkdir("/dir", 0o750))
	check(w.Mkdir("/many", 0o755))
	for n, b := range want() {
		f, err := w.Create(n)
		check(err)
		_, err = f.Write(b)
		check(err)
		check(f.Close())
	}
	check(w.Symlink("dir/nested", "/link"))
	check(w.Mknod("/null", unix.S_IFCHR|0o666, 0x103))
	check(w.Close())
	check(out.Close())
	b, err := os.ReadFile(name)
	check(err)
	for len(b)%hal.PageSize != 0 {
		b = append(b, 0)
	}
	return b
}

type ramDisk struct {
	mem   *mm.Memory
	b     []byte
	reads *int
}

func (d ramDisk) Size() int64 { return int64(len(d.b)) }
func (d ramDisk) ReadFrames(_ wait.Context, off int64, frames []hal.PFN) error {
	if d.reads != nil {
		*d.reads++
	}
	for i, f := range frames {
		at := off + int64(i)*hal.PageSize
		if at < 0 || at >= int64(len(d.b)) {
			return unix.EIO
		}
		copy(d.mem.Bytes(f), d.b[at:])
	}
	return nil
}
func (d ramDisk) WriteFrames(wait.Context, int64, []hal.PFN) error { return unix.EROFS }
func (d ramDisk) Flush(wait.Context) error                         { return nil }

// mount opens an image through one of the backings.
func mount(mem *mm.Memory, img []byte, disk bool) (*erofs.FS, error) {
	c := wait.Background()
	if disk {
		return erofs.Open(c, mem, erofs.Device(mem, ramDisk{mem: mem, b: img}))
	}
	order := uint(0)
	for hal.PageSize<<order < len(img) {
		order++
	}
	first, err := mem.M.AllocFrames(order, 0)
	if err != nil {
		return nil, err
	}
	copy(mem.M.FrameRange(first, 1<<order), img)
	return erofs.Open(c, mem, erofs.Frames(mem, first, int64(len(img))))
}

func readAll(l vfs.Lookup, ns *vfs.Namespace, name string) ([]byte, error) {
	f, err := ns.Open(l, name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.DecRef()
	var out []byte
	buf := make([]byte, 3000)
	for {
		q := mm.KernelIO(buf)
		n, err := f.Read(l.C, &q)
		if err != nil {
			return out, err
		}
		if n == 0 || len(out) > 1<<20 {
			return out, nil
		}
		out = append(out, buf[:n]...)
	}
}

func names(l vfs.Lookup, ns *vfs.Namespace, dir string) (map[string]int, error) {
	f, err := ns.Open(l, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.DecRef()
	m := map[string]int{}
	for {
		n := 0
		err := f.Iterate(l.C, func(e vfs.Dirent) bool {
			if n++; n > 50 {
				return false
			}
			m[e.Name]++
			return true
		})
		if err != nil || n == 0 {
			return m, err
		}
	}
}

func TestBothBackingsShowEveryFile(t *testing.T) {
	img := makeImage(t)
	for _, disk := range []bool{false, true} {
		mem := mm.NewMemory(fake.New(4096))
		fs, err := mount(mem, img, disk)
		if err != nil {
			t.Fatal(err)
		}
		ns := vfs.NewNamespace(fs, "root", unix.MS_RDONLY)
		l := vfs.Lookup{C: wait.Background()}
		for n, b := range want() {
			got, err := readAll(l, ns, n)
			if err != nil || !bytes.Equal(got, b) {
				t.Fatalf("disk=%v %s: %d bytes of %d, %v", disk, n, len(got), len(b), err)
			}
		}
		if b, err := readAll(l, ns, "/link"); err != nil || string(b) != "nested" {
			t.Errorf("through the link: %q, %v", b, err)
		}
		m, err := names(l, ns, "/many")
		if err != nil || len(m) != 602 {
			t.Errorf("disk=%v: %d names, %v", disk, len(m), err)
		}
		for n, c := range m {
			if c != 1 {
				t.Errorf("%s listed %d times", n, c)
			}
		}
		at, _, err := ns.Stat(l, "/null", 0)
		if err != nil || at.Mode != unix.S_IFCHR|0o666 || at.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("null: %o %x %v", at.Mode, at.Rdev, err)
		}
		for _, e := range []struct {
			name string
			err  error
		}{{"/nothing", unix.ENOENT}, {"/hello/x", unix.ENOTDIR}, {"/many/zzz", unix.ENOENT}, {"/many/!", unix.ENOENT}} {
			if _, _, err := ns.Stat(l, e.name, 0); err != e.err {
				t.Errorf("%s: %v, not %v", e.name, err, e.err)
			}
		}
	}
}

func TestWholePagesOfAnImageInMemoryAreItsOwnFrames(t *testing.T) {
	img := makeImage(t)
	mem := mm.NewMemory(fake.New(4096))
	fs, err := mount(mem, img, false)
	if err != nil {
		t.Fatal(err)
	}
	ns := vfs.NewNamespace(fs, "root", unix.MS_RDONLY)
	l := vfs.Lookup{C: wait.Background()}
	before := mem.Count(mm.KindCache)
	for _, n := range []string{"/page", "/odd", "/hello"} {
		f, err := ns.Open(l, n, unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		o, _ := f.Ops.Object(l.C)
		p, err := o.Page(l.C, 0)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(mem.Bytes(p), want()[n][:min(len(want()[n]), hal.PageSize)]) {
			t.Errorf("%s: wrong bytes in its page", n)
		}
		if tail := mem.Bytes(p)[min(len(want()[n]), hal.PageSize):]; len(bytes.Trim(tail, "\x00")) != 0 {
			t.Errorf("%s: bytes of other files show behind its end", n)
		}
		mem.Unref(p)
		f.DecRef()
	}
	if got := mem.Count(mm.KindCache) - before; got > 1 {
		t.Errorf("%d pages were copied; only the tail behind an inode needs to be", got)
	}
}

// TestHostileImagesAreErrors damages an image in every byte of its metadata and walks what
// is left of it: errors are fine, panics and endless loops are not.
func TestHostileImagesAreErrors(t *testing.T) {
	img := makeImage(t)
	for off := 1024; off < len(img); off += 1 + off/700 {
		for _, v := range []byte{0, 0xff, img[off] ^ 0x41} {
			bad := bytes.Clone(img)
			bad[off] = v
			clear(bad[1024+8 : 1024+12]) // no checksum
			walkAll(bad)
		}
	}
}

func walkAll(img []byte) {
	mem := mm.NewMemory(fake.New(512))
	fs, err := erofs.Open(wait.Background(), mem, erofs.Device(mem, ramDisk{mem: mem, b: img}))
	if err != nil {
		return
	}
	ns := vfs.NewNamespace(fs, "root", unix.MS_RDONLY)
	l := vfs.Lookup{C: wait.Background()}
	left := 40
	var walk func(dir string)
	walk = func(dir string) {
		m, _ := names(l, ns, dir)
		for n := range m {
			if left--; left < 0 || n == "." || n == ".." || strings.Count(dir, "/") > 4 {
				continue
			}
			p := dir + "/" + n
			at, _, err := ns.Stat(l, p, 0)
			if err != nil {
				continue
			}
			if at.Mode&unix.S_IFMT == unix.S_IFDIR {
				walk(p)
			} else if at.Size < 1<<16 {
				_, _ = readAll(l, ns, p)
			}
			_, _ = ns.Readlink(l, p)
		}
	}
	walk("")
	walk("/dir")
}

func FuzzImage(f *testing.F) {
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, 0, byte(0))
	for k := range 4 {
		// Distances back, blocks and places in the indexes of the compressed ones.
		f.Add([]byte{2, 0, 0, 0, 0xff, 0xff}, 1216+64*k, byte(2*k))
		f.Add([]byte{1, 0, 0xff, 0x0f, 0xff, 0xff, 0xff, 0xff}, 1300+64*k, byte(2*k))
	}
	images := append([][]byte{makeImage(f)}, smallCompressed(f)...)
	f.Fuzz(func(_ *testing.T, patch []byte, at int, flags byte) {
		bad := bytes.Clone(images[int(flags>>1)%len(images)])
		at = (at&0xffff + 1024) % len(bad)
		copy(bad[at:], patch)
		if flags&1 != 0 {
			bad = bad[:len(bad)/2&^4095]
		}
		if len(bad) > 1100 {
			clear(bad[1024+8 : 1024+12])
		}
		walkAll(bad)
	})
}
