package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/ipc"
	"kiln/kernel/task"
)

// ipcEntries are System V's and POSIX's.
var ipcEntries = append(sysvEntries, mqEntries...)

var sysvEntries = []Entry{
	{Nr: unix.SYS_SHMGET, Name: "shmget", Func: sysShmget, Support: Partial, Note: "SHM_HUGETLB is ENOMEM, as on a machine without huge pages"},
	{Nr: unix.SYS_SHMAT, Name: "shmat", Func: sysShmat, Support: Full},
	{Nr: unix.SYS_SHMDT, Name: "shmdt", Func: sysShmdt, Support: Full},
	{Nr: unix.SYS_SHMCTL, Name: "shmctl", Func: sysShmctl, Support: Full},
	{Nr: unix.SYS_SEMGET, Name: "semget", Func: sysSemget, Support: Full},
	{Nr: unix.SYS_SEMOP, Name: "semop", Func: sysSemop, Support: Full},
	{Nr: unix.SYS_SEMTIMEDOP, Name: "semtimedop", Func: sysSemtimedop, Support: Full},
	{Nr: unix.SYS_SEMCTL, Name: "semctl", Func: sysSemctl, Support: Full},
	{Nr: unix.SYS_MSGGET, Name: "msgget", Func: sysMsgget, Support: Full},
	{Nr: unix.SYS_MSGSND, Name: "msgsnd", Func: sysMsgsnd, Support: Full},
	{Nr: unix.SYS_MSGRCV, Name: "msgrcv", Func: sysMsgrcv, Support: Full},
	{Nr: unix.SYS_MSGCTL, Name: "msgctl", Func: sysMsgctl, Support: Full},
}

func ipcOf(t *task.Thread) *ipc.Namespace { return t.Kernel().Syscalls.(*Dispatcher).IPC }

// permSize is struct ipc64_perm.
const permSize = 48

// structure is what a report is built in: words one after the other.
type structure []byte

func newStructure(p *ipc.Perm) structure {
	s := make(structure, 0, 128)
	s = s.ints(p.Key, int32(p.UID), int32(p.GID), int32(p.CUID), int32(p.CGID), int32(p.Mode), int32(p.Seq()))
	return append(s, make([]byte, permSize-len(s))...)
}

func (s structure) ints(v ...int32) structure {
	for _, n := range v {
		s = le.AppendUint32(s, uint32(n))
	}
	return s
}

func (s structure) longs(v ...uint64) structure {
	for _, n := range v {
		s = le.AppendUint64(s, n)
	}
	return s
}

// getPerm reads what *_SET changes: owner, group and mode, from a structure of size bytes
// that begins with a struct ipc64_perm.
func getPerm(t *task.Thread, at hal.UserAddr, size int) (uid, gid, mode uint32, b []byte, err error) {
	b = scratch(t, size)
	err = t.CopyIn(b, at)
	return le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[20:]), b, err
}

// putInts copies a structure of ints out after its command is done, and gives ret.
func putInts(t *task.Thread, at hal.UserAddr, v []int32, ret int32) (uintptr, error) {
	return uintptr(ret), t.CopyOut(at, structure(nil).ints(v...))
}
