package net

import (
	"encoding/binary"
	"fmt"
	stdnet "net"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	vnet "kiln/drivers/virtio/net"
	"kiln/kernel/image"
	"kiln/kernel/mm"
)

func TestParseIP(t *testing.T) {
	for _, c := range []struct{ in, mode, addr, gw, host, dev, dns string }{
		{"dhcp", "dhcp", "", "", "", "", ""},
		{"off", "none", "", "", "", "", ""},
		{"10.0.0.5::10.0.0.1:255.255.255.0:web:eth0:none:1.1.1.1", "static", "10.0.0.5/24", "10.0.0.1", "web", "eth0", "1.1.1.1"},
		{"192.168.1.5", "static", "192.168.1.5/24", "", "", "", ""},
		{":::::eth0:dhcp", "dhcp", "", "", "", "eth0", ""},
	} {
		s, err := parseIP(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		gw, addr, dns := "", "", ""
		if s.gateway.IsValid() {
			gw = s.gateway.String()
		}
		if s.addr.IsValid() {
			addr = s.addr.String()
		}
		if len(s.dns) > 0 {
			dns = s.dns[0].String()
		}
		if s.mode != c.mode || addr != c.addr || gw != c.gw || s.hostname != c.host || s.device != c.dev || dns != c.dns {
			t.Errorf("%s: %+v", c.in, s)
		}
	}
	for _, bad := range []string{"10.0.0.300", "10.0.0.1:::255.0.255.0", "1.2.3.4::::::sometimes", ":::::::::::", "::1.1.1.1:::::none"} {
		if s, err := parseIP(bad); err == nil && s.mode != "dhcp" {
			t.Errorf("%s was taken: %+v", bad, s)
		}
	}
}

func TestConfigureRefusesWhatItCannotUse(t *testing.T) {
	s := newStack(t, testRAM)
	for _, c := range []image.Network{{Mode: "static"}, {Mode: "static", Address: "10.0.0.1"}, {Mode: "magic"}, {Mode: "none", MTU: 5},
		{Mode: "static", Address: "10.0.0.1/24", Gateway: "fe80::1"}, {Mode: "none", DNS: []string{"dns.example"}}} {
		if err := s.Configure(c, ""); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestAnAddressWithoutACardLeavesTheLoopback(t *testing.T) {
	s := newStack(t, testRAM)
	var log string
	s.cfg.Log = func(level, f string, a ...any) { log += level + ": " + fmt.Sprintf(f, a...) }
	if err := s.Configure(image.Network{Mode: "static", Address: "10.0.0.2/24", Gateway: "10.0.0.1"}, ""); err != nil {
		t.Error(err)
	}
	if want := "warn: net: no network card for the address 10.0.0.2/24"; log != want {
		t.Errorf("log %q, want %q", log, want)
	}
}

// dhcpServer answers on the far end of a pipe; garbage comes before each answer.
func dhcpServer(t *testing.T, d *pipeDev, silent int) {
	send := func(to []byte, p *dhcpv4.DHCPv4) {
		b := p.ToBytes()
		f := make([]byte, ethLen+28+len(b))
		copy(f, to)
		copy(f[6:], d.mac[:])
		f[12], f[13] = 8, 0
		header.IPv4(f[ethLen:]).Encode(&header.IPv4Fields{TotalLength: uint16(28 + len(b)), TTL: 64, Protocol: 17,
			SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 2, 2}), DstAddr: tcpip.AddrFrom4([4]byte{255, 255, 255, 255})})
		u := f[ethLen+20:]
		binary.BigEndian.PutUint16(u, 67)
		binary.BigEndian.PutUint16(u[2:], 68)
		binary.BigEndian.PutUint16(u[4:], uint16(8+len(b)))
		copy(u[8:], b)
		for cut := ethLen + 28; cut < len(f); cut += 37 { // truncated copies first
			d.Send(&vnet.Packet{Slices: [][]byte{f[:cut]}})
		}
		d.Send(&vnet.Packet{Slices: [][]byte{f}})
	}
	d.recv = func(p *vnet.Packet) {
		f := p.Slices[0]
		if len(f) < 42 || f[12] != 8 || f[13] != 0 || f[23] != 17 || binary.BigEndian.Uint16(f[36:]) != 67 {
			return
		}
		req, err := dhcpv4.FromBytes(f[42:])
		if err != nil {
			t.Errorf("the client sent %v", err)
			return
		}
		if silent--; silent >= 0 {
			return
		}
		typ := dhcpv4.MessageTypeOffer
		if req.MessageType() == dhcpv4.MessageTypeRequest {
			typ = dhcpv4.MessageTypeAck
		}
		resp, _ := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(typ), dhcpv4.WithYourIP(stdnet.IPv4(10, 0, 2, 15)),
			dhcpv4.WithServerIP(stdnet.IPv4(10, 0, 2, 2)), dhcpv4.WithRouter(stdnet.IPv4(10, 0, 2, 2)), dhcpv4.WithDNS(stdnet.IPv4(10, 0, 2, 3)),
			dhcpv4.WithNetmask(stdnet.IPv4Mask(255, 255, 255, 0)), dhcpv4.WithLeaseTime(86400),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(stdnet.IPv4(10, 0, 2, 2))),
			dhcpv4.WithOption(dhcpv4.OptDomainName("example.org")))
		send(f[6:12], resp)
	}
}

