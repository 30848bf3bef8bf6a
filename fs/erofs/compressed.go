package erofs

import (
	"sync"

	"github.com/pierrec/lz4/v4"
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// pieceSize is what the pool's buffers hold: an extent of our own writer's.
const pieceSize = 64 << 10

// pieces are buffers for extents and, of a disk, for what they are stored as.
var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// borrow gives n bytes for the time of a read; larger ones are charged to the budget.
func (fs *FS) borrow(n int64) (b []byte, giveBack func(), err error) {
	if n <= pieceSize {
		p := pieces.Get().(*[pieceSize]byte)
		return p[:n], func() { pieces.Put(p) }, nil
	}
	if !fs.mem.Budget().Charge(n) {
		return nil, nil, unix.ENOMEM
	}
	return make([]byte, n), func() { fs.mem.Budget().Uncharge(n) }, nil
}

// readPages fills frames with the pages from idx on, all of which begin inside the file.
// Each physical cluster that they touch is decompressed once.
func (z *index) readPages(c wait.Context, idx int64, frames []hal.PFN) error {
	if z.err != nil {
		return z.err
	}
	l := lookup{index: z, c: c, buf: make([]byte, 32)}
	w := window{fs: z.fs, base: idx * blockSize, frames: frames}
	w.end = min(z.size, w.base+int64(len(frames))*blockSize)
	for pos := w.base; pos < w.end; {
		e, err := l.extent(pos)
		if err == nil {
			err = w.read(c, e)
		}
		if err != nil {
			return err
		}
		pos = e.end
	}
	if n := z.size - w.base; n < int64(len(frames))*blockSize {
		clear(z.fs.mem.Bytes(frames[len(frames)-1])[n%blockSize:])
	}
	return nil
}

// window is the part of a file, bytes base to end, that frames are to hold.
type window struct {
	fs        *FS
	base, end int64
	frames    []hal.PFN
}

// read brings what the window has of an extent.
func (w *window) read(c wait.Context, e extent) error {
	size := e.blocks * blockSize
	var src []byte
	if e.block > w.fs.back.size()/blockSize-e.blocks {
		return errBad
	}
	if src = w.fs.back.view(e.block*blockSize, int(size)); src == nil {
		b, giveBack, err := w.fs.borrow(size)
		if err != nil {
			return err
		}
		defer giveBack()
		if err := w.fs.back.read(c, e.block*blockSize, b); err != nil {
			return err
		}
		src = b
	}
	if e.plain {
		w.put(e.start, src[:e.end-e.start])
		return nil
	}
	if dst := w.place(e); dst != nil {
		return w.fs.decompress(dst, src)
	}
	dst, giveBack, err := w.fs.borrow(e.end - e.start)
	if err != nil {
		return err
	}
	defer giveBack()
	if err := w.fs.decompress(dst, src); err != nil {
		return err
	}
	w.put(e.start, dst)
	return nil
}

// place is where in the window's frames an extent lies, if it does so whole and in one
// piece; else nil.
func (w *window) place(e extent) []byte {
	if e.start < w.base || e.end > w.end {
		return nil
	}
	first := int((e.start - w.base) / blockSize)
	f := w.frames[first : (e.end-w.base+blockSize-1)/blockSize]
	for i := range f {
		if f[i] != f[0]+hal.PFN(i) {
			return nil
		}
	}
	at := e.start % blockSize
	return w.fs.mem.M.FrameRange(f[0], len(f))[at : at+e.end-e.start]
}

// put copies what the window has of the bytes b that are the file's from off on.
func (w *window) put(off int64, b []byte) {
	if off < w.base {
		b, off = b[w.base-off:], w.base
	}
	b = b[:min(int64(len(b)), w.end-off)]
	for len(b) > 0 {
		n := copy(w.fs.mem.Bytes(w.frames[(off-w.base)/blockSize])[off%blockSize:], b)
		b, off = b[n:], off+int64(n)
	}
}

// decompress fills dst with what a physical cluster holds; EIO if it is not that.
func (fs *FS) decompress(dst, src []byte) error {
	if fs.padded {
		// The LZ4 block ends where the physical cluster ends; zeros of less than a
		// block stand before it.
		n := 0
		for n < blockSize && src[n] == 0 {
			n++
		}
		if src = src[n:]; n == blockSize {
			return unix.EIO
		}
	} else {
		src = src[:blockLength(src, len(dst))]
	}
	if n, err := lz4.UncompressBlock(src, dst); err != nil || n != len(dst) {
		return unix.EIO
	}
	return nil
}

// blockLength is how many bytes of src the LZ4 block has that makes want bytes: images
// older than Linux 5.4 do not say. 0: there is none.
func blockLength(src []byte, want int) int {
	// more reads the rest of a length whose 4 bits are all ones.
	i := 0
	more := func(n int) int {
		if n < 15 {
			return n
		}
		for i < len(src) && n <= want {
			b := src[i]
			i++
			if n += int(b); b != 255 {
				return n
			}
		}
		return want + 1
	}
	for made := 0; i < len(src); {
		token := int(src[i])
		i++
		n := more(token >> 4)
		if n > want-made || n > len(src)-i {
			return 0
		}
		if made, i = made+n, i+n; made == want {
			return i
		}
		i += 2 // the offset
		if n = more(token&15) + 4; n > want-made {
			return 0
		}
		made += n
	}
	return 0
}
