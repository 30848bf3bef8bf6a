package erofs

import (
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/pierrec/lz4/v4"
)

// Compression says how a root's files are stored.
type Compression string

// The ways. LZ4HC takes longer to write than LZ4 and is as quick to read. Auto is for who
// bakes to decide; Plan takes it as LZ4HC.
const (
	Auto  Compression = "auto"
	None  Compression = "none"
	LZ4   Compression = "lz4"
	LZ4HC Compression = "lz4hc"
)

// Ways are the names, for who checks one.
var Ways = []string{string(Auto), string(None), string(LZ4), string(LZ4HC)}

// A file is cut into pieces of 64 KiB, each of which becomes one LZ4 block that stands at
// the end of as many blocks of the image as it needs (a physical cluster). The kernel
// reads a piece at a time. A fixed size of what goes in, not of what comes out as
// mkfs.erofs has it, makes pieces and what a page fault reads around it the same pages,
// so that none is decompressed twice, and costs 3 % in half-empty blocks. Larger pieces
// gain little (128 KiB: 3 %), smaller ones lose (32 KiB: 9 %, libcrypto, libssl and libc).
const (
	pieceSize = 64 << 10
	// searchDepth is how many places LZ4HC compares: 8 times more gain 0.4 % in twice
	// the time.
	searchDepth = 64
	// leastGain is the part of its blocks that a piece, and a file, must save.
	leastGain = 8
)

// compressed is a file's contents as they are stored.
type compressed struct {
	size   int64
	pieces []piece
	blocks int64
}

type piece struct {
	data  []byte
	plain bool
}

func blocksOf(n int) int64 { return int64(n+BlockSize-1) / BlockSize }

// compress tries every file that can gain, on all processors, and says whether any did.
func compress(inodes []*inode, how Compression) (any bool, err error) {
	if how == None {
		return false, nil
	}
	type job struct {
		in  *inode
		p   *piece
		raw []byte
		// left counts the pieces of the file that are not done, and its reader.
		left *atomic.Int64
	}
	done := func(j job) {
		if j.left.Add(-1) == 0 {
			j.in.settle()
		}
	}
	jobs := make(chan job)
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			scratch := make([]byte, lz4.CompressBlockBound(pieceSize))
			for j := range jobs {
				j.p.store(j.raw, scratch, how)
				done(j)
			}
		})
	}
	for _, in := range inodes {
		if !in.node.Mode.IsRegular() || in.size <= BlockSize {
			continue
		}
		in.z = &compressed{size: in.size, pieces: make([]piece, (in.size+pieceSize-1)/pieceSize)}
		left := new(atomic.Int64)
		left.Store(int64(len(in.z.pieces)) + 1)
		if err = in.eachPiece(func(k int, raw []byte) { jobs <- job{in, &in.z.pieces[k], raw, left} }); err != nil {
			break
		}
		done(job{in: in, left: left})
	}
	close(jobs)
	wait.Wait()
	for _, in := range inodes {
		any = any || in.z != nil
	}
	return any, err
}

// eachPiece reads the file.
func (in *inode) eachPiece(f func(k int, raw []byte)) error {
	r, err := in.node.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	for k, left := 0, in.size; left > 0; k++ {
		raw := make([]byte, min(left, pieceSize))
		if _, err := io.ReadFull(r, raw); err == io.EOF || err == io.ErrUnexpectedEOF {
			return in.changed()
		} else if err != nil {
			return err
		}
		left -= int64(len(raw))
		f(k, raw)
	}
	// One byte more would mean that the file grew under us.
	if n, _ := r.Read(make([]byte, 1)); n != 0 {
		return in.changed()
	}
	return nil
}

func (in *inode) changed() error {
	return fmt.Errorf("%s changed while it was read: bake again", in.path)
}

