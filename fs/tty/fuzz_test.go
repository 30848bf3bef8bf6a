package tty

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// alone is a reader whom nobody else can help: a wait (for VMIN bytes) ends by a signal.
type alone struct{ *ctx }

func (alone) Block(int64, wait.Kind) wait.Result { return wait.Signal }

// Whatever is typed, read and written in whatever modes, the line discipline keeps no more
// than its buffer and gives no more than was typed.
func FuzzTerminal(f *testing.F) {
	f.Add([]byte("\x00\x09abc\x7fd\x15e\r\x04\x01\x0a"))
	f.Add([]byte("\x02\x00\x08\xff\xff\xff\xff\x05\x00\x03\x04a\tb\n\x00\x06\tx\x7f\x7f\x03\x1a\x01\x02"))
	f.Add([]byte("\x02\x00\x08\x20\x00\x3a\x81\x01\x00\x00\x07\xff\xc3\xa4\x7f\x17\x12\x16\x01\xff"))
	f.Add([]byte("\x04\xff\x04\xff\x04\xff\x01\x10\x00\x01\n"))
	f.Fuzz(func(t *testing.T, script []byte) {
		tty, port, file := terminal()
		typed, read := 0, 0
		for len(script) >= 2 {
			op, n := script[0], int(script[1])
			script = script[2:]
			data := script[:min(n, len(script))]
			switch op % 5 {
			case 0:
				script = script[len(data):]
				tty.Receive(data)
				typed += len(data)
			case 1:
				b := make([]byte, n)
				q := mm.KernelIO(b)
				m, err := file.Read(alone{newCtx()}, nil, &q, 0)
				if m < 0 || m > n || err != nil && err != unix.EAGAIN && err != wait.ErrRestart {
					t.Fatalf("%d of %d bytes, %v", m, n, err)
				}
				// PARMRK doubles \377.
				if read += m; read > 2*typed {
					t.Fatalf("%d bytes are read of %d", read, typed)
				}
			case 2:
				if len(script) < 8 {
					return
				}
				modes := binary.LittleEndian.Uint64(script)
				script = script[8:]
				file.change(func(x *termios) {
					x.iflag, x.oflag, x.lflag = uint32(modes&0xffff), uint32(modes>>16&0xffff), uint32(modes>>32&0x1ffff)
					x.cc[modes>>49%19] = byte(n)
					x.cc[unix.VTIME] = 0 // nobody waits here
				})
			case 3:
				script = script[len(data):]
				put1(file, string(data))
				port.out = port.out[:0]
			case 4:
				tty.Receive([]byte(strings.Repeat(string(rune(n&0x7f)), 700)))
				typed += 700
			}
			if d := &tty.ld; d.head-d.tail > bufSize || tty.lines() && d.canon-d.tail > bufSize {
				t.Fatalf("tail %d, canon %d, head %d", d.tail, d.canon, d.head)
			}
		}
	})
}
