package vmm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kiln/capstan/vmm/vmmtest"
)

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func machine() *Machine {
	return &Machine{Kind: "microvm", Accel: "tcg", Memory: 64 << 20, CPUs: 1, Kernel: "k", Net: "none"}
}

func TestStatusIsTheProgramsAndComesByTheControlPort(t *testing.T) {
	for plan, want := range map[string]int{
		"print hi;ctl exit 0":            0,
		"ctl exit 42;exit 7":             42,
		"ctl signal 11":                  139,
		"ctl panic;sleep 10ms":           125,
		"print exit 0;exit 0":            125, // the console may say anything
		"ctl nonsense;ctl exit 3":        3,
		"ctl exit 5;ctl exit 6":          5,
		"print boom;error dead;exit 255": 125,
	} {
		vmmtest.Install(t, plan)
		var out, errs lockedBuffer
		status, err := Run(context.Background(), machine(), Streams{Out: &out, Err: &errs}, nil)
		if err != nil || status != want {
			t.Errorf("%q: status %d, %v; want %d (%s)", plan, status, err, want, errs.String())
		}
		if want == 125 && !strings.Contains(plan, "panic") && !strings.Contains(errs.String(), "last lines") {
			t.Errorf("%q: nothing is said of the console: %q", plan, errs.String())
		}
	}
}

// broken fails each write.
type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func TestAConsoleThatCannotBeWrittenStopsTheMachineOnlyIfItsReaderIsGone(t *testing.T) {
	for _, plain := range []bool{true, false} {
		vmmtest.Install(t, "print one;await;ctl signal 15")
		var errs lockedBuffer
		status, err := Run(context.Background(), machine(), Streams{Out: broken{syscall.EPIPE}, Err: &errs, Plain: plain}, nil)
		if err != nil || status != 143 || errs.String() != "" {
			t.Errorf("a closed pipe: %d %v %q", status, err, errs.String())
		}
		vmmtest.Install(t, "print one;sleep 50ms;print two;sleep 50ms;ctl exit 3")
		status, err = Run(context.Background(), machine(), Streams{Out: broken{syscall.ENOSPC}, Err: &errs, Plain: plain}, nil)
		if err != nil || status != 3 || strings.Count(errs.String(), "\n") != 1 || !strings.Contains(errs.String(), "no space left on device") {
			t.Errorf("a full disk: %d %v %q", status, err, errs.String())
		}
	}
}

func TestACrashOfQEMUIsNotTheMachines(t *testing.T) {
	vmmtest.Install(t, "print up;killed")
	var errs lockedBuffer
	status, err := Run(context.Background(), machine(), Streams{Out: io.Discard, Err: &errs}, nil)
	if err != nil || status != PanicStatus || !strings.Contains(errs.String(), "QEMU crashed or was killed (killed)") {
		t.Errorf("%d %v %q", status, err, errs.String())
	}
}

func TestConsoleIsStreamedBothWays(t *testing.T) {
	vmmtest.Install(t, "print one;echo;ctl exit 0")
	var out lockedBuffer
	status, err := Run(context.Background(), machine(), Streams{In: strings.NewReader("typed\n"), Out: &out, Err: io.Discard, Plain: true}, nil)
	if err != nil || status != 0 || out.String() != "one\ntyped\n" {
		t.Errorf("%d %v %q", status, err, out.String())
	}
}

func TestASignalStopsTheMachineInOrderAndASecondAtOnce(t *testing.T) {
	vmmtest.Install(t, "print up;await;ctl signal 15")
	var out lockedBuffer
	stop := make(chan os.Signal, 2)
	stop <- syscall.SIGINT
	status, err := Run(context.Background(), machine(), Streams{Out: &out, Err: io.Discard}, stop)
	if err != nil || status != 143 || !strings.Contains(out.String(), "got stop") {
		t.Errorf("%d %v %q", status, err, out.String())
	}
	vmmtest.Install(t, "sleep 1m")
	stop <- syscall.SIGINT
	stop <- syscall.SIGINT
	start := time.Now()
	status, err = Run(context.Background(), machine(), Streams{Out: &out, Err: io.Discard}, stop)
	if err != nil || status != 137 || time.Since(start) > 5*time.Second {
		t.Errorf("%d %v after %v", status, err, time.Since(start))
	}
}

// paused is a reader that does not read until it is closed.
type paused chan struct{}

func (p paused) Write(b []byte) (int, error) {
	<-p
	return len(b), nil
}

