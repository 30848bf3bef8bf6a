package vsock

import "encoding/binary"

// HeaderSize is struct virtio_vsock_hdr, in bytes (virtio 1.2, 5.10.6).
const HeaderSize = 44

// Header is what stands before every packet's data.
type Header struct {
	SrcCID, DstCID   uint64
	SrcPort, DstPort uint32
	Len              uint32 // of the data, in bytes
	Type, Op         uint16
	Flags            uint32
	// BufAlloc and FwdCnt are the sender's receive buffer and how many bytes it has given
	// to its program (5.10.6.3).
	BufAlloc, FwdCnt uint32
}

// Types of sockets.
const (
	TypeStream    = 1
	TypeSeqpacket = 2
)

// Operations.
const (
	OpInvalid       = 0
	OpRequest       = 1
	OpResponse      = 2
	OpReset         = 3
	OpShutdown      = 4
	OpData          = 5
	OpCreditUpdate  = 6
	OpCreditRequest = 7
)

// Flags of OpShutdown: the sender will receive, or send, no more.
const (
	ShutdownReceive = 1
	ShutdownSend    = 2
)

// Flags of OpData between sockets of packets: the end of a message, and of a record.
const (
	EndOfMessage = 1
	EndOfRecord  = 2
)

// Put writes the header into b, which has HeaderSize bytes.
func (h *Header) Put(b []byte) {
	le := binary.LittleEndian
	_ = b[HeaderSize-1]
	le.PutUint64(b, h.SrcCID)
	le.PutUint64(b[8:], h.DstCID)
	le.PutUint32(b[16:], h.SrcPort)
	le.PutUint32(b[20:], h.DstPort)
	le.PutUint32(b[24:], h.Len)
	le.PutUint16(b[28:], h.Type)
	le.PutUint16(b[30:], h.Op)
	le.PutUint32(b[32:], h.Flags)
	le.PutUint32(b[36:], h.BufAlloc)
	le.PutUint32(b[40:], h.FwdCnt)
}

// Parse reads the header from b, which has HeaderSize bytes.
func (h *Header) Parse(b []byte) {
	le := binary.LittleEndian
	_ = b[HeaderSize-1]
	h.SrcCID, h.DstCID = le.Uint64(b), le.Uint64(b[8:])
	h.SrcPort, h.DstPort = le.Uint32(b[16:]), le.Uint32(b[20:])
	h.Len = le.Uint32(b[24:])
	h.Type, h.Op = le.Uint16(b[28:]), le.Uint16(b[30:])
	h.Flags, h.BufAlloc, h.FwdCnt = le.Uint32(b[32:]), le.Uint32(b[36:]), le.Uint32(b[40:])
}

// Packet is one to be sent. It and its data are the driver's from Send until OnSent's
// function has it.
type Packet struct {
	Header
	Data []byte
	// Cost is the sender's own: what it charged for the data.
	Cost int64
	// Reply says that the packet answers one that came: while many wait to be sent, the
	// driver takes no more from the device.
	Reply bool
}
