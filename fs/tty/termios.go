package tty

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// termios is the kernel's struct termios2 (asm-generic/termbits.h).
type termios struct {
	iflag, oflag, cflag, lflag uint32
	line                       uint8
	cc                         [19]uint8
	ispeed, ospeed             uint32
}

// Sizes of struct termio, termios and termios2, in bytes.
const (
	termioSize   = 18
	termiosSize  = 36
	termios2Size = 44
	termioChars  = 8 // NCC
)

// Flags that x/sys/unix lacks (asm-generic/termbits.h).
const (
	cBAUD   = 0x100f
	cBAUDEX = 0x1000
	bOTHER  = 0x1000
	iBSHIFT = 16
	extProc = 0x10000
)

// stdTermios is tty_std_termios with a pty's speed: what Linux gives a new terminal.
func stdTermios() termios {
	t := termios{
		iflag: unix.ICRNL | unix.IXON,
		oflag: unix.OPOST | unix.ONLCR,
		cflag: unix.B38400 | unix.CS8 | unix.CREAD,
		lflag: unix.ISIG | unix.ICANON | unix.IEXTEN | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE,
		cc:    [19]uint8{3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22},
	}
	t.setSpeeds()
	return t
}

func (t *termios) encode() (b [termios2Size]byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], t.iflag)
	le.PutUint32(b[4:], t.oflag)
	le.PutUint32(b[8:], t.cflag)
	le.PutUint32(b[12:], t.lflag)
	b[16] = t.line
	copy(b[17:], t.cc[:])
	le.PutUint32(b[36:], t.ispeed)
	le.PutUint32(b[40:], t.ospeed)
	return b
}

// decode takes a struct termios or, with its speeds, a struct termios2.
func (t *termios) decode(b []byte) {
	le := binary.LittleEndian
	t.iflag, t.oflag, t.cflag, t.lflag = le.Uint32(b[0:]), le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])
	t.line = b[16]
	copy(t.cc[:], b[17:termiosSize])
	if len(b) == termios2Size {
		t.ispeed, t.ospeed = le.Uint32(b[36:]), le.Uint32(b[40:])
	}
	t.setSpeeds()
}

// encodeOld and decodeOld are struct termio, of 16-bit flags, which leaves the upper
// halves as they are.
func (t *termios) encodeOld() (b [termioSize]byte) {
	le := binary.LittleEndian
	for i, v := range []uint32{t.iflag, t.oflag, t.cflag, t.lflag} {
		le.PutUint16(b[2*i:], uint16(v))
	}
	b[8] = t.line
	copy(b[9:], t.cc[:termioChars])
	return b
}

func (t *termios) decodeOld(b []byte) {
	le := binary.LittleEndian
	for i, v := range []*uint32{&t.iflag, &t.oflag, &t.cflag, &t.lflag} {
		*v = *v&^0xffff | uint32(le.Uint16(b[2*i:]))
	}
	t.line = b[8]
	copy(t.cc[:], b[9:9+termioChars])
	t.setSpeeds()
}

// bauds are the speeds by their code, CBAUDEX's behind the others.
var bauds = [...]uint32{0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400,
	57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000}

func baud(code, other uint32) uint32 {
	switch {
	case code == bOTHER:
		return other
	case code&cBAUDEX != 0:
		code = code&^cBAUDEX + 15
	}
	if int(code) < len(bauds) {
		return bauds[code]
	}
	return 0
}

// setSpeeds makes the speeds those that the codes in cflag stand for.
func (t *termios) setSpeeds() {
	t.ospeed = baud(t.cflag&cBAUD, t.ospeed)
	if in := t.cflag >> iBSHIFT & cBAUD; in == 0 {
		t.ispeed = t.ospeed
	} else {
		t.ispeed = baud(in, t.ispeed)
	}
}

// keep takes back the changes that locked forbids.
func (t *termios) keep(old, locked *termios) {
	for _, f := range [][3]*uint32{{&t.iflag, &old.iflag, &locked.iflag}, {&t.oflag, &old.oflag, &locked.oflag},
		{&t.cflag, &old.cflag, &locked.cflag}, {&t.lflag, &old.lflag, &locked.lflag}} {
		*f[0] = *f[0]&^*f[2] | *f[1]&*f[2]
	}
	if locked.line != 0 {
		t.line = old.line
	}
	for i := range t.cc {
		if locked.cc[i] != 0 {
			t.cc[i] = old.cc[i]
		}
	}
}

// usesFlowKeys says whether ^S and ^Q do what TIOCPKT_DOSTOP promises.
func (t *termios) usesFlowKeys() bool {
	return t.iflag&unix.IXON != 0 && t.cc[unix.VSTOP] == 19 && t.cc[unix.VSTART] == 17
}

// set makes n the settings (tty_set_termios, n_tty_set_termios); flush throws input away.
func (t *TTY) set(n termios, flush bool) {
	t.mu.Lock()
	if flush {
		t.flushInput()
	}
	old := t.t
	n.keep(&old, &t.locked)
	t.t = n
	if t.pair != nil {
		t.t.cflag = t.t.cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD
		t.pair.modesChanged(&old, &t.t)
	}
	if (old.lflag^n.lflag)&(unix.ICANON|extProc) != 0 {
		t.ld.relimit(n.lflag&unix.ICANON != 0)
	}
	if n.iflag&unix.IXON == 0 && old.iflag&unix.IXON != 0 {
		t.start() // no character could any more
	}
	t.feed()
	t.wake |= waiterBoth
	t.unlock()
}
