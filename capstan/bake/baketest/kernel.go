// Package baketest has a kernel for tests that do not boot one.
package baketest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"kiln/kernel/image"
)

// Kernel is an ELF file laid out as the kernel's, with nothing to run in it.
func Kernel() []byte {
	stub := append(image.BootBlock{KernelEnd: image.KernelPhys + 100}.Encode(), "stub"...)
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: image.StubPhys, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	binary.Write(&b, binary.LittleEndian, h)
	binary.Write(&b, binary.LittleEndian, []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: 5, Off: 0x1000, Vaddr: image.StubPhys, Paddr: image.StubPhys, Filesz: uint64(len(stub)), Memsz: uint64(len(stub)), Align: 4096},
		{Type: uint32(elf.PT_LOAD), Flags: 5, Off: 0x2000, Vaddr: image.KernelVirt, Paddr: image.KernelPhys, Filesz: 100, Memsz: 100, Align: 4096},
	})
	b.Write(make([]byte, 0x1000-b.Len()))
	b.Write(stub)
	b.Write(make([]byte, 0x2000+100-b.Len()))
	return b.Bytes()
}

// Setup writes the kernel to a file that pack finds, and gives pack a cache of its own.
func Setup(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "kernel.elf")
	if err := os.WriteFile(name, Kernel(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KILN_KERNEL", name)
	t.Setenv("KILN_CACHE", filepath.Join(dir, "cache"))
}
