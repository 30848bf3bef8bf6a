package vmm

import "io"

// rootOf is the root of one image, for another.
type rootOf struct{ *io.SectionReader }

func (r rootOf) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r.SectionReader})
}
