// Package blk drives virtio block devices (virtio 1.2, 5.2). A Disk is an
// mm.BlockDevice: pages move between the device and frames, with no copy between.
//
// A caller submits under Disk.mu and blocks in its wait.Context; the driver's
// goroutine takes finished requests back and notifies the callers. Many requests
// are under way at once.
//
// Lock order: Disk.mu is a leaf, but for the waiters' listeners.
package blk

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/drivers/virtio"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Features (5.2.3).
const (
	featSegMax   = 1 << 2
	featReadOnly = 1 << 5
	featBlkSize  = 1 << 6
	featFlush    = 1 << 9
)

// Request types (5.2.6).
const (
	reqIn    = 0
	reqOut   = 1
	reqFlush = 4
	reqGetID = 8
)

// Configuration fields (5.2.4).
const (
	cfgCapacity = 0
	cfgSegMax   = 12
)

const (
	sectorShift = 9
	serialLen   = 20
	// slots is how many requests can be under way.
	slots = 64
	// maxData is the most data segments of a request, 256 KiB in single pages.
	maxData = 64
	// slotBytes holds a request's header (16 bytes) and status (1 byte).
	slotBytes = 32
	// maxSeg bounds a segment made of adjacent frames.
	maxSeg = 1 << 20
)

// Disk is a block device.
type Disk struct {
	dev      *virtio.Device
	q        *virtio.Queue
	size     int64
	readOnly bool
	serial   string
	maxData  int
	wake     chan struct{}
	changed  atomic.Bool
	hdr      []byte
	hdrAddr  hal.PhysAddr

	mu      sync.Mutex
	reqs    [slots]request
	idle    []*request
	waiters []waiter.EventListener
	segs    [maxData + 2]virtio.Seg
}

var _ mm.BlockDevice = (*Disk)(nil)

// request is one slot: an outstanding chain.
type request struct {
	index int
	group *group
}

// group is one caller's requests.
type group struct {
	pending  atomic.Int32
	failed   atomic.Uint32 // errno of the first failure
	listener waiter.EventListener
}

func (g *group) done(err unix.Errno) {
	if err != 0 {
		g.failed.CompareAndSwap(0, uint32(err))
	}
	l := g.listener
	if g.pending.Add(-1) == 0 {
		l.NotifyEvent(waiter.EventOut)
	}
}

// Open brings the device up and reads its serial number.
func Open(m hal.Machine, t virtio.Transport, name string, w *virtio.Watchdog) (*Disk, error) {
	dev, err := virtio.NewDevice(m, t, name)
	if err != nil {
		return nil, err
	}
	if err := dev.Negotiate(featSegMax | featReadOnly | featBlkSize | featFlush); err != nil {
		return nil, err
	}
	d := &Disk{dev: dev, readOnly: dev.Has(featReadOnly), maxData: 1, wake: make(chan struct{}, 1)}
	if err := t.Connect(name, d.configChanged, []func(){d.kick}); err != nil {
		return nil, err
	}
	if dev.Has(featSegMax) {
		// seg_max counts data segments (5.2.4).
		d.maxData = int(max(1, min(t.Config32(cfgSegMax), maxData)))
	}
	sectors := dev.Config64(cfgCapacity)
	if sectors > 1<<(62-sectorShift) {
		return nil, dev.Fail("it has %d sectors", sectors)
	}
	d.size = int64(sectors) << sectorShift
	d.q, err = dev.NewQueue(0, virtio.QueueConfig{Size: 256, MaxSegs: d.maxData + 2, Tables: slots})
	if err != nil {
		return nil, err
	}
	if d.q.Size() < 3 {
		return nil, dev.Fail("its queue has %d entries", d.q.Size())
	}
	if !dev.Has(virtio.FeatureIndirect) {
		d.maxData = min(d.maxData, d.q.Size()-2)
	}
	if d.hdr, d.hdrAddr, err = dev.DMA(slots*slotBytes, 16); err != nil {
		return nil, err
	}
	for i := range d.reqs {
		d.reqs[i].index = i
		d.idle = append(d.idle, &d.reqs[i])
	}
	dev.OnError(d.kick)
	if err := dev.Start(); err != nil {
		return nil, err
	}
	d.q.Listen(1)
	go d.run()
	w.Watch(d.q, d.kick)
	return d, d.readSerial()
}

