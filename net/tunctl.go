package net

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// <linux/if_tun.h>.
const (
	tunType = unix.IFF_TUN | unix.IFF_TAP
	// tunFeatures are the flags that TUNSETIFF takes over and TUNGETFEATURES names.
	tunFeatures  = unix.IFF_NO_PI | unix.IFF_ONE_QUEUE | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE | unix.IFF_NAPI | unix.IFF_NAPI_FRAGS
	tunSetDebug  = 0x400454c9
	tunSetVnetLE = 0x400454dc
	tunGetVnetLE = 0x800454dd
	vnetHdrSize  = 10
	// maxTunDevices and maxTunQueues bound what a program can make: MAX_TAP_QUEUES is 256.
	maxTunDevices = 256
	maxTunQueues  = 256
)

// Ioctl implements vfs.FileOps: EFAULT, EBADFD without an interface, EINVAL for what is not known.
func (f *tunFile) Ioctl(c wait.Context, _ *vfs.File, sp *mm.Space, req uint32, arg uint64) (uintptr, error) {
	switch req {
	case unix.TUNGETFEATURES:
		return 0, putInt(c, sp, arg, tunType|tunFeatures)
	case unix.TUNSETIFF, unix.TUNSETQUEUE, unix.TUNGETIFF, unix.SIOCGIFHWADDR, unix.SIOCSIFHWADDR:
		var b [ifreqSize]byte
		if req != unix.TUNGETIFF {
			if _, err := sp.CopyIn(c, b[:], hal.UserAddr(arg)); err != nil {
				return 0, err
			}
		}
		out, err := f.ifreq(c, req, &b)
		if err == nil && out {
			_, err = sp.CopyOut(c, hal.UserAddr(arg), b[:])
		}
		return 0, err
	case unix.TUNSETIFINDEX:
		if f.device() != nil {
			return 0, unix.EPERM
		}
		v, err := getInt(c, sp, arg)
		if err == nil && v < 0 {
			err = unix.EINVAL
		}
		if err == nil {
			f.mu.Lock()
			f.index = v
			f.mu.Unlock()
		}
		return 0, err
	}
	f.s.tunMu.Lock()
	defer f.s.tunMu.Unlock()
	d := f.device()
	if d == nil {
		return 0, unix.EBADFD
	}
	switch req {
	case unix.TUNGETSNDBUF:
		return 0, putInt(c, sp, arg, int(f.sndbuf))
	case unix.TUNGETVNETHDRSZ:
		_, n := d.mode()
		return 0, putInt(c, sp, arg, n)
	case tunGetVnetLE:
		n := 0
		if d.little {
			n = 1
		}
		return 0, putInt(c, sp, arg, n)
	case unix.TUNSETSNDBUF, unix.TUNSETVNETHDRSZ, tunSetVnetLE:
		v, err := getInt(c, sp, arg)
		if err != nil {
			return 0, err
		}
		return 0, f.setNumber(d, req, v)
	}
	return 0, d.set(req, arg)
}

func getInt(c wait.Context, sp *mm.Space, arg uint64) (int32, error) {
	var b [4]byte
	if _, err := sp.CopyIn(c, b[:], hal.UserAddr(arg)); err != nil {
		return 0, err
	}
	return int32(binary.LittleEndian.Uint32(b[:])), nil
}

func (f *tunFile) setNumber(d *tunDevice, req uint32, v int32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case req == tunSetVnetLE:
		d.little = v != 0
	case req == unix.TUNSETSNDBUF && v > 0:
		f.sndbuf = v
	case req == unix.TUNSETVNETHDRSZ && v >= vnetHdrSize && v <= 256:
		d.vnet = int(v)
	default:
		return unix.EINVAL
	}
	return nil
}

