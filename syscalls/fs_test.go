package syscalls

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/wait"
)

const (
	pathAt = dataAt         // a path
	bufAt  = dataAt + 8192  // a buffer
	iovAt  = dataAt + 65536 // iovecs and structures
	wild   = 0x7fff_ffff_0000
)

func (p *prog) path(at uint64, s string) uint64 {
	p.put(at, append([]byte(s), 0))
	return at
}

// open opens a file of process 1.
func (p *prog) open(s string, flags, mode uint64) uint64 {
	p.r.t.Helper()
	fd := p.sys(unix.SYS_OPENAT, atCWD, p.path(pathAt, s), flags, mode)
	if fd < 0 {
		p.r.t.Fatalf("open %s: %d", s, fd)
	}
	return uint64(fd)
}

func TestFileCallsAnswerAsLinux(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		fd := p.open("/f", unix.O_CREAT|unix.O_RDWR, 0o644)
		p.put(bufAt, []byte("hello world"))
		p.want(11, unix.SYS_WRITE, fd, bufAt, 11)
		p.fail(unix.EFAULT, unix.SYS_WRITE, fd, badAddr, 11)
		p.fail(unix.EFAULT, unix.SYS_WRITE, fd, bufAt, 1<<63)
		p.fail(unix.EBADF, unix.SYS_WRITE, 77, badAddr, 11)
		p.want(0, unix.SYS_WRITE, fd, badAddr, 0)
		p.want(5, unix.SYS_PREAD64, fd, bufAt+100, 5, 6)
		if got := p.get(bufAt+100, 5); string(got) != "world" {
			t.Errorf("pread: %q", got)
		}
		p.fail(unix.EINVAL, unix.SYS_PREAD64, fd, bufAt, 5, ^uint64(0))
		p.want(0, unix.SYS_PREAD64, fd, bufAt, 5, 1<<40)
		p.want(6, unix.SYS_LSEEK, fd, 6, unix.SEEK_SET)
		p.fail(unix.EINVAL, unix.SYS_LSEEK, fd, ^uint64(99), unix.SEEK_CUR)
		p.fail(unix.EINVAL, unix.SYS_LSEEK, fd, 0, 9)
		p.fail(unix.ENXIO, unix.SYS_LSEEK, fd, 11, unix.SEEK_DATA)
		p.want(0, unix.SYS_LSEEK, fd, 0, unix.SEEK_DATA)
		p.want(11, unix.SYS_LSEEK, fd, 0, unix.SEEK_HOLE)
		// Two good ranges and a bad one: what came before it is read.
		p.want(0, unix.SYS_LSEEK, fd, 0, unix.SEEK_SET)
		p.put64(iovAt, bufAt, 3, bufAt+10, 2, badAddr, 4)
		p.want(5, unix.SYS_READV, fd, iovAt, 3)
		p.fail(unix.EINVAL, unix.SYS_READV, fd, iovAt, 1025)
		p.fail(unix.EFAULT, unix.SYS_READV, fd, badAddr, 1)
		p.put64(iovAt, bufAt, 3, bufAt, 1<<63)
		p.fail(unix.EINVAL, unix.SYS_READV, fd, iovAt, 2)
		p.want(0, unix.SYS_READV, fd, iovAt, 0)
		p.fail(unix.EOPNOTSUPP, unix.SYS_PREADV2, fd, iovAt, 1, 0, 0, 0x80)
		p.fail(unix.EINVAL, unix.SYS_PWRITE64, fd, bufAt, 1, 1<<63-1)
		p.fail(unix.EFBIG, unix.SYS_PWRITE64, fd, bufAt, 1, 1<<63-2)

		p.fail(unix.ENOENT, unix.SYS_OPENAT, atCWD, p.path(pathAt, ""), 0, 0)
		p.fail(unix.EFAULT, unix.SYS_OPENAT, atCWD, badAddr, 0, 0)
		p.fail(unix.EBADF, unix.SYS_OPENAT, 99, p.path(pathAt, "x"), 0, 0)
		p.fail(unix.ENOTDIR, unix.SYS_OPENAT, fd, p.path(pathAt, "x"), 0, 0)
		p.fail(unix.ENAMETOOLONG, unix.SYS_OPENAT, atCWD, p.path(pathAt, string(bytes.Repeat([]byte("a/"), 2100))), 0, 0)
		p.fail(unix.EISDIR, unix.SYS_OPENAT, atCWD, p.path(pathAt, "/"), unix.O_WRONLY, 0)
		p.fail(unix.EEXIST, unix.SYS_OPENAT, atCWD, p.path(pathAt, "/f"), unix.O_CREAT|unix.O_EXCL, 0)

		ro := p.open("/f", unix.O_RDONLY, 0)
		p.fail(unix.EBADF, unix.SYS_WRITE, ro, bufAt, 1)
		p.fail(unix.EINVAL, unix.SYS_FTRUNCATE, ro, 5)
		p.want(0, unix.SYS_FTRUNCATE, fd, 5)
		path := p.open("/f", unix.O_PATH, 0)
		p.fail(unix.EBADF, unix.SYS_READ, path, bufAt, 1)
		p.fail(unix.EBADF, unix.SYS_FCHMOD, path, 0o600)
		p.want(0, unix.SYS_FSTAT, path, bufAt)
		if size := p.get64(bufAt + 48); size != 5 {
			t.Errorf("fstat of O_PATH: size %d", size)
		}
		p.want(int64(unix.O_PATH), unix.SYS_FCNTL, path, unix.F_GETFL)
		p.want(int64(unix.O_RDWR|largeFile), unix.SYS_FCNTL, fd, unix.F_GETFL)
		p.fail(unix.EINVAL, unix.SYS_FCNTL, fd, 9999)
		p.want(100, unix.SYS_FCNTL, fd, unix.F_DUPFD_CLOEXEC, 100)
		p.want(unix.FD_CLOEXEC, unix.SYS_FCNTL, 100, unix.F_GETFD)
		p.fail(unix.EINVAL, unix.SYS_FCNTL, fd, unix.F_DUPFD, 1<<20)
		p.fail(unix.EBADF, unix.SYS_FCNTL, fd, unix.F_GETPIPE_SZ)
		p.want(0, unix.SYS_CLOSE_RANGE, 100, 200, 0)
		p.fail(unix.EBADF, unix.SYS_CLOSE, 100)
		p.fail(unix.ENOTTY, unix.SYS_IOCTL, fd, 0x5401, bufAt)
		p.fail(unix.ENOTDIR, unix.SYS_GETDENTS64, fd, bufAt, 100)
		p.fail(unix.ERANGE, unix.SYS_GETCWD, bufAt, 1)
		p.want(2, unix.SYS_GETCWD, bufAt, 2)
		p.fail(unix.EINVAL, unix.SYS_NEWFSTATAT, atCWD, p.path(pathAt, "/f"), bufAt, 1<<20)
		p.want(0, unix.SYS_NEWFSTATAT, fd, p.path(pathAt, ""), bufAt, unix.AT_EMPTY_PATH)
		p.fail(unix.ENOENT, unix.SYS_NEWFSTATAT, fd, pathAt, bufAt, 0)
		p.fail(unix.EFAULT, unix.SYS_STATX, fd, pathAt, unix.AT_EMPTY_PATH, 0xfff, wild)
		p.fail(unix.EINVAL, unix.SYS_STATX, fd, pathAt, unix.AT_EMPTY_PATH, 1<<31, bufAt)
		p.fail(unix.EINVAL, unix.SYS_READLINK, p.path(pathAt, "/f"), bufAt, 10)
		p.fail(unix.EOPNOTSUPP, unix.SYS_FGETXATTR, fd, p.path(pathAt, "user.x"), bufAt, 10)
		p.fail(unix.ENODATA, unix.SYS_FGETXATTR, fd, p.path(pathAt, "trusted.x"), bufAt, 10)
		p.fail(unix.ENODATA, unix.SYS_FGETXATTR, fd, p.path(pathAt, "system.posix_acl_access"), bufAt, 10)
	})
}

