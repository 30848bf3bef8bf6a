package usernet

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// datagramMax is what a datagram can be, in fragments.
const datagramMax = 65535

// buffers are for datagrams on their way: a flow that waits has none.
var buffers = sync.Pool{New: func() any { return new([datagramMax]byte) }}

// flows are the datagrams of a machine's.
type flows struct {
	mu  sync.Mutex
	all map[*flow]struct{}
}

// flow is the datagrams between one port of the machine and one of another.
type flow struct {
	n    *Net
	wq   waiter.Queue
	ep   tcpip.Endpoint
	out  *net.UDPConn
	used atomic.Int64 // when the last one passed, counted from the Net's start
}

// outUDP serves the first datagram between two ports.
func (n *Net) outUDP(r *udp.ForwarderRequest) bool {
	id := r.ID()
	n.makeRoom()
	out, err := net.Dial("udp", n.host(id.LocalAddress, id.LocalPort))
	if err != nil {
		return true // lost, as datagrams may be
	}
	f := &flow{n: n, out: out.(*net.UDPConn)}
	var terr tcpip.Error
	if f.ep, terr = r.CreateEndpoint(&f.wq); terr != nil {
		out.Close()
		return false
	}
	f.touch()
	n.udp.mu.Lock()
	n.udp.all[f] = struct{}{}
	n.udp.mu.Unlock()
	if n.ctx.Err() != nil {
		f.close() // expire may have looked already
	}
	go f.toHost()
	go f.toMachine()
	return true
}

// makeRoom ends the flow that has been silent for longest if there are as many as may be.
func (n *Net) makeRoom() {
	n.udp.mu.Lock()
	var oldest *flow
	if len(n.udp.all) >= n.max.flows {
		for f := range n.udp.all {
			if oldest == nil || f.used.Load() < oldest.used.Load() {
				oldest = f
			}
		}
	}
	n.udp.mu.Unlock()
	if oldest != nil {
		oldest.close()
	}
}

// expire ends flows that are silent, and all when the Net is closed.
func (n *Net) expire() {
	t := time.NewTicker(n.max.silence / 4)
	defer t.Stop()
	for {
		limit := time.Duration(0)
		select {
		case <-t.C:
			limit = n.max.silence
		case <-n.ctx.Done():
		}
		var silent []*flow
		n.udp.mu.Lock()
		for f := range n.udp.all {
			if time.Since(n.start)-time.Duration(f.used.Load()) >= limit {
				silent = append(silent, f)
			}
		}
		n.udp.mu.Unlock()
		for _, f := range silent {
			f.close()
		}
		if limit == 0 {
			return
		}
	}
}

func (f *flow) touch() { f.used.Store(int64(time.Since(f.n.start))) }

func (f *flow) close() {
	f.n.udp.mu.Lock()
	delete(f.n.udp.all, f)
	f.n.udp.mu.Unlock()
	f.ep.Close()
	f.out.Close()
}

// toHost takes what the machine sends.
func (f *flow) toHost() {
	defer f.close()
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	f.wq.EventRegister(&entry)
	defer f.wq.EventUnregister(&entry)
	for {
		b := buffers.Get().(*[datagramMax]byte)
		w := tcpip.SliceWriter(b[:])
		got, terr := f.ep.Read(&w, tcpip.ReadOptions{})
		var err error
		if terr == nil {
			f.touch()
			_, err = f.out.Write(b[:got.Count])
		}
		buffers.Put(b)
		if _, none := terr.(*tcpip.ErrWouldBlock); none {
			<-ready // the endpoint's end, too
		} else if terr != nil || err != nil {
			return
		}
	}
}

// toMachine takes what is sent to it.
func (f *flow) toMachine() {
	defer f.close()
	in := gonet.NewUDPConn(&f.wq, f.ep)
	raw, err := f.out.SyscallConn()
	if err != nil {
		return
	}
	for {
		b, k, err := receive(raw)
		if err != nil {
			return
		}
		f.touch()
		_, err = in.Write(b[:k])
		buffers.Put(b)
		if err != nil {
			return
		}
	}
}

// receive waits for a datagram, and gives it in one of buffers.
func receive(c syscall.RawConn) (b *[datagramMax]byte, k int, err error) {
	end := c.Read(func(fd uintptr) bool {
		b = buffers.Get().(*[datagramMax]byte)
		for {
			if k, err = unix.Read(int(fd), b[:]); err != unix.EINTR {
				break
			}
		}
		if err != nil {
			buffers.Put(b)
		}
		return err != unix.EAGAIN
	})
	if end != nil {
		return nil, 0, end
	}
	return b, k, err
}
