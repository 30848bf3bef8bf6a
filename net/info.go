package net

import "fmt"

// Interface describes one for /sys/class/net.
type Interface struct {
	Name    string
	Index   int
	MTU     int
	Address string // "52:54:00:12:34:56"
	Type    int    // ARPHRD_*
	Flags   uint32 // IFF_*
	// QueueLen is tx_queue_len, Tun the attributes of one that /dev/net/tun made.
	QueueLen int
	Tun      map[string]string
	// Counters are bytes and packets received and sent.
	Counters func() (rxBytes, txBytes, rxPackets, txPackets uint64)
}

// Interfaces lists them in order of their numbers.
func (s *Stack) Interfaces() []Interface {
	var out []Interface
	for _, i := range s.interfaces() {
		l := s.linkState(i)
		n := Interface{Name: i.name, Index: int(i.id), MTU: int(l.mtu), Address: macString(l.mac),
			Type: int(l.hwType), Flags: l.flags,
			Counters: func() (uint64, uint64, uint64, uint64) {
				c := s.counters(i)
				return c.rxBytes, c.txBytes, c.rxPackets, c.txPackets
			}}
		n.QueueLen = int(i.txqlen())
		if i.wire != nil {
			n.Tun = i.wire.info()
		}
		out = append(out, n)
	}
	return out
}

func macString(b []byte) string {
	s := ""
	for i, c := range b {
		if i > 0 {
			s += ":"
		}
		s += fmt.Sprintf("%02x", c)
	}
	return s
}
