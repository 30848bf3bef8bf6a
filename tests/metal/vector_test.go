package metal

import (
	"debug/elf"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

// What the kernel may contain of code that touches more of the vector state than XMM and
// MXCSR (kernel/metal/user_amd64.s leaves the rest of it to programs), and why it never
// runs: OSXSAVE is off until every package has looked for AVX (enableVectors).
var guardedVectors = regexp.MustCompile(`^(` +
	// internal/cpu: X86.HasAVX, HasAVX2, HasAVX512*
	`cmpbody|countbody|memeqbody|indexbody|indexbytebody|runtime\.memclrNoHeapPointers|runtime\.memmove|runtime\.asyncPreempt` +
	`|expandAVX512_\d+|internal/runtime/gc/scan\.(FilterNilAVX512|scanSpanPackedAVX512)` +
	`|math\.archExp|hash/crc32\.ieeeCLMUL` +
	// the same through crypto/internal/fips140deps/cpu; SHANI's also asks for AVX
	`|crypto/sha1\.block(AVX2|SHANI)|crypto/internal/fips140/sha(256|512)\.block(AVX2|SHANI)` +
	// bytes that are never run
	`|crypto/internal/boring/sig\.StandardCrypto` +
	`)(\.abi0)?$`)

// vectorUse says whether code has an instruction of the VEX, EVEX, x87 or MMX kind.
func vectorUse(code []byte) (what string) {
	for len(code) > 0 {
		i := 0
		for i < len(code)-1 && (code[i]>>4 == 4 || code[i] == 0x66 || code[i] == 0xf2 || code[i] == 0xf3 || code[i] == 0xf0 || code[i] == 0x64 || code[i] == 0x65) {
			i++
		}
		switch c := code[i]; {
		case c == 0xc4 || c == 0xc5 || c == 0x62:
			return "VEX or EVEX"
		case c >= 0xd8 && c <= 0xdf:
			return "x87"
		case len(code) >= 3 && code[0] == 0x0f && code[1] == 0x01 && code[2]&^1 == 0xca: // CLAC, STAC
			code = code[3:]
			continue
		}
		in, err := x86asm.Decode(code, 64)
		if err != nil || in.Len == 0 {
			return "an instruction nobody knows"
		}
		for _, a := range in.Args {
			if r, ok := a.(x86asm.Reg); ok && r >= x86asm.M0 && r <= x86asm.M7 {
				return "MMX"
			}
		}
		code = code[in.Len:]
	}
	return ""
}

// TestVectorCode: nothing in the kernel changes the vector state that an exit from ring 3
// leaves in the processor.
func TestVectorCode(t *testing.T) {
	sources(t)
	out := filepath.Join(t.TempDir(), "kernel")
	cmd := exec.Command("tests/metal/build.sh", "./cmd/kernel", out)
	cmd.Dir = "../.."
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	f, err := elf.Open(out + ".elf")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	syms, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	text := f.Section(".text")
	code, err := text.Data()
	if err != nil {
		t.Fatal(err)
	}
	functions, guarded := 0, map[string]bool{}
	for _, s := range syms {
		if elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Value < text.Addr || s.Value+s.Size > text.Addr+text.Size {
			continue
		}
		functions++
		what := vectorUse(code[s.Value-text.Addr:][:s.Size])
		switch {
		case what == "":
		case guardedVectors.MatchString(s.Name):
			guarded[s.Name] = true
		default:
			t.Errorf("%s has %s: is it guarded by a feature that is off in the kernel?", s.Name, what)
		}
	}
	if functions < 5000 || !guarded["runtime.memmove"] {
		t.Errorf("%d functions, %d with vector code: the check has gone blind", functions, len(guarded))
	}
}
