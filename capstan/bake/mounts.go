package bake

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"kiln/capstan/manifest"
	"kiln/capstan/tree"
)

// What the machine mounts over the root whatever that has there (kernel/system). On /tmp
// and /run it leaves what an image has. machineDirs are the folders that a program may
// count on in there.
var (
	mountedOver = []string{"/dev", "/proc", "/sys"}
	machineDirs = []string{"/dev", "/dev/shm", "/dev/pts", "/proc", "/sys"}
)

func below(name, dir string) bool { return strings.HasPrefix(name, dir+"/") }

// covered is the mount that hides a path of the root, "" if there is none.
func (b *builder) covered(name string) string {
	for _, list := range [][]string{mountedOver, b.mounts} {
		for _, m := range list {
			if below(name, m) {
				return m
			}
		}
	}
	return ""
}

// reachable checks that files of the root, and the links that lead to them, will be seen
// in the machine.
func (b *builder) reachable(files ...string) error {
	for _, f := range files {
		_, _, steps, err := tree.Resolve(b.out, f)
		if err != nil {
			return err
		}
		for _, st := range steps {
			if m := b.covered(st.Path); m != "" {
				return fmt.Errorf("%s would not be there: the machine mounts a file system of its own on %s; put it into another folder", f, m)
			}
		}
	}
	return nil
}

// checkMounts finds what would keep the machine from starting: a mount on a file, a
// program that is to start in a folder that is not there. It also finds files that a
// mount would hide.
func (b *builder) checkMounts(m *manifest.Manifest) error {
	for _, target := range b.mounts {
		if at := notFolder(b.out, target); at != "" {
			return fmt.Errorf("the manifest of %s mounts on %s, and %s is no folder", m.Name, target, at)
		}
	}
	for _, f := range m.Files {
		if f.Package != "" || !has(b.out, f.Path) || f.Dir && slices.Contains(machineDirs, path.Clean(f.Path)) {
			continue
		}
		if err := b.reachable(f.Path); err != nil {
			return err
		}
	}
	for _, e := range m.Execs() {
		if err := b.workDir(m, e.WorkDir); err != nil {
			return err
		}
	}
	return nil
}

// notFolder is the first part of a path that is in the root and no folder.
func notFolder(root tree.Source, name string) string {
	for i := 1; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		_, n, steps, err := tree.Resolve(root, name[:i])
		switch {
		case err == nil && n.Mode.IsDir():
			continue
		case err == nil || len(steps) > 0 && steps[len(steps)-1].Node.Link != "": // a file, or a link that leads nowhere
			return name[:i]
		}
		break
	}
	return ""
}

// workDir checks that the program can start where it is to: in a folder of the root, or
// in something that is mounted.
func (b *builder) workDir(m *manifest.Manifest, dir string) error {
	dir = path.Clean("/" + dir)
	if slices.Contains(machineDirs, dir) || slices.Contains(b.mounts, dir) || below(dir, "/proc") || below(dir, "/sys") {
		return nil
	}
	if over := b.covered(dir); over != "" {
		return fmt.Errorf("the workdir %s would not be there: the machine mounts a file system of its own on %s; choose another folder", dir, over)
	}
	real, n, _, err := tree.Resolve(b.out, dir)
	if err != nil || !n.Mode.IsDir() {
		return fmt.Errorf("the manifest of %s has the workdir %s, which is no folder of the image: add it to files, as {path: %s, dir: true}", m.Name, dir, dir)
	}
	if slices.Contains(b.mounts, real) || slices.Contains(machineDirs, real) {
		return nil
	}
	return b.reachable(dir)
}
