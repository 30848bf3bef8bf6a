package erofs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// A compressed file is cut into extents. Each is stored in a physical cluster: blocks that
// hold it as one LZ4 block (the rest is zeros before it) or, of at most one block, as it
// is. The index behind the inode has an entry for each logical cluster (4 KiB of the
// file): an extent that begins there, with the place inside of the cluster and the first
// block, or how many clusters back the extent began. The entries are full (8 bytes each)
// or compact (packs of 2 in 8 bytes or of 16 in 32 bytes, one block number a pack).

// Of z_erofs_map_header and z_erofs_vle_decompressed_index.
const (
	zFull, zCompact = 1, 3 // EROFS_INODE_FLAT_COMPRESSION_LEGACY and EROFS_INODE_FLAT_COMPRESSION

	advCompact2B   = 1 << 0
	advBigPcluster = 1 << 1

	clusterPlain   = 0
	clusterHead    = 1
	clusterNonHead = 2

	blockCount = 1 << 11 // of a distance back: it is a number of blocks instead
	partialRef = 1 << 15 // Z_EROFS_VLE_DI_PARTIAL_REF

	maxExtent   = 12 << 20 // Z_EROFS_PCLUSTER_MAX_DSIZE
	maxPcluster = 1 << 20  // Z_EROFS_PCLUSTER_MAX_SIZE
)

// index is where the extents of a compressed file are. It does not point at the Inode.
type index struct {
	fs   *FS
	err  error // why the file cannot be read, though its inode can
	size int64
	pos  int64 // image offset of the first entry
	big  bool  // a physical cluster may have several blocks
	// A compact index begins with lead entries in packs of 2, then has mid in packs
	// of 16, then again packs of 2.
	compact   bool
	lead, mid int64
	// group is how many pages it is best to read at a time, aligned; 1 if any.
	group int
}

// newIndex reads the header of the index that stands behind the inode's end.
func (fs *FS) newIndex(c wait.Context, kind int, end, size int64) (*index, error) {
	z := &index{fs: fs, size: size, compact: kind == zCompact, group: 1}
	header := (end + 7) &^ 7
	z.pos = header + 8
	if !z.compact {
		z.pos += 8 // Z_EROFS_VLE_LEGACY_HEADER_PADDING
	}
	if z.compact || fs.big {
		var buf [8]byte
		h, err := fs.bytes(c, header, 8, buf[:])
		if err != nil {
			return nil, err
		}
		z.err = z.header(binary.LittleEndian.Uint16(h[4:]), h[6], h[7])
	}
	if z.err == nil {
		z.findGroup(c)
	}
	return z, nil
}

// header checks what the header says, as z_erofs_fill_inode_lazy does.
func (z *index) header(advise uint16, algorithms, clusterBits byte) error {
	// Another algorithm than LZ4, larger logical clusters, tails in the index, fragments.
	if algorithms&15 != 0 || clusterBits != 0 || advise&^(advCompact2B|advBigPcluster|advBigPcluster<<1) != 0 {
		return unix.EOPNOTSUPP
	}
	z.big = advise&advBigPcluster != 0
	if z.big && !z.fs.big || z.compact && z.big != (advise&(advBigPcluster<<1) != 0) {
		return errBad
	}
	if z.compact {
		z.lead = min((32-z.pos%32)%32/4, z.clusters())
		if advise&advCompact2B != 0 {
			z.mid = (z.clusters() - z.lead) &^ 15
		}
	}
	return nil
}

func (z *index) clusters() int64 { return (z.size + blockSize - 1) / blockSize }

// cluster is a decoded entry.
type cluster struct {
	head  bool
	plain bool
	at    int64 // head: where in the cluster the extent begins
	block int64 // head: the first block of its physical cluster
	back  int64 // else: how many clusters back its head is
	count int64 // else, where given: the number of its blocks
}

// lookup reads entries; buf, which may be nil, is for those on a disk.
type lookup struct {
	*index
	c   wait.Context
	buf []byte
}

// cluster decodes entry n.
func (l *lookup) cluster(n int64) (cluster, error) {
	if n < 0 || n >= l.clusters() {
		return cluster{}, errBad
	}
	if l.compact {
		return l.packed(n)
	}
	le := binary.LittleEndian
	b, err := l.fs.bytes(l.c, l.pos+8*n, 8, l.buf)
	if err != nil {
		return cluster{}, err
	}
	advise := le.Uint16(b)
	if advise&partialRef != 0 {
		return cluster{}, unix.EOPNOTSUPP
	}
	k, err := l.decode(int(advise&3), int64(le.Uint16(b[2:])), int64(le.Uint16(b[4:])))
	k.block = int64(le.Uint32(b[4:]))
	return k, err
}

// decode makes a cluster of an entry's kind, its place and its distance back.
func (l *lookup) decode(kind int, at, back int64) (k cluster, err error) {
	switch kind {
	case clusterPlain, clusterHead:
		k.head, k.plain, k.at = true, kind == clusterPlain, at
		if k.at >= blockSize {
			return k, errBad
		}
	case clusterNonHead:
		k.back = back
		if back&blockCount != 0 {
			if k.back, k.count = 1, back&^blockCount; !l.big {
				return k, errBad
			}
		}
	default: // a second algorithm
		return k, unix.EOPNOTSUPP
	}
	return k, nil
}

