package boot

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"kiln/tests/vmtest"
)

// asProcess runs the kernel as a process of this host.
var asProcess = []string{"--vmm", "process"}

func TestProcessRunsWhatAMachineRuns(t *testing.T) {
	img := program(t, "hello")
	out, status := run(t, bootLimit, img, asProcess, "of", "the world")
	if status != 0 || !strings.Contains(out, "hello of the world\n") {
		t.Errorf("status %d, console %q", status, out)
	}
	img = program(t, "end")
	for _, s := range []int{0, 3, 255} {
		if out, status := run(t, bootLimit, img, asProcess, "exit", fmt.Sprint(s)); status != s {
			t.Errorf("exit %d: status %d, console %q", s, status, out)
		}
	}
	for _, d := range deaths {
		out, status := run(t, bootLimit, img, asProcess, d.how)
		if status != d.status || !strings.Contains(out, "ending by "+d.how+"\n") || strings.Contains(out, "still here") {
			t.Errorf("%s: status %d, want %d, console %q", d.how, status, d.status, out)
		}
	}
}

func TestProcessServesCatalogueEntries(t *testing.T) {
	pack, err := vmtest.Pack()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"nginx", "redis", "python3"}
	if accept {
		names = nil // all
	}
	out, err := exec.Command(pack, append([]string{"smoke", "--run-arg=--vmm=process"}, names...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	checkAlive(t, string(out))
}

// A program of the process reaches a server of this host, is told of a port that nobody
// listens on, has the processors and the memory it was given, and stops when it is asked to.
func TestProcessHasANetworkProcessorsAndMemory(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a page of the host") }))
	defer srv.Close()
	port := srv.Listener.Addr().(*net.TCPAddr).Port
	closed, err := vmtest.FreePort(0)
	if err != nil {
		t.Fatal(err)
	}
	m := vmtest.Boot(t, "python3", "--vmm", "process", "-c", "3", "-m", "192M", "-p", "none", "--", "-c", fmt.Sprintf(`
import os, socket, sys, time, urllib.request
print(urllib.request.urlopen("http://10.0.2.2:%d/", timeout=20).read())
try: socket.create_connection(("10.0.2.2", %d), timeout=20)
except OSError as e: print(type(e).__name__)
print(os.cpu_count(), "processors", open("/proc/meminfo").readline())
sys.stdout.flush()
time.sleep(100)`, port, closed))
	m.WaitFor(t, "196608 kB", bootLimit)
	has(t, m.Console(), "a page of the host", "ConnectionRefusedError", "3 processors")
	m.Signal(syscall.SIGTERM)
	if s := m.Status(t, 20*time.Second); s != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d", s)
	}
}

func TestProcessSaysWhatItCannotDo(t *testing.T) {
	img := program(t, "hello")
	for _, c := range []struct{ flags, says string }{
		{"--root disk", "has no disks"}, {"--net tap:t0", "has no card for --net tap:t0"},
		{"--accel tcg", "runs on the host's own processor"}, {"--qemu-arg -s", "has no QEMU"},
	} {
		out, status := vmtest.Run(t, bootLimit, append([]string{img, "--vmm", "process"}, strings.Fields(c.flags)...)...)
		if status != 2 || !strings.Contains(out, "--vmm process "+c.says) || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: status %d: %s", c.flags, status, out)
		}
	}
}
