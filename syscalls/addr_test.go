package syscalls

import "unsafe"

// addrOf is where the host's memory lies.
func addrOf(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&b[0]))) }