// packed decodes entry n of a compact index.
func (l *lookup) packed(n int64) (k cluster, err error) {
	pos, each := l.pos, int64(4)
	switch {
	case n < l.lead:
	case n < l.lead+l.mid:
		pos, n, each = pos+4*l.lead, n-l.lead, 2
	default:
		pos, n = pos+4*l.lead+2*l.mid, n-l.lead-l.mid
	}
	entries := int64(2)
	if each == 2 {
		entries = 16
	}
	p := pack{bits: int(8 * (each*entries - 4) / entries)}
	start := (pos + n*each) &^ (each*entries - 1)
	if p.b, err = l.fs.bytes(l.c, start, int(each*entries), l.buf); err != nil {
		return k, err
	}
	i := int(pos+n*each-start) / int(each)
	kind, lo := p.entry(i)
	if kind == clusterNonHead && i == int(entries)-1 && lo&blockCount == 0 {
		// The last of a pack holds the distance forward.
		prev, d := p.entry(i - 1)
		switch {
		case prev != clusterNonHead:
			d = 0
		case d&blockCount != 0:
			d = 1
		}
		lo = d + 1
	}
	if k, err = l.decode(kind, lo, lo); err != nil || !k.head {
		return k, err
	}
	blocks, ok := p.before(i, l.big)
	if !ok {
		return k, errBad
	}
	k.block = int64(binary.LittleEndian.Uint32(p.b[len(p.b)-4:])) + blocks
	return k, nil
}

// pack is a pack of a compact index: entries of so many bits, 12 of them a value and 2
// the kind, and at the end the block number that they count from.
type pack struct {
	b    []byte
	bits int
}

func (p *pack) entry(i int) (kind int, lo int64) {
	at := p.bits * i
	v := binary.LittleEndian.Uint32(p.b[at/8:]) >> (at & 7)
	return int(v >> 12 & 3), int64(v & 0xfff)
}

// before counts the blocks of the extents that begin in the pack before entry i, and
// that of the one that goes on into it.
func (p *pack) before(i int, big bool) (blocks int64, ok bool) {
	if !big {
		blocks = 1
	}
	for i--; i >= 0; i-- {
		kind, lo := p.entry(i)
		switch {
		case kind != clusterNonHead:
			blocks++
		case !big:
			if i -= int(lo); i >= 0 {
				blocks++
			}
		case lo&blockCount != 0:
			i-- // the head whose blocks these are
			blocks += lo &^ blockCount
		case lo <= 1:
			return 0, false
		default:
			i -= int(lo) - 2
		}
	}
	return blocks, true
}

// extent is a piece of a file and its physical cluster.
type extent struct {
	start, end    int64 // bytes of the file
	block, blocks int64
	plain         bool
}

// extent finds the one that holds byte off of the file.
func (l *lookup) extent(off int64) (e extent, err error) {
	n := off / blockSize
	k, err := l.cluster(n)
	if err != nil {
		return e, err
	}
	if k.head && off%blockSize < k.at {
		if n--; n < 0 {
			return e, errBad
		}
		if k, err = l.cluster(n); err != nil {
			return e, err
		}
	}
	for !k.head {
		if k.back == 0 || k.back > n {
			return e, errBad
		}
		n -= k.back
		if k, err = l.cluster(n); err != nil {
			return e, err
		}
	}
	e = extent{start: n*blockSize + k.at, end: l.size, block: k.block, blocks: 1, plain: k.plain}
	for next := n + 1; next < l.clusters(); next++ {
		if next*blockSize-e.start > maxExtent {
			return e, unix.EOPNOTSUPP
		}
		f, err := l.cluster(next)
		if err != nil {
			return e, err
		}
		if f.head {
			e.end = min(next*blockSize+f.at, l.size)
			break
		}
		if next == n+1 && l.big && !e.plain {
			if e.blocks = f.count; e.blocks == 0 {
				return e, errBad
			}
		}
	}
	switch {
	case off < e.start || off >= e.end, e.plain && e.end-e.start > blockSize, e.blocks > maxPcluster/blockSize:
		return e, errBad
	case e.end-e.start > maxExtent:
		return e, unix.EOPNOTSUPP
	}
	return e, nil
}

// maxGroup is the largest group that is looked for, in pages: mm reads no more at once.
const maxGroup = 32

// findGroup sees whether the file is cut into pieces of one size that begin at its
// multiples, as our own writer does it: then a reader should take whole pieces. It looks
// at the first one that is compressed.
func (z *index) findGroup(c wait.Context) {
	l := lookup{index: z, c: c}
	for off := int64(0); off < min(z.size, maxGroup*blockSize); {
		e, err := l.extent(off)
		if err != nil {
			return // the reader will say it
		}
		if n := (e.end - e.start) / blockSize; !e.plain {
			if n > 1 && n <= maxGroup && n&(n-1) == 0 && e.start%(n*blockSize) == 0 && e.end%blockSize == 0 {
				z.group = int(n)
			}
			return
		}
		off = e.end
	}
}

// run is the first block of up to most whole pages from page idx on that are stored as
// they are, one after the other. For images in memory.
func (z *index) run(idx int64, most int) (block, n int64) {
	if z.err != nil {
		return 0, 0
	}
	l := lookup{index: z}
	for n < int64(most) && (idx+n+1)*blockSize <= z.size {
		k, err := l.cluster(idx + n)
		if err != nil || !k.plain || k.at != 0 || n > 0 && k.block != block+n {
			break
		}
		if n == 0 {
			block = k.block
		}
		n++
	}
	return block, n
}
