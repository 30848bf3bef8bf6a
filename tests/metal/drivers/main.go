// Drivers is a kernel that finds the machine's devices and uses each of them once:
// it reads and writes the disks, sends an ARP request for QEMU's gateway and waits
// for the answer, seeds the generator, greets the control port and waits there for
// a line. It prints what it found, "drivers: ok" or what failed, and turns the
// machine off.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"kiln/drivers"
	"kiln/drivers/virtio/blk"
	"kiln/drivers/virtio/console"
	"kiln/drivers/virtio/net"
	"kiln/kernel/hal"
	"kiln/kernel/metal"
	"kiln/kernel/timer"
)

var (
	m      *metal.Machine
	failed bool
)

func say(format string, args ...any) {
	m.ConsoleWrite(fmt.Appendf(nil, "drivers: "+format+"\n", args...))
}

func fail(format string, args ...any) {
	failed = true
	say("FAIL: "+format, args...)
}

func main() {
	m = metal.New()
	tq := timer.NewQueue(m)
	t0 := m.Nanotime()
	d, err := drivers.Probe(m, say, drivers.WithTimers(tq))
	if err != nil {
		fail("probe: %v", err)
	} else {
		say("probed in %d us", (m.Nanotime()-t0)/1000)
		for _, u := range d.Unsupported {
			say("%s", u.Text)
		}
		for _, b := range d.Disks {
			disk(b)
		}
		for _, n := range d.Net {
			card(n)
		}
		entropy(d)
		control(d)
		serial(d)
		for _, e := range d.Failed {
			fail("%v", e)
		}
	}
	if !failed {
		say("ok")
	}
	m.PowerOff()
}

// within waits for a channel, at most two seconds by the host's clock.
func within[T any](c chan T, what string) (v T, ok bool) {
	select {
	case v = <-c:
		return v, true
	case <-time.After(5 * time.Second):
		fail("%s: nothing in 5 s", what)
		return v, false
	}
}

func disk(b *blk.Disk) {
	n := min(64, int(b.Size()/hal.PageSize))
	var fs []hal.PFN
	for range n {
		f, err := m.AllocFrames(0, 0)
		if err != nil {
			fail("frames: %v", err)
			return
		}
		fs = append(fs, f)
	}
	t0 := m.Nanotime()
	if err := b.ReadFrames(nil, 0, fs); err != nil {
		fail("%s: read: %v", b.Name(), err)
		return
	}
	took := m.Nanotime() - t0
	sum := uint32(0)
	for _, f := range fs {
		for _, c := range m.Frame(f) {
			sum = sum*31 + uint32(c)
		}
	}
	say("%s serial=%q size=%d readonly=%v sum=%08x us=%d", b.Name(), b.Serial(), b.Size(), b.ReadOnly(), sum, took/1000)
	if b.ReadOnly() {
		return
	}
	// Write the pages in reverse order, many callers at once, and compare.
	done := make(chan error, n)
	for i := range fs {
		go func() { done <- b.WriteFrames(nil, int64(i)*hal.PageSize, fs[n-1-i:n-i]) }()
	}
	for range fs {
		if err, ok := within(done, b.Name()); err != nil || !ok {
			fail("%s: write: %v", b.Name(), err)
			return
		}
	}
	if err := b.Flush(nil); err != nil {
		fail("%s: flush: %v", b.Name(), err)
	}
	back, err := m.AllocFrames(0, 0)
	if err != nil {
		fail("frames: %v", err)
		return
	}
	for i := range fs {
		if err := b.ReadFrames(nil, int64(i)*hal.PageSize, []hal.PFN{back}); err != nil {
			fail("%s: read back: %v", b.Name(), err)
			return
		}
		if !bytes.Equal(m.Frame(back), m.Frame(fs[n-1-i])) {
			fail("%s: page %d differs", b.Name(), i)
			return
		}
	}
}

