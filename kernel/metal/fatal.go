package metal

import (
	"sync/atomic"
	"unsafe"
)

// The first serial port (16550) is the early console.
const com1 = 0x3f8

var uart = struct{ magic, state uint32 }{magic: dataMagic}

// putc writes a byte to the serial port; it waits a bounded time for room.
func putc(b uint8) {
	if uart.state == 0 {
		uart.state = 1
		if in8(com1+5) == 0xff {
			uart.state = 2 // nobody there
		} else {
			out8(com1+1, 0)    // no interrupts
			out8(com1+3, 0x80) // 115200 8N1
			out8(com1, 1)
			out8(com1+1, 0)
			out8(com1+3, 3)
			out8(com1+2, 7) // FIFO on, emptied
			out8(com1+4, 3) // DTR, RTS
		}
	}
	if uart.state == 2 {
		return
	}
	if b == '\n' {
		put1('\r')
	}
	put1(b)
}

func put1(b uint8) {
	for i := 0; i < 100000 && in8(com1+5)&0x20 == 0; i++ {
	}
	out8(com1, b)
}

func puts(s string) {
	for i := 0; i < len(s); i++ {
		putc(s[i])
	}
}

func puthex(v uint64) {
	for s := 60; s >= 0; s -= 4 {
		putc("0123456789abcdef"[v>>uint(s)&15])
	}
}

func putdec(v uint64) {
	d := uint64(1)
	for v/d >= 10 {
		d *= 10
	}
	for ; d != 0; d /= 10 {
		putc('0' + uint8(v/d%10))
	}
}

// dieState is what the base needs to end the machine without Go.
type dieState struct {
	dying  uint32
	port   uint32
	width  uint32
	value  uint32
	addr   uint64 // I/O port, or virtual address of the register
	notes  [4]note
	nnotes uint64
	last   [256]uint8
	nlast  uint64
	status uint64
	reset  note // the write that resets the machine, width 0 if none is known
}

// note is a store that the panic path makes before it ends the machine: a virtqueue
// index, a doorbell.
type note struct{ addr, width, value, port uint64 }

// haltWord tells the other CPUs, by an NMI, to stop for good.
type haltWord struct{ magic, on, owner uint32 }

var halt = haltWord{magic: dataMagic}

// stopOthers makes this CPU the only one that runs. Of several that end the machine at
// the same time one goes on.
func stopOthers() {
	if base.ncpu < 2 {
		return
	}
	self := curCPU()
	if !atomic.CompareAndSwapUint32(&halt.owner, 0, self.id+1) {
		if halt.owner != self.id+1 {
			hang()
		}
		return
	}
	atomic.StoreUint32(&halt.on, 1)
	for i := range base.ncpu {
		if o := cpuByID(i); o.self != self.self {
			command(o.apicID, icrNMI)
		}
	}
}

// fatal ends the machine with a line; the base calls it when it cannot go on.
func fatal(msg string) {
	stopOthers()
	puts("\nkiln: kernel panic: ")
	puts(msg)
	puts("\n")
	endMachine()
}

// fatalFrame is fatal with registers and the chain of frame pointers.
func fatalFrame(msg string, f *frame, cr2 uint64) {
	stopOthers()
	if base.die.dying != 0 {
		endMachine() // a trap in the report itself
	}
	base.die.dying = 1
	puts("\nkiln: kernel panic: ")
	puts(msg)
	puts("\nvector ")
	puthex(f.Vector)
	puts(" error ")
	puthex(f.Error)
	puts(" address ")
	puthex(cr2)
	const names = "R15R14R13R12RBPRBXR11R10R9 R8 RAXRCXRDXRSIRDI      RIPCS FL RSPSS "
	r := (*[22]uint64)(unsafe.Pointer(f))
	for i := range r {
		if i == 15 || i == 16 {
			continue
		}
		if i%4 == 0 {
			puts("\n")
		}
		puts(" ")
		puts(names[3*i : 3*i+3])
		puts(" ")
		puthex(r[i])
	}
	puts("\nreturn addresses (go tool addr2line kernel.elf):")
	bp := f.RBP
	for i := 0; i < 24 && bp >= 1<<63 && bp&7 == 0 && touchQuiet(bp, 16); i++ {
		puts("\n ")
		puthex(load64(bp + 8))
		n := load64(bp)
		if n <= bp {
			break
		}
		bp = n
	}
	puts("\n")
	endMachine()
}

