// Package elfinfo says of an ELF file whether Kiln can run it and which other files
// it needs: its interpreter and, by DT_NEEDED, its libraries.
//
// Only the dynamic section and the program headers are read, as the loader does;
// section headers may be stripped. Nothing is executed, so that a file of another
// machine or of an unpacked package is safe to look at.
package elfinfo

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Info is what a file says of itself.
type Info struct {
	Type    elf.Type // ET_EXEC or ET_DYN
	Interp  string   // PT_INTERP, empty in a static program or a library
	Soname  string
	Needed  []string
	RPath   []string // DT_RPATH, split, not expanded
	RunPath []string // DT_RUNPATH
	Flags1  uint64   // DT_FLAGS_1
	// Dynamic is whether there is a dynamic section (static PIEs have one too).
	Dynamic bool
}

// Error is a file that Kiln cannot use; its text is one sentence for the user.
type Error struct {
	Name string
	Why  string
	// NotELF is set when the file is not an ELF file at all.
	NotELF bool
}

func (e *Error) Error() string { return e.Name + " " + e.Why }

var machines = map[elf.Machine]string{
	elf.EM_386: "32-bit x86", elf.EM_AARCH64: "64-bit Arm", elf.EM_ARM: "32-bit Arm", elf.EM_RISCV: "RISC-V",
	elf.EM_PPC64: "64-bit PowerPC", elf.EM_PPC: "32-bit PowerPC", elf.EM_S390: "IBM Z", elf.EM_MIPS: "MIPS",
	elf.EM_LOONGARCH: "LoongArch", elf.EM_SPARCV9: "64-bit SPARC",
}

const wanted = "Kiln runs 64-bit x86-64 Linux programs: use a build for amd64"

