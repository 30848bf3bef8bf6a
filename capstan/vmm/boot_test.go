package vmm

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/kernel/image"
)

// tinyKernel is a PVH kernel that writes the first 8 bytes at its ImagePhys to the
// serial port and resets the machine by a triple fault.
func tinyKernel() []byte {
	code := []byte{
		0x8b, 0x35, 0x08, 0x00, 0x10, 0x00, // mov esi, [StubPhys+8]
		0xb9, 8, 0, 0, 0, // mov ecx, 8
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xac, 0xee, 0xe2, 0xfc, // next: lodsb; out dx, al; loop next
		0x0f, 0x01, 0x1d, 0x48, 0x00, 0x10, 0x00, // lidt [StubPhys+72]: zeros
		0xcc, // int3
	}
	stub := append(image.BootBlock{KernelEnd: image.StubPhys + 4096}.Encode(), code...)
	stub = append(stub, make([]byte, 128-len(stub))...)
	entry := uint32(image.StubPhys + image.BootBlockSize)
	note := binary.LittleEndian.AppendUint32(nil, 4) // name
	note = binary.LittleEndian.AppendUint32(note, 4) // descriptor
	note = binary.LittleEndian.AppendUint32(note, 18)
	note = append(note, "Xen\x00"...)
	note = binary.LittleEndian.AppendUint32(note, entry)
	const noteOff = 0x200
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: uint64(entry), Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, h)
	n := uint64(len(stub))
	binary.Write(&b, binary.LittleEndian, []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: 5, Off: 0x1000, Vaddr: image.StubPhys, Paddr: image.StubPhys, Filesz: n, Memsz: n, Align: 4096},
		{Type: uint32(elf.PT_NOTE), Flags: 4, Off: noteOff, Vaddr: 0, Paddr: 0, Filesz: uint64(len(note)), Memsz: uint64(len(note)), Align: 4},
	})
	b.Write(make([]byte, noteOff-b.Len()))
	b.Write(note)
	b.Write(make([]byte, 0x1000-b.Len()))
	b.Write(stub)
	return b.Bytes()
}

// A real machine of every kind loads the kernel and behind it the image segment, and a
// reset without a word on the program is status 125.
func TestEveryMachineLoadsTheImageWhereItsBootBlockSays(t *testing.T) {
	if _, err := exec.LookPath(QEMU); err != nil {
		t.Skip("no QEMU here")
	}
	k, err := image.ReadKernel(tinyKernel())
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "tiny.img")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &image.Config{Version: image.ConfigVersion, Name: "tiny", Program: "/x", Args: []string{"x"}}
	if _, err := image.Write(t.Context(), f, k, cfg, pages(3)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, kind := range Kinds {
		p, err := Prepare(context.Background(), name, "auto", func(c *image.Config) (bool, error) { c.Env = []string{"A=b"}; return kind == "pc", nil })
		if err != nil {
			t.Fatal(err)
		}
		m := machine()
		m.Kind, m.Kernel = kind, p.Kernel
		var out, errs lockedBuffer
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		status, err := Run(ctx, m, Streams{Out: &out, Err: &errs, Plain: true}, nil)
		cancel()
		p.Close()
		if err != nil || status != PanicStatus || !strings.Contains(out.String(), image.HeaderMagic) || !strings.Contains(errs.String(), image.HeaderMagic) {
			t.Errorf("%s: status %d, %v, console %q, message %q", kind, status, err, out.String(), errs.String())
		}
		if _, err := os.Stat(p.Kernel); kind == "pc" && err == nil {
			t.Error("the file made for the run is still there")
		}
	}
}
