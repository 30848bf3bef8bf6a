// Package metal boots the small kernels beside it in QEMU (TCG) on the three
// machines Kiln supports and reads their serial console.
package metal

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var machines = map[string][]string{
	"microvm":         {"-M", "microvm", "-cpu", "max"},
	"q35":             {"-M", "q35", "-cpu", "max"},
	"pc":              {"-M", "pc"}, // qemu64: no XSAVE, FSGSBASE, SMEP, SMAP, RDRAND
	"microvm, 2 CPUs": {"-M", "microvm", "-cpu", "max", "-smp", "2"},
	"pc, 2 CPUs":      {"-M", "pc", "-smp", "2"},
}

// sources makes the results depend on the kernel's sources: go test caches a result until
// a file that the test itself looked at changes, and knows nothing of what it builds.
func sources(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"../../kernel", "../../cmd/mkkernel", "."} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func build(t *testing.T, pkg string) string {
	t.Helper()
	sources(t)
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("no qemu-system-x86_64")
	}
	out := filepath.Join(t.TempDir(), pkg)
	cmd := exec.Command("tests/metal/build.sh", "./tests/metal/"+pkg, out)
	cmd.Dir = "../.."
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, msg)
	}
	return out
}

func boot(t *testing.T, kernel, machine string, mem string) string {
	t.Helper()
	return bootClock(t, kernel, machine, mem, !strings.HasSuffix(machine, "CPUs"))
}

// bootClock boots; with clock, instructions are time. CPUs take turns in one thread then: at
// each PAUSE, MMIO or HLT, or after a second's worth of instructions, so that one which is
// busy starves the others. Machines of several CPUs have it only where the clock is the test.
func bootClock(t *testing.T, kernel, machine string, mem string, clock bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	args := append([]string{"-accel", "tcg", "-m", mem, "-nodefaults", "-no-reboot", "-display", "none",
		"-serial", "stdio", "-kernel", kernel}, machines[machine]...)
	if clock {
		args = append(args, "-icount", "shift=0,sleep=off")
	}
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", machine, err, out)
	}
	return strings.ReplaceAll(string(out), "\r", "")
}

func TestRing3(t *testing.T) {
	k := build(t, "ring3")
	for m := range machines {
		t.Run(m, func(t *testing.T) {
			out := boot(t, k, m, "128")
			for _, l := range strings.Split(out, "\n") {
				if strings.HasPrefix(l, "FAIL") {
					t.Error(l)
				}
			}
			if !strings.HasSuffix(out, "done\n") || strings.Count(out, "\nok ") < 50 {
				t.Errorf("did not run to its end:\n%s", out)
			}
		})
	}
}

func TestCrashIsReported(t *testing.T) {
	k := build(t, "crash")
	for m := range machines {
		t.Run(m, func(t *testing.T) {
			out := boot(t, k, m, "128")
			for _, want := range []string{
				"recovered nil runtime error: invalid memory address",
				"recovered divide runtime error: integer divide by zero",
				"recovered index runtime error: index out of range",
				"slept true", "goroutines ok", "threads ok",
				"[signal SIGSEGV: segmentation violation", "tests/metal/crash/main.go:", "status 2", "exit 125",
			} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
			if strings.Contains(out, "FAIL") {
				t.Error(out)
			}
		})
	}
}

func TestTooLittleMemory(t *testing.T) {
	k := build(t, "hello")
	for m := range machines {
		out := boot(t, k, m, "8")
		if !strings.Contains(out, "kiln: this image needs ") || !strings.Contains(out, " MiB of memory, the machine has 8 MiB\n") {
			t.Errorf("%s: %q", m, out)
		}
	}
}

// TestMemoryExhausted: with every frame taken, the kernel's own heap still grows.
func TestMemoryExhausted(t *testing.T) {
	k := build(t, "exhaust")
	for m := range machines {
		for _, mem := range []string{"40", "128"} {
			out := boot(t, k, m, mem)
			if strings.Contains(out, "FAIL") || !strings.HasSuffix(out, "done\n") || strings.Count(out, "\nok ") < 20 {
				t.Errorf("%s, %s MiB:\n%s", m, mem, out)
			}
		}
	}
}

func TestClockRate(t *testing.T) {
	k := build(t, "clock")
	for m := range machines {
		out := bootClock(t, k, m, "128", true)
		if strings.Contains(out, "FAIL") || !strings.HasSuffix(out, "done\n") || strings.Count(out, "ok ") != 5 {
			t.Errorf("%s:\n%s", m, out)
		}
	}
}
