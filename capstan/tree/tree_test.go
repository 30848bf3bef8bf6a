package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAddFollowsLinksToFolders(t *testing.T) {
	tr := New()
	tr.Add("/lib", Symlink("usr/lib"))
	tr.Add("/usr/lib/deep", Symlink("/opt/../opt/x"))
	if err := tr.Add("/lib/deep/file", File(0o644, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Lstat("/opt/x/file"); err != nil {
		t.Error(err)
	}
	if err := tr.Add("/lib", Dir(0o700)); err != nil { // a folder over a link keeps the link
		t.Fatal(err)
	}
	if n, err := tr.Lstat("/lib"); err != nil || n.Link != "usr/lib" {
		t.Errorf("%+v %v", n, err)
	}
	tr.Add("/loop/a", Symlink("b"))
	tr.Add("/loop/b", Symlink("a"))
	if err := tr.Add("/loop/a/x", File(0o644, nil)); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Error(err)
	}
	if err := tr.Add("/opt/x/file/below", File(0o644, nil)); err == nil {
		t.Error("a file became a folder")
	}
	if err := tr.Add("/opt", File(0o644, nil)); err == nil {
		t.Error("a folder became a file")
	}
}

func TestResolveStaysInsideTheSource(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	os.WriteFile(secret, []byte("outside"), 0o644)
	root := filepath.Join(dir, "root")
	os.MkdirAll(filepath.Join(root, "etc"), 0o755)
	os.Symlink("/etc", filepath.Join(root, "abs"))
	os.Symlink("../../../../secret", filepath.Join(root, "up"))
	os.Symlink(secret, filepath.Join(root, "out"))
	os.WriteFile(filepath.Join(root, "etc", "f"), []byte("inside"), 0o644)
	s := HostSource{Dir: root}
	real, n, steps, err := Resolve(s, "/abs/f")
	if err != nil || real != "/etc/f" || n.Size != 6 || len(steps) != 3 {
		t.Errorf("%s %+v %d %v", real, n, len(steps), err)
	}
	for _, p := range []string{"/up", "/out", "/abs/../../secret", "/etc/f/x"} {
		if _, _, _, err := Resolve(s, p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestCopyTreeBringsLinksAndWhatTheyLeadTo(t *testing.T) {
	src := New()
	src.Add("/usr/share/app/a", Symlink("../other/b"))
	src.Add("/usr/share/other/b", File(0o600, []byte("b")))
	src.Add("/usr/share/other/unused", File(0o600, nil))
	src.Add("/usr/share/app/skip/x", File(0o644, nil))
	src.Add("/usr/share/app/dangling", Symlink("/none"))
	dst := New()
	err := dst.CopyTree(src, "/usr/share/app", func(name string, _ *Node) bool { return !strings.HasSuffix(name, "/skip") })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	dst.Walk(func(name string, _ *Node) error { got = append(got, name); return nil })
	want := "/ /usr /usr/share /usr/share/app /usr/share/app/a /usr/share/app/dangling /usr/share/other /usr/share/other/b"
	if strings.Join(got, " ") != want {
		t.Errorf("%v", got)
	}
}

func TestUnionShowsAllAndTheFirstWins(t *testing.T) {
	a, b := New(), New()
	a.Add("/d/x", File(0o644, []byte("a")))
	b.Add("/d/x", File(0o644, []byte("bb")))
	b.Add("/d/y", File(0o644, nil))
	u := Union{a, b}
	names, err := u.ReadDir("/d")
	if err != nil || strings.Join(names, " ") != "x y" {
		t.Error(names, err)
	}
	if n, _ := u.Lstat("/d/x"); n.Size != 1 {
		t.Errorf("%+v", n)
	}
	if _, err := u.Lstat("/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestWhatIsNamedReplacesWhatIsThere(t *testing.T) {
	src := New()
	src.Add("/conf", Symlink("etc"))
	src.Add("/etc/passwd", File(0o644, []byte("theirs")))
	src.Add("/etc/link", Symlink("target"))
	src.Add("/etc/target", File(0o644, []byte("theirs")))
	dst := New()
	for _, n := range []string{"/etc/passwd", "/etc/link", "/etc/target"} {
		dst.Add(n, File(0o644, []byte("ours")))
	}
	for _, n := range []string{"/conf/passwd", "/etc/link"} {
		if err := dst.CopyTree(src, n, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := show(t, dst), "/conf->etc /etc/link->target /etc/passwd=theirs /etc/target=ours"; got != want {
		t.Errorf("%s", got)
	}
}
