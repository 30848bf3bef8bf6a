package net

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// sockOpts are SOL_SOCKET options that are the same for every family, and those that
// netstack does not keep.
type sockOpts struct {
	rcvTimeo, sndTimeo atomic.Int64 // nanoseconds, 0: none
	stamp              atomic.Int64 // of the last datagram (SIOCGSTAMP)
	priority           atomic.Int32
	rcvlowat           atomic.Int32
	mark               atomic.Uint32
	peekOff            atomic.Int32

	passcred, timestamp, timestampNS, freebind, transparent, inq, debug,
	dontroute, oobinline, zerocopy, rxqOvfl, recvpktinfo, nofcs, hopLimit, oldHopLimit atomic.Bool

	deferAccept, fastopen, notsentLowat, linger2 atomic.Int32
	rcvShown                                     atomic.Int32 // SO_RCVBUF as set
	userMSS, windowClamp                         atomic.Int32
	lingerSeconds                                atomic.Int32
	limited                                      atomic.Bool // a timer ends the attempt to connect (Stack.limits)
	// tuned says that an option was set that clone must copy; sndBuf and rcvBuf, that the
	// program chose the size.
	tuned, pktinfo, stampNew, sndBuf, rcvBuf, cork, filterLock atomic.Bool
	segment                                                    atomic.Int32 // UDP_SEGMENT
	unicastIf                                                  atomic.Uint32
	pending                                                    atomic.Int32 // an errno for SO_ERROR
	kept                                                       kept
	quickack                                                   atomic.Int32 // 0: unset (on), 1: on, 2: off
}

// inherit is what an accepted socket takes from its listener.
func (o *sockOpts) inherit(l *sockOpts) {
	o.rcvTimeo.Store(l.rcvTimeo.Load())
	o.sndTimeo.Store(l.sndTimeo.Load())
	o.mark.Store(l.mark.Load())
	o.rcvlowat.Store(l.rcvlowat.Load())
	o.passcred.Store(l.passcred.Load())
	o.zerocopy.Store(l.zerocopy.Load())
	o.timestamp.Store(l.timestamp.Load())
	o.timestampNS.Store(l.timestampNS.Load())
	o.oobinline.Store(l.oobinline.Load())
	o.dontroute.Store(l.dontroute.Load())
	o.freebind.Store(l.freebind.Load())
	o.transparent.Store(l.transparent.Load())
	o.inq.Store(l.inq.Load())
	o.linger2.Store(l.linger2.Load())
	o.notsentLowat.Store(l.notsentLowat.Load())
	o.userMSS.Store(l.userMSS.Load())
	o.windowClamp.Store(l.windowClamp.Load())
	o.lingerSeconds.Store(l.lingerSeconds.Load())
	if l.tuned.Load() {
		o.tuned.Store(true)
		o.kept.inherit(&l.kept)
	}
}

// intArg is an option's int: EINVAL if there are not four bytes.
func intArg(v []byte) (int32, error) {
	if len(v) < 4 {
		return 0, unix.EINVAL
	}
	return int32(binary.LittleEndian.Uint32(v)), nil
}

func boolArg(v []byte) (bool, error) {
	n, err := intArg(v)
	return n != 0, err
}

// soError is SO_ERROR: the pending error, which that takes away. The socket is locked.
func soError(err *error) []byte {
	e, _ := (*err).(unix.Errno)
	*err = nil
	return intVal(int(e))
}

func intVal(n int) []byte { return le32(uint32(int32(n))) }

// takeError is sock_error: an error that is told once.
func (o *sockOpts) takeError() error {
	if o.pending.Load() != 0 {
		if n := o.pending.Swap(0); n != 0 {
			return unix.Errno(n)
		}
	}
	return nil
}

// Defer keeps an error for the next call and SO_ERROR.
func (b *base) Defer(err error) {
	if n, ok := err.(unix.Errno); ok {
		b.opt.pending.Store(int32(n))
	}
}

// TakeError is the error that Defer kept, nil if there is none.
func (b *base) TakeError() error { return b.opt.takeError() }

func boolVal(b bool) []byte {
	if b {
		return intVal(1)
	}
	return intVal(0)
}

// alreadyOver is the time-out of negative seconds, which is read back as none.
const alreadyOver = 1

