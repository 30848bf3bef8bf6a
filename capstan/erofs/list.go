package erofs

import (
	"encoding/binary"
	"io"
	"io/fs"

	goerofs "github.com/erofs/go-erofs"
)

// List opens an image to show its files: names, links and attributes, and the contents
// of those that are not compressed.
func List(r io.ReaderAt) (fs.FS, error) { return goerofs.Open(known{r}) }

// known hides the features that only the contents of compressed files need from a
// library that refuses images with them.
type known struct{ io.ReaderAt }

func (k known) ReadAt(p []byte, off int64) (int, error) {
	n, err := k.ReaderAt.ReadAt(p, off)
	if at := superOffset - off; at >= 0 && at+superSize <= int64(n) {
		sb, le := p[at:], binary.LittleEndian
		le.PutUint32(sb[featuresAt:], le.Uint32(sb[featuresAt:])&^(incompatPadding|incompatBig))
		le.PutUint16(sb[algorithmsAt:], 0)
	}
	return n, err
}
