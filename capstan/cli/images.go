package cli

import (
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os"

	"kiln/capstan/bake"
	"kiln/capstan/scratch"
	"kiln/kernel/image"
)

// runPrefix begins the names of the folders for images of one run.
const runPrefix = ".kiln-run-"

// runFolder makes a folder for the image of one run, below dir. done removes it.
func runFolder(dir string) (folder string, done func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("the image cache cannot be made: %w", err)
	}
	folder, done, err = scratch.Make(dir, runPrefix)
	if err != nil {
		return "", nil, fmt.Errorf("the image cache cannot be written: %w", err)
	}
	return folder, done, nil
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
