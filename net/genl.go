package net

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// NETLINK_GENERIC: the controller, which tells of families by name, and TASKSTATS
// (taskstats.go). See the kernel's Documentation/userspace-api/netlink/intro.rst.

// genlFamily is one family: its number is the type of its messages.
type genlFamily struct {
	id      uint16
	name    string
	version uint32
	groups  []genlGroup
	ops     []genlOp
}

type genlGroup struct {
	id   uint32
	name string
}

// genlOp is a command. do serves a request, dump one with NLM_F_DUMP; nil: EOPNOTSUPP.
type genlOp struct {
	cmd      uint8
	admin    bool // GENL_ADMIN_PERM
	do, dump func(s *Stack, c *Caller, r *genlReply, a genlAttrs) unix.Errno
	// small is the least size of the payload of an attribute that has one.
	small map[uint16]int
	text  uint16 // the attribute that is a string with its end within genlNameBytes
	most  uint16 // the last attribute that is known
}

// genlAttrs are the attributes of a request by type.
type genlAttrs map[uint16][]byte

// genlReply answers one request.
type genlReply struct {
	*reply
	family *genlFamily
}

// Numbers of linux/genetlink.h.
const (
	genlHead      = 4
	genlCtrl      = 0x10
	genlFirst     = 0x13 // GENL_START_ALLOC
	ctrlNew       = 1
	ctrlGet       = 3
	ctrlID        = 1
	ctrlName      = 2
	ctrlVersion   = 3
	ctrlHdrSize   = 4
	ctrlMaxAttr   = 5
	ctrlOps       = 6
	ctrlGroups    = 7
	opAdmin       = 1
	opDo          = 2
	opDump        = 4
	opHasPolicy   = 8
	genlNameBytes = 16
)

// families are all there are; the controller is the first.
var families []*genlFamily

func init() {
	families = []*genlFamily{
		{id: genlCtrl, name: "nlctrl", version: 2, groups: []genlGroup{{0x10, "notify"}}, ops: []genlOp{
			{cmd: ctrlGet, do: getFamily, dump: dumpFamilies, small: map[uint16]int{ctrlID: 2}, text: ctrlName, most: ctrlName},
		}},
		&taskStats,
	}
}

// generic serves one request: ENOENT (no such family), EINVAL (too short), EOPNOTSUPP (no
// such command), EPERM, what is wrong with attributes, and the command's own errors.
func (s *Stack) generic(c *Caller, r *reply, typ uint16, b []byte, dump bool) unix.Errno {
	f := familyByID(typ)
	if f == nil {
		return unix.ENOENT
	}
	if len(b) < genlHead {
		return unix.EINVAL
	}
	for i := range f.ops {
		op := &f.ops[i]
		if op.cmd != b[0] {
			continue
		}
		if op.admin && !c.capable(capNetAdmin) {
			return unix.EPERM
		}
		run := op.do
		if dump {
			run = op.dump
		}
		if run == nil {
			break
		}
		a, err := op.parse(b[genlHead:])
		if err != 0 {
			return err
		}
		return run(s, c, &genlReply{r, f}, a)
	}
	return unix.EOPNOTSUPP
}

// parse takes the attributes apart, in the liberal way of old families: those that are not
// known are skipped, a tail that is none ignored. ERANGE for one that is too short, EINVAL for
// a string without its end.
func (op *genlOp) parse(b []byte) (genlAttrs, unix.Errno) {
	a := genlAttrs{}
	for len(b) >= 4 {
		n, typ := int(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)
		if n < 4 || n > len(b) {
			break
		}
		if typ != 0 && typ <= op.most {
			if n-4 < op.small[typ] {
				return nil, unix.ERANGE
			}
			if typ == op.text && bytes.IndexByte(b[4:min(n, 4+genlNameBytes)], 0) < 0 {
				return nil, unix.EINVAL
			}
			a[typ] = b[4:n]
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return a, 0
}

// put adds a message of the family with attributes.
func (r *genlReply) put(cmd uint8, attrs []byte) {
	r.message(r.family.id, append([]byte{cmd, uint8(r.family.version), 0, 0}, attrs...))
}

func familyByID(id uint16) *genlFamily {
	for _, f := range families {
		if f.id == id {
			return f
		}
	}
	return nil
}

// getFamily is CTRL_CMD_GETFAMILY of one family by number, or by name: EINVAL without
// either, ENOENT.
func getFamily(_ *Stack, _ *Caller, r *genlReply, a genlAttrs) unix.Errno {
	var f *genlFamily
	err := unix.EINVAL
	if id, ok := a[ctrlID]; ok {
		f, err = familyByID(binary.LittleEndian.Uint16(id)), unix.ENOENT
	}
	if name, ok := a[ctrlName]; ok {
		name, _, _ = bytes.Cut(name, []byte{0})
		f, err = nil, unix.ENOENT
		for _, x := range families {
			if x.name == string(name) {
				f = x
			}
		}
	}
	if f == nil {
		return err
	}
	r.put(ctrlNew, f.describe())
	return 0
}

// dumpFamilies is CTRL_CMD_GETFAMILY of all.
func dumpFamilies(_ *Stack, _ *Caller, r *genlReply, _ genlAttrs) unix.Errno {
	for _, f := range families {
		r.put(ctrlNew, f.describe())
	}
	return 0
}

// describe is ctrl_fill_info.
func (f *genlFamily) describe() []byte {
	b := attr(nil, ctrlName, append([]byte(f.name), 0))
	b = attr(b, ctrlID, binary.LittleEndian.AppendUint16(nil, f.id))
	b = attr(b, ctrlVersion, le32(f.version))
	b = attr(b, ctrlHdrSize, le32(0))
	b = attr(b, ctrlMaxAttr, le32(0))
	var list []byte
	for i := range f.ops {
		op := &f.ops[i]
		flags := uint32(opHasPolicy)
		for _, x := range []struct {
			has  bool
			flag uint32
		}{{op.admin, opAdmin}, {op.do != nil, opDo}, {op.dump != nil, opDump}} {
			if x.has {
				flags |= x.flag
			}
		}
		list = attr(list, uint16(i+1), attr(attr(nil, 1, le32(uint32(op.cmd))), 2, le32(flags)))
	}
	b = attr(b, ctrlOps, list)
	if len(f.groups) > 0 {
		list = nil
		for i, g := range f.groups {
			list = attr(list, uint16(i+1), attr(attr(nil, 2, le32(g.id)), 1, append([]byte(g.name), 0)))
		}
		b = attr(b, ctrlGroups, list)
	}
	return b
}
