package vmm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"kiln/capstan/scratch"
	"kiln/kernel/image"
)

// DiskRootSize is the size from which a root is given to the machine on a disk and not
// in memory.
const DiskRootSize = 32 << 20

// Prepared is an image made ready to boot.
type Prepared struct {
	Config *image.Config
	Boot   image.BootBlock
	Kernel string // what to boot: the image itself or a file made for this run
	Root   *Disk
	// Detached means that the root is too large for memory and on no disk (image.File.Detached).
	Detached bool
	remove   func()
}

// Close removes what was made for the run.
func (p *Prepared) Close() {
	if p.remove != nil {
		p.remove()
	}
}

// Prepare reads an image and, if change alters its configuration or its root is to be
// on a disk, makes a second image for this run: the kernel with the new configuration,
// and with the root or, if that is to be on a disk, without. root is "auto", "memory"
// or "disk". When ctx ends, nothing is made. An error that is no WriteError is a mistake in what
// was asked for.
func Prepare(ctx context.Context, name, root string, change func(*image.Config) (bool, error)) (*Prepared, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	img, err := image.Open(f, fi.Size())
	if err != nil {
		return nil, fmt.Errorf("%s is no image that can be run (%w): make one with `pack NAME` or `pack build`", name, err)
	}
	for _, err := range img.Config.Check() {
		return nil, fmt.Errorf("the configuration of %s is not right: %w; bake it again", name, err)
	}
	p := &Prepared{Config: img.Config, Boot: img.Boot, Kernel: name}
	onDisk := false
	switch root {
	case "auto", "":
		onDisk = img.Header.RootLen > DiskRootSize
	case "disk":
		onDisk = img.Header.RootLen > 0
	case "memory":
	default:
		return nil, fmt.Errorf("the root cannot be on %q: choose auto, memory or disk", root)
	}
	p.Detached = img.Detached && !onDisk
	changed, err := change(img.Config)
	if err != nil {
		return nil, err
	}
	if !changed && !onDisk {
		return p, nil
	}
	k, err := img.ExtractKernel(f)
	if err != nil {
		return nil, err
	}
	var r image.Root
	if onDisk {
		abs, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		p.Root = &Disk{File: abs, Off: img.SegmentOff + int64(img.Header.RootOff), Size: int64(img.Header.RootLen)}
	} else if img.Header.RootLen > 0 {
		r = rootOf{img.RootSection(f)}
	}
	if err := p.write(ctx, k, r); err != nil {
		p.Close()
		return nil, &WriteError{err}
	}
	return p, nil
}

// WriteError says that a second image could not be made, which is no mistake in the first or in
// what was asked for.
type WriteError struct{ err error }

func (e *WriteError) Error() string {
	return fmt.Sprintf("the image cannot be made ready: %v; TMPDIR names another place for it", e.err)
}

func (e *WriteError) Unwrap() error { return e.err }

// write makes the second image.
func (p *Prepared) write(ctx context.Context, k *image.Kernel, r image.Root) error {
	dir, remove, err := scratch.Make("", "kiln-boot-")
	if err != nil {
		return err
	}
	p.Kernel, p.remove = filepath.Join(dir, "kernel"), remove
	out, err := os.Create(p.Kernel)
	if err != nil {
		return err
	}
	p.Boot, err = image.Write(ctx, out, k, p.Config, r)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}