// set serves the requests whose argument is a number.
func (d *tunDevice) set(req uint32, arg uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch req {
	case unix.TUNSETNOCSUM, tunSetDebug: // nothing to do, there too
	case unix.TUNSETPERSIST:
		d.flags &^= unix.IFF_PERSIST
		if arg != 0 {
			d.flags |= unix.IFF_PERSIST
		}
	case unix.TUNSETOWNER:
		if uint32(arg) == ^uint32(0) {
			return unix.EINVAL
		}
		d.owner = int64(uint32(arg))
	case unix.TUNSETGROUP:
		if uint32(arg) == ^uint32(0) {
			return unix.EINVAL
		}
		d.group = int64(uint32(arg))
	case unix.TUNSETLINK:
		if !d.i.down.Load() {
			return unix.EBUSY
		}
		d.hwType = uint16(arg)
	case unix.TUNSETOFFLOAD:
		// What is read is whole and summed whatever the program could take.
		if arg&unix.TUN_F_CSUM != 0 {
			if arg&(unix.TUN_F_TSO4|unix.TUN_F_TSO6) != 0 {
				arg &^= unix.TUN_F_TSO_ECN
			}
			arg &^= unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_UFO
		}
		if arg != 0 {
			return unix.EINVAL
		}
	default:
		return unix.EINVAL
	}
	return nil
}

// ifreq serves the requests with a struct ifreq; out: it goes back to the program.
func (f *tunFile) ifreq(c wait.Context, req uint32, b *[ifreqSize]byte) (out bool, err error) {
	f.s.tunMu.Lock()
	defer f.s.tunMu.Unlock()
	d, v := f.device(), b[unix.IFNAMSIZ:]
	flags := binary.LittleEndian.Uint16(v)
	if d == nil && req != unix.TUNSETIFF && req != unix.TUNSETQUEUE {
		return false, unix.EBADFD
	}
	switch req {
	case unix.TUNSETQUEUE:
		return false, f.setQueue(flags)
	case unix.TUNSETIFF:
		if d != nil {
			return false, unix.EEXIST
		}
		b[unix.IFNAMSIZ-1] = 0
		if d, err = f.s.tunFor(c, f, cstring(b[:unix.IFNAMSIZ]), flags); err != nil {
			return false, err
		}
		clear(b[:unix.IFNAMSIZ])
		copy(b[:], d.i.name)
	case unix.TUNGETIFF:
		clear(b[:unix.IFNAMSIZ])
		copy(b[:], d.i.name)
		mode, _ := d.mode()
		binary.LittleEndian.PutUint16(v, mode)
	case unix.SIOCGIFHWADDR:
		st := f.s.linkState(d.i)
		clear(v[:16])
		binary.LittleEndian.PutUint16(v, st.hwType)
		copy(v[2:], st.mac)
	case unix.SIOCSIFHWADDR:
		if e := f.s.setIfreq(d.i, req, d.i.name, v); e != 0 {
			return false, e
		}
		return false, nil
	}
	return true, nil
}

// setQueue is TUNSETQUEUE: a queue of an interface with several rests, or takes part again.
func (f *tunFile) setQueue(flags uint16) error {
	f.mu.Lock()
	d, off := f.dev, f.off
	f.mu.Unlock()
	switch {
	case flags&unix.IFF_ATTACH_QUEUE != 0:
		if d == nil || !off {
			return unix.EINVAL
		}
		return d.attach(f)
	case flags&unix.IFF_DETACH_QUEUE != 0:
		if d == nil {
			return unix.EINVAL
		}
		if mode, _ := d.mode(); mode&unix.IFF_MULTI_QUEUE == 0 || off {
			return unix.EINVAL
		}
		d.leave(f)
		f.mu.Lock()
		f.off = true
		f.mu.Unlock()
		f.drop()
		return nil
	}
	return unix.EINVAL
}

// tunFor finds or makes the interface of TUNSETIFF and attaches the file: EBUSY, EINVAL, EPERM.
// tunMu is held.
func (s *Stack) tunFor(c wait.Context, f *tunFile, name string, flags uint16) (*tunDevice, error) {
	if flags&unix.IFF_NAPI_FRAGS != 0 {
		if !mayAdmin(c) {
			return nil, unix.EPERM
		}
		if flags&unix.IFF_NAPI == 0 || flags&tunType != unix.IFF_TAP {
			return nil, unix.EINVAL
		}
	}
	if i := s.byName(name); i != nil {
		if flags&unix.IFF_TUN_EXCL != 0 {
			return nil, unix.EBUSY
		}
		d := i.wire
		if d == nil || flags&unix.IFF_TUN != 0 && d.tun == nil || flags&unix.IFF_TUN == 0 && (flags&unix.IFF_TAP == 0 || d.tap == nil) {
			return nil, unix.EINVAL
		}
		mode, _ := d.mode()
		if (mode^flags)&unix.IFF_MULTI_QUEUE != 0 {
			return nil, unix.EINVAL
		}
		if !d.owned(c) {
			return nil, unix.EPERM
		}
		if err := d.attach(f); err != nil {
			return nil, err
		}
		s.linkChanged(i)
		return d, nil
	}
	if !mayAdmin(c) {
		return nil, unix.EPERM
	}
	pattern := name
	switch {
	case flags&tunType == 0:
		return nil, unix.EINVAL
	case name != "":
	case flags&unix.IFF_TUN != 0:
		pattern = "tun%d"
	default:
		pattern = "tap%d"
	}
	name, err := s.linkName(pattern)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	index := f.index
	f.mu.Unlock()
	d, err := s.addTun(name, flags, index)
	if err != nil {
		return nil, err
	}
	if err := d.attach(f); err != nil {
		return nil, err
	}
	s.linkChanged(d.i)
	return d, nil
}

