// Package vdso is the shared object that the kernel maps into every program so that
// it can read clocks without a system call (vdso(7)). Its code is src/vdso.c, built ahead by
// src/build.sh; its data is one page that every program sees read-only and the kernel
// fills from hal.TimeParams.
//
//	v, err := vdso.New(mem)
//	v.Update(machine.TimeParams()) // at boot and whenever they change
//	ehdr, err := v.Map(c, space, 0)  // AT_SYSINFO_EHDR
//
// The data is a sequence lock: the number is odd while Update writes, and a reader that
// sees it odd or changed reads again, a thousand times at most: then it asks the kernel,
// for the writer may wait for the very CPU that the reader burns.
package vdso

import (
	_ "embed"
	"sync"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

//go:generate sh -c "src/build.sh > src/vdso.tools"

//go:embed vdso.so
var blob []byte

// Offsets in struct vvar (vdso.c).
const (
	offSeq        = 0
	offUsable     = 4
	offTSCBase    = 8
	offMult       = 16
	offMonoBase   = 24
	offRealOffset = 32
	offTAIOffset  = 40
	offCPUSegment = 48
)

// CoarseResolution is what clock_getres says of the _COARSE clocks, in nanoseconds; the
// system call must say the same.
const CoarseResolution = 4000000

// VDSO is the object and its data page, shared by all programs.
type VDSO struct {
	code, data *mm.Object
	mu         sync.Mutex // one writer at a time
	page       hal.DMA    // for its single, ordered accesses
	tai        int64
}

// New makes the pages. ENOMEM.
func New(mem *mm.Memory) (*VDSO, error) {
	v := &VDSO{
		code: mm.NewObject(mem, nil, 0),
		data: mm.NewObject(mem, nil, hal.PageSize),
	}
	src := mm.KernelIO(blob)
	if _, err := v.code.WriteAt(nil, &src, 0); err != nil {
		return nil, err
	}
	f, err := v.data.Page(nil, 0) // the reference is kept: the page stays for good
	if err != nil {
		return nil, err
	}
	v.page = hal.DMA{Frame: f, Bytes: mem.Bytes(f)}
	return v, nil
}

// Update publishes new parameters. Readers see the old ones or the new, never a mixture:
// stores are not reordered with each other (SDM 3A 8.2.2).
func (v *VDSO) Update(p hal.TimeParams) {
	v.mu.Lock()
	defer v.mu.Unlock()
	d := &v.page
	seq := d.Load32(offSeq)
	d.Store32(offSeq, seq|1)
	usable := uint32(0)
	if p.UsableTSC {
		usable = 1
	}
	d.Store32(offUsable, usable)
	d.Store64(offTSCBase, p.TSCBase)
	d.Store64(offMult, p.Mult)
	d.Store64(offMonoBase, uint64(p.MonoBase))
	d.Store64(offRealOffset, uint64(p.RealOffset))
	d.Store64(offTAIOffset, uint64(v.tai))
	d.Store32(offSeq, (seq|1)+1)
}

// SetCPUSegment says where getcpu finds the CPU (hal.Features.CPUSegment).
func (v *VDSO) SetCPUSegment(sel uint16) { v.page.Store32(offCPUSegment, uint32(sel)) }

// SetTAI sets TAI - UTC in nanoseconds (adjtimex ADJ_TAI); the next Update publishes it.
func (v *VDSO) SetTAI(ns int64) {
	v.mu.Lock()
	v.tai = ns
	v.mu.Unlock()
}

// codeLen is the mapped length of the object's code.
func codeLen() uint64 { return uint64(len(blob)+hal.PageMask) &^ hal.PageMask }

// Len is the bytes that Map needs: the data page and the code.
func (v *VDSO) Len() int { return hal.PageSize + int(codeLen()) }

// Map puts [vvar] and [vdso] into s, at hint if that is free, and returns the address of
// the ELF header.
func (v *VDSO) Map(c wait.Context, s *mm.Space, hint hal.UserAddr) (hal.UserAddr, error) {
	// Find room for both, then replace it.
	at, err := s.Mmap(c, mm.MapArgs{Addr: hint, Len: uint64(v.Len()), Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS})
	if err != nil {
		return 0, err
	}
	_, err = s.Mmap(c, mm.MapArgs{Addr: at, Len: hal.PageSize, Prot: hal.ProtRead, MaxProt: hal.ProtRead,
		Flags: unix.MAP_PRIVATE | unix.MAP_FIXED, Object: v.data, Name: "[vvar]", Special: true})
	if err != nil {
		return 0, err
	}
	ehdr := at + hal.PageSize
	_, err = s.Mmap(c, mm.MapArgs{Addr: ehdr, Len: codeLen(), Prot: hal.ProtRead | hal.ProtExec,
		Flags: unix.MAP_PRIVATE | unix.MAP_FIXED, Object: v.code, Name: "[vdso]", Special: true})
	return ehdr, err
}
