package syscalls

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
	"kiln/net"
)

// maxRW is MAX_RW_COUNT: more is cut in one transfer.
const netMaxRW = 0x7ffff000

// userRange checks a transfer's range as access_ok does: EFAULT.
func userRange(addr, n uint64) (int, error) {
	if n > uint64(hal.UserTop) || addr > uint64(hal.UserTop)-n {
		return 0, unix.EFAULT
	}
	return int(min(n, netMaxRW)), nil
}

// transmit sends n.seq: all of it on a blocking stream, but for an Attempt. EPIPE on a stream
// raises SIGPIPE unless MSG_NOSIGNAL.
func transmit(t *task.Thread, n *netCall) (int, error) {
	s := n.sock
	nonblock := n.file.Nonblocking() || n.send.Flags&unix.MSG_DONTWAIT != 0
	done, err := s.Send(&n.caller, &n.seq, &n.send)
	if !nonblock && (err == unix.EAGAIN || err == unix.EINPROGRESS || err == nil && n.seq.Len() > 0 && !t.Attempting()) {
		done, err = transmitMore(t, n, done)
	}
	if err == unix.EPIPE && signalsPipe(s) && n.send.Flags&unix.MSG_NOSIGNAL == 0 {
		signalSelf(t, unix.SIGPIPE)
	}
	return done, err
}

func transmitMore(t *task.Thread, n *netCall, done int) (int, error) {
	s := n.sock
	_, snd := s.Timeouts()
	deadline := timeout(t, snd)
	fast := n.send.Flags&unix.MSG_FASTOPEN != 0
	n.send.Flags &^= unix.MSG_FASTOPEN // the connection has begun
	for {
		m, err := t.BlockOn(s, waiter.WritableEvents|waiter.EventErr|waiter.EventHUp, false, deadline, unix.EAGAIN,
			func() (int, error) {
				n, err := s.Send(&n.caller, &n.seq, &n.send)
				if err == unix.EINPROGRESS {
					err = unix.EAGAIN
				}
				return n, err
			})
		done += m
		if fast && m > 0 {
			_ = s.ConnectResult() // who waited for it knows of it
		}
		switch {
		case err != nil && done > 0:
			untold(s, err)
			return done, nil
		case err != nil, n.seq.Len() == 0, m == 0, t.Attempting():
			return done, interrupted(snd, err)
		}
		// The control messages went with the first byte.
		n.send.Control = net.Control{}
	}
}

// recvEvents may bring what a receive waits for.
const recvEvents = waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp | waiter.EventRdHUp

// receive fills n.seq: all of it with MSG_WAITALL on a stream, else SO_RCVLOWAT bytes at least.
// An Attempt takes what there is.
func receive(t *task.Thread, n *netCall) (int, error) {
	s, m := n.sock, &n.recv
	nonblock := n.file.Nonblocking() || m.Flags&unix.MSG_DONTWAIT != 0 || m.Flags&unix.MSG_ERRQUEUE != 0 && s.Domain() != unix.AF_UNIX
	m.Nonblock = nonblock
	all := n.seq
	done, err := s.Recv(&n.caller, &n.seq, m)
	if nonblock {
		return done, err
	}
	// What a message of descriptors came with ends a receive.
	target := s.Target(all.Len(), m.Flags)
	if t.Attempting() {
		target = 1
	}
	if err != unix.EAGAIN && (err != nil || done == 0 || done >= target || len(m.Control.Files) > 0) {
		return done, err
	}
	rcv, _ := s.Timeouts()
	deadline := timeout(t, rcv)
	if m.Flags&unix.MSG_PEEK != 0 && target > 1 {
		done, err = peekMore(t, n, all, done, target, deadline)
		return done, interrupted(rcv, err)
	}
	for {
		k, err := t.BlockOn(s, recvEvents, false, deadline, unix.EAGAIN, func() (int, error) { return s.Recv(&n.caller, &n.seq, m) })
		done += k
		switch {
		case err != nil && done > 0:
			untold(s, err)
			return done, nil
		case err == wait.ErrRestart && n.seq.Len() == 0 && s.Type() == unix.SOCK_STREAM && s.Domain() != unix.AF_UNIX:
			return 0, nil // to receive nothing, TCP waits once for whatever comes
		case err != nil, k == 0, done >= target, len(m.Control.Files) > 0:
			return done, interrupted(rcv, err)
		}
	}
}

// peekMore is the rest of receive with MSG_PEEK, done bytes of all having been seen: it looks
// again until there are as many as it waits for, or no more come.
func peekMore(t *task.Thread, n *netCall, all mm.IOSeq, done, target int, deadline int64) (int, error) {
	k, err := t.BlockOn(n.sock, recvEvents, false, deadline, unix.EAGAIN, func() (int, error) {
		ended := n.sock.Readiness(waiter.EventErr|waiter.EventHUp|waiter.EventRdHUp) != 0 // asked before the last look
		n.seq = all
		k, err := n.sock.Recv(&n.caller, &n.seq, &n.recv)
		if err == nil && 0 < k && k < target && !ended {
			done, err = k, unix.EAGAIN
		}
		return k, err
	})
	if err != nil && done > 0 {
		untold(n.sock, err)
		return done, nil
	}
	return k, err
}

