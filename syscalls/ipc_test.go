package syscalls

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/ipc"
)

// What System V objects, their messages and undo entries, and POSIX queues were charged
// comes back, whether they are removed or their process ends.
func TestIPCGivesItsChargesBack(t *testing.T) {
	r := newRig(t)
	before := r.mem.Budget().Used()
	r.run(nil, func(p *prog) {
		sem := uint64(p.sys(unix.SYS_SEMGET, 0, 100, 0o600))
		p.put(dataAt, []byte{3, 0, 5, 0, 0, 0x10}) // semaphore 3, +5, SEM_UNDO
		p.want(0, unix.SYS_SEMOP, sem, dataAt, 1)
		p.want(5, unix.SYS_SEMCTL, sem, 3, ipc.GetVal)
		kept := uint64(p.sys(unix.SYS_SEMGET, 0, 7, 0o600))
		p.want(0, unix.SYS_SEMOP, kept, dataAt, 1)
		msg := uint64(p.sys(unix.SYS_MSGGET, 0, 0o600))
		p.put64(dataAt, 1)
		for range 5 {
			p.want(0, unix.SYS_MSGSND, msg, dataAt, 100, 0)
		}
		p.want(100, unix.SYS_MSGRCV, msg, dataAt, 200, 0, 0)
		p.fail(unix.EINVAL, unix.SYS_MSGSND, msg, dataAt, 8192*2, ipc.Nowait)
		p.want(0, unix.SYS_MSGCTL, msg, ipc.Rmid, 0)
		p.want(0, unix.SYS_SEMCTL, sem, 0, ipc.Rmid, 0)
		p.want(0, unix.SYS_SEMCTL, kept, 0, ipc.Rmid, 0)
		p.put(dataAt, append([]byte("queue"), 0))
		q := uint64(p.sys(unix.SYS_MQ_OPEN, dataAt, unix.O_CREAT|unix.O_RDWR, 0o600, 0))
		for range 3 {
			p.want(0, unix.SYS_MQ_TIMEDSEND, q, dataAt, 5, 1, 0)
		}
		p.want(5, unix.SYS_MQ_TIMEDRECEIVE, q, dataAt+64, 8192, 0, 0)
		p.want(0, unix.SYS_MQ_UNLINK, dataAt)
	})
	d := r.k.Syscalls.(*Dispatcher)
	if s, m := d.IPC.Sems(), d.IPC.Msgs(); len(s) != 0 || len(m) != 0 {
		t.Errorf("left: %v, %v", s, m)
	}
	// The thread's own charge goes after the machine was told of the end of its process.
	after := r.mem.Budget().Used()
	for until := time.Now().Add(10 * time.Second); after != before && time.Now().Before(until); after = r.mem.Budget().Used() {
		time.Sleep(time.Millisecond)
	}
	if after != before {
		t.Errorf("charged %d bytes before, %d after", before, after)
	}
}