func TestAReaderThatPausesKeepsPackOnlyUntilItIsToStop(t *testing.T) {
	start := time.Now()
	run := func(ctx context.Context, plan string, stop chan os.Signal) (int, error) {
		vmmtest.Install(t, plan)
		out := make(paused)
		defer close(out)
		return Run(ctx, machine(), Streams{Out: out, Err: io.Discard}, stop)
	}
	for plan, want := range map[string]int{
		"print up;await;ctl signal 15;exit 0": 143, // one signal, and it ends in order
		"print up;sleep 1m":                   137, // two
		"print up;exit 0":                     137, // it has ended by itself
	} {
		stop := make(chan os.Signal, 2)
		stop <- syscall.SIGTERM
		if want == 137 {
			stop <- syscall.SIGTERM
		}
		if status, err := run(context.Background(), plan, stop); err != nil || status != want {
			t.Errorf("%q: %d %v", plan, status, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := run(ctx, "print up;sleep 1m", nil); err != context.DeadlineExceeded {
		t.Errorf("%v", err)
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("it took %v", d)
	}

	// It misses nothing where nobody stops the machine.
	vmmtest.Install(t, "print one;ctl exit 3")
	out := make(paused)
	time.AfterFunc(2*lastOutput, func() { close(out) })
	var text lockedBuffer
	status, err := Run(context.Background(), machine(), Streams{Out: io.MultiWriter(out, &text), Err: io.Discard, Plain: true}, nil)
	if err != nil || status != 3 || text.String() != "one\n" {
		t.Errorf("%d %v %q", status, err, text.String())
	}
}

func TestAMachineThatStaysAfterItsStatusIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the time it measures")
	}
	vmmtest.Install(t, "ctl exit 9;sleep 1m")
	start := time.Now()
	status, err := Run(context.Background(), machine(), Streams{Out: io.Discard, Err: io.Discard}, nil)
	if d := time.Since(start); err != nil || status != 9 || d > 2*offLimit {
		t.Errorf("%d %v after %v", status, err, d)
	}
}

func TestQEMUThatRefusesItsArgumentsIsAnErrorInOneLine(t *testing.T) {
	vmmtest.Install(t, "error qemu-system-x86_64: no such device;exit 1")
	status, err := Run(context.Background(), machine(), Streams{Out: io.Discard, Err: io.Discard}, nil)
	if err == nil || err.Error() != "QEMU did not start the machine: no such device" || status == 0 {
		t.Errorf("%d %v", status, err)
	}
}

func TestATMPDIRThatIsTooLongForASocketIsNamed(t *testing.T) {
	vmmtest.Install(t, "ctl exit 0")
	for n, want := range map[int]bool{60: true, 120: false} {
		tmp, err := os.MkdirTemp("/tmp", strings.Repeat("x", n-15))
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(tmp)
		t.Setenv("TMPDIR", tmp)
		_, err = Run(context.Background(), machine(), Streams{Out: io.Discard, Err: io.Discard}, nil)
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "set TMPDIR") {
			t.Errorf("%d bytes: %v", n, err)
		}
		if list, _ := os.ReadDir(tmp); len(list) > 0 {
			t.Errorf("%v is left", list)
		}
	}
}

