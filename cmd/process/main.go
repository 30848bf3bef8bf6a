// Command process is the kernel as an ordinary Linux process, for `pack run --vmm
// process`: it runs an image's program over kernel/hosted, without a virtual machine.
//
//	kernel.process [-image FILE] [-memory BYTES] [-cpus N] [-append LINE] [-control SOCKET] [-net SOCKET]
//	kernel.process -calls
//
// Standard input and output are the terminal, descriptor 3 is the image if none is named. The sockets are the starter's, as
// capstan/vmm makes them: a stream for the lines of kernel/system's control, and one of
// messages for Ethernet frames.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"kiln/drivers/process"
	"kiln/kernel/hosted"
	"kiln/kernel/image"
	"kiln/kernel/system"
)

// The card's address is the one that QEMU gives its first; the MTU keeps the number of
// frames low.
var cardMAC = [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}

const cardMTU = 9000

// drainTime is how long the end waits for who reads the terminal.
const drainTime = 2 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kernel.process:", err)
		os.Exit(1)
	}
}

func run() error {
	name := flag.String("image", "", "the image; default: what is open as descriptor 3")
	memory := flag.Int64("memory", 128<<20, "memory in bytes")
	cpus := flag.Int("cpus", 1, "number of CPUs")
	line := flag.String("append", "", "kernel command line")
	control := flag.String("control", "", "socket of the control port")
	network := flag.String("net", "", "socket of the network card")
	calls := flag.Bool("calls", false, "say how many system calls of the host are left to a running kernel, and end")
	flag.Parse()
	if *calls {
		kernel, stub := hosted.HostCalls()
		fmt.Printf("the kernel: %d system calls of the host; a process of the program: %d, all by the kernel's order\n", kernel, stub)
		return nil
	}
	config, root, err := readImage(*name)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	con := process.NewConsole(fd(1), fd(0))
	o := system.Options{NoDevices: true, Console: con}
	if *network != "" {
		s, err := dial(*network, unix.SOCK_SEQPACKET)
		if err != nil {
			return fmt.Errorf("network: %w", err)
		}
		o.Cards = []system.Card{process.NewCard(cardMAC, cardMTU, socket(s))}
	}
	if *control != "" {
		s, err := dial(*control, unix.SOCK_STREAM)
		if err != nil {
			return fmt.Errorf("control: %w", err)
		}
		o.Control = process.NewControl(fd(s))
	}
	m, err := hosted.New(hosted.Config{
		Memory: *memory, CPUs: *cpus, Cmdline: *line, Config: config, Root: root, Console: con.Log(), KeepFreed: true,
		PowerOff: func() { con.Drain(drainTime); os.Exit(0) },
	})
	if err != nil {
		return err
	}
	if len(root) > 0 {
		unix.Munmap(root) // it is in frames now
	}
	if err := hosted.Confine(); err != nil {
		return err
	}
	s, err := system.New(m, o)
	if err != nil {
		system.Panic(m, s, err)
	}
	status, err := s.Run()
	if err != nil {
		system.Panic(m, s, err)
	}
	s.Shutdown(status)
	return nil
}

// readImage gives an image's configuration, and its root as it is mapped here.
func readImage(name string) (config, root []byte, err error) {
	f := os.NewFile(3, "the image")
	if name != "" {
		if f, err = os.Open(name); err != nil {
			return nil, nil, err
		}
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	img, err := image.Open(f, fi.Size())
	if err != nil {
		return nil, nil, err
	}
	if img.Header.RootLen == 0 {
		return img.RawConfig, nil, nil
	}
	root, err = unix.Mmap(int(f.Fd()), img.SegmentOff+int64(img.Header.RootOff), int(img.Header.RootLen), unix.PROT_READ, unix.MAP_PRIVATE)
	return img.RawConfig, root, err
}

// fd is a descriptor with plain blocking calls. The kernel's poller is for its timers
// alone, and a host call less is a host call less.
type fd int

func (f fd) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(f), b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, os.ErrClosed
		default:
			return n, nil
		}
	}
}

func (f fd) Write(b []byte) (done int, err error) {
	for done < len(b) {
		n, err := unix.Write(int(f), b[done:])
		if err != nil && err != unix.EINTR {
			return done, err
		}
		done += max(n, 0)
	}
	return done, nil
}

// socket carries frames (process.Link).
type socket int

func dial(name string, typ int) (int, error) {
	s, err := unix.Socket(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return s, unix.Connect(s, &unix.SockaddrUnix{Name: name})
}

// Send implements process.Link.
func (s socket) Send(frame []byte) error {
	for {
		_, err := unix.SendmsgN(int(s), frame, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return process.ErrFull
		}
		return err
	}
}

// Receive implements process.Link.
func (s socket) Receive(b []byte) (int, error) { return fd(s).Read(b) }
