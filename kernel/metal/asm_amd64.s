#include "go_asm.h"
#include "textflag.h"

// Single instructions for Go.

TEXT ·rdmsr(SB),NOSPLIT,$0-16
	MOVL	msr+0(FP), CX
	RDMSR
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, ret+8(FP)
	RET

TEXT ·wrmsr(SB),NOSPLIT,$0-16
	MOVL	msr+0(FP), CX
	MOVQ	v+8(FP), AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	WRMSR
	RET

TEXT ·cpuid(SB),NOSPLIT,$0-24
	MOVL	leaf+0(FP), AX
	MOVL	sub+4(FP), CX
	CPUID
	MOVL	AX, a+8(FP)
	MOVL	BX, b+12(FP)
	MOVL	CX, c+16(FP)
	MOVL	DX, d+20(FP)
	RET

TEXT ·fxsave(SB),NOSPLIT,$0-8
	MOVQ	p+0(FP), AX
	FXSAVE64	(AX)
	RET

TEXT ·rdtsc(SB),NOSPLIT,$0-8
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, ret+0(FP)
	RET

TEXT ·rdrand(SB),NOSPLIT,$0-9
	RDRANDQ	AX
	SETCS	ok+8(FP)
	MOVQ	AX, v+0(FP)
	RET

TEXT ·in8(SB),NOSPLIT,$0-9
	MOVW	port+0(FP), DX
	INB
	MOVB	AX, ret+8(FP)
	RET

TEXT ·in16(SB),NOSPLIT,$0-10
	MOVW	port+0(FP), DX
	INW
	MOVW	AX, ret+8(FP)
	RET

TEXT ·in32(SB),NOSPLIT,$0-12
	MOVW	port+0(FP), DX
	INL
	MOVL	AX, ret+8(FP)
	RET

TEXT ·out8(SB),NOSPLIT,$0-3
	MOVW	port+0(FP), DX
	MOVB	v+2(FP), AX
	OUTB
	RET

TEXT ·out16(SB),NOSPLIT,$0-4
	MOVW	port+0(FP), DX
	MOVW	v+2(FP), AX
	OUTW
	RET

TEXT ·out32(SB),NOSPLIT,$0-8
	MOVW	port+0(FP), DX
	MOVL	v+4(FP), AX
	OUTL
	RET

TEXT ·invlpg(SB),NOSPLIT,$0-8
	MOVQ	va+0(FP), AX
	INVLPG	(AX)
	RET

TEXT ·readCR2(SB),NOSPLIT,$0-8
	MOVQ	CR2, AX
	MOVQ	AX, ret+0(FP)
	RET

TEXT ·readCR3(SB),NOSPLIT,$0-8
	MOVQ	CR3, AX
	MOVQ	AX, ret+0(FP)
	RET

TEXT ·writeCR3(SB),NOSPLIT,$0-8
	MOVQ	v+0(FP), AX
	MOVQ	AX, CR3
	RET

TEXT ·readCR4(SB),NOSPLIT,$0-8
	MOVQ	CR4, AX
	MOVQ	AX, ret+0(FP)
	RET

TEXT ·writeCR4(SB),NOSPLIT,$0-8
	MOVQ	v+0(FP), AX
	MOVQ	AX, CR4
	RET

TEXT ·lgdt(SB),NOSPLIT,$0-8
	MOVQ	desc+0(FP), AX
	LGDT	(AX)
	RET

TEXT ·lidt(SB),NOSPLIT,$0-8
	MOVQ	desc+0(FP), AX
	LIDT	(AX)
	RET

TEXT ·ltr(SB),NOSPLIT,$0-2
	MOVW	sel+0(FP), AX
	LTR	AX
	RET

// loadSegs reloads CS by a far return and empties the data selectors. It keeps
// the FS and GS bases only if they are written again afterwards.
TEXT ·loadSegs(SB),NOSPLIT|NOFRAME,$0
	MOVL	$const_selKData, AX
	MOVW	AX, SS
	XORL	AX, AX
	MOVW	AX, DS
	MOVW	AX, ES
	MOVQ	0(SP), AX		// our return address
	SUBQ	$8, SP
	MOVQ	AX, 0(SP)		// far frame: RIP,
	MOVQ	$const_selKCode, 8(SP)	// CS, over the return address
	RETFQ

TEXT ·xsetbv(SB),NOSPLIT,$0-8
	XORL	CX, CX
	MOVQ	v+0(FP), AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	XSETBV
	RET

TEXT ·pause(SB),NOSPLIT,$0
	PAUSE
	RET

TEXT ·cli(SB),NOSPLIT,$0
	CLI
	RET

TEXT ·sti(SB),NOSPLIT,$0
	STI
	RET

TEXT ·hang(SB),NOSPLIT,$0
	CLI
	HLT
	JMP	-2(PC)

DATA ·nullIDT+0(SB)/8, $0
DATA ·nullIDT+8(SB)/8, $0
GLOBL ·nullIDT(SB), RODATA|NOPTR, $16

// tripleFault resets the machine: a breakpoint with no IDT to serve it.
TEXT ·tripleFault(SB),NOSPLIT,$0
	LEAQ	·nullIDT(SB), AX
	LIDT	(AX)
	INT	$3
	HLT
	JMP	-1(PC)

TEXT ·curCPU(SB),NOSPLIT,$0-8
	MOVQ	CPU_self(GS), AX
	MOVQ	AX, ret+0(FP)
	RET

