#include "go_asm.h"
#include "textflag.h"

// The ways into and out of the base from ring 0: boot, traps, SYSCALL by the Go
// runtime, calls from Go. The ring-3 half is in user_amd64.s.
//
// Rules. IF=0 from the first instruction of a trap to its IRETQ. GS points to the
// CPU whenever CPL is 0, except between SWAPGS and SYSRET/IRETQ and in the first
// instruction of an entry from ring 3, where no trap can come but NMI, #MC (which
// trust nothing) . The base's Go runs on a stack, a TLS and a g of the CPU's own
// (fakeG), never on a goroutine's.

// SETFS loads the FS base from AX. Clobbers AX, CX, DX.
#define SETFS \
	CMPB	·feat+cpuFeat_fsgsbase(SB), $0; \
	JEQ	3(PC); \
	WRFSBASEQ	AX; \
	JMP	5(PC); \
	MOVQ	AX, DX; \
	SHRQ	$32, DX; \
	MOVL	$const_msrFSBase, CX; \
	WRMSR

// NOFP ends the chain of frame pointers: nobody called us.
#define NOFP XORL BP, BP
#define POPFP MOVQ CPU_savedBP(GS), BP
#define LOADFP MOVQ 32(SP), BP

// start is the ELF entry, reached from the boot stub in long mode with
// RDI = BootBlock, RSI = hvm_start_info, both physical; physical 0-1 GiB is mapped
// at 0 and at KernelOffset. It gives the boot code a stack and a g and calls it.
TEXT ·start(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ	$0xffffffff80000000, AX
	ADDQ	AX, SP
	LEAQ	·bootG(SB), R14
	LEAQ	-6144(SP), CX
	MOVQ	CX, 0(R14)		// g.stack.lo
	MOVQ	SP, 8(R14)		// g.stack.hi
	MOVQ	CX, 16(R14)		// g.stackguard0
	MOVQ	CX, 24(R14)
	LEAQ	·bootTLS+16(SB), AX
	MOVQ	R14, ·bootTLS+8(SB)	// FS:-8
	MOVQ	AX, DX
	SHRQ	$32, DX
	MOVL	$const_msrFSBase, CX
	WRMSR
	NOFP
	XORPS	X15, X15
	MOVQ	DI, AX
	MOVQ	SI, BX
	MOVQ	·bootFn(SB), DX
	MOVQ	0(DX), CX
	CALL	CX
	JMP	·resume(SB)

// apStart is where another CPU arrives from the stub, in long mode with the stub's page
// tables: RSI = CR3, RDI = its CPU.
TEXT ·apStart(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ	SI, CR3
	MOVQ	DI, AX
	MOVQ	DI, DX
	SHRQ	$32, DX
	MOVL	$const_msrGSBase, CX
	WRMSR
	MOVQ	CPU_baseSP(GS), SP
	MOVQ	CPU_baseTLS(GS), AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	MOVL	$const_msrFSBase, CX
	WRMSR
	MOVQ	CPU_fakeG(GS), R14
	NOFP
	XORPS	X15, X15
	MOVQ	DI, AX
	MOVQ	·apFn(SB), DX
	MOVQ	0(DX), CX
	CALL	CX
	JMP	·resume(SB)

// enterRuntime is where M 0 starts: SP points to argc as the kernel of Linux
// leaves it.
TEXT ·enterRuntime(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	NOFP
	JMP	_rt0_amd64_linux(SB)

// idleLoop is the program of each CPU's idle M.
TEXT ·idleLoop(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	STI
	HLT
	JMP	-2(PC)

#define STUB(v) \
	PCALIGN	$16; \
	BYTE	$0x6a; BYTE $0; \
	BYTE	$0x6a; BYTE $v; \
	JMP	·isrCommon(SB)

// The processor has pushed an error code for these.
#define STUBE(v) \
	PCALIGN	$16; \
	BYTE	$0x6a; BYTE $v; \
	JMP	·isrCommon(SB)

#define STUB8(v) \
	STUB(v); STUB(v+1); STUB(v+2); STUB(v+3); \
	STUB(v+4); STUB(v+5); STUB(v+6); STUB(v+7)

#define STUB32(v) \
	STUB8(v); STUB8(v+8); STUB8(v+16); STUB8(v+24)

// isrTable: 256 entries of 16 bytes (SDM 3A table 6-1 for the error codes).
TEXT ·isrTable(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	STUB8(0)
	STUBE(8)
	STUB(9)
	STUBE(10)
	STUBE(11)
	STUBE(12)
	STUBE(13)
	STUBE(14)
	STUB(15)
	STUB(16)
	STUBE(17)
	STUB(18)
	STUB(19)
	STUB(20)
	STUBE(21)
	STUB(22)
	STUB(23)
	STUB8(24)
	STUB32(32)
	STUB32(64)
	STUB32(96)
	STUB32(128)
	STUB32(160)
	STUB32(192)
	STUB32(224)

#define SAVEGPR \
	MOVQ	R15, 0(SP); \
	MOVQ	R14, 8(SP); \
	MOVQ	R13, 16(SP); \
	MOVQ	R12, 24(SP); \
	MOVQ	BP, 32(SP); \
	MOVQ	BX, 40(SP); \
	MOVQ	R11, 48(SP); \
	MOVQ	R10, 56(SP); \
	MOVQ	R9, 64(SP); \
	MOVQ	R8, 72(SP); \
	MOVQ	AX, 80(SP); \
	MOVQ	CX, 88(SP); \
	MOVQ	DX, 96(SP); \
	MOVQ	SI, 104(SP); \
	MOVQ	DI, 112(SP)

// isrCommon: SP is in the running M's frame, at Vector.
TEXT ·isrCommon(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	CLD
	CMPB	·feat+cpuFeat_smap(SB), $0
	JEQ	2(PC)
	CLAC
	TESTB	$3, 24(SP)		// CS
	JEQ	kernel
	SWAPGS
	JMP	·isrUser(SB)
kernel:
	SUBQ	$120, SP
	SAVEGPR
	MOVQ	CR2, AX
	MOVQ	AX, M_cr2(SP)
	MOVBLZX	120(SP), AX
	MOVQ	AX, 120(SP)
	CMPL	CPU_inBase(GS), $0
	JNE	nested
	JMP	·toBase(SB)
nested:
	// A trap inside the base: its own bug. Report and stop.
	MOVQ	SP, BX
	MOVQ	CPU_self(GS), AX
	MOVQ	CPU_baseSP(GS), SP
	SUBQ	$16384, SP		// leave the stack of the culprit readable
	MOVQ	CPU_fakeG(GS), R14
	XORPS	X15, X15
	MOVQ	·fatalFn(SB), DX
	MOVQ	0(DX), CX
	CALL	CX
	JMP	·hang(SB)

// toBase: SP = M, general registers and frame saved, IF=0, GS = CPU.
TEXT ·toBase(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVUPS	X0, (M_xmm+0)(SP)
	MOVUPS	X1, (M_xmm+16)(SP)
	MOVUPS	X2, (M_xmm+32)(SP)
	MOVUPS	X3, (M_xmm+48)(SP)
	MOVUPS	X4, (M_xmm+64)(SP)
	MOVUPS	X5, (M_xmm+80)(SP)
	MOVUPS	X6, (M_xmm+96)(SP)
	MOVUPS	X7, (M_xmm+112)(SP)
	MOVUPS	X8, (M_xmm+128)(SP)
	MOVUPS	X9, (M_xmm+144)(SP)
	MOVUPS	X10, (M_xmm+160)(SP)
	MOVUPS	X11, (M_xmm+176)(SP)
	MOVUPS	X12, (M_xmm+192)(SP)
	MOVUPS	X13, (M_xmm+208)(SP)
	MOVUPS	X14, (M_xmm+224)(SP)
	MOVUPS	X15, (M_xmm+240)(SP)
	STMXCSR	M_mxcsr(SP)
	MOVL	$1, CPU_inBase(GS)
	MOVQ	SP, BX
	MOVQ	CPU_baseSP(GS), SP
	MOVQ	CPU_baseTLS(GS), AX
	SETFS
	MOVQ	CPU_fakeG(GS), R14
	XORPS	X15, X15
	NOFP
	MOVQ	CPU_self(GS), AX
	MOVQ	·trapFn(SB), DX
	MOVQ	0(DX), CX
	CALL	CX
	JMP	·resume(SB)

// resume restores the CPU's current M.
TEXT ·resume(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ	CPU_cur(GS), SP
	MOVUPS	(M_xmm+0)(SP), X0
	MOVUPS	(M_xmm+16)(SP), X1
	MOVUPS	(M_xmm+32)(SP), X2
	MOVUPS	(M_xmm+48)(SP), X3
	MOVUPS	(M_xmm+64)(SP), X4
	MOVUPS	(M_xmm+80)(SP), X5
	MOVUPS	(M_xmm+96)(SP), X6
	MOVUPS	(M_xmm+112)(SP), X7
	MOVUPS	(M_xmm+128)(SP), X8
	MOVUPS	(M_xmm+144)(SP), X9
	MOVUPS	(M_xmm+160)(SP), X10
	MOVUPS	(M_xmm+176)(SP), X11
	MOVUPS	(M_xmm+192)(SP), X12
	MOVUPS	(M_xmm+208)(SP), X13
	MOVUPS	(M_xmm+224)(SP), X14
	MOVUPS	(M_xmm+240)(SP), X15
	LDMXCSR	M_mxcsr(SP)
	MOVQ	M_fs(SP), AX
	SETFS
	MOVL	$0, CPU_inBase(GS)
	MOVQ	0(SP), R15
	MOVQ	8(SP), R14
	MOVQ	16(SP), R13
	MOVQ	24(SP), R12
	LOADFP
	MOVQ	40(SP), BX
	MOVQ	48(SP), R11
	MOVQ	56(SP), R10
	MOVQ	64(SP), R9
	MOVQ	72(SP), R8
	MOVQ	80(SP), AX
	MOVQ	88(SP), CX
	MOVQ	96(SP), DX
	MOVQ	104(SP), SI
	MOVQ	112(SP), DI
	ADDQ	$136, SP
	IRETQ

// syscallEntry is LSTAR. The Go runtime's own calls come here too: a return
// address in the upper half tells them apart.
TEXT ·syscallEntry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	BTQ	$63, CX
	JCS	kernel
	JMP	·sysUser(SB)
kernel:
	CMPL	CPU_inBase(GS), $0
	JNE	nested
	MOVQ	SP, CPU_scratch(GS)
	MOVQ	CPU_cur(GS), SP
	SAVEGPR
	MOVQ	CX, 136(SP)
	MOVQ	$const_selKCode, 144(SP)
	MOVQ	R11, 152(SP)
	MOVQ	CPU_scratch(GS), AX
	MOVQ	AX, 160(SP)
	MOVQ	$const_selKData, 168(SP)
	MOVQ	$const_vecSyscall, 120(SP)
	MOVQ	$0, 128(SP)
	JMP	·toBase(SB)
nested:
	// The runtime is dying on the base's own g (a bounds check failed there):
	// print what it writes, and end the machine when it ends the program.
	SUBQ	$32, SP
	ANDQ	$~15, SP
	MOVQ	AX, BX
	MOVQ	DI, CX
	MOVQ	SI, DI
	MOVQ	DX, SI
	MOVQ	CPU_self(GS), AX
	MOVQ	CPU_fakeG(GS), R14
	MOVQ	·nestedFn(SB), DX
	MOVQ	0(DX), R8
	CALL	R8
	JMP	·hang(SB)

// syscall32 is CSTAR, where SYSCALL of 32-bit code goes on AMD's processors: RCX = EIP, R11 =
// flags, SP and GS are the program's. No ring-3 code is 32-bit (makeCPU); if some were, it
// would get ENOSYS.
TEXT ·syscall32(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVL	$-38, AX
	SYSRET				// 0f 07, the 32-bit one

// isrCall is vecCall's own entry. A program goes on as soon as its CPU has flushed
// (flushHere, in assembly): it does not notice. All else takes the common way.
TEXT ·isrCall(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	TESTB	$3, 8(SP)		// CS
	JEQ	common
	SWAPGS
	PUSHQ	AX			// into the M's frame, which nobody needs now
	PUSHQ	CX
	PUSHQ	DX
	PUSHQ	BX
	MOVL	CPU_id(GS), CX
	MOVL	$1, DX
	SHLQ	CX, DX
	TESTQ	DX, ·shoot+shootState_want(SB)
	JEQ	ack			// served before
	CMPL	·shoot+shootState_kind(SB), $const_reqFlush
	JNE	leave
	MOVQ	·shoot+shootState_n(SB), CX
	BTRQ	$63, CX			// flushTables
	MOVQ	·shoot+shootState_va(SB), AX
	MOVQ	·shoot+shootState_root(SB), BX
	TESTQ	BX, BX
	JEQ	few
	CMPQ	BX, CPU_root(GS)
	JNE	flushed
few:
	TESTQ	CX, CX
	JEQ	all
	CMPQ	CX, $32
	JHI	all
page:
	INVLPG	(AX)
	ADDQ	$const_pageSize, AX
	DECQ	CX
	JNE	page
	JMP	flushed
all:
	TESTQ	BX, BX
	JEQ	global
	MOVQ	BX, CR3
	JMP	flushed
global:
	MOVQ	CR4, AX
	MOVQ	AX, CX
	ANDQ	$~const_cr4PGE, AX
	MOVQ	AX, CR4
	MOVQ	CX, CR4
flushed:
	NOTQ	DX
	LOCK
	ANDQ	DX, ·shoot+shootState_want(SB)
ack:
	CMPL	·lapicMode+lapicModeWord_x2(SB), $0
	JNE	x2
	MOVQ	·base+baseState_lapic(SB), AX
	MOVL	$0, const_lapicEOI(AX)
	JMP	done
x2:
	MOVL	$const_x2EOI, CX
	XORL	AX, AX
	XORL	DX, DX
	WRMSR
done:
	POPQ	BX
	POPQ	DX
	POPQ	CX
	POPQ	AX
	SWAPGS
	IRETQ
leave:
	POPQ	BX
	POPQ	DX
	POPQ	CX
	POPQ	AX
	SWAPGS
common:
	BYTE	$0x6a; BYTE $0
	BYTE	$0x6a; BYTE $const_vecCall
	JMP	·isrCommon(SB)

// isrNMI counts and returns: it uses neither GS nor a stack word of others.
TEXT ·isrNMI(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	LOCK
	INCQ	·counters+counterWords_nmi(SB)
	CMPL	·halt+haltWord_on(SB), $0
	JNE	2(PC)
	IRETQ
	JMP	·hang(SB)		// another CPU ends the machine

// isrDB has a stack of its own (IST 4). A debug trap of ring 3 continues as an
// ordinary exception in the M's frame; one at ring 0 can only be a delayed trap
// of the program's (MOV SS before SYSCALL) and is dropped.
TEXT ·isrDB(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	TESTB	$3, 8(SP)
	JNE	user
	ANDQ	$~0x100, 16(SP)		// TF off where we return to
	LOCK
	INCQ	·counters+counterWords_db(SB)
	IRETQ
user:
	CLD
	CMPB	·feat+cpuFeat_smap(SB), $0
	JEQ	2(PC)
	CLAC
	SWAPGS
	MOVQ	AX, CPU_scratch(GS)
	MOVQ	CPU_cur(GS), AX
	MOVQ	BX, 40(AX)
	MOVQ	0(SP), BX
	MOVQ	BX, 136(AX)
	MOVQ	8(SP), BX
	MOVQ	BX, 144(AX)
	MOVQ	16(SP), BX
	MOVQ	BX, 152(AX)
	MOVQ	24(SP), BX
	MOVQ	BX, 160(AX)
	MOVQ	32(SP), BX
	MOVQ	BX, 168(AX)
	MOVQ	$0, 128(AX)
	MOVQ	$1, 120(AX)
	MOVQ	40(AX), BX
	LEAQ	120(AX), SP
	MOVQ	CPU_scratch(GS), AX
	JMP	·isrUser(SB)

// isrFatal serves #DF and #MC, each on a stack of its own whose top word (above
// the processor's frame) is the CPU's address: GS may be anybody's. The IDT
// enters at +0 for #DF (with error code) and through isrMC for #MC.
TEXT ·isrFatal(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	CLD
	SUBQ	$8, SP
	MOVQ	$8, 0(SP)		// vector
	SUBQ	$120, SP
	SAVEGPR
	MOVQ	176(SP), AX		// top word
	MOVQ	AX, R12
	MOVQ	SP, BX
	MOVQ	AX, DX
	SHRQ	$32, DX
	MOVL	$const_msrGSBase, CX
	WRMSR
	MOVQ	CPU_baseTLS(GS), AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	MOVL	$const_msrFSBase, CX
	WRMSR
	MOVQ	R12, AX
	MOVL	$1, CPU_inBase(GS)
	MOVQ	CPU_fakeG(GS), R14
	XORPS	X15, X15
	MOVQ	CPU_baseSP(GS), SP
	SUBQ	$16384, SP
	MOVQ	·fatalFn(SB), DX
	MOVQ	0(DX), CX
	CALL	CX
	JMP	·hang(SB)

// isrMC has no error code; the report shows its vector in that place.
TEXT ·isrMC(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	SUBQ	$8, SP
	MOVQ	$18, 0(SP)
	JMP	·isrFatal(SB)

// baseCall(op, a, b, c) ret: see baseOp. No frame is saved: to Go this is a call.
TEXT ·baseCall(SB),NOSPLIT|NOFRAME,$0-40
	MOVQ	8(SP), BX
	MOVQ	16(SP), R10
	MOVQ	24(SP), DI
	MOVQ	32(SP), SI
	CLI
	MOVL	$1, CPU_inBase(GS)
	MOVQ	BP, CPU_savedBP(GS)
	MOVQ	SP, CPU_savedSP(GS)
	MOVQ	CPU_baseSP(GS), SP
	MOVQ	CPU_baseTLS(GS), AX
	SETFS
	MOVQ	R10, CX
	MOVQ	CPU_fakeG(GS), R14
	XORPS	X15, X15
	MOVQ	CPU_self(GS), AX
	MOVQ	·baseOpFn(SB), DX
	MOVQ	0(DX), R8
	CALL	R8
	MOVQ	CPU_savedSP(GS), SP
	POPFP
	MOVQ	AX, ret+32(FP)
	MOVQ	CPU_cur(GS), CX
	MOVQ	M_fs(CX), AX
	SETFS
	MOVL	$0, CPU_inBase(GS)
	STI
	RET
