package metal

import "sync"

// AddressSpace is a page table of which the lower half is a program's.
type AddressSpace struct {
	root uint64 // CR3
	cpus uint64 // CPUs that have loaded it; set in enter and the user copy
	mu   sync.Mutex
}
