package boot

import (
	"bytes"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kiln/tests/vmtest"
)

// resetQEMU runs QEMU by hand, without -no-reboot, until its console holds text n times
// or the limit is over.
func resetQEMU(t *testing.T, text string, n int, args ...string) string {
	t.Helper()
	var mu sync.Mutex
	var b bytes.Buffer
	cmd := exec.Command("qemu-system-x86_64", append([]string{"-accel", "tcg", "-display", "none", "-serial", "stdio", "-smp", vmtest.CPUs()}, args...)...)
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return b.Write(p)
	})
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	console := func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.ReplaceAll(b.String(), "\r", "")
	}
	eventually(t, bootLimit, "the console shows "+text, func() error {
		if c := console(); strings.Count(c, text) < n {
			return errShort(tail(c))
		}
		return nil
	})
	return console()
}

type errShort string

func (e errShort) Error() string { return "only:\n" + string(e) }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A reset without -no-reboot boots the image again; a power-off would end QEMU.
func TestAtExitRebootBootsAgainOnEveryMachine(t *testing.T) {
	img := program(t, "reboot")
	for name, flags := range map[string][]string{
		"microvm": {"-M", "microvm", "-cpu", "max", "-nodefaults"},
		"q35":     {"-M", "q35", "-cpu", "max", "-nodefaults"},
		"pc":      {"-M", "pc", "-nodefaults"}, // no ACPI reset register: the keyboard controller
	} {
		t.Run(name, func(t *testing.T) {
			out := resetQEMU(t, "program: exit\n", 3, append(flags, "-m", "128", "-kernel", img, "-append", "kiln.at_exit=reboot kiln.nonce=n7")...)
			checkAlive(t, out)
			if !strings.Contains(out, "kiln: n7 exit 7\n") {
				t.Errorf("the status line is missing:\n%s", tail(out))
			}
		})
	}
}

func TestResetEndsQEMUThatWasToldNotToReboot(t *testing.T) {
	img := program(t, "reboot")
	for _, m := range []string{"microvm", "q35", "pc"} {
		out := qemu(t, "-M", m, "-nodefaults", "-m", "128", "-kernel", img, "-append", "kiln.at_exit=reboot")
		checkAlive(t, out)
		if n := strings.Count(out, "program: exit\n"); n != 1 {
			t.Errorf("%s: %d boots:\n%s", m, n, tail(out))
		}
	}
}

func TestRebootSystemCallEndsTheMachine(t *testing.T) {
	img := program(t, "reboot")
	for _, how := range []string{"restart", "restart2", "poweroff", "halt"} {
		t.Run(how, func(t *testing.T) {
			out, status := run(t, bootLimit, img, nil, how)
			if status != 0 || strings.Contains(out, "still here") || strings.Contains(out, "kiln: halted") != (how == "halt") {
				t.Errorf("status %d:\n%s", status, tail(out))
			}
		})
	}
	out := resetQEMU(t, "program: restart\n", 2, "-M", "microvm", "-cpu", "max", "-nodefaults", "-m", "128", "-kernel", img, "-append", "-- restart")
	checkAlive(t, out)
}

func TestHaltStaysUpAndQuiet(t *testing.T) {
	img := program(t, "reboot")
	cmd := exec.Command("timeout", "8", "qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-M", "microvm", "-cpu", "max", "-nodefaults", "-m", "128", "-kernel", img, "-append", "kiln.at_exit=halt")
	start := time.Now()
	b, _ := cmd.CombinedOutput()
	out := strings.ReplaceAll(string(b), "\r", "")
	if d := time.Since(start); d < 7*time.Second || !strings.HasSuffix(strings.TrimSpace(strings.Split(out, "qemu-system")[0]), "kiln: halted") {
		t.Errorf("after %s:\n%s", d, tail(out))
	}
}

func TestUnknownAtExitAndLogLevelAreNamedAndTheDefaultIsTaken(t *testing.T) {
	img := program(t, "reboot")
	for _, m := range []string{"kiln.at_exit=explode", "kiln.log_level=shout"} {
		_, value, _ := strings.Cut(m, "=")
		out := qemu(t, "-M", "microvm", "-cpu", "max", "-nodefaults", "-m", "128", "-kernel", img, "-append", m)
		has(t, out, `"`+value+`" must be`, "program: exit\n")
		if t.Failed() {
			t.Log(tail(out))
		}
	}
}
