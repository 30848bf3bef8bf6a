// Package erofs writes the root image: an EROFS file system whose files the kernel maps
// page by page straight from the image, but for those that it compresses (compress.go).
//
// Everything is in the plainest layout the format has. Blocks are 4 KiB. All inodes
// are extended (64 bytes, so that each has its own time stamp) and stand one after
// the other behind the superblock, the root first. Then come folders, link targets
// and file contents, each from a block of its own (FLAT_PLAIN) with the last block
// filled up with zeros: byte N of a file is at a fixed address, and a page of it is
// a page of the image. A compressed file has its index behind its inode. Nothing depends
// on the clock or on the order of a map, so the same tree gives the same bytes.
//
// The library github.com/erofs/go-erofs also writes images but puts small files
// behind their inodes, where they cannot be mapped; it is what the tests read with.
//
// Field layout: fs/erofs/erofs_fs.h of Linux 6.1.
package erofs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"

	"kiln/capstan/tree"
)

// BlockSize is a page.
const BlockSize = 4096

const (
	superOffset = 1024
	superSize   = 128
	magic       = 0xE0F5E1E2
	// metaStart is where inodes begin; an inode's number is its offset / 32. In an
	// image with compressed files LZ4's parameters stand before them.
	metaStart    = superOffset + superSize
	parameters   = 64
	inodeSize    = 64
	nidSize      = 32
	direntSize   = 12
	maxName      = 255
	compatSBCsum = 1 // EROFS_FEATURE_COMPAT_SB_CHKSUM
)

// Layout is a planned image: the place of everything, with no file read yet.
type Layout struct {
	inodes []*inode
	blocks uint32
	meta   int64 // where inodes begin
	end    int64 // where they end
}

type inode struct {
	path   string
	node   *tree.Node
	nid    uint64
	nlink  uint32
	block  uint32 // first data block
	size   int64
	dir    []byte // a folder's data
	z      *compressed
	parent *inode
}

// blocks is how many blocks the inode's data takes.
func (in *inode) blocks() uint64 {
	if in.z != nil {
		return uint64(in.z.blocks)
	}
	return uint64(in.size+BlockSize-1) / BlockSize
}

// Plan lays a tree out. Files that it compresses it has read; it keeps what they became.
func Plan(t *tree.Tree, z Compression) (*Layout, error) {
	l := &Layout{meta: metaStart}
	byPath, err := l.gather(t)
	if err != nil {
		return nil, err
	}
	any, err := compress(l.inodes, z)
	if err != nil {
		return nil, err
	}
	if any {
		l.meta += parameters
	}
	l.end = l.meta
	for _, in := range l.inodes {
		in.nid = uint64(l.end) / nidSize
		l.end += (inodeSize + in.z.indexSize() + inodeSize - 1) &^ (inodeSize - 1)
	}
	next := uint64(l.end+BlockSize-1) / BlockSize
	place := func(in *inode) {
		if in.size > 0 {
			in.block = uint32(next)
			next += in.blocks()
		}
	}
	// Folders and links first: what a look-up touches is close together.
	for _, in := range l.inodes {
		switch {
		case in.node.Mode.IsDir():
			in.dir = dirData(in, byPath)
			in.size = int64(len(in.dir))
			place(in)
		case in.node.Mode&fs.ModeSymlink != 0:
			in.size = int64(len(in.node.Link))
			if in.size == 0 || in.size >= BlockSize {
				return nil, fmt.Errorf("the target of the link %s has %d bytes", in.path, in.size)
			}
			place(in)
		}
	}
	for _, in := range l.inodes {
		if in.node.Mode.IsRegular() {
			place(in)
		}
	}
	if next > 1<<32-1 {
		return nil, errors.New("the root is larger than 16 TiB")
	}
	l.blocks = uint32(next)
	return l, nil
}

// file is what the names of one file have in common. A name whose owner or mode was changed
// alone is a file of its own.
type file struct {
	inode      any
	mode       fs.FileMode
	uid, gid   uint32
	mtime, len int64
}

