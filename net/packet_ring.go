package net

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
)

// A ring of a packet socket (PACKET_RX_RING, PACKET_TX_RING) is memory that program and
// kernel share: blocks of frames, each with a header whose status says whose turn it is.
// See packet_mmap (Linux's Documentation/networking/packet_mmap.rst) and
// uapi/linux/if_packet.h.
//
// Both rings of a socket are the pages of one mm.Object, the receiving one first, as one
// mmap shows them. The program may write there whatever it likes at any time: the kernel
// keeps its own place in the ring and its own lengths, reads a word of the program's once
// and copies a frame before it looks at it.

// Versions of the headers.
const (
	tpacketV1 = 0
	tpacketV2 = 1
	tpacketV3 = 2
)

// Statuses of frames and blocks (TP_STATUS_*).
const (
	tpStatusKernel       = 0
	tpStatusCopy         = 1 << 1
	tpStatusLosing       = 1 << 2
	tpStatusBlkTmo       = 1 << 5
	tpStatusTSSoftware   = 1 << 29
	tpStatusSendRequest  = 1
	tpStatusSending      = 2
	tpStatusWrongFormat  = 4
	tpacketAlignment     = 16
	maxTpacketHeaderSize = 48
)

// tpacketHeaderSize is struct tpacket_hdr, tpacket2_hdr, tpacket3_hdr: TPACKET_HDRLEN
// is that with a struct sockaddr_ll behind it.
var tpacketHeaderSize = [3]int{32, 32, maxTpacketHeaderSize}

func tpacketHdrlen(version int) int {
	return align(tpacketHeaderSize[version], tpacketAlignment) + sizeLl
}

func align(n, to int) int { return (n + to - 1) &^ (to - 1) }

// Sizes of struct tpacket_req and tpacket_req3.
const (
	sizeTpacketReq  = 16
	sizeTpacketReq3 = 28
)

// ringReq is either of them.
type ringReq struct {
	blockSize, blockNr, frameSize, frameNr uint32
	retire, priv, features                 uint32 // of tpacket_req3
}

func parseRingReq(v []byte, version int) (r ringReq) {
	le := binary.LittleEndian
	r.blockSize, r.blockNr, r.frameSize, r.frameNr = le.Uint32(v), le.Uint32(v[4:]), le.Uint32(v[8:]), le.Uint32(v[12:])
	if version == tpacketV3 {
		r.retire, r.priv, r.features = le.Uint32(v[16:]), le.Uint32(v[20:]), le.Uint32(v[24:])
	}
	return r
}

// ringMem is the memory of a socket's rings.
type ringMem struct {
	mem   *mm.Memory
	obj   *mm.Object
	pages []*hal.DMA
	size  int64
}

// newRingMem makes size bytes of zeroes, charged to the budget: ENOMEM.
func newRingMem(mem *mm.Memory, size int64) (*ringMem, error) {
	if mem == nil || uint64(size)>>hal.PageShift > mem.TotalPages() || !mem.Budget().Charge(size) {
		return nil, unix.ENOMEM
	}
	m := &ringMem{mem: mem, size: size, obj: mm.NewObject(mem, nil, size)}
	m.pages = make([]*hal.DMA, 0, size>>hal.PageShift)
	for i := range size >> hal.PageShift {
		f, err := m.obj.Page(nil, i)
		if err != nil {
			m.free()
			return nil, unix.ENOMEM
		}
		m.pages = append(m.pages, &hal.DMA{Frame: f, Bytes: mem.Bytes(f)})
	}
	return m, nil
}

// free lets go of the memory; a mapping keeps its pages until it goes, too.
func (m *ringMem) free() {
	if m == nil {
		return
	}
	for _, p := range m.pages {
		m.mem.Unref(p.Frame)
	}
	m.pages = nil
	m.obj.DecRef()
	m.mem.Budget().Uncharge(m.size)
}

// at is the page that holds a byte, and where in it. Words are aligned and lie in one.
func (m *ringMem) at(off int64) (*hal.DMA, int) {
	return m.pages[off>>hal.PageShift], int(off & hal.PageMask)
}

func (m *ringMem) get32(off int64) uint32    { d, o := m.at(off); return d.Load32(o) }
func (m *ringMem) put32(off int64, v uint32) { d, o := m.at(off); d.Publish32(o, v) }

// write and read copy bytes, which may lie across pages.
func (m *ringMem) write(off int64, b []byte) {
	for len(b) > 0 {
		d, o := m.at(off)
		n := copy(d.Bytes[o:], b)
		b, off = b[n:], off+int64(n)
	}
}

func (m *ringMem) read(b []byte, off int64) {
	for len(b) > 0 {
		d, o := m.at(off)
		n := copy(b, d.Bytes[o:])
		b, off = b[n:], off+int64(n)
	}
}

// packetRing is one of a socket's two rings.
type packetRing struct {
	m         *ringMem
	base      int64 // where it begins in m
	version   int
	hdrlen    int
	blockSize uint32
	blockNr   uint32
	frameSize uint32
	perBlock  uint32
	frameMax  uint32 // the number of the last frame
	head      uint32
	blocks    *blockRing // of a receiving ring of TPACKET_V3
}

func (r *packetRing) bytes() int64 {
	if r == nil {
		return 0
	}
	return int64(r.blockSize) * int64(r.blockNr)
}

// frame is where frame i is.
func (r *packetRing) frame(i uint32) int64 {
	return r.base + int64(i/r.perBlock)*int64(r.blockSize) + int64(i%r.perBlock)*int64(r.frameSize)
}

