package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"reflect"
	"strings"
	"testing"
)

// fakeKernel is an ELF with a stub at 1 MiB, a note, and a text segment with bss.
func fakeKernel() []byte {
	le := binary.LittleEndian
	stub := append(BootBlock{KernelEnd: KernelPhys + 100}.Encode(), "stub code"...)
	text := bytes.Repeat([]byte{0x90}, 100)
	phdrs := []phdr{
		{Type: ptLoad, Flags: 5, Off: 0x1000, Vaddr: StubPhys, Paddr: StubPhys, Filesz: uint64(len(stub)), Memsz: uint64(len(stub)), Align: 4096},
		{Type: 4, Flags: 4, Off: 0x1000, Filesz: 0},
		{Type: ptLoad, Flags: 5, Off: 0x2000, Vaddr: KernelVirt, Paddr: KernelPhys, Filesz: 100, Memsz: 0x12345, Align: 4096},
	}
	b := make([]byte, 0x2000+100)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)
	le.PutUint16(b[18:], 62)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], StubPhys)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], phdrSize)
	le.PutUint16(b[56:], uint16(len(phdrs)))
	var t bytes.Buffer
	binary.Write(&t, le, phdrs)
	copy(b[64:], t.Bytes())
	copy(b[0x1000:], stub)
	copy(b[0x2000:], text)
	return b
}

type rootBytes []byte

func (r rootBytes) Size() int64 { return int64(len(r)) }
func (r rootBytes) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(r)
	return int64(n), err
}

func testConfig() *Config {
	return &Config{Version: ConfigVersion, Name: "x", Program: "/bin/x", Args: []string{"x", "a b"}}
}

func build(t *testing.T, k *Kernel, cfg *Config, root Root) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := Write(t.Context(), &out, k, cfg, root); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestImageIsALoadableELFWithTheRootOnAPage(t *testing.T) {
	k, err := ReadKernel(fakeKernel())
	if err != nil {
		t.Fatal(err)
	}
	root := rootBytes(bytes.Repeat([]byte("R"), 3*PageSize))
	img := build(t, k, testConfig(), root)
	e, err := elf.NewFile(bytes.NewReader(img)) // an independent reader
	if err != nil {
		t.Fatal(err)
	}
	last := e.Progs[len(e.Progs)-1]
	boot, err := DecodeBootBlock(img[0x1000:])
	if err != nil {
		t.Fatal(err)
	}
	if last.Type != elf.PT_LOAD || last.Paddr != boot.ImagePhys || last.Off%PageSize != 0 || last.Paddr%PageSize != 0 {
		t.Errorf("last segment %+v, boot %+v", last.ProgHeader, boot)
	}
	if boot.ImagePhys < KernelPhys+0x12345 {
		t.Errorf("image at %#x lies on the kernel's bss", boot.ImagePhys)
	}
	if boot.ImageEnd != last.Paddr+last.Memsz || boot.MinRAM < boot.ImageEnd+WorkingMemory || boot.KernelEnd != KernelPhys+100 {
		t.Errorf("boot block %+v", boot)
	}
	seg := make([]byte, last.Filesz)
	if _, err := last.ReadAt(seg, 0); err != nil {
		t.Fatal(err)
	}
	h, err := DecodeHeader(seg)
	if err != nil || h.RootOff%PageSize != 0 || !bytes.Equal(seg[h.RootOff:h.RootOff+h.RootLen], root) {
		t.Errorf("header %+v, %v", h, err)
	}
	cfg, err := ParseConfig(seg[h.ConfigOff : h.ConfigOff+h.ConfigLen])
	if err != nil || !reflect.DeepEqual(cfg, testConfig()) {
		t.Errorf("config %+v, %v", cfg, err)
	}
}

