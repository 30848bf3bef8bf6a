package net

import (
	"encoding/binary"
	stdnet "net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"kiln/kernel/timer"
)

// dhcpClient gets and keeps an IPv4 lease (RFC 2131). It speaks in whole frames, below
// the stack, which has no address yet: the interface's tap hands it what arrives for
// port 68.
type dhcpClient struct {
	s      *Stack
	i      *iface
	mac    [6]byte
	frames chan dhcpReply
	xid    atomic.Uint32 // of the exchange that goes on
	alarm  chan struct{}
	timer  timer.Timer

	lease    *dhcpv4.DHCPv4
	server   [6]byte // link address of who answered
	obtained int64
	started  int64
	warned   bool
}

// Times of RFC 2131 4.1 and 4.4.5.
const (
	dhcpFirst = 500 * time.Millisecond // first retry: a virtual network answers in 1 ms
	dhcpMax   = 64 * time.Second
	dhcpWarn  = 10 * time.Second
	dhcpMinT1 = 60 * time.Second // between renewals that fail
	// dhcpMinLease guards against a server that would have us renew all the time.
	dhcpMinLease = 60 * time.Second

	dhcpClientPort = 68
	dhcpServerPort = 67
)

func newDHCP(s *Stack, i *iface) *dhcpClient {
	c := &dhcpClient{s: s, i: i, mac: i.eth.dev.MAC(), frames: make(chan dhcpReply, 8), alarm: make(chan struct{}, 1)}
	c.timer.Init(func() {
		select {
		case c.alarm <- struct{}{}:
		default:
		}
	})
	tap := c.tap
	i.eth.tap.Store(&tap)
	return c
}

// dhcpReply is a message that passed parse.
type dhcpReply struct {
	p    *dhcpv4.DHCPv4
	from [6]byte
}

// tap takes frames for the client's port; only answers to the exchange that goes on
// pass, and the channel's length bounds what a flood can hold.
func (c *dhcpClient) tap(f []byte) bool {
	if len(f) < ethLen+28 || binary.BigEndian.Uint16(f[12:]) != 0x0800 {
		return false
	}
	ip := f[ethLen:]
	ihl := int(ip[0]&15) * 4
	if ip[0]>>4 != 4 || ihl < 20 || ip[9] != 17 || len(ip) < ihl+8 || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 ||
		binary.BigEndian.Uint16(ip[ihl+2:]) != dhcpClientPort {
		return false
	}
	if p := c.parse(ip[ihl:]); p != nil {
		select {
		case c.frames <- dhcpReply{p, [6]byte(f[6:12])}:
		default:
		}
	}
	return true
}

// run is the client's life.
func (c *dhcpClient) run() {
	c.started = c.s.cfg.Machine.Nanotime()
	for {
		ack := c.acquire()
		c.bind(ack)
		c.keep()
		c.unbind()
	}
}

// acquire is INIT, SELECTING and REQUESTING.
func (c *dhcpClient) acquire() *dhcpv4.DHCPv4 {
	delay := dhcpFirst
	for {
		xid := c.newXID()
		discover, err := dhcpv4.NewDiscovery(c.mac[:], dhcpv4.WithTransactionID(xid), c.common())
		if err == nil {
			c.broadcast(discover)
			if offer := c.await(delay, dhcpv4.MessageTypeOffer); offer != nil {
				req, err := dhcpv4.NewRequestFromOffer(offer, c.common())
				if err == nil {
					c.broadcast(req)
					if ack := c.await(max(delay, time.Second), dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak); ack != nil &&
						ack.MessageType() == dhcpv4.MessageTypeAck {
						return ack
					}
				}
			}
		}
		delay = min(2*delay, dhcpMax)
		if now := c.s.cfg.Machine.Nanotime(); !c.warned && now-c.started > int64(dhcpWarn) {
			c.warned = true
			c.s.logf("warn", "%s: no answer from a DHCP server after %d s; still asking", c.i.name, (now-c.started)/1e9)
		}
	}
}

func (c *dhcpClient) newXID() (x dhcpv4.TransactionID) {
	c.s.cfg.Machine.Entropy(x[:])
	c.xid.Store(binary.BigEndian.Uint32(x[:]))
	return x
}

