package net

import (
	"fmt"
	"net/netip"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"kiln/kernel/image"
)

// settings are one interface's address and what goes with it.
type settings struct {
	mode     string // "dhcp", "static", "none"
	addr     netip.Prefix
	gateway  netip.Addr
	dns      []netip.Addr
	mtu      int
	hostname string
	device   string
}

// Configure gives the first network card its address: from the image's configuration,
// or from ip, the value of a Linux-style ip= on the command line, which wins. DHCP
// goes on in the background; programs may bind 0.0.0.0 before the lease is there.
func (s *Stack) Configure(cfg image.Network, ip string) error {
	set, err := fromImage(cfg)
	if err != nil {
		return err
	}
	if ip != "" {
		mtu := set.mtu
		if set, err = parseIP(ip); err != nil {
			return err
		}
		set.mtu = mtu
		if len(set.dns) == 0 {
			d, _ := fromImage(image.Network{DNS: cfg.DNS, Mode: "none"})
			set.dns = d.dns
		}
	}
	if set.hostname != "" {
		s.mu.Lock()
		s.hostname = set.hostname
		s.mu.Unlock()
	}
	for _, a := range set.dns {
		s.addDNS(a.String())
	}
	defer s.changed()
	if set.mode == "none" {
		return nil
	}
	i := s.first()
	if set.device != "" {
		i = s.byName(set.device)
	}
	if i == nil || i.eth == nil { // no card: a machine with loopback only
		if set.mode != "dhcp" {
			s.logf("warn", "no network card for the address %v", set.addr)
		}
		return nil
	}
	if set.mtu != 0 {
		if err := s.ns.SetNICMTU(i.id, uint32(set.mtu)); err != nil {
			return fmt.Errorf("net: MTU %d: %v", set.mtu, err)
		}
	}
	if set.mode == "dhcp" {
		i.dhcp = newDHCP(s, i)
		go i.dhcp.run()
		return nil
	}
	return s.apply(i, set)
}

func (s *Stack) byName(name string) *iface {
	for _, i := range s.interfaces() {
		if i.name == name {
			return i
		}
	}
	return nil
}

func fromImage(cfg image.Network) (set settings, err error) {
	set.mode, set.mtu = cfg.Mode, cfg.MTU
	if set.mode == "" {
		set.mode = "dhcp"
	}
	if set.mtu != 0 && (set.mtu < 68 || set.mtu > 65535) {
		return set, fmt.Errorf("net: MTU %d is not between 68 and 65535", set.mtu)
	}
	for _, d := range cfg.DNS {
		a, err := netip.ParseAddr(d)
		if err != nil {
			return set, fmt.Errorf("net: name server %q is not an address", d)
		}
		set.dns = append(set.dns, a)
	}
	switch set.mode {
	case "dhcp", "none":
		return set, nil
	case "static":
	default:
		return set, fmt.Errorf(`net: mode %q is not "dhcp", "static" or "none"`, set.mode)
	}
	if set.addr, err = netip.ParsePrefix(cfg.Address); err != nil {
		return set, fmt.Errorf("net: address %q is not like 10.0.0.2/24", cfg.Address)
	}
	if cfg.Gateway != "" {
		if set.gateway, err = netip.ParseAddr(cfg.Gateway); err != nil || set.gateway.Is4() != set.addr.Addr().Is4() {
			return set, fmt.Errorf("net: gateway %q is not an address of the same family", cfg.Gateway)
		}
	}
	return set, nil
}

