package bake

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"kiln/capstan/manifest"
	"kiln/capstan/tree"
)

// walkBeside calls fn for a file or folder that stands beside a manifest, and for all that
// is in it unless skip says otherwise: folders, files, of whose modes only the execute
// permission counts, and links, which stay links. rel is the path below from.
func walkBeside(dir fs.FS, from string, skip func(rel string) bool, fn func(rel string, n *tree.Node) error) error {
	return fs.WalkDir(dir, from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("%s, which should be beside the manifest, cannot be read: %w", from, err)
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(name, from), "/")
		if from == "." && name != from {
			rel = name
		}
		if rel != "" && skip != nil && skip(rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		n, err := besideNode(dir, name, d)
		if err != nil {
			return err
		}
		return fn(rel, n)
	})
}

func besideNode(dir fs.FS, name string, d fs.DirEntry) (*tree.Node, error) {
	switch d.Type() {
	case fs.ModeDir:
		return tree.Dir(0o755), nil
	case fs.ModeSymlink:
		to, err := fs.ReadLink(dir, name)
		return tree.Symlink(to), err
	case 0:
		fi, err := d.Info()
		if err != nil {
			return nil, err
		}
		n := tree.File(0o644, nil)
		if fi.Mode()&0o111 != 0 {
			n.Mode = 0o755
		}
		n.Size = fi.Size()
		n.Open = func() (io.ReadCloser, error) { return dir.Open(name) }
		return n, nil
	}
	return nil, fmt.Errorf("%s, beside the manifest, is neither a file nor a folder nor a link: take it away, or exclude it from files", name)
}

// copyBeside copies a file or folder that stands beside the manifest.
func (b *builder) copyBeside(dir fs.FS, f manifest.File) error {
	skip := func(rel string) bool { return excluded(f.Exclude, rel) }
	return walkBeside(dir, f.From, skip, func(rel string, n *tree.Node) error {
		return b.out.Add(path.Join(f.Path, rel), n)
	})
}

// copySource copies a folder beside the manifest into one of this machine, where a build may
// copy modes on into the image.
func copySource(to string, from fs.FS, dir string) error {
	return walkBeside(from, dir, nil, func(rel string, n *tree.Node) error {
		dst := filepath.Join(to, rel)
		switch {
		case n.Mode.IsDir():
			return makeDir(dst)
		case n.Mode&fs.ModeSymlink != 0:
			return os.Symlink(n.Link, dst)
		}
		r, err := n.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		w, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, n.Mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, r)
		return errors.Join(err, w.Chmod(n.Mode), w.Close()) // whatever the umask
	})
}

// makeDir makes a folder with its parents that has its mode whatever the umask.
func makeDir(name string) error {
	if err := os.MkdirAll(name, 0o755); err != nil {
		return err
	}
	return os.Chmod(name, 0o755)
}
