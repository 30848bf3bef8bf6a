// Package syscalls is the Linux x86-64 system call ABI: one table, and one
// function a call in files by family.
//
//	d := syscalls.New()
//	d.VDSO = v
//	k := task.NewKernel(task.Config{Syscalls: d, …})
//
// The thread loop of kernel/task calls Dispatch with the program's registers in t.Ctx.
// Dispatch looks the number up in an array made of the families' rows, refuses bits
// outside the row's masks, calls the function, and leaves its value, or minus its errno,
// in RAX. A number without a row is ENOSYS, logged once by name.
//
// To add a call: write func sysName(t *task.Thread, a *Args) (uintptr, error) in the
// file of its family with the errors in Linux' order in its comment, and a row in that
// family's table. A row that is not Full has a note; a test sees to it, and
// cmd/gensyscalls makes the list for users.
package syscalls

import "kiln/kernel/task"

// Args are a call's six arguments, as the registers hold them.
type Args [6]uint64

// Func serves one call. It returns the value for RAX, or a unix.Errno (or one of
// wait's restart codes) as the error.
type Func func(t *task.Thread, a *Args) (uintptr, error)

// Support says how much of a call is there.
type Support uint8

// Support levels. Anything but Full needs a note.
const (
	None    Support = iota // ENOSYS, logged once
	Stub                   // answers as Linux does on a machine without the feature
	Partial                // some arguments or flags are refused
	Full
)

// Entry is one row. Masks, where set, are checked before the function is called:
// an argument with a bit outside its mask is Errno (EINVAL unless set).
type Entry struct {
	Nr      int
	Name    string
	Func    Func
	Support Support
	Note    string
	Masks   []Mask
}

// Mask is the accepted bits of one argument.
type Mask struct {
	Arg   int
	Bits  uint64
	Errno uintptr // 0: EINVAL
}

// families are the rows of all files.
var families = [][]Entry{
	ttyEntries, procEntries, ptraceEntries, credEntries, futexEntries, signalEntries, timerEntries, schedEntries,
	limitEntries, prctlEntries, seccompEntries, miscEntries, ipcEntries, mmEntries, numaEntries, timeEntries, fsEntries, notifyEntries, fanotifyEntries, landlockEntries, userfaultEntries, uringEntries, aioEntries, pollEntries, netEntries,
	mountEntries, handleEntries,
}

// Table lists every call of Linux on x86-64 by number: those that are served, and the
// others with Support None and why.
func Table() []Entry {
	all := make([]Entry, len(names))
	for nr, name := range names {
		all[nr] = Entry{Nr: nr, Name: name, Note: absent(nr, name)}
	}
	for _, f := range families {
		for _, e := range f {
			all[e.Nr] = e
		}
	}
	out := all[:0]
	for _, e := range all {
		if e.Name != "" {
			out = append(out, e)
		}
	}
	return out
}