// Parse reads and checks a file of size bytes. name is only for messages. The error
// is an *Error if the file is at fault.
func Parse(r io.ReaderAt, size int64, name string) (*Info, error) {
	bad := func(format string, args ...any) error {
		return &Error{Name: name, Why: fmt.Sprintf(format, args...)}
	}
	if size == 0 {
		return nil, &Error{Name: name, NotELF: true, Why: "is empty: give a Linux program (an ELF file)"}
	}
	hdr := make([]byte, 64)
	n, err := r.ReadAt(hdr, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if n < 4 || string(hdr[:4]) != elf.ELFMAG {
		return nil, &Error{Name: name, NotELF: true, Why: notELF(hdr[:n])}
	}
	if n < 20 {
		return nil, bad("is truncated: it has %d bytes, not even a whole ELF header; copy or build it again", n)
	}
	machine := elf.Machine(binary.LittleEndian.Uint16(hdr[18:]))
	if elf.Data(hdr[elf.EI_DATA]) == elf.ELFDATA2MSB {
		return nil, bad("is a big-endian %s program; %s", machineName(elf.Machine(binary.BigEndian.Uint16(hdr[18:]))), wanted)
	}
	switch elf.Class(hdr[elf.EI_CLASS]) {
	case elf.ELFCLASS64:
	case elf.ELFCLASS32:
		if machine == elf.EM_X86_64 {
			return nil, bad("uses the 32-bit x32 ABI; %s", wanted)
		}
		return nil, bad("is a 32-bit program (%s); %s", machineName(machine), wanted)
	default:
		return nil, bad("has a broken ELF header (class %d); copy or build it again", hdr[elf.EI_CLASS])
	}
	if machine != elf.EM_X86_64 {
		return nil, bad("is a program for %s; %s", machineName(machine), wanted)
	}
	if n < 64 {
		return nil, bad("is truncated: it has %d bytes, not even a whole ELF header; copy or build it again", n)
	}
	return parse64(r, size, hdr, bad)
}

func machineName(m elf.Machine) string {
	if s := machines[m]; s != "" {
		return s
	}
	return fmt.Sprintf("machine type %d", uint16(m))
}

func notELF(head []byte) string {
	switch s := string(head); {
	case strings.HasPrefix(s, "#!"):
		line, _, _ := strings.Cut(strings.TrimSpace(s[2:]), "\n")
		return fmt.Sprintf("is a script for %q, not a program: give the interpreter, with the script as an argument and among a manifest's files", line)
	case strings.HasPrefix(s, "MZ"):
		return "is a Windows program, not an ELF file: " + wanted
	case strings.HasPrefix(s, "\xcf\xfa\xed\xfe"), strings.HasPrefix(s, "\xca\xfe\xba\xbe"):
		return "is a macOS program, not an ELF file: " + wanted
	case strings.HasPrefix(s, "!<arch>\ndebian"):
		return "is a Debian package, not a program: install it, or name it as `pack build deb:PACKAGE`"
	}
	return "is not an ELF file: give a Linux program, a manifest's folder or a name that `pack ls` lists"
}

type phdr struct {
	typ                       elf.ProgType
	off, vaddr, filesz, memsz uint64
}

func parse64(r io.ReaderAt, size int64, hdr []byte, bad func(string, ...any) error) (*Info, error) {
	le := binary.LittleEndian
	info := &Info{Type: elf.Type(le.Uint16(hdr[16:]))}
	switch info.Type {
	case elf.ET_EXEC, elf.ET_DYN:
	case elf.ET_REL:
		return nil, bad("is an object file, not a program: link it first")
	case elf.ET_CORE:
		return nil, bad("is a core dump, not a program: give the program that made it")
	default:
		return nil, bad("has an unknown ELF type %d; copy or build it again", uint16(info.Type))
	}
	phoff, entsize, num := le.Uint64(hdr[32:]), le.Uint16(hdr[54:]), le.Uint16(hdr[56:])
	if num == 0 || entsize != 56 {
		return nil, bad("has no program headers, so nothing can be loaded from it; copy or build it again")
	}
	truncated := func(end uint64) error {
		return bad("is truncated: it has %d bytes and its headers speak of %d; copy or build it again", size, end)
	}
	end := phoff + uint64(num)*56
	if end < phoff || end > uint64(size) {
		return nil, truncated(end)
	}
	table := make([]byte, int(num)*56)
	if _, err := r.ReadAt(table, int64(phoff)); err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading program headers: %w", err)
	}
	var dyn *phdr
	var loads []phdr
	for i := range int(num) {
		p := table[i*56:]
		ph := phdr{elf.ProgType(le.Uint32(p)), le.Uint64(p[8:]), le.Uint64(p[16:]), le.Uint64(p[32:]), le.Uint64(p[40:])}
		switch ph.typ {
		case elf.PT_LOAD, elf.PT_INTERP, elf.PT_DYNAMIC:
			if e := ph.off + ph.filesz; e < ph.off || e > uint64(size) {
				return nil, truncated(e)
			}
		}
		switch ph.typ {
		case elf.PT_LOAD:
			loads = append(loads, ph)
		case elf.PT_INTERP:
			if ph.filesz == 0 || ph.filesz > 4096 {
				return nil, bad("has an interpreter name of %d bytes; copy or build it again", ph.filesz)
			}
			b := make([]byte, ph.filesz)
			if _, err := r.ReadAt(b, int64(ph.off)); err != nil && err != io.EOF {
				return nil, err
			}
			info.Interp, _, _ = strings.Cut(string(b), "\x00")
		case elf.PT_DYNAMIC:
			d := ph
			dyn = &d
		}
	}
	if end := sectionsEnd(r, size, hdr); end > uint64(size) {
		return nil, truncated(end)
	}
	if len(loads) == 0 {
		return nil, bad("has no segment to load, so it is not a program; give the program itself (a file of debug information has none)")
	}
	if dyn == nil {
		return info, nil
	}
	info.Dynamic = true
	if err := info.readDynamic(r, size, dyn, loads); err != nil {
		return nil, bad("has a broken dynamic section (%v); copy or build it again", err)
	}
	return info, nil
}

