// Package elftest makes small ELF files for tests.
package elftest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// Spec says what a file is to say.
type Spec struct {
	Class   elf.Class   // 0: 64-bit
	Machine elf.Machine // 0: x86-64
	Type    elf.Type    // 0: ET_DYN
	Interp  string
	Soname  string
	Needed  []string
	RPath   string
	RunPath string
}

const base = 0x1000 // the address of the file's first byte

// Make encodes a file: one PT_LOAD over all of it, PT_INTERP and PT_DYNAMIC where the
// spec has something for them.
func Make(s Spec) []byte {
	if s.Class == elf.ELFCLASS32 {
		return make32(s)
	}
	if s.Machine == 0 {
		s.Machine = elf.EM_X86_64
	}
	if s.Type == 0 {
		s.Type = elf.ET_DYN
	}
	var strs bytes.Buffer
	strs.WriteByte(0)
	str := func(v string) uint64 {
		off := strs.Len()
		strs.WriteString(v + "\x00")
		return uint64(off)
	}
	var dyn []elf.Dyn64
	add := func(tag elf.DynTag, val uint64) { dyn = append(dyn, elf.Dyn64{Tag: int64(tag), Val: val}) }
	for _, n := range s.Needed {
		add(elf.DT_NEEDED, str(n))
	}
	for tag, v := range map[elf.DynTag]string{elf.DT_SONAME: s.Soname, elf.DT_RPATH: s.RPath, elf.DT_RUNPATH: s.RunPath} {
		if v != "" {
			add(tag, str(v))
		}
	}
	progs := 1
	if s.Interp != "" {
		progs++
	}
	if len(dyn) > 0 {
		progs++
		add(elf.DT_STRTAB, 0)
		add(elf.DT_STRSZ, uint64(strs.Len()))
		add(elf.DT_NULL, 0)
	}
	interpOff := uint64(64 + 56*progs)
	interpLen := uint64(0)
	if s.Interp != "" {
		interpLen = uint64(len(s.Interp) + 1)
	}
	dynOff := (interpOff + interpLen + 7) &^ 7
	strOff := dynOff + uint64(16*len(dyn))
	total := strOff + uint64(strs.Len())
	for i := range dyn {
		if elf.DynTag(dyn[i].Tag) == elf.DT_STRTAB {
			dyn[i].Val = base + strOff
		}
	}
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(s.Type), Machine: uint16(s.Machine), Version: 1, Entry: base, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(progs)}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	w := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	w(h)
	prog := func(typ elf.ProgType, off, size uint64) {
		w(elf.Prog64{Type: uint32(typ), Flags: 5, Off: off, Vaddr: base + off, Paddr: base + off, Filesz: size, Memsz: size, Align: 8})
	}
	prog(elf.PT_LOAD, 0, total)
	if s.Interp != "" {
		prog(elf.PT_INTERP, interpOff, interpLen)
	}
	if len(dyn) > 0 {
		prog(elf.PT_DYNAMIC, dynOff, uint64(16*len(dyn)))
	}
	if s.Interp != "" {
		b.WriteString(s.Interp + "\x00")
	}
	b.Write(make([]byte, dynOff-uint64(b.Len())))
	for _, d := range dyn {
		w(d)
	}
	b.Write(strs.Bytes())
	return b.Bytes()
}

func make32(s Spec) []byte {
	if s.Machine == 0 {
		s.Machine = elf.EM_386
	}
	h := elf.Header32{Type: uint16(elf.ET_EXEC), Machine: uint16(s.Machine), Version: 1, Phoff: 52, Ehsize: 52, Phentsize: 32, Phnum: 1}
	copy(h.Ident[:], "\x7fELF\x01\x01\x01")
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, h)
	binary.Write(&b, binary.LittleEndian, elf.Prog32{Type: uint32(elf.PT_LOAD), Filesz: 84, Memsz: 84})
	return b.Bytes()
}
