package bake

import (
	"context"
	"debug/elf"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/capstan/elfinfo/elftest"
	"kiln/capstan/tree"
)

// besideFolder is a manifest's folder with app, as a Python venv and a source tree are.
func besideFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"app/run": 0o700, "app/tool": 0o640, "app/lib/data": 0o600, "app/.hidden": 0o644} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), elftest.Make(elftest.Spec{Type: elf.ET_EXEC}), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"app/lib64": "lib", "app/python": "/usr/bin/python3", "app/same": "lib/data", "now": "app"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var besideWant = map[string]string{"run": "-rwxr-xr-x", "tool": "-rw-r--r--", "lib": "drwxr-xr-x", "lib/data": "-rw-r--r--", ".hidden": "-rw-r--r--",
	"lib64": "Lrwxrwxrwx lib", "python": "Lrwxrwxrwx /usr/bin/python3", "same": "Lrwxrwxrwx lib/data"}

func TestWhatStandsBesideAManifestComesAsItIs(t *testing.T) {
	dir := besideFolder(t)
	for _, entry := range []string{"{path: /srv, from: app}", "{path: /srv, from: now}", "{path: /, from: ., exclude: [srv]}"} {
		top := "/srv/"
		if strings.Contains(entry, "from: .") {
			top = "/app/"
		}
		m := parse(t, "name: x\nprogram: "+top+"run\nfiles: ["+entry+"]\n", nil)
		m.Dir = os.DirFS(dir)
		img, err := FromManifest(context.Background(), m, &Options{Host: tree.New(), Cache: t.TempDir()})
		if err != nil {
			t.Fatalf("%s: %v", entry, err)
		}
		for name, want := range besideWant {
			n, err := img.Root.Lstat(top + name)
			if err != nil {
				t.Errorf("%s: %v", entry, err)
				continue
			}
			if got := strings.TrimSpace(n.Mode.String() + " " + n.Link); got != want {
				t.Errorf("%s: %s is %s", entry, name, got)
			}
			if n.Mode.IsRegular() {
				if b, err := n.ReadAll(); err != nil || len(b) < 64 {
					t.Errorf("%s: %s has %d bytes, %v", entry, name, len(b), err)
				}
			}
		}
	}
}

func TestABuildsSourceIsACopy(t *testing.T) {
	dir, to := besideFolder(t), filepath.Join(t.TempDir(), "src")
	if err := copySource(to, os.DirFS(dir), "app"); err != nil {
		t.Fatal(err)
	}
	for name, want := range besideWant {
		fi, err := os.Lstat(filepath.Join(to, name))
		if err != nil {
			t.Error(err)
			continue
		}
		link, _ := os.Readlink(filepath.Join(to, name))
		if got := strings.TrimSpace(fi.Mode().String() + " " + link); got != want {
			t.Errorf("%s is %s", name, got)
		}
	}
	m := parse(t, built, nil)
	m.Build.From, m.Dir = "app", os.DirFS(dir)
	last := ""
	for _, change := range []func() error{
		func() error { return os.Chmod(filepath.Join(dir, "app/tool"), 0o644) },
		func() error { return os.Chmod(filepath.Join(dir, "app/tool"), 0o755) },
		func() error { return os.Rename(filepath.Join(dir, "app/lib64"), filepath.Join(dir, "app/lib32")) },
		func() error { return os.Mkdir(filepath.Join(dir, "app/empty"), 0o755) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		key, err := buildKey(m, nil)
		if err != nil || key == last {
			t.Errorf("a build stays %s in spite of a change: %v", key, err)
		}
		last = key
	}
}

func TestWhatNoImageTakesIsRefusedAndNotWaitedFor(t *testing.T) {
	dir := besideFolder(t)
	if err := unix.Mkfifo(filepath.Join(dir, "app/fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	bake := func(exclude string) error {
		m := parse(t, "name: x\nprogram: /srv/run\nfiles: [{path: /srv, from: app, exclude: ["+exclude+"]}]\n", nil)
		m.Dir = os.DirFS(dir)
		_, err := FromManifest(context.Background(), m, &Options{Host: tree.New(), Cache: t.TempDir()})
		return err
	}
	if err := bake("nothing"); err == nil || !strings.Contains(err.Error(), "app/fifo, beside the manifest, is neither a file") {
		t.Error(err)
	}
	if err := bake("fif*"); err != nil {
		t.Error(err)
	}
	m := parse(t, built, nil)
	m.Build.From, m.Dir = "app", os.DirFS(dir)
	if _, err := buildKey(m, nil); err == nil || !strings.Contains(err.Error(), "neither a file") {
		t.Error(err)
	}
}
