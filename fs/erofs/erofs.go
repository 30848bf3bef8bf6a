// Package erofs reads EROFS images, the root file system of an image, in blocks of
// 4 KiB: uncompressed files (FLAT_PLAIN, and FLAT_INLINE whose tails stand behind the
// inode) and files compressed by LZ4 (index.go), as mkfs.erofs writes them by itself.
//
//	fs, err := erofs.Open(c, mem, erofs.Frames(mem, bootInfo.RootFrame, bootInfo.RootSize))
//	fs, err := erofs.Open(c, mem, erofs.Device(mem, disk))
//
// There are two backings. An image in memory is its own page cache: files map its
// frames, but for what is compressed. A disk is read through two kinds of cache: inodes and folders through one
// mm.Object over the device, file contents into the frames of the file's own Object.
//
// An image may be hostile: every offset, count and length is checked where it is used,
// and what does not hold is EUCLEAN (EFSCORRUPTED, as Linux answers). What Linux 6.1 can
// read and this package cannot is EOPNOTSUPP; bytes that do not decompress are EIO.
//
// Inodes are found by number in a table of weak pointers: who uses one keeps it, and the
// collector's clean-up gives its page cache back. FS.mu guards the table and is a leaf.
//
// Field layout: fs/erofs/erofs_fs.h of Linux 6.1.
package erofs

