// Init is process 1 of the Linux guest that the tests compare with: it loads the
// modules, brings the network up as the command line says, runs the program and
// powers off.
//
//	kilnguest.prog=BASE64(JSON spec)
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kiln/tests/linuxguest/spec"
)

func main() {
	err := run()
	if err != nil {
		fmt.Println("kilnguest: error:", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func run() error {
	for _, m := range []struct{ src, dst, typ string }{
		{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"}, {"tmpfs", "/tmp", "tmpfs"}, {"tmpfs", "/run", "tmpfs"},
	} {
		os.MkdirAll(m.dst, 0o755)
		if err := unix.Mount(m.src, m.dst, m.typ, 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", m.dst, err)
		}
	}
	os.MkdirAll("/dev/shm", 0o1777)
	unix.Mount("tmpfs", "/dev/shm", "tmpfs", 0, "")
	s, err := readSpec()
	if err != nil {
		return err
	}
	for _, m := range s.Modules {
		if err := load(m); err != nil {
			return fmt.Errorf("module %s: %w", m, err)
		}
	}
	if err := network(s); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	return program(s)
}

func readSpec() (*spec.Spec, error) {
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	for _, w := range strings.Fields(string(b)) {
		if v, ok := strings.CutPrefix(w, "kilnguest.prog="); ok {
			j, err := base64.StdEncoding.DecodeString(v)
			if err != nil {
				return nil, err
			}
			var s spec.Spec
			return &s, json.Unmarshal(j, &s)
		}
	}
	return nil, fmt.Errorf("no kilnguest.prog on the command line")
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}

// network gives lo and eth0 their addresses by the old ioctls: no tool is needed.
func network(s *spec.Spec) error {
	if err := ifconfig("lo", [4]byte{127, 0, 0, 1}, [4]byte{255, 0, 0, 0}); err != nil {
		return err
	}
	if s.Address == [4]byte{} {
		return nil
	}
	for range 100 {
		if _, err := os.Stat("/sys/class/net/eth0"); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ifconfig("eth0", s.Address, s.Mask)
}

func ifconfig(name string, addr, mask [4]byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		cmd uint
		a   [4]byte
	}{{unix.SIOCSIFADDR, addr}, {unix.SIOCSIFNETMASK, mask}} {
		if err := req.SetInet4Addr(c.a[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, c.cmd, req); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

func program(s *spec.Spec) error {
	cmd := exec.Command(s.Path)
	cmd.Args, cmd.Env, cmd.Dir = s.Args, s.Env, s.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
		if ws.Signaled() {
			fmt.Printf("kilnguest: signal %d\n", ws.Signal())
		} else {
			fmt.Printf("kilnguest: exit %d\n", ws.ExitStatus())
		}
		return nil
	}
	return err
}
