// Package tapnet makes a network of its own for load tests: a network namespace with
// a TAP interface for the machine. QEMU's user network loses connections under
// load, whatever the guest; this one does not. Needs root and iproute2.
package tapnet

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
)

// Addresses inside the namespace.
const (
	HostIP  = "10.77.0.1"
	GuestIP = "10.77.0.2"
	// IPArg is the kernel command line's static address (Linux's ip= syntax).
	IPArg = "ip=" + GuestIP + "::" + HostIP + ":255.255.255.0::eth0:off"
)

var counter atomic.Int32

// Net is one namespace.
type Net struct {
	NS, Tap string
}

// sweep removes the namespaces of processes that ended without Close (a test that timed
// out or was interrupted): the process id is in the name.
func sweep() {
	out, _ := exec.Command(ipTool(), "netns", "list").Output()
	for _, l := range strings.Split(string(out), "\n") {
		name, _, _ := strings.Cut(l, " ")
		var pid, n int
		if c, _ := fmt.Sscanf(name, "kiln-%d-%d", &pid, &n); c != 2 {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); os.IsNotExist(err) {
			exec.Command(ipTool(), "netns", "del", name).Run()
		}
	}
}

var swept sync.Once

// New makes the namespace.
func New() (*Net, error) {
	swept.Do(sweep)
	n := &Net{NS: fmt.Sprintf("kiln-%d-%d", os.Getpid(), counter.Add(1)), Tap: "kiln0"}
	steps := [][]string{
		{"netns", "add", n.NS},
		{"-n", n.NS, "link", "set", "lo", "up"},
		{"-n", n.NS, "tuntap", "add", n.Tap, "mode", "tap"},
		{"-n", n.NS, "addr", "add", HostIP + "/24", "dev", n.Tap},
		{"-n", n.NS, "link", "set", n.Tap, "up"},
	}
	for _, s := range steps {
		if out, err := exec.Command(ipTool(), s...).CombinedOutput(); err != nil {
			n.Close()
			return nil, fmt.Errorf("ip %s: %v: %s", strings.Join(s, " "), err, bytes.TrimSpace(out))
		}
	}
	return n, nil
}

// Close removes it.
func (n *Net) Close() { exec.Command(ipTool(), "netns", "del", n.NS).Run() }

// Command runs a program inside the namespace.
func (n *Net) Command(name string, args ...string) *exec.Cmd {
	return exec.Command(ipTool(), append([]string{"netns", "exec", n.NS, name}, args...)...)
}

func ipTool() string {
	for _, p := range []string{"/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"} {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return "ip"
}
