// Command record boots Debian's kernel, runs every conformance case there and writes
// tests/conformance/testdata. Arguments are names of cases; none means all.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kiln/tests/conformance"
	"kiln/tests/linuxguest"
	"kiln/tests/linuxguest/spec"
	"kiln/tests/vmtest"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(names []string) error {
	cases := conformance.Named(names)
	root, err := conformance.Root(cases)
	if err != nil {
		return err
	}
	content, err := conformance.GuestFiles(cases)
	if err != nil {
		return err
	}
	files := map[string]string{}
	for name, b := range content {
		files[strings.TrimPrefix(name, "/")] = string(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	k, err := linuxguest.Get(ctx)
	if err != nil {
		return err
	}
	g := &linuxguest.Guest{
		Kernel: k, Root: root, Files: files,
		Spec:    spec.Spec{Path: conformance.GuestPath, Dir: "/", Args: []string{conformance.GuestPath}, Env: conformance.Env},
		Args:    []string{"-machine", "q35", "-cpu", "max,la57=off", "-m", "512", "-accel", "tcg", "-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none"},
		Modules: []string{"tun", "vsock", "vmw_vsock_virtio_transport_common", "vsock_loopback", "vsock_diag", "inet_diag", "tcp_diag", "udp_diag", "netlink_diag"},
	}
	out, err := g.Run(ctx)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return write(out, len(cases))
}

// write stores what the console says.
func write(console string, want int) error {
	top, err := vmtest.Root()
	if err != nil {
		return err
	}
	texts, err := conformance.GuestOutput(console)
	if err != nil {
		return err
	}
	for name, text := range texts {
		file := filepath.Join(top, "tests", "conformance", "testdata", name+".golden")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if len(texts) != want {
		return fmt.Errorf("%d of %d cases came back:\n%s", len(texts), want, console[max(0, len(console)-4000):])
	}
	fmt.Printf("%d cases recorded\n", len(texts))
	return nil
}