// timeval decodes struct timeval of SO_RCVTIMEO (net/core/sock.c, sock_set_timeout):
// EDOM for microseconds out of range, zero and negative seconds are "none" and "now".
func timeval(v []byte) (int64, error) {
	if len(v) < 16 {
		return 0, unix.EINVAL
	}
	sec := int64(binary.LittleEndian.Uint64(v))
	usec := int64(binary.LittleEndian.Uint64(v[8:]))
	if usec < 0 || usec >= 1e6 {
		return 0, unix.EDOM
	}
	if sec < 0 {
		return alreadyOver, nil
	}
	if sec >= math.MaxInt64/int64(time.Second)-1 {
		return 0, nil
	}
	return sec*int64(time.Second) + usec*1000, nil
}

func timevalBytes(ns int64) []byte {
	if ns == alreadyOver {
		ns = 0
	}
	b := make([]byte, 16)
	binary.LittleEndian.PutUint64(b, uint64(ns/1e9))
	binary.LittleEndian.PutUint64(b[8:], uint64(ns%1e9/1000))
	return b
}

// errNotHere says that the common code does not know the option.
const errNotHere = unix.Errno(0xfff)

// setCommon serves the SOL_SOCKET options that need no endpoint.
func (b *base) setCommon(c *Caller, name int, v []byte) error {
	o := &b.opt
	if name == unix.SO_TIMESTAMPING_NEW {
		name = unix.SO_TIMESTAMPING // the sizes of their times are one
	}
	switch name {
	case unix.SO_RCVTIMEO, unix.SO_SNDTIMEO, unix.SO_RCVTIMEO_NEW, unix.SO_SNDTIMEO_NEW:
		ns, err := timeval(v)
		if err != nil {
			return err
		}
		if name == unix.SO_RCVTIMEO || name == unix.SO_RCVTIMEO_NEW {
			o.rcvTimeo.Store(ns)
		} else {
			o.sndTimeo.Store(ns)
		}
		return nil
	}
	flag := map[int]*atomic.Bool{
		unix.SO_PASSCRED: &o.passcred, unix.SO_OOBINLINE: &o.oobinline, unix.SO_DONTROUTE: &o.dontroute,
		unix.SO_RXQ_OVFL: &o.rxqOvfl, unix.SO_NOFCS: &o.nofcs,
	}[name]
	n, err := intArg(v)
	if err != nil {
		return err
	}
	switch {
	case flag != nil:
		flag.Store(n != 0)
		return nil
	case name == unix.SO_ZEROCOPY:
		if !b.maySendZerocopy() {
			return unix.EOPNOTSUPP
		}
		if n < 0 || n > 1 {
			return unix.EINVAL
		}
		o.zerocopy.Store(n == 1)
	case name == unix.SO_TIMESTAMP || name == unix.SO_TIMESTAMP_NEW:
		o.timestamp.Store(n != 0)
		o.timestampNS.Store(false)
		o.stampNew.Store(name == unix.SO_TIMESTAMP_NEW)
	case name == unix.SO_TIMESTAMPNS || name == unix.SO_TIMESTAMPNS_NEW:
		o.timestampNS.Store(n != 0)
		o.timestamp.Store(false)
		o.stampNew.Store(name == unix.SO_TIMESTAMPNS_NEW)
	case name == unix.SO_LOCK_FILTER:
		if n == 0 && o.filterLock.Load() {
			return unix.EPERM
		}
		o.filterLock.Store(n != 0)
	case name == unix.SO_DEBUG:
		if n != 0 && !c.capable(capNetAdmin) {
			return unix.EACCES
		}
		o.debug.Store(n != 0)
	case name == unix.SO_PRIORITY:
		if (n < 0 || n > 6) && !c.mayMark() {
			return unix.EPERM
		}
		o.priority.Store(n)
	case name == unix.SO_MARK:
		if !c.mayMark() {
			return unix.EPERM
		}
		o.mark.Store(uint32(n))
	case name == unix.SO_RCVLOWAT:
		if n < 0 {
			n = math.MaxInt32
		}
		o.rcvlowat.Store(max(n, 1))
	case name == unix.SO_BUSY_POLL && o.pollsLess(uint32(n)) && !c.capable(capNetAdmin),
		name == soBusyPollBudget && n > 0 && !c.capable(capNetAdmin),
		name == soPreferBusyPoll && n != 0 && !c.capable(capNetAdmin):
		return unix.EPERM
	case name == soBusyPollBudget:
		if n < 0 || n > math.MaxUint16 {
			return unix.EINVAL
		}
	case name == soReserveMem:
		if n < 0 {
			return unix.EINVAL
		}
		return unix.EOPNOTSUPP // without memory control groups
	case name == unix.SO_DETACH_REUSEPORT_BPF, name == unix.SO_ATTACH_REUSEPORT_CBPF:
		return unix.EINVAL
	case name == soTxtime: // times of departure, of which no queue here knows
		if len(v) != sockTxtimeSize {
			return unix.EINVAL
		}
		flags := int32(binary.LittleEndian.Uint32(v[4:]))
		switch {
		case flags&^txtimeAll != 0:
			return unix.EINVAL
		case n != unix.CLOCK_MONOTONIC && !c.capable(capNetAdmin):
			return unix.EPERM
		}
		o.kept.store(unix.SOL_SOCKET, name, n)
		o.kept.store(unix.SOL_SOCKET, txtimeFlags, flags)
	case name == soTxrehash && n == -1:
		o.kept.store(unix.SOL_SOCKET, name, 1) // the system's choice
	case name == soBSDCompat, name == unix.SO_CNX_ADVICE:
	case name == unix.SO_MAX_PACING_RATE: // told, and a hint about timing without effect
		high := int32(0)
		if n == -1 {
			high = -1
		}
		if len(v) >= 8 {
			high = int32(binary.LittleEndian.Uint32(v[4:]))
		}
		o.kept.store(unix.SOL_SOCKET, name, n)
		o.kept.store(unix.SOL_SOCKET, pacingHigh, high)
	case name == unix.SO_TYPE, name == unix.SO_ERROR, name == unix.SO_PROTOCOL, name == unix.SO_DOMAIN,
		name == unix.SO_ACCEPTCONN:
		return unix.ENOPROTOOPT
	case name == unix.SO_ATTACH_BPF && o.filterLock.Load():
		return unix.EPERM
	case name == unix.SO_ATTACH_BPF, name == unix.SO_ATTACH_REUSEPORT_EBPF:
		if len(v) != 4 {
			return unix.EINVAL
		}
		return unix.EBADF // no descriptor is a program's
	default:
		known, err := o.kept.set(unix.SOL_SOCKET, name, n)
		if !known {
			return errNotHere
		}
		return err
	}
	return nil
}

