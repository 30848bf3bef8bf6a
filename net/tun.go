package net

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// /dev/net/tun (Linux, Documentation/networking/tuntap.rst): an interface whose wire is a
// file. What the stack sends a program reads, a packet a read; what a program writes the stack
// receives. TUN carries IP packets, TAP Ethernet frames.

// tunQueueLen is how many packets wait in one queue (TUN_READQ_SIZE).
const tunQueueLen = 500

// tunFile is an open /dev/net/tun: one queue of an interface, once TUNSETIFF has attached it.
//
// Locks: Stack.tunMu (attaching, removing) → tunDevice.mu → tunFile.mu; the last is taken
// under netstack's locks, and nothing is done under it but moving packets.
type tunFile struct {
	vfs.BaseOps
	s    *Stack
	node vfs.Inode
	q    waiter.Queue

	mu     sync.Mutex
	dev    *tunDevice
	queue  []tunPacket
	off    bool // TUNSETQUEUE with IFF_DETACH_QUEUE
	index  int32
	sndbuf int32
}

// tunPacket is one to be read, counted against the memory for packets.
type tunPacket struct {
	b     []byte
	proto uint16
	slot  *rxSlot
}

// OpenTun opens /dev/net/tun, whose node is i.
func (s *Stack) OpenTun(i vfs.Inode) vfs.FileOps {
	return &tunFile{s: s, node: i, sndbuf: 1<<31 - 1}
}

// Attr implements vfs.FileOps.
func (f *tunFile) Attr(c wait.Context) (vfs.Attr, error) { return f.node.Attr(c) }

// SetAttr implements vfs.FileOps.
func (f *tunFile) SetAttr(c wait.Context, a vfs.SetAttr) error { return f.node.SetAttr(c, a) }

// device is the interface that the file is attached to, nil for none.
func (f *tunFile) device() *tunDevice {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dev
}

// Readiness implements waiter.Waitable.
func (f *tunFile) Readiness(mask waiter.EventMask) waiter.EventMask {
	f.mu.Lock()
	d, some := f.dev, len(f.queue) > 0
	f.mu.Unlock()
	if d == nil {
		return waiter.EventErr
	}
	var r waiter.EventMask
	if some {
		r |= waiter.ReadableEvents
	}
	if !d.i.down.Load() {
		r |= waiter.WritableEvents
	}
	return r & (mask | waiter.EventErr)
}

// EventRegister implements waiter.Waitable.
func (f *tunFile) EventRegister(e *waiter.Entry) error { f.q.EventRegister(e); return nil }

// EventUnregister implements waiter.Waitable.
func (f *tunFile) EventUnregister(e *waiter.Entry) { f.q.EventUnregister(e) }

// put gives the queue a packet of the stack's; false: there is no room.
func (f *tunFile) put(b []byte, proto uint16) bool {
	f.mu.Lock()
	ok := f.dev != nil && len(f.queue) < tunQueueLen
	if ok {
		slot := f.s.rx.admit(len(b))
		if ok = slot != nil; ok {
			f.queue = append(f.queue, tunPacket{b, proto, slot})
		}
	}
	f.mu.Unlock()
	if ok {
		f.q.Notify(waiter.ReadableEvents)
	}
	return ok
}

// drop empties the queue.
func (f *tunFile) drop() {
	f.mu.Lock()
	l := f.queue
	f.queue = nil
	f.mu.Unlock()
	for _, p := range l {
		p.slot.release()
	}
}

// Read takes one packet, with struct tun_pi and struct virtio_net_hdr before it as TUNSETIFF
// asked, cut to the buffer: EBADFD without an interface, EINVAL where not even the headers fit.
func (f *tunFile) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	d := f.device()
	if d == nil {
		return 0, unix.EBADFD
	}
	flags, vnet := d.mode()
	head := 0
	if flags&unix.IFF_NO_PI == 0 {
		head = tunPISize
	}
	if flags&unix.IFF_VNET_HDR != 0 {
		head += vnet
	}
	f.mu.Lock()
	if len(f.queue) == 0 {
		f.mu.Unlock()
		return 0, unix.EAGAIN
	}
	p := f.queue[0]
	f.queue[0] = tunPacket{}
	f.queue = f.queue[1:]
	f.mu.Unlock()
	defer p.slot.release()
	room := dst.Len()
	if room < head {
		return 0, unix.EINVAL
	}
	b := make([]byte, head, head+len(p.b))
	if flags&unix.IFF_NO_PI == 0 {
		if room < head+len(p.b) {
			binary.LittleEndian.PutUint16(b, tunPktStrip)
		}
		binary.BigEndian.PutUint16(b[2:], p.proto)
	}
	b = append(b, p.b...)
	return dst.CopyOut(b[:min(len(b), room)])
}

