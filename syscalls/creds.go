package syscalls

import (
	"runtime"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

var credEntries = []Entry{
	{Nr: unix.SYS_GETUID, Name: "getuid", Func: sysGetuid, Support: Full},
	{Nr: unix.SYS_GETEUID, Name: "geteuid", Func: sysGeteuid, Support: Full},
	{Nr: unix.SYS_GETGID, Name: "getgid", Func: sysGetgid, Support: Full},
	{Nr: unix.SYS_GETEGID, Name: "getegid", Func: sysGetegid, Support: Full},
	{Nr: unix.SYS_GETRESUID, Name: "getresuid", Func: sysGetresuid, Support: Full},
	{Nr: unix.SYS_GETRESGID, Name: "getresgid", Func: sysGetresgid, Support: Full},
	{Nr: unix.SYS_SETUID, Name: "setuid", Func: sysSetuid, Support: Full},
	{Nr: unix.SYS_SETGID, Name: "setgid", Func: sysSetgid, Support: Full},
	{Nr: unix.SYS_SETREUID, Name: "setreuid", Func: sysSetreuid, Support: Full},
	{Nr: unix.SYS_SETREGID, Name: "setregid", Func: sysSetregid, Support: Full},
	{Nr: unix.SYS_SETRESUID, Name: "setresuid", Func: sysSetresuid, Support: Full},
	{Nr: unix.SYS_SETRESGID, Name: "setresgid", Func: sysSetresgid, Support: Full},
	{Nr: unix.SYS_SETFSUID, Name: "setfsuid", Func: sysSetfsuid, Support: Full},
	{Nr: unix.SYS_SETFSGID, Name: "setfsgid", Func: sysSetfsgid, Support: Full},
	{Nr: unix.SYS_GETGROUPS, Name: "getgroups", Func: sysGetgroups, Support: Full},
	{Nr: unix.SYS_SETGROUPS, Name: "setgroups", Func: sysSetgroups, Support: Full},
	{Nr: unix.SYS_CAPGET, Name: "capget", Func: sysCapget, Support: Full},
	{Nr: unix.SYS_CAPSET, Name: "capset", Func: sysCapset, Support: Full},
}

// keep is the id that means "leave it".
const keep = ^uint32(0)

// sysGetuid, sysGeteuid, sysGetgid and sysGetegid never fail. See getuid(2), getgid(2).
func sysGetuid(t *task.Thread, _ *Args) (uintptr, error)  { return uintptr(t.Creds().UID), nil }
func sysGeteuid(t *task.Thread, _ *Args) (uintptr, error) { return uintptr(t.Creds().EUID), nil }
func sysGetgid(t *task.Thread, _ *Args) (uintptr, error)  { return uintptr(t.Creds().GID), nil }
func sysGetegid(t *task.Thread, _ *Args) (uintptr, error) { return uintptr(t.Creds().EGID), nil }

func putIDs(t *task.Thread, a *Args, ids ...uint32) (uintptr, error) {
	for i, id := range ids {
		if err := putU32(t, hal.UserAddr(a[i]), id); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// sysGetresuid and sysGetresgid give real, effective and saved id: EFAULT. See getresuid(2).
func sysGetresuid(t *task.Thread, a *Args) (uintptr, error) {
	c := t.Creds()
	return putIDs(t, a, c.UID, c.EUID, c.SUID)
}

func sysGetresgid(t *task.Thread, a *Args) (uintptr, error) {
	c := t.Creds()
	return putIDs(t, a, c.GID, c.EGID, c.SGID)
}

// another says that c are a change of an effective or file-system id, or more capabilities:
// then the process cannot be dumped, and gets no signal of its parent's death (Linux'
// commit_creds).
func another(old, c *vfs.Creds) bool {
	return c.EUID != old.EUID || c.EGID != old.EGID || c.FSUID != old.FSUID || c.FSGID != old.FSGID ||
		c.Permitted&^old.Permitted != 0
}

// commit makes c the thread's credentials.
func commit(t *task.Thread, c *vfs.Creds) {
	old := t.Creds()
	if another(old, c) {
		t.Process().SetDumpable(0)
		t.SetPDeathSig(0)
	}
	t.SetCreds(c)
	t.TellCreds(old, c)
}

// commitUID applies the effect of changed user ids on capabilities first
// (capabilities(7), "Effect of user ID changes on capabilities").
func commitUID(t *task.Thread, c *vfs.Creds) {
	old := t.Creds()
	if c.UID != old.UID {
		t.CheckNproc(c.UID)
	}
	if c.Securebits&secNoSetuidFixup == 0 {
		wasRoot := old.UID == 0 || old.EUID == 0 || old.SUID == 0
		isRoot := c.UID == 0 || c.EUID == 0 || c.SUID == 0
		if wasRoot && !isRoot {
			if !c.KeepCaps {
				c.Permitted, c.Effective = 0, 0
			}
			c.Ambient = 0
		}
		if old.EUID == 0 && c.EUID != 0 {
			c.Effective = 0
		}
		if old.EUID != 0 && c.EUID == 0 {
			c.Effective = c.Permitted
		}
	}
	commit(t, c)
}

// sysSetuid sets the effective user id, and with CAP_SETUID all: EINVAL (-1), EPERM. See
// setuid(2).
func sysSetuid(t *task.Thread, a *Args) (uintptr, error) {
	id, c := uint32(a[0]), *t.Creds()
	switch {
	case id == keep:
		return 0, unix.EINVAL
	case c.Can(unix.CAP_SETUID):
		c.UID, c.SUID = id, id
	case id != c.UID && id != c.SUID:
		return 0, unix.EPERM
	}
	c.EUID, c.FSUID = id, id
	commitUID(t, &c)
	return 0, nil
}

// sysSetgid is setuid for groups. See setgid(2).
func sysSetgid(t *task.Thread, a *Args) (uintptr, error) {
	id, c := uint32(a[0]), *t.Creds()
	switch {
	case id == keep:
		return 0, unix.EINVAL
	case c.Can(unix.CAP_SETGID):
		c.GID, c.SGID = id, id
	case id != c.GID && id != c.SGID:
		return 0, unix.EPERM
	}
	c.EGID, c.FSGID = id, id
	commit(t, &c)
	return 0, nil
}

// reID is setreuid's and setregid's rule: false for EPERM.
func reID(r, e uint32, real, eff, saved *uint32, can bool) bool {
	oldReal, oldEff := *real, *eff
	if r != keep {
		if r != oldReal && r != oldEff && !can {
			return false
		}
		*real = r
	}
	if e != keep {
		if e != oldReal && e != oldEff && e != *saved && !can {
			return false
		}
		*eff = e
	}
	if r != keep || e != keep && e != oldReal {
		*saved = *eff
	}
	return true
}

// resID is setresuid's and setresgid's.
func resID(to [3]uint32, ids [3]*uint32, can bool) bool {
	old := [3]uint32{*ids[0], *ids[1], *ids[2]}
	for i, id := range to {
		if id == keep {
			continue
		}
		if !can && id != old[0] && id != old[1] && id != old[2] {
			return false
		}
		*ids[i] = id
	}
	return true
}

// sysSetreuid, sysSetregid, sysSetresuid and sysSetresgid set several ids, -1 leaves one
// alone: EPERM. See setreuid(2), setresuid(2).
func sysSetreuid(t *task.Thread, a *Args) (uintptr, error) {
	c := *t.Creds()
	if !reID(uint32(a[0]), uint32(a[1]), &c.UID, &c.EUID, &c.SUID, c.Can(unix.CAP_SETUID)) {
		return 0, unix.EPERM
	}
	c.FSUID = c.EUID
	commitUID(t, &c)
	return 0, nil
}

func sysSetregid(t *task.Thread, a *Args) (uintptr, error) {
	c := *t.Creds()
	if !reID(uint32(a[0]), uint32(a[1]), &c.GID, &c.EGID, &c.SGID, c.Can(unix.CAP_SETGID)) {
		return 0, unix.EPERM
	}
	c.FSGID = c.EGID
	commit(t, &c)
	return 0, nil
}

func sysSetresuid(t *task.Thread, a *Args) (uintptr, error) {
	c := *t.Creds()
	if !resID([3]uint32{uint32(a[0]), uint32(a[1]), uint32(a[2])}, [3]*uint32{&c.UID, &c.EUID, &c.SUID}, c.Can(unix.CAP_SETUID)) {
		return 0, unix.EPERM
	}
	c.FSUID = c.EUID
	commitUID(t, &c)
	return 0, nil
}

func sysSetresgid(t *task.Thread, a *Args) (uintptr, error) {
	c := *t.Creds()
	if !resID([3]uint32{uint32(a[0]), uint32(a[1]), uint32(a[2])}, [3]*uint32{&c.GID, &c.EGID, &c.SGID}, c.Can(unix.CAP_SETGID)) {
		return 0, unix.EPERM
	}
	c.FSGID = c.EGID
	commit(t, &c)
	return 0, nil
}

// capFS are the capabilities that setfsuid takes and gives (CAP_FS_SET): chown, the
// DAC overrides, fowner, fsetid, linux_immutable, mknod, mac_override.
const capFS = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER |
	1<<unix.CAP_FSETID | 1<<unix.CAP_LINUX_IMMUTABLE | 1<<unix.CAP_MKNOD | 1<<unix.CAP_MAC_OVERRIDE

// sysSetfsuid and sysSetfsgid set the id that files see and return the old one, changed
// or not. See setfsuid(2).
func sysSetfsuid(t *task.Thread, a *Args) (uintptr, error) {
	id, c := uint32(a[0]), *t.Creds()
	old := c.FSUID
	if id != keep && id != old && (id == c.UID || id == c.EUID || id == c.SUID || c.Can(unix.CAP_SETUID)) {
		c.FSUID = id
		if c.Securebits&secNoSetuidFixup == 0 {
			if old == 0 {
				c.Effective &^= capFS
			} else if id == 0 {
				c.Effective |= capFS & c.Permitted
			}
		}
		commit(t, &c)
	}
	return uintptr(old), nil
}

func sysSetfsgid(t *task.Thread, a *Args) (uintptr, error) {
	id, c := uint32(a[0]), *t.Creds()
	old := c.FSGID
	if id != keep && id != old && (id == c.GID || id == c.EGID || id == c.SGID || c.Can(unix.CAP_SETGID)) {
		c.FSGID = id
		commit(t, &c)
	}
	return uintptr(old), nil
}

// maxGroups is NGROUPS_MAX.
const maxGroups = 65536

// sysGetgroups gives the supplementary groups; size 0 asks for their number. EINVAL
// (size), EFAULT. See getgroups(2).
func sysGetgroups(t *task.Thread, a *Args) (uintptr, error) {
	g, size := t.Creds().Groups, int32(a[0])
	if size < 0 {
		return 0, unix.EINVAL
	}
	if size == 0 {
		return uintptr(len(g)), nil
	}
	if len(g) > int(size) {
		return 0, unix.EINVAL
	}
	var b [4 * groupsAtOnce]byte
	n := uintptr(len(g))
	for at := hal.UserAddr(a[1]); len(g) > 0; at += hal.UserAddr(len(b)) {
		some := g[:min(len(g), groupsAtOnce)]
		for i, id := range some {
			le.PutUint32(b[4*i:], id)
		}
		if err := t.CopyOut(at, b[:4*len(some)]); err != nil {
			return 0, err
		}
		g = g[len(some):]
	}
	return n, nil
}

// groupsAtOnce is how many are copied at once, and how many cost nothing: what has a set of
// credentials is charged for more than that.
const groupsAtOnce = 64

// newGroups is room for n groups, charged until nobody has it any more: ENOMEM.
func newGroups(t *task.Thread, n uint32) ([]uint32, error) {
	if n <= groupsAtOnce {
		return make([]uint32, n), nil
	}
	b, cost := t.Kernel().Mem.Budget(), 4*int64(n)
	if !b.Charge(cost) {
		return nil, unix.ENOMEM
	}
	g := make([]uint32, n)
	// Threads have credentials, and sockets, rings and ended processes, too.
	runtime.AddCleanup(&g[0], b.Uncharge, cost)
	return g, nil
}

// sysSetgroups replaces them: EPERM, EINVAL (more than NGROUPS_MAX), ENOMEM, EFAULT, EINVAL
// (-1). See setgroups(2).
func sysSetgroups(t *task.Thread, a *Args) (uintptr, error) {
	c := *t.Creds()
	if !c.Can(unix.CAP_SETGID) {
		return 0, unix.EPERM
	}
	n := uint32(a[0])
	if n > maxGroups {
		return 0, unix.EINVAL
	}
	g, err := newGroups(t, n)
	if err != nil {
		return 0, err
	}
	var b [4 * groupsAtOnce]byte
	at := hal.UserAddr(a[1])
	for left := g; len(left) > 0; at += hal.UserAddr(len(b)) {
		some := left[:min(len(left), groupsAtOnce)]
		if err := t.CopyIn(b[:4*len(some)], at); err != nil {
			return 0, err
		}
		for i := range some {
			if some[i] = le.Uint32(b[4*i:]); some[i] == keep {
				return 0, unix.EINVAL
			}
		}
		left = left[len(some):]
	}
	c.Groups = g
	commit(t, &c)
	return 0, nil
}

// capHeader reads struct cap_user_header: the number of words in each set, and the
// thread. An unknown version is answered with the newest and EINVAL.
func capHeader(t *task.Thread, at uint64) (words int, pid int32, err error) {
	var b [8]byte
	if err := t.CopyIn(b[:], hal.UserAddr(at)); err != nil {
		return 0, 0, err
	}
	pid = int32(le.Uint32(b[4:]))
	switch le.Uint32(b[:]) {
	case unix.LINUX_CAPABILITY_VERSION_1:
		return 1, pid, nil
	case unix.LINUX_CAPABILITY_VERSION_2, unix.LINUX_CAPABILITY_VERSION_3:
		return 2, pid, nil
	}
	if err := putU32(t, hal.UserAddr(at), unix.LINUX_CAPABILITY_VERSION_3); err != nil {
		return 0, 0, err
	}
	return 0, pid, unix.EINVAL
}

// sysCapget gives a thread's capability sets (header, data): EFAULT, EINVAL (version;
// but 0 without data), EINVAL (negative pid), ESRCH. See capget(2).
func sysCapget(t *task.Thread, a *Args) (uintptr, error) {
	words, pid, err := capHeader(t, a[0])
	if err == unix.EINVAL && a[1] == 0 {
		return 0, nil
	}
	if err != nil || a[1] == 0 {
		return 0, err
	}
	if pid < 0 {
		return 0, unix.EINVAL
	}
	o, err := findThread(t, pid)
	if err != nil {
		return 0, err
	}
	c := o.Creds()
	var b [24]byte
	for w := range words {
		for i, set := range [...]uint64{c.Effective, c.Permitted, c.Inheritable} {
			le.PutUint32(b[w*12+i*4:], uint32(set>>(32*w)))
		}
	}
	return 0, t.CopyOut(hal.UserAddr(a[1]), b[:12*words])
}

// capAll are the capabilities of Linux 6.1, 0 to CAP_CHECKPOINT_RESTORE.
const capAll = 1<<(unix.CAP_CHECKPOINT_RESTORE+1) - 1

// sysCapset sets the caller's: EFAULT, EINVAL (version), EPERM (another thread; more
// than capabilities(7) lets one have). See capset(2).
func sysCapset(t *task.Thread, a *Args) (uintptr, error) {
	words, pid, err := capHeader(t, a[0])
	if err != nil {
		return 0, err
	}
	if pid != 0 && pid != t.TID() {
		return 0, unix.EPERM
	}
	var b [24]byte
	if err := t.CopyIn(b[:12*words], hal.UserAddr(a[1])); err != nil {
		return 0, err
	}
	set := func(i int) uint64 { return (uint64(le.Uint32(b[i*4:])) | uint64(le.Uint32(b[12+i*4:]))<<32) & capAll }
	c := *t.Creds()
	old := c
	c.Effective, c.Permitted, c.Inheritable = set(0), set(1), set(2)
	switch {
	case !old.Can(unix.CAP_SETPCAP) && c.Inheritable&^(old.Inheritable|old.Permitted) != 0,
		c.Inheritable&^(old.Inheritable|old.Bounding) != 0,
		c.Permitted&^old.Permitted != 0,
		c.Effective&^c.Permitted != 0:
		return 0, unix.EPERM
	}
	c.Ambient &= c.Permitted & c.Inheritable
	commit(t, &c)
	return 0, nil
}