// linkName is a free name for a pattern with at most one %d: EINVAL, ENFILE.
func (s *Stack) linkName(pattern string) (string, error) {
	if pattern == "" || len(pattern) >= unix.IFNAMSIZ || pattern == "." || pattern == ".." || strings.ContainsAny(pattern, "/: \t\n\v\f\r") {
		return "", unix.EINVAL
	}
	before, after, found := strings.Cut(pattern, "%")
	if !found {
		return pattern, nil
	}
	after, ok := strings.CutPrefix(after, "d")
	if !ok || strings.Contains(after, "%") {
		return "", unix.EINVAL
	}
	for n := range 2 * maxTunDevices {
		name := fmt.Sprintf("%s%d%s", before, n, after)
		if len(name) < unix.IFNAMSIZ && s.byName(name) == nil {
			return name, nil
		}
	}
	return "", unix.ENFILE
}

// addTun makes an interface, which is down: EBUSY (index), ENOMEM.
func (s *Stack) addTun(name string, flags uint16, index int32) (*tunDevice, error) {
	s.mu.Lock()
	n, id := 0, tcpip.NICID(index)
	for _, i := range s.ifaces {
		if i.wire != nil {
			n++
		}
		if i.id == id {
			s.mu.Unlock()
			return nil, unix.EBUSY
		}
	}
	if id == 0 {
		for id = s.nextNIC; slices.ContainsFunc(s.ifaces, func(i *iface) bool { return i.id == id }); id++ {
		}
		s.nextNIC = id + 1
	}
	s.mu.Unlock()
	if n >= maxTunDevices {
		return nil, unix.ENOMEM
	}
	kind := uint16(unix.IFF_TUN)
	if flags&unix.IFF_TUN == 0 {
		kind = unix.IFF_TAP
	}
	d := &tunDevice{s: s, flags: kind | flags&tunFeatures, owner: -1, group: -1, vnet: vnetHdrSize, seed: maphash.MakeSeed()}
	i := &iface{id: id, name: name, wire: d}
	d.i = i
	i.down.Store(true)
	o := stack.NICOptions{Name: name, Disabled: true}
	var link stack.LinkEndpoint
	if kind == unix.IFF_TUN {
		d.hwType = unix.ARPHRD_NONE
		d.tun = &tunLink{loopback: loopback{s: s}, d: d}
		d.tun.mtu.Store(1500)
		i.queue.Store(tunQueueLen + 1)
		i.soft.Store(unix.IFF_NOARP | unix.IFF_MULTICAST)
		link = d.tun
	} else {
		d.hwType = unix.ARPHRD_ETHER
		d.tap = &tapCard{d: d}
		s.cfg.Machine.Entropy(d.tap.mac[:])
		d.tap.mac[0] = d.tap.mac[0]&^1 | 2
		i.eth = newEthernet(s, id, d.tap)
		i.eth.mtu.Store(1500)
		i.soft.Store(unix.IFF_MULTICAST)
		i.eth.early.end(i.eth.receive)
		link, o.QDisc = i.eth, direct{i.eth}
	}
	if err := s.ns.CreateNICWithOptions(id, link, o); err != nil {
		return nil, unix.ENOMEM
	}
	s.mu.Lock()
	s.ifaces = append(s.ifaces, i)
	s.mu.Unlock()
	return d, nil
}

