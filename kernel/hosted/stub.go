package hosted

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where the stub's own pages stand in the program's half: far from where a loader,
// a heap or a stack is placed.
const (
	stubBase    = 0x100000000000
	stubControl = stubBase + 0x2000 // also in stub_amd64.s
	controlSize = 0x2000
	stubEndAddr = stubControl + controlSize
	// hostTop is one past what a process of the host can unmap.
	hostTop = 0x7ffffffff000
)

// Descriptors that a stub inherits.
const (
	framesFD  = 3
	controlFD = 4
)

func stubCode()
func stubBases()
func stubEnd()
func stubAddrs() (start, bases, end *byte)

// basesGadget is the address in the stub of the code that loads FS and GS bases
// from RDI and RSI.
var basesGadget uint64

// command is one system call for the control thread, as it lies in the control page.
type command struct {
	nr, a0, a1, a2, a3, a4, a5 uint64
	ret                        int64
}

// control is the layout of the control page.
type control struct {
	req, done uint32
	count     uint32
	_         [52]byte
	cmds      [maxCommands]command
}

const maxCommands = (controlSize - 64) / 64

// stub is a process whose memory is one address space. Its first thread serves
// commands through a shared page; the threads that run the program are traced.
type stub struct {
	pid int

	mu     sync.Mutex // one request at a time
	ctl    *control
	ctlMem []byte
}

var errStubDied = errors.New("hosted: the stub process has died")

// stubImage is an ELF file with one segment: the code of stub_amd64.s.
func stubImage() []byte {
	start, bases, end := stubAddrs()
	code := unsafe.Slice(start, uintptr(unsafe.Pointer(end))-uintptr(unsafe.Pointer(start)))
	const head = 64 + 56
	basesGadget = stubBase + head + uint64(uintptr(unsafe.Pointer(bases))-uintptr(unsafe.Pointer(start)))
	var b bytes.Buffer
	le := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	le([]uint16{2, 62}) // ET_EXEC, EM_X86_64
	le(uint32(1))
	le([]uint64{stubBase + head, 64, 0})
	le(uint32(0))
	le([]uint16{64, 56, 1, 0, 0, 0})
	size := uint64(head + len(code))
	le([]uint32{1, 5}) // PT_LOAD, R+X
	le([]uint64{0, stubBase, stubBase, size, size, 0x1000})
	b.Write(code)
	return b.Bytes()
}

// forkRequests go to one OS thread that lives as long as the process: a stub gets
// SIGKILL when the thread that forked it ends (PR_SET_PDEATHSIG).
var (
	forkOnce     sync.Once
	forkRequests chan forkRequest
)

type forkRequest struct {
	frames, control *os.File
	reply           chan forkReply
}

type forkReply struct {
	pid int
	err error
}

func forker() {
	runtime.LockOSThread()
	image, err := memfd("kiln-stub", stubImage())
	for r := range forkRequests {
		if err != nil {
			r.reply <- forkReply{err: err}
			continue
		}
		pid, ferr := syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", image.Fd()), []string{"kiln-stub"}, &syscall.ProcAttr{
			Env:   []string{},
			Files: []uintptr{^uintptr(0), ^uintptr(0), ^uintptr(0), r.frames.Fd(), r.control.Fd()},
			Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
		})
		runtime.KeepAlive(image)
		r.reply <- forkReply{pid, ferr}
	}
}

func memfd(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("hosted: memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		return nil, err
	}
	return f, nil
}

// newStub starts a process with nothing mapped below stubBase and above the stub:
// no stack, no vDSO.
func newStub(frames *os.File) (*stub, error) {
	ctl, err := memfd("kiln-control", make([]byte, controlSize))
	if err != nil {
		return nil, err
	}
	defer ctl.Close()
	mem, err := unix.Mmap(int(ctl.Fd()), 0, controlSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	forkOnce.Do(func() {
		forkRequests = make(chan forkRequest)
		go forker()
	})
	reply := make(chan forkReply)
	forkRequests <- forkRequest{frames, ctl, reply}
	r := <-reply
	if r.err != nil {
		unix.Munmap(mem)
		return nil, fmt.Errorf("hosted: starting a stub: %w", r.err)
	}
	s := &stub{pid: r.pid, ctlMem: mem, ctl: (*control)(unsafe.Pointer(&mem[0]))}
	cmds := flushCommands()
	if err := s.run(cmds); err != nil {
		s.kill(nil)
		return nil, err
	}
	for _, c := range cmds {
		if c.ret != 0 {
			s.kill(nil)
			return nil, fmt.Errorf("hosted: the host does not let the stub unmap its vDSO: %w", unix.Errno(-c.ret))
		}
	}
	return s, nil
}

// flushCommands unmap everything but the stub itself.
func flushCommands() []command {
	return []command{
		{nr: unix.SYS_MUNMAP, a0: 0, a1: stubBase},
		{nr: unix.SYS_MUNMAP, a0: stubEndAddr, a1: hostTop - stubEndAddr},
	}
}

// run executes commands in the stub and fills in their results.
func (s *stub) run(cmds []command) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(cmds) > 0 {
		n := min(len(cmds), maxCommands)
		copy(s.ctl.cmds[:], cmds[:n])
		s.ctl.count = uint32(n)
		seq := s.ctl.req + 1
		atomic.StoreUint32(&s.ctl.req, seq)
		futex(&s.ctl.req, 1 /* FUTEX_WAKE */, 1, nil)
		if err := s.await(seq); err != nil {
			return err
		}
		copy(cmds[:n], s.ctl.cmds[:n])
		cmds = cmds[n:]
	}
	return nil
}

func (s *stub) await(seq uint32) error {
	ts := unix.Timespec{Nsec: 200e6}
	for {
		done := atomic.LoadUint32(&s.ctl.done)
		if done == seq {
			return nil
		}
		if futex(&s.ctl.done, 0 /* FUTEX_WAIT */, done, &ts) == unix.ETIMEDOUT && s.dead() {
			return errStubDied
		}
	}
}

func (s *stub) dead() bool {
	var info [128]byte
	_, _, e := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(s.pid), uintptr(unsafe.Pointer(&info[0])),
		unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, 0, 0)
	return e != 0 || binary.LittleEndian.Uint32(info[:]) != 0
}

func futex(addr *uint32, op int, val uint32, ts *unix.Timespec) unix.Errno {
	_, _, e := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(addr)), uintptr(op), uintptr(val), uintptr(unsafe.Pointer(ts)), 0, 0)
	return e
}

// clone makes a thread that waits in the stub's code and returns its id.
func (s *stub) clone() (int, error) {
	c := []command{{nr: unix.SYS_CLONE, a0: unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND |
		unix.CLONE_THREAD | unix.CLONE_SYSVSEM}}
	if err := s.run(c); err != nil {
		return 0, err
	}
	if c[0].ret < 0 {
		return 0, fmt.Errorf("hosted: a thread for the stub: %w", unix.Errno(-c[0].ret))
	}
	return int(c[0].ret), nil
}

// kill ends the process and reaps it with its traced threads (a traced zombie
// thread keeps its group's leader from being reaped).
func (s *stub) kill(threads []int) {
	unix.Kill(s.pid, unix.SIGKILL)
	for _, tid := range append(threads, s.pid) {
		for {
			var ws unix.WaitStatus
			_, err := unix.Wait4(tid, &ws, unix.WALL, nil)
			if err == unix.EINTR || err == nil && !ws.Exited() && !ws.Signaled() {
				continue
			}
			break
		}
	}
	unix.Munmap(s.ctlMem)
	s.ctl, s.ctlMem = nil, nil
}
