package loader

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
	"kiln/loader/vdso"
)

// memFile is a program in memory.
type memFile struct {
	ObjectFile
	refs int
	bad  error
}

func (f *memFile) ReadAt(c wait.Context, b []byte, off int64) (int, error) {
	if f.bad != nil {
		return 0, f.bad
	}
	return f.ObjectFile.ReadAt(c, b, off)
}

// world is a machine with files.
type world struct {
	t     testing.TB
	m     *fake.Machine
	mem   *mm.Memory
	files map[string]*memFile
	start int
}

func newWorld(t testing.TB, frames int) *world {
	m := fake.New(frames)
	return &world{t: t, m: m, mem: mm.NewMemory(m), files: map[string]*memFile{}}
}

func (w *world) add(path string, data []byte) {
	o := mm.NewObject(w.mem, nil, 0)
	src := mm.KernelIO(data)
	if _, err := o.WriteAt(nil, &src, 0); err != nil {
		w.t.Fatal(err)
	}
	f := &memFile{}
	f.ObjectFile = ObjectFile{Cache: o, Name: path, Dev: 8, Ino: 42,
		Pin: func() { f.refs++ }, Unpin: func() { f.refs-- }}
	w.files[path] = f
	w.start = w.m.FreePages()
}

func (w *world) open(path string) (File, error) {
	f := w.files[path]
	if f == nil {
		return nil, unix.ENOENT
	}
	f.refs++
	return f, nil
}

func (w *world) load(r Request) (*Image, error) {
	r.Open = w.open
	return Load(nil, w.mem, r)
}

// checkEmpty fails if a load left references or frames behind.
func (w *world) checkEmpty() {
	w.t.Helper()
	for p, f := range w.files {
		if f.refs != 0 {
			w.t.Errorf("%s: %d references left", p, f.refs)
		}
	}
	if n := w.m.FreePages(); n != w.start {
		w.t.Errorf("%d frames leaked", w.start-n)
	}
}

func (w *world) drop(img *Image) {
	img.Space.DecUsers()
	img.Exe.DecRef()
}

func (w *world) bytes(img *Image, a hal.UserAddr, n int) []byte {
	w.t.Helper()
	b := make([]byte, n)
	if _, err := img.Space.CopyIn(nil, b, a); err != nil {
		w.t.Fatalf("at %#x: %v", a, err)
	}
	return b
}

func (w *world) word(img *Image, a hal.UserAddr) uint64 {
	return binary.LittleEndian.Uint64(w.bytes(img, a, 8))
}

func (w *world) str(img *Image, a uint64) string {
	w.t.Helper()
	s, err := img.Space.CopyInString(nil, hal.UserAddr(a), 1<<20)
	if err != nil {
		w.t.Fatalf("string at %#x: %v", a, err)
	}
	return s
}

// ph is a program header of a made-up ELF file.
type ph struct {
	typ, flags                        uint32
	off, vaddr, filesz, memsz, palign uint64
}

// makeELF builds a file: headers, then size bytes in all, filled with 0xcc.
func makeELF(typ uint16, entry uint64, size int, phs ...ph) []byte {
	b := bytes.Repeat([]byte{0xcc}, max(size, ehSize+len(phs)*phSize))
	clear(b[:ehSize])
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], typ)
	le.PutUint16(b[18:], emX86)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], entry)
	le.PutUint64(b[32:], ehSize)
	le.PutUint16(b[52:], ehSize)
	le.PutUint16(b[54:], phSize)
	le.PutUint16(b[56:], uint16(len(phs)))
	for i, p := range phs {
		q := b[ehSize+i*phSize:]
		le.PutUint32(q, p.typ)
		le.PutUint32(q[4:], p.flags)
		le.PutUint64(q[8:], p.off)
		le.PutUint64(q[16:], p.vaddr)
		le.PutUint64(q[24:], p.vaddr)
		le.PutUint64(q[32:], p.filesz)
		le.PutUint64(q[40:], p.memsz)
		le.PutUint64(q[48:], p.palign)
	}
	return b
}

// plain is a small fixed program: text, and data with a zero tail over two pages.
func plain() []byte {
	return makeELF(etExec, 0x400080, 0x3000,
		ph{ptLoad, pfR | pfX, 0, 0x400000, 0x1000, 0x1000, 0x1000},
		ph{ptLoad, pfR | pfW, 0x1000, 0x401000, 0x234, 0x3000, 0x1000},
		ph{ptGNUStack, pfR | pfW, 0, 0, 0, 0, 16})
}

