package hosted

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// dies fails the test unless the stub is killed by its filter.
func dies(t *testing.T, s *stub) {
	t.Helper()
	var ws unix.WaitStatus
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if pid, _ := unix.Wait4(s.pid, &ws, unix.WALL|unix.WNOHANG, nil); pid == s.pid {
			if !ws.Signaled() || ws.Signal() != unix.SIGSYS {
				t.Errorf("the stub ended with %#x, not by SIGSYS", uint32(ws))
			}
			return
		}
	}
	t.Error("the stub lives")
}

// A stub's control thread can do what it is for and nothing else, even if the kernel
// itself asks for it.
func TestStubIsKilledForOtherCalls(t *testing.T) {
	for name, c := range map[string]command{
		"getpid":                {nr: unix.SYS_GETPID},
		"open":                  {nr: unix.SYS_OPEN},
		"socket":                {nr: unix.SYS_SOCKET, a0: unix.AF_INET, a1: unix.SOCK_STREAM},
		"kill":                  {nr: unix.SYS_KILL, a0: 1},
		"execve":                {nr: unix.SYS_EXECVE},
		"fork":                  {nr: unix.SYS_CLONE, a0: uint64(unix.SIGCHLD)},
		"anonymous mmap":        {nr: unix.SYS_MMAP, a1: 4096, a2: 7, a3: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, a4: ^uint64(0)},
		"mmap of another file":  {nr: unix.SYS_MMAP, a1: 4096, a2: 7, a3: unix.MAP_SHARED | unix.MAP_FIXED, a4: controlFD},
		"write to another file": {nr: unix.SYS_WRITE, a0: framesFD},
		"x32":                   {nr: unix.SYS_MUNMAP | 1<<30},
	} {
		t.Run(name, func(t *testing.T) {
			s := newRig(t).as.stub
			if r, err := s.run([]command{c}); err == nil {
				t.Errorf("the stub answers %d", r)
			}
			dies(t, s)
		})
	}
}

// A thread of the program that is let run without SYSEMU, which the kernel never does,
// is killed at its first call: those that the filter lets through come from the stub's code.
func TestProgramCannotCallTheHost(t *testing.T) {
	for _, nr := range []uint64{unix.SYS_GETPID, unix.SYS_MUNMAP, unix.SYS_EXIT_GROUP, unix.SYS_FUTEX} {
		runtime.LockOSThread() // the tracer
		defer runtime.UnlockOSThread()
		r := newRig(t, 0x0f, 0x05, 0xf4) // syscall; hlt
		r.ctx.RAX = nr
		tr, err := r.as.traceeFor(unix.Gettid())
		if err != nil {
			t.Fatal(err)
		}
		tr.load(r.ctx)
		if e := ptrace(unix.PTRACE_CONT, tr.tid, 0, 0); e != 0 {
			t.Fatal(e)
		}
		var ws unix.WaitStatus
		for !ws.Signaled() {
			if _, err := unix.Wait4(tr.tid, &ws, unix.WALL, nil); err != nil {
				t.Fatal(err)
			}
			if ws.Stopped() {
				t.Fatalf("call %d: stopped with %v", nr, ws.StopSignal())
			}
		}
		if ws.Signal() != unix.SIGSYS {
			t.Errorf("call %d: ended with %#x, not by SIGSYS", nr, uint32(ws))
		}
		dies(t, r.as.stub)
	}
}

// No page of the stub's own can be written to: what its control thread does next, and
// what it says, are out of the program's reach.
func TestStubHasNoWritablePageOfItsOwn(t *testing.T) {
	r := newRig(t)
	r.as.Unmap(codeAddr, hal.PageSize, nil)
	b, err := os.ReadFile("/proc/" + strconv.Itoa(r.as.stub.pid) + "/maps")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if strings.Contains(line, "[vsyscall]") {
			continue
		}
		n++
		if perm := strings.Fields(line)[1]; strings.Contains(perm, "w") {
			t.Error(line)
		}
	}
	if n != 2 {
		t.Errorf("%d mappings:\n%s", n, b)
	}
}

// The vsyscall page is not the host's to the program: it is not there.
func TestVsyscallPageIsAbsent(t *testing.T) {
	// mov rax, 0xffffffffff600400 (time); call rax; hlt
	r := newRig(t, 0x48, 0xc7, 0xc0, 0, 0x04, 0x60, 0xff, 0xff, 0xd0, 0xf4)
	r.mapNew(dataAddr, 1, hal.ProtRead|hal.ProtWrite)
	r.ctx.RSP = dataAddr + 0x800
	e := r.enter()
	if e.Kind != hal.ExitException || e.Vector != hal.VectorPF || e.Addr != 0xffffffffff600400 || r.ctx.RIP != uint64(e.Addr) || r.ctx.RSP != dataAddr+0x7f8 {
		t.Errorf("%+v at %#x", e, r.ctx.RIP)
	}
}

// A confined kernel runs programs, and is refused what it does not need.
func TestConfinedKernel(t *testing.T) {
	if what := os.Getenv("KILN_TEST_CONFINED"); what != "" {
		confined(t, what)
		return
	}
	for what, want := range map[string]string{
		"run": "PASS", "open": "SIGSYS", "socket": "SIGSYS", "exec": "SIGSYS", "kill": "SIGSYS", "map": "SIGSYS", "trace": "SIGSYS",
	} {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestConfinedKernel$", "-test.count=1")
		cmd.Env = append(os.Environ(), "KILN_TEST_CONFINED="+what, "GODEBUG=")
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) || (err == nil) != (want == "PASS") || strings.Contains(string(out), "refused nothing") {
			t.Errorf("%s: no %s, %v\n%.2000s", what, want, err, out)
		}
	}
	k, s := HostCalls()
	t.Logf("%d calls for the kernel, %d for a stub", k, s)
	if k > 40 || s > 8 {
		t.Errorf("the filters let %d and %d calls through", k, s)
	}
}

func confined(t *testing.T, what string) {
	m := newRig(t).m
	if err := Confine(); err != nil {
		t.Fatal(err)
	}
	switch what {
	case "run":
		for range 3 {
			space, err := m.NewAddressSpace()
			if err != nil {
				t.Fatal(err)
			}
			space.Destroy()
		}
		done := make(chan bool)
		go func() { time.Sleep(time.Millisecond); done <- true }()
		<-done
		os.Stdout.WriteString("PASS\n")
		os.Exit(0)
	case "open":
		os.Open("/etc/passwd")
	case "socket":
		unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	case "exec":
		unix.Exec("/bin/true", []string{"true"}, nil)
	case "kill":
		unix.Kill(os.Getpid(), 0)
	case "map":
		unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	case "trace":
		unix.PtraceAttach(1)
	}
	os.Stdout.WriteString("refused nothing\n")
	os.Exit(0)
}