func TestDHCPLease(t *testing.T) {
	for _, silent := range []int{0, 1} {
		s := newStack(t, testRAM)
		dev, srv := newPipe(false)
		if err := s.AddDevice("eth0", dev); err != nil {
			t.Fatal(err)
		}
		dhcpServer(t, srv, silent)
		dev.pump()
		srv.pump()
		got := make(chan struct{}, 16)
		s.OnConfig(func() { got <- struct{}{} })
		start := time.Now()
		if err := s.Configure(image.Network{}, ""); err != nil {
			t.Fatal(err)
		}
		for s.ResolvConf() == "" {
			select {
			case <-got:
			case <-time.After(5 * time.Second):
				t.Fatal("no lease")
			}
		}
		t.Logf("%d silent: lease after %v", silent, time.Since(start))
		if a, ok := s.mainV4(2); !ok || a.String() != "10.0.2.15/24" {
			t.Errorf("address %v", a)
		}
		for !strings.Contains(s.ResolvConf(), "nameserver 10.0.2.3\n") || !strings.Contains(s.ResolvConf(), "search example.org\n") {
			select {
			case <-got:
			case <-time.After(time.Second):
				t.Fatalf("resolv.conf %q", s.ResolvConf())
			}
		}
		if h := s.Hosts(); !strings.Contains(h, "10.0.2.15\thost\n") {
			t.Errorf("hosts %q", h)
		}
		var def bool
		for _, r := range s.ns.GetRouteTable() {
			def = def || r.Destination == header.IPv4EmptySubnet && r.Gateway == tcpip.AddrFrom4([4]byte{10, 0, 2, 2})
		}
		if !def {
			t.Errorf("routes %v", s.ns.GetRouteTable())
		}
	}
}

// netlink sends one dump request and returns the messages of a type.
func netlink(t *testing.T, s *Stack, typ, want uint16, body []byte) (out [][]byte) {
	t.Helper()
	x := sock(t, s, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	defer x.Release(nil)
	if err := x.Bind(me, nlAddr(0, 0)); err != nil {
		t.Fatal(err)
	}
	req := make([]byte, 16, 64)
	binary.LittleEndian.PutUint32(req, uint32(16+len(body)))
	binary.LittleEndian.PutUint16(req[4:], typ)
	binary.LittleEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.LittleEndian.PutUint32(req[8:], 7)
	if err := write(t, x, append(req, body...)); err != nil {
		t.Fatal(err)
	}
	for {
		b, err := read(t, x, 8192)
		if err != nil {
			t.Fatal(err)
		}
		for len(b) >= 16 {
			n, mt := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:])
			if n < 16 || int(n) > len(b) || binary.LittleEndian.Uint32(b[8:]) != 7 || binary.LittleEndian.Uint32(b[12:]) != 42 {
				t.Fatalf("message %x", b)
			}
			switch mt {
			case unix.NLMSG_DONE:
				return out
			case want:
				out = append(out, b[16:n])
			default:
				t.Fatalf("type %d", mt)
			}
			b = b[min((int(n)+3)&^3, len(b)):]
		}
	}
}