func pie(interp string) []byte {
	b := makeELF(etDyn, 0x80, 0x2000,
		ph{ptInterp, pfR, 0x800, 0x800, uint64(len(interp) + 1), uint64(len(interp) + 1), 1},
		ph{ptLoad, pfR | pfX, 0, 0, 0x1000, 0x1000, 0x1000},
		ph{ptLoad, pfR | pfW, 0x1000, 0x1000, 0x100, 0x100, 0x1000})
	copy(b[0x800:], interp+"\x00")
	return b
}

func interp() []byte {
	return makeELF(etDyn, 0x90, 0x1000, ph{ptLoad, pfR | pfX, 0, 0, 0x1000, 0x1000, 0x1000})
}

// aux reads the vector from the stack.
func (w *world) aux(img *Image) (m map[uint64]uint64, at hal.UserAddr) {
	at = img.SP + 8
	for range 2 {
		for w.word(img, at) != 0 {
			at += 8
		}
		at += 8
	}
	m = map[uint64]uint64{}
	for a := at; ; a += 16 {
		tag := w.word(img, a)
		if tag == 0 {
			return m, at
		}
		m[tag] = w.word(img, a+8)
	}
}

func TestFixedProgramIsMappedWithItsZeroTail(t *testing.T) {
	w := newWorld(t, 512)
	w.add("/p", plain())
	img, err := w.load(Request{Filename: "/p", Argv: []string{"p"}})
	if err != nil {
		t.Fatal(err)
	}
	if img.Entry != 0x400080 || img.Base != 0 || img.Interp != "" {
		t.Errorf("%+v", img)
	}
	if b := w.bytes(img, 0x401000, 0x3000); b[0x233] != 0xcc || len(bytes.Trim(b[0x234:], "\x00")) != 0 {
		t.Errorf("the zero tail is not zero")
	}
	if _, err := img.Space.CopyOut(nil, 0x400000, []byte{1}); err != unix.EFAULT {
		t.Errorf("text can be written: %v", err)
	}
	if _, ok := img.Space.Find(0x404000); ok {
		t.Errorf("mapped beyond the end")
	}
	v, _ := img.Space.Find(0x400000)
	if v.Name != "/p" || v.Dev != 8 || v.Ino != 42 || v.Prot != hal.ProtRead|hal.ProtExec {
		t.Errorf("%+v", v)
	}
	if img.BrkStart < 0x404000 || img.BrkStart >= 0x404000+brkRange {
		t.Errorf("break at %#x", img.BrkStart)
	}
	if now := img.Space.Brk(nil, img.BrkStart+5000); now != img.BrkStart+5000 {
		t.Errorf("brk gives %#x", now)
	}
	w.drop(img)
	w.checkEmpty()
}

func TestDynamicProgramStartsInItsInterpreter(t *testing.T) {
	w := newWorld(t, 512)
	w.add("/p", pie("/lib/ld.so"))
	w.add("/lib/ld.so", interp())
	for _, noRandom := range []bool{true, false} {
		img, err := w.load(Request{Filename: "/p", Argv: []string{"p"}, NoRandom: noRandom})
		if err != nil {
			t.Fatal(err)
		}
		if noRandom && img.Base != 0x555555554000 {
			t.Errorf("base %#x", img.Base)
		}
		if img.Base < 0x555555554000 || img.Base >= 0x665555554000 || img.Base%hal.PageSize != 0 {
			t.Errorf("base %#x", img.Base)
		}
		if img.Entry != img.InterpBase+0x90 || img.Interp != "/lib/ld.so" || img.InterpBase < 0x7eff00000000 {
			t.Errorf("entry %#x, interpreter at %#x", img.Entry, img.InterpBase)
		}
		aux, _ := w.aux(img)
		if aux[atBase] != uint64(img.InterpBase) || aux[atEntry] != uint64(img.Base)+0x80 ||
			aux[atPhdr] != uint64(img.Base)+ehSize || aux[atPhnum] != 3 || aux[atPhent] != phSize {
			t.Errorf("auxv %v", aux)
		}
		w.drop(img)
	}
	w.checkEmpty()
}