func TestImageCanBeTakenApartAndMadeAgain(t *testing.T) {
	k, err := ReadKernel(fakeKernel())
	if err != nil {
		t.Fatal(err)
	}
	root := rootBytes(make([]byte, PageSize))
	img := build(t, k, testConfig(), root)
	f, err := Open(bytes.NewReader(img), int64(len(img)))
	if err != nil {
		t.Fatal(err)
	}
	k2, err := f.ExtractKernel(bytes.NewReader(img))
	if err != nil {
		t.Fatal(err)
	}
	if again := build(t, k2, f.Config, root); !bytes.Equal(again, img) {
		t.Error("the image made from the extracted kernel differs")
	}
	// Without its root and with a longer configuration.
	f.Config.Env = []string{"X=" + strings.Repeat("y", 3*PageSize)}
	trimmed := build(t, k2, f.Config, nil)
	g, err := Open(bytes.NewReader(trimmed), int64(len(trimmed)))
	if err != nil || g.Header.RootLen != 0 || g.Config.Env[0] != f.Config.Env[0] {
		t.Errorf("%+v %v", g, err)
	}
}

func TestWhatIsNoKernelOrImageIsRefused(t *testing.T) {
	good := fakeKernel()
	k, _ := ReadKernel(good)
	img := build(t, k, testConfig(), nil)
	noBoot := bytes.Clone(good)
	noBoot[0x1000] = 'X'
	for name, b := range map[string][]byte{"empty": nil, "text": []byte(strings.Repeat("hello", 40)), "no boot block": noBoot,
		"cut": good[:0x2001], "image": img} {
		if _, err := ReadKernel(b); err == nil {
			t.Errorf("%s is taken for a kernel", name)
		}
	}
	// No prefix of an image and no image with one damaged header byte may panic.
	for n := 0; n < len(img); n += 37 {
		if _, err := Open(bytes.NewReader(img[:n]), int64(n)); err == nil {
			t.Errorf("the first %d bytes are taken for an image", n)
		}
	}
	f, _ := Open(bytes.NewReader(img), int64(len(img)))
	for i := range int(f.SegmentOff) + HeaderSize {
		b := bytes.Clone(img)
		b[i] ^= 0xff
		if g, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			g.ExtractKernel(bytes.NewReader(b))
		}
	}
}

// A stub that stands behind the image segment belongs to no kernel that can be taken out.
func TestStubBehindTheImageIsRefused(t *testing.T) {
	le := binary.LittleEndian
	k, err := ReadKernel(fakeKernel())
	if err != nil {
		t.Fatal(err)
	}
	b := build(t, k, testConfig(), nil)
	at := le.Uint64(b[32:]) // the stub's program header is the first
	stub := le.Uint64(b[at+8:])
	le.PutUint64(b[at+8:], uint64(len(b)))
	b = append(b, b[stub:stub+le.Uint64(b[at+32:])]...)
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ExtractKernel(bytes.NewReader(b)); err == nil {
		t.Error("a kernel without a stub")
	}
}

// A root that is too large for memory is in the file and in no segment.
func TestRootTooLargeForMemoryIsDetached(t *testing.T) {
	defer func(end uint64) { lowRAMEnd = end }(lowRAMEnd)
	k, _ := ReadKernel(fakeKernel())
	root := rootBytes(bytes.Repeat([]byte("R"), 3*PageSize))
	fits := build(t, k, testConfig(), root)
	f, err := Open(bytes.NewReader(fits), int64(len(fits)))
	if err != nil || f.Detached {
		t.Fatalf("%+v %v", f, err)
	}
	lowRAMEnd = f.Boot.ImageEnd - 1
	img := build(t, k, testConfig(), root)
	g, err := Open(bytes.NewReader(img), int64(len(img)))
	if err != nil || !g.Detached || len(img) != len(fits) {
		t.Fatalf("%d bytes, %+v %v", len(img), g, err)
	}
	last := g.Segments[len(g.Segments)-1]
	if last.MemSize != g.Header.RootOff || g.Boot.ImageEnd != last.Phys+last.MemSize || g.Boot.MinRAM >= f.Boot.MinRAM {
		t.Errorf("segment %+v, boot %+v", last, g.Boot)
	}
	if b, err := io.ReadAll(g.RootSection(bytes.NewReader(img))); err != nil || !bytes.Equal(b, root) {
		t.Errorf("%d bytes of root, %v", len(b), err)
	}
	if _, err := Open(bytes.NewReader(img), int64(len(img)-1)); err == nil {
		t.Error("a file that ends before its root is taken for an image")
	}
	k2, err := g.ExtractKernel(bytes.NewReader(img))
	if err != nil {
		t.Fatal(err)
	}
	if again := build(t, k2, g.Config, root); !bytes.Equal(again, img) {
		t.Error("the image made from the extracted kernel differs")
	}
}
