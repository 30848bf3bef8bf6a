package net

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxStatusLine bounds what is read of an answer to find its status.
const maxStatusLine = 512

// errCancelled is what a probe gives that was cancelled or was too slow.
var errCancelled = errors.New("no answer in time")

// ProbeTCP connects to a port of this machine and hangs up, as a health check does. done
// ends it. ECONNREFUSED: nobody listens.
func (s *Stack) ProbeTCP(addr netip.AddrPort, done <-chan struct{}) error {
	x, err := s.dial(addr, done)
	if err != nil {
		return err
	}
	x.Release(nil)
	return nil
}

// ProbeHTTP sends a GET by HTTP/1.0 (RFC 1945) to a port of this machine and gives the
// status of the answer.
func (s *Stack) ProbeHTTP(addr netip.AddrPort, path string, done <-chan struct{}) (status int, err error) {
	x, err := s.dial(addr, done)
	if err != nil {
		return 0, err
	}
	defer x.Release(nil)
	req := fmt.Sprintf("GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: kiln\r\nAccept: */*\r\n\r\n", path, addr)
	// A new connection's send buffer has room for it.
	if _, terr := x.ep().Write(bytes.NewReader([]byte(req)), tcpip.WriteOptions{}); terr != nil {
		return 0, errno(terr)
	}
	var head bytes.Buffer
	for {
		_, terr := x.ep().Read(&head, tcpip.ReadOptions{})
		if line, _, ok := strings.Cut(head.String(), "\n"); ok {
			return statusOf(line)
		}
		switch terr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			if err := x.await(waiter.ReadableEvents, done); err != nil {
				return 0, err
			}
		case *tcpip.ErrClosedForReceive:
			return 0, errors.New("the connection ended without an answer")
		default:
			return 0, errno(terr)
		}
		if head.Len() > maxStatusLine {
			return 0, errors.New("the answer is not HTTP")
		}
	}
}

// statusOf reads a status line.
func statusOf(line string) (int, error) {
	f := strings.Fields(line)
	if len(f) < 2 || !strings.HasPrefix(f[0], "HTTP/") {
		return 0, errors.New("the answer is not HTTP")
	}
	n, err := strconv.Atoi(f[1])
	if err != nil || n < 100 || n > 999 {
		return 0, fmt.Errorf("the answer has the status %q", f[1])
	}
	return n, nil
}

// dial is a connection of the kernel's own.
func (s *Stack) dial(addr netip.AddrPort, done <-chan struct{}) (*inetSocket, error) {
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	sock, err := s.inetSocket(&Caller{}, family, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	x := sock.(*inetSocket)
	x.kernel = true
	to := encodeAddr(family, tcpip.FullAddress{Addr: tcpip.AddrFromSlice(addr.Addr().AsSlice()), Port: addr.Port()})
	err = x.Connect(&Caller{}, to)
	if err == unix.EINPROGRESS {
		if err = x.await(waiter.WritableEvents|waiter.EventErr, done); err == nil {
			err = errno(x.ep().LastError())
		}
	}
	if err != nil {
		x.Release(nil)
		return nil, err
	}
	return x, nil
}

// await waits until the socket is ready for one of the events.
func (x *inetSocket) await(events waiter.EventMask, done <-chan struct{}) error {
	e, ready := waiter.NewChannelEntry(events | waiter.EventHUp | waiter.EventErr)
	x.q.EventRegister(&e)
	defer x.q.EventUnregister(&e)
	for x.ep().Readiness(events|waiter.EventHUp|waiter.EventErr) == 0 {
		select {
		case <-ready:
		case <-done:
			return errCancelled
		}
	}
	return nil
}
