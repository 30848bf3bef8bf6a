package boot

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kiln/tests/vmtest"
)

// qemu runs QEMU by hand, as one does who was given an image and no pack.
func qemu(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	all := append([]string{"-accel", "tcg", "-display", "none", "-serial", "stdio", "-no-reboot", "-smp", vmtest.CPUs()}, args...)
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", all...).CombinedOutput()
	text := strings.ReplaceAll(string(out), "\r", "")
	if ctx.Err() != nil {
		t.Fatalf("the machine did not turn itself off; its console:\n%s", tail(text))
	}
	if err != nil {
		t.Fatalf("qemu %v: %v\n%s", all, err, tail(text))
	}
	return text
}

func TestQEMUAloneBootsTheProgramAndIsToldOfTheE1000(t *testing.T) {
	out := qemu(t, "-kernel", program(t, "hello"), "-append", "kiln.nonce=x7y8z9")
	checkAlive(t, out)
	has(t, out, "hello\n", "e1000", "kiln: x7y8z9 exit 0\n")
	if n := strings.Count(out, "e1000"); n != 1 {
		t.Errorf("the e1000 is mentioned %d times", n)
	}
	if t.Failed() {
		t.Log(tail(out))
	}
}

func TestStatusLineFollowsTheNonceWhereThereIsNoControlPort(t *testing.T) {
	img := program(t, "end")
	for args, want := range map[string]string{"exit 42": "exit 42", "null": "signal 11"} {
		out := qemu(t, "-m", "128", "-kernel", img, "-append", "kiln.nonce=q1 -- "+args)
		if !strings.HasSuffix(strings.TrimSpace(out), "kiln: q1 "+want) {
			t.Errorf("%s: the last line is not the status:\n%s", args, tail(out))
		}
	}
}

func TestTooLittleMemoryIsSaidByPackAndByTheStub(t *testing.T) {
	img := program(t, "hello")
	pack, err := vmtest.Pack()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(pack, "run", "-m", "8M", img)
	out, err := cmd.CombinedOutput()
	line := strings.TrimSpace(string(out))
	if err == nil || cmd.ProcessState.ExitCode() != 2 || strings.Contains(line, "\n") ||
		!strings.Contains(line, "needs at least") || !strings.Contains(line, "-m ") {
		t.Errorf("pack run -m 8M: %v, %q", err, out)
	}
	// What pack proposes works.
	_, hint, _ := strings.Cut(line, "say -m ")
	if mb, err := strconv.Atoi(strings.TrimSuffix(hint, "M")); err != nil || mb < 10 || mb > 64 {
		t.Errorf("pack proposes %q", hint)
	} else if got, status := run(t, bootLimit, img, []string{"-m", hint}); status != 0 || !strings.Contains(got, "hello\n") {
		t.Errorf("with -m %s: status %d", hint, status)
	}
	for _, m := range []string{"pc", "q35", "microvm"} {
		// The stub stops the machine, by a reset that -no-reboot makes an end.
		text := qemu(t, "-M", m, "-m", "8", "-nodefaults", "-kernel", img)
		if !strings.Contains(text, "kiln: this image needs ") || !strings.Contains(text, " MiB of memory, the machine has 8 MiB\n") {
			t.Errorf("%s with 8 MiB: %q", m, text)
		}
	}
}

func TestHelloRunsInWhatPackSaysItNeeds(t *testing.T) {
	// Guards against a kernel whose own memory outgrows image.WorkingMemory.
	start := time.Now()
	out, status := run(t, bootLimit, program(t, "hello"), []string{"-m", "40M"})
	if status != 0 {
		t.Errorf("status %d after %s:\n%s", status, time.Since(start), tail(out))
	}
}

// A root that is too large for memory is read from a disk, and that is said where there is
// none: by pack for --root memory, by the kernel where QEMU boots the image alone.
func TestRootThatIsTooLargeForMemoryIsReadFromADisk(t *testing.T) {
	if !accept {
		t.Skip("an image of 2 GB: in make accept")
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	const end = 2200 << 20
	if _, err := f.WriteAt([]byte("the end\n"), end); err != nil {
		t.Fatal(err)
	}
	f.Close()
	manifest := "name: large\nabout: a large file\nprogram: /usr/bin/tail\nargs: [-c, 8, /large]\nfiles: [{path: /large, from: large}]\n"
	if err := os.WriteFile(filepath.Join(dir, "manifest.yaml"), []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(dir, "img")
	pack, err := vmtest.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(pack, "build", dir, "--compress", "none", "-o", img).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, m := range machines {
		if out, status := run(t, time.Minute, img, append([]string{"-m", "128M"}, m.flags...)); status != 0 || !strings.Contains(out, "the end") {
			t.Errorf("%s: status %d\n%s", m.name, status, tail(out))
		}
	}
	if out, err := exec.Command(pack, "run", img, "--root", "memory").CombinedOutput(); err == nil || !strings.Contains(string(out), "leave --root memory out") {
		t.Errorf("%v\n%s", err, out)
	}
	if out := qemu(t, "-m", "256", "-kernel", img); !strings.Contains(out, "there is no root file system") {
		t.Error(out)
	}
}
