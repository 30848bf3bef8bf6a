package syscalls

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal/fake"
)

// abi is a Linux to make calls to: this kernel's or the host's. Memory is at base.
type abi interface {
	sys(nr uint64, args ...uint64) int64
	base() uint64
	put(at uint64, b []byte)
	get(at uint64, n int) []byte
}

func (p *prog) base() uint64 { return dataAt }

// host makes the calls to the host's kernel, on one thread, with memory of its own.
type host struct{ mem []byte }

func newHost(t *testing.T) *host {
	mem, err := unix.Mmap(-1, 0, dataSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	return &host{mem}
}

func (h *host) base() uint64 { return addrOf(h.mem) }

// sys makes a call again that a signal ended: the Go runtime sends itself SIGURG, and poll and
// epoll_wait give EINTR for one that is pending, even where they would not wait.
func (h *host) sys(nr uint64, args ...uint64) int64 {
	var a [6]uintptr
	for i, v := range args {
		a[i] = uintptr(v)
	}
	for {
		r, _, e := unix.Syscall6(uintptr(nr), a[0], a[1], a[2], a[3], a[4], a[5])
		switch e {
		case unix.EINTR:
		case 0:
			return int64(r)
		default:
			return -int64(e)
		}
	}
}
func (h *host) put(at uint64, b []byte) { copy(h.mem[at-h.base():], b) }
func (h *host) get(at uint64, n int) []byte {
	return bytes.Clone(h.mem[at-h.base() : at-h.base()+uint64(n)])
}

// world is a number of files and epoll sets, known by index so that both kernels' numbers
// do not matter.
type world struct {
	abi
	fds  []int64
	log  []string
	seen []string // results
}

func (w *world) open(fd int64) { w.fds = append(w.fds, fd) }

const (
	pollEventsAt = 0x1000 // offsets in memory
	pollBufAt    = 0x4000
)

// events are n reported ones in order of their files: Linux wakes the watchers of one file
// last come first, which shows in the order and means nothing.
func (w *world) events(n int) string {
	var list []string
	for i := range n {
		e := w.get(w.base()+pollEventsAt+uint64(i)*12, 12)
		list = append(list, fmt.Sprintf(" %02x:%x", e[4], e[:4]))
	}
	sort.Strings(list)
	return strings.Join(list, "")
}

// step makes one random call and notes its result, data included. The same seed makes
// the same calls, whatever the results.
func (w *world) step(r *rand.Rand, files, sets int) {
	b := w.base()
	file := func() int { return r.IntN(files) }
	set := func() int { return files + r.IntN(sets) }
	what, res := "", int64(0)
	extra := ""
	switch k := r.IntN(100); {
	case k < 22:
		i, n := file(), []uint64{1, 8, 100, 3000, 4096, 5000, 70000}[r.IntN(7)]
		if i == 4 || i == 5 {
			n = 8 // what eventfds make of more has changed since Linux 6.1
		}
		what = fmt.Sprintf("write %d, %d", i, n)
		w.put(b+pollBufAt, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		res = w.sys(unix.SYS_WRITE, uint64(w.fds[i]), b+pollBufAt, n)
	case k < 44:
		i, n := file(), []uint64{1, 8, 100, 4096, 9000, 70000}[r.IntN(6)]
		what = fmt.Sprintf("read %d, %d", i, n)
		res = w.sys(unix.SYS_READ, uint64(w.fds[i]), b+pollBufAt, n)
		if res > 0 {
			extra = fmt.Sprintf("%x", w.get(b+pollBufAt, int(min(res, 8))))
		}
	case k < 66:
		i, f := set(), r.IntN(files+sets)
		op := []uint64{unix.EPOLL_CTL_ADD, unix.EPOLL_CTL_ADD, unix.EPOLL_CTL_MOD, unix.EPOLL_CTL_DEL, 9}[r.IntN(5)]
		ev := uint32(0)
		for _, bit := range []uint32{unix.EPOLLIN, unix.EPOLLOUT, unix.EPOLLET, unix.EPOLLONESHOT, unix.EPOLLRDHUP, unix.EPOLLPRI, unix.EPOLLRDNORM, unix.EPOLLWRNORM} {
			if r.IntN(5) < 2 {
				ev |= bit
			}
		}
		if r.IntN(16) == 0 {
			ev |= unix.EPOLLEXCLUSIVE
		}
		what = fmt.Sprintf("epoll_ctl set %d, op %d, file %d, events %#x", i, op, f, ev)
		e := le.AppendUint64(le.AppendUint32(nil, ev), uint64(f))
		w.put(b+pollEventsAt, e)
		res = w.sys(unix.SYS_EPOLL_CTL, uint64(w.fds[i]), op, uint64(w.fds[f]), b+pollEventsAt)
	case k < 92:
		i, n := set(), uint64(32)
		what = fmt.Sprintf("epoll_wait %d, %d", i, n)
		res = w.sys(unix.SYS_EPOLL_WAIT, uint64(w.fds[i]), b+pollEventsAt, n, 0)
		if res > 0 {
			extra = w.events(int(res))
		}
	default:
		n := r.IntN(4) + 1
		what = "poll"
		var p []byte
		for range n {
			i, ev := r.IntN(files+sets), uint16(r.IntN(1<<11))
			what += fmt.Sprintf(" %d:%#x", i, ev)
			p = le.AppendUint16(le.AppendUint16(le.AppendUint32(p, uint32(w.fds[i])), ev), 0)
		}
		w.put(b+pollEventsAt, p)
		res = w.sys(unix.SYS_POLL, b+pollEventsAt, uint64(n), 0)
		for i := range n {
			extra += fmt.Sprintf(" %x", w.get(b+pollEventsAt+uint64(i)*8+6, 2))
		}
	}
	w.log = append(w.log, what)
	w.seen = append(w.seen, fmt.Sprintf("%s = %d %s", what, res, extra))
}

// build opens pipes, eventfds and epoll sets.
func (w *world) build() (files, sets int) {
	b := w.base()
	for _, fl := range []uint64{unix.O_NONBLOCK, unix.O_NONBLOCK | unix.O_DIRECT} {
		w.sys(unix.SYS_PIPE2, b, fl)
		p := w.get(b, 8)
		w.open(int64(le.Uint32(p)))
		w.open(int64(le.Uint32(p[4:])))
	}
	w.open(w.sys(unix.SYS_EVENTFD2, 0, unix.EFD_NONBLOCK))
	w.open(w.sys(unix.SYS_EVENTFD2, 3, unix.EFD_NONBLOCK|unix.EFD_SEMAPHORE))
	w.sys(unix.SYS_PIPE2, b, unix.O_NONBLOCK)
	p := w.get(b, 8)
	w.sys(unix.SYS_FCNTL, uint64(le.Uint32(p)), unix.F_SETPIPE_SZ, 4096)
	w.open(int64(le.Uint32(p)))
	w.open(int64(le.Uint32(p[4:])))
	files = len(w.fds)
	for range 3 {
		w.open(w.sys(unix.SYS_EPOLL_CREATE1, 0))
	}
	return files, len(w.fds) - files
}

func (w *world) close() {
	for _, fd := range w.fds {
		w.sys(unix.SYS_CLOSE, uint64(fd))
	}
}

// TestPollingFollowsTheHost makes the same random calls on pipes, eventfds and nested epoll
// sets here and to the host's Linux, and compares every result and every byte.
func TestPollingFollowsTheHost(t *testing.T) {
	runs, steps := 300, 400
	if testing.Short() {
		runs = 10
	}
	r := newRig(t)
	r.run(nil, func(p *prog) {
		h := newHost(t)
		for seed := range uint64(runs) {
			var worlds [2]*world
			for i, a := range []abi{p, h} {
				w := &world{abi: a}
				rng := rand.New(rand.NewPCG(seed, 7))
				files, sets := w.build()
				for range steps {
					w.step(rng, files, sets)
				}
				// The end of every file is an event, too, and a closed file leaves.
				for _, f := range []int{1, 0, 3, 5} {
					w.sys(unix.SYS_CLOSE, uint64(w.fds[f]))
					for s := files; s < files+sets; s++ {
						n := w.sys(unix.SYS_EPOLL_WAIT, uint64(w.fds[s]), w.base()+pollEventsAt, 32, 0)
						w.seen = append(w.seen, fmt.Sprintf("after close of %d, set %d: %d %s", f, s, n, w.events(int(max(n, 0)))))
					}
				}
				w.close()
				worlds[i] = w
			}
			for i := range worlds[0].seen {
				if worlds[0].seen[i] != worlds[1].seen[i] {
					for _, l := range worlds[1].seen[max(i-300, 0):i] {
						t.Log(l)
					}
					t.Errorf("seed %d step %d:\n here %s\n host %s", seed, i, worlds[0].seen[i], worlds[1].seen[i])
					return
				}
			}
		}
	})
}

// TestNestingIsRefusedAsOnTheHost puts epoll sets into each other at random until loops and
// depth refuse it.
func TestNestingIsRefusedAsOnTheHost(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		h := newHost(t)
		for seed := range uint64(200) {
			var seen [2][]string
			for k, a := range []abi{p, h} {
				rng := rand.New(rand.NewPCG(seed, 3))
				var sets []uint64
				for range 9 {
					sets = append(sets, uint64(a.sys(unix.SYS_EPOLL_CREATE1, 0)))
				}
				for range 60 {
					x, y := rng.IntN(len(sets)), rng.IntN(len(sets))
					op := uint64(unix.EPOLL_CTL_ADD)
					if rng.IntN(4) == 0 {
						op = unix.EPOLL_CTL_DEL
					}
					a.put(a.base(), le.AppendUint64(le.AppendUint32(nil, unix.EPOLLIN), 1))
					seen[k] = append(seen[k], fmt.Sprintf("op %d: %d into %d = %d", op, y, x, a.sys(unix.SYS_EPOLL_CTL, sets[x], op, sets[y], a.base())))
				}
				for _, fd := range sets {
					a.sys(unix.SYS_CLOSE, fd)
				}
			}
			for i := range seen[0] {
				if seen[0][i] != seen[1][i] {
					t.Fatalf("seed %d: here %s\nhost %s\nbefore it %s", seed, seen[0][i], seen[1][i], strings.Join(seen[1][:i], "; "))
				}
			}
		}
	})
}

