package vmm

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"kiln/capstan/usernet"
)

// Where a user may make no namespaces, the kernel runs in pack's.
func TestProcessRunsWithoutNamespacesToo(t *testing.T) {
	for _, may := range []bool{true, false} {
		if !may {
			namespaces = func(a *syscall.SysProcAttr) {
				isolate(a)
				a.UidMappings = append(a.UidMappings, a.UidMappings...) // refused: they overlap
			}
			defer func() { namespaces = isolate }()
		}
		var out bytes.Buffer
		r := &runner{name: "test", alone: true, tail: &tail{}, cmd: exec.Command("/bin/sh", "-c", "echo $$; read x; echo got $x")}
		if err := r.start(Streams{Out: &out, Err: &out, In: strings.NewReader("a line\n")}); err != nil {
			t.Fatal(err)
		}
		err := <-r.exited
		<-r.copied
		if err != nil || !strings.HasSuffix(out.String(), "got a line\n") {
			t.Errorf("namespaces %v: %v, %q", may, err, out.String())
		}
		if !may && strings.HasPrefix(out.String(), "1\n") {
			t.Error("it was in a namespace")
		}
	}
}

func TestProcessKernelIsNamedByTheEnvironment(t *testing.T) {
	t.Setenv(ProcessEnv, "/nowhere/kernel.process")
	if _, err := (&Machine{Kind: Process}).Find(); err == nil || !strings.Contains(err.Error(), "/nowhere/kernel.process") {
		t.Errorf("%v", err)
	}
	t.Setenv(ProcessEnv, "/bin/sh")
	if f, err := (&Machine{Kind: Process}).Find(); err != nil || f != "/bin/sh" {
		t.Errorf("%q, %v", f, err)
	}
}

func TestTheNetworkOfAProcessHasTheAddressesOfTheConfiguration(t *testing.T) {
	for address, want := range map[string]string{
		"":               "10.0.2.15 10.0.2.2 10.0.2.3",
		"192.168.7.2/24": "192.168.7.2 192.168.7.1 192.168.7.3",
		"192.168.7.2/32": "192.168.7.2 10.0.2.2 10.0.2.3",
		"fd00::2/64":     "10.0.2.15 10.0.2.2 10.0.2.3",
	} {
		m := &Machine{Kind: Process}
		m.Address, _ = netip.ParsePrefix(address)
		if m.static() {
			m.Gateway = netip.MustParseAddr("192.168.7.1")
		}
		a := m.inside()
		if got := fmt.Sprint(a.Machine, a.Gateway, a.DNS); got != want {
			t.Errorf("%q: %s, want %s", address, got, want)
		}
	}
}

func TestAMachineThatWantsNoNetworkIsGivenNoAddress(t *testing.T) {
	for _, c := range []struct {
		line    string
		offline bool
		want    bool
	}{
		{"", false, true}, {"quiet", false, true}, {"", true, false},
		{"ip=dhcp", false, false}, {"quiet kiln.network=none", false, false}, {"kiln.address=10.9.0.2/24", false, false},
	} {
		m := &Machine{Kind: Process, Net: "user", Append: c.line, Offline: c.offline}
		args, done, err := m.processArgs(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		done()
		if got := slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, usernet.IPWord) }); got != c.want {
			t.Errorf("%+v: %q", c, args)
		}
	}
}
