package net

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// Datagrams that are sent in parts (MSG_MORE, UDP_CORK), and parts that are sent as
// datagrams (UDP_SEGMENT). See udp(7).

// corked is a datagram that waits for its last part.
type corked struct {
	b    []byte
	opts tcpip.WriteOptions
	to   tcpip.FullAddress
}

// maxSegments is UDP_MAX_SEGMENTS of Linux 6.1.
const maxSegments = 64

// part takes one part of a datagram; more: others follow. EMSGSIZE, ENOBUFS, with which those
// that wait are dropped (udp_flush_pending_frames).
func (x *inetSocket) part(b []byte, opts tcpip.WriteOptions, more bool) error {
	x.sendMu.Lock()
	defer x.sendMu.Unlock()
	k := x.corked
	if k == nil {
		k = &corked{opts: opts}
		if opts.To != nil {
			k.to = *opts.To
			k.opts.To = &k.to
		}
	}
	if len(k.b)+len(b) > maxDatagram-28 {
		x.dropLocked()
		return unix.EMSGSIZE
	}
	if !x.s.cfg.Budget.Charge(int64(len(b))) {
		x.dropLocked()
		return unix.ENOBUFS
	}
	k.b = append(k.b, b...)
	x.corked = k
	x.corks.Store(true)
	if more {
		return nil
	}
	return x.uncorkLocked()
}

func (x *inetSocket) hasCorked() bool { return x.corks.Load() }

// uncork sends what waits.
func (x *inetSocket) uncork() error {
	x.sendMu.Lock()
	defer x.sendMu.Unlock()
	return x.uncorkLocked()
}

// uncorkLocked is uncork with sendMu held.
func (x *inetSocket) uncorkLocked() error {
	k := x.corked
	if k == nil {
		return nil
	}
	x.dropLocked()
	_, terr := x.ep().Write(&bytesReader{k.b}, k.opts)
	return errno(terr)
}

func (x *inetSocket) dropLocked() {
	if x.corked != nil {
		x.s.cfg.Budget.Uncharge(int64(len(x.corked.b)))
		x.corked = nil
		x.corks.Store(false)
	}
}

// dropCorked forgets what waits: the socket is closed.
func (x *inetSocket) dropCorked() {
	x.sendMu.Lock()
	x.dropLocked()
	x.sendMu.Unlock()
}

// sendSegments sends b as datagrams of seg bytes each: EINVAL if there are too many.
func (x *inetSocket) sendSegments(b []byte, seg int, opts tcpip.WriteOptions) tcpip.Error {
	if len(b) > seg*maxSegments {
		return &tcpip.ErrInvalidOptionValue{}
	}
	var late tcpip.Error // an answer to one before, which the next call is told of: they are one to the program
	for first := true; len(b) > 0; first = false {
		n := min(seg, len(b))
		_, err := x.ep().Write(&bytesReader{b[:n]}, opts)
		if _, refused := err.(*tcpip.ErrConnectionRefused); refused && !first {
			late = err
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	if late != nil {
		x.putBack(late)
	}
	return nil
}

// UDP_* of uapi/linux/udp.h that x/sys/unix lacks.
const (
	udpliteSendCscov = 10
	udpliteRecvCscov = 11

	udpEncap     = 100
	udpNoCheckTx = 101
	udpNoCheckRx = 102
	udpSegment   = 103
	udpGRO       = 104
)

func (x *inetSocket) setUDP(name int, v []byte) error {
	n, err := intArg(v)
	if err != nil {
		return err
	}
	switch name {
	case unix.UDP_CORK:
		if x.opt.cork.Store(n != 0); n == 0 {
			return x.uncork()
		}
	case udpSegment:
		if n < 0 || n > 0xffff {
			return unix.EINVAL
		}
		x.opt.segment.Store(n)
	case udpNoCheckTx, udpNoCheckRx, udpGRO:
		// Sums are written and right, and datagrams come one by one, with these too.
		if n != 0 {
			n = 1
		}
		x.opt.kept.store(unix.SOL_UDP, name, n)
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

func (x *inetSocket) getUDP(name int) []byte {
	switch name {
	case unix.UDP_CORK:
		return boolVal(x.opt.cork.Load())
	case udpSegment:
		return intVal(int(x.opt.segment.Load()))
	case udpliteSendCscov, udpliteRecvCscov:
		return intVal(0) // UDP-Lite's, which UDP answers, too
	case udpEncap, udpNoCheckTx, udpNoCheckRx, udpGRO:
		n, _ := x.opt.kept.load(unix.SOL_UDP, name)
		return intVal(int(n))
	}
	return nil
}
