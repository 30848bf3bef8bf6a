package vmm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// QEMU is the program that runs machines.
const QEMU = "qemu-system-x86_64"

// ErrNoQEMU says that it is missing.
var ErrNoQEMU = errors.New("there is no " + QEMU + " in PATH to run the machine with: install it (on Debian: apt install qemu-system-x86)")

// Machine is one QEMU to start.
type Machine struct {
	// Kind is "microvm" (the default), "q35" or "pc", or Process.
	Kind   string
	Accel  string // "kvm" or "tcg"
	Memory int64  // bytes
	CPUs   int
	Kernel string // the ELF file to boot
	Append string // the kernel command line
	// Root, if set, is a disk with the serial number kiln-root.
	Root *Disk
	// Net is "user", "none" or "tap:NAME".
	Net      string
	Forwards []Forward
	// Address is the machine's with its network, where its configuration has a static one;
	// Gateway and DNS are what it has besides, if anything.
	Address      netip.Prefix
	Gateway, DNS netip.Addr
	// Offline says that its configuration wants no network, whatever card it has.
	Offline bool
	// Control is the path of the listening socket for the port org.kiln.ctl.
	Control string
	Extra   []string
	// StopTime is how long its programs may take to end when they are asked to, 0 for
	// one program's time.
	StopTime time.Duration
}

// Disk is a part of a file, read only.
type Disk struct {
	File      string
	Off, Size int64
}

// RootSerial is how the kernel knows the disk that holds its root.
const RootSerial = "kiln-root"

// Forward brings connections to a host's TCP port to the machine's.
type Forward struct {
	Addr        string // on the host
	Host, Guest int
}

// ParseForward reads [ADDRESS:]HOST:GUEST with an IPv4 address. Without an address only
// this machine can connect.
func ParseForward(s string) (Forward, error) {
	bad := fmt.Errorf("%q is not a port to forward: write it as 8080:80, or 0:80 for any free port", s)
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return Forward{}, bad
	}
	f := Forward{Addr: "127.0.0.1"}
	host, guest := s[:i], s[i+1:]
	if j := strings.LastIndexByte(host, ':'); j >= 0 {
		f.Addr, host = strings.Trim(host[:j], "[]"), host[j+1:]
		switch ip := net.ParseIP(f.Addr); {
		case ip == nil:
			return Forward{}, bad
		case ip.To4() == nil:
			return Forward{}, fmt.Errorf("%q has an IPv6 address, from which QEMU's user network cannot forward: give one of IPv4", s)
		}
	}
	var err1, err2 error
	f.Host, err1 = strconv.Atoi(host)
	f.Guest, err2 = strconv.Atoi(guest)
	if err1 != nil || err2 != nil || f.Host < 0 || f.Host > 65535 || f.Guest < 1 || f.Guest > 65535 {
		return Forward{}, bad
	}
	return f, nil
}

// Choose gives the forward a free host port if it has none, and checks that a given
// one is free, which QEMU would only say in words of its own. It is taken until the listener
// is closed, so that no other forward gets it.
func (f *Forward) Choose() (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(f.Addr, strconv.Itoa(f.Host)))
	if err != nil {
		return nil, fmt.Errorf("port %d of %s cannot be forwarded (%s): choose another with -p, or 0 for any free one", f.Host, f.Addr, reason(err))
	}
	f.Host = l.Addr().(*net.TCPAddr).Port
	return l, nil
}