func TestGetdentsFillsTheBufferAndGoesOn(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		names := map[string]bool{}
		for _, n := range []string{"one", "two", "a-longer-name", "x"} {
			p.sys(unix.SYS_CLOSE, p.open("/"+n, unix.O_CREAT, 0o644))
			names[n] = true
		}
		d := p.open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		p.fail(unix.EINVAL, unix.SYS_GETDENTS64, d, bufAt, 10)
		p.fail(unix.EFAULT, unix.SYS_GETDENTS64, d, badAddr, 100)
		for {
			n := p.sys(unix.SYS_GETDENTS64, d, bufAt, 64)
			if n < 0 || n > 64 {
				t.Fatalf("getdents: %d", n)
			}
			if n == 0 {
				break
			}
			for b := p.get(bufAt, int(n)); len(b) > 0; b = b[le.Uint16(b[16:]):] {
				s := string(b[19 : 19+bytes.IndexByte(b[19:], 0)])
				if s != "." && s != ".." && !names[s] {
					t.Errorf("%q twice or from nowhere", s)
				}
				delete(names, s)
			}
		}
		if len(names) != 0 {
			t.Errorf("never listed: %v", names)
		}
	})
}

func TestWritesToABrokenPipeRaiseSIGPIPE(t *testing.T) {
	r := newRig(t)
	status := r.run(nil, func(p *prog) {
		p.want(0, unix.SYS_PIPE2, bufAt, 0)
		rd, wr := uint64(p.get32(bufAt)), uint64(p.get32(bufAt+4))
		p.fail(unix.ESPIPE, unix.SYS_LSEEK, rd, 0, 0)
		p.fail(unix.ESPIPE, unix.SYS_PREAD64, rd, bufAt, 1, 0)
		p.want(65536, unix.SYS_FCNTL, rd, unix.F_GETPIPE_SZ)
		p.want(0, unix.SYS_CLOSE, rd)
		p.sys(unix.SYS_WRITE, wr, bufAt, 1)
		t.Error("the program outlived SIGPIPE")
	})
	if status != uint32(unix.SIGPIPE) {
		t.Errorf("status %#x", status)
	}
}

