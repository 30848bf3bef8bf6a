package mm

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// Kind says what a frame is for; it decides who may take it back.
type Kind uint8

// Frame kinds.
const (
	KindFree  Kind = iota
	KindAnon       // private program memory
	KindCache      // page cache of an Object with a source: clean pages can be dropped
	KindShmem      // tmpfs, memfd, shared anonymous: only freed with its object
	KindImage      // part of the image in memory: never freed, never written
	numKinds
)

// frame is what is known of one page frame: 8 bytes, no pointers, so that the
// collector never looks at the table. refs counts the page cache, each mapping
// and whoever holds the frame for a copy.
type frame struct {
	refs atomic.Int32
	kind atomic.Uint32
}

// Memory is the machine's frames with reference counts, and the budget for what
// programs and peers make the kernel allocate on the Go heap.
type Memory struct {
	M      hal.Machine
	frames []frame
	counts [numKinds]atomic.Int64
	total  uint64 // frames the allocator manages
	budget Budget

	// zero is the frame behind anonymous pages that were only read. It has kind
	// KindImage: never freed, never written.
	zero hal.PFN

	committed atomic.Int64  // pages promised to programs (Committed_AS)
	anonIno   atomic.Uint64 // inode numbers of shared anonymous memory
	reclaim   reclaimer
	onOOM     atomic.Pointer[func(*Space)]
	// spare recycles the short frame lists of page-cache reads.
	spare sync.Pool
}

// NewMemory wraps m's frames and takes over its pressure call-back.
func NewMemory(m hal.Machine) *Memory {
	st := m.MemStats()
	mem := &Memory{M: m, frames: make([]frame, st.MaxPFN), total: st.TotalPages}
	mem.budget.init(mem, st.TotalPages*hal.PageSize)
	mem.spare.New = func() any { return new([maxReadAhead]hal.PFN) }
	mem.reclaim.init(mem)
	if z, err := m.AllocFrames(0, hal.AllocZero); err == nil {
		mem.zero = z
		mem.MarkImage(z, 1)
	}
	m.OnPressure(mem.reclaim.wake)
	return mem
}

// tryAlloc gives a frame with one reference, or false; it never reclaims and never
// blocks, so it may be called under any lock of this package. The frame's bytes are
// garbage unless zero is set.
func (mem *Memory) tryAlloc(k Kind, zero bool) (hal.PFN, bool) {
	var fl hal.AllocFlags
	if zero {
		fl = hal.AllocZero
	}
	f, err := mem.M.AllocFrames(0, fl)
	if err != nil {
		return 0, false
	}
	fr := &mem.frames[f]
	fr.kind.Store(uint32(k))
	fr.refs.Store(1)
	mem.counts[k].Add(1)
	return f, true
}

// Alloc gives one zeroed frame with one reference. It reclaims clean cache when
// free memory is low and returns ENOMEM only when nothing is left to reclaim.
func (mem *Memory) Alloc(k Kind) (hal.PFN, error) {
	for {
		if f, ok := mem.tryAlloc(k, true); ok {
			return f, nil
		}
		if !mem.reclaimSome() {
			return 0, unix.ENOMEM
		}
	}
}

// Ref and Unref count users of a frame; the last Unref frees it. Image frames are
// not counted.
func (mem *Memory) Ref(f hal.PFN) {
	fr := &mem.frames[f]
	if Kind(fr.kind.Load()) != KindImage {
		fr.refs.Add(1)
	}
}

// Unref is Ref's opposite.
func (mem *Memory) Unref(f hal.PFN) {
	fr := &mem.frames[f]
	k := Kind(fr.kind.Load())
	if k == KindImage {
		return
	}
	switch n := fr.refs.Add(-1); {
	case n == 0:
		fr.kind.Store(uint32(KindFree))
		mem.counts[k].Add(-1)
		mem.M.FreeFrames(f, 0)
	case n < 0:
		panic("mm: frame freed twice")
	}
}

// kindOf and refsOf look at a frame that the caller holds.
func (mem *Memory) kindOf(f hal.PFN) Kind  { return Kind(mem.frames[f].kind.Load()) }
func (mem *Memory) refsOf(f hal.PFN) int32 { return mem.frames[f].refs.Load() }

// Bytes are the frame's 4096 bytes.
func (mem *Memory) Bytes(f hal.PFN) []byte { return mem.M.Frame(f) }

// MarkImage declares n frames from first as part of the loaded image.
func (mem *Memory) MarkImage(first hal.PFN, n int) {
	for i := range mem.frames[first : first+hal.PFN(n)] {
		fr := &mem.frames[first+hal.PFN(i)]
		if Kind(fr.kind.Load()) != KindImage {
			fr.kind.Store(uint32(KindImage))
			mem.counts[KindImage].Add(1)
		}
	}
}

// Count is the number of frames of kind k, for /proc/meminfo.
func (mem *Memory) Count(k Kind) int64 { return mem.counts[k].Load() }

// Committed is the pages promised to programs (Committed_AS of /proc/meminfo).
func (mem *Memory) Committed() int64 { return mem.committed.Load() }

// TotalPages is the frames the allocator manages.
func (mem *Memory) TotalPages() uint64 { return mem.total }

// Budget is the kernel-heap budget (DESIGN 2, Memory).
func (mem *Memory) Budget() *Budget { return &mem.budget }

// OnOOM registers the function called, without any lock held, when a page of s
// cannot be had and nothing is left to reclaim; HandleFault then returns ENOMEM. s is
// nil when it is the kernel itself that runs out.
func (mem *Memory) OnOOM(f func(s *Space)) { mem.onOOM.Store(&f) }

func (mem *Memory) outOfMemory(s *Space) {
	if f := mem.onOOM.Load(); f != nil {
		(*f)(s)
	}
}

// enough is Linux's vm.overcommit_memory=0: only what could never fit is refused.
func (mem *Memory) enough(pages int64) bool { return uint64(pages) <= mem.total }