// touchQuiet is touch without side effects.
func touchQuiet(va, n uint64) bool {
	for _, a := range [...]uint64{va, va + n - 1} {
		if a >= base.direct && a < base.direct+base.maxPFN<<12 {
			continue
		}
		e := walk(base.root, a, 0, 0, false)
		if e == 0 || load64(e)&pteP == 0 {
			return false
		}
	}
	return true
}

// nestedSyscall serves a runtime that throws while the base runs: a bounds check
// or nil dereference of the base's own.
func nestedSyscall(c *CPU, nr, a0, a1, a2 uint64) {
	_ = c
	stopOthers()
	if base.die.dying == 0 {
		base.die.dying = 1
		puts("\nkiln: kernel panic: the base failed: ")
	}
	if nr == 1 && a1 >= 1<<63 {
		for i := uint64(0); i < a2 && i < 4096; i++ {
			putc(load8(a1 + i))
		}
	}
	bp := getBP()
	for i := 0; i < 24 && bp >= 1<<63 && bp&7 == 0 && touchQuiet(bp, 16); i++ {
		puts("\n ")
		puthex(load64(bp + 8))
		bp = load64(bp)
	}
	puts("\n")
	endMachine()
}

// exitGroup ends the machine because the runtime did: a panic that nobody
// recovered, a throw, os.Exit.
func exitGroup(status uint64) {
	base.die.status = status
	if status != 0 && base.die.dying == 0 {
		base.die.dying = 1
		puts("kiln: the kernel ended with status ")
		putdec(status)
		puts("\n")
	}
	endMachine()
}

// endMachine says its last words and powers off: the write main found in the ACPI
// tables, else a reset by the keyboard controller, else a triple fault.
func endMachine() {
	cli()
	stopOthers()
	d := &base.die
	if d.dying != 0 {
		n := min(d.nlast, uint64(len(d.last)))
		for i := uint64(0); i < n; i++ {
			putc(d.last[i])
		}
		for i := uint64(0); i < d.nnotes && i < uint64(len(d.notes)); i++ {
			n := &d.notes[i]
			rawWrite(n.port != 0, n.addr, n.width, uint32(n.value))
		}
		for i := 0; i < 1000 && d.nnotes != 0; i++ {
			in8(0x80) // give the device about a millisecond
		}
	}
	drainUART()
	if d.width != 0 {
		rawWrite(d.port != 0, d.addr, uint64(d.width), d.value)
		for i := 0; i < 100000; i++ {
			in8(0x80)
		}
	}
	resetMachine()
}

// drainUART waits until everything written has left the port's FIFO.
func drainUART() {
	for i := 0; i < 100000 && uart.state == 1 && in8(com1+5)&0x40 == 0; i++ {
	}
}

// resetMachine tries the reset register of the ACPI tables (4.8.3.6), then the line
// that the keyboard controller has to the CPU's reset, then a triple fault. Each gets
// some milliseconds to act.
func resetMachine() {
	if r := &base.die.reset; r.width != 0 {
		rawWrite(r.port != 0, r.addr, r.width, uint32(r.value))
		for i := 0; i < 10000; i++ {
			in8(0x80)
		}
	}
	out8(0x64, 0xfe)
	for i := 0; i < 10000; i++ {
		in8(0x80)
	}
	tripleFault()
}

func rawWrite(port bool, addr, width uint64, v uint32) {
	switch {
	case port && width == 1:
		out8(uint16(addr), uint8(v))
	case port && width == 2:
		out16(uint16(addr), uint16(v))
	case port:
		out32(uint16(addr), v)
	case width == 1:
		store8(addr, uint8(v))
	case width == 2:
		store16(addr, uint16(v))
	default:
		store32(addr, v)
	}
}
