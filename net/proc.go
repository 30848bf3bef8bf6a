package net

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// procFiles are the files of /proc/net, and who writes them.
var procFiles = map[string]func(s *Stack, b *bytes.Buffer){
	"tcp":        func(s *Stack, b *bytes.Buffer) { s.procInet(b, unix.AF_INET, unix.SOCK_STREAM) },
	"tcp6":       func(s *Stack, b *bytes.Buffer) { s.procInet(b, unix.AF_INET6, unix.SOCK_STREAM) },
	"udp":        func(s *Stack, b *bytes.Buffer) { s.procInet(b, unix.AF_INET, unix.SOCK_DGRAM) },
	"udp6":       func(s *Stack, b *bytes.Buffer) { s.procInet(b, unix.AF_INET6, unix.SOCK_DGRAM) },
	"raw":        func(s *Stack, b *bytes.Buffer) { s.procInet(b, unix.AF_INET, unix.SOCK_RAW) },
	"raw6":       func(s *Stack, b *bytes.Buffer) { s.procInet(b, unix.AF_INET6, unix.SOCK_RAW) },
	"unix":       (*Stack).procUnix,
	"dev":        (*Stack).procDev,
	"route":      (*Stack).procRoute,
	"arp":        (*Stack).procARP,
	"if_inet6":   (*Stack).procIfInet6,
	"snmp":       (*Stack).procSNMP,
	"snmp6":      (*Stack).procSNMP6,
	"netstat":    (*Stack).procNetstat,
	"sockstat":   (*Stack).procSockstat,
	"sockstat6":  (*Stack).procSockstat6,
	"packet":     (*Stack).procPacket,
	"netlink":    (*Stack).procNetlink,
	"ipv6_route": (*Stack).procRoute6,
}

// ProcNames are the names of the files in /proc/net.
func ProcNames() []string {
	var n []string
	for k := range procFiles {
		n = append(n, k)
	}
	return n
}

// ProcFile is the contents of /proc/net/name, as proc(5) has them.
func (s *Stack) ProcFile(name string) ([]byte, bool) {
	f, ok := procFiles[name]
	if !ok {
		return nil, false
	}
	var b bytes.Buffer
	f(s, &b)
	return b.Bytes(), true
}

// Somaxconn is net.core.somaxconn; SetSomaxconn changes it.
func (s *Stack) Somaxconn() int     { return int(s.somaxconn.Load()) }
func (s *Stack) SetSomaxconn(n int) { s.somaxconn.Store(int32(min(max(n, 0), 65535))) }

// PortRange is net.ipv4.ip_local_port_range; EINVAL from SetPortRange.
func (s *Stack) PortRange() (lo, hi uint16) { return s.ns.PortRange() }

// SetPortRange changes it.
func (s *Stack) SetPortRange(lo, hi uint16) error { return errno(s.ns.SetPortRange(lo, hi)) }

// procAddr is an address as /proc/net/tcp prints it: words in host order.
func procAddr(family int, a tcpip.FullAddress) string {
	if family == unix.AF_INET {
		v := v4bytes(a.Addr)
		return fmt.Sprintf("%02X%02X%02X%02X:%04X", v[3], v[2], v[1], v[0], a.Port)
	}
	v := encodeAddr(unix.AF_INET6, a)[8:24]
	out := ""
	for i := 0; i < 16; i += 4 {
		out += fmt.Sprintf("%02X%02X%02X%02X", v[i+3], v[i+2], v[i+1], v[i])
	}
	return fmt.Sprintf("%s:%04X", out, a.Port)
}

// procLine pads a line as Linux does: of the files of IPv4 alone.
func procLine(b *bytes.Buffer, family, typ int, line string) {
	width := 127
	switch {
	case family == unix.AF_INET6 || typ == unix.SOCK_RAW:
		width = 0
	case typ == unix.SOCK_STREAM:
		width = 149
	}
	fmt.Fprintf(b, "%-*s\n", width, line)
}

