// Package drivers finds the machine's devices and starts their drivers.
//
//	devs, err := drivers.Probe(m, log, drivers.WithTimers(tq))
//	root := devs.Disk("kiln-root")
//	for _, n := range devs.Net { … }
//
// PCI is scanned where there is a host bridge. virtio-mmio windows come from
// virtio_mmio.device= on the command line, else from ACPI's declarations, else from
// where QEMU's microvm is known to have them.
package drivers

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"kiln/drivers/acpi"
	"kiln/drivers/acpi/aml"
	"kiln/drivers/pci"
	"kiln/drivers/uart"
	"kiln/drivers/virtio"
	"kiln/drivers/virtio/blk"
	"kiln/drivers/virtio/console"
	"kiln/drivers/virtio/net"
	"kiln/drivers/virtio/rng"
	"kiln/drivers/virtio/vsock"
	"kiln/kernel/hal"
	"kiln/kernel/timer"
)

// RootSerial is the serial number of the disk that holds the root file system.
const RootSerial = "kiln-root"

// Unsupported is a device that no driver takes.
type Unsupported struct {
	Where string
	// Text is a sentence for the user: what it is and what to use instead.
	Text string
	// Important is false for what a server can do without (graphics, bridges).
	Important bool
}

// Devices is what was found, in bus order.
type Devices struct {
	// ACPI is nil on a machine without tables, PCI on one without a bus.
	ACPI *acpi.Tables
	PCI  *pci.Bus
	Net  []*net.Device
	// Disks; those with RootSerial are among them.
	Disks       []*blk.Disk
	RNG         []*rng.Source
	Consoles    []*console.Console
	Vsocks      []*vsock.Device
	UART        *uart.UART // nil if there is none
	Unsupported []Unsupported
	// Failed are devices that a driver took and could not start.
	Failed []error
}

// Disk finds the disk with a serial number; nil if there is none.
func (d *Devices) Disk(serial string) *blk.Disk {
	for _, b := range d.Disks {
		if b.Serial() == serial {
			return b
		}
	}
	return nil
}

// Volumes are the disks that do not hold the root.
func (d *Devices) Volumes() (out []*blk.Disk) {
	for _, b := range d.Disks {
		if b.Serial() != RootSerial {
			out = append(out, b)
		}
	}
	return out
}

// Option changes how Probe works.
type Option func(*prober)

// WithTimers gives drivers the timer queue for their watchdog. Without it, a lost
// interrupt is not noticed.
func WithTimers(tq *timer.Queue) Option {
	return func(p *prober) { p.dog = virtio.NewWatchdog(tq, p.log) }
}

// WithoutUART leaves the serial port to the base.
func WithoutUART() Option { return func(p *prober) { p.noUART = true } }

type prober struct {
	m      hal.Machine
	log    func(string, ...any)
	dog    *virtio.Watchdog
	noUART bool
	d      Devices
	counts map[uint32]int
}

// Probe finds and starts every device. What cannot be used is in Failed and
// Unsupported, for the caller to report; the error is only for a machine that cannot
// be probed. log also serves the watchdog later.
func Probe(m hal.Machine, log func(string, ...any), opts ...Option) (*Devices, error) {
	if log == nil {
		log = func(string, ...any) {}
	}
	p := &prober{m: m, log: log, counts: map[uint32]int{}}
	for _, o := range opts {
		o(p)
	}
	t, err := acpi.Find(m)
	switch {
	case err == nil:
		p.d.ACPI = t
		if w, ok := t.PowerOff(m); ok {
			m.SetPowerOff(w)
		} else {
			log("acpi: no way to turn the machine off")
		}
		if w, ok := t.Reset(); ok {
			m.SetReset(w)
		}
	case !errors.Is(err, acpi.ErrNoTables):
		return nil, err
	}
	if p.d.PCI = pci.New(m, p.d.ACPI); p.d.PCI != nil {
		for _, f := range p.d.PCI.Scan() {
			p.function(f)
		}
	}
	for _, w := range p.windows() {
		p.mmio(w)
	}
	if !p.noUART {
		gsi, flags := p.d.ACPI.ISA(uart.COM1IRQ)
		if p.d.UART, err = uart.Open(m, uart.COM1, gsi, flags); err != nil && err != uart.ErrNoUART {
			p.failed(fmt.Errorf("serial port: %w", err))
		}
	}
	return &p.d, nil
}

func (p *prober) failed(err error) { p.d.Failed = append(p.d.Failed, err) }

func (p *prober) unsupported(where, text string, important bool) {
	p.d.Unsupported = append(p.d.Unsupported, Unsupported{where, text, important})
}

func (p *prober) function(f *pci.Function) {
	kind, ok := virtio.IsPCI(f)
	if !ok || !driven(kind) {
		text, important := f.Describe()
		p.unsupported(f.Address.String(), text, important)
		return
	}
	t, err := virtio.OpenPCI(f)
	if err != nil {
		p.failed(fmt.Errorf("%s at %v: %w", virtio.TypeName(kind), f.Address, err))
		return
	}
	p.virtio(t)
}

func driven(kind uint32) bool {
	switch kind {
	case virtio.TypeNet, virtio.TypeBlock, virtio.TypeConsole, virtio.TypeEntropy, virtio.TypeVsock:
		return true
	}
	return false
}

