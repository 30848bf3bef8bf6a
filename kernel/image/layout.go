package image

import (
	"encoding/binary"
	"errors"
)

// Physical and virtual places that the packager, the boot stub and the base agree on.
const (
	// StubPhys is where the boot stub is loaded; its first bytes are the BootBlock.
	StubPhys = 0x100000
	// KernelPhys is where the kernel's text is loaded, KernelVirt where it is linked:
	// virtual = physical + KernelOffset.
	KernelPhys   = 0x200000
	KernelVirt   = 0xffffffff80200000
	KernelOffset = 0xffffffff80000000
)

// MaxCPUs is how many CPUs the kernel uses.
const MaxCPUs = 64

// How other CPUs start (kernel/boot/stub.S), as offsets from StubPhys: the StubAPSize bytes
// at StubAP are copied to a page below 1 MiB, where a CPU starts in real mode. It takes the
// kernel's page table, metal.apStart and its own area from the words at StubAPCR3.
const (
	StubAP      = 0x400
	StubAPSize  = 0x40
	StubAPCR3   = 0x440
	StubAPEntry = 0x448
	StubAPCPU   = 0x450
)

// BootBlock opens the stub segment. `pack` patches it when it appends the image
// segment; the stub compares ImageEnd with the machine's RAM before it touches
// anything, and says MinRAM when there is too little.
//
//	offset 0  magic "KILNBOOT"
//	       8  u64 ImagePhys  physical address of the image segment's Header, 0 if none
//	      16  u64 ImageEnd   one past the last physical byte of all segments
//	      24  u64 MinRAM     bytes the machine must have
//	      32  u64 KernelEnd  one past the last file-backed physical byte of the kernel
type BootBlock struct {
	ImagePhys, ImageEnd, MinRAM, KernelEnd uint64
}

// BootBlockSize and BootMagic are its size and first bytes.
const (
	BootBlockSize = 40
	BootMagic     = "KILNBOOT"
)

// Header is the first page of the image segment; offsets are from its start.
//
//	offset 0  magic "KILNIMG1"
//	       8  u64 ConfigOff, 16 u64 ConfigLen
//	      24  u64 RootOff (page aligned), 32 u64 RootLen (0: the root is on a block device)
//
// A root at the segment's end is too large for memory, and on a block device too.
type Header struct {
	ConfigOff, ConfigLen, RootOff, RootLen uint64
}

// HeaderSize and HeaderMagic are its size and first bytes.
const (
	HeaderSize  = 40
	HeaderMagic = "KILNIMG1"
)

var errMagic = errors.New("image: bad magic")

// Encode is the block's 40 bytes.
func (b BootBlock) Encode() []byte {
	return encode(BootMagic, b.ImagePhys, b.ImageEnd, b.MinRAM, b.KernelEnd)
}

// DecodeBootBlock reads a block from the first bytes of the stub segment.
func DecodeBootBlock(p []byte) (b BootBlock, err error) {
	err = decode(p, BootMagic, &b.ImagePhys, &b.ImageEnd, &b.MinRAM, &b.KernelEnd)
	return b, err
}

// Encode is the header's 40 bytes.
func (h Header) Encode() []byte {
	return encode(HeaderMagic, h.ConfigOff, h.ConfigLen, h.RootOff, h.RootLen)
}

// DecodeHeader reads a header.
func DecodeHeader(p []byte) (h Header, err error) {
	err = decode(p, HeaderMagic, &h.ConfigOff, &h.ConfigLen, &h.RootOff, &h.RootLen)
	return h, err
}

func encode(magic string, words ...uint64) []byte {
	p := []byte(magic)
	for _, w := range words {
		p = binary.LittleEndian.AppendUint64(p, w)
	}
	return p
}

func decode(p []byte, magic string, words ...*uint64) error {
	if len(p) < len(magic)+8*len(words) || string(p[:len(magic)]) != magic {
		return errMagic
	}
	p = p[len(magic):]
	for i, w := range words {
		*w = binary.LittleEndian.Uint64(p[8*i:])
	}
	return nil
}