func (s *Stack) procInet(b *bytes.Buffer, family, typ int) {
	head := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
	if family == unix.AF_INET6 {
		head = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
	}
	if typ != unix.SOCK_STREAM {
		head += " ref pointer drops"
	}
	procLine(b, family, typ, head)
	var others []unowned
	if typ == unix.SOCK_STREAM {
		others = s.unowned()
	}
	n := 0
	for _, so := range s.list.all() {
		x, ok := so.(*inetSocket)
		if !ok || x.Domain() != family || x.Type() != typ {
			continue
		}
		st := x.diagState()
		l, _ := x.ep().GetLocalAddress()
		r, _ := x.ep().GetRemoteAddress()
		if typ == unix.SOCK_RAW {
			l.Port = uint16(x.pro)
		}
		if x.isTCP() && (st == 7 || st == 6) || !x.isTCP() && l.Port == 0 {
			continue
		}
		rx, tx := x.queues(st, others)
		if st == 10 {
			tx = 0
		}
		line := fmt.Sprintf("%4d: %s %s %02X %08X:%08X 00:00000000 00000000 %5d        0 %d 1 0000000000000000", n,
			procAddr(family, l), procAddr(family, r), st, tx, rx, x.uid, x.ino)
		if x.isTCP() {
			line += x.procTimes(st)
		} else {
			line += " " + utoa(uint64(x.drops.Load()))
		}
		procLine(b, family, typ, line)
		n++
	}
	for i := range others {
		if u := &others[i]; u.family == family {
			procLine(b, family, typ, fmt.Sprintf("%4d: %s", n, u.proc()))
			n++
		}
	}
}

// procTimes ends a socket's line of /proc/net/tcp: retransmission and delayed-ack timeouts in
// hundredths of a second, whether it acknowledges at once, congestion window, slow-start threshold.
func (x *inetSocket) procTimes(st byte) string {
	if st == 10 {
		return " 100 0 0 10 0"
	}
	var i tcpip.TCPInfoOption
	x.ep().GetSockOpt(&i)
	ssthresh := int64(i.SndSsthresh)
	if ssthresh >= math.MaxInt32 {
		ssthresh = -1 // no loss yet
	}
	return fmt.Sprintf(" %d 4 0 %d %d", i.RTO/(10*time.Millisecond), i.SndCwnd, ssthresh)
}

func (s *Stack) procUnix(b *bytes.Buffer) {
	b.WriteString("Num       RefCount Protocol Flags    Type St Inode Path\n")
	for _, so := range s.list.all() {
		x, ok := so.(*unixSocket)
		if !ok {
			continue
		}
		x.mu.Lock()
		flags, st, refs, ino := 0, 1, 2, x.ino
		switch {
		case x.listening:
			flags = 0x10000
		case x.embryo:
			st, refs, ino = 2, 3, 0
		case x.connected:
			st, refs = 3, 3
		}
		name := ""
		if len(x.name) > 2 {
			n := append([]byte(nil), x.name[2:]...)
			if n[0] == 0 {
				n = bytes.ReplaceAll(n, []byte{0}, []byte{'@'})
			}
			name = " " + cpath(string(n))
		}
		x.mu.Unlock()
		fmt.Fprintf(b, "0000000000000000: %08X 00000000 %08X %04X %02X %5d%s\n", refs, flags, x.typ, st, ino, name)
	}
}

type linkCounters struct{ rxPackets, rxBytes, rxDropped, txPackets, txBytes, txDropped uint64 }

func (s *Stack) counters(i *iface) linkCounters {
	if e := i.eth; e != nil {
		return linkCounters{e.rxPackets.Load(), e.rxBytes.Load(), e.rxDropped.Load(), e.txPackets.Load(), e.txBytes.Load(), e.txDropped.Load()}
	}
	nic, ok := s.ns.NICInfo()[i.id]
	if !ok {
		return linkCounters{} // it has just gone
	}
	st := nic.Stats
	if i.wire != nil {
		return linkCounters{st.Rx.Packets.Value(), st.Rx.Bytes.Value(), 0, st.Tx.Packets.Value(), st.Tx.Bytes.Value(), i.wire.tun.dropped.Load()}
	}
	fused, bytes := s.fuses.packets.Load(), s.fuses.bytes.Load()
	bytes += fused * fusedHeaders
	return linkCounters{st.Rx.Packets.Value() + fused, st.Rx.Bytes.Value() + bytes, 0, st.Tx.Packets.Value() + fused, st.Tx.Bytes.Value() + bytes, 0}
}

func (s *Stack) procDev(b *bytes.Buffer) {
	b.WriteString("Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n")
	for _, i := range s.interfaces() {
		c := s.counters(i)
		fmt.Fprintf(b, "%6s: %7d %7d %4d %4d %4d %5d %10d %9d %8d %7d %4d %4d %4d %5d %7d %10d\n", i.name,
			c.rxBytes, c.rxPackets, 0, c.rxDropped, 0, 0, 0, 0, c.txBytes, c.txPackets, 0, c.txDropped, 0, 0, 0, 0)
	}
}

