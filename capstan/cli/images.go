package cli

import (
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"kiln/capstan/bake"
	"kiln/kernel/image"
)

// sweepAge spares a folder that its pack has made and not locked yet.
const sweepAge = time.Minute

// runPrefix begins the names of the folders, which nobody else gives: the user's cache may have
// other things in it.
const runPrefix = ".kiln-run-"

// runFolder makes a folder for the image of one run, below dir. done removes it. It is locked
// as long as this process lives, so that others know.
func runFolder(dir, name string) (folder string, done func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("the image cache cannot be made: %w", err)
	}
	sweep(dir)
	// A name of its own: the same program may run twice, with different kernels.
	folder, err = os.MkdirTemp(dir, runPrefix+name+"-*")
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
		if err != nil || !fi.IsDir() || !strings.HasPrefix(e.Name(), runPrefix) || time.Since(fi.ModTime()) < sweepAge {
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

// isImage says whether a file is an image. An error is what is wrong with one that is Kiln's,
// as its boot block says, but cannot be run: a kernel alone, an image of another version or
// a damaged one.
func isImage(name string) (bool, error) {
	fi, err := os.Stat(name)
	if err != nil || !fi.Mode().IsRegular() { // to open a FIFO is to wait
		return false, nil // for whoever reads it as something else to tell
	}
	f, err := os.Open(name)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	if _, err = image.Open(f, fi.Size()); err == nil || hasBootBlock(f) {
		return err == nil, err
	}
	return false, nil
}

func hasBootBlock(r io.ReaderAt) bool {
	e, err := elf.NewFile(r)
	if err != nil {
		return false
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_LOAD && p.Paddr == image.StubPhys {
			b := make([]byte, image.BootBlockSize)
			n, _ := p.ReadAt(b, 0)
			_, err := image.DecodeBootBlock(b[:n])
			return err == nil
		}
	}
	return false
}

// fromProgram gathers the image of a program, which no image is, although it is an ELF file
// without libraries.
func fromProgram(ctx context.Context, name string, o *bake.Options) (*bake.Image, error) {
	if kiln, err := isImage(name); err != nil {
		return nil, usagef("%s is no program to bake (%w): give one, or a name that `pack ls` lists", name, err)
	} else if kiln {
		return nil, usagef("%s is an image already: `pack run %s` boots it", name, name)
	}
	return bake.FromProgram(ctx, name, o)
}