// common are the options of every message we send.
func (c *dhcpClient) common() dhcpv4.Modifier {
	return func(p *dhcpv4.DHCPv4) {
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
			dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionHostName)(p)
		p.UpdateOption(dhcpv4.OptMaxMessageSize(1500))
		if h := c.s.cfg.Hostname; h != "" {
			p.UpdateOption(dhcpv4.OptHostName(h))
		}
	}
}

// await waits for an answer of one of the types, or until d has passed.
func (c *dhcpClient) await(d time.Duration, types ...dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	c.arm(d)
	defer c.s.cfg.Timers.Stop(&c.timer)
	for {
		select {
		case r := <-c.frames:
			for _, t := range types {
				if r.p.MessageType() == t && binary.BigEndian.Uint32(r.p.TransactionID[:]) == c.xid.Load() {
					c.server = r.from
					return r.p
				}
			}
		case <-c.alarm:
			return nil
		}
	}
}

func (c *dhcpClient) arm(d time.Duration) {
	select {
	case <-c.alarm:
	default:
	}
	c.s.cfg.Timers.Arm(&c.timer, c.s.cfg.Timers.Now()+int64(d))
}

// parse checks a UDP packet that tap took.
func (c *dhcpClient) parse(udp []byte) *dhcpv4.DHCPv4 {
	n := int(binary.BigEndian.Uint16(udp[4:]))
	if n < 8 || n > len(udp) {
		return nil
	}
	p, err := dhcpv4.FromBytes(udp[8:n])
	if err != nil || p.OpCode != dhcpv4.OpcodeBootReply || binary.BigEndian.Uint32(p.TransactionID[:]) != c.xid.Load() || string(p.ClientHWAddr) != string(c.mac[:]) {
		return nil
	}
	switch p.MessageType() {
	case dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck:
		a, ok := netip.AddrFromSlice(p.YourIPAddr.To4())
		if !ok || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || p.ServerIdentifier() == nil {
			return nil
		}
	}
	return p
}

func (c *dhcpClient) broadcast(p *dhcpv4.DHCPv4) {
	p.SetBroadcast()
	c.send(p, [6]byte{255, 255, 255, 255, 255, 255}, stdnet.IPv4zero, stdnet.IPv4bcast)
}

// send frames a message. A full transmit queue costs a retry.
func (c *dhcpClient) send(p *dhcpv4.DHCPv4, mac [6]byte, src, dst stdnet.IP) {
	payload := p.ToBytes()
	f := make([]byte, ethLen+header.IPv4MinimumSize+header.UDPMinimumSize+len(payload))
	header.Ethernet(f).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(c.mac[:]), DstAddr: tcpip.LinkAddress(mac[:]), Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(f[ethLen:])
	from, to := tcpip.AddrFrom4Slice(src.To4()), tcpip.AddrFrom4Slice(dst.To4())
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(f) - ethLen), TTL: 64,
		Protocol: uint8(header.UDPProtocolNumber), SrcAddr: from, DstAddr: to})
	ip.SetChecksum(^ip.CalculateChecksum())
	u := header.UDP(f[ethLen+header.IPv4MinimumSize:])
	u.Encode(&header.UDPFields{SrcPort: dhcpClientPort, DstPort: dhcpServerPort, Length: uint16(len(u))})
	copy(u.Payload(), payload)
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, from, to, uint16(len(u)))
	u.SetChecksum(^u.CalculateChecksum(checksum.Checksum(payload, sum)))
	if err := c.i.eth.sendFrame(f); err != nil {
		c.s.logf("debug", "%s: DHCP: %v", c.i.name, err)
	}
}

// times are the lease's T1, T2 and end.
func (c *dhcpClient) times() (t1, t2, end time.Duration) {
	end = max(c.lease.IPAddressLeaseTime(24*time.Hour), dhcpMinLease)
	t1 = min(max(c.lease.IPAddressRenewalTime(end/2), dhcpMinLease/2), end)
	t2 = min(max(c.lease.IPAddressRebindingTime(end*7/8), t1), end)
	return t1, t2, end
}

func (c *dhcpClient) prefix(p *dhcpv4.DHCPv4) netip.Prefix {
	a, _ := netip.AddrFromSlice(p.YourIPAddr.To4())
	bits := 24
	if m := p.SubnetMask(); len(m) == 4 {
		if ones, size := m.Size(); size == 32 && ones > 0 {
			bits = ones
		}
	} else if n, ok := maskBits(a, netip.Addr{}); ok {
		bits = n
	}
	return netip.PrefixFrom(a, bits)
}

