// Package vhostuser is the back end of QEMU's vhost-user-vsock devices, for tests: it carries
// packets between the guests that are connected to it, as a host's kernel with vhost-vsock
// would, and does not look at what they say.
//
//	h := vhostuser.New()
//	args, err := h.Guest(dir, 3)  // QEMU's arguments for a guest with address 3
//
// The protocol is QEMU's docs/interop/vhost-user.rst; QEMU is the front end, connects to a
// socket, and lends its memory. A packet for a guest that is not there (yet) is dropped.
package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"kiln/drivers/virtio/vsock"
)

// Requests of the front end.
const (
	getFeatures         = 1
	setFeatures         = 2
	setMemTable         = 5
	setVringNum         = 8
	setVringAddr        = 9
	setVringBase        = 10
	getVringBase        = 11
	setVringKick        = 12
	setVringCall        = 13
	setVringErr         = 14
	getProtocolFeatures = 15
	setVringEnable      = 18
	getConfig           = 24

	flagVersion   = 1
	flagReply     = 4
	flagNeedReply = 8
	noFD          = 1 << 8

	// Offered: VIRTIO_VSOCK_F_SEQPACKET, VHOST_USER_F_PROTOCOL_FEATURES, VIRTIO_F_VERSION_1;
	// of the protocol, replies to everything and configuration.
	features         = 1<<1 | 1<<30 | 1<<32
	protocolFeatures = 1<<3 | 1<<9
)

// Host joins guests.
type Host struct {
	mu     sync.Mutex
	guests map[uint64]*guest
	// Packets counts those that were carried.
	Packets atomic.Int64
}

// New makes a host without guests.
func New() *Host { return &Host{guests: map[uint64]*guest{}} }

type guest struct {
	h   *Host
	cid uint64

	mu      sync.Mutex
	regions []region
	rings   [2]ring // receive, transmit
	queue   [][]byte
}

type region struct {
	guest, size, user uint64
	mem               []byte
}

type ring struct {
	num               uint32
	desc, avail, used uint64 // the front end's addresses
	last, usedIdx     uint16
	kick, call        int // descriptors, 0 for none
	enabled           bool
}

// Guest makes the back end of one guest, and gives QEMU's arguments for its device; the
// guest's memory must be shared: -object memory-backend-memfd,share=on.
func (h *Host) Guest(dir string, cid uint64) ([]string, error) {
	path := filepath.Join(dir, fmt.Sprintf("vsock%d", cid))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	g := &guest{h: h, cid: cid}
	h.mu.Lock()
	h.guests[cid] = g
	h.mu.Unlock()
	go func() {
		defer l.Close()
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		for g.message(c) == nil {
		}
		g.end()
	}()
	return []string{"-chardev", "socket,id=vsock,path=" + path, "-device", "vhost-user-vsock-pci,chardev=vsock"}, nil
}

// message serves one request.
func (g *guest) message(c *net.UnixConn) error {
	b, oob := make([]byte, 12), make([]byte, 256)
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil || n == 0 {
		return errors.Join(err, io.EOF)
	}
	if _, err := io.ReadFull(c, b[n:]); err != nil {
		return err
	}
	le := binary.LittleEndian
	req, flags, size := le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:])
	if size > 4096 {
		return fmt.Errorf("vhostuser: a message of %d bytes", size)
	}
	p := make([]byte, size)
	if _, err := io.ReadFull(c, p); err != nil {
		return err
	}
	fds, err := descriptors(oob[:oobn])
	if err != nil {
		return err
	}
	reply, err := g.serve(req, p, fds)
	if err != nil {
		return err
	}
	if reply == nil && flags&flagNeedReply != 0 {
		reply = make([]byte, 8)
	}
	if reply != nil {
		le.PutUint32(b[4:], flagVersion|flagReply)
		le.PutUint32(b[8:], uint32(len(reply)))
		_, err = c.Write(append(b, reply...))
	}
	return err
}

