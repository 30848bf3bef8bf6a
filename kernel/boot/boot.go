// Package boot holds the ways into the kernel. So far there is one: the PVH stub,
// 32-bit code that QEMU, Firecracker and Cloud Hypervisor jump to (stub.S).
package boot

import _ "embed"

//go:generate ./build.sh stub.bin

// Stub is the machine code loaded at image.StubPhys. It opens with an
// image.BootBlock; kernel/image.Link fills in the words after it.
//
//go:embed stub.bin
var Stub []byte

// Places in the stub, as offsets from its start.
const (
	// PVHEntry is the 32-bit entry point, named by the PVH note.
	PVHEntry = 0xc0
	// MemSize is the stub's memory: code, scratch, stack, first page tables.
	MemSize = 0x7000
)
