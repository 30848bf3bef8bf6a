package bake

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"kiln/kernel/image"
)

// KernelEnv names the kernel's file when there is no flag.
const KernelEnv = "KILN_KERNEL"

// FindKernel is the kernel's ELF file: the one given, else $KILN_KERNEL, else
// kernel.elf beside pack, else build/kernel.elf of a Kiln source tree that pack or the
// current folder is in.
func FindKernel(given string) (string, error) {
	if given == "" {
		given = os.Getenv(KernelEnv)
	}
	if given != "" {
		fi, err := os.Stat(given)
		if err != nil {
			return "", fmt.Errorf("the kernel %s cannot be read: %w", given, cause(err))
		}
		if !fi.Mode().IsRegular() { // to open it may be to wait, to read it to find no end
			return "", fmt.Errorf("the kernel %s is no regular file: name the one that `make kernel` has made", given)
		}
		return given, nil
	}
	var starts []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		beside := filepath.Join(filepath.Dir(exe), "kernel.elf")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
		starts = append(starts, filepath.Dir(exe))
	}
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	for _, dir := range starts {
		for {
			built := filepath.Join(dir, "build", "kernel.elf")
			if _, err := os.Stat(built); err == nil {
				if _, err := os.Stat(filepath.Join(dir, "cmd", "kernel")); err == nil {
					return built, nil
				}
			}
			up := filepath.Dir(dir)
			if up == dir {
				break
			}
			dir = up
		}
	}
	return "", errors.New("there is no kernel to put into the image: run `make kernel` in Kiln's source, or name the file with --kernel or " + KernelEnv)
}

// LoadKernel finds and reads the kernel.
func LoadKernel(given string) (*image.Kernel, error) {
	name, err := FindKernel(given)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("the kernel %s cannot be read: %w", name, cause(err))
	}
	k, err := image.ReadKernel(b)
	if err != nil {
		return nil, fmt.Errorf("%s is not a kernel that an image can be made with (%w): run `make kernel` again", name, err)
	}
	return k, nil
}
