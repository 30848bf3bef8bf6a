package net

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// SIOCETHTOOL: what ethtool(8), libpcap and monitors ask of an interface (uapi/linux/ethtool.h).
const (
	ethtoolGSet      = 0x1
	ethtoolGDrvinfo  = 0x3
	ethtoolGLink     = 0xa
	ethtoolGPermaddr = 0x20
	ethtoolGTSInfo   = 0x41

	cmdSize     = 44
	drvinfoSize = 196
	tsInfoSize  = 44

	speedUnknown, duplexUnknown, portOther = 0xffff, 0xff, 0xff

	eTooSmall = unix.Errno(525) // ETOOSMALL, which is for the kernel alone and is given nevertheless

	// SOF_TIMESTAMPING_RX_SOFTWARE, _SOFTWARE and _TX_SOFTWARE.
	timestampsRx, timestampsTx = 1<<3 | 1<<4, 1 << 1
)

// ethtool serves SIOCETHTOOL: EFAULT, ENODEV, EPERM (all that is no question), EOPNOTSUPP.
func (s *Stack) ethtool(c wait.Context, sp *mm.Space, arg uint64) error {
	var req [ifreqSize]byte
	if _, err := sp.CopyIn(c, req[:], hal.UserAddr(arg)); err != nil {
		return err
	}
	at := hal.UserAddr(binary.LittleEndian.Uint64(req[unix.IFNAMSIZ:]))
	var head [8]byte
	if _, err := sp.CopyIn(c, head[:4], at); err != nil {
		return err
	}
	dev, _, _ := strings.Cut(cstring(req[:unix.IFNAMSIZ]), ":")
	i := s.byName(dev)
	if i == nil {
		return unix.ENODEV
	}
	le := binary.LittleEndian
	cmd := le.Uint32(head[:])
	var b []byte
	switch cmd {
	case ethtoolGLink:
		b = make([]byte, 8)
		if s.linkState(i).flags&(unix.IFF_UP|unix.IFF_LOWER_UP) == unix.IFF_UP|unix.IFF_LOWER_UP {
			b[4] = 1
		}
	case ethtoolGDrvinfo:
		if i.eth == nil {
			return unix.EOPNOTSUPP
		}
		b = make([]byte, drvinfoSize)
		copy(b[4:], "virtio_net")
		copy(b[36:], "1.0.0")
	case ethtoolGPermaddr:
		if _, err := sp.CopyIn(c, head[:], at); err != nil {
			return err
		}
		mac := s.linkState(i).mac
		if le.Uint32(head[4:]) < uint32(len(mac)) {
			return eTooSmall
		}
		b = append(make([]byte, 8), mac...)
		le.PutUint32(b[4:], uint32(len(mac)))
	case ethtoolGTSInfo:
		b = make([]byte, tsInfoSize)
		le.PutUint32(b[4:], timestampsRx|timestampsTx)
		le.PutUint32(b[8:], 0xffffffff) // no clock of its own
	case ethtoolGSet: // struct ethtool_cmd
		if i.eth == nil {
			return unix.EOPNOTSUPP
		}
		b = make([]byte, cmdSize)
		le.PutUint16(b[12:], speedUnknown)
		b[14], b[15] = duplexUnknown, portOther
		le.PutUint16(b[28:], speedUnknown) // its upper half
	default:
		if !mayAdmin(c) {
			return unix.EPERM
		}
		return unix.EOPNOTSUPP
	}
	le.PutUint32(b, cmd)
	_, err := sp.CopyOut(c, at, b)
	return err
}
