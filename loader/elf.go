package loader

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// What is used of the ELF format (System V ABI, chapter 4 and 5).
const (
	ehSize = 64
	phSize = 56

	etExec = 2
	etDyn  = 3
	emX86  = 62

	ptLoad     = 1
	ptInterp   = 3
	ptGNUStack = 0x6474e551

	pfX = 1
	pfW = 2
	pfR = 4

	maxHeaders = 65536 / phSize
)

// header is the part of an ELF header that loading needs.
type header struct {
	typ    uint16
	entry  uint64
	phoff  uint64
	phnum  int
	phsize uint16
}

// segment is a program header.
type segment struct {
	typ, flags                        uint32
	off, vaddr, filesz, memsz, palign uint64
}

// parseHeader takes the first bytes of a file; ok is false if it is not an x86-64 ELF
// file. As in Linux, class and byte order are not looked at: the machine is.
func parseHeader(b []byte) (h header, ok bool) {
	if len(b) < ehSize || string(b[:4]) != "\x7fELF" {
		return h, false
	}
	le := binary.LittleEndian
	h = header{typ: le.Uint16(b[16:]), entry: le.Uint64(b[24:]), phoff: le.Uint64(b[32:]),
		phsize: le.Uint16(b[54:]), phnum: int(le.Uint16(b[56:]))}
	return h, le.Uint16(b[18:]) == emX86 && (h.typ == etExec || h.typ == etDyn)
}

// readSegments reads the program headers; false if they cannot be had.
func readSegments(c wait.Context, f File, h *header) ([]segment, bool) {
	if h.phsize != phSize || h.phnum < 1 || h.phnum > maxHeaders {
		return nil, false
	}
	b := make([]byte, h.phnum*phSize)
	if readFull(c, f, b, h.phoff) != nil {
		return nil, false
	}
	le := binary.LittleEndian
	out := make([]segment, h.phnum)
	for i := range out {
		p := b[i*phSize:]
		out[i] = segment{typ: le.Uint32(p), flags: le.Uint32(p[4:]), off: le.Uint64(p[8:]), vaddr: le.Uint64(p[16:]),
			filesz: le.Uint64(p[32:]), memsz: le.Uint64(p[40:]), palign: le.Uint64(p[48:])}
	}
	return out, true
}

// readFull reads all of b at off: EIO where the file ends before.
func readFull(c wait.Context, f File, b []byte, off uint64) error {
	if off > 1<<62 {
		return unix.EINVAL
	}
	n, err := f.ReadAt(c, b, int64(off))
	if err == nil && n < len(b) {
		err = unix.EIO
	}
	return err
}

func (s *segment) prot() (p hal.Prot) {
	if s.flags&pfR != 0 {
		p |= hal.ProtRead
	}
	if s.flags&pfW != 0 {
		p |= hal.ProtWrite
	}
	if s.flags&pfX != 0 {
		p |= hal.ProtExec
	}
	return p
}

// sane says whether the segment, moved by bias, lies in the program's half.
func (s *segment) sane(bias uint64) bool {
	k := s.vaddr + bias
	const top = uint64(hal.UserTop)
	return k < top && s.filesz <= s.memsz && s.memsz <= top && top-s.memsz >= k
}

// extent is the length from the first loaded page to the last byte; 0 if there is
// nothing to load. Hostile addresses may wrap: the caller's mmap refuses the length.
func extent(segs []segment) uint64 {
	lo, hi, any := ^uint64(0), uint64(0), false
	for i := range segs {
		if s := &segs[i]; s.typ == ptLoad {
			lo = min(lo, pageDown(s.vaddr))
			hi = max(hi, s.vaddr+s.memsz)
			any = true
		}
	}
	if !any || hi <= lo {
		return 0
	}
	return hi - lo
}

// alignment is the largest power of two that a segment asks for.
func alignment(segs []segment) uint64 {
	a := uint64(hal.PageSize)
	for i := range segs {
		if s := &segs[i]; s.typ == ptLoad && bits.OnesCount64(s.palign) == 1 {
			a = max(a, s.palign)
		}
	}
	return a
}

// interpreter reads the PT_INTERP name, "" if there is none.
func interpreter(c wait.Context, f File, segs []segment) (string, error) {
	for i := range segs {
		s := &segs[i]
		if s.typ != ptInterp {
			continue
		}
		if s.filesz > pathMax || s.filesz < 2 {
			return "", unix.ENOEXEC
		}
		b := make([]byte, s.filesz)
		if err := readFull(c, f, b, s.off); err != nil {
			return "", err
		}
		if b[len(b)-1] != 0 {
			return "", unix.ENOEXEC
		}
		for n, x := range b {
			if x == 0 {
				return string(b[:n]), nil
			}
		}
	}
	return "", nil
}

func pageDown(a uint64) uint64 { return a &^ hal.PageMask }
func pageUp(a uint64) uint64   { return (a + hal.PageMask) &^ hal.PageMask }
