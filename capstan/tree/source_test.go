package tree

import (
	"os"
	"path/filepath"
	"testing"
)

func TestHardLinksOfThisMachineAreOneFile(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	tr := New()
	if err := tr.CopyTree(HostSource{Dir: dir}, "/", nil); err != nil {
		t.Fatal(err)
	}
	a, _ := tr.Lstat("/a")
	b, _ := tr.Lstat("/b")
	o, _ := tr.Lstat("/other")
	if a.Inode == nil || a.Inode != b.Inode || o.Inode != nil || tr.Root().Inode != nil {
		t.Errorf("%v %v, %v", a.Inode, b.Inode, o.Inode)
	}
}
