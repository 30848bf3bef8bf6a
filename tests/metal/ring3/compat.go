package main

import (
	"encoding/binary"

	"kiln/kernel/hal"
)

func rdmsr(msr uint32) uint64

// MSRs through which ring 3 enters the kernel other than by SYSCALL in 64-bit code (SDM 4
// table 2-2): SYSENTER's three, CSTAR.
const (
	sysenterCS, sysenterESP, sysenterEIP = 0x174, 0x175, 0x176

	cstar = 0xc0000083
)

// compat: ring 3 comes into no 32-bit code, where SYSCALL goes elsewhere, and what is left
// of the ways in is shut on every CPU.
func compat() {
	// ljmp [0x500000]; at 16: syscall, as 32-bit code or as 64-bit code
	code := append([]byte{0xff, 0x2c, 0x25, 0, 0, 0x50, 0}, make([]byte, 9)...)
	p := load(append(code, 0x0f, 0x05))
	defer p.end()
	far, shut := true, true
	for round := range 8 {
		m.SetCPU(p.ctx, round%m.CPUs())
		for _, sel := range []uint16{0x20, 0x21, 0x22, 0x23} {
			binary.LittleEndian.PutUint32(m.Frame(p.data), uint32(codeAt)+16)
			binary.LittleEndian.PutUint16(m.Frame(p.data)[4:], sel)
			p.ctx.RIP, p.ctx.GSBase = uint64(codeAt), 0xffff800000000000
			e := p.run()
			far = far && e.Kind == hal.ExitException && e.Vector == hal.VectorGP && e.Error == 0x20 && p.ctx.RIP == uint64(codeAt)
			// The goroutine mostly is where its program was.
			shut = shut && rdmsr(cstar)>>63 == 1 && rdmsr(sysenterCS)|rdmsr(sysenterESP)|rdmsr(sysenterEIP) == 0
		}
	}
	check("no-32-bit-code", far, p.ctx.Exit, p.ctx.RIP)
	check("other-entries-shut", shut, rdmsr(cstar))
	binary.LittleEndian.PutUint16(m.Frame(p.data)[4:], 0x33)
	p.ctx.RIP = uint64(codeAt)
	e := p.run()
	check("far-jump-64", e.Kind == hal.ExitSyscall && p.ctx.RIP == uint64(codeAt)+18, e, p.ctx.RIP)
	q := load([]byte{0x0f, 0x34})
	defer q.end()
	e = q.run()
	check("sysenter", e.Kind == hal.ExitException && (e.Vector == hal.VectorGP || e.Vector == hal.VectorUD) && q.ctx.RIP == uint64(codeAt), e, q.ctx.RIP)
}
