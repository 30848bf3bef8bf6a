package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/kernel/task"
)

// userfaultEntries is the row of userfaultfd.
var userfaultEntries = []Entry{
	{Nr: unix.SYS_USERFAULTFD, Name: "userfaultfd", Func: sysUserfaultfd, Support: Partial,
		Note: "absent pages of private anonymous memory: UFFDIO_REGISTER_MODE_WP and _MINOR, shared memory and the events (UFFD_FEATURE_EVENT_*) are EINVAL, as on a kernel without them"},
}

// userModeOnly is UFFD_USER_MODE_ONLY.
const userModeOnly = 1

// sysUserfaultfd: EPERM for who may not serve faults of system calls (CAP_SYS_PTRACE,
// vm.unprivileged_userfaultfd, UFFD_USER_MODE_ONLY), EINVAL (flags), EMFILE. See
// userfaultfd(2).
func sysUserfaultfd(t *task.Thread, a *Args) (uintptr, error) {
	flags := uint32(a[0])
	only := flags&userModeOnly != 0
	if !only && !t.Creds().Can(unix.CAP_SYS_PTRACE) && anon.UnprivilegedUserfault.Load() == 0 {
		return 0, unix.EPERM
	}
	if flags&^(unix.O_CLOEXEC|unix.O_NONBLOCK|userModeOnly) != 0 {
		return 0, unix.EINVAL
	}
	f := anon.NewUserfaultFD(t.Space(), flags&unix.O_NONBLOCK, !only)
	return installFile(t, f, flags&unix.O_CLOEXEC != 0)
}
