package erofs

import (
	"bytes"
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/wait"
)

// scratch is where blocks of a folder on disk are read to.
var scratch = sync.Pool{New: func() any { return new([blockSize]byte) }}

// dirBlock is one block of a folder: entries in byte order, names behind them.
type dirBlock struct {
	b []byte
	n int // entries
}

// dirBlock reads block k of a folder.
func (i *Inode) dirBlock(c wait.Context, k int64, buf []byte) (d dirBlock, err error) {
	off, n := i.lay.at(k)
	if d.b, err = i.fs.bytes(c, off, n, buf); err != nil {
		return d, err
	}
	if n < direntSize {
		return d, errBad
	}
	first := int(binary.LittleEndian.Uint16(d.b[8:]))
	if first < direntSize || first%direntSize != 0 || first > n {
		return d, errBad
	}
	d.n = first / direntSize
	return d, nil
}

// entry decodes entry k; false if it is damaged.
func (d *dirBlock) entry(k int) (nid uint64, name []byte, typ uint8, ok bool) {
	le := binary.LittleEndian
	e := d.b[k*direntSize:]
	nid, typ = le.Uint64(e), e[10]
	at, end := int(le.Uint16(e[8:])), len(d.b)
	if k+1 < d.n {
		end = int(le.Uint16(e[direntSize+8:]))
	}
	if at < d.n*direntSize || at > end || end > len(d.b) {
		return 0, nil, 0, false
	}
	name = d.b[at:end]
	if k+1 == d.n {
		if z := bytes.IndexByte(name, 0); z >= 0 {
			name = name[:z]
		}
	}
	if len(name) == 0 || len(name) > unix.NAME_MAX || bytes.IndexByte(name, '/') >= 0 || bytes.IndexByte(name, 0) >= 0 {
		return 0, nil, 0, false
	}
	return nid, name, typ, true
}

// Lookup implements vfs.Inode: a binary search over the blocks by their first names, then
// inside one block.
func (i *Inode) Lookup(c wait.Context, name string) (vfs.Inode, error) {
	if i.kind != unix.S_IFDIR {
		return nil, unix.ENOTDIR
	}
	buf := scratch.Get().(*[blockSize]byte)
	defer scratch.Put(buf)
	lo, hi := int64(0), (i.lay.size+blockSize-1)/blockSize
	for lo < hi {
		mid := lo + (hi-lo)/2
		d, err := i.dirBlock(c, mid, buf[:])
		if err != nil {
			return nil, err
		}
		_, first, _, ok := d.entry(0)
		if !ok {
			return nil, errBad
		}
		if name < string(first) {
			hi = mid
			continue
		}
		_, last, _, ok := d.entry(d.n - 1)
		if !ok {
			return nil, errBad
		}
		if name > string(last) {
			lo = mid + 1
			continue
		}
		nid, err := d.find(name)
		if err != nil {
			return nil, err
		}
		k, err := i.fs.inode(c, nid)
		if err != nil {
			return nil, err
		}
		return k, nil
	}
	return nil, unix.ENOENT
}

func (d *dirBlock) find(name string) (uint64, error) {
	lo, hi := 0, d.n
	for lo < hi {
		mid := (lo + hi) / 2
		nid, n, _, ok := d.entry(mid)
		switch {
		case !ok:
			return 0, errBad
		case name < string(n):
			hi = mid
		case name > string(n):
			lo = mid + 1
		default:
			return nid, nil
		}
	}
	return 0, unix.ENOENT
}

// types turns EROFS_FT_* into DT_*.
var types = [...]uint8{unix.DT_UNKNOWN, unix.DT_REG, unix.DT_DIR, unix.DT_CHR, unix.DT_BLK, unix.DT_FIFO, unix.DT_SOCK, unix.DT_LNK}

// list implements vfs.DirOps.List. A cookie is block<<12 | entry.
func (i *Inode) list(c wait.Context, pos *int64, emit func(e vfs.Dirent) bool) error {
	buf := scratch.Get().(*[blockSize]byte)
	defer scratch.Put(buf)
	for {
		k, n := *pos>>12, int(*pos&(1<<12-1))
		if k < 0 || k >= (i.lay.size+blockSize-1)/blockSize {
			return nil
		}
		d, err := i.dirBlock(c, k, buf[:])
		if err != nil {
			return err
		}
		for ; n < d.n; n++ {
			nid, name, typ, ok := d.entry(n)
			if !ok {
				return errBad
			}
			if int(typ) >= len(types) {
				typ = 0
			}
			next := k<<12 | int64(n+1)
			if !emit(vfs.Dirent{Name: string(name), Ino: nid, Type: types[typ], Next: next}) {
				return nil
			}
			*pos = next
		}
		*pos = (k + 1) << 12
	}
}