// pollsLess says whether SO_BUSY_POLL is to become more than it is; it is compared unsigned.
func (o *sockOpts) pollsLess(n uint32) bool {
	now, _ := o.kept.load(unix.SOL_SOCKET, unix.SO_BUSY_POLL)
	return n > uint32(now)
}

// txtimeFlags is where SO_TXTIME's flags are kept, sockTxtimeSize the size of struct sock_txtime.
const (
	txtimeFlags    = -soTxtime
	txtimeAll      = 3 // SOF_TXTIME_DEADLINE_MODE, SOF_TXTIME_REPORT_ERRORS
	sockTxtimeSize = 8
)

// netnsCookie is the number of the one network namespace, the first that Linux gives.
const netnsCookie = 1

// pacingHigh is where the upper half of SO_MAX_PACING_RATE is kept: few sockets have one.
const pacingHigh = -unix.SO_MAX_PACING_RATE

// getAny serves the options of SOL_SOCKET that are alike for all families but need more than a
// name: EINVAL for a room that is too small or, for a peer's name, too large.
func getAny(x interface {
	PeerName() ([]byte, error)
	number() uint64
	options() *sockOpts
}, name, room int) (b []byte, err error, known bool) {
	switch name {
	case unix.SO_COOKIE:
		if room < 8 {
			return nil, unix.EINVAL, true
		}
		return binary.LittleEndian.AppendUint64(nil, x.number()), nil, true
	case soNetnsCookie:
		if room != 8 {
			return nil, unix.EINVAL, true
		}
		return binary.LittleEndian.AppendUint64(nil, netnsCookie), nil, true
	case unix.SO_MAX_PACING_RATE:
		rate := uint64(math.MaxUint64)
		if low, ok := x.options().kept.load(unix.SOL_SOCKET, name); ok {
			high, _ := x.options().kept.load(unix.SOL_SOCKET, pacingHigh)
			rate = uint64(uint32(high))<<32 | uint64(uint32(low))
		}
		if room < 8 {
			return le32(uint32(min(rate, math.MaxUint32))), nil, true
		}
		return binary.LittleEndian.AppendUint64(nil, rate), nil, true
	case unix.SO_PEERNAME:
		b, err = x.PeerName()
		if w, ok := x.(interface{ lastPeerName() []byte }); ok && err != nil {
			if b = w.lastPeerName(); b != nil {
				err = nil
			}
		}
		if err != nil {
			return nil, unix.ENOTCONN, true
		}
		if len(b) < room {
			err = unix.EINVAL
		}
		return b, err, true
	}
	return nil, nil, false
}

