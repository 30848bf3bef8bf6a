package devfs

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/klog"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

func memory() *mm.Memory { return mm.NewMemory(fake.New(2048)) }

// device is /dev in a name space of its own; mixed gets what is written to the pool.
func device(t *testing.T) (ns *vfs.Namespace, l vfs.Lookup, mixed *[]byte) {
	t.Helper()
	mixed = new([]byte)
	n := byte(0)
	fs, err := New(memory(), Config{
		Entropy: func(b []byte) {
			for i := range b {
				n++
				b[i] = n
			}
		},
		AddEntropy: func(b []byte) { *mixed = append(*mixed, b...) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ns = vfs.NewNamespace(fs, "dev", 0)
	return ns, vfs.Lookup{C: wait.Background(), FS: vfs.NewFSContext(ns), Creds: vfs.RootCreds()}, mixed
}

func TestMemoryDevicesReadAndWriteAsInMem4(t *testing.T) {
	ns, l, mixed := device(t)
	for _, c := range []struct {
		name    string
		read    int
		wrote   int
		werr    error
		filled  byte // what a read leaves everywhere
		seekEnd error
	}{
		{"null", 0, 300, nil, 0xee, nil},
		{"zero", 300, 300, nil, 0, nil},
		{"full", 300, 0, unix.ENOSPC, 0, nil},
	} {
		f, err := ns.Open(l, "/"+c.name, unix.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := bytes.Repeat([]byte{0xee}, 300)
		q := mm.KernelIO(b)
		if n, err := f.Read(l.C, &q); n != c.read || err != nil || bytes.Count(b, []byte{c.filled}) != 300 {
			t.Errorf("%s: %d bytes, %v, % x", c.name, n, err, b[:8])
		}
		q = mm.KernelIO(b)
		if n, err := f.Write(l.C, &q); n != c.wrote || err != c.werr && !(err == nil && c.werr == nil) {
			t.Errorf("%s: %d written, %v", c.name, n, err)
		}
		q = mm.KernelIO(nil)
		if n, err := f.Write(l.C, &q); n != 0 || err != c.werr {
			t.Errorf("%s: a write of nothing: %d, %v", c.name, n, err)
		}
		f.DecRef()
	}
	if len(*mixed) != 0 {
		t.Error("the memory devices feed the pool")
	}
}

func TestRandomDevicesFillAnyLengthAndTakeWhatIsWritten(t *testing.T) {
	ns, l, mixed := device(t)
	for _, name := range []string{"/random", "/urandom"} {
		f, err := ns.Open(l, name, unix.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 3*chunk+7)
		q := mm.KernelIO(b)
		if n, err := f.Read(l.C, &q); n != len(b) || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		for i := 1; i < len(b); i++ {
			if b[i] != b[i-1]+1 {
				t.Fatalf("%s: byte %d is not the pool's next", name, i)
			}
		}
		*mixed = nil
		q = mm.KernelIO(b)
		if n, err := f.Write(l.C, &q); n != len(b) || err != nil || !bytes.Equal(*mixed, b) {
			t.Errorf("%s: %d written, %v, %d mixed in", name, n, err, len(*mixed))
		}
		if _, err := f.Ops.Ioctl(l.C, f, nil, rndAddEntropy, 0); err != unix.EPERM {
			t.Errorf("%s: RNDADDENTROPY: %v", name, err)
		}
		if _, err := f.Ops.Ioctl(l.C, f, nil, 0x5299, 0); err != unix.EINVAL {
			t.Errorf("%s: an unknown request: %v", name, err)
		}
		f.DecRef()
	}
}

func TestNodesHaveLinuxsNumbersAndModes(t *testing.T) {
	ns, l, _ := device(t)
	for name, want := range map[string]struct {
		mode         uint32
		major, minor uint32
	}{
		"/null": {unix.S_IFCHR | 0o666, 1, 3}, "/zero": {unix.S_IFCHR | 0o666, 1, 5}, "/full": {unix.S_IFCHR | 0o666, 1, 7},
		"/random": {unix.S_IFCHR | 0o666, 1, 8}, "/urandom": {unix.S_IFCHR | 0o666, 1, 9}, "/shm": {unix.S_IFDIR | 0o1777, 0, 0},
	} {
		a, _, err := ns.Stat(l, name, 0)
		if err != nil || a.Mode != want.mode || a.Rdev != unix.Mkdev(want.major, want.minor) {
			t.Errorf("%s: mode %o, number %#x, %v", name, a.Mode, a.Rdev, err)
		}
	}
	if s, err := ns.Readlink(l, "/stdin"); err != nil || s != "/proc/self/fd/0" {
		t.Errorf("stdin: %q, %v", s, err)
	}
	// A program may add nodes, as in a devtmpfs; one without a driver is ENXIO.
	if err := ns.Mknod(l, "/odd", unix.S_IFCHR|0o600, unix.Mkdev(240, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := ns.Open(l, "/odd", unix.O_RDONLY, 0); err != unix.ENXIO {
		t.Errorf("a device without a driver: %v", err)
	}
	if err := ns.Mknod(l, "/null2", unix.S_IFCHR|0o600, devNull); err != nil {
		t.Fatal(err)
	}
	f, err := ns.Open(l, "/null2", unix.O_RDWR, 0)
	if err != nil {
		t.Fatalf("a second null: %v", err)
	}
	f.DecRef()
}

func TestDevicesMapAsInLinux(t *testing.T) {
	ns, l, _ := device(t)
	for name, want := range map[string]error{"/null": unix.ENODEV, "/zero": nil, "/full": unix.ENODEV, "/urandom": unix.ENODEV} {
		f, err := ns.Open(l, name, unix.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Ops.Object(l.C); err != want && !(err == nil && want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		f.DecRef()
	}
}

// slow is a file whose pages come when during has returned.
type slow struct{ during func() }

func (s *slow) ImageRun(int64, int) (hal.PFN, int) { return 0, 0 }
func (s *slow) ReadPages(wait.Context, int64, []hal.PFN) error {
	s.during()
	return nil
}
func (s *slow) WritePages(wait.Context, int64, []hal.PFN) error { return nil }

// A read whose buffer must come from a disk first keeps nobody else from the description.
func TestKmsgIsNotLockedOverAFault(t *testing.T) {
	mem := memory()
	log := &klog.Log{}
	fs, err := New(mem, Config{Messages: log})
	if err != nil {
		t.Fatal(err)
	}
	ns := vfs.NewNamespace(fs, "dev", 0)
	l := vfs.Lookup{C: wait.Background(), FS: vfs.NewFSContext(ns), Creds: vfs.RootCreds()}
	f, err := ns.Open(l, "/kmsg", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.DecRef()
	for _, text := range []string{"first", "second", "third"} {
		log.Add(5, 0, text)
	}
	faults := 0
	src := &slow{func() {
		faults++
		done := make(chan bool, 1)
		go func() { done <- f.Ops.Readiness(waiter.ReadableEvents) != 0 }()
		select {
		case ready := <-done:
			if !ready {
				t.Error("the other records cannot be read")
			}
		case <-time.After(2 * time.Second):
			t.Error("the description is locked over a fault")
		}
	}}
	s, err := mm.NewSpace(mem)
	if err != nil {
		t.Fatal(err)
	}
	defer s.DecUsers()
	at, err := s.Mmap(l.C, mm.MapArgs{Len: hal.PageSize, Prot: hal.ProtRead | hal.ProtWrite, Flags: unix.MAP_PRIVATE,
		Object: mm.NewObject(mem, src, hal.PageSize)})
	if err != nil {
		t.Fatal(err)
	}
	q := mm.UserIO(s, l.C, at, 100)
	n, err := f.Read(l.C, &q)
	if err != nil || faults != 1 {
		t.Fatalf("%d, %v, %d faults", n, err, faults)
	}
	b := make([]byte, n)
	if _, err := s.CopyIn(l.C, b, at); err != nil || !bytes.HasSuffix(b, []byte("-;first\n")) {
		t.Errorf("%q, %v", b, err)
	}
	// A record that cannot be delivered has been read.
	for _, addr := range []hal.UserAddr{0x1000, at + hal.PageSize - 5} {
		q = mm.UserIO(s, l.C, addr, 100)
		if n, err := f.Read(l.C, &q); n != 0 || err != unix.EFAULT {
			t.Errorf("to %#x: %d, %v", addr, n, err)
		}
	}
	q = mm.UserIO(s, l.C, at, 100)
	if n, err := f.Read(l.C, &q); n != 0 || err != unix.EAGAIN {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

// busy is a thread that a signal waits for.
type busy struct{ wait.Context }

func (busy) Rest() bool { return true }

// What has no end by itself ends with a page where a signal waits.
func TestSignalsEndLongTransfers(t *testing.T) {
	ns, l, _ := device(t)
	for _, name := range []string{"/zero", "/random", "/urandom"} {
		f, err := ns.Open(l, name, unix.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		q := mm.KernelIO(make([]byte, 10000))
		if n, err := f.Read(busy{l.C}, &q); n != 4096 || err != nil {
			t.Errorf("%s: %d read, %v", name, n, err)
		}
		q = mm.KernelIO(make([]byte, 10000))
		if n, err := f.Write(busy{l.C}, &q); name != "/zero" && n != 4096 || err != nil {
			t.Errorf("%s: %d written, %v", name, n, err)
		}
		f.DecRef()
	}
}
