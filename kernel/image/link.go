package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// StubWords are the words that Link writes into the stub behind the BootBlock
// and that the base reads at boot (kernel/metal/boot.go). All are virtual
// addresses of the kernel; BSS runs from BSSStart, has no bytes in the file and
// is mapped when touched. PinnedA and PinnedB bound the parts of it that hold
// small variables (the first bytes of .bss and .noptrbss).
const (
	stubEntry = BootBlockSize + 8*iota
	stubTextStart
	stubTextEnd
	stubROStart
	stubROEnd
	stubDataStart
	stubDataEnd
	stubBSSStart
	stubBSSEnd
	stubPinAStart
	stubPinAEnd
	stubPinBStart
	stubPinBEnd
)

// pinBSS is how much of .bss and of .noptrbss counts as pinned. The linker sorts
// variables by size, so the base's words and the runtime's flags come first and
// the big arrays last.
const pinBSS = 48 << 10

// Stub describes the boot stub to Link.
type Stub struct {
	Code    []byte
	Entry   uint64 // offset of the 32-bit PVH entry
	MemSize uint64
}

// Link turns the Go linker's ELF of the kernel into one that a PVH loader boots:
// physical addresses, no memory for BSS (the base maps it lazily), the boot stub
// as first segment and the PVH note (type 18, owner "Xen").
func Link(in []byte, stub Stub) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(in))
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 || f.Type != elf.ET_EXEC {
		return nil, errors.New("kernel: not a static x86-64 executable")
	}
	segs, err := loads(f)
	if err != nil {
		return nil, err
	}
	words, err := stubWords(f, segs)
	if err != nil {
		return nil, err
	}
	kend := uint64(0)
	for _, s := range segs {
		kend = max(kend, s.Vaddr+s.Filesz-KernelOffset)
	}
	kend = (kend + 0xfff) &^ 0xfff
	code := slices.Clone(stub.Code)
	bb := BootBlock{ImageEnd: kend, MinRAM: minRAM(kend), KernelEnd: kend}
	copy(code, bb.Encode())
	for i, w := range words {
		binary.LittleEndian.PutUint64(code[BootBlockSize+8*i:], w)
	}
	return writeELF(in, segs, code, stub), nil
}

// minRAM is the memory a kernel without an image segment must have: itself and
// what its runtime needs to come up.
func minRAM(end uint64) uint64 { return (end + 12<<20) &^ (1<<20 - 1) }

func loads(f *elf.File) ([]elf.ProgHeader, error) {
	var segs []elf.ProgHeader
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		h := p.ProgHeader
		if h.Vaddr < KernelVirt-0x1000 || h.Vaddr+h.Memsz < h.Vaddr {
			return nil, fmt.Errorf("kernel: segment at %#x; link with -T -2145386496", h.Vaddr)
		}
		segs = append(segs, h)
	}
	if len(segs) != 3 || segs[0].Flags&elf.PF_X == 0 || segs[1].Flags != elf.PF_R || segs[2].Flags&elf.PF_W == 0 {
		return nil, fmt.Errorf("kernel: %d loadable segments, not text, read-only and data", len(segs))
	}
	return segs, nil
}

// stubWords is the table from stubEntry on.
func stubWords(f *elf.File, segs []elf.ProgHeader) ([]uint64, error) {
	data := segs[2]
	bss, noptr := f.Section(".bss"), f.Section(".noptrbss")
	if bss == nil || noptr == nil {
		return nil, errors.New("kernel: no .bss and .noptrbss sections")
	}
	pin := func(s *elf.Section) (uint64, uint64) {
		return s.Addr, s.Addr + min(s.Size, pinBSS)
	}
	w := make([]uint64, 0, 13)
	w = append(w, f.Entry)
	w = append(w, segs[0].Vaddr, segs[0].Vaddr+segs[0].Filesz)
	w = append(w, segs[1].Vaddr, segs[1].Vaddr+segs[1].Filesz)
	w = append(w, data.Vaddr, data.Vaddr+data.Filesz)
	w = append(w, data.Vaddr+data.Filesz, data.Vaddr+data.Memsz)
	a, b := pin(bss)
	w = append(w, a, b)
	a, b = pin(noptr)
	return append(w, a, b), nil
}

// writeELF lays the output out: header page, stub, then the kernel's segments at
// page-aligned file offsets congruent with their addresses.
func writeELF(in []byte, segs []elf.ProgHeader, code []byte, stub Stub) []byte {
	const ehsize, phsize, notesize = 64, 56, 12 + 4 + 8
	n := 1 + len(segs) + 1
	noteOff := uint64(ehsize + n*phsize)
	out := make([]byte, 0x1000)
	le := binary.LittleEndian

	copy(out, "\x7fELF\x02\x01\x01")
	le.PutUint16(out[16:], uint16(elf.ET_EXEC))
	le.PutUint16(out[18:], uint16(elf.EM_X86_64))
	le.PutUint32(out[20:], 1)
	le.PutUint64(out[24:], StubPhys+stub.Entry)
	le.PutUint64(out[32:], ehsize)
	le.PutUint16(out[52:], ehsize)
	le.PutUint16(out[54:], phsize)
	le.PutUint16(out[56:], uint16(n))

	i := 0
	ph := func(typ, flags uint32, off, vaddr, paddr, filesz, memsz, align uint64) {
		p := out[ehsize+i*phsize:]
		le.PutUint32(p, typ)
		le.PutUint32(p[4:], flags)
		for j, v := range []uint64{off, vaddr, paddr, filesz, memsz, align} {
			le.PutUint64(p[8+8*j:], v)
		}
		i++
	}
	off := uint64(0x1000)
	ph(uint32(elf.PT_LOAD), 7, off, StubPhys, StubPhys, uint64(len(code)), stub.MemSize, 0x1000)
	body := slices.Clone(code)
	for _, s := range segs {
		// The page below -T holds the old ELF header; it stays in the text segment.
		pad := (s.Vaddr - (off + uint64(len(body)))) & 0xfff
		body = append(body, make([]byte, pad)...)
		ph(uint32(elf.PT_LOAD), uint32(s.Flags), off+uint64(len(body)), s.Vaddr, s.Vaddr-KernelOffset, s.Filesz, s.Filesz, 0x1000)
		body = append(body, in[s.Off:s.Off+s.Filesz]...)
	}
	ph(uint32(elf.PT_NOTE), uint32(elf.PF_R), noteOff, noteOff, noteOff, notesize, notesize, 4)
	note := out[noteOff:]
	le.PutUint32(note, 4)
	le.PutUint32(note[4:], 8)
	le.PutUint32(note[8:], 18) // XEN_ELFNOTE_PHYS32_ENTRY
	copy(note[12:], "Xen\x00")
	le.PutUint64(note[16:], StubPhys+stub.Entry)
	return append(out, body...)
}
