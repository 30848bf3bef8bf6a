package syscalls

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
)

// A core file has the shared memory that nothing else names (core(5)), and is written as fast as
// what the process has in memory takes, however much it has mapped.
func TestCoreFileOfVastMemory(t *testing.T) {
	r := newRig(t)
	r.run(vfs.RootCreds(), func(p *prog) {
		const sharedAt, vastAt, vast = 0x5000_0000, 0x10_0000_0000, 32 << 40
		const rw, sparse = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_FIXED | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
		p.want(sharedAt, unix.SYS_MMAP, sharedAt, 1<<40>>20, rw, unix.MAP_SHARED|sparse, ^uint64(0), 0)
		p.want(vastAt, unix.SYS_MMAP, vastAt, vast, rw, unix.MAP_PRIVATE|sparse, ^uint64(0), 0)
		word := []byte("what is to be found in it")
		p.put(sharedAt+0x3000, word)
		p.put(vastAt+vast/2, word)
		p.put64(dataAt, ^uint64(0), ^uint64(0))
		p.want(0, unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, dataAt, 0)
		r.child(func(c *prog) { c.sys(unix.SYS_KILL, uint64(c.sys(unix.SYS_GETPID)), uint64(unix.SIGABRT)) })
		start := time.Now()
		pid := p.sys(unix.SYS_CLONE, uint64(unix.SIGCHLD), 0, 0, 0, 0)
		p.want(pid, unix.SYS_WAIT4, uint64(pid), dataAt, 0, 0)
		if st := p.get32(dataAt); st != uint32(unix.SIGABRT)|0x80 {
			t.Errorf("status %#x", st)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("it took %v", d)
		}
		p.put(dataAt, []byte("core\x00"))
		fd := p.sys(unix.SYS_OPEN, dataAt, unix.O_RDONLY)
		const size = 1 << 19
		if n := p.sys(unix.SYS_READ, uint64(fd), dataAt+4096, size); n != size {
			t.Errorf("read %d", n)
		}
		if !bytes.Contains(p.get(dataAt+4096, size), word) {
			t.Error("the shared memory is not in it")
		}
	})
}
