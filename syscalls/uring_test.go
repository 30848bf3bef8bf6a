package syscalls

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/task"
)

// Where the tests map a ring's two parts, and the array of indices.
const (
	ringAt = 0x6800_0000
	sqesAt = 0x6900_0000
)

// testRing is a ring of n entries, mapped.
type testRing struct {
	p     *prog
	fd    uint64
	n     uint64
	array uint64
	tail  uint32
}

func (p *prog) ring(n uint64) *testRing {
	p.put(dataAt, make([]byte, 120))
	fd := p.sys(unix.SYS_IO_URING_SETUP, n, dataAt)
	if fd < 0 {
		p.r.t.Fatalf("io_uring_setup: %d", fd)
	}
	r := &testRing{p: p, fd: uint64(fd), n: n, array: uint64(p.get32(dataAt + 40 + 24))}
	p.want(ringAt, unix.SYS_MMAP, ringAt, r.array+4*n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED, r.fd, 0)
	p.want(sqesAt, unix.SYS_MMAP, sqesAt, 64*n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED, r.fd, 0x10000000)
	return r
}

// add puts a submission into the ring.
func (r *testRing) add(op, flags uint8, fd int32, words ...uint64) {
	var s [64]byte
	s[0], s[1] = op, flags
	le.PutUint32(s[4:], uint32(fd))
	for i, w := range words {
		le.PutUint64(s[8+8*i:], w)
	}
	i := uint64(r.tail) & (r.n - 1)
	r.p.put(sqesAt+64*i, s[:])
	var b [4]byte
	le.PutUint32(b[:], uint32(i))
	r.p.put(ringAt+r.array+4*i, b[:])
	r.tail++
	le.PutUint32(b[:], r.tail)
	r.p.put(ringAt+64, b[:])
}

func (r *testRing) enter(n uint64) int64 {
	return r.p.sys(unix.SYS_IO_URING_ENTER, r.fd, n, 0, 0, 0, 0)
}

func (r *testRing) close() {
	r.p.want(0, unix.SYS_MUNMAP, ringAt, r.array+4*r.n)
	r.p.want(0, unix.SYS_MUNMAP, sqesAt, 64*r.n)
	r.p.want(0, unix.SYS_CLOSE, r.fd)
}

const pollIn = uint64(unix.POLLIN) << 32 // behind a length of 0

// A program's requests are bounded, also those that only wait behind others.
func TestRequestsThatWaitAreCharged(t *testing.T) {
	r := newRig(t)
	r.run(vfs.RootCreds(), func(p *prog) {
		p.want(0, unix.SYS_PIPE2, dataAt+4096, 0)
		pipe := int32(p.get32(dataAt + 4096))
		q := p.ring(64)
		used := r.mem.Budget().Used()
		q.add(6, sqeLink, pipe, 0, 0, pollIn)
		for range 31 {
			q.add(0, sqeLink, 0)
		}
		q.add(0, 0, 0)
		if got := q.enter(64); got != 33 {
			t.Errorf("submitted %d", got)
		}
		if cost := r.mem.Budget().Used() - used; cost < 33*requestCost {
			t.Errorf("a chain of 33 costs %d", cost)
		}
		r.mem.Budget().SetLimit(r.mem.Budget().Used() + 200*requestCost)
		for total := int64(0); ; {
			for range 32 {
				q.add(0, sqeDrain, 0)
			}
			got := q.enter(64)
			if got == -int64(unix.EAGAIN) {
				break
			}
			if total += got; got < 0 || total > 200 {
				t.Errorf("submitted %d, %d in all", got, total)
				break
			}
		}
	})
}

func (r *testRing) state() (*uringState, *task.Thread) {
	t := r.p.thread()
	f := t.FDs().Get(int32(r.fd))
	defer f.DecRef()
	return f.Ops.(*uringFile).u, t
}

