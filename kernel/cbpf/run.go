package cbpf

import (
	"encoding/binary"
	"math/rand/v2"

	"gvisor.dev/gvisor/pkg/bpf"
)

// Packet is what a filter of a socket sees: bytes, and what Linux knows of them beside
// (uapi/linux/filter.h, SKF_AD_*).
type Packet struct {
	Data []byte // where plain loads count from
	// Link and Net are the packet from its link and its network header on, for loads
	// from SKF_LL_OFF and SKF_NET_OFF; nil where there is no such header.
	Link, Net []byte

	Proto  uint16 // ETH_P_*
	Kind   byte   // PACKET_HOST …
	Index  uint32 // of the interface, 0: none
	HWType uint16 // ARPHRD_*
	Mark   uint32
}

// Where ancillary data and other headers stand in the space of offsets.
const (
	offAncillary = ^uint32(0x1000) + 1   // SKF_AD_OFF
	offNet       = ^uint32(0x100000) + 1 // SKF_NET_OFF
	offLink      = ^uint32(0x200000) + 1 // SKF_LL_OFF
)

// Ancillary values (SKF_AD_*).
const (
	adProtocol   = 0
	adPktType    = 4
	adIfIndex    = 8
	adNlattr     = 12
	adNlattrNest = 16
	adMark       = 20
	adQueue      = 24
	adHaType     = 28
	adRxHash     = 32
	adCPU        = 36
	adXorX       = 40
	adVlanTag    = 44
	adVlanThere  = 48
	adPayOffset  = 52
	adRandom     = 56
	adVlanTpid   = 60
)

// Known says whether a program asks only for ancillary values that there are: others are
// EINVAL (bpf_check_classic).
func Known(insns []bpf.Instruction) bool {
	for _, in := range insns {
		if in.OpCode&7 != bpf.Ld || in.OpCode&0xe0 != bpf.Abs || in.K < offAncillary {
			continue
		}
		if k := in.K - offAncillary; k > adVlanTpid || k&3 != 0 {
			return false
		}
	}
	return true
}

// Run executes a program that bpf.Compile has found good, with TAX and TXA as they are
// (not Straighten's): what it returns, 0 where it reads beyond the packet or divides by
// zero. Jumps go forward only, so it ends.
func Run(insns []bpf.Instruction, p *Packet) uint32 {
	m := machine{p: p}
	for pc := 0; pc < len(insns); pc++ {
		in := &insns[pc]
		switch in.OpCode & 7 {
		case bpf.Ld:
			if stop, v := m.load(in); stop {
				return v
			}
		case bpf.Ldx:
			if !m.loadX(in) {
				return 0
			}
		case bpf.St:
			m.mem[in.K&15] = m.a
		case bpf.Stx:
			m.mem[in.K&15] = m.x
		case bpf.Alu:
			if !m.alu(in) {
				return 0
			}
		case bpf.Jmp:
			pc += m.jump(in)
		case bpf.Ret:
			if in.OpCode&0x18 == bpf.A {
				return m.a
			}
			return in.K
		case bpf.Misc:
			if in.OpCode&0xf8 == bpf.Txa {
				m.a = m.x
			} else {
				m.x = m.a
			}
		}
	}
	return 0
}

type machine struct {
	p    *Packet
	a, x uint32
	mem  [16]uint32
}

// load is LD: stop says that the program ends here with v.
func (m *machine) load(in *bpf.Instruction) (stop bool, v uint32) {
	at := in.K
	switch in.OpCode & 0xe0 {
	case bpf.Imm:
		m.a = in.K
		return false, 0
	case bpf.Mem:
		m.a = m.mem[in.K&15]
		return false, 0
	case bpf.Len:
		m.a = uint32(len(m.p.Data))
		return false, 0
	case bpf.Abs:
		if at >= offAncillary {
			return m.ancillary(at - offAncillary)
		}
	case bpf.Ind:
		at += m.x
	}
	size := uint32(4)
	switch in.OpCode & 0x18 {
	case bpf.H:
		size = 2
	case bpf.B:
		size = 1
	}
	b := m.at(at, size)
	if b == nil {
		return true, 0
	}
	switch size {
	case 1:
		m.a = uint32(b[0])
	case 2:
		m.a = uint32(binary.BigEndian.Uint16(b))
	default:
		m.a = binary.BigEndian.Uint32(b)
	}
	return false, 0
}

// at is size bytes at an offset, nil if they are not all there.
func (m *machine) at(off, size uint32) []byte {
	b := m.p.Data
	switch {
	case off >= offNet:
		b, off = m.p.Net, off-offNet
	case off >= offLink:
		b, off = m.p.Link, off-offLink
	}
	if uint64(off)+uint64(size) > uint64(len(b)) {
		return nil
	}
	return b[off : off+size]
}

