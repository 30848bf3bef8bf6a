package syscalls

import (
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/ipc"
)

func TestSharedMemorySegmentsLiveUntilTheLastDetach(t *testing.T) {
	r := newRig(t)
	const key, size = 0x1234, 10000
	r.run(nil, func(p *prog) {
		nattch := func(id uint64) uint64 {
			p.want(0, unix.SYS_SHMCTL, id, ipc.Stat, dataAt)
			return p.get64(dataAt + 88)
		}
		p.fail(unix.ENOENT, unix.SYS_SHMGET, key, size, 0o600)
		p.fail(unix.EINVAL, unix.SYS_SHMGET, key, 0, ipc.Creat|0o600)
		p.fail(unix.ENOMEM, unix.SYS_SHMGET, key, 1<<40, ipc.Creat|0o600)
		id := uint64(p.sys(unix.SYS_SHMGET, key, size, ipc.Creat|ipc.Excl|0o600))
		p.fail(unix.EEXIST, unix.SYS_SHMGET, key, size, ipc.Creat|ipc.Excl|0o600)
		p.fail(unix.EINVAL, unix.SYS_SHMGET, key, size+1, 0)
		p.want(int64(id), unix.SYS_SHMGET, key, 0, 0)
		one := uint64(p.sys(unix.SYS_SHMAT, id, 0, 0))
		two := uint64(p.sys(unix.SYS_SHMAT, id, 0, 0o10000))
		if int64(one) < 0 || int64(two) < 0 {
			t.Fatalf("shmat: %#x %#x", one, two)
		}
		p.put(one+5000, []byte("seen"))
		if got := string(p.get(two+5000, 4)); got != "seen" {
			t.Errorf("the other mapping has %q", got)
		}
		p.fail(unix.EINVAL, unix.SYS_SHMAT, id, one, 0) // in use
		p.fail(unix.EACCES, unix.SYS_MPROTECT, two, 4096, unix.PROT_READ|unix.PROT_WRITE)
		if n := nattch(id); n != 2 {
			t.Errorf("%d attachments", n)
		}
		p.want(0, unix.SYS_SHMCTL, id, ipc.Rmid, 0)
		p.fail(unix.ENOENT, unix.SYS_SHMGET, key, 0, 0)
		if mode := func() uint32 { nattch(id); return p.get32(dataAt + 20) }(); mode != 0o1000|0o600 {
			t.Errorf("mode %#o", mode)
		}
		p.want(0, unix.SYS_MUNMAP, one+4096, 4096) // what is left goes with shmdt
		p.want(0, unix.SYS_SHMDT, one)
		p.fail(unix.EINVAL, unix.SYS_SHMDT, one)
		if n := nattch(id); n != 1 {
			t.Errorf("%d attachments", n)
		}
		p.want(0, unix.SYS_SHMDT, two)
		p.fail(unix.EINVAL, unix.SYS_SHMCTL, id, ipc.Stat, dataAt)
	})
	if _, used, pages, _ := r.k.Syscalls.(*Dispatcher).IPC.ShmTotals(); pages != 0 || used != 0 {
		t.Errorf("left: %d pages, %d segments", pages, used)
	}
}

func TestSharedMemoryPermissionsAreThoseOfTheSegment(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		id := uint64(p.sys(unix.SYS_SHMGET, 1, 4096, ipc.Creat|0o640))
		p.put64(dataAt, 77)
		p.want(0, unix.SYS_SETGROUPS, 0, dataAt)
		p.want(0, unix.SYS_SETRESGID, 5, 5, 5)
		p.want(0, unix.SYS_SETUID, 1000)
		p.fail(unix.EACCES, unix.SYS_SHMGET, 1, 0, 0o400)
		p.fail(unix.EACCES, unix.SYS_SHMAT, id, 0, 0o10000)
		p.fail(unix.EACCES, unix.SYS_SHMCTL, id, ipc.Stat, dataAt)
		p.fail(unix.EPERM, unix.SYS_SHMCTL, id, ipc.Rmid, 0)
		p.want(int64(id), unix.SYS_SHMGET, 1, 0, 0)
	})
}