// What a ring keeps for a program costs it something, and nothing once it has gone.
func TestRingGivesBackWhatItCharged(t *testing.T) {
	r := newRig(t)
	r.run(vfs.RootCreds(), func(p *prog) {
		p.want(0, unix.SYS_PIPE2, dataAt+4096, 0)
		pipe := int32(p.get32(dataAt + 4096))
		used := r.mem.Budget().Used()
		q := p.ring(64)
		before := r.mem.Budget().Used()
		const n = 1000
		p.put(dataAt+8192, make([]byte, 16*n))
		p.want(0, unix.SYS_IO_URING_REGISTER, q.fd, regBuffers, dataAt+8192, n)
		if cost := r.mem.Budget().Used() - before; cost < 16*n {
			t.Errorf("%d buffers cost %d", n, cost)
		}
		p.fail(unix.EBUSY, unix.SYS_IO_URING_REGISTER, q.fd, regBuffers, dataAt+8192, n)
		p.want(1, unix.SYS_IO_URING_REGISTER, q.fd, regPersonality, 0, 0)
		// A poll, what is linked behind it, what waits behind all, and buffers.
		q.add(6, sqeLink, pipe, 0, 0, pollIn)
		q.add(0, 0, 0)
		q.add(31, 0, 500, 0, dataAt, 16)
		q.add(0, sqeDrain, 0)
		if got := q.enter(4); got != 4 {
			t.Errorf("submitted %d", got)
		}
		q.close()
		if now := r.mem.Budget().Used(); now != used {
			t.Errorf("%d bytes are charged, %d before", now, used)
		}
	})
}

// A ring that is closed while a completion is added lives until it has been.
func TestRingOutlivesWhoeverPosts(t *testing.T) {
	r := newRig(t)
	r.run(vfs.RootCreds(), func(p *prog) {
		p.ring(4).close() // page tables that stay
		used, free := r.mem.Budget().Used(), r.mem.M.MemStats().FreePages
		q := p.ring(4)
		u, _ := q.state()
		u.ring.SetEventFD(func() {
			q.close()
			if u.settle(); u.ring == nil {
				t.Error("the ring was freed under whoever posts")
			}
		})
		u.post(1, 0, 0)
		u.ended()
		if u.ring != nil {
			t.Error("the ring is still there")
		}
		if now := r.mem.Budget().Used(); now != used {
			t.Errorf("%d bytes are charged, %d before", now, used)
		}
		if now := r.mem.M.MemStats().FreePages; now != free {
			t.Errorf("%d pages are free, %d before", now, free)
		}
	})
}

// A ring that is polled by itself goes when its thread does.
func TestRingThatPollsItself(t *testing.T) {
	r := newRig(t)
	r.run(vfs.RootCreds(), func(p *prog) {
		used, free := r.mem.Budget().Used(), r.mem.M.MemStats().FreePages
		q := p.ring(64)
		q.add(6, 0, int32(q.fd), 0, 0, pollIn)
		r.child(func(c *prog) {
			q := *q
			q.p = c
			if got := q.enter(1); got != 1 {
				t.Errorf("submitted %d", got)
			}
			c.sys(unix.SYS_EXIT_GROUP, 0)
		})
		pid := p.sys(unix.SYS_CLONE, uint64(unix.SIGCHLD), 0, 0, 0, 0)
		q.close()
		p.want(pid, unix.SYS_WAIT4, uint64(pid), 0, 0, 0)
		if now := r.mem.Budget().Used(); now > used {
			t.Errorf("%d bytes are charged, %d before", now, used)
		}
		if now := r.mem.M.MemStats().FreePages; now+8 < free {
			t.Errorf("%d pages are free, %d before", now, free)
		}
	})
}

// Of two threads that register at once, one does.
func TestRegisteringFilesTwice(t *testing.T) {
	r := newRig(t)
	r.run(vfs.RootCreds(), func(p *prog) {
		q := p.ring(8)
		u, th := q.state()
		p.put(dataAt, bytes.Repeat([]byte{0xff}, 4*1000))
		used := r.mem.Budget().Used()
		for range 500 {
			var wg sync.WaitGroup
			for range 2 {
				wg.Add(1)
				go func() { defer wg.Done(); _ = u.setFiles(th, dataAt, 1000) }()
			}
			wg.Wait()
			if err := u.dropFiles(); err != nil {
				t.Fatal(err)
			}
		}
		if now := r.mem.Budget().Used(); now != used {
			t.Errorf("%d bytes are charged, %d before", now, used)
		}
	})
}