// TestPollErrnosAreTheHosts makes calls with bad arguments.
func TestPollErrnosAreTheHosts(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		h := newHost(t)
		const bad = 0x10 // never mapped, here and on the host
		for _, c := range []struct {
			name string
			nr   uint64
			args func(b, rd, ep uint64) []uint64
		}{
			{"poll bad", unix.SYS_POLL, func(b, rd, ep uint64) []uint64 { return []uint64{bad, 1, 0} }},
			{"poll none bad", unix.SYS_POLL, func(b, rd, ep uint64) []uint64 { return []uint64{bad, 0, 0} }},
			{"poll many", unix.SYS_POLL, func(b, rd, ep uint64) []uint64 { return []uint64{b, 1 << 30, 0} }},
			{"ppoll size", unix.SYS_PPOLL, func(b, rd, ep uint64) []uint64 { return []uint64{b, 0, 0, b, 4} }},
			{"ppoll bad time", unix.SYS_PPOLL, func(b, rd, ep uint64) []uint64 { return []uint64{b, 0, bad, b, 4} }},
			{"ppoll bad mask", unix.SYS_PPOLL, func(b, rd, ep uint64) []uint64 { return []uint64{b, 0, 0, bad, 8} }},
			{"select negative", unix.SYS_SELECT, func(b, rd, ep uint64) []uint64 { return []uint64{^uint64(0), 0, 0, 0, 0} }},
			{"select bad set", unix.SYS_SELECT, func(b, rd, ep uint64) []uint64 { return []uint64{64, bad, 0, 0, b + 64} }},
			{"select bad time", unix.SYS_SELECT, func(b, rd, ep uint64) []uint64 { return []uint64{64, 0, 0, 0, bad} }},
			{"pselect6 bad sig", unix.SYS_PSELECT6, func(b, rd, ep uint64) []uint64 { return []uint64{0, 0, 0, 0, 0, bad} }},
			{"epoll_create 0", unix.SYS_EPOLL_CREATE, func(b, rd, ep uint64) []uint64 { return []uint64{0} }},
			{"epoll_create1 flags", unix.SYS_EPOLL_CREATE1, func(b, rd, ep uint64) []uint64 { return []uint64{1} }},
			{"epoll_ctl bad event", unix.SYS_EPOLL_CTL, func(b, rd, ep uint64) []uint64 { return []uint64{999, 1, 999, bad} }},
			{"epoll_ctl bad fd", unix.SYS_EPOLL_CTL, func(b, rd, ep uint64) []uint64 { return []uint64{ep, 1, 999, b} }},
			{"epoll_ctl bad ep", unix.SYS_EPOLL_CTL, func(b, rd, ep uint64) []uint64 { return []uint64{999, 1, rd, b} }},
			{"epoll_ctl not ep", unix.SYS_EPOLL_CTL, func(b, rd, ep uint64) []uint64 { return []uint64{rd, 1, ep, b} }},
			{"epoll_ctl itself", unix.SYS_EPOLL_CTL, func(b, rd, ep uint64) []uint64 { return []uint64{ep, 1, ep, b} }},
			{"epoll_ctl op", unix.SYS_EPOLL_CTL, func(b, rd, ep uint64) []uint64 { return []uint64{ep, 7, rd, b} }},
			{"epoll_wait max 0", unix.SYS_EPOLL_WAIT, func(b, rd, ep uint64) []uint64 { return []uint64{ep, b, 0, 0} }},
			{"epoll_wait bad fd", unix.SYS_EPOLL_WAIT, func(b, rd, ep uint64) []uint64 { return []uint64{999, b, 1, 0} }},
			{"epoll_wait not ep", unix.SYS_EPOLL_WAIT, func(b, rd, ep uint64) []uint64 { return []uint64{rd, b, 1, 0} }},
			{"epoll_wait empty bad", unix.SYS_EPOLL_WAIT, func(b, rd, ep uint64) []uint64 { return []uint64{ep, bad, 1, 0} }},
			{"epoll_pwait size", unix.SYS_EPOLL_PWAIT, func(b, rd, ep uint64) []uint64 { return []uint64{ep, b, 1, 0, b, 4} }},
			{"epoll_pwait bad mask", unix.SYS_EPOLL_PWAIT, func(b, rd, ep uint64) []uint64 { return []uint64{999, b, 1, 0, bad, 8} }},
			{"pipe2 flags", unix.SYS_PIPE2, func(b, rd, ep uint64) []uint64 { return []uint64{b, 1} }},
			{"pipe bad", unix.SYS_PIPE, func(b, rd, ep uint64) []uint64 { return []uint64{bad} }},
			{"eventfd2 flags", unix.SYS_EVENTFD2, func(b, rd, ep uint64) []uint64 { return []uint64{0, 2} }},
			{"timerfd_create clock", unix.SYS_TIMERFD_CREATE, func(b, rd, ep uint64) []uint64 { return []uint64{2, 0} }},
			{"timerfd_create flags", unix.SYS_TIMERFD_CREATE, func(b, rd, ep uint64) []uint64 { return []uint64{1, 1} }},
			{"timerfd_settime bad", unix.SYS_TIMERFD_SETTIME, func(b, rd, ep uint64) []uint64 { return []uint64{999, 0, bad, 0} }},
			{"timerfd_settime fd", unix.SYS_TIMERFD_SETTIME, func(b, rd, ep uint64) []uint64 { return []uint64{999, 0, b + 64, 0} }},
			{"timerfd_settime flags", unix.SYS_TIMERFD_SETTIME, func(b, rd, ep uint64) []uint64 { return []uint64{rd, 8, b + 64, 0} }},
			{"timerfd_gettime not one", unix.SYS_TIMERFD_GETTIME, func(b, rd, ep uint64) []uint64 { return []uint64{rd, b} }},
			{"signalfd4 size", unix.SYS_SIGNALFD4, func(b, rd, ep uint64) []uint64 { return []uint64{^uint64(0), b, 4, 0} }},
			{"signalfd4 bad", unix.SYS_SIGNALFD4, func(b, rd, ep uint64) []uint64 { return []uint64{^uint64(0), bad, 8, 1} }},
			{"signalfd4 flags", unix.SYS_SIGNALFD4, func(b, rd, ep uint64) []uint64 { return []uint64{^uint64(0), b, 8, 1} }},
			{"signalfd4 fd", unix.SYS_SIGNALFD4, func(b, rd, ep uint64) []uint64 { return []uint64{999, b, 8, 0} }},
			{"signalfd4 not one", unix.SYS_SIGNALFD4, func(b, rd, ep uint64) []uint64 { return []uint64{rd, b, 8, 0} }},
			{"memfd bad", unix.SYS_MEMFD_CREATE, func(b, rd, ep uint64) []uint64 { return []uint64{bad, 0} }},
			{"memfd flags", unix.SYS_MEMFD_CREATE, func(b, rd, ep uint64) []uint64 { return []uint64{b, 0x4000} }},
			{"setpipe 0", unix.SYS_FCNTL, func(b, rd, ep uint64) []uint64 { return []uint64{rd, unix.F_SETPIPE_SZ, 0} }},
			{"setpipe 5000", unix.SYS_FCNTL, func(b, rd, ep uint64) []uint64 { return []uint64{rd, unix.F_SETPIPE_SZ, 5000} }},
			{"getpipe", unix.SYS_FCNTL, func(b, rd, ep uint64) []uint64 { return []uint64{rd, unix.F_GETPIPE_SZ, 0} }},
			{"getpipe ep", unix.SYS_FCNTL, func(b, rd, ep uint64) []uint64 { return []uint64{ep, unix.F_GETPIPE_SZ, 0} }},
			{"read ep", unix.SYS_READ, func(b, rd, ep uint64) []uint64 { return []uint64{ep, b, 8} }},
			{"lseek pipe", unix.SYS_LSEEK, func(b, rd, ep uint64) []uint64 { return []uint64{rd, 0, 0} }},
		} {
			var res [2]int64
			for k, a := range []abi{p, h} {
				b := a.base()
				a.sys(unix.SYS_PIPE2, b, unix.O_NONBLOCK)
				f := a.get(b, 8)
				rd, wr := uint64(le.Uint32(f)), uint64(le.Uint32(f[4:]))
				ep := uint64(a.sys(unix.SYS_EPOLL_CREATE1, 0))
				a.put(b, make([]byte, 256))
				res[k] = a.sys(c.nr, c.args(b, rd, ep)...)
				for _, fd := range []uint64{rd, wr, ep} {
					a.sys(unix.SYS_CLOSE, fd)
				}
			}
			if res[0] != res[1] {
				t.Errorf("%s: %d, the host says %d", c.name, res[0], res[1])
			}
		}
	})
}

