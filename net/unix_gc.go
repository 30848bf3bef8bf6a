package net

import (
	"sync"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
)

// flights are the descriptors in queued AF_UNIX messages. A socket whose descriptors are
// all on their way to sockets of the same fate can never be received, nor be closed by
// its count: a collector (collect, Linux' unix_gc) finds it when a socket is closed.
//
// mu is outside unixSocket.mu, and is taken by whoever puts descriptors into a message or
// takes them out, so that they stand still while the collector looks.
type flights struct {
	mu      sync.Mutex
	byUser  map[uint32]int
	sockets map[*vfs.File]int // files that are AF_UNIX sockets: how often they are in flight
	running bool
	again   bool
}

func (f *flights) init() {
	f.byUser, f.sockets = map[uint32]int{}, map[*vfs.File]int{}
}

// flightCost is what a descriptor in flight is charged beside its message.
const flightCost = 256

// mayFly says whether a user may send more descriptors: ETOOMANYREFS where more than
// RLIMIT_NOFILE are in flight, unless it has the capability (too_many_unix_fds).
func (f *flights) mayFly(c *Caller, most uint64) error {
	if c == nil || c.Creds == nil || c.capable(unix.CAP_SYS_RESOURCE) || c.capable(unix.CAP_SYS_ADMIN) {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if uint64(f.byUser[c.Creds.UID]) > most {
		return unix.ETOOMANYREFS
	}
	return nil
}

// count adds n (1 or -1) for each file of a message of user's. Called with mu held.
func (f *flights) count(files []*vfs.File, user uint32, n int) {
	if f.byUser[user] += n * len(files); f.byUser[user] == 0 {
		delete(f.byUser, user)
	}
	for _, x := range files {
		if _, ok := x.Ops.(*unixSocket); ok {
			if f.sockets[x] += n; f.sockets[x] == 0 {
				delete(f.sockets, x)
			}
		}
	}
}

// collect closes what is in flight and can no longer be received. No lock may be held.
func (s *Stack) collect() {
	f := &s.unix.flights
	f.mu.Lock()
	if len(f.sockets) == 0 || f.running {
		f.again = f.running // what is let go closes sockets in its turn
		f.mu.Unlock()
		return
	}
	f.running = true
	for {
		f.again = false
		dead := f.garbage()
		f.mu.Unlock()
		for i := range dead {
			dead[i].drop(s)
		}
		f.mu.Lock()
		if !f.again || len(f.sockets) == 0 {
			break
		}
	}
	f.running = false
	f.mu.Unlock()
}

// garbage takes the messages with descriptors out of the queues of sockets that cannot be
// reached. Called with mu held.
func (f *flights) garbage() (dead []unixMsg) {
	// Candidates have no reference but those in flight.
	inside := map[*vfs.File]int{}
	for x, n := range f.sockets {
		if x.Refs() == int64(n) {
			inside[x] = 0
		}
	}
	for x := range inside {
		x.Ops.(*unixSocket).flying(func(y *vfs.File) {
			if _, ok := inside[y]; ok {
				inside[y]++
			}
		})
	}
	// One that is also in the queue of a socket that is none can be received, and so can
	// all that is in its own queue.
	var reached []*vfs.File
	for x, n := range inside {
		if n < f.sockets[x] {
			reached = append(reached, x)
		}
	}
	for len(reached) > 0 {
		x := reached[len(reached)-1]
		reached = reached[:len(reached)-1]
		if _, ok := inside[x]; !ok {
			continue
		}
		delete(inside, x)
		x.Ops.(*unixSocket).flying(func(y *vfs.File) {
			if _, ok := inside[y]; ok {
				reached = append(reached, y)
			}
		})
	}
	for x := range inside {
		dead = append(dead, x.Ops.(*unixSocket).takeFiles()...)
	}
	return dead
}

// queues calls do with each queue of messages that only x leads to: its own, and those of
// connections that wait to be accepted.
func (x *unixSocket) queues(do func(q *unixSocket)) {
	x.mu.Lock()
	do(x)
	pending := append([]*unixSocket(nil), x.pending...)
	x.mu.Unlock()
	for _, p := range pending {
		p.mu.Lock()
		do(p)
		p.mu.Unlock()
	}
}

// flying calls do for each descriptor in x's queues.
func (x *unixSocket) flying(do func(f *vfs.File)) {
	x.queues(func(q *unixSocket) {
		for i := range q.rx {
			for _, f := range q.rx[i].files {
				do(f)
			}
		}
	})
}

// takeFiles removes the messages with descriptors from x's queues.
func (x *unixSocket) takeFiles() (out []unixMsg) {
	x.queues(func(q *unixSocket) {
		var stays []unixMsg
		for _, m := range q.rx {
			if len(m.files) > 0 {
				q.withFiles--
				q.rxBytes -= m.len()
				out = append(out, m)
			} else {
				stays = append(stays, m)
			}
		}
		q.rx = stays
	})
	return out
}