func (r *packetRing) next(i uint32) uint32 {
	if i == r.frameMax {
		return 0
	}
	return i + 1
}

func (r *packetRing) previous(i uint32) uint32 {
	if i == 0 {
		return r.frameMax
	}
	return i - 1
}

// statusAt is where a frame's header has its status.
func (r *packetRing) statusAt(frame int64) int64 {
	if r.version == tpacketV3 {
		return frame + 20
	}
	return frame
}

// is says whether a frame's status is st: the whole word, which is a long in V1.
func (r *packetRing) is(frame int64, st uint32) bool {
	at := r.statusAt(frame)
	return r.m.get32(at) == st && (r.version != tpacketV1 || r.m.get32(at+4) == 0)
}

// set gives a frame its status, after what was written before.
func (r *packetRing) set(frame int64, st uint32) {
	at := r.statusAt(frame)
	if r.version == tpacketV1 {
		r.m.put32(at+4, 0)
	}
	r.m.put32(at, st)
}

// checkRing looks at a request in Linux's order (packet_set_ring): EINVAL.
func checkRing(q *ringReq, version, reserve int) (perBlock uint32, err error) {
	least := uint64(tpacketHdrlen(version)) + uint64(reserve)
	switch {
	case int32(q.blockSize) <= 0, q.blockSize&hal.PageMask != 0,
		version == tpacketV3 && uint64(q.blockSize) < blockHead(q.priv)+least,
		uint64(q.frameSize) < least, q.frameSize&(tpacketAlignment-1) != 0:
		return 0, unix.EINVAL
	}
	perBlock = q.blockSize / q.frameSize
	if perBlock == 0 || perBlock > math.MaxUint32/q.blockNr || perBlock*q.blockNr != q.frameNr {
		return 0, unix.EINVAL
	}
	return perBlock, nil
}

// setRing makes or (no blocks) removes a ring: EBUSY while the rings are mapped and for a
// second one; EINVAL, ENOMEM.
func (x *packetSocket) setRing(tx bool, v []byte) error {
	x.txMu.Lock()
	defer x.txMu.Unlock()
	x.mu.Lock()
	version, reserve := x.version, int(x.reserve)
	x.mu.Unlock()
	size := sizeTpacketReq
	if version == tpacketV3 {
		size = sizeTpacketReq3
	}
	if len(v) < size {
		return unix.EINVAL
	}
	q := parseRingReq(v, version)
	if x.ring != nil && x.ring.obj.Mapped() {
		return unix.EBUSY
	}
	if q.blockNr == 0 {
		if q.frameNr != 0 {
			return unix.EINVAL
		}
		return x.replaceRing(nil, tx)
	}
	if tx && x.txRing != nil || !tx && x.rxRing != nil {
		return unix.EBUSY
	}
	perBlock, err := checkRing(&q, version, reserve)
	if err != nil {
		return err
	}
	r := &packetRing{version: version, hdrlen: tpacketHdrlen(version), blockSize: q.blockSize, blockNr: q.blockNr,
		frameSize: q.frameSize, perBlock: perBlock, frameMax: q.frameNr - 1}
	switch {
	case version != tpacketV3:
	case !tx:
		r.blocks = &blockRing{r: r, x: x, priv: q.priv, retire: retireAfter(q.retire)}
	case q.retire|q.priv|q.features != 0: // Linux looks after it has the memory
		return unix.EINVAL
	}
	return x.replaceRing(r, tx)
}

// replaceRing puts r, or nothing, in the place of a ring; the other one moves with what is
// in it. What waits to be received is dropped with the old one. txMu is held.
func (x *packetSocket) replaceRing(r *packetRing, tx bool) error {
	mine, other := &x.rxRing, x.txRing
	if tx {
		mine, other = &x.txRing, x.rxRing
	}
	var m *ringMem
	if total := r.bytes() + other.bytes(); total > 0 {
		var err error
		if m, err = newRingMem(x.s.cfg.Mem, total); err != nil {
			return err
		}
	}
	x.mu.Lock()
	if old := *mine; old != nil && old.blocks != nil {
		old.blocks.stop()
	}
	first, second := r, other
	if tx {
		first, second = other, r
	}
	first.move(m, 0)
	second.move(m, first.bytes())
	old := x.ring
	x.ring, *mine = m, r
	if !tx {
		x.s.cfg.Budget.Uncharge(int64(x.bytes))
		x.rx, x.bytes = nil, 0
	}
	if r != nil && r.blocks != nil {
		r.blocks.open()
	}
	x.mu.Unlock()
	old.free()
	return nil
}

// move takes a ring to other memory.
func (r *packetRing) move(m *ringMem, base int64) {
	if r == nil {
		return
	}
	if r.m != nil {
		var page [hal.PageSize]byte
		for off := int64(0); off < r.bytes(); off += hal.PageSize {
			r.m.read(page[:], r.base+off)
			m.write(base+off, page[:])
		}
	}
	r.m, r.base = m, base
}

// MapRing is mmap of the rings: all of them, from the first byte on (EINVAL). The object
// has a reference more.
func (x *packetSocket) MapRing(off int64, length uint64) (*mm.Object, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if off != 0 || x.ring == nil || (length+hal.PageMask)&^hal.PageMask != uint64(x.ring.size) {
		return nil, unix.EINVAL
	}
	x.ring.obj.IncRef()
	return x.ring.obj, nil
}
