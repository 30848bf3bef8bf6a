package syscalls

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
)

const nodeNote = "one memory node: a policy is kept and has no effect; of a static one's nodes only node 0"

// numaEntries are the calls about memory nodes, of which there is one.
var numaEntries = []Entry{
	{Nr: unix.SYS_GET_MEMPOLICY, Name: "get_mempolicy", Func: sysGetMempolicy, Support: Full},
	{Nr: unix.SYS_SET_MEMPOLICY, Name: "set_mempolicy", Func: sysSetMempolicy, Support: Partial, Note: nodeNote},
	{Nr: unix.SYS_MBIND, Name: "mbind", Func: sysMbind, Support: Partial, Note: nodeNote},
	{Nr: unix.SYS_SET_MEMPOLICY_HOME_NODE, Name: "set_mempolicy_home_node", Func: sysSetMempolicyHomeNode, Support: Full},
	{Nr: unix.SYS_MIGRATE_PAGES, Name: "migrate_pages", Func: sysMigratePages, Support: Full},
	{Nr: unix.SYS_MOVE_PAGES, Name: "move_pages", Func: sysMovePages, Support: Full},
}

// Memory policies of set_mempolicy(2) and flags of its family (uapi/linux/mempolicy.h).
const (
	mpolDefault   = 0
	mpolPreferred = 1
	mpolBind      = mm.PolicyBind
	mpolInterl    = 3
	mpolLocal     = mm.PolicyLocal
	mpolPrefMany  = mm.PolicyPreferredMany

	mpolStatic    = mm.PolicyStatic
	mpolRelative  = mm.PolicyRelative
	mpolBalancing = 1 << 13
	mpolFlags     = mpolStatic | mpolRelative | mpolBalancing

	mpolFNode = 1 << 0
	mpolFAddr = 1 << 1
	mpolFMems = 1 << 2

	mpolMFStrict  = 1 << 0
	mpolMFMove    = 1 << 1
	mpolMFMoveAll = 1 << 2
)

// nodeMask reads maxnode bits: whether node 0 is set, and whether any other is.
func nodeMask(t *task.Thread, addr, maxnode uint64) (zero, others bool, err error) {
	maxnode--
	if addr == 0 || maxnode == 0 {
		return false, false, nil
	}
	if maxnode > hal.PageSize*8 {
		return false, false, unix.EINVAL
	}
	b := make([]byte, (maxnode+63)/64*8)
	if err := t.CopyIn(b, hal.UserAddr(addr)); err != nil {
		return false, false, err
	}
	for i := range maxnode {
		if b[i/8]&(1<<(i%8)) != 0 {
			zero = zero || i == 0
			others = others || i > 0
		}
	}
	return zero, others, nil
}

// policyMode splits a mode and its flags: EINVAL.
func policyMode(mode uint64) (m, flags uint32, err error) {
	m, flags = uint32(mode)&^mpolFlags, uint32(mode)&mpolFlags
	switch {
	case m > mpolPrefMany,
		flags&(mpolStatic|mpolRelative) == mpolStatic|mpolRelative,
		flags&mpolBalancing != 0 && m != mpolBind:
		return 0, 0, unix.EINVAL
	}
	return m, flags, nil
}

// newPolicy is the policy of a mode, its flags and nodes: EINVAL for nodes that the mode
// does not take, none where it needs some, and none that there are.
func newPolicy(m, flags uint32, zero, others bool) (mm.Policy, error) {
	fixed := flags&(mpolStatic|mpolRelative) != 0
	switch {
	case m == mpolDefault:
		if zero || others {
			return 0, unix.EINVAL
		}
		return 0, nil
	case m == mpolPreferred && !zero && !others:
		if fixed {
			return 0, unix.EINVAL
		}
		m = mpolLocal
	case m == mpolLocal:
		if zero || others || fixed {
			return 0, unix.EINVAL
		}
	case !zero:
		return 0, unix.EINVAL
	}
	return mm.Policy(m | flags), nil
}

// sysGetMempolicy tells the thread's policy, or that of the mapping at an address (mode,
// nodes, bits of those, address, flags): EINVAL, EFAULT. See get_mempolicy(2).
func sysGetMempolicy(t *task.Thread, a *Args) (uintptr, error) {
	mode, mask, maxnode, addr, flags := a[0], a[1], a[2], a[3], a[4]
	if mask != 0 && maxnode < 1 || flags&^(mpolFNode|mpolFAddr|mpolFMems) != 0 {
		return 0, unix.EINVAL
	}
	p, shown, node0 := t.Policy(), uint32(0), false
	switch {
	case flags&mpolFMems != 0:
		if flags&(mpolFNode|mpolFAddr) != 0 {
			return 0, unix.EINVAL
		}
		node0 = true
	case flags&mpolFAddr != 0:
		var ok bool
		if p, ok = t.Space().PolicyAt(hal.UserAddr(addr)); !ok {
			return 0, unix.EFAULT
		}
	case addr != 0:
		return 0, unix.EINVAL
	}
	switch {
	case flags&mpolFMems != 0:
	case flags&mpolFNode != 0 && flags&mpolFAddr != 0:
		// The page's node: it is brought in.
		if err := t.Space().HandleFault(t, hal.UserAddr(addr), hal.ProtRead); err != nil {
			return 0, unix.EFAULT
		}
	case flags&mpolFNode != 0 && p&0xff != mpolInterl:
		return 0, unix.EINVAL
	case flags&mpolFNode == 0:
		shown = uint32(p)
	}
	if flags&mpolFMems == 0 {
		node0 = p&0xff != mpolDefault && p&0xff != mpolLocal
	}
	if mode != 0 {
		if err := putU32(t, hal.UserAddr(mode), shown); err != nil {
			return 0, err
		}
	}
	if mask == 0 {
		return 0, nil
	}
	b := make([]byte, (min(maxnode-1, hal.PageSize*8)+63)/64*8)
	if node0 && len(b) > 0 {
		b[0] = 1
	}
	return 0, t.CopyOut(hal.UserAddr(mask), b)
}

