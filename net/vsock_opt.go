package net

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/drivers/virtio/vsock"
	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// <linux/vm_sockets.h>.
const (
	soVMBufferSize        = 0
	soVMBufferMinSize     = 1
	soVMBufferMaxSize     = 2
	soVMConnectTimeout    = 6
	soVMConnectTimeoutNew = 8

	ioctlVMLocalCID = 0x7b9 // IOCTL_VM_SOCKETS_GET_LOCAL_CID
)

// SetOption implements Socket. See vsock_connectible_setsockopt.
func (x *vsockSocket) SetOption(c *Caller, level, name int, v []byte) error {
	switch level {
	case unix.SOL_SOCKET:
		return x.setGeneric(c, name, v)
	case unix.AF_VSOCK:
	default:
		return unix.ENOPROTOOPT
	}
	switch name {
	case soVMBufferSize, soVMBufferMinSize, soVMBufferMaxSize:
		if len(v) < 8 {
			return unix.EINVAL
		}
		x.setBuffer(name, binary.LittleEndian.Uint64(v))
	case soVMConnectTimeout, soVMConnectTimeoutNew:
		if len(v) < 16 {
			return unix.EINVAL
		}
		sec, usec := int64(binary.LittleEndian.Uint64(v)), int64(binary.LittleEndian.Uint64(v[8:]))
		// Microseconds below zero pass for none, as there; the limit is MAX_SCHEDULE_TIMEOUT.
		if sec < 0 || usec >= 1e6 || sec >= math.MaxInt64/vmTicks-1 {
			return unix.ERANGE
		}
		ticks := sec*vmTicks + (max(usec, 0)+1e6/vmTicks-1)/(1e6/vmTicks)
		if ticks == 0 {
			ticks = vmConnectTimeout
		}
		x.mu.Lock()
		x.connectTimeout = ticks
		x.mu.Unlock()
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

// setGeneric is SOL_SOCKET.
func (x *vsockSocket) setGeneric(c *Caller, name int, v []byte) error {
	switch name {
	case unix.SO_ZEROCOPY:
		return unix.EOPNOTSUPP
	case unix.SO_RCVLOWAT:
		n, err := intArg(v)
		if err != nil {
			return err
		}
		x.mu.Lock()
		over := n < 0 || uint64(n) > x.bufSize
		x.mu.Unlock()
		if over {
			return unix.EINVAL
		}
	}
	if err := x.setPlain(c, name, v, x.sizes()); err != errNotHere {
		return err
	}
	return notPlain(name)
}

func (x *vsockSocket) sizes() queueSizes { return queueSizes{&x.mu, &x.sndbuf, &x.rcvbuf, 2 * unixBuf} }

// setBuffer changes the buffer or its bounds; the other side hears of its new size.
func (x *vsockSocket) setBuffer(name int, n uint64) {
	x.mu.Lock()
	size := x.bufSize
	switch name {
	case soVMBufferSize:
		size = n
	case soVMBufferMinSize:
		x.bufMin = n
	case soVMBufferMaxSize:
		x.bufMax = n
	}
	size = min(max(size, x.bufMin), x.bufMax)
	if x.tr != nil && size != x.bufSize {
		size = min(size, 1<<32-1)
		x.bufAlloc = uint32(size)
		x.queue(vsock.OpCreditUpdate, 0)
	}
	x.bufSize = size
	x.mu.Unlock()
	x.flush()
	x.q.Notify(waiter.WritableEvents) // it bounds what may be sent, too
}

// GetOption implements Socket.
func (x *vsockSocket) GetOption(_ *Caller, level, name, n int) ([]byte, error) {
	switch level {
	case unix.SOL_SOCKET:
		return x.getGeneric(name, n)
	case unix.AF_VSOCK:
	default:
		return nil, unix.ENOPROTOOPT
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var v []byte
	le := binary.LittleEndian
	switch name {
	case soVMBufferSize:
		v = le.AppendUint64(v, x.bufSize)
	case soVMBufferMinSize:
		v = le.AppendUint64(v, x.bufMin)
	case soVMBufferMaxSize:
		v = le.AppendUint64(v, x.bufMax)
	case soVMConnectTimeout, soVMConnectTimeoutNew:
		v = le.AppendUint64(v, uint64(x.connectTimeout/vmTicks))
		v = le.AppendUint64(v, uint64(x.connectTimeout%vmTicks*(1e6/vmTicks)))
	default:
		return nil, unix.ENOPROTOOPT
	}
	if n < len(v) {
		return nil, unix.EINVAL
	}
	return v, nil
}

func (x *vsockSocket) getGeneric(name, room int) ([]byte, error) {
	if b := x.getPlain(name, x.sizes()); b != nil {
		return b, nil
	}
	if b, err, ok := getAny(x, name, room); ok {
		return b, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch name {
	case unix.SO_ERROR:
		return soError(&x.err), nil
	case unix.SO_ACCEPTCONN:
		return boolVal(x.state == vmListen), nil
	}
	return x.getNobody(x.s, name, room, x.sizes().held())
}

// TakeError implements Socket.
func (x *vsockSocket) TakeError() error {
	if err := x.base.TakeError(); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	err := x.err
	x.err = nil
	return err
}

// Ioctl implements vfs.FileOps: the family has none, also none of the interfaces' but those
// that every socket has.
func (x *vsockSocket) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	switch req {
	case unix.SIOCGIFCONF:
		return x.s.ioctl(c, sp, x.domain, req, arg)
	case siocGStamp, siocGStampNS:
		return 0, unix.ENOTTY
	}
	return 0, unix.EOPNOTSUPP
}

// vsockFile is /dev/vsock, which tells who the machine is.
type vsockFile struct {
	vfs.BaseOps
	s    *Stack
	node vfs.Inode
}

// OpenVsock opens /dev/vsock, whose node is i.
func (s *Stack) OpenVsock(i vfs.Inode) vfs.FileOps { return &vsockFile{s: s, node: i} }

// Attr implements vfs.FileOps.
func (f *vsockFile) Attr(c wait.Context) (vfs.Attr, error) { return f.node.Attr(c) }

// SetAttr implements vfs.FileOps.
func (f *vsockFile) SetAttr(c wait.Context, a vfs.SetAttr) error { return f.node.SetAttr(c, a) }

// Ioctl implements vfs.FileOps: the machine's context for its host, or else the loopback's.
func (f *vsockFile) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	if req != ioctlVMLocalCID {
		return 0, unix.ENOTTY
	}
	cid := uint32(vmCIDLocal)
	if d := f.s.vsock.dev.Load(); d != nil {
		cid = d.localCID()
	}
	return 0, putInt(c, sp, arg, int(int32(cid)))
}

// uapi/linux/vm_sockets_diag.h.
const (
	vsockDiagReqSize = 24
	vsockDiagMsgSize = 32
)

// vsockDiag lists AF_VSOCK sockets in the states of a mask. There is no asking for one.
func (s *Stack) vsockDiag(r *reply, req []byte, dump bool) unix.Errno {
	if len(req) < vsockDiagReqSize {
		return unix.EINVAL
	}
	if !dump {
		return unix.EOPNOTSUPP
	}
	le := binary.LittleEndian
	states := le.Uint32(req[4:])
	for _, so := range s.list.all() {
		x, ok := so.(*vsockSocket)
		if !ok {
			continue
		}
		x.mu.Lock()
		b := make([]byte, vsockDiagMsgSize)
		b[0], b[1], b[2], b[3] = unix.AF_VSOCK, byte(x.typ), byte(x.state), byte(x.shut)
		le.PutUint32(b[4:], x.local.cid)
		le.PutUint32(b[8:], x.local.port)
		le.PutUint32(b[12:], x.remote.cid)
		le.PutUint32(b[16:], x.remote.port)
		le.PutUint32(b[20:], uint32(x.ino))
		le.PutUint64(b[24:], x.ino)
		x.mu.Unlock()
		if states>>b[2]&1 != 0 {
			r.message(sockDiagByFamily, b)
		}
	}
	return 0
}
