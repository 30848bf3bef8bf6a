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
	// Counters are bytes and packets received and sent.
	Counters func() (rxBytes, txBytes, rxPackets, txPackets uint64)
}

// Interfaces lists them in order of their numbers.
func (s *Stack) Interfaces() []Interface {
	var out []Interface
	for _, i := range s.interfaces() {
		l := s.linkState(i)
		out = append(out, Interface{Name: i.name, Index: int(i.id), MTU: int(l.mtu), Address: macString(l.mac),
			Type: int(l.hwType), Flags: l.flags,
			Counters: func() (uint64, uint64, uint64, uint64) {
				c := s.counters(i)
				return c.rxBytes, c.txBytes, c.rxPackets, c.txPackets
			}})
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
