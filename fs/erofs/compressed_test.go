package erofs_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	write "kiln/capstan/erofs"
	"kiln/capstan/tree"
	"kiln/fs/erofs"
	"kiln/fs/vfs"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// contents are files that compress in different ways, by path.
func contents() map[string][]byte {
	r := rand.New(rand.NewSource(1))
	noise := make([]byte, 300_000)
	r.Read(noise)
	var text bytes.Buffer
	for i := 0; text.Len() < 400_000; i++ {
		fmt.Fprintf(&text, "line %d of a text, with a number %x that is not in the others\n", i, r.Uint64())
	}
	m := map[string][]byte{
		"/text":  text.Bytes(),
		"/noise": noise,
		"/zeros": make([]byte, 1<<20), // extents of many clusters
		"/mixed": append(append(bytes.Clone(text.Bytes()[:100_000]), noise[:100_001]...), text.Bytes()[:65_537]...),
		"/small": text.Bytes()[:700],
		"/page":  text.Bytes()[:4096],
		"/two":   text.Bytes()[:4097],
		"/empty": nil,
	}
	for _, n := range []int{8191, 8192, 65535, 65536, 65537, 69632, 131072, 131073} {
		m[fmt.Sprintf("/cut/%d", n)] = text.Bytes()[1000 : 1000+n]
	}
	return m
}

