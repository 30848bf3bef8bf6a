package task

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
)

// Rlimit is a soft and a hard limit; RlimInfinity is none.
type Rlimit struct{ Cur, Max uint64 }

// RlimInfinity is RLIM_INFINITY.
const RlimInfinity = ^uint64(0)

// NumLimits is RLIM_NLIMITS.
const NumLimits = 16

// Resource numbers that x/sys/unix lacks (asm-generic/resource.h).
const (
	RlimitCPU        = 0
	RlimitRSS        = 5
	RlimitNproc      = 6
	RlimitNofile     = 7
	RlimitMemlock    = 8
	RlimitAS         = 9
	RlimitLocks      = 10
	RlimitSigpending = 11
	RlimitMsgqueue   = 12
	RlimitNice       = 13
	RlimitRtprio     = 14
	RlimitRttime     = 15
)

// MaxNofile is fs.nr_open: no RLIMIT_NOFILE goes beyond it.
const MaxNofile = 1048576

// defaultLimits are Linux's for init with the NOFILE ceiling that systemd gives
// services (include/asm-generic/resource.h; systemd.exec(5) LimitNOFILE).
func defaultLimits(threads uint64) (l [NumLimits]Rlimit) {
	for i := range l {
		l[i] = Rlimit{RlimInfinity, RlimInfinity}
	}
	l[unix.RLIMIT_STACK].Cur = 8 << 20
	l[unix.RLIMIT_CORE].Cur = 0
	l[RlimitNproc] = Rlimit{threads, threads}
	l[RlimitNofile] = Rlimit{1024, 524288}
	l[RlimitMemlock] = Rlimit{8 << 20, 8 << 20}
	l[RlimitSigpending] = Rlimit{threads, threads}
	l[RlimitMsgqueue] = Rlimit{819200, 819200}
	l[RlimitNice] = Rlimit{}
	l[RlimitRtprio] = Rlimit{}
	return l
}

// Limit is a resource limit's soft value (RLIMIT_*).
func (p *Process) Limit(resource int) uint64 { return p.Rlimit(resource).Cur }

// FileSizeLimit is RLIMIT_FSIZE's soft value, which every write asks for.
func (p *Process) FileSizeLimit() uint64 { return p.fileSize.Load() }

// Rlimit is a limit's pair.
func (p *Process) Rlimit(resource int) Rlimit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limits[resource]
}

// SetRlimit replaces a limit that the caller has checked and tells those who
// enforce it.
func (p *Process) SetRlimit(resource int, l Rlimit) {
	p.mu.Lock()
	p.limits[resource] = l
	p.fileSize.Store(p.limits[unix.RLIMIT_FSIZE].Cur)
	p.mu.Unlock()
	switch resource {
	case RlimitNofile:
		for _, t := range p.Threads() {
			if fds := t.FDs(); fds != nil {
				fds.SetMax(int(min(l.Cur, MaxNofile)))
			}
		}
	case RlimitAS, unix.RLIMIT_DATA, unix.RLIMIT_STACK, RlimitMemlock:
		// A child that only borrows the memory (vfork) leaves the owner's limits alone: its
		// own count for what it execs or forks.
		if s := p.Space(); s != nil && (s.Owner() == p.pid || !s.Shared()) {
			s.SetLimits(p.memLimits())
		}
	case RlimitCPU:
		p.armCPULimit()
	}
}

func (p *Process) memLimits() mm.Limits {
	p.mu.Lock()
	defer p.mu.Unlock()
	return mm.Limits{AS: p.limits[RlimitAS].Cur, Data: p.limits[unix.RLIMIT_DATA].Cur, DataMax: p.limits[unix.RLIMIT_DATA].Max,
		Stack: p.limits[unix.RLIMIT_STACK].Cur, MemLock: p.limits[RlimitMemlock].Cur}
}

// MemLimits are the memory limits a program starts with: Linux's defaults with over
// replaced (for loader.Request, before there is a process).
func MemLimits(over map[int]Rlimit) mm.Limits {
	l := defaultLimits(0)
	for n, r := range over {
		if n >= 0 && n < NumLimits {
			l[n] = r
		}
	}
	return mm.Limits{AS: l[RlimitAS].Cur, Data: l[unix.RLIMIT_DATA].Cur, DataMax: l[unix.RLIMIT_DATA].Max, Stack: l[unix.RLIMIT_STACK].Cur, MemLock: l[RlimitMemlock].Cur}
}

// user is what is counted for a real user id.
type user struct {
	signals atomic.Int64 // queued, and timers that may queue one: RLIMIT_SIGPENDING
}

// maxUsers is how many ids are remembered while nothing is counted for them.
const maxUsers = 1024

// userOf gives the counts of a user id.
func (k *Kernel) userOf(uid uint32) *user {
	k.usersMu.Lock()
	defer k.usersMu.Unlock()
	u := k.users[uid]
	if u == nil {
		if k.users == nil {
			k.users = map[uint32]*user{}
		}
		if len(k.users) >= maxUsers {
			for id, o := range k.users {
				if o.signals.Load() == 0 {
					delete(k.users, id)
				}
			}
		}
		u = &user{}
		k.users[uid] = u
	}
	return u
}