func (s *Stack) ifaceName(id tcpip.NICID) string {
	for _, i := range s.interfaces() {
		if i.id == id {
			return i.name
		}
	}
	return "*"
}

func (s *Stack) procIfInet6(b *bytes.Buffer) {
	for _, i := range s.interfaces() {
		for _, pa := range s.addresses(i.id) {
			a := pa.AddressWithPrefix
			if a.Address.Len() != 16 {
				continue
			}
			scope := map[byte]int{unix.RT_SCOPE_HOST: 0x10, unix.RT_SCOPE_LINK: 0x20}[scopeOf(a.Address)]
			fmt.Fprintf(b, "%x %02x %02x %02x 80 %8s\n", a.Address.AsSlice(), int(i.id), a.PrefixLen, scope, i.name)
		}
	}
}

func (s *Stack) established() (n uint64) {
	for _, ep := range s.ns.RegisteredEndpoints() {
		if t, ok := ep.(*tcp.Endpoint); ok {
			switch tcp.EndpointState(t.State()) {
			case tcp.StateEstablished, tcp.StateCloseWait:
				n++
			}
		}
	}
	return n
}

func (s *Stack) procSNMP(b *bytes.Buffer) {
	st := s.ns.Stats()
	ip, t, u := st.IP, st.TCP, st.UDP
	fused := s.fuses.packets.Load() // each was sent and received
	b.WriteString("Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates\n")
	fmt.Fprintf(b, "Ip: 2 64 %d %d %d 0 0 %d %d %d %d 0 0 0 0 0 0 0 0\n", ip.PacketsReceived.Value()+fused, ip.MalformedPacketsReceived.Value(),
		ip.InvalidDestinationAddressesReceived.Value(), s.rx.dropped.Load(), ip.PacketsDelivered.Value()+fused, ip.PacketsSent.Value()+fused, ip.OutgoingPacketErrors.Value())
	b.WriteString("Icmp: InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos InEchoReps InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps OutTimestamps OutTimestampReps OutAddrMasks OutAddrMaskReps\n")
	in, out := st.ICMP.V4.PacketsReceived, st.ICMP.V4.PacketsSent
	fmt.Fprintf(b, "Icmp: %d 0 0 %d 0 0 0 0 %d %d 0 0 0 0 %d 0 0 0 %d 0 0 0 0 %d %d 0 0 0 0\n",
		in.EchoRequest.Value()+in.EchoReply.Value()+in.DstUnreachable.Value(), in.DstUnreachable.Value(), in.EchoRequest.Value(), in.EchoReply.Value(),
		out.EchoRequest.Value()+out.EchoReply.Value()+out.DstUnreachable.Value(), out.DstUnreachable.Value(), out.EchoRequest.Value(), out.EchoReply.Value())
	b.WriteString("Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors\n")
	fmt.Fprintf(b, "Tcp: 1 200 120000 -1 %d %d %d %d %d %d %d %d %d %d %d\n", t.ActiveConnectionOpenings.Value(), t.PassiveConnectionOpenings.Value(),
		t.FailedConnectionAttempts.Value(), t.EstablishedResets.Value(), s.established(), t.ValidSegmentsReceived.Value()+fused, t.SegmentsSent.Value()+fused,
		t.Retransmits.Value(), t.InvalidSegmentsReceived.Value(), t.ResetsSent.Value(), t.ChecksumErrors.Value())
	b.WriteString("Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n")
	fmt.Fprintf(b, "Udp: %d %d %d %d %d 0 %d 0 0\n", u.PacketsReceived.Value(), u.UnknownPortErrors.Value(), u.MalformedPacketsReceived.Value(),
		u.PacketsSent.Value(), u.ReceiveBufferErrors.Value(), u.ChecksumErrors.Value())
	b.WriteString("UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\nUdpLite: 0 0 0 0 0 0 0 0 0\n")
}

func (s *Stack) procSNMP6(b *bytes.Buffer) {
	for _, n := range []string{"Ip6InReceives", "Ip6InHdrErrors", "Ip6InDelivers", "Ip6OutRequests", "Icmp6InMsgs", "Icmp6OutMsgs", "Udp6InDatagrams", "Udp6OutDatagrams"} {
		fmt.Fprintf(b, "%-32s\t0\n", n) // netstack counts both versions together, in snmp
	}
}

