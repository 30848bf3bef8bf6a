package tree

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"testing"
)

// archive makes a tar archive; a regular file's bytes are in Linkname.
func archive(t *testing.T, entries ...tar.Header) *tar.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		h.Mode = 0o755
		data := ""
		if h.Typeflag == tar.TypeReg {
			data, h.Linkname = h.Linkname, ""
			h.Size = int64(len(data))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, data)
	}
	w.Close()
	return tar.NewReader(&b)
}

func reg(name, data string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: data}
}
func hard(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
}
func sym(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}
func dir(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name} }

// show lists a tree's files: name=bytes, name->link, name/ of an empty folder.
func show(t *testing.T, tr *Tree) string {
	var out []string
	tr.Walk(func(name string, n *Node) error {
		switch {
		case n.Mode.IsRegular():
			b, err := n.ReadAll()
			if err != nil {
				t.Error(err)
			}
			out = append(out, name+"="+string(b))
		case n.Link != "":
			out = append(out, name+"->"+n.Link)
		case len(n.children) == 0:
			out = append(out, name+"/")
		}
		return nil
	})
	return strings.Join(out, " ")
}

func TestLayersLieOverEachOther(t *testing.T) {
	base := []tar.Header{reg("x", "old"), hard("y", "x"), dir("usr/bin/"), sym("bin", "usr/bin"), reg("d/one", "1"), reg("d/sub/two", "2")}
	for _, c := range []struct {
		name  string
		upper []tar.Header
		want  string
	}{
		{"the file of a hard link goes", []tar.Header{reg(".wh.x", "")}, "/bin->usr/bin /d/one=1 /d/sub/two=2 /usr/bin/ /y=old"},
		{"the file of a hard link is replaced", []tar.Header{reg("x", "new")}, "/bin->usr/bin /d/one=1 /d/sub/two=2 /usr/bin/ /x=new /y=old"},
		{"a hard link to a lower layer's", []tar.Header{hard("d/z", "x"), reg("x", "new")}, "/bin->usr/bin /d/one=1 /d/sub/two=2 /d/z=old /usr/bin/ /x=new /y=old"},
		{"a hard link to a symbolic one", []tar.Header{hard("sbin", "bin")}, "/bin->usr/bin /d/one=1 /d/sub/two=2 /sbin->usr/bin /usr/bin/ /x=old /y=old"},
		{"a file below a link", []tar.Header{reg("bin/tool", "t")}, "/bin->usr/bin /d/one=1 /d/sub/two=2 /usr/bin/tool=t /x=old /y=old"},
		{"a whiteout below a link", []tar.Header{sym("e", "d"), reg("e/.wh.one", "")}, "/bin->usr/bin /d/sub/two=2 /e->d /usr/bin/ /x=old /y=old"},
		{"a folder for a link", []tar.Header{dir("bin/"), reg("bin/tool", "t")}, "/bin/tool=t /d/one=1 /d/sub/two=2 /usr/bin/ /x=old /y=old"},
		{"a file for a folder", []tar.Header{reg("d", "f")}, "/bin->usr/bin /d=f /usr/bin/ /x=old /y=old"},
		{"a link for a folder", []tar.Header{sym("d", "usr")}, "/bin->usr/bin /d->usr /usr/bin/ /x=old /y=old"},
		{"a folder for a file", []tar.Header{dir("x/"), reg("x/in", "i")}, "/bin->usr/bin /d/one=1 /d/sub/two=2 /usr/bin/ /x/in=i /y=old"},
		{"a folder goes", []tar.Header{reg(".wh.d", "")}, "/bin->usr/bin /usr/bin/ /x=old /y=old"},
		{"a folder is emptied", []tar.Header{reg("d/.wh..wh..opq", ""), reg("d/new", "n")}, "/bin->usr/bin /d/new=n /usr/bin/ /x=old /y=old"},
		{"its own files stay", []tar.Header{reg("d/new", "n"), reg("d/sub/new", "m"), reg("d/.wh..wh..opq", ""), reg("x", "new"), reg(".wh.x", "")},
			"/bin->usr/bin /d/new=n /d/sub/new=m /usr/bin/ /x=new /y=old"},
		{"nothing is there to remove", []tar.Header{reg("no/.wh.such", ""), reg("x/.wh.such", ""), reg(".wh..wh.plnk/1.2", "")}, "/bin->usr/bin /d/one=1 /d/sub/two=2 /usr/bin/ /x=old /y=old"},
		{"ways out lead nowhere", []tar.Header{reg("../../../x", "new"), sym("up", "../../.."), reg("up/y", "n"), reg("up/.wh.d", "")}, "/bin->usr/bin /up->../../.. /usr/bin/ /x=new /y=n"},
	} {
		tr := New()
		for _, layer := range [][]tar.Header{base, c.upper} {
			if err := tr.AddLayer(archive(t, layer...), 1<<20); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if got := show(t, tr); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestLayersThatDoHarmAreRefused(t *testing.T) {
	many := make([]tar.Header, 0, 200)
	deep := []tar.Header{}
	for i := range cap(many) {
		many = append(many, reg(fmt.Sprint("f", i), ""))
		deep = append(deep, reg(strings.Repeat("d/", 90)+"f", ""), sym(fmt.Sprint("l", i), strings.Repeat("d/", 90)))
	}
	ladder := []tar.Header{sym("l0", "/")} // each rung is a path of 200 bytes deeper than the last
	for i := range 40 {
		ladder = append(ladder, dir(fmt.Sprintf("l%d/%s", i, strings.Repeat("d/", 100))), sym(fmt.Sprintf("l%d", i+1), fmt.Sprintf("l%d/%s", i, strings.Repeat("d/", 100))))
	}
	for what, c := range map[string]struct {
		entries []tar.Header
		want    string
	}{
		"a folder's parent":  {[]tar.Header{dir("d/"), reg("d/.wh...", "")}, "removes no file"},
		"a folder itself":    {[]tar.Header{dir("d/"), reg("d/.wh..", "")}, "removes no file"},
		"much in a file":     {[]tar.Header{reg("f", strings.Repeat("x", 70000))}, "more than pack takes"},
		"many files":         {many, "more than pack takes"},
		"many folders":       {deep, "more than pack takes"},
		"a link in a circle": {[]tar.Header{sym("l", "l"), reg("l/f", "")}, "too many levels"},
		"ever deeper":        {ladder, "longer than a path"},
	} {
		limit := int64(64 << 10)
		if what == "ever deeper" {
			limit = 1 << 30
		}
		if err := New().AddLayer(archive(t, c.entries...), limit); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// What a layer replaces does not count for the next.
	tr := New()
	for i := range 3 {
		if err := tr.AddLayer(archive(t, reg("f", strings.Repeat("x", 30000)), reg(fmt.Sprint("g", i), "")), 64<<10); err != nil {
			t.Errorf("layer %d: %v", i, err)
		}
	}
	if err := tr.AddLayer(archive(t, reg("h", strings.Repeat("x", 34000))), 64<<10); err == nil {
		t.Error("several layers are more than one may be")
	}
}

func TestNamesOfOneFileStayTogetherAndCountOnce(t *testing.T) {
	data := strings.Repeat("x", 30000)
	many := []tar.Header{reg("f", data), sym("s", "f"), hard("s2", "s")}
	for i := range 20 {
		many = append(many, hard(fmt.Sprint("l", i), "f"))
	}
	tr := New()
	for range 2 { // the second time they replace the first
		if err := tr.AddLayer(archive(t, many...), 100<<10); err != nil {
			t.Fatal(err)
		}
	}
	out := New()
	if err := out.CopyTree(tr, "/", nil); err != nil {
		t.Fatal(err)
	}
	f, _ := out.Lstat("/f")
	l, _ := out.Lstat("/l19")
	s, _ := out.Lstat("/s")
	s2, _ := out.Lstat("/s2")
	if f.Inode == nil || f.Inode != l.Inode || s.Inode == nil || s.Inode != s2.Inode || s.Inode == f.Inode {
		t.Errorf("%v %v, %v %v", f.Inode, l.Inode, s.Inode, s2.Inode)
	}
	// A file that takes a name over is not the one that had it.
	if err := tr.AddLayer(archive(t, reg("l19", "new")), 100<<10); err != nil {
		t.Fatal(err)
	}
	if l, _ = tr.Lstat("/l19"); l.Inode != nil {
		t.Errorf("%v", l.Inode)
	}
}

// The type of an entry counts, whatever type its mode speaks of.
func TestAnEntryIsWhatItsTypeSays(t *testing.T) {
	for typ, want := range map[byte]fs.FileMode{
		tar.TypeReg: 0o755, tar.TypeCont: 0o755, tar.TypeDir: fs.ModeDir | 0o755, tar.TypeFifo: fs.ModeNamedPipe | 0o755,
		tar.TypeChar: fs.ModeDevice | fs.ModeCharDevice | 0o755, tar.TypeBlock: fs.ModeDevice | 0o755, tar.TypeSymlink: fs.ModeSymlink | 0o777,
	} {
		for _, mode := range []int64{0o40755, 0o120755, 0o20755, 0o60755, 0o10755, 0o140755, 0o100755} {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			if err := w.WriteHeader(&tar.Header{Typeflag: typ, Name: "x", Linkname: "y", Mode: mode}); err != nil {
				t.Fatal(err)
			}
			w.Close()
			tr := New()
			if err := tr.AddTar(tar.NewReader(&b), 1<<20, nil); err != nil {
				t.Fatal(err)
			}
			if n, err := tr.Lstat("/x"); err != nil || n.Mode != want {
				t.Errorf("%c with mode %o: %v, %v; want %v", typ, mode, n, err, want)
			}
		}
	}
}

// What `tar -S --format=gnu` makes of a file with a hole.
func TestASparseFileOfGNUsOldFormatIsAFile(t *testing.T) {
	head := make([]byte, 512)
	field := func(at, size int, n int64) { copy(head[at:at+size], fmt.Sprintf("%0*o\x00", size-1, n)) }
	copy(head, "hole")
	field(100, 8, 0o644)
	field(108, 8, 0)
	field(116, 8, 0)
	field(124, 12, 4)
	field(136, 12, 0)
	head[156] = tar.TypeGNUSparse
	copy(head[257:], "ustar  \x00")
	field(386, 12, 8192) // of the one piece: where, how long
	field(398, 12, 4)
	field(483, 12, 8196) // the file's size
	copy(head[148:], "        ")
	sum := int64(0)
	for _, c := range head {
		sum += int64(c)
	}
	copy(head[148:], fmt.Sprintf("%06s\x00 ", strconv.FormatInt(sum, 8)))
	b := append(head, make([]byte, 512+1024)...)
	copy(b[512:], "data")
	tr := New()
	if err := tr.AddTar(tar.NewReader(bytes.NewReader(b)), 1<<20, nil); err != nil {
		t.Fatal(err)
	}
	n, err := tr.Lstat("/hole")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := n.ReadAll(); err != nil || string(got) != strings.Repeat("\x00", 8192)+"data" {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