func fileOf(n *tree.Node) file { return file{n.Inode, n.Mode, n.UID, n.GID, n.MTime, n.Size} }

// gather makes the inodes, each where the tree's order has the first of its names.
func (l *Layout) gather(t *tree.Tree) (byPath map[string]*inode, err error) {
	byPath = map[string]*inode{}
	byFile := map[file]*inode{}
	err = t.Walk(func(name string, n *tree.Node) error {
		if base := path.Base(name); len(base) > maxName {
			return fmt.Errorf("the name of %s is longer than %d bytes", name, maxName)
		}
		if first := byFile[fileOf(n)]; first != nil {
			first.nlink++
			byPath[name] = first
			return nil
		}
		in := &inode{path: name, node: n, nlink: 1}
		if n.Inode != nil {
			byFile[fileOf(n)] = in
		}
		if n.Mode.IsRegular() {
			in.size = n.Size
		}
		in.parent = byPath[path.Dir(name)]
		if in.parent == nil {
			in.parent = in // the root is its own parent
		}
		byPath[name] = in
		l.inodes = append(l.inodes, in)
		if n.Mode.IsDir() {
			in.nlink = 2
			if in.parent != in {
				in.parent.nlink++
			}
		}
		return nil
	})
	return byPath, err
}

// Size is the image's length in bytes, a multiple of BlockSize.
func (l *Layout) Size() int64 { return int64(l.blocks) * BlockSize }

// Files is the number of inodes.
func (l *Layout) Files() int { return len(l.inodes) }

// dirData encodes a folder: entries in byte order, "." and ".." among them, as many
// as fit into a block with their names behind them.
func dirData(in *inode, byPath map[string]*inode) []byte {
	type entry struct {
		name string
		nid  uint64
		typ  byte
	}
	var ents []entry
	dots := []entry{{".", in.nid, 2}, {"..", in.parent.nid, 2}}
	for _, name := range in.node.Names() {
		for len(dots) > 0 && dots[0].name < name {
			ents, dots = append(ents, dots[0]), dots[1:]
		}
		c := byPath[path.Join(in.path, name)]
		ents = append(ents, entry{name, c.nid, fileType(c.node.Mode)})
	}
	ents = append(ents, dots...)

	var out []byte
	for len(ents) > 0 {
		n, used := 0, 0
		for n < len(ents) && used+direntSize+len(ents[n].name) <= BlockSize {
			used += direntSize + len(ents[n].name)
			n++
		}
		for len(out)%BlockSize != 0 {
			out = append(out, 0)
		}
		nameOff := n * direntSize
		for _, e := range ents[:n] {
			out = binary.LittleEndian.AppendUint64(out, e.nid)
			out = binary.LittleEndian.AppendUint16(out, uint16(nameOff))
			out = append(out, e.typ, 0)
			nameOff += len(e.name)
		}
		for _, e := range ents[:n] {
			out = append(out, e.name...)
		}
		ents = ents[n:]
	}
	return out
}

func fileType(m fs.FileMode) byte {
	switch m.Type() {
	case 0:
		return 1
	case fs.ModeDir:
		return 2
	case fs.ModeDevice | fs.ModeCharDevice:
		return 3
	case fs.ModeDevice:
		return 4
	case fs.ModeNamedPipe:
		return 5
	case fs.ModeSocket:
		return 6
	case fs.ModeSymlink:
		return 7
	}
	return 0
}

// unixMode is a mode's 16 bits. inode(7)
func unixMode(m fs.FileMode) uint16 {
	u := uint16(m.Perm()) | [...]uint16{0, 0o100000, 0o40000, 0o20000, 0o60000, 0o10000, 0o140000, 0o120000}[fileType(m)]
	for bit, v := range map[fs.FileMode]uint16{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			u |= v
		}
	}
	return u
}