// store keeps a piece, compressed if that gains enough.
func (p *piece) store(raw, scratch []byte, how Compression) {
	n, err := 0, error(nil)
	if how != LZ4 {
		n, err = lz4.CompressBlockHC(raw, scratch, searchDepth, nil, nil)
	} else {
		n, err = lz4.CompressBlock(raw, scratch, nil)
	}
	whole := blocksOf(len(raw))
	if err != nil || n == 0 || whole-blocksOf(n) < max(1, whole/leastGain) {
		p.data, p.plain = raw, true
		return
	}
	p.data = append([]byte(nil), scratch[:n]...)
}

// settle decides when all pieces are there whether the file stays compressed.
func (in *inode) settle() {
	for _, p := range in.z.pieces {
		in.z.blocks += blocksOf(len(p.data))
	}
	whole := (in.size + BlockSize - 1) / BlockSize
	if whole-in.z.blocks < max(1, whole/leastGain) {
		in.z = nil
	}
}

// Of z_erofs_map_header and z_erofs_vle_decompressed_index: the full form, 8 bytes for
// each 4 KiB of the file.
const (
	layoutFull   = 1 << 1 // in i_format: EROFS_INODE_FLAT_COMPRESSION_LEGACY
	mapHeader    = 16     // with Z_EROFS_VLE_LEGACY_HEADER_PADDING
	adviseBig    = 2      // Z_EROFS_ADVISE_BIG_PCLUSTER_1
	clusterPlain = 0
	clusterHead  = 1
	clusterRest  = 2
	blockCount   = 1 << 11 // Z_EROFS_VLE_DI_D0_CBLKCNT

	featuresAt      = 80 // feature_incompat in the superblock
	algorithmsAt    = 84 // available_compr_algs
	incompatPadding = 1  // EROFS_FEATURE_INCOMPAT_ZERO_PADDING
	incompatBig     = 2  // EROFS_FEATURE_INCOMPAT_BIG_PCLUSTER, and COMPR_CFGS
	algorithmLZ4    = 1
)

// indexSize is what stands behind the inode.
func (z *compressed) indexSize() int64 {
	if z == nil {
		return 0
	}
	return mapHeader + 8*((z.size+BlockSize-1)/BlockSize)
}

// put fills in the inode at p and the index behind it; the file's data begin at block.
func (z *compressed) put(p []byte, block uint32) {
	le := binary.LittleEndian
	le.PutUint16(p, 1|layoutFull)
	le.PutUint32(p[16:], uint32(z.blocks))
	p = p[inodeSize:]
	le.PutUint16(p[4:], adviseBig)
	p = p[mapHeader:]
	left := z.size
	for _, piece := range z.pieces {
		n := int(min(left, pieceSize)+BlockSize-1) / BlockSize
		left -= pieceSize
		for k := range n {
			e := p[:8]
			p = p[8:]
			switch {
			case piece.plain:
				le.PutUint16(e, clusterPlain)
				le.PutUint32(e[4:], block+uint32(k))
			case k == 0:
				le.PutUint16(e, clusterHead)
				le.PutUint32(e[4:], block)
			default:
				le.PutUint16(e, clusterRest)
				back := k
				if k == 1 {
					back = blockCount | int(blocksOf(len(piece.data)))
				}
				le.PutUint16(e[4:], uint16(back))
				le.PutUint16(e[6:], uint16(n-k))
			}
		}
		block += uint32(blocksOf(len(piece.data)))
	}
}

// putParameters says in the superblock what reading needs, and behind it LZ4's
// parameters: the furthest match and the largest physical cluster.
func putParameters(sb []byte) {
	le := binary.LittleEndian
	le.PutUint32(sb[featuresAt:], incompatPadding|incompatBig)
	le.PutUint16(sb[algorithmsAt:], algorithmLZ4)
	p := sb[superSize:]
	le.PutUint16(p, 14)
	le.PutUint16(p[2:], 1<<16-1)
	le.PutUint16(p[4:], pieceSize/BlockSize)
}

// compressed writes a file's physical clusters.
func (p *padded) compressed(z *compressed) {
	for _, piece := range z.pieces {
		if !piece.plain {
			p.write(zeros[:-len(piece.data)&(BlockSize-1)])
		}
		p.write(piece.data)
		p.pad()
	}
}