func TestStackIsLaidOutAsLinuxDoes(t *testing.T) {
	w := newWorld(t, 512)
	w.m.Feat.FSGSBASE = true
	w.add("/bin/p", plain())
	v, err := vdso.New(w.mem)
	if err != nil {
		t.Fatal(err)
	}
	img, err := w.load(Request{Filename: "/bin/p", Argv: []string{"p", "", "two words"}, Env: []string{"A=1", "B="},
		UID: 1, EUID: 2, GID: 3, EGID: 4, Secure: true, VDSO: v})
	if err != nil {
		t.Fatal(err)
	}
	if img.SP%16 != 0 || w.word(img, img.SP) != 3 {
		t.Errorf("SP %#x, argc %d", img.SP, w.word(img, img.SP))
	}
	var got []string
	for i := range hal.UserAddr(7) {
		p := w.word(img, img.SP+8+8*i)
		if p == 0 {
			got = append(got, "<nil>")
		} else {
			got = append(got, w.str(img, p))
		}
	}
	if want := []string{"p", "", "two words", "<nil>", "A=1", "B=", "<nil>"}; strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("vectors %q", got)
	}
	if s := string(w.bytes(img, img.Args.Start, int(img.Envs.End-img.Args.Start))); s != "p\x00\x00two words\x00A=1\x00B=\x00" {
		t.Errorf("strings %q", s)
	}
	aux, at := w.aux(img)
	want := map[uint64]uint64{atUID: 1, atEUID: 2, atGID: 3, atEGID: 4, atSecure: 1, atPagesz: 4096, atClktck: 100,
		atFlags: 0, atHWCAP: uint64(w.m.Feat.HWCAP), atHWCAP2: 2, atBase: 0, atSysinfoEhdr: uint64(img.VDSO)}
	for k, x := range want {
		if g, ok := aux[k]; !ok || g != x {
			t.Errorf("auxv %d is %#x (%v), want %#x", k, g, ok, x)
		}
	}
	if s := w.str(img, aux[atExecfn]); s != "/bin/p" {
		t.Errorf("AT_EXECFN %q", s)
	}
	if s := w.str(img, aux[atPlatform]); s != "x86_64" {
		t.Errorf("AT_PLATFORM %q", s)
	}
	if b := w.bytes(img, hal.UserAddr(aux[atRandom]), 16); bytes.Equal(b, make([]byte, 16)) {
		t.Errorf("AT_RANDOM is zero")
	}
	if b := w.bytes(img, at, len(img.Auxv)); !bytes.Equal(b, img.Auxv) {
		t.Errorf("saved auxv differs from the stack's")
	}
	st, _ := img.Space.Find(img.SP)
	if st.Name != "[stack]" || st.End-hal.UserAddr(len("/bin/p")+1+8) != img.Envs.End || st.Prot&hal.ProtExec != 0 {
		t.Errorf("stack %+v, strings end %#x", st, img.Envs.End)
	}
	if b := w.bytes(img, img.VDSO, 4); string(b) != "\x7fELF" {
		t.Errorf("vDSO starts with %q", b)
	}
	if d, _ := img.Space.Find(img.VDSO - 1); d.Name != "[vvar]" || d.Prot != hal.ProtRead {
		t.Errorf("before the vDSO: %+v", d)
	}
	if err := img.Space.Mprotect(img.VDSO-hal.PageSize, hal.PageSize, hal.ProtRead|hal.ProtWrite); err != unix.EACCES {
		t.Errorf("vvar can be made writable: %v", err)
	}
	// The stack grows below what is mapped.
	if _, err := img.Space.CopyOut(nil, st.Start-100, []byte{1}); err != nil {
		t.Errorf("stack does not grow: %v", err)
	}
}