func (s *Stack) procNetstat(b *bytes.Buffer) {
	t := s.ns.Stats().TCP
	b.WriteString("TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed ListenOverflows ListenDrops TCPTimeouts TCPFastRetrans TCPSlowStartRetrans\n")
	fmt.Fprintf(b, "TcpExt: %d %d %d %d %d %d %d %d\n", t.ListenOverflowSynCookieSent.Value(), t.ListenOverflowSynCookieRcvd.Value(),
		t.ListenOverflowInvalidSynCookieRcvd.Value(), t.ListenOverflowAckDrop.Value(),
		t.ListenOverflowSynDrop.Value()+uint64(s.gate.shut.Load()), t.Timeouts.Value(), t.FastRetransmit.Value(), t.SlowStartRetransmits.Value())
}

// tcpCount is a line of sockstat: inuse are those with a port or a peer, alloc are all; of both
// versions but for inuse.
type tcpCount struct{ inuse4, inuse6, orphan, tw, alloc int }

func (s *Stack) countTCP() (c tcpCount) {
	inuse := func(family int) {
		if family == unix.AF_INET6 {
			c.inuse6++
		} else {
			c.inuse4++
		}
	}
	for _, so := range s.list.all() {
		if x, ok := so.(*inetSocket); ok && x.isTCP() {
			if c.alloc++; x.diagState() != 7 && x.diagState() != 6 {
				inuse(int(x.domain))
			}
		}
	}
	for _, u := range s.unowned() {
		switch {
		case u.state == 6:
			c.tw++
			continue
		case u.state == 3:
			continue
		case u.orphan():
			c.orphan++
		}
		c.alloc++
		inuse(u.family)
	}
	return c
}

// countPlain is the sockets of a family that are not of TCP.
func (s *Stack) countPlain(family int32) (udp, raw int) {
	for _, so := range s.list.all() {
		if x, ok := so.(*inetSocket); ok && x.domain == family && !x.isTCP() {
			if x.typ == unix.SOCK_RAW {
				raw++
			} else if l, _ := x.ep().GetLocalAddress(); l.Port != 0 {
				udp++
			}
		}
	}
	return udp, raw
}

func (s *Stack) procSockstat(b *bytes.Buffer) {
	c := s.countTCP()
	udp, raw := s.countPlain(unix.AF_INET)
	fmt.Fprintf(b, "sockets: used %d\nTCP: inuse %d orphan %d tw %d alloc %d mem %d\nUDP: inuse %d mem 0\nUDPLITE: inuse 0\nRAW: inuse %d\nFRAG: inuse 0 memory 0\n",
		len(s.list.all()), c.inuse4, c.orphan, c.tw, c.alloc, s.rx.held.Load()>>12, udp, raw)
}

func (s *Stack) procSockstat6(b *bytes.Buffer) {
	udp, raw := s.countPlain(unix.AF_INET6)
	fmt.Fprintf(b, "TCP6: inuse %d\nUDP6: inuse %d\nUDPLITE6: inuse 0\nRAW6: inuse %d\nFRAG6: inuse 0 memory 0\n", s.countTCP().inuse6, udp, raw)
}

func (s *Stack) procNetlink(b *bytes.Buffer) {
	b.WriteString("sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n")
	for _, x := range s.netlinkSockets() {
		x.mu.Lock()
		dumping := 0
		if x.dumping {
			dumping = 1
		}
		fmt.Fprintf(b, "0000000000000000 %-3d %-10d %08x %-8d %-8d %-5d %-8d %-8d %-8d\n", x.pro, x.port.Load(), uint32(x.groups), x.bytes, 0, dumping, 2, x.drops, x.ino)
		x.mu.Unlock()
	}
}

func (s *Stack) procPacket(b *bytes.Buffer) {
	b.WriteString("sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n")
	var l []*packetSocket
	for _, o := range s.list.all() {
		if x, ok := o.(*packetSocket); ok {
			l = append(l, x)
		}
	}
	slices.SortFunc(l, func(a, b *packetSocket) int { return cmp.Compare(a.ino, b.ino) })
	for _, x := range l {
		x.mu.Lock()
		fmt.Fprintf(b, "0000000000000000 3      %-4d %04x   %-5d 1 %-6d %-6d %-6d\n", x.typ, x.hook.proto, x.hook.nic, x.bytes, x.uid, x.ino)
		x.mu.Unlock()
	}
}
