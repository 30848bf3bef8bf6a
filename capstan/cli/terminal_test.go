package cli

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"kiln/capstan/bake/baketest"
	"kiln/capstan/vmm/vmmtest"
)

// packEnv makes the test's executable pack itself, for tests of what happens to a process.
const packEnv = "KILN_TEST_IS_PACK"

func packMain() {
	if os.Getenv(packEnv) != "" {
		os.Exit(Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
}

// packFile is a command that is pack, and for which there is an image good.img here.
func packFile(t *testing.T) string {
	t.Helper()
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	write(t, "good", static())
	if status, _, errs := pack(t, "-q", "./good", "-o", "good.img"); status != 0 {
		t.Fatal(errs)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return write(t, t.TempDir()+"/pack", []byte("#!/bin/sh\n"+packEnv+"=1 exec "+exe+" \"$@\"\n"))
}

// screen is the other end of a terminal.
type screen struct {
	t *testing.T
	f *os.File

	mu sync.Mutex
	b  bytes.Buffer
}

// shell runs a script on a terminal of its own, with job control.
func shell(t *testing.T, script string) (*screen, *exec.Cmd) {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	defer tty.Close()
	cmd := exec.Command("/bin/sh", "-c", "set -m\n"+script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	s := &screen{t: t, f: f}
	go func() {
		p := make([]byte, 4096)
		for {
			n, err := f.Read(p)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.b.Write(p[:n])
			s.mu.Unlock()
		}
	}()
	return s, cmd
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *screen) echoes() bool {
	s.t.Helper()
	tio, err := unix.IoctlGetTermios(int(s.f.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return tio.Lflag&unix.ECHO != 0
}

// await waits for a text, and for echo or none.
func (s *screen) await(text string, echo bool) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(s.text(), text) && s.echoes() == echo {
			return
		}
	}
	s.t.Fatalf("no %q with echo %v in 20 s, but with %v: %q", text, echo, s.echoes(), s.text())
}

func (s *screen) typed(text string) {
	s.t.Helper()
	if _, err := s.f.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

func TestRunInTheBackgroundLeavesTheTerminalAlone(t *testing.T) {
	pack := packFile(t)
	vmmtest.Install(t, "print up;sleep 300ms;print down;ctl exit 7")
	s, cmd := shell(t, pack+" run -q --accel tcg -p none good.img & wait $!; echo status $?")
	s.await("up\r", true)
	s.typed("for the shell\n")
	s.await("down\r", true)
	s.await("status 7\r\n", true)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %q", err, s.text())
	}
}

func TestRunTakesTheTerminalInTheForegroundAndGivesItBack(t *testing.T) {
	pack := packFile(t)
	vmmtest.Install(t, "print up;echo;ctl exit 7")
	for name, c := range map[string]struct{ script, before string }{
		"at once":          {"$RUN", ""},
		"later":            {"$RUN & read x; fg", "go on\n"},
		"stopped meantime": {"$RUN; stty sane; echo stopped; read x; fg", "\x1a"},
		"both":             {"$RUN; stty sane; bg; echo stopped; read x; fg", "\x1a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("RUN", pack+" run -q --accel tcg -p none good.img")
			s, cmd := shell(t, c.script+"; echo status $?")
			s.await("up\r", strings.Contains(c.script, "&"))
			s.typed(c.before)
			if c.before == "\x1a" {
				s.await("stopped\r\n", true)
				s.typed("go on\n")
			}
			s.await("up\r", false)
			s.typed("typed\n")
			s.await("status 7\r\n", true)
			if strings.Count(s.text(), "typed") != 1 {
				t.Errorf("the machine did not get what was typed, or it was echoed: %q", s.text())
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %q", err, s.text())
			}
		})
	}
}