// mkfs makes an image of files by Debian's tool.
func mkfs(t testing.TB, files map[string][]byte, args ...string) []byte {
	t.Helper()
	tool, err := exec.LookPath("mkfs.erofs")
	if err != nil {
		t.Skip("no mkfs.erofs (erofs-utils) on this machine")
	}
	dir, img := t.TempDir(), filepath.Join(t.TempDir(), "img")
	for name, b := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(tool, append(args, "-T0", "-U00000000-0000-0000-0000-000000000001", img, dir)...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs: %v\n%s", err, out)
	}
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ours makes one by the packager.
func ours(t testing.TB, files map[string][]byte, how write.Compression) []byte {
	t.Helper()
	tr := tree.New()
	for name, b := range files {
		if err := tr.Add(name, tree.File(0o644, b)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := write.Plan(tr, how)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := l.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCompressedFilesOfEveryWriterReadTheSame(t *testing.T) {
	files := contents()
	for _, c := range []struct {
		name string
		img  func(t *testing.T) []byte
	}{
		{"ours lz4", func(t *testing.T) []byte { return ours(t, files, write.LZ4) }},
		{"ours lz4hc", func(t *testing.T) []byte { return ours(t, files, write.LZ4HC) }},
		{"lz4", func(t *testing.T) []byte { return mkfs(t, files, "-zlz4") }},
		{"lz4hc", func(t *testing.T) []byte { return mkfs(t, files, "-zlz4hc") }},
		{"lz4hc,12", func(t *testing.T) []byte { return mkfs(t, files, "-zlz4hc,12") }},
		{"large clusters", func(t *testing.T) []byte { return mkfs(t, files, "-zlz4hc", "-C65536") }},
		{"small extents", func(t *testing.T) []byte { return mkfs(t, files, "-zlz4", "--max-extent-bytes=65536") }},
		{"legacy", func(t *testing.T) []byte { return mkfs(t, files, "-zlz4hc", "-Elegacy-compress") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			img := c.img(t)
			total := 0
			for _, b := range files {
				total += len(b)
			}
			if len(img) > total*3/4 {
				t.Errorf("the image has %d bytes for files of %d: nothing was compressed", len(img), total)
			}
			for _, disk := range []bool{false, true} {
				mem := mm.NewMemory(fake.New(8192))
				fs, err := mount(mem, img, disk)
				if err != nil {
					t.Fatal(err)
				}
				ns := vfs.NewNamespace(fs, "root", unix.MS_RDONLY)
				l := vfs.Lookup{C: wait.Background()}
				for name, want := range files {
					check(t, mem, ns, l, name, want)
				}
			}
		})
	}
}

// check reads a file in pieces of its own choice, then page by page from its end as faults do.
func check(t *testing.T, mem *mm.Memory, ns *vfs.Namespace, l vfs.Lookup, name string, want []byte) {
	t.Helper()
	f, err := ns.Open(l, name, unix.O_RDONLY, 0)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	defer f.DecRef()
	o, err := f.Ops.Object(l.C)
	if err != nil {
		t.Fatal(err)
	}
	pages := int64(len(want)+4095) / 4096
	for k := range pages {
		idx := pages - 1 - k
		p, err := o.Page(l.C, idx)
		if err != nil {
			t.Errorf("%s, page %d: %v", name, idx, err)
			return
		}
		page := make([]byte, 4096)
		copy(page, want[idx*4096:])
		if !bytes.Equal(mem.Bytes(p), page) {
			t.Errorf("%s: page %d differs", name, idx)
		}
		mem.Unref(p)
	}
	r := rand.New(rand.NewSource(int64(len(want))))
	for range 20 {
		off := r.Intn(len(want) + 1)
		got := make([]byte, r.Intn(100_000))
		q := mm.KernelIO(got)
		n, err := o.ReadAt(l.C, &q, int64(off))
		if end := min(off+len(got), len(want)); err != nil || n != end-off || !bytes.Equal(got[:n], want[off:end]) {
			t.Errorf("%s: %d bytes at %d: %d, %v", name, len(got), off, n, err)
			return
		}
	}
}

// TestAPieceIsDecompressedOnce counts what a walk through a file costs where pages that
// were read stay.
func TestAPieceIsDecompressedOnce(t *testing.T) {
	files := contents()
	img := ours(t, files, write.LZ4HC)
	mem := mm.NewMemory(fake.New(8192))
	reads := 0
	fs, err := erofs.Open(wait.Background(), mem, erofs.Device(mem, ramDisk{mem: mem, b: img, reads: &reads}))
	if err != nil {
		t.Fatal(err)
	}
	ns := vfs.NewNamespace(fs, "root", unix.MS_RDONLY)
	l := vfs.Lookup{C: wait.Background()}
	f, err := ns.Open(l, "/text", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.DecRef()
	o, _ := f.Ops.Object(l.C)
	for _, idx := range []int64{20, 17, 31, 16} { // one piece: pages 16 to 31
		p, err := o.Page(l.C, idx)
		if err != nil {
			t.Fatal(err)
		}
		mem.Unref(p)
		if n := o.Pages(); n != 16 {
			t.Fatalf("after page %d: %d pages are there, not the piece's 16", idx, n)
		}
	}
	q := mm.KernelIO(make([]byte, 100))
	if _, err := o.ReadAt(l.C, &q, 3*65536+5000); err != nil || o.Pages() != 32 {
		t.Errorf("a small read: %d pages, %v; not one piece more", o.Pages(), err)
	}
}

func TestPlainPiecesOfAnImageInMemoryAreItsOwnFrames(t *testing.T) {
	files := contents()
	mem := mm.NewMemory(fake.New(8192))
	fs, err := mount(mem, ours(t, files, write.LZ4HC), false)
	if err != nil {
		t.Fatal(err)
	}
	ns := vfs.NewNamespace(fs, "root", unix.MS_RDONLY)
	l := vfs.Lookup{C: wait.Background()}
	f, err := ns.Open(l, "/mixed", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.DecRef()
	o, _ := f.Ops.Object(l.C)
	before := mem.Count(mm.KindCache)
	for idx := int64(32); idx < 48; idx++ { // noise
		p, err := o.Page(l.C, idx)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(mem.Bytes(p), files["/mixed"][idx*4096:][:4096]) {
			t.Errorf("page %d differs", idx)
		}
		mem.Unref(p)
	}
	if n := mem.Count(mm.KindCache) - before; n != 0 {
		t.Errorf("%d pages that are not compressed were copied", n)
	}
}

// smallCompressed are images to damage: the packager's, and if there is mkfs.erofs one with
// compact and one with old indexes.
func smallCompressed(t testing.TB) [][]byte {
	all, files := contents(), map[string][]byte{}
	for _, n := range []string{"/two", "/cut/8191", "/cut/65536", "/cut/69632"} {
		files["/dir"+n[strings.LastIndexByte(n, '/'):]] = all[n]
	}
	files["/dir/mixed"] = all["/mixed"][80_000:130_000]
	images := [][]byte{ours(t, files, write.LZ4HC)}
	if _, err := exec.LookPath("mkfs.erofs"); err == nil {
		images = append(images, mkfs(t, files, "-zlz4hc"), mkfs(t, files, "-zlz4", "-C16384"), mkfs(t, files, "-zlz4", "-Elegacy-compress"))
	}
	return images
}

// TestHostileCompressedImagesAreErrors damages the superblock, inodes and indexes, and
// bytes of what is compressed.
func TestHostileCompressedImagesAreErrors(t *testing.T) {
	for _, img := range smallCompressed(t) {
		for off := 1024; off < len(img); off += 1 + off/60 {
			for _, v := range []byte{0, 0xff, img[off] ^ 0x0b} {
				bad := bytes.Clone(img)
				bad[off] = v
				clear(bad[1024+8 : 1024+12]) // no checksum
				walkAll(bad)
			}
		}
	}
}

func TestWhatCannotBeReadSaysWhy(t *testing.T) {
	files := contents()
	img := ours(t, map[string][]byte{"/text": files["/text"]}, write.LZ4)
	le := binary.LittleEndian
	inode := func(img []byte) []byte { return img[1024+128+64+64:] } // the second one
	if at := inode(img); le.Uint16(at) != 3 {
		t.Fatalf("%#x is no compressed inode", le.Uint16(at))
	}
	for _, c := range []struct {
		name  string
		spoil func(img []byte)
		mount error
		read  error
	}{
		{"an unknown feature", func(b []byte) { b[1024+80] |= 0x20 }, unix.EINVAL, nil},
		{"LZMA in the superblock", func(b []byte) { b[1024+84] |= 2 }, unix.EINVAL, nil},
		{"LZMA in the inode", func(b []byte) { inode(b)[64+6] = 1 }, nil, unix.EOPNOTSUPP},
		{"larger logical clusters", func(b []byte) { inode(b)[64+7] = 1 }, nil, unix.EOPNOTSUPP},
		{"a tail in the index", func(b []byte) { inode(b)[64+4] |= 8 }, nil, unix.EOPNOTSUPP},
		{"chunks", func(b []byte) { inode(b)[0] = 1 | 4<<1 }, nil, unix.EOPNOTSUPP},
		{"a second algorithm", func(b []byte) { inode(b)[64+16] = 3 }, nil, unix.EOPNOTSUPP},
		{"no head", func(b []byte) { inode(b)[64+16] = 2 }, nil, unix.EUCLEAN},
		{"a place outside of the image", func(b []byte) { le.PutUint32(inode(b)[64+16+4:], 1<<31) }, nil, unix.EUCLEAN},
		{"no number of blocks", func(b []byte) { le.PutUint16(inode(b)[64+16+8+4:], 1) }, nil, unix.EUCLEAN},
		{"too many blocks", func(b []byte) { le.PutUint16(inode(b)[64+16+8+4:], 1<<11|1000) }, nil, unix.EUCLEAN},
		{"other bytes", func(b []byte) { clear(b[2*4096:]) }, nil, unix.EIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := bytes.Clone(img)
			c.spoil(bad)
			clear(bad[1024+8 : 1024+12])
			for _, disk := range []bool{false, true} {
				fs, err := mount(mm.NewMemory(fake.New(4096)), bad, disk)
				if err != c.mount {
					t.Fatalf("mount: %v, not %v", err, c.mount)
				}
				if err != nil {
					continue
				}
				l := vfs.Lookup{C: wait.Background()}
				if _, err := readAll(l, vfs.NewNamespace(fs, "root", unix.MS_RDONLY), "/text"); err != c.read {
					t.Errorf("read: %v, not %v", err, c.read)
				}
			}
		})
	}
}

// What is written compressed is read back the same, also where a piece of it is asked for
// alone; bytes that were never compressed are refused.
func FuzzCompressed(f *testing.F) {
	text := contents()["/text"]
	f.Add(text[:9000], uint16(1), uint32(4097))
	f.Add(bytes.Repeat([]byte("ab"), 40), uint16(2000), uint32(65535))
	f.Add([]byte{0}, uint16(65535), uint32(100_000))
	f.Fuzz(func(t *testing.T, b []byte, times uint16, at uint32) {
		if len(b) == 0 || len(b) > 1<<16 {
			return
		}
		data := bytes.Repeat(b, 1+int(times)%(1+300_000/len(b)))
		for i := range b { // not only repetitions
			data[(i*i+int(at))%len(data)] ^= b[i]
		}
		how := write.LZ4
		if times&1 != 0 {
			how = write.LZ4HC
		}
		mem := mm.NewMemory(fake.New(512))
		fs, err := mount(mem, ours(t, map[string][]byte{"/x": data}, how), at&1 != 0)
		if err != nil {
			t.Fatal(err)
		}
		ns, l := vfs.NewNamespace(fs, "root", unix.MS_RDONLY), vfs.Lookup{C: wait.Background()}
		file, err := ns.Open(l, "/x", unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.DecRef()
		from := int64(at) % int64(len(data))
		buf := make([]byte, 5000)
		q := mm.KernelIO(buf)
		if n, err := file.ReadAt(l.C, &q, from); err != nil || !bytes.Equal(buf[:n], data[from:min(from+5000, int64(len(data)))]) {
			t.Errorf("%d bytes at %d, %v", n, from, err)
		}
		if got, err := readAll(l, ns, "/x"); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
		}
	})
}
