package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/task"
)

var ttyEntries = []Entry{
	{Nr: unix.SYS_VHANGUP, Name: "vhangup", Func: sysVhangup, Support: Full},
}

// sysVhangup hangs up on the caller's controlling terminal, if there is one: EPERM without
// CAP_SYS_TTY_CONFIG. See vhangup(2).
func sysVhangup(t *task.Thread, _ *Args) (uintptr, error) {
	if !t.Creds().Can(unix.CAP_SYS_TTY_CONFIG) {
		return 0, unix.EPERM
	}
	if tty, ok := t.Process().TTY().(interface{ VHangup() }); ok {
		tty.VHangup()
	}
	return 0, nil
}
