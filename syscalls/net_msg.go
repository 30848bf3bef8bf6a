package syscalls

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/net"
)

const (
	msghdrSize  = 56 // struct user_msghdr
	cmsghdrSize = 16
	iovecSize   = 16
	maxControl  = 20480 // net.core.optmem_max: ENOBUFS beyond
	maxRights   = 253   // SCM_MAX_FD
)

// msghdr is struct user_msghdr.
type msghdr struct {
	name       uint64
	nameLen    int32
	iov        uint64
	iovLen     uint64
	control    uint64
	controlLen uint64
}

// header reads a message header (copy_msghdr_from_user).
func (n *netCall) header(t *task.Thread, at uint64) (h msghdr, err error) {
	if err := t.CopyIn(n.hdr[:], hal.UserAddr(at)); err != nil {
		return h, err
	}
	le := binary.LittleEndian
	h = msghdr{name: le.Uint64(n.hdr[0:]), nameLen: int32(le.Uint32(n.hdr[8:])), iov: le.Uint64(n.hdr[16:]),
		iovLen: le.Uint64(n.hdr[24:]), control: le.Uint64(n.hdr[32:]), controlLen: le.Uint64(n.hdr[40:])}
	if h.name == 0 {
		h.nameLen = 0
	}
	if h.nameLen < 0 {
		return h, unix.EINVAL
	}
	h.nameLen = min(h.nameLen, net.MaxSockaddr)
	if h.iovLen > maxIOV {
		return h, unix.EMSGSIZE
	}
	if h.control == 0 {
		h.controlLen = 0
	}
	return h, nil
}

// ranges reads the iovec and sets n.seq (import_iovec): EINVAL for a negative length,
// EFAULT for a range outside the program's half.
func (n *netCall) ranges(t *task.Thread, h *msghdr) error {
	v := n.iov[:]
	if int(h.iovLen) > len(v) {
		v = make([]mm.IOVec, h.iovLen)
	}
	v = v[:h.iovLen]
	var b [iovecSize * len(netCall{}.iov)]byte
	total := uint64(0)
	for i := 0; i < len(v); i += len(n.iov) {
		k := min(len(n.iov), len(v)-i)
		if err := t.CopyIn(b[:k*iovecSize], hal.UserAddr(h.iov+uint64(i)*iovecSize)); err != nil {
			return err
		}
		for j := range k {
			base, size := binary.LittleEndian.Uint64(b[j*iovecSize:]), binary.LittleEndian.Uint64(b[j*iovecSize+8:])
			if int64(size) < 0 {
				return unix.EINVAL
			}
			if _, err := userRange(base, size); err != nil {
				return err
			}
			size = min(size, netMaxRW-total)
			total += size
			v[i+j] = mm.IOVec{Base: hal.UserAddr(base), Len: size}
		}
	}
	n.seq = mm.UserIOV(t.Space(), t, v)
	return nil
}

// controlIn parses control data; descriptors become references (scm_send): EINVAL,
// ENOBUFS, EFAULT, EBADF, EPERM for credentials of somebody else.
func controlIn(t *task.Thread, nc *netCall, h *msghdr) (err error) {
	if h.controlLen > maxControl {
		return unix.ENOBUFS
	}
	b := make([]byte, h.controlLen)
	if err := t.CopyIn(b, hal.UserAddr(h.control)); err != nil {
		return err
	}
	domain := nc.sock.Domain()
	if domain == unix.AF_VSOCK {
		return nil // which looks at none
	}
	if domain == unix.AF_UNIX && nc.sock.Type() == unix.SOCK_SEQPACKET {
		err := nc.sock.TakeError()
		if err == nil {
			_, err = nc.sock.PeerName()
		}
		if err != nil {
			return err // before the messages are looked at (unix_seqpacket_sendmsg)
		}
	}
	scm := domain == unix.AF_UNIX || domain == unix.AF_NETLINK // elsewhere they mean nothing (__sock_cmsg_send)
	c := &nc.send.Control
	defer func() {
		if err != nil {
			for _, f := range c.Files {
				f.DecRef()
			}
			c.Files = nil
		}
	}()
	le := binary.LittleEndian
	for len(b) >= cmsghdrSize {
		n := le.Uint64(b)
		if n < cmsghdrSize || n > uint64(len(b)) {
			c.Bad = unix.EINVAL
			return nil
		}
		level, typ, data := int32(le.Uint32(b[8:])), int32(le.Uint32(b[12:])), b[cmsghdrSize:n]
		switch {
		case level == unix.SOL_SOCKET && (typ == unix.SCM_RIGHTS || typ == unix.SCM_CREDENTIALS) && !scm:
		case level == unix.SOL_SOCKET && typ == unix.SCM_RIGHTS && domain == unix.AF_NETLINK:
			c.Bad = unix.EINVAL // descriptors go by AF_UNIX alone (__scm_send)
			return nil
		case level == unix.SOL_SOCKET && typ == unix.SCM_RIGHTS:
			if c.Files, err = rightsIn(t, data, c.Files); err != nil {
				return err
			}
			c.MaxFiles = t.Process().Limit(task.RlimitNofile)
		case level == unix.SOL_SOCKET && typ == unix.SCM_CREDENTIALS:
			if len(data) != 12 {
				return unix.EINVAL
			}
			u := net.Ucred{PID: int32(le.Uint32(data)), UID: le.Uint32(data[4:]), GID: le.Uint32(data[8:])}
			if u.UID == ^uint32(0) || u.GID == ^uint32(0) {
				return unix.EINVAL // nobody's
			}
			if !mayClaim(t, u) {
				return unix.EPERM
			}
			if u.PID != t.Process().PID() && t.Kernel().Process(u.PID) == nil && t.Kernel().Thread(u.PID) == nil {
				return unix.ESRCH
			}
			c.Creds, c.HasCreds = u, true
		case level == unix.SOL_SOCKET && scm: // before what stands behind it
			c.Bad = unix.EINVAL
			return nil
		default:
			c.Msgs = append(c.Msgs, net.Cmsg{Level: level, Type: typ, Data: data})
		}
		b = b[min(int(n+7)&^7, len(b)):]
	}
	return nil
}

