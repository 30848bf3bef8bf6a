package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
)

var procVMEntries = []Entry{
	{Nr: unix.SYS_PROCESS_VM_READV, Name: "process_vm_readv", Func: sysProcessVMReadv, Support: Full},
	{Nr: unix.SYS_PROCESS_VM_WRITEV, Name: "process_vm_writev", Func: sysProcessVMWritev, Support: Full},
	{Nr: unix.SYS_PROCESS_MADVISE, Name: "process_madvise", Func: sysProcessMadvise, Support: Full},
	{Nr: unix.SYS_PROCESS_MRELEASE, Name: "process_mrelease", Func: sysProcessMrelease, Support: Full},
	{Nr: unix.SYS_MEMBARRIER, Name: "membarrier", Func: sysMembarrier, Support: Full},
}

// spaceOf is the memory of another process with a user counted, or of the caller; nil for a
// process that has ended. drop gives it back.
func spaceOf(p *task.Process) (s *mm.Space, drop func()) {
	if s = p.Space(); s == nil || !s.TryIncUsers() {
		return nil, nil
	}
	return s, s.DecUsers
}

// accessSpace is spaceOf where the caller may trace the process (mm_access): EPERM.
func accessSpace(t *task.Thread, p *task.Process) (s *mm.Space, drop func(), err error) {
	err = p.Steady(func() error {
		if s != nil {
			drop()
		}
		if s, drop = nil, nil; !mayAccess(t, p) {
			return unix.EPERM
		}
		s, drop = spaceOf(p)
		return nil
	})
	return s, drop, err
}

// sysProcessVMReadv and sysProcessVMWritev copy between the caller's memory and another
// process's (pid, local vectors and their number, remote ones, flags): EINVAL (flags,
// vectors), EFAULT (vectors), 0 where nothing is asked for, ESRCH, EPERM, EFAULT where the
// first byte cannot be copied; what was copied before a fault counts. See
// process_vm_readv(2).
func sysProcessVMReadv(t *task.Thread, a *Args) (uintptr, error)  { return processVM(t, a, false) }
func sysProcessVMWritev(t *task.Thread, a *Args) (uintptr, error) { return processVM(t, a, true) }

// vmChunk is how much goes through the kernel at a time.
const vmChunk = 64 << 10

func processVM(t *task.Thread, a *Args, write bool) (uintptr, error) {
	if a[5] != 0 {
		return 0, unix.EINVAL
	}
	var x fsCall
	if err := x.many(t, a[1], a[2]); err != nil {
		return 0, err
	}
	local := x.seq
	if local.Len() == 0 {
		return 0, nil
	}
	remote, total, err := remoteVectors(t, a[3], a[4])
	if err != nil || total == 0 {
		return 0, err
	}
	o := t.Kernel().Thread(int32(a[0]))
	if o == nil {
		return 0, unix.ESRCH
	}
	s, drop, err := accessSpace(t, o.Process())
	if err != nil {
		return 0, err
	}
	if s == nil {
		return 0, unix.ESRCH
	}
	defer drop()
	buf := make([]byte, min(uint64(local.Len()), total, vmChunk))
	done := 0
	for _, v := range remote {
		for v.Len > 0 && local.Len() > 0 {
			n, err := vmPiece(t, s, &local, v.Base, buf[:min(v.Len, uint64(len(buf)), uint64(local.Len()))], write)
			done += n
			if err != nil {
				if done > 0 {
					return uintptr(done), nil
				}
				return 0, unix.EFAULT
			}
			v.Base += hal.UserAddr(n)
			v.Len -= uint64(n)
			if t.SignalPending() && done > 0 {
				return uintptr(done), nil
			}
		}
	}
	return uintptr(done), nil
}

// vmPiece copies up to a buffer's worth at an address of s.
func vmPiece(t *task.Thread, s *mm.Space, local *mm.IOSeq, at hal.UserAddr, buf []byte, write bool) (int, error) {
	if write {
		before := *local
		n, err := local.CopyIn(buf)
		if n == 0 {
			return 0, err
		}
		m, err2 := s.CopyOut(t, at, buf[:n])
		if m < n {
			*local = before
			local.Skip(m)
			return m, err2
		}
		return m, err
	}
	n, err := s.CopyIn(t, buf, at)
	if n == 0 {
		return 0, err
	}
	m, err2 := local.CopyOut(buf[:n])
	if err2 != nil {
		err = err2
	}
	return m, err
}

// remoteVectors reads vectors that are about another process's memory: only their lengths
// are checked.
func remoteVectors(t *task.Thread, addr, count uint64) ([]mm.IOVec, uint64, error) {
	if count > maxIOV {
		return nil, 0, unix.EINVAL
	}
	raw := make([]byte, 16*count)
	if err := t.CopyIn(raw, hal.UserAddr(addr)); err != nil {
		return nil, 0, err
	}
	out, total := make([]mm.IOVec, count), uint64(0)
	for i := range out {
		base, l := le.Uint64(raw[16*i:]), le.Uint64(raw[16*i+8:])
		if int64(l) < 0 {
			return nil, 0, unix.EINVAL
		}
		l = min(l, maxRW-total)
		total += l
		out[i] = mm.IOVec{Base: hal.UserAddr(base), Len: l}
	}
	return out, total, nil
}