// WriteTo writes the image, Size bytes in one pass.
func (l *Layout) WriteTo(w io.Writer) (int64, error) {
	out := &padded{w: bufio.NewWriterSize(w, 1<<20)}
	out.write(l.head())
	out.pad()
	for _, in := range l.inodes {
		if in.node.Mode.IsDir() {
			out.at(in)
			out.write(in.dir)
			out.pad()
		} else if in.node.Mode&fs.ModeSymlink != 0 {
			out.at(in)
			out.write([]byte(in.node.Link))
			out.pad()
		}
	}
	for _, in := range l.inodes {
		if in.node.Mode.IsRegular() && in.size > 0 && out.err == nil {
			out.at(in)
			if in.z != nil {
				out.compressed(in.z)
			} else {
				out.copy(in)
			}
			out.pad()
		}
	}
	if out.err == nil {
		out.err = out.w.Flush()
	}
	if out.err == nil && out.n != l.Size() {
		out.err = fmt.Errorf("erofs: wrote %d bytes of %d", out.n, l.Size())
	}
	return out.n, out.err
}

// head is the superblock and the inodes, from byte 0.
func (l *Layout) head() []byte {
	le := binary.LittleEndian
	b := make([]byte, l.end)
	sb := b[superOffset:]
	le.PutUint32(sb[0:], magic)
	le.PutUint32(sb[8:], compatSBCsum)
	sb[12] = 12 // log2 of the block size
	le.PutUint16(sb[14:], uint16(l.meta/nidSize))
	le.PutUint64(sb[16:], uint64(len(l.inodes)))
	le.PutUint64(sb[24:], tree.Epoch)
	le.PutUint32(sb[36:], l.blocks)
	copy(sb[64:80], "kiln-root")
	if l.meta > metaStart {
		putParameters(sb)
	}
	for i, in := range l.inodes {
		p := b[in.nid*nidSize:]
		le.PutUint16(p[0:], 1) // extended, EROFS_INODE_FLAT_PLAIN
		le.PutUint16(p[4:], unixMode(in.node.Mode))
		le.PutUint64(p[8:], uint64(in.size))
		switch {
		case in.z != nil:
			in.z.put(p, in.block)
		case fileType(in.node.Mode) >= 3 && fileType(in.node.Mode) <= 4:
			le.PutUint32(p[16:], in.node.Rdev)
		default:
			le.PutUint32(p[16:], in.block)
		}
		le.PutUint32(p[20:], uint32(i+1))
		le.PutUint32(p[24:], in.node.UID)
		le.PutUint32(p[28:], in.node.GID)
		le.PutUint64(p[32:], uint64(in.node.MTime))
		le.PutUint32(p[44:], in.nlink)
	}
	// The checksum covers the superblock's block from byte 1024, with itself as zero;
	// the kernel's crc32c starts from all ones and does not invert the end.
	block := make([]byte, BlockSize)
	copy(block, b)
	sum := ^crc32.Checksum(block[superOffset:], crc32.MakeTable(crc32.Castagnoli))
	le.PutUint32(sb[4:], sum)
	return b
}

// padded writes blocks and keeps the first error.
type padded struct {
	w   *bufio.Writer
	n   int64
	err error
}

func (p *padded) write(b []byte) {
	if p.err == nil {
		var n int
		n, p.err = p.w.Write(b)
		p.n += int64(n)
	}
}

var zeros [BlockSize]byte

func (p *padded) pad() {
	if r := p.n % BlockSize; r != 0 {
		p.write(zeros[r:])
	}
}

func (p *padded) at(in *inode) {
	if p.err == nil && p.n != int64(in.block)*BlockSize {
		p.err = fmt.Errorf("erofs: %s planned at %d, written at %d", in.path, int64(in.block)*BlockSize, p.n)
	}
}

func (p *padded) copy(in *inode) {
	r, err := in.node.Open()
	if err != nil {
		p.err = err
		return
	}
	defer r.Close()
	n, err := io.Copy(p.w, io.LimitReader(r, in.size))
	p.n += n
	if err == nil && n == in.size {
		// One byte more would mean that the file grew under us.
		if m, _ := r.Read(make([]byte, 1)); m != 0 {
			n++
		}
	}
	if err == nil && n != in.size {
		err = in.changed()
	}
	p.err = err
}