// TestWaitsEndAndRestart: time-outs pass, another thread's write ends a wait, one event
// wakes one waiter, and what was reported once to an edge is not reported again.
func TestWaitsEndAndRestart(t *testing.T) {
	r := newRig(t)
	r.k.M.(*fake.Machine).UseHostClock()
	r.run(nil, func(p *prog) {
		b := p.base()
		p.want(0, unix.SYS_PIPE2, b, unix.O_NONBLOCK)
		rd, wr := uint64(p.get32(b)), uint64(p.get32(b+4))
		ep := uint64(p.sys(unix.SYS_EPOLL_CREATE1, 0))
		p.put(b, le.AppendUint64(le.AppendUint32(nil, unix.EPOLLIN|unix.EPOLLET), 7))
		p.want(0, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, rd, b)
		p.want(0, unix.SYS_EPOLL_WAIT, ep, b, 8, 5)
		p.put64(b, 0, 3000000)
		p.want(0, unix.SYS_PPOLL, 0, 0, b, 0, 0)
		if left := p.get64(b) | p.get64(b+8); left != 0 {
			t.Errorf("ppoll left %d", left)
		}
		tfd := uint64(p.sys(unix.SYS_TIMERFD_CREATE, unix.CLOCK_MONOTONIC, 0))
		p.put64(b, 0, 1000000, 0, 2000000)
		p.want(0, unix.SYS_TIMERFD_SETTIME, tfd, 0, b, 0)
		p.put(b, le.AppendUint64(le.AppendUint32(nil, unix.EPOLLIN), 9))
		p.want(0, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, tfd, b)
		p.want(1, unix.SYS_EPOLL_WAIT, ep, b, 8, 10000)
		if p.get64(b+4) != 9 {
			t.Errorf("data %d", p.get64(b+4))
		}
		p.want(8, unix.SYS_READ, tfd, b, 8)
		p.want(8, unix.SYS_READ, tfd, b, 8) // blocks until the next period
		p.want(0, unix.SYS_CLOSE, tfd)
		p.want(1, unix.SYS_WRITE, wr, b, 1)
		p.want(1, unix.SYS_EPOLL_WAIT, ep, b, 8, 10000)
		p.want(0, unix.SYS_EPOLL_WAIT, ep, b, 8, 0)
	})
}