// sysProcessMadvise gives advice about ranges of another process (pidfd, vectors, their
// number, advice, flags): EINVAL (flags), EFAULT and EINVAL (vectors), EBADF, EINVAL (advice
// that would change more than what is resident), ESRCH, EPERM (without CAP_SYS_NICE), then
// what madvise gives for the first range. Returns the bytes advised. See process_madvise(2).
func sysProcessMadvise(t *task.Thread, a *Args) (uintptr, error) {
	if uint32(a[4]) != 0 {
		return 0, unix.EINVAL
	}
	vec, _, err := remoteVectors(t, a[1], a[2])
	if err != nil {
		return 0, err
	}
	p, _, err := pidfdProcess(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	advice := int(int32(a[3]))
	switch {
	case p.Reaped():
		return 0, unix.ESRCH
	case advice != unix.MADV_COLD && advice != unix.MADV_PAGEOUT && advice != unix.MADV_WILLNEED && advice != unix.MADV_COLLAPSE:
		return 0, unix.EINVAL
	}
	s, drop, err := accessSpace(t, p)
	if err != nil {
		return 0, unix.EACCES
	}
	if s == nil {
		return 0, unix.ESRCH
	}
	defer drop()
	if !t.Creds().Can(unix.CAP_SYS_NICE) {
		return 0, unix.EPERM
	}
	done := uint64(0)
	for _, v := range vec {
		if err := s.Madvise(t, v.Base, v.Len, advice); err != nil {
			if done > 0 {
				break
			}
			return 0, err
		}
		done += v.Len
	}
	return uintptr(done), nil
}

// sysProcessMrelease gives back the memory of a process that is dying (pidfd, flags):
// EINVAL (flags), EBADF, ESRCH, EINVAL (it is not dying). Here a dying process gives its
// memory back as fast as it can itself. See process_mrelease(2).
func sysProcessMrelease(t *task.Thread, a *Args) (uintptr, error) {
	if uint32(a[1]) != 0 {
		return 0, unix.EINVAL
	}
	p, _, err := pidfdProcess(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	if p.Reaped() || p.Ended() {
		return 0, unix.ESRCH
	}
	if !p.Dying() {
		return 0, unix.EINVAL
	}
	return 0, nil
}

// Commands of membarrier (uapi/linux/membarrier.h).
const (
	barrierQuery                = 0
	barrierGlobal               = 1 << 0
	barrierGlobalExpedited      = 1 << 1
	barrierRegisterGlobal       = 1 << 2
	barrierPrivate              = 1 << 3
	barrierRegisterPrivate      = 1 << 4
	barrierPrivateSyncCore      = 1 << 5
	barrierRegisterSyncCore     = 1 << 6
	barrierPrivateRseq          = 1 << 7
	barrierRegisterRseq         = 1 << 8
	barrierFlagCPU              = 1
	barrierCommands             = 1<<9 - 1
	barrierGlobalNeedsNothing   = barrierRegisterGlobal // global commands reach every thread
	barrierPrivateCommands      = barrierPrivate | barrierPrivateSyncCore | barrierPrivateRseq
	barrierRegisterPrivateKinds = barrierRegisterPrivate | barrierRegisterSyncCore | barrierRegisterRseq
)

// sysMembarrier makes every other running thread, of all programs or of this one, pass a
// full barrier before it returns (command, flags, CPU): EINVAL; EPERM for a private command
// that the process has not registered for. Threads are called out of ring 3 by an
// interrupt, which serialises the processor and aborts restartable sequences. See
// membarrier(2).
func sysMembarrier(t *task.Thread, a *Args) (uintptr, error) {
	cmd, flags, cpu := int32(a[0]), uint32(a[1]), int32(a[2])
	if flags != 0 && (cmd != barrierPrivateRseq || flags != barrierFlagCPU) {
		return 0, unix.EINVAL
	}
	if flags == 0 {
		cpu = -1
	}
	p := t.Process()
	switch {
	case cmd == barrierQuery:
		return barrierCommands, nil
	case cmd == barrierGlobal, cmd == barrierGlobalExpedited:
		t.Barrier(false, -1)
	case cmd == barrierGlobalNeedsNothing:
	case cmd > 0 && cmd&(cmd-1) == 0 && cmd&barrierRegisterPrivateKinds != 0:
		p.RegisterBarrier(uint32(cmd))
	case cmd > 0 && cmd&(cmd-1) == 0 && cmd&barrierPrivateCommands != 0:
		if p.Barriers()&uint32(cmd<<1) == 0 {
			return 0, unix.EPERM
		}
		t.Barrier(true, int(cpu))
	default:
		return 0, unix.EINVAL
	}
	return 0, nil
}