// ancillary gives what Linux knows beside the bytes. Without an interface its questions
// end the program with what it has.
func (m *machine) ancillary(k uint32) (stop bool, v uint32) {
	p := m.p
	switch k {
	case adProtocol:
		m.a = uint32(p.Proto)
	case adPktType:
		m.a = uint32(p.Kind)
	case adIfIndex, adHaType:
		if p.Index == 0 {
			return true, m.a
		}
		if m.a = p.Index; k == adHaType {
			m.a = uint32(p.HWType)
		}
	case adMark:
		m.a = p.Mark
	case adXorX:
		m.a ^= m.x
	case adRandom:
		m.a = rand.Uint32()
	case adPayOffset:
		m.a = payOffset(p.Net)
	case adNlattr:
		m.a = findAttr(p.Data, m.a, uint32(len(p.Data)), m.x)
	case adNlattrNest:
		m.a = nestedAttr(p.Data, m.a, m.x)
	default: // adQueue, adRxHash, adCPU, adVlanTag, adVlanThere, adVlanTpid: there is one queue and no tag
		m.a = 0
	}
	return false, 0
}

func (m *machine) loadX(in *bpf.Instruction) bool {
	switch in.OpCode & 0xe0 {
	case bpf.Imm:
		m.x = in.K
	case bpf.Mem:
		m.x = m.mem[in.K&15]
	case bpf.Len:
		m.x = uint32(len(m.p.Data))
	default: // bpf.Msh: the length of an IPv4 header
		b := m.at(in.K, 1)
		if b == nil {
			return false
		}
		m.x = uint32(b[0]&0xf) * 4
	}
	return true
}

// alu works in 32 bits; a shift takes as many bits of its operand as the processor does.
func (m *machine) alu(in *bpf.Instruction) bool {
	v := in.K
	if in.OpCode&8 == bpf.X {
		v = m.x
	}
	switch in.OpCode & 0xf0 {
	case bpf.Add:
		m.a += v
	case bpf.Sub:
		m.a -= v
	case bpf.Mul:
		m.a *= v
	case bpf.Div, bpf.Mod:
		if v == 0 {
			return false
		}
		if in.OpCode&0xf0 == bpf.Div {
			m.a /= v
		} else {
			m.a %= v
		}
	case bpf.Or:
		m.a |= v
	case bpf.And:
		m.a &= v
	case bpf.Xor:
		m.a ^= v
	case bpf.Lsh:
		m.a <<= v & 31
	case bpf.Rsh:
		m.a >>= v & 31
	case bpf.Neg:
		m.a = -m.a
	}
	return true
}

// jump is how many instructions to skip.
func (m *machine) jump(in *bpf.Instruction) int {
	if in.OpCode&0xf0 == bpf.Ja {
		return int(in.K)
	}
	v := in.K
	if in.OpCode&8 == bpf.X {
		v = m.x
	}
	yes := false
	switch in.OpCode & 0xf0 {
	case bpf.Jeq:
		yes = m.a == v
	case bpf.Jgt:
		yes = m.a > v
	case bpf.Jge:
		yes = m.a >= v
	case bpf.Jset:
		yes = m.a&v != 0
	}
	if yes {
		return int(in.JumpIfTrue)
	}
	return int(in.JumpIfFalse)
}

// findAttr is where in b, between from and end, the netlink attribute of a type begins; 0
// if there is none.
func findAttr(b []byte, from, end, typ uint32) uint32 {
	for at := uint64(from); at+4 <= uint64(end); {
		n := uint64(binary.LittleEndian.Uint16(b[at:]))
		if n < 4 || at+n > uint64(end) {
			return 0
		}
		if uint32(binary.LittleEndian.Uint16(b[at+2:])&0x3fff) == typ {
			return uint32(at)
		}
		at += (n + 3) &^ 3
	}
	return 0
}

func nestedAttr(b []byte, at, typ uint32) uint32 {
	if uint64(at)+4 > uint64(len(b)) {
		return 0
	}
	n := uint64(binary.LittleEndian.Uint16(b[at:]))
	if uint64(at)+n > uint64(len(b)) {
		return 0
	}
	return findAttr(b, at+4, uint32(uint64(at)+n), typ)
}

// payOffset is where the payload of an IP packet begins (skb_get_poff), from its network
// header on; 0 where that is not known.
func payOffset(ip []byte) uint32 {
	var at int
	var proto byte
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4:
		at, proto = int(ip[0]&0xf)*4, ip[9]
		if binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
			return uint32(at)
		}
	case len(ip) >= 40 && ip[0]>>4 == 6:
		at, proto = 40, ip[6]
	default:
		return 0
	}
	switch proto {
	case 6:
		if len(ip) < at+20 {
			return uint32(at)
		}
		at += max(int(ip[at+12]>>4)*4, 20)
	case 17, 1, 58, 136:
		at += 8
	}
	return uint32(at)
}
