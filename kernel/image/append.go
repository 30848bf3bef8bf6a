package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// PageSize is the granule of everything in an image.
const PageSize = 4096

// WorkingMemory is what the smallest program needs beside the image itself: the
// kernel's own data, page tables and heap, and the program's memory.
const WorkingMemory = 12 << 20

// lowRAMEnd is where RAM below 4 GiB ends on the machine with the least of it
// (QEMU's q35 with 4 GiB or more: 2 GiB; hw/i386/pc_q35.c). An image in memory
// must end below it. A variable for tests alone.
var lowRAMEnd uint64 = 2 << 30

// Kernel is a linked kernel that images are made from.
type Kernel struct {
	file  []byte
	phdrs []phdr
	boot  BootBlock
	// bootOff is the file offset of the BootBlock.
	bootOff uint64
	// end is one past the last physical byte the kernel's segments take, bss included.
	end uint64
}

// Size is the kernel's file's, in bytes.
func (k *Kernel) Size() int64 { return int64(len(k.file)) }

type phdr struct {
	Type, Flags                             uint32
	Off, Vaddr, Paddr, Filesz, Memsz, Align uint64
}

const (
	ehdrSize = 64
	phdrSize = 56
	ptLoad   = 1
	ptNull   = 0
)

// ErrNotKernel means that a file is not a Kiln kernel or image.
var ErrNotKernel = errors.New("not a Kiln kernel: it has no boot block at 1 MiB")

// ErrTruncated means that a file ends before what its headers promise.
var ErrTruncated = errors.New("the file is truncated")

// ReadKernel checks a kernel's ELF file. It must not have an image segment yet.
func ReadKernel(file []byte) (*Kernel, error) {
	k := &Kernel{file: file}
	var err error
	if k.phdrs, err = readPhdrs(bytes.NewReader(file), int64(len(file))); err != nil {
		return nil, err
	}
	for _, p := range k.phdrs {
		if p.Type != ptLoad {
			continue
		}
		if p.Off+p.Filesz < p.Off || p.Off+p.Filesz > uint64(len(file)) {
			return nil, ErrTruncated
		}
		if p.Paddr == StubPhys && p.Filesz >= BootBlockSize {
			if k.boot, err = DecodeBootBlock(file[p.Off:]); err != nil {
				return nil, ErrNotKernel
			}
			k.bootOff = p.Off
		}
		if e := p.Paddr + p.Memsz; e > k.end {
			k.end = e
		}
	}
	if k.bootOff == 0 {
		return nil, ErrNotKernel
	}
	if k.boot.ImagePhys != 0 {
		return nil, errors.New("it is a finished image, not a kernel")
	}
	return k, nil
}

func readPhdrs(r io.ReaderAt, size int64) ([]phdr, error) {
	le := binary.LittleEndian
	eh := make([]byte, ehdrSize)
	if _, err := r.ReadAt(eh, 0); err != nil {
		if err == io.EOF {
			return nil, ErrNotKernel
		}
		return nil, err
	}
	// ELF64, little endian, EM_X86_64.
	if string(eh[:6]) != "\x7fELF\x02\x01" || le.Uint16(eh[18:]) != 62 || le.Uint16(eh[54:]) != phdrSize {
		return nil, ErrNotKernel
	}
	off, num := le.Uint64(eh[32:]), int(le.Uint16(eh[56:]))
	if off > uint64(size) || uint64(num*phdrSize) > uint64(size)-off {
		return nil, ErrTruncated
	}
	b := make([]byte, num*phdrSize)
	if _, err := r.ReadAt(b, int64(off)); err != nil && err != io.EOF {
		return nil, err
	}
	ps := make([]phdr, num)
	return ps, binary.Read(bytes.NewReader(b), le, ps)
}

// Root is a root file system to put into an image, a multiple of PageSize long.
type Root interface {
	Size() int64
	WriteTo(w io.Writer) (int64, error)
}