func TestNetlinkDumps(t *testing.T) {
	s, _, _, _ := twoStacks(t, testRAM, false)
	if l := netlink(t, s, unix.RTM_GETLINK, unix.RTM_NEWLINK, make([]byte, 16)); len(l) != 2 || !strings.Contains(string(l[1]), "eth0\x00") {
		t.Errorf("%d links: %q", len(l), l)
	}
	found := false
	perLink := map[byte]int{}
	for _, a := range netlink(t, s, unix.RTM_GETADDR, unix.RTM_NEWADDR, []byte{unix.AF_INET, 0, 0, 0, 0, 0, 0, 0}) {
		if a[0] != unix.AF_INET {
			t.Errorf("family %d", a[0])
		}
		perLink[a[4]]++
		found = found || string(a[12:16]) == "\x0a\x00\x00\x01" && a[1] == 24 && a[4] == 2
	}
	if !found {
		t.Error("10.0.0.1/24 is not in the dump")
	}
	// Not the limited broadcast address, to which netstack listens on every link.
	if len(perLink) != 2 || perLink[1] != 1 || perLink[2] != 1 {
		t.Errorf("addresses by link: %v, want one each", perLink)
	}
	perTable := map[byte]int{}
	r := netlink(t, s, unix.RTM_GETROUTE, unix.RTM_NEWROUTE, []byte{unix.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for _, m := range r {
		perTable[m[4]]++
	}
	if perTable[unix.RT_TABLE_MAIN] != 2 || perTable[unix.RT_TABLE_LOCAL] != 5 {
		t.Errorf("routes by table: %v", perTable)
	}
}

func TestProcNetFiles(t *testing.T) {
	s, _, _, _ := twoStacks(t, testRAM, false)
	listen(t, s, in4(10, 0, 0, 1, 8080), 5)
	for _, n := range ProcNames() {
		if _, ok := s.ProcFile(n); !ok {
			t.Errorf("no %s", n)
		}
	}
	b, _ := s.ProcFile("tcp")
	if !strings.Contains(string(b), ": 0100000A:1F90 00000000:0000 0A ") {
		t.Errorf("tcp:\n%s", b)
	}
	if b, _ := s.ProcFile("route"); !strings.Contains(string(b), "eth0\t00000000\tFE00000A\t0003") {
		t.Errorf("route:\n%s", b)
	}
	if b, _ := s.ProcFile("dev"); !strings.Contains(string(b), "eth0:") || !strings.Contains(string(b), "lo:") {
		t.Errorf("dev:\n%s", b)
	}
}

func TestSocketErrorsAreTheHosts(t *testing.T) {
	s := newStack(t, testRAM)
	for fam := -1; fam < 48; fam++ {
		switch fam {
		case unix.AF_INET, unix.AF_INET6, unix.AF_UNIX:
		default:
			continue
		}
		for typ := range 12 {
			for _, proto := range []int{-1, 0, 1, 6, 17, 58, 132, 255, 263, 300} {
				if typ == unix.SOCK_RAW && proto != 0 && (proto != 1 || fam == unix.AF_INET6) || typ == 10 || typ == 11 ||
					proto == 132 || typ == unix.SOCK_DGRAM && (proto == 1 || proto == 58) {
					continue // privileges and modules of the host
				}
				fd, want := unix.Socket(fam, typ, proto)
				if want == nil {
					unix.Close(fd)
				}
				if want == unix.EPERM || want == unix.EACCES {
					continue
				}
				x, err := s.Socket(me, fam, typ, proto)
				if err == nil {
					x.Release(nil)
				}
				if err != want {
					t.Errorf("socket(%d, %d, %d) = %v, the host says %v", fam, typ, proto, err, want)
				}
			}
		}
	}
}

func TestOptionsAnswerAsTheHost(t *testing.T) {
	s := newStack(t, testRAM)
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		fd, err := unix.Socket(unix.AF_INET, typ, 0)
		if err != nil {
			t.Skip("no sockets on the host")
		}
		defer unix.Close(fd)
		x := sock(t, s, unix.AF_INET, typ, 0)
		for _, o := range []struct{ level, name, v int }{
			{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}, {unix.SOL_SOCKET, unix.SO_REUSEPORT, 1}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.SOL_SOCKET, unix.SO_BROADCAST, 1}, {unix.SOL_SOCKET, unix.SO_RCVBUF, 8192}, {unix.SOL_SOCKET, unix.SO_SNDBUF, 8192},
			{unix.SOL_SOCKET, unix.SO_TYPE, 1}, {unix.SOL_SOCKET, unix.SO_PRIORITY, 3}, {unix.SOL_SOCKET, 9999, 1},
			{unix.SOL_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_TCP, unix.TCP_KEEPIDLE, 10}, {unix.SOL_TCP, unix.TCP_KEEPIDLE, 0},
			{unix.SOL_TCP, unix.TCP_KEEPCNT, 3}, {unix.SOL_TCP, unix.TCP_KEEPCNT, 200}, {unix.SOL_TCP, unix.TCP_KEEPINTVL, 40000},
			{unix.SOL_TCP, unix.TCP_USER_TIMEOUT, 5000}, {unix.SOL_TCP, unix.TCP_USER_TIMEOUT, -1}, {unix.SOL_TCP, unix.TCP_CORK, 1},
			{unix.SOL_TCP, unix.TCP_QUICKACK, 0}, {unix.SOL_TCP, unix.TCP_SYNCNT, 5}, {unix.SOL_TCP, unix.TCP_MAXSEG, 50},
			{unix.SOL_TCP, unix.TCP_LINGER2, 5}, {unix.SOL_TCP, 999, 1},
			{unix.SOL_IP, unix.IP_TTL, 5}, {unix.SOL_IP, unix.IP_TTL, 300}, {unix.SOL_IP, unix.IP_TOS, 16}, {unix.SOL_IP, unix.IP_PKTINFO, 1},
			{unix.SOL_IP, unix.IP_RECVERR, 1}, {unix.SOL_IP, unix.IP_RECVTTL, 1}, {unix.SOL_IP, unix.IP_RECVTOS, 1},
			{unix.SOL_IP, unix.IP_MTU_DISCOVER, 9}, {unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO}, {unix.SOL_IP, unix.IP_FREEBIND, 1},
			{unix.SOL_IP, unix.IP_MULTICAST_TTL, 4}, {unix.SOL_IP, unix.IP_MULTICAST_LOOP, 0}, {unix.SOL_IP, 999, 1},
			{12345, 1, 1},
		} {
			if typ == unix.SOCK_DGRAM && o.level == unix.SOL_TCP {
				continue // the host says EOPNOTSUPP or ENOPROTOOPT by version
			}
			want := unix.SetsockoptInt(fd, o.level, o.name, o.v)
			err := x.SetOption(me, o.level, o.name, le32(uint32(int32(o.v))))
			if err != want {
				t.Errorf("type %d: set %d/%d = %d: %v, the host says %v", typ, o.level, o.name, o.v, err, want)
				continue
			}
			if o.name == unix.TCP_QUICKACK && o.level == unix.SOL_TCP {
				continue
			}
			n, want := unix.GetsockoptInt(fd, o.level, o.name)
			v, err := x.GetOption(me, o.level, o.name, 4)
			got := 0
			for i := range v {
				got |= int(v[i]) << (8 * i)
			}
			if err != want || err == nil && got != n {
				t.Errorf("type %d: get %d/%d: %d, %v; the host says %d, %v", typ, o.level, o.name, got, err, n, want)
			}
		}
	}
}