TEXT ·getBP(SB),NOSPLIT|NOFRAME,$0-8
	MOVQ	BP, ret+0(FP)
	RET

TEXT ·memzero(SB),NOSPLIT,$0-16
	MOVQ	p+0(FP), DI
	MOVQ	n+8(FP), CX
	SHRQ	$3, CX
	XORL	AX, AX
	CLD
	REP; STOSQ
	RET

TEXT ·memcopy(SB),NOSPLIT,$0-24
	MOVQ	dst+0(FP), DI
	MOVQ	src+8(FP), SI
	MOVQ	n+16(FP), CX
	CLD
	REP; MOVSB
	RET

#define PC_OF(name, target) \
TEXT name(SB),NOSPLIT,$0-8; \
	LEAQ	target(SB), AX; \
	MOVQ	AX, ret+0(FP); \
	RET

PC_OF(·pcStart, ·start)
PC_OF(·pcISR, ·isrTable)
PC_OF(·pcCall, ·isrCall)
PC_OF(·pcNMI, ·isrNMI)
PC_OF(·pcDB, ·isrDB)
PC_OF(·pcFatal, ·isrFatal)
PC_OF(·pcMC, ·isrMC)
PC_OF(·pcSyscall, ·syscallEntry)
PC_OF(·pcSyscall32, ·syscall32)
PC_OF(·pcIdle, ·idleLoop)
PC_OF(·pcAPStart, ·apStart)
PC_OF(·pcRT0, ·enterRuntime)
PC_OF(·pcClock, ·vdsoClock)
PC_OF(·pcCopyStart, ·copyStart)
PC_OF(·pcCopyEnd, ·copyEnd)
PC_OF(·pcCopyFault, ·copyFault)
PC_OF(·pcSched, runtime·sched)
PC_OF(·pcWriteBarrier, runtime·writeBarrier)

TEXT ·thisP(SB),NOSPLIT,$0-8
	MOVQ	(TLS), AX
	MOVQ	const_gM(AX), AX
	MOVQ	const_mP(AX), AX
	MOVQ	AX, ret+0(FP)
	RET

// nanotime() ns: see clock in time.go.
TEXT ·nanotime(SB),NOSPLIT|NOFRAME,$0-8
	LEAQ	·clk+clock_rates(SB), R8
	ADDQ	·clk+clock_cur(SB), R8
	XORL	R9, R9
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	SUBQ	clockRate_tscBase(R8), AX
	CMOVQCS	R9, AX			// another CPU changed the rate just now
	MULQ	clockRate_mult(R8)
	SHRQ	$32, DX, AX
	ADDQ	clockRate_monoBase(R8), AX
	CMPL	·clk+clock_unsync(SB), $0
	JNE	slow
	MOVQ	AX, ret+0(FP)
	RET
slow:
	CALL	·slowClock(SB)
	MOVQ	AX, ret+0(FP)
	RET

// slowClock gives CLOCK_MONOTONIC in AX where the CPUs' TSCs differ: each has its offset
// to CPU 0's, and what is left of the error must not make time run back.
// Clobbers CX, DX, R8, R9, R10.
TEXT ·slowClock(SB),NOSPLIT|NOFRAME,$0
	LEAQ	·clk+clock_rates(SB), R8
	ADDQ	·clk+clock_cur(SB), R8
	XORL	R9, R9
again:
	MOVQ	CPU_self(GS), R10
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	ADDQ	CPU_tscOff(R10), AX
	CMPQ	R10, CPU_self(GS)
	JNE	again			// moved to another CPU between the two
	SUBQ	clockRate_tscBase(R8), AX
	CMOVQLT	R9, AX
	MULQ	clockRate_mult(R8)
	SHRQ	$32, DX, AX
	ADDQ	clockRate_monoBase(R8), AX
	MOVQ	AX, CX
	MOVQ	·clk+clock_last(SB), AX
max:
	CMPQ	AX, CX
	JGE	out
	LOCK
	CMPXCHGQ	CX, ·clk+clock_last(SB)
	JNE	max
	MOVQ	CX, AX
out:
	RET

// vdsoClock(DI clock, SI *timespec) is what runtime.vdsoClockgettimeSym points
// to: C calling convention, BX, BP, R12-R15 and SP preserved. See clock in time.go:
// ns = monoBase + (tsc - tscBase) * mult >> 32 (+ realOffset).
TEXT ·vdsoClock(SB),NOSPLIT|NOFRAME,$0
	LEAQ	·clk+clock_rates(SB), R8
	ADDQ	·clk+clock_cur(SB), R8
	XORL	R9, R9
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	SUBQ	clockRate_tscBase(R8), AX
	CMOVQCS	R9, AX
	MULQ	clockRate_mult(R8)
	SHRQ	$32, AX
	SHLQ	$32, DX
	ORQ	DX, AX
	ADDQ	clockRate_monoBase(R8), AX
	CMPL	·clk+clock_unsync(SB), $0
	JNE	slow
known:
	TESTL	DI, DI
	JNE	mono
	ADDQ	·clk+clock_realOffset(SB), AX
mono:
	XORL	DX, DX
	MOVL	$1000000000, CX
	DIVQ	CX
	MOVQ	AX, 0(SI)
	MOVQ	DX, 8(SI)
	XORL	AX, AX
	RET
slow:
	CALL	·slowClock(SB)
	JMP	known
