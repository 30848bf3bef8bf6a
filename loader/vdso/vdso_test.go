package vdso

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
)

func TestObjectIsOneSegmentWithLinuxsSymbols(t *testing.T) {
	f, err := elf.NewFile(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	loads := 0
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			loads++
			if p.Vaddr != 0 || p.Off != 0 || p.Flags != elf.PF_R|elf.PF_X || p.Filesz != p.Memsz || p.Filesz > uint64(len(blob)) {
				t.Errorf("segment %+v", p.ProgHeader)
			}
		}
	}
	if loads != 1 {
		t.Errorf("%d segments", loads)
	}
	if so, _ := f.DynString(elf.DT_SONAME); len(so) != 1 || so[0] != "linux-vdso.so.1" {
		t.Errorf("soname %v", so)
	}
	for _, tag := range []elf.DynTag{elf.DT_NEEDED, elf.DT_RELA, elf.DT_REL, elf.DT_JMPREL, elf.DT_TEXTREL, elf.DT_PLTGOT} {
		if v, _ := f.DynValue(tag); len(v) != 0 {
			t.Errorf("has %v: nobody relocates it", tag)
		}
	}
	for _, tag := range []elf.DynTag{elf.DT_HASH, elf.DT_GNU_HASH, elf.DT_VERDEF, elf.DT_VERSYM} {
		if v, _ := f.DynValue(tag); len(v) != 1 {
			t.Errorf("lacks %v", tag)
		}
	}
	syms, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]elf.SymBind{}
	for _, s := range syms {
		if s.Version == "LINUX_2.6" || s.VersionIndex.IsHidden() == false {
			found[s.Name] = elf.ST_BIND(s.Info)
		}
	}
	for _, n := range []string{"clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu"} {
		if found["__vdso_"+n] != elf.STB_GLOBAL || found[n] != elf.STB_WEAK {
			t.Errorf("%s: %v, %v", n, found["__vdso_"+n], found[n])
		}
	}
}

// The committed object is what its source gives, with the tools that made it.
func TestObjectIsBuiltFromItsSource(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc")
	}
	out := filepath.Join(t.TempDir(), "vdso.so")
	tools, err := exec.Command("sh", "src/build.sh", out).CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, tools)
	}
	made, err := os.ReadFile("src/vdso.tools")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(made, tools) {
		t.Skipf("built by %q, here is %q: bytes may differ", made, tools)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, blob) {
		t.Error("vdso.so is not what src/vdso.c gives: go generate ./loader/vdso")
	}
}

// The code runs: every clock against the host's counter, fall-backs, bad numbers, and
// the budget of 80 instructions.
func TestClocksRunOnThisCPU(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc")
	}
	dir := t.TempDir()
	src, bin, so := filepath.Join(dir, "h.c"), filepath.Join(dir, "h"), filepath.Join(dir, "vdso.so")
	if err := os.WriteFile(src, []byte(harness), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(so, blob, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(gcc, "-O1", "-o", bin, src).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	out, err := exec.Command("timeout", "60", bin, so).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var mono, real int
	line := strings.TrimSpace(string(out))
	if _, err := fmt.Sscanf(line, "steps %d %d", &mono, &real); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	t.Logf("instructions: MONOTONIC %d, REALTIME %d", mono, real)
	if mono < 10 || mono > 80 || real > 80 {
		t.Errorf("instructions: MONOTONIC %d, REALTIME %d, budget 80", mono, real)
	}
}

func TestUpdateIsSeenByEveryProgram(t *testing.T) {
	mem := mm.NewMemory(fake.New(128))
	v, err := New(mem)
	if err != nil {
		t.Fatal(err)
	}
	var spaces [2]*mm.Space
	var data [2]hal.UserAddr
	for i := range spaces {
		if spaces[i], err = mm.NewSpace(mem); err != nil {
			t.Fatal(err)
		}
		at, err := v.Map(nil, spaces[i], 0x7f0000000000)
		if err != nil || at != 0x7f0000001000 {
			t.Fatalf("%#x, %v", at, err)
		}
		data[i] = at - hal.PageSize
	}
	for n := range uint64(3) {
		v.Update(hal.TimeParams{UsableTSC: true, TSCBase: n, Mult: 10 + n, MonoBase: int64(20 + n), RealOffset: -1})
		for i, s := range spaces {
			var b [48]byte
			if _, err := s.CopyIn(nil, b[:], data[i]); err != nil {
				t.Fatal(err)
			}
			if b[offSeq] != byte(2*n+2) || b[offUsable] != 1 || b[offTSCBase] != byte(n) || b[offMult] != byte(10+n) ||
				b[offMonoBase] != byte(20+n) || b[offRealOffset+7] != 0xff {
				t.Errorf("after update %d: % x", n, b)
			}
		}
	}
	if _, err := spaces[0].CopyOut(nil, data[0], []byte{1}); err != unix.EFAULT {
		t.Errorf("a program can write the clock: %v", err)
	}
	child, err := spaces[0].Fork()
	if err != nil {
		t.Fatal(err)
	}
	var b [4]byte
	if _, err := child.CopyIn(nil, b[:], data[0]+hal.PageSize); err != nil || string(b[:]) != "\x7fELF" {
		t.Errorf("after fork: %q, %v", b, err)
	}
}