// struct tun_pi: flags, and the protocol in network order.
const (
	tunPISize   = 4
	tunPktStrip = 1
)

// Write hands the stack one packet: EBADFD without an interface, EIO where that is down, EINVAL
// for what is no packet.
func (f *tunFile) Write(_ wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	d := f.device()
	if d == nil {
		return 0, unix.EBADFD
	}
	size := src.Len()
	if size > tunMaxWrite {
		return 0, unix.EMSGSIZE
	}
	slot := f.s.rx.admit(size)
	if slot == nil {
		d.i.dropped()
		return 0, unix.ENOMEM
	}
	defer slot.release()
	b := make([]byte, size)
	if n, err := src.CopyIn(b); err != nil || n < size {
		return 0, unix.EFAULT
	}
	if err := d.write(b); err != nil {
		return 0, err
	}
	return size, nil
}

// tunMaxWrite is the longest packet with all headers that can be.
const tunMaxWrite = 65535 + ethLen + tunPISize + 256

// write parses the headers of a packet and delivers it.
func (d *tunDevice) write(b []byte) error {
	flags, vnet := d.mode()
	proto := uint16(0)
	if flags&unix.IFF_NO_PI == 0 {
		if len(b) < tunPISize {
			return unix.EINVAL
		}
		proto, b = binary.BigEndian.Uint16(b[2:]), b[tunPISize:]
	}
	summed := false
	if flags&unix.IFF_VNET_HDR != 0 {
		if len(b) < vnet {
			return unix.EINVAL
		}
		h := b[:vnet]
		if b = b[vnet:]; h[0]&vnetNeedsCsum != 0 {
			start, at := int(binary.LittleEndian.Uint16(h[6:])), int(binary.LittleEndian.Uint16(h[8:]))
			if start+at+2 > len(b) {
				return unix.EINVAL
			}
			summed = true
			putChecksum(b[start:], at)
		}
		if int(binary.LittleEndian.Uint16(h[2:])) > len(b) {
			return unix.EINVAL
		}
	}
	if d.tap != nil {
		if len(b) < ethLen {
			return unix.EINVAL
		}
		if d.i.down.Load() {
			return unix.EIO
		}
		d.tap.deliver(b, summed)
		return nil
	}
	if len(b) == 0 {
		return unix.EINVAL
	}
	if flags&unix.IFF_NO_PI != 0 {
		switch b[0] >> 4 {
		case 4:
			proto = unix.ETH_P_IP
		case 6:
			proto = unix.ETH_P_IPV6
		default:
			d.i.dropped()
			return unix.EINVAL
		}
	}
	if d.i.down.Load() {
		return unix.EIO
	}
	d.tun.deliver(b, proto)
	return nil
}

// vnetNeedsCsum is VIRTIO_NET_HDR_F_NEEDS_CSUM.
const vnetNeedsCsum = 1

// putChecksum completes the checksum at b[at:], which holds the pseudo-header's sum.
func putChecksum(b []byte, at int) {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
		sum = sum&0xffff + sum>>16
	}
	if len(b)&1 != 0 {
		sum += uint32(b[len(b)-1]) << 8
	}
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	c := ^uint16(sum)
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], c)
}

// Release implements vfs.FileOps: the interface goes with its last file, unless it persists.
func (f *tunFile) Release(*vfs.File) {
	f.s.tunMu.Lock()
	defer f.s.tunMu.Unlock()
	if d := f.device(); d != nil {
		d.detach(f)
	}
	f.drop()
}
