package metal

import (
	"unsafe"

	"kiln/kernel/hal"
)

// Selectors of the GDT (gdt in cpu.go). SYSCALL and SYSRET derive theirs from
// STAR by fixed offsets (SDM 2B SYSRET), which dictates the order; the numbers
// are Linux's, which a few programs compare.
const (
	selKCode = 0x10
	selKData = 0x18
	selUCode = 0x33
	selUData = 0x2b
	selTSS   = 0x40
	selCPU   = 0x78 // its limit is the CPU's number, which ring 3 reads by LSL
)

// Model-specific registers (SDM 4 table 2-2).
const (
	msrAPICBase     = 0x1b
	msrSysenterCS   = 0x174
	msrSysenterESP  = 0x175
	msrSysenterEIP  = 0x176
	msrTSCDeadline  = 0x6e0
	msrEFER         = 0xc0000080
	msrSTAR         = 0xc0000081
	msrLSTAR        = 0xc0000082
	msrCSTAR        = 0xc0000083
	msrFMASK        = 0xc0000084
	msrFSBase       = 0xc0000100
	msrGSBase       = 0xc0000101
	msrKernelGSBase = 0xc0000102
	msrTSCAux       = 0xc0000103
)

// Control register bits (SDM 3A 2.5).
const (
	cr4PGE        = 1 << 7
	cr4OSFXSR     = 1 << 9
	cr4OSXMMEXCPT = 1 << 10
	cr4FSGSBASE   = 1 << 16
	cr4OSXSAVE    = 1 << 18
	cr4SMEP       = 1 << 20
	cr4SMAP       = 1 << 21
)

// x2EOI is the MSR of lapicEOI in x2APIC mode, for the assembly.
const x2EOI = 0x80b

// RFLAGS bits. userFlags are those a program may have; sysFlagMask is cleared at
// SYSCALL (IF, TF, DF, NT, AC, IOPL, RF).
const (
	flagIF      = 1 << 9
	userFlags   = 0x254dd5
	sysFlagMask = flagIF | 1<<8 | 1<<10 | 1<<14 | 1<<18 | 3<<12 | 1<<16
)

// Vectors. Devices get vecDevFirst..vecDevLast.
const (
	vecDevFirst = 0x30
	vecDevLast  = 0xdf
	vecCall     = 0xed // inter-processor: serve a request (shoot.go)
	vecWake     = 0xee // inter-processor: look at the run queue
	vecTimer    = 0xef
	vecSpurious = 0xff
	vecSyscall  = 0x100 // not a hardware vector: SYSCALL executed at ring 0
)

// Pseudo interrupt lines in the latch words, beside the device vectors.
const (
	lineDeadline = 0
	linePressure = 1
)

// Offsets into hal.Ctx for the assembly (go_asm.h gives const_ctxR15 and so on).
const (
	ctxR15    = unsafe.Offsetof(hal.Ctx{}.Regs) + unsafe.Offsetof(hal.Regs{}.R15)
	ctxR14    = ctxR15 + 8
	ctxR13    = ctxR15 + 16
	ctxR12    = ctxR15 + 24
	ctxRBP    = ctxR15 + 32
	ctxRBX    = ctxR15 + 40
	ctxR11    = ctxR15 + 48
	ctxR10    = ctxR15 + 56
	ctxR9     = ctxR15 + 64
	ctxR8     = ctxR15 + 72
	ctxRAX    = ctxR15 + unsafe.Offsetof(hal.Regs{}.RAX)
	ctxRCX    = ctxR15 + unsafe.Offsetof(hal.Regs{}.RCX)
	ctxRDX    = ctxR15 + unsafe.Offsetof(hal.Regs{}.RDX)
	ctxRSI    = ctxR15 + unsafe.Offsetof(hal.Regs{}.RSI)
	ctxRDI    = ctxR15 + unsafe.Offsetof(hal.Regs{}.RDI)
	ctxRIP    = ctxR15 + unsafe.Offsetof(hal.Regs{}.RIP)
	ctxRFLAGS = ctxR15 + unsafe.Offsetof(hal.Regs{}.RFLAGS)
	ctxRSP    = ctxR15 + unsafe.Offsetof(hal.Regs{}.RSP)
	ctxFSBase = ctxR15 + unsafe.Offsetof(hal.Regs{}.FSBase)
	ctxGSBase = ctxR15 + unsafe.Offsetof(hal.Regs{}.GSBase)
	ctxKind   = unsafe.Offsetof(hal.Ctx{}.Exit) + unsafe.Offsetof(hal.Exit{}.Kind)
	ctxVector = unsafe.Offsetof(hal.Ctx{}.Exit) + unsafe.Offsetof(hal.Exit{}.Vector)
	ctxError  = unsafe.Offsetof(hal.Ctx{}.Exit) + unsafe.Offsetof(hal.Exit{}.Error)
	ctxAddr   = unsafe.Offsetof(hal.Ctx{}.Exit) + unsafe.Offsetof(hal.Exit{}.Addr)
)
