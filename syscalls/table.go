// Package syscalls is the Linux x86-64 system call ABI: one table, and one
// function a call in files by family.
//
// (owner: task helper) how a call is dispatched, how to add one.
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

// Families append their rows here: table_fs.go and table_poll.go (fs helper),
// table_net.go (net helper), table_task.go and table_mm.go (task helper). The task
// helper owns this file, Dispatch, strace and the lookup array.
var families = [][]Entry{}
