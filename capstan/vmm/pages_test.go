package vmm

import "io"

// pages is a root of so many empty pages.
type pages int

func (p pages) Size() int64 { return int64(p) * 4096 }

func (p pages) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(make([]byte, p.Size()))
	return int64(n), err
}