// TestSpecialFilesBehaveAsOnTheHost: seals of a memfd, semaphores, a signalfd, an absolute
// timer in the past.
func TestSpecialFilesBehaveAsOnTheHost(t *testing.T) {
	r := newRig(t)
	r.k.M.(*fake.Machine).UseHostClock()
	r.run(nil, func(p *prog) {
		var seen [2][]int64
		for k, a := range []abi{p, newHost(t)} {
			b := a.base()
			do := func(nr uint64, args ...uint64) uint64 {
				v := a.sys(nr, args...)
				seen[k] = append(seen[k], v)
				return uint64(v)
			}
			quiet := func(nr uint64, args ...uint64) uint64 { return uint64(a.sys(nr, args...)) }
			a.put(b, []byte("x\x00"))
			m := quiet(unix.SYS_MEMFD_CREATE, b, unix.MFD_ALLOW_SEALING)
			do(unix.SYS_WRITE, m, b, 100)
			do(unix.SYS_FTRUNCATE, m, 50)
			do(unix.SYS_FCNTL, m, unix.F_ADD_SEALS, unix.F_SEAL_SHRINK)
			do(unix.SYS_FTRUNCATE, m, 10)
			do(unix.SYS_FTRUNCATE, m, 5000)
			do(unix.SYS_FCNTL, m, unix.F_ADD_SEALS, unix.F_SEAL_GROW)
			do(unix.SYS_FTRUNCATE, m, 6000)
			do(unix.SYS_PWRITE64, m, b, 100, 4990)
			do(unix.SYS_PWRITE64, m, b, 100, 5000)
			do(unix.SYS_FCNTL, m, unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
			do(unix.SYS_PWRITE64, m, b, 1, 0)
			do(unix.SYS_FCNTL, m, unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
			do(unix.SYS_FCNTL, m, unix.F_GET_SEALS)
			do(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, m, 0)
			do(unix.SYS_CLOSE, m)

			tfd := quiet(unix.SYS_TIMERFD_CREATE, unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK)
			do(unix.SYS_READ, tfd, b, 8)
			a.put(b, make([]byte, 64))
			a.put(b+24, []byte{1}) // at 1 ns
			do(unix.SYS_TIMERFD_SETTIME, tfd, unix.TFD_TIMER_ABSTIME, b, 0)
			a.put(b+64, le.AppendUint64(nil, tfd|1<<32))
			do(unix.SYS_POLL, b+64, 1, 10000)
			do(unix.SYS_READ, tfd, b, 7)
			do(unix.SYS_READ, tfd, b, 8)
			do(unix.SYS_READ, tfd, b, 8)
			do(unix.SYS_WRITE, tfd, b, 8)
			do(unix.SYS_CLOSE, tfd)
			if k == 1 {
				break // signals of the test's own process are the Go runtime's
			}
			a.put(b, le.AppendUint64(nil, 1<<(unix.SIGUSR1-1)))
			quiet(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, b, 0, 8)
			s := quiet(unix.SYS_SIGNALFD4, ^uint64(0), b, 8, unix.SFD_NONBLOCK)
			p.fail(unix.EAGAIN, unix.SYS_READ, s, b+256, 128)
			p.want(0, unix.SYS_KILL, 1, uint64(unix.SIGUSR1))
			a.put(b+64, le.AppendUint64(nil, s|1<<32))
			p.want(1, unix.SYS_POLL, b+64, 1, 0)
			p.fail(unix.EINVAL, unix.SYS_READ, s, b+256, 127)
			p.want(128, unix.SYS_READ, s, b+256, 300)
			if n := p.get32(b + 256); n != uint32(unix.SIGUSR1) {
				t.Errorf("signal %d", n)
			}
			p.want(0, unix.SYS_POLL, b+64, 1, 0)
		}
		for i := range seen[1] {
			if seen[0][i] != seen[1][i] {
				t.Errorf("result %d: %d, the host says %d", i, seen[0][i], seen[1][i])
			}
		}
	})
}

// TestSealsWaitForWritableMappings: F_SEAL_WRITE is EBUSY while a shared mapping can write,
// as on the host.
func TestSealsWaitForWritableMappings(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		var seen [2][]int64
		for k, a := range []abi{p, newHost(t)} {
			b := a.base()
			do := func(nr uint64, args ...uint64) { seen[k] = append(seen[k], a.sys(nr, args...)) }
			quiet := func(nr uint64, args ...uint64) uint64 { return uint64(a.sys(nr, args...)) }
			seal := func(m, s uint64) {
				do(unix.SYS_FCNTL, m, unix.F_ADD_SEALS, s)
				do(unix.SYS_FCNTL, m, unix.F_GET_SEALS)
			}
			a.put(b, []byte("x\x00"))
			for _, c := range []struct{ prot, flags uint64 }{
				{unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED},
				{unix.PROT_READ, unix.MAP_SHARED}, // may become writable
				{unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE},
			} {
				m := quiet(unix.SYS_MEMFD_CREATE, b, unix.MFD_ALLOW_SEALING)
				do(unix.SYS_FTRUNCATE, m, 8192)
				at := quiet(unix.SYS_MMAP, 0, 8192, c.prot, c.flags, m, 0)
				seal(m, unix.F_SEAL_WRITE)
				seal(m, unix.F_SEAL_SHRINK)
				do(unix.SYS_MUNMAP, at, 4096)
				seal(m, unix.F_SEAL_WRITE)
				do(unix.SYS_MUNMAP, at+4096, 4096)
				seal(m, unix.F_SEAL_WRITE)
				seal(m, unix.F_SEAL_WRITE)
				do(unix.SYS_CLOSE, m)
			}
		}
		for i := range seen[1] {
			if seen[0][i] != seen[1][i] {
				t.Errorf("result %d: %d, the host says %d", i, seen[0][i], seen[1][i])
			}
		}
	})
}

// A signalfd keeps the process that made it, and costs what that does.
func TestASignalFDIsCharged(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		p.put64(dataAt, 1<<9)
		before := r.mem.Budget().Used()
		fd := p.sys(unix.SYS_SIGNALFD4, ^uint64(0), dataAt, 8, 0)
		if cost := r.mem.Budget().Used() - before; fd < 0 || cost < 1024 {
			t.Errorf("signalfd4 is %d and costs %d", fd, cost)
		}
		p.want(0, unix.SYS_CLOSE, uint64(fd))
		if cost := r.mem.Budget().Used() - before; cost != 0 {
			t.Errorf("%d bytes are charged for nothing", cost)
		}
	})
}