func TestForwardsAreParsedAndChecked(t *testing.T) {
	for s, want := range map[string]string{"8080:80": "{127.0.0.1 8080 80}", "0:443": "{127.0.0.1 0 443}", "0.0.0.0:1:2": "{0.0.0.0 1 2}"} {
		if f, err := ParseForward(s); err != nil || fmt.Sprintf("{%s %d %d}", f.Addr, f.Host, f.Guest) != want {
			t.Errorf("%s: %v %v", s, f, err)
		}
	}
	for _, s := range []string{"", "80", "a:b", "1:0", "1:70000", "-1:80", "host:1:2", "1:2:3", "[::1]:5:6", "::1:5:6"} {
		if f, err := ParseForward(s); err == nil {
			t.Errorf("%q is taken for %v", s, f)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := Forward{"127.0.0.1", l.Addr().(*net.TCPAddr).Port, 80}
	if _, err := f.Choose(); err == nil || !strings.Contains(err.Error(), "choose another") {
		t.Errorf("a taken port: %v", err)
	}
	f.Host = 0
	held, err := f.Choose()
	if err != nil || f.Host == 0 {
		t.Fatalf("a free port: %v %v", f, err)
	}
	again := f
	if _, err := again.Choose(); err == nil {
		t.Errorf("port %d is chosen twice", f.Host)
	}
	held.Close()
	if held, err = again.Choose(); err != nil {
		t.Errorf("it is not free again: %v", err)
	} else {
		held.Close()
	}
}

func TestAStaticAddressIsInQEMUsNetwork(t *testing.T) {
	qemu, err := exec.LookPath(QEMU)
	if err != nil {
		t.Log("no QEMU here to take the arguments")
	}
	for _, c := range []struct{ address, gateway, dns, want string }{
		{"192.168.7.2/24", "192.168.7.1", "", "net=192.168.7.0/24,host=192.168.7.1,dns=192.168.7.3,dhcpstart=192.168.7.2"},
		{"192.168.7.2/24", "", "", "net=192.168.7.0/24,host=192.168.7.1,dns=192.168.7.3,dhcpstart=192.168.7.2"},
		{"192.168.7.1/24", "192.168.7.254", "192.168.7.9", "net=192.168.7.0/24,host=192.168.7.254,dns=192.168.7.9,dhcpstart=192.168.7.1"},
		{"192.168.7.2/24", "10.0.0.1", "192.168.7.2", "net=192.168.7.0/24,host=192.168.7.1,dns=192.168.7.3,dhcpstart=192.168.7.2"},
		{"192.168.7.3/24", "192.168.7.1", "192.168.7.1", "net=192.168.7.0/24,host=192.168.7.2,dns=192.168.7.1,dhcpstart=192.168.7.3"},
		{"10.1.2.3/8", "10.0.0.1", "", "net=10.0.0.0/8,host=10.0.0.1,dns=10.0.0.2,dhcpstart=10.1.2.3"},
		{"192.168.7.5/30", "192.168.7.6", "", "net=192.168.7.4/30,host=192.168.7.6,dns=192.168.7.7,dhcpstart=192.168.7.5"},
		{"192.168.7.6/30", "", "", "net=192.168.7.4/30,host=192.168.7.5,dns=192.168.7.7,dhcpstart=192.168.7.6"},
		{"192.168.7.2/31", "", "", ""},
		{"192.168.7.2/32", "", "", ""},
		{"fd00::2/64", "fd00::1", "", ""},
	} {
		m := machine()
		m.Net, m.Forwards = "user", []Forward{{Addr: "127.0.0.1", Guest: 80}}
		m.Address = netip.MustParsePrefix(c.address)
		m.Gateway, _ = netip.ParseAddr(c.gateway)
		m.DNS, _ = netip.ParseAddr(c.dns)
		if err := m.Reachable(); (err == nil) != (c.want != "") {
			t.Errorf("%s: reachable: %v", c.address, err)
		}
		if c.want != "" {
			c.want = "," + c.want
		} else {
			m.Forwards = nil
		}
		args, err := m.Args()
		if err != nil {
			t.Fatal(err)
		}
		user := args[slices.Index(args, "-netdev")+1]
		if net, _, _ := strings.Cut(user, ",hostfwd="); net != "user,id=net0"+c.want {
			t.Errorf("%s: %s, want %s", c.address, net, c.want)
		}
		if qemu == "" {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		cmd := exec.CommandContext(ctx, qemu, "-M", "none", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio", "-netdev", user)
		cmd.Stdin = strings.NewReader("quit\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", user, err, out)
		}
		cancel()
	}
}

// The real QEMU takes the arguments of every machine; no kernel boots here.
func TestRealQEMUTakesTheArguments(t *testing.T) {
	qemu, err := exec.LookPath(QEMU)
	if err != nil {
		t.Skip("no QEMU here")
	}
	dir := t.TempDir()
	disk := dir + "/a,b"
	if err := os.WriteFile(disk, make([]byte, 8192), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, kind := range Kinds {
		l, err := net.Listen("unix", dir+"/"+kind)
		if err != nil {
			t.Fatal(err)
		}
		m := machine()
		m.Kind, m.Net, m.Control, m.CPUs = kind, "user", dir+"/"+kind, 2
		m.Forwards = []Forward{{Addr: "127.0.0.1", Guest: 80}}
		m.Root = &Disk{disk, 4096, 4096}
		args, err := m.Args()
		if err != nil {
			t.Fatal(err)
		}
		// Without the kernel, stopped, and told to quit by its monitor.
		for i, a := range args {
			if a == "-kernel" {
				args = append(args[:i:i], args[i+2:]...)
				break
			}
		}
		for i, a := range args {
			if strings.HasPrefix(a, "stdio,") {
				args[i] = "null,id=console"
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		cmd := exec.CommandContext(ctx, qemu, append(args, "-S", "-monitor", "stdio")...)
		cmd.Stdin = strings.NewReader("info qtree\nquit\n")
		out, err := cmd.CombinedOutput()
		cancel()
		l.Close()
		if err != nil {
			t.Errorf("%s: %v\n%s", kind, err, out)
		}
		for _, want := range []string{`serial = "kiln-root"`, `name = "org.kiln.ctl"`, "virtio-net", "virtio-rng"} {
			if !bytes.Contains(out, []byte(want)) {
				t.Errorf("%s has no %s", kind, want)
			}
		}
	}
}