// Size is the capacity in bytes, a multiple of 512.
func (d *Disk) Size() int64 { return d.size }

// Serial is the device's serial number (serial= of QEMU), "" if it has none.
func (d *Disk) Serial() string { return d.serial }

// ReadOnly tells whether writes will be refused.
func (d *Disk) ReadOnly() bool { return d.readOnly }

// Name is the device's name, "virtio-blk0".
func (d *Disk) Name() string { return d.dev.Name }

// Device gives access to errors and counters.
func (d *Disk) Device() *virtio.Device { return d.dev }

func (d *Disk) kick() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *Disk) configChanged() {
	d.changed.Store(true)
	d.kick()
}

// run takes finished requests back. It ends when the device has failed.
func (d *Disk) run() {
	for range d.wake {
		for {
			d.mu.Lock()
			d.q.Quiet()
			d.reap()
			more := d.q.Listen(1)
			d.mu.Unlock()
			if d.changed.Swap(false) {
				d.dev.CheckStatus()
			}
			if d.dev.Err() != nil {
				d.giveUp()
				return
			}
			if !more {
				break
			}
		}
	}
}

// reap completes what the device has finished. Called with mu held.
func (d *Disk) reap() {
	n := 0
	for {
		tok, _, ok := d.q.Pop()
		if !ok {
			break
		}
		n++
		r := tok.(*request)
		errno := unix.Errno(0)
		switch d.hdr[r.index*slotBytes+16] { // 5.2.6: OK, IOERR, UNSUPP
		case 0:
		case 2:
			errno = unix.EOPNOTSUPP
		default:
			errno = unix.EIO
		}
		d.finish(r, errno)
	}
	if n > 0 {
		d.wakeWaiters()
	}
}

func (d *Disk) finish(r *request, errno unix.Errno) {
	g := r.group
	r.group = nil
	d.idle = append(d.idle, r)
	g.done(errno)
}

func (d *Disk) wakeWaiters() {
	for i, l := range d.waiters {
		l.NotifyEvent(waiter.EventOut)
		d.waiters[i] = nil
	}
	d.waiters = d.waiters[:0]
}

func (d *Disk) giveUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.q.Drain(func(tok any) { d.finish(tok.(*request), unix.EIO) })
	d.wakeWaiters()
}

// submit starts one request, waiting for room. data are the segments between
// header and status, in d.segs[1:]; fill writes them and returns their number.
func (d *Disk) submit(c wait.Context, g *group, kind uint32, sector uint64, write bool, fill func(segs []virtio.Seg) int) error {
	for {
		d.mu.Lock()
		if d.dev.Err() != nil {
			d.mu.Unlock()
			return unix.EIO
		}
		if len(d.idle) > 0 && d.q.Room(d.maxData+2) {
			break
		}
		d.q.Kick() // what waits for a kick makes the room
		d.waiters = append(d.waiters, c.Listener())
		d.mu.Unlock()
		c.Block(hal.NoDeadline, wait.Uninterruptible)
	}
	defer d.mu.Unlock()
	r := d.idle[len(d.idle)-1]
	h := d.hdr[r.index*slotBytes:][:slotBytes]
	binary.LittleEndian.PutUint32(h, kind)
	binary.LittleEndian.PutUint32(h[4:], 0)
	binary.LittleEndian.PutUint64(h[8:], sector)
	h[16] = 0xff
	at := d.hdrAddr + hal.PhysAddr(r.index*slotBytes)
	d.segs[0] = virtio.Seg{Addr: at, Len: 16}
	n := fill(d.segs[1 : 1+d.maxData])
	d.segs[1+n] = virtio.Seg{Addr: at + 16, Len: 1}
	out := 1
	if write {
		out += n
	}
	r.group = g
	g.pending.Add(1)
	if err := d.q.Add(d.segs[:n+2], out, r); err != nil {
		r.group = nil
		g.pending.Add(-1)
		return unix.EIO
	}
	d.idle = d.idle[:len(d.idle)-1]
	return nil
}

