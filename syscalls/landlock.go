package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// landlockEntries are the rows of landlock(7).
var landlockEntries = []Entry{
	{Nr: unix.SYS_LANDLOCK_CREATE_RULESET, Name: "landlock_create_ruleset", Func: sysLandlockCreateRuleset, Support: Full},
	{Nr: unix.SYS_LANDLOCK_ADD_RULE, Name: "landlock_add_rule", Func: sysLandlockAddRule, Support: Full},
	{Nr: unix.SYS_LANDLOCK_RESTRICT_SELF, Name: "landlock_restrict_self", Func: sysLandlockRestrictSelf, Support: Full},
}

// sysLandlockCreateRuleset (attributes, their size, flags): the version of the interface for
// LANDLOCK_CREATE_RULESET_VERSION; EINVAL (flags), EFAULT, EINVAL (size), E2BIG, EINVAL
// (rights), ENOMSG for none, EMFILE. See landlock_create_ruleset(2).
func sysLandlockCreateRuleset(t *task.Thread, a *Args) (uintptr, error) {
	if flags := uint32(a[2]); flags != 0 {
		if flags == unix.LANDLOCK_CREATE_RULESET_VERSION && a[0] == 0 && a[1] == 0 {
			return vfs.LandlockABI, nil
		}
		return 0, unix.EINVAL
	}
	var b [8]byte
	switch {
	case a[0] == 0:
		return 0, unix.EFAULT
	case a[1] < uint64(len(b)):
		return 0, unix.EINVAL
	case a[1] > hal.PageSize:
		return 0, unix.E2BIG
	}
	if err := copyStruct(t, b[:], a[0], a[1]); err != nil {
		return 0, err
	}
	rights := le.Uint64(b[:])
	switch {
	case rights&^vfs.LandlockAll != 0:
		return 0, unix.EINVAL
	case rights == 0:
		return 0, unix.ENOMSG
	}
	f, err := anon.NewRuleset(t.Kernel().Mem.Budget(), uint16(rights))
	if err != nil {
		return 0, err
	}
	return installFile(t, f, true)
}

// rulesetOf is the ruleset behind a descriptor: EBADF, EBADFD.
func rulesetOf(t *task.Thread, fd uint64) (*vfs.File, *vfs.Ruleset, error) {
	f, err := pollFile(t, fd)
	if err != nil {
		return nil, nil, err
	}
	r, ok := f.Ops.(*anon.Ruleset)
	if !ok {
		f.DecRef()
		return nil, nil, unix.EBADFD
	}
	return f, r.Ruleset, nil
}

// sysLandlockAddRule (ruleset, LANDLOCK_RULE_PATH_BENEATH, attributes, flags): EINVAL (flags),
// EBADF, EBADFD, EINVAL (type), EFAULT, ENOMSG for no rights, EINVAL (rights that the
// ruleset does not handle), EBADF and EBADFD (the directory), EINVAL, ENOMEM. See
// landlock_add_rule(2).
func sysLandlockAddRule(t *task.Thread, a *Args) (uintptr, error) {
	if uint32(a[3]) != 0 {
		return 0, unix.EINVAL
	}
	f, r, err := rulesetOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if uint32(a[1]) != unix.LANDLOCK_RULE_PATH_BENEATH {
		return 0, unix.EINVAL
	}
	var b [12]byte // struct landlock_path_beneath_attr, packed
	if err := t.CopyIn(b[:], hal.UserAddr(a[2])); err != nil {
		return 0, unix.EFAULT
	}
	rights := le.Uint64(b[:])
	switch {
	case rights == 0:
		return 0, unix.ENOMSG
	case rights&^uint64(r.Handled()) != 0:
		return 0, unix.EINVAL
	}
	at := t.FDs().Get(int32(le.Uint32(b[8:])))
	if at == nil {
		return 0, unix.EBADF
	}
	defer at.DecRef()
	if !at.Path.Valid() {
		return 0, unix.EBADFD
	}
	return 0, r.Allow(at.Path, uint16(rights))
}

// sysLandlockRestrictSelf (ruleset, flags) confines the calling thread and who it makes:
// EPERM without no_new_privs or CAP_SYS_ADMIN, EINVAL (flags), EBADF, EBADFD, E2BIG, ENOMEM.
// See landlock_restrict_self(2).
func sysLandlockRestrictSelf(t *task.Thread, a *Args) (uintptr, error) {
	c := *t.Creds()
	if !c.NoNewPrivs && !c.Can(vfs.CapSysAdmin) {
		return 0, unix.EPERM
	}
	if uint32(a[1]) != 0 {
		return 0, unix.EINVAL
	}
	f, r, err := rulesetOf(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if c.Domain, err = c.Domain.Confine(r); err != nil {
		return 0, err
	}
	t.SetCreds(&c)
	return 0, nil
}
