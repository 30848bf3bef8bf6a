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
// a heap or a stack is placed. All are also in stub_amd64.s.
const (
	stubBase    = 0x100000000000
	stubFilter  = stubBase + 0x1000 // struct sock_fprog and its instructions
	stubWords   = stubBase + 0x1ff0 // what the control thread can say
	stubControl = stubBase + 0x2000
	controlSize = 0x2000
	stubEndAddr = stubControl + controlSize
	// hostTop is one past what a process of the host can unmap.
	hostTop = 0x7ffffffff000
)

// Descriptors of a stub, in the order in which the mother of all stubs receives them,
// and of the mother.
const (
	framesFD  = 0
	controlFD = 1
	doneFD    = 2
	motherFD  = 3
)

// The words at stubWords: all is well, or there is a result to look at.
const (
	wordOK     = 'k'
	wordResult = 'v'
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
	_                          uint64
}

// control is the layout of the control page, which the stub can read only.
type control struct {
	req   uint32
	_     uint32
	count uint32
	_     [52]byte
	cmds  [maxCommands]command
}

const maxCommands = (controlSize - 64) / 64

// stub is a process whose memory is one address space. Its first thread serves
// commands from a shared page; the threads that run the program are traced.
//
// The program could write to any page of the stub that is writable, so none of the stub's
// own is. A batch is answered by one byte of constant memory through a pipe, and where
// there is a result, by the offset of the control file, which comes from a register.
type stub struct {
	pid int

	mu     sync.Mutex // one request at a time
	ctl    *control
	ctlMem []byte
	ctlFD  int
	done   int // read end of the pipe
}

var errStubDied = errors.New("hosted: the stub process has died")

// stubImage is an ELF file with one segment: the code of stub_amd64.s.
func stubImage() []byte {
	start, bases, end := stubAddrs()
	code := unsafe.Slice(start, uintptr(unsafe.Pointer(end))-uintptr(unsafe.Pointer(start)))
	const head = 64 + 56
	if head+len(code) > stubFilter-stubBase {
		panic("hosted: the stub's code is more than a page")
	}
	basesGadget = stubBase + head + uint64(uintptr(unsafe.Pointer(bases))-uintptr(unsafe.Pointer(start)))
	var b bytes.Buffer
	le := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	le([]uint16{2, 62}) // ET_EXEC, EM_X86_64
	le(uint32(1))
	le([]uint64{stubBase + head, 64, 0})
	le(uint32(0))
	le([]uint16{64, 56, 1, 0, 0, 0})
	size := uint64(stubControl - stubBase)
	le([]uint32{1, 5}) // PT_LOAD, R+X
	le([]uint64{0, stubBase, stubBase, size, size, 0x1000})
	b.Write(code)
	b.Write(make([]byte, stubFilter-stubBase-b.Len()))
	filter := stubRules().program()
	le([]uint64{uint64(len(filter)), stubFilter + 16}) // struct sock_fprog
	le(filter)
	b.Write(make([]byte, stubWords-stubBase-b.Len()))
	b.Write([]byte{wordOK, wordResult})
	b.Write(make([]byte, int(size)-b.Len()))
	return b.Bytes()
}

// mother is the process that makes stubs, one for all machines: it forks itself, which
// takes a tenth of the time of an exec and leaves nothing to execute once it is there. The
// stubs are this process's children all the same (CLONE_PARENT).
var mother struct {
	once sync.Once
	err  error
	mu   sync.Mutex
	sock int
}

// startMother forks and executes the mother in an OS thread that lives as long as the
// process: she and the stubs get SIGKILL when the thread that is their parent ends
// (PR_SET_PDEATHSIG).
func startMother() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pair[1])
	mother.sock = pair[0]
	image, err := memfd("kiln-stub", stubImage())
	if err != nil {
		return err
	}
	defer image.Close()
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		_, err := syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", image.Fd()), []string{"kiln-stub"}, &syscall.ProcAttr{
			Env:   []string{},
			Files: []uintptr{^uintptr(0), ^uintptr(0), ^uintptr(0), uintptr(pair[1])},
			Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
		})
		started <- err
		if err == nil {
			select {}
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("hosted: starting the stubs' mother: %w", err)
	}
	if r, err := motherSays(); err != nil || r != 0 {
		return fmt.Errorf("hosted: the host does not let a stub unmap its vDSO: %v, %v", unix.Errno(-r), err)
	}
	return nil
}

