package hosted

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOrphanHelper is a kernel, in a process of its own: it starts the mother, and has a stub
// made when it is told to.
func TestOrphanHelper(t *testing.T) {
	if os.Getenv("KILN_ORPHAN_HELPER") == "" {
		t.Skip("a part of TestStubWhoseKernelDiedBeforeItCouldTellEnds")
	}
	if mother.once.Do(func() { mother.err = startMother() }); mother.err != nil {
		t.Fatal(mother.err)
	}
	frames, err := memfd("frames", make([]byte, 4096))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	os.Stdin.Read(make([]byte, 1))
	newStub(int(frames.Fd()))
}

// The kernel is killed when its new stub exists and has not asked yet to be told of that.
func TestStubWhoseKernelDiedBeforeItCouldTellEnds(t *testing.T) {
	runtime.LockOSThread() // the tracer
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	kernel := exec.Command(os.Args[0], "-test.run=^TestOrphanHelper$")
	kernel.Env = append(os.Environ(), "KILN_ORPHAN_HELPER=1")
	in, err := kernel.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := kernel.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := kernel.Start(); err != nil {
		t.Fatal(err)
	}
	defer kernel.Process.Kill()
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	mum := childOf(t, kernel.Process.Pid)
	if e := ptrace(unix.PTRACE_SEIZE, mum, 0, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_TRACEFORK); e != 0 {
		t.Fatal(e)
	}
	in.Write([]byte{1})
	var ws unix.WaitStatus
	if _, err := unix.Wait4(mum, &ws, unix.WALL, nil); err != nil || ws>>16 == 0 {
		t.Fatalf("%v, status %#x", err, uint32(ws))
	}
	pid, err := unix.PtraceGetEventMsg(mum)
	if err != nil {
		t.Fatal(err)
	}
	stub := int(pid)
	defer unix.Kill(stub, unix.SIGKILL)
	if _, err := unix.Wait4(stub, &ws, unix.WALL, nil); err != nil || !ws.Stopped() {
		t.Fatalf("%v, status %#x", err, uint32(ws))
	}
	kernel.Process.Kill()
	kernel.Wait()
	unix.Wait4(mum, &ws, unix.WALL, nil) // she is told
	if e := ptrace(unix.PTRACE_DETACH, stub, 0, 0); e != 0 {
		t.Fatal(e)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		p, err := unix.Wait4(stub, &ws, unix.WALL|unix.WNOHANG, nil)
		if p == stub {
			if !ws.Exited() || ws.ExitStatus() != 1 {
				t.Errorf("the stub ended with %#x", uint32(ws))
			}
			return
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("the stub lives on: %v", err)
		}
	}
}

// childOf is the one child of a process.
func childOf(t *testing.T, parent int) int {
	t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range all {
		b, _ := os.ReadFile(f)
		if i := bytes.LastIndexByte(b, ')'); i > 0 {
			if w := bytes.Fields(b[i+1:]); len(w) > 1 && string(w[1]) == strconv.Itoa(parent) {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
				return pid
			}
		}
	}
	t.Fatal("no child")
	return 0
}