// untold leaves the error that ended a call to the next one on a socket that keeps it: this one
// tells how much it has done.
func untold(s any, err error) {
	if x, ok := s.(interface{ Untold(error) }); ok {
		x.Untold(err)
	}
}

// sysSendto: EFAULT, EBADF, ENOTSOCK, EINVAL, EMSGSIZE, EPIPE, … See sendto(2).
func sysSendto(t *task.Thread, a *Args) (uintptr, error) {
	size, err := userRange(a[1], a[2])
	if err != nil {
		return 0, err
	}
	n, err := socketCall(t, a[0])
	if err != nil {
		return 0, err
	}
	n.send.Flags = int(int32(a[3]))
	if a[4] != 0 {
		if n.send.Name, err = sockaddrIn(t, &n.name, a[4], a[5]); err == nil && n.send.Name == nil {
			n.send.Name = n.name[:0] // a name of no length is one
		}
		n.paths(t)
	}
	var done int
	if err == nil {
		n.seq = mm.UserIO(t.Space(), t, hal.UserAddr(a[1]), size)
		done, err = transmit(t, n)
	}
	n.free()
	return uintptr(done), err
}

// sysRecvfrom: EFAULT, EBADF, ENOTSOCK, ENOTCONN, … See recvfrom(2).
func sysRecvfrom(t *task.Thread, a *Args) (uintptr, error) {
	size, err := userRange(a[1], a[2])
	if err != nil {
		return 0, err
	}
	n, err := socketCall(t, a[0])
	if err != nil {
		return 0, err
	}
	n.recv.Flags = int(int32(a[3]))
	n.seq = mm.UserIO(t.Space(), t, hal.UserAddr(a[1]), size)
	done, err := receive(t, n)
	if err == nil && a[4] != 0 {
		err = sockaddrOut(t, n.recv.Name[:n.recv.NameLen], a[4], a[5])
	}
	if n.recv.Flags&unix.MSG_TRUNC != 0 && n.recv.Full > done {
		done = n.recv.Full
	}
	n.free()
	return uintptr(done), err
}

// sysSendmsg: as sendto, and EMSGSIZE for too many ranges, ENOBUFS for too much
// control data. See sendmsg(2).
func sysSendmsg(t *task.Thread, a *Args) (uintptr, error) {
	n, err := socketCall(t, a[0])
	if err != nil {
		return 0, err
	}
	defer n.free()
	done, err := sendmsg(t, n, a[1], int(int32(a[2])))
	return uintptr(done), err
}

func sendmsg(t *task.Thread, n *netCall, at uint64, flags int) (int, error) {
	h, err := n.outgoing(t, at)
	if err != nil {
		return 0, err
	}
	return n.sendmsg(t, &h, flags)
}

// outgoing reads what is to be sent but for the bytes and the control data: the header, the
// address (n.name) and the ranges.
func (n *netCall) outgoing(t *task.Thread, at uint64) (h msghdr, err error) {
	if h, err = n.header(t, at); err == nil && h.nameLen > 0 {
		_, err = sockaddrIn(t, &n.name, h.name, uint64(h.nameLen))
	}
	if err == nil {
		err = n.ranges(t, &h)
	}
	return h, err
}

// sendmsg sends what outgoing has read.
func (n *netCall) sendmsg(t *task.Thread, h *msghdr, flags int) (int, error) {
	n.send = net.SendMsg{Flags: flags}
	if h.nameLen > 0 {
		n.send.Name = n.name[:h.nameLen]
		n.paths(t)
	}
	if h.controlLen > 0 {
		if err := controlIn(t, n, h); err != nil {
			return 0, err
		}
	}
	done, err := transmit(t, n)
	// What nobody took, or has let go of: a socket that wants no descriptors does.
	for _, f := range n.send.Control.Files {
		f.DecRef()
	}
	n.send.Control.Files = nil
	return done, err
}

// sysRecvmsg: see recvmsg(2).
func sysRecvmsg(t *task.Thread, a *Args) (uintptr, error) {
	n, err := socketCall(t, a[0])
	if err != nil {
		return 0, err
	}
	defer n.free()
	done, err := recvmsg(t, n, a[1], int(int32(a[2])))
	return uintptr(done), err
}

func recvmsg(t *task.Thread, n *netCall, at uint64, flags int) (int, error) {
	h, err := n.header(t, at)
	if err == nil {
		err = n.ranges(t, &h)
	}
	if err != nil {
		return 0, err
	}
	return n.recvmsg(t, &h, at, flags)
}