func TestBindErrorsAreTheHosts(t *testing.T) {
	s := newStack(t, testRAM)
	for _, c := range []struct {
		addr []byte
		want error
	}{
		{nil, unix.EINVAL}, {[]byte{2, 0, 0}, unix.EINVAL}, {in4(127, 0, 0, 1, 0)[:15], unix.EINVAL},
		{append([]byte{99, 0}, in4(0, 0, 0, 0, 0)[2:]...), unix.EAFNOSUPPORT}, {in4(192, 0, 2, 77, 0), unix.EADDRNOTAVAIL},
		{in4(127, 0, 0, 1, 0), nil},
	} {
		x := sock(t, s, unix.AF_INET, unix.SOCK_STREAM, 0)
		if err := x.Bind(me, c.addr); err != c.want {
			t.Errorf("bind(%v) = %v, want %v", c.addr, err, c.want)
		}
		x.Release(nil)
	}
	x := sock(t, s, unix.AF_INET, unix.SOCK_STREAM, 0)
	x.Bind(me, in4(127, 0, 0, 1, 0))
	if err := x.Bind(me, in4(127, 0, 0, 1, 0)); err != unix.EINVAL {
		t.Errorf("second bind: %v", err)
	}
	q := mm.KernelIO(make([]byte, 1))
	if _, err := x.Read(me.C, nil, &q, -1); err != unix.ENOTCONN {
		t.Errorf("read of an unconnected socket: %v", err)
	}
	if _, err := x.PeerName(); err != unix.ENOTCONN {
		t.Errorf("peer of an unconnected socket: %v", err)
	}
	if err := x.Shutdown(unix.SHUT_RD); err != unix.ENOTCONN {
		t.Errorf("shutdown of an unconnected socket: %v", err)
	}
	if _, err := x.Accept(me); err != unix.EINVAL {
		t.Errorf("accept without listen: %v", err)
	}
}