// Write writes an image: the kernel, the configuration and the root, which may be nil
// (the machine then finds it on a block device). It gives the BootBlock it wrote.
//
// The file is the kernel's bytes, the program headers with one more, and from the
// next page on the image segment, which is last both in the file and in memory. A root
// that is too large for memory stands behind the segment in the file (File.Detached).
// It stops where the context ends.
func Write(ctx context.Context, w io.Writer, k *Kernel, cfg *Config, root Root) (BootBlock, error) {
	w = ctxWriter{ctx, w}
	doc, err := Encode(cfg)
	if err != nil {
		return BootBlock{}, err
	}
	if _, err := ParseConfig(doc); err != nil {
		return BootBlock{}, err
	}
	h := Header{ConfigOff: HeaderSize, ConfigLen: uint64(len(doc))}
	h.RootOff = pageUp(HeaderSize + h.ConfigLen)
	if root != nil {
		h.RootLen = uint64(root.Size())
	}
	boot := k.boot
	boot.ImagePhys = pageUp(k.end)
	segLen := h.RootOff + h.RootLen
	if boot.ImagePhys+segLen > lowRAMEnd {
		segLen = h.RootOff
	}
	boot.ImageEnd = boot.ImagePhys + segLen
	boot.MinRAM = pageUp(boot.ImageEnd + WorkingMemory)

	phoff := (uint64(len(k.file)) + 15) &^ 15
	var phdrs []phdr
	for _, p := range k.phdrs {
		if p.Type != ptNull {
			phdrs = append(phdrs, p)
		}
	}
	segOff := pageUp(phoff + uint64(len(phdrs)+1)*phdrSize)
	phdrs = append(phdrs, phdr{
		Type: ptLoad, Flags: 4, Off: segOff, Vaddr: boot.ImagePhys + KernelOffset, Paddr: boot.ImagePhys,
		Filesz: segLen, Memsz: segLen, Align: PageSize,
	})

	head := make([]byte, segOff, segOff+h.RootOff)
	copy(head, k.file)
	copy(head[k.bootOff:], boot.Encode())
	binary.LittleEndian.PutUint64(head[32:], phoff)
	binary.LittleEndian.PutUint16(head[56:], uint16(len(phdrs)))
	var table bytes.Buffer
	binary.Write(&table, binary.LittleEndian, phdrs)
	copy(head[phoff:], table.Bytes())
	head = append(append(head, h.Encode()...), doc...)
	head = head[:segOff+h.RootOff]
	if _, err := w.Write(head); err != nil {
		return boot, err
	}
	if root == nil {
		return boot, nil
	}
	n, err := root.WriteTo(w)
	if err == nil && n != root.Size() {
		err = fmt.Errorf("image: the root wrote %d bytes of %d", n, root.Size())
	}
	return boot, err
}

// ctxWriter writes until the context ends.
type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c ctxWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

func pageUp(n uint64) uint64 { return (n + PageSize - 1) &^ (PageSize - 1) }

// File is an image that has been read.
type File struct {
	Boot   BootBlock
	Header Header
	Config *Config
	// RawConfig is the document as it stands in the image.
	RawConfig []byte
	// SegmentOff is the file offset of the Header; the Header's offsets count from it.
	SegmentOff int64
	Segments   []Segment
	// Detached means that the root is too large for memory: it is in the file, but in no
	// segment, and the machine must find it on a disk.
	Detached bool
}

// Segment is one PT_LOAD, for inspect.
type Segment struct {
	Phys, FileSize, MemSize uint64
	Flags                   uint32 // PF_X 1, PF_W 2, PF_R 4
}

// maxConfig bounds the configuration of a file of unknown origin.
const maxConfig = 16 << 20