// recvmsg receives into n.seq, and says in the header at at what else came.
func (n *netCall) recvmsg(t *task.Thread, h *msghdr, at uint64, flags int) (int, error) {
	n.recv = net.RecvMsg{Flags: flags &^ unix.MSG_CMSG_CLOEXEC, WantControl: h.controlLen > 0 || n.sock.Domain() != unix.AF_UNIX}
	done, err := receive(t, n)
	if err != nil {
		return 0, err
	}
	m := &n.recv
	if flags&unix.MSG_TRUNC != 0 && m.Full > done {
		done = m.Full
	}
	used := controlOut(t, h, m, flags&unix.MSG_CMSG_CLOEXEC != 0) // first: descriptors stay where the name fails
	var b [8]byte
	if h.name != 0 {
		if err := t.CopyOut(hal.UserAddr(h.name), m.Name[:min(m.NameLen, int(h.nameLen))]); err != nil {
			return 0, err
		}
		binary.LittleEndian.PutUint32(b[:], uint32(m.NameLen))
		if err := t.CopyOut(hal.UserAddr(at+8), b[:4]); err != nil {
			return 0, err
		}
	}
	binary.LittleEndian.PutUint64(b[:], uint64(used))
	if err := t.CopyOut(hal.UserAddr(at+40), b[:]); err != nil {
		return 0, err
	}
	binary.LittleEndian.PutUint32(b[:], uint32(m.OutFlags|flags&unix.MSG_CMSG_CLOEXEC))
	return done, t.CopyOut(hal.UserAddr(at+48), b[:4])
}

// mmsghdrSize is struct mmsghdr: a msghdr, its count and padding.
const mmsghdrSize = msghdrSize + 8

// sysSendmmsg sends up to 1024 messages; an error after the first is left for the
// next call. See sendmmsg(2).
func sysSendmmsg(t *task.Thread, a *Args) (uintptr, error) {
	n, err := socketCall(t, a[0])
	if err != nil {
		return 0, err
	}
	defer n.free()
	vlen := min(uint32(a[2]), maxIOV)
	for i := range vlen {
		at := a[1] + uint64(i)*mmsghdrSize
		done, err := sendmsg(t, n, at, int(int32(a[3])))
		if err == nil {
			var b [4]byte
			binary.LittleEndian.PutUint32(b[:], uint32(done))
			err = t.CopyOut(hal.UserAddr(at+msghdrSize), b[:])
		}
		if err != nil {
			if i > 0 {
				return uintptr(i), nil
			}
			return 0, err
		}
	}
	return uintptr(vlen), nil
}

// sysRecvmmsg receives up to vlen messages; the time-out is looked at after each, as
// Linux does. See recvmmsg(2).
func sysRecvmmsg(t *task.Thread, a *Args) (uintptr, error) {
	deadline := int64(hal.NoDeadline)
	if a[4] != 0 {
		var ts [16]byte
		if err := t.CopyIn(ts[:], hal.UserAddr(a[4])); err != nil {
			return 0, err
		}
		sec, nsec := int64(binary.LittleEndian.Uint64(ts[:])), int64(binary.LittleEndian.Uint64(ts[8:]))
		if sec < 0 || nsec < 0 || nsec >= 1e9 {
			return 0, unix.EINVAL
		}
		if sec < 1<<32 {
			deadline = t.Deadline(sec*1e9 + nsec)
		}
	}
	n, err := socketCall(t, a[0])
	if err != nil {
		return 0, err
	}
	defer n.free()
	if int(a[3])&unix.MSG_ERRQUEUE == 0 {
		b, err := n.sock.GetOption(&n.caller, unix.SOL_SOCKET, unix.SO_ERROR, 4)
		if err == nil && len(b) == 4 && binary.LittleEndian.Uint32(b) != 0 {
			err = unix.Errno(binary.LittleEndian.Uint32(b))
		}
		if err != nil {
			return 0, err
		}
	} else if uint32(a[2]) == 0 {
		return 0, unix.EBADF // do_recvmmsg has not set its error yet
	}
	done, err := receiveMany(t, n, a, deadline)
	if done == 0 && err != nil {
		return 0, err
	}
	if err != nil && err != unix.EAGAIN {
		n.sock.Defer(err)
	}
	if deadline != hal.NoDeadline && done > 0 {
		left := max(deadline-t.Kernel().Timers.Now(), 0)
		var ts [16]byte
		binary.LittleEndian.PutUint64(ts[:], uint64(left/1e9))
		binary.LittleEndian.PutUint64(ts[8:], uint64(left%1e9))
		if err := t.CopyOut(hal.UserAddr(a[4]), ts[:]); err != nil {
			return 0, err
		}
	}
	return uintptr(done), nil
}

func receiveMany(t *task.Thread, n *netCall, a *Args, deadline int64) (int, error) {
	flags := int(int32(a[3]))
	vlen := int(min(uint32(a[2]), maxIOV))
	for i := range vlen {
		at := a[1] + uint64(i)*mmsghdrSize
		done, err := recvmsg(t, n, at, flags&^unix.MSG_WAITFORONE)
		if err == nil {
			var b [4]byte
			binary.LittleEndian.PutUint32(b[:], uint32(done))
			err = t.CopyOut(hal.UserAddr(at+msghdrSize), b[:])
		}
		if err != nil {
			return i, err
		}
		if flags&unix.MSG_WAITFORONE != 0 {
			flags |= unix.MSG_DONTWAIT
		}
		if t.Kernel().Timers.Now() >= deadline {
			return i + 1, nil
		}
	}
	return vlen, nil
}
