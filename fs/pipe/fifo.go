package pipe

import (
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// fifos maps a named pipe's inode to the pipe that all who have it open share. uses
// counts ends and openers that wait.
var fifos struct {
	mu sync.Mutex
	m  map[vfs.Inode]*fifo
}

type fifo struct {
	p    *Pipe
	uses int
}

// Install makes vfs open named pipes here, with mem's frames.
func Install(mem *mm.Memory) {
	vfs.FIFO = func(c wait.Context, key vfs.Inode, flags uint32) (vfs.FileOps, error) {
		return OpenFIFO(mem, c, key, flags)
	}
}

// OpenFIFO opens a named pipe: it waits for the other end unless O_NONBLOCK or O_RDWR
// is given; ENXIO for a non-blocking writer without readers. See fifo(7).
func OpenFIFO(mem *mm.Memory, c wait.Context, key vfs.Inode, flags uint32) (vfs.FileOps, error) {
	acc := flags & unix.O_ACCMODE
	e := &end{read: acc != unix.O_WRONLY, write: acc == unix.O_WRONLY || acc == unix.O_RDWR, inode: key}
	p, err := joinFIFO(mem, e)
	if err != nil {
		return nil, err
	}
	nonblock := flags&unix.O_NONBLOCK != 0
	p.mu.Lock()
	if e.write && !e.read && nonblock && p.readers == 0 {
		p.unlock()
		dropFIFO(e, false)
		return nil, unix.ENXIO
	}
	if e.read {
		p.readers++
		p.rcounter++
	}
	if e.write {
		p.writers++
		p.wcounter++
	}
	readerless, writerless := p.readers == 0, p.writers == 0
	rc, wc := p.rcounter, p.wcounter
	if writerless {
		e.seen = wc
	}
	p.unlock()
	p.wakeAll()
	if nonblock || !readerless && !writerless {
		return e, nil
	}
	if err := e.meet(c, rc, wc); err != nil {
		dropFIFO(e, true)
		return nil, err
	}
	e.seen = 0
	return e, nil
}

// meet waits until the other side has been opened since the counters were read, even if
// it was closed again.
func (e *end) meet(c wait.Context, rc, wc uint64) error {
	p := e.p
	var en waiter.Entry
	en.Init(c.Listener(), waiter.AllEvents)
	e.q.EventRegister(&en)
	defer e.q.EventUnregister(&en)
	for {
		p.mu.Lock()
		met := e.read && p.wcounter != wc || e.write && p.rcounter != rc
		p.unlock()
		if met {
			return nil
		}
		if r := c.Block(hal.NoDeadline, wait.Interruptible); r != wait.Ready {
			return r.Err()
		}
	}
}

func joinFIFO(mem *mm.Memory, e *end) (*Pipe, error) {
	fifos.mu.Lock()
	defer fifos.mu.Unlock()
	x := fifos.m[e.inode]
	if x == nil {
		p, err := newPipe(mem)
		if err != nil {
			return nil, err
		}
		x = &fifo{p: p}
		if fifos.m == nil {
			fifos.m = map[vfs.Inode]*fifo{}
		}
		fifos.m[e.inode] = x
	}
	x.uses++
	e.p = x.p
	switch {
	case e.read && e.write:
		e.q = &x.p.rw
	case e.read:
		e.q = &x.p.rd
	default:
		e.q = &x.p.wr
	}
	return x.p, nil
}

// dropFIFO takes a use away; joined says that e counts as a reader or writer.
func dropFIFO(e *end, joined bool) {
	if joined {
		// Under fifos.mu the next opener would find a dead pipe only if it were
		// still in the map; leave frees it only with the last end.
		fifos.mu.Lock()
		x := fifos.m[e.inode]
		if x.uses--; x.uses == 0 {
			delete(fifos.m, e.inode)
		}
		last := x.uses == 0
		fifos.mu.Unlock()
		e.p.leaveFIFO(e, last)
		return
	}
	fifos.mu.Lock()
	x := fifos.m[e.inode]
	if x.uses--; x.uses == 0 {
		delete(fifos.m, e.inode)
	}
	last := x.uses == 0
	fifos.mu.Unlock()
	if last {
		e.p.mu.Lock()
		e.p.free()
		e.p.unlock()
	}
}

func releaseFIFO(e *end) { dropFIFO(e, true) }

// leaveFIFO is leave for a FIFO, whose pipe lives while anybody uses it; its bytes go
// when nobody has it open, as Linux has it.
func (p *Pipe) leaveFIFO(e *end, last bool) {
	p.mu.Lock()
	if e.read {
		p.readers--
	}
	if e.write {
		p.writers--
	}
	if p.readers == 0 && p.writers == 0 {
		for p.used > 0 {
			p.pop()
		}
	}
	half := (p.readers == 0) != (p.writers == 0)
	if last {
		p.free()
	}
	p.unlock()
	if half {
		p.wakeAll()
	}
}
