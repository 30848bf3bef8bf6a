package net

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"kiln/kernel/cbpf"
)

// fanoutGroup is packet sockets that share what comes (PACKET_FANOUT): each frame goes to
// one of them. See packet(7) and fanout_add of Linux's af_packet.c.
//
// Locks: Stack.fanoutMu (the groups and who is in them), fanoutGroup.mu (its members, as
// frames see them), packetSocket.mu.
type fanoutGroup struct {
	s     *Stack
	id    uint16
	kind  byte // PACKET_FANOUT_*
	flags byte
	most  uint32 // members
	hook  packetHook
	turn  atomic.Uint32
	prog  atomic.Pointer[filter] // PACKET_FANOUT_CBPF

	mu      sync.RWMutex
	members []*packetSocket
}

// rollover is what a socket knows of frames that went to another of its group.
type rollover struct {
	at                int // the member that had room
	all, huge, failed uint64
	history           [16]uint32 // of flows
}

// isHuge says whether more than half of what was seen lately is one flow's.
func (r *rollover) isHuge(flow uint32) bool {
	n := 0
	for _, h := range r.history {
		if h == flow {
			n++
		}
	}
	r.history[rand.IntN(len(r.history))] = flow
	return n > len(r.history)/2
}

const (
	sizeFanoutArgs = 8
	// legacyFanoutMax is the most members where the first one says nothing.
	legacyFanoutMax = 256
	fanoutMax       = 1 << 16
	uniqueIDBit     = unix.PACKET_FANOUT_FLAG_UNIQUEID >> 8
	rolloverBit     = unix.PACKET_FANOUT_FLAG_ROLLOVER >> 8
)

// joinFanout serves PACKET_FANOUT: EINVAL, EALREADY, ENOMEM (no number left), ENOSPC.
func (x *packetSocket) joinFanout(v []byte) error {
	if len(v) != 4 && len(v) != sizeFanoutArgs {
		return unix.EINVAL
	}
	id, typ, most := binary.LittleEndian.Uint16(v), binary.LittleEndian.Uint16(v[2:]), uint32(0)
	if len(v) == sizeFanoutArgs {
		most = binary.LittleEndian.Uint32(v[4:])
	}
	kind, flags := byte(typ), byte(typ>>8)
	if kind > unix.PACKET_FANOUT_EBPF || kind == unix.PACKET_FANOUT_ROLLOVER && flags&rolloverBit != 0 {
		return unix.EINVAL
	}
	s := x.s
	s.fanoutMu.Lock()
	defer s.fanoutMu.Unlock()
	x.mu.Lock()
	hook, in, closed := x.hook, x.fanout != nil, x.closed
	x.mu.Unlock()
	if in {
		return unix.EALREADY
	}
	if flags&uniqueIDBit != 0 {
		if id != 0 {
			return unix.EINVAL
		}
		var ok bool
		if id, ok = s.freeFanoutID(); !ok {
			return unix.ENOMEM
		}
		flags &^= uniqueIDBit
	}
	g := s.fanouts[id]
	if g != nil {
		if g.flags != flags || most != 0 && most != g.most {
			return unix.EINVAL
		}
	} else {
		if most > fanoutMax {
			return unix.EINVAL
		}
		if most == 0 {
			most = legacyFanoutMax
		}
		h := hook
		h.silent = false // PACKET_IGNORE_OUTGOING is the socket's alone
		g = &fanoutGroup{s: s, id: id, kind: kind, flags: flags, most: most, hook: h}
	}
	if closed || hook.proto == 0 || g.kind != kind || g.hook.proto != hook.proto || g.hook.nic != hook.nic {
		return unix.EINVAL
	}
	if uint32(len(g.members)) >= g.most {
		return unix.ENOSPC
	}
	g.add(x, kind == unix.PACKET_FANOUT_ROLLOVER || flags&rolloverBit != 0)
	return nil
}

// freeFanoutID is a number that no group has, not 0. fanoutMu is held.
func (s *Stack) freeFanoutID() (uint16, bool) {
	for range 1 << 16 {
		if s.lastFanout++; s.fanouts[s.lastFanout] == nil {
			return s.lastFanout, true
		}
	}
	return 0, false
}

// add takes a socket in, in whose place the group is shown frames. fanoutMu is held.
func (g *fanoutGroup) add(x *packetSocket, roll bool) {
	first := len(g.members) == 0
	x.mu.Lock()
	x.fanout = g
	if roll {
		x.rollover = &rollover{}
	}
	x.mu.Unlock()
	g.s.removeTap(x)
	g.mu.Lock()
	g.members = append(slices.Clone(g.members), x)
	g.mu.Unlock()
	if first {
		if g.s.fanouts == nil {
			g.s.fanouts = map[uint16]*fanoutGroup{}
		}
		g.s.fanouts[g.id] = g
		g.s.addTap(g)
	}
}

// leaveFanout takes a socket that is being closed out of its group. The last member takes
// the place of one that leaves, as Linux has it.
func (x *packetSocket) leaveFanout() {
	s := x.s
	s.fanoutMu.Lock()
	defer s.fanoutMu.Unlock()
	x.mu.Lock()
	g := x.fanout
	x.fanout = nil
	x.mu.Unlock()
	if g == nil {
		return
	}
	g.mu.Lock()
	m := slices.Clone(g.members)
	if i := slices.Index(m, x); i >= 0 {
		m[i] = m[len(m)-1]
		m = m[:len(m)-1]
	}
	g.members = m
	g.mu.Unlock()
	if len(m) == 0 {
		delete(s.fanouts, g.id)
		s.removeTap(g)
		s.cfg.Budget.Uncharge(g.prog.Swap(nil).cost())
	}
}

