package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// sample is the kernel's state at one stop: the program counter, the stack pointer and
// the stack from there up.
type sample struct {
	pc, sp uint64
	stack  []byte
}

// gdb speaks the GDB remote serial protocol to QEMU.
type gdb struct {
	c net.Conn
	r *bufio.Reader
}

func dialGDB(path string) (*gdb, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	return &gdb{c: c, r: bufio.NewReader(c)}, nil
}

// close detaches, which lets the machine run on.
func (g *gdb) close() {
	g.send("D")
	g.c.Close()
}

func (g *gdb) send(s string) error {
	sum := byte(0)
	for i := range len(s) {
		sum += s[i]
	}
	g.c.SetDeadline(time.Now().Add(10 * time.Second))
	_, err := fmt.Fprintf(g.c, "$%s#%02x", s, sum)
	return err
}

// recv reads the next packet and acknowledges it.
func (g *gdb) recv() (string, error) {
	for {
		b, err := g.r.ReadByte()
		if err != nil {
			return "", err
		}
		if b == '$' {
			break
		}
	}
	s, err := g.r.ReadString('#')
	if err != nil {
		return "", err
	}
	var sum [2]byte
	if _, err := io.ReadFull(g.r, sum[:]); err != nil {
		return "", err
	}
	_, err = g.c.Write([]byte("+"))
	return s[:len(s)-1], err
}

// ask gives the answer to a command. QEMU also tells of the stop that the connection
// itself caused, at a time of its own: such a packet is not an answer.
func (g *gdb) ask(s string) (string, error) {
	if err := g.send(s); err != nil {
		return "", err
	}
	for {
		r, err := g.recv()
		if err != nil || !strings.HasPrefix(r, "T") {
			return r, err
		}
	}
}

// Offsets in the register packet of x86-64: sixteen general registers in the order
// rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8..., then rip.
const (
	regRSP = 7 * 8
	regRIP = 16 * 8
	// stackBytes is the most that QEMU gives in one packet.
	stackBytes = 2000
)

// run stops the machine at random times until n samples of the kernel are taken.
func (g *gdb) run(ctx context.Context, n int, each func(sample)) error {
	for got := 0; got < n; {
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d samples: %w", got, n, ctx.Err())
		}
		if err := g.send("c"); err != nil {
			return err
		}
		time.Sleep(time.Duration(500+rand.IntN(1500)) * time.Microsecond)
		if _, err := g.c.Write([]byte{3}); err != nil {
			return err
		}
		if _, err := g.recv(); err != nil {
			return err
		}
		s, err := g.sample()
		if err != nil {
			return err
		}
		// The upper half is the kernel's.
		if int64(s.pc) < 0 {
			each(s)
			got++
		}
	}
	return nil
}

func (g *gdb) sample() (s sample, err error) {
	regs, err := g.ask("g")
	if err != nil {
		return s, err
	}
	b, err := hex.DecodeString(regs)
	if err != nil || len(b) < regRIP+8 {
		return s, fmt.Errorf("registers %.80q: %v", regs, err)
	}
	s.pc, s.sp = binary.LittleEndian.Uint64(b[regRIP:]), binary.LittleEndian.Uint64(b[regRSP:])
	if int64(s.pc) >= 0 {
		return s, nil
	}
	// A page that is not mapped beyond the stack's end makes the whole read fail.
	for size := uint64(stackBytes); size >= 64; size /= 2 {
		m, err := g.ask(fmt.Sprintf("m%x,%x", s.sp, size))
		if err != nil {
			return s, err
		}
		if s.stack, err = hex.DecodeString(m); err == nil && len(s.stack) > 0 {
			break
		}
	}
	return s, nil
}