// Open reads an image's headers and configuration.
func Open(r io.ReaderAt, size int64) (*File, error) {
	phdrs, err := readPhdrs(r, size)
	if err != nil {
		return nil, err
	}
	f := &File{}
	for _, p := range phdrs {
		if p.Type != ptLoad {
			continue
		}
		if p.Off+p.Filesz < p.Off || p.Off+p.Filesz > uint64(size) {
			return nil, ErrTruncated
		}
		f.Segments = append(f.Segments, Segment{p.Paddr, p.Filesz, p.Memsz, p.Flags})
		if p.Paddr == StubPhys {
			if f.Boot, err = DecodeBootBlock(readUpTo(r, p.Off, BootBlockSize)); err != nil {
				return nil, ErrNotKernel
			}
		}
	}
	if f.Boot == (BootBlock{}) {
		return nil, ErrNotKernel
	}
	if f.Boot.ImagePhys == 0 {
		return nil, errors.New("it is a bare kernel without a program")
	}
	for _, p := range phdrs {
		if p.Type == ptLoad && p.Paddr == f.Boot.ImagePhys {
			return f, f.readSegment(r, p, uint64(size))
		}
	}
	return nil, fmt.Errorf("the image has no segment at %#x, where its boot block points", f.Boot.ImagePhys)
}

func (f *File) readSegment(r io.ReaderAt, p phdr, size uint64) (err error) {
	f.SegmentOff = int64(p.Off)
	if f.Header, err = DecodeHeader(readUpTo(r, p.Off, HeaderSize)); err != nil {
		return errors.New("the image's header is damaged")
	}
	h := f.Header
	f.Detached = h.RootOff == p.Filesz && h.RootLen > 0
	end := p.Filesz
	if f.Detached {
		end = size - p.Off
	}
	if h.ConfigLen > maxConfig || h.ConfigOff > p.Filesz || h.ConfigLen > p.Filesz-h.ConfigOff ||
		h.RootOff > end || h.RootLen > end-h.RootOff {
		return errors.New("the image's header points out of the image")
	}
	f.RawConfig = readUpTo(r, p.Off+h.ConfigOff, int(h.ConfigLen))
	f.Config, err = ParseConfig(f.RawConfig)
	return err
}

// RootSection is the root's bytes in the image's file.
func (f *File) RootSection(r io.ReaderAt) *io.SectionReader {
	return io.NewSectionReader(r, f.SegmentOff+int64(f.Header.RootOff), int64(f.Header.RootLen))
}

// ExtractKernel gives back the kernel that the image was made from, to make another
// image with it: the same program with other arguments, or with its root on a disk.
func (f *File) ExtractKernel(r io.ReaderAt) (*Kernel, error) {
	b := make([]byte, f.SegmentOff)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, err
	}
	phdrs, err := readPhdrs(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	k := &Kernel{file: b, boot: f.Boot}
	k.boot.ImagePhys, k.boot.ImageEnd, k.boot.MinRAM = 0, 0, 0
	for _, p := range phdrs {
		if p.Type == ptLoad && p.Paddr == f.Boot.ImagePhys {
			continue
		}
		k.phdrs = append(k.phdrs, p)
		if p.Type != ptLoad {
			continue
		}
		if p.Paddr == StubPhys {
			k.bootOff = p.Off
		}
		k.end = max(k.end, p.Paddr+p.Memsz)
	}
	// The program headers that Write added stand behind the kernel's own bytes.
	if off := binary.LittleEndian.Uint64(b[32:]); off >= ehdrSize && off <= uint64(len(b)) {
		k.file = b[:off]
	}
	if n := uint64(len(k.file)); k.bootOff < ehdrSize || k.bootOff > n || n-k.bootOff < BootBlockSize || k.end > KernelPhys+1<<30 {
		return nil, errors.New("the image's kernel is damaged")
	}
	return k, nil
}

func readUpTo(r io.ReaderAt, off uint64, n int) []byte {
	b := make([]byte, n)
	m, _ := r.ReadAt(b, int64(off))
	return b[:m]
}