func motherSays() (int64, error) {
	var b [8]byte
	for {
		n, err := unix.Read(mother.sock, b[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n != len(b):
			err = errStubDied
		}
		return int64(binary.LittleEndian.Uint64(b[:])), err
	}
}

// forkStub has the mother make a stub with descriptors of its own.
func forkStub(fds ...int) (pid int, err error) {
	mother.once.Do(func() { mother.err = startMother() })
	if mother.err != nil {
		return 0, mother.err
	}
	mother.mu.Lock()
	defer mother.mu.Unlock()
	if err := unix.Sendmsg(mother.sock, []byte{1}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		return 0, err
	}
	r, err := motherSays()
	if err == nil && r < 0 {
		err = unix.Errno(-r)
	}
	return int(r), err
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
func newStub(frames int) (*stub, error) {
	ctl, err := unix.MemfdCreate("kiln-control", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("hosted: memfd_create: %w", err)
	}
	s := &stub{ctlFD: ctl, done: -1}
	if err = unix.Ftruncate(ctl, controlSize); err == nil {
		s.ctlMem, err = unix.Mmap(ctl, 0, controlSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		s.release()
		return nil, err
	}
	s.ctl = (*control)(unsafe.Pointer(&s.ctlMem[0]))
	var pipe [2]int
	if err = unix.Pipe2(pipe[:], unix.O_CLOEXEC); err == nil {
		s.done = pipe[0]
		s.pid, err = forkStub(frames, ctl, pipe[1])
		unix.Close(pipe[1])
	}
	if err != nil {
		s.release()
		return nil, fmt.Errorf("hosted: starting a stub: %w", err)
	}
	return s, nil
}

// release gives up what the kernel has of a stub.
func (s *stub) release() {
	if s.ctlMem != nil {
		unix.Munmap(s.ctlMem)
	}
	unix.Close(s.ctlFD)
	if s.done >= 0 {
		unix.Close(s.done)
	}
	s.ctl, s.ctlMem, s.ctlFD, s.done = nil, nil, -1, -1
}

// flushCommands unmap everything but the stub itself.
func flushCommands() []command {
	return []command{
		{nr: unix.SYS_MUNMAP, a0: 0, a1: stubBase},
		{nr: unix.SYS_MUNMAP, a0: stubEndAddr, a1: hostTop - stubEndAddr},
	}
}

// run executes commands in the stub. The result is 0, the first error as -errno, or the
// id of a thread that was made.
func (s *stub) run(cmds []command) (result int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(cmds) > 0 && result >= 0 {
		n := min(len(cmds), maxCommands)
		s.post(cmds[:n])
		if result, err = s.await(); err != nil {
			return 0, err
		}
		cmds = cmds[n:]
	}
	return result, nil
}

func (s *stub) post(cmds []command) {
	copy(s.ctl.cmds[:], cmds)
	s.ctl.count = uint32(len(cmds))
	atomic.AddUint32(&s.ctl.req, 1)
	futex(&s.ctl.req, 1 /* FUTEX_WAKE */, 1, nil)
}

func (s *stub) await() (int, error) {
	var word [1]byte
	for {
		n, err := unix.Read(s.done, word[:])
		switch {
		case err == unix.EINTR:
		case err != nil || n == 0: // the pipe's other end is gone
			return 0, errStubDied
		case word[0] == wordOK:
			return 0, nil
		default:
			off, err := unix.Seek(s.ctlFD, 0, 1 /* SEEK_CUR */)
			return int(int32(off)), err
		}
	}
}

func futex(addr *uint32, op int, val uint32, ts *unix.Timespec) unix.Errno {
	_, _, e := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(addr)), uintptr(op), uintptr(val), uintptr(unsafe.Pointer(ts)), 0, 0)
	return e
}

// clone makes a thread that waits in the stub's code and returns its id.
func (s *stub) clone() (int, error) {
	c := []command{{nr: unix.SYS_CLONE, a0: unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND |
		unix.CLONE_THREAD | unix.CLONE_SYSVSEM}}
	tid, err := s.run(c)
	if err == nil && tid < 0 {
		err = unix.Errno(-tid)
	}
	if err != nil {
		return 0, fmt.Errorf("hosted: a thread for the stub: %w", err)
	}
	return tid, nil
}

// kill has the process end itself, which needs no signal of ours, and reaps it with its traced threads (a traced zombie
// thread keeps its group's leader from being reaped).
func (s *stub) kill(threads []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.post([]command{{nr: unix.SYS_EXIT_GROUP}})
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
	s.release()
}
