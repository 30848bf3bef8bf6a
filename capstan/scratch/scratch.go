// Package scratch makes folders that last as long as the pack that makes them. One that was
// killed leaves its own behind, and the next sweeps them.
package scratch

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sweepAge spares a folder that its pack has made and not locked yet.
const sweepAge = time.Minute

// Make makes a folder below dir, or below TMPDIR if that is "", with a name that is prefix and
// digits. done removes it. It is locked as long as this process lives, so that others know.
func Make(dir, prefix string) (folder string, done func(), err error) {
	if dir == "" {
		dir = os.TempDir()
	}
	sweep(dir, prefix)
	if folder, err = os.MkdirTemp(dir, prefix); err != nil {
		return "", nil, err
	}
	f, err := os.Open(folder)
	if err != nil {
		os.Remove(folder)
		return "", nil, err
	}
	// A file system without locks gives none to who sweeps either.
	unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	return folder, func() { remove(folder); f.Close() }, nil
}

// remove removes a folder, in which a build may have left some that not even their owner may
// write to.
func remove(folder string) {
	if os.RemoveAll(folder) == nil {
		return
	}
	filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(name, 0o700)
		}
		return nil
	})
	os.RemoveAll(folder)
}

// sweep removes this user's folders of such names that no process has locked. Others keep what
// they have there: their names are not prefix and digits.
func sweep(dir, prefix string) {
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		digits, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		fi, err := e.Info()
		if err != nil || !fi.IsDir() || time.Since(fi.ModTime()) < sweepAge {
			continue
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			continue
		}
		name := filepath.Join(dir, e.Name())
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			remove(name)
		}
		f.Close()
	}
}
