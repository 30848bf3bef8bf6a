package net

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/mm"
)

// What TCP_CORK holds back goes out with the end of the stream, as on Linux; nginx
// relies on it for each response that ends its connection.
func TestCorkedDataGoesOutWithTheEndOfTheStream(t *testing.T) {
	for name, end := range map[string]func(Socket){
		"close":    func(x Socket) { x.Release(nil) },
		"shutdown": func(x Socket) { x.Shutdown(unix.SHUT_WR) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t, testRAM)
			srv, cli, _ := connected(t, s, s, in4(127, 0, 0, 1, 0))
			if err := srv.SetOption(me, unix.IPPROTO_TCP, unix.TCP_CORK, binary.LittleEndian.AppendUint32(nil, 1)); err != nil {
				t.Fatal(err)
			}
			if err := write(t, srv, []byte("last words")); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			end(srv)
			if b := readFull(t, cli, 10); string(b) != "last words" {
				t.Fatalf("got %q", b)
			}
			if d := time.Since(start); d > 150*time.Millisecond {
				t.Errorf("the data came after %s", d)
			}
		})
	}
}

// A poller that asks for the peer's end of the stream alone is told of it, whether it
// looks or waits.
func TestPollerOfRDHUPAloneIsToldOfTheEndOfTheStream(t *testing.T) {
	s := newStack(t, testRAM)
	srv, cli, _ := connected(t, s, s, in4(127, 0, 0, 1, 0))
	e, ch := waiter.NewChannelEntry(waiter.EventRdHUp)
	if err := srv.EventRegister(&e); err != nil {
		t.Fatal(err)
	}
	defer srv.EventUnregister(&e)
	if r := srv.Readiness(waiter.EventRdHUp); r != 0 {
		t.Fatalf("an open stream is ready for %#x", r)
	}
	cli.Shutdown(unix.SHUT_WR)
	select {
	case <-ch:
	case <-time.After(5 * time.Second):
		t.Fatal("nobody was told")
	}
	if r := srv.Readiness(waiter.EventRdHUp); r != waiter.EventRdHUp {
		t.Errorf("the ended stream is ready for %#x", r)
	}
}

// Both directions shut down, and the peer has not yet said that it knows: tcp_poll goes by
// what is shut down, not by the state.
func TestAStreamShutBothWaysIsHungUpBeforeThePeerAnswers(t *testing.T) {
	const all = waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventRdHUp
	for name, end := range map[string]func(srv, cli Socket, cut func()){
		"LAST_ACK": func(srv, cli Socket, cut func()) {
			cli.Shutdown(unix.SHUT_WR)
			for range 500 {
				if srv.Readiness(waiter.EventRdHUp) != 0 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			cut()
			srv.Shutdown(unix.SHUT_WR)
		},
		"FIN_WAIT1": func(srv, cli Socket, cut func()) {
			cut()
			srv.Shutdown(unix.SHUT_RDWR)
		},
		"FIN_WAIT1 in two steps": func(srv, cli Socket, cut func()) {
			cut()
			srv.Shutdown(unix.SHUT_WR)
			srv.Shutdown(unix.SHUT_RD)
		},
	} {
		x, y, dx, _ := twoStacks(t, testRAM, false)
		srv, cli, _ := connected(t, x, y, in4(10, 0, 0, 1, 0))
		end(srv, cli, func() {
			dx.mu.Lock()
			dx.lose = func([]byte) bool { return true }
			dx.mu.Unlock()
		})
		if r := srv.Readiness(all | waiter.EventErr); r != all {
			t.Errorf("%s: ready for %#x, want %#x", name, r, all)
		}
	}
}

// What was written reaches a peer whose last bytes nobody has read when both directions are shut,
// in one step or two, and those bytes can still be read: Linux sends a FIN, not a reset.
func TestShuttingBothWaysKeepsWhatWasWritten(t *testing.T) {
	for name, hows := range map[string][]int{
		"at once": {unix.SHUT_RDWR}, "reading first": {unix.SHUT_RD, unix.SHUT_WR}, "writing first": {unix.SHUT_WR, unix.SHUT_RD},
	} {
		t.Run(name, func(t *testing.T) {
			x, y, _, _ := twoStacks(t, testRAM, false)
			srv, cli, _ := connected(t, x, y, in4(10, 0, 0, 1, 0))
			if err := write(t, cli, []byte("unread")); err != nil {
				t.Fatal(err)
			}
			for srv.Readiness(waiter.ReadableEvents) == 0 {
				time.Sleep(time.Millisecond)
			}
			want := pattern(100 << 10)
			if err := write(t, srv, want); err != nil {
				t.Fatal(err)
			}
			for _, how := range hows {
				if err := srv.Shutdown(how); err != nil {
					t.Fatal(err)
				}
			}
			if got := readFull(t, cli, len(want)); string(got) != string(want) {
				t.Error("the peer read something else")
			}
			if b, err := read(t, cli, 1); len(b) != 0 || err != nil {
				t.Errorf("behind it the peer read %q, %v", b, err)
			}
			if b := readFull(t, srv, 6); string(b) != "unread" {
				t.Errorf("%q was unread", b)
			}
			if b, err := read(t, srv, 1); len(b) != 0 || err != nil {
				t.Errorf("behind it %q, %v", b, err)
			}
		})
	}
}

// A connection whose peer has closed it and then refuses what is written is in error (EPIPE) until
// somebody is told.
func TestARefusedWriteToAClosedPeerIsAnError(t *testing.T) {
	for name, tell := range map[string]func(Socket){
		"SO_ERROR": func(x Socket) {
			if b, err := x.GetOption(me, unix.SOL_SOCKET, unix.SO_ERROR, 4); err != nil || binary.LittleEndian.Uint32(b) != uint32(unix.EPIPE) {
				t.Errorf("SO_ERROR is %v, %v", b, err)
			}
		},
		"write": func(x Socket) {
			if err := write(t, x, []byte("x")); err != unix.EPIPE {
				t.Errorf("a write says %v", err)
			}
		},
	} {
		s := newStack(t, testRAM)
		srv, cli, _ := connected(t, s, s, in4(127, 0, 0, 1, 0))
		cli.Release(nil)
		if err := write(t, srv, []byte("x")); err != nil {
			t.Fatal(err)
		}
		const all = waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventRdHUp
		if r := srv.Readiness(waiter.AllEvents); r&(all|waiter.EventErr) != all|waiter.EventErr {
			t.Errorf("ready for %#x", r)
		}
		tell(srv)
		if r := srv.Readiness(waiter.AllEvents); r&waiter.EventErr != 0 {
			t.Errorf("ready for %#x when %s has told", r, name)
		}
	}
}

// Bytes that come when both directions are shut reset the connection, and a reader is told so.
func TestBytesAfterTheEndOfBothWaysReset(t *testing.T) {
	x, y, _, _ := twoStacks(t, testRAM, false)
	srv, cli, _ := connected(t, x, y, in4(10, 0, 0, 1, 0))
	if err := srv.Shutdown(unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	if err := write(t, cli, []byte("late")); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if srv.Readiness(waiter.EventErr)&waiter.EventErr != 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	q := mm.KernelIO(make([]byte, 1))
	if _, err := srv.Recv(me, &q, &RecvMsg{}); err != unix.ECONNRESET {
		t.Errorf("a receive says %v", err)
	}
}
