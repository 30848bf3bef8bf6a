package vmm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"kiln/capstan/usernet"
)

// Process is the Kind of a machine that is no machine: the kernel is a process of this
// host, and the program's own processes are traced by it.
const Process = "process"

// ProcessKernel is the file of the kernel that runs so, beside pack or in build/ of
// Kiln's source. ProcessEnv names another.
const (
	ProcessKernel = "kernel.process"
	ProcessEnv    = "KILN_PROCESS"
)

// FindProcess is that kernel's path.
func FindProcess() (string, error) {
	if f := os.Getenv(ProcessEnv); f != "" {
		if _, err := os.Stat(f); err != nil {
			return "", fmt.Errorf("the kernel that %s names cannot be read: %w", ProcessEnv, err)
		}
		return f, nil
	}
	var dirs []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dirs = append(dirs, filepath.Dir(exe))
	}
	if wd, err := os.Getwd(); err == nil {
		for d := wd; ; d = filepath.Dir(d) {
			if _, err := os.Stat(filepath.Join(d, "cmd", "process")); err == nil {
				dirs = append(dirs, filepath.Join(d, "build"))
			}
			if d == filepath.Dir(d) {
				break
			}
		}
	}
	for _, d := range dirs {
		f := filepath.Join(d, ProcessKernel)
		if fi, err := os.Stat(f); err == nil && fi.Mode().IsRegular() {
			return f, nil
		}
	}
	return "", errors.New("there is no " + ProcessKernel + " beside pack: run `make kernel` in Kiln's source, or name the file with " + ProcessEnv)
}

// isolate gives a process user, PID, network, IPC and host name namespaces of its own: it
// sees no process and no network of this host, and all that it starts ends with it.
func isolate(a *syscall.SysProcAttr) {
	a.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
}

// namespaces is isolate; a test has it fail.
var namespaces = isolate

// processArgs are the kernel's arguments. The network is served until the function that
// it gives is called; dir is for its socket.
func (m *Machine) processArgs(dir string) (args []string, done func(), err error) {
	done = func() {}
	args = []string{"-memory", strconv.FormatInt(m.Memory, 10), "-cpus", strconv.Itoa(m.CPUs), "-control", m.Control}
	line := m.Append
	if m.Net == "user" {
		name := filepath.Join(dir, "net")
		if done, err = m.serveNet(name); err != nil {
			return nil, nil, err
		}
		args = append(args, "-net", name)
		if !m.Address.IsValid() && !m.Offline && !setsNetwork(line) {
			line = strings.TrimSpace(usernet.IPWord + " " + line)
		}
	}
	if line != "" {
		args = append(args, "-append", line)
	}
	return append(args, m.Extra...), done, nil
}

// setsNetwork says whether a kernel command line has the network's configuration.
func setsNetwork(line string) bool {
	return slices.ContainsFunc(strings.Fields(line), func(w string) bool {
		return strings.HasPrefix(w, "ip=") || strings.HasPrefix(w, "kiln.network=") || strings.HasPrefix(w, "kiln.address=")
	})
}

// serveNet is the other end of the machine's card.
func (m *Machine) serveNet(name string) (func(), error) {
	l, err := net.Listen("unixpacket", name)
	if err != nil {
		return nil, fmt.Errorf("the machine's network socket cannot be made: %w", err)
	}
	closers := []func() error{l.Close}
	done := func() {
		for _, c := range closers {
			c()
		}
	}
	ports := make([]net.Listener, len(m.Forwards))
	for i, f := range m.Forwards {
		if ports[i], err = net.Listen("tcp", f.String()); err != nil {
			done()
			return nil, fmt.Errorf("port %d of %s cannot be forwarded (%s): choose another with -p, or 0 for any free one", f.Host, f.Addr, reason(err))
		}
		closers = append(closers, ports[i].Close)
	}
	go m.carry(l, ports)
	return done, nil
}

// inside are the addresses of the machine's network.
func (m *Machine) inside() usernet.Addresses {
	a := usernet.Usual
	if m.Address.Addr().Is4() {
		a.Machine = m.Address.Addr()
	}
	if m.static() {
		a.Gateway, a.DNS = m.neighbours()
	}
	return a
}

func (m *Machine) carry(l net.Listener, ports []net.Listener) {
	conn, err := l.Accept()
	if err != nil {
		return
	}
	n, err := usernet.New(conn, m.inside())
	if err != nil {
		conn.Close()
		return
	}
	for i, p := range ports {
		go n.Forward(p, m.Forwards[i].Guest)
	}
}
