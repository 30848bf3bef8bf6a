package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// maxPath is the longest path that Linux takes (PATH_MAX without the final zero).
const maxPath = 4095

// entryCost is what a file or folder counts beside its contents: a header's size in a tar
// archive, and about what it takes in memory.
const entryCost = 512

// AddTar adds a tar archive's files, owners and modes as the archive has them. rename,
// if set, changes paths. What is taken counts at most limit bytes, and no paths are
// longer than Linux takes.
func (t *Tree) AddTar(r *tar.Reader, limit int64, rename func(string) string) error {
	if rename == nil {
		rename = func(s string) string { return s }
	}
	return t.eachEntry(r, limit, rename, t.Add)
}

// What a file of a layer is called that removes another, or all of its folder, from the
// layers below, and what is AUFS's own. See the OCI image specification, "Layer".
const (
	whiteout     = ".wh."
	whiteoutMeta = ".wh..wh."
	opaque       = ".wh..wh..opq"
)

// AddLayer puts a layer of a container image over those below it: what it has replaces
// what is there, but for folders, which are merged, and its whiteouts remove what lower
// layers have. The tree may then count limit bytes in all.
func (t *Tree) AddLayer(r *tar.Reader, limit int64) error {
	counted := map[any]bool{nil: false}
	t.Walk(func(_ string, n *Node) error {
		limit -= entryCost
		if !counted[n.Inode] {
			limit -= n.Size
			counted[n.Inode] = n.Inode != nil
		}
		return nil
	})
	own := map[*Node]bool{} // a layer's own files stay, wherever in it the whiteout stands
	return t.eachEntry(r, limit, path.Clean, func(name string, n *Node) error {
		dir, base := path.Split(path.Clean("/" + name))
		switch hidden, ok := strings.CutPrefix(base, whiteout); {
		case base == opaque:
			return t.hide(dir, "", own)
		case strings.Contains(name, "/"+whiteoutMeta) || strings.HasPrefix(name, whiteoutMeta):
			return nil
		case ok && (hidden == "" || hidden == "." || hidden == ".."):
			return fmt.Errorf("%s removes no file that can be", name)
		case ok:
			return t.hide(dir, hidden, own)
		}
		own[n] = true
		return t.put(name, n, true)
	})
}

// hide removes an entry of a folder, or all of them if it is "", but for what is in keep.
func (t *Tree) hide(dir, base string, keep map[*Node]bool) error {
	_, d, _, err := Resolve(t, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !d.Mode.IsDir() {
		return err
	}
	for name, c := range d.children {
		if (base == "" || name == base) && !c.prune(keep) {
			delete(d.children, name)
		}
	}
	return nil
}

// prune removes what is below a node but for what is in keep, and says whether the node
// itself stays.
func (n *Node) prune(keep map[*Node]bool) bool {
	stays := keep[n]
	for name, c := range n.children {
		if c.prune(keep) {
			stays = true
		} else {
			delete(n.children, name)
		}
	}
	return stays
}

var errTooMuch = errors.New("it unpacks to more than pack takes")

// eachEntry reads an archive and gives add its files one after the other. A hard link is
// another name of the file that it leads to when its turn comes.
func (t *Tree) eachEntry(r *tar.Reader, limit int64, rename func(string) string, add func(string, *Node) error) error {
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(h.Name) > maxPath || len(h.Linkname) > maxPath {
			return fmt.Errorf("%.40s… is longer than a path can be", h.Name)
		}
		if limit -= entryCost; isRegular(h) {
			limit -= h.Size
		}
		if limit < 0 {
			return errTooMuch
		}
		n, err := t.entry(h, r, rename)
		if err != nil {
			return err
		}
		if n == nil {
			continue
		}
		made := t.made
		if err := add(rename(h.Name), n); err != nil {
			return err
		}
		if limit -= (t.made - made) * entryCost; limit < 0 {
			return errTooMuch
		}
	}
}

// isRegular says whether an entry has a file's bytes: sparse ones of GNU tar's old format and
// contiguous ones, which POSIX has made of plain files, do.
func isRegular(h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse || h.Typeflag == tar.TypeCont
}

// entry makes the node of an entry, nil if it is none of a file. What kind of file that is the
// entry's type alone says; its mode may have bits of another.
func (t *Tree) entry(h *tar.Header, r io.Reader, rename func(string) string) (*Node, error) {
	n := &Node{Mode: h.FileInfo().Mode() &^ fs.ModeType, UID: uint32(h.Uid), GID: uint32(h.Gid), MTime: h.ModTime.Unix()}
	if isRegular(h) {
		var b bytes.Buffer
		if _, err := io.Copy(&b, r); err != nil {
			return nil, err
		}
		n.Size, n.Open = h.Size, OpenBytes(b.Bytes())
		return n, nil
	}
	switch h.Typeflag {
	case tar.TypeDir:
		n.Mode |= fs.ModeDir
		n.MTime = Epoch
	case tar.TypeSymlink:
		n.Link, n.MTime = h.Linkname, Epoch
		n.Mode = fs.ModeSymlink | 0o777
	case tar.TypeLink:
		old, err := t.linked(rename(h.Linkname))
		if err != nil {
			return nil, fmt.Errorf("%s is a hard link to %s, which is not there", h.Name, h.Linkname)
		}
		if old.Mode.IsDir() { // it would be its own child
			return nil, fmt.Errorf("%s is a hard link to the folder %s", h.Name, h.Linkname)
		}
		if old.Inode == nil {
			old.Inode = new(byte)
		}
		c := *old
		n = &c
	case tar.TypeFifo:
		n.Mode |= fs.ModeNamedPipe
	case tar.TypeChar:
		n.Mode |= fs.ModeDevice | fs.ModeCharDevice
		n.Rdev = rdev(h)
	case tar.TypeBlock:
		n.Mode |= fs.ModeDevice
		n.Rdev = rdev(h)
	default:
		return nil, nil
	}
	return n, nil
}

func rdev(h *tar.Header) uint32 {
	return uint32(h.Devmajor<<8 | h.Devminor&0xff | h.Devminor&^0xff<<12)
}

// linked is what a hard link to a path leads to: a symbolic link itself, as in link(2).
func (t *Tree) linked(name string) (*Node, error) {
	dir, base := path.Split(path.Clean("/" + name))
	real, _, _, err := Resolve(t, dir)
	if err != nil {
		return nil, err
	}
	return t.Lstat(path.Join(real, base))
}
