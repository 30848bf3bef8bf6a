package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"kiln/capstan/tree"
)

func sample(t *testing.T) *tree.Tree {
	t.Helper()
	tr := tree.New()
	add := func(name string, n *tree.Node) {
		if err := tr.Add(name, n); err != nil {
			t.Fatal(err)
		}
	}
	add("/lib", tree.Symlink("usr/lib"))
	add("/usr/lib/empty", tree.File(0o644, nil))
	add("/usr/lib/one", tree.File(0o644, []byte("x")))
	add("/usr/lib/page", tree.File(0o755, bytes.Repeat([]byte("0123456789abcdef"), 256)))
	add("/usr/lib/odd", tree.File(0o600, bytes.Repeat([]byte("odd"), 5000)))
	add("/tmp", &tree.Node{Mode: fs.ModeDir | fs.ModeSticky | 0o777, MTime: 7})
	su := tree.File(0o755, []byte("su"))
	su.Mode |= fs.ModeSetuid
	su.UID, su.GID = 70000, 12
	add("/usr/bin/su", su)
	add("/dev/null", &tree.Node{Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Rdev: 0x103})
	for i := range 1000 { // more names than one block of entries holds
		add(fmt.Sprintf("/many/a-rather-long-file-name-%04d", i), tree.File(0o644, []byte{byte(i)}))
	}
	add("/many/!first", tree.File(0o644, nil)) // sorts before "."
	add("/deep/"+strings.Repeat("n", 255)+"/x", tree.File(0o644, []byte("deep")))
	return tr
}

func write(t *testing.T, tr *tree.Tree) []byte {
	t.Helper()
	l, err := Plan(tr, None)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := l.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if int64(b.Len()) != l.Size() || b.Len()%BlockSize != 0 {
		t.Fatalf("%d bytes written, %d planned", b.Len(), l.Size())
	}
	return b.Bytes()
}

