package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"golang.org/x/sys/cpu"

	"kiln/kernel/hal"
)

// A program that holds a pattern in every vector register, and lets the kernel look at
// it. The routines begin at these offsets in its code page; each ends in SYSCALL.
const (
	vecLoad  = 0x000 // registers from dataAt
	vecDump  = 0x200 // registers to dataAt + vecOut
	vecCall  = 0x400
	vecFault = 0x410 // mov rax,[0x1000]
	vecSpin  = 0x420 // jmp self
	vecDebug = 0x430 // nop; syscall (to be single-stepped)

	vecX87   = 0x200 // in the pattern: two float64, control word, MXCSR
	vecMXCSR = 0x214
	vecOut   = 0x400
)

// regOp is a MOVUPS or VMOVUPS between register r and the address.
func regOp(avx bool, r int, op byte, addr uint32) []byte {
	b := []byte{0x0f, op}
	switch {
	case avx && r < 8:
		b = []byte{0xc5, 0xfc, op}
	case avx:
		b = []byte{0xc5, 0x7c, op}
	case r >= 8:
		b = []byte{0x44, 0x0f, op}
	}
	b = append(b, 0x04|byte(r&7)<<3, 0x25)
	return binary.LittleEndian.AppendUint32(b, addr)
}

func vectorCode(avx bool) []byte {
	code := make([]byte, 4096)
	load := []byte{
		0xdb, 0xe3, // fninit
		0xdd, 0x04, 0x25, 0x00, 0x02, 0x50, 0, // fld qword [0x500200]
		0xdd, 0x04, 0x25, 0x08, 0x02, 0x50, 0, // fld qword [0x500208]
		0xd9, 0x2c, 0x25, 0x10, 0x02, 0x50, 0, // fldcw [0x500210]
		0x0f, 0xae, 0x14, 0x25, 0x14, 0x02, 0x50, 0, // ldmxcsr [0x500214]
	}
	dump := []byte{
		0xdd, 0x14, 0x25, 0x08, 0x06, 0x50, 0, // fst qword [0x500608]
		0xd9, 0xc9, // fxch st(1)
		0xdd, 0x14, 0x25, 0x00, 0x06, 0x50, 0, // fst qword [0x500600]
		0xd9, 0xc9, // fxch st(1)
		0xd9, 0x3c, 0x25, 0x10, 0x06, 0x50, 0, // fnstcw [0x500610]
		0x0f, 0xae, 0x1c, 0x25, 0x14, 0x06, 0x50, 0, // stmxcsr [0x500614]
	}
	for r := range 16 {
		at := uint32(dataAt) + uint32(32*r)
		load = append(load, regOp(avx, r, 0x10, at)...)
		dump = append(dump, regOp(avx, r, 0x11, at+vecOut)...)
	}
	call := []byte{0x0f, 0x05}
	copy(code[vecLoad:], append(load, call...))
	copy(code[vecDump:], append(dump, call...))
	copy(code[vecCall:], call)
	copy(code[vecFault:], []byte{0x48, 0x8b, 0x04, 0x25, 0, 0x10, 0, 0})
	copy(code[vecSpin:], []byte{0xeb, 0xfe})
	copy(code[vecDebug:], []byte{0x90, 0x0f, 0x05})
	return code
}

// vecProgram is one of the programs and the pattern its registers must have.
type vecProgram struct {
	*program
	avx  bool
	want [0x218]byte
}

// set makes the pattern of seed n that of the program, in its memory.
func (p *vecProgram) set(n int) {
	x := uint64(n)*0x9e3779b97f4a7c15 + 1
	for i := 0; i < vecX87; i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		w := x
		if !p.avx && i&16 != 0 {
			w = 0 // the half that MOVUPS does not reach
		}
		binary.LittleEndian.PutUint64(p.want[i:], w)
	}
	le := binary.LittleEndian
	le.PutUint64(p.want[vecX87:], math.Float64bits(float64(n)+0.5))
	le.PutUint64(p.want[vecX87+8:], math.Float64bits(-float64(n)))
	le.PutUint16(p.want[vecX87+16:], 0x37f|uint16(n&3)<<10)                   // rounding
	le.PutUint32(p.want[vecMXCSR:], 0x1f80|uint32(n&3)<<13|uint32(n>>2&0x3f)) // rounding, flags
	p.as.CopyOut(dataAt, p.want[:])
}

func (p *vecProgram) at(off uint64) hal.Exit {
	p.ctx.RIP = uint64(codeAt) + off
	return p.run()
}