func descriptors(oob []byte) (fds []int, err error) {
	ms, err := unix.ParseSocketControlMessage(oob)
	for _, m := range ms {
		f, e := unix.ParseUnixRights(&m)
		if e != nil {
			return nil, e
		}
		fds = append(fds, f...)
	}
	return fds, err
}

func (g *guest) serve(req uint32, p []byte, fds []int) (reply []byte, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	le := binary.LittleEndian
	p = append(p, make([]byte, 64)...) // short messages read as zeros
	index := le.Uint32(p)
	r := &g.rings[index&1]
	switch req {
	case getFeatures:
		return le.AppendUint64(nil, features), nil
	case getProtocolFeatures:
		return le.AppendUint64(nil, protocolFeatures), nil
	case setMemTable:
		return nil, g.memory(p, fds)
	case setVringNum:
		r.num = le.Uint32(p[4:])
	case setVringAddr:
		r.desc, r.used, r.avail = le.Uint64(p[8:]), le.Uint64(p[16:]), le.Uint64(p[24:])
	case setVringBase:
		r.last = uint16(le.Uint32(p[4:]))
		r.usedIdx = r.last
	case getVringBase:
		r.enabled = false
		return le.AppendUint32(le.AppendUint32(nil, index), uint32(r.last)), nil
	case setVringKick:
		if p[1] == 0 && len(fds) == 1 {
			r.kick = fds[0]
			go g.kicked(fds[0], int(index&1))
		}
	case setVringCall:
		if p[1] == 0 && len(fds) == 1 {
			r.call = fds[0]
		}
	case setVringErr:
		for _, fd := range fds {
			unix.Close(fd)
		}
	case setVringEnable:
		r.enabled = le.Uint32(p[4:]) != 0
		if index&1 == 1 {
			go g.transmit()
		} else {
			g.flush()
		}
	case getConfig:
		// Offset, size and flags, then the configuration: the guest's address.
		cfg := le.AppendUint64(nil, g.cid)
		off, size := le.Uint32(p), le.Uint32(p[4:])
		reply = append([]byte(nil), p[:12+size]...)
		copy(reply[12:], cfg[min(int(off), 8):])
		return reply, nil
	}
	return nil, nil
}

func (g *guest) memory(p []byte, fds []int) error {
	le := binary.LittleEndian
	g.unmap()
	for i, fd := range fds {
		e := p[8+32*i:]
		size, off := le.Uint64(e[8:]), le.Uint64(e[24:])
		mem, err := unix.Mmap(fd, 0, int(size+off), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		unix.Close(fd)
		if err != nil {
			return err
		}
		g.regions = append(g.regions, region{le.Uint64(e), size, le.Uint64(e[16:]), mem[off:]})
	}
	return nil
}

func (g *guest) unmap() {
	// The mappings stay until the test ends: a ring may still be looked at.
	g.regions = nil
}

func (g *guest) end() {
	g.h.mu.Lock()
	delete(g.h.guests, g.cid)
	g.h.mu.Unlock()
	g.mu.Lock()
	g.rings[0].enabled, g.rings[1].enabled = false, false
	g.mu.Unlock()
}

// at is memory by the guest's address, or (user) by the front end's.
func (g *guest) at(a uint64, n int, user bool) []byte {
	for _, r := range g.regions {
		base := r.guest
		if user {
			base = r.user
		}
		if a >= base && a+uint64(n) <= base+r.size {
			return r.mem[a-base : a-base+uint64(n)]
		}
	}
	panic(fmt.Sprintf("vhostuser: the guest gave the address %#x", a))
}

func word(b []byte) *uint32 { return (*uint32)(unsafe.Pointer(&b[0])) }

func (g *guest) kicked(fd, index int) {
	b := make([]byte, 8)
	for {
		// QEMU reads it too at times, and must not be made to wait.
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); err != nil && err != unix.EINTR {
			return
		}
		if _, err := unix.Read(fd, b); err != nil && err != unix.EINTR && err != unix.EAGAIN {
			return
		}
		if index == 1 {
			g.transmit()
			continue
		}
		g.mu.Lock()
		g.flush()
		g.mu.Unlock()
	}
}