func TestFileSizeLimitCutsAndThenSignals(t *testing.T) {
	r := newRig(t)
	status := r.run(nil, func(p *prog) {
		p.put64(bufAt, 100, 100)
		p.want(0, unix.SYS_PRLIMIT64, 0, unix.RLIMIT_FSIZE, bufAt, 0)
		fd := p.open("/f", unix.O_CREAT|unix.O_WRONLY, 0o644)
		p.want(100, unix.SYS_WRITE, fd, bufAt, 200)
		p.sys(unix.SYS_WRITE, fd, bufAt, 1)
		t.Error("the program outlived SIGXFSZ")
	})
	if status&0x7f != uint32(unix.SIGXFSZ) {
		t.Errorf("status %#x", status)
	}
}

func TestBlockingPipeWritesTakeEverything(t *testing.T) {
	r := newRig(t)
	const total = 300_000
	r.run(nil, func(p *prog) {
		p.want(0, unix.SYS_PIPE2, bufAt, 0)
		rd, wr := uint64(p.get32(bufAt)), uint64(p.get32(bufAt+4))
		got := make(chan int64, 1)
		r.child(func(c *prog) {
			sum := int64(0)
			for sum < total {
				n := c.sys(unix.SYS_READ, rd, bufAt+500_000, 7000)
				if n <= 0 {
					break
				}
				sum += n
			}
			got <- sum
			c.sys(unix.SYS_EXIT, 0)
		})
		const thread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD
		if tid := p.sys(unix.SYS_CLONE, thread, stackTop-4096, 0, 0, 0); tid <= 0 {
			t.Fatalf("clone: %d", tid)
		}
		p.want(total, unix.SYS_WRITE, wr, bufAt, total)
		for len(got) == 0 { // with one CPU, waiting in Go would keep the reader out
			p.sys(unix.SYS_SCHED_YIELD)
		}
		if n := <-got; n != total {
			t.Errorf("%d bytes came out", n)
		}
	})
}

