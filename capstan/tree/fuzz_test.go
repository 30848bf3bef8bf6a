package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"testing"
)

// Whatever a tar archive (a package's data, a layer of a container image) holds, it is
// refused or makes a tree that has an end and no more bytes than allowed.
func FuzzTar(f *testing.F) {
	archive := func(hs ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range hs {
			h.Mode, h.Size = 0o755, 0
			if h.Typeflag == tar.TypeReg {
				h.Size = 3
			}
			w.WriteHeader(&h)
			w.Write([]byte("abc")[:h.Size])
		}
		w.Close()
		return b.Bytes()
	}
	f.Add(archive(tar.Header{Name: "a/b", Typeflag: tar.TypeReg}, tar.Header{Name: "l", Linkname: "a", Typeflag: tar.TypeSymlink}, tar.Header{Name: "l/c", Typeflag: tar.TypeDir}))
	f.Add(archive(tar.Header{Name: "a", Typeflag: tar.TypeDir}, tar.Header{Name: "a/b", Linkname: "a", Typeflag: tar.TypeLink}))
	f.Add(archive(tar.Header{Name: "l", Linkname: "l", Typeflag: tar.TypeSymlink}, tar.Header{Name: "l/x", Typeflag: tar.TypeFifo}, tar.Header{Name: "../../x", Typeflag: tar.TypeReg}))
	f.Add(archive(tar.Header{Name: "x", Typeflag: tar.TypeReg}, tar.Header{Name: "y", Linkname: "x", Typeflag: tar.TypeLink}, tar.Header{Name: "x/y", Typeflag: tar.TypeChar, Devmajor: 1}))
	f.Add(archive(tar.Header{Name: "d/f", Typeflag: tar.TypeReg}, tar.Header{Name: "d/.wh..wh..opq", Typeflag: tar.TypeReg}, tar.Header{Name: ".wh.d", Typeflag: tar.TypeReg}))
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 20
		tr := New()
		tr.AddTar(tar.NewReader(bytes.NewReader(b)), limit, nil)
		tr.AddLayer(tar.NewReader(bytes.NewReader(b)), limit)
		// Each header makes a node and its parents.
		most, size := 10+2*len(b)/512*(maxPath/2), int64(0)
		seen := map[*Node]bool{}
		err := tr.Walk(func(name string, n *Node) error {
			if most--; most < 0 || seen[n] {
				return errors.New("it has no end")
			}
			seen[n] = true
			if n.Mode.IsRegular() {
				b, err := n.ReadAll()
				if size += int64(len(b)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		for _, n := range []string{"/l/c", "/a/b/../x", "/l"} {
			Resolve(tr, n)
		}
	})
}