// parseIP reads Linux's ip= (Documentation/admin-guide/nfs/nfsroot.rst):
// client:server:gateway:netmask:hostname:device:autoconf:dns0:dns1:ntp, or one word.
func parseIP(v string) (set settings, err error) {
	auto := func(w string) (string, bool) {
		switch w {
		case "off", "none":
			return "none", true
		case "on", "any", "dhcp", "both", "bootp", "rarp":
			return "dhcp", true // the protocols before DHCP are not spoken
		}
		return "", false
	}
	if m, ok := auto(v); ok {
		set.mode = m
		return set, nil
	}
	f := strings.Split(v, ":")
	if len(f) > 10 {
		return set, fmt.Errorf("net: ip=%s has more than 10 fields", v)
	}
	get := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	set.hostname, set.device = get(4), get(5)
	set.mode = "static"
	if w := get(6); w != "" {
		m, ok := auto(w)
		if !ok {
			return set, fmt.Errorf("net: ip=%s: %q is not a way to configure", v, w)
		}
		if m == "dhcp" {
			set.mode = "dhcp"
		}
	} else if get(0) == "" {
		set.mode = "dhcp"
	}
	addr := func(i int, what string) (a netip.Addr) {
		if w := get(i); w != "" && err == nil {
			if a, err = netip.ParseAddr(w); err != nil || !a.Is4() {
				err = fmt.Errorf("net: ip=%s: %s %q is not an IPv4 address", v, what, w)
			}
		}
		return a
	}
	client, gw, mask := addr(0, "client"), addr(2, "gateway"), addr(3, "netmask")
	for _, i := range []int{7, 8} {
		if a := addr(i, "name server"); a.IsValid() {
			set.dns = append(set.dns, a)
		}
	}
	if err != nil || set.mode == "dhcp" {
		return set, err
	}
	if !client.IsValid() {
		return set, fmt.Errorf("net: ip=%s names no client address", v)
	}
	bits, ok := maskBits(client, mask)
	if !ok {
		return set, fmt.Errorf("net: ip=%s: netmask %v has holes", v, mask)
	}
	set.addr, set.gateway = netip.PrefixFrom(client, bits), gw
	return set, nil
}

// maskBits is the length of a netmask; without one the address's class gives it.
func maskBits(a, mask netip.Addr) (int, bool) {
	if !mask.IsValid() {
		switch b := a.As4()[0]; {
		case b < 128:
			return 8, true
		case b < 192:
			return 16, true
		default:
			return 24, true
		}
	}
	b := mask.As4()
	m := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n := 0
	for m&(1<<31) != 0 {
		m <<= 1
		n++
	}
	return n, m == 0
}

// apply gives an interface its address and routes.
func (s *Stack) apply(i *iface, set settings) error {
	a := tcpip.AddrFromSlice(set.addr.Addr().AsSlice())
	if err := s.addAddress(i.id, a, set.addr.Bits()); err != nil {
		return err
	}
	s.setRoutes(i.id, a, set.addr, set.gateway)
	s.announce(i, a)
	if i.eth != nil && a.Len() == header.IPv4AddressSize {
		i.eth.early.end(i.eth.receive)
	}
	s.logf("info", "%s %v gateway %v", i.name, set.addr, set.gateway)
	return nil
}

// setRoutes replaces the interface's routes of a's family.
func (s *Stack) setRoutes(nic tcpip.NICID, a tcpip.Address, p netip.Prefix, gw netip.Addr) {
	s.removeRoutes(func(r tcpip.Route) bool { return r.NIC == nic && r.Destination.ID().Len() == a.Len() })
	net := tcpip.Route{Destination: tcpip.AddressWithPrefix{Address: a, PrefixLen: p.Bits()}.Subnet(), NIC: nic}
	s.insertRoute(net, s.infoOf(net))
	if gw.IsValid() && !gw.IsUnspecified() {
		def := header.IPv4EmptySubnet
		if a.Len() == 16 {
			def = header.IPv6EmptySubnet
		}
		way := tcpip.Route{Destination: def, Gateway: tcpip.AddrFromSlice(gw.AsSlice()), NIC: nic}
		s.insertRoute(way, s.infoOf(way))
	}
}

// maxDNS is glibc's MAXNS.
const maxDNS = 3

func (s *Stack) addDNS(a string) {
	s.mu.Lock()
	for _, d := range s.dns {
		if d == a {
			s.mu.Unlock()
			return
		}
	}
	if len(s.dns) >= maxDNS {
		s.mu.Unlock()
		return
	}
	s.dns = append(s.dns, a)
	s.mu.Unlock()
	s.changed()
}

// ResolvConf is the contents of /etc/resolv.conf (resolv.conf(5)).
func (s *Stack) ResolvConf() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	if s.domain != "" {
		fmt.Fprintf(&b, "search %s\n", s.domain)
	}
	for _, d := range s.dns {
		fmt.Fprintf(&b, "nameserver %s\n", d)
	}
	return b.String()
}

// Hosts is the contents of /etc/hosts (hosts(5)).
func (s *Stack) Hosts() string {
	s.mu.Lock()
	host := s.hostname
	s.mu.Unlock()
	b := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	if host == "" || host == "localhost" {
		return b
	}
	addr := "127.0.1.1"
	if i := s.first(); i != nil {
		if a, err := s.ns.GetMainNICAddress(i.id, header.IPv4ProtocolNumber); err == nil && a.Address.Len() == 4 {
			addr = a.Address.String()
		}
	}
	return b + addr + "\t" + host + "\n"
}