// sysSetMempolicy sets the thread's policy (mode, nodes, bits of those): EINVAL, EFAULT.
// See set_mempolicy(2).
func sysSetMempolicy(t *task.Thread, a *Args) (uintptr, error) {
	p, err := policyOf(t, a[0], a[1], a[2])
	if err == nil {
		t.SetPolicy(p)
	}
	return 0, err
}

func policyOf(t *task.Thread, mode, mask, maxnode uint64) (mm.Policy, error) {
	m, flags, err := policyMode(mode)
	if err != nil {
		return 0, err
	}
	zero, others, err := nodeMask(t, mask, maxnode)
	if err != nil {
		return 0, err
	}
	return newPolicy(m, flags, zero, others)
}

// sysMbind gives a range a policy (start, length, mode, nodes, bits of those, flags):
// EINVAL (mode), EFAULT, EINVAL (flags), EPERM (MPOL_MF_MOVE_ALL), EINVAL, EFAULT (holes).
// See mbind(2).
func sysMbind(t *task.Thread, a *Args) (uintptr, error) {
	m, mflags, err := policyMode(a[2])
	if err != nil {
		return 0, err
	}
	zero, others, err := nodeMask(t, a[3], a[4])
	if err != nil {
		return 0, err
	}
	n := (a[1] + hal.PageMask) &^ uint64(hal.PageMask)
	switch flags := uint32(a[5]); {
	case flags&^(mpolMFStrict|mpolMFMove|mpolMFMoveAll) != 0:
		return 0, unix.EINVAL
	case flags&mpolMFMoveAll != 0 && !t.Creds().Can(unix.CAP_SYS_NICE):
		return 0, unix.EPERM
	case a[0]&hal.PageMask != 0, a[0]+n < a[0]:
		return 0, unix.EINVAL
	case n == 0:
		return 0, nil
	}
	p, err := newPolicy(m, mflags, zero, others)
	if err != nil {
		return 0, err
	}
	return 0, t.Space().SetPolicy(hal.UserAddr(a[0]), n, p)
}

// sysSetMempolicyHomeNode names the node to begin with (start, length, node, flags):
// EINVAL, ENOENT (no policy of its own), EOPNOTSUPP (another kind). See
// set_mempolicy_home_node(2).
func sysSetMempolicyHomeNode(t *task.Thread, a *Args) (uintptr, error) {
	n := (a[1] + hal.PageMask) &^ uint64(hal.PageMask)
	switch {
	case a[0]&hal.PageMask != 0, a[3] != 0, a[2] != 0, a[0]+n < a[0]:
		return 0, unix.EINVAL
	case n == 0:
		return 0, nil
	}
	return 0, t.Space().HomeNode(hal.UserAddr(a[0]), n)
}

// sysMigratePages moves a process's pages between nodes (pid, bits, from, to); on one node
// they are where they should be. EINVAL, EFAULT, ESRCH, EPERM, EINVAL (no such node). See
// migrate_pages(2).
func sysMigratePages(t *task.Thread, a *Args) (uintptr, error) {
	if _, _, err := nodeMask(t, a[2], a[1]); err != nil {
		return 0, err
	}
	zero, others, err := nodeMask(t, a[3], a[1])
	if err != nil {
		return 0, err
	}
	o, err := findThread(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	if !mayAccess(t, o.Process()) {
		return 0, unix.EPERM
	}
	if others && !t.Creds().Can(unix.CAP_SYS_NICE) {
		return 0, unix.EPERM
	}
	if !zero {
		return 0, unix.EINVAL
	}
	return 0, nil
}

// sysMovePages tells where pages are, or moves them (pid, number, addresses, nodes, status,
// flags): EINVAL (flags), EPERM, ESRCH, EFAULT, ENODEV (no such node). A page's status is
// its node, or why there is none. See move_pages(2).
func sysMovePages(t *task.Thread, a *Args) (uintptr, error) {
	flags := uint32(a[5])
	if flags&^(mpolMFMove|mpolMFMoveAll) != 0 {
		return 0, unix.EINVAL
	}
	if flags&mpolMFMoveAll != 0 && !t.Creds().Can(unix.CAP_SYS_NICE) {
		return 0, unix.EPERM
	}
	o, err := findThread(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	s, drop, err := accessSpace(t, o.Process())
	if err != nil {
		return 0, err
	}
	if s == nil {
		return 0, unix.EINVAL
	}
	defer drop()
	for i := range min(a[1], math.MaxInt32) {
		at, err := getU64(t, hal.UserAddr(a[2]+i*8))
		if err != nil {
			return 0, err
		}
		if a[3] != 0 {
			node, err := getU32(t, hal.UserAddr(a[3]+i*4))
			if err != nil {
				return 0, err
			}
			if node != 0 {
				return 0, unix.ENODEV
			}
		}
		node, err := s.NodeOf(hal.UserAddr(at))
		var e unix.Errno
		if errors.As(err, &e) {
			node = -int(e)
		}
		if err := putU32(t, hal.UserAddr(a[4]+i*4), uint32(int32(node))); err != nil {
			return 0, err
		}
		if i&1023 == 1023 && t.SignalPending() {
			return 0, unix.EINTR
		}
	}
	return 0, nil
}
