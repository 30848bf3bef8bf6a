// Sumtree runs in a Linux guest: it mounts EROFS images and prints what Linux sees in
// them, a line a file, so that a test can compare.
//
//	sumtree IMAGE...
//
//	IMAGE PATH MODE SIZE SHA256    of a regular file, read by read(2)
//	IMAGE PATH MODE                of anything else
//	IMAGE error ...
//	end
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func main() {
	for _, img := range os.Args[1:] {
		if err := show(img); err != nil {
			fmt.Println(img, "error", err)
		}
	}
	fmt.Println("end")
}

func show(img string) error {
	dev, err := attach(img)
	if err != nil {
		return err
	}
	dir := "/tmp/" + filepath.Base(img)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(dev, dir, "erofs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel := p[len(dir):]
		if !fi.Mode().IsRegular() {
			fmt.Println(img, rel, fi.Mode())
			return nil
		}
		b, err := backwards(p, fi.Size())
		if err != nil {
			return err
		}
		again, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if !bytes.Equal(b, again) {
			return fmt.Errorf("%s: pages and a read differ", rel)
		}
		fmt.Printf("%s %s %v %d %x\n", img, rel, fi.Mode(), len(again), sha256.Sum256(again))
		return nil
	})
}

// backwards takes a file's pages from a mapping, the last one first. In a small file each
// fault reads one page, so that Linux takes it from the middle of what is compressed.
func backwards(p string, size int64) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	f, err := os.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	defer unix.Munmap(m)
	if size < 150_000 {
		if err := unix.Madvise(m, unix.MADV_RANDOM); err != nil {
			return nil, err
		}
	}
	b := make([]byte, size)
	for at := (size - 1) &^ 4095; at >= 0; at -= 4096 {
		copy(b[at:min(at+4096, size)], m[at:])
	}
	return b, nil
}

// attach makes a loop device of a file.
func attach(img string) (string, error) {
	ctl, err := os.Open("/dev/loop-control")
	if err != nil {
		return "", err
	}
	defer ctl.Close()
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", err
	}
	dev := fmt.Sprintf("/dev/loop%d", n)
	d, err := os.Open(dev)
	if err != nil {
		return "", err
	}
	defer d.Close()
	f, err := os.Open(img)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return dev, unix.IoctlSetInt(int(d.Fd()), unix.LOOP_SET_FD, int(f.Fd()))
}
