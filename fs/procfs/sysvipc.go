package procfs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/fs/pseudo"
	"kiln/kernel/ipc"
	"kiln/kernel/wait"
)

// sysvipc adds the lists of /proc/sysvipc (ipc/shm.c, sem.c, msg.c).
func (f *FS) sysvipc(d *pseudo.Dir) {
	n := f.cfg.IPC
	if n == nil {
		return
	}
	d.Text("shm", func(b *bytes.Buffer) {
		b.WriteString("       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n")
		for _, s := range n.Shms() {
			p := &s.Perm
			fmt.Fprintf(b, "%10d %10d  %4o %21d %5d %5d  %5d %5d %5d %5d %5d %10d %10d %10d %21d %21d\n", p.Key, p.ID, p.Mode, s.Size,
				s.Cpid, s.Lpid, s.Nattch, p.UID, p.GID, p.CUID, p.CGID, s.Atime, s.Dtime, s.Ctime, s.RSS, 0)
		}
	})
	d.Text("sem", func(b *bytes.Buffer) {
		b.WriteString("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n")
		for _, s := range n.Sems() {
			p := &s.Perm
			fmt.Fprintf(b, "%10d %10d  %4o %10d %5d %5d %5d %5d %10d %10d\n", p.Key, p.ID, p.Mode, s.Nsems,
				p.UID, p.GID, p.CUID, p.CGID, s.Otime, s.Ctime)
		}
	})
	d.Text("msg", func(b *bytes.Buffer) {
		b.WriteString("       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n")
		for _, q := range n.Msgs() {
			p := &q.Perm
			fmt.Fprintf(b, "%10d %10d  %4o  %10d %10d %5d %5d %5d %5d %5d %5d %10d %10d %10d\n", p.Key, p.ID, p.Mode, q.Bytes, q.Num,
				q.Lspid, q.Lrpid, p.UID, p.GID, p.CUID, p.CGID, q.Stime, q.Rtime, q.Ctime)
		}
	})
}

// bounded is a sysctl that is v, between lo and hi (EINVAL).
func bounded(v *atomic.Int64, lo, hi int64) intvar {
	return one(v.Load, func(n int64) error {
		if n < lo || n > hi {
			return unix.EINVAL
		}
		v.Store(n)
		return nil
	})
}

// sysIPC adds the limits of System V IPC to /proc/sys/kernel (ipc/ipc_sysctl.c).
func (f *FS) sysIPC(d *pseudo.Dir) {
	n := f.cfg.IPC
	if n == nil {
		return
	}
	l := &n.Limits
	sem, msg, shm := n.IDs()
	f.addNumbers(d, "msgmax", bounded(&l.MsgMax, 0, maxInt32))
	f.addNumbers(d, "msgmnb", bounded(&l.MsgMNB, 0, maxInt32))
	f.addNumbers(d, "msgmni", bounded(msg.Limit, 0, ipc.MaxIDs))
	f.addNumbers(d, "shmmni", bounded(shm.Limit, 0, ipc.MaxIDs))
	f.addNumbers(d, "sem_next_id", bounded(sem.NextID, 0, maxInt32))
	f.addNumbers(d, "msg_next_id", bounded(msg.NextID, 0, maxInt32))
	f.addNumbers(d, "shm_next_id", bounded(shm.NextID, 0, maxInt32))
	f.kept(d, "auto_msgmni", 0, 1, 0)
	f.addNumbers(d, "sem", intvar{
		get: func() []int64 {
			return []int64{l.SemMSL.Load(), l.SemMNS.Load(), l.SemOPM.Load(), sem.Limit.Load()}
		},
		set: func(v []int64) error {
			for _, x := range v {
				if x < -maxInt32-1 || x > maxInt32 {
					return unix.EINVAL
				}
			}
			if v[3] < 0 || v[3] > ipc.MaxIDs {
				return unix.ERANGE // sem_check_semmni
			}
			l.SemMSL.Store(v[0])
			l.SemMNS.Store(v[1])
			l.SemOPM.Store(v[2])
			sem.Limit.Store(v[3])
			return nil
		},
	})
	f.addNumbers(d, "shm_rmid_forced", one(func() int64 {
		if l.ShmRmidForced.Load() {
			return 1
		}
		return 0
	}, func(v int64) error {
		if v < 0 || v > 1 {
			return unix.EINVAL
		}
		if l.ShmRmidForced.Store(v == 1); v == 1 {
			n.ForceRmid()
		}
		return nil
	}))
	f.addUnsigned(d, "shmmax", &l.ShmMax)
	f.addUnsigned(d, "shmall", &l.ShmAll)
}

// addUnsigned is a sysctl that holds an unsigned long (proc_doulongvec_minmax).
func (f *FS) addUnsigned(d *pseudo.Dir, name string, v *atomic.Uint64) {
	d.Add(name, f.NewFile(0o644, 0, text(func(b *bytes.Buffer) { fmt.Fprintf(b, "%d\n", v.Load()) }), func(_ wait.Context, data []byte) error {
		w := strings.Fields(strings.TrimRight(string(data), "\x00"))
		if len(w) == 0 {
			return nil
		}
		n, err := strconv.ParseUint(w[0], 0, 64)
		if err != nil {
			return unix.EINVAL
		}
		v.Store(n)
		return nil
	}))
}