// completions are the user data of those that the program has not seen, which it sees now.
func (r *testRing) completions() (users []uint64) {
	head, tail := r.p.get32(ringAt+128), r.p.get32(ringAt+192)
	for ; head != tail; head++ {
		users = append(users, r.p.get64(ringAt+320+16*(uint64(head)&(2*r.n-1))))
	}
	var b [4]byte
	le.PutUint32(b[:], tail)
	r.p.put(ringAt+128, b[:])
	return users
}

// A timeout counts completions, but not those of timeouts that end by themselves: each would
// bring the next one to its end.
func TestTimeoutsDoNotCountEachOther(t *testing.T) {
	r := newRig(t)
	r.run(vfs.RootCreds(), func(p *prog) {
		const timeout, remove, many = 11, 12, 5000
		p.put64(dataAt+4096, 1000, 0)
		q := p.ring(64)
		arm := func(count, user uint64) {
			q.add(timeout, 0, -1, count, dataAt+4096, 1, user)
			if got := q.enter(1); got != 1 {
				t.Errorf("submitted %d", got)
			}
		}
		check := func(what string, want ...uint64) {
			t.Helper()
			if got := q.completions(); !slices.Equal(got, want) {
				t.Errorf("%s: %d, want %d", what, got, want)
			}
		}
		nop := func() { q.add(0, 0, -1, 0, 0, 0, 100); q.enter(1) }
		arm(3, 3)
		arm(1, 1)
		arm(2, 2)
		arm(1<<32, 4) // no count at all
		arm(9, 5)
		nop()
		check("one", 100, 1)
		nop()
		check("two", 100, 2)
		q.add(remove, 0, -1, 0, 5, 0, 6) // and one that is cancelled counts
		q.enter(1)
		check("cancelled", 5, 3, 6)
		q.add(remove, 0, -1, 0, 4, 0, 7)
		q.enter(1)
		check("without a count", 4, 7)
		for i := range uint64(many) {
			arm(many-i, i)
		}
		for range many {
			if nop(); len(q.completions()) != 2 {
				t.Error("not one at a time")
				break
			}
		}
		if u, _ := q.state(); len(u.timeouts) != 0 {
			t.Errorf("%d are left", len(u.timeouts))
		}
	})
}

// A poll of many shots that hears of its own ring's completions tells of one and ends, as on
// Linux (EPOLL_URING_WAKE): else each would bring the next, for ever.
func TestPollsThatHearOfTheirOwnCompletionsEnd(t *testing.T) {
	const eventAt = dataAt + 4096
	for name, watch := range map[string]func(p *prog, q *testRing) uint64{
		"itself": func(_ *prog, q *testRing) uint64 { return q.fd },
		"its eventfd": func(p *prog, q *testRing) uint64 {
			e := uint64(p.sys(unix.SYS_EVENTFD2, 0, unix.EFD_NONBLOCK))
			p.put64(eventAt, e)
			p.want(0, unix.SYS_IO_URING_REGISTER, q.fd, regEventfd, eventAt, 1)
			return e
		},
		"an epoll set": func(p *prog, q *testRing) uint64 {
			inner, ep := uint64(p.sys(unix.SYS_EPOLL_CREATE1, 0)), uint64(p.sys(unix.SYS_EPOLL_CREATE1, 0))
			p.put64(eventAt, unix.EPOLLIN, 0)
			p.want(0, unix.SYS_EPOLL_CTL, inner, unix.EPOLL_CTL_ADD, q.fd, eventAt)
			p.want(0, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, inner, eventAt)
			return ep
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.run(vfs.RootCreds(), func(p *prog) {
				q := p.ring(16)
				q.add(6, 0, int32(watch(p, q)), 0, 0, pollIn|pollMulti, 7)
				q.add(0, 0, 0, 0, 0, 0, 9)
				if got := q.enter(2); got != 2 {
					t.Errorf("submitted %d", got)
				}
				p.sys(unix.SYS_GETPID)
				if n := p.get32(ringAt + 192); n != 2 {
					t.Errorf("%d completions", n)
				}
				for i, want := range []uint64{9, 7} {
					user, flags := p.get64(ringAt+320+16*uint64(i)), p.get32(ringAt+320+16*uint64(i)+12)
					if user != want || flags != 0 {
						t.Errorf("completion %d is of %d with flags %#x", i, user, flags)
					}
				}
			})
		})
	}
}