// card asks QEMU's gateway (10.0.2.2) for its hardware address, a few hundred times.
func card(n *net.Device) {
	say("%s mac=% x mtu=%d txcsum=%v rxcsum=%v tso4=%v tso6=%v link=%v", n.Name(), n.MAC(), n.MTU(),
		n.TxCsum(), n.RxCsum(), n.TSO4(), n.TSO6(), n.LinkUp())
	got := make(chan bool, 1000)
	resets := make(chan uint32, 10)
	mac := n.MAC()
	n.SetReceiver(func(p *net.Packet) {
		b := bytes.Join(p.Slices, nil)
		if len(b) >= 54 && b[12] == 8 && b[13] == 0 && b[23] == 6 && b[47]&4 != 0 {
			resets <- binary.BigEndian.Uint32(b[42:])
		}
		if len(b) >= 42 && b[12] == 8 && b[13] == 6 && b[21] == 2 && bytes.Equal(b[0:6], mac[:]) {
			hostMAC = [6]byte(b[22:28])
			got <- true
		}
	})
	if err := n.Start(); err != nil {
		fail("%s: %v", n.Name(), err)
		return
	}
	arp := append(bytes.Repeat([]byte{0xff}, 6), mac[:]...)
	arp = append(arp, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	arp = append(arp, mac[:]...)
	arp = append(arp, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2)
	arp = append(arp, make([]byte, 18)...)
	for round := range 50 {
		for range 10 {
			if err := n.Send(&net.Packet{Slices: [][]byte{arp[:14], arp[14:]}}); err != nil {
				fail("%s: send: %v", n.Name(), err)
				return
			}
		}
		n.Kick()
		for range 10 {
			if _, ok := within(got, fmt.Sprintf("%s: answer in round %d", n.Name(), round)); !ok {
				say("%+v, rescues %d, %v", n.Stats(), n.Device().Rescues(), n.Device().Err())
				return
			}
		}
	}
	if n.TSO4() {
		segmentation(n, resets)
	}
	say("%s %+v rescues=%d", n.Name(), n.Stats(), n.Device().Rescues())
}

// hostMAC is the gateway's hardware address, from its answers.
var hostMAC [6]byte

// segmentation sends one TCP segment of 20000 bytes, with its checksum left to the
// device, to a port where nobody listens. The host's reset acknowledges the length
// that arrived, if the checksum was good.
func segmentation(n *net.Device, resets chan uint32) {
	const payload = 20000
	mac := n.MAC()
	p := append(bytes.Repeat([]byte{0xff}, 6), mac[:]...)
	copy(p, hostMAC[:])
	p = append(p, 8, 0)
	be := binary.BigEndian
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	be.PutUint16(ip[2:], 40+payload)
	copy(ip[12:], []byte{10, 0, 2, 15, 10, 0, 2, 2})
	be.PutUint16(ip[10:], ^sum(ip, 0))
	tcp := make([]byte, 20)
	be.PutUint16(tcp[0:], 1234)
	be.PutUint16(tcp[2:], 9)
	be.PutUint32(tcp[4:], 1000) // sequence number
	tcp[12] = 5 << 4
	pseudo := append([]byte{10, 0, 2, 15, 10, 0, 2, 2, 0, 6}, byte((20+payload)>>8), byte((20+payload)&0xff))
	be.PutUint16(tcp[16:], sum(pseudo, 0))
	p = append(append(p, ip...), tcp...)
	err := n.Send(&net.Packet{Slices: [][]byte{p, make([]byte, payload)}, NeedsCsum: true,
		CsumStart: 34, CsumOffset: 16, GSO: net.GSOTCP4, SegSize: 1460, HdrLen: 54})
	if err != nil {
		fail("%s: segmented send: %v", n.Name(), err)
		return
	}
	n.Kick()
	if ack, ok := within(resets, "answer to a large segment"); ok {
		say("large segment acknowledged=%d", ack-1000)
	}
}

// sum is the Internet checksum, not complemented (RFC 1071).
func sum(b []byte, s uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

func entropy(d *drivers.Devices) {
	for _, r := range d.RNG {
		for i := 0; r.Fed() == 0; i++ {
			if i == 500 {
				fail("no entropy")
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		say("rng fed=%d", r.Fed())
	}
}

func control(d *drivers.Devices) {
	for _, c := range d.Consoles {
		ports := make(chan *console.Port, 8)
		c.OnPort(func(p *console.Port) {
			if p.Name() == console.ControlPort {
				ports <- p
			}
		})
		p, ok := within(ports, "control port")
		if !ok {
			return
		}
		lines := make(chan string, 8)
		p.SetReceiver(func(b []byte) { lines <- string(b) })
		p.Write([]byte("hello from drivers\n"))
		s, _ := within(lines, "line on the control port")
		say("control port said %q", s)
		p.Write([]byte("exit 0\n"))
		if !p.Drain(100, func() { time.Sleep(time.Millisecond) }) {
			fail("control port not drained")
		}
	}
}

func serial(d *drivers.Devices) {
	if d.UART == nil {
		say("no serial port")
		return
	}
	d.UART.Write(bytes.Repeat([]byte("0123456789abcde\n"), 300))
	for i := 0; !d.UART.Drain(1); i++ {
		if i == 500 {
			fail("serial port not drained")
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	in := make(chan string, 8)
	d.UART.SetReceiver(func(b []byte) { in <- string(b) })
	say("type")
	text := ""
	for len(text) < 5 {
		s, ok := within(in, "serial input")
		if !ok {
			break
		}
		text += s
	}
	say("serial port said %q", text)
}
