package metal

import "unsafe"

// Instructions Go does not have, and the ways in and out (asm_amd64.s,
// entry_amd64.s, user_amd64.s).

func rdmsr(msr uint32) uint64
func wrmsr(msr uint32, v uint64)
func cpuid(leaf, sub uint32) (a, b, c, d uint32)
func rdtsc() uint64
func rdrand() (v uint64, ok bool)
func in8(port uint16) uint8
func in16(port uint16) uint16
func in32(port uint16) uint32
func out8(port uint16, v uint8)
func out16(port uint16, v uint16)
func out32(port uint16, v uint32)
func invlpg(va uint64)
func readCR2() uint64
func readCR3() uint64
func writeCR3(v uint64)
func readCR4() uint64
func writeCR4(v uint64)
func lgdt(desc uint64)
func lidt(desc uint64)
func ltr(sel uint16)
func loadSegs()
func xsetbv(v uint64)
func fxsave(p unsafe.Pointer) // 512 bytes, 16-byte aligned
func pause()
func cli()
func sti()
func hang()
func tripleFault()
func curCPU() *CPU
func memzero(p uint64, n uint64) // multiple of 8
func memcopy(dst, src, n uint64)
func getBP() uint64

// resume leaves the base: it restores the current M of this CPU.
func resume()

// baseCall runs baseOp on the base's stack with interrupts off.
//
//go:noescape
func baseCall(op, a, b, c uint64) uint64

// fpSync ends the CPU's ownership of impl's vector state (user_amd64.s).
//
//go:noescape
func fpSync(impl *ctxImpl, keep bool)

// fpLocal is fpSync with interrupts off.
//
//go:noescape
func fpLocal(impl *ctxImpl, keep bool)

// enter runs ctx at ring 3. It returns 0 when the program has trapped, 1 when a
// time slice must be armed first, 2 when another CPU has the context's vector state, 3
// when it wants to run on another.
//
//go:noescape
func enter(ctx, impl unsafe.Pointer, as *AddressSpace) uint64

// Addresses of code, for tables.
func pcStart() uint64
func pcISR() uint64
func pcCall() uint64
func pcNMI() uint64
func pcDB() uint64
func pcFatal() uint64
func pcMC() uint64
func pcSyscall() uint64
func pcSyscall32() uint64
func pcIdle() uint64
func pcAPStart() uint64
func pcRT0() uint64
func pcClock() uint64
func pcCopyStart() uint64
func pcCopyEnd() uint64
func pcCopyFault() uint64

// Addresses of the runtime's sched and writeBarrier (both may be linked to).
func pcSched() uint64
func pcWriteBarrier() uint64

// thisP is the address of the P that the goroutine has.
func thisP() uint64

// User access. All return the bytes (or success) and the fault address.
//
//go:noescape
func userCopy(as *AddressSpace, dst, src, n uint64) (left, fault uint64)

// userCopy with the kernel's side as the pointer that it is, which keeps it alive.
//
//go:noescape
func userCopyOut(as *AddressSpace, dst uint64, src unsafe.Pointer, n uint64) (left, fault uint64)

//go:noescape
func userCopyIn(as *AddressSpace, dst unsafe.Pointer, src uint64, n uint64) (left, fault uint64)

//go:noescape
func userZero(as *AddressSpace, dst, n uint64) (left, fault uint64)

//go:noescape
func userLoad32(as *AddressSpace, addr uint64) (left, fault uint64, v uint32)

//go:noescape
func userCAS32(as *AddressSpace, addr uint64, old, new uint32) (left, fault uint64, v uint32)

//go:noescape
func userXchg32(as *AddressSpace, addr uint64, new uint32) (left, fault uint64, v uint32)
