// Package boot tests the whole: images baked by pack, booted in QEMU by `pack run` or by
// QEMU alone, with real programs in them. One machine runs at a time.
//
// The sizes are quick ones; KILN_ACCEPT=1 asks for the full counts, which
// tests/cmd/accept runs. C programs come from tests/programs and from testdata.
package boot

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/tests/tapnet"
	"kiln/tests/vmtest"
)

// accept says that the full counts are wanted.
var accept = os.Getenv("KILN_ACCEPT") != ""

// size is a count for this run.
func size(quick, full int) int {
	if accept {
		return full
	}
	return quick
}

// machineKind is a machine that is supported, with the CPU it is tested with.
type machineKind struct {
	name  string
	flags []string // of pack run
}

var machines = []machineKind{
	{"microvm", []string{"--vmm", "microvm"}},
	{"q35", []string{"--vmm", "q35"}},
	// The default CPU: no XSAVE, FSGSBASE, SMEP, SMAP, RDRAND.
	{"pc", []string{"--vmm", "pc", "--qemu-arg", "-cpu", "--qemu-arg", "qemu64"}},
}

// shared holds what several tests use: programs and images, made once.
var shared struct {
	dir    string
	images map[string]string
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "kiln-boot-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		shared.dir, shared.images = dir, map[string]string{}
		return m.Run()
	}())
}

// source is the path of a C program: testdata's, else that of tests/programs.
func source(t testing.TB, name string) string {
	t.Helper()
	own := filepath.Join("testdata", name+".c")
	if _, err := os.Stat(own); err == nil {
		return own
	}
	root, err := vmtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "tests", "programs", "c", name+".c")
}

// compile makes a program of a C source. It is static unless flags say otherwise.
func compile(t testing.TB, name string, cc string, flags ...string) string {
	t.Helper()
	if cc == "" {
		cc = "gcc"
	}
	if len(flags) == 0 {
		flags = []string{"-static"}
	}
	dir := filepath.Join(shared.dir, strings.NewReplacer("/", "_", " ", "_").Replace(cc+strings.Join(flags, "")))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, name)
	if _, err := os.Stat(out); err == nil {
		return out
	}
	root, err := vmtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-O1", "-Wall", "-pthread", "-I", filepath.Join(root, "tests", "programs", "c"), "-o", out, source(t, name)}, flags...)
	if msg, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", cc, strings.Join(args, " "), err, msg)
	}
	return out
}

// image bakes what (a path, a name of the catalogue) once for the whole run.
func image(t testing.TB, what string) string {
	t.Helper()
	if img := shared.images[what]; img != "" {
		return img
	}
	pack, err := vmtest.Pack()
	if err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(shared.dir, fmt.Sprintf("%d.img", len(shared.images)))
	if out, err := exec.Command(pack, "build", what, "-o", img).CombinedOutput(); err != nil {
		t.Fatalf("pack build %s: %v\n%s", what, err, out)
	}
	shared.images[what] = img
	return img
}

// program is the image of a static C program.
func program(t testing.TB, name string) string {
	t.Helper()
	return image(t, compile(t, name, ""))
}

// run boots an image to its end; the network is left out. A kernel that panicked fails
// the test whatever the status.
func run(t testing.TB, limit time.Duration, img string, flags []string, args ...string) (console string, status int) {
	t.Helper()
	all := append([]string{img, "--net", "none"}, flags...)
	if args != nil {
		all = append(append(all, "--"), args...)
	}
	console, status = vmtest.Run(t, limit, all...)
	checkAlive(t, console)
	if status == 125 {
		t.Errorf("status 125: the kernel did not say how its program ended")
	}
	tailIfFailed(t, func() string { return console })
	return console, status
}

// rePanic are the words of a kernel that went down.
var rePanic = regexp.MustCompile(`(?m)^(panic: |fatal error: |kiln: the kernel cannot go on|runtime: |goroutine [0-9]+ |kiln: kernel panic|SIGSEGV: segmentation violation|unexpected fault address)`)

// checkAlive fails the test if the console shows a kernel's panic.
func checkAlive(t testing.TB, console string) {
	t.Helper()
	if loc := rePanic.FindStringIndex(console); loc != nil {
		t.Errorf("the kernel panicked: %.3000s", console[loc[0]:])
	}
}

// tail is the end of a console, for people: without what conformance cases say, which is
// not for them.
func tail(console string) string {
	lines := slices.DeleteFunc(strings.Split(strings.TrimRight(console, "\n"), "\n"), func(l string) bool { return l == "" || strings.HasPrefix(l, "@@ ") })
	if len(lines) > 60 {
		lines = append([]string{fmt.Sprintf("(%d lines before)", len(lines)-60)}, lines[len(lines)-60:]...)
	}
	return strings.Join(lines, "\n")
}

func tailIfFailed(t testing.TB, console func() string) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the console ended with:\n%s", tail(console()))
		}
	})
}

// has fails the test unless text holds every part.
func has(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("no %q", p)
		}
	}
}

// hasNot fails the test if a line of text holds a part.
func hasNot(t testing.TB, text string, part string) {
	t.Helper()
	for l := range strings.Lines(text) {
		if strings.Contains(l, part) {
			t.Error(l)
		}
	}
}

// needRoot skips what needs a network namespace.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace with a TAP device")
	}
}

// tapNet is a network namespace with a TAP device, until the test ends.
func tapNet(t testing.TB) *tapnet.Net {
	t.Helper()
	needRoot(t)
	n, err := tapnet.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// tapMachine boots an image on a TAP device in a network namespace of its own.
func tapMachine(t testing.TB, img string, flags ...string) (*vmtest.Machine, *tapnet.Net) {
	t.Helper()
	n := tapNet(t)
	m := bootIn(t, n, append([]string{"--net", "tap:" + n.Tap, "--append", tapnet.IPArg, "--accel", "tcg", img}, flags...)...)
	tailIfFailed(t, m.Console)
	t.Cleanup(func() { checkAlive(t, m.Console()) })
	return m, n
}

// bootIn is vmtest.Boot with pack in the namespace.
func bootIn(t testing.TB, n *tapnet.Net, args ...string) *vmtest.Machine {
	t.Helper()
	pack, err := vmtest.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return vmtest.Start(t, n.Command(pack, vmtest.RunArgs(args...)...))
}

// eventually tries until it works or the time is over.
func eventually(t testing.TB, limit time.Duration, what string, try func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not in %s: %v", what, limit, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// output runs a command with a limit and gives its output.
func output(t testing.TB, limit time.Duration, cmd *exec.Cmd) (string, error) {
	t.Helper()
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return b.String(), err
	case <-time.After(limit):
		cmd.Process.Kill()
		<-done
		return b.String(), fmt.Errorf("not done in %s", limit)
	}
}

// bootAlone starts an image without a network.
func bootAlone(t testing.TB, img string, flags ...string) *vmtest.Machine {
	t.Helper()
	m := vmtest.Boot(t, append([]string{img, "--net", "none"}, flags...)...)
	tailIfFailed(t, m.Console)
	return m
}
