package boot

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"kiln/tests/linuxguest"
	"kiln/tests/linuxguest/spec"
	"kiln/tests/vhostuser"
	"kiln/tests/vmtest"
)

// sharedMemory is what QEMU needs to lend its guest's memory to a back end.
func sharedMemory(size string) []string {
	return []string{"-object", "memory-backend-memfd,id=shared,size=" + size + ",share=on", "-machine", "memory-backend=shared"}
}

// vsockFlags are pack's for a machine with an address, on PCI or, on a microvm, MMIO.
func vsockFlags(t *testing.T, h *vhostuser.Host, vmm string, cid uint64) []string {
	t.Helper()
	dev, err := h.Guest(t.TempDir(), cid)
	if err != nil {
		t.Fatal(err)
	}
	if vmm == "microvm" {
		dev[3] = strings.Replace(dev[3], "vsock-pci", "vsock-device", 1)
		dev = append(dev, "-global", "virtio-mmio.force-legacy=false")
	}
	flags := []string{"--vmm", vmm, "-m", "256M"}
	for _, a := range append(sharedMemory("256M"), dev...) {
		flags = append(flags, "--qemu-arg", a)
	}
	return flags
}

// vsockKiln runs vsockpeer to its end.
func vsockKiln(t *testing.T, h *vhostuser.Host, vmm string, cid, peer uint64) {
	t.Helper()
	console, status := run(t, bootLimit, program(t, "vsockpeer"), vsockFlags(t, h, vmm, cid), strconv.FormatUint(peer, 10))
	if status != 0 {
		t.Errorf("Kiln at %d: status %d", cid, status)
	}
	has(t, console, fmt.Sprintf("vsock %d to %d", cid, peer), "vsock ok")
}

// The device on PCI and on MMIO, Kiln at both ends.
func TestVsockBetweenMachines(t *testing.T) {
	h := vhostuser.New()
	m := vmtest.Boot(t, append([]string{program(t, "vsockpeer"), "--net", "none"}, append(vsockFlags(t, h, "microvm", 3), "--", "4")...)...)
	tailIfFailed(t, m.Console)
	vsockKiln(t, h, "q35", 4, 3)
	if status := m.Status(t, bootLimit); status != 0 {
		t.Errorf("status %d", status)
	}
	has(t, m.Console(), "vsock 3 to 4", "vsock ok")
}

// A Linux guest and Kiln talk to each other through QEMU's device: Linux's driver is one end.
func TestVsockWithLinux(t *testing.T) {
	if !accept {
		t.Skip("TestVsockBetweenMachines is the quick one; this is in make accept")
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	k, err := linuxguest.Get(ctx)
	if err != nil {
		t.Fatal(err)
	}
	prog, err := os.ReadFile(compile(t, "vsockpeer", ""))
	if err != nil {
		t.Fatal(err)
	}
	h := vhostuser.New()
	dev, err := h.Guest(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	g := &linuxguest.Guest{
		Kernel: k, Files: map[string]string{"/vsockpeer": string(prog)},
		Modules: append(append([]string{}, linuxguest.VirtioNet...), "vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"),
		Spec:    spec.Spec{Path: "/vsockpeer", Args: []string{"/vsockpeer", "4"}},
		Args: append(append([]string{"-machine", "q35", "-cpu", "max,la57=off", "-m", "256M", "-accel", "tcg", "-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none"},
			sharedMemory("256M")...), dev...),
	}
	done := make(chan string, 1)
	start := time.Now()
	go func() {
		out, err := g.Run(ctx)
		if err != nil {
			out += err.Error()
		}
		done <- out
	}()
	vsockKiln(t, h, "q35", 4, 3)
	out := <-done
	if !strings.Contains(out, "vsock 3 to 4") || !strings.Contains(out, "vsock ok") {
		t.Errorf("Linux: %s", out)
	}
	t.Logf("%d packets in %s", h.Packets.Load(), time.Since(start).Round(time.Millisecond))
}
