// Package tree holds a file tree in memory, between where its files come from (the
// host, Debian packages, a folder) and where they go (the root image).
//
// A Source is something to read a tree from; a Tree is a Source that can also be
// built. Bytes are not in the tree: a regular file's node knows how to open them.
// Paths are absolute and slash-separated, and symbolic links are always resolved
// inside the source they were found in, never by the machine pack runs on.
package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
)

// Epoch is the time stamp, in seconds, of everything that pack makes itself
// (1980-01-01, the oldest that zip archives and the tools around them accept), so
// that the same input gives the same image.
const Epoch = 315532800

// Node is one file of any kind.
type Node struct {
	// Mode has the type bits and permission bits of fs.FileMode, set-uid, set-gid
	// and sticky included.
	Mode     fs.FileMode
	UID, GID uint32
	MTime    int64 // seconds since 1970
	Size     int64 // bytes of a regular file
	Link     string
	// Rdev is the device number of a character or block device in Linux's "new"
	// encoding (makedev(3) cut to 32 bits).
	Rdev uint32
	// Open gives a regular file's Size bytes.
	Open func() (io.ReadCloser, error)
	// Inode, if not nil, is one comparable value for all names of a file (hard links), which
	// copies keep. A folder has none.
	Inode any

	children map[string]*Node
}

// Dir is a directory made by pack.
func Dir(perm fs.FileMode) *Node {
	return &Node{Mode: fs.ModeDir | perm, MTime: Epoch, children: map[string]*Node{}}
}

// File is a regular file with the given bytes, made by pack.
func File(perm fs.FileMode, data []byte) *Node {
	return &Node{Mode: perm, MTime: Epoch, Size: int64(len(data)), Open: OpenBytes(data)}
}

// Symlink is a symbolic link made by pack.
func Symlink(target string) *Node {
	return &Node{Mode: fs.ModeSymlink | 0o777, MTime: Epoch, Link: target}
}

// OpenBytes is an Open that reads data.
func OpenBytes(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// HostFile is the regular file at a path of this machine, owned by root in the image.
func HostFile(name string) (*Node, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return &Node{
		Mode: fi.Mode().Perm() | fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid), MTime: Epoch, Size: fi.Size(),
		Open: func() (io.ReadCloser, error) { return os.Open(name) },
	}, nil
}

// ReadAll reads a regular file's bytes.
func (n *Node) ReadAll() ([]byte, error) {
	if !n.Mode.IsRegular() {
		return nil, errors.New("not a regular file")
	}
	r, err := n.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, n.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return b, nil
}

// Names are a directory's entries in byte order, without "." and "..".
func (n *Node) Names() []string {
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Child is the entry of that name, nil if there is none.
func (n *Node) Child(name string) *Node { return n.children[name] }

// Source is a tree to read. Lstat's and ReadDir's paths must be real: no component
// before the last is a symbolic link (Resolve makes such paths).
type Source interface {
	// Lstat is the node at a path; the error is fs.ErrNotExist when there is none.
	Lstat(name string) (*Node, error)
	// ReadDir lists the names of a directory in byte order.
	ReadDir(name string) ([]string, error)
}

// Tree is a tree in memory.
type Tree struct {
	root *Node
	made int64 // folders that mkdirs has made
}

// New is a tree with only a root directory.
func New() *Tree { return &Tree{root: Dir(0o755)} }

// Root is the top directory.
func (t *Tree) Root() *Node { return t.root }

// Lstat is the node at a real path. See Source.
func (t *Tree) Lstat(name string) (*Node, error) {
	n := t.root
	for _, part := range split(name) {
		if n = n.children[part]; n == nil {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
	}
	return n, nil
}

// ReadDir lists a directory. See Source.
func (t *Tree) ReadDir(name string) ([]string, error) {
	n, err := t.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !n.Mode.IsDir() {
		return nil, fmt.Errorf("%s: not a directory", name)
	}
	return n.Names(), nil
}

// Add puts a node at a path. Missing parents are made, with mode 755; links among
// the parents are followed within the tree. A node that is already there is
// replaced, except that a directory keeps its entries when a directory replaces it. A
// directory does not replace a link to one, and nothing else replaces a directory.
func (t *Tree) Add(name string, n *Node) error { return t.put(name, n, false) }

// put is Add, or, if all is set, replaces every node but a directory by a directory.
func (t *Tree) put(name string, n *Node, all bool) error {
	parts := split(name)
	if len(parts) == 0 {
		if !n.Mode.IsDir() {
			return errors.New("/ must be a directory")
		}
		n.children, t.root = t.root.children, n
		return nil
	}
	dir, err := t.mkdirs("/"+strings.Join(parts[:len(parts)-1], "/"), 0)
	if err != nil {
		return err
	}
	base := parts[len(parts)-1]
	old := dir.children[base]
	if all && old != nil && !(old.Mode.IsDir() && n.Mode.IsDir()) {
		old = nil
	}
	if n.Mode.IsDir() {
		// A folder that is a link to a folder stays the link.
		if old != nil && old.Mode&fs.ModeSymlink != 0 {
			_, err := t.mkdirs(name, 0)
			return err
		}
		if n.children == nil {
			n.children = map[string]*Node{}
		}
		if old != nil && old.Mode.IsDir() {
			n.children = old.children
		}
	} else if old != nil && old.Mode.IsDir() {
		return fmt.Errorf("%s is a folder in one place and a file in another", name)
	}
	dir.children[base] = n
	return nil
}

const maxLinks = 40 // as Linux, path_resolution(7)

// mkdirs is the directory at a path, made with its parents where missing.
func (t *Tree) mkdirs(name string, depth int) (*Node, error) {
	if depth > maxLinks {
		return nil, fmt.Errorf("%s: too many levels of symbolic links", name)
	}
	n, at := t.root, "/"
	parts := split(name)
	for i, part := range parts {
		next := n.children[part]
		if next == nil {
			next = Dir(0o755)
			n.children[part] = next
			t.made++
		}
		if next.Mode&fs.ModeSymlink != 0 {
			rest := append([]string{linkTarget(at, next.Link)}, parts[i+1:]...)
			return t.mkdirs(path.Join(rest...), depth+1)
		}
		if !next.Mode.IsDir() {
			return nil, fmt.Errorf("%s is a folder in one place and a file in another", path.Join(at, part))
		}
		n, at = next, path.Join(at, part)
		if len(at) > maxPath { // links can lead ever deeper
			return nil, fmt.Errorf("%.40s… is longer than a path can be", at)
		}
	}
	return n, nil
}

// Walk calls fn for every node, parents first, siblings in byte order.
func (t *Tree) Walk(fn func(name string, n *Node) error) error {
	var walk func(name string, n *Node) error
	walk = func(name string, n *Node) error {
		if err := fn(name, n); err != nil {
			return err
		}
		for _, c := range n.Names() {
			if err := walk(path.Join(name, c), n.children[c]); err != nil {
				return err
			}
		}
		return nil
	}
	return walk("/", t.root)
}

func split(name string) []string {
	name = strings.Trim(path.Clean("/"+name), "/")
	if name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

func linkTarget(dir, target string) string {
	if path.IsAbs(target) {
		return path.Clean(target)
	}
	return path.Join(dir, target)
}