func TestAnotherReaderSeesTheSameTree(t *testing.T) {
	tr := sample(t)
	img := write(t, tr)
	fsys, err := goerofs.Open(bytes.NewReader(img))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = tr.Walk(func(name string, n *tree.Node) error {
		seen++
		rel := strings.TrimPrefix(name, "/")
		if rel == "" {
			rel = "."
		}
		fi, err := fsys.(fs.ReadLinkFS).Lstat(rel)
		if err != nil {
			return err
		}
		st := fi.Sys().(*goerofs.Stat)
		if st.Mode != n.Mode || st.UID != n.UID || st.GID != n.GID || int64(st.Mtime) != n.MTime || st.Rdev != n.Rdev {
			t.Errorf("%.60s: %v %d:%d %d, want %v %d:%d %d", name, st.Mode, st.UID, st.GID, st.Mtime, n.Mode, n.UID, n.GID, n.MTime)
		}
		if st.InodeLayout != 0 {
			t.Errorf("%s has layout %d, not FLAT_PLAIN", name, st.InodeLayout)
		}
		switch {
		case n.Mode.IsDir():
			ents, err := fs.ReadDir(fsys, rel)
			if err != nil || len(ents) != len(n.Names()) {
				t.Errorf("%s: %d entries, %v; want %d", name, len(ents), err, len(n.Names()))
			}
		case n.Mode.IsRegular():
			got, err := fs.ReadFile(fsys, rel)
			want, _ := n.ReadAll()
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
			}
		case n.Mode&fs.ModeSymlink != 0:
			if got, err := fsys.(fs.ReadLinkFS).ReadLink(rel); err != nil || got != n.Link {
				t.Errorf("%s -> %q, %v", name, got, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 1000 {
		t.Fatalf("walked %d files", seen)
	}
}

// A file's pages are pages of the image: block number times 4096, zeros after the end.
func TestFilePagesAreImagePages(t *testing.T) {
	tr := sample(t)
	img := write(t, tr)
	l, err := Plan(tr, None)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, in := range l.inodes {
		if !in.node.Mode.IsRegular() || in.size == 0 {
			continue
		}
		p := img[in.nid*nidSize:]
		if f := binary.LittleEndian.Uint16(p); f != 1 {
			t.Fatalf("%s: i_format %#x", in.path, f)
		}
		off := int64(binary.LittleEndian.Uint32(p[16:])) * BlockSize
		want, _ := in.node.ReadAll()
		if !bytes.Equal(img[off:off+in.size], want) {
			t.Errorf("%s is not at %d", in.path, off)
		}
		end := (off + in.size + BlockSize - 1) &^ (BlockSize - 1)
		if len(bytes.Trim(img[off+in.size:end], "\x00")) != 0 {
			t.Errorf("%s: the last page is not zero after its end", in.path)
		}
		checked++
	}
	if checked < 1000 {
		t.Fatalf("checked %d files", checked)
	}
}

func TestSameTreeGivesSameBytes(t *testing.T) {
	if !bytes.Equal(write(t, sample(t)), write(t, sample(t))) {
		t.Error("two images of one tree differ")
	}
}

func TestFsckAcceptsTheImage(t *testing.T) {
	fsck, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Skip("no fsck.erofs (erofs-utils) on this machine")
	}
	name := filepath.Join(t.TempDir(), "root")
	img := write(t, sample(t))
	if err := os.WriteFile(name, img, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(fsck, name).CombinedOutput(); err != nil {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
	// The checksum is checked too: one wrong bit in the superblock must be found.
	img[superOffset+24] ^= 1
	if err := os.WriteFile(name, img, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.Command(fsck, name).CombinedOutput(); !bytes.Contains(out, []byte("checksum")) {
		t.Errorf("fsck.erofs does not notice a damaged superblock:\n%s", out)
	}
}

func TestFileThatChangesWhileReadIsAnError(t *testing.T) {
	for _, real := range []string{"short", "longer than it said"} {
		tr := tree.New()
		n := tree.File(0o644, []byte("ten bytes!"))
		n.Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(real)), nil }
		if err := tr.Add("/f", n); err != nil {
			t.Fatal(err)
		}
		l, err := Plan(tr, None)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.WriteTo(io.Discard); err == nil || !strings.Contains(err.Error(), "changed while") {
			t.Errorf("%q: %v", real, err)
		}
	}
	tr := tree.New()
	n := tree.File(0o644, []byte("x"))
	n.Open = func() (io.ReadCloser, error) { return nil, errors.New("gone") }
	tr.Add("/f", n)
	l, _ := Plan(tr, None)
	if _, err := l.WriteTo(io.Discard); err == nil || err.Error() != "gone" {
		t.Errorf("open error: %v", err)
	}
}

// linked is a tree in which two names are one file, one is another's copy with a mode of its
// own, and one is a second name of a symbolic link.
func linked(t *testing.T) *tree.Tree {
	t.Helper()
	tr := sample(t)
	big := tree.File(0o755, bytes.Repeat([]byte("applet "), 30000))
	big.Inode = new(byte)
	private := *big
	private.Mode = 0o700
	link := tree.Symlink("a")
	link.Inode = new(byte)
	for name, n := range map[string]*tree.Node{"/bin/b": big, "/bin/a": big, "/z/c": big, "/bin/private": &private, "/l1": link, "/l2": link} {
		c := *n
		if err := tr.Add(name, &c); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

func TestHardLinksAreOneInode(t *testing.T) {
	for _, how := range []Compression{None, LZ4} {
		one, err := Plan(sample(t), how)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Plan(linked(t), how)
		if err != nil {
			t.Fatal(err)
		}
		if more := l.Files() - one.Files(); more != 5 { // /bin, /z, the two files, the link
			t.Errorf("%s: %d inodes more", how, more)
		}
		var img bytes.Buffer
		if _, err := l.WriteTo(&img); err != nil {
			t.Fatal(err)
		}
		fsys, err := List(bytes.NewReader(img.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		stat := func(name string) *goerofs.Stat {
			fi, err := fsys.(fs.ReadLinkFS).Lstat(name)
			if err != nil {
				t.Fatal(err)
			}
			return fi.Sys().(*goerofs.Stat)
		}
		a := stat("bin/a")
		for _, name := range []string{"bin/b", "z/c"} {
			if st := stat(name); st.Ino != a.Ino || st.Nlink != 3 {
				t.Errorf("%s: %s is %d with %d links, bin/a %d", how, name, st.Ino, st.Nlink, a.Ino)
			}
		}
		if st := stat("bin/private"); st.Ino == a.Ino || st.Nlink != 1 || st.Mode != 0o700 {
			t.Errorf("%s: bin/private: %+v", how, st)
		}
		if st := stat("l2"); st.Ino != stat("l1").Ino || st.Nlink != 2 {
			t.Errorf("%s: l2: %+v", how, st)
		}
		if got, err := fs.ReadFile(fsys, "z/c"); how == None && (err != nil || len(got) != 210000) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		fsck(t, img.Bytes())
	}
}

// fsck has erofs-utils look at an image, where it is installed.
func fsck(t *testing.T, img []byte) {
	t.Helper()
	tool, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Log("no fsck.erofs (erofs-utils) on this machine")
		return
	}
	name := filepath.Join(t.TempDir(), "root")
	if err := os.WriteFile(name, img, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "--extract", name).CombinedOutput(); err != nil {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
}