func (b *base) number() uint64     { return b.ino }
func (b *base) options() *sockOpts { return &b.opt }

// getCommon is setCommon's other direction; nil for an option it does not know.
func (b *base) getCommon(name int) []byte {
	o := &b.opt
	if name == unix.SO_TIMESTAMPING_NEW {
		name = unix.SO_TIMESTAMPING
	}
	switch name {
	case unix.SO_TYPE:
		return intVal(int(b.typ))
	case unix.SO_DOMAIN:
		return intVal(int(b.domain))
	case unix.SO_PROTOCOL:
		return intVal(int(b.pro))
	case unix.SO_RCVTIMEO, unix.SO_RCVTIMEO_NEW:
		return timevalBytes(o.rcvTimeo.Load())
	case unix.SO_SNDTIMEO, unix.SO_SNDTIMEO_NEW:
		return timevalBytes(o.sndTimeo.Load())
	case unix.SO_PASSCRED:
		return boolVal(o.passcred.Load())
	case unix.SO_TIMESTAMP, unix.SO_TIMESTAMP_NEW:
		return boolVal(o.timestamp.Load() && o.stampNew.Load() == (name == unix.SO_TIMESTAMP_NEW))
	case unix.SO_TIMESTAMPNS, unix.SO_TIMESTAMPNS_NEW:
		return boolVal(o.timestampNS.Load() && o.stampNew.Load() == (name == unix.SO_TIMESTAMPNS_NEW))
	case unix.SO_OOBINLINE:
		return boolVal(o.oobinline.Load())
	case unix.SO_DONTROUTE:
		return boolVal(o.dontroute.Load())
	case unix.SO_ZEROCOPY:
		return boolVal(o.zerocopy.Load())
	case unix.SO_RXQ_OVFL:
		return boolVal(o.rxqOvfl.Load())
	case unix.SO_NOFCS:
		return boolVal(o.nofcs.Load())
	case unix.SO_DEBUG:
		return boolVal(o.debug.Load())
	case unix.SO_PRIORITY:
		return intVal(int(o.priority.Load()))
	case unix.SO_MARK:
		return intVal(int(o.mark.Load()))
	case unix.SO_RCVLOWAT:
		return intVal(max(int(o.rcvlowat.Load()), 1))
	case unix.SO_SNDLOWAT:
		return intVal(1)
	case unix.SO_INCOMING_NAPI_ID, soBSDCompat, soReserveMem:
		return intVal(0)
	case unix.SO_BPF_EXTENSIONS:
		return intVal(64) // SKF_AD_MAX
	case unix.SO_LOCK_FILTER:
		return boolVal(o.filterLock.Load())
	case soTxtime:
		clock, _ := o.kept.load(unix.SOL_SOCKET, soTxtime)
		flags, _ := o.kept.load(unix.SOL_SOCKET, txtimeFlags)
		return append(le32(uint32(clock)), le32(uint32(flags))...)
	}
	if v, ok := o.kept.get(unix.SOL_SOCKET, name); ok {
		b := intVal(int(v))
		if name == unix.SO_TIMESTAMPING {
			b = append(b, 0, 0, 0, 0) // struct so_timestamping's clock
		}
		return b
	}
	return nil
}
