package net

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Requests about interfaces that x/sys/unix lacks (include/uapi/linux/sockios.h).
const (
	siocRTMsg       = 0x890d
	siocGIfPFlags   = 0x8935
	siocSIfPFlags   = 0x8934
	siocDevPrivate  = 0x89f0
	siocGSKNS       = 0x894c
	siocWANDev      = 0x894a
	siocGHwtstamp   = 0x89b1
	siocBondSlave   = 0x8993 // SIOCBONDSLAVEINFOQUERY
	siocBondInfo    = 0x8994
	socketRequests  = 0x89 // SOCK_IOC_TYPE
	siocBondEnslave = 0x8990
	siocBondActive  = 0x8995
)

// wants is what a request asks of its caller and its argument before it is refused.
type wants int

const (
	wantsDevice wants = iota // that it names an interface
	wantsAdmin               // that, of who has CAP_NET_ADMIN
)

// unservedLink says what is asked for a request about interfaces that none of these serves; known
// is false for one that Linux has not either (dev_ioctl).
func unservedLink(req uint32) (w wants, known bool) {
	switch req {
	case unix.SIOCSIFNAME, unix.SIOCSIFMAP, unix.SIOCSIFMETRIC, unix.SIOCSIFSLAVE, unix.SIOCADDMULTI, unix.SIOCDELMULTI, unix.SIOCSIFHWBROADCAST,
		unix.SIOCGMIIPHY, unix.SIOCGMIIREG, unix.SIOCSMIIREG, siocBondEnslave, siocBondEnslave + 1, siocBondEnslave + 2, siocBondActive, unix.SIOCSHWTSTAMP:
		return wantsAdmin, true
	case unix.SIOCGIFSLAVE, siocWANDev, siocGHwtstamp, siocBondSlave, siocBondInfo:
		return wantsDevice, true
	}
	return wantsDevice, req >= siocDevPrivate && req <= siocDevPrivate+15
}

// refuse answers requests that nothing here serves as a Linux does whose interfaces know them as
// little: ENOPKG without bridges and VLANs, EPERM, EFAULT, ENODEV, EOPNOTSUPP, ENOTTY.
func (s *Stack) refuse(c wait.Context, sp *mm.Space, family int32, req uint32, arg uint64) error {
	switch req {
	case unix.SIOCGIFBR, unix.SIOCSIFBR, unix.SIOCBRADDBR, unix.SIOCBRDELBR, unix.SIOCBRADDIF, unix.SIOCBRDELIF, unix.SIOCGIFVLAN, unix.SIOCSIFVLAN:
		return unix.ENOPKG
	case siocGSKNS:
		if !mayAdmin(c) {
			return unix.EPERM
		}
	case siocGStamp, siocGStampNS: // of sockets that note no times
		return unix.ENOTTY
	case siocRTMsg:
		if family == unix.AF_INET {
			return unix.EINVAL
		}
	}
	if req>>8 != socketRequests {
		return unix.ENOTTY
	}
	var b [ifreqSize]byte
	if _, err := sp.CopyIn(c, b[:], hal.UserAddr(arg)); err != nil {
		return err
	}
	if family == unix.AF_INET && (req == siocGIfPFlags || req == siocSIfPFlags) {
		return unix.EINVAL
	}
	w, known := unservedLink(req)
	dev, _, _ := strings.Cut(cstring(b[:unix.IFNAMSIZ]), ":")
	switch {
	case !known:
		return unix.ENOTTY
	case w == wantsAdmin && !mayAdmin(c):
		return unix.EPERM
	case s.byName(dev) == nil:
		return unix.ENODEV
	case req == unix.SIOCGIFSLAVE, req == unix.SIOCSIFSLAVE, (req == unix.SIOCADDMULTI || req == unix.SIOCDELMULTI) && binary.LittleEndian.Uint16(b[unix.IFNAMSIZ:]) != 0:
		return unix.EINVAL
	}
	return unix.EOPNOTSUPP
}