// linkState is what the interface looks like to ip and ifconfig.
func (d *tunDevice) linkState() linkState {
	d.mu.Lock()
	st := linkState{hwType: d.hwType}
	attached := len(d.files) > 0
	d.mu.Unlock()
	if d.tap != nil {
		st.flags, st.mtu, st.mac = unix.IFF_BROADCAST, d.i.eth.MTU(), []byte(d.i.eth.mac)
	} else {
		st.flags, st.mtu = unix.IFF_POINTOPOINT, d.tun.MTU()
	}
	st.flags |= d.i.soft.Load()
	if !d.i.down.Load() {
		st.flags |= unix.IFF_UP
		if attached {
			st.flags |= unix.IFF_RUNNING | unix.IFF_LOWER_UP
		}
	}
	return st
}

// info are the interface's attributes in /sys/class/net.
func (d *tunDevice) info() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return map[string]string{"tun_flags": fmt.Sprintf("0x%x", d.flags), "owner": fmt.Sprint(d.owner), "group": fmt.Sprint(d.group)}
}

// writable wakes those who wait for the interface to be up.
func (d *tunDevice) writable() {
	d.mu.Lock()
	files := slices.Clone(d.files)
	d.mu.Unlock()
	for _, f := range files {
		f.q.Notify(waiter.WritableEvents)
	}
}

// owned says whether a thread may attach to an interface that is there.
func (d *tunDevice) owned(c wait.Context) bool {
	d.mu.Lock()
	owner, group := d.owner, d.group
	d.mu.Unlock()
	cr := callerOf(c).Creds
	if cr == nil {
		return false
	}
	in := int64(cr.EGID) == group || slices.Contains(cr.Groups, uint32(group))
	return mayAdmin(c) || (owner < 0 || int64(cr.EUID) == owner) && (group < 0 || in)
}

// attach makes a file one of the interface's queues: EBUSY, E2BIG.
func (d *tunDevice) attach(f *tunFile) error {
	d.mu.Lock()
	if len(d.files) > 0 && d.flags&unix.IFF_MULTI_QUEUE == 0 {
		d.mu.Unlock()
		return unix.EBUSY
	}
	if len(d.files) >= maxTunQueues {
		d.mu.Unlock()
		return unix.E2BIG
	}
	d.files = append(d.files, f)
	d.mu.Unlock()
	f.mu.Lock()
	f.dev, f.off = d, false
	f.mu.Unlock()
	return nil
}

// leave takes a file's queue out.
func (d *tunDevice) leave(f *tunFile) {
	d.mu.Lock()
	d.files = slices.DeleteFunc(d.files, func(o *tunFile) bool { return o == f })
	d.mu.Unlock()
}

// detach ends what a file has with the interface, which goes with its last unless it
// persists. tunMu is held.
func (d *tunDevice) detach(f *tunFile) {
	d.leave(f)
	f.mu.Lock()
	f.dev = nil
	f.mu.Unlock()
	d.mu.Lock()
	gone := len(d.files) == 0 && d.flags&unix.IFF_PERSIST == 0
	d.mu.Unlock()
	if gone {
		d.remove()
	} else {
		d.s.linkChanged(d.i)
	}
}

// remove takes the interface away, with its addresses and routes. tunMu is held.
func (d *tunDevice) remove() {
	s := d.s
	d.mu.Lock()
	files := d.files
	d.files = nil
	d.mu.Unlock()
	for _, f := range files {
		f.mu.Lock()
		f.dev = nil
		f.mu.Unlock()
		f.drop()
		f.q.Notify(waiter.EventErr | waiter.ReadableEvents | waiter.WritableEvents)
	}
	s.setUp(d.i, false)
	s.mu.Lock()
	s.ifaces = slices.DeleteFunc(s.ifaces, func(i *iface) bool { return i == d.i })
	s.mu.Unlock()
	s.removeRoutes(func(r tcpip.Route) bool { return r.NIC == d.i.id })
	m := s.linkMessage(d.i)
	s.ns.RemoveNIC(d.i.id)
	s.pathsChanged()
	s.notify(unix.RTNLGRP_LINK, unix.RTM_DELLINK, m)
}

// dropped counts a packet of the program's that was none.
func (i *iface) dropped() {
	if i.eth != nil {
		i.eth.rxDropped.Add(1)
	} else if i.wire != nil {
		i.wire.tun.dropped.Add(1)
	}
}
