// Package virtio talks to virtio 1.x devices: how a device is reached (Transport:
// PCI, MMIO), how it is brought up (Device) and the split virtqueues between driver
// and device (Queue). The drivers of single devices lie in the folders below.
//
//	d := virtio.NewDevice(m, transport, "virtio-blk0")
//	if err := d.Negotiate(wanted); err != nil { … }
//	q, err := d.NewQueue(0, virtio.QueueConfig{…}, wake)
//	err = d.Start()
//	q.Add(segs, nout, token); q.Kick()
//	tok, n, ok := q.Pop()
//
// Devices are not trusted to follow the rules: whatever they write into a ring is
// checked against the driver's own record of what it lent them, and a device that
// breaks the rules fails (Device.Err) without harm to the kernel. Interrupts and
// notifications may be lost (hypervisors have such bugs): the Watchdog looks at the
// rings at long intervals and serves what it finds.
//
// Section numbers are those of the virtio specification 1.2.
//
// Locks: a Queue has none, its driver serialises it. Device.mu is a leaf.
package virtio

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"kiln/kernel/hal"
)

// Device types (5).
const (
	TypeNet     = 1
	TypeBlock   = 2
	TypeConsole = 3
	TypeEntropy = 4
	TypeBalloon = 5
	TypeSCSI    = 8
	Type9P      = 9
	TypeGPU     = 16
	TypeInput   = 18
	TypeVsock   = 19
	TypeFS      = 26
)

// TypeName is the device type in words.
func TypeName(t uint32) string {
	switch t {
	case TypeNet:
		return "virtio-net"
	case TypeBlock:
		return "virtio-blk"
	case TypeConsole:
		return "virtio-console"
	case TypeEntropy:
		return "virtio-rng"
	case TypeBalloon:
		return "virtio-balloon"
	case TypeSCSI:
		return "virtio-scsi"
	case Type9P:
		return "virtio-9p"
	case TypeGPU:
		return "virtio-gpu"
	case TypeInput:
		return "virtio-input"
	case TypeVsock:
		return "virtio-vsock"
	case TypeFS:
		return "virtio-fs"
	}
	return fmt.Sprintf("virtio device of type %d", t)
}

// Device status bits (2.1).
const (
	statusAck        = 1
	statusDriver     = 2
	statusDriverOK   = 4
	statusFeaturesOK = 8
	statusNeedsReset = 64
	statusFailed     = 128
)

// Features that are the same for all devices (6).
const (
	FeatureIndirect = 1 << 28
	FeatureEventIdx = 1 << 29
	FeatureVersion1 = 1 << 32
	FeaturePlatform = 1 << 33 // VIRTIO_F_ACCESS_PLATFORM
)

// Errors.
var (
	// ErrDevice says that the device broke the rules, or was given up.
	ErrDevice = errors.New("virtio: device error")
	// ErrFull says that the queue has no room for the request now.
	ErrFull = errors.New("virtio: queue full")
)

// Transport is how a device is reached (4).
type Transport interface {
	// String names the place: "00:03.0", "mmio@feb00e00".
	String() string
	// Type is the device type.
	Type() uint32
	// Legacy is true for the interface before 1.0 (4.2.4): the rings are one
	// page-aligned block and there is no FEATURES_OK.
	Legacy() bool
	Features() uint64
	SetFeatures(f uint64)
	Status() uint8
	SetStatus(s uint8)
	// QueueMax is the largest size of queue q, 0 if there is none.
	QueueMax(q int) int
	// SetQueue gives the device a queue and enables it.
	SetQueue(q, size int, desc, avail, used hal.PhysAddr) error
	Notify(q int)
	// Config registers; the caller uses the field's own width (4.1.3.1).
	ConfigLen() int
	Config8(off int) uint8
	Config16(off int) uint16
	Config32(off int) uint32
	SetConfig32(off int, v uint32)
	// Generation changes when the configuration does (2.5.1).
	Generation() uint32
	// Connect connects interrupts, before the queues are set. queues[i] serves
	// queue i; the last one also serves all queues beyond. Fewer vectors than
	// functions is no error: several functions then run for one interrupt.
	Connect(name string, config func(), queues []func()) error
	// Off takes away the device's access to memory where the bus can do that.
	Off()
}

// Device is a virtio device between reset and its end.
type Device struct {
	T    Transport
	M    hal.Machine
	Name string
	// Feat are the negotiated features.
	Feat uint64

	mu      sync.Mutex
	err     error
	queues  []*Queue
	arena   arena
	failed  atomic.Bool
	onError []func()
	rescues atomic.Uint64
}

// NewDevice resets the device at t and says hello to it (3.1.1 steps 1 to 3).
func NewDevice(m hal.Machine, t Transport, name string) (*Device, error) {
	d := &Device{T: t, M: m, Name: name}
	t.SetStatus(0)
	// A reset is complete when the status reads zero (4.1.4.3.2, 4.2.3.1).
	for i := 0; t.Status() != 0; i++ {
		if i == 100000 {
			return nil, fmt.Errorf("%w: %s does not reset", ErrDevice, name)
		}
	}
	t.SetStatus(statusAck)
	t.SetStatus(statusAck | statusDriver)
	return d, nil
}

