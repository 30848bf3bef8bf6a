package metal

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bed is a virtual machine with every device that Kiln drives.
type bed struct {
	name    string
	machine string // -M, -cpu and what else
	bus     string // "device" (virtio-mmio) or "pci"
	opts    string // for each virtio device
	tap     bool   // a TAP device in a network namespace of its own, for offloads
}

var beds = []bed{
	{name: "microvm-legacy", machine: "-M microvm -cpu max", bus: "device"},
	{name: "microvm-modern", machine: "-M microvm -cpu max -global virtio-mmio.force-legacy=false", bus: "device"},
	{name: "microvm-one-ioapic", machine: "-M microvm,ioapic2=off -cpu max", bus: "device"},
	{name: "microvm-cmdline", machine: "-M microvm,acpi=off -cpu max", bus: "device"},
	{name: "microvm-known-window", machine: "-M microvm,acpi=off,auto-kernel-cmdline=off -cpu max", bus: "device"},
	{name: "microvm-no-event-index", machine: "-M microvm -cpu max", bus: "device", opts: ",event_idx=off,indirect_desc=off"},
	{name: "q35", machine: "-M q35 -cpu max", bus: "pci"},
	{name: "q35-no-event-index", machine: "-M q35 -cpu max", bus: "pci", opts: ",event_idx=off,indirect_desc=off"},
	{name: "q35-modern-only", machine: "-M q35 -cpu max", bus: "pci", opts: ",disable-legacy=on"},
	{name: "q35-one-vector", machine: "-M q35 -cpu max", bus: "pci", opts: ",vectors=1"},
	{name: "pc", machine: "-M pc", bus: "pci"},
	{name: "pc-wired-interrupts", machine: "-M pc", bus: "pci", opts: ",vectors=0"},
	{name: "q35-wired-interrupts", machine: "-M q35", bus: "pci", opts: ",vectors=0"},
	{name: "microvm-tap", machine: "-M microvm -cpu max", bus: "device", tap: true},
	{name: "q35-tap", machine: "-M q35 -cpu max", bus: "pci", tap: true},
	{name: "q35-tap-no-merging", machine: "-M q35 -cpu max", bus: "pci", opts: ",event_idx=off", tap: true},
}

// TestDriversUseEveryDevice boots tests/metal/drivers, which reads and writes the
// disks, exchanges packets with the host, takes entropy and speaks over the control
// port and the serial line, in every arrangement of QEMU's machines.
func TestDriversUseEveryDevice(t *testing.T) {
	k := build(t, "drivers")
	for _, b := range beds {
		t.Run(b.name, func(t *testing.T) { b.run(t, k) })
	}
}

func (b bed) run(t *testing.T, kernel string) {
	if b.tap {
		if err := exec.Command("unshare", "-n", "ip", "tuntap", "add", "tap0", "mode", "tap").Run(); err != nil {
			t.Skip("no TAP device in a network namespace:", err)
		}
	}
	dir, err := os.MkdirTemp("", "kd") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for i, size := range []int{2 << 20, 1 << 20} {
		img := bytes.Repeat([]byte{byte(i + 1), 2, 3, 5, 7, 11, 13}, size/7+1)[:size]
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("d", i)), img, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, ctl := b.boot(t, kernel, dir)
	for _, want := range []string{
		`drivers: virtio-blk0 serial="kiln-root" size=2097152 readonly=false`,
		`drivers: virtio-blk1 serial="vol1" size=1048576 readonly=true`,
		`mac=52 54 00 12 34 56 mtu=1500`, `RxDropped:0`, `rescues=0`,
		`drivers: rng fed=`, `drivers: control port said "stop\n"`,
		`drivers: serial port said "hello"`, "drivers: ok\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	if b.tap && !strings.Contains(out, "drivers: large segment acknowledged=20000\n") {
		t.Error("segmentation offload does not work")
	}
	if n := strings.Count(out, "0123456789abcde\n"); n != 300 {
		t.Errorf("%d of 300 lines came over the serial port", n)
	}
	if ctl != "hello from drivers\nexit 0\n" {
		t.Errorf("control port carried %q", ctl)
	}
	if t.Failed() {
		t.Log(strings.ReplaceAll(out, "0123456789abcde\n", ""))
	}
}

func (b bed) args(kernel, dir string) []string {
	dev := func(name, props string) []string {
		return []string{"-device", "virtio-" + name + "-" + b.bus + b.opts + props}
	}
	a := append([]string{"qemu-system-x86_64"}, strings.Fields(b.machine)...)
	a = append(a, strings.Fields("-accel tcg -m 128 -nodefaults -no-reboot -display none -serial stdio")...)
	a = append(a, "-kernel", kernel,
		"-drive", "id=d0,format=raw,if=none,file="+dir+"/d0",
		"-drive", "id=d1,format=raw,if=none,readonly=on,file="+dir+"/d1",
		"-chardev", "socket,id=c,server=on,wait=on,path="+dir+"/s")
	if b.bus == "device" {
		b.opts = strings.ReplaceAll(b.opts, ",vectors=0", "")
	}
	a = append(a, dev("blk", ",drive=d0,serial=kiln-root")...)
	a = append(a, dev("blk", ",drive=d1,serial=vol1")...)
	a = append(a, dev("rng", "")...)
	a = append(a, dev("serial", "")...)
	a = append(a, "-device", "virtserialport,chardev=c,name=org.kiln.ctl")
	if !b.tap {
		return append(append(a, "-netdev", "user,id=n"), dev("net", ",netdev=n")...)
	}
	props := ",netdev=n"
	if strings.Contains(b.name, "no-merging") {
		props += ",mrg_rxbuf=off"
	}
	a = append(append(a, "-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no"), dev("net", props)...)
	const setup = "ip tuntap add tap0 mode tap vnet_hdr && ip addr add 10.0.2.2/24 dev tap0 && ip link set tap0 up && exec \"$@\""
	return append([]string{"unshare", "-n", "sh", "-c", setup, "sh"}, a...)
}

// boot returns what came over the serial line and over the control port. It types
// "hello" when the guest asks for it and says "stop" after the guest's greeting.
func (b bed) boot(t *testing.T, kernel, dir string) (serial, control string) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	a := b.args(kernel, dir)
	cmd := exec.CommandContext(ctx, a[0], a[1:]...)
	in, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctl := make(chan string, 1)
	go func() { ctl <- talk(ctx, dir+"/s") }()
	var text strings.Builder
	r := bufio.NewReader(stdout)
	for {
		line, err := r.ReadString('\n')
		text.WriteString(strings.ReplaceAll(line, "\r", ""))
		if strings.HasPrefix(line, "drivers: type") {
			io.WriteString(in, "hello")
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %v", a, err)
	}
	cancel()
	return text.String(), <-ctl
}

func talk(ctx context.Context, path string) string {
	var c net.Conn
	for {
		var err error
		if c, err = net.Dial("unix", path); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return ""
		case <-time.After(20 * time.Millisecond):
		}
	}
	defer c.Close()
	r := bufio.NewReader(c)
	first, _ := r.ReadString('\n')
	io.WriteString(c, "stop\n")
	rest, _ := io.ReadAll(r)
	return first + string(rest)
}
