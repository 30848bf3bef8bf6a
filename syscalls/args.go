package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
)

// protSem is PROT_SEM (asm-generic/mman-common.h), which means nothing on x86.
const protSem = 8

func putU32(t *task.Thread, at hal.UserAddr, v uint32) error {
	b := scratch(t, 4)
	le.PutUint32(b, v)
	return t.CopyOut(at, b)
}

func putU64(t *task.Thread, at hal.UserAddr, v uint64) error {
	b := scratch(t, 8)
	le.PutUint64(b, v)
	return t.CopyOut(at, b)
}

func getU32(t *task.Thread, at hal.UserAddr) (uint32, error) {
	b := scratch(t, 4)
	err := t.CopyIn(b, at)
	return le.Uint32(b), err
}

func getU64(t *task.Thread, at hal.UserAddr) (uint64, error) {
	b := scratch(t, 8)
	err := t.CopyIn(b, at)
	return le.Uint64(b), err
}

// getStruct reads a structure that grows with kernel versions into dst, as
// copy_struct_from_user does: what the program's is shorter is zero, what it is longer
// must be zero (E2BIG). size is at most a page.
func getStruct(t *task.Thread, dst []byte, src hal.UserAddr, size uint64) error {
	clear(dst)
	n := min(size, uint64(len(dst)))
	var rest [256]byte
	for at := n; at < size; {
		c := rest[:min(size-at, uint64(len(rest)))]
		if err := t.CopyIn(c, src+hal.UserAddr(at)); err != nil {
			return err
		}
		for _, b := range c {
			if b != 0 {
				return unix.E2BIG
			}
		}
		at += uint64(len(c))
	}
	return t.CopyIn(dst[:n], src)
}

// findProcess is the process that pid means to calls where 0 is the caller: ESRCH.
func findProcess(t *task.Thread, pid int32) (*task.Process, error) {
	if pid == 0 {
		return t.Process(), nil
	}
	p := t.Kernel().Process(pid)
	if p == nil {
		return nil, unix.ESRCH
	}
	return p, nil
}

// findThread is the thread that tid means to calls where 0 is the caller: ESRCH.
func findThread(t *task.Thread, tid int32) (*task.Thread, error) {
	if tid == 0 {
		return t, nil
	}
	o := t.Kernel().Thread(tid)
	if o == nil {
		return nil, unix.ESRCH
	}
	return o, nil
}

func boolInt(b bool) uintptr {
	if b {
		return 1
	}
	return 0
}
