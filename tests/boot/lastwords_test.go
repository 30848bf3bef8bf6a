package boot

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"kiln/tests/tapnet"
)

// lastwords is a host in a namespace of its own that a machine sends its last words to.
type lastwords struct {
	n      *tapnet.Net
	stream net.Listener
	packet net.PacketConn
}

func newLastwords(t *testing.T) *lastwords {
	t.Helper()
	n := tapNet(t)
	h := &lastwords{n: n}
	var err error
	done := make(chan struct{})
	newDialer(t, n, 1).work <- func() {
		defer close(done)
		if h.stream, err = net.Listen("tcp4", tapnet.HostIP+":0"); err == nil {
			h.packet, err = net.ListenPacket("udp4", h.stream.Addr().String())
		}
	}
	<-done
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.stream.Close(); h.packet.Close() })
	return h
}

// boot runs the program, which sends size bytes, to its end.
func (h *lastwords) boot(t *testing.T, size int) {
	t.Helper()
	_, port, _ := net.SplitHostPort(h.stream.Addr().String())
	m := bootIn(t, h.n, "--net", "tap:"+h.n.Tap, "--append", tapnet.IPArg, "--accel", "tcg", program(t, "lastwords"),
		"--", tapnet.HostIP, port, strconv.Itoa(size))
	tailIfFailed(t, m.Console)
	if status := m.Status(t, bootLimit); status != 0 {
		t.Errorf("status %d", status)
	}
}

// word is the datagram.
func (h *lastwords) word(t *testing.T) {
	t.Helper()
	b := make([]byte, 64)
	h.packet.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, _, err := h.packet.ReadFrom(b); err != nil || string(b[:n]) != "the last word" {
		t.Errorf("%q, %v", b[:max(n, 0)], err)
	}
}

// A program that sends its result and ends has sent it, though the host is slow to take it,
// or has not been spoken to before.
func TestWhatAProgramSentLeavesBeforeTheMachineEnds(t *testing.T) {
	h := newLastwords(t)
	t.Run("datagram", func(t *testing.T) {
		h.boot(t, 0)
		h.word(t)
	})
	t.Run("stream", func(t *testing.T) {
		const size = 8 << 20
		got := make(chan error, 1)
		go func() { got <- takeSlowly(h.stream, size) }()
		h.boot(t, size)
		if err := <-got; err != nil {
			t.Error(err)
		}
		h.word(t)
	})
}

// takeSlowly accepts a connection and checks what comes, the last of it after a pause.
func takeSlowly(l net.Listener, size int) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(bootLimit))
	b := make([]byte, size)
	most := size / 2
	if _, err := io.ReadFull(c, b[:most]); err != nil {
		return err
	}
	time.Sleep(700 * time.Millisecond)
	if n, err := io.ReadFull(c, b[most:]); err != nil {
		return fmt.Errorf("%d of %d bytes, then %v", most+n, size, err)
	}
	for i, v := range b {
		if v != byte(i*7+i>>8) {
			return fmt.Errorf("byte %d is wrong", i)
		}
	}
	if n, err := c.Read(b); n != 0 || err != io.EOF {
		return fmt.Errorf("%d more bytes, %v", n, err)
	}
	return nil
}