func (c *dhcpClient) bind(ack *dhcpv4.DHCPv4) {
	old := c.lease
	c.lease, c.obtained = ack, c.s.cfg.Machine.Nanotime()
	set := settings{addr: c.prefix(ack)}
	if old != nil && c.prefix(old) != set.addr {
		c.drop(old)
	}
	if r := ack.Router(); len(r) > 0 {
		set.gateway, _ = netip.AddrFromSlice(r[0].To4())
	}
	if old == nil || c.prefix(old) != set.addr {
		if err := c.s.apply(c.i, set); err != nil {
			c.s.logf("error", "%s: %v", c.i.name, err)
		}
	}
	if b := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(b) == 2 {
		if mtu := binary.BigEndian.Uint16(b); mtu >= 576 {
			if was := c.i.eth.MTU(); c.s.setMTU(c.i, int(mtu)) == 0 && was != c.i.eth.MTU() {
				c.s.linkChanged(c.i)
			}
		}
	}
	c.s.mu.Lock()
	if d := ack.DomainName(); validName(d) {
		c.s.domain = d
	}
	if c.s.hostname == "" && validName(ack.HostName()) {
		c.s.hostname = ack.HostName()
	}
	c.s.mu.Unlock()
	for _, d := range ack.DNS() {
		if a, ok := netip.AddrFromSlice(d.To4()); ok {
			c.s.addDNS(a.String())
		}
	}
	c.s.changed()
}

// validName keeps a server's strings from adding lines to resolv.conf.
func validName(s string) bool {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_') {
			return false
		}
	}
	return s != "" && len(s) < 254
}

// keep is BOUND, RENEWING and REBINDING; it returns when the lease is lost.
func (c *dhcpClient) keep() {
	for {
		t1, t2, end := c.times()
		wait, try := t1, dhcpMinT1
		for {
			c.sleep(wait)
			age := time.Duration(c.s.cfg.Machine.Nanotime() - c.obtained)
			if age >= end {
				c.s.logf("warn", "%s: the lease of %v has ended", c.i.name, c.prefix(c.lease))
				return
			}
			ack, lost := c.renew(age < t2)
			if lost {
				return
			}
			if ack != nil {
				c.bind(ack)
				break
			}
			// Half of what is left until T2 or the end (RFC 2131 4.4.5).
			limit := end
			if age < t2 {
				limit = t2
			}
			wait = min(max((limit-age)/2, try), max(end-age, time.Second))
		}
	}
}

func (c *dhcpClient) sleep(d time.Duration) {
	c.arm(d)
	for {
		select {
		case <-c.frames: // nothing is expected now
		case <-c.alarm:
			return
		}
	}
}

// renew asks the server (or, after T2, any server) for more time.
func (c *dhcpClient) renew(unicast bool) (ack *dhcpv4.DHCPv4, lost bool) {
	xid := c.newXID()
	req, err := dhcpv4.NewRenewFromAck(c.lease, dhcpv4.WithTransactionID(xid), c.common())
	if err != nil {
		return nil, false
	}
	src := c.lease.YourIPAddr
	if unicast {
		c.send(req, c.server, src, c.lease.ServerIdentifier())
	} else {
		c.send(req, [6]byte{255, 255, 255, 255, 255, 255}, src, stdnet.IPv4bcast)
	}
	p := c.await(4*time.Second, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak)
	if p == nil {
		return nil, false
	}
	if p.MessageType() == dhcpv4.MessageTypeNak {
		c.s.logf("warn", "%s: the DHCP server took %v back", c.i.name, c.prefix(c.lease))
		return nil, true
	}
	return p, false
}

// drop takes a lease's address away.
func (c *dhcpClient) drop(lease *dhcpv4.DHCPv4) {
	p := c.prefix(lease)
	c.s.dropAddr(c.i, tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(p.Addr().As4()), PrefixLen: p.Bits()})
}

func (c *dhcpClient) unbind() {
	c.drop(c.lease)
	c.s.removeRoutes(func(r tcpip.Route) bool { return r.NIC == c.i.id && r.Destination.ID().Len() == 4 })
	c.lease, c.warned, c.started = nil, false, c.s.cfg.Machine.Nanotime()
	c.s.changed()
}
