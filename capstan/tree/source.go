package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
)

// HostSource reads a folder of this machine, "/" or an unpacked root. Files are
// owned by root in the image whoever owns them here, unless KeepOwner is set.
type HostSource struct {
	Dir       string
	KeepOwner bool
}

// hostInode is a file of this machine that has several names.
type hostInode struct{ dev, ino uint64 }

func (h HostSource) real(name string) string { return filepath.Join(h.Dir, filepath.FromSlash(name)) }

// Lstat is the node at a real path. See Source.
func (h HostSource) Lstat(name string) (*Node, error) {
	real := h.real(name)
	fi, err := os.Lstat(real)
	if err != nil {
		if errors.Is(err, syscall.ENOTDIR) {
			err = fs.ErrNotExist
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	n := &Node{Mode: fi.Mode(), MTime: fi.ModTime().Unix()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		n.Rdev = uint32(st.Rdev)
		if st.Nlink > 1 && !fi.IsDir() {
			n.Inode = hostInode{st.Dev, st.Ino}
		}
		if h.KeepOwner {
			n.UID, n.GID = st.Uid, st.Gid
		}
	}
	switch {
	case fi.Mode().IsRegular():
		n.Size = fi.Size()
		n.Open = func() (io.ReadCloser, error) { return os.Open(real) }
	case fi.Mode().IsDir():
		n.MTime = Epoch // changes with every package installed
		n.children = map[string]*Node{}
	case fi.Mode()&fs.ModeSymlink != 0:
		n.MTime = Epoch
		if n.Link, err = os.Readlink(real); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// ReadDir lists a directory. See Source.
func (h HostSource) ReadDir(name string) ([]string, error) {
	ents, err := os.ReadDir(h.real(name))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range ents {
		names = append(names, e.Name())
	}
	return names, nil
}

// Union is several sources over each other; the first that has a path wins, and
// folders show the entries of all.
type Union []Source

// Lstat is the node at a real path. See Source.
func (u Union) Lstat(name string) (*Node, error) {
	for _, s := range u {
		n, err := s.Lstat(name)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
	}
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

// ReadDir lists a directory. See Source.
func (u Union) ReadDir(name string) ([]string, error) {
	seen := map[string]bool{}
	found := false
	for _, s := range u {
		if n, err := s.Lstat(name); err != nil || !n.Mode.IsDir() {
			continue
		}
		names, err := s.ReadDir(name)
		if err != nil {
			return nil, err
		}
		found = true
		for _, n := range names {
			seen[n] = true
		}
	}
	if !found {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	names := make([]string, 0, len(seen))
	for n := range seen {
		names = append(names, n)
	}
	sort.Strings(names)
	return names, nil
}

// Step is a node that Resolve passed: a folder or a link on the way, or the end.
type Step struct {
	Path string
	Node *Node
}

// Resolve follows a path in a source through its symbolic links. It gives the real
// path, the node there and every folder and link passed on the way, the end
// included.
func Resolve(s Source, name string) (real string, n *Node, steps []Step, err error) {
	todo := split(name)
	real = "/"
	if n, err = s.Lstat("/"); err != nil {
		return "", nil, nil, err
	}
	links := 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		if part == ".." {
			real = path.Dir(real)
			continue
		}
		next := path.Join(real, part)
		if n, err = s.Lstat(next); err != nil {
			return "", nil, steps, fmt.Errorf("%s: %w", name, unwrapPath(err))
		}
		steps = append(steps, Step{next, n})
		if n.Mode&fs.ModeSymlink == 0 {
			if len(todo) > 0 && !n.Mode.IsDir() {
				return "", nil, steps, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
			}
			real = next
			continue
		}
		if links++; links > maxLinks {
			return "", nil, steps, fmt.Errorf("%s: too many levels of symbolic links", name)
		}
		// ".." after a link means the parent of where the link leads, so a relative
		// target's parts are walked one by one and not joined.
		if path.IsAbs(n.Link) {
			real = "/"
		}
		todo = append(strings.FieldsFunc(n.Link, func(r rune) bool { return r == '/' }), todo...)
		todo = dropDots(todo)
	}
	if n, err = s.Lstat(real); err != nil {
		return "", nil, steps, err
	}
	return real, n, steps, nil
}

func dropDots(parts []string) []string {
	out := parts[:0:0]
	for _, p := range parts {
		if p != "." {
			out = append(out, p)
		}
	}
	return out
}

func unwrapPath(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fs.ErrNotExist
	}
	return err
}

// CopyPath puts what is at a path of the source at the same path of the tree, with
// the links and folders on the way. A folder comes without its entries.
func (t *Tree) CopyPath(s Source, name string) error {
	_, _, steps, err := Resolve(s, name)
	if err != nil {
		return err
	}
	return t.addSteps(steps)
}

// CopyOver is CopyPath, but a file or link of that very name replaces one that is there.
func (t *Tree) CopyOver(s Source, name string) error {
	_, _, way, err := Resolve(s, path.Dir(path.Clean("/"+name)))
	if err != nil {
		return err
	}
	_, _, steps, err := Resolve(s, name)
	if err != nil {
		return err
	}
	if err := t.addSteps(steps[:len(way)]); err != nil {
		return err
	}
	steps = steps[len(way):]
	if len(steps) > 0 && !steps[0].Node.Mode.IsDir() {
		n := *steps[0].Node
		if err := t.Add(steps[0].Path, &n); err != nil {
			return err
		}
	}
	return t.addSteps(steps)
}

func (t *Tree) addSteps(steps []Step) error {
	for _, st := range steps {
		old, err := t.Lstat(st.Path)
		if err == nil && (old.Mode.IsDir() || old.Mode.Type() == st.Node.Mode.Type()) {
			continue // the first one stays
		}
		n := *st.Node
		n.children = nil
		if err := t.Add(st.Path, &n); err != nil {
			return err
		}
	}
	return nil
}

// CopyTree copies a folder of the source and everything below it whose path keep
// accepts (nil keeps all), or a file. They replace what is there already. Links inside
// are copied as links, and where a link leads out of the folder its target is copied too
// if the source has it and the tree does not.
func (t *Tree) CopyTree(s Source, name string, keep func(name string, n *Node) bool) error {
	real, n, steps, err := Resolve(s, name)
	if err != nil {
		return err
	}
	if !n.Mode.IsDir() {
		return t.CopyOver(s, name)
	}
	if err := t.addSteps(steps); err != nil {
		return err
	}
	return t.copyDir(s, real, real, keep)
}

func (t *Tree) copyDir(s Source, top, dir string, keep func(string, *Node) bool) error {
	names, err := s.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		p := path.Join(dir, name)
		n, err := s.Lstat(p)
		if err != nil {
			return err
		}
		if keep != nil && !keep(p, n) {
			continue
		}
		c := *n
		c.children = nil
		if err := t.Add(p, &c); err != nil {
			return err
		}
		switch {
		case n.Mode.IsDir():
			if err := t.copyDir(s, top, p, keep); err != nil {
				return err
			}
		case n.Mode&fs.ModeSymlink != 0:
			if target := linkTarget(dir, n.Link); !within(top, target) {
				if err := t.CopyPath(s, target); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		}
	}
	return nil
}

func within(top, name string) bool {
	return top == "/" || name == top || strings.HasPrefix(name, top+"/")
}