// fanoutData serves PACKET_FANOUT_DATA, the program that chooses: EINVAL, EPERM, EFAULT,
// ENOMEM, EBADF (no descriptor is a program's).
func (x *packetSocket) fanoutData(c *Caller, v []byte) error {
	if err := x.Unread(unix.SOL_PACKET, packetFanoutData, len(v)); err != nil {
		return err
	}
	if len(v) != sizeFprog {
		return unix.EBADF
	}
	f, err := x.readFilter(c, v)
	if err != nil {
		return err
	}
	x.s.fanoutMu.Lock() // the group does not go meanwhile
	defer x.s.fanoutMu.Unlock()
	x.mu.Lock()
	g := x.fanout
	x.mu.Unlock()
	if g == nil { // closed meanwhile
		x.s.cfg.Budget.Uncharge(f.cost())
		return unix.EINVAL
	}
	x.s.cfg.Budget.Uncharge(g.prog.Swap(f).cost())
	return nil
}

// value is PACKET_FANOUT as it is read.
func (g *fanoutGroup) value() int {
	if g == nil {
		return 0
	}
	return int(g.id) | int(g.kind)<<16 | int(g.flags)<<24
}

// see implements frameTap: the frame goes to one member. What a member sends none sees go
// out.
func (g *fanoutGroup) see(f *packetFrame, from *packetSocket) {
	if !g.hook.wants(f) {
		return
	}
	g.mu.RLock()
	m := g.members
	g.mu.RUnlock()
	if len(m) == 0 || f.kind == tcpip.PacketOutgoing && from != nil && slices.Contains(m, from) {
		return
	}
	i := g.choose(f, len(m))
	if g.kind == unix.PACKET_FANOUT_ROLLOVER {
		i = rollFrom(m, 0, f, false)
	}
	if g.flags&rolloverBit != 0 {
		i = rollFrom(m, i, f, true)
	}
	m[i].receive(*f)
}

// choose is the member, of n, that a frame is for.
func (g *fanoutGroup) choose(f *packetFrame, n int) int {
	switch g.kind {
	case unix.PACKET_FANOUT_LB:
		return int(g.turn.Add(1) % uint32(n))
	case unix.PACKET_FANOUT_RND:
		return rand.IntN(n)
	case unix.PACKET_FANOUT_CPU, unix.PACKET_FANOUT_QM, unix.PACKET_FANOUT_ROLLOVER, unix.PACKET_FANOUT_EBPF:
		return 0 // there is one queue, and what CPU the Go scheduler is on means nothing
	case unix.PACKET_FANOUT_CBPF:
		p := g.prog.Load()
		if p == nil {
			return 0
		}
		data := f.b // as it lies when Linux chooses
		if f.kind != tcpip.PacketOutgoing {
			data = f.b[f.head:]
		}
		return int(cbpf.Run(p.insns, f.asSeen(data)) % uint32(n))
	}
	return int(uint64(flowHash(f.b[f.head:])) * uint64(n) >> 32)
}

// rollFrom is the member that takes a frame for member i: itself if it has room and self
// says to ask (and if it has little, unless one flow sends so much), else the next with
// room (fanout_demux_rollover).
func rollFrom(m []*packetSocket, i int, f *packetFrame, self bool) int {
	x, n := m[i], len(f.b)
	x.mu.Lock()
	r := x.rollover
	low := false
	if self {
		switch x.room(n) {
		case roomNormal:
			x.mu.Unlock()
			return i
		case roomLow:
			if low = r != nil && r.isHuge(flowHash(f.b[f.head:])); !low {
				x.mu.Unlock()
				return i
			}
		}
	}
	if r == nil {
		x.mu.Unlock()
		return i
	}
	start := min(r.at, len(m)-1)
	x.mu.Unlock()
	for k := range m {
		j := (start + k) % len(m)
		if self && j == i || !m[j].roomy(n) {
			continue
		}
		x.mu.Lock()
		r.at = j
		r.all++
		if low {
			r.huge++
		}
		x.mu.Unlock()
		return j
	}
	x.mu.Lock()
	r.failed++
	x.mu.Unlock()
	return i
}

// roomy says whether a socket has room for a frame and has not been short of it since it
// was last read.
func (x *packetSocket) roomy(n int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.pressure {
		return false
	}
	x.pressure = x.room(n) != roomNormal
	return !x.pressure
}

// eased is told that the program has read. mu is held.
func (x *packetSocket) eased() {
	if x.pressure && x.room(-frameExtra) == roomNormal {
		x.pressure = false
	}
}

// flowHash is the same for all packets of a flow, both ways.
func flowHash(ip []byte) uint32 {
	var a, b []byte
	ports := 0
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4:
		a, b = ip[12:16], ip[16:20]
		if binary.BigEndian.Uint16(ip[6:])&0x3fff == 0 && (ip[9] == unix.IPPROTO_TCP || ip[9] == unix.IPPROTO_UDP) {
			ports = int(ip[0]&0xf) * 4
		}
	case len(ip) >= 40 && ip[0]>>4 == 6:
		a, b = ip[8:24], ip[24:40]
		if ip[6] == unix.IPPROTO_TCP || ip[6] == unix.IPPROTO_UDP {
			ports = 40
		}
	}
	h := uint32(0)
	for i := range a {
		h = h*31 + uint32(a[i]) + uint32(b[i])
	}
	if ports > 0 && len(ip) >= ports+4 {
		h = h*31 + uint32(binary.BigEndian.Uint16(ip[ports:])) + uint32(binary.BigEndian.Uint16(ip[ports+2:]))
	}
	// murmur3's finalizer: all bits count.
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}