func (p *prober) mmio(w window) {
	t, err := virtio.OpenMMIO(p.m, w.base, w.length, w.gsi, hal.GSILevel)
	if errors.Is(err, virtio.ErrNoDevice) {
		return
	}
	if err != nil {
		p.failed(fmt.Errorf("virtio-mmio window at %#x: %w", uint64(w.base), err))
		return
	}
	if !driven(t.Type()) {
		p.unsupported(t.String(), fmt.Sprintf("a %s at %v is not supported", virtio.TypeName(t.Type()), t), true)
		return
	}
	p.virtio(t)
}

// virtio starts the driver of a device.
func (p *prober) virtio(t virtio.Transport) {
	kind := t.Type()
	name := fmt.Sprintf("%s%d", virtio.TypeName(kind), p.counts[kind])
	p.counts[kind]++
	var err error
	switch kind {
	case virtio.TypeNet:
		var d *net.Device
		if d, err = net.Open(p.m, t, name, p.dog); err == nil {
			p.d.Net = append(p.d.Net, d)
		}
	case virtio.TypeBlock:
		var d *blk.Disk
		if d, err = blk.Open(p.m, t, name, p.dog); err == nil {
			p.d.Disks = append(p.d.Disks, d)
		}
	case virtio.TypeConsole:
		var d *console.Console
		if d, err = console.Open(p.m, t, name, p.dog); err == nil {
			p.d.Consoles = append(p.d.Consoles, d)
		}
	case virtio.TypeEntropy:
		var d *rng.Source
		if d, err = rng.Open(p.m, t, name, p.dog); err == nil {
			p.d.RNG = append(p.d.RNG, d)
		}
	case virtio.TypeVsock:
		var d *vsock.Device
		if d, err = vsock.Open(p.m, t, name, p.dog); err == nil {
			p.d.Vsocks = append(p.d.Vsocks, d)
		}
	}
	if err != nil {
		p.failed(fmt.Errorf("%s at %v: %w", name, t, err))
	}
}

// window is a place where a virtio-mmio device may be.
type window struct {
	base   hal.PhysAddr
	length int
	gsi    uint32
}

// maxWindows bounds what a command line or table can make us look at.
const maxWindows = 64

func (p *prober) windows() []window {
	if w := cmdlineWindows(p.m.Boot().Cmdline); len(w) > 0 {
		return w
	}
	if p.d.ACPI != nil {
		return acpiWindows(p.d.ACPI.Names)
	}
	if p.d.PCI != nil {
		return nil
	}
	return p.knownWindows()
}

// cmdlineWindows reads Linux's parameter virtio_mmio.device=SIZE@BASE:IRQ[:ID].
func cmdlineWindows(cmdline string) (out []window) {
	for _, f := range strings.Fields(cmdline) {
		v, ok := strings.CutPrefix(f, "virtio_mmio.device=")
		if !ok || len(out) == maxWindows {
			continue
		}
		size, rest, ok1 := strings.Cut(v, "@")
		base, irq, ok2 := strings.Cut(rest, ":")
		irq, _, _ = strings.Cut(irq, ":")
		n, err1 := parseSize(size)
		b, err2 := strconv.ParseUint(base, 0, 64)
		g, err3 := strconv.ParseUint(irq, 0, 32)
		if ok1 && ok2 && err1 == nil && err2 == nil && err3 == nil && n <= 1<<20 {
			out = append(out, window{hal.PhysAddr(b), int(n), uint32(g)})
		}
	}
	return out
}

// parseSize reads a number with an optional K or M behind it.
func parseSize(s string) (uint64, error) {
	shift := 0
	switch {
	case strings.HasSuffix(s, "K"), strings.HasSuffix(s, "k"):
		shift = 10
	case strings.HasSuffix(s, "M"), strings.HasSuffix(s, "m"):
		shift = 20
	}
	if shift > 0 {
		s = s[:len(s)-1]
	}
	n, err := strconv.ParseUint(s, 0, 32)
	return n << shift, err
}

// acpiWindows are the devices with the identifier that QEMU gives to virtio-mmio.
// They are declared from the last slot to the first; device 0 of the command line
// has the highest slot, so table order is the user's order.
func acpiWindows(ns *aml.Namespace) (out []window) {
	for _, d := range ns.Devices("LNRO0005") {
		var w window
		var irq bool
		for _, r := range d.Resources() {
			switch {
			case r.Kind == aml.Memory && w.base == 0 && r.Len <= 1<<20:
				w.base, w.length = hal.PhysAddr(r.Base), int(r.Len)
			case r.Kind == aml.Interrupt && len(r.GSIs) > 0:
				w.gsi, irq = r.GSIs[0], true
			}
		}
		if w.base != 0 && irq && d.Present() && len(out) < maxWindows {
			out = append(out, w)
		}
	}
	return out
}

// QEMU microvm's windows (hw/i386/microvm.h of 7.2): 24 slots on GSI 24 up with a
// second IOAPIC, else 8; without ACPI the 8 are on GSI 5 up. Slots fill from the last.
const (
	knownBase   = 0xfeb00000
	knownStride = 0x200
	knownSlots  = 24
	knownFew    = 8
	knownGSI    = 24
	knownGSIFew = 5
)

// knownWindows looks where microvm has its devices when nothing says so.
func (p *prober) knownWindows() (out []window) {
	first := uint32(knownGSIFew)
	for i := knownSlots - 1; i >= 0; i-- {
		w := window{knownBase + hal.PhysAddr(i)*knownStride, knownStride, 0}
		if _, err := virtio.OpenMMIO(p.m, w.base, w.length, 0, 0); err != nil {
			continue
		}
		if i >= knownFew {
			first = knownGSI
		}
		w.gsi = first + uint32(i)
		out = append(out, w)
	}
	return out
}
