package net

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// nlRequest is one message of netlink.
func nlRequest(typ, flags uint16, body []byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = le.AppendUint16(b, typ)
	b = le.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = le.AppendUint32(b, 7)
	b = le.AppendUint32(b, 0)
	return append(b, body...)
}

// Sockets that get their ports at once get one each, and none waits for another for ever.
func TestNetlinkPortsAtOnce(t *testing.T) {
	s := newStack(t, testRAM)
	for range 5000 {
		xs := make([]Socket, 8)
		for i := range xs {
			var err error
			if xs[i], err = s.Socket(me, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE); err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		for i, x := range xs {
			all.Go(func() {
				name := x.Bind
				if i%2 != 0 {
					name = x.Connect
				}
				if err := name(me, nlAddr(0, 0)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		ports := map[uint32]bool{}
		for _, x := range xs {
			ports[x.(*netlinkSocket).port.Load()] = true
			x.Release(nil)
		}
		if len(ports) != len(xs) || ports[0] {
			t.Fatalf("the ports of %d sockets: %v", len(xs), ports)
		}
	}
}

// A second socket of a process gets a port also where the first one tried is another's.
func TestNetlinkPortsThatAreTaken(t *testing.T) {
	s := newStack(t, testRAM)
	open := func() *netlinkSocket {
		x, err := s.Socket(me, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
		if err != nil {
			t.Fatal(err)
		}
		return x.(*netlinkSocket)
	}
	first, old, x := open(), open(), open()
	for _, p := range []struct {
		x    *netlinkSocket
		port uint32
	}{{first, uint32(max(me.PID, 1))}, {old, uint32(-4097 - int32(x.ino)&0xffff)}} {
		if err := p.x.Bind(me, nlAddr(p.port, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Bind(&Caller{PID: max(me.PID, 1), Creds: me.Creds}, nlAddr(0, 0)); err != nil || x.port.Load() == old.port.Load() || x.port.Load() == 0 {
		t.Errorf("port %d beside %d: %v", x.port.Load(), old.port.Load(), err)
	}
}

// thread is a context that tells who it is, as a program's does.
type thread struct {
	wait.Context
	creds *vfs.Creds
}

func (t thread) Creds() *vfs.Creds { return t.creds }
func (t thread) PID() int32        { return 42 }

// A request by write(2) is for those who may, as one by send(2) is, and neither a socket that
// root opened nor one that root is handed helps.
func TestNetlinkWritesAreTheWritersAndTheOpeners(t *testing.T) {
	s := newStack(t, testRAM)
	root, user := vfs.RootCreds(), &vfs.Creds{UID: 1000, EUID: 1000, FSUID: 1000}
	req := nlRequest(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE,
		attr(append([]byte{unix.AF_INET, 32, 0, 0}, le32(1)...), unix.IFA_LOCAL, []byte{10, 1, 2, 3}))
	for _, c := range []struct {
		opens, writes *vfs.Creds
		refused       bool
	}{{root, root, false}, {user, user, true}, {root, user, true}, {user, root, true}} {
		x, err := s.Socket(&Caller{Creds: c.opens}, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
		if err != nil {
			t.Fatal(err)
		}
		q := mm.KernelIO(req)
		if _, err := x.Write(thread{wait.Background(), c.writes}, nil, &q, -1); err != nil {
			t.Fatal(err)
		}
		var got [512]byte
		in := mm.KernelIO(got[:])
		if _, err := x.Recv(nil, &in, &RecvMsg{}); err != nil {
			t.Fatal(err)
		}
		e := unix.Errno(-int32(binary.LittleEndian.Uint32(got[unix.SizeofNlMsghdr:])))
		if refused := e == unix.EPERM; refused != c.refused {
			t.Errorf("opened by %d, written by %d: %v", c.opens.UID, c.writes.UID, e)
		}
		x.Release(nil)
	}
}

// FuzzNetlink sends the kernel what a program might: it must neither panic nor hang, and
// give back what it charged.
func FuzzNetlink(f *testing.F) {
	addr := attr(attr(append([]byte{unix.AF_INET, 24, 0, 0}, le32(1)...), unix.IFA_LOCAL, []byte{10, 1, 2, 3}), unix.IFA_ADDRESS, []byte{10, 1, 2, 3})
	route := attr(attr([]byte{unix.AF_INET, 8, 0, 0, unix.RT_TABLE_MAIN, 3, 253, 1, 0, 0, 0, 0}, unix.RTA_DST, []byte{10, 0, 0, 0}), unix.RTA_OIF, le32(1))
	link := attr(append(append(make([]byte, 4), le32(1)...), make([]byte, 8)...), unix.IFLA_MTU, le32(1400))
	f.Add(false, nlRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE, addr))
	f.Add(false, append(nlRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, route), nlRequest(unix.RTM_DELROUTE, 0, route)...))
	f.Add(false, nlRequest(unix.RTM_SETLINK, unix.NLM_F_ACK, link))
	for _, typ := range []uint16{unix.RTM_GETLINK, unix.RTM_GETADDR, unix.RTM_GETROUTE, unix.RTM_GETNEIGH, unix.RTM_GETRULE} {
		f.Add(false, nlRequest(typ, unix.NLM_F_DUMP, make([]byte, 16)))
		f.Add(false, nlRequest(typ, 0, attr(append([]byte{unix.AF_INET}, make([]byte, 11)...), 1, []byte{10, 1, 2, 3})))
	}
	f.Add(false, nlRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE, attr(attr(append([]byte{unix.AF_INET, 0, 0, 0}, 1, 0, 0, 0, 0x80, 0, 0, 0), 1, []byte{10, 1, 2, 9}), 2, make([]byte, 6))))
	diag := make([]byte, inetDiagReqSize)
	diag[0], diag[1], diag[2] = unix.AF_INET, unix.IPPROTO_TCP, 0xff
	f.Add(true, nlRequest(sockDiagByFamily, unix.NLM_F_DUMP, diag))
	f.Add(true, nlRequest(sockDiagByFamily, unix.NLM_F_DUMP, append([]byte{unix.AF_UNIX, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff}, make([]byte, 11)...)))
	s := newStack(f, testRAM)
	f.Fuzz(func(t *testing.T, diag bool, b []byte) {
		before := s.cfg.Budget.Used()
		proto := unix.NETLINK_ROUTE
		if diag {
			proto = unix.NETLINK_SOCK_DIAG
		}
		x, err := s.Socket(me, unix.AF_NETLINK, unix.SOCK_RAW, proto)
		if err != nil {
			t.Fatal(err)
		}
		n := x.(*netlinkSocket)
		n.groups = ^uint64(0)
		seq := mm.KernelIO(b)
		x.Send(me, &seq, &SendMsg{})
		var got [4096]byte
		for range 1000 {
			in := mm.KernelIO(got[:])
			if _, err := x.Recv(me, &in, &RecvMsg{}); err == unix.EAGAIN {
				break
			}
		}
		x.Release(nil)
		if now := s.cfg.Budget.Used(); now != before {
			t.Errorf("%d bytes stay charged", now-before)
		}
	})
}

// What a program does not read is charged as it lies on the heap, bounded by SO_RCVBUF, and
// given back; without memory a dump is refused.
func TestUnreadNetlinkIsBounded(t *testing.T) {
	s := newStack(t, testRAM)
	before := s.cfg.Budget.Used()
	x, err := s.Socket(me, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	send := func(b []byte) {
		q := mm.KernelIO(b)
		if _, err := x.Send(me, &q, &SendMsg{}); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	lots := bytes.Repeat(nlRequest(unix.RTM_GETTCLASS, unix.NLM_F_DUMP, make([]byte, 20)), 1000)
	was := heap()
	for range 5 {
		send(lots)
	}
	held, used := heap()-was, s.cfg.Budget.Used()-before-sockCost
	if used < held || used > nlQueue+2*(truesize+nlDatagram) {
		t.Errorf("%d bytes on the heap, %d charged", held, used)
	}
	in := func() ([]byte, error) {
		b := make([]byte, 4096)
		q := mm.KernelIO(b)
		n, err := x.Recv(me, &q, &RecvMsg{})
		return b[:n], err
	}
	for {
		if _, err := in(); err == unix.EAGAIN {
			break
		}
	}
	if used := s.cfg.Budget.Used() - before; used != sockCost {
		t.Errorf("%d bytes stay charged", used-sockCost)
	}
	rest := s.cfg.Budget.Most() - s.cfg.Budget.Used() - 2*truesize
	s.cfg.Budget.Force(rest)
	send(nlRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, 16)))
	if b, err := in(); err != nil || binary.LittleEndian.Uint16(b[4:]) != unix.NLMSG_ERROR || -int32(binary.LittleEndian.Uint32(b[16:])) != int32(unix.ENOBUFS) {
		t.Errorf("a dump without memory: %x, %v", b, err)
	}
	s.cfg.Budget.Uncharge(rest)
	send(nlRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, 16)))
	x.Release(nil)
	if used := s.cfg.Budget.Used(); used != before {
		t.Errorf("%d bytes stay charged after the close", used-before)
	}
}