// next takes a chain off a ring: its buffers for reading and for writing. mu is held.
func (g *guest) next(r *ring) (head uint16, out, in [][]byte, ok bool) {
	if !r.enabled || r.num == 0 || r.avail == 0 {
		return
	}
	if uint16(atomic.LoadUint32(word(g.at(r.avail, 4, true)))>>16) == r.last {
		return
	}
	le := binary.LittleEndian
	head = le.Uint16(g.at(r.avail+4+2*uint64(uint32(r.last)%r.num), 2, true))
	r.last++
	for i, n := uint64(head), 0; n <= int(r.num); n++ {
		d := g.at(r.desc+16*i, 16, true)
		b := g.at(le.Uint64(d), int(le.Uint32(d[8:])), false)
		flags := le.Uint16(d[12:])
		if flags&2 != 0 {
			in = append(in, b)
		} else {
			out = append(out, b)
		}
		if flags&1 == 0 {
			return head, out, in, true
		}
		i = uint64(le.Uint16(d[14:]))
	}
	panic("vhostuser: a chain without end")
}

// done gives a chain back, and interrupts if that is wanted. mu is held.
func (g *guest) done(r *ring, head uint16, n int) {
	le := binary.LittleEndian
	e := g.at(r.used+4+8*uint64(uint32(r.usedIdx)%r.num), 8, true)
	le.PutUint32(e, uint32(head))
	le.PutUint32(e[4:], uint32(n))
	r.usedIdx++
	atomic.StoreUint32(word(g.at(r.used, 4, true)), uint32(r.usedIdx)<<16)
	if atomic.LoadUint32(word(g.at(r.avail, 4, true)))&1 == 0 && r.call != 0 {
		unix.Write(r.call, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// transmit carries what the guest has sent.
func (g *guest) transmit() {
	for {
		g.mu.Lock()
		head, out, _, ok := g.next(&g.rings[1])
		var b []byte
		if ok {
			for _, p := range out {
				b = append(b, p...)
			}
			g.done(&g.rings[1], head, 0)
		}
		g.mu.Unlock()
		if !ok {
			return
		}
		g.h.carry(b)
	}
}

func (h *Host) carry(b []byte) {
	if len(b) < vsock.HeaderSize {
		return
	}
	var hd vsock.Header
	hd.Parse(b)
	h.mu.Lock()
	to := h.guests[hd.DstCID]
	h.mu.Unlock()
	if to == nil {
		return
	}
	h.Packets.Add(1)
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.rings[0].enabled {
		to.queue = append(to.queue, b)
		to.flush()
	}
}

// flush fills the guest's receive buffers; data that is longer than one goes in pieces.
// mu is held.
func (g *guest) flush() {
	for len(g.queue) > 0 {
		head, _, in, ok := g.next(&g.rings[0])
		if !ok {
			return
		}
		room := -vsock.HeaderSize
		for _, b := range in {
			room += len(b)
		}
		var h vsock.Header
		b := g.queue[0]
		h.Parse(b)
		data := b[vsock.HeaderSize:]
		piece := data[:min(len(data), room)]
		h.Len = uint32(len(piece))
		if g.queue[0] = append(b[:vsock.HeaderSize:vsock.HeaderSize], data[len(piece):]...); len(piece) == len(data) {
			g.queue = g.queue[1:]
		} else {
			h.Flags = 0 // the end of a message is in its last piece
		}
		out := make([]byte, vsock.HeaderSize, vsock.HeaderSize+len(piece))
		h.Put(out)
		out = append(out, piece...)
		n := len(out)
		for _, to := range in {
			out = out[copy(to, out):]
		}
		g.done(&g.rings[0], head, n)
	}
}
