package syscalls

import (
	"bytes"
	"math"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/hal"
	"kiln/kernel/klog"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

var miscEntries = []Entry{
	{Nr: unix.SYS_UNAME, Name: "uname", Func: sysUname, Support: Full},
	{Nr: unix.SYS_SETHOSTNAME, Name: "sethostname", Func: sysSethostname, Support: Full},
	{Nr: unix.SYS_SETDOMAINNAME, Name: "setdomainname", Func: sysSetdomainname, Support: Full},
	{Nr: unix.SYS_SYSINFO, Name: "sysinfo", Func: sysSysinfo, Support: Full},
	{Nr: unix.SYS_GETRANDOM, Name: "getrandom", Func: sysGetrandom, Support: Full},
	{Nr: unix.SYS_SYSLOG, Name: "syslog", Func: sysSyslog, Support: Partial, Note: "the level of the console stays the image's"},
	{Nr: unix.SYS_REBOOT, Name: "reboot", Func: sysReboot, Support: Partial, Note: "no kexec or hibernation (EINVAL)"},
}

// Release and Version are uname's: the kernel whose behaviour programs get, and what
// it is.
const (
	Release = "6.1.0-kiln"
	Version = "#1 SMP Kiln"
)

// utsLen is __NEW_UTS_LEN, perMask PER_MASK: the bits of a personality without its flags.
const (
	utsLen  = 64
	perMask = 0xff

	perLinux32 = 8 // PER_LINUX32 (uapi/linux/personality.h)
)

// sysUname tells the names of the system: EFAULT. See uname(2).
func sysUname(t *task.Thread, a *Args) (uintptr, error) {
	var b [6 * (utsLen + 1)]byte
	u := &t.Kernel().UTS
	machine := "x86_64"
	if t.Process().Personality()&perMask == perLinux32 {
		machine = "i686"
	}
	for i, s := range [...]string{"Linux", u.Hostname(), Release, Version, machine, u.Domainname()} {
		copy(b[i*(utsLen+1):][:utsLen], s)
	}
	return 0, t.CopyOut(hal.UserAddr(a[0]), b[:])
}

// utsName reads a name that sethostname or setdomainname sets: EPERM, EINVAL, EFAULT.
func utsName(t *task.Thread, a *Args) (string, error) {
	if !t.Creds().Can(unix.CAP_SYS_ADMIN) {
		return "", unix.EPERM
	}
	n := int32(a[1])
	if n < 0 || n > utsLen {
		return "", unix.EINVAL
	}
	var b [utsLen]byte
	if err := t.CopyIn(b[:n], hal.UserAddr(a[0])); err != nil {
		return "", err
	}
	name, _, _ := bytes.Cut(b[:n], []byte{0})
	return string(name), nil
}

// sysSethostname and sysSetdomainname: EPERM, EINVAL, EFAULT. See sethostname(2).
func sysSethostname(t *task.Thread, a *Args) (uintptr, error) {
	s, err := utsName(t, a)
	if err == nil {
		t.Kernel().UTS.SetHostname(s)
	}
	return 0, err
}

func sysSetdomainname(t *task.Thread, a *Args) (uintptr, error) {
	s, err := utsName(t, a)
	if err == nil {
		t.Kernel().UTS.SetDomainname(s)
	}
	return 0, err
}

// loadShift is SI_LOAD_SHIFT: the bits behind the point of sysinfo's load averages.
const loadShift = 16

// sysSysinfo tells up-time, load and memory in bytes: EFAULT. See sysinfo(2).
func sysSysinfo(t *task.Thread, a *Args) (uintptr, error) {
	k := t.Kernel()
	ms := k.M.MemStats()
	threads, _, _ := k.Counts()
	var b [112]byte
	put := func(i int, v uint64) { le.PutUint64(b[i*8:], v) }
	put(0, uint64((k.M.Nanotime()+second-1)/second))
	for i, v := range k.LoadAverages() {
		put(1+i, v<<(loadShift-task.LoadShift))
	}
	put(4, ms.TotalPages*hal.PageSize)
	put(5, ms.FreePages*hal.PageSize)
	le.PutUint16(b[80:], uint16(min(threads, math.MaxUint16)))
	le.PutUint32(b[104:], 1) // mem_unit
	return 0, t.CopyOut(hal.UserAddr(a[0]), b[:])
}

// Flags of getrandom (uapi/linux/random.h).
const (
	grndNonblock = 1
	grndRandom   = 2
	grndInsecure = 4
)

// sysGetrandom fills memory with random bytes (address, length, flags): EINVAL, EFAULT.
// The machine's entropy is ready from the start, so that no flag matters. Beyond a page
// a signal ends it with what there is. See getrandom(2).
func sysGetrandom(t *task.Thread, a *Args) (uintptr, error) {
	flags := uint32(a[2])
	if flags&^(grndNonblock|grndRandom|grndInsecure) != 0 || flags&(grndInsecure|grndRandom) == grndInsecure|grndRandom {
		return 0, unix.EINVAL
	}
	want := int(min(a[1], math.MaxInt32))
	if _, err := checkRange(a[0], uint64(want)); err != nil {
		return 0, err
	}
	b := make([]byte, min(want, hal.PageSize))
	n := 0
	for n < want {
		c := b[:min(want-n, len(b))]
		t.Kernel().M.Entropy(c)
		m, err := t.Space().CopyOut(t, hal.UserAddr(a[0])+hal.UserAddr(n), c)
		if n += m; err != nil {
			if n == 0 {
				return 0, unix.EFAULT
			}
			break
		}
		if t.Rest() {
			break
		}
	}
	clear(b)
	return uintptr(n), nil
}

// Actions of syslog (include/linux/syslog.h).
const (
	logClose        = 0
	logOpen         = 1
	logRead         = 2
	logReadAll      = 3
	logReadClear    = 4
	logClear        = 5
	logConsoleOff   = 6
	logConsoleOn    = 7
	logConsoleLevel = 8
	logSizeUnread   = 9
	logSizeBuffer   = 10
)

// noMessages is the log of a dispatcher without one.
var noMessages klog.Log

// sysSyslog serves (action, buffer, length): EPERM, EINVAL, EFAULT. Reading the next message
// waits for one; the level of the console is the image's and stays. See syslog(2).
func sysSyslog(t *task.Thread, a *Args) (uintptr, error) {
	act, n := int32(a[0]), int32(a[2])
	if !klog.MayRead(t.Creds()) {
		return 0, unix.EPERM
	}
	log := t.Kernel().Syscalls.(*Dispatcher).Messages
	if log == nil {
		log = &noMessages
	}
	switch act {
	case logClose, logOpen, logConsoleOff, logConsoleOn:
		return 0, nil
	case logClear:
		log.Clear()
		return 0, nil
	case logSizeUnread:
		return uintptr(log.Unread()), nil
	case logSizeBuffer:
		return klog.Size, nil
	case logRead, logReadAll, logReadClear:
		if a[1] == 0 || n < 0 {
			return 0, unix.EINVAL
		}
		if n == 0 {
			return 0, nil
		}
		return readLog(t, log, act, hal.UserAddr(a[1]), int(n))
	case logConsoleLevel:
		if n < 1 || n > 8 {
			return 0, unix.EINVAL
		}
		return 0, nil
	}
	return 0, unix.EINVAL
}

func readLog(t *task.Thread, log *klog.Log, act int32, at hal.UserAddr, n int) (uintptr, error) {
	var text []byte
	if act == logRead {
		var e waiter.Entry
		e.Init(t.Listener(), waiter.EventIn)
		log.Queue().EventRegister(&e)
		defer log.Queue().EventUnregister(&e)
		for {
			if text = log.Read(n); len(text) > 0 {
				break
			}
			if r := t.Block(hal.NoDeadline, wait.Interruptible); r != wait.Ready {
				return 0, r.Err()
			}
		}
	} else {
		text = log.ReadAll(n)
	}
	if len(text) > 0 {
		if err := t.CopyOut(at, text); err != nil {
			return 0, err
		}
	}
	if act == logReadClear {
		log.Clear()
	}
	return uintptr(len(text)), nil
}

// sysReboot ends or restarts the machine (magic, magic2, command, argument): EPERM,
// EINVAL. See reboot(2).
func sysReboot(t *task.Thread, a *Args) (uintptr, error) {
	k := t.Kernel()
	if !t.Creds().Can(unix.CAP_SYS_BOOT) {
		return 0, unix.EPERM
	}
	if uint32(a[0]) != unix.LINUX_REBOOT_MAGIC1 {
		return 0, unix.EINVAL
	}
	switch uint32(a[1]) {
	case unix.LINUX_REBOOT_MAGIC2, 85072278, 369367448, 537993216: // the other birthdays, MAGIC2A to C
	default:
		return 0, unix.EINVAL
	}
	if k.OnReboot == nil {
		return 0, unix.EPERM
	}
	switch cmd := uint32(a[2]); cmd {
	case unix.LINUX_REBOOT_CMD_CAD_ON, unix.LINUX_REBOOT_CMD_CAD_OFF: // no keyboard
		return 0, nil
	case unix.LINUX_REBOOT_CMD_RESTART, unix.LINUX_REBOOT_CMD_HALT, unix.LINUX_REBOOT_CMD_POWER_OFF:
		k.OnReboot(cmd)
		return 0, nil
	case unix.LINUX_REBOOT_CMD_RESTART2:
		if _, err := t.Space().CopyInString(t, hal.UserAddr(a[3]), 256); err == unix.EFAULT {
			return 0, err
		}
		k.OnReboot(unix.LINUX_REBOOT_CMD_RESTART)
		return 0, nil
	}
	return 0, unix.EINVAL
}