// kept dumps the registers and compares.
func (p *vecProgram) kept() bool {
	out := m.Frame(p.data)[vecOut:][:len(p.want)]
	clear(out)
	e := p.at(vecDump)
	return e.Kind == hal.ExitSyscall && bytes.Equal(out, p.want[:])
}

// inArea compares what SyncFP gives (SDM 1 13.4, table 13-1 for the legacy area).
func (p *vecProgram) inArea() bool {
	m.SyncFP(p.ctx)
	if p.third(3) != 1.0/3 {
		return false // the kernel computes with the program's rounding
	}
	fp := p.ctx.FP
	for r := range 16 {
		if !bytes.Equal(fp[160+16*r:][:16], p.want[32*r:][:16]) ||
			p.avx && !bytes.Equal(fp[576+16*r:][:16], p.want[32*r+16:][:16]) {
			return false
		}
	}
	return bytes.Equal(fp[24:28], p.want[vecMXCSR:]) && fp[0] == p.want[vecX87+16] && fp[1] == p.want[vecX87+17]
}

//go:noinline
func (*vecProgram) third(x float64) float64 { return 1/x + 0*x }

// leave makes the program leave ring 3 in the given way.
func (p *vecProgram) leave(way int) {
	switch way {
	case 0:
		p.at(vecCall)
	case 1:
		p.at(vecFault)
	case 2: // a slice's end, or whatever interrupts first
		p.ctx.RIP = uint64(codeAt) + vecSpin
		for p.ctx.Exit.Kind = 0; p.ctx.Exit.Kind != hal.ExitInterrupt; {
			m.Enter(p.ctx, p.as)
		}
		m.Dispatch()
	case 3:
		p.ctx.RFLAGS |= 1 << 8
		p.at(vecDebug)
		p.ctx.RFLAGS &^= 1 << 8
	case 4: // by IRETQ
		p.ctx.RCX = 0
		p.at(vecCall)
	}
}

// owners: x87, XMM, YMM and MXCSR of three programs stay apart, whatever they leave ring 3
// by, whoever runs in between, and whether the kernel looks at their areas or not.
func owners() {
	avx := m.Features().XCR0&4 != 0
	var ps [3]*vecProgram
	for i := range ps {
		ps[i] = &vecProgram{program: load(vectorCode(avx)), avx: avx}
		ps[i].set(i + 1)
		ps[i].at(vecLoad)
	}
	seed, bad, rounds := uint32(1), "", 0
	next := func(n int) int {
		seed = seed*1664525 + 1013904223
		return int(seed>>16) % n
	}
	sum := 0.0
	for ; rounds < 400 && bad == ""; rounds++ {
		i, way := next(3), next(5)
		if way == 2 && rounds%8 != 0 {
			way = 0 // a slice is 2 ms
		}
		p, look := ps[i], next(6)
		p.leave(way)
		sum += math.Sqrt(float64(rounds)) // the kernel's own XMM and sticky flags
		switch look {
		case 0:
			if !p.inArea() {
				bad = "area"
			}
		case 1:
			// As sigreturn: another state through the area.
			q := ps[next(3)]
			m.SyncFP(q.ctx)
			m.SyncFP(p.ctx)
			copy(p.ctx.FP, q.ctx.FP)
			p.want = q.want
			p.as.CopyOut(dataAt, p.want[:])
		case 2:
			p.set(next(60))
			p.at(vecLoad)
		}
		if bad == "" && next(2) == 0 && !p.kept() {
			bad = "registers"
		}
		if bad != "" {
			bad = fmt.Sprintf("%s of %d after way %d, look %d, round %d", bad, i, way, look, rounds)
		}
	}
	check("kernel-without-avx", !cpu.X86.HasAVX && !cpu.X86.HasAVX2 && !cpu.X86.HasAVX512)
	check("vectors-apart", bad == "" && sum > 0, bad)
	// A context that ends while the registers are its own leaves nothing behind.
	ps[0].at(vecCall)
	ps[0].end()
	q := &vecProgram{program: load(vectorCode(avx)), avx: avx}
	binary.LittleEndian.PutUint16(q.want[vecX87+16:], 0x37f)
	binary.LittleEndian.PutUint32(q.want[vecMXCSR:], 0x1f80)
	q.at(vecDump)
	got := m.Frame(q.data)[vecOut:][:len(q.want)]
	check("vectors-initial", bytes.Equal(got[:vecX87], q.want[:vecX87]) && bytes.Equal(got[vecX87+16:], q.want[vecX87+16:]), got)
	q.end()
	check("vectors-survivor", ps[1].kept() && ps[2].kept())
	ps[1].end()
	ps[2].end()
}
