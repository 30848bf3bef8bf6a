package tree

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
)

// maxPath is the longest path that Linux takes (PATH_MAX without the final zero).
const maxPath = 4095

// AddTar adds a tar archive's files, owners and modes as the archive has them. rename,
// if set, changes paths. At most limit bytes of contents are taken, and no longer paths
// than Linux takes.
func (t *Tree) AddTar(r *tar.Reader, limit int64, rename func(string) string) error {
	if rename == nil {
		rename = func(s string) string { return s }
	}
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
		n := &Node{Mode: h.FileInfo().Mode(), UID: uint32(h.Uid), GID: uint32(h.Gid), MTime: h.ModTime.Unix()}
		switch h.Typeflag {
		case tar.TypeReg:
			if limit -= h.Size; limit < 0 {
				return fmt.Errorf("it unpacks to more than pack takes")
			}
			var b bytes.Buffer
			if _, err := io.Copy(&b, r); err != nil {
				return err
			}
			n.Size, n.Open = h.Size, OpenBytes(b.Bytes())
		case tar.TypeDir:
			n.MTime = Epoch
		case tar.TypeSymlink:
			n.Link, n.MTime = h.Linkname, Epoch
			n.Mode = fs.ModeSymlink | 0o777
		case tar.TypeLink:
			_, old, _, err := Resolve(t, rename(h.Linkname))
			if err != nil {
				return fmt.Errorf("%s is a hard link to %s, which is not there", h.Name, h.Linkname)
			}
			if old.Mode.IsDir() { // it would be its own child
				return fmt.Errorf("%s is a hard link to the folder %s", h.Name, h.Linkname)
			}
			c := *old
			n = &c
		case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
			n.Rdev = uint32(h.Devmajor<<8 | h.Devminor&0xff | h.Devminor&^0xff<<12)
		default:
			continue
		}
		if err := t.Add(rename(h.Name), n); err != nil {
			return err
		}
	}
}