func TestSendfileAndCopies(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		in := p.open("/in", unix.O_CREAT|unix.O_RDWR, 0o644)
		data := bytes.Repeat([]byte("0123456789"), 10_000)
		p.put(bufAt+4096, data)
		p.want(100_000, unix.SYS_WRITE, in, bufAt+4096, 100_000)
		out := p.open("/out", unix.O_CREAT|unix.O_RDWR, 0o644)
		p.put64(iovAt, 5)
		p.want(99_995, unix.SYS_SENDFILE, out, in, iovAt, 1<<30)
		if off := p.get64(iovAt); off != 100_000 {
			t.Errorf("offset %d after sendfile", off)
		}
		p.want(5, unix.SYS_PREAD64, out, bufAt, 5, 99_990)
		if b := p.get(bufAt, 5); string(b) != "56789" {
			t.Errorf("copied %q", b)
		}
		p.put64(iovAt, 0, 50)
		p.fail(unix.EINVAL, unix.SYS_COPY_FILE_RANGE, in, iovAt, in, iovAt+8, 100, 0)
		p.want(50, unix.SYS_COPY_FILE_RANGE, in, iovAt, in, iovAt+8, 50, 0)
		p.want(0, unix.SYS_PIPE2, bufAt, unix.O_NONBLOCK)
		rd, wr := uint64(p.get32(bufAt)), uint64(p.get32(bufAt+4))
		p.fail(unix.EINVAL, unix.SYS_SPLICE, in, 0, out, 0, 10, 0)
		p.fail(unix.EAGAIN, unix.SYS_SPLICE, rd, 0, out, 0, 10, 0)
		p.put64(iovAt, 0)
		p.want(10, unix.SYS_SPLICE, in, iovAt, wr, 0, 10, 0)
		p.fail(unix.ESPIPE, unix.SYS_SPLICE, rd, iovAt, out, 0, 10, 0)
		p.want(10, unix.SYS_SPLICE, rd, 0, out, 0, 100, 0)
		p.fail(unix.EINVAL, unix.SYS_SENDFILE, out, rd, 0, 10)
	})
}

func TestReadAndWriteCallsAllocateNothing(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		fd := p.open("/f", unix.O_CREAT|unix.O_RDWR, 0o644)
		p.put64(iovAt, bufAt, 50, bufAt+100, 50)
		th := p.thread()
		calls := []struct {
			name string
			f    Func
			args Args
		}{
			{"write", sysWrite, Args{fd, bufAt, 100}},
			{"lseek", sysLseek, Args{fd, 0, 0}},
			{"read", sysRead, Args{fd, bufAt, 100}},
			{"pwritev", sysPwritev, Args{fd, iovAt, 2, 0}},
			{"pread64", sysPread64, Args{fd, bufAt, 100, 0}},
		}
		for _, c := range calls {
			c.f(th, &c.args)
			if n := testing.AllocsPerRun(500, func() { c.f(th, &c.args) }); n >= 1 {
				t.Errorf("%s: %v allocations", c.name, n)
			}
		}
	})
}

