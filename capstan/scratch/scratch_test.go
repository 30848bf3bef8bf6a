package scratch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWhatKilledRunsLeaveGoesAndWhatOthersUseStays(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for _, dir := range []string{"", filepath.Join(tmp, "cache")} {
		at := dir
		if at == "" {
			at = tmp
		} else if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		used, done, err := Make(dir, "kiln-x-")
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{"kiln-x-1": false, "kiln-x-test-2": true, "kiln-x-": true, "kiln-y-3": true, "4": true, filepath.Base(used): true}
		for name := range want {
			file := filepath.Join(at, name, "deep", "file")
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(at, "kiln-x-5"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		want["kiln-x-5"] = true // no folder
		old := time.Now().Add(-time.Hour)
		for name := range want {
			if err := os.Chtimes(filepath.Join(at, name), old, old); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(at, "kiln-x-6"), 0o755); err != nil {
			t.Fatal(err)
		}
		want["kiln-x-6"] = true // young
		mine, remove, err := Make(dir, "kiln-x-")
		if err != nil {
			t.Fatal(err)
		}
		want[filepath.Base(mine)] = true
		for name, stays := range want {
			if _, err := os.Stat(filepath.Join(at, name)); (err == nil) != stays {
				t.Errorf("%s: %v", name, err)
			}
		}
		remove()
		if _, err := os.Stat(mine); err == nil {
			t.Errorf("%s is still there", mine)
		}
		done()
	}
}

func TestAFolderThatMayNotBeWrittenIsRemoved(t *testing.T) {
	root := filepath.Join(t.TempDir(), ".root-1")
	if err := errors.Join(os.Chmod(filepath.Dir(root), 0o777), os.Chmod(filepath.Dir(filepath.Dir(root)), 0o777)); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // as a plain user, who is stopped by permissions
	defer runtime.UnlockOSThread()
	defer unix.Setfsuid(os.Getuid())
	unix.Setfsuid(65534)
	deep := filepath.Join(root, "dest", "deep")
	if err := errors.Join(os.MkdirAll(deep, 0o755), os.WriteFile(filepath.Join(deep, "file"), nil, 0o644), os.Symlink("/etc", filepath.Join(deep, "link")),
		os.Chmod(deep, 0o555), os.Chmod(filepath.Dir(deep), 0)); err != nil {
		t.Fatal(err)
	}
	remove(root)
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