func TestLayoutIsRandomUnlessSwitchedOff(t *testing.T) {
	w := newWorld(t, 1024)
	w.add("/p", makeELF(etDyn, 0x80, 0x1000, ph{ptLoad, pfR | pfX, 0, 0, 0x1000, 0x1000, 0x1000}))
	seen := map[hal.UserAddr]int{}
	for range 8 {
		img, err := w.load(Request{Filename: "/p", Argv: []string{"p"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range []hal.UserAddr{img.Base, img.SP, img.BrkStart} {
			seen[a]++
		}
		if img.BrkStart < hal.UserAddr(pieBase) || img.BrkStart > hal.UserAddr(pieBase)+brkRange {
			t.Errorf("static PIE's break at %#x", img.BrkStart)
		}
		w.drop(img)
	}
	if len(seen) != 24 {
		t.Errorf("%d different places of 24", len(seen))
	}
	var last Image
	for i := range 2 {
		img, err := w.load(Request{Filename: "/p", Argv: []string{"p"}, NoRandom: true})
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && (img.Base != last.Base || img.SP != last.SP || img.BrkStart != last.BrkStart) {
			t.Errorf("places differ without randomisation")
		}
		last = *img
		w.drop(img)
	}
}

func TestScripts(t *testing.T) {
	w := newWorld(t, 512)
	w.add("/bin/sh", plain())
	w.add("/s", []byte("#! /bin/sh  -e  x y \t\necho"))
	img, err := w.load(Request{Filename: "/s", Argv: []string{"zero", "one"}})
	if err != nil {
		t.Fatal(err)
	}
	want := "/bin/sh\x00-e  x y\x00/s\x00one\x00"
	if s := string(w.bytes(img, img.Args.Start, len(want))); s != want {
		t.Errorf("arguments %q, want %q", s, want)
	}
	aux, _ := w.aux(img)
	if s := w.str(img, aux[atExecfn]); s != "/s" || img.Exe.Path() != "/bin/sh" {
		t.Errorf("AT_EXECFN %q, exe %q", s, img.Exe.Path())
	}
	w.drop(img)
	if _, err := w.load(Request{Filename: "/s", Unreachable: true}); err != unix.ENOENT {
		t.Errorf("unreachable script: %v", err)
	}
	w.checkEmpty()
}

func TestScriptLineRules(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		head, name, arg string
		err             error
	}{
		{"#!/bin/sh\n", "/bin/sh", "", nil},
		{"#!/bin/sh", "/bin/sh", "", nil}, // padded with NUL
		{"#!\t /bin/sh\t a b \n", "/bin/sh", "a b", nil},
		{"#!\n", "", "", unix.ENOEXEC},
		{"#!   \n", "", "", unix.ENOEXEC},
		{"#!", "", "", unix.EACCES},
		{"#!" + long, "", "", unix.ENOEXEC},                  // may be cut off
		{"#!/bin/sh " + long, "/bin/sh", long[:255-10], nil}, // argument may
		{"#!" + long[:200] + "\nx", long[:200], "", nil},
		{"#!/bin/sh\x00 -x\n", "/bin/sh", "", nil},
		{"#!" + strings.Repeat(" ", 300), "", "", unix.ENOEXEC},
	} {
		head := make([]byte, headLen)
		copy(head, c.head)
		name, arg, err := parseScript(head)
		if name != c.name || arg != c.arg || err != c.err {
			t.Errorf("%.40q: %.40q %.40q %v, want %.40q %.40q %v", c.head, name, arg, err, c.name, c.arg, c.err)
		}
	}
}

func TestScriptsOfScriptsEndInELOOP(t *testing.T) {
	w := newWorld(t, 512)
	w.add("/s0", plain())
	for i := 1; i <= 6; i++ {
		n := string(rune('0' + i))
		w.add("/s"+n, []byte("#!/s"+string(rune('0'+i-1))+"\n"))
	}
	img, err := w.load(Request{Filename: "/s5", Argv: []string{"a"}})
	if err != nil {
		t.Fatalf("five levels: %v", err)
	}
	w.drop(img)
	if _, err := w.load(Request{Filename: "/s6", Argv: []string{"a"}}); err != unix.ELOOP {
		t.Errorf("six levels: %v", err)
	}
	w.checkEmpty()
}

func TestErrorsAreLinuxs(t *testing.T) {
	w := newWorld(t, 1024)
	put16 := func(b []byte, off int, v uint16) []byte { binary.LittleEndian.PutUint16(b[off:], v); return b }
	noNUL := pie("/lib/ld.so")
	noNUL[0x800+10] = 'x'
	w.add("/empty", nil)
	w.add("/text", []byte("hello"))
	w.add("/arm", put16(plain(), 18, 183))
	w.add("/rel", put16(plain(), 16, 1))
	w.add("/phsize", put16(plain(), 54, 32))
	w.add("/phnum0", put16(plain(), 56, 0))
	w.add("/phnum", put16(plain(), 56, 65535))
	w.add("/cut", plain()[:100])
	w.add("/nointerp", pie("/lib/none"))
	w.add("/badinterp", pie("/text2"))
	w.add("/text2", bytes.Repeat([]byte("x"), 100))
	w.add("/shortinterp", pie("/text"))
	w.add("/noNUL", noNUL)
	w.add("/longinterp", makeELF(etDyn, 0, 0x3000, ph{ptInterp, pfR, 0, 0, 4097, 4097, 1}))
	w.add("/ioerr", plain())
	w.files["/ioerr"].bad = unix.EIO
	for _, c := range []struct {
		path string
		err  error
	}{
		{"/none", unix.ENOENT}, {"/empty", unix.ENOEXEC}, {"/text", unix.ENOEXEC}, {"/arm", unix.ENOEXEC},
		{"/rel", unix.ENOEXEC}, {"/phsize", unix.ENOEXEC}, {"/phnum0", unix.ENOEXEC}, {"/phnum", unix.ENOEXEC},
		{"/cut", unix.ENOEXEC}, {"/nointerp", unix.ENOENT}, {"/badinterp", unix.ELIBBAD},
		{"/shortinterp", unix.EIO}, {"/noNUL", unix.ENOEXEC}, {"/longinterp", unix.ENOEXEC}, {"/ioerr", unix.EIO},
	} {
		if _, err := w.load(Request{Filename: c.path, Argv: []string{"x"}}); err != c.err {
			t.Errorf("%s: %v, want %v", c.path, err, c.err)
		}
	}
	w.checkEmpty()
}

func TestBadSegmentsAreRefused(t *testing.T) {
	load := func(p ...ph) []byte { return makeELF(etExec, 0x400000, 0x2000, p...) }
	text := ph{ptLoad, pfR | pfX, 0, 0x400000, 0x1000, 0x1000, 0x1000}
	for name, c := range map[string]struct {
		data []byte
		err  error
	}{
		"file larger than memory": {load(ph{ptLoad, pfR, 0, 0x400000, 0x1000, 0x800, 1}), unix.EINVAL},
		"above the top":           {load(ph{ptLoad, pfR, 0, 0x7ffffffff000, 0x1000, 0x1000, 1}), unix.ENOMEM},
		"end above the top":       {load(ph{ptLoad, pfR, 0, 0x7fffffffe000, 0x1000, 0x3000, 1}), unix.EINVAL},
		"wraps around":            {load(ph{ptLoad, pfR, 0, 0xfffffffffffff000, 0x1000, 0x2000, 1}), unix.ENOMEM},
		"huge file size":          {load(ph{ptLoad, pfR, 0, 0x400000, ^uint64(0) - 5, ^uint64(0) - 5, 1}), unix.EINVAL},
		"huge memory":             {load(ph{ptLoad, pfR | pfW, 0, 0x400000, 0x1000, 1 << 45, 1}), unix.ENOMEM},
		"page zero":               {load(ph{ptLoad, pfR, 0, 0, 0x1000, 0x1000, 1}), unix.EPERM},
		"misaligned offset":       {load(ph{ptLoad, pfR, 0x123, 0x400000, 0x1000, 0x1000, 1}), unix.EINVAL},
		"huge offset":             {load(ph{ptLoad, pfR, 1<<63 - 0x1000, 0x400000, 0x1000, 0x1000, 1}), unix.EOVERFLOW},
		"entry above the top":     {makeELF(etExec, 1<<63, 0x1000, text), unix.EINVAL},
		"zero tail in read-only":  {load(text, ph{ptLoad, pfR, 0x1000, 0x401000, 0x100, 0x200, 1}), unix.EFAULT},
		"PIE without segments":    {makeELF(etDyn, 0, 0x1000, ph{ptGNUStack, pfR, 0, 0, 0, 0, 0}), unix.EINVAL},
	} {
		w := newWorld(t, 256)
		w.add("/p", c.data)
		_, err := w.load(Request{Filename: "/p", Argv: []string{"x"}})
		var late *LateError
		if !errors.As(err, &late) || late.Errno != c.err {
			t.Errorf("%s: %v, want late %v", name, err, c.err)
		}
		w.checkEmpty()
	}
}

func TestArgumentLimits(t *testing.T) {
	w := newWorld(t, 8192)
	w.add("/p", plain())
	big := strings.Repeat("x", maxString)
	if _, err := w.load(Request{Filename: "/p", Argv: []string{big}}); err != unix.E2BIG {
		t.Errorf("a string of 128 KB: %v", err)
	}
	var many []string
	for range 15 {
		many = append(many, big[1:]) // 2 MB less 128 KB in all
	}
	img, err := w.load(Request{Filename: "/p", Argv: many})
	if err != nil {
		t.Fatalf("under a quarter of the stack: %v", err)
	}
	if s := w.str(img, w.word(img, img.SP+8*15)); s != big[1:] {
		t.Errorf("the last argument differs")
	}
	w.drop(img)
	if _, err := w.load(Request{Filename: "/p", Argv: append(many, big[1:])}); err != unix.E2BIG {
		t.Errorf("over a quarter of the stack: %v", err)
	}
	// A small stack limit still grants 128 KB, where the stack may grow to that.
	lim := mm.Limits{AS: ^uint64(0), Data: ^uint64(0), Stack: 256 << 10}
	img, err = w.load(Request{Filename: "/p", Argv: []string{big[:100<<10]}, Limits: lim})
	if err != nil {
		t.Fatalf("ARG_MAX under a small stack limit: %v", err)
	}
	w.drop(img)
	img, err = w.load(Request{Filename: "/p"})
	if err != nil || w.word(img, img.SP) != 1 || w.str(img, w.word(img, img.SP+8)) != "" {
		t.Errorf("empty argv: %v", err)
	}
	w.drop(img)
	w.checkEmpty()
}

func TestExecutableStackOnlyIfAsked(t *testing.T) {
	w := newWorld(t, 256)
	w.add("/x", makeELF(etExec, 0x400000, 0x1000, ph{ptLoad, pfR | pfX, 0, 0x400000, 0x1000, 0x1000, 1},
		ph{ptGNUStack, pfR | pfW | pfX, 0, 0, 0, 0, 16}))
	w.add("/none", makeELF(etExec, 0x400000, 0x1000, ph{ptLoad, pfR | pfX, 0, 0x400000, 0x1000, 0x1000, 1}))
	for path, want := range map[string]bool{"/x": true, "/none": false} {
		img, err := w.load(Request{Filename: path})
		if err != nil {
			t.Fatal(err)
		}
		v, _ := img.Space.Find(img.SP)
		if got := v.Prot&hal.ProtExec != 0; got != want || img.ExecStack != want {
			t.Errorf("%s: executable stack %v", path, got)
		}
		w.drop(img)
	}
}

// Real programs of the host, and their interpreter, are where debug/elf says.
func TestRealProgramsLoad(t *testing.T) {
	for _, prog := range []string{"/bin/ls", "/bin/true", "/usr/bin/python3", "/proc/self/exe"} {
		prog, err := filepath.EvalSymlinks(prog)
		if err != nil {
			continue
		}
		data, err := os.ReadFile(prog)
		if err != nil {
			continue
		}
		w := newWorld(t, 32768)
		w.add("/p", data)
		ef, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if ld, err := os.ReadFile("/lib64/ld-linux-x86-64.so.2"); err == nil {
			w.add("/lib64/ld-linux-x86-64.so.2", ld)
		}
		img, err := w.load(Request{Filename: "/p", Argv: []string{"p"}})
		if err != nil {
			t.Errorf("%s: %v", prog, err)
			continue
		}
		for _, p := range ef.Progs {
			if p.Type != elf.PT_LOAD || p.Filesz == 0 {
				continue
			}
			got := w.bytes(img, img.Base+hal.UserAddr(p.Vaddr), int(p.Filesz))
			if !bytes.Equal(got, data[p.Off:p.Off+p.Filesz]) {
				t.Errorf("%s: segment at %#x differs", prog, p.Vaddr)
			}
			if n := p.Memsz - p.Filesz; n > 0 {
				tail := w.bytes(img, img.Base+hal.UserAddr(p.Vaddr+p.Filesz), int(min(n, 1<<20)))
				if len(bytes.Trim(tail, "\x00")) != 0 {
					t.Errorf("%s: zero tail at %#x is not zero", prog, p.Vaddr)
				}
			}
		}
		w.drop(img)
		w.checkEmpty()
	}
}

// Whatever the file holds, Load refuses or loads it, and leaks nothing.
func FuzzLoad(f *testing.F) {
	f.Add(plain())
	f.Add(pie("/lib/ld.so"))
	f.Add(interp())
	f.Add([]byte("#!/p x\n"))
	f.Add(makeELF(etDyn, 0, 0x1000, ph{ptLoad, pfR | pfW, 0, 0x123, 0x100, 1 << 40, 1 << 30}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		w := newWorld(t, 256)
		w.add("/lib/ld.so", interp())
		w.add("/p", data)
		for _, path := range []string{"/p"} {
			img, err := w.load(Request{Filename: path, Argv: []string{"x"}, NoRandom: len(data)%2 == 0})
			if err == nil {
				w.drop(img)
			}
		}
		// The same bytes as an interpreter.
		w.add("/q", pie("/p"))
		if img, err := w.load(Request{Filename: "/q", Argv: []string{"x"}}); err == nil {
			w.drop(img)
		}
		w.checkEmpty()
	})
}