// Negotiate accepts those of the wanted features that the device offers, besides
// the ring features, which every driver here can use (3.1.1 steps 4 to 6).
func (d *Device) Negotiate(wanted uint64) error {
	offered := d.T.Features()
	wanted |= FeatureIndirect | FeatureEventIdx
	if !d.T.Legacy() {
		if offered&FeatureVersion1 == 0 {
			return d.fail("it is not a virtio 1.0 device")
		}
		// Addresses are physical and memory is coherent, which is what
		// ACCESS_PLATFORM asks where no IOMMU is in use.
		wanted |= FeatureVersion1 | FeaturePlatform
	} else {
		wanted &= 1<<32 - 1
	}
	d.Feat = offered & wanted
	d.T.SetFeatures(d.Feat)
	if d.T.Legacy() {
		return nil
	}
	d.T.SetStatus(statusAck | statusDriver | statusFeaturesOK)
	if d.T.Status()&statusFeaturesOK == 0 {
		return d.fail("it refused the features it had offered")
	}
	return nil
}

// Has tells whether a feature was negotiated.
func (d *Device) Has(f uint64) bool { return d.Feat&f != 0 }

// Start lets the device run (3.1.1 step 8).
func (d *Device) Start() error {
	s := d.T.Status() | statusDriverOK
	d.T.SetStatus(s)
	if s := d.T.Status(); s&(statusNeedsReset|statusFailed) != 0 {
		return d.fail("it failed when it was started")
	}
	return nil
}

// Err is why the device was given up, nil while it works.
func (d *Device) Err() error {
	if !d.failed.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// OnError registers a function that runs once when the device is given up, after
// it has been reset and can no longer write to memory. It must not block.
func (d *Device) OnError(f func()) {
	d.mu.Lock()
	d.onError = append(d.onError, f)
	failed := d.err != nil
	d.mu.Unlock()
	if failed {
		f()
	}
}

// fail gives the device up: it is reset, so that it writes to no memory any more,
// and every later operation returns the error.
func (d *Device) fail(format string, args ...any) error {
	d.mu.Lock()
	if d.err != nil {
		defer d.mu.Unlock()
		return d.err
	}
	d.err = fmt.Errorf("%w: %s at %s: %s", ErrDevice, d.Name, d.T, fmt.Sprintf(format, args...))
	d.failed.Store(true)
	fs := d.onError
	err := d.err
	d.mu.Unlock()
	d.T.SetStatus(0)
	d.T.Off()
	for _, f := range fs {
		f()
	}
	return err
}

// Fail gives the device up for a reason that its driver found.
func (d *Device) Fail(format string, args ...any) error { return d.fail(format, args...) }

// CheckStatus fails the device if it says that it needs a reset (2.1.2); drivers
// call it when the configuration changes.
func (d *Device) CheckStatus() error {
	if d.failed.Load() {
		return d.Err()
	}
	if d.T.Status()&statusNeedsReset != 0 {
		return d.fail("it asked to be reset")
	}
	return nil
}

// ConfigStable runs read until the configuration did not change under it (2.5.1).
func (d *Device) ConfigStable(read func()) {
	for i := 0; i < 1000; i++ {
		g := d.T.Generation()
		read()
		if d.T.Generation() == g {
			return
		}
	}
}

// Config64 reads an 8-byte field, which takes two accesses.
func (d *Device) Config64(off int) (v uint64) {
	d.ConfigStable(func() {
		v = uint64(d.T.Config32(off)) | uint64(d.T.Config32(off+4))<<32
	})
	return v
}

// Rescues counts how often the watchdog found work that no interrupt had announced.
func (d *Device) Rescues() uint64 { return d.rescues.Load() }

// arena hands out small pieces of DMA memory, so that sixty short queues do not
// take sixty pages. Pieces live as long as the device.
type arena struct {
	cur  *hal.DMA
	used int
}

// piece is DMA memory at an offset.
type piece struct {
	*hal.DMA
	off int
}

func (p piece) addr(off int) hal.PhysAddr { return p.Addr + hal.PhysAddr(p.off+off) }

// alloc gives size zeroed bytes aligned to align (a power of two up to a page).
func (a *arena) alloc(m hal.Machine, size, align int) (piece, error) {
	at := (a.used + align - 1) &^ (align - 1)
	if a.cur == nil || at+size > len(a.cur.Bytes) {
		order := uint(0)
		for hal.PageSize<<order < size {
			order++
		}
		d, err := hal.NewDMA(m, order)
		if err != nil {
			return piece{}, err
		}
		// A large block does not displace a page that still has room.
		if a.cur != nil && len(d.Bytes)-size < len(a.cur.Bytes)-a.used {
			return piece{d, 0}, nil
		}
		a.cur, at = d, 0
	}
	a.used = at + size
	return piece{a.cur, at}, nil
}

// DMA gives a driver size zeroed bytes of device memory for its headers: the bytes
// and their address. They live as long as the device.
func (d *Device) DMA(size, align int) ([]byte, hal.PhysAddr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, err := d.arena.alloc(d.M, size, align)
	if err != nil {
		return nil, 0, err
	}
	return p.Bytes[p.off : p.off+size : p.off+size], p.addr(0), nil
}