import (
	"encoding/binary"
	"hash/crc32"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

const (
	superOffset = 1024
	superSize   = 128
	magic       = 0xE0F5E1E2
	superMagic  = 0xE0F5E1E2 // f_type
	blockSize   = hal.PageSize
	nidSize     = 32
	direntSize  = 12
	compatSum   = 1
	// maxSize bounds st_size so that offsets never overflow.
	maxSize = 1 << 44

	flatPlain  = 0
	flatInline = 2

	// Incompatible features that are known: zeros before compressed data (not behind),
	// and parameters of algorithms with physical clusters of several blocks (one bit).
	incompatPadding = 1
	incompatBig     = 2
	algorithmLZ4    = 1
)

var errBad error = unix.EUCLEAN

// Backing is where an image's bytes are.
type Backing interface {
	// size in bytes.
	size() int64
	// read fills b from off; the caller has checked the range.
	read(c wait.Context, off int64, b []byte) error
	// view is the image's own bytes at off where it lies in memory, else nil.
	view(off int64, n int) []byte
	// frames is the first frame of up to most blocks from n on, and how many there are,
	// where the image lies in memory.
	frames(n, most int64) (hal.PFN, int64)
	// readFrames fills frames from block n on.
	readFrames(c wait.Context, n int64, frames []hal.PFN) error
}

type inMemory struct {
	mem   *mm.Memory
	first hal.PFN
	b     []byte
}

// Frames is an image in consecutive frames. They become KindImage: never freed.
func Frames(mem *mm.Memory, first hal.PFN, size int64) Backing {
	n := int((size + hal.PageMask) >> hal.PageShift)
	if n == 0 {
		return &inMemory{mem: mem, first: first}
	}
	mem.MarkImage(first, n)
	return &inMemory{mem: mem, first: first, b: mem.M.FrameRange(first, n)[:size]}
}

func (m *inMemory) size() int64                  { return int64(len(m.b)) }
func (m *inMemory) view(off int64, n int) []byte { return m.b[off : off+int64(n)] }
func (m *inMemory) read(_ wait.Context, off int64, b []byte) error {
	copy(b, m.b[off:])
	return nil
}
func (m *inMemory) frames(n, most int64) (hal.PFN, int64) {
	return m.first + hal.PFN(n), max(min(most, int64(len(m.b))/blockSize-n), 0)
}
func (m *inMemory) readFrames(_ wait.Context, n int64, frames []hal.PFN) error {
	for i, f := range frames {
		b := m.mem.Bytes(f)
		off := min((n+int64(i))*blockSize, int64(len(m.b)))
		clear(b[copy(b, m.b[off:]):])
	}
	return nil
}

type onDisk struct {
	dev  mm.BlockDevice
	meta *mm.Object
}

// devSource shows a device as the pages of an Object.
type devSource struct{ dev mm.BlockDevice }

func (devSource) ImageRun(int64, int) (hal.PFN, int) { return 0, 0 }
func (s devSource) ReadPages(c wait.Context, idx int64, frames []hal.PFN) error {
	return s.dev.ReadFrames(c, idx*blockSize, frames)
}
func (devSource) WritePages(wait.Context, int64, []hal.PFN) error { return unix.EROFS }

// Device is an image on a disk.
func Device(mem *mm.Memory, dev mm.BlockDevice) Backing {
	return &onDisk{dev: dev, meta: mm.NewObject(mem, devSource{dev}, dev.Size()&^(blockSize-1))}
}

func (d *onDisk) size() int64                          { return d.meta.Size() }
func (d *onDisk) view(int64, int) []byte               { return nil }
func (d *onDisk) frames(int64, int64) (hal.PFN, int64) { return 0, 0 }
func (d *onDisk) read(c wait.Context, off int64, b []byte) error {
	q := mm.KernelIO(b)
	n, err := d.meta.ReadAt(c, &q, off)
	if err == nil && n < len(b) {
		err = unix.EIO
	}
	return err
}
func (d *onDisk) readFrames(c wait.Context, n int64, frames []hal.PFN) error {
	return d.dev.ReadFrames(c, n*blockSize, frames)
}

// FS is a mounted image.
type FS struct {
	mem    *mm.Memory
	back   Backing
	dev    uint64
	meta   int64 // byte offset of inode 0
	blocks int64
	inos   uint64
	padded bool // incompatPadding
	big    bool // incompatBig
	root   *Inode

	mu    sync.Mutex
	table map[uint64]weak.Pointer[Inode]
}

// Open checks the superblock and reads the root. EINVAL: not an EROFS image, or one with
// features this reader lacks; EUCLEAN: damaged.
func Open(c wait.Context, mem *mm.Memory, b Backing) (*FS, error) {
	if b.size() < superOffset+superSize {
		return nil, unix.EINVAL
	}
	block := make([]byte, min(blockSize, b.size()))
	if err := b.read(c, 0, block); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	sb := block[superOffset:]
	features := le.Uint32(sb[80:])
	if le.Uint32(sb) != magic || sb[12] != 12 || features&^(incompatPadding|incompatBig) != 0 ||
		features&incompatBig != 0 && le.Uint16(sb[84:])&^algorithmLZ4 != 0 {
		return nil, unix.EINVAL
	}
	fs := &FS{mem: mem, back: b, dev: vfs.AllocDev(), blocks: int64(le.Uint32(sb[36:])),
		meta: int64(le.Uint32(sb[40:])) * blockSize, inos: le.Uint64(sb[16:]),
		padded: features&incompatPadding != 0, big: features&incompatBig != 0,
		table: map[uint64]weak.Pointer[Inode]{}}
	if fs.blocks*blockSize > b.size() || len(block) < blockSize {
		return nil, errBad
	}
	if le.Uint32(sb[8:])&compatSum != 0 {
		want := le.Uint32(sb[4:])
		clear(sb[4:8])
		// The sum starts from all ones and its end is not inverted.
		if ^crc32.Checksum(sb, crc32.MakeTable(crc32.Castagnoli)) != want {
			return nil, errBad
		}
	}
	root, err := fs.inode(c, uint64(le.Uint16(sb[14:])))
	if err != nil {
		return nil, err
	}
	if root.kind != unix.S_IFDIR {
		return nil, errBad
	}
	fs.root = root
	return fs, nil
}

// Root, Type, Options, Sync and Statfs implement vfs.FileSystem.
func (fs *FS) Root() vfs.Inode         { return fs.root }
func (fs *FS) Type() string            { return "erofs" }
func (fs *FS) Options() string         { return "" }
func (fs *FS) Sync(wait.Context) error { return nil }

// Statfs implements vfs.FileSystem.
func (fs *FS) Statfs(wait.Context) (vfs.Statfs, error) {
	return vfs.Statfs{Type: superMagic, BlockSize: blockSize, Blocks: uint64(fs.blocks), Files: fs.inos, NameLen: unix.NAME_MAX}, nil
}

// bytes gives n bytes of the image at off: the image's own where it lies in memory, else
// a copy in buf (grown if too small).
func (fs *FS) bytes(c wait.Context, off int64, n int, buf []byte) ([]byte, error) {
	if off < 0 || n < 0 || off > fs.back.size()-int64(n) {
		return nil, errBad
	}
	if v := fs.back.view(off, n); v != nil {
		return v, nil
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	return buf[:n], fs.back.read(c, off, buf[:n])
}

// Inode is one node of the image.
type Inode struct {
	vfs.BaseInode
	fs   *FS
	nid  uint64
	kind uint32
	attr vfs.Attr
	lay  layout
	ops  vfs.RegularOps
	slot vfs.Slot

	mu     sync.Mutex
	obj    atomic.Pointer[mm.Object]
	target string
}

// layout says where a file's bytes are. It is the Source of the file's Object, and so
// must not point at the Inode (which the collector watches).
type layout struct {
	fs     *FS
	block  int64 // first whole block
	size   int64
	inline int64  // byte offset of the tail behind the inode, 0 if there is none
	z      *index // of a compressed file
	// padding says whether zeros follow the file's end: the image never changes, so
	// its last page is searched once, not at every read.
	padding uint32 // atomic
}

// Values of layout.padding; its zero means that nobody has looked.
const (
	zeroPadding uint32 = 1 + iota
	otherPadding
)

// padded says whether the n bytes of the last page at off are followed by zeros.
func (l *layout) padded(off int64, n int) bool {
	p := atomic.LoadUint32(&l.padding)
	if p == 0 {
		p = zeroPadding
		for _, b := range l.fs.back.view(off, blockSize)[n:] {
			if b != 0 {
				p = otherPadding
				break
			}
		}
		atomic.StoreUint32(&l.padding, p)
	}
	return p == zeroPadding
}

// inode finds node nid.
func (fs *FS) inode(c wait.Context, nid uint64) (*Inode, error) {
	fs.mu.Lock()
	if i := fs.table[nid].Value(); i != nil {
		fs.mu.Unlock()
		return i, nil
	}
	fs.mu.Unlock()
	i, err := fs.load(c, nid)
	if err != nil {
		return nil, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if o := fs.table[nid].Value(); o != nil {
		return o, nil
	}
	fs.table[nid] = weak.Make(i)
	runtime.AddCleanup(i, fs.forget, nid)
	return i, nil
}

// forget drops a table entry whose inode is gone.
func (fs *FS) forget(nid uint64) {
	fs.mu.Lock()
	if w, ok := fs.table[nid]; ok && w.Value() == nil {
		delete(fs.table, nid)
	}
	fs.mu.Unlock()
}

// load decodes an inode.
func (fs *FS) load(c wait.Context, nid uint64) (*Inode, error) {
	if nid > 1<<40 {
		return nil, errBad
	}
	off := fs.meta + int64(nid)*nidSize
	var buf [64]byte
	p, err := fs.bytes(c, off, 32, buf[:])
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	format := le.Uint16(p)
	i := &Inode{fs: fs, nid: nid}
	a := &i.attr
	a.Mode, a.Dev, a.Ino, a.BlockSize = uint32(le.Uint16(p[4:])), fs.dev, nid, blockSize
	n := int64(32)
	if format&1 != 0 {
		n = 64
		if p, err = fs.bytes(c, off, 64, buf[:]); err != nil {
			return nil, err
		}
		a.Size, a.UID, a.GID, a.Nlink = int64(le.Uint64(p[8:])), le.Uint32(p[24:]), le.Uint32(p[28:]), le.Uint32(p[44:])
		sec, ns := int64(le.Uint64(p[32:])), int64(le.Uint32(p[40:]))
		if sec > 1<<33 || sec < 0 || ns >= 1e9 {
			sec, ns = 0, 0
		}
		a.Mtime = sec*1e9 + ns
	} else {
		a.Nlink, a.Size = uint32(le.Uint16(p[6:])), int64(le.Uint32(p[8:]))
		a.UID, a.GID = uint32(le.Uint16(p[24:])), uint32(le.Uint16(p[26:]))
	}
	a.Atime, a.Ctime, a.Btime = a.Mtime, a.Mtime, a.Mtime
	i.kind = a.Mode & unix.S_IFMT
	u := le.Uint32(p[16:])
	if a.Size < 0 || a.Size > maxSize {
		return nil, errBad
	}
	a.Blocks = (a.Size + 511) / 512
	xattr := int64(0)
	if x := int64(le.Uint16(p[2:])); x != 0 {
		xattr = 12 + (x-1)*4
	}
	i.lay = layout{fs: fs, block: int64(u), size: a.Size}
	switch i.kind {
	case unix.S_IFREG:
		i.ops.I = i
	case unix.S_IFDIR, unix.S_IFLNK:
	case unix.S_IFCHR, unix.S_IFBLK:
		// new_encode_dev: minor in bits 0-7 and 20-31, major in 8-19.
		a.Rdev = unix.Mkdev(u>>8&0xfff, u&0xff|u>>12&0xfff00)
		a.Size = 0
		return i, nil
	case unix.S_IFIFO, unix.S_IFSOCK:
		a.Size = 0
		return i, nil
	default:
		return nil, errBad
	}
	if kind := int(format >> 1 & 7); kind == zFull || kind == zCompact {
		if i.kind != unix.S_IFREG {
			return nil, unix.EOPNOTSUPP
		}
		a.Blocks = int64(u) * (blockSize / 512)
		i.lay.z, err = fs.newIndex(c, kind, off+n+xattr, a.Size)
	} else {
		err = i.lay.check(kind, off+n+xattr)
	}
	return i, err
}

// check makes sure that the file's bytes lie in the image.
func (l *layout) check(kind int, tail int64) error {
	whole := (l.size + blockSize - 1) / blockSize
	switch kind {
	case flatPlain:
	case flatInline:
		if r := l.size % blockSize; r != 0 {
			whole--
			if tail%blockSize+r > blockSize || tail+r > l.fs.back.size() {
				return errBad
			}
			l.inline = tail
		}
	default:
		return unix.EOPNOTSUPP
	}
	if whole > 0 && (l.block == 0 || l.block+whole > l.fs.back.size()/blockSize) {
		return errBad
	}
	return nil
}

// at is the image offset of the page idx of the file, and how many bytes it has.
func (l *layout) at(idx int64) (off int64, n int) {
	n = int(min(l.size-idx*blockSize, blockSize))
	if l.inline != 0 && n < blockSize {
		return l.inline, n
	}
	return (l.block + idx) * blockSize, n
}

// ImageRun implements mm.Source. The last page of a file is mapped as it is only if
// zeros follow the file's end, which a mapping would show.
func (l *layout) ImageRun(idx int64, most int) (hal.PFN, int) {
	if l.z != nil {
		if _, ok := l.fs.back.(*inMemory); !ok || idx < 0 {
			return 0, 0
		}
		block, n := l.z.run(idx, most)
		f, n := l.fs.back.frames(block, n)
		return f, int(n)
	}
	whole, tail := l.size/blockSize, int(l.size%blockSize)
	end := whole
	if tail > 0 && l.inline == 0 {
		end++
	}
	if idx < 0 || idx >= end {
		return 0, 0
	}
	f, n := l.fs.back.frames(l.block+idx, min(int64(most), end-idx))
	if idx+n > whole && !l.padded((l.block+whole)*blockSize, tail) {
		n--
	}
	return f, int(n)
}

// ReadPages implements mm.Source.
func (l *layout) ReadPages(c wait.Context, idx int64, frames []hal.PFN) error {
	for len(frames) > 0 && idx*blockSize >= l.size {
		clear(l.fs.mem.Bytes(frames[len(frames)-1]))
		frames = frames[:len(frames)-1]
	}
	if len(frames) == 0 {
		return nil
	}
	last := idx + int64(len(frames)) - 1
	for last*blockSize >= l.size {
		clear(l.fs.mem.Bytes(frames[len(frames)-1]))
		frames, last = frames[:len(frames)-1], last-1
	}
	if l.z != nil {
		return l.z.readPages(c, idx, frames)
	}
	off, n := l.at(last)
	whole := frames
	if l.inline != 0 && n < blockSize {
		whole = frames[:len(frames)-1]
		b := l.fs.mem.Bytes(frames[len(frames)-1])
		if err := l.fs.back.read(c, off, b[:n]); err != nil {
			return err
		}
	}
	if len(whole) > 0 {
		if err := l.fs.back.readFrames(c, l.block+idx, whole); err != nil {
			return err
		}
	}
	if n < blockSize {
		clear(l.fs.mem.Bytes(frames[len(frames)-1])[n:])
	}
	return nil
}

// Group implements mm.Grouped.
func (l *layout) Group() int {
	if l.z != nil {
		return l.z.group
	}
	return 1
}

// WritePages implements mm.Source.
func (l *layout) WritePages(wait.Context, int64, []hal.PFN) error { return unix.EROFS }

// Slot implements vfs.Slotted.
func (i *Inode) Slot() *vfs.Slot { return &i.slot }

// Type is the S_IFMT bits.
func (i *Inode) Type() uint32 { return i.kind }

// Attr implements vfs.Inode.
func (i *Inode) Attr(wait.Context) (vfs.Attr, error) { return i.attr, nil }

// SetAttr and the changing calls answer EROFS.
func (i *Inode) SetAttr(wait.Context, vfs.SetAttr) error { return unix.EROFS }
func (i *Inode) Create(wait.Context, string, vfs.NewNode) (vfs.Inode, error) {
	return nil, unix.EROFS
}
func (i *Inode) Link(wait.Context, string, vfs.Inode) error         { return unix.EROFS }
func (i *Inode) Remove(wait.Context, string, vfs.Inode, bool) error { return unix.EROFS }

// Rename implements vfs.Inode.
func (i *Inode) Rename(wait.Context, string, vfs.Inode, vfs.Inode, string, vfs.Inode, bool) error {
	return unix.EROFS
}

// Data and Touched implement vfs.RegularInode.
func (i *Inode) Data() *mm.Object {
	if o := i.obj.Load(); o != nil {
		return o
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.obj.Load() == nil {
		src := i.lay
		o := mm.NewObject(i.fs.mem, &src, i.lay.size)
		runtime.AddCleanup(i, (*mm.Object).DecRef, o)
		i.obj.Store(o)
	}
	return i.obj.Load()
}

// Touched implements vfs.RegularInode: an image keeps no times of access.
func (i *Inode) Touched(bool) {}

// OpenFile implements vfs.FileOpener.
func (i *Inode) OpenFile(l vfs.Lookup, flags uint32) (vfs.FileOps, error) {
	if i.kind == unix.S_IFCHR || i.kind == unix.S_IFBLK {
		return vfs.OpenDevice(l, i, i.kind, i.attr.Rdev, flags)
	}
	return i.Open(l.C, flags)
}

// Open implements vfs.Inode.
func (i *Inode) Open(c wait.Context, flags uint32) (vfs.FileOps, error) {
	switch i.kind {
	case unix.S_IFREG:
		if flags&unix.O_ACCMODE != unix.O_RDONLY {
			return nil, unix.EROFS
		}
		return &i.ops, nil
	case unix.S_IFDIR:
		return &vfs.DirOps{I: i, List: i.list}, nil
	case unix.S_IFIFO:
		if vfs.FIFO != nil {
			return vfs.FIFO(c, i, flags)
		}
	}
	return nil, unix.ENXIO
}

// Readlink implements vfs.Inode.
func (i *Inode) Readlink(c wait.Context) (string, error) {
	if i.kind != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	i.mu.Lock()
	t := i.target
	i.mu.Unlock()
	if t != "" {
		return t, nil
	}
	if i.lay.size == 0 || i.lay.size >= blockSize {
		return "", errBad
	}
	off, n := i.lay.at(0)
	b, err := i.fs.bytes(c, off, n, nil)
	if err != nil {
		return "", err
	}
	for _, ch := range b {
		if ch == 0 {
			return "", errBad
		}
	}
	t = string(b)
	i.mu.Lock()
	i.target = t
	i.mu.Unlock()
	return t, nil
}

var _ vfs.RegularInode = (*Inode)(nil)