func TestFcntlLocksBetweenProcesses(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		fd := p.open("/f", unix.O_CREAT|unix.O_RDWR, 0o644)
		flock := func(kind, whence uint16, start, n int64) {
			b := make([]byte, 32)
			le.PutUint16(b[0:], kind)
			le.PutUint16(b[2:], whence)
			le.PutUint64(b[8:], uint64(start))
			le.PutUint64(b[16:], uint64(n))
			p.put(iovAt, b)
		}
		flock(unix.F_WRLCK, 0, 10, 5)
		p.want(0, unix.SYS_FCNTL, fd, unix.F_SETLK, iovAt)
		p.want(0, unix.SYS_FCNTL, fd, unix.F_GETLK, iovAt)
		if k := uint16(p.get32(iovAt)); k != unix.F_UNLCK {
			t.Errorf("one's own lock stands in the way: %d", k)
		}
		// An open file description of its own meets it.
		other := p.open("/f", unix.O_RDWR, 0)
		flock(unix.F_RDLCK, 0, 14, 0)
		p.fail(unix.EAGAIN, unix.SYS_FCNTL, other, unix.F_OFD_SETLK, iovAt)
		p.want(0, unix.SYS_FCNTL, other, unix.F_OFD_GETLK, iovAt)
		if b := p.get(iovAt, 28); le.Uint64(b[8:]) != 10 || le.Uint64(b[16:]) != 5 || le.Uint32(b[24:]) != 1 {
			t.Errorf("F_GETLK: %v", b)
		}
		flock(unix.F_WRLCK, 7, 0, 0)
		p.fail(unix.EINVAL, unix.SYS_FCNTL, fd, unix.F_SETLK, iovAt)
		flock(unix.F_WRLCK, 0, -5, 0)
		p.fail(unix.EINVAL, unix.SYS_FCNTL, fd, unix.F_SETLK, iovAt)
		ro := p.open("/f", unix.O_RDONLY, 0)
		flock(unix.F_WRLCK, 0, 0, 1)
		p.fail(unix.EBADF, unix.SYS_FCNTL, ro, unix.F_SETLK, iovAt)
		p.fail(unix.EFAULT, unix.SYS_FCNTL, ro, unix.F_SETLK, badAddr)
	})
}

// TestEveryFileCallWithBadPointersIsAnErrno gives each call of the family wild pointers for
// every argument: whatever it answers, it is an errno or a value and the kernel lives.
func TestEveryFileCallWithBadPointersIsAnErrno(t *testing.T) {
	r := newRig(t)
	ns := r.ns
	l := vfs.Lookup{C: wait.Background()}
	f, err := ns.Open(l, "/f", unix.O_CREAT|unix.O_RDWR, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	f.DecRef()
	r.run(nil, func(p *prog) {
		fd := p.open("/f", unix.O_RDWR, 0)
		for _, e := range fsEntries {
			if e.Nr == unix.SYS_SYNC || e.Nr == unix.SYS_UMASK {
				continue
			}
			for _, v := range []uint64{0, 1, fd, badAddr, wild, ^uint64(0), 1 << 63, atCWD, pathAt} {
				for _, w := range []uint64{0, wild, ^uint64(0), 8} {
					if e.Nr == unix.SYS_CLOSE || e.Nr == unix.SYS_CLOSE_RANGE {
						continue
					}
					got := p.sys(uint64(e.Nr), v, w, w, w, w, w)
					if got < 0 && got >= -4095 && unix.ErrnoName(unix.Errno(-got)) == "" {
						t.Errorf("%s(%#x, %#x…) = %d", e.Name, v, w, got)
					}
					if got < -4095 {
						t.Errorf("%s(%#x, %#x…) = %d", e.Name, v, w, got)
					}
				}
			}
		}
	})
}

// sendfile to a pipe asks whether there is room before it asks where bytes are to come from
// (splice_file_to_pipe).
func TestSendfileToAFullPipe(t *testing.T) {
	r := newRig(t)
	r.run(vfs.RootCreds(), func(p *prog) {
		p.want(0, unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, putMask(p, unix.SIGPIPE), 0, 8)
		p.want(0, unix.SYS_PIPE2, iovAt, unix.O_NONBLOCK)
		rd, wr := uint64(p.get32(iovAt)), uint64(p.get32(iovAt+4))
		p.fail(unix.EINVAL, unix.SYS_SENDFILE, wr, rd, 0, 10)
		p.want(65536, unix.SYS_WRITE, wr, bufAt, 65536)
		p.fail(unix.EAGAIN, unix.SYS_SENDFILE, wr, rd, 0, 10)
		p.fail(unix.EAGAIN, unix.SYS_SENDFILE, wr, p.open("/", unix.O_RDONLY, 0), 0, 10)
		p.want(0, unix.SYS_PIPE2, iovAt, 0)
		alone := uint64(p.get32(iovAt + 4))
		p.want(0, unix.SYS_CLOSE, uint64(p.get32(iovAt)))
		p.fail(unix.EPIPE, unix.SYS_SENDFILE, alone, rd, 0, 10)
	})
}