// finishGroup notifies the device and waits for the caller's requests.
func (d *Disk) finishGroup(c wait.Context, g *group) error {
	d.mu.Lock()
	d.q.Kick()
	d.mu.Unlock()
	for g.pending.Load() > 0 {
		c.Block(hal.NoDeadline, wait.Uninterruptible)
	}
	if e := g.failed.Load(); e != 0 {
		return unix.Errno(e)
	}
	return nil
}

// ReadFrames implements mm.BlockDevice. A page that reaches beyond the end of the
// disk is filled with zeros there; one that begins beyond it is EIO.
func (d *Disk) ReadFrames(c wait.Context, off int64, frames []hal.PFN) error {
	if err := d.transfer(c, reqIn, off, frames); err != nil {
		return err
	}
	if end := off + int64(len(frames))<<hal.PageShift; end > d.size {
		clear(d.dev.M.Frame(frames[len(frames)-1])[d.size&hal.PageMask:])
	}
	return nil
}

// WriteFrames implements mm.BlockDevice; EROFS on a read-only disk.
func (d *Disk) WriteFrames(c wait.Context, off int64, frames []hal.PFN) error {
	if d.readOnly {
		return unix.EROFS
	}
	return d.transfer(c, reqOut, off, frames)
}

// Flush implements mm.BlockDevice. A device without a volatile cache has nothing
// to flush (5.2.6.2).
func (d *Disk) Flush(c wait.Context) error {
	if !d.dev.Has(featFlush) {
		return nil
	}
	if c == nil {
		c = wait.Background()
	}
	g := &group{listener: c.Listener()}
	if err := d.submit(c, g, reqFlush, 0, false, func([]virtio.Seg) int { return 0 }); err != nil {
		return err
	}
	return d.finishGroup(c, g)
}

func (d *Disk) transfer(c wait.Context, kind uint32, off int64, frames []hal.PFN) error {
	if off < 0 || off&hal.PageMask != 0 {
		return unix.EINVAL
	}
	if len(frames) == 0 {
		return nil
	}
	if off > d.size || int64(len(frames)-1)<<hal.PageShift >= d.size-off {
		return unix.EIO
	}
	if c == nil {
		c = wait.Background()
	}
	g := &group{listener: c.Listener()}
	var err error
	for len(frames) > 0 && err == nil {
		used := 0
		err = d.submit(c, g, kind, uint64(off)>>sectorShift, kind == reqOut, func(segs []virtio.Seg) (n int) {
			n, used = d.gather(segs, off, frames)
			return n
		})
		frames = frames[used:]
		off += int64(used) << hal.PageShift
	}
	// Even after an error the frames stay ours until the device is done.
	if e := d.finishGroup(c, g); err == nil {
		err = e
	}
	return err
}

// gather describes as many frames as fit, adjacent ones as one segment, and stops
// at the end of the disk.
func (d *Disk) gather(segs []virtio.Seg, off int64, frames []hal.PFN) (n, used int) {
	for _, f := range frames {
		length := uint32(min(hal.PageSize, d.size-off))
		if n > 0 && segs[n-1].Addr+hal.PhysAddr(segs[n-1].Len) == f.Addr() && segs[n-1].Len+length <= maxSeg {
			segs[n-1].Len += length
		} else if n == len(segs) {
			break
		} else {
			segs[n] = virtio.Seg{Addr: f.Addr(), Len: length}
			n++
		}
		used++
		off += int64(length)
	}
	return n, used
}

// readSerial asks for the serial number (5.2.6.4); devices may not know the request.
func (d *Disk) readSerial() error {
	buf, at, err := d.dev.DMA(serialLen, 16)
	if err != nil {
		return err
	}
	c := wait.Background()
	g := &group{listener: c.Listener()}
	err = d.submit(c, g, reqGetID, 0, false, func(segs []virtio.Seg) int {
		segs[0] = virtio.Seg{Addr: at, Len: serialLen}
		return 1
	})
	if err == nil {
		err = d.finishGroup(c, g)
	}
	if d.dev.Err() != nil {
		return d.dev.Err()
	}
	if err == nil {
		s, _, _ := bytes.Cut(buf, []byte{0})
		d.serial = string(bytes.TrimSpace(s))
	}
	return nil
}
