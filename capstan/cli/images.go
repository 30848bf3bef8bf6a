package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// sweepAge spares a folder that its pack has made and not locked yet, and a file of a pack
// of before there were locks that has not been booted yet.
const sweepAge = time.Minute

// runFolder makes a folder for the image of one run, below dir. done removes it. It is locked
// as long as this process lives, so that others know.
func runFolder(dir, name string) (folder string, done func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("the image cache cannot be made: %w", err)
	}
	sweep(dir)
	// A name of its own: the same program may run twice, with different kernels.
	folder, err = os.MkdirTemp(dir, name+"-*")
	if err != nil {
		return "", nil, fmt.Errorf("the image cache cannot be written: %w", err)
	}
	f, err := os.Open(folder)
	if err != nil {
		os.Remove(folder)
		return "", nil, fmt.Errorf("the image cache cannot be read: %w", err)
	}
	// A file system without locks gives none to who sweeps either.
	unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	return folder, func() { os.RemoveAll(folder); f.Close() }, nil
}

// sweep removes what runs have left whose pack was killed.
func sweep(dir string) {
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		fi, err := e.Info()
		if err != nil || time.Since(fi.ModTime()) < sweepAge || !fi.IsDir() && !fi.Mode().IsRegular() {
			continue
		}
		name := filepath.Join(dir, e.Name())
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(name)
		}
		f.Close()
	}
}
