package net

import (
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
)

// announce tells the link that an address is ours (an ARP announcement, RFC 5227 2.3).
// Neighbours that hold packets for it send them now, and those with an older owner in
// their tables forget it: QEMU's user network, for one, would hold the first
// connection to a machine that is still booting for five seconds.
func (s *Stack) announce(i *iface, a tcpip.Address) {
	if i.eth == nil || a.Len() != header.IPv4AddressSize {
		return
	}
	h := header.ARP(make([]byte, header.ARPSize))
	h.SetIPv4OverEthernet()
	h.SetOp(header.ARPRequest)
	copy(h.HardwareAddressSender(), i.eth.LinkAddress())
	copy(h.ProtocolAddressSender(), a.AsSlice())
	copy(h.ProtocolAddressTarget(), a.AsSlice())
	if err := s.ns.WritePacketToRemote(i.id, header.EthernetBroadcastAddress, arp.ProtocolNumber, buffer.MakeWithData(h)); err != nil {
		s.logf("info", "%s: announcing %v: %v", i.name, a, err)
	}
}