// sectionsEnd is where the sections and their table end, 0 if there are none. Nothing of
// them is loaded, but a file that lacks some was not copied whole.
func sectionsEnd(r io.ReaderAt, size int64, hdr []byte) uint64 {
	le := binary.LittleEndian
	off, entsize, num := le.Uint64(hdr[40:]), uint64(le.Uint16(hdr[58:])), uint64(le.Uint16(hdr[60:]))
	if off == 0 || num == 0 || entsize != 64 {
		return 0
	}
	end := off + num*entsize
	if end < off || end > uint64(size) {
		return max(end, off)
	}
	table := make([]byte, num*entsize)
	if _, err := r.ReadAt(table, int64(off)); err != nil && err != io.EOF {
		return 0
	}
	for ; len(table) > 0; table = table[entsize:] {
		typ, soff, slen := elf.SectionType(le.Uint32(table[4:])), le.Uint64(table[24:]), le.Uint64(table[32:])
		if typ == elf.SHT_NULL || typ == elf.SHT_NOBITS {
			continue
		}
		if e := soff + slen; e >= soff {
			end = max(end, e)
		}
	}
	return end
}

// maxTable bounds what a broken file can make pack read.
const maxTable = 16 << 20

func (info *Info) readDynamic(r io.ReaderAt, size int64, dyn *phdr, loads []phdr) error {
	if dyn.filesz > maxTable {
		return fmt.Errorf("%d bytes long", dyn.filesz)
	}
	b := make([]byte, dyn.filesz)
	if _, err := r.ReadAt(b, int64(dyn.off)); err != nil && err != io.EOF {
		return err
	}
	var strAddr, strSize uint64
	type ref struct {
		tag elf.DynTag
		off uint64
	}
	var refs []ref
	for ; len(b) >= 16; b = b[16:] {
		tag, val := elf.DynTag(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint64(b[8:])
		if tag == elf.DT_NULL {
			break
		}
		switch tag {
		case elf.DT_STRTAB:
			strAddr = val
		case elf.DT_STRSZ:
			strSize = val
		case elf.DT_FLAGS_1:
			info.Flags1 = val
		case elf.DT_NEEDED, elf.DT_RPATH, elf.DT_RUNPATH, elf.DT_SONAME:
			refs = append(refs, ref{tag, val})
		}
	}
	if len(refs) == 0 {
		return nil
	}
	if strSize > maxTable {
		return fmt.Errorf("a string table of %d bytes", strSize)
	}
	off, ok := fileOffset(loads, strAddr, strSize)
	if !ok || off+strSize > uint64(size) {
		return errors.New("its string table is not in the file")
	}
	strs := make([]byte, strSize)
	if _, err := r.ReadAt(strs, int64(off)); err != nil && err != io.EOF {
		return err
	}
	for _, rf := range refs {
		if rf.off >= strSize {
			return errors.New("a name outside the string table")
		}
		s, _, _ := strings.Cut(string(strs[rf.off:]), "\x00")
		switch rf.tag {
		case elf.DT_NEEDED:
			info.Needed = append(info.Needed, s)
		case elf.DT_SONAME:
			info.Soname = s
		case elf.DT_RPATH:
			info.RPath = splitPath(s)
		case elf.DT_RUNPATH:
			info.RunPath = splitPath(s)
		}
	}
	return nil
}

func fileOffset(loads []phdr, addr, size uint64) (uint64, bool) {
	for _, p := range loads {
		if addr >= p.vaddr && addr-p.vaddr <= p.filesz && size <= p.filesz-(addr-p.vaddr) {
			return p.off + addr - p.vaddr, true
		}
	}
	return 0, false
}

func splitPath(s string) []string {
	var out []string
	for _, d := range strings.Split(s, ":") {
		if d != "" {
			out = append(out, d)
		}
	}
	return out
}
