package net

import (
	"maps"
	"math"
	"sync"

	"golang.org/x/sys/unix"
)

// Options that are checked and remembered as Linux does, and have no effect here: hints
// about timing, and reports of what never comes (IP options, extension headers,
// fragments, security labels).

// keptOption is one of them: a value outside lo to hi is EINVAL, a truth is 1 whatever
// was set, and def is what it is before.
type keptOption struct {
	lo, hi int32
	truth  bool
	def    int32
}

type optionName struct{ level, name int }

var (
	truth    = keptOption{math.MinInt32, math.MaxInt32, true, 0}
	yesOrNo  = keptOption{0, 1, false, 0}
	oneByte  = keptOption{0, 255, false, 0}
	usualOn  = keptOption{0, 1, false, 1}
	nonegint = keptOption{0, math.MaxInt32, false, 0}
)

// Numbers that x/sys/unix lacks (uapi/asm-generic/socket.h, uapi/linux/in6.h).
const (
	soPreferBusyPoll = 69
	soBusyPollBudget = 70
	soNetnsCookie    = 71
	soBufLock        = 72
	soReserveMem     = 73
	soTxrehash       = 74
	soRcvmark        = 75
	soBSDCompat      = 14 // without effect since Linux 2.4
	soTxtime         = 61
	stampingMask     = 1<<16 - 1 // SOF_TIMESTAMPING_MASK of Linux 6.1

	ipv6RouterAlertIsolate = 30
	ipv6MulticastAll       = 29
	ipv6UnicastIf          = 76
)

var keptOptions = map[optionName]keptOption{
	{unix.SOL_SOCKET, soPreferBusyPoll}:         truth,
	{unix.SOL_SOCKET, unix.SO_SELECT_ERR_QUEUE}: truth,
	{unix.SOL_SOCKET, unix.SO_WIFI_STATUS}:      truth,
	{unix.SOL_SOCKET, unix.SO_PASSSEC}:          truth,
	{unix.SOL_SOCKET, soBufLock}:                {0, 3, false, 0},
	{unix.SOL_SOCKET, soRcvmark}:                truth,
	{unix.SOL_SOCKET, soTxrehash}:               {-1, 1, false, 1},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPING}:     {0, stampingMask, false, 0},
	{unix.SOL_SOCKET, unix.SO_BUSY_POLL}:        nonegint,
	{unix.SOL_SOCKET, unix.SO_INCOMING_CPU}:     {math.MinInt32, math.MaxInt32, false, -1},

	{unix.SOL_IP, unix.IP_RECVOPTS}:             truth,
	{unix.SOL_IP, unix.IP_RETOPTS}:              truth,
	{unix.SOL_IP, unix.IP_CHECKSUM}:             truth,
	{unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT}: truth,
	{unix.SOL_IP, unix.IP_RECVFRAGSIZE}:         truth,
	{unix.SOL_IP, unix.IP_PASSSEC}:              truth,
	{unix.SOL_IP, unix.IP_MINTTL}:               oneByte,
	{unix.SOL_IP, unix.IP_MULTICAST_ALL}:        usualOn,
	{unix.SOL_IP, unix.IP_RECVERR_RFC4884}:      yesOrNo,

	{unix.SOL_IPV6, unix.IPV6_RECVRTHDR}:       truth,
	{unix.SOL_IPV6, unix.IPV6_RECVHOPOPTS}:     truth,
	{unix.SOL_IPV6, unix.IPV6_RECVDSTOPTS}:     truth,
	{unix.SOL_IPV6, unix.IPV6_RECVPATHMTU}:     truth,
	{unix.SOL_IPV6, unix.IPV6_2292PKTINFO}:     truth,
	{unix.SOL_IPV6, unix.IPV6_2292RTHDR}:       truth,
	{unix.SOL_IPV6, unix.IPV6_2292HOPOPTS}:     truth,
	{unix.SOL_IPV6, unix.IPV6_2292DSTOPTS}:     truth,
	{unix.SOL_IPV6, unix.IPV6_AUTOFLOWLABEL}:   {math.MinInt32, math.MaxInt32, true, 1},
	{unix.SOL_IPV6, unix.IPV6_DONTFRAG}:        truth,
	{unix.SOL_IPV6, unix.IPV6_RECVFRAGSIZE}:    truth,
	{unix.SOL_IPV6, ipv6RouterAlertIsolate}:    truth,
	{unix.SOL_IPV6, unix.IPV6_MINHOPCOUNT}:     oneByte,
	{unix.SOL_IPV6, unix.IPV6_RECVERR_RFC4884}: yesOrNo,
	{unix.SOL_IPV6, ipv6MulticastAll}:          {math.MinInt32, math.MaxInt32, true, 1},
	{unix.SOL_IPV6, ipv6Flowinfo}:              truth,
	{unix.SOL_IPV6, ipv6FlowinfoSend}:          truth,

	{unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT}:     yesOrNo,
	{unix.SOL_TCP, unix.TCP_FASTOPEN_NO_COOKIE}:   yesOrNo,
	{unix.SOL_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS}: yesOrNo,
	{unix.SOL_TCP, unix.TCP_SAVE_SYN}:             {0, 2, false, 0},
	{unix.SOL_TCP, unix.TCP_TX_DELAY}:             {math.MinInt32, math.MaxInt32, false, 0}, // for a queue that keeps times
}

// kept are the values of one socket.
type kept struct {
	mu sync.Mutex
	m  map[optionName]int32
}

// setKept remembers an option that is in the table; false: it is not.
func (k *kept) set(level, name int, v int32) (bool, error) {
	n := optionName{level, name}
	o, ok := keptOptions[n]
	if !ok {
		return false, nil
	}
	if v < o.lo || v > o.hi {
		return true, unix.EINVAL
	}
	k.store(level, name, o.of(v))
	return true, nil
}

// of is what is kept of a value.
func (o keptOption) of(v int32) int32 {
	if o.truth && v != 0 {
		return 1
	}
	return v
}

func (k *kept) store(level, name int, v int32) {
	k.mu.Lock()
	if k.m == nil {
		k.m = make(map[optionName]int32)
	}
	k.m[optionName{level, name}] = v
	k.mu.Unlock()
}

// drop forgets what store kept.
func (k *kept) drop(level, name int) {
	k.mu.Lock()
	delete(k.m, optionName{level, name})
	k.mu.Unlock()
}

// load is what store kept.
func (k *kept) load(level, name int) (int32, bool) {
	k.mu.Lock()
	v, ok := k.m[optionName{level, name}]
	k.mu.Unlock()
	return v, ok
}

// get is an option of the table; false: there is none.
func (k *kept) get(level, name int) (int32, bool) {
	o, known := keptOptions[optionName{level, name}]
	if v, ok := k.load(level, name); ok {
		return v, known
	}
	return o.def, known
}

// inherit copies a listener's.
func (k *kept) inherit(l *kept) {
	l.mu.Lock()
	m := maps.Clone(l.m)
	l.mu.Unlock()
	for n, v := range m {
		k.store(n.level, n.name, v)
	}
}