func reason(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

func (f Forward) String() string {
	return net.JoinHostPort(f.Addr, strconv.Itoa(f.Host))
}

// Kinds are QEMU's machines that Kind can name.
var Kinds = []string{"microvm", "q35", "pc"}

// value writes a path as the value of one of an argument's keys.
func value(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// Args are QEMU's arguments.
func (m *Machine) Args() ([]string, error) {
	var a []string
	add := func(args ...string) { a = append(a, args...) }
	bus := "pci"
	switch m.Kind {
	case "microvm":
		// virtio 1.x, as everywhere else, and no legacy layout.
		add("-M", "microvm", "-global", "virtio-mmio.force-legacy=false")
		bus = "device"
	case "q35", "pc":
		add("-M", m.Kind)
	default:
		return nil, fmt.Errorf("there is no machine %q: choose one of %s", m.Kind, strings.Join(Kinds, ", "))
	}
	cpu := "max"
	if m.Accel == "kvm" {
		cpu = "host"
	}
	add("-accel", m.Accel, "-cpu", cpu, "-m", fmt.Sprintf("%dk", m.Memory>>10), "-smp", strconv.Itoa(m.CPUs))
	add("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
	add("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console")
	add("-kernel", m.Kernel)
	if m.Append != "" {
		add("-append", m.Append)
	}
	add("-device", "virtio-serial-"+bus, "-chardev", "socket,id=ctl,path="+value(m.Control),
		"-device", "virtserialport,chardev=ctl,name=org.kiln.ctl")
	add("-object", "rng-builtin,id=rng0", "-device", "virtio-rng-"+bus+",rng=rng0")
	if m.Root != nil {
		// Not as JSON, which has no names that are no UTF-8.
		add("-blockdev", fmt.Sprintf("driver=raw,node-name=root,read-only=on,offset=%d,size=%d,file.driver=file,file.read-only=on,file.filename=%s",
			m.Root.Off, m.Root.Size, value(m.Root.File)), "-device", "virtio-blk-"+bus+",drive=root,serial="+RootSerial)
	}
	if err := m.network(bus, add); err != nil {
		return nil, err
	}
	return append(a, m.Extra...), nil
}

func (m *Machine) network(bus string, add func(...string)) error {
	dev := "virtio-net-" + bus + ",netdev=net0"
	if bus == "pci" {
		dev += ",romfile=" // nothing boots from the network
	}
	switch tap, isTap := strings.CutPrefix(m.Net, "tap:"); {
	case m.Net == "none":
		return nil
	case isTap && tap != "" && !strings.Contains(tap, ","):
		add("-netdev", "tap,id=net0,script=no,downscript=no,ifname="+tap)
	case m.Net == "user":
		user := "user,id=net0"
		if m.static() {
			host, dns := m.neighbours()
			user += fmt.Sprintf(",net=%v,host=%v,dns=%v,dhcpstart=%v", m.Address.Masked(), host, dns, m.Address.Addr())
		}
		for _, f := range m.Forwards {
			user += fmt.Sprintf(",hostfwd=tcp:%s:%d-:%d", f.Addr, f.Host, f.Guest) // to where DHCP starts
		}
		add("-netdev", user)
	default:
		return fmt.Errorf("there is no network %q: choose user, none or tap:INTERFACE", m.Net)
	}
	add("-device", dev)
	return nil
}

// Reachable says why nothing can be forwarded to the machine over the user network, if so.
func (m *Machine) Reachable() error {
	switch {
	case !m.Address.IsValid() || m.static():
		return nil
	case !m.Address.Addr().Is4():
		return fmt.Errorf("the image's own address %v is none of IPv4, which is all that the user network forwards to", m.Address)
	case m.Kind == Process:
		return nil
	}
	return fmt.Errorf("the image's own network %v has no room for QEMU's two addresses, or too much", m.Address)
}

// static says whether the user network is to be the one that the configuration has.
func (m *Machine) static() bool {
	return m.Address.Addr().Is4() && m.Address.Bits() >= 4 && m.Address.Bits() <= 30
}

// neighbours are the addresses of the gateway and the name server in that network: where the
// configuration has them, or else any two. No two of the three may be one; where the
// configuration has one for both it is the name server, which takes what is to be routed, too.
func (m *Machine) neighbours() (host, dns netip.Addr) {
	taken := []netip.Addr{m.Address.Addr()}
	fixed := func(a netip.Addr) bool {
		ok := m.Address.Contains(a) && !slices.Contains(taken, a)
		taken = append(taken, a)
		return ok
	}
	free := func() netip.Addr {
		a := m.Address.Masked().Addr().Next()
		for slices.Contains(taken, a) {
			a = a.Next()
		}
		taken = append(taken, a)
		return a
	}
	dns, host = m.DNS, m.Gateway
	dnsFixed, hostFixed := fixed(dns), fixed(host)
	if !hostFixed { // first: the last free one may be the network's broadcast address
		host = free()
	}
	if !dnsFixed {
		dns = free()
	}
	return host, dns
}

// FindQEMU is QEMU's path.
func FindQEMU() (string, error) {
	p, err := exec.LookPath(QEMU)
	if err != nil {
		return "", ErrNoQEMU
	}
	return p, nil
}