func rightsIn(t *task.Thread, data []byte, files []*vfs.File) ([]*vfs.File, error) {
	if len(data)/4+len(files) > maxRights {
		return files, unix.EINVAL
	}
	for ; len(data) >= 4; data = data[4:] {
		f := t.FDs().Get(int32(binary.LittleEndian.Uint32(data)))
		if f == nil || f.Flags()&unix.O_PATH != 0 && f.Ops == nil {
			return files, unix.EBADF
		}
		files = append(files, f)
	}
	return files, nil
}

// mayClaim is scm_check_creds: one's own ids, or the capability for others.
func mayClaim(t *task.Thread, u net.Ucred) bool {
	const sysAdmin, setGID, setUID = 21, 6, 7
	c := t.Creds()
	can := func(bit uint) bool { return c.Effective>>bit&1 != 0 }
	return (u.PID == t.Process().PID() || can(sysAdmin)) &&
		(u.UID == c.UID || u.UID == c.EUID || u.UID == c.SUID || can(setUID)) &&
		(u.GID == c.GID || u.GID == c.EGID || u.GID == c.SGID || can(setGID))
}

// controlOut writes the control messages a receive got, installs the descriptors and
// says how many bytes it used. What does not fit is cut with MSG_CTRUNC; what cannot be
// written is left out (put_cmsg, scm_detach_fds).
func controlOut(t *task.Thread, h *msghdr, m *net.RecvMsg, cloexec bool) int {
	w := cmsgWriter{t: t, at: h.control, room: int(min(h.controlLen, 1<<20))}
	c := &m.Control
	for _, x := range c.Msgs {
		w.put(x.Level, x.Type, x.Data)
	}
	if c.HasCreds {
		b := make([]byte, 12)
		binary.LittleEndian.PutUint32(b, uint32(c.Creds.PID))
		binary.LittleEndian.PutUint32(b[4:], c.Creds.UID)
		binary.LittleEndian.PutUint32(b[8:], c.Creds.GID)
		w.put(unix.SOL_SOCKET, unix.SCM_CREDENTIALS, b)
	}
	if len(c.Files) > 0 {
		w.rights(c.Files, cloexec)
		c.Files = nil
	}
	if w.cut {
		m.OutFlags |= unix.MSG_CTRUNC
	}
	return w.used
}

type cmsgWriter struct {
	t    *task.Thread
	at   uint64
	room int
	used int
	cut  bool
}

func (w *cmsgWriter) put(level, typ int32, data []byte) {
	if w.room < cmsghdrSize {
		w.cut = true
		return
	}
	n := cmsghdrSize + len(data)
	if n > w.room {
		w.cut = true
		n = w.room
	}
	b := make([]byte, cmsghdrSize, n)
	binary.LittleEndian.PutUint64(b, uint64(n))
	binary.LittleEndian.PutUint32(b[8:], uint32(level))
	binary.LittleEndian.PutUint32(b[12:], uint32(typ))
	b = append(b, data[:n-cmsghdrSize]...)
	if w.t.CopyOut(hal.UserAddr(w.at), b) != nil {
		return
	}
	step := min((n+7)&^7, w.room)
	w.at += uint64(step)
	w.room -= step
	w.used += step
}

// rights installs as many descriptors as there is room and table for, none where their
// numbers cannot be written.
func (w *cmsgWriter) rights(files []*vfs.File, cloexec bool) {
	fits := min(max(w.room-cmsghdrSize, 0)/4, len(files))
	if w.t.CopyOut(hal.UserAddr(w.at+cmsghdrSize), make([]byte, 4*fits)) != nil {
		fits = 0
	}
	data := make([]byte, 0, 4*len(files))
	for i, f := range files {
		if i < fits {
			if fd, err := w.t.FDs().Install(f, 0, cloexec); err == nil {
				data = binary.LittleEndian.AppendUint32(data, uint32(fd))
				continue
			}
			fits = i
		}
		w.cut = true
		f.DecRef()
	}
	if len(data) > 0 {
		w.put(unix.SOL_SOCKET, unix.SCM_RIGHTS, data)
	}
}
